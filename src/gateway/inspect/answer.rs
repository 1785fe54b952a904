//! What the gateway itself says to a task: fast, in JSON, with the reason and the line that would allow it.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::gateway::inspect::framing::Malformed;
use crate::record::egress::{Failure, Reason, Verdict};

/// A request that is not passed on, or that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status that the task sees.
    pub status: StatusCode,
    /// The kind, one word.
    pub error: &'static str,
    /// Why, for a person.
    pub reason: String,
    /// The entry of `network.allow` that would let it pass, where one would.
    pub allow_with: Option<String>,
    /// For the ledger.
    pub verdict: Verdict,
}

impl Refusal {
    /// No rule allows it.
    pub fn denied(reason: String, allow_with: Option<String>, why: Reason) -> Self {
        let verdict = Verdict::Denied(why);
        Self { status: StatusCode::FORBIDDEN, error: "denied_by_policy", reason, allow_with, verdict }
    }

    /// It has no form that could be judged, or is for another host.
    pub fn malformed(reason: String, why: Reason) -> Self {
        let (status, verdict) = (StatusCode::BAD_REQUEST, Verdict::Denied(why));
        Self { status, error: "malformed_request", reason, allow_with: None, verdict }
    }

    /// It was allowed and did not come about.
    pub fn failed(reason: String, why: Failure) -> Self {
        let status = match why {
            Failure::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Failure::Resolution
            | Failure::Connection
            | Failure::Certificate
            | Failure::Broken
            | Failure::Gateway => StatusCode::BAD_GATEWAY,
        };
        Self { status, error: "upstream_failed", reason, allow_with: None, verdict: Verdict::Failed(why) }
    }

    /// As the task sees it.
    pub fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.json()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn json(&self) -> String {
        match &self.allow_with {
            Some(line) => json!({ "error": self.error, "rule_missing": self.reason, "allow_with": line }),
            None => json!({ "error": self.error, "reason": self.reason }),
        }
        .to_string()
    }
}

/// The whole answer to a request that was not read any further.
pub(super) fn raw_malformed(why: Malformed) -> Bytes {
    let refusal = Refusal::malformed(why.to_string(), Reason::Malformed);
    let body = refusal.json();
    Bytes::from(format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        refusal.status,
        body.len()
    ))
}
