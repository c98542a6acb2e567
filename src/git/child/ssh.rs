//! SSH: which host keys are believed, and the key to log in with.
//!
//! libgit2 asks the server for a host key of a type that stands in `~/.ssh/known_hosts` and refuses all that do not. So
//! it gets such a file, in a home of its own, with what the Secret says of this very host. Nothing is ever added to it.

use std::fs;

use git2::{Cred, CredentialType, ErrorClass, ErrorCode, RemoteCallbacks};
use ring::hmac;
use ssh_key::PublicKey;
use ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use url::Url;

use super::resolve;
use crate::git::access::{Access, Login};
use crate::git::{GitError, Request};
use crate::policy::Pattern;

/// Whom forges log in.
const USER: &str = "git";

/// Writes the host keys that are believed for the host of the URL.
pub(super) fn believe(request: &Request) -> Result<(), GitError> {
    let Login::Ssh { known_hosts, .. } = &request.access.login else { return Ok(()) };
    let url = Url::parse(&request.url).map_err(|error| GitError::Url(error.to_string()))?;
    resolve::not_link_local(&url)?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let name = match url.port() {
        None | Some(22) => host.to_owned(),
        Some(port) => format!("[{host}]:{port}"),
    };
    let folder = format!("{}/.ssh", request.key);
    let keys = keys_of(known_hosts, &name)?;
    let lines: String = keys.iter().map(|key| format!("{name} {key}\n")).collect();
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(format!("{folder}/known_hosts"), lines))
        .map_err(|error| GitError::Failed(format!("cannot write {folder} in the data directory: {error}")))
}

/// The keys of a host, each as type and base64.
fn keys_of(known_hosts: &str, name: &str) -> Result<Vec<String>, GitError> {
    let refuse = |what: String| GitError::Credentials(format!("known_hosts of the Secret {what}"));
    let (mut keys, mut revoked) = (Vec::new(), Vec::new());
    for (number, line) in known_hosts.lines().enumerate() {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry: Entry = line.parse().map_err(|_| {
            refuse(format!("cannot be read in line {}: accepted are lines as ssh-keyscan prints them", number + 1))
        })?;
        if !names(entry.host_patterns(), name) {
            continue;
        }
        let key = PublicKey::from(entry.public_key().key_data().clone()).to_openssh();
        let key = key.map_err(|error| refuse(format!("cannot be read in line {}: {error}", number + 1)))?;
        match entry.marker() {
            None => keys.push(key),
            Some(Marker::Revoked) => revoked.push(key),
            // libssh2 knows no certificates of hosts
            Some(Marker::CertAuthority) => {}
        }
    }
    keys.retain(|key| !revoked.contains(key));
    if keys.is_empty() {
        return Err(refuse(format!(
            "has no key of {name}; `ssh-keyscan` prints it, and compare it with what the server's owner says"
        )));
    }
    Ok(keys)
}

/// Whether a line of known_hosts speaks of a host.
fn names(patterns: &HostPatterns, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::verify(&key, name.as_bytes(), hash).is_ok()
        }
        HostPatterns::Patterns(patterns) => {
            let matches = |pattern: &str| Pattern::new(&pattern.to_ascii_lowercase()).matches(&name);
            let not = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(matches);
            !not && patterns.iter().any(|pattern| matches(pattern))
        }
    }
}

/// Logs in with the key, once: a server that does not want it is not asked again.
pub(super) fn callbacks(access: &Access) -> RemoteCallbacks<'_> {
    let refuse = |text: &str| Err(git2::Error::new(ErrorCode::Auth, ErrorClass::Callback, text));
    let mut asked = false;
    let mut callbacks = RemoteCallbacks::new();
    callbacks.credentials(move |_, user, accepted| match &access.login {
        Login::Ssh { .. } if accepted == CredentialType::USERNAME => Cred::username(USER),
        Login::Ssh { identity, passphrase, .. } if !asked && accepted.is_ssh_memory() => {
            asked = true;
            let passphrase = passphrase.as_ref().map(crate::git::Secret::reveal);
            Cred::ssh_key_from_memory(user.unwrap_or(USER), None, identity.reveal(), passphrase)
        }
        Login::Ssh { .. } => refuse("the server does not accept the key of the Secret (identity)"),
        _ => refuse("the server asks for credentials, and none are configured"),
    });
    callbacks
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjzT0bUWCzDpaFMUWAGyEE3RHl/JAjVGpu8oqzL5GPK";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEpStoJPj36KL5+LPCsGqWcDyDqOsLgAMrOVSDRNjjsb";

    #[test]
    fn the_lines_of_a_host_are_found_by_name_pattern_and_hash() {
        // `ssh-keygen -H` of `git.example.com`
        let hashed = "|1|c2FsdHNhbHRzYWx0c2FsdHNhbHQ=|zn3fCR02QxOQDrePkZhpCkS5BvU=";
        for (names, is) in [
            ("git.example.com", true),
            ("GIT.example.com,10.0.0.1", true),
            ("*.example.com", true),
            ("*.example.com,!git.example.com", false),
            ("[git.example.com]:2222", false),
            ("example.com", false),
            (hashed, true),
        ] {
            let found = keys_of(&format!("# a comment\n\n{names}\t{KEY} someone\n"), "git.example.com");
            assert_eq!(found.is_ok_and(|keys| keys == [KEY]), is, "{names}");
        }
        assert!(keys_of(&format!("[git.example.com]:2222 {KEY}"), "[git.example.com]:2222").is_ok());
        assert!(keys_of(&format!("git.example.com {KEY}"), "[git.example.com]:2222").is_err());
    }

    #[test]
    fn a_revoked_key_is_not_believed_and_an_authority_is_none() {
        let text = format!("host {KEY}\nhost {OTHER}\n@revoked * {KEY}\n");
        assert_eq!(keys_of(&text, "host").unwrap(), [OTHER]);
        for text in [format!("host {KEY}\n@revoked host {KEY}"), format!("@cert-authority host {KEY}"), String::new()] {
            assert!(keys_of(&text, "host").unwrap_err().permanent());
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_refused_with_its_number() {
        let error = keys_of(&format!("host {KEY}\n@revoked host ssh-ed25519 AAA"), "host").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
