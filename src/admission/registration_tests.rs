use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};

use super::super::{CONFIGURATION_NAME, Target, published};
use super::*;

fn registration() -> Registration {
    Registration {
        name: CONFIGURATION_NAME.to_owned(),
        target: Target::Service { namespace: "sekuire".to_owned(), name: "webhook".to_owned(), port: 443 },
        owner: None,
        namespace: "sekuire".to_owned(),
    }
}

/// The plan while nobody speaks of break glass.
fn plan(
    registration: &Registration,
    seen: Option<&ValidatingWebhookConfiguration>,
    authority: Option<&str>,
    ever: bool,
    agreed: Option<&Option<Arc<str>>>,
) -> Plan {
    let known = Known { ever, agreed, glass: &Setting::Absent, was_open: false };
    super::plan(registration, seen.map(sent).as_ref(), authority, &known)
}

fn sent(configuration: &ValidatingWebhookConfiguration) -> Sent<ValidatingWebhookConfiguration> {
    Sent::from(configuration.clone())
}

fn right(authority: &str) -> ValidatingWebhookConfiguration {
    ValidatingWebhookConfiguration {
        metadata: ObjectMeta {
            name: Some(CONFIGURATION_NAME.to_owned()),
            resource_version: Some("7".to_owned()),
            labels: Some([("app".to_owned(), "chart".to_owned())].into()),
            ..ObjectMeta::default()
        },
        webhooks: Some(vec![registration().webhook(Some(ByteString(authority.as_bytes().to_vec())), FAIL)]),
    }
}

fn agreed(authority: &str) -> Option<Arc<str>> {
    Some(Arc::from(authority))
}

/// What is put back after `tamper`.
fn restored(tamper: impl FnOnce(&mut ValidatingWebhookConfiguration)) -> String {
    let mut seen = right("ca");
    tamper(&mut seen);
    match plan(&registration(), Some(&seen), Some("ca"), true, Some(&agreed("ca"))) {
        Plan::Replace(object, Change::Restored(what)) => {
            assert_eq!(*object, ValidatingWebhookConfiguration { metadata: seen.metadata, ..right("ca") });
            what
        }
        other => panic!("{other:?}"),
    }
}

fn first(seen: &mut ValidatingWebhookConfiguration) -> &mut ValidatingWebhook {
    seen.webhooks.as_mut().unwrap().first_mut().unwrap()
}

#[test]
fn what_is_right_is_left_alone() {
    assert_eq!(plan(&registration(), Some(&right("ca")), Some("ca"), true, None), Plan::Keep);
    assert_eq!(plan(&registration(), Some(&right("theirs")), None, true, None), Plan::Keep, "not ours to fill in");
}

#[test]
fn what_is_absent_is_created_and_what_was_deleted_is_put_back() {
    let created = plan(&registration(), None, Some("ca"), false, None);
    let Plan::Create(object, Change::Registered) = created else { panic!("{created:?}") };
    assert_eq!(object.webhooks, right("ca").webhooks);
    let restored = plan(&registration(), None, Some("ca"), true, Some(&agreed("ca")));
    assert!(matches!(restored, Plan::Create(_, Change::Restored(what)) if what == "the configuration was deleted"));
}

#[test]
fn agents_are_refused_from_the_first_second_even_before_there_is_an_authority() {
    let created = plan(&registration(), None, None, false, None);
    let Plan::Create(object, _) = created else { panic!("{created:?}") };
    assert_eq!(object.webhooks.unwrap()[0].client_config.ca_bundle, None);
}

#[test]
fn a_configuration_without_authority_as_a_chart_makes_it_is_filled_in() {
    let mut chart = right("");
    first(&mut chart).client_config.ca_bundle = None;
    let filled = plan(&registration(), Some(&chart), Some("ca"), true, None);
    let Plan::Replace(object, Change::Registered) = filled else { panic!("{filled:?}") };
    assert_eq!(*object, right("ca"));
}

#[test]
fn our_own_new_authority_is_no_alarm_but_somebody_elses_is() {
    let ours = plan(&registration(), Some(&right("old")), Some("new"), true, Some(&agreed("old")));
    assert!(matches!(ours, Plan::Replace(_, Change::Authority)), "{ours:?}");
    assert_eq!(restored(|seen| first(seen).client_config.ca_bundle = Some(ByteString(b"theirs".to_vec()))), "caBundle");
    assert_eq!(restored(|seen| first(seen).client_config.ca_bundle = None), "caBundle");
}

