use serde_json::json;

use super::*;

fn repository() -> PolicyRepository {
    let value = json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository", "metadata": {"name": "r", "generation": 1},
        "spec": {"url": "https://git.example.com/policies"},
    });
    serde_json::from_value(value).unwrap()
}

fn look(revision: &str, skipped: usize) -> Look {
    Look {
        revision: Some(revision.to_owned()),
        path_exists: true,
        skipped,
        findings: Some(Vec::new()),
        applied: true,
        cursor: Some(Cursor::default()),
        ..Look::default()
    }
}

/// Stores what a look found, and returns what was told.
fn store(repository: &mut PolicyRepository, look: &Look) -> Vec<Told> {
    let before = repository.status.clone().unwrap_or_default();
    let after = status(repository, look, None, Timestamp::UNIX_EPOCH);
    repository.status = Some(after.clone());
    events(&before, &after)
}

fn ready(repository: &PolicyRepository) -> String {
    conditions::find(&repository.status.as_ref().unwrap().conditions, "Ready").unwrap().message.clone()
}

fn skipped(repository: &PolicyRepository) -> Option<u32> {
    repository.status.as_ref().unwrap().skipped_commits
}

fn warnings(told: &[Told]) -> usize {
    told.iter().filter(|told| told.warning && told.reason == "LimitExceeded").count()
}

#[test]
fn commits_that_were_not_read_stay_in_the_status_of_their_revision_and_are_told_once() {
    let mut repository = repository();
    assert_eq!(warnings(&store(&mut repository, &look("main@sha1:a", 0))), 0);
    assert_eq!((skipped(&repository), ready(&repository).contains("not read")), (None, false));

    let told = store(&mut repository, &look("main@sha1:b", 7));
    assert_eq!(warnings(&told), 1);
    assert!(told.iter().any(|told| told.note.starts_with("main@sha1:b: ") && told.note.contains("not read: 7")));
    // the next look at the same tip has nothing in between
    assert_eq!(warnings(&store(&mut repository, &look("main@sha1:b", 0))), 0);
    assert_eq!(skipped(&repository), Some(7));
    assert!(ready(&repository).contains("not read: 7 (LimitExceeded"), "{}", ready(&repository));

    // a look that could not reach the server knows nothing of it
    store(&mut repository, &Look { fault: Some(Fault::suspended()), ..Look::default() });
    assert_eq!(skipped(&repository), Some(7));

    assert_eq!(warnings(&store(&mut repository, &look("main@sha1:c", 7))), 1, "another revision");
    store(&mut repository, &look("main@sha1:d", 0));
    assert_eq!((skipped(&repository), ready(&repository).contains("not read")), (None, false));
}

#[test]
fn a_path_can_neither_forge_a_line_nor_fill_a_status() {
    let mut repository = repository();
    let finding = |path: String| Finding {
        path,
        workspace: Some("w\n".repeat(1000)),
        reason: Reason::Malformed,
        message: format!("\u{1b}[2J{}", "ü".repeat(400)),
    };
    let mut look = look("main@sha1:a", 0);
    look.findings = Some(vec![
        finding("policies/größe\nReady: True.json".to_owned()),
        finding(format!("policies/{}.json", "x".repeat(4000))),
    ]);
    let told = store(&mut repository, &look);
    let refused = &repository.status.as_ref().unwrap().refused;
    assert_eq!(refused[0].path, r"policies/größe\nReady: True.json");
    for refused in refused {
        assert!(refused.path.len() < 300, "{}", refused.path.len());
        assert!(refused.workspace.as_ref().unwrap().len() < 300);
        assert!(refused.message.len() <= LONGEST_MESSAGE + '…'.len_utf8(), "{}", refused.message.len());
        assert!(refused.message.ends_with("ü…"), "cut between characters");
    }
    let texts = refused.iter().flat_map(|refused| [&refused.path, &refused.message]);
    let texts = texts.chain(told.iter().map(|told| &told.note));
    assert!(texts.clone().count() > 4 && texts.flat_map(|text| text.chars()).all(|character| !character.is_control()));
}

fn annotated(mut repository: PolicyRepository, commit: &str) -> PolicyRepository {
    repository.metadata.annotations = Some([(ACCEPT_REWIND.to_owned(), commit.to_owned())].into());
    repository
}

#[test]
fn a_rewritten_history_is_accepted_by_an_administrators_word_on_just_that_commit_and_once() {
    let (tip, other) = ("a".repeat(40), "b".repeat(40));
    assert_eq!(accepts_rewind(&repository(), &tip), Ok(false));
    let mut repository = annotated(repository(), &tip);
    assert!(accepts_rewind(&repository, &other).unwrap_err().contains(&tip));
    assert_eq!(accepts_rewind(&repository, &tip), Ok(true));

    let cursor = Cursor { commit: tip.clone(), ..Cursor::default() };
    let told = store(
        &mut repository,
        &Look { cursor: Some(cursor), rewound_from: Some(other.clone()), ..look("main@sha1:a", 0) },
    );
    assert!(told.iter().any(|told| told.warning && told.reason == "RewindAccepted" && told.note.contains(&other)));
    let recorded = repository.status.as_ref().unwrap().accepted_rewind.clone().unwrap();
    assert_eq!((recorded.commit, recorded.previous), (tip.clone(), other.clone()));
    // forced away, and back again
    assert_eq!(accepts_rewind(&repository, &other), Ok(false));
    assert!(accepts_rewind(&repository, &tip).unwrap_err().contains("once"));
    // the record stays through later looks
    store(&mut repository, &look("main@sha1:c", 0));
    assert!(repository.status.as_ref().unwrap().accepted_rewind.is_some());
}

#[test]
fn a_repository_that_was_not_fetched_for_too_long_says_so_once_and_until_it_is() {
    let mut repository = repository();
    store(&mut repository, &look("main@sha1:a", 0));
    let unreachable = || Look {
        fault: Some(Fault::git(&GitError::Failed("unreachable".to_owned()))),
        stale_since: Some(Timestamp::UNIX_EPOCH),
        ..Look::default()
    };
    let told = store(&mut repository, &unreachable());
    assert_eq!(told.iter().filter(|told| told.reason == "Stale").count(), 1);
    assert!(store(&mut repository, &unreachable()).is_empty());
    let conditions = |repository: &PolicyRepository| repository.status.clone().unwrap().conditions;
    let stale = conditions::find(&conditions(&repository), "Stale").cloned().unwrap();
    assert!(stale.status == "True" && stale.message.contains("1970-01-01T00:00:00Z"), "{}", stale.message);
    store(&mut repository, &look("main@sha1:a", 0));
    assert!(conditions::find(&conditions(&repository), "Stale").is_none());
}
