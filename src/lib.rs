//! The policy controller for AI agents, as a library.
//!
//! What may be enforced travels one way:
//!
//! ```text
//! commit ─▶ files ─▶ policy::verify ─▶ VerifiedPolicy ─▶ plan ─▶ WorkspacePolicy ─▶ verify again ─▶ PolicyIndex ─▶ decide(agent)
//!  git             pure core          the only way in    pure    (API server)      every replica    in memory     │
//!                                                                                              webhook · audit · CLI ◀┘
//! ```
//!
//! [`policy`] is pure and builds alone with `--no-default-features`.

pub mod policy;
