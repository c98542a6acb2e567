//! Commits, versions and times: what was once genuine, brought back or held back.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use sekuire_policy::api::conditions;
use serde_json::{Value, json};
use tokio::process::Command;

use super::support::Target;
use crate::cluster::command::run;
use crate::cluster::controller::sekuire;
use crate::cluster::{GitRepo, Signer};
use crate::git::server::{Manner, Server};
use crate::git::signing::SshKey;
use crate::reconcile::commit_signatures::{sign, source_verified, trust};
use crate::reconcile::tenant::{Tenant, eventually};

#[tokio::test]
async fn replay_of_a_version_that_was_signed_and_accepted_before_is_refused_wherever_it_comes_from() {
    let target = Target::new().await;
    let team = &target.team;
    for older in &target.older {
        let message = target.refuses_file("an older version", older, "VersionRollback").await;
        assert!(message.contains('3'), "{message}");
        team.ready("a", "False", "VersionRollback").await;
    }
    target.refuses_file("the version again", &target.permissive("3").to_string(), "VersionReused").await;
    team.ready("a", "False", "VersionReused").await;
    // object and mark are gone, and Git has nothing but what is old
    target.refuses_file("an older version", &target.older[0], "VersionRollback").await;
    target.delete_both().await;
    target.put_back().await;
    // another repository has it, and this one no longer claims the workspace
    team.repo.remove("policies/a.json");
    team.synced(&team.repo.commit("gone").await).await;
    let mirror = GitRepo::new().await;
    mirror.commit_files("old", [("policies/a.json", &target.older[1])]).await;
    let name = format!("{}-mirror", team.name);
    team.apply(&json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository", "metadata": {"name": name},
        "spec": {"url": mirror.url(), "interval": "1s", "workspaces": [team.workspace("*")]},
    }))
    .await;
    let status = eventually("the mirror is refused", async || {
        let status = team.repositories().get(&name).await.unwrap().status.unwrap_or_default();
        if status.refused.is_empty() { Err(format!("{status:#?}")) } else { Ok(status) }
    })
    .await;
    assert_eq!(status.refused[0].reason, "VersionRollback");
    target.unchanged().await;
}

#[tokio::test]
async fn force_push_of_another_history_is_not_followed_not_even_to_a_newer_version() {
    let target = Target::new().await;
    let team = &target.team;
    let before = team.repo.head().await;
    team.synced(&before).await;
    for what in ["no common commit", "the last commit replaced"] {
        team.repo.write("policies/a.json", target.permissive("4").to_string());
        let commit = match what {
            "no common commit" => team.repo.rewrite("another history").await,
            _ => {
                team.repo.git(["reset", "--quiet", "--hard", &before]).await;
                team.repo.write("policies/a.json", target.permissive("4").to_string());
                team.repo.amend("amended").await
            }
        };
        let message = eventually(what, async || {
            let message = team.repository_fails("HistoryRewritten").await;
            if message.contains(&commit) { Ok(message) } else { Err(message) }
        })
        .await;
        assert!(message.contains("sekuire.ai/accept-rewind"), "{message}");
        team.repository("stalled", |status| conditions::find(&status.conditions, "Stalled").is_some()).await;
        target.unchanged().await;
    }
    // taken back to what was enforced before: older, and genuine
    team.repo.reset(&format!("{before}~1")).await;
    let older = team.repo.head().await;
    eventually("taken back", async || {
        let message = team.repository_fails("HistoryRewritten").await;
        if message.contains(&format!("commit {older} ")) { Ok(()) } else { Err(message) }
    })
    .await;
    target.unchanged().await;
    // the history goes on from where it was
    team.repo.git(["reset", "--quiet", "--hard", &before]).await;
    let next = team.repo.commit_only("goes on").await;
    team.repo.force_push().await;
    team.synced(&next).await;
    target.unchanged().await;
}

