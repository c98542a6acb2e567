//! Keys and the ring of trusted keys.

use sekuire_policy::policy::{
    KeyFault, KeyRing, Pattern, PrivateKey, PrivateKeyFault, PublicKey, Revocation, TrustedKey,
};

use crate::support::{time, trusted_key};

/// 64 digits that are some point of the curve or none; only its length matters.
const HEX: &str = "3818fb60a81fb3e18b7f1cc0ee29e6e3e3b7f5c4f4d1b8f6b0f1c6f9e7f0e3a1";

fn key(id: &str, seed: u8) -> TrustedKey {
    let public_key = PrivateKey::from_seed(&[seed; 32]).public();
    TrustedKey { key_id: id.to_owned(), public_key, ..trusted_key() }
}

#[test]
fn a_public_key_is_read_in_each_of_its_forms() {
    let key = PrivateKey::from_seed(&[3; 32]).public();
    assert_eq!(PublicKey::parse(&key.to_hex()).unwrap(), key);
    assert_eq!(PublicKey::parse(&key.to_hex().to_uppercase()).unwrap(), key);
    assert_eq!(PublicKey::parse(&key.to_pem()).unwrap(), key);
    assert_eq!(PublicKey::parse(&format!("\n{}\n", key.to_pem().replace('\n', "\r\n"))).unwrap(), key);
    let openssh = openssh_line(&key.to_bytes());
    assert_eq!(PublicKey::parse(&openssh).unwrap(), key);
    assert_eq!(PublicKey::parse(&format!("{openssh} alice@example.com")).unwrap(), key);
    assert!(key.key_id().starts_with("key_") && key.key_id().len() == 20);
}

fn openssh_line(key: &[u8; 32]) -> String {
    let mut blob = Vec::new();
    for part in [&b"ssh-ed25519"[..], key] {
        blob.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
        blob.extend_from_slice(part);
    }
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in blob.chunks(3) {
        let n = chunk.iter().fold(0_usize, |n, b| n << 8 | usize::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            text.push(if i <= chunk.len() { char::from(DIGITS[n >> (18 - 6 * i) & 63]) } else { '=' });
        }
    }
    format!("ssh-ed25519 {text}")
}

#[test]
fn what_is_no_public_key_is_refused_with_what_would_be_accepted() {
    let pem = PrivateKey::from_seed(&[3; 32]).public().to_pem();
    for text in [
        "",
        "key",
        &HEX[..62],
        &format!("{HEX}00"),
        &pem.replace("PUBLIC KEY", "CERTIFICATE"),
        &pem[..pem.len() / 2],
        "ssh-ed25519 AAAA",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== x",
        &PrivateKey::from_seed(&[3; 32]).to_pkcs8_pem(),
        // No point of the curve.
        &"02".repeat(32),
        // y = p + 3: a second spelling of a point.
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let fault = PublicKey::parse(text).unwrap_err();
        assert_eq!(fault.reason(), "MalformedKey", "{text}: {fault}");
    }
    assert!(PublicKey::parse("x").unwrap_err().to_string().contains("64 hex digits"));
}

#[test]
fn a_key_of_small_order_is_weak() {
    for hex in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ] {
        assert_eq!(PublicKey::parse(hex), Err(KeyFault::Weak), "{hex}");
    }
}

#[test]
fn two_keys_of_one_id_are_both_refused_and_no_other() {
    let ring = KeyRing::new([key("a", 1), key("a", 2), key("b", 3)]);
    assert!(ring.get("a").is_none() && ring.is_duplicate("a"));
    assert!(ring.get("b").is_some() && !ring.is_duplicate("b") && !ring.is_duplicate("c"));
    assert_eq!(ring.len(), 1);
    let ring = KeyRing::new([key("a", 1), key("a", 1)]);
    assert!(ring.get("a").is_none(), "not even when they are equal");
    let ring = KeyRing::new([key("a", 1), key("b", 2)]).with_unusable("a".to_owned(), KeyFault::Weak);
    assert!(ring.get("a").is_none() && ring.is_duplicate("a") && ring.get("b").is_some());
    let ring = KeyRing::default().with_unusable("w".to_owned(), KeyFault::Weak);
    assert_eq!(ring.unusable("w"), Some(&KeyFault::Weak));
    assert!(ring.is_empty());
}

#[test]
fn a_public_key_that_is_revoked_anywhere_is_revoked_everywhere() {
    let revoked = TrustedKey { revoked: Some(Revocation::default()), ..key("old", 1) };
    for keys in [[revoked.clone(), key("new", 1), key("other", 2)], [key("other", 2), key("new", 1), revoked.clone()]] {
        let ring = KeyRing::new(keys);
        assert!(ring.get("new").unwrap().revoked.is_some());
        assert!(ring.get("other").unwrap().revoked.is_none());
    }
    let clash = KeyRing::new([revoked, key("old", 2), key("new", 1)]);
    assert!(clash.get("new").unwrap().revoked.is_some(), "also where the revoked one's id clashes");
}

