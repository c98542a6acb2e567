//! The webhook: its server over TLS, its certificate, its registration.

mod bounds;
mod certificates;
pub(crate) mod client;
mod files;
mod flood;
mod memory;
mod read_api;
mod registration;
mod replica;
mod server;
mod verdicts;
pub(crate) mod world;
