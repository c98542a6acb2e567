//! The table of what is accepted, refused and put back.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::*;
use crate::admission::hold::{Held, authenticate, follow};
use crate::admission::index::{LedgerView, ObjectView, fingerprint};
use crate::api::PolicyLedgerSpec;
use crate::api::policy_ledger::Lowered;
use crate::policy::{Document, KeyRing, Pattern, Refusal, TrustedKey, VerifiedPolicy};
use crate::policy::{PrivateKey, sign};

const NOW: &str = "2026-06-01T00:00:00Z";

fn plan(view: &WorkspaceView, candidates: &[Candidate]) -> Plan {
    super::plan(view, candidates, NOW.parse().unwrap())
}

fn key() -> PrivateKey {
    PrivateKey::from_seed(&[7; 32])
}

fn policy(id: &str, version: &str, status: &str, tool: &str) -> Arc<VerifiedPolicy> {
    signed_by("key_1", None, id, version, status, tool)
}

/// Past its time at `NOW`: its key has ended.
fn stale(id: &str, version: &str, tool: &str) -> Arc<VerifiedPolicy> {
    signed_by("key_0", Some("2026-05-01T00:00:00Z".parse().unwrap()), id, version, "active", tool)
}

fn signed_by(
    key_id: &str,
    not_after: Option<Timestamp>,
    id: &str,
    version: &str,
    status: &str,
    tool: &str,
) -> Arc<VerifiedPolicy> {
    let now: Timestamp = NOW.parse().unwrap();
    let skeleton = json!({
        "policy_id": id, "workspace_id": "ws_a", "version": version, "status": status,
        "content": {"agent": {"capabilities": {"denied_tools": [tool]}}},
    });
    let signed = sign(skeleton, &key(), key_id, now).unwrap();
    let trusted = TrustedKey {
        key_id: key_id.into(),
        public_key: key().public(),
        workspaces: vec![Pattern::new("*")],
        not_before: None,
        not_after,
        revoked: None,
    };
    let document = Document::from_value(signed).unwrap();
    Arc::new(authenticate(document, &KeyRing::new([trusted]), now).unwrap())
}

fn candidate(policy: &VerifiedPolicy, path: &str, order: usize, at_tip: bool) -> Candidate {
    Candidate {
        repository: "repo".into(),
        reference: "main".into(),
        path: path.into(),
        commit: format!("{order:040}").into(),
        blob: path.into(),
        order,
        at_tip,
        workspace: Some("ws_a".into()),
        verdict: Ok(Summary::of(policy)),
    }
}

/// A file at the tip.
fn tip(policy: &VerifiedPolicy, path: &str) -> Candidate {
    candidate(policy, path, 9, true)
}

fn object(policy: &Arc<VerifiedPolicy>) -> ObjectView {
    let document: serde_json::Value = serde_json::from_str(policy.document_json()).unwrap();
    ObjectView::for_tests("ws_a", Ok(policy.clone()), fingerprint(&document))
}

fn ledger(policy: &VerifiedPolicy) -> LedgerView {
    let spec = PolicyLedgerSpec {
        workspace: "ws_a".into(),
        version: *policy.version(),
        digest: policy.digest().into(),
        policy_id: policy.policy_id().into(),
        lifecycle: policy.status(),
        repository: "repo".into(),
        path: "p.json".into(),
        commit: "0".repeat(40),
        lowered: None,
        accepted_at: None,
    };
    LedgerView { uid: String::new(), resource_version: "1".into(), mark: Mark::from(&spec), accept: None, spec }
}

/// A workspace in which a policy is enforced, as it should be.
fn enforcing(policy: &Arc<VerifiedPolicy>) -> WorkspaceView {
    let mut object = object(policy);
    object.source = Some(Source { repository: "repo".into(), path: "p.json".into(), commit: "0".repeat(40) });
    let held = Held { policy: policy.clone(), source: object.source.clone(), refused: None };
    WorkspaceView { object: Some(object), ledger: Some(ledger(policy)), held: Some(held), ..WorkspaceView::default() }
}

