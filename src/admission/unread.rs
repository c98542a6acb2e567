//! Admission requests that are refused, or given up, before their body is here: counted, and told of now and then, since anybody
//! can send as many as they like.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use http::StatusCode;

use super::review::Answer;
use crate::telemetry::{Decided, Rationed, metrics};

/// Why there is no body.
pub(super) struct Unread {
    pub(super) status: StatusCode,
    pub(super) why: Cow<'static, str>,
}

/// A request whose body is awaited. However that ends, but for [`Awaited::arrived`], it is counted and told: also when the
/// client goes away, and whatever waits here is dropped.
pub(super) struct Awaited<'a> {
    lines: &'a Rationed,
    peer: IpAddr,
    /// What is to be told.
    why: Option<Cow<'static, str>>,
}

impl Awaited<'_> {
    /// From `peer`; told of as `lines` allows.
    pub(super) fn new(lines: &Rationed, peer: IpAddr) -> Awaited<'_> {
        Awaited { lines, peer, why: Some("the client went away before the body had arrived".into()) }
    }

    pub(super) fn arrived(mut self) {
        self.why = None;
    }

    pub(super) fn refused(mut self, unread: Unread) -> Answer {
        let answer = Answer::plain(unread.status, format!("{}\n", unread.why));
        self.why = Some(unread.why);
        answer
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let Some(error) = self.why.take() else { return };
        metrics().admission_unread();
        if let Some(count) = self.lines.happened(Instant::now()) {
            let decision = Decided::Error.as_str();
            tracing::warn!(count, peer = %self.peer, decision, error = &*error, "admission requests not read");
        }
    }
}
