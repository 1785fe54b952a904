//! The server's end of a broker: starts the process or reaches the one of the service, carries requests and answers, and
//! notices its end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Pair;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::broker::frame::{self, ANSWER_BYTES_MAX, ASK_BYTES_MAX, FrameError};
use crate::broker::server::{ASKS_MAX, seconds_max};
use crate::broker::wire::{self, Answer, Answered, Ask, Failure, Verb};
use crate::container::EngineError;

/// This program, whatever lies at its path by now.
const PROGRAM: &str = "/proc/self/exe";
/// The hidden command.
pub const COMMAND: &str = "broker";
/// Seconds beyond the broker's own bound, after which it is not waited for.
const SLACK_SECONDS: u64 = 10;

/// How a broker is had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// A process is started.
    Start {
        /// What it is told.
        arguments: Vec<OsString>,
        /// All of its environment.
        environment: Vec<(String, OsString)>,
    },
    /// The service's, at its socket.
    Reach(PathBuf),
}

/// A broker that answers. Dropped, it ends.
#[derive(Debug)]
pub struct Link {
    outgoing: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Waiting>,
    last_id: AtomicU64,
    // The broker reads no more at once: who waits, waits here.
    permits: Semaphore,
    ended: CancellationToken,
    // Ends with this value.
    _carrying: JoinSet<()>,
    process: Option<Child>,
}

/// Who waits for an answer, by id.
type Waiting = Mutex<BTreeMap<u64, oneshot::Sender<Answered>>>;

impl Link {
    /// Starts or reaches a broker.
    pub async fn open(order: &Order) -> std::io::Result<Self> {
        match order {
            Order::Start { arguments, environment } => {
                let (ours, theirs) = Pair::pair()?;
                ours.set_nonblocking(true)?;
                // A group of its own: a terminal's interrupt is the server's business.
                let process = Command::new(PROGRAM)
                    .arg(COMMAND)
                    .args(arguments)
                    .env_clear()
                    .envs(environment.iter().map(|(name, value)| (name, value)))
                    .current_dir("/")
                    .stdin(OwnedFd::from(theirs))
                    .stdout(Stdio::null())
                    .process_group(0)
                    .kill_on_drop(true)
                    .spawn()?;
                Ok(Self::over(UnixStream::from_std(ours)?, Some(process)))
            }
            Order::Reach(path) => Ok(Self::over(UnixStream::connect(path).await?, None)),
        }
    }

    fn over(socket: UnixStream, process: Option<Child>) -> Self {
        let (reader, writer) = socket.into_split();
        let (outgoing, queue) = mpsc::channel(ASKS_MAX);
        let (waiting, ended) = (Arc::new(Waiting::default()), CancellationToken::new());
        let mut carrying = JoinSet::new();
        let (answers, end) = (waiting.clone(), ended.clone());
        carrying.spawn(async move {
            let carried = tokio::select! {
                carried = send(writer, queue) => carried,
                carried = receive(reader, &answers) => carried,
            };
            if let Err(error) = carried {
                tracing::warn!(%error, "the connection to the broker ended: {error}");
            }
            end.cancel();
            // Whoever waits hears that nothing comes.
            held(&answers).clear();
        });
        let (last_id, permits) = (AtomicU64::new(0), Semaphore::new(ASKS_MAX));
        Self { outgoing, waiting, last_id, permits, ended, _carrying: carrying, process }
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, verb: Verb) -> Result<Answered, EngineError> {
        let (told, seconds) = (verb.told(), seconds_max(&verb) + SLACK_SECONDS);
        let answered = tokio::time::timeout(Duration::from_secs(seconds), self.exchange(verb)).await;
        match answered {
            Ok(Some(answered)) => Ok(answered),
            Ok(None) => Err(gone()),
            Err(_) => Err(EngineError::TimedOut { verb: told, seconds }),
        }
    }

    async fn exchange(&self, verb: Verb) -> Option<Answered> {
        let _permit = self.permits.acquire().await.ok()?;
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let frame = match frame::framed(&wire::encode(&Ask { id, verb }), ASK_BYTES_MAX) {
            Ok(frame) => frame,
            Err(error) => return Some(Answered::Failed(Failure::NotAllowed { reason: error.to_string() })),
        };
        let (answer, heard) = oneshot::channel();
        held(&self.waiting).insert(id, answer);
        let forgotten = Forgotten { waiting: &self.waiting, id };
        // Nothing is inserted after the end has cleared the rest, but that the token is seen.
        if self.ended.is_cancelled() {
            return None;
        }
        self.outgoing.send(frame).await.ok()?;
        let answered = heard.await.ok();
        drop(forgotten);
        answered
    }

    /// Returns when the broker is gone.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether it is gone.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Its process, where it was started here.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().and_then(Child::id)
    }
}

/// Takes a question back that nobody waits for any more.
struct Forgotten<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        held(self.waiting).remove(&self.id);
    }
}

/// What a request comes to whose broker is gone.
fn gone() -> EngineError {
    EngineError::NotRunning { address: "the broker".to_owned(), source: None }
}

/// What a broker comes to that cannot be had.
pub fn unopened(order: &Order, error: std::io::Error) -> EngineError {
    let address = match order {
        Order::Start { .. } => "the broker".to_owned(),
        Order::Reach(path) => shown(path),
    };
    EngineError::NotRunning { address, source: Some(Box::new(error)) }
}

fn shown(path: &Path) -> String {
    format!("the broker's socket {}", path.display())
}

fn held(waiting: &Waiting) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Answered>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn send(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) -> Result<(), FrameError> {
    while let Some(frame) = queue.recv().await {
        frame::write(&mut to, &frame).await?;
    }
    Ok(())
}

async fn receive(mut from: OwnedReadHalf, waiting: &Waiting) -> Result<(), FrameError> {
    while let Some(bytes) = frame::read(&mut from, ANSWER_BYTES_MAX).await? {
        let answer = match wire::decode::<Answer>(&bytes) {
            Ok(answer) => answer,
            Err(reason) => return Err(FrameError::Io(std::io::Error::other(reason))),
        };
        if let (0, Answered::Failed(failure)) = (answer.id, &answer.answered) {
            tracing::error!("the broker does not go on: {failure:?}");
        }
        let waiter = held(waiting).remove(&answer.id);
        if let Some(waiter) = waiter {
            // Who asked may have given up.
            let _ = waiter.send(answer.answered);
        }
    }
    Ok(())
}
