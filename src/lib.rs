//! Sekuire policy controller: signed policies for AI agents, from a Git commit to a verdict at admission.
//!
//! ```text
//! commit ─▶ files ─▶ policy::verify ─▶ VerifiedPolicy ─▶ plan ─▶ WorkspacePolicy ─▶ verify again ─▶ PolicyIndex ─▶ decide(agent)
//!  git             pure core          the only way in    pure    (API server)      every replica    in memory     │
//!                                                                                              webhook · CLI ◀────┘
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`policy`] | the pure core: documents, signatures, rules, decisions. Builds alone |
//! | `git` | repository access in a child process; bytes out, bounded in size and time |
//! | `api` | the custom resources |
//! | `admission` | the index of what is enforced, and the webhook that asks it |
//! | `controller` | observe, plan, execute |
//! | `receiver` | the endpoint at which a forge says that there is something new |
//! | `telemetry` | metrics, log and traces: what operators watch |
//! | `cli` | the command line |

pub mod policy;

#[cfg(feature = "operator")]
pub mod admission;
#[cfg(feature = "operator")]
pub mod api;
#[cfg(feature = "operator")]
pub mod cli;
#[cfg(feature = "operator")]
pub mod controller;
#[cfg(feature = "operator")]
pub mod git;
#[cfg(feature = "operator")]
pub mod receiver;
#[cfg(feature = "operator")]
pub mod telemetry;
