//! Objects as the API server sent them, whether or not they can be read as what they should be.
//!
//! What a schema admits is more than what a type can hold: documents nested deeper than a parser follows, times after the
//! last one that a library counts. One such object must not keep the others of its kind from being seen, so that each is
//! taken as text first, and read by itself.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::ListMeta;
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::value::{RawValue, to_raw_value};

/// Members of a JSON object, each as its text: nothing recurses into them.
type Members = BTreeMap<String, Box<RawValue>>;

/// An object of a kind as it was sent. Reading one fails only where the text is no JSON object.
#[derive(Clone, Debug)]
pub struct Sent<K> {
    /// Name, uid, resourceVersion and generation; nothing else.
    pub metadata: ObjectMeta,
    /// The object, without `metadata.managedFields`; or why it cannot be read.
    pub object: Result<Box<K>, Box<Unreadable>>,
}

/// An object that cannot be read as its kind.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Name, uid, resourceVersion and generation; nothing else.
    pub metadata: ObjectMeta,
    /// What is wrong with it.
    pub why: String,
    spec: Members,
    status: Option<Box<RawValue>>,
}

impl Unreadable {
    /// The object's name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// A text of its spec, if at least that can be read.
    pub fn text(&self, field: &str) -> Option<String> {
        self.field(field)
    }

    /// A field of its spec, if at least that can be read.
    pub fn field<T: DeserializeOwned>(&self, field: &str) -> Option<T> {
        self.spec.get(field).and_then(|value| read_member(value))
    }

    /// Whether its spec has this field.
    pub fn has(&self, field: &str) -> bool {
        self.spec.contains_key(field)
    }

    /// Its status, if that can be read.
    pub fn status<S: DeserializeOwned>(&self) -> Option<S> {
        self.status.as_deref().and_then(read_member)
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the object cannot be read: {}", self.why)
    }
}

/// None: it is something else, which the caller has to live with.
fn read_member<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Sent<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        read(&text).map_err(serde::de::Error::custom)
    }
}

fn read<K: DeserializeOwned>(text: &RawValue) -> serde_json::Result<Sent<K>> {
    let mut members: Members = serde_json::from_str(text.get())?;
    let mut metadata: Members = members.get("metadata").map_or_else(|| Ok(Members::new()), |m| read_members(m))?;
    // nobody asks for it, it is long, and whoever may change an object may write into it
    metadata.remove("managedFields");
    members.insert("metadata".to_owned(), to_raw_value(&metadata)?);
    let identity = identity(&metadata);
    let object = read_as(&members).or_else(|error| {
        // a status is written again by whoever wrote it
        let status = members.remove("status");
        read_as(&members).map_err(|_| {
            Box::new(Unreadable {
                metadata: identity.clone(),
                why: error.to_string(),
                // a spec that is no object has no fields
                spec: members.get("spec").and_then(|spec| read_members(spec).ok()).unwrap_or_default(),
                status,
            })
        })
    });
    Ok(Sent { metadata: identity, object })
}

fn read_members(value: &RawValue) -> serde_json::Result<Members> {
    serde_json::from_str(value.get())
}

fn read_as<K: DeserializeOwned>(members: &Members) -> serde_json::Result<Box<K>> {
    let members = members.iter().map(|(name, value)| (name.as_str(), &**value));
    K::deserialize(MapDeserializer::new(members)).map(Box::new)
}

fn identity(metadata: &Members) -> ObjectMeta {
    let text = |field: &str| metadata.get(field).and_then(|value| read_member(value));
    ObjectMeta {
        name: text("name"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        generation: metadata.get("generation").and_then(|value| read_member(value)),
        ..ObjectMeta::default()
    }
}

/// So that `kube::Api` can ask for it as for the kind itself.
impl<K: Resource<DynamicType = ()>> Resource for Sent<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A page of a list. Not `kube::core::ObjectList`, whose flattened members take the items in before they are read.
#[derive(Deserialize)]
#[serde(bound = "K: DeserializeOwned")]
pub struct SentList<K> {
    /// Where it continues, and from where to watch.
    #[serde(default)]
    pub metadata: ListMeta,
    /// The objects. An empty list may be sent as null.
    #[serde(default)]
    pub items: Option<Vec<Sent<K>>>,
}

/// For `#[serde(deserialize_with)]`: the elements of a list that can be read. Of a list that others write into too.
///
/// # Errors
/// When it is no list.
pub fn readable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Element<T> {
        Readable(T),
        Other(IgnoredAny),
    }
    let elements = Option::<Vec<Element<T>>>::deserialize(deserializer)?.unwrap_or_default();
    let readable = elements.into_iter().filter_map(|element| match element {
        Element::Readable(element) => Some(element),
        Element::Other(_) => None,
    });
    Ok(readable.collect())
}