fn reasons(plan: &Plan) -> Vec<Reason> {
    plan.outcomes.iter().map(|outcome| outcome.reason).collect()
}

fn version(plan: &Plan) -> String {
    plan.base.as_ref().unwrap().mark.version.to_string()
}

fn does_nothing(plan: &Plan) -> bool {
    plan.write.is_none() && plan.source.is_none() && !plan.raise_mark
}

#[test]
fn the_first_active_policy_is_written_and_marked() {
    let one = policy("p", "1", "active", "x");
    let plan = plan(&WorkspaceView::default(), &[tip(&one, "p.json")]);
    assert_eq!((plan.write, plan.raise_mark), (Some(Place::Candidate(0)), true));
    assert_eq!(reasons(&plan), [Reason::Verified]);
    assert_eq!(plan.source.unwrap().path, "p.json");
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let one = policy("p", "1", "active", "x");
    let plan = plan(&enforcing(&one), &[tip(&one, "p.json")]);
    assert!(does_nothing(&plan), "{plan:?}");
}

#[test]
fn a_draft_is_verified_and_replaces_nothing() {
    let (one, two) = (policy("p", "1", "active", "x"), policy("p", "2", "draft", "y"));
    let plan = plan(&enforcing(&one), &[tip(&one, "p.json"), tip(&two, "q.json")]);
    assert!(does_nothing(&plan));
    assert_eq!(reasons(&plan), [Reason::Verified, Reason::Verified]);
}

#[test]
fn a_higher_version_replaces_and_an_older_file_beside_it_is_no_fault() {
    let (one, two) = (policy("p", "1", "active", "x"), policy("p", "2", "active", "y"));
    let plan = plan(&enforcing(&one), &[tip(&one, "p.json"), tip(&two, "q.json")]);
    assert_eq!((plan.write, version(&plan)), (Some(Place::Candidate(1)), "2".to_owned()));
    assert_eq!(reasons(&plan), [Reason::Superseded, Reason::Verified]);
}

#[test]
fn an_older_version_alone_is_a_rollback_and_the_newer_one_stays() {
    let (one, two) = (policy("p", "1", "active", "x"), policy("p", "2", "active", "y"));
    let plan = plan(&enforcing(&two), &[tip(&one, "p.json")]);
    assert!(does_nothing(&plan));
    assert_eq!(reasons(&plan), [Reason::VersionRollback]);
}

#[test]
fn one_version_with_two_contents_is_reused() {
    let (one, other) = (policy("p", "1", "active", "x"), policy("p", "1.0", "active", "y"));
    let plan = plan(&enforcing(&one), &[tip(&other, "p.json")]);
    assert!(does_nothing(&plan));
    assert_eq!(reasons(&plan), [Reason::VersionReused]);
}

#[test]
fn two_new_documents_of_one_version_are_both_refused() {
    let (one, other) = (policy("p", "2", "active", "x"), policy("p", "2", "active", "y"));
    let view = enforcing(&policy("p", "1", "active", "z"));
    let plan = plan(&view, &[tip(&one, "a.json"), tip(&other, "b.json")]);
    assert_eq!(version(&plan), "1");
    assert_eq!(reasons(&plan), [Reason::VersionReused, Reason::VersionReused]);
}

#[test]
fn another_policy_cannot_take_a_workspace_that_has_one() {
    let (one, other) = (policy("p", "1", "active", "x"), policy("q", "2", "active", "y"));
    let plan = plan(&enforcing(&one), &[tip(&one, "p.json"), tip(&other, "q.json")]);
    assert!(does_nothing(&plan));
    assert_eq!(reasons(&plan), [Reason::Verified, Reason::ConflictingPolicies]);
}

