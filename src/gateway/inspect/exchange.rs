//! One request and its answer, from one connection to the other: judged, written anew, answered, scrubbed.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_EXTENSIONS, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::gateway::credential::{Destination, NotAdded};
use crate::gateway::inspect::account::Account;
use crate::gateway::inspect::answer::Refusal;
use crate::gateway::inspect::body::{self, Answered, Carried, Held};
use crate::gateway::inspect::guarded::Seen;
use crate::gateway::inspect::judge::{Passed, judge};
use crate::gateway::inspect::relay::relay;
use crate::gateway::inspect::tasks::Tasks;
use crate::gateway::inspect::upstream::{Dial, Reached, Upstream, Wanted};
use crate::gateway::inspect::{At, Inspection, fields};
use crate::record::egress::{Failure, Reason, RequestEntry, Verdict};
use crate::redact::Redactor;

/// Bytes of a request's path that the ledger keeps.
const PATH_BYTES_KEPT: usize = 1024;

/// One client connection.
pub(super) struct Connection<D> {
    pub at: At,
    pub inspection: Arc<Inspection<D>>,
    pub upstream: Upstream<D>,
    pub seen: Seen,
    pub tasks: Tasks,
}

/// An answer of the host's, and what the client wants to go on with.
struct Answer {
    reached: Reached,
    client: Option<OnUpgrade>,
    is_head: bool,
}

/// Answers a request: with the host's answer, or with why there is none.
pub(super) async fn answer<D: Dial>(
    connection: &Connection<D>,
    request: Request<Incoming>,
) -> Response<Answered> {
    let mut account = Account::begin(&connection.inspection.ledger, &connection.at, Some(told(&request)));
    let refusal = match ask(connection, request, &mut account).await {
        Ok(answer) => match pass_back(connection, answer, account) {
            Ok(response) => return response,
            Err((refusal, begun)) => {
                account = *begun;
                refusal
            }
        },
        Err(refusal) => refusal,
    };
    account.ends(refusal.verdict, Some(refusal.status));
    refusal.response().map(|it: Bytes| Answered::Own(Full::new(it)))
}

fn told(request: &Request<Incoming>) -> RequestEntry {
    let path = request.uri().path();
    let kept = path.char_indices().map(|(at, _)| at).take_while(|it| *it <= PATH_BYTES_KEPT).last();
    let path = if path.len() <= PATH_BYTES_KEPT { path } else { &path[..kept.unwrap_or(0)] };
    RequestEntry {
        method: request.method().as_str().chars().take(32).collect(),
        path: path.to_owned(),
        status: None,
        credential: None,
    }
}

/// Judges a request and sends it on. Of one that is refused, the body is taken too, within bounds.
async fn ask<D: Dial>(
    connection: &Connection<D>,
    mut request: Request<Incoming>,
    account: &mut Account,
) -> Result<Answer, Refusal> {
    let client = hyper::upgrade::on(&mut request);
    let (mut head, mut incoming) = request.into_parts();
    let passed = match pass_on(connection, &mut head, account) {
        Ok(passed) => passed,
        Err(refusal) => {
            body::drain(&head, &mut incoming).await;
            return Err(refusal);
        }
    };
    let (is_head, wanted) = match &passed.upgrade {
        Some(_) => (false, Wanted::Http1),
        None => (head.method == Method::HEAD, Wanted::Any),
    };
    let body = Carried::up(incoming, account.up.clone());
    let reached = connection.upstream.send(Request::from_parts(head, body), wanted).await?;
    account.reached(reached.address);
    Ok(Answer { reached, client: passed.upgrade.map(|_| client), is_head })
}

/// Judges a head, and makes of it what the host sees.
fn pass_on<D>(
    connection: &Connection<D>,
    head: &mut Parts,
    account: &mut Account,
) -> Result<Passed, Refusal> {
    let inspection = &connection.inspection;
    if let Some(name) = inspection.vault.carried(head) {
        let reason = format!("the request carries the secret `{name}`, which no task may have");
        return Err(Refusal::denied(reason, None, Reason::Credential));
    }
    let passed = judge(&connection.at, &inspection.rules, head)?;
    account.allowed_by(passed.rule.clone());
    write_anew(connection, head, &passed, account)?;
    Ok(passed)
}

