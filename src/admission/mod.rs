//! Admission: the index of what is enforced, and the two servers that ask it: the webhook, and the read API.
//!
//! ```text
//! readers    ──TLS──▶ server ─▶ read_api ─▶ PolicyIndex
//! API server ──TLS──▶ server ─▶ routes ─▶ webhook ─▶ review::read ─▶ PolicyIndex ─▶ policy::decide ─▶ review::answer
//!                       ▲
//!                  Certificates ◀── Secret or files          registration ─▶ ValidatingWebhookConfiguration
//!                       └──────────── caBundle, and what of it the API server has ────────────┘
//! ```
//!
//! No network or disk is touched while a request is answered: everything is read from memory that watches keep true.

mod account;
pub mod bindings;
mod body;
pub mod break_glass;
mod bundle;
pub mod by_itself;
pub mod certificates;
mod connection;
pub(crate) mod denial;
mod files;
pub mod hold;
pub mod index;
pub mod label_policy;
pub mod liveness;
pub mod mode;
mod pair;
mod places;
pub mod read_api;
pub mod registration;
pub mod review;
pub mod routes;
mod secret;
pub mod server;
mod tls;
mod unread;
mod views;
mod warnings;
mod webhook;

pub use certificates::Certificates;
pub use files::{Files, follow as follow_files};
pub use index::PolicyIndex;
pub use pair::Names;
pub use read_api::ReadApi;
pub use routes::Routes;
pub use secret::{SECRET_NAME, SecretSource, keep as keep_secret};
pub use tls::{Serving, server_config};
pub use webhook::Webhook;
