//! The server's side of an attached stream: frames in and out, each stream within its window, until the run has its outcome
//! or its client is gone. What a client does not take makes its own task wait, nobody else: once the sandbox is over, it has
//! a bounded time to take what is left, which the log keeps all the same.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, DuplexStream, ReadHalf};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::Shared;
use crate::api::attach::Left;
use crate::api::attach::flow::{self, Came, FRAMES_MAX, Inflow, hear, inflow, pass};
use crate::api::attach::frame::{CHUNK_BYTES_MAX, END_BYTES_MAX, FromClient, FromServer, WINDOW_BYTES};
use crate::api::services::Streams;
use crate::api::sse::Reader;
use crate::api::wire::attach::{EndJson, SaidJson};
use crate::queue::Attached;
use crate::record::{Found, Run, Stream};
use crate::report::{result, told};
use crate::task::run_id::RunSelector;
use crate::task::{Cancellation, RunId, RunState};

/// Chunks of one output that wait for their window, at the most.
const CHUNKS_MAX: usize = 4;
/// Time for the connection to become a stream.
const UPGRADE_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for the last frame to be taken, and for the client to close then.
const END_TIME_MAX: Duration = Duration::from_secs(10);
/// Time in which a client must take something of what is left once the sandbox is over, and in which all of it.
const TAKE_TIME_MAX: Duration = Duration::from_secs(10);
const LEFT_TIME_MAX: Duration = Duration::from_secs(120);
/// How often the record is looked at, beside the worker's word.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a client must still be allowed to be here.
const STILL_EVERY: Duration = Duration::from_secs(2);
/// Time in which runs that ended with the server are still told.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// One attached client.
pub(super) struct Session {
    reader: Reader,
    run: RunId,
    /// Its worker is done with it.
    over: CancellationToken,
    leaving: Leaving,
    outputs: [Output; 2],
    input: Option<pipe::Sender>,
}

/// One output on its way to the client.
struct Output {
    stream: Stream,
    chunks: mpsc::Receiver<Vec<u8>>,
    window: Arc<Semaphore>,
    /// The client reads it no more.
    closed: CancellationToken,
}

/// The end of a sandbox, as it concerns a client that takes nothing.
#[derive(Clone, Default)]
struct Leaving {
    /// The sandbox is over.
    begun: CancellationToken,
    /// What is left is no longer waited for.
    given_up: CancellationToken,
}

/// Whether a client was shown everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// It was, or did not want it.
    Whole,
    /// It did not take the last of it in time.
    Cut,
}

/// How a session ended.
enum Ended {
    /// The run did.
    Run(Box<Run>, Extent),
    /// The client is gone, or must go.
    Client,
}

impl Session {
    /// A session with the ends that a worker gets, and what that worker drops when it is done.
    pub(super) fn open(
        reader: Reader,
        run: RunId,
        attached: Option<Attached>,
    ) -> io::Result<(Self, Streams, DropGuard)> {
        let (input, stdin) = match attached {
            Some(Attached::Both | Attached::Terminal { .. }) => {
                let (sender, receiver) = pipe::pipe()?;
                (Some(sender), Some(receiver.into_blocking_fd()?))
            }
            Some(Attached::Output) | None => (None, None),
        };
        let (stdout, stdout_chunks) = mpsc::channel(CHUNKS_MAX);
        let (stderr, stderr_chunks) = mpsc::channel(CHUNKS_MAX);
        let leaving = Leaving::default();
        let sink = |chunks| Box::new(Sink { chunks, given_up: leaving.given_up.clone() });
        let (stdout, stderr) = (sink(stdout), sink(stderr));
        let streams = Streams { stdout, stderr, stdin, over: leaving.begun.clone() };
        let output = |stream, chunks| Output {
            stream,
            chunks,
            window: Arc::new(Semaphore::new(WINDOW_BYTES as usize)),
            closed: CancellationToken::new(),
        };
        let outputs = [output(Stream::Stdout, stdout_chunks), output(Stream::Stderr, stderr_chunks)];
        let over = CancellationToken::new();
        let guard = over.clone().drop_guard();
        Ok((Self { reader, run, over, leaving, outputs, input }, streams, guard))
    }

    /// Speaks with the client to the end.
    pub(super) async fn converse(self, upgrade: OnUpgrade, left: Left) {
        let (api, run) = (self.reader.api(), self.run);
        let ended = match tokio::time::timeout(UPGRADE_TIME_MAX, upgrade).await {
            Ok(Ok(stream)) => self.with(stream, &left).await,
            Ok(Err(_)) | Err(_) => Ended::Client,
        };
        if let Ended::Client = ended {
            tracing::info!(run.id = %run, "the client of run `{run}` is gone: it is ended");
            cancel(&api, run, Cancellation::Client).await;
        }
    }

