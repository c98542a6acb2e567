//! The whole life of a policy, as a platform team and an agent team live it: the real binary, Git, controller and API server.
//! All that is typed and printed is a snapshot; `INSTA_UPDATE=always cargo test cli::story` writes it anew.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cluster::controller::sekuire;
use crate::cluster::{Cluster, Controller, User};

/// Folder, cluster and all that was typed and printed so far.
struct Story {
    cluster: Cluster,
    _controller: Controller,
    folder: TempDir,
    told: String,
}

impl Story {
    async fn begin() -> Story {
        let cluster = Cluster::start().await;
        cluster.install_crds().await;
        let controller = Controller::start(&cluster).await;
        Story { cluster, _controller: controller, folder: tempfile::tempdir().unwrap(), told: String::new() }
    }

    fn say(&mut self, text: &str) {
        self.told += &format!("\n## {text}\n\n");
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("policies").join(file)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::create_dir_all(self.path(file).parent().unwrap()).unwrap();
        std::fs::write(self.path(file), text).unwrap();
    }

    fn edit(&self, file: &str, changes: &[(&str, &str)]) {
        let mut text = std::fs::read_to_string(self.path(file)).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{from} in {text}");
            text = text.replace(from, to);
        }
        self.write(file, &text);
    }

    /// Types a line at the shell, and keeps what it prints and, unless it is 0, its exit code, which has to be this one.
    #[track_caller]
    fn types(&mut self, line: &str, code: i32) -> String {
        let (told, ended) = self.quietly(line);
        let code_line = if ended == 0 { String::new() } else { format!("[exit code {ended}]\n") };
        self.told += &format!("$ {line}\n{told}{code_line}\n");
        assert_eq!(ended, code, "{}", self.told);
        told
    }

    fn quietly(&self, line: &str) -> (String, i32) {
        let own = sekuire();
        let path = format!(
            "{}:{}:{}",
            own.parent().unwrap().display(),
            self.cluster.programs().display(),
            std::env::var("PATH").unwrap()
        );
        let folder = if self.path("").is_dir() { self.path("") } else { self.folder.path().to_owned() };
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{{ {line}\n}} 2>&1")]).current_dir(folder).stdin(Stdio::null());
        shell.env("PATH", path).env("KUBECONFIG", self.cluster.kubeconfig(User::ADMIN)).env("KUBERC", "off");
        for name in ["AUTHOR", "COMMITTER"] {
            shell.env(format!("GIT_{name}_NAME"), "team").env(format!("GIT_{name}_EMAIL"), "team@example.com");
        }
        shell.env("HOME", self.folder.path()).env_remove("SEKUIRE_KEY_PASSPHRASE");
        let output = shell.output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
    }

    /// Waits until a line of the shell succeeds.
    #[track_caller]
    fn until(&self, line: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (told, code) = self.quietly(line);
            if code == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{line}: {told}\n{}", self.told);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Pushes what was changed, and waits until the workspace has that version.
    fn publish(&mut self, message: &str, version: &str) {
        self.types(&format!("git add . && git commit --quiet -m '{message}' && git push --quiet origin main"), 0);
        self.until(&format!(
            "test \"$(kubectl get wsp ws-support -o 'jsonpath={{.spec.document.version}} {{.status.observedGeneration}} \
             {{.status.conditions[?(@.type==\"Ready\")].status}}')\" = \
             \"{version} $(kubectl get wsp ws-support -o 'jsonpath={{.metadata.generation}}') True\""
        ));
        self.types("kubectl get wsp ws-support --no-headers -o custom-columns=NAME:.metadata.name,VERSION:.spec.document.version,ENFORCED:.status.enforcedVersion", 0);
    }
}

const POLICY: &str = "policies/support.yaml";

const REPOSITORY: &str = "apiVersion: sekuire.ai/v1alpha1
kind: PolicyRepository
metadata: {name: policies}
spec:
  url: URL
  ref: {branch: main}
  interval: 1s
  workspaces: [ws_support]
";

const NAMESPACE: &str = "apiVersion: v1
kind: Namespace
metadata: {name: support, labels: {sekuire.ai/workspace: ws_support}}
";

