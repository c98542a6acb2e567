use serde_json::{Value, json};

use super::*;
use crate::admission::mode::Verdict;
use crate::policy::Decision;
use crate::policy::{PolicyRef, Violation};

fn request() -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "sekuire.ai", "version": "v1alpha1", "kind": "Agent"},
            "resource": {"group": "sekuire.ai", "version": "v1alpha1", "resource": "agents"},
            "requestKind": {"group": "sekuire.ai", "version": "v1alpha1", "kind": "Agent"},
            "name": "scout",
            "namespace": "team-a",
            "operation": "CREATE",
            "userInfo": {"username": "alice", "groups": ["system:authenticated"], "extra": {"k": ["v"]}},
            "object": {
                "apiVersion": "sekuire.ai/v1alpha1",
                "kind": "Agent",
                "metadata": {"name": "scout", "namespace": "team-a", "managedFields": [{"manager": "kubectl"}]},
                "spec": {"model": {"provider": "openai", "name": "gpt-\"4\""}}
            },
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}
        }
    })
}

fn with(pointer: &str, value: Value) -> Vec<u8> {
    let mut request = request();
    *request.pointer_mut(pointer).unwrap() = value;
    serde_json::to_vec(&request).unwrap()
}

fn settled(body: &[u8]) -> (Settled, Answer) {
    match read(body) {
        Request::Settled(_, settled, answer) => (settled, answer),
        Request::Judge(head, _) => panic!("to be judged: {head:?}"),
    }
}

