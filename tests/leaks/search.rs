//! The forms in which a secret shows, and where they are found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine as _};
use serde::Deserialize;

/// Of a secret of several lines, such as a key, a line shows it. Shorter lines say nothing.
const SHORTEST_LINE: usize = 10;
/// How much is read at once.
const CHUNK: usize = 8 << 20;

/// A secret as a test wrote it down.
#[derive(Deserialize)]
pub(crate) struct Secret {
    pub(crate) name: String,
    /// `secret`, or `planted` if it has to be found.
    pub(crate) kind: String,
    pub(crate) value: String,
}

/// The ways in which text shows: as it is, or as it is sent or printed.
pub(crate) fn forms(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE && !line.starts_with("--"));
    for line in lines {
        forms.insert(line.to_owned());
        forms.insert(serde_json::Value::from(line).to_string().trim_matches('"').to_owned());
        forms.insert(format!("{line:?}").trim_matches('"').to_owned());
        let (mut percent, mut hex) = (String::new(), String::new());
        for byte in line.bytes() {
            let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            let _ = if plain { write!(percent, "{}", byte as char) } else { write!(percent, "%{byte:02X}") };
            let _ = write!(hex, "{byte:02x}");
        }
        // whether spaces are written as `+` or as `%20`
        forms.extend([percent.replace("%20", "+"), percent.to_lowercase(), percent, hex.to_uppercase(), hex]);
        // whatever stands before it in the same text, one of three alignments holds
        for skip in 0..3 {
            let inner: Vec<u8> = line.bytes().skip(skip).collect();
            let whole = &inner[..inner.len() / 3 * 3];
            forms.extend([BASE64_STANDARD.encode(whole), BASE64_URL_SAFE.encode(whole)]);
        }
    }
    forms.retain(|form| form.len() >= SHORTEST_LINE - 2);
    forms
}

/// What is looked for.
pub(crate) struct Search {
    automaton: AhoCorasick,
    /// Which secret each pattern is of.
    owners: Vec<usize>,
    longest: usize,
}

impl Search {
    pub(crate) fn new(secrets: &[Secret]) -> Search {
        let mut patterns: BTreeMap<String, usize> = BTreeMap::new();
        for (index, secret) in secrets.iter().enumerate() {
            patterns.extend(forms(&secret.value).into_iter().map(|form| (form, index)));
        }
        let longest = patterns.keys().map(String::len).max().unwrap_or(1);
        let owners = patterns.values().copied().collect();
        let automaton = AhoCorasick::new(patterns.keys()).expect("patterns that fit into memory");
        Search { automaton, owners, longest }
    }

    pub(crate) fn patterns(&self) -> usize {
        self.owners.len()
    }

    /// The secrets that show in these bytes.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> BTreeSet<usize> {
        self.automaton.find_overlapping_iter(bytes).map(|found| self.owners[found.pattern().as_usize()]).collect()
    }

    /// The secrets that show in a file, and its length.
    pub(crate) fn found_in_file(&self, path: &Path) -> io::Result<(BTreeSet<usize>, u64)> {
        let (mut file, mut found, mut length) = (File::open(path)?, BTreeSet::new(), 0);
        let mut buffer = Vec::new();
        loop {
            let read = file.by_ref().take(CHUNK as u64).read_to_end(&mut buffer)?;
            found.extend(self.found_in(&buffer));
            length += read as u64;
            if read == 0 {
                return Ok((found, length));
            }
            // one that is cut in two is whole together with what follows
            buffer.drain(..buffer.len().saturating_sub(self.longest));
        }
    }
}

/// All files below a folder.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { all.extend(files(&path)?) } else { all.push(path) }
    }
    all.sort();
    Ok(all)
}
