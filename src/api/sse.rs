//! What happens to a run and what it writes, as it comes: server-sent events that go on where a reader left off. A stream
//! ends with its run, with the server, or within seconds of its reader's token.

mod events;
mod logs;

pub(super) use events::{__path_events, events};
pub(super) use logs::{__path_logs, logs};

use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::response::sse::KeepAlive;

use crate::api::Shared;
use crate::api::caller::Caller;
use crate::api::meter::StreamPlace;
use crate::api::problem::Problem;

/// The first and the longest pause between two looks at something that does not change.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often a reader must still be allowed to read.
const STILL_EVERY: Duration = Duration::from_secs(2);
/// How often a silent stream shows that it lives; a reader that is gone is found out by it.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Who reads a stream.
pub(super) struct Reader {
    api: Shared,
    caller: Caller,
    asked: Instant,
    pause: Duration,
    _place: StreamPlace,
}

impl Reader {
    pub(super) fn new(api: Shared, caller: Caller) -> Result<Self, Problem> {
        let place = api.meter.stream(&caller.name);
        let message = "too many streams are open: close one";
        let place = place.ok_or_else(|| Problem::too_many(message, Duration::from_secs(5)))?;
        Ok(Self { api, caller, asked: Instant::now(), pause: PAUSE_MIN, _place: place })
    }

    /// Something came: the next look is soon again.
    fn saw(&mut self) {
        self.pause = PAUSE_MIN;
    }

    /// Waits a little longer each time; `false` when the stream is to end.
    async fn wait(&mut self) -> bool {
        let closing = tokio::time::timeout(self.pause, self.api.closing.cancelled()).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        closing.is_err() && self.still().await
    }

    /// Whether the reader may go on. A store that cannot be asked is no reason to cut it off.
    pub(super) async fn still(&mut self) -> bool {
        let (Some(token), true) = (self.caller.token, self.asked.elapsed() >= STILL_EVERY) else {
            return !self.api.closing.is_cancelled();
        };
        self.asked = Instant::now();
        match self.api.believed.caller(&*self.api.services.access, token).await {
            Ok(Some(caller)) => caller == self.caller,
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

fn keep_alive() -> KeepAlive {
    KeepAlive::new().interval(ALIVE_EVERY)
}

/// Where a reader goes on: the header of a browser that comes back, else the query.
fn after(headers: &HeaderMap, query: Option<u64>) -> Result<u64, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(query.unwrap_or(0)) };
    let number = value.to_str().ok().and_then(|it| it.parse().ok());
    number.ok_or_else(|| Problem::field("last-event-id", "give the number of the last event that came"))
}