    async fn with(self, stream: Upgraded, left: &Left) -> Ended {
        let (mut read, write) = tokio::io::split(TokioIo::new(stream));
        let (to_client, frames) = mpsc::channel(FRAMES_MAX);
        let mut speaking = std::pin::pin!(flow::speak(write, frames, FromServer::Alive));
        let ended = {
            let attended = self.attend(&mut read, &to_client, left);
            tokio::select! {
                ended = attended => ended,
                () = &mut speaking => Ended::Client,
            }
        };
        if let Ended::Run(run, extent) = &ended {
            let told = async {
                let _ = to_client.send(FromServer::End(end(run, *extent))).await;
                drop(to_client);
            };
            let _ = tokio::time::timeout(END_TIME_MAX, async { tokio::join!(told, speaking) }).await;
            // Closed before everything that the client sent was read, the connection could lose the end on its way.
            let _ = tokio::time::timeout(END_TIME_MAX, drained(&mut read)).await;
        }
        ended
    }

    async fn attend(
        self,
        read: &mut ReadHalf<TokioIo<Upgraded>>,
        to_client: &mpsc::Sender<FromServer>,
        left: &Left,
    ) -> Ended {
        let Self { mut reader, run, over, leaving, outputs: [mut stdout, mut stderr], input } = self;
        let (inflow, waiting) = inflow();
        let (windows, closed) =
            ([stdout.window.clone(), stderr.window.clone()], [stdout.closed.clone(), stderr.closed.clone()]);
        let api = reader.api();
        let taken = Notify::new();
        let heard = heard(&api, read, inflow, (windows, &taken), closed, left);
        let fed = fed(waiting, input, to_client);
        let shown = async {
            let shown = tokio::join!(
                shown(&mut stdout, &leaving.given_up, to_client),
                shown(&mut stderr, &leaving.given_up, to_client)
            );
            if shown == (Extent::Whole, Extent::Whole) { Extent::Whole } else { Extent::Cut }
        };
        let done = async {
            let run = done(&api, run, &over, to_client).await;
            // Ends that no worker took are closed here.
            left.attachments.withdraw(run.id);
            leaving.begun.cancel();
            run
        };
        let finished = async { tokio::join!(shown, done) };
        tokio::select! {
            (extent, run) = finished => Ended::Run(run, extent),
            () = hurried(&leaving, &taken) => Ended::Client,
            () = heard => Ended::Client,
            () = allowed(&mut reader) => Ended::Client,
            () = fed => Ended::Client,
        }
    }
}

/// Takes what the client says, until it is gone or says what it may not.
async fn heard(
    api: &Shared,
    read: &mut ReadHalf<TokioIo<Upgraded>>,
    inflow: Inflow,
    (windows, taken): ([Arc<Semaphore>; 2], &Notify),
    closed: [CancellationToken; 2],
    left: &Left,
) {
    let mut inflow = Some(inflow);
    while let Some(frame) = hear::<FromClient>(read).await {
        match frame {
            FromClient::Input(bytes) => match inflow.as_mut().map(|it| it.take(&bytes)) {
                Some(Came::Kept) => {}
                Some(Came::TooMuch) | None => return,
            },
            FromClient::InputEnd => inflow = None,
            FromClient::Resize { rows, columns } => left.attachments.resize(left.run, rows, columns),
            FromClient::Cancel(by) => cancel(api, left.run, by).await,
            FromClient::Taken(stream, bytes) => {
                let window = &windows[index(stream)];
                // More than was ever sent.
                if window.available_permits().saturating_add(bytes as usize) > WINDOW_BYTES as usize {
                    return;
                }
                window.add_permits(bytes as usize);
                if bytes > 0 {
                    taken.notify_one();
                }
            }
            FromClient::Closed(stream) => closed[index(stream)].cancel(),
            FromClient::Alive => {}
        }
    }
}

/// Ends the run. Where the books cannot be asked, its streams close all the same, and its lease runs out.
async fn cancel(api: &Shared, run: RunId, by: Cancellation) {
    if let Err(error) = api.services.queue.cancel(run, by, None).await {
        tracing::warn!(run.id = %run, %error, "run `{run}` could not be ended: {error}");
    }
}

/// Passes standard input on. Ends with the session only.
async fn fed(from: DuplexStream, input: Option<pipe::Sender>, to_client: &mpsc::Sender<FromServer>) {
    if let Some(input) = input {
        pass(from, input, to_client, FromServer::Taken).await;
    }
    std::future::pending().await
}

/// Gives up a client that takes nothing of what is left once the sandbox is over, so that its worker is free. Never ends.
async fn hurried(leaving: &Leaving, taken: &Notify) {
    leaving.begun.cancelled().await;
    let latest = Instant::now() + LEFT_TIME_MAX;
    loop {
        let next = latest.min(Instant::now() + TAKE_TIME_MAX);
        if tokio::time::timeout_at(next, taken.notified()).await.is_err() || Instant::now() >= latest {
            break;
        }
    }
    leaving.given_up.cancel();
    std::future::pending().await
}

