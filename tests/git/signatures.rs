//! Signatures of commits and tags, made by the real `git` with the real `ssh-keygen` and `gpg`.

use jiff::{SignedDuration, Timestamp};
use sekuire_policy::git::{Limits, Reference, SignatureKeys, Signed, SignedObject, Snapshot};

use super::signing::{Config, Gpg, SshKey, no_gpg};
use super::support::{Fixture, Repository, refused};
use crate::cluster::skip::skip;

fn configure(repository: &Repository, config: &Config) {
    for (name, value) in config {
        repository.git(&["config", name, value]);
    }
}

/// Commits a document, signed as the repository is configured.
fn commit(repository: &Repository) {
    repository.git(&["commit", "-q", "--allow-empty", "-S", "-m", "a change\n\nof a policy"]);
}

async fn snapshot(fixture: &Fixture, repository: &Repository, reference: Reference, signed: Signed) -> Snapshot {
    let mut request = repository.request();
    request.reference = reference;
    request.signed = Some(signed);
    let online = fixture.git.snapshot(&request).await.unwrap();
    request.offline = true;
    assert_eq!(fixture.git.snapshot(&request).await.unwrap(), online, "without network");
    online
}

async fn tip(fixture: &Fixture, repository: &Repository) -> SignedObject {
    snapshot(fixture, repository, Reference::Default, Signed::Commit).await.signed.unwrap()
}

/// Who signed an object, now.
fn signer(member: &str, keys: &str, object: &SignedObject) -> Result<String, String> {
    signer_at(member, keys, object, Timestamp::now())
}

fn signer_at(member: &str, keys: &str, object: &SignedObject, now: Timestamp) -> Result<String, String> {
    SignatureKeys::read([(member, keys.as_bytes())]).unwrap().signer(object, "main", now)
}

#[track_caller]
fn refuses(outcome: Result<String, String>, says: &str) {
    let fault = outcome.unwrap_err();
    assert!(fault.contains(says), "{fault}");
}

#[tokio::test]
async fn an_ssh_signature_names_the_principal_or_the_comment_with_the_fingerprint() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    for kind in [
        ["-t", "ed25519", "-b", "256"],
        ["-t", "ecdsa", "-b", "256"],
        ["-t", "ecdsa", "-b", "384"],
        ["-t", "ecdsa", "-b", "521"],
        ["-t", "rsa", "-b", "2048"],
    ] {
        let key = SshKey::new(&kind);
        configure(&repository, &key.config());
        commit(&repository);
        let object = tip(&fixture, &repository).await;
        let allowed = key.allowed("alice@example.com", "namespaces=\"git\"");
        let by = signer("allowed_signers", &allowed, &object).unwrap();
        assert_eq!(by, format!("alice@example.com ({})", key.fingerprint()), "{kind:?}");
        assert_eq!(signer("a.pub", &key.public, &object).unwrap(), format!("of a test ({})", key.fingerprint()));
    }
}

#[tokio::test]
async fn a_commit_that_no_key_signed_is_refused() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let (key, other) = (SshKey::new(&["-t", "ed25519"]), SshKey::new(&["-t", "ed25519"]));
    repository.commit_file("policies/a.json", "{}");
    refuses(signer("a.pub", &key.public, &tip(&fixture, &repository).await), "is not signed");
    configure(&repository, &other.config());
    commit(&repository);
    let object = tip(&fixture, &repository).await;
    refuses(signer("a.pub", &key.public, &object), &format!("{}, which is none of the keys", other.fingerprint()));

    // of another commit, with the signature of the first one
    let signed = object.content.clone();
    let altered = String::from_utf8(signed).unwrap().replace("of a policy", "of no policy");
    let altered = SignedObject { content: altered.into_bytes(), ..object };
    refuses(signer("a.pub", &other.public, &altered), "did not make of it for Git");
}

#[tokio::test]
async fn the_options_of_an_allowed_signer_count_by_the_present() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let key = SshKey::new(&["-t", "ed25519"]);
    configure(&repository, &key.config());
    commit(&repository);
    let object = tip(&fixture, &repository).await;
    let at = |options: &str, now: &str| {
        signer_at("allowed_signers", &key.allowed("a", options), &object, now.parse::<Timestamp>().unwrap())
    };
    let year = "valid-after=\"20260101Z\",valid-before=\"20270101Z\"";
    assert!(at(year, "2026-06-01T00:00:00Z").is_ok());
    refuses(at(year, "2025-12-31T23:59:59Z"), "of a, which is not valid before 2026-01-01T00:00:00Z");
    refuses(at(year, "2027-01-01T00:00:01Z"), "of a, which was valid until 2027-01-01T00:00:00Z");
    refuses(at("namespaces=\"file\"", "2026-06-01T00:00:00Z"), "which is not for the namespace git");
    // one line of several that fits is enough
    let both = key.allowed("a", "namespaces=\"file\"") + &key.allowed("b", "");
    assert!(signer("allowed_signers", &both, &object).unwrap().starts_with("b ("));
}

