//! Manifests of Kubernetes, read as kubectl reads them: YAML with all that it has, JSON, streams of both, lists, UTF-8 and
//! UTF-16. The one reader of agents, keys, thresholds and repositories that come out of files; policy documents have a
//! stricter one. Other than kubectl it refuses a member that is there twice, and bounds what a text may cost.
//!
//! What it cannot read it says, each with its place. Nothing is left out in silence but comments and what is empty.

use serde_json::{Map, Value};

mod json;
mod scalar;
mod schema;
mod yaml;

pub(super) use schema::{Served, unknown, wrong};

/// How deep lists and objects may be nested. serde_json has the same limit.
const MAX_DEPTH: usize = 128;
/// How many values a document may have, those included that aliases copy.
const MAX_NODES: usize = 2_000_000;
/// How many bytes of text they may hold.
const MAX_TEXT: usize = 64 * 1024 * 1024;

/// An object with apiVersion and kind.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    /// For people: the file, the line in it where there are several, and what Helm says of where it comes from.
    pub(super) place: String,
    /// For programs: the file, and the line at which the document begins.
    pub(super) origin: (String, u32),
    /// Such as `sekuire.ai/v1alpha1`.
    pub(super) api_version: String,
    /// Such as `Agent`.
    pub(super) kind: String,
    /// The whole object.
    pub(super) value: Value,
}

/// What cannot be read.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// The file, and the line in it.
    pub(super) origin: (String, u32),
    /// Place, what is wrong, and what would be accepted.
    pub(super) message: String,
}

/// What is wrong with a document, where in it.
struct Unread {
    /// From 1; 0 where it is not known.
    line: usize,
    path: String,
    message: String,
}

/// One step from a value to one in it.
enum Step {
    Member(String),
    Item(usize),
}

/// `spec.tools[3].name`.
fn path(steps: impl IntoIterator<Item = Step>) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Item(index) => path += &format!("[{index}]"),
            Step::Member(name) if path.is_empty() => path = name,
            Step::Member(name) => path += &format!(".{name}"),
        }
    }
    path
}

fn twice(name: &str) -> String {
    format!("the member {name:?} is there twice; expected it once")
}

/// The text of a file: UTF-8, or UTF-16 with a byte order mark, as PowerShell writes it.
///
/// # Errors
/// Says that it is no text.
pub(super) fn text(bytes: &[u8]) -> Result<String, &'static str> {
    let units = |of: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes[2..].as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| of(*pair)).collect();
        String::from_utf16(&units).ok().filter(|_| rest.is_empty()).ok_or("no text in UTF-16")
    };
    match bytes {
        [0xFF, 0xFE, ..] => units(u16::from_le_bytes),
        [0xFE, 0xFF, ..] => units(u16::from_be_bytes),
        _ => String::from_utf8(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).to_vec())
            .map_err(|_| "no text in UTF-8 or UTF-16"),
    }
}

/// Reads one JSON value, strictly.
///
/// # Errors
/// What is wrong, with line and column.
pub(super) fn json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str::<json::Strict>(text).map(|json::Strict(value)| value)
}

/// One of the documents of a text: data, and nothing said of what it is.
pub(super) struct Document {
    /// At which line it begins, from 1.
    pub(super) line: usize,
    /// `# Source: chart/templates/agent.yaml`, as Helm writes it.
    source: Option<String>,
    pub(super) value: Value,
}

/// Reads all documents of a text. Of one that cannot be read: its first line, and what is wrong.
pub(super) fn documents(text: &str) -> Vec<Result<Document, (usize, String)>> {
    let mut all = Vec::new();
    for (line, text) in pieces(text) {
        let source = text.lines().find_map(|line| line.strip_prefix("# Source: ")).map(|name| name.trim().to_owned());
        match values(&text) {
            Ok(values) => all.extend(
                values
                    .into_iter()
                    .filter(|(_, value)| !value.is_null())
                    .map(|(below, value)| Ok(Document { line: line + below, source: source.clone(), value })),
            ),
            Err(unread) => {
                let at = if unread.line > 0 { format!(" at line {}", line - 1 + unread.line) } else { String::new() };
                let path = if unread.path.is_empty() { String::new() } else { format!("{}: ", unread.path) };
                all.push(Err((line, format!("not YAML or JSON: {path}{}{at}", unread.message))));
            }
        }
    }
    all
}

