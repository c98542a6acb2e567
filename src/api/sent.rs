//! Objects as the API server sent them, whether or not they can be read as what they should be.
//!
//! What a schema admits is more than what a type can hold: documents nested deeper than a parser follows, times after the
//! last one that a library counts. One such object must not keep the others of its kind from being seen, nor one such part
//! of an object the rest of it: each is taken as text first, and read by itself. That is so for whatever the API server says,
//! in a list, a watch, a get and the answer to a write, of our own kinds and of all others: `kube::Api` is used of
//! [`Sent`] alone.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::ListMeta;
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// Members of a JSON object, each as its text: nothing recurses into them.
type Members = BTreeMap<String, Box<RawValue>>;

/// What is read of `metadata`. The rest is for nobody here, and whoever may change an object may write into some of it
/// (`managedFields` is long, and holds times).
const METADATA: [&str; 10] = [
    "annotations",
    DELETION,
    "finalizers",
    "generation",
    "labels",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "uid",
];
const DELETION: &str = "deletionTimestamp";
/// In the place of a time of deletion that cannot be read: that there is one is what counts.
const SOME_TIME: &str = "\"9999-01-01T00:00:00Z\"";

/// An object of a kind as it was sent. Reading one fails only where the text is no JSON object.
#[derive(Clone, Debug)]
pub struct Sent<K> {
    /// What can be read of the metadata.
    pub metadata: ObjectMeta,
    /// The object, with no more of its metadata than that; or why it cannot be read.
    pub object: Result<Box<K>, Box<Unreadable>>,
}

impl<K: Resource> From<K> for Sent<K> {
    /// To be sent.
    fn from(object: K) -> Self {
        Sent { metadata: object.meta().clone(), object: Ok(Box::new(object)) }
    }
}

impl<K: Serialize> Serialize for Sent<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.object {
            Ok(object) => object.serialize(serializer),
            Err(unreadable) => Err(serde::ser::Error::custom(unreadable)),
        }
    }
}

impl<K> Sent<K> {
    /// The object, where what cannot be read is a failure of the request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn readable(self) -> Result<K, kube::Error> {
        let unreadable = |unreadable: Box<Unreadable>| kube::Error::SerdeError(serde::de::Error::custom(unreadable));
        self.object.map(|object| *object).map_err(unreadable)
    }
}

/// An object that cannot be read as its kind.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// What can be read of it: names, versions, labels, annotations, owners, finalizers, and whether it is being deleted.
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
    // one that is no object has no members
    let sent = members.get("metadata").and_then(|metadata| read_members(metadata).ok()).unwrap_or_default();
    let (members_left, metadata) = read_metadata(sent)?;
    members.insert("metadata".to_owned(), to_raw_value(&members_left)?);
    let object = read_as(&members).or_else(|error| {
        // a status is written again by whoever wrote it
        let status = members.remove("status");
        read_as(&members).map_err(|_| {
            Box::new(Unreadable {
                metadata: metadata.clone(),
                why: error.to_string(),
                // a spec that is no object has no fields
                spec: members.get("spec").and_then(|spec| read_members(spec).ok()).unwrap_or_default(),
                status,
            })
        })
    });
    Ok(Sent { metadata, object })
}

fn read_members(value: &RawValue) -> serde_json::Result<Members> {
    serde_json::from_str(value.get())
}

fn read_as<K: DeserializeOwned>(members: &Members) -> serde_json::Result<Box<K>> {
    let members = members.iter().map(|(name, value)| (name.as_str(), &**value));
    K::deserialize(MapDeserializer::new(members)).map(Box::new)
}

/// Those of [`METADATA`] that can be read, and what they are. Together if possible; else each by itself.
fn read_metadata(mut members: Members) -> serde_json::Result<(Members, ObjectMeta)> {
    members.retain(|name, _| METADATA.contains(&name.as_str()));
    if let Ok(metadata) = read_as(&members) {
        return Ok((members, *metadata));
    }
    let alone = |name: &str, value: &RawValue| {
        ObjectMeta::deserialize(MapDeserializer::new(std::iter::once((name, value)))).is_ok()
    };
    if members.get(DELETION).is_some_and(|time| !alone(DELETION, time)) {
        members.insert(DELETION.to_owned(), RawValue::from_string(SOME_TIME.to_owned())?);
    }
    members.retain(|name, value| alone(name, value));
    let metadata = read_as(&members)?;
    Ok((members, *metadata))
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

/// For `#[serde(deserialize_with)]`: a field that others write too; `None` where it cannot be read.
///
/// # Errors
/// When it is no JSON.
pub fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(|value| read_member(&value))
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

    /// All sources below a folder.
    fn sources(folder: &std::path::Path, all: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }

    #[test]
    fn nothing_reads_what_the_api_server_says_but_as_it_was_sent() {
        let (mut all, mut found) = (Vec::new(), 0);
        sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
        for (path, text) in &all {
            let text = text.split("\n#[cfg(test)]").next().unwrap();
            for (at, _) in
                text.match_indices(" Api<").chain(text.match_indices(" &Api<")).chain(text.match_indices("Api::<"))
            {
                let of = text[at..].split_once('<').unwrap().1;
                assert!(of.starts_with("Sent<"), "{path}: an Api of {}", &of[..of.len().min(40)]);
                found += 1;
            }
            for blind in ["runtime::watcher", "runtime::reflector", "ObjectList", "get_metadata", "list_metadata"] {
                let used = text.lines().any(|line| line.contains(blind) && !line.trim_start().starts_with("//"));
                assert!(!used, "{path}: {blind}");
            }
        }
        assert!(found > 10, "{found}");
    }

    #[test]
    fn of_metadata_that_cannot_be_read_whole_all_is_kept_that_can_be() {
        let metadata = json!({"name": "n", "uid": 7, "resourceVersion": "5", "generation": "x", "labels": {"a": "b", "c": 1},
            "annotations": {"d": "e"}, "ownerReferences": [{"kind": 1}], "finalizers": ["f"],
            "creationTimestamp": "9999-12-31T23:59:59Z", "deletionTimestamp": "10000-01-01T00:00:00Z",
            "managedFields": [{"time": "9999-12-31T23:59:59Z", "manager": 5}]});
        let spec = json!({"keyId": "k", "publicKey": "k", "workspaces": ["*"]});
        let sent: Sent<SigningKey> = serde_json::from_value(json!({"metadata": metadata, "spec": spec}))
            .unwrap_or_else(|error| panic!("{error}"));
        for metadata in [&sent.metadata, &sent.object.as_ref().unwrap().metadata] {
            assert_eq!((metadata.name.as_deref(), metadata.resource_version.as_deref()), (Some("n"), Some("5")));
            assert_eq!(metadata.annotations.as_ref().unwrap()["d"], "e");
            assert_eq!(metadata.finalizers.as_deref(), Some(&["f".to_owned()][..]));
            assert!(metadata.deletion_timestamp.is_some());
            assert_eq!((&metadata.uid, &metadata.labels, &metadata.generation), (&None, &None, &None));
            assert_eq!((&metadata.owner_references, &metadata.managed_fields), (&None, &None));
        }
        for metadata in [json!(null), json!(5), json!([1])] {
            let sent: Sent<SigningKey> = serde_json::from_str(&json!({"metadata": metadata}).to_string()).unwrap();
            assert_eq!(sent.object.unwrap_err().name(), "");
        }
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
