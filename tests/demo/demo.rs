//! `make demo`: the main job, from a commit to a verdict, on a real API server.
//!
//! All that is shown is what git, kubectl and sekuire print, below the command that printed it. What has to happen is
//! checked at each step; the first thing that does not ends the demo with exit code 1.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a demo that cannot go on ends")]

#[path = "../cluster/mod.rs"]
mod cluster;
mod files;
mod shell;

use std::{env, process::ExitCode, time::Instant};

use cluster::{Cluster, ControllerOptions, User};
use shell::{Broken, Shell};

type Step = Result<(), Broken>;

const POLICY: &str = "policies/payments/policy.json";
const NEXT_VERSION: &str = "1.3";

#[tokio::main]
async fn main() -> ExitCode {
    let start = Instant::now();
    let keep = env::var("KEEP").is_ok_and(|keep| !matches!(keep.as_str(), "" | "0"));
    let cluster = Cluster::start().await;
    let shell = Shell::new(&cluster, files::prepare(cluster.folder()));
    let told = tell(&cluster, &shell).await;
    let code = match &told {
        Ok(()) => {
            shell.say(&format!("The end: everything happened as it should, in {} s.", start.elapsed().as_secs()));
            ExitCode::SUCCESS
        }
        Err(broken) => {
            eprintln!("\ndemo: {broken}");
            ExitCode::FAILURE
        }
    };
    if keep {
        let (kubeconfig, programs) = (cluster.kubeconfig(User::ADMIN), cluster.programs().to_owned());
        let guard = cluster.keep();
        println!("\nIt is left running. To look around:");
        println!("  cd {}", shell.folder().display());
        let own =
            cluster::controller::sekuire().parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        println!("  export KUBECONFIG={} PATH={}:{own}:$PATH", kubeconfig.display(), programs.display());
        println!("  kubectl get wsp,prepo,skey,pled,skagent -A");
        println!("To end it, and to remove its folder:\n  kill {guard}");
    }
    code
}

async fn tell(cluster: &Cluster, shell: &Shell) -> Step {
    api_server(shell).await?;
    repository(shell).await?;
    let mut controller = ControllerOptions::new("demo").spawn(cluster).await;
    shell.started(&controller);
    controller.ready().await;
    controller.keep_running(); // until the cluster ends, or its guard ends both
    enforced(shell).await?;
    admission(shell).await?;
    new_version(shell).await?;
    tampered(shell).await
}

async fn api_server(shell: &Shell) -> Step {
    shell.say("A Kubernetes API server, started a moment ago, and the kinds of this project.");
    shell.run("kubectl version").await?.shows("Server Version: v1.")?;
    shell.run("sekuire crds | kubectl apply --server-side -f -").await?.shows("workspacepolicies.sekuire.ai")?;
    shell.quiet("kubectl wait --for=condition=Established crd --all --timeout=60s").await?;
    Ok(())
}

async fn repository(shell: &Shell) -> Step {
    shell.say("The platform team's Git repository: a copy of policies-example. It makes a key of its own, and signs.");
    shell
        .run("sekuire key generate --out ../private --workspace ws_payments --workspace ws_research")
        .await?
        .shows("key_")?;
    shell.run("cp ../private/key_*.yaml keys/platform-2026.yaml").await?;
    let sign = "sekuire policy sign policies/payments/policy.json policies/payments/next.json \
                policies/research/policy.yaml --key ../private/key_*.pem --drop-comments";
    shell.run(sign).await?;
    let validate = format!("sekuire policy validate --file {POLICY} --trust keys/platform-2026.yaml");
    shell.run(&validate).await?.shows("Verified")?;
    shell.run("git init --quiet --initial-branch main").await?;
    shell.run("git add .").await?;
    shell.run("git commit --quiet -m 'Policies of payments and research'").await?;
    shell.run("git remote add origin ../policies.git").await?;
    shell.run("git push --set-upstream origin main").await?.shows("main -> main")?;
    Ok(())
}

async fn enforced(shell: &Shell) -> Step {
    shell.say(
        "The controller is told which keys to trust and which repository to watch. It fetches, verifies, enforces.",
    );
    shell
        .run("kubectl apply -f keys -f repository.yaml")
        .await?
        .shows("policyrepository.sekuire.ai/policies created")?;
    shell.run("kubectl wait --for=condition=Ready prepo/policies --timeout=60s").await?.shows("condition met")?;
    shell
        .run("kubectl wait --for=condition=Ready wsp --all --timeout=60s")
        .await?
        .shows("ws-payments condition met")?;
    let policies = shell.run("kubectl get wsp").await?;
    policies.shows("policy_payments")?;
    policies.shows("policy_research")?;
    Ok(())
}