/// The values of a piece: of JSON there can be several.
fn values(text: &str) -> Result<Vec<(usize, Value)>, Unread> {
    if text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count() > MAX_NODES {
        return Err(Unread { line: 0, path: String::new(), message: format!("more than {MAX_NODES} values") });
    }
    let yaml = || yaml::read(text).map(|value| vec![(0, value)]);
    if !text.trim_start().starts_with('{') {
        return yaml();
    }
    // YAML may begin so, too
    json::stream(text).or_else(|fault| yaml().map_err(|other| if fault.line > 0 { fault } else { other }))
}

/// The pieces of a stream with the lines that they begin at. By lines, as kubectl does it, and since a parser that has met
/// a fault says nothing of what follows it: a line of `---` is a boundary wherever it stands (YAML 1.2, 9.1.2).
fn pieces(text: &str) -> Vec<(usize, String)> {
    let mut pieces = vec![(1, String::new())];
    for (number, line) in text.split_inclusive('\n').enumerate() {
        // of files that were put together, each may begin with a byte order mark
        let line = line.strip_prefix('\u{FEFF}').unwrap_or(line);
        let boundary =
            line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        match (boundary, pieces.last_mut()) {
            (Some(rest), _) => pieces.push((number + 1, rest.to_owned())),
            (None, Some((_, piece))) => piece.push_str(line),
            (None, None) => {}
        }
    }
    pieces.retain(|(_, piece)| piece.lines().any(|line| !matches!(line.trim().chars().next(), None | Some('#'))));
    pieces
}

/// Reads all manifests of a text, those of lists included.
pub(super) fn read(text: &str, file: &str) -> Vec<Result<Manifest, Fault>> {
    let documents = documents(text);
    let several = documents.len() > 1;
    let mut all = Vec::new();
    for document in documents {
        let line = match &document {
            Ok(document) => document.line,
            Err((line, _)) => *line,
        };
        let origin = (file.to_owned(), u32::try_from(line).unwrap_or(u32::MAX));
        let place = if several { format!("{file}:{line}") } else { file.to_owned() };
        match document {
            Ok(Document { source, value, .. }) => {
                let place = source.map_or_else(|| place.clone(), |source| format!("{place} ({source})"));
                object(value, &place, &origin, &mut all);
            }
            Err((_, message)) => all.push(Err(Fault { origin, message: format!("{place}: {message}") })),
        }
    }
    all
}

/// One object, or those of a list.
fn object(value: Value, place: &str, origin: &(String, u32), all: &mut Vec<Result<Manifest, Fault>>) {
    let mut refuse = |message: String| {
        all.push(Err(Fault { origin: origin.clone(), message: format!("{place}: {message}") }));
    };
    let Value::Object(mut members) = value else {
        return refuse(format!("{}; expected a manifest, which is an object", schema::found(&value)));
    };
    let mut text = |name: &str| match members.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Null | Value::String(_)) | None => {
            refuse(format!("a manifest without {name}"));
            None
        }
        Some(other) => {
            refuse(format!("{name}: {}", schema::wrong("a text", other)));
            None
        }
    };
    if let (None | Some(Value::Null), None | Some(Value::Null)) = (members.get("apiVersion"), members.get("kind")) {
        return refuse("a manifest without apiVersion or kind".to_owned());
    }
    let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else { return };
    let Some(of) = kind.strip_suffix("List").filter(|_| members.contains_key("items")) else {
        let (place, origin) = (place.to_owned(), origin.clone());
        return all.push(Ok(Manifest { place, origin, api_version, kind, value: Value::Object(members) }));
    };
    if let Some(other) = members.keys().find(|name| !["apiVersion", "kind", "metadata", "items"].contains(&&***name)) {
        return refuse(format!("{other} in a {kind}; expected metadata and items alone"));
    }
    let items = match members.remove("items") {
        Some(Value::Array(items)) => items,
        None | Some(Value::Null) => Vec::new(),
        Some(other) => return refuse(format!("items: {}", schema::wrong("a list of manifests", &other))),
    };
    for (index, mut item) in items.into_iter().enumerate() {
        // an API server leaves them out of what it lists
        if let Some(item) = item.as_object_mut().filter(|item| lacks_kind(item) && !of.is_empty()) {
            item.insert("apiVersion".to_owned(), api_version.clone().into());
            item.insert("kind".to_owned(), of.into());
        }
        object(item, &format!("{place}, items[{index}]"), origin, all);
    }
}

fn lacks_kind(item: &Map<String, Value>) -> bool {
    !item.contains_key("apiVersion") && !item.contains_key("kind")
}

#[cfg(test)]
mod tests;
