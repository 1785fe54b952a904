//! One stream between the frames of a connection and a pipe, on either side: bytes wait in a buffer as large as the
//! window, so that a reader who is slow holds up its own stream and nothing else.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use crate::api::attach::frame::{self, CHUNK_BYTES_MAX, Frame, WINDOW_BYTES};

/// How often a side that has nothing to say shows that it lives.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// A side that was silent for so long is gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Frames that wait to be written.
pub const FRAMES_MAX: usize = 8;

/// The end that takes what came; dropped, the stream is at its end.
pub struct Inflow(DuplexStream);

/// What became of bytes that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// They wait for their reader, or nobody reads any more.
    Kept,
    /// The other side sent more than it was let.
    TooMuch,
}

/// A buffer between a connection and a pipe.
pub fn inflow() -> (Inflow, DuplexStream) {
    let (into, from) = tokio::io::duplex(WINDOW_BYTES as usize);
    (Inflow(into), from)
}

impl Inflow {
    /// Takes bytes. Never waits: the window is what fits.
    pub fn take(&mut self, bytes: &[u8]) -> Came {
        match self.0.write_all(bytes).now_or_never() {
            Some(_) => Came::Kept,
            None => Came::TooMuch,
        }
    }
}

/// Whether a stream came to its end, or its reader did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// Everything was taken.
    Whole,
    /// Nobody takes the bytes any more.
    Closed,
}

/// Passes a buffer on to a pipe, and tells what was taken.
pub async fn pass<F>(
    mut from: DuplexStream,
    mut into: impl AsyncWrite + Unpin,
    tell: &mpsc::Sender<F>,
    taken: impl Fn(u32) -> F,
) -> Passed {
    let mut buffer = vec![0; CHUNK_BYTES_MAX];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return Passed::Whole };
        if into.write_all(&buffer[..count]).await.is_err() {
            return Passed::Closed;
        }
        // A connection that is gone needs no telling; what came before is passed on all the same.
        let _ = tell.send(taken(u32::try_from(count).unwrap_or(u32::MAX))).await;
    }
}

/// Writes frames until nobody gives any more, and shows in between that this side lives. An end of its own means that the
/// connection broke.
pub async fn speak<F: Frame>(mut into: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<F>, alive: F) {
    loop {
        let written = match tokio::time::timeout(ALIVE_EVERY, frames.recv()).await {
            Ok(Some(frame)) => frame::write(&mut into, &frame).await,
            Ok(None) => break,
            Err(_) => frame::write(&mut into, &alive).await,
        };
        if written.is_err() {
            return;
        }
    }
    let _ = into.shutdown().await;
}

/// The next frame; `None` where the other side is gone, silent for too long, or does not keep to the rules.
pub async fn hear<F: Frame>(from: &mut (impl AsyncRead + Unpin)) -> Option<F> {
    match tokio::time::timeout(SILENCE_MAX, frame::read(from)).await {
        Ok(Ok(frame)) => frame,
        Ok(Err(error)) => {
            tracing::debug!(%error, "an attached stream ended: {error}");
            None
        }
        Err(_) => None,
    }
}
