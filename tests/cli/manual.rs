//! `sekuire manual`, and what `--help` says.

use std::process::Command;

use super::support::Desk;
use crate::cluster::skip::skip;

#[test]
fn the_reference_has_every_command_with_its_examples_as_code() {
    let desk = Desk::new();
    let reference = desk.run(&["manual"]).out;
    for command in ["sekuire", "sekuire key generate", "sekuire policy sign", "sekuire agent check"] {
        assert!(reference.contains(&format!("\n## {command}\n")), "{command}");
    }
    let section = reference.split("\n## sekuire policy sign\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let code: String = section.split("```").skip(1).step_by(2).collect();
    assert!(code.contains("\nsekuire policy sign policies/payments.json --key"), "{section}");
    let prose: String = section.split("```").step_by(2).collect();
    assert!(prose.contains("- `--bump`: Raise the version"), "{section}");
    assert!(prose.contains("`<FILES>...`: Documents to sign: \\*.json"), "{section}");
}

#[test]
fn each_command_has_a_man_page_whose_examples_stay_as_they_are() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["manual", "--dir", "man"]).code, 0);
    let page = desk.read("man/sekuire-policy-sign.1");
    let examples = page.split(".SH EXAMPLES\n.nf\n").nth(1).unwrap().split("\n.fi\n").next().unwrap();
    assert!(examples.contains(r"\-\-signer \(aqaws\-kms\-sign alias/policies\(aq"), "{examples}");
    if Command::new("man").arg("--version").output().is_err() {
        skip!("needs man");
    }
    let output = Command::new("man")
        .args(["--warnings", "-l", "man/sekuire-policy-sign.1"])
        .current_dir(desk.path(""))
        .envs([("MANWIDTH", "80"), ("LC_ALL", "C.UTF-8")])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{err}");
    let example = "sekuire policy sign policies/a.json --public-key kms.pub --signer 'aws-kms-sign alias/policies'";
    assert!(out.lines().any(|line| line.trim() == example), "{out}");
}

#[test]
fn a_group_of_options_draws_no_others_into_it() {
    let reference = Desk::new().run(&["manual"]).out;
    let groups = |name: &str| {
        let heading = format!("\n{name}:\n\n");
        let groups = reference.split(&heading).skip(1);
        let options = |group: &str| {
            let lines = group.lines().take_while(|line| line.starts_with("- `"));
            lines.map(|line| line.split(['`', ' ']).nth(2).unwrap().to_owned()).collect::<Vec<_>>()
        };
        groups.map(options).collect::<Vec<_>>()
    };
    let (cluster, signing) = (groups("Cluster"), groups("Signing"));
    assert!(cluster.len() > 3 && cluster.iter().all(|group| *group == ["--kubeconfig", "--context"]), "{cluster:?}");
    let all = ["--key", "--signer", "--public-key", "--key-id"];
    assert!(signing.len() > 3 && signing.iter().all(|group| *group == all), "{signing:?}");
}
