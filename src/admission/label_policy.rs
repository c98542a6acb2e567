//! Whether others than the platform team can set the labels of namespaces: what `sekuire.ai/enforcement` may be obeyed for.
//!
//! The chart has a ValidatingAdmissionPolicy for that. Its spec is a file of the chart that is built in here: the controller
//! compares what is in the cluster with it, field by field but for groups and rules, and obeys no label while anything differs,
//! is missing, or is not known.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
    ValidatingAdmissionPolicySpec,
};

use super::liveness::SILENCE;

/// The spec of the policy, as the chart has it.
pub const SPEC: &str = include_str!("../../charts/sekuire-policy-controller/files/label-policy.yaml");
/// The variable that holds who may set the labels.
const GROUPS: &str = "groups";
/// The variable that holds what others may set.
const RULES: &str = "rules";
/// Groups that everybody is in, or everything that runs: a policy that names one protects nothing.
const EVERYBODY: [&str; 3] = ["system:authenticated", "system:unauthenticated", "system:serviceaccounts"];

/// What some groups may set.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    groups: Vec<String>,
    workspaces: Vec<String>,
    namespaces: Vec<String>,
    enforcement: Vec<String>,
}

impl Rule {
    /// For everybody, and more than a few values in a few namespaces.
    fn is_open(&self) -> bool {
        let everybody = self.groups.iter().any(|group| EVERYBODY.contains(&group.as_str()));
        let everything = |patterns: &[String]| patterns.iter().any(|pattern| pattern == "*");
        everybody && (everything(&self.workspaces) || everything(&self.namespaces) || !self.enforcement.is_empty())
    }
}

/// The two objects that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The ValidatingAdmissionPolicy.
    Policy,
    /// Its binding, of the same name.
    Binding,
}

/// What a replica knows of the policy that protects the labels.
#[derive(Debug)]
pub struct LabelPolicy {
    /// After so long a watch is dead.
    silence: Duration,
    state: Mutex<State>,
}

impl Default for LabelPolicy {
    fn default() -> Self {
        LabelPolicy::new(SILENCE)
    }
}

#[derive(Debug, Default)]
struct State {
    /// Its name; `None`: the controller was told of none.
    name: Option<Arc<str>>,
    policy: Seen,
    binding: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    /// Why it does not do; `None`: it does.
    fault: Option<String>,
    /// When its watch spoke last; `None`: it has not been seen, nor seen to be absent.
    heard: Option<Instant>,
}

impl LabelPolicy {
    /// By watches that are dead after so long a silence.
    #[must_use]
    pub fn new(silence: Duration) -> Self {
        LabelPolicy { silence, state: Mutex::default() }
    }

    /// The name of policy and binding is this.
    pub fn named(&self, name: &str) {
        self.lock().name = Some(name.into());
    }

    /// Whether the controller was told of one.
    pub fn is_named(&self) -> bool {
        self.lock().name.is_some()
    }

    /// The policy of that name is so now; `None`: there is none.
    pub fn saw_policy(&self, policy: Option<&ValidatingAdmissionPolicy>) {
        self.saw(Part::Policy, policy_fault(policy));
    }

    /// The binding of that name is so now; `None`: there is none.
    pub fn saw_binding(&self, binding: Option<&ValidatingAdmissionPolicyBinding>) {
        let name = self.lock().name.clone().unwrap_or_default();
        self.saw(Part::Binding, binding_fault(binding, &name));
    }

    /// It is there, and cannot be read.
    pub fn unreadable(&self, part: Part, why: &str) {
        self.saw(part, Some(format!("cannot be read: {why}")));
    }

    /// A watch is alive.
    pub fn heard(&self, part: Part) {
        // before it was seen first, that says nothing of it
        if let Some(heard) = &mut self.lock().part(part).heard {
            *heard = Instant::now();
        }
    }

    /// Whether the labels are protected.
    ///
    /// # Errors
    /// Why that is not so, or not known.
    pub fn in_force(&self) -> Result<(), String> {
        let mut state = self.lock();
        let Some(name) = state.name.clone() else {
            return Err("the controller was told of no policy that protects them (--label-policy)".to_owned());
        };
        for (part, kind) in
            [(Part::Policy, "ValidatingAdmissionPolicy"), (Part::Binding, "ValidatingAdmissionPolicyBinding")]
        {
            let Seen { fault, heard } = state.part(part);
            let fault = match heard {
                None => Some("has not been seen yet".to_owned()),
                Some(heard) if heard.elapsed() > self.silence => {
                    Some(format!("was not heard of for {} s", heard.elapsed().as_secs()))
                }
                Some(_) => fault.clone(),
            };
            if let Some(fault) = fault {
                return Err(format!("the {kind} {name} {fault}"));
            }
        }
        Ok(())
    }

