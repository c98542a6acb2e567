//! A review taken apart: what is not needed stays text in the body and costs nothing, and what is needed is known to be short
//! before it is read. For bodies that are large, and for the words about those that are wrong.
//!
//! An error of serde quotes what it found, escaped: of a body of 3 MiB, which whoever reaches the webhook can send, that
//! would be 20 MiB of words, several times.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Kind, Metadata, Object, Resource, Review, ReviewRequest, UserInfo};
use crate::policy::AgentSpec;
use crate::policy::agent::LONGEST_TEXT;

/// Bytes of a member of the request that is read at all, such as its uid.
const MEMBER: usize = 4096;
/// Bytes of the longest text of an agent as JSON: a character beyond the first 65 536 is written as two escapes of six bytes.
const LONGEST_JSON: usize = LONGEST_TEXT * 12;
/// Bytes of an error that are told, and of the place that it names.
const WORDS: usize = 1024;
/// See [`WORDS`].
const PLACE: usize = 512;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReview<'a> {
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    api_version: Option<&'a RawValue>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest<'a> {
    #[serde(borrow)]
    uid: Option<&'a RawValue>,
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow)]
    sub_resource: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    namespace: Option<&'a RawValue>,
    #[serde(borrow)]
    operation: Option<&'a RawValue>,
    #[serde(borrow)]
    user_info: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct RawUser<'a> {
    #[serde(borrow)]
    username: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct RawObject<'a> {
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadata<'a> {
    #[serde(borrow)]
    generate_name: Option<&'a RawValue>,
}

/// Takes a body apart, down to the object, which is still text.
///
/// # Errors
/// In words: what stands where.
pub(super) fn review(body: &[u8]) -> Result<Review<'_, &RawValue>, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let review: RawReview<'_> = object("the body", text)?;
    let request = review.request.map(request).transpose()?;
    Ok(Review { kind: text_of("kind", review.kind)?, api_version: text_of("apiVersion", review.api_version)?, request })
}

fn request(raw: &RawValue) -> Result<ReviewRequest<'_, &RawValue>, String> {
    let raw: RawRequest<'_> = object("request", raw.get())?;
    let user = raw.user_info.map(|user| object::<RawUser<'_>>("request.userInfo", user.get())).transpose()?;
    Ok(ReviewRequest {
        uid: text_of("request.uid", raw.uid)?,
        kind: member::<Kind<'_>>("request.kind", raw.kind)?,
        resource: member::<Resource<'_>>("request.resource", raw.resource)?,
        sub_resource: text_of("request.subResource", raw.sub_resource)?,
        name: text_of("request.name", raw.name)?,
        namespace: text_of("request.namespace", raw.namespace)?,
        operation: text_of("request.operation", raw.operation)?,
        user_info: UserInfo { username: text_of("request.userInfo.username", user.unwrap_or_default().username)? },
        object: raw.object,
    })
}

/// What is wrong, and where in the object.
pub(super) struct Fault {
    pub(super) place: String,
    pub(super) words: String,
}

impl Fault {
    fn at(place: &str) -> impl FnOnce(String) -> Fault {
        move |words| Fault { place: place.to_owned(), words }
    }
}

/// What is needed of an object: of its metadata, and its spec, if it has one.
///
/// # Errors
/// The first fault.
pub(super) fn agent(raw: &RawValue) -> Result<Object<'_>, Fault> {
    let raw: RawObject<'_> = object("the object", raw.get()).map_err(Fault::at("object"))?;
    let metadata = raw.metadata.map(|raw| object::<RawMetadata<'_>>("metadata", raw.get()));
    let metadata = metadata.transpose().map_err(Fault::at("metadata"))?.unwrap_or_default();
    let generate_name = text_of("generateName", metadata.generate_name).map_err(Fault::at("metadata.generateName"))?;
    let spec = raw.spec.map(|spec| self::spec(spec.get())).transpose()?;
    Ok(Object { metadata: Metadata { generate_name }, spec })
}

fn spec(json: &str) -> Result<Box<AgentSpec>, Fault> {
    if longest_text(json) > LONGEST_JSON {
        let words = format!(
            "a text or the name of a member is longer than {LONGEST_TEXT} characters, the longest that is accepted anywhere"
        );
        return Err(Fault::at("spec")(words));
    }
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json)).map_err(|error| {
        let place = match error.path().to_string().as_str() {
            "." => "spec".to_owned(),
            path => format!("spec.{}", cut(path, PLACE)),
        };
        Fault { place, words: words(error.inner()) }
    })
}

/// Bytes of the longest string in a text that is known to be JSON, as it is written there.
fn longest_text(json: &str) -> usize {
    let (mut longest, mut began, mut escaped) = (0, None, false);
    for (at, byte) in json.bytes().enumerate() {
        match (began, byte) {
            (None, b'"') => began = Some(at + 1),
            (None, _) => {}
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(start), b'"') => {
                longest = longest.max(at - start);
                began = None;
            }
            (Some(_), _) => {}
        }
    }
    longest
}

/// Members of an object as they are written.
fn object<'a, T: Deserialize<'a>>(what: &str, json: &'a str) -> Result<T, String> {
    // asked first, since the words about a string that stands there quote it
    if !json.trim_start().starts_with('{') {
        return Err(format!("{what} is no object"));
    }
    serde_json::from_str(json).map_err(|error| format!("{what}: {error}"))
}

/// A text that is short; empty if there is none.
fn text_of<'a>(what: &str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, String> {
    #[derive(Default, Deserialize)]
    struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(member::<Borrowed<'_>>(what, raw)?.0)
}

/// What is short; its default if there is none.
fn member<'a, T: Deserialize<'a> + Default>(what: &str, raw: Option<&'a RawValue>) -> Result<T, String> {
    let Some(raw) = raw else { return Ok(T::default()) };
    let json = raw.get();
    if json.len() > MEMBER {
        return Err(format!("{what} is longer than {MEMBER} bytes, the most that are read of it"));
    }
    serde_json::from_str(json).map_err(|error| cut(&format!("{what}: {error}"), WORDS).to_owned())
}

/// The error without its place: line and column are of a text that the caller never wrote.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    cut(text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]), WORDS).to_owned()
}

/// The start of a text, at most `bytes` long, never half a character.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
