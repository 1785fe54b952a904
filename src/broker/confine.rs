//! The walls of the broker's own process. It holds the engine's socket, so what it is asked for is judged before; these walls
//! keep a broker that fell from the rest: it writes no file, starts no program, looks into no process.

use rustix::thread::CapabilitySet;

use crate::confine::{Rule, Walls};

const AF_UNIX: u64 = 1;
/// Every flag by which a file is written or made: `O_ACCMODE`, `O_CREAT`, `O_TRUNC`, `O_APPEND`, and that of `O_TMPFILE`.
const WRITING: u64 = 0o3 | 0o100 | 0o1000 | 0o2000 | 0o20_000_000;

/// What it may: to reach Unix sockets, to look below the server's directories, and to read a login for a registry.
pub const WALLS: Walls = Walls {
    process: "broker",
    powers: CapabilitySet::DAC_READ_SEARCH,
    calls: &["access", "faccessat", "faccessat2", "fstat", "lseek", "newfstatat", "readlink", "statx"],
    rules: &[("openat", &[Rule::Without(2, WRITING)]), ("socket", &[Rule::Equal(0, AF_UNIX)])],
};

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::confine::attempt::{check_alone, check_numbered, check_refused, under};

    #[test]
    fn every_call_that_is_named_has_a_number() {
        check_numbered(WALLS);
    }

    #[test]
    fn files_are_read_and_none_is_written() {
        assert!(under(WALLS, || std::fs::read("/proc/self/comm").is_ok()));
        check_refused(WALLS, || std::fs::write("/tmp/aegis-broker-test", b"x"));
        check_refused(WALLS, || std::fs::OpenOptions::new().append(true).open("/dev/null"));
        check_refused(WALLS, || std::fs::remove_file("/tmp/aegis-broker-test"));
        check_refused(WALLS, || std::fs::create_dir("/tmp/aegis-broker-test"));
    }

    #[test]
    fn no_program_is_started_and_no_process_looked_into() {
        check_alone(WALLS);
    }

    #[test]
    fn a_unix_socket_is_reached_and_no_network() {
        check_refused(WALLS, || TcpStream::connect("127.0.0.1:1"));
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a listener");
        let near = path.clone();
        assert!(under(WALLS, move || UnixStream::connect(near).is_ok()));
        drop(listener);
        check_refused(WALLS, move || UnixListener::bind(path.with_extension("other")));
    }
}