#[test]
fn every_field_is_put_back_and_named() {
    assert_eq!(restored(|seen| first(seen).failure_policy = Some("Ignore".to_owned())), "failurePolicy");
    assert_eq!(restored(|seen| first(seen).match_policy = Some("Exact".to_owned())), "matchPolicy");
    assert_eq!(restored(|seen| first(seen).timeout_seconds = Some(1)), "timeoutSeconds");
    assert_eq!(restored(|seen| first(seen).side_effects = "NoneOnDryRun".to_owned()), "sideEffects");
    assert_eq!(
        restored(|seen| first(seen).admission_review_versions = vec!["v1beta1".to_owned()]),
        "admissionReviewVersions"
    );
    assert_eq!(restored(|seen| first(seen).match_conditions = None), "matchConditions");
    assert_eq!(
        restored(|seen| first(seen).rules.as_mut().unwrap()[0].operations = Some(vec!["CREATE".to_owned()])),
        "rules"
    );
    let narrow =
        LabelSelector { match_labels: Some([("a".to_owned(), "b".to_owned())].into()), ..LabelSelector::default() };
    assert_eq!(restored(|seen| first(seen).namespace_selector = Some(narrow.clone())), "namespaceSelector");
    assert_eq!(restored(|seen| first(seen).object_selector = Some(narrow.clone())), "objectSelector");
    let elsewhere = |seen: &mut ValidatingWebhookConfiguration| {
        first(seen).client_config.service.as_mut().unwrap().name = "other".to_owned();
        first(seen).rules = None;
    };
    assert_eq!(restored(elsewhere), "clientConfig, rules");
    assert_eq!(restored(|seen| seen.webhooks = None), "the webhook was gone");
    let foreign = |seen: &mut ValidatingWebhookConfiguration| {
        let other = ValidatingWebhook { name: "other.example.com".to_owned(), ..ValidatingWebhook::default() };
        seen.webhooks.as_mut().unwrap().insert(0, other);
    };
    assert_eq!(restored(foreign), "webhooks that are not ours");
}

#[test]
fn it_counts_as_registered_only_while_the_api_server_asks_us_about_every_agent() {
    let registered = |tamper: fn(&mut ValidatingWebhookConfiguration), annotation: &str| {
        let mut seen = right("ca");
        tamper(&mut seen);
        let annotations = [(BREAK_GLASS.to_owned(), annotation.to_owned())].into();
        is_registered(&registration(), Some(&sent(&seen)), &Setting::of(Some(&annotations), Timestamp::now()))
    };
    let ignore: fn(&mut ValidatingWebhookConfiguration) = |seen| first(seen).failure_policy = Some("Ignore".to_owned());
    assert!(registered(|_| {}, ""));
    assert!(registered(|seen| seen.webhooks.as_mut().unwrap().insert(0, ValidatingWebhook::default()), ""));
    let soon = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    assert!(registered(ignore, &format!("{soon} an outage")));
    for tamper in [
        ignore,
        |seen| seen.webhooks = None,
        |seen| first(seen).client_config.ca_bundle = None,
        |seen| first(seen).client_config.ca_bundle = Some(ByteString(vec![])),
        |seen| first(seen).client_config.service.as_mut().unwrap().namespace = "other".to_owned(),
        |seen| first(seen).rules = Some(vec![]),
        |seen| first(seen).match_conditions.as_mut().unwrap()[0].expression = "false".to_owned(),
    ] {
        assert!(!registered(tamper, ""));
    }
    assert!(!is_registered(&registration(), None, &Setting::Absent));
}

#[test]
fn what_is_published_is_what_our_own_webhook_carries() {
    assert_eq!(published(&sent(&right("ca"))).as_deref(), Some("ca"));
    assert_eq!(published(&sent(&right(""))), None);
    let mut foreign = right("ca");
    first(&mut foreign).name = "other.example.com".to_owned();
    assert_eq!(published(&sent(&foreign)), None);
}

#[test]
fn a_url_gets_the_path_of_reviews() {
    let url = Target::at(&"https://127.0.0.1:8443/?x#y".parse().unwrap());
    assert_eq!(url, Target::Url("https://127.0.0.1:8443/validate".parse().unwrap()));
}

const NOW: &str = "2026-06-01T12:00:00Z";

/// What is written while the annotation says this, beside `failurePolicy`.
fn under_glass(annotation: &str, failure_policy: &str) -> Plan {
    let mut seen = right("ca");
    first(&mut seen).failure_policy = Some(failure_policy.to_owned());
    let others = ("team".to_owned(), "platform".to_owned());
    seen.metadata.annotations = Some([others, (BREAK_GLASS.to_owned(), annotation.to_owned())].into());
    let glass = Setting::of(seen.metadata.annotations.as_ref(), NOW.parse().unwrap());
    super::plan(
        &registration(),
        Some(&sent(&seen)),
        Some("ca"),
        &Known { ever: true, agreed: Some(&agreed("ca")), glass: &glass, was_open: false },
    )
}

