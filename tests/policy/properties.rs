//! What holds for every document.

use proptest::prelude::*;
use sekuire_policy::policy::document::peek;
use sekuire_policy::policy::{Document, Format, Reason, canonical, verify};
use serde_json::{Map, Value};

use crate::support::{bytes_of, now, ring, ring_of_vectors, signed, time};
use crate::vectors::DOCUMENTS;

/// Texts with everything that serialisers disagree about.
fn text() -> impl Strategy<Value = String> {
    let interesting = prop::sample::select(vec![
        'a',
        'Z',
        '"',
        '\\',
        '/',
        '\u{0}',
        '\u{8}',
        '\n',
        '\r',
        '\t',
        '\u{c}',
        '\u{1f}',
        '\u{7f}',
        '\u{80}',
        'é',
        '\u{2028}',
        '\u{d7ff}',
        '\u{e000}',
        '\u{fb33}',
        '\u{ffff}',
        '😀',
        '\u{10ffff}',
    ]);
    prop::collection::vec(prop_oneof![interesting, any::<char>()], 0..12).prop_map(|chars| chars.into_iter().collect())
}

/// Any JSON, of the numbers that a document may hold.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0_u64..1 << 53).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn filled() -> impl Strategy<Value = String> {
    text().prop_filter("an empty string in a list is refused", |t| !t.is_empty())
}

/// Names that cannot pass for others, and are more than ASCII all the same.
fn name() -> impl Strategy<Value = String> {
    let part =
        || prop::collection::vec(prop::sample::select(vec!['a', 'Z', '*', '/', '"', '\\', 'é', '工', '😀', '.']), 1..8);
    (part(), part()).prop_map(|(a, b)| a.into_iter().chain([' ']).chain(b).collect())
}

/// The content of a policy, of the first part alone or of both, in any order of members.
fn content() -> impl Strategy<Value = Value> {
    prop_oneof![content_of(filled().boxed(), Vec::new()), content_of(name().boxed(), second_part())]
}

