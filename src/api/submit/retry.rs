//! Submitting a run anew that has ended: a new run with what is kept of the old one. Values of its environment were
//! forgotten with its end, and are given again.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use sha2::{Digest, Sha256};

use crate::api::Shared;
use crate::api::body::JsonBody;
use crate::api::gate::Asking;
use crate::api::problem::Problem;
use crate::api::scope::Scoped;
use crate::api::services::Asked;
use crate::api::submit::{answered, asked, key};
use crate::api::wire::problem::{FieldProblemJson, ProblemJson};
use crate::api::wire::submit::{RetryJson, SubmittedJson};
use crate::queue::{Idempotency, PROCESS_LABEL, Submission};
use crate::task::{RunId, RunState};

/// The label of a run that was submitted anew, with the id of the one before. Nobody else may give it.
pub const RETRY_OF: &str = "aegis.retry-of";

/// Submit a run anew that has ended, as a run of its own. What was forgotten of it is told by field.
#[utoipa::path(post, path = "/api/v1/runs/{id}/retry", tag = "runs", request_body = RetryJson,
    params(("id" = String, Path, description = "the whole id or its last 12 digits"),
        ("idempotency-key" = Option<String>, Header, description = "the same key with the same body is the same run")),
    responses((status = 201, body = SubmittedJson), (status = 200, body = SubmittedJson, description = "an earlier request with this key made it"),
        (status = 409, body = ProblemJson, content_type = "application/problem+json", description = "it has not ended, or is not kept")))]
pub(in crate::api) async fn retry(
    State(api): State<Shared>,
    Extension(asking): Extension<Asking>,
    scoped: Scoped,
    headers: HeaderMap,
    body: JsonBody<RetryJson>,
) -> Result<Response, Problem> {
    let Scoped { run, caller } = scoped;
    let conflict = |code, message: &str| Problem::new(StatusCode::CONFLICT, code, message);
    if run.state != RunState::Done {
        return Err(conflict("going_on", "the run has not ended: cancel it first"));
    }
    let Some(project) = run.project.clone() else {
        return Err(conflict("not_queued", "no server took this run: run it again where it ran"));
    };
    let Some(past) = api.services.history.past(run.id).await? else {
        let message =
            "what was submitted is not kept, as where a secret stood in its command: submit it again";
        return Err(conflict("not_kept", message));
    };
    let idempotency = key(&headers)?.map(|key| Idempotency { key, body_sha256: of_run(run.id, body.sha256) });
    let environment = environment(&run.task.environment_names, &body.value.environment)?;
    let mut labels = run.labels;
    labels.retain(|(key, _)| key != RETRY_OF);
    labels.push((RETRY_OF.to_owned(), run.id.to_string()));
    let mut schedule = past.schedule;
    // Where a client was attached, the run was its server's alone; this one is anybody's.
    schedule.worker_labels.retain(|(key, _)| key != PROCESS_LABEL);
    let asked = Asked {
        id: RunId::generate(),
        name: run.name,
        labels,
        project,
        submitter: caller.name,
        submission: Submission { environment, attached: None, ..past.submission },
        schedule,
        idempotency,
    };
    answered(&api, asked, &asking).await
}

/// The digest of what is asked: bodies are alike from run to run, what they ask for is not.
fn of_run(run: RunId, body_sha256: [u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(run.to_string()).chain_update(body_sha256).finalize().into()
}

/// The variables with their values: exactly those that the run had.
fn environment(names: &[String], given: &BTreeMap<String, String>) -> Result<Vec<(String, String)>, Problem> {
    asked::environment(given)?;
    let wrong = |name: &str, message: &str| FieldProblemJson {
        field: format!("environment.{name}"),
        message: message.to_owned(),
        hint: None,
    };
    let missing = names.iter().filter(|it| !given.contains_key(*it));
    let mut fields: Vec<FieldProblemJson> =
        missing.map(|it| wrong(it, "its value was forgotten when the run ended: give it again")).collect();
    let unknown = given.keys().filter(|it| !names.contains(it));
    fields.extend(unknown.map(|it| wrong(it, "the run had no such variable: submit another run")));
    if let Some(first) = fields.first() {
        let mut problem = Problem::field(first.field.clone(), first.message.clone());
        problem.message =
            "the variables of a run are given again with their values, and no others".to_owned();
        problem.fields = fields;
        return Err(problem);
    }
    Ok(names.iter().filter_map(|it| given.get(it).map(|value| (it.clone(), value.clone()))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], given: &[&str], expected: Result<(), &[&str]>) {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let given = given.iter().map(|it| ((*it).to_owned(), "value".to_owned())).collect();
        let told = environment(&names, &given).map(drop);
        let told = told.map_err(|it| it.fields.into_iter().map(|it| it.field).collect::<Vec<_>>());
        assert_eq!(told, expected.map_err(|it| it.iter().map(|it| (*it).to_owned()).collect()));
    }

    #[test]
    fn each_variable_is_given_again_and_no_other() {
        check(&["A", "B"], &["A", "B"], Ok(()));
        check(&[], &[], Ok(()));
        check(&["A", "B"], &["B"], Err(&["environment.A"]));
        check(&["A"], &["A", "C"], Err(&["environment.C"]));
    }
}
