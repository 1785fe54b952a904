//! Whether the server lives, whether it can do its work, what it counts, and which policies it knows.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::Shared;
use crate::api::wire::project::SlotsJson;
use crate::api::wire::{PoliciesJson, PolicyNameJson, ReadyJson};
use crate::policy::shipped;

/// The server answers.
#[utoipa::path(get, path = "/livez", tag = "server", responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether the server can do its work. Who is not known learns no reasons.
#[utoipa::path(get, path = "/readyz", tag = "server",
    responses((status = 200, body = ReadyJson), (status = 503, description = "not ready")))]
pub(super) async fn readyz(State(api): State<Shared>) -> Response {
    let reasons = (api.services.unready)();
    if reasons.is_empty() && !api.closing.is_cancelled() {
        return Json(ReadyJson { ready: true, reasons }).into_response();
    }
    tracing::warn!(reasons = reasons.join("; "), "asked whether it is ready, and is not");
    let message = "the server is not ready: its log says why";
    let problem = crate::api::problem::Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message);
    crate::api::problem::Problem { retry_after_s: Some(5), ..problem }.into_response()
}

/// What the server counts, as Prometheus reads it.
#[utoipa::path(get, path = "/metrics", tag = "server", responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(api): State<Shared>) -> Response {
    let text = (api.services.metrics)();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The sandboxes that wait for tasks on this host.
#[utoipa::path(get, path = "/api/v1/slots", tag = "server", responses((status = 200, body = SlotsJson)))]
pub(super) async fn slots(State(api): State<Shared>) -> Json<SlotsJson> {
    Json(SlotsJson { slots: (api.services.slots)() })
}

/// The policies that runs may name.
#[utoipa::path(get, path = "/api/v1/policies", tag = "server", responses((status = 200, body = PoliciesJson)))]
pub(super) async fn policies() -> Json<PoliciesJson> {
    let policies =
        shipped::NAMES.map(|it| PolicyNameJson { name: it.to_owned(), default: it == shipped::DEFAULT });
    Json(PoliciesJson { policies: policies.into() })
}
