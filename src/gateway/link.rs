//! The owner's end of a gateway: starts the process, tells it what it may do, hears what it says, ends it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Pair;
use std::process::Stdio;
use std::time::Duration;

use aegis_init::wire::{Listen, Transport};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::gateway::wire::{Begin, Order, Tell};
use crate::record::egress::Entry;
use crate::sandbox::channel::{self, ChannelError, Receiver, Sender};

/// This program, whatever lies at its path by now.
const PROGRAM: &str = "/proc/self/exe";
/// The hidden command.
pub const COMMAND: &str = "gateway";
/// Time that a gateway may take to end.
const END_TIME_MAX: Duration = Duration::from_secs(5);

/// A gateway that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Link {
    sender: Sender<Order>,
    receiver: Receiver<Tell>,
    process: Child,
    gone: bool,
}

/// What a gateway says.
#[derive(Debug)]
pub enum Heard {
    /// The resolver answers.
    Ready,
    /// A socket of the sandbox is needed.
    Listen(Listen),
    /// Something for the ledger.
    Entry(Box<Entry>),
    /// Everything is said.
    Over {
        /// Queries for names that do not exist, beside those that have an entry.
        refused_again: u64,
    },
    /// It is gone, or said what it may not say.
    Gone,
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The process could not be started.
    #[error("the gateway's process cannot be started")]
    Spawn(#[source] std::io::Error),
    /// It did not take its orders.
    #[error("the gateway does not listen")]
    Deaf(#[source] ChannelError),
}

impl Link {
    /// Starts a gateway and tells it what it may do.
    pub async fn start(begin: Begin) -> Result<Self, LinkError> {
        let (ours, theirs) = Pair::pair().map_err(LinkError::Spawn)?;
        ours.set_nonblocking(true).map_err(LinkError::Spawn)?;
        let ours = UnixStream::from_std(ours).map_err(LinkError::Spawn)?;
        // A group of its own: a terminal's interrupt is the task's business.
        let process = Command::new(PROGRAM)
            .arg(COMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(LinkError::Spawn)?;
        let (sender, receiver) = channel::halves(ours);
        sender.send(&Order::Begin(Box::new(begin)), &[]).await.map_err(LinkError::Deaf)?;
        Ok(Self { sender, receiver, process, gone: false })
    }

    /// Tells it that the sandbox gives sockets now.
    pub async fn open(&mut self) {
        // One that is gone is heard to be.
        let _ = self.sender.send(&Order::Open, &[]).await;
    }

    /// What it says next; never returns once it is gone. May be cancelled at any time.
    pub async fn hear(&mut self) -> Heard {
        if self.gone {
            return std::future::pending().await;
        }
        let heard = match self.receiver.receive().await {
            Ok(received) => heard(received.message),
            Err(_) => Heard::Gone,
        };
        self.gone = matches!(heard, Heard::Gone | Heard::Over { .. });
        heard
    }

    /// Passes on what the sandbox answered to [`Heard::Listen`].
    pub async fn listening(&mut self, id: u32, socket: Result<BorrowedFd<'_>, i32>) {
        let (errno, descriptors) = match socket {
            Ok(socket) => (0, vec![socket]),
            Err(errno) => (errno, Vec::new()),
        };
        // One that is gone is heard to be.
        let _ = self.sender.send(&Order::Listening { id, errno }, &descriptors).await;
    }

    /// Asks it to end; what it says until then is still to be heard.
    pub async fn ask_to_end(&mut self) {
        let _ = self.sender.send(&Order::End, &[]).await;
    }

    /// Waits until it has said everything, and ends it. Each entry goes to `kept`.
    pub async fn end(mut self, mut kept: impl FnMut(Entry)) -> u64 {
        self.ask_to_end().await;
        let mut refused_again = 0;
        let rest = async {
            while !self.gone {
                match self.hear().await {
                    Heard::Entry(entry) => kept(*entry),
                    Heard::Over { refused_again: count } => refused_again = count,
                    Heard::Ready | Heard::Listen(_) | Heard::Gone => {}
                }
            }
        };
        let _ = tokio::time::timeout(END_TIME_MAX, rest).await;
        let _ = self.process.kill().await;
        refused_again
    }
}

/// Checks that a socket from the sandbox is the one that was asked for, and makes sure that nobody waits on it.
pub fn is_as_asked(socket: &OwnedFd, asked: &Listen) -> bool {
    use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrV4, SocketType, ipproto, sockopt};

    let (kind, protocol) = match asked.transport {
        Transport::Udp => (SocketType::DGRAM, ipproto::UDP),
        Transport::Tcp => (SocketType::STREAM, ipproto::TCP),
    };
    let address = SocketAddrAny::from(SocketAddrV4::new(asked.address.into(), asked.port));
    let socket = socket.as_fd();
    let listens = asked.transport == Transport::Udp || sockopt::socket_acceptconn(socket) == Ok(true);
    sockopt::socket_domain(socket) == Ok(AddressFamily::INET)
        && sockopt::socket_type(socket) == Ok(kind)
        && sockopt::socket_protocol(socket) == Ok(Some(protocol))
        && rustix::net::getsockname(socket) == Ok(address)
        && listens
        && rustix::io::ioctl_fionbio(socket, true).is_ok()
}

/// Checks that a socket from the sandbox is a TCP one, and makes sure that nobody waits on it.
pub fn is_stream(socket: &OwnedFd) -> bool {
    use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};

    sockopt::socket_domain(socket) == Ok(AddressFamily::INET)
        && sockopt::socket_type(socket) == Ok(SocketType::STREAM)
        && sockopt::socket_protocol(socket) == Ok(Some(ipproto::TCP))
        && sockopt::socket_acceptconn(socket) == Ok(false)
        && rustix::io::ioctl_fionbio(socket, true).is_ok()
}

/// What a gateway said, held to what it may say.
fn heard(tell: Tell) -> Heard {
    match tell {
        Tell::Ready => Heard::Ready,
        Tell::Listen { id, datagrams, address, port } => {
            let transport = if datagrams { Transport::Udp } else { Transport::Tcp };
            let listen = Listen { id, transport, address, port };
            if listen.is_within_bounds() { Heard::Listen(listen) } else { Heard::Gone }
        }
        Tell::Entry(entry) => entry.entry().map_or(Heard::Gone, |it| Heard::Entry(Box::new(it))),
        Tell::Over { refused_again } => Heard::Over { refused_again },
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[track_caller]
    fn check(socket: impl Into<OwnedFd>, transport: Transport, address: [u8; 4], port: u16, expected: bool) {
        let asked = Listen { id: 1, transport, address, port };
        assert_eq!(is_as_asked(&socket.into(), &asked), expected);
    }

    #[test]
    fn the_socket_that_was_asked_for_is_taken() {
        let socket = TcpListener::bind("127.64.0.9:0").expect("a listener");
        let port = socket.local_addr().expect("an address").port();
        check(socket, Transport::Tcp, [127, 64, 0, 9], port, true);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        check(socket, Transport::Udp, [127, 0, 0, 1], port, true);
    }

    #[test]
    fn any_other_socket_is_not() {
        let listener = TcpListener::bind("127.64.0.9:0").expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let clone = || listener.try_clone().expect("a clone");
        check(clone(), Transport::Tcp, [127, 64, 0, 8], port, false);
        check(clone(), Transport::Tcp, [127, 64, 0, 9], port ^ 1, false);
        check(clone(), Transport::Udp, [127, 64, 0, 9], port, false);
        let connected = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let near = connected.local_addr().expect("an address").port();
        check(connected, Transport::Tcp, [127, 0, 0, 1], near, false);
        let (pair, _) = Pair::pair().expect("a pair");
        check(pair, Transport::Tcp, [127, 64, 0, 9], port, false);
        check(
            std::fs::File::open("/dev/null").expect("opened"),
            Transport::Tcp,
            [127, 64, 0, 9],
            port,
            false,
        );
    }
}