#[tokio::test]
async fn a_tag_counts_if_it_is_annotated_signed_and_of_that_name() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let key = SshKey::new(&["-t", "ed25519"]);
    configure(&repository, &key.config());
    let commit = repository.commit_file("policies/a.json", "{}");
    repository.git(&["tag", "-s", "-m", "good", "v1.0.0"]);
    repository.git(&["tag", "light"]);
    repository.git(&["tag", "-a", "-m", "unsigned", "plain"]);
    let object = repository.git(&["rev-parse", "v1.0.0"]);
    repository.git(&["update-ref", "refs/tags/v9.0.0", &object]);
    let keys = SignatureKeys::read([("a.pub", key.public.as_bytes())]).unwrap();
    let read = async |reference| {
        let snapshot = snapshot(&fixture, &repository, reference, Signed::Tag).await;
        assert_eq!(snapshot.tip, commit);
        snapshot.signed.map(|object| keys.signer(&object, &snapshot.reference, Timestamp::now()))
    };
    let good = read(Reference::Tag("v1.0.0".into())).await.unwrap();
    assert_eq!(good.unwrap(), format!("of a test ({})", key.fingerprint()));
    assert_eq!(read(Reference::Tag("light".into())).await, None);
    assert_eq!(read(Reference::Default).await, None);
    refuses(read(Reference::Tag("plain".into())).await.unwrap(), "is not signed");
    refuses(read(Reference::Semver("*".into())).await.unwrap(), "is the tag v1.0.0 under another name");
}

#[tokio::test]
async fn an_openpgp_signature_names_user_and_fingerprint() {
    if let Some(why) = no_gpg() {
        skip!(why);
    }
    let (fixture, gpg) = (Fixture::new(), Gpg::new());
    let repository = fixture.repository("a");
    let mut all = String::new();
    for (user, kind) in [("Alice <alice@example.com>", "ed25519"), ("Bob <bob@example.com>", "rsa3072")] {
        let key = gpg.key(user, kind, "sign", "never");
        all += &gpg.public(&key);
        configure(&repository, &gpg.config(&key, ""));
        commit(&repository);
        let object = tip(&fixture, &repository).await;
        assert_eq!(signer("team.asc", &all, &object).unwrap(), format!("{user} ({key})"));
    }
    // a subkey that signs, of a key that does not
    let key = gpg.key("Carol <carol@example.com>", "ed25519", "cert", "never");
    gpg.run(&["--passphrase", "", "--quick-add-key", &key, "ed25519", "sign", "never"]);
    let list = gpg.run(&["--list-keys", "--with-colons", &key]);
    let subkey = list.lines().filter_map(|line| line.strip_prefix("fpr:")).nth(1).unwrap().trim_matches(':').to_owned();
    configure(&repository, &gpg.config(&subkey, ""));
    commit(&repository);
    let object = tip(&fixture, &repository).await;
    let by = signer("team.asc", &gpg.public(&key), &object).unwrap();
    assert_eq!(by, format!("Carol <carol@example.com> ({key})"));
    refuses(signer("team.asc", &all, &object), &format!("the OpenPGP key {subkey}, which is none of the keys"));
}

#[tokio::test]
async fn text_around_blocks_is_passed_over_and_a_key_of_another_kind_is_named_and_spoils_no_other() {
    if let Some(why) = no_gpg() {
        skip!(why);
    }
    let (fixture, gpg) = (Fixture::new(), Gpg::new());
    let repository = fixture.repository("a");
    let alice = gpg.key("alice@example.com", "ed25519", "sign", "never");
    let mut all = format!("of alice:\n{}and of the others:\n", gpg.public(&alice));
    let mut signed = Vec::new();
    for (kind, said) in [
        ("brainpoolP256r1", "which is one on the curve brainpoolP256r1; accepted are Ed25519"),
        ("brainpoolP512r1", "which is one on the curve brainpoolP512r1; accepted are Ed25519"),
        ("dsa2048", "which is one of DSA; accepted are Ed25519"),
    ] {
        let key = gpg.key(&format!("{kind}@example.com"), kind, "sign", "never");
        all += &format!("{}and so on\n", gpg.public(&key));
        configure(&repository, &gpg.config(&key, ""));
        commit(&repository);
        signed.push((tip(&fixture, &repository).await, said));
    }
    for (object, said) in signed {
        refuses(signer("team.asc", &all, &object), said);
    }
    configure(&repository, &gpg.config(&alice, ""));
    commit(&repository);
    let by = signer("team.asc", &all, &tip(&fixture, &repository).await).unwrap();
    assert_eq!(by, format!("alice@example.com ({alice})"));
}

