//! The log: what one denial says, that messages are constant, and its level at run time.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::source;
use super::support::{World, eventually};
use crate::cluster::{Controller, ControllerOptions};
use crate::resilience::support::logged;

/// The lines of our own program; each has to be an object.
fn lines(controller: &Controller) -> Vec<Value> {
    let log = controller.log();
    // the last one may be on its way into the file
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    lines.filter(|line| line["target"].as_str().is_some_and(|target| target.starts_with("sekuire"))).collect()
}

#[tokio::test]
async fn one_denial_is_one_line_with_all_that_it_takes_to_answer_a_question_about_it() {
    let world = World::new("ticket").await;
    let controller = world.controller(ControllerOptions::new("a")).await;
    let refusal = world.ask("scout", "shell").await.unwrap_err();
    let denials: Vec<Value> = lines(&controller).into_iter().filter(|line| line["name"] == "scout").collect();
    assert_eq!(denials.len(), 1, "{denials:#?}");
    let line = &denials[0];
    let commit = world.repo.head().await;
    let expected = json!({
        "level": "INFO", "message": "agent denied", "operation": "CREATE", "namespace": world.namespace, "name": "scout",
        "workspace": "ws_ticket", "decision": "denied", "mode": "enforce", "policy_id": "policy_ticket", "version": "1",
        "repository": "ticket", "path": "policies/good.json", "commit": commit.trim(), "key_id": world.signer.key_id(), "rules": "tool.blocked", "count": 1,
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&line[field], value, "{field} in {line:#}");
    }
    for field in ["timestamp", "request_uid", "user", "hash", "denial"] {
        assert!(line[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {line:#}");
    }
    let denial = line["denial"].as_str().unwrap();
    assert!(denial.contains("[tool.blocked]") && refusal.contains(denial), "{denial}\n{refusal}");
}

#[tokio::test]
async fn every_message_is_constant_and_every_field_has_a_documented_name() {
    let (messages, fields) = (source::documented("Messages"), source::documented("Fields"));
    let mut said = Vec::new();
    for name in ["one", "other"] {
        let world = World::new(name).await;
        let mut controller = world.controller(ControllerOptions::new(name)).await;
        world.ask("bad", "shell").await.unwrap_err();
        world.repo.write("policies/good.json", world.document("2"));
        world.repo.commit("Publish").await;
        eventually("version 2 is accepted", async || {
            let accepted = lines(&controller).into_iter().any(|line| line["version"] == "2");
            if accepted { Ok(()) } else { Err(controller.log()) }
        })
        .await;
        world.cluster.kubectl(["delete", "wsp", &format!("ws-{name}")]).await.ok();
        eventually("the object is put back", async || {
            let back = lines(&controller).into_iter().any(|line| line["message"] == "object put back");
            if back { Ok(()) } else { Err(controller.log()) }
        })
        .await;
        assert!(controller.terminate().await.success());
        let mut here = BTreeSet::new();
        for line in lines(&controller) {
            let message = line["message"].as_str().unwrap().to_owned();
            assert!(messages.contains(&message), "{message:?} is not in docs/monitoring.md");
            for field in line.as_object().unwrap().keys() {
                assert!(fields.contains(field), "{field} is not in docs/monitoring.md: {line}");
            }
            here.insert(message);
        }
        said.push(here);
    }
    for message in ["controller started", "policy accepted", "agent denied", "object put back", "server draining"] {
        assert!(said.iter().all(|said| said.contains(message)), "{message} is missing in {said:?}");
    }
}

/// Puts a file into a folder as the kubelet does with a ConfigMap: into a folder of its own, to which `..data` is swapped.
fn mount(folder: &Path, generation: u32, content: &str) {
    let target = format!("..{generation}");
    std::fs::create_dir(folder.join(&target)).unwrap();
    std::fs::write(folder.join(&target).join("filter"), content).unwrap();
    symlink(&target, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    let link = folder.join("filter");
    if link.symlink_metadata().is_err() {
        symlink("..data/filter", link).unwrap();
    }
}

struct Level<'a> {
    world: &'a World,
    controller: &'a Controller,
    number: u32,
}

impl Level<'_> {
    /// Asks until a denial, which is told at the level info, is in the log; or until one is not.
    async fn tells(&mut self, wanted: bool) {
        eventually(&format!("denials are logged: {wanted}"), async || {
            self.number += 1;
            let name = format!("agent-{}", self.number);
            // it is logged before it is answered
            self.world.ask(&name, "shell").await.unwrap_err();
            let told = self.controller.log().contains(&format!("\"name\":\"{name}\""));
            if told == wanted { Ok(()) } else { Err(self.controller.log()) }
        })
        .await;
    }

    async fn says(&self, message: &str) {
        logged(self.controller, message).await;
    }
}

#[tokio::test]
async fn the_level_follows_a_mounted_file_that_is_swapped_and_a_bad_one_changes_nothing() {
    let world = World::new("level").await;
    let folder = tempfile::tempdir().unwrap();
    mount(folder.path(), 1, "warn\n");
    let file = format!("--log-filter-file={}", folder.path().join("filter").display());
    let options = ControllerOptions::new("a").flags(["--log=off", &file]);
    let controller = world.controller(options).await;
    let mut level = Level { world: &world, controller: &controller, number: 0 };
    level.tells(false).await;
    mount(folder.path(), 2, "warn\nsekuire_policy=info\n");
    level.tells(true).await;
    mount(folder.path(), 3, "error");
    level.tells(false).await;
    mount(folder.path(), 4, "info");
    level.tells(true).await;
    mount(folder.path(), 5, "inof");
    level.says("log filter file cannot be used").await;
    level.tells(true).await;
    std::fs::remove_file(folder.path().join("filter")).unwrap();
    level.tells(false).await;
}