/// Failure policy and annotations of what is written for break glass.
fn written(plan: Plan) -> (String, Vec<String>) {
    let Plan::Replace(mut object, Change::BreakGlass) = plan else { panic!("{plan:?}") };
    let policy = first(&mut object).failure_policy.clone().unwrap();
    (policy, object.metadata.annotations.unwrap_or_default().into_keys().collect())
}

#[test]
fn while_break_glass_is_open_failures_are_ignored_and_that_is_not_put_back() {
    let open = "2026-06-01T13:00:00Z INC-1";
    assert_eq!(under_glass(open, "Ignore"), Plan::Keep);
    let (policy, annotations) = written(under_glass(open, "Fail"));
    assert_eq!((policy.as_str(), annotations.len()), ("Ignore", 2));
}

#[test]
fn break_glass_that_is_over_or_was_never_obeyed_is_taken_away_and_failures_refuse_again() {
    for spent in ["2026-06-01T11:59:59Z INC-1", "2026-06-03T00:00:00Z INC-1", "yes"] {
        for policy in ["Ignore", "Fail"] {
            assert_eq!(written(under_glass(spent, policy)), ("Fail".to_owned(), vec!["team".to_owned()]), "{spent}");
        }
    }
}

#[test]
fn closing_break_glass_by_its_annotation_alone_is_no_alarm_but_failures_that_are_ignored_without_it_are() {
    let mut seen = right("ca");
    first(&mut seen).failure_policy = Some("Ignore".to_owned());
    let plan = |was_open| {
        let known = Known { ever: true, agreed: Some(&agreed("ca")), glass: &Setting::Absent, was_open };
        super::plan(&registration(), Some(&sent(&seen)), Some("ca"), &known)
    };
    assert!(matches!(plan(true), Plan::Replace(_, Change::BreakGlass)));
    assert!(matches!(plan(false), Plan::Replace(_, Change::Restored(what)) if what == "failurePolicy"));
}

#[test]
fn with_break_glass_anything_else_that_was_changed_is_put_back_all_the_same() {
    let mut seen = right("ca");
    first(&mut seen).rules = None;
    let glass = Setting::read(Some("2026-06-01T13:00:00Z INC-1"), NOW.parse().unwrap());
    let known = Known { ever: true, agreed: Some(&agreed("ca")), glass: &glass, was_open: false };
    let plan = super::plan(&registration(), Some(&sent(&seen)), Some("ca"), &known);
    assert!(matches!(plan, Plan::Replace(_, Change::Restored(what)) if what == "rules, failurePolicy"));
}

#[test]
fn a_configuration_that_cannot_be_read_is_replaced_and_keeps_what_can_be_read_of_its_metadata() {
    let text = r#"{"metadata": {"name": "sekuire-policy-controller", "resourceVersion": "7", "labels": {"app": "chart"},
        "annotations": {"a": "b"}, "managedFields": 5}, "webhooks": [{"name": 5}]}"#;
    let seen: Sent<ValidatingWebhookConfiguration> = serde_json::from_str(text).unwrap();
    let known = Known { ever: true, agreed: Some(&agreed("ca")), glass: &Setting::Absent, was_open: false };
    let Plan::Replace(object, Change::Restored(what)) = super::plan(&registration(), Some(&seen), Some("ca"), &known)
    else {
        panic!("it is not replaced")
    };
    assert_eq!((what.as_str(), &object.webhooks), ("it cannot be read", &right("ca").webhooks));
    let metadata = object.metadata;
    assert_eq!((metadata.resource_version.as_deref(), metadata.labels), (Some("7"), right("ca").metadata.labels));
    assert_eq!(metadata.annotations.unwrap()["a"], "b");
    assert!(!is_registered(&registration(), Some(&seen), &Setting::Absent));
}

#[test]
fn owners_that_are_not_ours_are_taken_away_and_our_own_stays() {
    let owner = |kind: &str, name: &str| OwnerReference {
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: "u".to_owned(),
        ..OwnerReference::default()
    };
    let registration = Registration { owner: Some("role".to_owned()), ..registration() };
    let known = Known { ever: true, agreed: Some(&agreed("ca")), glass: &Setting::Absent, was_open: false };
    let plan = |owners: Vec<OwnerReference>| {
        let mut seen = right("ca");
        seen.metadata.owner_references = Some(owners);
        super::plan(&registration, Some(&sent(&seen)), Some("ca"), &known)
    };
    let ours = owner("ClusterRole", "role");
    assert_eq!(plan(vec![ours.clone()]), Plan::Keep);
    let foreign = [owner("ConfigMap", "role"), owner("ClusterRole", "other")];
    let Plan::Replace(object, Change::Restored(what)) = plan([&foreign[..], std::slice::from_ref(&ours)].concat())
    else {
        panic!("they stay")
    };
    assert_eq!((what.as_str(), object.metadata.owner_references), ("ownerReferences", Some(vec![ours])));
}
