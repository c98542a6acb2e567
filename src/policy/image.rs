//! Container images: what agents run, what policies allow.

use std::borrow::Cow;

/// Where images without a domain are.
const DOCKER: &str = "docker.io";

/// The name of an image with its domain, without tag and digest: `python:3.12` is `docker.io/library/python`.
pub(super) fn name(image: &str) -> Cow<'_, str> {
    let tagged = image.split('@').next().unwrap_or(image);
    let last = tagged.rfind('/').map_or(0, |slash| slash + 1);
    let name = tagged[last..].find(':').map_or(tagged, |colon| &tagged[..last + colon]);
    match name.split_once('/') {
        None => Cow::Owned(format!("{DOCKER}/library/{name}")),
        Some((first, _)) if is_domain(first) => Cow::Borrowed(name),
        Some(_) => Cow::Owned(format!("{DOCKER}/{name}")),
    }
}

/// Whether an image is named by its digest.
pub(super) fn is_pinned(image: &str) -> bool {
    let hex = |digits: &str| digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    image.rsplit_once("@sha256:").is_some_and(|(_, digits)| hex(digits))
}

/// Whether a pattern can cover an image: its first part is, or can stand for, a domain.
pub(super) fn is_pattern(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or(text);
    is_domain(first) || first.contains('*')
}

fn is_domain(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}
