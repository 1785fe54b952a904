//! A released sandbox until its command has ended: one loop that takes init's messages, the caller's wishes and the
//! clocks, and one place that decides what each means.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use aegis_init::wire::{EXECS_MAX, Exec, ExitStatus, Reply, Request, StartStep, Stdio, StopCause, Usage};
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::executor::control::{Control, ExecEvent, ExecOrder, ExecStdio};
use crate::executor::disk::Gauge;
use crate::executor::egress::{Due, Egress};
use crate::executor::lease::{Lease, Turn};
use crate::executor::meter::Meter;
use crate::executor::publish::{Publishing, Visitor};
use crate::executor::request::MAIN;
use crate::sandbox::channel::{ChannelError, Received, Receiver, Sender};
use crate::task::escape::escape;
use crate::task::outcome::StartFailure;
use crate::task::{Cancellation, ExitCode, Outcome};

/// Linux: no such file or directory.
const ENOENT: i32 = 2;
/// What the host waits beyond init's own clocks before it ends the container itself.
const HOST_SLACK: Duration = Duration::from_secs(15);

/// Time that init may take for its last answers.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(5);

/// How a released command ended.
#[derive(Debug)]
pub enum MainEnd {
    /// Init told.
    Exited {
        /// How its first process ended.
        status: ExitStatus,
        /// Whether init was stopping it, and why.
        stopped: Option<StopCause>,
        /// What the sandbox had used by then.
        usage: Usage,
    },
    /// Init is gone, or said what it cannot say.
    ConnectionLost(ChannelError),
    /// Every clock has run out and init did not act.
    Overdue,
    /// The run is another's by now, or was let go.
    LeaseOver,
}

/// What the loop works with.
#[derive(Debug)]
pub struct Session<'a, 'b> {
    /// To init.
    pub sender: &'a Sender,
    /// From init.
    pub receiver: &'a mut Receiver,
    /// The caller's wishes.
    pub control: &'a mut mpsc::Receiver<Control>,
    /// Bytes shown, and the limit.
    pub meter: &'a Arc<Meter>,
    /// What tells that a workspace on disk is too large.
    pub disk: Option<&'a Gauge>,
    /// How long the run is held, where it is leased.
    pub lease: Option<&'a mut Lease>,
    /// The way out, where policy has one.
    pub egress: Option<&'a mut Egress<'b>>,
    /// Ports of the task on the host.
    pub publishing: &'a mut Publishing,
    /// The environment of the task's command, the ground of further ones.
    pub environment: &'a [String],
    /// The task's working directory.
    pub workdir: &'a str,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub grace_ms: u64,
    /// Milliseconds that the command may run.
    pub timeout_ms: u64,
    /// Where a resize goes.
    pub master: Option<&'a OwnedFd>,
    /// Who asked for the end; told back to the caller.
    pub cancelled: Option<Cancellation>,
    /// Further commands by their number.
    pub execs: BTreeMap<u32, Further>,
    /// The last number given.
    pub exec_last: u32,
}

/// A further command that was asked for.
#[derive(Debug)]
pub struct Further {
    events: mpsc::Sender<ExecEvent>,
    program: Vec<u8>,
    workdir: String,
}

/// What happened, named and not yet decided.
enum Event {
    Message(Result<Received, ChannelError>),
    Control(Option<Control>),
    LimitPassed,
    Interrupted,
    Egress(Due),
    Visitor(Visitor),
    Lease(Turn),
    Overdue,
}

impl Session<'_, '_> {
    /// Runs until the task's own command has ended.
    pub async fn run(&mut self) -> MainEnd {
        let end = self.until_end().await;
        match end {
            MainEnd::Exited { .. } => self.settle().await.unwrap_or(end),
            MainEnd::ConnectionLost(_) | MainEnd::Overdue | MainEnd::LeaseOver => end,
        }
    }

