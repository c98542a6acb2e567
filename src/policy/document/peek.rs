//! What a broken document says of itself, for reports.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{Format, MAX_DOCUMENT_BYTES, schema, yaml};
use crate::policy::version::Version;

/// What can be made out of a document that may be broken. Nothing of it may be believed; each has at least the form
/// that it must have, so it is fit for a message or a label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// `policy_id`
    pub policy_id: Option<String>,
    /// `workspace_id`
    pub workspace_id: Option<String>,
    /// `version`
    pub version: Option<String>,
    /// `signing_key_id`
    pub signing_key_id: Option<String>,
}

impl Peek {
    fn note(&mut self, name: &str, value: &str) {
        let (slot, fits) = match name {
            "policy_id" => (&mut self.policy_id, schema::is_id(value)),
            "workspace_id" => (&mut self.workspace_id, schema::is_id(value)),
            "signing_key_id" => (&mut self.signing_key_id, schema::is_id(value)),
            "version" => (&mut self.version, value.parse::<Version>().is_ok()),
            _ => return,
        };
        if fits {
            slot.get_or_insert_with(|| value.to_owned());
        }
    }
}

/// Reads, for a report only, what a broken document says of itself, as far as it can be read. Of a member that occurs
/// twice, the first counts.
#[must_use]
pub fn peek(bytes: &[u8], format: Format) -> Peek {
    let mut peek = Peek::default();
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return peek;
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    // Up to the first byte that is no text.
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default(),
    };
    match format {
        Format::Json => {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            // Where it breaks off is where the report ends.
            let _ = deserializer.deserialize_map(Root(&mut peek));
        }
        Format::Yaml => yaml::texts(text, |name, value| peek.note(name, value)),
    }
    peek
}

struct Root<'a>(&'a mut Peek);

impl<'de> Visitor<'de> for Root<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if matches!(&*name, "policy_id" | "workspace_id" | "version" | "signing_key_id") {
                if let Value::String(value) = map.next_value()? {
                    self.0.note(&name, &value);
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
