//! The gate: what every request passes before a handler sees it, and every answer on its way out. It fails closed: a
//! route that the table of needs does not have is refused.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::access::{Decision, NewAudit};
use crate::api::Shared;
use crate::api::caller::{Caller, Peer, bearer};
use crate::api::problem::Problem;
use crate::api::rights::{Need, RIGHTS, need};
use crate::intake::shown;

/// Callers that nobody knows are counted together, and written down under this name.
const NOBODY: &str = "unknown";
/// Routes whose body takes longer than a request may: they have a clock of their own.
const UPLOADS: [&str; 2] = ["/api/v1/workspaces/{digest}", "/api/v1/work/{id}/outputs/{index}"];
/// What workers hand in, second by second, fills no audit: the run's own events tell of it.
const WORK: &str = "/api/v1/work/";
/// The route whose path a task chose: who tries names there is written down.
const ARTIFACT: &str = "/api/v1/runs/{id}/artifacts/{*path}";
/// An answer is data, to be neither run nor framed nor kept.
const HEADERS: [(header::HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; sandbox"),
];

/// What an answer was about, for the audit.
#[derive(Debug, Clone)]
pub struct About(pub String);

/// What a change is written down with, in one transaction with it.
#[derive(Debug, Clone)]
pub struct Asking {
    who: String,
    what: String,
    request_id: String,
}

impl Asking {
    /// The entry of a change of this object that is about to be made.
    pub fn entry(&self, object: String) -> NewAudit {
        NewAudit {
            who: self.who.clone(),
            what: self.what.clone(),
            decision: Decision::Allowed,
            object: Some(object),
            request_id: Some(self.request_id.clone()),
            detail: "{}".to_owned(),
        }
    }
}

/// Marks an answer whose change is written down already, together with it.
#[derive(Debug, Clone, Copy)]
pub struct WrittenDown;

/// Lets a request through, or answers it.
pub async fn gate(State(api): State<Shared>, mut request: Request, next: Next) -> Response {
    let request_id = uuid::Uuid::now_v7().simple().to_string();
    let route = request.extensions().get::<MatchedPath>().map(|it| it.as_str().to_owned());
    let what = format!("{} {}", request.method(), route.as_deref().unwrap_or("-"));
    let changes = ![Method::GET, Method::HEAD].contains(request.method());
    let path = request.uri().path().to_owned();

    let admitted = let_in(&api, route.as_deref(), &mut request).await;
    let who = request.extensions().get::<Caller>().map_or_else(|| NOBODY.to_owned(), |it| it.name.clone());
    let asking = Asking { who: who.clone(), what: what.clone(), request_id: request_id.clone() };
    request.extensions_mut().insert(asking);
    let response = match admitted {
        Err(problem) => problem.into_response(),
        Ok(()) => {
            let is_upload = route.as_deref().is_some_and(|it| UPLOADS.contains(&it));
            answer(&api, is_upload, request, next).await
        }
    };
    let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::MISDIRECTED_REQUEST];
    // Who asks too often does not get to fill the disk with it.
    let is_work = route.as_deref().is_some_and(|it| it.starts_with(WORK));
    let is_written = response.extensions().get::<WrittenDown>().is_some();
    let tried = route.as_deref() == Some(ARTIFACT) && response.status().is_client_error();
    let counts = (changes || tried) && !is_work && !is_written;
    let counts = counts && response.status() != StatusCode::TOO_MANY_REQUESTS;
    if counts || refused.contains(&response.status()) {
        let object = Some(object(&response, &path));
        let (decision, detail) = decided(&response);
        let request_id = Some(request_id.clone());
        write_down(&api, NewAudit { who, what, decision, object, request_id, detail }).await;
    }
    finish(response, &request_id)
}

/// Where it came from, who asks, whether they may, and whether they asked for too much already. Who asks stands in the
/// request from here on.
async fn let_in(api: &Shared, route: Option<&str>, request: &mut Request) -> Result<(), Problem> {
    let Some(peer) = request.extensions_mut().remove::<Peer>() else {
        return Err(Problem::internal("a request without a peer"));
    };
    if let Peer::Remote { hosts } = &peer {
        same_host(request.uri(), request.headers(), hosts.as_deref())?;
    }
    same_origin(request.headers())?;
    let need = match route {
        // Nobody learns which paths there are without being known.
        None => Need::Known,
        Some(path) => match need(request.method(), path) {
            Some(need) => need,
            None if RIGHTS.iter().any(|it| it.1 == path) => Need::Known,
            None => return Err(Problem::forbidden("this route takes nobody")),
        },
    };
    if need == Need::Open {
        return Ok(());
    }
    let caller = caller(api, &peer, request.headers()).await?;
    request.extensions_mut().insert(caller.clone());
    if let Err(wait) = api.meter.request(&caller.name) {
        return Err(Problem::too_many("too many requests of this caller", wait));
    }
    if !need.is_met(caller.role, caller.project.is_none()) {
        return Err(Problem::forbidden(format!("the role `{}` may not do this", caller.role.word())));
    }
    Ok(())
}

