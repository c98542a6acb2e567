//! A policy document as it was read: strict parsing, with the place of the first fault.

use std::fmt;
use std::ops::Range;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canonical::Members;
use super::version::Version;

mod json;
mod peek;
mod place;
mod schema;
mod time;
mod yaml;

pub use peek::{Peek, peek};
use place::Problem;
pub(super) use schema::idle_names;
pub use schema::{is_id, json_schema};
pub use time::parse as parse_time;

/// The largest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// How deep lists and objects may be nested; the root is level 1.
const MAX_DEPTH: usize = 32;

const TOO_DEEP: &str = "nested too deep; a document has at most 32 levels";
const NULL: &str = "null is not accepted; leave the member out, or give it a value";
const NUMBER: &str = "expected a whole number from 0 to 9007199254740991 in plain decimal digits";

/// Whether a number is one that every JSON implementation reads alike.
const fn is_count(n: u64) -> bool {
    n < 1 << 53
}

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `*.json`
    Json,
    /// `*.yaml`, `*.yml`
    Yaml,
}

impl Format {
    /// The format of a file, by its extension; none when it is not a policy document at all.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Format> {
        let name = path.rsplit('/').next()?;
        match name.rsplit_once('.')?.1 {
            "json" => Some(Format::Json),
            "yaml" | "yml" => Some(Format::Yaml),
            _ => None,
        }
    }
}

/// Where a policy is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Verified and listed, never enforced.
    Draft,
    /// Enforced.
    Active,
    /// Retired by its signer.
    Archived,
}

impl Status {
    /// The word in the document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Draft => "draft",
            Status::Active => "active",
            Status::Archived => "archived",
        }
    }

    fn from_word(word: &str) -> Option<Status> {
        [Status::Draft, Status::Active, Status::Archived].into_iter().find(|status| status.as_str() == word)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The place as a JSON path, e.g. `content.agent.models.denied_models[0]`; empty for the document as a whole.
    pub path: String,
    /// The line, from 1, when there is a text.
    pub line: Option<u32>,
    /// The column in characters, from 1, when there is a text.
    pub column: Option<u32>,
    /// What is wrong, and what would have been accepted.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// A well-formed document. Nothing in it has been believed yet.
#[derive(Clone, Debug)]
pub struct Document {
    value: Value,
    header: Header,
}

/// The members that verification asks for, taken out of the checked value.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) policy_id: Box<str>,
    pub(super) workspace_id: Box<str>,
    pub(super) signing_key_id: Box<str>,
    pub(super) hash: Box<str>,
    pub(super) version: Version,
    pub(super) status: Status,
    pub(super) expires_at: Option<Timestamp>,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn parse(bytes: &[u8], format: Format) -> Result<Document, Fault> {
        let text = text(bytes)?;
        let value = tree(text, format)?;
        schema::check(&value, true).map_err(|problem| located(problem, text, format))?;
        Document::of_checked(value)
    }

    /// Takes a document that was parsed elsewhere, e.g. what the API server gave back. As strict as [`Document::parse`].
    ///
    /// # Errors
    /// The first fault, without a line.
    pub fn from_value(value: Value) -> Result<Document, Fault> {
        bounded(&value)?;
        schema::check(&value, true)?;
        Document::of_checked(value)
    }

    fn of_checked(value: Value) -> Result<Document, Fault> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let header = || {
            Some(Header {
                policy_id: text("policy_id")?.into(),
                workspace_id: text("workspace_id")?.into(),
                signing_key_id: text("signing_key_id")?.into(),
                hash: text("hash")?.into(),
                version: text("version")?.parse().ok()?,
                status: Status::from_word(text("status")?)?,
                expires_at: match text("expires_at") {
                    Some(text) => Some(time::parse(text)?),
                    None => None,
                },
            })
        };
        match header() {
            Some(header) => Ok(Document { header, value }),
            // The table says that all of this is there. Should it ever be wrong, the document is refused.
            None => Err(whole("a required member is missing".to_owned())),
        }
    }

    pub(super) fn into_parts(self) -> (Value, Header) {
        (self.value, self.header)
    }

    /// A member that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.value.get(name).and_then(Value::as_str)
    }

    /// The document as it was read, its members in their order.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// `policy_id`
    #[must_use]
    pub fn policy_id(&self) -> &str {
        &self.header.policy_id
    }

    /// `workspace_id`
    #[must_use]
    pub fn workspace_id(&self) -> &str {
        &self.header.workspace_id
    }

    /// `version`
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.header.version
    }

    /// `status`
    #[must_use]
    pub fn status(&self) -> Status {
        self.header.status
    }

    /// `signing_key_id`
    #[must_use]
    pub fn signing_key_id(&self) -> &str {
        &self.header.signing_key_id
    }

    /// `hash`
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.header.hash
    }

    /// `expires_at`
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.header.expires_at
    }

    /// The document digest: what two documents of one version must share, 64 hex.
    #[must_use]
    pub fn digest(&self) -> String {
        Members::of(&self.value).digest()
    }
}

