//! The control connection: frames in both directions, never blocking.
//!
//! The host is not trusted to be sane: a frame is bounded before it is read, half a frame stays in the state of the
//! receiver, and answers wait in a queue with a bound. What does not hold ends the sandbox.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recv, recvmsg, send, sendmsg};

use aegis_init::frame::{
    self, DESCRIPTORS_MAX, FrameError, HEADER_BYTES, Header, REPLY_BYTES_MAX, REQUEST_BYTES_MAX,
};
use aegis_init::wire::{Reply, Request};

use crate::ending::Ending;

/// Bytes of answers that may wait. Above half of it no further request is read.
const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A request with the descriptors that came with it.
pub struct Message {
    /// What the host asks.
    pub request: Request,
    /// As many as the header said.
    pub descriptors: Vec<OwnedFd>,
}

/// The connection to the owner of this sandbox.
pub struct Connection {
    socket: OwnedFd,
    incoming: Incoming,
    outgoing: VecDeque<Outgoing>,
    queued_bytes: usize,
}

struct Incoming {
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    descriptors: Vec<OwnedFd>,
    payload: Option<Payload>,
}

struct Payload {
    bytes: Vec<u8>,
    filled: usize,
}

struct Outgoing {
    frame: Vec<u8>,
    sent: usize,
    descriptor: Option<OwnedFd>,
}

impl Connection {
    /// Takes a connected stream socket.
    pub fn new(socket: OwnedFd) -> nix::Result<Self> {
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { socket, incoming: Incoming::empty(), outgoing: VecDeque::new(), queued_bytes: 0 })
    }

    /// Whether answers wait for the host to read.
    pub fn sending(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether another request may be read: a host that asks without reading answers has to wait.
    pub fn receptive(&self) -> bool {
        self.queued_bytes <= QUEUE_BYTES_MAX / 2
    }

    /// The next whole request, if it has arrived.
    pub fn receive(&mut self) -> Result<Option<Message>, Ending> {
        loop {
            let received = match &mut self.incoming.payload {
                None => self.incoming.receive_header(self.socket.as_fd()),
                Some(payload) => payload.receive(self.socket.as_fd()),
            };
            match received {
                Ok(0) => return Err(Ending::HostGone),
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(_) => return Err(Ending::HostGone),
            }
            if let Some(message) = self.incoming.advance().map_err(|_| Ending::HostileFrame)? {
                return Ok(Some(message));
            }
        }
    }

    /// Queues an answer and sends what the socket takes. The descriptor is closed once it has been sent.
    pub fn send(&mut self, reply: &Reply, descriptor: Option<OwnedFd>) -> Result<(), Ending> {
        let frame = frame::encode(reply, usize::from(descriptor.is_some()), REPLY_BYTES_MAX)
            .map_err(|_| Ending::Defect)?;
        self.queued_bytes += frame.len();
        if self.queued_bytes > QUEUE_BYTES_MAX {
            return Err(Ending::Clogged);
        }
        self.outgoing.push_back(Outgoing { frame, sent: 0, descriptor });
        self.flush()
    }

    /// Sends what the socket takes now.
    pub fn flush(&mut self) -> Result<(), Ending> {
        while let Some(first) = self.outgoing.front_mut() {
            match first.send(self.socket.as_fd()) {
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(_) => return Err(Ending::HostGone),
            }
            if first.sent == first.frame.len() {
                self.queued_bytes -= first.frame.len();
                self.outgoing.pop_front();
            }
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Incoming {
    fn empty() -> Self {
        Self { header: [0; HEADER_BYTES], header_filled: 0, descriptors: Vec::new(), payload: None }
    }

    /// Descriptors travel with a frame's first byte, so they can only arrive here. In the payload they are not
    /// received, and the kernel drops them.
    fn receive_header(&mut self, socket: BorrowedFd<'_>) -> nix::Result<usize> {
        let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
        let mut buffers = [IoSliceMut::new(&mut self.header[self.header_filled..])];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut space), flags)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel just made these descriptors for this process; nothing else owns them.
                self.descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let received = message.bytes;
        self.header_filled += received;
        Ok(received)
    }

    /// Turns a full header into a payload to fill and a full payload into a message.
    fn advance(&mut self) -> Result<Option<Message>, FrameError> {
        if self.payload.is_none() {
            // Eight bytes can come in eight pieces, each with descriptors.
            if self.descriptors.len() > DESCRIPTORS_MAX {
                return Err(FrameError::Descriptors(u8::MAX));
            }
            if self.header_filled < HEADER_BYTES {
                return Ok(None);
            }
            let Header { length, descriptors } = frame::parse_header(self.header, REQUEST_BYTES_MAX)?;
            if self.descriptors.len() != descriptors {
                return Err(FrameError::Descriptors(self.header[4]));
            }
            self.payload = Some(Payload { bytes: vec![0; length], filled: 0 });
            return Ok(None);
        }
        if !self.payload.as_ref().is_some_and(Payload::complete) {
            return Ok(None);
        }
        let done = std::mem::replace(self, Self::empty());
        let payload = done.payload.ok_or(FrameError::Payload)?;
        let request = frame::decode(&payload.bytes)?;
        Ok(Some(Message { request, descriptors: done.descriptors }))
    }
}

impl Payload {
    fn receive(&mut self, socket: BorrowedFd<'_>) -> nix::Result<usize> {
        let received = recv(socket.as_raw_fd(), &mut self.bytes[self.filled..], MsgFlags::MSG_DONTWAIT)?;
        self.filled += received;
        Ok(received)
    }

    fn complete(&self) -> bool {
        self.filled == self.bytes.len()
    }
}

impl Outgoing {
    fn send(&mut self, socket: BorrowedFd<'_>) -> nix::Result<()> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let sent = match &self.descriptor {
            Some(descriptor) => {
                let raw = [descriptor.as_raw_fd()];
                let buffers = [IoSlice::new(&self.frame[self.sent..])];
                sendmsg::<()>(socket.as_raw_fd(), &buffers, &[ControlMessage::ScmRights(&raw)], flags, None)?
            }
            None => send(socket.as_raw_fd(), &self.frame[self.sent..], flags)?,
        };
        self.sent += sent;
        // It went with the first byte; sent twice it would leak into the host.
        self.descriptor = None;
        Ok(())
    }
}