#[tokio::test]
async fn expired_and_revoked_openpgp_keys_and_weak_hashes_are_refused() {
    if let Some(why) = no_gpg() {
        skip!(why);
    }
    let (fixture, gpg) = (Fixture::new(), Gpg::new());
    let repository = fixture.repository("a");
    let brief = gpg.key("brief@example.com", "ed25519", "sign", "1d");
    configure(&repository, &gpg.config(&brief, ""));
    commit(&repository);
    let object = tip(&fixture, &repository).await;
    let public = gpg.public(&brief);
    assert!(signer("a.asc", &public, &object).is_ok());
    let later = Timestamp::now() + SignedDuration::from_hours(48);
    refuses(signer_at("a.asc", &public, &object, later), "which has expired");

    // made together with the key, so it is older than a later change of the expiry
    let lost = gpg.key("lost@example.com", "rsa3072", "sign", "1y");
    configure(&repository, &gpg.config(&lost, ""));
    commit(&repository);
    let object = tip(&fixture, &repository).await;
    gpg.run(&["--passphrase", "", "--quick-set-expire", &lost, "2y"]);
    assert!(signer("a.asc", &gpg.public(&lost), &object).is_ok());
    configure(&repository, &gpg.config(&lost, "--digest-algo SHA1"));
    commit(&repository);
    refuses(signer("a.asc", &gpg.public(&lost), &tip(&fixture, &repository).await), "over SHA1; accepted are SHA-256");
    gpg.revoke(&lost);
    refuses(signer("a.asc", &gpg.public(&lost), &object), "which is revoked");
}

#[tokio::test]
async fn no_byte_of_what_was_signed_may_differ_and_no_byte_of_a_signature_brings_anything_down() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let ssh = SshKey::new(&["-t", "ed25519"]);
    configure(&repository, &ssh.config());
    commit(&repository);
    let mut signed = vec![("a.pub", ssh.public.clone(), tip(&fixture, &repository).await)];
    let gpg = Gpg::new();
    if no_gpg().is_none() {
        let key = gpg.key("a@example.com", "ed25519", "sign", "never");
        configure(&repository, &gpg.config(&key, ""));
        commit(&repository);
        signed.push(("a.asc", gpg.public(&key), tip(&fixture, &repository).await));
    }
    for (member, public, object) in signed {
        let keys = SignatureKeys::read([(member, public.as_bytes())]).unwrap();
        let content = String::from_utf8(object.content.clone()).unwrap();
        let (start, end) = (content.find("gpgsig").unwrap(), content.find("\n\n").unwrap());
        assert!(keys.signer(&object, "", Timestamp::now()).is_ok());
        for at in 0..object.content.len() {
            for bit in [0x01, 0x20] {
                let mut altered = object.clone();
                altered.content[at] ^= bit;
                let outcome = keys.signer(&altered, "", Timestamp::now());
                assert!(outcome.is_err() || (start..=end).contains(&at), "{member}: byte {at} of {content}");
            }
            let mut cut = object.clone();
            cut.content.truncate(at);
            assert!(keys.signer(&cut, "", Timestamp::now()).is_err(), "{member}: cut at {at}");
        }
    }
}

#[tokio::test]
async fn a_commit_that_is_too_long_to_be_looked_at_is_refused() {
    let fixture = Fixture::with(Limits { file_bytes: 1000, ..Limits::default() });
    let repository = fixture.repository("a");
    repository.commit(&"x".repeat(1000));
    let mut request = repository.request();
    assert_eq!(fixture.git.snapshot(&request).await.unwrap().signed, None);
    request.signed = Some(Signed::Commit);
    refused(fixture.git.snapshot(&request).await, "LimitExceeded", "more than the accepted 1000");
}
