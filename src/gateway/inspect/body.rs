//! A body on its way from one connection to the other: one piece at a time, counted, bounded in idleness, and scrubbed
//! where it may hold a secret. Nothing is gathered: what the reader does not take, is not read.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use crate::gateway::inspect::account::{Account, Count};
use crate::record::egress::{Failure, Verdict};
use crate::redact::{Redactor, Stream};

/// Time in which the other side must go on with a body.
const IDLE_TIME_MAX: Duration = Duration::from_secs(300);
/// Time for which the beginning of what could be a secret is held back, as far as it is let go at all.
const HELD_TIME: Duration = Duration::from_millis(20);

/// Bytes of a refused request's body that are taken.
const DRAINED_BYTES_MAX: usize = 256 * 1024;
/// Time for that.
const DRAINED_TIME_MAX: Duration = Duration::from_secs(1);

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// Nothing came.
    #[error("nothing of the body came for {} s", IDLE_TIME_MAX.as_secs())]
    Idle,
    /// The connection failed.
    #[error("the body was broken off")]
    Connection(#[from] hyper::Error),
}

/// A body that comes from a connection.
pub(super) struct Carried {
    from: Incoming,
    count: Count,
    idle: Pin<Box<Sleep>>,
    scrubbed: Option<Scrubbed>,
    held: Option<Held>,
}

/// What a response holds as long as it runs.
pub(super) struct Held {
    /// Its account; `ends` says what it comes to when the body is whole.
    pub account: Account,
    /// Its place among those that the host works on.
    pub _permit: OwnedSemaphorePermit,
    /// The status that the task sees.
    pub status: http::StatusCode,
}

struct Scrubbed {
    stream: Stream,
    redactor: Redactor,
    let_go: Pin<Box<Sleep>>,
    ended: bool,
    trailers: Option<HeaderMap>,
}

impl Carried {
    /// A request's body.
    pub fn up(from: Incoming, count: Count) -> Self {
        Self { from, count, idle: sleep(IDLE_TIME_MAX), scrubbed: None, held: None }
    }

    /// A response's body.
    pub fn down(from: Incoming, held: Held, redactor: Option<&Redactor>) -> Self {
        let scrubbed = redactor.map(|it| Scrubbed {
            stream: it.stream(),
            redactor: it.clone(),
            let_go: sleep(HELD_TIME),
            ended: false,
            trailers: None,
        });
        let count = held.account.down.clone();
        let mut body = Self { from, count, idle: sleep(IDLE_TIME_MAX), scrubbed, held: Some(held) };
        if body.from.is_end_stream() {
            // Nobody asks an empty body for its end.
            body.ends(Verdict::Allowed);
        }
        body
    }

    fn poll_plain(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = Pin::new(&mut self.from).poll_frame(context);
        match polled {
            Poll::Pending if self.idle.as_mut().poll(context).is_ready() => {
                self.ends(Verdict::Failed(Failure::Timeout));
                Poll::Ready(Some(Err(Broken::Idle)))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.ends(Verdict::Allowed);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.ends(Verdict::Failed(Failure::Broken));
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.idle.as_mut().reset(Instant::now() + IDLE_TIME_MAX);
                if let Some(data) = frame.data_ref() {
                    self.count.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                if self.from.is_end_stream() {
                    self.ends(Verdict::Allowed);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn ends(&mut self, verdict: Verdict) {
        if let Some(held) = &mut self.held {
            held.account.ends(verdict, Some(held.status));
        }
    }
}

impl Scrubbed {
    /// The next piece that is known to hold no secret.
    fn take(&mut self, frame: Option<Frame<Bytes>>) -> Option<Frame<Bytes>> {
        let mut out = Vec::new();
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => self.stream.push(&data, &mut out),
            Some(Err(other)) => {
                if let Ok(mut trailers) = other.into_trailers() {
                    scrub_fields(&mut trailers, &self.redactor);
                    self.trailers = Some(trailers);
                }
                self.end(&mut out);
            }
            None => self.end(&mut out),
        }
        self.let_go.as_mut().reset(Instant::now() + HELD_TIME);
        (!out.is_empty()).then(|| Frame::data(out.into()))
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if !self.ended {
            self.stream.flush(out);
            self.ended = true;
        }
    }

    /// What was held back long enough.
    fn poll_let_go(&mut self, context: &mut Context<'_>) -> Poll<Frame<Bytes>> {
        if self.stream.held() == 0
            || !self.stream.can_let_go()
            || self.let_go.as_mut().poll(context).is_pending()
        {
            return Poll::Pending;
        }
        let mut out = Vec::new();
        self.stream.let_go(&mut out);
        if out.is_empty() { Poll::Pending } else { Poll::Ready(Frame::data(out.into())) }
    }
}

impl Body for Carried {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let body = self.get_mut();
        loop {
            if let Some(scrubbed) = body.scrubbed.as_mut().filter(|it| it.ended) {
                return Poll::Ready(scrubbed.trailers.take().map(|it| Ok(Frame::trailers(it))));
            }
            let polled = body.poll_plain(context);
            let Some(scrubbed) = &mut body.scrubbed else { return polled };
            let frame = match polled {
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => scrubbed.take(Some(frame)),
                Poll::Ready(None) => scrubbed.take(None),
                Poll::Pending => return scrubbed.poll_let_go(context).map(|it| Some(Ok(it))),
            };
            if let Some(frame) = frame {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.scrubbed.is_none() && self.from.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.scrubbed {
            Some(_) => SizeHint::default(),
            None => self.from.size_hint(),
        }
    }
}

/// What the task gets: a body of the host's, or words of ours.
pub(super) enum Answered {
    Carried(Box<Carried>),
    Own(Full<Bytes>),
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Carried(body) => Pin::new(body.as_mut()).poll_frame(context),
            Self::Own(body) => {
                Pin::new(body).poll_frame(context).map_err(|never: std::convert::Infallible| match never {})
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Carried(body) => body.is_end_stream(),
            Self::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Carried(body) => body.size_hint(),
            Self::Own(body) => body.size_hint(),
        }
    }
}

/// Takes a body that nobody wants, within bounds: a client that is still sending may not see an answer that comes before.
pub(super) async fn drain(head: &Parts, body: &mut Incoming) {
    if head.headers.contains_key(EXPECT) {
        // It waits to be asked.
        return;
    }
    let drained = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DRAINED_BYTES_MAX {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DRAINED_TIME_MAX, drained).await;
}

/// Takes secrets out of the values of fields.
pub(super) fn scrub_fields(headers: &mut HeaderMap, redactor: &Redactor) {
    for value in headers.values_mut() {
        let (clean, found) = redactor.bytes(value.as_bytes());
        if !found.is_empty() {
            *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static("[redacted]"));
        }
    }
}

fn sleep(time: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(time))
}