type Member = BoxedStrategy<Option<(&'static str, Value)>>;

fn member(path: &'static str, value: BoxedStrategy<Value>) -> Member {
    prop::option::of(value).prop_map(move |value| value.map(|value| (path, value))).boxed()
}

fn second_part() -> Vec<Member> {
    let names = || prop::collection::vec(name(), 0..3).prop_map(Value::from);
    let entry = (name(), names()).prop_map(|(provider, models)| {
        serde_json::json!({"host": "*.example.com", "provider": provider, "models": models, "path_prefix": "/é"})
    });
    let flag = || any::<bool>().prop_map(Value::from).boxed();
    vec![
        member("agent/models/endpoints", prop::collection::vec(entry, 0..3).prop_map(Value::from).boxed()),
        member("agent/capabilities/allowed_servers", names().boxed()),
        member("agent/capabilities/broker_tools", names().boxed()),
        member("agent/images/require_digest", flag()),
        member("agent/delegates/allowed_workspaces", names().boxed()),
        member("agent/opaque/accept_declarations", flag()),
    ]
}

fn content_of(texts: BoxedStrategy<String>, more: Vec<Member>) -> BoxedStrategy<Value> {
    let texts = move || prop::collection::vec(texts.clone(), 0..4).prop_map(Value::from);
    let mut members = vec![
        member("agent/models/denied_models", texts().boxed()),
        member("agent/models/allowed_models", texts().boxed()),
        member("agent/capabilities/require_tool_approval", any::<bool>().prop_map(Value::from).boxed()),
        member("compliance/data_residency", text().prop_map(Value::from).boxed()),
        member("compliance/retention_days", (0_u64..1 << 53).prop_map(Value::from).boxed()),
        member("permissions/filesystem/allowed_extensions", texts().boxed()),
        member("rate_limits/per_agent/tokens_per_hour", (0_u64..1 << 53).prop_map(Value::from).boxed()),
    ];
    members.extend(more);
    let made = (members, any::<prop::sample::Index>()).prop_map(|(members, first)| {
        let mut members: Vec<_> = members.into_iter().flatten().collect();
        if !members.is_empty() {
            let first = first.index(members.len());
            members.rotate_left(first);
        }
        let mut content = Value::Object(Map::new());
        for (path, value) in members {
            let mut here = &mut content;
            for name in path.split('/') {
                here = &mut here[name];
            }
            *here = value;
        }
        content
    });
    made.boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_canonical_form_is_that_of_an_independent_implementation(value in json()) {
        prop_assert_eq!(canonical::jcs(&value).unwrap(), serde_jcs::to_vec(&value).unwrap());
    }

    #[test]
    fn hash_and_digest_are_of_the_independent_canonical_form(content in content()) {
        let document = signed(content);
        let hash = |value: &Value| canonical::blake3_hex(&serde_jcs::to_vec(value).unwrap());
        prop_assert_eq!(&document["hash"], &hash(&document["content"]));
        let mut sealed = document.clone();
        for name in ["document_signature", "signature", "signing_key_id", "updated_at"] {
            sealed.as_object_mut().unwrap().shift_remove(name);
        }
        prop_assert_eq!(Document::from_value(document).unwrap().digest(), hash(&sealed));
    }

    #[test]
    fn what_was_read_can_be_written_and_read_again(content in content()) {
        let document = signed(content);
        let compact = document.to_string();
        let pretty = serde_json::to_string_pretty(&document).unwrap();
        for (text, format) in [(&compact, Format::Json), (&pretty, Format::Json)] {
            let read = Document::parse(text.as_bytes(), format).unwrap();
            prop_assert_eq!(read.value().to_string(), compact.as_str());
            let policy = verify(read, &ring(), now()).unwrap();
            prop_assert_eq!(policy.document_json(), compact.as_str());
            let again = Document::parse(policy.document_json().as_bytes(), Format::Json).unwrap();
            prop_assert_eq!(again.digest(), policy.digest());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for format in [Format::Json, Format::Yaml] {
            prop_assert!(Document::parse(&bytes, format).is_err());
            let _ = peek(&bytes, format);
        }
    }

    #[test]
    fn no_text_of_yaml_panics(text in "[-a?:&*!|>'\"%@`{}\\[\\], #\n\t~0.1<_=]{0,120}") {
        prop_assert!(Document::parse(text.as_bytes(), Format::Yaml).is_err());
        let _ = peek(text.as_bytes(), Format::Yaml);
    }

    #[test]
    fn no_value_panics(value in json()) {
        prop_assert!(Document::from_value(value).is_err());
    }

    /// Documents of the vectors with pieces cut out, doubled, overwritten.
    #[test]
    fn no_mutated_document_panics_or_verifies_as_other_data(
        case in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, any::<u8>(), 0..3), 1..4),
    ) {
        let vectors: Value = serde_json::from_str(DOCUMENTS).unwrap();
        let keys = ring_of_vectors(&vectors);
        let now = time(vectors["now"].as_str().unwrap());
        let cases = vectors["cases"].as_array().unwrap();
        let (mut bytes, format) = bytes_of(&cases[case.index(cases.len())]);
        let before = Document::parse(&bytes, format).ok();
        for (at, length, byte, kind) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            match kind {
                0 => drop(bytes.drain(at..end)),
                1 => { let piece = bytes[at..end].to_vec(); bytes.splice(at..at, piece); }
                _ => bytes[at..end].fill(byte),
            }
        }
        let _ = peek(&bytes, format);
        if let Ok(document) = Document::parse(&bytes, format) {
            let value = document.value().clone();
            if verify(document, &keys, now).is_ok() {
                let mut before = before.map(|d| d.value().clone()).unwrap_or_default();
                let mut after = value;
                for unsealed in ["co_signatures", "signing_public_key"] {
                    if let Value::Object(o) = &mut before { o.shift_remove(unsealed); }
                    if let Value::Object(o) = &mut after { o.shift_remove(unsealed); }
                }
                prop_assert_eq!(before, after);
            }
        }
    }
}

/// Every byte of a signed document, replaced by several others, in JSON and YAML.
#[test]
fn a_single_changed_byte_is_refused_or_leaves_the_same_data() {
    let vectors: Value = serde_json::from_str(DOCUMENTS).unwrap();
    let keys = ring_of_vectors(&vectors);
    let now = time(vectors["now"].as_str().unwrap());
    for name in ["every runtime section", "YAML with comments and quotes"] {
        let case = vectors["cases"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap();
        let (bytes, format) = bytes_of(case);
        let value = Document::parse(&bytes, format).unwrap().value().clone();
        for at in 0..bytes.len() {
            for change in [bytes[at] ^ 1, bytes[at] ^ 0x20, b'0', b' ', b'"', 0xff] {
                let mut changed = bytes.clone();
                changed[at] = change;
                let Ok(document) = Document::parse(&changed, format) else { continue };
                let same = *document.value() == value;
                let verdict = verify(document, &keys, now).map_or_else(|refusal| refusal.reason, |_| Reason::Verified);
                assert_eq!(verdict == Reason::Verified, same, "{name}: byte {at} to {change}");
            }
        }
    }
}
