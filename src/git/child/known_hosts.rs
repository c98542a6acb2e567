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
