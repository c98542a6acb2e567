//! Which keys of a host a file `known_hosts` believes: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
//!
//! By hand, since the reader of the crate `ssh-key` gives up at the first line with a kind of key that it does not know, and
//! knows no patterns; and libssh2 knows neither `?` nor `!` nor markers. Lines of other hosts are not looked into, as with
//! OpenSSH. What is stricter than there: a line with a marker that cannot be read is an error, since it may be there to
//! revoke; and what is revoked for a host is revoked for each of its ports.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;

use crate::git::GitError;

/// Where a hashed name begins. There is no other method.
const HASHED: &str = "|1|";

/// The longest pattern of a list; OpenSSH matches nothing by a list with a longer one.
const PATTERN_BYTES: usize = 1023;

const PORT: u16 = 22;

/// A public key as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostKey {
    /// Such as `ssh-ed25519`.
    pub(super) kind: String,
    pub(super) blob: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    Authority,
}

/// The keys that are believed of a host, at least one.
///
/// # Errors
/// [`GitError::Credentials`] if there is none, or a line with a marker cannot be read.
pub(super) fn keys_of(known_hosts: &str, host: &str, port: u16) -> Result<Vec<HostKey>, GitError> {
    let refuse = |what: String| GitError::Credentials(format!("known_hosts of the Secret {what}"));
    let host = host.to_ascii_lowercase();
    let name = if port == PORT { host.clone() } else { format!("[{host}]:{port}") };
    let (mut with_port, mut without_port, mut revoked) = (Vec::new(), Vec::new(), Vec::new());
    let (mut authority, mut unreadable) = (false, None);
    for (number, line) in known_hosts.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = number + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (marker, line) = marker(line).ok_or_else(|| {
            refuse(format!(
                "cannot be read in line {number}: it begins with @, which only @revoked and @cert-authority do"
            ))
        })?;
        let (patterns, key) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let of_port = matches(patterns, &name);
        let of_host = port != PORT && matches(patterns, &host).unwrap_or(false);
        let Some(of_port) = of_port.or((marker != Marker::Revoked).then_some(false)) else {
            return Err(refuse(format!("cannot be read in line {number}: @revoked, and then no name of a host")));
        };
        if !of_port && !of_host {
            continue;
        }
        match (marker, read_key(key)) {
            (Marker::Authority, _) => authority = true,
            (Marker::Revoked, Some(key)) => revoked.push(key.blob),
            (Marker::Revoked, None) => {
                return Err(refuse(format!("cannot be read in line {number}: @revoked, and then no key of a host")));
            }
            (Marker::None, Some(key)) if of_port => with_port.push(key),
            (Marker::None, Some(key)) => without_port.push(key),
            (Marker::None, None) => unreadable = unreadable.or(Some(number)),
        }
    }
    // as ssh does: where no key of that kind is known for the port, one of the host counts
    without_port.retain(|key: &HostKey| !with_port.iter().any(|known: &HostKey| known.kind == key.kind));
    let mut keys = [with_port, without_port].concat();
    keys.retain(|key| !revoked.contains(&key.blob));
    if !keys.is_empty() {
        return Ok(keys);
    }
    let why = match (unreadable, authority) {
        (Some(number), _) => format!("; line {number} is of it, but no key can be read there"),
        (None, true) => {
            "; the @cert-authority that is there does not help: certificates of hosts are not supported, only keys"
                .into()
        }
        (None, false) if !revoked.is_empty() => " that is not @revoked".into(),
        (None, false) => String::new(),
    };
    Err(refuse(format!(
        "has no key of {name}{why}. `ssh-keyscan` prints it, and compare it with what the server's owner says"
    )))
}

/// The marker of a line, and what follows it.
fn marker(line: &str) -> Option<(Marker, &str)> {
    if !line.starts_with('@') {
        return Some((Marker::None, line));
    }
    let (marker, rest) = line.split_once([' ', '\t'])?;
    let marker = match marker {
        "@revoked" => Marker::Revoked,
        "@cert-authority" => Marker::Authority,
        _ => return None,
    };
    let rest = rest.trim_start();
    (!rest.starts_with('@')).then_some((marker, rest))
}