const AGENT: &str = "apiVersion: sekuire.ai/v1alpha1
kind: Agent
metadata: {name: helper, namespace: support}
spec:
  model: {provider: anthropic, name: claude-sonnet-4-5}
  tools: [{name: web_search}]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_lives_from_the_first_key_to_its_end() {
    let mut story = Story::begin().await;
    let origin = story.folder.path().join("policies.git");
    story.quietly(&format!("git init --quiet --bare -b main {0} && git clone --quiet {0} policies", origin.display()));
    story.quietly("git checkout --quiet -b main");
    story.write("repository.yaml", &REPOSITORY.replace("URL", &format!("file://{}", origin.display())));
    story.write("agents/namespace.yaml", NAMESPACE);
    story.write("agents/helper.yaml", AGENT);
    story.write("agents/shell.yaml", &AGENT.replace("helper", "shell").replace("web_search", "shell_exec"));

    first_version(&mut story);
    second_version(&mut story);
    the_end(&mut story);

    let folder = story.folder.path().display().to_string();
    let told = story.told.trim_start().replace(&folder, "~").replace(&story.cluster.url(), "https://CLUSTER");
    insta::with_settings!({filters => vec![
        ("key([_-])[0-9a-f]{16}", "key${1}KEY"),
        ("[0-9a-f]{128}", "SIGNATURE"),
        ("[0-9a-f]{64}", "HASH"),
        ("[0-9a-f]{40}", "COMMIT"),
        (r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    ], omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("story", told);
    });
}

fn first_version(story: &mut Story) {
    story.say("A key, and a first policy");
    story.types("sekuire key generate --out ../private --workspace ws_support", 0);
    story.types("mkdir -p keys policies && cp ../private/key_*.yaml keys/", 0);
    story.types(&format!("sekuire policy new --workspace ws_support --out {POLICY}"), 0);
    story.types(&format!("sekuire policy sign {POLICY} --key ../private/key_*.pem"), 0);
    story.types(&format!("sekuire policy show {POLICY} --trust keys"), 0);
    story.types(&format!("sekuire policy validate --file {POLICY} --trust keys"), 0);
    story.types("sekuire repo check --trust keys", 0);
    story.types("kubectl apply -f keys -f repository.yaml -f agents/namespace.yaml", 0);
    story.publish("Policy of support", "1");

    story.say("An agent that complies, and one that does not");
    story.until("sekuire agent push --dry-run --workspace ws_support agents/helper.yaml");
    story.types("sekuire policy pull --workspace ws_support --out ../policy.json", 0);
    story.types("sekuire agent check agents --workspace ws_support", 1);
    story.types("sekuire agent push --workspace ws_support agents", 1);
    story.types("kubectl get skagent -n support --no-headers", 0);
    story.types("sekuire agent push --workspace ws_support agents/helper.yaml", 0);
    let pushed = story.types("sekuire agent push --workspace ws_support agents/shell.yaml", 1);
    let applied = story.types("kubectl apply -f agents/shell.yaml", 1);
    let said = pushed.lines().next().unwrap().trim_start_matches("error: ");
    assert!(applied.contains(said), "the same words: {said}\n{applied}");
}

fn second_version(story: &mut Story) {
    story.say("A second version: first as a draft, then active");
    story.edit(POLICY, &[("status: active", "status: draft"), ("[shell_*]", "[web_*]")]);
    story.types(&format!("sekuire policy sign {POLICY} --key ../private/key_*.pem --bump"), 0);
    story.types(&format!("sekuire policy diff cluster:ws_support {POLICY}"), 0);
    story.types(&format!("sekuire policy diff HEAD:{POLICY} {POLICY} --output json"), 0);
    story.types(&format!("sekuire policy activate {POLICY} --key ../private/key_*.pem"), 0);
    story.types("sekuire repo check --base origin/main --cluster", 0);
    story.publish("Web tools are denied, the shell is not", "3");
    story.until("! sekuire agent push --dry-run --workspace ws_support agents/helper.yaml");
    story.types("sekuire agent push --workspace ws_support agents/shell.yaml", 0);
    story.types("sekuire agent push --workspace ws_support agents/helper.yaml", 1);

    story.say("Back to the first rules: the old file is refused, a revert is not");
    story.quietly(&format!("cp {POLICY} kept.yaml; git show HEAD~1:{POLICY} > {POLICY}"));
    story.types("sekuire repo check --base HEAD --trust keys", 1);
    story.quietly(&format!("mv kept.yaml {POLICY}"));
    story.types(&format!("sekuire policy revert {POLICY} --to HEAD~1 --key ../private/key_*.pem"), 0);
    story.types("sekuire repo check --base HEAD --trust keys --agents agents", 0);
    story.publish("Back to the rules of version 1", "4");
}

fn the_end(story: &mut Story) {
    story.say("The end");
    story.types(&format!("sekuire policy archive {POLICY} --key ../private/key_*.pem"), 0);
    story.types("sekuire repo check --base origin/main --cluster --output github", 0);
    story.publish("Retire the policy of support", "5");
    // what was admitted stays as it is, until it is made anew
    story.quietly("kubectl delete skagent -n support --all");
    story.until("! kubectl apply --dry-run=server -f agents/helper.yaml");
    story.types("sekuire agent push --workspace ws_support agents/helper.yaml", 1);
    let refused = story.types("kubectl apply -f agents/helper.yaml", 1);
    assert!(refused.contains("[policy.missing]"), "{refused}");
}
