//! A run that a server runs, with this process's streams at its other end: what comes is shown, what is typed is sent, and
//! the run ends with this process.

mod changes;
mod outputs;

use std::sync::Arc;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, mpsc};

use crate::api::attach::flow::{Came, FRAMES_MAX, Inflow, Passed, hear, inflow, pass, speak};
use crate::api::attach::frame::{CHUNK_BYTES_MAX, FromClient, FromServer, WINDOW_BYTES};
use crate::api::wire::attach::EndJson;
use crate::app::run::Step;
use crate::app::upload::{Package, package};
use crate::app::{AppError, RunOrder};
use crate::cli::attached::{self, RawTerminal, Stdio};
use crate::cli::client::submit::obstacle;
use crate::cli::client::{By, Client, Offer};
use crate::cli::exec::Unrecorded;
use crate::cli::failure::Failure;
use crate::cli::handed::outputs::Outputs;
use crate::cli::progress::Progress;
use crate::cli::run::SandboxArgs;
use crate::cli::{ending, talk};
use crate::executor::Control;
use crate::executor::control::{self, QUEUE_MAX};
use crate::executor::meter::Meter;
use crate::executor::streams::{ChildEnds, Pumps, pipes};
use crate::record::{Phase, Stream};
use crate::report::result;
use crate::task::ExitCode;

/// Runs an order on the server that was found; `None` where it has to run here.
pub fn run(
    offer: &Offer,
    args: &SandboxArgs,
    order: &RunOrder,
    stdio: Stdio,
) -> Result<Option<ExitCode>, Failure> {
    let runtime = attached::runtime()?;
    // Nobody named this server: whoever it does not take is as if it were not there.
    if offer.by == By::Socket && !runtime.block_on(offer.client.takes_runs()) {
        return Ok(None);
    }
    if let Some(why) = in_the_way(order, offer.by) {
        return here(offer, args, why);
    }
    let package = package(order).map_err(Failure::from)?;
    if let Some(obstacle) = obstacle(order, &package) {
        if offer.by == By::Flag {
            return Err(obstacle.refusal());
        }
        return here(offer, args, obstacle.why);
    }
    let target = ending::Target::open(args.result.as_ref())?;
    let outputs = Outputs::of(order, &package)?;
    let told = stdio != Stdio::Output || args.quiet || attached::tell_if_input_waits();
    let end = runtime.block_on(attend(&offer.client, args, order, (package, outputs), stdio));
    if !told {
        attached::tell_if_input_waits();
    }
    runtime.shutdown_background();
    ending::report_handed(args, end, target).map(Some)
}

/// Says that the run stays here; a server that was asked for by name is not passed over.
fn here(offer: &Offer, args: &SandboxArgs, why: &str) -> Result<Option<ExitCode>, Failure> {
    if offer.by == By::Flag {
        return Err(Failure::usage(why).hint("leave `--server` out, or give the task away: `--detach`"));
    }
    if !args.quiet {
        talk::note(&format!("this runs here, not on the server: {why}"));
    }
    Ok(None)
}

/// What keeps an order here.
fn in_the_way(order: &RunOrder, by: By) -> Option<&'static str> {
    // A server that nobody named gets what needs nothing of this user.
    if by != By::Socket {
        return None;
    }
    match () {
        () if !order.secrets.is_empty() => Some("its secrets are this user's"),
        () if order.policy.as_ref().is_some_and(|it| it.contains('/') || it.ends_with(".toml")) => {
            Some("a policy file may name secrets of this user")
        }
        () => None,
    }
}

async fn attend(
    client: &Client,
    args: &SandboxArgs,
    order: &RunOrder,
    (mut package, outputs): (Package, Option<Outputs>),
    stdio: Stdio,
) -> Result<EndJson, Failure> {
    let progress = Progress::new(args.quiet);
    if let Some(remark) = package.remark.clone() {
        progress.step(&Step::Image(remark));
    }
    let (workspace, given) = (package.summary.clone(), package.given.take());
    if let Some((notes, record)) = &workspace {
        progress.step(&Step::Workspace(notes.clone(), record.clone()));
    }
    let (wishes, mut wished) = mpsc::channel(QUEUE_MAX);
    let attached = async {
        let stream = tokio::select! {
            stream = client.attach(order, package, stdio) => stream?,
            // The connection closes, and the run ends with it.
            by = control::cancelled(&mut wished) => return Err(Failure::from(AppError::Cancelled(by))),
        };
        let raw = match stdio {
            Stdio::Terminal => RawTerminal::enter(),
            Stdio::Output | Stdio::Both => None,
        };
        let end = streamed(stream, &mut wished, stdio, &progress).await;
        drop(raw);
        let mut end = end?;
        if let Some(outputs) = outputs {
            progress.step(&Step::Phase(Phase::Outputs));
            outputs.bring(client, order, &mut wished, &mut end).await;
        }
        if let Some(given) = given {
            changes::bring(client, given, &mut wished, &mut end).await;
        }
        Ok(end)
    };
    let end = tokio::select! {
        end = attached => end,
        () = attached::forward_signals(wishes, stdio) => Err(Failure::new("the signal streams ended")),
    };
    progress.clear();
    // The server was not told where the workspace came from.
    end.map(|mut it| {
        it.run.workspace = workspace.map(|(_, record)| result::workspace(&record));
        it
    })
}

