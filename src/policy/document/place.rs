//! Places inside a document.

use std::fmt;

use crate::policy::words::quoted;

/// One step from a value to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a member of an object.
    Member(String),
    /// Into an item of a list.
    Item(usize),
}

/// A way from the root of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<Step>);

impl Path {
    /// A path of steps that were collected on the way out, the last step first.
    pub(super) fn from_inside_out(mut steps: Vec<Step>) -> Path {
        steps.reverse();
        Path(steps)
    }
}

/// Longer names are shown in quotes, cut; documents may call their members anything.
const PLAIN_BYTES: usize = 64;

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(n) => write!(f, "[{n}]")?,
                Step::Member(name) if is_plain(name) => {
                    write!(f, "{}{name}", if i > 0 { "." } else { "" })?;
                }
                Step::Member(name) => write!(f, "[{}]", quoted(name))?,
            }
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    (1..=PLAIN_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// What is wrong with the data, before it is known where in a text that is.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) path: Path,
    pub(super) message: String,
}
