//! Repositories and files that are not as they should be: each gives a reason, and none stops anything else.

use std::os::unix::fs::symlink;

use sekuire_policy::api::conditions;
use serde_json::json;

use super::tenant::{Tenant, eventually};

#[tokio::test]
async fn every_file_that_is_no_document_is_named_with_its_reason_and_the_rest_goes_on() {
    let team = Tenant::new().await;
    let good = team.active("good", "1", "shell_exec");
    // a refused file that names a workspace is told in that workspace's status too: so not the good one's
    let bad = team.active("bad", "1", "shell_exec");
    let with = |text: &str| bad.replacen('{', text, 1);
    let files: Vec<(&str, Vec<u8>, &str)> = vec![
        ("binary.json", vec![0x7f, b'E', b'L', b'F', 0, 1, 2, 255], "UTF-8"),
        ("bom.json", format!("\u{feff}{bad}").into_bytes(), "byte order mark"),
        ("duplicate.json", with("{\"version\": \"1\",").into_bytes(), "version"),
        ("empty.json", Vec::new(), ""),
        ("huge.json", vec![b' '; 50 << 20], "52428800"),
        ("misspelt.json", bad.replace("denied_tools", "denied_tool").into_bytes(), "denied_tools"),
        ("null.json", with("{\"expires_at\": null,").into_bytes(), "null"),
        ("trailing.json", format!("{bad} x").into_bytes(), ""),
        ("anchor.yaml", b"policy_id: &a x\n".to_vec(), "anchor"),
        ("second.yml", b"a: b\n---\nc: d\n".to_vec(), ""),
    ];
    for (name, content, _) in &files {
        team.repo.write(&format!("policies/{name}"), content);
    }
    team.repo.write("policies/notes.md", "not a document, and ignored");
    team.repo.write("policies/deep/er/good.json", &good);
    symlink("/etc/passwd", team.repo.work().join("policies/link.json")).unwrap();
    team.repo.commit("all that is wrong").await;
    team.watch_repository(json!({})).await;
    team.ready("good", "True", "Succeeded").await;
    let status = team.repository("refusals", |s| s.refused.len() == files.len() + 1).await;
    for (name, _, part) in files.iter().map(|(n, c, p)| (*n, c, *p)).chain([("link.json", &Vec::new(), "link")]) {
        let path = format!("policies/{name}");
        let refused = status.refused.iter().find(|r| r.path == path).unwrap_or_else(|| panic!("{path}: {status:#?}"));
        assert_eq!(refused.reason, "Malformed", "{path}");
        assert!(refused.message.to_lowercase().contains(&part.to_lowercase()), "{path}: {}", refused.message);
    }
    assert_eq!(status.documents.unwrap().total, u32::try_from(files.len()).unwrap() + 2);
}

#[tokio::test]
async fn a_submodule_and_a_path_that_is_not_utf_8_are_named_and_not_read() {
    let team = Tenant::new().await;
    let commit = team.commit(&[("good.json", &team.active("good", "1", "x"))]).await;
    let index = format!("160000,{commit},policies/module.json");
    team.repo.git(["update-index", "--add", "--cacheinfo", &index]).await;
    let bytes: &[u8] = b"policies/caf\xe9.json";
    let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes);
    std::fs::write(team.repo.work().join(name), "{}").unwrap();
    team.repo.git(["add", "policies"]).await;
    team.repo.git(["update-index", "--add", "--cacheinfo", &index]).await;
    team.repo.git(["commit", "-q", "-m", "odd"]).await;
    team.repo.push().await;
    team.watch_repository(json!({})).await;
    team.ready("good", "True", "Succeeded").await;
    let status = team.repository("two refusals", |s| s.refused.len() == 2).await;
    let messages: Vec<&str> = status.refused.iter().map(|r| r.message.as_str()).collect();
    assert!(messages.iter().any(|m| m.contains("submodule")), "{messages:?}");
    assert!(messages.iter().any(|m| m.contains("UTF-8")), "{messages:?}");
}

