//! What every replica watches beside policies: how namespaces ask to be enforced, whether that may be obeyed, and whether
//! enforcement is stopped.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Client, ResourceExt as _};
use tokio::task::JoinSet;

use super::watch::{Seen, list_watch_one};
use crate::admission::break_glass::Setting;
use crate::admission::index::PolicyIndex;
use crate::admission::label_policy::Part;
use crate::admission::mode::Label;
use crate::api::{ENFORCEMENT_LABEL, WORKSPACE_LABEL};

/// How often it is looked whether something has changed that is to be said: a watch fell silent, or a time has come.
const TICK: Duration = Duration::from_secs(1);

/// Starts the watches in `tasks`. They run for ever. `configuration` names the webhook configuration, `label_policy` the policy
/// that protects labels, if there is one.
pub fn start(
    client: &Client,
    index: &Arc<PolicyIndex>,
    configuration: &str,
    label_policy: Option<&str>,
    tasks: &mut JoinSet<()>,
) {
    if let Some(name) = label_policy {
        index.label_policy.named(name);
        tasks.spawn(policy(client.clone(), index.clone(), name.to_owned()));
        tasks.spawn(binding(client.clone(), index.clone(), name.to_owned()));
    }
    tasks.spawn(break_glass(client.clone(), index.clone(), configuration.to_owned()));
    tasks.spawn(tell(index.clone()));
}

/// Takes over the labels of a namespace, and says where one of them is not understood.
pub(super) fn labels(index: &PolicyIndex, namespace: &Namespace) {
    let name = namespace.name_any();
    let label = |key: &str| namespace.labels().get(key).map(String::as_str);
    let workspace = label(WORKSPACE_LABEL).filter(|label| !label.is_empty());
    let enforcement = Label::read(label(ENFORCEMENT_LABEL));
    let changed = index.bindings.set_labels(&name, workspace, enforcement.clone());
    if let (true, Label::Unknown(value)) = (changed, enforcement) {
        let accepted = "enforce, warn, audit";
        tracing::warn!(namespace = %name, label = ENFORCEMENT_LABEL, %value, advice = accepted, "label not understood: rules are enforced");
    }
}

async fn policy(client: Client, index: Arc<PolicyIndex>, name: String) {
    let labels = &index.label_policy;
    list_watch_one(client, &name, |seen: Seen<ValidatingAdmissionPolicy>| match seen {
        Seen::Now(policy) => labels.saw_policy(Some(&policy)),
        Seen::Unreadable(policy) => labels.unreadable(Part::Policy, &policy.why),
        Seen::Gone(_) => labels.saw_policy(None),
        Seen::All(names) if names.is_empty() => labels.saw_policy(None),
        Seen::All(_) | Seen::Alive => labels.heard(Part::Policy),
    })
    .await;
}

async fn binding(client: Client, index: Arc<PolicyIndex>, name: String) {
    let labels = &index.label_policy;
    list_watch_one(client, &name, |seen: Seen<ValidatingAdmissionPolicyBinding>| match seen {
        Seen::Now(binding) => labels.saw_binding(Some(&binding)),
        Seen::Unreadable(binding) => labels.unreadable(Part::Binding, &binding.why),
        Seen::Gone(_) => labels.saw_binding(None),
        Seen::All(names) if names.is_empty() => labels.saw_binding(None),
        Seen::All(_) | Seen::Alive => labels.heard(Part::Binding),
    })
    .await;
}

async fn break_glass(client: Client, index: Arc<PolicyIndex>, name: String) {
    let glass = &index.break_glass;
    list_watch_one(client, &name, |seen: Seen<ValidatingWebhookConfiguration>| match seen {
        Seen::Now(configuration) => glass.saw(configuration.metadata.annotations.as_ref()),
        Seen::Unreadable(configuration) => glass.saw(configuration.metadata.annotations.as_ref()),
        Seen::Gone(_) => glass.saw(None),
        Seen::All(names) if names.is_empty() => glass.saw(None),
        Seen::All(_) | Seen::Alive => glass.heard(),
    })
    .await;
}

/// Says in the log what is obeyed, whenever that changes.
async fn tell(index: Arc<PolicyIndex>) {
    let mut labels: Option<Result<(), String>> = None;
    let mut glass = Setting::Absent;
    // the first lists take a moment: what they bring is not to be called a fault before
    tokio::time::sleep(TICK).await;
    loop {
        let obeyed = index.label_policy.in_force();
        // of one that is silent, the seconds alone change
        if labels.as_ref().map(Result::is_ok) != Some(obeyed.is_ok()) {
            tell_labels(&obeyed);
            labels = Some(obeyed);
        }
        let setting = index.break_glass.setting(Timestamp::now());
        if setting != glass {
            tell_glass(&setting);
            glass = setting;
        }
        tokio::time::sleep(TICK).await;
    }
}

fn tell_labels(obeyed: &Result<(), String>) {
    match obeyed {
        Ok(()) => tracing::info!(label = ENFORCEMENT_LABEL, "labels of namespaces are protected, and obeyed"),
        Err(why) => {
            tracing::warn!(
                label = ENFORCEMENT_LABEL,
                error = why,
                "labels of namespaces are not obeyed: rules are enforced"
            );
        }
    }
}

fn tell_glass(setting: &Setting) {
    match setting {
        Setting::Open(open) => {
            tracing::warn!(expires_at = %open.until, break_glass = &*open.reason, "break glass is open: nothing is enforced");
        }
        Setting::Refused(why) => tracing::warn!(error = why, "break glass is not obeyed: rules are enforced"),
        Setting::Absent | Setting::Over(_) => tracing::warn!("break glass is closed: rules are enforced"),
    }
}
