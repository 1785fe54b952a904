//! Sockets of the sandbox's loopback that the host asks for: made here, because a socket stays in the network namespace
//! it was made in, passed over, and kept by nobody here. What goes through them is the host's business.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrIn, bind, connect,
    listen as accept_from, socket,
};

use aegis_init::wire::{Listen, Transport};

/// Connections that wait to be accepted on one socket.
const BACKLOG: i32 = 128;

/// A listening socket. It never waits: whoever holds it asks the kernel when there is something.
pub fn listen(wanted: &Listen) -> nix::Result<OwnedFd> {
    if !wanted.is_within_bounds() {
        return Err(Errno::EACCES);
    }
    let (kind, protocol) = match wanted.transport {
        Transport::Udp => (SockType::Datagram, SockProtocol::Udp),
        Transport::Tcp => (SockType::Stream, SockProtocol::Tcp),
    };
    // Without SO_REUSEADDR: a port that the task has taken is told, and not shared.
    let made = socket(AddressFamily::Inet, kind, flags(), protocol)?;
    let [a, b, c, d] = wanted.address;
    bind(made.as_raw_fd(), &SockaddrIn::new(a, b, c, d, wanted.port))?;
    if wanted.transport == Transport::Tcp {
        accept_from(&made, Backlog::new(BACKLOG)?)?;
    }
    Ok(made)
}

/// A connection to a port of the task. It does not wait here: whoever has it learns whether it was refused.
pub fn dial(port: u16) -> nix::Result<OwnedFd> {
    let made = socket(AddressFamily::Inet, SockType::Stream, flags(), SockProtocol::Tcp)?;
    match connect(made.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(made),
        Err(errno) => Err(errno),
    }
}

fn flags() -> SockFlag {
    SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK
}
