//! `GET /metrics`, in Prometheus' text format, over plain HTTP: nothing in it is secret.
//!
//! | label | bounded by |
//! | --- | --- |
//! | `kind`, `decision`, `mode`, `rule`, `reason`, `result`, `resource`, `server`, `certificate` | closed sets |
//! | `repository`, `signing_key`, `key_id`, `workspace` and what a policy says of itself | objects of the cluster |

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use prometheus::proto::MetricFamily;
use prometheus::{TEXT_FORMAT, TextEncoder};
use tokio::sync::Semaphore;

use super::metrics::metrics;
use super::process;
use super::state::Sources;
use crate::admission::review::Answer;
use crate::admission::server::Service;

/// The only path.
pub const PATH: &str = "/metrics";

/// Serves the metrics.
pub struct Exposition {
    sources: Arc<Sources>,
    /// One scrape at a time: with many workspaces each costs some milliseconds, and admission goes first.
    turn: Arc<Semaphore>,
}

impl Exposition {
    /// What is read from `sources`, and all that was counted.
    #[must_use]
    pub fn new(sources: Sources) -> Exposition {
        Exposition { sources: Arc::new(sources), turn: Arc::new(Semaphore::new(1)) }
    }

    async fn scrape(&self) -> Answer {
        let (sources, turn) = (self.sources.clone(), self.turn.clone());
        #[expect(clippy::expect_used, reason = "the semaphore is never closed")]
        let turn = turn.acquire_owned().await.expect("open");
        let text = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            TextEncoder::new().encode_to_string(&sorted(&sources))
        });
        match text.await {
            Ok(Ok(text)) => Answer { status: StatusCode::OK, content_type: TEXT_FORMAT, body: Bytes::from(text) },
            Ok(Err(error)) => Answer::plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            Err(error) => Answer::plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

fn sorted(sources: &Sources) -> Vec<MetricFamily> {
    let mut families = sources.families(Timestamp::now());
    families.extend(metrics().families());
    families.extend(process::families());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    families
}

impl Service for Exposition {
    const NAME: &'static str = "metrics";
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>, _peer: IpAddr, _draining: bool) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, PATH) => self.scrape().await.into(),
            (_, PATH) => {
                let message = "only GET is accepted\n";
                let mut response: Response<_> = Answer::plain(StatusCode::METHOD_NOT_ALLOWED, message).into();
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
                response
            }
            _ => Answer::plain(StatusCode::NOT_FOUND, format!("there is GET {PATH}\n")).into(),
        }
    }
}
