//! The check for leaks at the end of `make test` (`check.rs`, an example of its own) finds what it looks for.

use std::process::Command;

use serde_json::json;

use crate::cluster::controller::sekuire;

#[allow(dead_code, reason = "the check and its tests each use a part of it")]
pub(crate) mod search;

use search::{Search, Secret, files, forms};

const VALUE: &str = "p4ss word/of+the \"robot\"";

fn secret(name: &str, kind: &str, value: &str) -> Secret {
    Secret { name: name.to_owned(), kind: kind.to_owned(), value: value.to_owned() }
}

#[test]
fn a_secret_is_found_in_each_form_in_which_programs_print_it() {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
    let search = Search::new(&[secret("robot", "secret", VALUE), secret("other", "secret", "another secret")]);
    let url = url::Url::parse_with_params("https://host/", [("token", VALUE)]).unwrap();
    for shown in [
        format!("said {VALUE}!"),
        format!("{:?}", Some(VALUE)),
        json!({ "password": VALUE }).to_string(),
        url.to_string(),
        format!("https://x:{}@host", percent_encoding::utf8_percent_encode(VALUE, percent_encoding::NON_ALPHANUMERIC)),
        BASE64_STANDARD.encode(format!("robot:{VALUE}")),
        BASE64_STANDARD.encode(format!("robot-1:{VALUE} ")),
        BASE64_URL_SAFE_NO_PAD.encode(format!("{VALUE}~~~???")),
        hex::encode(VALUE),
        hex::encode_upper(format!("x{VALUE}")),
    ] {
        assert_eq!(search.found_in(shown.as_bytes()).into_iter().collect::<Vec<_>>(), [0], "{shown}");
    }
    assert!(search.found_in(b"nothing of p4ss wordof the robot").is_empty());
}

#[test]
fn one_line_of_a_key_is_enough_and_its_head_is_not() {
    let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAEBAQ\nAQEBAQEBAQEBAQEB\n-----END PRIVATE KEY-----\n";
    let search = Search::new(&[secret("key", "secret", key)]);
    assert!(!search.found_in(b"x AQEBAQEBAQEBAQEB x").is_empty());
    assert!(search.found_in(b"-----BEGIN PRIVATE KEY-----").is_empty());
    assert!(forms("short").is_empty());
}

#[test]
fn a_secret_across_the_chunks_in_which_a_file_is_read_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let search = Search::new(&[secret("robot", "secret", VALUE)]);
    for before in [0, (8 << 20) - 5, (16 << 20) - 1] {
        let path = folder.path().join("log");
        std::fs::write(&path, [vec![b'.'; before], VALUE.as_bytes().to_vec()].concat()).unwrap();
        let (found, length) = search.found_in_file(&path).unwrap();
        assert_eq!((found.len(), length), (1, (before + VALUE.len()) as u64));
    }
    assert_eq!(files(folder.path()).unwrap().len(), 1);
}

#[test]
fn the_check_fails_for_a_leak_with_its_name_and_without_its_value_and_for_a_plant_that_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("secrets/1", &json!({"name": "the robot's password", "kind": "secret", "value": VALUE}).to_string());
    write("secrets/2", &json!({"name": "planted", "kind": "planted", "value": "said-on-purpose"}).to_string());
    let event = json!({"message": "branch said-on-purpose"}).to_string();
    let object = json!({"spec": {"branch": "said-on-purpose"}, "status": {"message": "said-on-purpose"}}).to_string();
    write("logs/1-a", "no branch said-on-purpose\n");
    write("objects/1-1.events", &event);
    write("objects/1-1.policyrepositories", &object);
    let check = || {
        let program = sekuire().with_file_name("examples").join("leaks");
        let output = Command::new(program).arg(folder.path()).output().expect("cargo build --examples");
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (passed, said) = check();
    assert!(passed && said.contains("2 secrets in") && said.contains("in 3 files"), "{said}");
    for (path, text) in [
        ("logs/1-a", "nothing\n"),
        ("objects/1-1.events", "{}"),
        ("objects/1-1.policyrepositories", "{\"spec\":{\"branch\":\"said-on-purpose\"}}"),
    ] {
        let good = std::fs::read_to_string(folder.path().join(path)).unwrap();
        write(path, text);
        let (passed, said) = check();
        assert!(!passed && said.contains("the check does not work"), "{said}");
        write(path, &good);
    }
    write("logs/2-b", &format!("TRACE authorization={}\n", hex::encode(VALUE)));
    let (passed, said) = check();
    assert!(!passed && said.contains("the robot's password shows in") && said.contains("logs/2-b"), "{said}");
    assert!(!said.contains("p4ss") && !said.contains(&hex::encode(VALUE)), "{said}");
}
