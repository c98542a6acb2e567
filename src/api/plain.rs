//! JSON values from outside, as they are.
//!
//! serde_json reads its own `Value` by more than one rule: an object whose first member is called
//! `$serde_json::private::RawValue` is not taken as one; the text in it is parsed, and stands in its place, as deep as somebody
//! has packed texts into texts, whatever the limit on depth. So what others write could pass for what it is not, to this program
//! alone. Whatever comes from outside and has no type of its own is read by this visitor, which knows objects, lists, texts,
//! numbers, true, false and null.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A value that was read so. Of a member that is there twice the last one counts, as for the API server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plain(pub Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree).map(Plain)
    }
}

/// For `#[serde(deserialize_with)]`.
///
/// # Errors
/// Those of the deserializer, which bounds the depth.
pub fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Plain::deserialize(deserializer).map(|plain| plain.0)
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        value(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Plain(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Plain(value))) = members.next_entry::<String, Plain>()? {
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Sent, WorkspacePolicy};

    const TOKENS: [&str; 3] =
        ["$serde_json::private::RawValue", "$serde_json::private::Number", "$__toml_private_datetime"];

    #[test]
    fn a_value_is_what_it_says_whatever_its_members_are_called() {
        for token in TOKENS {
            for inside in ["{\"a\":1}", "1", "[", "", "\"x\""] {
                let text = serde_json::json!({"outer": [{token: inside}]}).to_string();
                let Plain(value) = serde_json::from_str(&text).unwrap();
                assert_eq!(value.to_string(), text);
                let yaml: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
                let Plain(value) = serde_yaml::from_value(yaml).unwrap();
                assert_eq!(value.to_string(), text);
            }
        }
        for text in ["null", "-1", "1.5", "18446744073709551615", "true", "[null,{}]", "\"\u{1f600}\""] {
            let Plain(value) = serde_json::from_str(text).unwrap();
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn texts_packed_into_texts_are_not_unpacked_however_many() {
        let mut text = "{}".to_owned();
        for _ in 0..14 {
            text = serde_json::json!({TOKENS[0]: text}).to_string();
        }
        let Plain(value) = serde_json::from_str(&text).unwrap();
        assert!(value[TOKENS[0]].is_string());
        // lists in lists, and texts in between: the limit on depth is not begun anew
        let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
        let packed = (0..6).fold(deep, |inside, _| serde_json::json!({TOKENS[0]: format!("[{inside}]")}).to_string());
        let object = format!(r#"{{"metadata":{{"name":"ws-a"}},"spec":{{"workspace":"ws_a","document":{packed}}}}}"#);
        let sent: Sent<WorkspacePolicy> = serde_json::from_str(&object).unwrap();
        assert_eq!(sent.object.unwrap().spec.document.to_string(), packed);
        let sent: Sent<WorkspacePolicy> =
            serde_json::from_str(&object.replacen(&packed, &format!("{}{}", "[".repeat(200), "]".repeat(200)), 1))
                .unwrap();
        assert!(sent.object.unwrap_err().why.contains("recursion limit"));
    }
}
