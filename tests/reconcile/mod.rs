//! From a commit to what is enforced, and what the statuses say of it.

pub(crate) mod access;
mod bad_input;
pub(crate) mod commit_signatures;
mod copies;
mod forge;
mod lifecycle;
mod overrides;
mod pull;
pub(crate) mod read_api;
pub(crate) mod receiver;
mod resources;
mod rotation;
mod sdk;
mod signatures;
pub(crate) mod tenant;
mod thresholds;