async fn caller(api: &Shared, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
    match peer {
        Peer::Local(Some(caller)) => return Ok(caller.clone()),
        Peer::Local(None) => {
            let message = "this socket is for root, the service's own account and members of its group";
            return Err(Problem::forbidden(message));
        }
        Peer::Remote { .. } => {}
    }
    if let Some(token) = bearer(headers)
        && let Some(caller) = api.believed.caller(&*api.services.access, token).await?
    {
        return Ok(caller);
    }
    if let Err(wait) = api.meter.request(NOBODY) {
        return Err(Problem::too_many("too many requests without a valid token", wait));
    }
    let message = "send a valid token: `authorization: Bearer …`";
    Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
}

/// A name that leads to loopback from somewhere else must not make a browser speak to us.
fn same_host(uri: &Uri, headers: &HeaderMap, hosts: Option<&[String]>) -> Result<(), Problem> {
    let misdirected = |message| Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", message);
    let mut values = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (values.next(), values.next()) else {
        return Err(misdirected("send one `host`"));
    };
    let host = host.to_str().map_err(|_| misdirected("`host` is no name"))?;
    let absolute = uri.authority().map(|it| it.as_str());
    for authority in [Some(host), absolute].into_iter().flatten() {
        if hosts.is_some_and(|known| !known.iter().any(|it| it == without_port(authority))) {
            return Err(misdirected("this server is not known by that name"));
        }
    }
    Ok(())
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
        Some(_) | None => authority,
    }
}

/// Pages of other sites have no business here, whatever they carry.
fn same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = || Err(Problem::forbidden("requests from pages of other sites are not taken"));
    if headers.get("sec-fetch-site").is_some_and(|it| it != "same-origin" && it != "none") {
        return refused();
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let origin = origin.to_str().unwrap_or_default();
    let same = ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme) == Some(host));
    if same && !host.is_empty() { Ok(()) } else { refused() }
}

async fn answer(api: &Shared, is_upload: bool, request: Request, next: Next) -> Response {
    if is_upload {
        return next.run(request).await;
    }
    match tokio::time::timeout(api.services.limits.request_time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::of_status(StatusCode::REQUEST_TIMEOUT).into_response(),
    }
}

fn decided(response: &Response) -> (Decision, String) {
    let status = response.status().as_u16();
    match response.extensions().get::<Problem>() {
        Some(problem) => {
            (Decision::Refused, serde_json::json!({"status": status, "code": problem.code}).to_string())
        }
        None => (Decision::Allowed, serde_json::json!({"status": status}).to_string()),
    }
}

fn object(response: &Response, path: &str) -> String {
    match response.extensions().get::<About>() {
        Some(About(object)) => object.clone(),
        None => shown(path),
    }
}

/// Every refusal and every change is written down. One that cannot be is told to the operator's log.
async fn write_down(api: &Shared, entry: NewAudit) {
    if let Err(error) = api.services.access.audit(&entry).await {
        tracing::error!(error = %error, "an entry of the audit could not be written");
    }
}

/// One form for every error, one set of headers for every answer.
fn finish(mut response: Response, request_id: &str) -> Response {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let problem = response.extensions_mut().remove::<Problem>();
        let problem = problem.unwrap_or_else(|| Problem::of_status(status));
        if let Some(detail) = &problem.detail {
            tracing::error!(request.id = request_id, detail, "a request failed");
        }
        response = problem.render(request_id);
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert("x-request-id", value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &str)], uri: &str, expected: bool) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        let hosts = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let uri: Uri = uri.parse().expect("a target");
        let passes = same_host(&uri, &map, Some(&hosts)).and_then(|()| same_origin(&map)).is_ok();
        assert_eq!(passes, expected, "{headers:?} {uri}");
    }

    #[test]
    fn loopback_has_its_own_names_only() {
        check(&[("host", "127.0.0.1:80")], "/x", true);
        check(&[("host", "[::1]:80")], "/x", true);
        for host in ["evil.example", "127.attacker.test", "127.0.0.1.evil.test", "localhost.evil.test:80", ""]
        {
            check(&[("host", host)], "/x", false);
        }
        check(&[], "/x", false);
        check(&[("host", "localhost"), ("host", "localhost")], "/x", false);
        check(&[("host", "localhost")], "http://evil.example/x", false);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        check(&[("host", "localhost:1"), ("origin", "http://localhost:1")], "/x", true);
        for origin in ["null", "http://evil.example", "http://localhost:2", "localhost:1", ""] {
            check(&[("host", "localhost:1"), ("origin", origin)], "/x", false);
        }
        check(&[("host", "localhost:1"), ("sec-fetch-site", "cross-site")], "/x", false);
    }
}
