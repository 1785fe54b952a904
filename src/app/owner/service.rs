//! The owner's side: one task that accepts, one for each connection, all ended and joined with the run.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::owner::socket_path;
use crate::app::owner::wire::{Ask, Tell};
use crate::executor::control::{Control, ExecEvent, ExecOrder, ExecStdio};
use crate::sandbox::channel::{self, Receiver, Sender};
use crate::sandbox::slot::make_private;
use crate::task::{Cancellation, RunId};

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Events of one command: started, ended, and room.
const EVENTS_MAX: usize = 8;

/// An open door. [`Door::close`] ends and joins everything behind it.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    closing: CancellationToken,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Door {
    /// Opens the door of a run; what is asked there goes to `control`.
    pub fn open(
        runtime_directory: &Path,
        run: RunId,
        control: mpsc::Sender<Control>,
    ) -> std::io::Result<Self> {
        let path = socket_path(runtime_directory, run);
        if let Some(directory) = path.parent() {
            make_private(directory)?;
        }
        // It has its name once it listens: one that nobody listens on is taken for a dead owner's.
        let unnamed = path.with_file_name(format!(".{}", run.short()));
        let listener = UnixListener::bind(&unnamed)?;
        let named = std::fs::set_permissions(&unnamed, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&unnamed, &path));
        if let Err(error) = named {
            let _ = std::fs::remove_file(&unnamed);
            return Err(error);
        }
        let closing = CancellationToken::new();
        let serving = Some(tokio::spawn(serve(listener, control, closing.clone())));
        Ok(Self { path, closing, serving })
    }

    /// Closes the door. Who waited behind it learns of the end by the closed connection.
    pub async fn close(mut self) {
        self.closing.cancel();
        if let Some(serving) = self.serving.take() {
            let _ = serving.await;
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.closing.cancel();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, control: mpsc::Sender<Control>, closing: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            () = closing.cancelled() => break,
        };
        // An accept that fails (a peer that left, no descriptors) is one caller's loss; a full house closes the door on
        // the newcomer, who is told by the closed connection.
        let (Ok((socket, _)), Ok(place)) = (accepted, places.clone().try_acquire_owned()) else {
            continue;
        };
        let control = control.clone();
        let closing = closing.clone();
        connections.spawn(async move {
            tokio::select! {
                () = attend(socket, control) => {}
                () = closing.cancelled() => {}
            }
            drop(place);
        });
    }
    while connections.join_next().await.is_some() {}
}

/// One connection: one question and its answers. A failed send means that the client is gone.
async fn attend(socket: UnixStream, control: mpsc::Sender<Control>) {
    let (sender, mut receiver) = channel::halves::<Tell, Ask>(socket);
    let Ok(received) = receiver.receive().await else {
        return;
    };
    match received.message {
        Ask::Cancel => {
            let answer = match control.send(Control::Cancel(Cancellation::Command)).await {
                Ok(()) => Tell::Taken,
                Err(_) => Tell::Refused("the run has ended".to_owned()),
            };
            let _ = sender.send(&answer, &[]).await;
            gone(&mut receiver).await;
        }
        Ask::Wait => {
            let _ = sender.send(&Tell::Taken, &[]).await;
            gone(&mut receiver).await;
        }
        Ask::Exec { argv, environment, workdir, timeout_ms, terminal } => {
            let Some(stdio) = stdio(terminal, received.descriptors) else {
                let _ = sender.send(&Tell::Refused("three streams are needed".to_owned()), &[]).await;
                return;
            };
            let (events, mut told) = mpsc::channel(EVENTS_MAX);
            let (taken, answer) = oneshot::channel();
            let order = ExecOrder { argv, environment, workdir, timeout_ms, stdio, events, taken };
            if control.send(Control::Exec(Box::new(order))).await.is_err() {
                return;
            }
            let exec = match answer.await {
                Ok(Ok(exec)) => exec,
                Ok(Err(reason)) => {
                    let _ = sender.send(&Tell::Refused(reason.to_owned()), &[]).await;
                    return;
                }
                Err(_) => return,
            };
            if relay(&sender, &mut receiver, &mut told).await == Relayed::ClientGone {
                let _ = control.send(Control::EndExec { exec }).await;
            }
        }
    }
}

fn stdio(terminal: Option<(u16, u16)>, descriptors: Vec<OwnedFd>) -> Option<ExecStdio> {
    match terminal {
        Some((rows, columns)) => Some(ExecStdio::Terminal { rows, columns }),
        None => <[OwnedFd; 3]>::try_from(descriptors).ok().map(ExecStdio::Pipes),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Relayed {
    Ended,
    ClientGone,
}

/// Tells a command's life until it ends or its client is gone.
async fn relay(
    sender: &Sender<Tell>,
    receiver: &mut Receiver<Ask>,
    told: &mut mpsc::Receiver<ExecEvent>,
) -> Relayed {
    loop {
        let event = tokio::select! {
            event = told.recv() => event,
            () = gone(receiver) => return Relayed::ClientGone,
        };
        let sent = match event {
            None => return Relayed::Ended,
            Some(ExecEvent::Started(master)) => {
                let descriptors: Vec<_> = master.iter().map(AsFd::as_fd).collect();
                sender.send(&Tell::Started, &descriptors).await
            }
            Some(ExecEvent::StartFailed { exit_code, message }) => {
                let _ = sender.send(&Tell::StartFailed { exit_code, message }, &[]).await;
                return Relayed::Ended;
            }
            Some(ExecEvent::Exited { exit_code }) => {
                let _ = sender.send(&Tell::Exited { exit_code }, &[]).await;
                return Relayed::Ended;
            }
            Some(ExecEvent::TimedOut) => {
                let _ = sender.send(&Tell::TimedOut, &[]).await;
                return Relayed::Ended;
            }
        };
        if sent.is_err() {
            return Relayed::ClientGone;
        }
    }
}

/// Returns when the client closes its end, or says what it may not.
async fn gone(receiver: &mut Receiver<Ask>) {
    let _ = receiver.receive().await;
}