#[test]
fn two_policies_for_a_free_workspace_are_both_refused() {
    let (one, other) = (policy("p", "1", "active", "x"), policy("q", "2", "active", "y"));
    let plan = plan(&WorkspaceView::default(), &[tip(&one, "p.json"), tip(&other, "q.json")]);
    assert!(plan.base.is_none());
    assert_eq!(reasons(&plan), [Reason::ConflictingPolicies, Reason::ConflictingPolicies]);
}

/// A file at the tip of another repository.
fn elsewhere(policy: &VerifiedPolicy) -> Candidate {
    Candidate { repository: "other".into(), ..tip(policy, "other.json") }
}

#[test]
fn a_workspace_that_one_repository_publishes_is_not_taken_by_another() {
    let (one, next) = (policy("p", "1", "active", "x"), policy("p", "2", "active", "y"));
    let conflict = plan(&enforcing(&one), &[tip(&one, "p.json"), elsewhere(&next)]);
    assert!(does_nothing(&conflict));
    assert_eq!(reasons(&conflict), [Reason::Verified, Reason::ConflictingPolicies]);
    // the same when nobody has looked at the first one yet
    let unseen = WorkspaceView { source_unseen: true, ..enforcing(&one) };
    assert_eq!(reasons(&plan(&unseen, &[elsewhere(&next)])), [Reason::ConflictingPolicies]);
}

#[test]
fn a_workspace_moves_to_another_repository_when_the_first_one_lets_go_of_it() {
    let (one, next) = (policy("p", "1", "active", "x"), policy("p", "2", "active", "y"));
    let both = plan(&enforcing(&one), &[tip(&one, "p.json"), elsewhere(&one)]);
    assert_eq!(reasons(&both), [Reason::Verified, Reason::Verified]);
    assert_eq!(version(&plan(&enforcing(&one), &[elsewhere(&next)])), "2");
    let end = policy("p", "2", "archived", "x");
    let again = policy("p", "3", "active", "y");
    assert_eq!(version(&plan(&enforcing(&end), &[tip(&end, "p.json"), elsewhere(&again)])), "3");
}

#[test]
fn another_policy_may_follow_one_that_was_archived() {
    let (end, other) = (policy("p", "2", "archived", "x"), policy("q", "3", "active", "y"));
    let plan = plan(&enforcing(&end), &[tip(&other, "q.json")]);
    assert_eq!((plan.write, version(&plan)), (Some(Place::Candidate(0)), "3".to_owned()));
}

#[test]
fn a_version_that_only_an_older_commit_had_is_enforced_although_the_tip_lacks_it() {
    let (one, two) = (policy("p", "1", "active", "x"), policy("p", "2", "active", "y"));
    let plan = plan(&enforcing(&one), &[candidate(&two, "p.json", 1, false), tip(&one, "p.json")]);
    assert_eq!((plan.write, version(&plan)), (Some(Place::Candidate(0)), "2".to_owned()));
    assert_eq!(reasons(&plan), [Reason::Verified, Reason::VersionRollback]);
}

#[test]
fn a_retirement_and_a_successor_in_two_commits_are_followed_in_their_order() {
    let one = policy("p", "1", "active", "x");
    let (end, other) = (policy("p", "2", "archived", "x"), policy("q", "3", "active", "y"));
    let candidates = [candidate(&end, "p.json", 1, false), tip(&other, "q.json")];
    let plan = plan(&enforcing(&one), &candidates);
    assert_eq!(version(&plan), "3");
}

#[test]
fn a_deleted_file_takes_nothing_away() {
    let one = policy("p", "1", "active", "x");
    let plan = plan(&enforcing(&one), &[]);
    assert!(does_nothing(&plan));
    assert_eq!(version(&plan), "1");
}

#[test]
fn an_edited_object_is_put_back_from_what_is_held() {
    let one = policy("p", "1", "active", "x");
    let mut view = enforcing(&one);
    view.object.as_mut().unwrap().fingerprint = [0; 32];
    let plan = plan(&view, &[]);
    assert_eq!((plan.write, plan.raise_mark), (Some(Place::Held), false));
}