/// Whether a resourceVersion is before another: both are numbers that grow, and what is none tells nothing.
pub fn is_older(version: &str, than: Option<&str>) -> bool {
    let number = |version: &str| version.parse::<u64>().ok();
    number(version).zip(than.and_then(number)).is_some_and(|(version, than)| version < than)
}

#[cfg(test)]
mod tests {
    use kube::core::WatchEvent;
    use serde_json::json;

    use super::*;
    use crate::api::{PolicyLedger, SigningKey, WorkspacePolicy};

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    fn policy(document: &str) -> String {
        let head = r#"{"apiVersion":"sekuire.ai/v1alpha1","kind":"WorkspacePolicy","metadata":{"name":"ws-a","uid":"u",
            "resourceVersion":"7","generation":3,"managedFields":[{"time":"9999-12-31T23:59:59Z"}]},"#;
        format!(r#"{head}"spec":{{"workspace":"ws_a","document":{document}}},"status":{{"revision":"r"}}}}"#)
    }

    #[test]
    fn one_object_of_a_list_that_cannot_be_read_leaves_the_others_as_they_are() {
        let list = format!(r#"{{"kind":"X","items":[{},{}],"metadata":{{}}}}"#, policy(&nested(9000)), policy("{}"));
        let list: SentList<WorkspacePolicy> = serde_json::from_str(&list).unwrap();
        let [broken, sound] = &list.items.unwrap()[..] else { panic!("two items") };
        let broken = broken.object.as_ref().unwrap_err();
        assert!(broken.why.contains("recursion limit"), "{broken}");
        assert_eq!((broken.name(), broken.metadata.generation), ("ws-a", Some(3)));
        assert_eq!(broken.text("workspace").as_deref(), Some("ws_a"));
        assert!(broken.status::<serde_json::Value>().is_some());
        assert_eq!(sound.object.as_ref().unwrap().spec.workspace, "ws_a");
    }

    #[test]
    fn an_event_of_an_object_that_cannot_be_read_still_says_which_one_and_when() {
        let event = format!(r#"{{"type":"MODIFIED","object":{}}}"#, policy(&nested(200)));
        let WatchEvent::Modified(sent) = serde_json::from_str::<WatchEvent<Sent<WorkspacePolicy>>>(&event).unwrap()
        else {
            panic!("another event")
        };
        assert!(sent.object.is_err());
        assert_eq!(sent.metadata.resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn a_ledger_with_a_version_that_is_too_large_is_unreadable_by_itself() {
        let ledger = json!({"metadata": {"name": "ws-a"}, "spec": {"workspace": "ws_a", "version": "99999999999",
            "digest": "0".repeat(64), "policyId": "p", "lifecycle": "active"}});
        let sent: Sent<PolicyLedger> = serde_json::from_str(&ledger.to_string()).unwrap();
        assert!(sent.object.unwrap_err().why.contains("at most"));
    }

    #[test]
    fn conditions_with_impossible_times_are_left_out_of_a_status() {
        let condition = |name: &str, time: &str| json!({"type": name, "status": "True", "reason": "R", "message": "", "lastTransitionTime": time});
        let key = json!({"metadata": {"name": "k"}, "spec": {"keyId": "k", "publicKey": "k", "workspaces": ["*"]},
            "status": {"conditions": [condition("A", "9999-12-31T23:59:59Z"), condition("B", "2026-01-01T00:00:00Z")]}});
        let sent: Sent<SigningKey> = serde_json::from_str(&key.to_string()).unwrap();
        let conditions = sent.object.unwrap().status.unwrap().conditions;
        assert_eq!(conditions.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(), ["B"]);
    }
}
