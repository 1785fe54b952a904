//! Whether one request may pass: for whom it is, and what the rules say of it. Pure.

use http::header::{CONNECTION, HOST, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Version};

use crate::gateway::inspect::At;
use crate::gateway::inspect::answer::Refusal;
use crate::gateway::inspect::framing::FIELDS_MAX;
use crate::policy::network::{Name, Network, Request};
use crate::record::egress::Reason;

/// A request that may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passed {
    /// What allows it.
    pub rule: String,
    /// The credential that is added.
    pub credential: Option<String>,
    /// The protocol that the connection may become.
    pub upgrade: Option<String>,
}

/// Judges a request that came on a connection to `at`.
pub(super) fn judge(at: &At, rules: &Network, head: &Parts) -> Result<Passed, Refusal> {
    if head.headers.len() > FIELDS_MAX {
        let reason = format!("there are more than {FIELDS_MAX} header lines");
        return Err(Refusal::malformed(reason, Reason::Malformed));
    }
    addressee(at, head)?;
    let path = head.uri.path_and_query().map_or("", |it| it.as_str());
    match rules.request(&at.name, at.port, head.method.as_str(), path) {
        Request::Allowed { rule, credential, upgrade } => {
            let wanted = wanted_upgrade(head);
            if wanted.is_some() && !upgrade {
                return Err(no_upgrade(at));
            }
            Ok(Passed { rule, credential, upgrade: wanted })
        }
        Request::Denied { missing } => {
            let reason = format!("{} {}", head.method, shown(at, head.uri.path()));
            Err(Refusal::denied(reason, Some(missing), Reason::Request))
        }
        Request::Malformed { reason } => Err(Refusal::malformed(reason, Reason::Malformed)),
    }
}

/// A URL without its query, which may hold anything.
fn shown(at: &At, path: &str) -> String {
    let scheme = if at.tls { "https" } else { "http" };
    match at.is_default_port() {
        true => format!("{scheme}://{}{path}", at.name),
        false => format!("{scheme}://{}:{}{path}", at.name, at.port),
    }
}

/// Whoever is named in the request must be whom the connection was made to.
fn addressee(at: &At, head: &Parts) -> Result<(), Refusal> {
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let mut named: Vec<&[u8]> = authority.iter().map(|it| it.as_bytes()).collect();
    named.extend(head.headers.get_all(HOST).iter().map(http::HeaderValue::as_bytes));
    let expected = if head.version == Version::HTTP_2 { 1..=2 } else { 1..=1 };
    if !expected.contains(&named.len()) {
        return Err(Refusal::malformed("there is not exactly one host".to_owned(), Reason::HostDiffers));
    }
    if named.iter().all(|it| is_for(at, it)) {
        return Ok(());
    }
    let reason = format!("the request is for another host than `{}`, to which it was sent", at.name);
    Err(Refusal::malformed(reason, Reason::HostDiffers))
}

fn is_for(at: &At, host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, port.bytes().all(|it| it.is_ascii_digit()).then(|| port.parse().ok())),
        None => (host, Some(Some(at.default_port()))),
    };
    port.flatten() == Some(at.port) && Name::parse(name).is_ok_and(|it| it == at.name)
}

/// The protocol that the client wants to go on with. An offer of HTTP/2 without TLS is none: nobody insists on it.
fn wanted_upgrade(head: &Parts) -> Option<String> {
    if head.version != Version::HTTP_11 || !lists(&head.headers, CONNECTION, "upgrade") {
        return None;
    }
    let wanted = head.headers.get(UPGRADE)?.to_str().ok()?;
    (!wanted.eq_ignore_ascii_case("h2c")).then(|| wanted.to_ascii_lowercase())
}

fn no_upgrade(at: &At) -> Refusal {
    let missing = format!("{{ host = \"{}\", ports = [{}], upgrade = true }}", at.name, at.port);
    let reason = format!("an upgrade of the connection to {}", shown(at, ""));
    Refusal::denied(reason, Some(missing), Reason::Request)
}

/// Whether a list header has an item.
pub(super) fn lists(headers: &HeaderMap, name: http::HeaderName, item: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|it| it.to_str().ok());
    values.flat_map(|it| it.split(',')).any(|it| it.trim().eq_ignore_ascii_case(item))
}
