//! What worker hosts hand in of their runs, and what they fetch for them. A token lets a host in; about which run is
//! decided by its lease, which it proves: what is not, or no longer, its own is as if it were not there.

pub mod outputs;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_util::io::ReaderStream;

use crate::api::Shared;
use crate::api::body::{Asked, JsonBody};
use crate::api::problem::Problem;
use crate::api::services::HandedIn;
use crate::api::wire::problem::ProblemJson;
use crate::api::wire::work::{LeaseQuery, LogPieceJson, LogStandsJson};
use crate::api::workspaces::upload_path;
use crate::queue::fleet::{Holding, Proof};
use crate::record::Fence;
use crate::task::RunId;
use crate::task::causes::told;

/// Bytes of a body with entries of a log.
const PIECE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of an owner's lock.
const LOCK_BYTES_MAX: usize = 64;

/// Hand in entries of a run's log.
#[utoipa::path(post, path = "/api/v1/work/{id}/log", tag = "workers", request_body = LogPieceJson,
    params(("id" = String, Path, description = "the whole id"), LeaseQuery),
    responses((status = 200, body = LogStandsJson), (status = 404, body = ProblemJson, content_type = "application/problem+json")))]
pub(super) async fn log(
    State(api): State<Shared>,
    run: Path<String>,
    Asked(lease): Asked<LeaseQuery>,
    body: JsonBody<LogPieceJson, PIECE_BYTES_MAX>,
) -> Result<Json<LogStandsJson>, Problem> {
    let proof = proof(&run, lease)?;
    held(&api, &proof).await?;
    let LogPieceJson { after, entries } = body.value;
    let entries = STANDARD.decode(entries).map_err(|_| Problem::field("entries", "write base64"))?;
    let copies = api.services.copies.clone();
    let handed = tokio::task::spawn_blocking(move || copies.append(proof.fence, after, &entries));
    let handed = handed.await.map_err(|error| Problem::internal(error.to_string()))?;
    match handed.map_err(|error| outputs::failed(&error))? {
        HandedIn::Added(it) => {
            Ok(Json(LogStandsJson { added: true, entries: it.entries, complete: it.complete }))
        }
        HandedIn::Elsewhere(it) => {
            Ok(Json(LogStandsJson { added: false, entries: it.entries, complete: it.complete }))
        }
        HandedIn::Malformed => {
            Err(Problem::field("entries", "these are no entries, or more than a log may hold"))
        }
        HandedIn::Superseded => Err(Problem::not_found("run")),
    }
}

/// Fetch the uploaded workspace of a run that is under lease.
#[utoipa::path(get, path = "/api/v1/work/{id}/workspace", tag = "workers",
    params(("id" = String, Path, description = "the whole id"), LeaseQuery),
    responses((status = 200, content((Vec<u8> = "application/octet-stream"))),
        (status = 404, body = ProblemJson, content_type = "application/problem+json")))]
pub(super) async fn workspace(
    State(api): State<Shared>,
    run: Path<String>,
    Asked(lease): Asked<LeaseQuery>,
) -> Result<Response, Problem> {
    let proof = proof(&run, lease)?;
    let Holding::Held { workspace: Some(digest) } = held(&api, &proof).await? else {
        return Err(Problem::not_found("workspace"));
    };
    let path = upload_path(&api.services.uploads, &digest).ok_or_else(|| Problem::not_found("workspace"))?;
    let file = match tokio::fs::File::open(&path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Problem::not_found("workspace"));
        }
        Err(error) => {
            return Err(Problem::internal(format!("a workspace cannot be read: {}", told(&error))));
        }
    };
    let headers = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((StatusCode::OK, headers, Body::from_stream(ReaderStream::new(file))).into_response())
}

fn proof(run: &str, lease: LeaseQuery) -> Result<Proof, Problem> {
    let run: RunId = run.parse().map_err(|_| Problem::field("id", "give the whole id of a run"))?;
    let LeaseQuery { attempt, epoch, owner } = lease;
    if owner.len() > LOCK_BYTES_MAX || !owner.bytes().all(|it| it.is_ascii_alphanumeric()) {
        return Err(Problem::field("owner", "give the owner's lock as the lease has it"));
    }
    Ok(Proof { fence: Fence { run, attempt, epoch }, owner_lock: owner })
}

/// What a proof is worth; nothing is a run that is not there.
async fn held(api: &Shared, proof: &Proof) -> Result<Holding, Problem> {
    match api.services.fleet.holding(proof).await? {
        Holding::Not => Err(Problem::not_found("run")),
        holding @ (Holding::Held { .. } | Holding::Ended) => Ok(holding),
    }
}
