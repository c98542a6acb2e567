//! The published SDK, as a program of its own: `tests/sdk`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use super::command::run;

/// The program that asks the SDK.
pub(crate) struct Sdk(PathBuf);

impl Sdk {
    /// The program that `SEKUIRE_SDK_CLIENT` names.
    ///
    /// # Errors
    /// How to build it, where it names none.
    pub(crate) fn find() -> Result<Sdk, &'static str> {
        let path = std::env::var_os("SEKUIRE_SDK_CLIENT").filter(|path| !path.is_empty());
        path.map(|path| Sdk(path.into()))
            .ok_or("SEKUIRE_SDK_CLIENT is not set: run with SEKUIRE_SDK_CLIENT=$(tests/sdk/build.sh)")
    }

    /// What its `fetch_active_policy` says of a workspace at `url`, when it believes the authorities in a file (PEM).
    pub(crate) async fn fetch(&self, url: &str, workspace: &str, authorities: &Path) -> Value {
        let mut command = Command::new(&self.0);
        command.args(["fetch", url, workspace]).env("SSL_CERT_FILE", authorities).env_remove("SSL_CERT_DIR");
        answer(command).await
    }

    /// What its `verify` says of a JSON document, when it is told that this key (64 hex) signed it.
    pub(crate) async fn verify(&self, document: &Path, public_key: &str) -> Value {
        let mut command = Command::new(&self.0);
        command.arg("verify").arg(document).arg(public_key);
        answer(command).await
    }
}

/// `{"accepted": …}` with the `policy` or the `error`.
async fn answer(mut command: Command) -> Value {
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    let ran = run(command, &[]).await;
    assert!(matches!(ran.code, Some(0 | 1)), "{ran}");
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e} in {ran}"));
    assert_eq!(answer["accepted"], ran.succeeded(), "{ran}");
    answer
}
