//! Every packet of a process's network namespace, as the kernel shows it to a packet socket there: on all of its
//! interfaces, in both directions.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, sockopt};
use rustix::thread::LinkNameSpaceType;

/// `ETH_P_ALL` in network order.
const ALL: u32 = 0x0300;

/// A capture that goes on.
pub struct Capture {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(IpAddr, IpAddr)>>,
}

impl Capture {
    /// Begins in the namespace of this process.
    pub fn begin(process: u32) -> Self {
        let namespace = File::open(format!("/proc/{process}/ns/net")).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (ended, (begun, begins)) = (Arc::clone(&over), std::sync::mpsc::channel());
        let thread = std::thread::spawn(move || {
            let kind = LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).unwrap();
            let socket = open();
            begun.send(()).unwrap();
            let mut packets = Vec::new();
            let mut bytes = vec![0; 1 << 16];
            loop {
                match rustix::net::recv(&socket, &mut bytes[..], RecvFlags::empty()) {
                    Ok((count, _)) => packets.extend(addresses(&bytes[..count])),
                    Err(_) if ended.load(Ordering::Relaxed) => return packets,
                    Err(_) => {}
                }
            }
        });
        begins.recv().unwrap();
        Self { over, thread }
    }

    /// Source and destination of each packet so far.
    pub fn end(self) -> Vec<(IpAddr, IpAddr)> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn open() -> OwnedFd {
    let protocol = Protocol::from_raw(std::num::NonZero::new(ALL).unwrap());
    let socket = rustix::net::socket_with(
        AddressFamily::PACKET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(protocol),
    );
    let socket = socket.unwrap();
    let pause = Some(Duration::from_millis(100));
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, pause).unwrap();
    socket
}

fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let at =
                |start: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(start..start + 4)?).ok()?));
            Some((at(12)?.into(), at(16)?.into()))
        }
        6 => {
            let at = |start: usize| {
                Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(start..start + 16)?).ok()?))
            };
            Some((at(8)?.into(), at(24)?.into()))
        }
        _ => Some((Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into())),
    }
}
