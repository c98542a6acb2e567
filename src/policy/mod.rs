//! The pure core: what a signed policy is, when it may be believed, and what it says of an agent.
//!
//! ```text
//! bytes ─▶ Document::parse ─▶ verify(document, keys, now) ─▶ VerifiedPolicy ─▶ decide(…, agent, now) ─▶ Decision
//! ```
//!
//! Nothing here knows the cluster, a runtime, a network, a file or a clock: time is an argument. It builds alone
//! with `--no-default-features`.

pub mod advice;
pub mod agent;
pub mod canonical;
pub mod decision;
pub mod document;
mod host;
pub mod identity;
mod image;
pub mod keys;
mod name;
mod path;
pub mod pattern;
pub(crate) mod pem;
pub mod private_key;
pub mod reason;
pub mod rules;
pub mod sign;
pub mod standing;
pub mod summary;
pub mod threshold;
pub mod verify;
pub mod version;
mod words;

pub use advice::{Advice, AdviceKind, advise};
pub use agent::AgentSpec;
pub use decision::{Decision, Enforced, PolicyRef, Subject, Violation, decide, judge, rehearse, unfit};
pub use document::{Document, Fault, Format, MAX_DOCUMENT_BYTES, Status, is_id};
pub use keys::{KeyFault, KeyRing, PublicKey, Revocation, TrustedKey};
pub use pattern::Pattern;
pub use private_key::{PrivateKey, PrivateKeyFault};
pub use reason::Reason;
pub use rules::{MAX_VIOLATIONS, Rule};
pub use sign::sign;
pub use standing::Standing;
pub use threshold::Threshold;
pub use verify::{Check, Refusal, VerifiedPolicy, verify};
pub use version::Version;
