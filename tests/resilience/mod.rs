//! What happens when somebody tampers, or something dies: what is enforced stays enforced, and everything comes back to
//! where it was, once and for all.

mod backup;
mod folder;
mod installations;
mod kills;
mod leaders;
mod leftovers;
mod lowered;
pub(crate) mod probes;
pub(crate) mod proxy;
mod schema;
mod silence;
mod skew;
mod spoilt;
pub(crate) mod support;
mod tamper;
mod tampering;
mod undecodable;
