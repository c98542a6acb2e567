//! Certificate and key of the webhook: made, read, judged. Pure: time is an argument.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::bundle::{self, Life};
use super::tls;
use crate::api::moment::after;

/// For which a pair is valid.
pub(super) const LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);
/// By which a pair is valid before it was made: clocks of nodes differ.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);
/// By which at most, where it follows another: as far as that one reaches back. This clock may be ahead, and others are to
/// take the new one all the same.
const FOLLOWS: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Names that a certificate is made for at most.
const MAX_NAMES: usize = 16;

/// The names that the API server may know the webhook by: DNS names or IP addresses. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(Vec<String>);

impl Names {
    /// The names of a Service in the cluster.
    #[must_use]
    pub fn of_service(name: &str, namespace: &str) -> Names {
        Names(vec![format!("{name}.{namespace}.svc"), format!("{name}.{namespace}.svc.cluster.local")])
    }

    /// The host of a URL. `None` when it has none.
    #[must_use]
    pub fn of_url(url: &url::Url) -> Option<Names> {
        let host = match url.host()? {
            url::Host::Domain(name) => name.to_owned(),
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        };
        Some(Names(vec![host]))
    }

    /// Those of a certificate. `None` when it has none.
    pub(super) fn of_certificate(names: &[String]) -> Option<Names> {
        (!names.is_empty()).then(|| Names(names.to_vec()))
    }

    /// These, and those of `other`.
    pub(super) fn with(&self, other: &[String]) -> Names {
        let mut names = self.0.clone();
        let more = other.iter().filter(|name| !self.0.contains(name)).take(MAX_NAMES.saturating_sub(names.len()));
        names.extend(more.cloned());
        Names(names)
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PairFault {
    /// Not PEM, or not of one certificate and its key.
    #[error("{0}")]
    Unreadable(String),
    /// No authority of the bundle vouches for it, by these names and now.
    #[error("not valid for {name}: {fault}")]
    Untrusted {
        /// The name.
        name: String,
        /// Why not.
        fault: String,
    },
    /// It could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The cryptography library refuses.
    #[error("cannot check a certificate: {0}")]
    Check(String),
}

/// A certificate and its key as text, and the authority that vouches for it.
#[derive(Debug)]
pub struct Made {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// PEM.
    pub authority: String,
}

/// Makes an authority and a certificate that it signs. The authority's private key is gone when this returns: nothing can
/// ever be signed with it again, so that it can stand in a bundle until it expires.
///
/// # Errors
/// When a name is none, or the random generator of the system fails.
pub fn make(names: &Names, now: Timestamp) -> Result<Made, PairFault> {
    make_valid(names, after(now, -BACKDATED), now)
}

fn make_valid(names: &Names, from: Timestamp, now: Timestamp) -> Result<Made, PairFault> {
    let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut authority = params(&[], &format!("sekuire-policy-controller {}", now.as_nanosecond()), from, now)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_certificate = authority.self_signed(&authority_key)?;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut leaf = params(&names.0, "sekuire-policy-controller webhook", from, now)?;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let certificate = leaf.signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;
    Ok(Made { certificate: certificate.pem(), key: key.serialize_pem(), authority: authority_certificate.pem() })
}

fn params(
    names: &[String],
    common_name: &str,
    from: Timestamp,
    now: Timestamp,
) -> Result<CertificateParams, PairFault> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // rcgen's own type of time is made from a date, which every version of it takes.
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + seconds(from);
    params.not_after = epoch + seconds(after(now, LIFETIME));
    Ok(params)
}

/// Since 1970. A clock that is before that makes certificates nobody takes, which is noticed.
fn seconds(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}

/// A certificate with its key, ready to be served.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    names: Vec<String>,
    life: Life,
}

