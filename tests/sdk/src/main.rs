//! Asks the published SDK, and prints what it says as JSON: `{"accepted": …}` with the `policy` or the `error`.

use std::process::ExitCode;

use sekuire::{ActivePolicy, PolicyClient};
use serde_json::{Value, json};

const USAGE: &str = "usage: sdk-client fetch URL WORKSPACE | sdk-client verify FILE PUBLIC_KEY";

/// Exit codes: 0 accepted, 1 refused, 2 wrong usage.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let answer = match arguments[..] {
        ["fetch", url, workspace] => fetch(url, workspace).await,
        ["verify", file, public_key] => verify(file, public_key),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match answer {
        Ok(policy) => {
            println!("{}", json!({"accepted": true, "policy": policy}));
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", json!({"accepted": false, "error": error}));
            ExitCode::FAILURE
        }
    }
}

/// The active policy of a workspace, as the SDK fetches and verifies it.
async fn fetch(url: &str, workspace: &str) -> Result<ActivePolicy, String> {
    PolicyClient::new(url).fetch_active_policy(workspace).await.map_err(|error| error.to_string())
}

/// A document in a JSON file, as the SDK verifies it when a server names this key (64 hex) beside it.
fn verify(file: &str, public_key: &str) -> Result<ActivePolicy, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let mut document: Value = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
    document["signing_public_key"] = public_key.into();
    let policy: ActivePolicy = serde_json::from_value(document).map_err(|error| format!("{file}: {error}"))?;
    // the address is not asked
    PolicyClient::new("").verify(&policy).map_err(|error| error.to_string())?;
    Ok(policy)
}
