//! The command line, as a user has it: the real binary, its output and its exit code.

mod agent;
mod agent_input;
mod docs;
mod getting_started;
mod key;
mod key_input;
mod kubectl;
mod lifecycle;
mod manual;
mod names;
mod pull;
mod pull_private;
mod python;
mod repo;
mod schema;
mod sdk;
mod sign;
mod story;
pub(crate) mod support;
mod terminal;
mod threshold;
mod try_agents;
mod validate;
mod vendor_input;
