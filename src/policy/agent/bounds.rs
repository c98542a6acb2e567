//! How long the texts and lists of an agent may be. Each bound is written once, in the type of the field (`serde(with = …)`):
//! the schema is made of it, and whoever reads an agent is held to it, so that what no API server has looked at costs no more
//! than what one lets through. What is longer is refused at the first entry too many, before the rest is read.
//!
//! Written by hand, since crates that validate (`garde`, `validator`) look at a value that has been collected already.
//!
//! What is too short, or of the wrong form, is for the schema and for the rules.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, IgnoredAny, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a value is read within its bounds.
pub(super) trait Bounded {
    /// What is read.
    type Value;
    /// Reads one.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self::Value, D::Error>;
}

/// Reads a `B`.
struct Read<B: Bounded>(B::Value);

impl<'de, B: Bounded> Deserialize<'de> for Read<B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        B::read(deserializer).map(Read)
    }
}

/// A text of at least `MIN` and at most `MAX` characters (Unicode code points, as an API server counts them).
pub(super) struct Text<const MIN: usize, const MAX: usize>;

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    pub(super) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        Self::read(deserializer)
    }

    fn hold<E: Error>(text: &str) -> Result<&str, E> {
        // a text of no more bytes has no more characters
        if text.len() > MAX && text.chars().nth(MAX).is_some() {
            return Err(E::custom(format_args!("longer than {MAX} characters, the most that are accepted")));
        }
        Ok(text)
    }
}

impl<const MIN: usize, const MAX: usize> Bounded for Text<MIN, MAX> {
    type Value = String;

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_string(Self)
    }
}

impl<const MIN: usize, const MAX: usize> Visitor<'_> for Text<MIN, MAX> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Self::hold(text).map(str::to_owned)
    }

    fn visit_string<E: Error>(self, text: String) -> Result<String, E> {
        Self::hold::<E>(&text)?;
        Ok(text)
    }
}

impl<const MIN: usize, const MAX: usize> JsonSchema for Text<MIN, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Text_{MIN}_{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": MIN, "maxLength": MAX})
    }
}

/// A `B`, or nothing.
pub(super) struct Maybe<B>(PhantomData<B>);

impl<B: Bounded> Maybe<B> {
    pub(super) fn serialize<S: Serializer>(value: &Option<B::Value>, serializer: S) -> Result<S::Ok, S::Error>
    where
        B::Value: Serialize,
    {
        value.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<B::Value>, D::Error> {
        Ok(Option::<Read<B>>::deserialize(deserializer)?.map(|Read(value)| value))
    }
}

impl<B: JsonSchema> JsonSchema for Maybe<B> {
    fn schema_name() -> Cow<'static, str> {
        Option::<B>::schema_name()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<B>::json_schema(generator)
    }
}

/// Something whose fields have bounds of their own.
pub(super) struct Each<T>(PhantomData<T>);

impl<T: for<'de> Deserialize<'de>> Bounded for Each<T> {
    type Value = T;

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

impl<T: JsonSchema> JsonSchema for Each<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A list of at most `MAX` of `B`.
pub(super) struct List<B, const MAX: usize>(PhantomData<B>);

impl<B: Bounded, const MAX: usize> List<B, MAX> {
    pub(super) fn serialize<S: Serializer>(entries: &[B::Value], serializer: S) -> Result<S::Ok, S::Error>
    where
        B::Value: Serialize,
    {
        serializer.collect_seq(entries)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<B::Value>, D::Error> {
        deserializer.deserialize_seq(List::<B, MAX>(PhantomData))
    }
}

impl<'de, B: Bounded, const MAX: usize> Visitor<'de> for List<B, MAX> {
    type Value = Vec<B::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while list.len() < MAX {
            let Some(Read(entry)) = entries.next_element::<Read<B>>()? else { return Ok(list) };
            list.push(entry);
        }
        match entries.next_element::<IgnoredAny>()? {
            None => Ok(list),
            Some(_) => Err(A::Error::custom(format_args!("more than {MAX} entries, the most that are accepted"))),
        }
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Err(E::invalid_type(Unexpected::Option, &self))
    }
}

impl<B: JsonSchema, const MAX: usize> JsonSchema for List<B, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("List_{MAX}_{}", B::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": generator.subschema_for::<B>(), "maxItems": MAX})
    }
}