impl Pair {
    /// Reads a chain, the served certificate first, and its private key, both PEM.
    pub(super) fn read(chain: &[u8], key: &[u8]) -> Result<Pair, PairFault> {
        let unreadable = |what: &str, fault: &dyn std::fmt::Display| PairFault::Unreadable(format!("{what}: {fault}"));
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|fault| unreadable("the certificate is not PEM", &fault))?;
        let leaf =
            chain.first().ok_or_else(|| PairFault::Unreadable("there is no certificate in the PEM".to_owned()))?;
        let (names, life) = facts(leaf)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|fault| unreadable("the key is not a private key in PEM", &fault))?;
        let key = CertifiedKey::from_der(chain, key, &tls::provider())
            .map_err(|fault| unreadable("certificate and key do not belong together", &fault))?;
        Ok(Pair { key: Arc::new(key), names, life })
    }

    /// The names that it was made for.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// When it begins and ends.
    pub(super) fn life(&self) -> Life {
        self.life
    }

    /// When it ends.
    pub(super) fn not_after(&self) -> Timestamp {
        self.life.end
    }

    /// When it is to be replaced: at two thirds of its life. One that reaches far back lives from when it was made.
    pub(super) fn renew_at(&self) -> Timestamp {
        let Life { start, end } = self.life;
        let life = end.duration_since(start);
        after(start, life / 3 * 2).max(after(end, -(LIFETIME + BACKDATED) / 3))
    }

    /// Makes the pair that follows this one.
    pub(super) fn make_next(&self, names: &Names, now: Timestamp) -> Result<Made, PairFault> {
        make_valid(names, self.life.start.max(after(now, -FOLLOWS)).min(after(now, -BACKDATED)), now)
    }

    /// Whether a client that trusts `authorities` (PEM) takes it at `now` for each of `names`.
    pub(super) fn trusted_by(&self, authorities: &str, names: &Names, now: Timestamp) -> Result<(), PairFault> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(bundle::certificates(authorities, now));
        let provider = Arc::new(tls::provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|fault| PairFault::Check(format!("no authority in the bundle is valid: {fault}")))?;
        let at = UnixTime::since_unix_epoch(seconds(now));
        let (leaf, chain) = self.key.cert.split_first().ok_or_else(|| PairFault::Check("empty chain".to_owned()))?;
        for name in &names.0 {
            let untrusted = |fault: String| PairFault::Untrusted { name: name.clone(), fault };
            let server = ServerName::try_from(name.as_str()).map_err(|fault| untrusted(fault.to_string()))?;
            verifier.verify_server_cert(leaf, chain, &server, &[], at).map_err(|fault| untrusted(fault.to_string()))?;
        }
        Ok(())
    }
}

