//! The server's side of an attached stream: frames in and out, each stream within its window, until the run has its outcome
//! or its client is gone. What a client does not take makes its own task wait, nobody else.

use std::io::{self, Write};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, DuplexStream, ReadHalf};
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::Shared;
use crate::api::attach::Left;
use crate::api::attach::flow::{self, Came, FRAMES_MAX, Inflow, hear, inflow, pass};
use crate::api::attach::frame::{CHUNK_BYTES_MAX, FromClient, FromServer, WINDOW_BYTES};
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
    outputs: [Output; 2],
    input: Option<pipe::Sender>,
}

/// One output on its way to the client.
struct Output {
    stream: Stream,
    chunks: mpsc::Receiver<Vec<u8>>,
    window: Semaphore,
    /// The client reads it no more.
    closed: CancellationToken,
}

/// How a session ended.
enum Ended {
    /// The run did.
    Run(Box<Run>),
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
        let streams = Streams { stdout: Box::new(Sink(stdout)), stderr: Box::new(Sink(stderr)), stdin };
        let output = |stream, chunks| Output {
            stream,
            chunks,
            window: Semaphore::new(WINDOW_BYTES as usize),
            closed: CancellationToken::new(),
        };
        let outputs = [output(Stream::Stdout, stdout_chunks), output(Stream::Stderr, stderr_chunks)];
        let over = CancellationToken::new();
        let guard = over.clone().drop_guard();
        Ok((Self { reader, run, over, outputs, input }, streams, guard))
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
        if let Ended::Run(run) = &ended {
            let told = async {
                let _ = to_client.send(FromServer::End(end(run))).await;
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
        let Self { mut reader, run, over, outputs: [mut stdout, mut stderr], input } = self;
        let (inflow, waiting) = inflow();
        let (windows, closed) =
            ([&stdout.window, &stderr.window], [stdout.closed.clone(), stderr.closed.clone()]);
        let api = reader.api();
        let heard = heard(&api, read, inflow, windows, closed, left);
        let fed = fed(waiting, input, to_client);
        let shown = async {
            tokio::join!(
                shown(stdout.stream, &mut stdout.chunks, &stdout.window, &stdout.closed, to_client),
                shown(stderr.stream, &mut stderr.chunks, &stderr.window, &stderr.closed, to_client)
            );
        };
        let done = async {
            let run = done(&api, run, &over, to_client).await;
            // Ends that no worker took are closed here.
            left.attachments.withdraw(run.id);
            run
        };
        let finished = async { tokio::join!(shown, done).1 };
        tokio::select! {
            run = finished => Ended::Run(run),
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
    windows: [&Semaphore; 2],
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
                let window = windows[index(stream)];
                // More than was ever sent.
                if window.available_permits().saturating_add(bytes as usize) > WINDOW_BYTES as usize {
                    return;
                }
                window.add_permits(bytes as usize);
            }
            FromClient::Closed(stream) => closed[index(stream)].cancel(),
            FromClient::Alive => {}
        }
    }
}

/// Ends the run. Where the books cannot be asked, its streams close all the same, and its lease runs out.
async fn cancel(api: &Shared, run: RunId, by: Cancellation) {
    if let Err(error) = api.services.queue.cancel(run, by).await {
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

/// Passes one output on, as far as the client takes it. Ends when the task's own end is closed.
async fn shown(
    stream: Stream,
    chunks: &mut mpsc::Receiver<Vec<u8>>,
    window: &Semaphore,
    closed: &CancellationToken,
    to_client: &mpsc::Sender<FromServer>,
) {
    let passing = async {
        while let Some(bytes) = chunks.recv().await {
            let bytes_count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let Ok(room) = window.acquire_many(bytes_count).await else { return };
            room.forget();
            if to_client.send(FromServer::Output(stream, bytes)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = passing => {}
        () = closed.cancelled() => {}
    }
    // What the task writes from here on finds a closed pipe.
    chunks.close();
    while chunks.recv().await.is_some() {}
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
        let waits = run.state == RunState::Queued;
        if said != Some(waits) {
            said = Some(waits);
            let frame = if waits { FromServer::Waiting } else { FromServer::Begun };
            let _ = to_client.send(frame).await;
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

fn end(run: &Run) -> Vec<u8> {
    let said = told::lines(run).into_iter().map(|it| match it {
        told::Said::Note(text) => SaidJson { is_hint: false, text },
        told::Said::Hint(text) => SaidJson { is_hint: true, text },
    });
    let json = EndJson { run: result::of(run), told: said.collect() };
    serde_json::to_vec(&json).unwrap_or_default()
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// An output as a task's pump writes it, on a thread of its own: it waits there while the client does not take it.
struct Sink(mpsc::Sender<Vec<u8>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK_BYTES_MAX);
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(bytes[..count].to_vec()).map_err(gone)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
