//! `sekuire agent push --dry-run=server`: what the cluster says, and whether it is what one expected.

use crate::cli::support::Desk;
use crate::cluster::{Cluster, ControllerOptions, User};
use crate::resilience::support::until;

const AGENT: &str = "apiVersion: sekuire.ai/v1alpha1\nkind: Agent\nmetadata: {name: probe, namespace: unbound}\nspec: {model: {provider: any, name: any}}\n";

#[tokio::test]
async fn a_refusal_that_was_expected_is_success_and_every_other_answer_is_none() {
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    cluster.kubectl(["create", "namespace", "unbound"]).await.ok();
    let desk = Desk::new();
    desk.write("agent.yaml", AGENT);
    let kubeconfig = cluster.kubeconfig(User::ADMIN).display().to_string();
    let push = |more: &[&str]| {
        let args = ["agent", "push", "--kubeconfig", &kubeconfig, "agent.yaml"];
        desk.run(&[&args[..], more].concat())
    };
    // no webhook yet: everything is admitted, and nothing is kept
    let tried = push(&["--dry-run=server"]);
    assert_eq!((tried.code, tried.out.as_str()), (0, "would apply unbound/probe\n"), "{}", tried.err);
    let tried = push(&["--dry-run=server", "--expect-refused", "workspace.unbound"]);
    assert_eq!(tried.code, 1);
    assert!(
        tried.err.contains("unbound/probe was admitted; expected to be refused for workspace.unbound"),
        "{}",
        tried.err
    );

    let _controller = ControllerOptions::new("a").start(&cluster).await;
    until("refused", async || match push(&["--dry-run=server"]) {
        tried if tried.code == 1 && tried.err.contains("[workspace.unbound]") => Ok(()),
        tried => Err(tried.err),
    })
    .await;
    let tried = push(&["--dry-run=server", "--expect-refused=workspace.unbound"]);
    assert_eq!(tried.code, 0, "{}", tried.err);
    assert!(tried.out.starts_with("unbound/probe was refused, as expected for workspace.unbound:\n"), "{}", tried.out);
    let tried = push(&["--dry-run=server", "--expect-refused=model.blocked"]);
    assert_eq!(tried.code, 1);
    assert!(tried.err.contains("was not refused for model.blocked, but otherwise:"), "{}", tried.err);
    assert_eq!(cluster.kubectl(["get", "agents", "-A", "-o", "name"]).await.ok(), "");
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_to_give() {
    let desk = Desk::new();
    desk.write("agent.yaml", AGENT);
    for (args, said) in [
        (&["--expect-refused=workspace.unbound"][..], "--dry-run"),
        (&["--dry-run", "--expect-refused=workspace.unbound", "--workspace=ws_a"], "give --dry-run=server"),
        (&["--dry-run=server", "--expect-refused=model.blokked"], "'model.blocked'"),
        (&["--dry-run"], "give --workspace, or ask the cluster alone with --dry-run=server"),
        (&[], "--workspace"),
    ] {
        let ended = desk.run(&[&["agent", "push", "agent.yaml"], args].concat());
        assert_eq!(ended.code, 2, "{args:?}: {}", ended.err);
        assert!(ended.err.contains(said), "{args:?}: {}", ended.err);
    }
}