#[test]
fn a_deleted_object_and_a_deleted_ledger_are_put_back() {
    let one = policy("p", "1", "active", "x");
    let mut view = enforcing(&one);
    view.object = None;
    view.ledger = None;
    let plan = plan(&view, &[]);
    assert_eq!((plan.write, plan.raise_mark), (Some(Place::Held), true));
}

#[test]
fn a_lowered_ledger_is_raised_again() {
    let (one, two) = (policy("p", "1", "active", "x"), policy("p", "2", "active", "y"));
    let mut view = enforcing(&two);
    view.ledger = Some(ledger(&one));
    let plan = plan(&view, &[tip(&two, "p.json")]);
    assert_eq!((plan.write, plan.raise_mark, version(&plan)), (None, true, "2".to_owned()));
}

#[test]
fn an_object_with_a_higher_signed_version_raises_the_mark_before_git_is_read() {
    let (one, two) = (policy("p", "1", "active", "x"), policy("p", "2", "active", "y"));
    let mut view = enforcing(&one);
    view.object = Some(object(&two));
    view.held = None;
    let plan = plan(&view, &[]);
    assert_eq!((plan.write, plan.raise_mark, version(&plan)), (None, true, "2".to_owned()));
}

#[test]
fn a_marked_version_that_nobody_holds_is_found_again_in_git() {
    let (one, two) = (policy("p", "1", "active", "x"), policy("p", "2", "active", "y"));
    let view = WorkspaceView {
        object: Some(object(&one)),
        ledger: Some(ledger(&two)),
        held: None,
        ..WorkspaceView::default()
    };
    let lost = plan(&view, &[]);
    assert_eq!((lost.base.unwrap().place, lost.write, lost.raise_mark), (Place::Nowhere, None, false));
    let found = plan(&view, &[candidate(&two, "p.json", 0, false)]);
    assert_eq!(found.write, Some(Place::Candidate(0)));
}

#[test]
fn a_document_signed_again_replaces_the_old_signature() {
    let one = policy("p", "1", "active", "x");
    let mut view = enforcing(&one);
    view.object.as_mut().unwrap().fingerprint = [1; 32];
    let put_back = plan(&view, &[tip(&one, "p.json")]);
    assert_eq!((put_back.write, put_back.raise_mark), (Some(Place::Candidate(0)), false));
    assert!(!put_back.signed_again, "somebody else wrote the object");
    // as this replica took it over: Git has a later signature, and from then on another source
    let later = copy("2026-05-02T00:00:00Z", None, &[]);
    let earlier = copy("2026-05-01T00:00:00Z", None, &[]);
    let (view, again) = (enforcing(&earlier), tip(&later, "again.json"));
    let signed = plan(&view, &[again]);
    assert_eq!((signed.write, signed.raise_mark, signed.signed_again), (Some(Place::Candidate(0)), true, true));
    assert_eq!(signed.source.unwrap().path, "again.json");
}

#[test]
fn a_replica_keeps_what_it_holds_whatever_the_object_says() {
    let now: Timestamp = NOW.parse().unwrap();
    let held = |policy: &Arc<VerifiedPolicy>| Held { policy: policy.clone(), source: None, refused: None };
    let (one, two) = (policy("p", "1", "active", "x"), policy("p", "2", "active", "y"));
    let draft = policy("p", "3", "draft", "z");
    let mark = Mark::from(&*two);
    let version = |held: Option<Held>| held.unwrap().policy.version().to_string();
    assert_eq!(version(follow(Some(held(&two)), None, Some(&mark), now)), "2");
    assert_eq!(version(follow(Some(held(&two)), Some(held(&one)), Some(&Mark::from(&*one)), now)), "2");
    assert_eq!(version(follow(Some(held(&two)), Some(held(&draft)), Some(&mark), now)), "2");
    assert_eq!(version(follow(Some(held(&one)), Some(held(&two)), Some(&Mark::from(&*one)), now)), "2");
    assert!(follow(None, Some(held(&one)), Some(&mark), now).is_none(), "below the mark");
    assert!(follow(None, Some(held(&two)), None, now).is_none(), "without a ledger");
}

