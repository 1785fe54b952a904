//! A run with its client attached: submitted and joined in one request, so that there is nothing that somebody else could
//! attach to. The connection then carries frames (`frame.rs`); the run ends when its client goes.

pub mod flow;
pub mod frame;
mod session;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Extension;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;

use crate::api::Shared;
use crate::api::attach::session::Session;
use crate::api::body::JsonBody;
use crate::api::caller::Caller;
use crate::api::gate::{About, Asking, WrittenDown};
use crate::api::problem::Problem;
use crate::api::services::Attachments;
use crate::api::sse::Reader;
use crate::api::submit::{Member, read, take};
use crate::api::wire::attach::{AttachJson, TerminalJson};
use crate::queue::Attached;
use crate::record::now_ms;
use crate::task::RunId;

/// What a connection is upgraded to.
pub const PROTOCOL: &str = "aegis-attach-2";
/// Milliseconds that a run waits for its worker at the most, where it says nothing of it.
const WAIT_MS_MAX: i64 = 24 * 60 * 60 * 1000;

/// What a connection does once it carries no more HTTP. It is run where the connection was, and joined with it.
#[derive(Clone, Default)]
pub struct Afterwards(Arc<Mutex<Option<After>>>);

type After = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Afterwards {
    fn put(&self, after: impl Future<Output = ()> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(after));
    }

    /// Does it, if there is anything.
    pub async fn attend(self) {
        let after = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(after) = after {
            after.await;
        }
    }
}

/// A connection that may become a stream.
pub(super) struct Upgrading {
    upgrade: OnUpgrade,
    afterwards: Afterwards,
}

impl FromRequestParts<Shared> for Upgrading {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let afterwards = parts.extensions.get::<Afterwards>().cloned();
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        match (upgrade, afterwards) {
            (Some(upgrade), Some(afterwards)) if asks(&parts.headers) => Ok(Self { upgrade, afterwards }),
            _ => {
                let message = format!("send `connection: upgrade` and `upgrade: {PROTOCOL}`");
                Err(Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message))
            }
        }
    }
}

fn asks(headers: &HeaderMap) -> bool {
    let named = headers.get(header::UPGRADE).and_then(|it| it.to_str().ok());
    named.is_some_and(|it| it.eq_ignore_ascii_case(PROTOCOL))
}

/// Queue a run and stay with it: the connection becomes a stream of its standard streams, and the run ends when it closes.
/// It runs on this server.
#[utoipa::path(post, path = "/api/v1/runs/attach", tag = "runs", request_body = AttachJson,
    responses((status = 101, description = "from here on the connection carries frames"),
        (status = 426, description = "the connection cannot be upgraded")))]
pub(super) async fn attach(
    State(api): State<Shared>,
    Extension(asking): Extension<Asking>,
    caller: Caller,
    Upgrading { upgrade, afterwards }: Upgrading,
    body: JsonBody<AttachJson>,
) -> Result<Response, Problem> {
    let Some(attachments) = api.services.attachments.clone() else {
        let message = "this server runs nothing itself: submit without being attached";
        return Err(Problem::new(StatusCode::CONFLICT, "not_attachable", message));
    };
    let AttachJson { run, input, terminal } = body.value;
    let reader = Reader::new(api.clone(), caller.clone())?;
    let id = RunId::generate();
    let mut asked = read(run, id, &caller, None, &[])?;
    asked.submission.attached = Some(attached(input, terminal)?);
    let schedule = &mut asked.schedule;
    (schedule.attempts_max, schedule.failure_retries, schedule.idempotent) = (1, 0, false);
    schedule.worker_labels.push(attachments.pin());
    let latest = now_ms().saturating_add(WAIT_MS_MAX);
    schedule.deadline_ms = Some(schedule.deadline_ms.unwrap_or(latest).min(latest));
    let (session, streams, over) = Session::open(reader, id, asked.submission.attached)
        .map_err(|error| Problem::internal(format!("pipes cannot be made: {error}")))?;
    // Whoever leaves before the stream is there takes their ends along: the run then ends when it is claimed.
    let left = Left { attachments: attachments.clone(), run: id };
    attachments.leave(id, streams, over);
    take(&api, vec![asked], Member::Only, &asking.entry(id.to_string())).await?;
    afterwards.put(session.converse(upgrade, left));
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, PROTOCOL)];
    let marks = (Extension(About(id.to_string())), Extension(WrittenDown));
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, marks).into_response())
}

fn attached(input: bool, terminal: Option<TerminalJson>) -> Result<Attached, Problem> {
    match terminal {
        Some(TerminalJson { rows: 0, .. } | TerminalJson { columns: 0, .. }) => {
            Err(Problem::field("terminal", "give at least one row and one column"))
        }
        Some(TerminalJson { rows, columns }) => Ok(Attached::Terminal { rows, columns }),
        None if input => Ok(Attached::Both),
        None => Ok(Attached::Output),
    }
}

/// A client's ends that were left for a worker; dropped, they are taken back where no worker has them.
struct Left {
    attachments: Arc<dyn Attachments>,
    run: RunId,
}

impl Drop for Left {
    fn drop(&mut self) {
        self.attachments.withdraw(self.run);
    }
}
