//! The chart, rendered by the real Helm and held against a real API server.

mod account;
mod families;
mod helm;
mod instances;
mod kinds;
mod platform;
mod restore;
mod rights;
mod server;
mod upgrade;
mod values;
