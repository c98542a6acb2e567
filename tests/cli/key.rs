//! `sekuire key`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::support::{Desk, JSON};
use crate::cluster::skip::skip;

#[test]
fn a_generated_key_is_for_its_owner_alone_and_its_manifest_is_trusted() {
    let desk = Desk::new();
    let (pem, yaml) = (desk.private_key(), format!("keys/{}.yaml", desk.key_id));
    assert_eq!(fs::metadata(desk.path(&pem)).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(desk.read(&pem).starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let manifest: serde_json::Value = serde_yaml::from_str(&desk.read(&yaml)).unwrap();
    assert_eq!(manifest["kind"], "SigningKey");
    assert_eq!(manifest["metadata"]["name"], desk.key_id.replace('_', "-"));
    assert_eq!(manifest["spec"]["keyId"], desk.key_id);
    assert_eq!(manifest["spec"]["workspaces"], serde_json::json!(["*"]));
    desk.write("p.json", JSON);
    assert_eq!(desk.sign(&["p.json"]).code, 0);
    assert_eq!(desk.results(&["p.json"]), ["Verified"]);
}

#[test]
fn a_key_without_workspaces_has_to_be_completed() {
    let desk = Desk::new();
    let ended = desk.run(&["key", "generate", "--out", "other"]);
    assert_eq!(ended.code, 0);
    assert!(ended.out.contains("name the workspaces that it may sign for"), "{}", ended.out);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let desk = Desk::new();
    desk.write("file", "");
    let ended = desk.run(&["key", "generate", "--out", "file/keys"]);
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("cannot create file/keys"), "{}", ended.err);
}

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    let desk = Desk::new();
    for arguments in [&["key"][..], &["no-such"], &["policy", "validate"], &["key", "generate", "--no-such"], &[]] {
        assert_eq!(desk.run(arguments).code, 2, "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["policy", "sign", "--help"]] {
        assert_eq!(desk.run(arguments).code, 0, "{arguments:?}");
    }
}

#[test]
fn an_encrypted_key_signs_with_its_passphrase_alone() {
    let desk = Desk::new();
    desk.write("secret", "correct horse\n");
    let made = desk.run(&["key", "generate", "--out", "enc", "--passphrase-file", "secret"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let key = format!("enc/{}.pem", made.out.lines().next().unwrap());
    assert!(desk.read(&key).starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    desk.write("p.json", JSON);
    let sign = ["policy", "sign", "p.json", "--key", &key];

    let without = desk.run(&sign);
    assert_eq!(without.code, 3);
    assert!(
        without.err.contains(&format!("{key} is encrypted")) && without.err.contains("--passphrase-file"),
        "{}",
        without.err
    );
    desk.write("wrong", "battery staple");
    let wrong = desk.run(&[&sign[..], &["--passphrase-file", "wrong"]].concat());
    assert_eq!((wrong.code, wrong.err.contains("the passphrase is wrong")), (3, true), "{}", wrong.err);
    assert_eq!(desk.read("p.json"), JSON);
    let right = desk.run(&[&sign[..], &["--passphrase-file", "secret"]].concat());
    assert_eq!(right.code, 0, "{}", right.err);
    let by_environment = desk.run_with(&[("SEKUIRE_KEY_PASSPHRASE", "correct horse")], &sign);
    assert_eq!(by_environment.code, 0, "{}", by_environment.err);

    let empty = desk.run_with(&[("SEKUIRE_KEY_PASSPHRASE", "")], &["key", "generate", "--passphrase", "--out", "none"]);
    assert_eq!(empty.code, 3, "no terminal to ask on: {}", empty.err);
    assert!(!desk.path("none").exists());
}

/// Runs a program of the system in the desk's folder, without anybody to ask.
fn system(desk: &Desk, program: &str, arguments: &[&str]) {
    let mut command = std::process::Command::new(program);
    command.args(arguments).current_dir(desk.path("")).stdin(std::process::Stdio::null());
    let output = command.output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn missing(program: &str) -> bool {
    std::process::Command::new(program).arg("--help").output().is_err()
}

#[test]
fn keys_of_openssl_and_of_ssh_keygen_sign_encrypted_or_not() {
    if let Some(program) = ["openssl", "ssh-keygen"].into_iter().find(|program| missing(program)) {
        skip!(format!("needs {program}"));
    }
    let desk = Desk::new();
    system(&desk, "openssl", &["genpkey", "-algorithm", "ed25519", "-out", "plain.pem"]);
    for (name, cipher) in [("pbkdf2.pem", &["-v2", "aes-256-cbc"][..]), ("scrypt.pem", &["-scrypt"])] {
        let to = ["pkcs8", "-topk8", "-in", "plain.pem", "-out", name, "-passout", "pass:secret"];
        system(&desk, "openssl", &[&to[..], cipher].concat());
    }
    desk.write("secret", "secret");
    let made = desk.run(&["key", "generate", "--out", "ours", "--passphrase-file", "secret"]);
    let ours = format!("ours/{}.pem", made.out.lines().next().unwrap());
    system(&desk, "openssl", &["pkey", "-in", &ours, "-passin", "pass:secret", "-noout"]);
    system(&desk, "openssl", &["pkey", "-in", &desk.private_key(), "-noout"]);
    system(&desk, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "ssh", "-C", "a comment"]);
    system(&desk, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "secret", "-f", "ssh-encrypted"]);
    for key in ["plain.pem", "pbkdf2.pem", "scrypt.pem", "ssh", "ssh-encrypted"] {
        desk.write("p.json", JSON);
        let secret = [("SEKUIRE_KEY_PASSPHRASE", "secret")];
        let signed = desk.run_with(&secret, &["policy", "sign", "p.json", "--key", key]);
        assert_eq!(signed.code, 0, "{key}: {}", signed.err);
        let manifest = desk.run_with(&secret, &["key", "manifest", key, "--workspace", "ws_*"]);
        assert_eq!(manifest.code, 0, "{key}: {}", manifest.err);
        desk.write("trusted.yaml", &manifest.out);
        let judged = desk.run(&["policy", "validate", "--file", "p.json", "--trust", "trusted.yaml"]);
        assert_eq!(judged.code, 0, "{key}: {}", judged.out);
    }
    // a public key is trust enough
    desk.write("p.json", JSON);
    assert_eq!(desk.run(&["policy", "sign", "p.json", "--key", "ssh"]).code, 0);
    assert_eq!(desk.run(&["policy", "validate", "--file", "p.json", "--trust", "ssh.pub"]).code, 0);
    system(&desk, "ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", "other"]);
    let other = desk.run(&["policy", "sign", "p.json", "--key", "other"]);
    assert_eq!((other.code, other.err.contains("type ed25519")), (3, true), "{}", other.err);
}

#[test]
fn show_and_manifest_say_what_a_key_is_and_nothing_of_its_secret() {
    let desk = Desk::new();
    let seed = "07".repeat(32);
    desk.write("vendor.key", &seed);
    let yaml = format!("keys/{}.yaml", desk.key_id);
    let shown = desk.run(&["key", "show", &desk.private_key(), &yaml, "vendor.key", "-o", "json"]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    let list: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!((list[0]["kind"].as_str(), list[1]["kind"].as_str()), (Some("private"), Some("SigningKey")));
    assert_eq!((&list[0]["keyId"], &list[0]["publicKey"]), (&list[1]["keyId"], &list[1]["publicKey"]));
    assert_eq!(list[0]["keyId"], desk.key_id);
    assert!(!shown.out.contains(&seed));
    let manifest = desk.run(&[
        "key",
        "manifest",
        "vendor.key",
        "--workspace",
        "ws_a",
        "--key-id",
        "release",
        "--not-after",
        "2030-01-01T00:00:00Z",
    ]);
    let manifest: serde_json::Value = serde_yaml::from_str(&manifest.out).unwrap();
    assert_eq!(manifest["spec"]["keyId"], "release");
    assert_eq!(manifest["spec"]["notAfter"], "2030-01-01T00:00:00Z");
    assert!(!manifest.to_string().contains(&seed));

    // taken for a private key, it would be one that everybody has
    desk.write("bare.hex", list[2]["publicKey"].as_str().unwrap());
    desk.write("no.pem", "hello");
    for (file, said) in [
        ("no.pem", "not a private key"),
        ("none.pem", "cannot read none.pem"),
        ("keys", "folder"),
        ("bare.hex", "call it bare.hex.pub if it is public"),
    ] {
        let ended = desk.run(&["key", "manifest", file]);
        assert_eq!((ended.code, ended.err.contains(said)), (3, true), "{file}: {}", ended.err);
    }
}

#[test]
fn a_program_signs_in_place_of_a_key_file_and_what_is_no_signature_is_refused() {
    if missing("openssl") {
        skip!("needs openssl");
    }
    let desk = Desk::new();
    system(&desk, "openssl", &["genpkey", "-algorithm", "ed25519", "-out", "kms.pem"]);
    system(&desk, "openssl", &["pkey", "-in", "kms.pem", "-pubout", "-out", "kms.pub"]);
    desk.write(
        "kms.sh",
        "set -e\nf=$(mktemp)\ntrap 'rm -f $f' EXIT\ncat > $f\nopenssl pkeyutl -sign -inkey kms.pem -rawin -in $f\n",
    );
    let sign = |signer: &str| {
        desk.write("p.json", JSON);
        desk.run(&["policy", "sign", "p.json", "--public-key", "kms.pub", "--signer", signer])
    };
    let signed = sign("sh kms.sh");
    assert_eq!(signed.code, 0, "{}", signed.err);
    assert_eq!(desk.run(&["policy", "validate", "--file", "p.json", "--trust", "kms.pub"]).code, 0);
    for (signer, said) in [
        ("exit 7", "exit status: 7"),
        ("cat > /dev/null; echo hello", "wrote 6 bytes; expected the 64"),
        ("head -c 64 /dev/zero", "the signature is not one of the key"),
        ("no-such-program", "exit status: 127"),
        ("cat > /dev/null; sleep 15 &", "its output stayed open"),
    ] {
        let ended = sign(signer);
        assert_eq!((ended.code, ended.err.contains(said)), (3, true), "{signer}: {}", ended.err);
        assert_eq!(desk.read("p.json"), JSON);
    }
    assert_eq!(desk.run(&["policy", "sign", "p.json", "--signer", "true"]).code, 2);
    assert_eq!(desk.run(&["policy", "sign", "p.json"]).code, 2);
}
