//! Keys that commits and tags are signed with, of the real `ssh-keygen` and `gpg`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::cluster::leaks;

/// Why there is no OpenPGP here; `None`: there is.
pub(crate) fn no_gpg() -> Option<&'static str> {
    let ran = Command::new("gpg").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    (!ran.is_ok_and(|status| status.success())).then_some("gpg is missing (apt-get install gnupg)")
}

/// What Git has to be told so that it signs, as names and values of its configuration.
pub(crate) type Config = Vec<(&'static str, String)>;

/// An SSH key.
pub(crate) struct SshKey {
    folder: TempDir,
    /// The line of its `.pub` file.
    pub(crate) public: String,
}

impl SshKey {
    /// `kind` as `ssh-keygen` takes it, such as `["-t", "ed25519"]`.
    pub(crate) fn new(kind: &[&str]) -> SshKey {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mut make = Command::new("ssh-keygen");
        make.args(kind).args(["-q", "-N", "", "-C", "of a test", "-f"]).arg(&path);
        assert!(make.status().unwrap().success());
        let public = fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned();
        leaks::secret("a key that signs commits", fs::read_to_string(&path).unwrap());
        SshKey { folder, public }
    }

    pub(crate) fn config(&self) -> Config {
        let path = self.folder.path().join("key").display().to_string();
        vec![("gpg.format", "ssh".into()), ("user.signingkey", path)]
    }

    /// A line of an allowed signers file.
    pub(crate) fn allowed(&self, principal: &str, options: &str) -> String {
        format!("{principal} {options} {}\n", self.public)
    }

    /// `SHA256:…`
    pub(crate) fn fingerprint(&self) -> String {
        let shown = Command::new("ssh-keygen").args(["-l", "-f"]).arg(self.folder.path().join("key.pub")).output();
        let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
        shown.split(' ').nth(1).unwrap().to_owned()
    }
}

/// A home of gpg, with its keys.
pub(crate) struct Gpg {
    home: TempDir,
}

impl Gpg {
    pub(crate) fn new() -> Gpg {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Gpg { home }
    }

    /// A new key that signs; `expire` as gpg takes it. Returns its fingerprint.
    pub(crate) fn key(&self, user: &str, kind: &str, usage: &str, expire: &str) -> String {
        self.run(&["--passphrase", "", "--quick-generate-key", user, kind, usage, expire]);
        let list = self.run(&["--list-keys", "--with-colons", user]);
        list.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned()
    }

    /// The public key, armoured.
    pub(crate) fn public(&self, key: &str) -> String {
        self.run(&["--armor", "--export", key])
    }

    /// Follows the revocation that gpg made together with the key.
    pub(crate) fn revoke(&self, key: &str) {
        let made = self.home.path().join(format!("openpgp-revocs.d/{key}.rev"));
        let text = fs::read_to_string(&made).unwrap().replace("\n:-----BEGIN", "\n-----BEGIN");
        let path = self.home.path().join("revocation.asc");
        fs::write(&path, text).unwrap();
        self.run(&["--import", path.to_str().unwrap()]);
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = gpg(self.home.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `more` are further options of gpg.
    pub(crate) fn config(&self, key: &str, more: &str) -> Config {
        let program = self.home.path().join(format!("gpg{}", more.len()));
        let text = format!("#!/bin/sh\nexec gpg --homedir '{}' --batch {more} \"$@\"\n", self.home.path().display());
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        vec![
            ("gpg.format", "openpgp".into()),
            ("gpg.program", program.display().to_string()),
            ("user.signingkey", format!("{key}!")),
        ]
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // it ends by itself when its folder is gone, but later
        let ended =
            Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "gpg-agent"]).status();
        drop(ended);
    }
}

fn gpg(home: &Path) -> Command {
    let mut command = Command::new("gpg");
    command.arg("--homedir").arg(home).args(["--batch", "--quiet", "--pinentry-mode", "loopback"]);
    command
}
