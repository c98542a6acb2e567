//! From a commit to what is enforced, and what the statuses say of it.

mod access;
mod bad_input;
mod commit_signatures;
mod forge;
mod lifecycle;
mod overrides;
mod pull;
mod read_api;
mod receiver;
mod resources;
mod rotation;
mod sdk;
mod signatures;
mod tenant;
mod thresholds;
