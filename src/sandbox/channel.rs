//! The connection to a sandbox's init: whole messages, with descriptors, over one Unix socket.
//!
//! What arrives is hostile until it is decoded: length and descriptor count are bounded before a byte of the payload
//! is read. Receiving keeps a half-read frame in the receiver, so a cancelled wait loses nothing.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use aegis_init::frame::{self, FrameError, HEADER_BYTES};
use aegis_init::wire::{Reply, Request};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::unix::AsyncFd;

/// Time that one message may take to leave: init reads at once, or it is not our init any more.
const SEND_TIME_MAX: Duration = Duration::from_secs(30);

/// Why the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Init, or its container, is gone.
    #[error("the sandbox's init closed its connection")]
    Closed,
    /// Nobody came.
    #[error("the sandbox's init did not come within {} s", waited.as_secs())]
    NobodyCame {
        /// How long was waited.
        waited: Duration,
    },
    /// Init does not read.
    #[error("the sandbox's init did not take a message within {} s", SEND_TIME_MAX.as_secs())]
    Stuck,
    /// What came is no message.
    #[error("the sandbox sent bytes that are no message")]
    Frame(#[from] FrameError),
    /// The socket failed.
    #[error("the connection to the sandbox's init failed")]
    Io(#[from] std::io::Error),
}

impl From<Errno> for ChannelError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::PIPE | Errno::CONNRESET => Self::Closed,
            other => Self::Io(other.into()),
        }
    }
}

/// A message of init with what travelled with it.
#[derive(Debug)]
pub struct Received {
    /// The message.
    pub reply: Reply,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
}