/// Makes the head that the host sees.
fn write_anew<D>(
    connection: &Connection<D>,
    head: &mut Parts,
    passed: &Passed,
    account: &mut Account,
) -> Result<(), Refusal> {
    let (at, vault) = (&connection.at, &connection.inspection.vault);
    fields::of_request(&mut head.headers);
    head.extensions = http::Extensions::new();
    if let Some(protocol) = &passed.upgrade {
        let value = HeaderValue::from_str(protocol);
        let value =
            value.map_err(|_| Refusal::malformed("the upgrade has no name".to_owned(), Reason::Malformed))?;
        head.headers.insert(UPGRADE, value);
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if vault.scrubber(&at.name).is_some() {
        fields::ask_for_plain(&mut head.headers);
    }
    if let Some(name) = &passed.credential {
        let to = Destination { name: &at.name, port: at.port, tls: at.tls };
        vault.add(name, to, head).map_err(|why| not_added(&why))?;
        account.carries(name);
    }
    Ok(())
}

fn not_added(why: &NotAdded) -> Refusal {
    Refusal::denied(why.to_string(), None, Reason::Credential)
}

/// Makes the answer that the task sees. What cannot be passed back is told with its account.
fn pass_back<D: Dial>(
    connection: &Connection<D>,
    answer: Answer,
    mut account: Account,
) -> Result<Response<Answered>, (Refusal, Box<Account>)> {
    let Answer { mut reached, client, is_head } = answer;
    let host = hyper::upgrade::on(&mut reached.response);
    let redactor = connection.inspection.vault.scrubber(&connection.at.name);
    let (mut head, incoming) = reached.response.into_parts();
    let refused = unreadable(connection, &head.headers, redactor, is_head)
        .or_else(|| unasked(connection, head.status, client.is_some()));
    if let Some(refusal) = refused {
        return Err((refusal, Box::new(account)));
    }
    let protocol = head.headers.get(UPGRADE).cloned();
    fields::of_response(&mut head.headers);
    head.extensions = http::Extensions::new();
    if let Some(redactor) = redactor {
        body::scrub_fields(&mut head.headers, redactor);
    }
    let status = head.status;
    account.ends(Verdict::Failed(Failure::Broken), Some(status));
    let held = Held { account, _permit: reached.permit, status };
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(client)) = (status, client) {
        let mut response = Response::from_parts(head, Answered::Own(Full::default()));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            response.headers_mut().insert(UPGRADE, protocol);
        }
        connection.seen.open();
        connection.tasks.spawn(relay(client, host, redactor.cloned(), held));
        return Ok(response);
    }
    if redactor.is_some() && !is_head {
        head.headers.remove(CONTENT_LENGTH);
    }
    head.version = http::Version::default();
    let body = Carried::down(incoming, held, redactor);
    Ok(Response::from_parts(head, Answered::Carried(Box::new(body))))
}

/// An answer that cannot be scrubbed because it is coded.
fn unreadable<D>(
    connection: &Connection<D>,
    headers: &HeaderMap,
    redactor: Option<&Redactor>,
    is_head: bool,
) -> Option<Refusal> {
    redactor?;
    let name = &connection.at.name;
    if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        let reason =
            format!("`{name}` compresses what comes through the new protocol, so that it cannot be read");
        return Some(Refusal::failed(reason, Failure::Broken));
    }
    let coding = fields::coding(headers).filter(|_| !is_head)?;
    let coding = coding.escape_default();
    let reason = format!("`{name}` answered in the coding `{coding}` although none was asked for");
    Some(Refusal::failed(reason, Failure::Broken))
}

/// An upgrade that nobody asked for.
fn unasked<D>(connection: &Connection<D>, status: StatusCode, asked: bool) -> Option<Refusal> {
    if status != StatusCode::SWITCHING_PROTOCOLS || asked {
        return None;
    }
    let reason = format!("`{}` changed the protocol unasked", connection.at.name);
    Some(Refusal::failed(reason, Failure::Broken))
}
