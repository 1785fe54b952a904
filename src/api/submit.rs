//! Taking runs: read (`asked.rs`), judged, queued; one, or many together.

mod asked;
mod retry;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use crate::access::NewAudit;
use crate::api::Shared;
use crate::api::body::{BATCH_BYTES_MAX, JsonBody};
use crate::api::caller::Caller;
use crate::api::gate::{About, Asking, WrittenDown};
use crate::api::problem::Problem;
use crate::api::services::Asked;
pub(super) use crate::api::submit::asked::read;
use crate::api::wire::problem::{FieldProblemJson, ProblemJson};
use crate::api::wire::submit::{BatchJson, BatchSubmittedJson, SubmitJson, SubmittedJson};
use crate::api::workspaces;
use crate::queue::{BATCH_MAX, Idempotency, NewSubmission, Submitted};
use crate::task::RunId;

pub(super) use retry::{__path_retry, retry};

/// Bytes of an idempotency key: the member of a batch is written behind it.
const KEY_BYTES_MAX: usize = 200;
const KEY_HEADER: &str = "idempotency-key";

/// Queue a run. It is on disk when this answers.
#[utoipa::path(post, path = "/api/v1/runs", tag = "runs", request_body = SubmitJson,
    params(("idempotency-key" = Option<String>, Header, description = "the same key with the same body is the same run")),
    responses((status = 201, body = SubmittedJson), (status = 200, body = SubmittedJson, description = "an earlier request with this key made it"),
        (status = 409, body = ProblemJson, content_type = "application/problem+json")))]
pub(super) async fn submit(
    State(api): State<Shared>,
    Extension(asking): Extension<Asking>,
    caller: Caller,
    headers: HeaderMap,
    body: JsonBody<SubmitJson>,
) -> Result<Response, Problem> {
    let key = key(&headers)?;
    let idempotency = key.map(|key| Idempotency { key, body_sha256: body.sha256 });
    answered(&api, read(body.value, RunId::generate(), &caller, idempotency, &[])?, &asking).await
}

/// Takes one run, and says where it is.
async fn answered(api: &Shared, asked: Asked, asking: &Asking) -> Result<Response, Problem> {
    let audit = asking.entry(asked.id.to_string());
    let (run, created) = take(api, vec![asked], Member::Only, &audit).await?[0];
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let location = HeaderValue::from_str(&format!("/api/v1/runs/{run}"));
    let mut response = (status, Extension(About(run.to_string())), Json(told(run, created))).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if created {
        response.extensions_mut().insert(WrittenDown);
    }
    Ok(response)
}

/// Queue up to 1,000 runs together, or none of them.
#[utoipa::path(post, path = "/api/v1/runs/batch", tag = "runs", request_body = BatchJson,
    params(("idempotency-key" = Option<String>, Header, description = "the same key with the same body are the same runs")),
    responses((status = 201, body = BatchSubmittedJson)))]
pub(super) async fn submit_batch(
    State(api): State<Shared>,
    Extension(asking): Extension<Asking>,
    caller: Caller,
    headers: HeaderMap,
    body: JsonBody<BatchJson, BATCH_BYTES_MAX>,
) -> Result<Response, Problem> {
    let key = key(&headers)?;
    let members = body.value.runs;
    if members.is_empty() || members.len() > BATCH_MAX {
        return Err(Problem::field("runs", format!("give 1 to {BATCH_MAX} runs")));
    }
    let ids: Vec<RunId> = members.iter().map(|_| RunId::generate()).collect();
    let mut asked = Vec::with_capacity(members.len());
    for (index, member) in members.into_iter().enumerate() {
        let key = key.as_ref().map(|it| format!("{it} {index}"));
        let idempotency = key.map(|key| Idempotency { key, body_sha256: body.sha256 });
        let read = read(member, ids[index], &caller, idempotency, &ids);
        asked.push(read.map_err(|problem| Member::At(index).placed(problem))?);
    }
    let audit = asking.entry(format!("{} runs from {}", ids.len(), ids[0]));
    let taken = take(&api, asked, Member::Many, &audit).await?;
    let about = About(format!("{} runs from {}", taken.len(), taken[0].0));
    let is_new = taken.iter().any(|it| it.1);
    let runs = taken.into_iter().map(|(run, created)| told(run, created)).collect();
    let answer = Json(BatchSubmittedJson { runs });
    let mut response = (StatusCode::CREATED, Extension(about), answer).into_response();
    if is_new {
        response.extensions_mut().insert(WrittenDown);
    }
    Ok(response)
}

