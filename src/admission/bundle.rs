//! Bundles of certificate authorities: PEM text, as it stands in `caBundle` and in `ca.crt`.
//!
//! Kept as text: what was given is passed on as it is, block by block, and whatever is no certificate, or no longer valid,
//! is left out, since an API server refuses a whole bundle for one bad block.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::api::moment::from_unix;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates of all `texts` that are valid at `now` (or will be), each once, in their order.
pub(super) fn merge<'a>(texts: impl IntoIterator<Item = &'a str>, now: Timestamp) -> String {
    let mut seen: Vec<CertificateDer<'static>> = Vec::new();
    let mut merged = String::new();
    for block in texts.into_iter().flat_map(blocks) {
        let Ok(certificate) = CertificateDer::from_pem_slice(block.as_bytes()) else { continue };
        if seen.contains(&certificate) || expired(&certificate, now) {
            continue;
        }
        seen.push(certificate);
        merged.push_str(block);
        merged.push('\n');
    }
    merged
}

/// The certificates of a bundle that are valid at `now`.
pub(super) fn certificates(text: &str, now: Timestamp) -> Vec<CertificateDer<'static>> {
    let read = blocks(text).filter_map(|block| match CertificateDer::from_pem_slice(block.as_bytes()) {
        Ok(certificate) if !expired(&certificate, now) => Some(certificate),
        // Trusting less than the bundle says is the safe side; what is missing shows as a certificate nobody trusts.
        _ => None,
    });
    read.collect()
}

/// When a certificate begins and ends to be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
}

impl Life {
    /// That of a certificate. People write times into them that nobody can count.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Life {
        let validity = certificate.validity();
        Life { start: from_unix(validity.not_before.timestamp()), end: from_unix(validity.not_after.timestamp()) }
    }
}

/// The life of the certificate that ends last, of those of a bundle that are valid at `now`.
pub(super) fn last(text: &str, now: Timestamp) -> Option<Life> {
    let lives = certificates(text, now).into_iter().filter_map(|certificate| {
        let (_, certificate) = X509Certificate::from_der(&certificate).ok()?;
        Some(Life::of(&certificate))
    });
    lives.max_by_key(|life| life.end)
}

fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(END).filter_map(|part| part.find(BEGIN).map(|start| &part[start..]))
}

fn expired(certificate: &CertificateDer<'_>, now: Timestamp) -> bool {
    X509Certificate::from_der(certificate)
        .map_or(true, |(_, certificate)| certificate.validity().not_after.timestamp() < now.as_second())
}

#[cfg(test)]
mod tests {
    use super::super::pair::{Names, make};
    use super::*;

    fn authority(now: &str) -> String {
        make(&Names::of_service("a", "b"), now.parse().unwrap()).unwrap().authority
    }

    #[test]
    fn bundles_are_merged_in_order_each_authority_once_and_without_the_expired() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let (old, one, two) =
            (authority("2026-01-01T00:00:00Z"), authority("2026-05-01T00:00:00Z"), authority("2026-05-02T00:00:00Z"));
        let merged = merge([format!("{one}{old}").as_str(), format!("{two}\nrubbish\n{one}").as_str()], now);
        assert_eq!(merged.matches(BEGIN).count(), 2);
        assert_eq!(certificates(&merged, now).len(), 2);
        let first = |pem: &str| certificates(pem, now)[0].clone();
        assert_eq!(certificates(&merged, now), [first(&one), first(&two)]);
        assert_eq!(merge([merged.as_str()], now), merged, "merging again changes nothing");
    }

    #[test]
    fn what_is_no_certificate_is_left_out() {
        let now = Timestamp::UNIX_EPOCH;
        let broken = format!("{BEGIN}\nAAAA\n{END}");
        for text in
            ["", "rubbish", BEGIN, END, broken.as_str(), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
        {
            assert_eq!(merge([text], now), "");
        }
    }
}
