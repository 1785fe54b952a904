//! A client's HTTP/1.1 stream behind its [`Framer`]: only bytes that are well come through, and a malformed request is
//! answered here, where the stream ends.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::gateway::inspect::answer;
use crate::gateway::inspect::framing::{Framer, Malformed, Step};

/// Bytes that one read asks for.
const READ_BYTES: usize = 16 * 1024;

/// What the connection's owner sees of the guard.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    malformed: Arc<OnceLock<Malformed>>,
    open: Arc<AtomicBool>,
}

impl Seen {
    /// What ended the connection, if it was malformed.
    pub fn malformed(&self) -> Option<Malformed> {
        self.malformed.get().copied()
    }

    /// Whether the stream belongs to another protocol by now.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// From here on the stream belongs to another protocol that both sides agreed on.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }
}

/// The stream.
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    framer: Framer,
    at_hand: BytesMut,
    passed: usize,
    seen: Seen,
    answer: Option<bytes::Bytes>,
}

impl<S> Guarded<S> {
    /// Guards a stream from its start.
    pub fn new(stream: S, seen: Seen) -> Self {
        Self { stream, framer: Framer::at_start(), at_hand: BytesMut::new(), passed: 0, seen, answer: None }
    }

    /// Judges what is at hand. False where more is needed first.
    fn judge(&mut self) -> bool {
        if self.seen.is_open() {
            self.passed = self.at_hand.len();
            return self.passed > 0;
        }
        match self.framer.advance(&self.at_hand) {
            Step::Pass(count) => self.passed = count,
            Step::More => return false,
            Step::Malformed(why) => {
                if self.seen.malformed.set(why).is_ok() && why.is_head() {
                    self.answer = Some(answer::raw_malformed(why));
                }
            }
        }
        true
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let guarded = self.get_mut();
        while guarded.passed == 0 {
            if guarded.seen.malformed.get().is_some() {
                return Poll::Ready(Ok(()));
            }
            if guarded.judge() {
                continue;
            }
            guarded.at_hand.reserve(READ_BYTES);
            let mut space = vec![0; READ_BYTES];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut guarded.stream).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            guarded.at_hand.extend_from_slice(read.filled());
        }
        let count = guarded.passed.min(into.remaining());
        into.put_slice(&guarded.at_hand[..count]);
        guarded.at_hand.advance(count);
        guarded.passed -= count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let guarded = self.get_mut();
        while let Some(answer) = guarded.answer.as_mut().filter(|it| it.has_remaining()) {
            let count = ready!(Pin::new(&mut guarded.stream).poll_write(context, answer))?;
            if count == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            answer.advance(count);
        }
        Pin::new(&mut guarded.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