#[tokio::test]
async fn freeze_of_what_is_served_is_told_of_and_ends_what_was_only_to_hold_for_a_time() {
    let team = Tenant::new().await;
    let target = Target::of(team, json!({"staleAfter": "2s"})).await;
    let team = &target.team;
    let before = team.repo.head().await;
    team.synced(&before).await;
    let namespace = team.namespace("b").await;
    let (_, last) = team.enforce_for_a_time("b", 1, &namespace).await;
    team.synced(&last).await;

    // an older state is served from now on
    let origin = team.repo.origin();
    team.repo.git_in(&origin, &["update-ref", "refs/heads/main", &before], &[]).await.ok();
    team.repository_fails("HistoryRewritten").await;
    target.unchanged().await;
    // and then none
    std::fs::rename(&origin, origin.with_extension("gone")).unwrap();
    let stale = |status: &sekuire_policy::api::PolicyRepositoryStatus| {
        conditions::find(&status.conditions, "Stale").is_some_and(|stale| stale.status == "True")
    };
    team.repository("Stale", stale).await;
    team.told("Stale", "").await;
    target.unchanged().await;
    team.refuses(&namespace, "calculator", "policy.expired").await;
    target.unchanged().await;
    std::fs::rename(origin.with_extension("gone"), &origin).unwrap();
    team.repo.git_in(&origin, &["update-ref", "refs/heads/main", &last], &[]).await.ok();
    team.repository("no longer Stale", |status| !stale(status)).await;
}

