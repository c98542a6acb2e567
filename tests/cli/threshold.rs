//! `sekuire policy cosign` and `sekuire key rotate`: documents that several keys sign, and keys that take over.

use serde_json::Value;

use super::support::{Desk, Ended, JSON, YAML};

const TWO: &str = "apiVersion: sekuire.ai/v1alpha1
kind: SigningThreshold
metadata: {name: two}
spec: {workspaces: [ws_*], signatures: 2}
";

impl Desk {
    /// Makes another key, which is trusted too. Returns its id.
    fn another_key(&self) -> String {
        let ended = self.run(&["key", "generate", "--out", "keys", "--workspace", "*"]);
        ended.out.lines().next().unwrap().to_owned()
    }

    fn cosign(&self, key_id: &str, files: &[&str]) -> Ended {
        self.run(&[&["policy", "cosign", "--key", &format!("keys/{key_id}.pem")], files].concat())
    }

    fn rotate(&self, from: &str, to: &str, arguments: &[&str]) -> Ended {
        let key = format!("keys/{to}.pem");
        self.run(&[&["key", "rotate", "--trust", "keys", "--from", from, "--key", &key], arguments].concat())
    }
}

#[test]
fn a_second_signature_meets_a_threshold_and_keeps_the_order_of_json_and_the_comments_of_yaml() {
    let desk = Desk::new();
    desk.write("keys/two.yaml", TWO);
    desk.write("p.json", JSON);
    desk.write("p.yaml", YAML);
    assert_eq!(desk.sign(&["p.json", "p.yaml"]).code, 0);
    assert_eq!(desk.results(&["p.json", "p.yaml"]), ["ThresholdNotMet", "ThresholdNotMet"]);
    let (json, yaml) = (desk.read("p.json"), desk.read("p.yaml"));
    let (second, third) = (desk.another_key(), desk.another_key());
    let ended = desk.cosign(&second, &["p.json", "p.yaml"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let said = format!("co-signed p.json: policy_a version 1.9 of ws_a, with {second}, 2 signatures now\n");
    assert!(ended.out.starts_with(&said), "{}", ended.out);
    assert_eq!(desk.results(&["p.json", "p.yaml"]), ["Verified", "Verified"]);
    assert!(desk.read("p.json").starts_with(json.trim_end_matches("\n}\n")), "{}", desk.read("p.json"));
    assert!(desk.read("p.yaml").starts_with(&yaml), "{}", desk.read("p.yaml"));
    // one more goes into the list that is there
    let ended = desk.cosign(&third, &["p.json", "p.yaml"]);
    assert!(ended.out.contains("3 signatures now"), "{}{}", ended.out, ended.err);
    assert_eq!(desk.read("p.yaml").lines().count(), yaml.lines().count() + 1, "{}", desk.read("p.yaml"));
    desk.write("keys/two.yaml", &TWO.replace("signatures: 2", "signatures: 3"));
    assert_eq!(desk.results(&["p.json", "p.yaml"]), ["Verified", "Verified"]);
}

#[test]
fn a_list_in_block_form_takes_another_co_signature_too() {
    let desk = Desk::new();
    desk.write("p.yaml", YAML);
    assert_eq!(desk.sign(&["p.yaml"]).code, 0);
    let (second, third) = (desk.another_key(), desk.another_key());
    assert_eq!(desk.cosign(&second, &["p.yaml"]).code, 0);
    let document: Value = serde_yaml::from_str(&desk.read("p.yaml")).unwrap();
    let signature = document["co_signatures"][0]["document_signature"].as_str().unwrap();
    let flow = desk.read("p.yaml").lines().last().unwrap().to_owned();
    let block =
        format!("co_signatures: # both of us\n  - signing_key_id: {second}\n    document_signature: '{signature}'");
    desk.write("p.yaml", &desk.read("p.yaml").replace(&flow, &block));
    let ended = desk.cosign(&third, &["p.yaml"]);
    assert!(ended.err.contains("its 6 comments cannot be kept"), "{}", ended.err);
    desk.write("p.yaml", &desk.read("p.yaml").replace(" # both of us", ""));
    let ended = desk.cosign(&third, &["p.yaml"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    desk.write("keys/two.yaml", &TWO.replace("signatures: 2", "signatures: 3"));
    assert_eq!(desk.results(&["p.yaml"]), ["Verified"]);
}

#[test]
fn what_is_not_signed_or_was_signed_by_this_key_takes_no_co_signature() {
    let desk = Desk::new();
    let second = desk.another_key();
    desk.write("unsigned.json", JSON);
    desk.write("p.json", JSON);
    assert_eq!(desk.sign(&["p.json"]).code, 0);
    desk.write("edited.json", &desk.read("p.json").replace("gpt-3*", "gpt-4*"));
    for (file, key, why) in [
        ("unsigned.json", &second, "hash: missing"),
        ("edited.json", &second, "hash is not that of the content: sign it first"),
        ("p.json", &desk.key_id, "this public key has signed it already"),
    ] {
        let before = desk.read(file);
        let ended = desk.cosign(key, &[file]);
        assert_eq!(ended.code, 1, "{file}");
        assert!(ended.err.contains(&format!("{file} was not co-signed: ")) && ended.err.contains(why), "{}", ended.err);
        assert_eq!(desk.read(file), before);
    }
    assert_eq!(desk.cosign(&second, &["p.json"]).code, 0);
    assert_eq!(desk.cosign(&second, &["p.json"]).code, 1, "not twice");
    assert_eq!(desk.cosign(&second, &["notes.txt"]).code, 2);
}

#[test]
fn whoever_signs_anew_is_told_that_co_signatures_are_gone() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    let first = desk.sign(&["p.json"]);
    assert_eq!(first.err, "");
    let second = desk.another_key();
    assert_eq!(desk.cosign(&second, &["p.json"]).code, 0);
    let ended = desk.sign(&["p.json"]);
    assert_eq!(ended.code, 0);
    assert!(ended.err.contains("p.json: 1 co-signature dropped"), "{}", ended.err);
    assert!(!desk.read("p.json").contains("co_signatures"));
}

#[test]
fn a_threshold_in_a_file_that_makes_no_sense_is_refused_and_not_ignored() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    desk.sign(&["p.json"]);
    for (spec, why) in [
        ("{workspaces: [], signatures: 2}", "spec.workspaces: 0 items; expected at least 1"),
        ("{workspaces: [ws_a], signatures: 0}", "spec.signatures: 0; expected at least 1"),
        ("{workspaces: [ws_a], signatures: 17}", "spec.signatures: 17; expected at most 16"),
        ("{workspaces: [ws_a], signature: 2}", "spec.signature: unknown member; did you mean signatures?"),
        ("{workspaces: [ws_a]}", "spec.signatures: is missing"),
    ] {
        desk.write("keys/two.yaml", &TWO.replace("{workspaces: [ws_*], signatures: 2}", spec));
        let ended = desk.run(&["policy", "validate", "p.json", "--trust", "keys"]);
        assert_eq!((ended.code, ended.err.contains(why)), (3, true), "{spec}: {}", ended.err);
        assert!(ended.err.contains("keys/two.yaml") && ended.err.contains("SigningThreshold two"), "{}", ended.err);
    }
}

#[test]
fn a_rotation_signs_again_what_the_old_key_signed_and_nothing_else() {
    let desk = Desk::new();
    let (old, new, other) = (desk.key_id.clone(), desk.another_key(), desk.another_key());
    std::fs::create_dir_all(desk.path("policies/team")).unwrap();
    desk.write("policies/a.json", JSON);
    desk.write("policies/team/b.yaml", YAML);
    desk.write("policies/notes.txt", &old);
    assert_eq!(desk.sign(&["policies/a.json", "policies/team/b.yaml"]).code, 0);
    for (file, keys) in [("policies/other.json", [&other, &new]), ("policies/cosigned.json", [&other, &old])] {
        desk.write(file, &JSON.replace("_a\"", "_o\""));
        assert_eq!(desk.run(&["policy", "sign", file, "--key", &format!("keys/{}.pem", keys[0])]).code, 0);
        assert_eq!(desk.cosign(keys[1], &[file]).code, 0);
    }
    let files = ["policies/a.json", "policies/team/b.yaml", "policies/other.json", "policies/cosigned.json"];
    let before = files.map(|file| desk.read(file));
    let digests = || {
        let shown = desk.run(&[&["policy", "show", "--output", "json"], &files[..]].concat());
        let list: Value = serde_json::from_str(&shown.out).unwrap();
        list.as_array().unwrap().iter().map(|shown| shown["digest"].clone()).collect::<Vec<_>>()
    };
    let digests_before = digests();
    let dry = desk.rotate(&old, &new, &["policies", "--dry-run"]);
    assert_eq!(dry.code, 0, "{}", dry.err);
    assert_eq!(files.map(|file| desk.read(file)), before, "a dry run writes nothing");
    let ended = desk.rotate(&old, &new, &["policies"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.contains(&format!("signed again policies/a.json: policy_a version 1.9 of ws_a, with {new}\n")));
    assert!(ended.err.contains(&format!("policies/other.json was left alone: signed with {other}")), "{}", ended.err);
    for step in [
        format!(
            "key manifest keys/{new}.pem --key-id {new} --workspace ws_a --workspace ws_b --workspace ws_o | kubectl"
        ),
        format!("kubectl patch skey {} --type merge", old.replace('_', "-")),
    ] {
        assert!(ended.out.contains(&step), "{}", ended.out);
    }
    assert_eq!(digests(), digests_before, "the documents are the same ones");
    assert!(files[..2].iter().all(|file| desk.read(file).contains(&new) && !desk.read(file).contains(&old)));
    assert!(desk.read(files[1]).contains("# the end"), "{}", desk.read(files[1]));
    assert_eq!(desk.read(files[2]), before[2], "what others signed is as it was");
    let cosigned: Value = serde_json::from_str(&desk.read(files[3])).unwrap();
    assert_eq!(
        (&cosigned["signing_key_id"], &cosigned["co_signatures"][0]["signing_key_id"]),
        (&other.into(), &new.clone().into())
    );
    let again = desk.rotate(&old, &new, &["policies"]);
    assert!(again.code == 0 && again.err.contains(&format!("no document below is signed with {old}")), "{}", again.err);
    // without the old key everything verifies
    std::fs::remove_file(desk.path(format!("keys/{old}.yaml"))).unwrap();
    assert_eq!(desk.results(&files), ["Verified"; 4]);
}

#[test]
fn a_rotation_signs_nothing_that_the_old_key_did_not_sign_and_goes_on() {
    let desk = Desk::new();
    let (old, new) = (desk.key_id.clone(), desk.another_key());
    let files = ["broken.json", "edited.json", "forged.json", "good.json"];
    files.iter().for_each(|file| desk.write(file, JSON));
    assert_eq!(desk.sign(&files).code, 0);
    let edit = |file: &str, from: &str, to: &str| desk.write(file, &desk.read(file).replace(from, to));
    edit("broken.json", "denied_models", "denied_model");
    edit("edited.json", "gpt-3*", "gpt-4*");
    // by somebody else, in the name of the old key
    let made = desk.run(&["key", "generate", "--out", "elsewhere"]);
    let forger = format!("elsewhere/{}.pem", made.out.lines().next().unwrap());
    let ended = desk.run(&["policy", "sign", "forged.json", "--key-id", &old, "--key", &forger]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let before = files.map(|file| desk.read(file));
    let ended = desk.rotate(&old, &new, &files);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("broken.json was not signed again: line "), "{}", ended.err);
    for file in ["edited.json", "forged.json"] {
        assert!(
            ended.err.contains(&format!("{file} was not signed again: it is not as {old} signed it")),
            "{}",
            ended.err
        );
    }
    assert_eq!(files[..3].iter().map(|file| desk.read(file)).collect::<Vec<_>>(), before[..3]);
    assert!(desk.read("good.json").contains(&new));

    let same = desk.rotate(&old, &old, &["good.json"]);
    assert_eq!((same.code, same.err.contains("is the key")), (2, true), "{}", same.err);
    assert_eq!(desk.rotate(&old, &new, &["none.json"]).code, 3);
    let unknown = desk.rotate("key_of_nobody", &new, &["good.json"]);
    assert_eq!((unknown.code, unknown.err.contains("none of the trusted keys")), (3, true), "{}", unknown.err);
}

#[test]
fn a_key_or_a_policy_that_ends_soon_is_warned_of() {
    let desk = Desk::new();
    let file = format!("keys/{}.yaml", desk.key_id);
    desk.write(&file, &format!("{}\n  notAfter: 2030-01-31T00:00:00Z\n", desk.read(&file).trim_end()));
    // with a list of what is allowed beside what is denied, or that would be warned of
    let whole = JSON.replace("denied_models", "allowed_models\": [\"*\"], \"denied_models");
    desk.write("p.json", &whole);
    desk.sign(&["p.json"]);
    let validate = |now: &str| desk.run(&["policy", "validate", "p.json", "--trust", "keys", "--now", now]);
    assert_eq!(validate("2029-12-31T00:00:00Z").err, "");
    let (soon, warning) = ("2030-01-01T00:00:00Z", format!("p.json: the key {} ends at 2030-01-31", desk.key_id));
    let ended = validate(soon);
    assert!(ended.code == 0 && ended.err.contains(&warning), "{}", ended.err);
    let shown = desk.run(&["policy", "show", "p.json", "--trust", "keys", "--now", soon]);
    assert!(shown.code == 0 && shown.err.contains(&warning), "{}", shown.err);
    desk.write("q.json", &JSON.replace("\"version\"", "\"expires_at\": \"2030-01-05T00:00:00Z\", \"version\""));
    desk.sign(&["q.json"]);
    let ended = desk.run(&["policy", "validate", "q.json", "--trust", "keys", "--now", soon]);
    assert!(ended.err.contains("q.json: the policy expires at 2030-01-05"), "{}", ended.err);
    std::fs::create_dir(desk.path("policies")).unwrap();
    desk.write("policies/p.json", &desk.read("p.json"));
    let ended = desk.run(&["repo", "check", ".", "--trust", "keys", "--now", soon]);
    assert!(ended.code == 0 && ended.err.contains(&warning[8..]), "{}", ended.err);
}
