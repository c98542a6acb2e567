//! Keys as other programs write them: several in a file, lists, PEM of any width with text around it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::support::{Desk, JSON};
use crate::cluster::skip::skip;

/// A desk with two keys of ssh-keygen: `a`, `a.pub`, `b`, `b.pub`. None where there is no ssh-keygen.
fn desk() -> Option<Desk> {
    let desk = Desk::new();
    for name in ["a", "b"] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name])
            .current_dir(desk.path(""))
            .output();
        made.ok().filter(|made| made.status.success())?;
    }
    desk.write("p.json", JSON);
    assert_eq!(desk.run(&["policy", "sign", "p.json", "--key", "b"]).code, 0);
    Some(desk)
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn every_public_key_of_a_file_counts_or_the_file_is_refused_by_line() {
    let Some(desk) = desk() else { skip!("ssh-keygen is not there") };
    let (a, b) = (desk.read("a.pub"), desk.read("b.pub"));
    let hex = |key: &str| {
        let ended = desk.run(&["key", "show", key, "--output", "json"]);
        let shown: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        shown[0]["publicKey"].as_str().unwrap().to_owned()
    };
    let pem = |key: &str| {
        let manifest: serde_json::Value =
            serde_yaml::from_str(&desk.run(&["key", "manifest", key, "--workspace", "*"]).out).unwrap();
        manifest["spec"]["publicKey"].as_str().unwrap().to_owned()
    };
    for (what, text) in [
        ("two lines", format!("{a}{b}")),
        ("comments, blanks, CRLF", format!("# team\r\n\r\n{}\r\n  {}\r\n", a.trim(), b.trim())),
        ("hex", format!("{}\n{}\n", hex("a.pub"), hex("b.pub"))),
        ("a line and hex", format!("{a}{}\n", hex("b.pub"))),
        ("PEM", format!("{}{}", pem("a.pub"), pem("b.pub"))),
        ("PEM and prose", format!("of alice:\n{}\nof bob:\n{}", pem("a.pub"), pem("b.pub"))),
        ("PEM and a line", format!("{}{b}", pem("a.pub"))),
        ("PEM in lines of 20", format!("{a}{}", pem("b.pub").replace("MCowBQYDK2VwAyEA", "MCowBQYD\nK2VwAyEA\n"))),
    ] {
        desk.write("team.pub", &text);
        let shown = desk.run(&["key", "show", "team.pub"]);
        assert_eq!((shown.code, shown.out.lines().count()), (0, 3), "{what}: {}{}", shown.out, shown.err);
        let valid = desk.run(&["policy", "validate", "p.json", "--trust", "team.pub"]);
        assert_eq!(valid.code, 0, "{what}: {}{}", valid.out, valid.err);
        let manifests = desk.run(&["key", "manifest", "team.pub", "--workspace", "*"]);
        assert_eq!(manifests.out.matches("kind: SigningKey").count(), 2, "{what}: {}", manifests.out);
        desk.write("team.yaml", &manifests.out);
        assert_eq!(desk.run(&["policy", "validate", "p.json", "--trust", "team.yaml"]).code, 0, "{what}");
    }
    let id = desk.run(&["key", "manifest", "team.pub", "--workspace", "*", "--key-id", "one"]);
    assert_eq!((id.code, id.err.contains("holds 2 keys")), (2, true), "{}", id.err);
    let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 carol\n";
    for (what, text, said) in [
        ("another kind", format!("{a}{rsa}{b}"), "line 2: "),
        ("a word", format!("{a}and of bob:\n{b}"), "line 2: "),
        ("cut off", format!("{a}{}", &b[..40]), "line 2: "),
        (
            "PEM of another kind",
            format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", pem("a.pub")),
            "a block CERTIFICATE: ",
        ),
    ] {
        desk.write("team.pub", &text);
        for arguments in [&["key", "show", "team.pub"][..], &["policy", "validate", "p.json", "--trust", "team.pub"]] {
            let ended = desk.run(arguments);
            assert_eq!((ended.code, ended.err.contains(said)), (3, true), "{what}: {}{}", ended.out, ended.err);
        }
    }
    // one key is one key where one is meant
    let mut manifest: serde_json::Value =
        serde_yaml::from_str(&desk.run(&["key", "manifest", "a.pub", "--workspace", "*"]).out).unwrap();
    for two in [format!("{a}{b}"), pem("a.pub") + &pem("b.pub")] {
        manifest["spec"]["publicKey"] = two.into();
        desk.write("two.yaml", &manifest.to_string());
        let ended = desk.run(&["policy", "validate", "p.json", "--trust", "two.yaml"]);
        assert!(ended.code != 0 && ended.err.contains("cannot be used"), "{}{}", ended.out, ended.err);
    }
}

