//! Tokens, for administrators: made, listed, ended. A secret is shown once and kept as its digest.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::access::{Created, NewToken, Revoked, Role, Token};
use crate::api::Shared;
use crate::api::body::JsonBody;
use crate::api::caller::{Caller, digest, is_project};
use crate::api::gate::About;
use crate::api::problem::Problem;
use crate::api::wire::WhoamiJson;
use crate::api::wire::problem::ProblemJson;
use crate::api::wire::token::{NewTokenJson, TokenJson, TokenMadeJson, TokensJson};
use crate::intake::{duration, secret_name};
use crate::record::now_ms;
use crate::report::amount;

/// What every secret of ours begins with, so that scanners know it.
const PREFIX: &str = "aegis_";
const RANDOM_BYTES: usize = 32;

/// Who asks.
#[utoipa::path(get, path = "/api/v1/whoami", tag = "server", responses((status = 200, body = WhoamiJson)))]
pub(super) async fn whoami(caller: Caller) -> Json<WhoamiJson> {
    let Caller { name, role, project, .. } = caller;
    Json(WhoamiJson { name, role: role.word().to_owned(), project })
}

/// Make a token. Its secret is in the answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = NewTokenJson,
    responses((status = 201, body = TokenMadeJson), (status = 409, body = ProblemJson, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(api): State<Shared>,
    caller: Caller,
    body: JsonBody<NewTokenJson>,
) -> Result<Response, Problem> {
    let NewTokenJson { name, role, project, expires_in } = body.value;
    let name = secret_name::parse(&name)
        .map_err(|_| Problem::field("name", "use letters, digits and `._-`, a letter or digit first"))?;
    let words = Role::ALL.map(Role::word).join(", ");
    let role = Role::of_word(&role).ok_or_else(|| Problem::field("role", format!("give one of {words}")))?;
    if project.as_deref().is_some_and(|it| !is_project(it)) {
        return Err(Problem::field(
            "project",
            "use 1 to 63 lower-case letters, digits and `-_.`, a letter or digit first",
        ));
    }
    let expires_ms = match expires_in {
        None => None,
        Some(text) => {
            let ms = duration::parse(&text).map_err(|it| Problem::field("expires_in", it.to_string()))?;
            Some(now_ms().saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
        }
    };
    let secret = draw()?;
    let token = NewToken {
        name: name.clone(),
        role,
        project,
        secret_sha256: digest(&secret),
        expires_ms,
        created_by: caller.name,
    };
    if api.services.access.create_token(&token).await? == Created::NameTaken {
        let message = "a token of this name is or was there: names are not used twice";
        return Err(Problem::new(StatusCode::CONFLICT, "name_taken", message));
    }
    let about = About(format!("token:{name}"));
    Ok((StatusCode::CREATED, Extension(about), Json(TokenMadeJson { name, secret })).into_response())
}

/// Every token, without its secret.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", responses((status = 200, body = TokensJson)))]
pub(super) async fn list(State(api): State<Shared>) -> Result<Json<TokensJson>, Problem> {
    let tokens = api.services.access.tokens().await?;
    Ok(Json(TokensJson { tokens: tokens.into_iter().map(shown).collect() }))
}

/// End a token. Its streams close within seconds; runs that it submitted go on.
#[utoipa::path(delete, path = "/api/v1/tokens/{name}", tag = "tokens",
    params(("name" = String, Path, description = "its name")),
    responses((status = 204), (status = 404, body = ProblemJson, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(api): State<Shared>,
    name: axum::extract::Path<String>,
) -> Result<Response, Problem> {
    secret_name::parse(&name).map_err(|_| Problem::not_found("token"))?;
    if api.services.access.revoke_token(&name).await? == Revoked::Unknown {
        return Err(Problem::not_found("token"));
    }
    api.believed.forget();
    Ok((StatusCode::NO_CONTENT, Extension(About(format!("token:{}", name.0)))).into_response())
}

fn shown(token: Token) -> TokenJson {
    TokenJson {
        name: token.name,
        role: token.role.word().to_owned(),
        project: token.project,
        created_at: amount::date(token.created_ms),
        expires_at: token.expires_ms.map(amount::date),
        last_used_at: token.last_used_ms.map(amount::date),
        revoked: token.revoked_ms.is_some(),
    }
}

fn draw() -> Result<String, Problem> {
    let mut bytes = [0_u8; RANDOM_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        let drawn = rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        filled += drawn.map_err(|error| Problem::internal(format!("no random bytes: {error}")))?;
    }
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}