fn facts(leaf: &CertificateDer<'_>) -> Result<(Vec<String>, Life), PairFault> {
    let unreadable = |fault: String| PairFault::Unreadable(format!("the certificate is not X.509: {fault}"));
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|fault| unreadable(fault.to_string()))?;
    let alternative = certificate.subject_alternative_name().map_err(|fault| unreadable(fault.to_string()))?;
    let names = alternative.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    });
    Ok((names.collect(), Life::of(&certificate)))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn pair(made: &Made) -> Pair {
        Pair::read(made.certificate.as_bytes(), made.key.as_bytes()).unwrap()
    }

    const NOW: &str = "2026-06-01T00:00:00Z";

    #[test]
    fn a_certificate_is_trusted_by_its_authority_for_its_names_and_its_time() {
        let names = Names::of_service("webhook", "sekuire");
        let made = make(&names, time(NOW)).unwrap();
        let read = pair(&made);
        assert_eq!(read.names(), ["webhook.sekuire.svc", "webhook.sekuire.svc.cluster.local"]);
        read.trusted_by(&made.authority, &names, time(NOW)).unwrap();
        read.trusted_by(&made.authority, &names, time("2026-05-31T23:01:00Z")).unwrap();
        read.trusted_by(&made.authority, &names, time("2026-08-29T23:59:00Z")).unwrap();

        let fault = |authority: &str, names: &Names, now: &str| {
            read.trusted_by(authority, names, time(now)).unwrap_err().to_string()
        };
        assert!(
            fault(&made.authority, &Names::of_service("other", "sekuire"), NOW)
                .starts_with("not valid for other.sekuire.svc")
        );
        assert!(
            fault(&made.authority, &names, "2026-05-31T22:00:00Z").starts_with("not valid for webhook.sekuire.svc")
        );
        assert!(fault(&made.authority, &names, "2026-09-01T00:00:00Z").contains("no authority"));
        let other = make(&names, time(NOW)).unwrap().authority;
        assert!(fault(&other, &names, NOW).starts_with("not valid for webhook.sekuire.svc"));
        assert!(fault("", &names, NOW).contains("no authority"));
    }

    #[test]
    fn a_certificate_for_the_host_of_a_url_is_for_a_name_or_an_address() {
        for (url, name) in [
            ("https://127.0.0.1:8443/x", "127.0.0.1"),
            ("https://[::1]:1", "::1"),
            ("https://Host.example:1", "host.example"),
        ] {
            let names = Names::of_url(&url.parse().unwrap()).unwrap();
            let made = make(&names, time(NOW)).unwrap();
            let read = pair(&made);
            assert_eq!(read.names(), [name]);
            read.trusted_by(&made.authority, &names, time(NOW)).unwrap();
        }
        assert_eq!(Names::of_url(&"data:x".parse().unwrap()), None);
    }

    #[test]
    fn one_that_follows_reaches_back_as_far_and_lives_as_long_as_any_other() {
        let names = Names::of_service("a", "b");
        let mut last = pair(&make(&names, time("2026-06-01T01:00:00Z")).unwrap());
        let start = last.life.start;
        for _ in 0..5 {
            let now = last.renew_at();
            let next = pair(&last.make_next(&names, now).unwrap());
            assert_eq!(next.renew_at(), now + SignedDuration::from_mins(60 * 24 * 60 - 20));
            assert_eq!((next.life.start, next.life.end), (start, now + LIFETIME));
            last = next;
        }
        // a clock that was ahead when the last one was made
        let next = pair(&last.make_next(&names, time("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(next.life.start, time("2025-12-31T23:00:00Z"));
        // and at most a year
        let next = pair(&last.make_next(&names, time("2036-01-01T00:00:00Z")).unwrap());
        assert_eq!(next.life.start, time("2036-01-01T00:00:00Z") - FOLLOWS);
    }

    /// A certificate with these times as ASN.1 has them (`YYYYMMDDHHMMSSZ`), whoever signed it.
    fn timed(from: &str, to: &str) -> Result<Pair, PairFault> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(["a".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2077, 1, 1), date_time_ymd(2088, 1, 1));
        let mut der = params.self_signed(&key).unwrap().der().to_vec();
        for (made, wanted) in [("20770101000000Z", from), ("20880101000000Z", to)] {
            let at = der.windows(made.len()).position(|window| window == made.as_bytes()).unwrap();
            der[at..at + made.len()].copy_from_slice(wanted.as_bytes());
        }
        let base64 = ByteString(der);
        let base64: String = serde_json::from_value(serde_json::to_value(base64).unwrap()).unwrap();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        assert!(bundle::merge([&*pem], Timestamp::MIN).len() <= pem.len());
        Pair::read(pem.as_bytes(), key.serialize_pem().as_bytes())
    }

    #[test]
    fn certificates_with_times_that_nobody_can_count_are_read_and_live_from_the_first_or_until_the_last_one() {
        const TIMES: [&str; 8] = [
            "00000101000000Z",
            "00010101000000Z",
            "19000101000000Z",
            "19691231235959Z",
            "20260601000000Z",
            "99991230220000Z",
            "99991230220001Z",
            "99991231235959Z",
        ];
        let names = Names::of_service("a", "b");
        for (from, to) in TIMES.iter().flat_map(|from| TIMES.map(|to| (*from, to))) {
            let pair = timed(from, to).unwrap_or_else(|fault| panic!("{from} to {to}: {fault}"));
            let year = |time: Timestamp| jiff::tz::Offset::UTC.to_datetime(time).year();
            assert_eq!(
                (year(pair.life().start), year(pair.not_after())),
                (from[..4].parse().unwrap(), to[..4].parse().unwrap())
            );
            let (renew, life) = (pair.renew_at(), pair.life());
            assert!(renew <= life.end.max(life.start), "{from} to {to}: {renew}");
            for now in [Timestamp::MIN, time(NOW), Timestamp::MAX] {
                // of no use, or not: but never a panic
                drop(pair.trusted_by("", &names, now));
            }
            assert!(pair.make_next(&names, time(NOW)).is_ok(), "{from} to {to}");
        }
        assert_eq!(timed("20260601000000Z", "99991231235959Z").unwrap().not_after(), Timestamp::MAX);
        assert!(timed("20260601000000Z", "99999999999999Z").is_err(), "no calendar has it");
    }

    #[test]
    fn it_is_due_at_two_thirds_of_its_life() {
        let made = make(&Names::of_service("a", "b"), time("2026-06-01T01:00:00Z")).unwrap();
        // 90 days and the hour before: two thirds are 60 days and 40 minutes after the start
        assert_eq!(pair(&made).renew_at(), time("2026-07-31T00:40:00Z"));
    }

    #[test]
    fn a_key_of_another_certificate_and_what_is_no_certificate_are_refused() {
        let names = Names::of_service("a", "b");
        let (one, two) = (make(&names, time(NOW)).unwrap(), make(&names, time(NOW)).unwrap());
        let fault =
            |certificate: &str, key: &str| Pair::read(certificate.as_bytes(), key.as_bytes()).unwrap_err().to_string();
        assert!(fault(&one.certificate, &two.key).starts_with("certificate and key do not belong together"));
        assert!(fault("", &one.key).starts_with("there is no certificate"));
        assert!(fault(&one.key, &one.key).starts_with("there is no certificate"));
        assert!(fault(&one.certificate, "rubbish").starts_with("the key is not a private key in PEM"));
        assert!(
            fault("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &one.key).contains("not X.509")
        );
    }

    #[test]
    fn names_of_another_certificate_are_added_within_bounds() {
        let names = Names::of_service("a", "b");
        let more: Vec<String> = (0..40).map(|n| format!("n{n}")).chain(["a.b.svc".to_owned()]).collect();
        let all = names.with(&more);
        assert_eq!(all.0.len(), MAX_NAMES);
        assert_eq!(all.0[..3], ["a.b.svc", "a.b.svc.cluster.local", "n0"]);
    }
}