/// Whether the first word of a line means a host. `None`: it cannot be read.
fn matches(patterns: &str, name: &str) -> Option<bool> {
    if let Some(hashed) = patterns.strip_prefix(HASHED) {
        let (salt, hash) = hashed.split_once('|')?;
        let (salt, hash) = (BASE64_STANDARD.decode(salt).ok()?, BASE64_STANDARD.decode(hash).ok()?);
        let algorithm = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
        let length = algorithm.digest_algorithm().output_len();
        if salt.len() != length || hash.len() != length {
            return None;
        }
        return Some(hmac::verify(&hmac::Key::new(algorithm, &salt), name.as_bytes(), &hash).is_ok());
    }
    let mut found = false;
    for pattern in patterns.split(',') {
        let (not, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |pattern| (true, pattern));
        if pattern.len() > PATTERN_BYTES {
            return None;
        }
        if glob(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()) {
            if not {
                return Some(false);
            }
            found = true;
        }
    }
    Some(found)
}

/// `*`: any bytes; `?`: one.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(of) {
            Some(b'*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[at] => {
                at += 1;
                of += 1;
            }
            // the last star takes one byte more
            _ => match star.as_mut() {
                Some((behind, taken)) => {
                    *taken += 1;
                    (of, at) = (*behind + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|byte| *byte == b'*')
}

/// `ssh-ed25519 AAAA… comment`. A kind need not be known; the key has to say that it is of it.
fn read_key(text: &str) -> Option<HostKey> {
    let mut words = text.split([' ', '\t']).filter(|word| !word.is_empty());
    let (kind, blob) = (words.next()?, BASE64_STANDARD.decode(words.next()?).ok()?);
    let length = u32::from_be_bytes(*blob.first_chunk::<4>()?) as usize;
    let says = blob.get(4..)?.get(..length)?;
    let rest = blob.len() - 4 - length;
    (says == kind.as_bytes() && rest > 0).then(|| HostKey { kind: kind.to_owned(), blob })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::process::Command;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjzT0bUWCzDpaFMUWAGyEE3RHl/JAjVGpu8oqzL5GPK";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEpStoJPj36KL5+LPCsGqWcDyDqOsLgAMrOVSDRNjjsb";

    fn key(line: &str) -> HostKey {
        read_key(line).unwrap()
    }

    fn believes(known_hosts: &str, host: &str, port: u16) -> Vec<HostKey> {
        keys_of(known_hosts, host, port).unwrap_or_default()
    }

    /// The lines that OpenSSH finds for a name: `# Host git.example found: line 3`.
    fn found_by_ssh(file: &std::path::Path, name: &str) -> Vec<usize> {
        let output = Command::new("ssh-keygen").args(["-F", name, "-f"]).arg(file).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let number = |line: &str| {
            line.strip_prefix("# Host ")?.rsplit_once(" found: line ")?.1.trim().split(' ').next()?.parse().ok()
        };
        lines.lines().filter_map(number).collect()
    }

    /// Patterns of all parts that mean something, in all orders, each beside another one.
    #[test]
    fn a_line_is_of_the_hosts_that_ssh_keygen_says_it_is_of() {
        if Command::new("ssh-keygen").arg("-?").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "needs ssh-keygen");
            return;
        }
        let parts = ["g", "*", "?", "it", ".", "example", "[", "]:22", "!", "G"];
        let mut lists: Vec<String> = ["git.example", "*.example,!git.example", "!git.example,*", "[git.example]:2222"]
            .into_iter()
            .chain([
                "[git.example]:*",
                "[*]:2222",
                "[git.?xample]:22?2",
                "git.example,,x",
                ",",
                "!",
                "!!git.example",
                "*,!*",
            ])
            .map(str::to_owned)
            .collect();
        for a in parts {
            for b in parts {
                for c in ["", "*", "?", "t.example", ",git.example", ",!*.example"] {
                    lists.push(format!("{a}{b}{c}"));
                }
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        let text: String = lists.iter().map(|list| format!("{list} {KEY}\n")).collect();
        std::fs::write(&file, text).unwrap();
        let (mut differ, mut matched) = (String::new(), 0);
        for name in ["git.example", "[git.example]:2222"] {
            let theirs = found_by_ssh(&file, name);
            for (number, list) in (1..).zip(&lists) {
                let ours = matches(list, name) == Some(true);
                matched += usize::from(ours);
                if ours != theirs.contains(&number) {
                    writeln!(differ, "{list} for {name}: {ours} here").unwrap();
                }
            }
        }
        assert_eq!(differ, "");
        assert!(matched > 50, "{matched}");

        // the same names, hashed by ssh-keygen
        std::fs::write(&file, format!("git.example,10.0.0.1 {KEY}\n[git.example]:2222 {OTHER}\n")).unwrap();
        let hashed = Command::new("ssh-keygen").arg("-H").arg("-f").arg(&file).output().unwrap();
        assert!(hashed.status.success());
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.matches("|1|").count(), 3, "{text}");
        assert_eq!(believes(&text, "GIT.example", 22), [key(KEY)]);
        assert_eq!(believes(&text, "10.0.0.1", 22), [key(KEY)]);
        assert_eq!(believes(&text, "git.example", 2222), [key(OTHER)]);
        assert_eq!(believes(&text, "example", 22), []);
    }

    #[test]
    fn a_line_of_another_host_is_never_in_the_way() {
        for foreign in [
            "other ssh-ed448 AAAACXNzaC1lZDQ0OAAAADk=",
            "other a-new-kind@vendor AAAA",
            "other",
            "other ssh-ed25519",
            "other 1024 35 1234567890",
            "|1|broken|hash ssh-ed25519 AAAA",
            "@revoked other rubbish",
            "@cert-authority * rubbish",
            "\u{fffd}\u{0}",
            "# a comment",
            "host ssh-ed25519 rubbish",
        ] {
            assert_eq!(believes(&format!("{foreign}\nhost\t{KEY} a comment\r\n"), "host", 22), [key(KEY)], "{foreign}");
        }
        assert_eq!(believes(&format!("\u{feff}host {KEY}"), "host", 22), [key(KEY)]);
    }

    #[test]
    fn a_key_counts_for_a_port_as_with_ssh() {
        let plain = format!("host {KEY}");
        assert_eq!(believes(&plain, "host", 2222), [key(KEY)]);
        // a key of that kind for the port itself comes first
        assert_eq!(believes(&format!("{plain}\n[host]:2222 {OTHER}"), "host", 2222), [key(OTHER)]);
        assert_eq!(believes(&format!("[host]:2222 {KEY}"), "host", 22), []);
        assert_eq!(believes(&format!("[host]:2222 {KEY}"), "host", 2223), []);
        assert_eq!(believes(&format!("[::1]:2222 {KEY}"), "::1", 2222), [key(KEY)]);
    }

    #[test]
    fn what_is_revoked_is_believed_under_no_name_and_no_port() {
        for pattern in ["host", "h?st", "*", "HOST", "[host]:2222", "[h?st]:*", "x,host", "*,!other"] {
            let text = format!("host {KEY}\nhost {OTHER}\n@revoked {pattern} {KEY}\n");
            assert_eq!(believes(&text, "host", 2222), [key(OTHER)], "{pattern}");
            // as with ssh, the port's own key stands before the host's of that kind, and is revoked
            let text = format!("[host]:2222 {KEY}\nhost {OTHER}\n@revoked {pattern} {KEY}\n");
            assert_eq!(believes(&text, "host", 2222), [], "{pattern}");
        }
        assert_eq!(believes(&format!("host {KEY}\n@revoked *,!host {KEY}"), "host", 22), [key(KEY)]);
    }

    #[test]
    fn why_no_key_is_believed_is_said() {
        for (text, says) in [
            (String::new(), "has no key of host."),
            (format!("@cert-authority * {KEY}"), "certificates of hosts are not supported"),
            (format!("host {KEY}\n@revoked host {KEY}"), "not @revoked"),
            (format!("x {KEY}\nhost ssh-ed25519 AAA"), "line 2"),
            (format!("host {KEY}\n@revoked host ssh-ed25519 AAA"), "line 2: @revoked"),
            (format!("host {KEY}\n@revoked |1|a|b {KEY}"), "line 2: @revoked"),
            (format!("host {KEY}\n@revoked"), "line 2"),
            (format!("host {KEY}\n@Revoked * {KEY}"), "line 2"),
            (format!("host {KEY}\n@revoked @revoked * {KEY}"), "line 2"),
        ] {
            let error = keys_of(&text, "host", 22).unwrap_err();
            assert!(error.permanent() && error.to_string().contains(says), "{text}: {error}");
        }
    }
}