#[test]
fn an_object_brings_forward_no_version_that_is_past_its_time() {
    let (one, late) = (policy("p", "1", "active", "x"), stale("p", "9", "y"));
    let mut view = enforcing(&one);
    view.object = Some(object(&late));
    let plan = plan(&view, &[tip(&one, "p.json")]);
    assert_eq!((version(&plan), plan.raise_mark), ("1".to_owned(), false));
    assert_eq!(plan.write, Some(Place::Candidate(0)), "the object is put back");
    let now: Timestamp = NOW.parse().unwrap();
    let held = |policy: &Arc<VerifiedPolicy>| Held { policy: policy.clone(), source: None, refused: None };
    let mark = Mark::from(&*one);
    assert!(follow(None, Some(held(&late)), Some(&mark), now).is_none(), "nor does a fresh replica take it");
}

#[test]
fn an_old_copy_of_the_same_version_whose_key_has_ended_takes_nothing_away() {
    let now: Timestamp = NOW.parse().unwrap();
    let held = |policy: &Arc<VerifiedPolicy>| Held { policy: policy.clone(), source: None, refused: None };
    let (one, copy) = (policy("p", "1", "active", "x"), stale("p", "1", "x"));
    assert_eq!(one.digest(), copy.digest());
    let after = follow(Some(held(&one)), Some(held(&copy)), Some(&Mark::from(&*one)), now).unwrap();
    assert!(after.policy.holds(now).is_ok());
    let mended = follow(Some(held(&copy)), Some(held(&one)), Some(&Mark::from(&*one)), now).unwrap();
    assert!(mended.policy.holds(now).is_ok());
    let mut view = enforcing(&one);
    view.object = Some(object(&copy));
    assert_eq!(plan(&view, &[]).write, Some(Place::Held));
}

#[test]
fn an_exchanged_object_of_the_marked_version_does_not_change_the_mark() {
    let (one, other) = (policy("p", "1", "active", "x"), policy("p", "1", "active", "y"));
    let view = WorkspaceView { object: Some(object(&other)), ledger: Some(ledger(&one)), ..WorkspaceView::default() };
    let lost = plan(&view, &[]);
    assert_eq!((lost.base.as_ref().unwrap().place, lost.raise_mark), (Place::Nowhere, false));
    let found = plan(&view, &[tip(&one, "p.json")]);
    assert_eq!((found.write, reasons(&found)), (Some(Place::Candidate(0)), vec![Reason::Verified]));
}

/// Version 1 of one policy, signed then by the first of these keys, and beside it by others, which count until the end.
fn copy(signed_at: &str, ends: Option<&str>, co_signers: &[u8]) -> Arc<VerifiedPolicy> {
    let now: Timestamp = NOW.parse().unwrap();
    let skeleton = json!({
        "policy_id": "p", "workspace_id": "ws_a", "version": "1", "status": "active", "content": {},
    });
    // a key of its own for each end
    let number = 100 + ends.map_or(0, |ends| ends.len() as u8 + ends.as_bytes()[8] - b'0');
    let own = PrivateKey::from_seed(&[number; 32]);
    let trusted = |key: &PrivateKey, id: String, not_after: Option<Timestamp>| TrustedKey {
        key_id: id,
        public_key: key.public(),
        workspaces: vec![Pattern::new("*")],
        not_before: None,
        not_after,
        revoked: None,
    };
    let mut keys = vec![trusted(&own, format!("own_{number}"), ends.map(|ends| ends.parse().unwrap()))];
    let mut value = sign(skeleton, &own, &format!("own_{number}"), signed_at.parse().unwrap()).unwrap();
    for number in co_signers {
        let (key, id) = (PrivateKey::from_seed(&[*number; 32]), format!("co_{number}"));
        let document = Document::from_value(value).unwrap();
        value =
            crate::policy::sign::cosign_with(&document, &key.public(), &id, |message| Ok(key.sign(message))).unwrap();
        keys.push(trusted(&key, id, None));
    }
    Arc::new(authenticate(Document::from_value(value).unwrap(), &KeyRing::new(keys), now).unwrap())
}

