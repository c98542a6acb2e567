//! What is told of a request: one line of the log, what is counted, and what stands on its span.

use super::denial;
use super::mode::{Spared, Verdict};
use super::review::Head;
use crate::api::workspace_policy::Source;
use crate::git::shown;
use crate::policy::Decision;
use crate::telemetry::{Decided, Mode, metrics, trace};

/// Longest text of a denial, or of why there is none, in the log: what the user got to see is longer only where there are dozens of violations.
const MAX_DENIAL_BYTES: usize = 4096;

/// What was decided, and what that does.
pub(super) type Outcome = (Decided, Mode);

fn mode(spared: &Spared) -> Mode {
    match spared {
        Spared::Warn => Mode::Warn,
        Spared::Audit => Mode::Audit,
        Spared::BreakGlass(_) => Mode::BreakGlass,
    }
}

/// Who asks for what, as it is told. An API server sends short names, but whoever reaches the webhook can send a review with
/// megabytes of them, which are to fill no log.
struct Told {
    request_uid: String,
    user: String,
    operation: String,
    namespace: String,
    name: String,
}

impl From<&Head<'_>> for Told {
    fn from(head: &Head<'_>) -> Told {
        Told {
            request_uid: shown(&head.uid),
            user: shown(&head.user),
            operation: shown(&head.operation),
            namespace: shown(&head.namespace),
            name: shown(&head.name),
        }
    }
}

/// Tells of a request that was judged.
pub(super) fn judged(
    head: &Head<'_>,
    workspace: Option<&str>,
    source: Option<&Source>,
    decision: &Decision,
    verdict: &Verdict,
) -> Outcome {
    let outcome = match verdict {
        Verdict::Admitted => (Decided::Allowed, Mode::Enforce),
        Verdict::Refused(_) => (Decided::Denied, Mode::Enforce),
        Verdict::Spared(spared) => (Decided::Denied, mode(spared)),
    };
    let policy = decision.policy.as_ref().map(|policy| (policy.policy_id.as_str(), policy.version.as_str()));
    trace::asked(&head.namespace, &head.name, &head.operation, &head.uid);
    trace::decided(outcome.0, outcome.1, workspace, policy);
    if outcome.0 == Decided::Denied {
        denied(head, workspace, source, decision, verdict, outcome.1);
    }
    outcome
}

/// One line a denial, whatever follows from it, with what it takes to answer a question about it and nothing else of the object.
fn denied(
    head: &Head<'_>,
    workspace: Option<&str>,
    source: Option<&Source>,
    decision: &Decision,
    verdict: &Verdict,
    mode: Mode,
) {
    let mut rules: Vec<&str> = decision.violations.iter().map(|violation| violation.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    metrics().violations(&rules, mode);
    let policy = decision.policy.as_ref();
    let message = denial::describe(&head.namespace, &head.name, decision, None).message;
    let (notes, glass) = match verdict {
        Verdict::Refused(notes) if !notes.is_empty() => (Some(notes.join(" ")), None),
        Verdict::Spared(Spared::BreakGlass(open)) => (None, Some(open.to_string())),
        _ => (None, None),
    };
    let told = Told::from(head);
    tracing::info!(
        request_uid = told.request_uid,
        user = told.user,
        operation = told.operation,
        namespace = told.namespace,
        name = told.name,
        workspace,
        decision = Decided::Denied.as_str(),
        mode = mode.as_str(),
        policy_id = policy.map(|policy| policy.policy_id.as_str()),
        version = policy.map(|policy| policy.version.as_str()),
        hash = policy.map(|policy| policy.hash.as_str()),
        repository = source.map(|source| shown(&source.repository)),
        path = source.map(|source| shown(&source.path)),
        commit = policy.and_then(|policy| policy.commit.as_deref()),
        key_id = policy.map(|policy| policy.signing_key_id.as_str()),
        rules = rules.join(","),
        count = decision.count(),
        denial = &message[..message.floor_char_boundary(MAX_DENIAL_BYTES)],
        notes,
        break_glass = glass,
        trace_id = trace::id(),
        "agent denied"
    );
}

/// One line for what was refused without being judged, or would have been.
pub(super) fn refused(head: Option<&Head<'_>>, why: &str, spared: Option<&Spared>) -> Outcome {
    // without a head there is no answer but a refusal
    let mode = spared.filter(|_| head.is_some()).map_or(Mode::Enforce, mode);
    if let Some(head) = head {
        trace::asked(&head.namespace, &head.name, &head.operation, &head.uid);
    }
    trace::decided(Decided::Error, mode, None, None);
    let told = head.map(Told::from);
    let told = told.as_ref();
    tracing::warn!(
        request_uid = told.map(|told| &*told.request_uid),
        user = told.map(|told| &*told.user),
        operation = told.map(|told| &*told.operation),
        namespace = told.map(|told| &*told.namespace),
        name = told.map(|told| &*told.name),
        decision = Decided::Error.as_str(),
        mode = mode.as_str(),
        error = &why[..why.floor_char_boundary(MAX_DENIAL_BYTES)],
        trace_id = trace::id(),
        "admission request not judged"
    );
    (Decided::Error, mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_who_asks_for_what_no_more_is_told_than_an_api_server_says() {
        let name = "n".repeat(253);
        let long = "é\n".repeat(1 << 20);
        let head = |user: &str, name: &str| {
            let own = |text: &str| std::borrow::Cow::Owned(text.to_owned());
            let head =
                Head { uid: own(user), operation: own(user), namespace: own(user), name: own(name), user: own(user) };
            Told::from(&head)
        };
        let told = head("system:serviceaccount:argocd:argocd-application-controller", &name);
        assert_eq!(
            (told.user.as_str(), told.name),
            ("system:serviceaccount:argocd:argocd-application-controller", name)
        );
        let told = head(&long, &long);
        for text in [told.request_uid, told.user, told.operation, told.namespace, told.name] {
            assert!(text.len() < 300 && !text.contains('\n'), "{} bytes", text.len());
        }
    }
}
