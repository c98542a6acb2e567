//! What a terminal is shown, and the name that the program is called by.

use std::process::Command;

use super::support::{Desk, JSON};
use crate::cluster::skip::skip;

#[test]
fn colour_is_for_terminals_alone_and_never_with_no_color() {
    if Command::new("script").arg("--version").output().is_err() {
        skip!("needs script (bsdutils)");
    }
    let desk = Desk::new();
    desk.write("p.json", JSON);
    desk.sign(&["p.json"]);
    let program = env!("CARGO_BIN_EXE_sekuire");
    let on_a_terminal = |environment: &[(&str, &str)], command: &str| {
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &format!("{program} {command}"), "/dev/null"]);
        script.current_dir(desk.path("")).env_remove("NO_COLOR").envs(environment.iter().copied());
        String::from_utf8(script.output().unwrap().stdout).unwrap()
    };
    let show = "policy show p.json --trust keys";
    assert!(on_a_terminal(&[], show).contains("\u{1b}[32m✓\u{1b}[0m Verified"));
    for (environment, command) in [
        (&[("NO_COLOR", "1")][..], show),
        (&[], "policy show p.json --trust keys --output json"),
        (&[], "policy show p.json --trust keys | cat"),
    ] {
        let shown = on_a_terminal(environment, command);
        assert!(shown.contains("Verified") && !shown.contains('\u{1b}'), "{command}: {shown:?}");
    }
}

#[test]
fn what_a_document_says_of_itself_cannot_drive_the_terminal() {
    let desk = Desk::new();
    let evil = JSON.replace("größe", "\\u001b[2J\\u202e\\nverified ✓");
    desk.write("p.json", &evil);
    desk.sign(&["p.json"]);
    let shown = desk.run(&["policy", "show", "p.json", "--trust", "keys"]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(!shown.out.contains('\u{1b}') && !shown.out.contains('\u{202e}'), "{:?}", shown.out);
    assert!(shown.out.contains("\\u{1b}[2J"), "{}", shown.out);
}

#[test]
fn named_kubectl_sekuire_it_is_a_plugin_of_kubectl() {
    let desk = Desk::new();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sekuire"), desk.path("kubectl-sekuire")).unwrap();
    let output = Command::new(desk.path("kubectl-sekuire")).args(["policy", "show", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("Usage: kubectl sekuire policy show"), "{help}");
}
