//! The chart, rendered by the real Helm and held against a real API server.

mod account;
mod helm;
mod kinds;
mod restore;
mod server;
mod upgrade;
mod values;