#[tokio::test]
async fn clock_skew_no_time_that_a_commit_or_a_document_claims_is_believed() {
    let target = Target::new().await;
    let team = &target.team;
    let workspace = team.workspace("a");
    let at = |seconds| (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string();
    let key = async |number: u16, suffix: &str, spec: Value| {
        let signer = Signer::new(number + team.name.trim_start_matches("team").parse::<u16>().unwrap());
        let mut manifest = signer.manifest(&format!("{}-{suffix}", team.name), &[&workspace]);
        spec.as_object().unwrap().iter().for_each(|(name, value)| manifest["spec"][name] = value.clone());
        team.apply(&manifest).await;
        signer
    };
    let ended = key(2000, "ended", json!({"notAfter": at(-60)})).await;
    let begins = key(3000, "begins", json!({"notBefore": at(3600)})).await;
    let claiming = |signer: &Signer, created: &str, expires: Option<String>| {
        let mut document = target.permissive("9");
        for member in ["created_at", "updated_at", "activated_at"] {
            document[member] = json!(created);
        }
        if let Some(expires) = expires {
            document["expires_at"] = json!(expires);
        }
        // signed as it is: our own signing would set a time
        signer.sign(document).to_string()
    };
    let attempts = [
        ("signed while the key was valid, it says", claiming(&ended, &at(-86_400), None), "KeyExpired"),
        ("signed when the key will be valid, it says", claiming(&begins, &at(7200), None), "KeyNotYetValid"),
        ("published before it expired, it says", expired(&target), "PolicyExpired"),
    ];
    // commits of 1970 and of 2099
    for date in ["@1 +0000", "@4070908800 +0000"] {
        let files: Vec<(&str, &str, &str)> = attempts
            .iter()
            .zip(["a.json", "b.json", "c.json"])
            .map(|((_, content, reason), path)| (path, content.as_str(), *reason))
            .collect();
        for (path, content, _) in &files {
            team.repo.write(&format!("policies/{path}"), content);
        }
        let env = [("GIT_COMMITTER_DATE", date), ("GIT_AUTHOR_DATE", date)];
        let work = team.repo.work();
        team.repo.git_in(&work, &["add", "--all"], &[]).await.ok();
        team.repo.git_in(&work, &["commit", "--quiet", "--allow-empty", "-m", "dated"], &env).await.ok();
        team.repo.push().await;
        let status = team.synced(&team.repo.head().await).await;
        let mut found: Vec<&str> = status.refused.iter().map(|refused| refused.reason.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, ["KeyExpired", "KeyNotYetValid", "PolicyExpired"], "{:#?}", status.refused);
        target.unchanged().await;
    }
}

/// Expired a minute ago. Our own program signs nothing that has expired; the library does.
fn expired(target: &Target) -> String {
    let mut document = target.permissive("9");
    document["expires_at"] = json!((Timestamp::now() - SignedDuration::from_secs(60)).to_string());
    target.team.signer.sign(document).to_string()
}

#[tokio::test]
async fn toctou_what_was_verified_is_what_is_read_also_when_the_branch_moves_in_between() {
    let team = Tenant::new().await;
    let older = [team.active("a", "1", "translate"), team.active("a", "2", "summarize")];
    let alice = SshKey::new(&["-t", "ed25519"]);
    trust(&team, &[("alice.pub", &alice.public)]).await;
    sign(&team, &alice.config(), true).await;
    let root = team.repo.origin().parent().unwrap().to_owned();
    let server = Server::start(&root).await;
    team.commit(&[("a.json", &older[0])]).await;
    // an interval that no test waits for: each look is asked for
    let spec = json!({
        "url": server.url("origin.git"), "interval": "1h",
        "verify": {"mode": "Head", "secretRef": {"name": team.name}},
    });
    team.watch_repository(spec).await;
    team.enforced("a", "1").await;
    team.commit(&[("a.json", &team.active("a", "3", "shell_exec"))]).await;
    team.annotate_repository("sekuire.ai/requestedAt", "third").await;
    let target = Target::enforcing(team, older).await;
    let team = &target.team;

    // the server names a signed commit; when its objects are asked for, the branch stands at another one
    let named = team.commit(&[("note.txt", "signed")]).await;
    sign(team, &alice.config(), false).await;
    team.repo.write("policies/a.json", target.permissive("4").to_string());
    let swapped = team.repo.commit("not signed").await;
    let origin = team.repo.origin();
    stand(team, &named).await;
    server.behave(Manner::MovesMain(origin.clone(), swapped.clone()));
    team.annotate_repository("sekuire.ai/requestedAt", "fourth").await;
    team.synced(&named).await;
    source_verified(team, "True", &named).await;
    let moved = team.repo.git_in(&origin, &["rev-parse", "main"], &[]).await.ok();
    assert_eq!(moved.trim(), swapped, "the branch was moved in the middle of the look");
    target.unchanged().await;
    // what the branch was moved to is looked at by itself, and refused by itself
    team.annotate_repository("sekuire.ai/requestedAt", "fifth").await;
    source_verified(team, "False", &swapped).await;
    target.unchanged().await;
}

/// The blocks with which both files of the SHAttered attack begin (Stevens, Bursztein, Karpman, Albertini, Markov, 2017):
/// the SHA-1 of both is the same.
const SAME: &str = "255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474682032203020522f4865696768742033203020522f\
    547970652034203020522f537562747970652035203020522f46696c7465722036203020522f436f6c6f7253706163652037203020522f4c656e\
    6774682038203020522f42697473506572436f6d706f6e656e7420383e3e0a73747265616d0affd8fffe00245348412d31206973206465616421\
    21212121852fec092339759c39b1a1c63c4c97e1fffe01";
const COLLIDING: [&str; 2] = [
    "7f46dc93a6b67e013b029aaa1db2560b45ca67d688c7f84b8c4c791fe02b3df614f86db1690901c56b45c1530afedfb76038e972722fe7ad728f\
     0e4904e046c230570fe9d41398abe12ef5bc942be33542a4802d98b5d70f2a332ec37fac3514e74ddc0f2cc1a874cd0c78305a21566461309789\
     606bd0bf3f98cda8044629a1",
    "7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de218f86db3a90901d5df45c14f26fedfb3dc38e96ac22fe7bd728f\
     0e45bce046d23c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e332edf93ac3500eb4ddc0decc1a864790c782c76215660dd309791\
     d06bd0af3f98cda4bc4629b1",
];

async fn sha1(bytes: &[u8]) -> String {
    run(Command::new("sha1sum"), bytes).await.ok()[..40].to_owned()
}

/// Has the branch stand at a commit that is there.
async fn stand(team: &Tenant, commit: &str) {
    let origin = team.repo.origin();
    drop(team.repo.git_in(&origin, &["update-ref", "refs/heads/main", commit], &[]).await.ok());
}

#[tokio::test]
async fn git_sha1_other_content_under_a_known_name_is_not_read_and_would_not_verify() {
    let target = Target::new().await;
    let team = &target.team;
    // real colliding content. Git hashes a head before it, so that as files of a repository they are two.
    let [one, two] = COLLIDING.map(|blocks| hex::decode(format!("{SAME}{blocks}")).unwrap());
    assert_ne!(one, two);
    assert_eq!(sha1(&one).await, "f92d74e3874587aaf443d1db961d4e26dde13e9c");
    assert_eq!(sha1(&two).await, sha1(&one).await, "this is an attack");
    for (name, content) in [("one.json", &one), ("two.json", &two)] {
        team.repo.write(&format!("policies/{name}"), content);
    }
    let commit = team.repo.commit("collide").await;
    let status = team.synced(&commit).await;
    let found: Vec<&str> = status.refused.iter().map(|refused| refused.reason.as_str()).collect();
    assert_eq!(found, ["Malformed"; 2]);
    target.unchanged().await;
    // blocks of such an attack within an object are noticed while it is hashed: libgit2 is built with that check
    let program = std::fs::read(sekuire()).unwrap();
    let message = b"SHA1 collision attack detected";
    assert!(program.windows(message.len()).any(|bytes| bytes == message), "libgit2 was built without sha1dc");

    // a server that holds other content under the name of a file that was signed and reviewed: as after a collision
    for name in ["one.json", "two.json"] {
        team.repo.remove(&format!("policies/{name}"));
    }
    team.repo.write("policies/a.json", team.active("a", "4", "calculator"));
    let reviewed = team.repo.commit_only("reviewed").await;
    let blob = team.repo.git(["rev-parse", "HEAD:policies/a.json"]).await.trim().to_owned();
    let evil = team.repo.work().join(".git/evil");
    std::fs::write(&evil, target.permissive("4").to_string()).unwrap();
    let other = team.repo.git(["hash-object", "-w", evil.to_str().unwrap()]).await.trim().to_owned();
    let loose = |folder: PathBuf, id: &str| folder.join("objects").join(&id[..2]).join(&id[2..]);
    let work = team.repo.work().join(".git");
    let (genuine, forged) =
        (std::fs::read(loose(work.clone(), &blob)).unwrap(), std::fs::read(loose(work, &other)).unwrap());
    let served = loose(team.repo.origin(), &blob);
    let exchange = |content: &[u8]| {
        std::fs::create_dir_all(served.parent().unwrap()).unwrap();
        drop(std::fs::remove_file(&served));
        std::fs::write(&served, content).unwrap();
    };
    let root = team.repo.origin().parent().unwrap().to_owned();
    let server = Server::start(&root).await;
    let before = team.repo.git_in(&team.repo.origin(), &["rev-parse", "main"], &[]).await.ok();
    for url in [team.repo.url(), server.url("origin.git")] {
        stand(team, before.trim()).await;
        team.watch_repository(json!({"url": url})).await;
        team.synced(before.trim()).await;
        // its objects arrive under another name, so that no look finds the genuine one before it is exchanged
        team.repo.git(["push", "--quiet", "--force", "origin", "HEAD:refs/heads/staged"]).await;
        exchange(&forged);
        stand(team, &reviewed).await;
        team.repository_fails("GitOperationFailed").await;
        target.unchanged().await;
    }
    // it was only that
    exchange(&genuine);
    team.synced(&reviewed).await;
    team.enforced("a", "4").await;
    eventually("the verdict", async || team.try_agent(&target.namespace, "shell_exec").await).await;
    // and signed content decides, whatever its name: what was exchanged has another hash
    let mut exchanged: Value = serde_json::from_str(&team.active("a", "5", "calculator")).unwrap();
    exchanged["content"] = target.permissive("5")["content"].clone();
    let commit = team.commit(&[("a.json", &exchanged.to_string())]).await;
    assert_eq!(team.synced(&commit).await.refused[0].reason, "HashMismatch");
    team.condition("a", "Enforced", "True", "Succeeded").await;
    assert_eq!(team.policy("a").await.spec.document["version"], "4");
}
