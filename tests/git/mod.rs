//! Repository access, through the real program, real `git` and real connections.

mod child;
mod clone;
mod files;
mod history;
mod references;
pub(crate) mod server;
mod servers;
mod support;