async fn admission(shell: &Shell) -> Step {
    shell.say("Agents that comply are admitted. Their namespaces are bound to a workspace by a label.");
    shell.run("kubectl apply -f agents/payments/namespace.yaml -f agents/research/namespace.yaml").await?;
    let comply = "kubectl apply -f agents/payments/reconciler.yaml -f agents/research/paper-reader.yaml";
    shell.run(comply).await?.shows("agent.sekuire.ai/paper-reader created")?;

    shell.say("Agents that do not comply are refused by the API server, with all that is wrong, and by which policy.");
    let refused = shell.refused("kubectl apply -f agents/payments/shadow-bot.yaml").await?;
    for rule in ["policy_payments version 1.2", "model.blocked", "tool.blocked", "compliance.encryption_required"] {
        refused.shows(rule)?;
    }
    shell.refused("kubectl apply -f agents/research/crawler.yaml").await?.shows("filesystem.blocked")?;
    shell.refused("kubectl apply -f agents/payments/refund-helper.yaml").await?.shows("tool.not_approved")?;
    shell.refused("kubectl apply -f agents/payments/log-cleaner.yaml").await?.shows("tool.blocked")?;
    shell.run("kubectl get skagent -A").await?.lacks("shadow-bot")?;
    Ok(())
}

async fn new_version(shell: &Shell) -> Step {
    shell.say("A new version approves the tool of the last one. It is signed and pushed; that is all.");
    files::approve_tool(shell);
    shell.run(&format!("sekuire policy sign {POLICY} --key ../private/key_*.pem")).await?;
    shell.run(&format!("git --no-pager diff --unified=0 {POLICY}")).await?.shows("refund_create")?;
    shell.run("git commit --quiet -am 'Approve refund_create for payments'").await?;
    shell.run("git push --quiet").await?;
    let wait =
        format!("kubectl wait --for=jsonpath={{.spec.document.version}}={NEXT_VERSION} wsp/ws-payments --timeout=60s");
    shell.run(&wait).await?.shows("condition met")?;
    shell.until("kubectl apply --dry-run=server -f agents/payments/refund-helper.yaml").await?;
    let admitted = shell.run("kubectl apply -f agents/payments/refund-helper.yaml").await?;
    admitted.shows("agent.sekuire.ai/refund-helper created")
}

async fn tampered(shell: &Shell) -> Step {
    shell.say("Somebody who can write to the repository, and has no key, allows shell_exec and raises the version.");
    files::tamper(shell);
    shell.run("git commit --quiet --author 'Mallory <mallory@example.com>' -am 'Small cleanup'").await?;
    shell.run(&format!("git --no-pager show --format='%h %an: %s' --unified=0 {POLICY}")).await?.shows("Mallory")?;
    shell.run("git push --quiet").await?;
    let commit = shell.quiet("git rev-parse HEAD").await?.trim().to_owned();

    shell.say("It is refused, with reason, commit and path. What was enforced stays enforced.");
    shell
        .run("kubectl wait --for=condition=Ready=false wsp/ws-payments --timeout=60s")
        .await?
        .shows("condition met")?;
    let why = "kubectl get wsp ws-payments -o \
               jsonpath='{range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{\"\\n\"}{end}'";
    let conditions = shell.run(why).await?;
    for part in ["Ready=False HashMismatch", POLICY, &commit, "Enforced=True"] {
        conditions.shows(part)?;
    }
    shell.run("kubectl get wsp,prepo,skey").await?.shows("HashMismatch")?;
    let refused = shell.refused("kubectl apply -f agents/payments/log-cleaner.yaml").await?;
    refused.shows(&format!("version {NEXT_VERSION}"))?;
    refused.shows("tool.blocked")?;

    shell.say("The platform team takes the commit back, and all is well again.");
    shell.run("git revert --no-edit HEAD").await?.shows("Revert \"Small cleanup\"")?;
    shell.run("git push --quiet").await?;
    shell
        .run("kubectl wait --for=condition=Ready wsp --all --timeout=60s")
        .await?
        .shows("ws-payments condition met")?;
    shell.run("kubectl get wsp -o wide").await?.lacks("HashMismatch")
}
