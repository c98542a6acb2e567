//! `leaks FOLDER`: whether any secret of a run of the tests shows in what was said in it. `.ci/test` runs it at the end.
//!
//! One secret was said on purpose, in a log, an Event and a status: where that is not found, the check is worth nothing, and
//! fails too. Secrets are named, never shown.
#![allow(clippy::expect_used, clippy::panic, reason = "what is wrong with the folder ends the check")]

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

mod search;

use search::{Search, Secret, files};

/// Where the planted secret has to be found.
const PLACES: [&str; 3] = ["a log", "an Event", "a status"];

fn main() -> ExitCode {
    let folder = std::env::args_os().nth(1).expect("usage: leaks FOLDER, the one that SEKUIRE_LEAKS named");
    let folder = Path::new(&folder);
    let list = |part: &str| {
        files(&folder.join(part)).unwrap_or_else(|error| panic!("{part} in {}: {error}", folder.display()))
    };
    let read = |path: &Path| -> Secret {
        let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let secrets: Vec<Secret> = list("secrets").iter().map(|path| read(path)).collect();
    let search = Search::new(&secrets);
    let (mut bytes, mut leaks, mut planted) = (0, Vec::new(), [false; 3]);
    let all = [list("logs"), list("objects")].concat();
    for path in &all {
        let (found, length) = search.found_in_file(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        bytes += length;
        for index in found {
            if secrets[index].kind == "planted" {
                planted.iter_mut().zip(places(path, &search, index)).for_each(|(place, here)| *place |= here);
            } else {
                leaks.push(format!("{} shows in {}", secrets[index].name, path.display()));
            }
        }
    }
    println!(
        "leaks: {} secrets in {} forms looked for in {} files of {} MB",
        secrets.len(),
        search.patterns(),
        all.len(),
        bytes >> 20
    );
    for leak in &leaks {
        println!("LEAK: {leak}");
    }
    let missed: Vec<&str> = PLACES.iter().zip(planted).filter(|(_, found)| !found).map(|(place, _)| *place).collect();
    if !missed.is_empty() {
        println!(
            "LEAK: the secret that is said on purpose was not found in {}: the check does not work",
            missed.join(", ")
        );
    }
    if leaks.is_empty() && missed.is_empty() {
        println!("leaks: none shows; the planted one was found in {}", PLACES.join(", "));
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// Which of [`PLACES`] of a file a secret was found in.
fn places(path: &Path, search: &Search, index: usize) -> [bool; 3] {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let in_objects = path.parent().is_some_and(|folder| folder.ends_with("objects"));
    let status = || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|object| {
            object.get("status").is_some_and(|status| search.found_in(status.to_string().as_bytes()).contains(&index))
        })
    };
    [!in_objects, in_objects && extension == "events", in_objects && extension != "events" && status()]
}
