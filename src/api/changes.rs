//! What a run changed in its workspace, as one archive: who asked for the run brings it into their tree themselves.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::api::problem::Problem;
use crate::api::scope::Scoped;
use crate::api::{Shared, archive};
use crate::sandbox::changes::parcel;

/// What a run changed in its workspace: a tar archive of `manifest.json` and `content/<sha256>`.
#[utoipa::path(get, path = "/api/v1/runs/{id}/changes", tag = "runs",
    params(("id" = String, Path, description = "the whole id or its last 12 digits")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 404, description = "no such run, or nothing of its changes is kept"),
        (status = 409, description = "the run has not ended"),
        (status = 429, description = "too many read archives at this moment")))]
pub(super) async fn get(State(api): State<Shared>, mut scoped: Scoped) -> Result<Response, Problem> {
    let end = scoped.ended("the run has not ended: its changes are known when it has")?;
    if end.changes.as_ref().is_none_or(|it| it.failure.is_some()) {
        return Err(not_kept());
    }
    let (kept, run) = (api.services.changes.clone(), scoped.run.id);
    let name = format!("{}.changes.tar", run.short());
    let pack = move |into: &mut archive::Into| parcel::pack(&kept, run, into).map(|_| ());
    archive::answer(api, scoped.caller, &name, pack).await?.ok_or_else(not_kept)
}

fn not_kept() -> Problem {
    let message = "no changes of this run are kept: it was not asked for, it ran on another host, or it is too long ago";
    Problem::new(StatusCode::NOT_FOUND, "not_kept", message)
}