#[test]
fn of_two_copies_the_better_one_is_in_force_whichever_came_first_and_wherever_it_stands() {
    let now: Timestamp = NOW.parse().unwrap();
    // worse before better: the end counts first, then the number of signatures, then when it was signed
    let copies = [
        copy("2026-05-09T00:00:00Z", Some("2026-05-20T00:00:00Z"), &[1, 2, 3]),
        copy("2026-05-01T00:00:00Z", Some("2026-07-01T00:00:00Z"), &[]),
        copy("2026-05-09T00:00:00Z", Some("2026-07-01T00:00:00Z"), &[]),
        copy("2026-05-01T00:00:00Z", Some("2026-07-01T00:00:00Z"), &[1]),
        copy("2026-05-01T00:00:00Z", None, &[]),
        copy("2026-05-02T00:00:00Z", None, &[]),
        copy("2026-05-01T00:00:00Z", None, &[2]),
        copy("2026-05-01T00:00:00Z", None, &[1, 2]),
        copy("2026-05-03T00:00:00Z", None, &[1, 3]),
    ];
    assert!(copies.iter().all(|copy| copy.digest() == copies[0].digest()));
    let held = |policy: &Arc<VerifiedPolicy>| Held { policy: policy.clone(), source: None, refused: None };
    for (worse, a) in copies.iter().enumerate() {
        for (better, b) in copies.iter().enumerate() {
            let case = format!("{worse} in place, {better} brought");
            let goes_through = better > worse;
            assert_eq!(b.standing().is_better_than(&a.standing(), now), goes_through, "{case}");
            // in Git, at the tip or before it, alone or beside others
            for candidates in [
                vec![tip(b, "p.json")],
                vec![candidate(b, "p.json", 1, false), tip(a, "p.json")],
                vec![tip(a, "a.json"), tip(b, "b.json")],
                vec![tip(b, "a.json"), tip(a, "b.json")],
            ] {
                let plan = plan(&enforcing(a), &candidates);
                assert_eq!(plan.write.is_some() && plan.signed_again, goes_through, "{case}");
                assert_eq!(does_nothing(&plan), !goes_through, "{case}: {plan:?}");
                let Some(Place::Candidate(place)) = plan.write else { continue };
                assert_eq!(candidates[place].verdict.as_ref().unwrap().standing, b.standing(), "{case}");
            }
            // in the object that somebody has edited
            let after = follow(Some(held(a)), Some(held(b)), Some(&Mark::from(&**a)), now).unwrap();
            let expected = if goes_through { b } else { a };
            assert_eq!(after.policy.document_json(), expected.document_json(), "{case}");
            let mut view = enforcing(a);
            (view.held, view.object) = (Some(after), Some(object(b)));
            let put_back = plan(&view, &[tip(a, "p.json")]);
            assert_eq!(put_back.write.is_some(), !goes_through && worse != better, "{case}: {put_back:?}");
            assert!(!put_back.signed_again, "{case}");
        }
    }
}

