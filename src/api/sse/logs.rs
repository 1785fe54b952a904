//! What a run wrote: as server-sent events that follow it, or as a file.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::Shared;
use crate::api::body::Asked;
use crate::api::problem::Problem;
use crate::api::scope::Scoped;
use crate::api::services::{LogChunk, LogLook, LogRange, LogSource};
use crate::api::sse::{Reader, after, keep_alive};
use crate::api::wire::run::{LogChunkJson, LogEndJson, LogQuery};
use crate::record::{Found, Run, Stream};
use crate::task::run_id::RunSelector;
use crate::task::{Outcome, RunId, RunState};

/// How long the end of a log may come after the run's own.
const LATE_TIME_MAX: Duration = Duration::from_secs(10);

/// What a run wrote. With `Accept: text/event-stream` it is followed: `chunk` events with a `LogChunkJson`, their number as
/// `id`, last an `end` event; otherwise the bytes so far are downloaded.
#[utoipa::path(get, path = "/api/v1/runs/{id}/logs", tag = "runs",
    params(("id" = String, Path, description = "the whole id or its last 12 digits"), LogQuery),
    responses((status = 200, content((String = "text/event-stream"), (Vec<u8> = "application/octet-stream")))))]
pub(in crate::api) async fn logs(
    State(api): State<Shared>,
    headers: HeaderMap,
    Asked(query): Asked<LogQuery>,
    scoped: Scoped,
) -> Result<Response, Problem> {
    let only = match query.stream.as_deref() {
        None => None,
        Some("stdout") => Some(Stream::Stdout),
        Some("stderr") => Some(Stream::Stderr),
        Some(_) => return Err(Problem::field("stream", "give stdout or stderr")),
    };
    let after = after(&headers, query.after)?;
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let is_stream = accept.contains("text/event-stream");
    let name = scoped.run.id.short();
    let follow = Follow {
        reader: Reader::new(api, scoped.caller)?,
        run: scoped.run.id,
        range: LogRange { only, after },
        source: None,
        goes_on: is_stream && query.follow.unwrap_or(true),
        ended: scoped.run.state == RunState::Done,
        due_by: due_by(&scoped.run),
        over: false,
    };
    Ok(if is_stream { streamed(follow) } else { downloaded(follow, &name) })
}

fn streamed(follow: Follow) -> Response {
    let stream = futures_util::stream::unfold(follow, |mut follow| async {
        let event = match follow.next().await {
            Next::Chunk(chunk) => shown(&chunk),
            Next::End { truncated } => {
                let data = serde_json::to_string(&LogEndJson { truncated }).unwrap_or_default();
                Event::default().event("end").data(data)
            }
            Next::Nothing => return None,
        };
        Some((Ok::<_, Infallible>(event), follow))
    });
    Sse::new(stream).keep_alive(keep_alive()).into_response()
}

fn downloaded(follow: Follow, name: &str) -> Response {
    let stream = futures_util::stream::unfold(follow, |mut follow| async {
        match follow.next().await {
            Next::Chunk(chunk) => Some((Ok::<_, Infallible>(Bytes::from(chunk.bytes)), follow)),
            Next::End { .. } | Next::Nothing => None,
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.log\"")),
    ];
    (headers, Body::from_stream(stream)).into_response()
}

fn shown(chunk: &LogChunk) -> Event {
    let text = std::str::from_utf8(&chunk.bytes).ok().map(str::to_owned);
    let json = LogChunkJson {
        stream: word(chunk.stream).to_owned(),
        at: crate::report::amount::date(chunk.at_ms),
        base64: text.is_none().then(|| STANDARD.encode(&chunk.bytes)),
        text,
    };
    let data = serde_json::to_string(&json).unwrap_or_default();
    Event::default().id(chunk.entries.to_string()).event("chunk").data(data)
}

fn word(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// A run that was released and not lost has a log with an end. Where another host ran it, that comes after the outcome.
fn due_by(run: &Run) -> Option<Instant> {
    let end = run.end.as_ref()?;
    let has_end = run.released_ms.is_some() && !matches!(end.outcome, Outcome::Lost { .. });
    has_end.then(|| Instant::now() + LATE_TIME_MAX)
}

enum Next {
    Chunk(LogChunk),
    End {
        truncated: bool,
    },
    /// The reader is to go, or has everything.
    Nothing,
}

struct Follow {
    reader: Reader,
    run: RunId,
    range: LogRange,
    source: Option<Box<dyn LogSource>>,
    goes_on: bool,
    /// Whether the run had ended before the last look: what is not there by then does not come, or only from another host.
    ended: bool,
    /// How long the end of the log of a run that has ended is waited for.
    due_by: Option<Instant>,
    over: bool,
}

impl Follow {
    async fn next(&mut self) -> Next {
        if self.over {
            return Next::Nothing;
        }
        loop {
            let look = match self.look().await {
                Ok(look) => look,
                Err(error) => {
                    tracing::error!(run.id = %self.run, error = %error, "a log cannot be read");
                    LogLook::End { truncated: true }
                }
            };
            match look {
                LogLook::Chunk(chunk) => {
                    self.reader.saw();
                    // A busy log never waits, and its reader must be allowed all the same.
                    return if self.reader.still().await { Next::Chunk(chunk) } else { Next::Nothing };
                }
                LogLook::End { truncated } => return self.end(truncated),
                LogLook::Pending if !self.goes_on || (self.ended && !self.is_due()) => {
                    match self.rest().await {
                        Some(chunk) => return Next::Chunk(chunk),
                        // The end of a log that has one did not come in time.
                        None => return self.end(self.due_by.is_some()),
                    }
                }
                LogLook::Pending => {
                    let had_ended = self.ended;
                    self.ended = had_ended || self.has_ended().await;
                    let waits = had_ended || !self.ended;
                    if waits && !self.reader.wait().await {
                        return Next::Nothing;
                    }
                }
            }
        }
    }

    /// Whether the end of the log may still come.
    fn is_due(&self) -> bool {
        self.due_by.is_some_and(|it| Instant::now() < it)
    }

    fn end(&mut self, truncated: bool) -> Next {
        self.over = true;
        Next::End { truncated }
    }

    async fn has_ended(&mut self) -> bool {
        let found = self.reader.api.services.record.find(&RunSelector::Id(self.run)).await;
        match found {
            Ok(Found::Run(run)) => {
                self.due_by = due_by(&run);
                run.state == RunState::Done
            }
            // Retention took it.
            Ok(Found::Nothing | Found::Ambiguous(_)) => true,
            Err(_) => false,
        }
    }

    /// Files are read on a thread of their own.
    async fn look(&mut self) -> std::io::Result<LogLook> {
        let (source, run, range) = (self.source.take(), self.run, self.range);
        let logs = self.reader.api.services.logs.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let source = match source {
                Some(source) => Some(source),
                None => logs.open(run, range)?,
            };
            let Some(mut source) = source else { return Ok((LogLook::Pending, None)) };
            let look = source.look()?;
            Ok::<_, std::io::Error>((look, Some(source)))
        });
        let (look, source) = looked.await.map_err(std::io::Error::other)??;
        self.source = source;
        Ok(look)
    }

    async fn rest(&mut self) -> Option<LogChunk> {
        let mut source = self.source.take()?;
        let rest = tokio::task::spawn_blocking(move || source.rest().map(|it| (it, source))).await;
        let (chunk, source) = rest.ok()?.ok()?;
        self.source = Some(source);
        chunk
    }
}
