//! Projects: what their runs may use together, and what they may name. A caller of one project sees that one.

use axum::extract::State;
use axum::{Extension, Json};

use crate::access::{Project, Quotas};
use crate::api::Shared;
use crate::api::body::JsonBody;
use crate::api::caller::{Caller, is_project};
use crate::api::gate::{About, Asking, WrittenDown};
use crate::api::problem::Problem;
use crate::api::wire::project::{ProjectJson, ProjectsJson, QuotasJson};
use crate::intake::secret_name;
use crate::policy::document::{self, Kind};
use crate::policy::reference::Reference;

/// Bytes of a ceiling.
const CEILING_BYTES_MAX: usize = 256 * 1024;
/// Images and secrets that a project lists, each.
const LIST_MAX: usize = 1_000;
/// The highest amount that the records hold.
const AMOUNT_MAX: u64 = i64::MAX.unsigned_abs();

/// Every project that was set up, or the caller's own.
#[utoipa::path(get, path = "/api/v1/projects", tag = "projects", responses((status = 200, body = ProjectsJson)))]
pub(super) async fn list(State(api): State<Shared>, caller: Caller) -> Result<Json<ProjectsJson>, Problem> {
    let projects = api.services.access.projects().await?;
    let seen = projects.into_iter().filter(|it| caller.sees(Some(&it.name)));
    Ok(Json(ProjectsJson { projects: seen.map(shown).collect() }))
}

/// One project. One that was never set up has no quotas, no secrets, and the images that policy allows.
#[utoipa::path(get, path = "/api/v1/projects/{name}", tag = "projects",
    params(("name" = String, Path, description = "its name")),
    responses((status = 200, body = ProjectJson), (status = 404, description = "it was never set up, or is another's")))]
pub(super) async fn get(
    State(api): State<Shared>,
    caller: Caller,
    name: axum::extract::Path<String>,
) -> Result<Json<ProjectJson>, Problem> {
    if !is_project(&name) || !caller.sees(Some(&name)) {
        return Err(Problem::not_found("project"));
    }
    let project = api.services.access.project(&name).await?;
    project.map(shown).map(Json).ok_or_else(|| Problem::not_found("project"))
}

/// Set a project up, or anew: what is left out is no limit. What waits is judged by it when it starts.
#[utoipa::path(put, path = "/api/v1/projects/{name}", tag = "projects", request_body = ProjectJson,
    params(("name" = String, Path, description = "its name, as in the body")),
    responses((status = 200, body = ProjectJson)))]
pub(super) async fn put(
    State(api): State<Shared>,
    Extension(asking): Extension<Asking>,
    name: axum::extract::Path<String>,
    body: JsonBody<ProjectJson>,
) -> Result<(Extension<About>, Extension<WrittenDown>, Json<ProjectJson>), Problem> {
    let json = body.value;
    if !is_project(&name) || *name != json.name {
        let message = "use 1 to 63 lower-case letters, digits and `-_.`, a letter or digit first, in path and body alike";
        return Err(Problem::field("name", message));
    }
    let project = read(json)?;
    let object = format!("project:{}", project.name);
    let audit = asking.entry(object.clone());
    api.services.access.put_project(&project, Some(&audit)).await?;
    Ok((Extension(About(object)), Extension(WrittenDown), Json(shown(project))))
}

fn read(json: ProjectJson) -> Result<Project, Problem> {
    let QuotasJson { runs, queued, cpu_seconds_day, storage_bytes } = json.quotas;
    for (field, amount) in [
        ("runs", runs),
        ("queued", queued),
        ("cpu_seconds_day", cpu_seconds_day),
        ("storage_bytes", storage_bytes),
    ] {
        if amount.is_some_and(|it| it > AMOUNT_MAX) {
            return Err(Problem::field(format!("quotas.{field}"), format!("give at most {AMOUNT_MAX}")));
        }
    }
    if let Some(ceiling) = &json.ceiling {
        if ceiling.len() > CEILING_BYTES_MAX {
            return Err(Problem::field("ceiling", format!("give at most {CEILING_BYTES_MAX} bytes")));
        }
        document::parse("ceiling", ceiling.as_bytes(), Kind::Ceiling)
            .map_err(|it| Problem::field("ceiling", it.to_string()))?;
    }
    for (index, image) in few("images", json.images.as_deref())?.iter().enumerate() {
        Reference::parse(image).map_err(|it| Problem::field(format!("images[{index}]"), it.to_string()))?;
    }
    for (index, secret) in few("secrets", json.secrets.as_deref())?.iter().enumerate() {
        secret_name::parse(secret)
            .map_err(|it| Problem::field(format!("secrets[{index}]"), it.to_string()))?;
    }
    let quotas = Quotas {
        runs_max: runs,
        queued_max: queued,
        cpu_seconds_day_max: cpu_seconds_day,
        storage_bytes_max: storage_bytes,
    };
    let ProjectJson { name, ceiling, images, secrets, .. } = json;
    Ok(Project { name, quotas, ceiling, images, secrets })
}

fn few<'a>(field: &str, items: Option<&'a [String]>) -> Result<&'a [String], Problem> {
    let items = items.unwrap_or_default();
    if items.len() > LIST_MAX {
        return Err(Problem::field(field, format!("give at most {LIST_MAX}")));
    }
    Ok(items)
}

fn shown(project: Project) -> ProjectJson {
    let Project { name, quotas, ceiling, images, secrets } = project;
    let quotas = QuotasJson {
        runs: quotas.runs_max,
        queued: quotas.queued_max,
        cpu_seconds_day: quotas.cpu_seconds_day_max,
        storage_bytes: quotas.storage_bytes_max,
    };
    ProjectJson { name, quotas, ceiling, images, secrets }
}
