//! What of the webhook configuration is to be written. Pure.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration};
use kube::api::ObjectMeta;

use super::{FAIL, IGNORE, Registration, WEBHOOK_NAME};
use crate::admission::break_glass::Setting;
use crate::api::{BREAK_GLASS, Sent};
use crate::controller::installation::NAMESPACE_ANNOTATION;

/// What a write changes, for those who watch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// There is a webhook where there was none, or none that the API server could reach.
    Registered,
    /// Somebody had changed this.
    Restored(String),
    /// Ours changed.
    Authority,
    /// Break glass was opened or closed: `failurePolicy`, and an annotation that does not count any more.
    BreakGlass,
}

#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    Keep,
    Create(Box<ValidatingWebhookConfiguration>, Change),
    Replace(Box<ValidatingWebhookConfiguration>, Change),
}

/// What a plan depends on beside the configuration.
pub(super) struct Known<'a> {
    /// Whether there ever was one.
    pub(super) ever: bool,
    /// See `agreed` of [`super::Keeper`].
    pub(super) agreed: Option<&'a Option<Arc<str>>>,
    /// What its annotation says now.
    pub(super) glass: &'a Setting,
    /// Whether break glass was open the moment before.
    pub(super) was_open: bool,
}

/// What is to be written. `authority`: `None` leaves that of the configuration alone.
pub(super) fn plan(
    registration: &Registration,
    seen: Option<&Sent<ValidatingWebhookConfiguration>>,
    authority: Option<&str>,
    known: &Known<'_>,
) -> Plan {
    let bytes = authority.map(|authority| ByteString(authority.as_bytes().to_vec()));
    let Some(seen) = seen else {
        let mut metadata = ObjectMeta { name: Some(registration.name.clone()), ..ObjectMeta::default() };
        registration.name_installation(&mut metadata);
        let object =
            ValidatingWebhookConfiguration { metadata, webhooks: Some(vec![registration.webhook(bytes, FAIL)]) };
        let change =
            if known.ever { Change::Restored("the configuration was deleted".to_owned()) } else { Change::Registered };
        return Plan::Create(Box::new(object), change);
    };
    let webhooks = webhooks(seen);
    let ours = webhooks.iter().find(|webhook| webhook.name == WEBHOOK_NAME);
    let present = ours.and_then(|webhook| webhook.client_config.ca_bundle.clone());
    let failure_policy = if matches!(known.glass, Setting::Open(_)) { IGNORE } else { FAIL };
    let desired = registration.webhook(bytes.or_else(|| present.clone()), failure_policy);
    let mut differences = ours.map_or_else(|| vec!["the webhook was gone"], |ours| differences(ours, &desired));
    if webhooks.iter().any(|webhook| webhook.name != WEBHOOK_NAME) {
        differences.push("webhooks that are not ours");
    }
    if seen.object.is_err() {
        differences = vec!["it cannot be read"];
    }
    let mut object = ValidatingWebhookConfiguration { metadata: seen.metadata.clone(), webhooks: None };
    // whoever names an owner that does not exist has the garbage collector delete the configuration
    if registration.disown(&mut object.metadata) {
        differences.push("ownerReferences");
    }
    // one of a version that named no installation was changed by nobody
    let unnamed = known.agreed.is_none() && !is_named(&seen.metadata);
    let named = registration.name_installation(&mut object.metadata);
    if named && !unnamed {
        differences.push("the installation's namespace");
    }
    // what does not count any more is taken away: it must not begin to count again by the clock
    let spent = matches!(known.glass, Setting::Over(_) | Setting::Refused(_));
    let agreed = known.agreed;
    let change = match differences.as_slice() {
        [] if named => Change::Registered,
        [] if !spent => return Plan::Keep,
        [] => Change::BreakGlass,
        ["failurePolicy"] if known.was_open || *known.glass != Setting::Absent => Change::BreakGlass,
        ["caBundle"] if present.is_none() && agreed.is_none() => Change::Registered,
        ["caBundle"] if agreed.is_none_or(|agreed| agreed.as_deref() != authority) => Change::Authority,
        all => Change::Restored(all.join(", ")),
    };
    if let (true, Some(annotations)) = (spent, &mut object.metadata.annotations) {
        annotations.remove(BREAK_GLASS);
    }
    object.webhooks = Some(vec![desired]);
    Plan::Replace(Box::new(object), change)
}

/// Whether the API server asks this installation about agents, and about all of them.
pub(super) fn is_registered(
    registration: &Registration,
    seen: Option<&Sent<ValidatingWebhookConfiguration>>,
    glass: &Setting,
) -> bool {
    let webhooks = seen.map(webhooks).unwrap_or_default();
    let Some(ours) = webhooks.iter().find(|webhook| webhook.name == WEBHOOK_NAME) else { return false };
    let authority = ours.client_config.ca_bundle.clone().filter(|authority| !authority.0.is_empty());
    let failure_policy = if matches!(glass, Setting::Open(_)) { IGNORE } else { FAIL };
    authority.is_some() && differences(ours, &registration.webhook(authority, failure_policy)).is_empty()
}

/// None where the configuration cannot be read.
pub(super) fn webhooks(configuration: &Sent<ValidatingWebhookConfiguration>) -> &[ValidatingWebhook] {
    configuration.object.as_ref().map_or(&[], |object| object.webhooks.as_deref().unwrap_or_default())
}

fn is_named(metadata: &ObjectMeta) -> bool {
    metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(NAMESPACE_ANNOTATION))
}

/// The fields in which they differ, by the names that users know.
fn differences(seen: &ValidatingWebhook, desired: &ValidatingWebhook) -> Vec<&'static str> {
    let (from, to) = (&seen.client_config, &desired.client_config);
    let fields = [
        ("clientConfig", from.service != to.service || from.url != to.url),
        ("rules", seen.rules != desired.rules),
        ("failurePolicy", seen.failure_policy != desired.failure_policy),
        ("matchPolicy", seen.match_policy != desired.match_policy),
        ("matchConditions", seen.match_conditions != desired.match_conditions),
        ("namespaceSelector", seen.namespace_selector != desired.namespace_selector),
        ("objectSelector", seen.object_selector != desired.object_selector),
        ("sideEffects", seen.side_effects != desired.side_effects),
        ("timeoutSeconds", seen.timeout_seconds != desired.timeout_seconds),
        ("admissionReviewVersions", seen.admission_review_versions != desired.admission_review_versions),
        ("caBundle", from.ca_bundle != to.ca_bundle),
    ];
    let mut differing: Vec<_> = fields.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    if differing.is_empty() && seen != desired {
        differing.push("a field that is not ours");
    }
    differing
}

#[cfg(test)]
#[path = "../registration_tests.rs"]
mod tests;