/// The signature in a member of a document, or of one of its `co_signatures`, if there is one.
pub(super) fn signature_of(value: &Value, name: &str) -> Option<[u8; 64]> {
    let mut bytes = [0; 64];
    // Parsing has checked the digits; should they ever not be digits, there is no signature.
    hex::decode_to_slice(value.get(name)?.as_str()?, &mut bytes).ok()?;
    Some(bytes)
}

/// Reads the text of a document that is about to be signed. What signing fills in may be missing, or be anything that
/// is neither null nor a fraction; it is left as it was.
///
/// # Errors
/// The first fault, with its place.
pub fn parse_unsigned(bytes: &[u8], format: Format) -> Result<Value, Fault> {
    let text = text(bytes)?;
    let value = tree(text, format)?;
    let mut judged = value.clone();
    if let Value::Object(members) = &mut judged {
        members.retain(|name, _| !FILLED_IN.contains(&name.as_str()));
    }
    schema::check(&judged, false).map_err(|problem| located(problem, text, format))?;
    Ok(value)
}

/// What signing fills in or drops.
const FILLED_IN: [&str; 7] =
    ["hash", "signature", "document_signature", "signing_key_id", "updated_at", "co_signatures", "signing_public_key"];

/// Holds a value against everything that is asked of a document that may still lack what signing adds.
pub(in crate::policy) fn check_unsigned(value: &Value) -> Result<(), Fault> {
    bounded(value)?;
    Ok(schema::check(value, false)?)
}

fn whole(message: String) -> Fault {
    Fault { path: String::new(), line: None, column: None, message }
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(whole(format!("longer than {MAX_DOCUMENT_BYTES} bytes; a document has at most that")));
    }
    let start = |message: &str| Fault { line: Some(1), column: Some(1), ..whole(message.to_owned()) };
    if bytes.starts_with(b"\xEF\xBB\xBF") || bytes.starts_with(b"\xFE\xFF") || bytes.starts_with(b"\xFF\xFE") {
        return Err(start("starts with a byte order mark; expected UTF-8 without one"));
    }
    std::str::from_utf8(bytes).map_err(|e| {
        let valid = &bytes[..e.valid_up_to()];
        let line = valid.iter().filter(|&&b| b == b'\n').count() + 1;
        Fault { line: u32::try_from(line).ok(), ..whole("not UTF-8; expected text in UTF-8".to_owned()) }
    })
}

fn tree(text: &str, format: Format) -> Result<Value, Fault> {
    match format {
        Format::Json => json::parse(text),
        Format::Yaml => {
            let value = yaml::parse(text)?;
            // Escapes can make the same data longer in JSON, and as JSON it has to travel.
            bounded(&value)?;
            Ok(value)
        }
    }
}

/// The bound on what was not read as JSON text: the size that it has as such.
fn bounded(value: &Value) -> Result<(), Fault> {
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, value) {
        Ok(()) if counter.0 <= MAX_DOCUMENT_BYTES => Ok(()),
        _ => Err(whole(format!("{} bytes long as JSON; a document has at most {MAX_DOCUMENT_BYTES}", counter.0))),
    }
}

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn located(problem: Problem, text: &str, format: Format) -> Fault {
    let (line, column) = locate(text, format, &problem.path).unzip();
    Fault { line, column, ..problem.into() }
}

/// The members of the root of a JSON document, in their order, and where the value of each stands in the text (in bytes);
/// none for a text that is no JSON object.
#[must_use]
pub fn json_members(text: &str) -> Option<Vec<(String, Range<usize>)>> {
    json::members(text)
}

/// Line and column, from 1, of the value of a member, named by the members on the way there, joined by dots
/// (`content.agent.models`): where a report points to. Where there is no such member, that of the last one that there is;
/// none for a text that cannot be read.
#[must_use]
pub fn place_of(bytes: &[u8], format: Format, member: &str) -> Option<(u32, u32)> {
    let path = place::Path(member.split('.').map(|name| place::Step::Member(name.to_owned())).collect());
    locate(std::str::from_utf8(bytes).ok()?, format, &path)
}

fn locate(text: &str, format: Format, path: &place::Path) -> Option<(u32, u32)> {
    match format {
        Format::Json => json::locate(text, path),
        Format::Yaml => yaml::locate(text, path),
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Fault {
        Fault { path: problem.path.to_string(), ..whole(problem.message) }
    }
}