    fn saw(&self, part: Part, fault: Option<String>) {
        *self.lock().part(part) = Seen { fault, heard: Some(Instant::now()) };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // nothing under the lock can leave it half-written
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn part(&mut self, part: Part) -> &mut Seen {
        match part {
            Part::Policy => &mut self.policy,
            Part::Binding => &mut self.binding,
        }
    }
}

/// Why a policy does not protect the labels; `None`: it does.
fn policy_fault(policy: Option<&ValidatingAdmissionPolicy>) -> Option<String> {
    let Some(policy) = policy else { return Some("does not exist".to_owned()) };
    if policy.metadata.deletion_timestamp.is_some() {
        return Some("is being deleted".to_owned());
    }
    let Some(spec) = &policy.spec else { return Some("has no spec".to_owned()) };
    let mut expected: ValidatingAdmissionPolicySpec = match serde_yaml::from_str(SPEC) {
        Ok(expected) => expected,
        // the tests read it too
        Err(error) => return Some(format!("cannot be compared: {error}")),
    };
    if let Err(why) = take_over_groups(&mut expected, spec) {
        return Some(why);
    }
    let differing = differences(spec, &expected);
    (!differing.is_empty()).then(|| format!("is not what the chart installs: {} differs", differing.join(", ")))
}

/// Groups and rules are what is configured.
fn take_over_groups(
    expected: &mut ValidatingAdmissionPolicySpec,
    seen: &ValidatingAdmissionPolicySpec,
) -> Result<(), String> {
    let names: BTreeSet<String> = listed(seen, GROUPS)
        .ok_or_else(|| format!("does not list its groups: the variable {GROUPS} is to be a list of names in quotes"))?;
    if let Some(everybody) = names.iter().find(|name| EVERYBODY.contains(&name.as_str())) {
        return Err(format!("lets everybody set them, as a member of {everybody}"));
    }
    let rules: Vec<Rule> = listed(seen, RULES).ok_or_else(|| {
        format!("does not list its rules: the variable {RULES} is to be a list of rules as the chart writes it")
    })?;
    if rules.iter().any(Rule::is_open) {
        return Err(
            "has a rule that lets everybody set them: one for a group that everybody is in is to name workspaces and \
                    namespaces, and no enforcement"
                .to_owned(),
        );
    }
    for name in [GROUPS, RULES] {
        let (text, own) = (variable(seen, name), expected.variables.iter_mut().flatten());
        if let (Some(text), Some(own)) = (text, own.into_iter().find(|variable| variable.name == name)) {
            text.clone_into(&mut own.expression);
        }
    }
    Ok(())
}

/// The expression of a variable.
fn variable<'a>(spec: &'a ValidatingAdmissionPolicySpec, name: &str) -> Option<&'a str> {
    let found = spec.variables.iter().flatten().find(|variable| variable.name == name);
    found.map(|variable| variable.expression.as_str())
}

/// A variable that is nothing but a list, as JSON has it.
fn listed<T: serde::de::DeserializeOwned>(spec: &ValidatingAdmissionPolicySpec, name: &str) -> Option<T> {
    serde_json::from_str(variable(spec, name)?).ok()
}

/// The fields in which they differ, by the names that users know.
fn differences(seen: &ValidatingAdmissionPolicySpec, expected: &ValidatingAdmissionPolicySpec) -> Vec<&'static str> {
    let fields = [
        ("failurePolicy", seen.failure_policy != expected.failure_policy),
        ("matchConstraints", seen.match_constraints != expected.match_constraints),
        ("matchConditions", seen.match_conditions != expected.match_conditions),
        ("paramKind", seen.param_kind != expected.param_kind),
        ("validations", seen.validations != expected.validations),
        ("variables", seen.variables != expected.variables),
        ("auditAnnotations", seen.audit_annotations != expected.audit_annotations),
    ];
    let mut differing: Vec<_> = fields.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    if differing.is_empty() && seen != expected {
        differing.push("a field that is not known here");
    }
    differing
}

/// Why a binding does not put the policy of this name in force everywhere; `None`: it does.
fn binding_fault(binding: Option<&ValidatingAdmissionPolicyBinding>, name: &str) -> Option<String> {
    let Some(binding) = binding else { return Some("does not exist".to_owned()) };
    if binding.metadata.deletion_timestamp.is_some() {
        return Some("is being deleted".to_owned());
    }
    let ValidatingAdmissionPolicyBindingSpec { match_resources, param_ref, policy_name, validation_actions } =
        &binding.spec;
    if policy_name != name {
        return Some(format!("binds the policy {policy_name:?}"));
    }
    if !validation_actions.iter().any(|action| action == "Deny") {
        return Some("does not deny (validationActions)".to_owned());
    }
    if match_resources.is_some() {
        return Some("narrows what the policy applies to (matchResources)".to_owned());
    }
    param_ref.is_some().then(|| "has parameters (paramRef)".to_owned())
}

#[cfg(test)]
#[path = "label_policy_tests.rs"]
mod tests;