#[test]
fn the_fingerprint_changes_with_everything_that_is_looked_at_and_with_nothing_else() {
    let base = || vec![key("a", 1), key("b", 2)];
    let print = |keys: Vec<TrustedKey>| KeyRing::new(keys).fingerprint().to_owned();
    let mut prints = vec![print(base())];
    assert_eq!(print(base().into_iter().rev().collect()), prints[0]);
    let changed = |change: fn(&mut TrustedKey)| {
        let mut keys = base();
        change(&mut keys[0]);
        print(keys)
    };
    prints.push(changed(|k| k.key_id = "c".to_owned()));
    prints.push(changed(|k| k.key_id = "b".to_owned()));
    prints.push(changed(|k| k.public_key = PrivateKey::from_seed(&[9; 32]).public()));
    prints.push(changed(|k| k.workspaces = vec![]));
    prints.push(changed(|k| k.workspaces.push(Pattern::new("x"))));
    prints.push(changed(|k| k.not_before = Some(time("2026-01-01T00:00:00Z"))));
    prints.push(changed(|k| k.not_after = Some(time("2026-01-01T00:00:00Z"))));
    prints.push(changed(|k| k.revoked = Some(Revocation::default())));
    prints.push(KeyRing::new(base()).with_unusable("c".to_owned(), KeyFault::Weak).fingerprint().to_owned());
    prints.push(print(vec![]));
    let count = prints.len();
    prints.sort();
    prints.dedup();
    assert_eq!(prints.len(), count);
    assert!(prints.iter().all(|p| p.len() == 64));
}

#[test]
fn a_private_key_is_read_in_each_of_its_forms() {
    let key = PrivateKey::from_seed(&[3; 32]);
    let same = |text: &str| PrivateKey::parse(text, None).unwrap().public() == key.public();
    assert!(same(&key.to_pkcs8_pem()));
    assert!(same(&"03".repeat(32)));
    assert!(same(&format!("{}{}", "03".repeat(32), key.public().to_hex())));
    // The form that `openssl genpkey -algorithm ed25519` writes: no public key inside.
    let openssl = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEIAMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD\n\
                   -----END PRIVATE KEY-----\n";
    assert!(same(openssl));
}

/// Keys that ssh-keygen and Python's cryptography wrote, the latter in shorter lines.
#[test]
fn an_openssh_private_key_is_read_however_its_lines_are_cut() {
    let ssh_keygen = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
        b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n\
        QyNTUxOQAAACCNVmQAKGr//5B8+lkQQthZGQAbL/7WC4BJ3gBOpZNGngAAAIi7RnFLu0Zx\n\
        SwAAAAtzc2gtZWQyNTUxOQAAACCNVmQAKGr//5B8+lkQQthZGQAbL/7WC4BJ3gBOpZNGng\n\
        AAAECB4IBsbqg7FfTXMr/lrlSi8C/zWwVtmTHwoGzBcpl5SY1WZAAoav//kHz6WRBC2FkZ\n\
        ABsv/tYLgEneAE6lk0aeAAAAA2EgYgEC\n\
        -----END OPENSSH PRIVATE KEY-----\n";
    let public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAII1WZAAoav//kHz6WRBC2FkZABsv/tYLgEneAE6lk0ae a b";
    assert_eq!(PrivateKey::parse(ssh_keygen, None).unwrap().public(), PublicKey::parse(public).unwrap());
    let windows = ssh_keygen.replace('\n', "\r\n");
    assert_eq!(PrivateKey::parse(&windows, None).unwrap().public(), PublicKey::parse(public).unwrap());
    let other = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
        b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtz\n\
        c2gtZWQyNTUxOQAAACAahzE6QN/h9YXZBSSwlqyqs2V3S44b7X6fjC9FdPDvmQAA\n\
        AIgKTzyOCk88jgAAAAtzc2gtZWQyNTUxOQAAACAahzE6QN/h9YXZBSSwlqyqs2V3\n\
        S44b7X6fjC9FdPDvmQAAAEANAaVPVfY5O7kyEl7RdYQJ0GIO/G70bu6QP+yztP14\n\
        ExqHMTpA3+H1hdkFJLCWrKqzZXdLjhvtfp+ML0V08O+ZAAAAAAECAwQF\n\
        -----END OPENSSH PRIVATE KEY-----\n";
    assert!(PrivateKey::parse(other, None).is_ok());
}

#[test]
fn what_is_no_private_key_is_refused_without_being_shown() {
    let secret = "03".repeat(31);
    for text in [
        "",
        &secret,
        &format!("{}{}", "03".repeat(32), "04".repeat(32)),
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAMD\n-----END PRIVATE KEY-----\n",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAMD\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----\n",
        &PrivateKey::from_seed(&[3; 32]).public().to_pem(),
    ] {
        let fault = PrivateKey::parse(text, None).unwrap_err();
        assert!(matches!(fault, PrivateKeyFault::Malformed(_)), "{fault}");
        assert!(text.is_empty() || !fault.to_string().contains(text), "{fault}");
    }
    assert!(!format!("{:?}", PrivateKey::from_seed(&[3; 32])).contains('3'));
}
