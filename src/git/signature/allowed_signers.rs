//! OpenSSH's file of allowed signers: principals, options, a key. See ALLOWED SIGNERS in ssh-keygen(1).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::ssh::{Key, NAMESPACE, lines, public_key};

/// The options of a line.
#[derive(Default)]
struct Options {
    namespaces: Option<String>,
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
}

pub(super) fn read(text: &str) -> Result<Vec<Key>, String> {
    lines(text).map(|(number, text)| line(text).map_err(|fault| format!("line {number}: {fault}"))).collect()
}

fn line(text: &str) -> Result<Key, String> {
    let (principals, rest) = word(text)?;
    let is_key = |text: &str| ["ssh-", "ecdsa-", "sk-"].iter().any(|beginning| text.starts_with(beginning));
    let (options, rest) = if is_key(rest) { (Options::default(), rest) } else { options(rest)? };
    let key = public_key(rest)?;
    let owner = principals.trim_matches('"').to_owned();
    let for_git =
        options.namespaces.is_none_or(|namespaces| namespaces.split(',').any(|namespace| namespace == NAMESPACE));
    Ok(Key { key, owner, for_git, not_before: options.not_before, not_after: options.not_after })
}

/// The first word, in which quotes keep blanks together, and what follows it.
fn word(text: &str) -> Result<(&str, &str), String> {
    let mut quoted = false;
    let end = text.find(|c: char| {
        quoted ^= c == '"';
        c.is_whitespace() && !quoted
    });
    match end {
        Some(end) => Ok((&text[..end], text[end..].trim_start())),
        None if quoted => Err("a quote is not closed".to_owned()),
        None => Err("ends too early; written are: principals, options (if any), kind of key, key".to_owned()),
    }
}

fn options(text: &str) -> Result<(Options, &str), String> {
    let (word, rest) = word(text)?;
    let mut options = Options::default();
    let mut quoted = false;
    for option in word.split(|c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    }) {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let value = value.and_then(|value| value.strip_prefix('"')?.strip_suffix('"')).filter(|v| !v.contains('"'));
        let twice = || format!("the option {name} stands there twice");
        match (name.to_ascii_lowercase().as_str(), value) {
            ("namespaces", Some(value)) => {
                if value.contains(['*', '?', '!']) {
                    return Err("patterns in namespaces are not supported: write each namespace out".to_owned());
                }
                options.namespaces.replace(value.to_owned()).map_or(Ok(()), |_| Err(twice()))?;
            }
            ("valid-after", Some(value)) => {
                options.not_before.replace(time(value)?).map_or(Ok(()), |_| Err(twice()))?;
            }
            ("valid-before", Some(value)) => {
                options.not_after.replace(time(value)?).map_or(Ok(()), |_| Err(twice()))?;
            }
            ("cert-authority", None) => {
                return Err("the option cert-authority is not supported: certificates are not, only keys".to_owned());
            }
            _ => {
                return Err(format!(
                    "the option {} is not one of those that are supported: namespaces=\"…\", valid-after=\"…\", \
                     valid-before=\"…\"",
                    crate::git::shown(option)
                ));
            }
        }
    }
    Ok((options, rest))
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, with or without a `Z`: the clock of this program is in UTC.
fn time(text: &str) -> Result<Timestamp, String> {
    let digits = text.strip_suffix('Z').unwrap_or(text);
    let fits = matches!(digits.len(), 8 | 12 | 14) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = fits.then(|| DateTime::strptime("%Y%m%d%H%M%S", format!("{digits:0<14}")).ok()).flatten();
    let time = parsed.and_then(|time| TimeZone::UTC.to_timestamp(time).ok());
    time.ok_or_else(|| format!("{text:?} is no time; accepted are YYYYMMDD, YYYYMMDDHHMM and YYYYMMDDHHMMSS, in UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn principals_and_options_are_read_as_openssh_reads_them() {
        let text = format!(
            "# people\n\na@example.com,b@example.com {KEY} comment of it\n\
             \"c d\"\tnamespaces=\"file,git\",valid-after=\"20260101\",Valid-Before=\"202612312359Z\"   {KEY}\n\
             e namespaces=\"file\" {KEY}\n"
        );
        let keys = read(&text).unwrap();
        let of: Vec<(&str, bool)> = keys.iter().map(|key| (key.owner.as_str(), key.for_git)).collect();
        assert_eq!(of, [("a@example.com,b@example.com", true), ("c d", true), ("e", false)]);
        let times = [keys[1].not_before, keys[1].not_after].map(|time| time.unwrap().to_string());
        assert_eq!(times, ["2026-01-01T00:00:00Z", "2026-12-31T23:59:00Z"]);
    }

    #[test]
    fn what_is_not_understood_is_refused_and_never_ignored() {
        for (line, says) in [
            (format!("a cert-authority {KEY}"), "cert-authority is not supported"),
            (format!("a namespaces=\"g*\" {KEY}"), "patterns"),
            (format!("a namespaces=git {KEY}"), "the option namespaces=git is not one"),
            (format!("a valid-before=\"tomorrow\" {KEY}"), "\"tomorrow\" is no time"),
            (format!("a valid-before=\"20261301\" {KEY}"), "is no time"),
            (format!("a valid-after=\"20260101\",valid-after=\"20250101\" {KEY}"), "twice"),
            (format!("a verify-required {KEY}"), "the option verify-required is not one"),
            (format!("a namespaces=\"git {KEY}"), "quote is not closed"),
            (KEY.replace("ssh-ed25519 ", "a ssh-ed25519 x"), "is no SSH public key"),
            ("a".to_owned(), "ends too early"),
            (KEY.to_owned(), ""),
        ] {
            let fault = read(&format!("\n{line}\n")).unwrap_err();
            assert!(fault.starts_with("line 2: ") && fault.contains(says), "{line}: {fault}");
        }
    }
}
