//! The events of a run.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use futures_util::Stream;

use crate::api::Shared;
use crate::api::body::Asked;
use crate::api::problem::Problem;
use crate::api::scope::Scoped;
use crate::api::sse::{Reader, after, keep_alive};
use crate::api::wire::run::{EventJson, EventQuery};
use crate::record::{self, EventKind};
use crate::task::RunId;

/// What happens to a run, as server-sent events: each has its number as `id`, its kind as `event` and an object as `data`.
/// The stream ends after `done`.
#[utoipa::path(get, path = "/api/v1/runs/{id}/events", tag = "runs",
    params(("id" = String, Path, description = "the whole id or its last 12 digits"), EventQuery),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(in crate::api) async fn events(
    State(api): State<Shared>,
    headers: HeaderMap,
    Asked(query): Asked<EventQuery>,
    scoped: Scoped,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let after = after(&headers, query.after)?;
    let reader = Reader::new(api, scoped.caller)?;
    let follow = Follow { reader, run: scoped.run.id, after, waiting: VecDeque::new(), over: false };
    let stream = futures_util::stream::unfold(follow, |mut follow| async {
        let event = follow.next().await?;
        Some((Ok(event), follow))
    });
    Ok(Sse::new(stream).keep_alive(keep_alive()))
}

struct Follow {
    reader: Reader,
    run: RunId,
    after: u64,
    waiting: VecDeque<record::Event>,
    over: bool,
}

impl Follow {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.after = event.seq;
                self.over |= event.kind == EventKind::Done;
                self.reader.saw();
                return Some(shown(&event));
            }
            if self.over {
                return None;
            }
            // Records that cannot be read just now are asked again: the reader keeps its place.
            if let Ok(events) = self.reader.api.services.record.events(self.run).await {
                // Who comes back after the end is given nothing more.
                self.over |= events.iter().any(|it| it.kind == EventKind::Done && it.seq <= self.after);
                self.waiting = events.into_iter().filter(|it| it.seq > self.after).collect();
            }
            if self.waiting.is_empty() && !self.over && !self.reader.wait().await {
                return None;
            }
        }
    }
}

fn shown(event: &record::Event) -> Event {
    let json = EventJson {
        seq: event.seq,
        at: crate::report::amount::date(event.at_ms),
        kind: event.kind.name().to_owned(),
        detail: serde_json::from_str(&event.detail).unwrap_or_default(),
    };
    let data = serde_json::to_string(&json).unwrap_or_default();
    Event::default().id(event.seq.to_string()).event(event.kind.name()).data(data)
}
