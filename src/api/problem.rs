//! The one form of an error: `application/problem+json` with a code, a message, the request's id and the fields that are
//! wrong. What happened inside goes to the log under that id, never to the caller.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::services::Refusal;
use crate::api::wire::problem::{FieldProblemJson, ProblemJson};
use crate::policy::Denial;
use crate::record::RecordError;
use crate::task::causes::told;

/// What an answer of this kind says it is.
pub const CONTENT_TYPE: &str = "application/problem+json";
/// Fields that one problem names at the most.
const FIELDS_MAX: usize = 32;

/// A refusal or failure on its way to a caller. The request's id is added where every answer passes.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// A word for programs.
    pub code: &'static str,
    /// One sentence for people.
    pub message: String,
    /// Fields that are wrong.
    pub fields: Vec<FieldProblemJson>,
    /// Seconds after which to ask again.
    pub retry_after_s: Option<u64>,
    /// For the log.
    pub detail: Option<String>,
}

impl Problem {
    /// A problem without fields.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, code, message, fields: Vec::new(), retry_after_s: None, detail: None }
    }

    /// A field of the request that is wrong.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "invalid_request", message.clone());
        problem.fields.push(FieldProblemJson { field: field.into(), message, hint: None });
        problem
    }

    /// What is not there, or not the caller's: the two look alike.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }

    /// The caller may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Too much of something.
    pub fn too_many(message: impl Into<String>, retry_after: Duration) -> Self {
        let retry_after_s = Some(retry_after.as_secs().max(1));
        Self { retry_after_s, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message) }
    }

    /// A failure of ours; the text is for the log.
    pub fn internal(detail: impl Into<String>) -> Self {
        let message = "the server failed: its log has more under this request's id";
        let problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
        Self { detail: Some(detail.into()), ..problem }
    }

    /// What policy does not allow.
    pub fn denied(denials: &[Denial]) -> Self {
        let message = "policy does not allow this run";
        let mut problem = Self::new(StatusCode::FORBIDDEN, "policy_denied", message);
        problem.fields = denials.iter().take(FIELDS_MAX).map(denied).collect();
        problem
    }

    /// The same for a status that something else chose.
    pub fn of_status(status: StatusCode) -> Self {
        let (code, message) = match status.as_u16() {
            400 => ("bad_request", "the request cannot be read"),
            404 => ("not_found", "there is nothing at this path"),
            405 => ("method_not_allowed", "this path does not take this method"),
            408 => ("timeout", "the request took too long"),
            411 => ("length_required", "the request needs a length"),
            413 => ("too_large", "the request is too large"),
            415 => ("unsupported_media_type", "send `content-type: application/json`"),
            416 => ("range", "the range lies outside of the content"),
            _ if status.is_client_error() => ("bad_request", "the request is not taken"),
            _ => return Self::internal(format!("a route answered {status} without a reason")),
        };
        Self::new(status, code, message)
    }

    /// As it is sent.
    pub fn render(&self, request_id: &str) -> Response {
        let json = ProblemJson {
            r#type: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            message: self.message.clone(),
            request_id: request_id.to_owned(),
            errors: self.fields.clone(),
        };
        let body = serde_json::to_vec(&json).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn denied(denial: &Denial) -> FieldProblemJson {
    let field = denial.field.key().path.to_owned();
    FieldProblemJson { field, message: denial.message.clone(), hint: Some(denial.hint.clone()) }
}

/// The status alone; where every answer passes, the problem in its extensions becomes the body.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<RecordError> for Problem {
    fn from(error: RecordError) -> Self {
        let detail = told(&error);
        match error {
            RecordError::NulInArgument => {
                Self::field("command", "an argument holds a NUL byte, which no program can be given")
            }
            RecordError::Full { .. }
            | RecordError::Busy { .. }
            | RecordError::ReadOnly { .. }
            | RecordError::Unreachable { .. }
            | RecordError::Unavailable { .. } => {
                let message = "the records cannot be used just now: ask again";
                let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "records_unavailable", message);
                Self { retry_after_s: Some(5), detail: Some(detail), ..problem }
            }
            RecordError::Damaged { .. } | RecordError::Undecodable { .. } => Self::internal(detail),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(denials) => Self::denied(&denials),
            Refusal::Wrong { field, message } => Self::field(field, message),
            Refusal::Unavailable(error) => error.into(),
        }
    }
}
