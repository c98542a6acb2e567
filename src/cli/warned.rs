//! Requests whose warnings the user is to see, as kubectl shows them: the client alone passes them over.

use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use kube::core::response::StatusSummary;
use serde::de::DeserializeOwned;

/// Sends a request. The answer, and the warnings that the API server gave with it.
pub(super) async fn send<T: DeserializeOwned>(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<(T, Vec<String>), kube::Error> {
    let response = client.send(request.map(Body::from)).await?;
    let warnings = response.headers().get_all(http::header::WARNING).iter();
    let warnings = warnings.filter_map(|header| text(header.to_str().ok()?)).collect();
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status.is_success() {
        return serde_json::from_slice(&body).map(|object| (object, warnings)).map_err(kube::Error::SerdeError);
    }
    let refusal = serde_json::from_slice::<Status>(&body).unwrap_or_else(|_| Status {
        status: Some(StatusSummary::Failure),
        code: status.as_u16(),
        message: String::from_utf8_lossy(&body).into_owned(),
        ..Status::default()
    });
    Err(kube::Error::Api(Box::new(refusal)))
}

/// The text of a warning of a Kubernetes API server: `299 - "text"`, with quotes and backslashes escaped (RFC 9110, 5.6.4).
fn text(header: &str) -> Option<String> {
    let quoted = header.strip_prefix("299 ")?.split_once(" \"")?.1;
    let (mut text, mut characters) = (String::new(), quoted.chars());
    loop {
        match characters.next()? {
            '"' => return Some(text),
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn the_text_is_what_stands_between_the_quotes() {
        assert_eq!(text(r#"299 - "unknown field \"spec.a\"""#).as_deref(), Some(r#"unknown field "spec.a""#));
        assert_eq!(text(r#"299 - "a \\ b" "Tue, 15 Nov 1994 08:12:31 GMT""#).as_deref(), Some(r"a \ b"));
        for other in ["", "199 - \"x\"", "299 -", "299 - \"open", "299 - \"open\\"] {
            assert_eq!(text(other), None, "{other}");
        }
    }
}
