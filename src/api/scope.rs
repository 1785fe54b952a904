//! The run that a path names, within what its caller sees. Every route that names a run gets it from here: one that is
//! not the caller's is as if it were not there.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::api::Shared;
use crate::api::caller::Caller;
use crate::api::problem::Problem;
use crate::record::{End, Found, Run};
use crate::task::RunId;
use crate::task::run_id::RunSelector;

/// A run that its caller sees.
pub struct Scoped {
    /// The run.
    pub run: Run,
    /// Who asks.
    pub caller: Caller,
}

impl Scoped {
    /// Takes how the run ended; while it has not, this is refused in these words.
    pub fn ended(&mut self, not_yet: &str) -> Result<End, Problem> {
        self.run.end.take().ok_or_else(|| Problem::new(StatusCode::CONFLICT, "going_on", not_yet))
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::internal("a handler was reached without a caller"))
    }
}

impl FromRequestParts<Shared> for Scoped {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let path = RawPathParams::from_request_parts(parts, api).await;
        let path = path.map_err(|_| Problem::field("id", "the path is not plain text"))?;
        let id = path.iter().find(|(name, _)| *name == "id");
        let (_, text) = id.ok_or_else(|| Problem::internal("a route of runs names none"))?;
        let selector: RunSelector = text
            .parse()
            .map_err(|error: crate::task::run_id::RunIdError| Problem::field("id", error.to_string()))?;
        find(api, caller, &selector).await
    }
}

async fn find(api: &Shared, caller: Caller, selector: &RunSelector) -> Result<Scoped, Problem> {
    match api.services.record.find(selector).await? {
        Found::Nothing => Err(Problem::not_found("run")),
        Found::Run(run) if caller.sees(run.project.as_deref()) => Ok(Scoped { run: *run, caller }),
        Found::Run(_) => Err(Problem::not_found("run")),
        Found::Ambiguous(runs) => one_of(api, caller, &runs).await,
    }
}

/// Runs of others do not make an id ambiguous.
async fn one_of(api: &Shared, caller: Caller, runs: &[RunId]) -> Result<Scoped, Problem> {
    let mut seen = Vec::new();
    for id in runs {
        let found = api.services.record.find(&RunSelector::Id(*id)).await?;
        if let Found::Run(run) = found
            && caller.sees(run.project.as_deref())
        {
            seen.push(*run);
        }
    }
    let message = "several runs end in these digits: give the whole id";
    match (seen.pop(), seen.is_empty()) {
        (None, _) => Err(Problem::not_found("run")),
        (Some(run), true) => Ok(Scoped { run, caller }),
        (Some(_), false) => Err(Problem::new(StatusCode::CONFLICT, "ambiguous", message)),
    }
}