/// Passes one output on, as far as the client takes it. Ends when the task's own end is closed.
async fn shown(
    output: &mut Output,
    given_up: &CancellationToken,
    to_client: &mpsc::Sender<FromServer>,
) -> Extent {
    let Output { stream, chunks, window, closed } = output;
    let passing = async {
        while let Some(bytes) = chunks.recv().await {
            let bytes_count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let Ok(room) = window.acquire_many(bytes_count).await else { return };
            room.forget();
            if to_client.send(FromServer::Output(*stream, bytes)).await.is_err() {
                return;
            }
        }
    };
    let extent = tokio::select! {
        biased;
        () = passing => Extent::Whole,
        () = closed.cancelled() => Extent::Whole,
        () = given_up.cancelled() => Extent::Cut,
    };
    // What the task writes from here on finds a closed pipe.
    chunks.close();
    while chunks.recv().await.is_some() {}
    extent
}

/// Waits for the outcome; says on the way whether the run waits.
async fn done(
    api: &Shared,
    run: RunId,
    over: &CancellationToken,
    to_client: &mpsc::Sender<FromServer>,
) -> Box<Run> {
    let mut said = None;
    loop {
        let is_over = over.is_cancelled();
        tokio::select! {
            () = over.cancelled(), if !is_over => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // Records that cannot be read just now are looked at again.
        let Ok(Found::Run(run)) = api.services.record.find(&RunSelector::Id(run)).await else { continue };
        if run.state == RunState::Done {
            return run;
        }
        let place = if run.state == RunState::Queued {
            // Books that cannot be asked just now are asked again.
            Some(api.services.queue.standing(run.id).await.ok().flatten().unwrap_or(0))
        } else {
            None
        };
        if said != Some(place) {
            let frame = place.map_or(FromServer::Begun, FromServer::Waiting);
            // A client that takes nothing does not keep the end from being seen.
            if tokio::time::timeout(LOOK_EVERY, to_client.send(frame)).await.is_ok() {
                said = Some(place);
            }
        }
    }
}

/// Ends when the client may be here no longer.
async fn allowed(reader: &mut Reader) {
    loop {
        tokio::time::sleep(STILL_EVERY).await;
        if reader.api().closing.is_cancelled() {
            tokio::time::sleep(CLOSING_TIME).await;
            return;
        }
        if !reader.still().await {
            return;
        }
    }
}

/// Reads what is still on its way until the client closes.
async fn drained(read: &mut ReadHalf<TokioIo<Upgraded>>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(1..) = read.read(&mut buffer).await {}
}

/// The end as the client is told it.
fn end(run: &Run, extent: Extent) -> Vec<u8> {
    let mut said: Vec<SaidJson> = Vec::new();
    if extent == Extent::Cut {
        let text = "the last of its output was not taken in time and is not shown".to_owned();
        said.push(SaidJson { is_hint: false, text });
        said.push(SaidJson { is_hint: true, text: format!("aegis logs {}", run.id.short()) });
    }
    said.extend(told::lines(run).into_iter().map(|it| match it {
        told::Said::Note(text) => SaidJson { is_hint: false, text },
        told::Said::Hint(text) => SaidJson { is_hint: true, text },
    }));
    let mut json = EndJson { run: result::of(run), told: said };
    let whole = serde_json::to_vec(&json).unwrap_or_default();
    if whole.len() <= END_BYTES_MAX {
        return whole;
    }
    if let Some(artifacts) = &mut json.run.artifacts {
        artifacts.files.clear();
        artifacts.dropped.clear();
    }
    let text = "the list of what came out is too long to be told here".to_owned();
    json.told.push(SaidJson { is_hint: false, text });
    json.told.push(SaidJson { is_hint: true, text: format!("aegis artifact ls {}", run.id.short()) });
    serde_json::to_vec(&json).unwrap_or_default()
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// An output as a task's pump writes it, on a thread of its own: it waits there while the client does not take it.
struct Sink {
    chunks: mpsc::Sender<Vec<u8>>,
    given_up: CancellationToken,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK_BYTES_MAX);
        match self.chunks.blocking_send(bytes[..count].to_vec()) {
            Ok(()) => Ok(count),
            // The sandbox is over and nobody writes any more: what is left goes to the log alone.
            Err(_) if self.given_up.is_cancelled() => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Artifact, fixture};
    use crate::task::Outcome;

    #[test]
    fn an_end_fits_its_frame_whatever_came_out() {
        let mut run = fixture::ended(Outcome::Exited(0));
        let file = |count: usize| Artifact {
            path: vec![b'a'; 4_000 + count % 7],
            bytes: 1,
            sha256: [0; 32],
            mode: 0o644,
        };
        run.end.as_mut().expect("it ended").artifacts = (0..5_000).map(file).collect();
        let bytes = end(&run, Extent::Whole);
        assert!((1..=END_BYTES_MAX).contains(&bytes.len()), "{} bytes", bytes.len());
        let told: EndJson = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(told.run.artifacts.expect("there were").files, []);
        assert!(told.told.iter().any(|it| it.text.starts_with("aegis artifact ls ")), "{:?}", told.told);
    }
}