#[test]
fn manifests_of_trust_are_taken_as_kubectl_prints_them() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    assert_eq!(desk.sign(&["p.json"]).code, 0);
    let key: serde_json::Value = serde_yaml::from_str(&desk.read(&format!("keys/{}.yaml", desk.key_id))).unwrap();
    let mut of_cluster = key.clone();
    of_cluster["metadata"]["managedFields"] =
        serde_json::json!([{"manager": "kubectl", "fieldsV1": {"f:spec": {}}, "time": "9999-12-31T23:59:59Z"}]);
    of_cluster["metadata"]["resourceVersion"] = "7".into();
    of_cluster["status"] = serde_json::json!({"conditions": []});
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [of_cluster]});
    for text in [
        list.to_string(),
        serde_yaml::to_string(&list).unwrap(),
        format!("\u{FEFF}{key}\n{key}"),
        format!("---\n---\n{key}\n---\nnull\n"),
    ] {
        desk.write("keys.yaml", &text);
        let ended = desk.run(&["policy", "validate", "p.json", "--trust", "keys.yaml"]);
        // the same key twice is refused as two of one id, which says that both were read
        let twice = text.matches("keyId").count() > 1;
        assert_eq!(ended.code, i32::from(twice), "{text}: {}{}", ended.out, ended.err);
    }
    for (place, value, said) in [
        ("/spec/workspacess", serde_json::json!(["*"]), "spec.workspacess: unknown member; did you mean workspaces?"),
        ("/workspaces", serde_json::json!(["*"]), "workspaces: unknown member"),
        ("/spec/keyId", serde_json::json!(7), "spec.keyId: found 7, expected a text; put it in quotes"),
        ("/spec/workspaces", serde_json::json!([]), "spec.workspaces: 0 items"),
        ("/kind", serde_json::json!("SigningKeys"), "expected only SigningKey and SigningThreshold"),
        ("/metadata", serde_json::json!({}), "without metadata.name"),
    ] {
        let mut spoilt = key.clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        spoilt.pointer_mut(parent).unwrap()[name] = value;
        desk.write("keys.yaml", &spoilt.to_string());
        let ended = desk.run(&["policy", "validate", "p.json", "--trust", "keys.yaml"]);
        assert_eq!((ended.code, ended.err.contains(said)), (3, true), "{place}: {}{}", ended.out, ended.err);
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn private_keys_are_read_in_each_form_that_openssl_reads() {
    let desk = Desk::new();
    let openssl = |args: &[&str]| {
        Command::new("openssl").args(args).current_dir(desk.path("")).output().ok().filter(|it| it.status.success())
    };
    if openssl(&["genpkey", "-algorithm", "ed25519", "-out", "plain.pem"]).is_none() {
        skip!("openssl is not there");
    }
    openssl(&[
        "pkcs8",
        "-topk8",
        "-in",
        "plain.pem",
        "-out",
        "enc.pem",
        "-v2",
        "aes-256-cbc",
        "-passout",
        "pass:words",
    ])
    .unwrap();
    openssl(&["pkey", "-in", "plain.pem", "-pubout", "-out", "public.pem"]).unwrap();
    openssl(&["req", "-x509", "-key", "plain.pem", "-subj", "/CN=x", "-out", "cert.pem"]).unwrap();
    let rewrapped = |pem: &str, width: usize| {
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let lines: Vec<&str> = body.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let (first, last) = (pem.lines().next().unwrap(), pem.trim_end().lines().last().unwrap());
        format!("{first}\n{}\n{last}\n", lines.join("\n"))
    };
    let (plain, encrypted, public, certificate) =
        (desk.read("plain.pem"), desk.read("enc.pem"), desk.read("public.pem"), desk.read("cert.pem"));
    let mut forms = Vec::new();
    for pem in [&plain, &encrypted] {
        for width in [1, 20, 63, 65, 76, 100_000] {
            forms.push(rewrapped(pem, width));
        }
        forms.push(format!("Bag Attributes\n    localKeyID: 01\nKey Attributes: <No Attributes>\n{pem}"));
        forms.push(format!("{certificate}{pem}"));
        forms.push(format!("{pem}{certificate}{public}"));
        forms.push(pem.replace('\n', "\r\n"));
        forms.push(format!("\n\n  {}", pem.trim_end()));
    }
    let shown = |text: &str| {
        desk.write("key.pem", text);
        std::fs::set_permissions(desk.path("key.pem"), Permissions::from_mode(0o600)).unwrap();
        desk.run_with(&[("SEKUIRE_KEY_PASSPHRASE", "words")], &["key", "show", "key.pem", "-o", "json"])
    };
    let expected = serde_json::from_str::<serde_json::Value>(&shown(&plain).out).unwrap()[0]["publicKey"].clone();
    for form in forms {
        let ended = shown(&form);
        assert_eq!(ended.code, 0, "{form}: {}", ended.err);
        let found: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!((&found[0]["publicKey"], &found[0]["kind"]), (&expected, &"private".into()), "{form}");
    }
    for (text, said) in [
        (format!("{plain}{plain}"), "several private keys; expected one"),
        (plain[..plain.len() - 40].to_owned(), "PEM that breaks off"),
        (certificate, "a block CERTIFICATE"),
        (plain.replace("MC4C", "MC5C"), "not the PKCS#8 PEM of an Ed25519 key"),
    ] {
        let ended = shown(&text);
        assert_eq!((ended.code, ended.err.contains(said)), (3, true), "{said}: {}{}", ended.out, ended.err);
    }
    desk.write("public-with-words.pem", &format!("the key of the release team\n{public}"));
    assert_eq!(desk.run(&["key", "show", "public-with-words.pem"]).code, 0);
}
