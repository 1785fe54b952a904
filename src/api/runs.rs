//! Runs that were taken: lists and single ones, their ledgers, and the wish to end one.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use crate::api::Shared;
use crate::api::body::{Asked, JsonBody};
use crate::api::caller::Caller;
use crate::api::gate::{About, Asking, WrittenDown};
use crate::api::problem::Problem;
use crate::api::scope::Scoped;
use crate::api::wire::run::{CancelledJson, EgressJson, EmptyJson, ListQuery, ListedJson, RunsJson};
use crate::queue::CancelAnswer;
use crate::record::page::PageFilter;
use crate::report::{egress, result};
use crate::task::{Cancellation, RunId, RunState};

/// Runs of a page that says nothing, and at the most.
const PAGE_DEFAULT: u32 = 50;
const PAGE_MAX: u32 = 200;

/// List runs, newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(ListQuery), responses((status = 200, body = RunsJson)))]
pub(super) async fn list(
    State(api): State<Shared>,
    caller: Caller,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<RunsJson>, Problem> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::field("limit", format!("give 1 to {PAGE_MAX}")));
    }
    let filter = filter(&caller, &query)?;
    // One more than is shown says whether there is a next page.
    let mut listed = api.services.pages.page(&filter, limit + 1).await?;
    let is_last = listed.len() <= limit as usize;
    listed.truncate(limit as usize);
    let next_cursor = if is_last { None } else { listed.last().map(|it| it.run.id.to_string()) };
    let told =
        listed.iter().map(|it| ListedJson { project: it.project.clone(), run: result::brief(&it.run) });
    Ok(Json(RunsJson { runs: told.collect(), next_cursor }))
}

fn filter(caller: &Caller, query: &ListQuery) -> Result<PageFilter, Problem> {
    let project = match (&caller.project, &query.project) {
        (None, None) => None,
        (_, asked) => Some(caller.project_for(asked.as_deref())?),
    };
    let state = match query.state.as_deref() {
        None => None,
        Some(word) => {
            let words = RunState::ALL.map(RunState::name).join(", ");
            let state = RunState::from_name(word);
            Some(state.ok_or_else(|| Problem::field("state", format!("give one of {words}")))?)
        }
    };
    let label = match query.label.as_deref() {
        None => None,
        Some(text) => {
            let pair = text.split_once('=').ok_or_else(|| Problem::field("label", "write KEY=VALUE"))?;
            crate::intake::label::check(pair.0, pair.1)
                .map_err(|it| Problem::field("label", it.to_string()))?;
            Some((pair.0.to_owned(), pair.1.to_owned()))
        }
    };
    let before = match query.cursor.as_deref() {
        None => None,
        Some(text) => {
            let run = text.parse::<RunId>();
            Some(run.map_err(|_| Problem::field("cursor", "give `next_cursor` of the page before"))?)
        }
    };
    Ok(PageFilter { project, state, label, before })
}

/// One run: what was asked, what policy made of it, what the kernel showed, how it ended.
#[utoipa::path(get, path = "/api/v1/runs/{id}", tag = "runs",
    params(("id" = String, Path, description = "the whole id or its last 12 digits")),
    responses((status = 200, body = ref("#/components/schemas/RunJson"))))]
pub(super) async fn get(scoped: Scoped) -> Json<crate::report::json::RunJson> {
    Json(result::of(&scoped.run))
}

/// What went out and what was refused.
#[utoipa::path(get, path = "/api/v1/runs/{id}/egress", tag = "runs",
    params(("id" = String, Path, description = "the whole id or its last 12 digits")),
    responses((status = 200, body = EgressJson)))]
pub(super) async fn ledger(State(api): State<Shared>, scoped: Scoped) -> Result<Json<EgressJson>, Problem> {
    let entries = api.services.record.egress(scoped.run.id).await?;
    Ok(Json(EgressJson { entries: entries.iter().map(egress::json).collect() }))
}

/// End a run: one that waits ends at once, one that runs is told. Asking again changes nothing.
#[utoipa::path(post, path = "/api/v1/runs/{id}/cancel", tag = "runs", request_body = EmptyJson,
    params(("id" = String, Path, description = "the whole id or its last 12 digits")),
    responses((status = 200, body = CancelledJson), (status = 202, body = CancelledJson, description = "its worker is told")))]
pub(super) async fn cancel(
    State(api): State<Shared>,
    Extension(asking): Extension<Asking>,
    scoped: Scoped,
    _: JsonBody<EmptyJson>,
) -> Result<Response, Problem> {
    let run = scoped.run.id;
    let audit = asking.entry(run.to_string());
    let cancelled = api.services.queue.cancel(run, Cancellation::Command, Some(&audit)).await?;
    let (status, result) = match cancelled {
        CancelAnswer::Ended => (StatusCode::OK, "ended"),
        CancelAnswer::Asked => (StatusCode::ACCEPTED, "asked"),
        CancelAnswer::Over => (StatusCode::OK, "over"),
        CancelAnswer::Unknown if scoped.run.state == RunState::Done => (StatusCode::OK, "over"),
        CancelAnswer::Unknown => {
            let message = "no server took this run: cancel it where it runs";
            return Err(Problem::new(StatusCode::CONFLICT, "not_queued", message));
        }
    };
    let answer = Json(CancelledJson { result: result.to_owned() });
    let mut response = (status, Extension(About(run.to_string())), answer).into_response();
    if result != "over" {
        response.extensions_mut().insert(WrittenDown);
    }
    Ok(response)
}
