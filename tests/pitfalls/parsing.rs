//! Bytes and trees that are not what they seem.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tokio::process::Command;

use super::support::Target;
use crate::cluster::command::run;
use crate::cluster::git::clean_env;

/// What the status says of a file.
fn said(status: &sekuire_policy::api::PolicyRepositoryStatus, path: &str) -> String {
    let path = format!("policies/{path}");
    status.refused.iter().find(|refused| refused.path == path).unwrap().message.clone()
}

#[tokio::test]
async fn traversal_and_symlinks_lead_to_no_document_that_is_not_below_the_path() {
    let target = Target::new().await;
    let repo = &target.team.repo;
    // a genuine, newer policy, which is not where policies are read
    let outside = repo.work().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("a.json"), target.permissive("9").to_string()).unwrap();
    let on_disk = target.team.cluster.folder().join(format!("{}-outside.json", target.team.name));
    std::fs::write(&on_disk, target.permissive("9").to_string()).unwrap();
    let policies = repo.work().join("policies");
    symlink("../outside/a.json", policies.join("link.json")).unwrap();
    symlink(&on_disk, policies.join("absolute.json")).unwrap();
    symlink("../outside", policies.join("folder")).unwrap();
    symlink("../outside", policies.join("folder.json")).unwrap();
    symlink("self.json", policies.join("self.json")).unwrap();
    let commit = repo.commit("links").await;
    let status = target.team.synced(&commit).await;
    let found: Vec<(&str, &str)> = status.refused.iter().map(|r| (r.path.as_str(), r.reason.as_str())).collect();
    let links = ["absolute.json", "folder.json", "link.json", "self.json"].map(|name| format!("policies/{name}"));
    assert_eq!(found, links.each_ref().map(|path| (path.as_str(), "Malformed")));
    assert!(said(&status, "link.json").contains("symbolic link"), "{status:?}");
    target.unchanged().await;

    // the path itself is a link
    for name in ["link.json", "absolute.json", "folder", "folder.json", "self.json"] {
        repo.remove(&format!("policies/{name}"));
    }
    std::fs::rename(&policies, repo.work().join("elsewhere")).unwrap();
    symlink("outside", repo.work().join("policies")).unwrap();
    let commit = repo.commit("the path is a link").await;
    let status = target.team.synced(&commit).await;
    assert_eq!(status.documents.unwrap().total, 0);
    target.unchanged().await;
    names_that_no_file_can_have(&target).await;
}

