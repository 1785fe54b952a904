//! A connection over one Unix socket, to a sandbox's init or between two processes of Aegis: whole
//! messages, with descriptors.
//!
//! What arrives is hostile until it is decoded: length and descriptor count are bounded before a byte of the payload
//! is read. Receiving keeps a half-read frame in the receiver, so a cancelled wait loses nothing.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use aegis_init::frame::{self, FrameError, HEADER_BYTES};
use aegis_init::wire::{Reply, Request};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// Time that one message may take to leave: init reads at once, or it is not our init any more.
const SEND_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes of a file that one call sends.
const SEND_FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

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
    Io(#[source] std::io::Error),
}

impl From<std::io::Error> for ChannelError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// A message with what travelled with it.
#[derive(Debug)]
pub struct Received<M = Reply> {
    /// The message.
    pub message: M,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
}

/// The sending half, for messages of one kind.
#[derive(Debug)]
pub struct Sender<M = Request> {
    socket: Arc<UnixStream>,
    messages: PhantomData<fn(M)>,
}

/// The receiving half, for messages of one kind.
#[derive(Debug)]
pub struct Receiver<M = Reply> {
    socket: Arc<UnixStream>,
    messages: PhantomData<fn() -> M>,
    header: [u8; HEADER_BYTES],
    payload: Vec<u8>,
    filled: usize,
    descriptors: Vec<OwnedFd>,
    announced: usize,
}

/// Waits for the one connection of a sandbox. Gives both halves and the peer's process id as this host sees it, where
/// it is visible.
pub async fn accept(listener: OwnedFd) -> Result<(Sender, Receiver, Option<i32>), ChannelError> {
    let listener = UnixListener::from_std(listener.into())?;
    let (socket, _) = listener.accept().await?;
    let pid = socket.peer_cred()?.pid();
    let (sender, receiver) = halves(socket);
    Ok((sender, receiver, pid))
}

/// Both halves of a connected socket.
pub fn halves<Out: Serialize, In: DeserializeOwned>(socket: UnixStream) -> (Sender<Out>, Receiver<In>) {
    let socket = Arc::new(socket);
    (Sender { socket: socket.clone(), messages: PhantomData }, Receiver::new(socket))
}

impl<M: Serialize> Sender<M> {
    /// Sends a message. Not to be cancelled half-way: a half-sent frame ends the connection.
    pub async fn send(&self, message: &M, descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let bytes = frame::encode(message, descriptors.len(), frame::REQUEST_BYTES_MAX)?;
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
            let send = || send_some(self.socket.as_fd(), &bytes[sent..], with).map_err(std::io::Error::from);
            match self.socket.try_io(Interest::WRITABLE, send) {
                Ok(count) => sent += count,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => self.socket.writable().await?,
                    _ => return Err(error.into()),
                },
            }
        }
        Ok(())
    }
}

impl Sender<Request> {
    /// Sends whole messages that lie in a file as they would be sent. The kernel carries them; nothing is copied here.
    pub async fn send_file(&self, file: &std::fs::File, bytes: u64) -> Result<(), ChannelError> {
        let mut offset = 0;
        while offset < bytes {
            let wanted = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(SEND_FILE_BYTES_MAX);
            let send = || {
                rustix::fs::sendfile(&*self.socket, file, Some(&mut offset), wanted)
                    .map_err(std::io::Error::from)
            };
            match self.socket.try_io(Interest::WRITABLE, send) {
                Ok(0) => return Err(ChannelError::Io(ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => {
                        match tokio::time::timeout(SEND_TIME_MAX, self.socket.writable()).await {
                            Ok(writable) => writable?,
                            Err(_) => return Err(ChannelError::Stuck),
                        }
                    }
                    _ => return Err(error.into()),
                },
            }
        }
        Ok(())
    }
}

fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(frame::DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
}

impl<M: DeserializeOwned> Receiver<M> {
    fn new(socket: Arc<UnixStream>) -> Self {
        Self {
            socket,
            messages: PhantomData,
            header: [0; HEADER_BYTES],
            payload: Vec::new(),
            filled: 0,
            descriptors: Vec::new(),
            announced: 0,
        }
    }

    /// The next message. May be cancelled at any time.
    pub async fn receive(&mut self) -> Result<Received<M>, ChannelError> {
        loop {
            if let Some(received) = self.advance()? {
                return Ok(received);
            }
            self.socket.readable().await?;
        }
    }

    /// Reads what is there; a message if one is complete, nothing if the socket is empty.
    fn advance(&mut self) -> Result<Option<Received<M>>, ChannelError> {
        loop {
            let wanted = HEADER_BYTES + self.payload.len();
            if self.filled >= HEADER_BYTES && self.filled == wanted {
                return self.complete().map(Some);
            }
            match self.read_some() {
                Ok(0) => return Err(ChannelError::Closed),
                Ok(count) => self.filled += count,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(None),
                    ErrorKind::Interrupted => {}
                    _ => return Err(error.into()),
                },
            }
            if self.filled == HEADER_BYTES && self.payload.is_empty() {
                let header = frame::parse_header(self.header, frame::REPLY_BYTES_MAX)?;
                self.payload = vec![0; header.length];
                self.announced = header.descriptors;
            }
        }
    }

    /// Reads into the header, whose first byte descriptors come with, or into the payload.
    fn read_some(&mut self) -> std::io::Result<usize> {
        let Self { socket, header, payload, filled, descriptors, .. } = self;
        socket.try_io(Interest::READABLE, || {
            let into = match filled.checked_sub(HEADER_BYTES) {
                None => &mut header[*filled..],
                Some(start) => &mut payload[start..],
            };
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(frame::DESCRIPTORS_MAX))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received = rustix::net::recvmsg(
                socket.as_fd(),
                &mut [IoSliceMut::new(into)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(arrived) = message {
                    // What is too many is closed here.
                    let room = frame::DESCRIPTORS_MAX.saturating_sub(descriptors.len());
                    descriptors.extend(arrived.take(room));
                }
            }
            Ok(received.bytes)
        })
    }

    fn complete(&mut self) -> Result<Received<M>, ChannelError> {
        let payload = std::mem::take(&mut self.payload);
        let descriptors = std::mem::take(&mut self.descriptors);
        self.filled = 0;
        if descriptors.len() != self.announced {
            return Err(FrameError::Descriptors(descriptors.len() as u8).into());
        }
        Ok(Received { message: frame::decode(&payload)?, descriptors })
    }
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
        let ours = UnixStream::from_std(ours.into()).expect("registered");
        (theirs, Receiver::new(Arc::new(ours)))
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
        assert_eq!((received.message, received.descriptors.len()), (reply, 1));
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
        let bytes =
            frame::encode(&Reply::Started { exec: 0, pid: 7 }, 0, frame::REPLY_BYTES_MAX).expect("encoded");
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
