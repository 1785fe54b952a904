//! Worker hosts, for administrators: who is there, and who is to take nothing more.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use crate::api::Shared;
use crate::api::body::JsonBody;
use crate::api::gate::{About, Asking, WrittenDown};
use crate::api::problem::Problem;
use crate::api::wire::problem::ProblemJson;
use crate::api::wire::run::EmptyJson;
use crate::api::wire::worker::{WorkerJson, WorkersJson};
use crate::intake::secret_name;
use crate::queue::fleet::{Member, Standing, Stood};

/// Every worker that is known.
#[utoipa::path(get, path = "/api/v1/workers", tag = "workers", responses((status = 200, body = WorkersJson)))]
pub(super) async fn list(State(api): State<Shared>) -> Result<Json<WorkersJson>, Problem> {
    let members = api.services.fleet.members().await?;
    Ok(Json(WorkersJson { workers: members.into_iter().map(shown).collect() }))
}

/// Let a worker take nothing more. What it runs goes on; the wish outlives the worker's process.
#[utoipa::path(post, path = "/api/v1/workers/{name}/drain", tag = "workers", request_body = EmptyJson,
    params(("name" = String, Path, description = "its name")),
    responses((status = 204), (status = 404, body = ProblemJson, content_type = "application/problem+json")))]
pub(super) async fn drain(
    State(api): State<Shared>,
    Extension(asking): Extension<Asking>,
    name: axum::extract::Path<String>,
    _: JsonBody<EmptyJson>,
) -> Result<Response, Problem> {
    stand(&api, &asking, &name, Standing::Draining).await
}

/// Let a worker take runs again.
#[utoipa::path(post, path = "/api/v1/workers/{name}/resume", tag = "workers", request_body = EmptyJson,
    params(("name" = String, Path, description = "its name")),
    responses((status = 204), (status = 404, body = ProblemJson, content_type = "application/problem+json")))]
pub(super) async fn resume(
    State(api): State<Shared>,
    Extension(asking): Extension<Asking>,
    name: axum::extract::Path<String>,
    _: JsonBody<EmptyJson>,
) -> Result<Response, Problem> {
    stand(&api, &asking, &name, Standing::Taking).await
}

async fn stand(api: &Shared, asking: &Asking, name: &str, standing: Standing) -> Result<Response, Problem> {
    secret_name::parse(name).map_err(|_| Problem::not_found("worker"))?;
    let object = format!("worker:{name}");
    let audit = asking.entry(object.clone());
    if api.services.fleet.stand(name, standing, Some(&audit)).await? == Stood::Unknown {
        return Err(Problem::not_found("worker"));
    }
    Ok((StatusCode::NO_CONTENT, Extension(About(object)), Extension(WrittenDown)).into_response())
}

fn shown(member: Member) -> WorkerJson {
    let standing = match member.standing {
        Standing::Draining => "draining",
        Standing::Taking => "taking",
    };
    WorkerJson {
        name: member.name,
        labels: member.labels.into_iter().collect(),
        capacity: member.capacity,
        running: member.running,
        standing: standing.to_owned(),
        living: member.living,
        seen_ago_ms: member.seen_ago_ms,
    }
}