/// As somebody writes them who does without Git's help.
async fn names_that_no_file_can_have(target: &Target) {
    let repo = &target.team.repo;
    let blob = repo.git(["rev-parse", "HEAD:outside/a.json"]).await;
    let id = blob.trim().as_bytes().chunks(2).map(|hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16));
    let id: Vec<u8> = id.map(Result::unwrap).collect();
    let mut parent = "HEAD".to_owned();
    // nothing is checked out, so that the first and the last are files like any other, and no documents by their names
    for (name, documents) in [("..", 0), ("../policies.json", 1), (".git", 0)] {
        let entry = [b"100644 ", name.as_bytes(), b"\0", &id].concat();
        let tree = git(target, &["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], &entry).await;
        let root = git(target, &["mktree"], format!("040000 tree {tree}\tpolicies\n").as_bytes()).await;
        let commit = git(target, &["commit-tree", &root, "-p", &parent], b"bad").await;
        // pushed by copying: `git push` would refuse to send it
        let origin = repo.origin().display().to_string();
        let work = repo.work().join(".git/objects").display().to_string();
        run_in(target, "cp", &["-r", &format!("{work}/."), &format!("{origin}/objects/")]).await;
        repo.git_in(&repo.origin(), &["update-ref", "refs/heads/main", &commit], &[]).await.ok();
        let found = target.team.synced(&commit).await.documents.unwrap();
        assert_eq!((found.total, found.refused), (documents, documents), "{name}: {found:?}");
        target.unchanged().await;
        parent = commit;
    }
}

async fn git(target: &Target, arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(target.team.repo.work()).envs(clean_env(1_767_225_600));
    run(command, input).await.ok().trim().to_owned()
}

async fn run_in(target: &Target, program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(target.team.repo.work());
    run(command, &[]).await.ok();
}

#[tokio::test]
async fn yaml_bombs_and_huge_files_are_refused_each_for_itself_and_change_nothing() {
    let target = Target::new().await;
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let deep_json = format!("{{\"content\":{}", "[".repeat(200_000));
    let deep_yaml = format!("content: {}", "[".repeat(200_000));
    let nested: String = (0..2000).map(|level| format!("{}a:\n", " ".repeat(level))).take(400).collect();
    let merged = "base: &base {status: active}\n<<: *base\n";
    let genuine = target.permissive("9").to_string();
    let padded = format!("{}{genuine}", " ".repeat(50 << 20));
    let just_too_long = format!("{genuine}{}", " ".repeat((256 << 10) + 1 - genuine.len()));
    let files = [
        ("bomb.yaml", &*bomb, "Malformed"),
        ("deep.json", &*deep_json, "Malformed"),
        ("deep.yaml", &*deep_yaml, "Malformed"),
        ("nested.yml", &*nested, "Malformed"),
        ("merged.yaml", merged, "Malformed"),
        // genuine and newer, were they read
        ("a.json", &*padded, "Malformed"),
        ("too-long.json", &*just_too_long, "Malformed"),
    ];
    let status = target.attack("bombs", &files).await;
    for (name, says) in [
        ("bomb.yaml", "anchor"),
        ("deep.json", "nested"),
        ("deep.yaml", "recursion limit"),
        ("merged.yaml", "anchor"),
        ("a.json", "bytes"),
        ("too-long.json", "262145"),
    ] {
        let message = said(&status, name);
        assert!(message.contains(says), "{name}: {message}");
    }
}

#[tokio::test]
async fn duplicate_keys_are_refused_wherever_they_stand_and_however_they_are_written() {
    let target = Target::new().await;
    let genuine = target.permissive("9");
    let text = genuine.to_string();
    let before = |member: &str| text.replacen('{', &format!("{{{member},"), 1);
    let after = |member: &str| format!("{},{member}}}", &text[..text.len() - 1]);
    let strict = Value::to_string(&json!({"agent": {"capabilities": {"denied_tools": ["shell_exec"]}}}));
    let inside = text.replacen("\"denied_tools\":", "\"denied_tools\":[\"shell_exec\"],\"denied_tools\":", 1);
    assert_ne!(inside, text);
    let attempts = [
        ("the first counts", before("\"status\":\"draft\"")),
        ("the last counts", after("\"status\":\"draft\"")),
        ("content, as the reviewer sees it, before", before(&format!("\"content\":{strict}"))),
        ("content, as the reviewer sees it, after", after(&format!("\"content\":{strict}"))),
        ("written with an escape", after("\"\\u0073tatus\":\"draft\"")),
        ("the same value twice", after(&format!("\"version\":{}", genuine["version"]))),
        ("inside of the content", inside),
    ]
    .map(|(what, document)| (what, document, "Malformed"));
    for message in target.refuses_all(&attempts).await {
        assert!(message.contains("occurs twice"), "{message}");
    }
    let yaml = format!("status: draft\n{}", serde_yaml_of(&genuine));
    let status = target.attack("in YAML", &[("a.json", "[]", "Malformed"), ("b.yaml", &yaml, "Malformed")]).await;
    assert!(said(&status, "b.yaml").contains("occurs twice"), "{status:?}");
}

fn serde_yaml_of(document: &Value) -> String {
    serde_yaml::to_string(document).unwrap()
}

#[tokio::test]
async fn canonicalisation_another_spelling_is_the_same_document_and_other_data_never_is() {
    let target = Target::new().await;
    let team = &target.team;
    let mut named: Value = serde_json::from_str(&team.active("a", "4", "caf\u{e9} \"x\"")).unwrap();
    // the enforced one, spelt otherwise: what was signed is the data, not the bytes, and nothing is to be signed again
    let enforced = &target.document;
    let reversed: serde_json::Map<String, Value> =
        enforced.as_object().unwrap().iter().rev().map(|(name, value)| (name.clone(), value.clone())).collect();
    let reversed = Value::Object(reversed);
    let escaped = enforced.to_string().replace("shell_exec", "\\u0073hell\\u005fexec");
    for (what, text) in [("members in another order, indented", format!("\r\n{reversed:#}\n\n")), ("escapes", escaped)]
    {
        target.attack(what, &[("a.json", &text, "")]).await;
        team.ready("a", "True", "Succeeded").await;
    }
    // other data that a careless reader takes for the same
    let text = named.to_string();
    let mut attempts = vec![
        ("letters composed otherwise", text.replace("caf\u{e9}", "cafe\u{301}"), "HashMismatch"),
        ("a space", text.replace("caf\u{e9} ", "caf\u{e9}  "), "HashMismatch"),
        ("another case", text.replace("caf\u{e9}", "Caf\u{e9}"), "HashMismatch"),
        ("a version with a zero", text.replace("\"version\":\"4\"", "\"version\":\"04\""), "Malformed"),
        ("a version that is a number", text.replace("\"version\":\"4\"", "\"version\":4"), "Malformed"),
        ("a version with a fraction", text.replace("\"version\":\"4\"", "\"version\":4.0"), "Malformed"),
        ("a lone half of a character", text.replace("caf\u{e9}", "\\ud800"), "Malformed"),
        ("a byte order mark", format!("\u{feff}{text}"), "Malformed"),
    ];
    named["content"]["compliance"] = json!({"retention_days": 30});
    let signed = team.signer.sign(named).to_string();
    for number in ["30.0", "3e1", "-30", "9007199254740993", "null"] {
        let changed = signed.replace("\"retention_days\":30", &format!("\"retention_days\":{number}"));
        assert_ne!(changed, signed);
        attempts.push((number, changed, "Malformed"));
    }
    target.refuses_all(&attempts).await;
}