    /// Takes init's answers that are still on their way, so that what it says next answers what it is asked next.
    async fn settle(&mut self) -> Option<MainEnd> {
        let settled = async {
            while self.egress.as_ref().is_some_and(|it| it.is_awaiting()) || self.publishing.is_awaiting() {
                let end = match self.receiver.receive().await {
                    Ok(received) => self.message(received).await,
                    Err(error) => Some(MainEnd::ConnectionLost(error)),
                };
                if end.is_some() {
                    return end;
                }
            }
            None
        };
        let late = Some(MainEnd::ConnectionLost(ChannelError::NobodyCame { waited: SETTLE_TIME_MAX }));
        tokio::time::timeout(SETTLE_TIME_MAX, settled).await.unwrap_or(late)
    }

    async fn until_end(&mut self) -> MainEnd {
        let overdue = Instant::now() + Duration::from_millis(self.timeout_ms + self.grace_ms) + HOST_SLACK;
        let mut control_open = true;
        loop {
            let meter = self.meter.clone();
            let event = tokio::select! {
                received = self.receiver.receive() => Event::Message(received),
                wish = self.control.recv(), if control_open => Event::Control(wish),
                () = meter.passed.notified() => Event::LimitPassed,
                () = disk_passed(self.disk) => Event::LimitPassed,
                () = meter.interrupted.notified() => Event::Interrupted,
                due = egress_due(self.egress.as_deref_mut()) => Event::Egress(due),
                visitor = self.publishing.visitor() => Event::Visitor(visitor),
                turn = lease_turned(self.lease.as_deref_mut()) => Event::Lease(turn),
                () = tokio::time::sleep_until(overdue) => Event::Overdue,
            };
            let decided = match event {
                Event::Message(Ok(received)) => self.message(received).await,
                Event::Message(Err(error)) => Some(MainEnd::ConnectionLost(error)),
                Event::Control(None) => {
                    control_open = false;
                    None
                }
                Event::Control(Some(wish)) => self.wish(wish).await,
                Event::LimitPassed => self.stop(MAIN, 0).await,
                Event::Interrupted => self.cancel(Cancellation::Interrupt).await,
                Event::Egress(due) => self.attend_egress(due).await,
                Event::Visitor(visitor) => {
                    let request = self.publishing.ask(visitor);
                    self.send(&request).await
                }
                Event::Lease(Turn::Renewed { remaining_ms }) => {
                    self.send(&Request::Lease { remaining_ms }).await
                }
                Event::Lease(Turn::Over) => Some(MainEnd::LeaseOver),
                Event::Overdue => Some(MainEnd::Overdue),
            };
            if let Some(end) = decided {
                return end;
            }
        }
    }

    async fn message(&mut self, received: Received) -> Option<MainEnd> {
        match received.message {
            Reply::Exited { exec: MAIN, status, stopped, usage } => {
                return Some(MainEnd::Exited { status, stopped, usage });
            }
            Reply::Exited { exec, status, stopped, .. } => {
                let event = match stopped {
                    Some(StopCause::Deadline) => ExecEvent::TimedOut,
                    Some(StopCause::Asked) | None => ExecEvent::Exited { exit_code: exit_code(status) },
                };
                self.tell(exec, event);
                self.execs.remove(&exec);
            }
            Reply::Started { exec, .. } => {
                self.tell(exec, ExecEvent::Started(received.descriptors.into_iter().next()));
            }
            Reply::StartFailed { exec, step, errno } => {
                let (exit_code, message) = self.further_failure(exec, step, errno);
                self.tell(exec, ExecEvent::StartFailed { exit_code: exit_code.get(), message });
                self.execs.remove(&exec);
            }
            Reply::Listening { .. } => return self.listening(received).await,
            Reply::Dialled { .. } if self.publishing.dialled(received) => {}
            // Nothing else was asked for; an init that says it is not ours any more, and its sandbox ends with it.
            _ => return Some(unasked()),
        }
        None
    }

