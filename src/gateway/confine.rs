//! The walls of the gateway's own process. What it parses is hostile; if it fell, it could still open no file, reach no
//! Unix socket, start no program and look into no other process. Everything it works with comes over its one connection.

use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::CapabilitySet;

use crate::confine::{ConfineError, Rule, Walls};
use crate::sandbox::slot;

/// User and group id of a gateway whose owner is root: one below those of the slots, and nobody else's.
pub const ACCOUNT: u32 = slot::UID_FIRST - 1;
/// Open files that it asks for: a socket each for listeners and for both ends of connections.
const NOFILE: u64 = 8192;

const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;

/// What it may: sockets of the internet, and ports for answers to its own questions.
pub const WALLS: Walls = Walls {
    process: "gateway",
    powers: CapabilitySet::empty(),
    calls: &["accept4", "bind"],
    rules: &[("socket", &[Rule::Equal(0, AF_INET), Rule::Equal(0, AF_INET6)])],
};

/// Gives the process an account of its own where its owner is root, sets it apart and bounds its open files. No other thread
/// may exist.
pub fn set_apart() -> Result<(), ConfineError> {
    let failed = |errno| WALLS.not_apart(errno);
    if rustix::process::geteuid().is_root() {
        let (user, group) = (Uid::from_raw(ACCOUNT), Gid::from_raw(ACCOUNT));
        rustix::thread::set_thread_groups(&[]).map_err(failed)?;
        rustix::thread::set_thread_res_gid(group, group, group).map_err(failed)?;
        rustix::thread::set_thread_res_uid(user, user, user).map_err(failed)?;
    }
    WALLS.set_apart()?;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(NOFILE).min(NOFILE);
    let wanted = Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(Resource::Nofile, wanted).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::confine::attempt::{check_alone, check_numbered, check_refused, under};

    #[test]
    fn every_call_that_is_named_has_a_number() {
        check_numbered(WALLS);
    }

    #[test]
    fn the_engines_socket_is_not_reached() {
        check_refused(WALLS, || UnixStream::connect("/var/run/docker.sock"));
        check_refused(WALLS, UnixStream::pair);
    }

    #[test]
    fn no_file_is_opened() {
        check_refused(WALLS, || std::fs::File::open("/dev/null"));
        check_refused(WALLS, || std::fs::read("/proc/self/environ"));
        check_refused(WALLS, || std::fs::write("/tmp/aegis-gateway-test", b"x"));
    }

    #[test]
    fn no_program_is_started_and_no_process_looked_into() {
        check_alone(WALLS);
    }

    #[test]
    fn no_listener_is_opened_and_connections_are() {
        check_refused(WALLS, || TcpListener::bind("127.0.0.1:0"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        let connected = under(WALLS, move || {
            TcpStream::connect(address).is_ok() && UdpSocket::bind("127.0.0.1:0").is_ok()
        });
        assert!(connected);
    }
}