/// Joins the stream with this process's own. Everything is shown when this returns.
async fn streamed(
    stream: Upgraded,
    wished: &mut mpsc::Receiver<Control>,
    stdio: Stdio,
    progress: &Progress,
) -> Result<EndJson, Failure> {
    let sinks = attached::sinks(stdio, Arc::new(Unrecorded)).map_err(Failure::from)?;
    let has_input = sinks.stdin.is_some();
    let (child, host) = pipes(has_input).map_err(|it| Failure::of(&std::io::Error::from(it)))?;
    let pumps = Pumps::start(host, sinks, &Arc::new(Meter::new(u64::MAX))).map_err(|it| Failure::of(&it))?;
    let end = converse(stream, child, has_input, wished, progress).await;
    pumps.finish().await;
    end
}

async fn converse(
    stream: Upgraded,
    child: ChildEnds,
    has_input: bool,
    wished: &mut mpsc::Receiver<Control>,
    progress: &Progress,
) -> Result<EndJson, Failure> {
    let failed = |it: std::io::Error| Failure::of(&it);
    let ChildEnds { stdin, stdout, stderr } = child;
    let stdin = if has_input { Some(pipe::Receiver::from_owned_fd(stdin).map_err(failed)?) } else { None };
    let stdout = pipe::Sender::from_owned_fd(stdout).map_err(failed)?;
    let stderr = pipe::Sender::from_owned_fd(stderr).map_err(failed)?;
    let (mut read, write) = tokio::io::split(TokioIo::new(stream));
    let (to_server, frames) = mpsc::channel(FRAMES_MAX);
    let ((out, from_out), (err, from_err)) = (inflow(), inflow());
    let window = Semaphore::new(WINDOW_BYTES as usize);
    let heard = heard(&mut read, out, err, &window, progress);
    let shown = async {
        tokio::join!(
            shown(Stream::Stdout, from_out, stdout, &to_server),
            shown(Stream::Stderr, from_err, stderr, &to_server)
        )
    };
    // Who hears the end drops the ends of the outputs, so that what came is shown and no more is waited for.
    let all = async { tokio::join!(heard, shown).0 };
    let spoken = async {
        speak(write, frames, FromClient::Alive).await;
        // A connection that broke is heard of, with what came before.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        end = all => end,
        () = spoken => Err(broken()),
        () = typed(stdin, &window, &to_server) => Err(broken()),
        () = wishes(wished, &to_server) => Err(broken()),
    }
}

/// Takes what the server says, to the end of the run.
async fn heard(
    read: &mut ReadHalf<TokioIo<Upgraded>>,
    mut stdout: Inflow,
    mut stderr: Inflow,
    window: &Semaphore,
    progress: &Progress,
) -> Result<EndJson, Failure> {
    while let Some(frame) = hear::<FromServer>(read).await {
        match frame {
            FromServer::Waiting(place) => progress.waiting(place),
            FromServer::Begun => progress.clear(),
            FromServer::Output(stream, bytes) => {
                let into = match stream {
                    Stream::Stdout => &mut stdout,
                    Stream::Stderr => &mut stderr,
                };
                progress.clear();
                if into.take(&bytes) == Came::TooMuch {
                    return Err(Failure::new("the server sent more than it was let"));
                }
            }
            FromServer::Taken(bytes) => {
                if window.available_permits().saturating_add(bytes as usize) <= WINDOW_BYTES as usize {
                    window.add_permits(bytes as usize);
                }
            }
            FromServer::End(json) => {
                return serde_json::from_slice(&json).map_err(|_| {
                    Failure::new("the server's end of the run is not understood: is it of another version?")
                });
            }
            FromServer::Alive => {}
        }
    }
    Err(broken())
}

fn broken() -> Failure {
    Failure::new("the connection to the server broke, and the run ends with it")
        .hint("`aegis logs --server … RUN` shows what it wrote")
}

/// Shows an output; tells the server when nobody reads it any more.
async fn shown(
    stream: Stream,
    from: tokio::io::DuplexStream,
    into: pipe::Sender,
    to_server: &mpsc::Sender<FromClient>,
) {
    let taken = |bytes| FromClient::Taken(stream, bytes);
    if pass(from, into, to_server, taken).await == Passed::Closed {
        let _ = to_server.send(FromClient::Closed(stream)).await;
    }
}

/// Sends what is typed, and its end, as far as the task takes it. Ends with the run only.
async fn typed(stdin: Option<pipe::Receiver>, window: &Semaphore, to_server: &mpsc::Sender<FromClient>) {
    let mut buffer = vec![0; CHUNK_BYTES_MAX];
    if let Some(mut stdin) = stdin {
        loop {
            let Ok(first) = window.acquire().await else { break };
            let room = (1 + window.available_permits()).min(CHUNK_BYTES_MAX);
            let Ok(count @ 1..) = stdin.read(&mut buffer[..room]).await else {
                let _ = to_server.send(FromClient::InputEnd).await;
                break;
            };
            first.forget();
            window.forget_permits(count - 1);
            if to_server.send(FromClient::Input(buffer[..count].to_vec())).await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}

/// Passes this process's signals on. Ends with the run only.
async fn wishes(wished: &mut mpsc::Receiver<Control>, to_server: &mpsc::Sender<FromClient>) {
    while let Some(wish) = wished.recv().await {
        let frame = match wish {
            Control::Cancel(by) => FromClient::Cancel(by),
            Control::Resize { rows, columns } => FromClient::Resize { rows, columns },
            Control::Exec(_) | Control::EndExec { .. } => continue,
        };
        let _ = to_server.send(frame).await;
    }
    std::future::pending().await
}