    async fn listening(&mut self, received: Received) -> Option<MainEnd> {
        let taken = match self.egress.as_deref_mut() {
            Some(egress) => egress.answered(received).await,
            None => false,
        };
        if taken { None } else { Some(unasked()) }
    }

    async fn attend_egress(&mut self, due: Due) -> Option<MainEnd> {
        let egress = self.egress.as_deref_mut()?;
        egress.attend(due, self.sender).await.err().map(MainEnd::ConnectionLost)
    }

    async fn wish(&mut self, wish: Control) -> Option<MainEnd> {
        match wish {
            Control::Cancel(by) => self.cancel(by).await,
            Control::Resize { rows, columns } => {
                if let Some(master) = self.master {
                    let size = rustix::termios::Winsize {
                        ws_row: rows,
                        ws_col: columns,
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    // A terminal that is gone has no size.
                    let _ = rustix::termios::tcsetwinsize(master, size);
                }
                None
            }
            Control::Exec(order) => self.exec(*order).await,
            Control::EndExec { exec } if self.execs.contains_key(&exec) => {
                self.stop(exec, self.grace_ms).await
            }
            Control::EndExec { .. } => None,
        }
    }

    /// The first request gives the task its grace period, every further one kills.
    async fn cancel(&mut self, by: Cancellation) -> Option<MainEnd> {
        let grace_ms = if self.cancelled.is_some() { 0 } else { self.grace_ms };
        self.cancelled.get_or_insert(by);
        self.stop(MAIN, grace_ms).await
    }

    async fn stop(&self, exec: u32, grace_ms: u64) -> Option<MainEnd> {
        self.send(&Request::Stop { exec, grace_ms }).await
    }

    async fn send(&self, request: &Request) -> Option<MainEnd> {
        self.sender.send(request, &[]).await.err().map(MainEnd::ConnectionLost)
    }

    fn further_failure(&self, exec: u32, step: StartStep, errno: i32) -> (ExitCode, String) {
        match self.execs.get(&exec) {
            Some(Further { program, workdir, .. }) => start_failure(program, workdir, step, errno),
            None => start_failure(b"", self.workdir, step, errno),
        }
    }

    fn tell(&self, exec: u32, event: ExecEvent) {
        if let Some(Further { events, .. }) = self.execs.get(&exec) {
            // A command has at most three events, and the channel room for them; a caller that is gone does not need
            // to know.
            let _ = events.try_send(event);
        }
    }

    async fn exec(&mut self, order: ExecOrder) -> Option<MainEnd> {
        if self.execs.len() + 1 >= EXECS_MAX {
            let _ = order
                .taken
                .send(Err("as many commands as may run in one sandbox are running: end one first"));
            return None;
        }
        self.exec_last += 1;
        let id = self.exec_last;
        let (stdio, descriptors) = match &order.stdio {
            ExecStdio::Pipes(ends) => (Stdio::Pipes, ends.iter().map(AsFd::as_fd).collect()),
            ExecStdio::Terminal { rows, columns } => {
                (Stdio::Terminal { rows: *rows, columns: *columns }, Vec::new())
            }
        };
        let program = order.argv.first().cloned().unwrap_or_default();
        let workdir = order.workdir.clone().unwrap_or_else(|| self.workdir.to_owned());
        let request = Request::Exec(Exec {
            id,
            argv: order.argv.iter().map(|it| ByteBuf::from(it.clone())).collect(),
            env: self.environment_with(&order.environment, stdio),
            cwd: ByteBuf::from(workdir.as_bytes()),
            stdio,
            timeout_ms: order.timeout_ms,
            grace_ms: self.grace_ms,
        });
        if let Err(error) = self.sender.send(&request, &descriptors).await {
            let _ = order.taken.send(Err("the sandbox is gone"));
            return Some(MainEnd::ConnectionLost(error));
        }
        self.execs.insert(id, Further { events: order.events, program, workdir });
        let _ = order.taken.send(Ok(id));
        None
    }

    fn environment_with(&self, given: &[(String, String)], stdio: Stdio) -> Vec<ByteBuf> {
        let mut variables: Vec<String> = self.environment.to_vec();
        let mut given = given.to_vec();
        if matches!(stdio, Stdio::Terminal { .. }) && !given.iter().any(|(name, _)| name == "TERM") {
            given.push(("TERM".to_owned(), crate::executor::request::TERM_DEFAULT.to_owned()));
        }
        for (name, value) in &given {
            let prefix = format!("{name}=");
            variables.retain(|it| !it.starts_with(&prefix));
            variables.push(format!("{name}={value}"));
        }
        variables.into_iter().map(|it| ByteBuf::from(it.into_bytes())).collect()
    }
}

/// Init said what nobody asked for.
fn unasked() -> MainEnd {
    MainEnd::ConnectionLost(ChannelError::Frame(aegis_init::frame::FrameError::Payload))
}

/// What is to be done about the way out; never anything where there is none.
async fn egress_due(egress: Option<&mut Egress<'_>>) -> Due {
    match egress {
        Some(egress) => egress.due().await,
        None => std::future::pending().await,
    }
}

/// Waits for a lease to be renewed or over; for ever where there is none.
async fn lease_turned(lease: Option<&mut Lease>) -> Turn {
    match lease {
        Some(lease) => lease.turned().await,
        None => std::future::pending().await,
    }
}

/// Waits for the watchdog of a workspace on disk; for ever where there is none.
async fn disk_passed(disk: Option<&Gauge>) {
    match disk {
        Some(gauge) => gauge.passed.notified().await,
        None => std::future::pending().await,
    }
}

/// The exit status that tells how a process ended.
fn exit_code(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Code(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        ExitStatus::Signal(signal) => 128u8.saturating_add(u8::try_from(signal).unwrap_or(127)),
    }
}

/// A failed start, as exit status and words.
fn start_failure(program: &[u8], workdir: &str, step: StartStep, errno: i32) -> (ExitCode, String) {
    let (program, workdir) = (escape(program), escape(workdir.as_bytes()));
    let cause = std::io::Error::from_raw_os_error(errno);
    match step {
        StartStep::Execute if errno == ENOENT => {
            (ExitCode::NOT_FOUND, format!("the image has no program `{program}`"))
        }
        StartStep::Execute => (ExitCode::NOT_EXECUTABLE, format!("`{program}` cannot be executed: {cause}")),
        StartStep::WorkDir => {
            (ExitCode::AEGIS, format!("the working directory `{workdir}` cannot be entered: {cause}"))
        }
        StartStep::Request => (ExitCode::AEGIS, format!("init did not take the command: {cause}")),
        StartStep::Terminal => {
            (ExitCode::AEGIS, format!("no terminal could be made in the sandbox: {cause}"))
        }
        StartStep::Fork => (ExitCode::AEGIS, format!("the sandbox could not fork: {cause}")),
        StartStep::Confine => (ExitCode::AEGIS, format!("the command could not be confined: {cause}")),
    }
}

/// The outcome of a task whose own command could not be started.
pub fn not_started(program: &[u8], workdir: &str, step: StartStep, errno: i32) -> Outcome {
    let (_, message) = start_failure(program, workdir, step, errno);
    let cause = std::io::Error::from_raw_os_error(errno).to_string();
    let program = String::from_utf8_lossy(program).into_owned();
    let reason = match step {
        StartStep::Execute if errno == ENOENT => StartFailure::NotFound { program },
        StartStep::Execute => StartFailure::NotExecutable { program, cause },
        StartStep::Request
        | StartStep::Terminal
        | StartStep::Fork
        | StartStep::Confine
        | StartStep::WorkDir => StartFailure::Infrastructure { message },
    };
    Outcome::StartFailed { reason }
}
