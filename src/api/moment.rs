//! Times as people write them.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::policy::document::parse_time;

/// A time as it was written (RFC 3339). The API server admits more than a clock can show, such as an offset of 99 hours:
/// such a time is to spoil what depends on it, not the object that it stands in.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct Moment(pub String);

impl Moment {
    /// The time. One after the last that can be counted, such as the end of the year 9999 ("never"), is the last one.
    /// None when no calendar has it.
    pub fn at(&self) -> Option<Timestamp> {
        parse_time(&self.0)
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}