fn told(run: RunId, created: bool) -> SubmittedJson {
    SubmittedJson { id: run.to_string(), short_id: run.short(), created }
}

/// Where in a request a run stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Member {
    Only,
    Many,
    At(usize),
}

impl Member {
    fn placed(self, mut problem: Problem) -> Problem {
        if let Self::At(index) = self {
            for it in &mut problem.fields {
                it.field = format!("runs[{index}].{}", it.field);
            }
            if problem.fields.is_empty() {
                let message = problem.message.clone();
                problem.fields.push(FieldProblemJson {
                    field: format!("runs[{index}]"),
                    message,
                    hint: None,
                });
            }
        }
        problem
    }

    fn at(self, index: usize) -> Self {
        match self {
            Self::Only => Self::Only,
            Self::Many | Self::At(_) => Self::At(index),
        }
    }
}

/// Judges and queues. As many as were asked for come back, in their order.
pub(super) async fn take(
    api: &Shared,
    asked: Vec<Asked>,
    member: Member,
    audit: &NewAudit,
) -> Result<Vec<(RunId, bool)>, Problem> {
    let count = asked.len();
    let mut batch: Vec<NewSubmission> = Vec::with_capacity(count);
    for (index, one) in asked.into_iter().enumerate() {
        if let Some(digest) = &one.submission.workspace {
            let there = workspaces::is_there(&api.services.uploads, &one.project, digest).await;
            let problem = || Problem::field("workspace", "no such workspace was uploaded for this project");
            there.then_some(()).ok_or_else(|| member.at(index).placed(problem()))?;
        }
        let admitted = api.services.admission.admit(one).await;
        batch.push(admitted.map_err(|refusal| member.at(index).placed(refusal.into()))?);
    }
    let conflict = |code, message: String| Problem::new(StatusCode::CONFLICT, code, message);
    match api.services.queue.submit(&batch, Some(audit)).await? {
        Submitted::Accepted(runs) if runs.len() == count => Ok(runs),
        Submitted::Accepted(runs) => {
            Err(Problem::internal(format!("{} of {count} runs came back", runs.len())))
        }
        Submitted::KeyConflict { index, run } => {
            let message = format!("this idempotency key made run {run} with another body: use a new key");
            Err(member.at(index).placed(conflict("idempotency_conflict", message)))
        }
        Submitted::UnknownDependency { index, run } => {
            let message = format!("there is no run {run} in this project");
            Err(member.at(index).placed(Problem::field("schedule.after", message)))
        }
        Submitted::Cycle { index } => {
            let problem = Problem::field("schedule.after", "these runs wait for each other in a circle");
            Err(member.at(index).placed(problem))
        }
        Submitted::TooMany { index, what } => {
            Err(member.at(index).placed(Problem::new(StatusCode::BAD_REQUEST, "too_many", what)))
        }
        Submitted::QuotaExceeded { what } => {
            let message = format!("a quota of the project is used up: {what}");
            let mut problem = Problem::too_many(message, std::time::Duration::from_secs(30));
            problem.code = "quota_exceeded";
            Err(problem)
        }
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(KEY_HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    let plain = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|it| it.is_ascii_graphic());
    if !plain || values.next().is_some() {
        let message = format!("give one key of 1 to {KEY_BYTES_MAX} visible characters without spaces");
        return Err(Problem::field(KEY_HEADER, message));
    }
    Ok(Some(key.to_owned()))
}
