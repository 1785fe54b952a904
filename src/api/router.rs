//! The routes. Each is written beside its handler; what it needs of its caller stands in `rights.rs`.

use axum::Router;
use axum::http::StatusCode;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::gate::gate;
use crate::api::problem::Problem;
use crate::api::{
    Shared, artifacts, attach, changes, document, health, projects, runs, sse, submit, tokens, work, workers,
    workspaces,
};

fn all() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(health::policies))
        .routes(routes!(health::slots))
        .routes(routes!(projects::list))
        .routes(routes!(projects::get, projects::put))
        .routes(routes!(document::json))
        .routes(routes!(document::page))
        .routes(routes!(tokens::whoami))
        .routes(routes!(tokens::create, tokens::list))
        .routes(routes!(tokens::revoke))
        .routes(routes!(submit::submit, runs::list))
        .routes(routes!(submit::submit_batch))
        .routes(routes!(attach::attach))
        .routes(routes!(runs::get))
        .routes(routes!(runs::ledger))
        .routes(routes!(artifacts::list))
        .routes(routes!(artifacts::get))
        .routes(routes!(artifacts::all))
        .routes(routes!(changes::get))
        .routes(routes!(runs::cancel))
        .routes(routes!(submit::retry))
        .routes(routes!(sse::events))
        .routes(routes!(sse::logs))
        .routes(routes!(workspaces::put, workspaces::look))
        .routes(routes!(workers::list))
        .routes(routes!(workers::drain))
        .routes(routes!(workers::resume))
        .routes(routes!(work::log))
        .routes(routes!(work::outputs::put, work::outputs::look))
        .routes(routes!(work::workspace))
}

/// What the routes say of themselves.
pub(super) fn documented() -> OpenApi {
    all().into_openapi()
}

/// The routes behind their gate. A handler that panics is a failure of that request alone.
pub(super) fn router(api: &Shared) -> Router {
    let (router, _) = all().split_for_parts();
    router
        .fallback(|| async { Problem::of_status(StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(|| async { Problem::of_status(StatusCode::METHOD_NOT_ALLOWED) })
        .layer(CatchPanicLayer::new())
        .layer(axum::middleware::from_fn_with_state(api.clone(), gate))
        .with_state(api.clone())
}