#[test]
fn a_copy_that_is_held_and_counts_no_more_is_replaced_by_any_that_does() {
    let now: Timestamp = NOW.parse().unwrap();
    let (good, poor) = (copy("2026-05-09T00:00:00Z", None, &[1]), copy("2026-05-01T00:00:00Z", None, &[]));
    let refusal = Refusal { reason: Reason::KeyRevoked, message: String::new(), retry_at: None };
    let gone = Held { policy: good.clone(), source: None, refused: Some(refusal) };
    let mut view = enforcing(&good);
    view.held = Some(gone.clone());
    view.object.as_mut().unwrap().verdict = Err(gone.refused.clone().unwrap());
    assert_eq!(plan(&view, &[tip(&poor, "p.json")]).write, Some(Place::Candidate(0)));
    let offered = Held { policy: poor.clone(), source: None, refused: None };
    let after = follow(Some(gone), Some(offered), Some(&Mark::from(&*good)), now).unwrap();
    assert!(after.refused.is_none());
}

#[test]
fn thousands_of_copies_of_one_document_are_planned_in_no_time_and_each_is_told_what_became_of_it() {
    let (one, two) = (policy("p", "1", "active", "x"), policy("p", "2", "active", "y"));
    let mut files: Vec<Candidate> = (0..20_000).map(|number| tip(&two, &format!("{number}.json"))).collect();
    files.extend((0..20_000).map(|number| candidate(&two, &format!("{number}.json"), 3, false)));
    let start = std::time::Instant::now();
    let plan = plan(&enforcing(&one), &files);
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!((version(&plan), plan.outcomes.len()), ("2".to_owned(), 40_000));
    assert!(reasons(&plan).iter().all(|reason| *reason == Reason::Verified));
}

#[test]
fn an_object_brings_no_other_policy_into_a_workspace_that_has_one() {
    let (one, other) = (policy("p", "1", "active", "x"), policy("q", "9", "active", "y"));
    let mut view = enforcing(&one);
    view.object = Some(object(&other));
    let plan = plan(&view, &[tip(&one, "p.json")]);
    assert_eq!((version(&plan), plan.write), ("1".to_owned(), Some(Place::Candidate(0))));
    let now: Timestamp = NOW.parse().unwrap();
    let held = Held { policy: one.clone(), source: None, refused: None };
    let offered = Held { policy: other, source: None, refused: None };
    let after = follow(Some(held), Some(offered), Some(&Mark::from(&*one)), now).unwrap();
    assert_eq!(after.policy.policy_id(), "p");
}

#[test]
fn a_retirement_and_a_successor_in_one_commit_are_followed_by_their_versions() {
    let (end, next) = (policy("p", "5", "archived", "x"), policy("q", "6", "active", "y"));
    let files = [tip(&next, "q.json"), tip(&end, "p.json")];
    for view in [WorkspaceView::default(), enforcing(&policy("p", "4", "active", "x"))] {
        let plan = plan(&view, &files);
        assert_eq!((version(&plan), plan.write), ("6".to_owned(), Some(Place::Candidate(0))));
        assert_eq!(reasons(&plan), [Reason::Verified, Reason::Superseded]);
    }
}

/// A workspace whose mark is of a key that was revoked, and an administrator's word on another version.
fn with_a_word(marked: &Arc<VerifiedPolicy>, word: &str) -> WorkspaceView {
    let mut view = enforcing(marked);
    let refusal = Refusal { reason: Reason::KeyRevoked, message: "stolen".into(), retry_at: None };
    view.held.as_mut().unwrap().refused = Some(refusal.clone());
    view.object.as_mut().unwrap().verdict = Err(refusal);
    view.ledger.as_mut().unwrap().accept = Some(word.parse());
    view
}

fn word_on(policy: &VerifiedPolicy) -> String {
    format!("{}@{}", policy.version(), policy.digest())
}

