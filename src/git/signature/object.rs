//! What of a commit or a tag is signed, and by which signature. As Git itself takes them apart, only stricter.

/// An object taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// What was signed.
    pub(super) payload: Vec<u8>,
    /// The signature, armoured.
    pub(super) signature: String,
}

/// The lines that signatures begin with.
const BEGINNINGS: [&[u8]; 4] = [
    b"-----BEGIN SSH SIGNATURE-----",
    b"-----BEGIN PGP SIGNATURE-----",
    b"-----BEGIN PGP MESSAGE-----",
    b"-----BEGIN SIGNED MESSAGE-----",
];

/// A commit's signature is a header, `gpgsig`, whatever it was made with. What is signed is all the rest.
pub(super) fn commit(content: &[u8]) -> Result<Parts, String> {
    let (mut payload, mut signature) = (Vec::with_capacity(content.len()), Vec::new());
    let mut lines = content.split_inclusive(|byte| *byte == b'\n');
    let mut in_signature = false;
    for line in lines.by_ref() {
        if let Some(rest) = line.strip_prefix(b" ").filter(|_| in_signature) {
            signature.extend_from_slice(rest);
            continue;
        }
        in_signature = line.starts_with(b"gpgsig ");
        if in_signature && !signature.is_empty() {
            return Err("has two signatures; one is accepted".to_owned());
        }
        if let Some(rest) = line.strip_prefix(b"gpgsig ") {
            signature.extend_from_slice(rest);
        } else if line.starts_with(b"gpgsig") {
            return Err("has a signature for another kind of object ids (SHA-256); only gpgsig is accepted".to_owned());
        } else {
            payload.extend_from_slice(line);
        }
        if line == b"\n" {
            break; // the message follows
        }
    }
    lines.for_each(|line| payload.extend_from_slice(line));
    if signature.is_empty() {
        return Err("is not signed".to_owned());
    }
    Ok(Parts { payload, signature: text(signature)? })
}

/// A tag's signature follows its message. What is signed is all that is before it, with the name of the tag: whoever may
/// push can give a signed tag object another name on the server.
pub(super) fn tag(content: &[u8], name: &str) -> Result<Parts, String> {
    let mut start = None;
    let mut at = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if BEGINNINGS.iter().any(|beginning| line.starts_with(beginning)) {
            start = Some(at);
        }
        at += line.len();
    }
    let (payload, signature) = content.split_at(start.ok_or("is not signed")?);
    let headers = payload.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let mut names = headers.filter_map(|line| line.strip_prefix(b"tag "));
    let (own, other) = (names.next(), names.next());
    if own != Some(name.as_bytes()) || other.is_some() {
        let own = String::from_utf8_lossy(own.unwrap_or_default()).into_owned();
        return Err(format!("is the tag {} under another name", crate::git::shown(&own)));
    }
    Ok(Parts { payload: payload.to_vec(), signature: text(signature.to_vec())? })
}

fn text(signature: Vec<u8>) -> Result<String, String> {
    String::from_utf8(signature).map_err(|_| "has a signature that is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "tree 1\nparent 2\nauthor a\n";

    fn of(content: &str) -> Result<(String, String), String> {
        commit(content.as_bytes()).map(|parts| (String::from_utf8(parts.payload).unwrap(), parts.signature))
    }

    #[test]
    fn the_signature_of_a_commit_is_taken_out_and_nothing_else() {
        let content = format!("{HEAD}gpgsig -----BEGIN\n  x\n -----END\nencoding b\n c\n\ngpgsig no\n d");
        let payload = format!("{HEAD}encoding b\n c\n\ngpgsig no\n d");
        assert_eq!(of(&content).unwrap(), (payload, "-----BEGIN\n x\n-----END\n".to_owned()));
    }

    #[test]
    fn a_commit_with_none_or_with_several_is_refused() {
        for (rest, says) in [
            ("\ngpgsig in the message", "is not signed"),
            ("", "is not signed"),
            ("gpgsig a\ngpgsig b\n\n", "two signatures"),
            ("gpgsig a\nx y\ngpgsig b\n\n", "two signatures"),
            ("gpgsig-sha256 a\n b\n\n", "another kind"),
            ("gpgsigother\n\n", "another kind"),
        ] {
            let fault = of(&format!("{HEAD}{rest}")).unwrap_err();
            assert!(fault.contains(says), "{fault}");
        }
    }

    #[test]
    fn the_signature_of_a_tag_is_the_last_one_and_its_name_counts() {
        let signature = "-----BEGIN SSH SIGNATURE-----\nx\n";
        let payload = format!("object 1\ntype commit\ntag v1\ntagger t\n\n{signature}\nquoted\n");
        let parts = tag(format!("{payload}{signature}").as_bytes(), "v1").unwrap();
        assert_eq!((parts.payload, parts.signature), (payload.clone().into_bytes(), signature.to_owned()));
        for (content, name, says) in [
            (format!("{payload}{signature}"), "v2", "is the tag v1 under another name"),
            ("object 1\ntag v1\n\nmessage\n".to_owned(), "v1", "is not signed"),
            (format!("object 1\ntag v1\ntag v2\n\n{signature}"), "v1", "under another name"),
            (format!("object 1\n\ntag v1\n{signature}"), "v1", "under another name"),
        ] {
            let fault = tag(content.as_bytes(), name).unwrap_err();
            assert!(fault.contains(says), "{fault}");
        }
    }
}
