//! The receiver: where a forge or a pipeline says that there is something new, so that a push is enforced in less than
//! a second instead of after the interval.
//!
//! ```text
//! forge ──TLS──▶ admission::server ─▶ Hooks ─▶ proof ─▶ Endpoint ─▶ annotation sekuire.ai/requestedAt ─▶ the leader looks
//! ```
//!
//! It only ever asks for a look, and believes nothing that it is sent: whoever has a repository's token can have it
//! fetched, at most once a second by each replica, and no more. Every replica serves it. One way leads from all of them to the one that
//! leads, and it is the one that people use too: the annotation. The leader goes it as well. That costs it one write of
//! a few milliseconds, and in return there is no second way that could behave differently, and no second look.

mod bucket;
mod endpoints;
mod hooks;
mod proof;
mod report;

pub use endpoints::Endpoints;
pub use hooks::Hooks;
pub use report::report;

/// Before the name of a `PolicyRepository` in the path of its endpoint.
pub const PATH: &str = "/hook/";
