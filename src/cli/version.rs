//! `sekuire version`.

use clap::Args;
use serde::Serialize;

use super::Outcome;
use super::output::Output;
use crate::api::{GROUP, VERSION};

/// Print the version of this program, and of the API that it speaks.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sekuire version\n  sekuire version --output json")]
pub(super) struct Version {
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    version: &'static str,
    api_version: String,
}

impl Version {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let data = Data { version: env!("CARGO_PKG_VERSION"), api_version: format!("{GROUP}/{VERSION}") };
        self.output.print(&data, |_| format!("sekuire {} ({})\n", data.version, data.api_version))?;
        Ok(Outcome::Fine)
    }
}