#[test]
fn a_mark_of_a_revoked_key_is_lowered_by_an_administrators_word_to_just_the_document_that_it_names() {
    let (stolen, five) = (policy("p", "2147483647", "active", "x"), policy("p", "5", "active", "y"));
    let (other, six) = (policy("p", "5", "active", "z"), policy("p", "6", "active", "z"));
    let view = with_a_word(&stolen, &word_on(&five));
    let plan = super::plan(&view, &[tip(&five, "p.json")], NOW.parse().unwrap());
    assert_eq!((plan.write, plan.raise_mark, plan.lowers), (Some(Place::Candidate(0)), true, true));
    assert_eq!((version(&plan), reasons(&plan)), ("5".to_owned(), vec![Reason::Verified]));

    for documents in [vec![], vec![tip(&other, "p.json")], vec![tip(&six, "p.json")]] {
        let plan = super::plan(&view, &documents, NOW.parse().unwrap());
        assert_eq!((plan.lowers, version(&plan)), (false, "2147483647".to_owned()));
        assert!(plan.not_lowered.unwrap().contains(five.digest()));
    }
    // another digest of what was meant, such as the hash
    let why = super::plan(&view, &[tip(&other, "p.json")], NOW.parse().unwrap()).not_lowered.unwrap();
    assert!(why.ends_with(&format!("the version 5 in p.json of repo is {}", word_on(&other))), "{why}");
}

#[test]
fn a_mark_is_not_lowered_while_its_key_is_trusted_nor_twice_nor_by_a_word_that_cannot_be_read() {
    let (high, five) = (policy("p", "9", "active", "x"), policy("p", "5", "active", "y"));
    let candidates = [tip(&five, "p.json")];

    let mut trusted = enforcing(&high);
    trusted.ledger.as_mut().unwrap().accept = Some(word_on(&five).parse());
    let refused = plan(&trusted, &candidates);
    assert_eq!(
        (refused.lowers, version(&refused), reasons(&refused)),
        (false, "9".into(), vec![Reason::VersionRollback])
    );
    assert!(refused.not_lowered.unwrap().contains("key_1"));

    for word in ["5", "5@", "@", "five@abc", &format!("{}@{}", five.version(), "g".repeat(64))] {
        let plan = plan(&with_a_word(&high, word), &candidates);
        assert!(!plan.lowers && plan.not_lowered.unwrap().contains("expected <version>@"), "{word}");
    }

    let mut done = with_a_word(&high, &word_on(&five));
    done.ledger.as_mut().unwrap().spec.lowered = Some(Lowered {
        from_version: *high.version(),
        from_digest: high.digest().into(),
        version: *five.version(),
        digest: five.digest().into(),
        at: Time(NOW.parse().unwrap()),
    });
    let plan = plan(&done, &candidates);
    assert_eq!((plan.lowers, plan.not_lowered.is_some(), version(&plan)), (false, false, "9".to_owned()));
}

#[test]
fn a_version_that_somebody_brought_forward_does_not_change_who_publishes_the_workspace() {
    let (one, two) = (policy("p", "1", "active", "x"), policy("p", "2", "active", "y"));
    let claimed = Source { repository: "other".into(), path: "mine.json".into(), commit: "1".repeat(40) };
    let mut view = enforcing(&one);
    view.object = Some(object(&two));
    view.object.as_mut().unwrap().source = Some(claimed.clone());
    view.held = Some(Held { policy: two.clone(), source: Some(claimed), refused: None });
    let plan_of_it = plan(&view, &[]);
    assert!(plan_of_it.raise_mark);
    let Source { repository, path, commit } = &plan_of_it.mark_source;
    assert_eq!((repository.as_str(), path.as_str(), commit.as_str()), ("repo", "p.json", ""));

    // marked so, until it is seen where it is published
    let mut marked = ledger(&two);
    (marked.spec.repository, marked.spec.path, marked.spec.commit) = (repository.clone(), path.clone(), commit.clone());
    view.ledger = Some(marked);
    assert!(!plan(&view, &[]).raise_mark);
    let seen = plan(&view, &[tip(&two, "p.json")]);
    assert!(seen.raise_mark && reasons(&seen) == [Reason::Verified], "{seen:?}");
    assert_eq!(seen.mark_source.commit, format!("{:040}", 9));
    assert_eq!(seen.source, Some(seen.mark_source));
}