/// The sending half.
#[derive(Debug, Clone)]
pub struct Sender {
    socket: Arc<AsyncFd<OwnedFd>>,
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver {
    socket: Arc<AsyncFd<OwnedFd>>,
    header: [u8; HEADER_BYTES],
    payload: Vec<u8>,
    filled: usize,
    descriptors: Vec<OwnedFd>,
    announced: usize,
}

/// Waits for the one connection of a sandbox. Gives both halves and the peer's process id as this host sees it, where
/// it is visible.
pub async fn accept(listener: OwnedFd, wait_max: Duration) -> Result<(Sender, Receiver, Option<i32>), ChannelError> {
    let listener = AsyncFd::new(listener)?;
    let accepted = tokio::time::timeout(wait_max, accept_one(&listener)).await;
    let socket = accepted.map_err(|_| ChannelError::NobodyCame { waited: wait_max })??;
    let peer = rustix::net::sockopt::socket_peercred(&socket)?;
    let pid = Some(peer.pid.as_raw_nonzero().get());
    let socket = Arc::new(AsyncFd::new(socket)?);
    Ok((Sender { socket: socket.clone() }, Receiver::new(socket), pid))
}

async fn accept_one(listener: &AsyncFd<OwnedFd>) -> Result<OwnedFd, ChannelError> {
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    loop {
        let mut ready = listener.readable().await?;
        match rustix::net::accept_with(listener.get_ref(), flags) {
            Ok(socket) => return Ok(socket),
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Sender {
    /// Sends a message. Not to be cancelled half-way: a half-sent frame ends the connection.
    pub async fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let bytes = frame::encode(request, descriptors.len(), frame::REQUEST_BYTES_MAX)?;
        match tokio::time::timeout(SEND_TIME_MAX, self.send_all(&bytes, descriptors)).await {
            Ok(sent) => sent,
            Err(_) => Err(ChannelError::Stuck),
        }
    }

    async fn send_all(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let mut sent = 0;
        while sent < bytes.len() {
            // The descriptors travel with the frame's first byte.
            let with = if sent == 0 { descriptors } else { &[] };
            match send_some(self.socket.get_ref().as_fd(), &bytes[sent..], with) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let mut ready = self.socket.writable().await?;
                    ready.clear_ready();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(frame::DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
}

impl Receiver {
    fn new(socket: Arc<AsyncFd<OwnedFd>>) -> Self {
        Self {
            socket,
            header: [0; HEADER_BYTES],
            payload: Vec::new(),
            filled: 0,
            descriptors: Vec::new(),
            announced: 0,
        }
    }

    /// The next message. May be cancelled at any time.
    pub async fn receive(&mut self) -> Result<Received, ChannelError> {
        loop {
            if let Some(received) = self.advance()? {
                return Ok(received);
            }
            let mut ready = self.socket.readable().await?;
            match peek(self.socket.get_ref().as_fd()) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Reads what is there; a message if one is complete, nothing if the socket is empty.
    fn advance(&mut self) -> Result<Option<Received>, ChannelError> {
        loop {
            let wanted = HEADER_BYTES + self.payload.len();
            if self.filled >= HEADER_BYTES && self.filled == wanted {
                return self.complete().map(Some);
            }
            let read = if self.filled < HEADER_BYTES { self.read_header() } else { self.read_payload() };
            match read {
                Ok(0) => return Err(ChannelError::Closed),
                Ok(count) => self.filled += count,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if self.filled == HEADER_BYTES && self.payload.is_empty() {
                let header = frame::parse_header(self.header, frame::REPLY_BYTES_MAX)?;
                self.payload = vec![0; header.length];
                self.announced = header.descriptors;
            }
        }
    }

    fn read_header(&mut self) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(frame::DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut self.header[self.filled..])];
        let received =
            rustix::net::recvmsg(self.socket.get_ref(), &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors.take(frame::DESCRIPTORS_MAX));
            }
        }
        Ok(received.bytes)
    }

    fn read_payload(&mut self) -> rustix::io::Result<usize> {
        let start = self.filled - HEADER_BYTES;
        let (count, _) =
            rustix::net::recv(self.socket.get_ref(), &mut self.payload[start..], RecvFlags::empty())?;
        Ok(count)
    }

    fn complete(&mut self) -> Result<Received, ChannelError> {
        let payload = std::mem::take(&mut self.payload);
        let descriptors = std::mem::take(&mut self.descriptors);
        self.filled = 0;
        if descriptors.len() != self.announced {
            return Err(FrameError::Descriptors(descriptors.len() as u8).into());
        }
        Ok(Received { reply: frame::decode(&payload)?, descriptors })
    }
}

/// Whether the socket has something to read, without reading it.
fn peek(socket: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut byte = [0u8];
    rustix::net::recv(socket, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (OwnedFd, Receiver) {
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .expect("a pair");
        (theirs, Receiver::new(Arc::new(AsyncFd::new(ours).expect("registered"))))
    }

    fn write(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        assert_eq!(send_some(socket.as_fd(), bytes, descriptors).expect("sent"), bytes.len());
    }

    #[tokio::test]
    async fn a_message_in_single_bytes_arrives_with_its_descriptor() {
        let (peer, mut receiver) = pair();
        let reply = Reply::Started { exec: 0, pid: 7 };
        let bytes = frame::encode(&reply, 1, frame::REPLY_BYTES_MAX).expect("encoded");
        write(&peer, &bytes[..1], &[peer.as_fd()]);
        for byte in &bytes[1..] {
            write(&peer, &[*byte], &[]);
        }
        let received = receiver.receive().await.expect("whole");
        assert_eq!((received.reply, received.descriptors.len()), (reply, 1));
    }

    #[tokio::test]
    async fn a_length_out_of_bounds_ends_the_connection_before_it_is_read() {
        let (peer, mut receiver) = pair();
        write(&peer, &[255, 255, 255, 127, 0, 0, 0, 0], &[]);
        assert!(matches!(receiver.receive().await, Err(ChannelError::Frame(FrameError::Length(_)))));
    }

    #[tokio::test]
    async fn a_descriptor_that_was_not_announced_ends_the_connection() {
        let (peer, mut receiver) = pair();
        let bytes = frame::encode(&Reply::Started { exec: 0, pid: 7 }, 0, frame::REPLY_BYTES_MAX).expect("encoded");
        write(&peer, &bytes, &[peer.as_fd()]);
        assert!(matches!(receiver.receive().await, Err(ChannelError::Frame(FrameError::Descriptors(1)))));
    }

    #[tokio::test]
    async fn a_vanished_peer_is_told() {
        let (peer, mut receiver) = pair();
        drop(peer);
        assert!(matches!(receiver.receive().await, Err(ChannelError::Closed)));
    }
}
