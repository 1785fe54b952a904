//! Bytes between two connections, both ways, until both ways have ended. A way that cannot write holds one bounded
//! buffer and reads no further: back-pressure reaches whoever sends. An idle connection holds none.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::Shutdown;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Bytes that one call moves; what a slow reader leaves of them is what its connection costs.
const BUFFER_BYTES: usize = 256 * 1024;
/// Between two looks for idleness.
const LOOKS_PER_IDLE_TIME: u32 = 8;

/// Bytes and the last movement of a connection.
#[derive(Debug)]
pub struct Traffic {
    begun: Instant,
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
    /// Milliseconds from the beginning.
    moved_ms: AtomicU64,
}

impl Traffic {
    /// A connection that begins now.
    pub fn begin() -> Self {
        Self {
            begun: Instant::now(),
            up_bytes: AtomicU64::new(0),
            down_bytes: AtomicU64::new(0),
            moved_ms: AtomicU64::new(0),
        }
    }

    /// Bytes from the task, and to it.
    pub fn bytes(&self) -> (u64, u64) {
        (self.up_bytes.load(Ordering::Relaxed), self.down_bytes.load(Ordering::Relaxed))
    }

    /// Time since the beginning.
    pub fn duration(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Counts bytes that the task sent before the relay began.
    pub fn sent_before(&self, bytes: usize) {
        self.moved(&self.up_bytes, bytes);
    }

    fn moved(&self, way: &AtomicU64, bytes: usize) {
        way.fetch_add(bytes as u64, Ordering::Relaxed);
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(now_ms, Ordering::Relaxed);
    }

    fn idle(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.moved_ms.load(Ordering::Relaxed)))
    }
}

/// Relays until both ways have ended, or one has failed, or nothing moved for `idle_max`.
pub async fn relay(
    task: &TcpStream,
    host: &TcpStream,
    traffic: &Traffic,
    idle_max: Duration,
) -> io::Result<()> {
    let both = async {
        tokio::try_join!(
            one_way(task, host, traffic, &traffic.up_bytes),
            one_way(host, task, traffic, &traffic.down_bytes)
        )
    };
    let idle = async {
        while traffic.idle() < idle_max {
            tokio::time::sleep(idle_max / LOOKS_PER_IDLE_TIME).await;
        }
    };
    tokio::select! {
        ended = both => ended.map(|_| ()),
        () = idle => Err(ErrorKind::TimedOut.into()),
    }
}

async fn one_way(from: &TcpStream, to: &TcpStream, traffic: &Traffic, way: &AtomicU64) -> io::Result<()> {
    loop {
        from.readable().await?;
        let (moved, left) = match step(from, to) {
            Ok(Some(step)) => step,
            Ok(None) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        traffic.moved(way, moved);
        let mut written = 0;
        while written < left.len() {
            to.writable().await?;
            match to.try_write(&left[written..]) {
                Ok(count) => {
                    written += count;
                    traffic.moved(way, count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
    // The other way may go on; a peer that is gone already has nothing to be told.
    match rustix::net::shutdown(to, Shutdown::Write) {
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

thread_local! {
    /// One buffer for every connection of the thread: it is full only between a read and the write after it.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

/// Reads once and writes what the other side takes at once. Gives how much that was and what is left over; nothing at
/// the end of the stream.
fn step(from: &TcpStream, to: &TcpStream) -> io::Result<Option<(usize, Vec<u8>)>> {
    BUFFER.with_borrow_mut(|buffer| {
        let count = from.try_read(buffer)?;
        if count == 0 {
            return Ok(None);
        }
        let written = match to.try_write(&buffer[..count]) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        Ok(Some((written, buffer[written..count].to_vec())))
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    /// Both ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected"), far.expect("accepted").0)
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_each_way_ends_by_itself() {
        let ((mut task, left), (mut host, right)) = (pair().await, pair().await);
        let traffic = Traffic::begin();
        let sent = vec![7_u8; 3 * BUFFER_BYTES];
        let talk = async {
            let upload = async {
                task.write_all(&sent).await.expect("written");
                task.shutdown().await.expect("half closed");
                let mut answer = String::new();
                task.read_to_string(&mut answer).await.expect("an answer");
                answer
            };
            let serve = async {
                let mut received = Vec::new();
                host.read_to_end(&mut received).await.expect("read");
                host.write_all(b"got it").await.expect("written");
                host.shutdown().await.expect("closed");
                received.len()
            };
            tokio::join!(upload, serve)
        };
        let (ended, (answer, received)) = tokio::join!(relay(&left, &right, &traffic, IDLE), talk);
        ended.expect("both ways ended");
        assert_eq!((answer.as_str(), received), ("got it", sent.len()));
        assert_eq!(traffic.bytes(), (sent.len() as u64, 6));
    }

    #[tokio::test]
    async fn a_host_that_does_not_read_stops_the_task() {
        let ((task, left), (_host, right)) = (pair().await, pair().await);
        let traffic = Traffic::begin();
        let flood = async {
            let chunk = vec![0; 1024 * 1024];
            // The kernel's buffers and one of ours fill, and then nothing goes on.
            loop {
                let wait = tokio::time::timeout(Duration::from_millis(500), task.writable());
                if wait.await.is_err() {
                    return;
                }
                let _ = task.try_write(&chunk);
            }
        };
        tokio::select! {
            ended = relay(&left, &right, &traffic, IDLE) => panic!("ended: {ended:?}"),
            () = flood => {}
        }
        assert!(traffic.bytes().0 < 64 * 1024 * 1024, "{:?}", traffic.bytes());
    }

    #[tokio::test]
    async fn an_idle_connection_is_ended() {
        let ((_task, left), (_host, right)) = (pair().await, pair().await);
        let ended = relay(&left, &right, &Traffic::begin(), Duration::from_millis(20)).await;
        assert_eq!(ended.expect_err("it was ended").kind(), ErrorKind::TimedOut);
    }
}
