//! Conditions as the Kubernetes API conventions, Flux and kstatus have them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// A condition before it meets the object's previous ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCondition {
    /// `Ready`, `Verified`, …
    pub type_: &'static str,
    /// True or false.
    pub status: bool,
    /// One word of a closed set.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl NewCondition {
    /// A condition; control characters in the message are escaped, and it is cut at 32 KiB, which is what
    /// the API server accepts.
    pub fn new(type_: &'static str, status: bool, reason: impl Into<String>, message: impl Into<String>) -> Self {
        let mut message = crate::git::one_line(&message.into()).into_owned();
        if message.len() > 32_000 {
            message.truncate(message.floor_char_boundary(32_000));
            message.push('…');
        }
        NewCondition { type_, status, reason: reason.into(), message }
    }
}

/// The list of conditions to store: `lastTransitionTime` moves only when a status flips, a condition that is not
/// among `new` is removed (abnormal ones are present only while true).
pub fn merge(previous: &[Condition], new: &[NewCondition], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    new.iter()
        .map(|condition| {
            let status = if condition.status { "True" } else { "False" };
            let since = previous
                .iter()
                .find(|old| old.type_ == condition.type_ && old.status == status)
                .map_or_else(|| Time(whole_seconds(now)), |old| old.last_transition_time.clone());
            Condition {
                type_: condition.type_.to_owned(),
                status: status.to_owned(),
                reason: condition.reason.clone(),
                message: condition.message.clone(),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// Kubernetes stores times to the second: a finer one would differ from what comes back and be written again.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The conditions that this controller writes. Others on the same object are somebody else's: server-side apply keeps
/// them, so a status that differs by them alone must not be written again and again.
const OURS: [&str; 8] =
    ["Ready", "Reconciling", "Stalled", "Stale", EXPIRING, "SourceVerified", "Verified", "Enforced"];

/// There while a key or a policy is near its end. `Ready` stays True.
pub const EXPIRING: &str = "Expiring";

/// Without the conditions of somebody else.
pub fn ours(conditions: &[Condition]) -> Vec<Condition> {
    conditions.iter().filter(|condition| OURS.contains(&condition.type_.as_str())).cloned().collect()
}

/// `Stalled`, which goes with a `Ready` that is False until somebody does something about it. Without it, kstatus takes
/// the object for one in progress.
pub fn stalled(ready: &NewCondition) -> Option<NewCondition> {
    let waits = ready.reason == "KeyNotYetValid";
    (!ready.status && !waits).then(|| NewCondition { type_: "Stalled", status: true, ..ready.clone() })
}

/// That the end of a key or a policy is near, which goes with a `Ready` that is True.
pub fn expiring(message: impl Into<String>) -> NewCondition {
    NewCondition::new(EXPIRING, true, EXPIRING, message)
}

/// `Expiring`, where it was not there before: to be told once.
pub fn begins_to_expire<'a>(before: &[Condition], after: &'a [Condition]) -> Option<&'a Condition> {
    find(after, EXPIRING).filter(|_| find(before, EXPIRING).is_none())
}

/// The condition of a type, if the object has it.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_time_moves_only_when_the_status_flips() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let first = merge(&[], &[NewCondition::new("Ready", true, "Succeeded", "a")], Some(1), at(10));
        let second = merge(&first, &[NewCondition::new("Ready", true, "Succeeded", "b")], Some(2), at(20));
        assert_eq!(second[0].last_transition_time.0, at(10));
        assert_eq!(second[0].observed_generation, Some(2));
        let third = merge(&second, &[NewCondition::new("Ready", false, "SourceMissing", "c")], Some(2), at(30));
        assert_eq!(third[0].last_transition_time.0, at(30));
    }

    #[test]
    fn a_condition_that_is_no_longer_true_is_removed() {
        let now = Timestamp::from_second(1).unwrap();
        let old = merge(&[], &[NewCondition::new("Stalled", true, "URLInvalid", "")], Some(1), now);
        assert!(merge(&old, &[], Some(1), now).is_empty());
    }
}
