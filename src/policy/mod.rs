//! The pure core: what a signed policy is, when it may be believed, and what it says of an agent.
//!
//! ```text
//! bytes ─▶ Document::parse ─▶ verify(document, keys, now) ─▶ VerifiedPolicy ─▶ decide(…, agent, now) ─▶ Decision
//! ```
//!
//! Nothing here knows the cluster, a runtime, a network, a file or a clock: time is an argument. It builds alone
//! with `--no-default-features`.

pub mod agent;
pub mod canonical;
pub mod decision;
pub mod document;
mod host;
pub mod identity;
pub mod keys;
mod path;
pub mod pattern;
pub(crate) mod pem;
pub mod private_key;
pub mod reason;
pub mod rules;
pub mod sign;
pub mod summary;
pub mod threshold;
pub mod verify;
pub mod version;
mod words;

pub use agent::AgentSpec;
pub use decision::{Decision, Enforced, PolicyRef, Subject, Violation, decide, judge, unfit};
pub use document::{Document, Fault, Format, MAX_DOCUMENT_BYTES, Status, is_id};
pub use keys::{KeyFault, KeyRing, PublicKey, Revocation, TrustedKey};
pub use pattern::Pattern;
pub use private_key::{PrivateKey, PrivateKeyFault};
pub use reason::Reason;
pub use rules::Rule;
pub use sign::sign;
pub use threshold::Threshold;
pub use verify::{Check, Refusal, VerifiedPolicy, verify};
pub use version::Version;