/// The message and code of a request that is answered with a refusal.
fn refusal(body: &[u8]) -> (u64, String) {
    let (_, answer) = settled(body);
    assert_eq!((answer.status, answer.content_type), (StatusCode::OK, "application/json"));
    let review: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(review["kind"], "AdmissionReview");
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(review["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    assert_eq!(review["response"]["allowed"], false);
    let status = &review["response"]["status"];
    (status["code"].as_u64().unwrap(), status["message"].as_str().unwrap().to_owned())
}

fn plain(body: &[u8]) -> String {
    let (settled, answer) = settled(body);
    assert!(matches!(settled, Settled::Refused(_)));
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[test]
fn an_agent_is_read_with_who_asks_for_what() {
    let body = serde_json::to_vec(&request()).unwrap();
    let Request::Judge(head, agent) = read(&body) else { panic!("not judged") };
    assert_eq!((&*head.namespace, &*head.name, &*head.user), ("team-a", "scout", "alice"));
    assert_eq!((&*head.operation, &*head.uid), ("CREATE", "705ab4f5-6393-11e8-b7cc-42010a800002"));
    assert!(matches!(head.name, Cow::Borrowed(_)), "names are not copied");
    assert_eq!(agent.model.name, "gpt-\"4\"");
}

#[test]
fn a_name_that_is_yet_to_be_made_up_is_told_by_its_prefix() {
    let mut request = request();
    request["request"]["name"] = json!("");
    request["request"]["object"]["metadata"] = json!({"generateName": "scout-"});
    let body = serde_json::to_vec(&request).unwrap();
    let Request::Judge(head, _) = read(&body) else { panic!("not judged") };
    assert_eq!(head.name, "scout-*");
}

#[test]
fn an_agent_that_is_being_deleted_is_judged_as_any_other() {
    let mut request = request();
    request["request"]["operation"] = json!("UPDATE");
    request["request"]["object"]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let body = serde_json::to_vec(&request).unwrap();
    assert!(matches!(read(&body), Request::Judge(..)));
}

#[test]
fn deleting_an_agent_is_let_through_whatever_its_version() {
    let mut request = request();
    request["request"]["operation"] = json!("DELETE");
    request["request"]["kind"]["version"] = json!("v9");
    request["request"]["resource"]["version"] = json!("v9");
    request["request"]["object"] = Value::Null;
    let (settled, answer) = settled(&serde_json::to_vec(&request).unwrap());
    assert_eq!(settled, Settled::Allowed);
    let review: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(review["response"], json!({"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": true}));
}

#[test]
fn what_is_not_json_is_refused_with_what_is_accepted() {
    for body in [&b"rubbish"[..], b"", b"{", b"[]", b"null", b"\xff\xfe", br#"{"kind":7}"#] {
        let message = plain(body);
        assert!(message.starts_with("the body is not an AdmissionReview of admission.k8s.io/v1"), "{message}");
    }
}

#[test]
fn another_kind_or_version_of_review_is_refused() {
    let accepted = "\"AdmissionReview\" of \"admission.k8s.io/v1\" is accepted";
    assert!(plain(&with("/apiVersion", json!("admission.k8s.io/v1beta1"))).contains(accepted));
    assert!(plain(&with("/kind", json!("ConversionReview"))).contains(accepted));
    assert!(plain(b"{}").contains(accepted));
}

#[test]
fn a_review_without_request_or_uid_is_refused() {
    assert_eq!(plain(&with("/request", Value::Null)), "the AdmissionReview has no request");
    assert_eq!(plain(&with("/request/uid", json!(""))), "the request of the AdmissionReview has no uid");
}

#[test]
fn an_object_of_another_kind_is_refused_and_both_kinds_are_named() {
    let mut request = request();
    request["request"]["kind"] = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    request["request"]["resource"] = json!({"group": "", "version": "v1", "resource": "configmaps"});
    request["request"]["object"] = json!({"data": {"a": "b"}});
    let (code, message) = refusal(&serde_json::to_vec(&request).unwrap());
    assert_eq!(code, 400);
    assert_eq!(message, "this webhook judges Agent (agents.sekuire.ai); the request is about ConfigMap (configmaps.)");
}

#[test]
fn a_version_that_is_not_known_is_refused() {
    let mut request = request();
    request["request"]["kind"]["version"] = json!("v1");
    request["request"]["resource"]["version"] = json!("v1");
    let (code, message) = refusal(&serde_json::to_vec(&request).unwrap());
    assert_eq!(code, 400);
    assert!(message.ends_with("judges Agent of sekuire.ai/v1alpha1; the request is about sekuire.ai/v1"), "{message}");
}

#[test]
fn subresources_and_other_operations_are_refused() {
    let mut sub_resource = request();
    sub_resource["request"]["subResource"] = json!("scale");
    let (_, message) = refusal(&serde_json::to_vec(&sub_resource).unwrap());
    assert!(message.contains("not their subresource \"scale\""), "{message}");
    let (_, message) = refusal(&with("/request/operation", json!("CONNECT")));
    assert!(message.contains("CREATE and UPDATE; the operation is \"CONNECT\""), "{message}");
    let (_, message) = refusal(&with("/request/namespace", json!("")));
    assert!(message.contains("names no namespace"), "{message}");
}

#[test]
fn a_request_without_object_or_spec_is_refused() {
    let (code, message) = refusal(&with("/request/object", Value::Null));
    assert_eq!((code, &*message), (400, "the request has no object"));
    let (code, message) = refusal(&with("/request/object", json!({"metadata": {}})));
    assert_eq!(code, 422);
    assert!(message.contains("spec: missing"), "{message}");
}

#[test]
fn a_field_that_the_schema_does_not_know_is_refused_by_name_and_place() {
    let model = json!({"provider": "openai", "name": "gpt-4", "temperature": 1});
    let body = with("/request/object/spec/model", model);
    let (code, message) = refusal(&body);
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "Agent team-a/scout is not understood: spec.model.temperature: unknown field `temperature`, expected one of \
         `provider`, `name`, `region`, `endpoint`"
    );
    let (_, answer) = settled(&body);
    let review: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(review["response"]["status"]["reason"], "Invalid");
    assert_eq!(review["response"]["status"]["details"]["causes"][0]["field"], "spec.model.temperature");
}

#[test]
fn a_field_of_another_type_is_refused_by_place() {
    let (_, message) = refusal(&with("/request/object/spec/model/name", json!(4)));
    assert!(message.contains("spec.model.name: invalid type: integer `4`, expected a string"), "{message}");
    let (_, message) = refusal(&with("/request/object/spec", json!("x")));
    assert!(message.contains("not understood: spec: invalid type"), "{message}");
}

#[test]
fn members_that_occur_twice_are_refused() {
    let body = String::from_utf8(serde_json::to_vec(&request()).unwrap()).unwrap();
    let twice = body.replace(r#""provider":"openai""#, r#""provider":"openai","provider":"acme""#);
    let (_, message) = refusal(twice.as_bytes());
    assert!(message.contains("duplicate field `provider`"), "{message}");
}

/// A review in which this JSON stands at a place.
fn with_json(pointer: &str, json: &str) -> Vec<u8> {
    let body = String::from_utf8(with(pointer, json!("@@here@@"))).unwrap();
    body.replacen("\"@@here@@\"", json, 1).into_bytes()
}

#[test]
fn whatever_is_sent_the_answer_and_its_words_are_short() {
    // read in one go, and taken apart first
    for length in [40_000, 150_000] {
        let delete = format!("\"{}\"", "\u{7f}".repeat(length));
        let escaped = format!("\"{}\"", r"\u0001".repeat(length / 6));
        let member = format!("{{{delete}:1}}");
        let nest = format!("{}{}", "[".repeat(length / 2), "]".repeat(length / 2));
        let number = "9".repeat(length);
        for pointer in [
            "/kind",
            "/apiVersion",
            "/request",
            "/request/uid",
            "/request/name",
            "/request/namespace",
            "/request/operation",
            "/request/kind",
            "/request/kind/kind",
            "/request/resource",
            "/request/resource/group",
            "/request/userInfo",
            "/request/userInfo/username",
            "/request/object",
            "/request/object/metadata",
            "/request/object/spec",
            "/request/object/spec/model",
            "/request/object/spec/model/name",
        ] {
            for json in [&delete, &escaped, &member, &nest, &number] {
                let body = with_json(pointer, json);
                let Request::Settled(_, Settled::Refused(why), answer) = read(&body) else {
                    // a user may be called anything, and is told of by the start of it
                    assert!(
                        pointer.starts_with("/request/userInfo") || pointer == "/request/object/metadata",
                        "{pointer}"
                    );
                    continue;
                };
                assert!(why.len() < 16 * 1024 && answer.body.len() < 64 * 1024, "{pointer}: {}", why.len());
            }
        }
    }
}

#[test]
fn a_user_of_any_length_is_kept_by_the_start_of_its_name() {
    let body = with("/request/userInfo/username", json!("é".repeat(2000)));
    let Request::Judge(head, _) = read(&body) else { panic!("not judged") };
    assert_eq!(head.user, "é".repeat(LONGEST_USER / 2));
}

#[test]
fn a_list_that_is_too_long_is_refused_before_the_rest_of_it_is_read() {
    // what follows the entry too many is no text, and would be refused in other words
    let paths = format!("[{}{}]", "\"/a\",".repeat(257), "7,7");
    for padding in [0, 70_000] {
        let metadata = json!({"annotations": {"a": "x".repeat(padding)}});
        let mut request = request();
        request["request"]["object"]["metadata"] = metadata;
        request["request"]["object"]["spec"]["permissions"] = json!({"filesystem": {"allowedPaths": "@@here@@"}});
        let body = request.to_string().replacen("\"@@here@@\"", &paths, 1);
        let (code, message) = refusal(body.as_bytes());
        assert_eq!(code, 422);
        let words = "spec.permissions.filesystem.allowedPaths: more than 256 entries, the most that are accepted";
        assert!(message.ends_with(words), "{message}");
    }
}

#[test]
fn what_is_not_needed_may_be_of_any_depth_and_length() {
    let nest = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for pointer in
        ["/request/oldObject", "/request/options", "/request/object/metadata/managedFields", "/request/dryRun"]
    {
        assert!(matches!(read(&with_json(pointer, &nest)), Request::Judge(..)), "{pointer}");
    }
}

#[test]
fn a_body_is_never_unpacked() {
    // gzip, as HTTP would announce it by a header that nobody looks at
    assert!(plain(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03").starts_with("the body is not an AdmissionReview"));
}

fn head() -> Head<'static> {
    Head {
        uid: Cow::Borrowed("u-1"),
        operation: Cow::Borrowed("CREATE"),
        namespace: Cow::Borrowed("team-a"),
        name: Cow::Borrowed("scout"),
        user: Cow::Borrowed("alice"),
    }
}

#[test]
fn an_allowed_agent_is_answered_with_its_uid_and_the_warnings() {
    let decision = Decision { allowed: true, warnings: vec!["mind the gap".to_owned()], ..Decision::default() };
    let review: Value = serde_json::from_slice(&answer(&head(), &decision, &Verdict::Admitted, None).body).unwrap();
    assert_eq!(review["response"], json!({"uid": "u-1", "allowed": true, "warnings": ["mind the gap"]}));
}

#[test]
fn a_denial_fills_code_reason_message_and_causes() {
    let policy = PolicyRef {
        policy_id: "policy_a".to_owned(),
        workspace_id: "ws_a".to_owned(),
        version: "3".to_owned(),
        hash: String::new(),
        signing_key_id: "key_a".to_owned(),
        commit: None,
    };
    let violation = Violation {
        rule: "tool.blocked",
        field: "spec.tools[0].name".to_owned(),
        value: "shell".to_owned(),
        policy_path: String::new(),
        message: "the tool \"shell\" is blocked".to_owned(),
    };
    let decision = Decision { policy: Some(policy), violations: vec![violation], ..Decision::default() };
    let review: Value =
        serde_json::from_slice(&answer(&head(), &decision, &Verdict::Refused(vec![]), Some("A note.")).body).unwrap();
    assert_eq!(review["response"]["allowed"], false);
    assert_eq!(
        review["response"]["status"],
        json!({
            "status": "Failure",
            "code": 403,
            "reason": "Forbidden",
            "message": "Agent team-a/scout is refused for 1 violation of policy policy_a version 3 (workspace ws_a, signed \
                        with key_a):\n- spec.tools[0].name: the tool \"shell\" is blocked [tool.blocked]\nA note.",
            "details": {
                "name": "scout",
                "group": "sekuire.ai",
                "kind": "agents",
                "causes": [{
                    "field": "spec.tools[0].name",
                    "reason": "tool.blocked",
                    "message": "the tool \"shell\" is blocked"
                }]
            }
        })
    );
}

#[test]
fn while_not_ready_everybody_is_refused_and_told_what_is_awaited() {
    let review: Value =
        serde_json::from_slice(&not_ready(&head(), "waiting for the first list of namespaces").body).unwrap();
    assert_eq!(review["response"]["allowed"], false);
    assert_eq!(review["response"]["status"]["code"], 503);
    let message = review["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("waiting for the first list of namespaces"), "{message}");
}

/// What the API server's own types read out of an answer.
#[test]
fn an_answer_is_what_the_types_of_kubernetes_expect() {
    type Review = kube::core::admission::AdmissionReview<kube::core::DynamicObject>;
    let decision = Decision { allowed: true, ..Decision::default() };
    for answer in [not_ready(&head(), "x"), refusal_answer()] {
        let review: Review = serde_json::from_slice(&answer.body).unwrap();
        let response = review.response.unwrap();
        assert!(!response.allowed && !response.result.message.is_empty());
    }
    assert!(serde_json::from_slice::<Value>(&answer(&head(), &decision, &Verdict::Admitted, None).body).is_ok());
}

fn refusal_answer() -> Answer {
    settled(&with("/request/object", Value::Null)).1
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_judge(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let judged = matches!(read(&bytes), Request::Judge(..));
        proptest::prop_assert!(!judged);
    }

    #[test]
    fn no_changed_byte_makes_it_panic(at in 0_usize..1000, byte in proptest::prelude::any::<u8>()) {
        let mut body = serde_json::to_vec(&request()).unwrap();
        let at = at % body.len();
        body[at] = byte;
        drop(read(&body));
    }
}
