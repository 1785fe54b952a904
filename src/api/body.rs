//! A JSON body: of the one content type, bounded before it is decoded, refused with the path of the field that is wrong.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::api::Shared;
use crate::api::problem::Problem;
use crate::api::wire::object::Object;
use crate::intake::shown;

/// Bytes of a body at the most, where it holds one thing.
const BYTES_MAX: usize = 1024 * 1024;
/// The same of a batch.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A body that was read.
pub struct JsonBody<T, const MAX: usize = BYTES_MAX> {
    /// What it says.
    pub value: T,
    /// Its digest, for requests that are repeated.
    pub sha256: [u8; 32],
}

impl<T: DeserializeOwned, const MAX: usize> FromRequest<Shared> for JsonBody<T, MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Problem> {
        is_json(request.headers())?;
        let bytes = read(request, MAX).await?;
        Ok(Self { value: parse(&bytes)?, sha256: Sha256::digest(&bytes).into() })
    }
}

/// A form or plain text is what pages of other sites can send; anything packed could be larger than it looks.
fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = || Err(Problem::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, "charset=utf-8"));
    let utf8 = parameters.trim().eq_ignore_ascii_case("charset=utf-8");
    if !kind.trim().eq_ignore_ascii_case("application/json") || !utf8 {
        return refused();
    }
    if headers.contains_key(header::CONTENT_ENCODING) { refused() } else { Ok(()) }
}

async fn read(request: Request, bytes_max: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let mut problem = Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE);
        problem.message = format!("the body is larger than the {bytes_max} bytes that this route takes");
        problem
    };
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    if length.and_then(|it| it.parse::<u64>().ok()).is_some_and(|it| it > bytes_max as u64) {
        return Err(too_large());
    }
    axum::body::to_bytes(request.into_body(), bytes_max).await.map_err(|error| {
        let source = std::error::Error::source(&error);
        match source.is_some_and(|it| it.is::<http_body_util::LengthLimitError>()) {
            true => too_large(),
            false => Problem::of_status(StatusCode::BAD_REQUEST),
        }
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut decoder = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut decoder).map_err(|error| {
        let path = error.path().to_string();
        field_problem(&path, &error.into_inner().to_string())
    })?;
    decoder
        .end()
        .map_err(|error| Problem::field(".", format!("the body goes on after its value: {error}")))?;
    Ok(value)
}

/// Names the field: of an unknown one the decoder may tell the object around it only, and names it in its message.
fn field_problem(path: &str, message: &str) -> Problem {
    let message = shown_message(message);
    let unknown = message.strip_prefix("unknown field `").and_then(|it| it.split_once('`'));
    let field = match unknown {
        Some((name, _)) if path == "." => name.to_owned(),
        Some((name, _)) if path != name && !path.ends_with(&format!(".{name}")) => format!("{path}.{name}"),
        Some(_) | None => path.to_owned(),
    };
    Problem::field(shown(&field), message)
}

/// The decoder repeats what it was given: it is escaped, and cut.
fn shown_message(message: &str) -> String {
    const CHARS_MAX: usize = 400;
    message
        .chars()
        .take(CHARS_MAX)
        .flat_map(|it| if it.is_control() { it.escape_default().collect::<Vec<_>>() } else { vec![it] })
        .collect()
}

/// The query of a request, every field known.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        let error = match query {
            Ok(Query(value)) => return Ok(Self(value)),
            Err(error) => error.body_text(),
        };
        let message = error.split_once(": ").map_or(error.as_str(), |it| it.1);
        Err(field_problem("query", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::submit::SubmitJson;

    fn check(body: &str, field: &str) {
        let problem = parse::<SubmitJson>(body.as_bytes()).expect_err("refused");
        assert_eq!(problem.status, StatusCode::BAD_REQUEST);
        assert_eq!(problem.fields[0].field, field, "{body}: {problem:?}");
    }

    #[test]
    fn what_is_not_known_is_named() {
        check(r#"{"privileged": true}"#, "privileged");
        check(r#"{"schedule": {"cap_add": []}}"#, "schedule.cap_add");
        check(r#"{"limits": {"user": 0}}"#, "limits.user");
    }

    #[test]
    fn a_wrong_type_is_told_with_its_path() {
        check(r#"{"schedule": {"priority": "high"}}"#, "schedule.priority");
        check(r#"{"command": "true"}"#, "command");
        check(r#"{"command": ["a", 1]}"#, "command[1]");
    }

    #[test]
    fn a_list_is_no_object() {
        check(r#"[["true"]]"#, ".");
        check("[]", ".");
        check(r#"{"command": ["true"], "limits": ["64MiB"]}"#, "limits");
        check(r#"{"command": ["true"], "schedule": {"after": [["01", true]]}}"#, "schedule.after[0]");
        check(r#"{"command": ["true"], "schedule": {"concurrency": ["deploy", 1]}}"#, "schedule.concurrency");
    }

    #[test]
    fn deep_nesting_ends_early() {
        let body = format!("{{\"command\": {}", "[".repeat(200_000));
        assert!(parse::<SubmitJson>(body.as_bytes()).is_err());
    }

    #[test]
    fn a_body_ends_with_its_value() {
        check(r#"{"command": ["a"]} {}"#, ".");
    }

    #[test]
    fn only_plain_json_is_a_body() {
        for (content_type, taken) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("application/json; charset=utf-16", false),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, content_type.parse().expect("a value"));
            assert_eq!(is_json(&headers).is_ok(), taken, "{content_type}");
        }
    }
}