#[tokio::test]
async fn a_repository_that_cannot_be_read_says_why_and_delays_no_other() {
    let broken = Tenant::new().await;
    broken.commit(&[("a.json", &broken.active("a", "1", "x"))]).await;
    broken.watch_repository(json!({"url": "https://127.0.0.1:1/nobody.git", "timeout": "5s"})).await;
    let message = broken.repository_fails("GitOperationFailed").await;
    assert!(!message.is_empty());
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    })
    .await;
    team.ready("a", "True", "Succeeded").await;
    // and it comes back when it can be read
    broken.watch_repository(json!({})).await;
    broken.ready("a", "True", "Succeeded").await;
}

#[tokio::test]
async fn an_empty_repository_and_a_branch_that_does_not_exist_say_so() {
    let empty = Tenant::new().await;
    empty.watch_repository(json!({})).await;
    let message = empty.repository_fails("GitOperationFailed").await;
    assert!(message.contains("empty") || message.contains("main"), "{message}");
    let team = Tenant::new().await;
    team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    team.watch_repository(json!({"ref": {"branch": "no-such"}})).await;
    let message = team.repository_fails("GitOperationFailed").await;
    assert!(message.contains("no-such") && message.contains("main"), "{message}");
    team.watch_repository(json!({"path": "elsewhere", "ref": {"branch": "main"}})).await;
    let status =
        team.repository("ready", |s| conditions::find(&s.conditions, "Ready").is_some_and(|c| c.status == "True"));
    let message = conditions::find(&status.await.conditions, "Ready").unwrap().message.clone();
    assert!(message.contains("spec.path"), "{message}");
}

#[tokio::test]
async fn many_refused_documents_are_counted_and_the_list_is_bounded() {
    let team = Tenant::new().await;
    for i in 0..120 {
        team.repo.write(&format!("policies/{i:03}.json"), "{");
    }
    team.repo.write("policies/good.json", team.active("good", "1", "x"));
    team.repo.commit("rubbish").await;
    team.watch_repository(json!({})).await;
    team.ready("good", "True", "Succeeded").await;
    let status = team.repository("121 documents", |s| s.documents.as_ref().is_some_and(|d| d.total == 121)).await;
    assert_eq!((status.refused.len(), status.refused_omitted), (50, Some(70)));
    assert_eq!(status.documents.unwrap().refused, 120);
}

#[tokio::test]
async fn ten_thousand_files_are_read_and_the_one_good_policy_is_enforced() {
    let team = Tenant::new().await;
    for i in 0..9_999 {
        team.repo.write(&format!("policies/{}/{i}.json", i / 100), format!("[{i}]"));
    }
    team.repo.write("policies/good.json", team.active("good", "1", "x"));
    team.repo.commit("many").await;
    team.watch_repository(json!({})).await;
    team.ready("good", "True", "Succeeded").await;
    let status = team.repository("10 000", |s| s.documents.as_ref().is_some_and(|d| d.total == 10_000)).await;
    assert_eq!(status.documents.unwrap().refused, 9_999);
}

#[tokio::test]
async fn an_agent_with_fields_that_the_schema_does_not_know_is_refused_by_kubectl_with_their_names() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    })
    .await;
    let namespace = team.namespace("a").await;
    team.admits(&namespace, "calculator").await;
    let manifest = format!(
        "apiVersion: sekuire.ai/v1alpha1\nkind: Agent\nmetadata: {{name: odd, namespace: {namespace}}}\n\
         spec: {{model: {{provider: openai, name: gpt-4}}, toolz: [{{name: x}}]}}\n"
    );
    let said = team.cluster.apply(&manifest).await.refused();
    assert!(said.contains("toolz"), "{said}");
}

#[tokio::test]
async fn namespace_and_agent_in_one_apply_are_judged_by_the_label_that_comes_with_them() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "shell_exec"))]).await;
    })
    .await;
    team.enforced("a", "1").await;
    eventually("enforced in the webhook", async || {
        let namespace = team.namespace("a").await;
        team.try_agent(&namespace, "calculator").await
    })
    .await;
    for i in 0..5 {
        let (namespace, workspace) = (format!("{}-together-{i}", team.name), team.workspace("a"));
        let manifest = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{sekuire.ai/workspace: {workspace}}}}}\n---\n\
             apiVersion: sekuire.ai/v1alpha1\nkind: Agent\nmetadata: {{name: a, namespace: {namespace}}}\n\
             spec: {{model: {{provider: openai, name: gpt-4}}, tools: [{{name: calculator}}]}}\n"
        );
        team.cluster.apply(&manifest).await.ok();
    }
}
