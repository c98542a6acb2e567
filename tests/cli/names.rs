//! What our pages say to type means our agents, also where somebody else's kind has the plural `agents`, of which there are many.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cluster::Cluster;

/// All pages and texts that people read commands off.
fn pages() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let chart = root.join("charts/sekuire-policy-controller");
    let mut pages: Vec<PathBuf> = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "policies-example/README.md"]
        .map(|page| root.join(page))
        .into();
    pages.extend(["README.md", "values.yaml", "files/alerts.yaml"].map(|page| chart.join(page)));
    for folder in [root.join("docs"), chart.join("templates")] {
        pages.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()));
    }
    pages
}

/// What a text says in code: the lines of blocks, which a backslash joins, and what stands between backticks. Of what is no
/// Markdown, every line.
fn code(text: &str, markdown: bool) -> Vec<String> {
    let lines = |text: &str| text.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>();
    if !markdown {
        return lines(text);
    }
    let mut code = Vec::new();
    for (number, part) in text.split("```").enumerate() {
        if number % 2 == 1 {
            code.extend(lines(part));
        } else {
            code.extend(part.split('`').skip(1).step_by(2).map(|inline| inline.replace('\n', " ")));
        }
    }
    code
}

/// The words of every kubectl command of a text, up to what it is piped into.
fn commands(text: &str, markdown: bool) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    for line in code(text, markdown) {
        for (at, _) in line.match_indices("kubectl ") {
            let words = line[at..].split_whitespace().take_while(|word| !word.starts_with(['|', ';', '#', '&']));
            commands.push(words.map(|word| word.trim_matches(['\'', '"', ',', ')', '(']).to_owned()).collect());
        }
    }
    commands
}

/// Whether a word of a command is the bare plural, the singular, or something of it.
fn means_anybodys(words: &[String]) -> Option<String> {
    words.windows(2).find_map(|pair| {
        let (before, word) = (pair[0].as_str(), pair[1].as_str());
        let file = ["-f", "--filename", "sekuire", "-n", "--namespace"].contains(&before);
        let bare = word.split(['/', '.', ',']).next().is_some_and(|name| ["agent", "agents"].contains(&name));
        let named = word.contains("sekuire.ai") || word.ends_with(".yaml") || word.ends_with(".json");
        (bare && !file && !named).then(|| words.join(" "))
    })
}

#[test]
fn no_page_says_agents_to_kubectl_without_the_group_or_the_short_name() {
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for words in commands(&text, page.extension().is_some_and(|extension| extension == "md")) {
            seen += usize::from(words.iter().any(|word| ["skagent", "agents.sekuire.ai"].contains(&word.as_str())));
            assert_eq!(means_anybodys(&words), None, "{}", page.display());
        }
        // rules of RBAC name the group beside the plural
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("resources:")) {
            if line.split(|c: char| !c.is_alphanumeric()).any(|word| word == "agents") {
                let around = lines[number.saturating_sub(4)..lines.len().min(number + 5)].join("\n");
                assert!(
                    around.contains("sekuire.ai") || around.contains("$group"),
                    "{}:{}: {line}",
                    page.display(),
                    number + 1
                );
            }
        }
    }
    assert!(seen >= 4, "{seen}");
    for bad in [
        "```\nkubectl get agents -A\n```",
        "`kubectl\nget agents -A -o yaml | sekuire agent check -`",
        "`kubectl explain agent.spec` says",
        "```\nkubectl get -n payments \\\n  agents/scout\n```",
        "`kubectl auth can-i create agents`",
    ] {
        assert!(commands(bad, true).iter().any(|words| means_anybodys(words).is_some()), "{bad}");
    }
}

#[tokio::test]
async fn the_short_name_means_our_agents_beside_kinds_of_others_with_the_same_plural() {
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    let groups = ["agent.k8s.elastic.co", "kagent.dev", "agent-install.openshift.io"];
    for group in groups {
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("agents.{group}")},
            "spec": {"group": group, "scope": "Namespaced",
                "names": {"kind": "Agent", "plural": "agents", "singular": "agent"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
        });
        cluster.apply(&definition.to_string()).await.ok();
        let name = format!("crd/agents.{group}");
        cluster.kubectl(["wait", "--for=condition=Established", "--timeout=60s", &name]).await.ok();
    }
    let namespace = cluster.namespace("agents").await;
    let agent: Value = json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent", "metadata": {"name": "ours", "namespace": namespace},
        "spec": {"model": {"provider": "openai", "name": "gpt-4"}},
    });
    cluster.apply(&agent.to_string()).await.ok();
    for name in ["skagent", "agents.sekuire.ai"] {
        assert!(cluster.kubectl(["get", name, "-A"]).await.ok().contains("ours"), "{name}");
    }
    let explained = cluster.kubectl(["explain", "skagent.spec"]).await.ok();
    assert!(explained.contains("sekuire.ai") && explained.contains("fallbackModels"), "{explained}");
}
