//! The host's own eyes: listeners that count who brings a word, and files that hold it. Their silence counts only if they
//! could have sung, so the listeners hear the host itself first.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::app::read_bounded;

/// Time between two looks for a caller, for one caller's word, and for the host's own.
const PAUSE: Duration = Duration::from_millis(5);
const WORD_TIME_MAX: Duration = Duration::from_millis(100);
const OWN_TIME_MAX: Duration = Duration::from_secs(3);
/// Addresses of the host that are tried at the most.
const ADDRESSES_MAX: usize = 16;
/// Bytes of a kernel table.
const TABLE_BYTES_MAX: u64 = 1024 * 1024;

/// Listeners by TCP and UDP on one port of every address.
pub struct Canary {
    port: u16,
    addresses: Vec<IpAddr>,
    heard: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    sings: bool,
    threads: Vec<JoinHandle<()>>,
}

impl Canary {
    /// Begins to listen, and hears the host itself.
    pub fn listen(word: &str) -> std::io::Result<Self> {
        let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))
            .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        let any = tcp.local_addr()?;
        let udp = UdpSocket::bind(any)?;
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        let mut canary = Self {
            port: any.port(),
            addresses: addresses(),
            heard: Arc::default(),
            over: Arc::default(),
            sings: false,
            threads: Vec::new(),
        };
        let (tcp_word, udp_word) = (word.to_owned(), word.to_owned());
        canary.count(move || tcp.accept().is_ok_and(|(mut caller, _)| says(&mut caller, &tcp_word)));
        canary.count(move || {
            let mut bytes = [0; 256];
            udp.recv(&mut bytes).is_ok_and(|count| holds(&bytes[..count], &udp_word))
        });
        canary.sings = canary.hears_the_host(word);
        canary.heard.store(0, Ordering::Relaxed);
        Ok(canary)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Addresses of the host that a sandbox might reach.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Whether it heard the host itself.
    pub fn sings(&self) -> bool {
        self.sings
    }

    /// How often it heard the word since.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    fn count(&mut self, one: impl Fn() -> bool + Send + 'static) {
        let (heard, over) = (self.heard.clone(), self.over.clone());
        self.threads.push(std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if one() {
                    heard.fetch_add(1, Ordering::Relaxed);
                } else {
                    std::thread::sleep(PAUSE);
                }
            }
        }));
    }

    fn hears_the_host(&self, word: &str) -> bool {
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port);
        let by_tcp =
            TcpStream::connect_timeout(&to, OWN_TIME_MAX).and_then(|mut it| it.write_all(word.as_bytes()));
        let by_udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.send_to(word.as_bytes(), to));
        if by_tcp.is_err() || by_udp.is_err() {
            return false;
        }
        let begun = Instant::now();
        while self.heard() < 2 && begun.elapsed() < OWN_TIME_MAX {
            std::thread::sleep(PAUSE);
        }
        self.heard() >= 2
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has counted nothing more; there is nothing else to do about it.
            let _ = thread.join();
        }
    }
}

/// Strangers who find the port while it is open bring no word.
fn says(caller: &mut TcpStream, word: &str) -> bool {
    let mut bytes = [0; 256];
    let ready = caller.set_nonblocking(false).and_then(|()| caller.set_read_timeout(Some(WORD_TIME_MAX)));
    ready.is_ok() && caller.read(&mut bytes).is_ok_and(|count| holds(&bytes[..count], word))
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|it| it == word.as_bytes())
}

/// Addresses of this host that are good without a scope.
fn addresses() -> Vec<IpAddr> {
    let table =
        |name: &str| read_bounded(&Path::new("/proc/net").join(name), TABLE_BYTES_MAX).unwrap_or_default();
    let mut found: Vec<IpAddr> = local_v4(&table("fib_trie")).into_iter().map(IpAddr::V4).collect();
    found.extend(local_v6(&table("if_inet6")).into_iter().map(IpAddr::V6));
    found.truncate(ADDRESSES_MAX);
    found
}

/// The kernel writes an address, and on the next line what it is.
fn local_v4(trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse().ok();
        } else if line.contains("/32 host LOCAL") {
            found.extend(last.take().filter(|it| !found.contains(it)));
        }
    }
    found
}

fn local_v6(table: &str) -> Vec<Ipv6Addr> {
    let digits = table.lines().filter_map(|it| it.split_whitespace().next());
    let parsed = digits.filter_map(|it| u128::from_str_radix(it, 16).ok()).map(Ipv6Addr::from);
    parsed.filter(|it| !it.is_unicast_link_local()).collect()
}

/// Files with the word, in places where a user's files are. They go when this is dropped.
pub struct Files {
    word: String,
    placed: Vec<NamedTempFile>,
}

impl Files {
    /// Places them wherever this user may.
    pub fn place(word: &str) -> std::io::Result<Self> {
        let mut places: Vec<PathBuf> = vec![std::env::temp_dir(), "/var/tmp".into(), "/dev/shm".into()];
        places.extend(std::env::var_os("HOME").map(PathBuf::from));
        let mut placed = Vec::new();
        for place in places {
            let made = tempfile::Builder::new().prefix(".aegis-canary-").tempfile_in(place);
            if let Ok(mut file) = made {
                file.write_all(word.as_bytes())?;
                placed.push(file);
            }
        }
        Ok(Self { word: word.to_owned(), placed })
    }

    /// Where they are.
    pub fn paths(&self) -> Vec<String> {
        self.placed.iter().map(|it| it.path().display().to_string()).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.placed.len()
    }

    /// Whether each still holds the word and nothing else.
    pub fn untouched(&self) -> bool {
        let bytes_max = self.word.len() as u64 + 1;
        self.placed.iter().all(|it| read_bounded(it.path(), bytes_max).is_ok_and(|text| text == self.word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_hears_the_word_and_no_stranger() {
        let canary = Canary::listen("the-word").expect("it listens");
        assert!(canary.sings());
        assert_eq!(canary.heard(), 0);
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), canary.port());
        TcpStream::connect(to).expect("connected").write_all(b"hello").expect("said");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        socket.send_to(b"a the-word b", to).expect("sent");
        let begun = Instant::now();
        while canary.heard() == 0 && begun.elapsed() < OWN_TIME_MAX {
            std::thread::sleep(PAUSE);
        }
        assert_eq!(canary.heard(), 1);
    }

    #[test]
    fn addresses_of_the_host_are_read_from_the_kernels_tables() {
        let trie = "Main:\n  +-- 0.0.0.0/0\n     |-- 10.0.0.0\n        /8 universe UNICAST\n     |-- 10.0.0.7\n        /32 host LOCAL\n";
        assert_eq!(local_v4(trie), [Ipv4Addr::new(10, 0, 0, 7)]);
        let table = "00000000000000000000000000000001 01 80 10 80 lo\nfe800000000000000000000000000001 02 40 20 80 eth0\n";
        assert_eq!(local_v6(table), [Ipv6Addr::LOCALHOST]);
    }

    #[test]
    fn a_file_that_was_written_to_is_seen() {
        let files = Files::place("the-word").expect("placed");
        assert!(files.count() > 0 && files.untouched());
        std::fs::write(&files.paths()[0], "another").expect("written");
        assert!(!files.untouched());
    }
}
