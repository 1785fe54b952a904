//! One attempt, whole: a proven sandbox, the workspace in, the command, the outputs out, the end.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_init::wire::{Reply, Request, Stdio, Usage};
use tokio::sync::mpsc;

use crate::container::{Engine, ImageFacts};
use crate::executor::changes_out::{ChangesOut, changes_out};
use crate::executor::control::{self, Control};
use crate::executor::disk::{Seen, Watch, Watched};
use crate::executor::egress::Egress;
use crate::executor::exposure::{self, Scanner};
use crate::executor::lease::Lease;
use crate::executor::ledger::Ledger;
use crate::executor::meter::Meter;
use crate::executor::outputs_out::{COLLECT_TIME_MAX, Taker, collect};
use crate::executor::publish::{Listening, Publishing};
use crate::executor::request::{self, MAIN};
use crate::executor::secrets_in::{Secrets, files_in, variables_in};
use crate::executor::session::{self, MainEnd, Session};
use crate::executor::starting::{self, Created, NotStanding, Place, Standing, Timings};
use crate::executor::streams::{self, HostEnds, Kept, Pumps, Sinks};
use crate::executor::unreleased::{Unreleased, io_failed, unexpected};
use crate::executor::verdict::{self, Ended};
use crate::executor::waiting::Waiting;
use crate::executor::workspace_in::{self, Content, Feed, send_workspace};
use crate::fault::{self, Point};
use crate::gateway::link::{Link, LinkError};
use crate::gateway::wire::Begin;
use crate::policy::Admitted;
use crate::record::{End, Fence, OutputCounts, Phase, Record, RecordError, Transition, now_ms};
use crate::sandbox::channel::{ChannelError, Receiver};
use crate::sandbox::container_spec::{INODES_LARGE, WORKSPACE};
use crate::sandbox::disk_use::Amounts;
use crate::sandbox::layers::Layers;
use crate::sandbox::outputs::Extractor;
use crate::sandbox::workspace::{self, snapshot::Messages};
use crate::task::causes::told;
use crate::task::outcome::LostReason;
use crate::task::{Outcome, TaskSpec, TimeLimit};

/// Time that init may take to start a command.
const RELEASE_TIME_MAX: Duration = Duration::from_secs(30);
/// Time that init may take to end everything.
const END_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a sandbox whose command has ended may be without a renewed lease: what comes out is bounded by less, and nothing
/// of the task runs any more.
const OUT_LEASE_MS: u64 = starting::LIFETIME_SLACK_MS;

/// Everything that one attempt needs.
pub struct Attempt<'a> {
    /// Where this host keeps what a sandbox needs.
    pub place: &'a Place,
    /// What is to be run.
    pub task: &'a TaskSpec,
    /// What it may do, judged.
    pub admitted: &'a Admitted,
    /// The image, looked up.
    pub image: &'a ImageFacts,
    /// What is copied in.
    pub workspace: Option<(workspace::Plan, Feed)>,
    /// What is sent in its place, where a client made it.
    pub messages: Option<Messages>,
    /// A sandbox that was made ahead; without one, one is made.
    pub warm: Option<Waiting>,
    /// How long the run is held, where it is leased.
    pub lease: Option<Lease>,
    /// Where the streams lead to.
    pub sinks: Sinks,
    /// What is put inside, and what is kept out of everything that comes out.
    pub secrets: Secrets,
    /// Pipes or a terminal.
    pub stdio: Stdio,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub grace_ms: u64,
    /// Takes the outputs; `None` where none are declared.
    pub outputs: Option<Extractor>,
    /// Takes what the task changed in its workspace; `None` where nobody wants it.
    pub changes: Option<ChangesOut>,
    /// The caller's wishes.
    pub control: mpsc::Receiver<Control>,
    /// When the whole began, for the total.
    pub begun: Instant,
    /// Told of each phase as it begins, for people who wait.
    pub progress: &'a (dyn Fn(Phase) + Sync),
    /// What its gateway is told; `None` where policy has no way out.
    pub egress: Option<Begin>,
    /// Ports of the host that lead to ports of the task.
    pub listening: Listening,
    /// Told what a person should know of the way out, a line each.
    pub tell: &'a (dyn Fn(&str) + Sync),
}

/// Runs the attempt and records its end. `Err` means that the books could not be kept.
///
/// `accepted` is what must be on record before anything starts: the container is made meanwhile, and removed if it fails.
pub async fn run_attempt<E: Engine, R: Record>(
    engine: &E,
    record: &R,
    accepted: impl Future<Output = Result<(Fence, Transition), RecordError>>,
    mut attempt: Attempt<'_>,
) -> Result<End, RecordError> {
    let mut timings = Timings::since(attempt.begun);
    timings.ended(Phase::Admission);
    (attempt.progress)(Phase::Start);
    // Reading and the engine's work go on at the same time; nothing is sent before the sandbox is proven.
    let content = match (attempt.workspace.take(), attempt.messages.take()) {
        (Some((plan, feed)), _) => Some(workspace_in::read(plan, feed)),
        (None, Some(messages)) => Some(workspace_in::uploaded(messages)),
        (None, None) => None,
    };
    let gateway = start_gateway(attempt.egress.take());
    let warm = attempt.warm.take();
    let make = make(engine, (attempt.place, attempt.admitted, attempt.image), warm);
    let (accepted, made, gateway) = tokio::join!(accepted, make, gateway);
    timings.ended(Phase::Create);
    let (fence, made) = match (accepted, made) {
        (Ok((fence, Transition::Applied)), made) => (fence, made),
        (Ok((fence, Transition::Superseded)), Ok(unused)) => {
            starting::discard(engine, unused.container()).await;
            (fence, Err(starting::superseded()))
        }
        (Ok((fence, Transition::Superseded)), Err(_)) => (fence, Err(starting::superseded())),
        (Err(error), Ok(unused)) => {
            starting::discard(engine, unused.container()).await;
            return Err(error);
        }
        (Err(error), Err(_)) => return Err(error),
    };
    let (made, gateway) = match (made, gateway) {
        (Ok(unused), Some(Err(error))) => {
            starting::discard(engine, unused.container()).await;
            (Err(starting::ungated(&error)), None)
        }
        (made, gateway) => (made, gateway.and_then(Result::ok)),
    };
    let standing = match made {
        Ok(made) => bound(engine, record, fence, attempt.admitted, made, &mut timings).await,
        Err(not) => Err(not),
    };
    let (mut end, attestation) = match standing {
        Ok(mut standing) => {
            let sandbox = (&mut standing, content, gateway);
            let end = in_sandbox(engine, record, fence, &mut attempt, sandbox, &mut timings).await?;
            (end, None)
        }
        Err(NotStanding::Ended { outcome, attestation }) => (End::bare(outcome), attestation),
        Err(NotStanding::Books(error)) => return Err(error),
    };
    end.timings = timings.total();
    exposure::redact(&mut end, &attempt.secrets.redactor);
    match record.finish(fence, &end, attestation.as_deref(), now_ms()).await? {
        Transition::Applied => {}
        Transition::Superseded => end.outcome = Outcome::Lost { reason: LostReason::Owner },
    }
    Ok(end)
}

/// A sandbox that is not bound to its run yet.
enum Made {
    /// Made now, and to be proven.
    Cold(Box<Created>),
    /// Proven ahead, and looked at again.
    Warm(Box<Standing>),
}

impl Made {
    fn container(&self) -> &str {
        match self {
            Self::Cold(created) => created.container(),
            Self::Warm(standing) => &standing.container,
        }
    }
}

/// Takes the sandbox that waits, if nothing speaks against it; else makes one.
async fn make<E: Engine>(
    engine: &E,
    (place, admitted, image): (&Place, &Admitted, &ImageFacts),
    warm: Option<Waiting>,
) -> Result<Made, NotStanding> {
    if let Some(waiting) = warm {
        match waiting.wake(engine, starting::lifetime_ms(admitted)).await {
            Ok(standing) => return Ok(Made::Warm(Box::new(standing))),
            Err(doubt) => tracing::warn!(%doubt, "a warm sandbox was destroyed: {doubt}"),
        }
    }
    let created = starting::create(engine, place, admitted, image).await?;
    Ok(Made::Cold(Box::new(created)))
}

/// Binds a sandbox to its run, and proves it if it was not yet.
async fn bound<E: Engine, R: Record>(
    engine: &E,
    record: &R,
    fence: Fence,
    admitted: &Admitted,
    made: Made,
    timings: &mut Timings,
) -> Result<Standing, NotStanding> {
    let (standing, bound) = match made {
        Made::Warm(standing) => {
            let bound = record.bind(fence, &standing.bound(), now_ms()).await;
            (Ok(*standing), bound)
        }
        Made::Cold(created) => {
            let slot = created.bound();
            let proven = starting::prove(engine, *created, starting::lifetime_ms(admitted), timings);
            tokio::join!(proven, record.bind(fence, &slot, now_ms()))
        }
    };
    let (standing, not) = match (standing, bound) {
        (standing, Ok(Transition::Applied)) => return standing,
        (standing, Ok(Transition::Superseded)) => (standing, starting::superseded()),
        (standing, Err(error)) => (standing, error.into()),
    };
    // What was not proven is destroyed already.
    match standing {
        Ok(standing) => Err(starting::destroyed(engine, &standing.container, not).await),
        Err(_) => Err(not),
    }
}

/// Everything inside a proven sandbox. Whatever happens, the container is ended before this returns or ends by itself
/// when the connection closes.
async fn in_sandbox<E: Engine, R: Record>(
    engine: &E,
    record: &R,
    fence: Fence,
    attempt: &mut Attempt<'_>,
    (standing, content, gateway): (&mut Standing, Option<Content>, Option<Link>),
    timings: &mut Timings,
) -> Result<End, RecordError> {
    let meter = Arc::new(Meter::new(attempt.admitted.policy().resources.output_bytes));
    let tap = attempt.sinks.tap.clone();
    let ledger = Ledger::new(fence.run, record, attempt.tell, attempt.secrets.redactor.clone());
    let mut egress = gateway.map(|link| Egress::new(link, ledger));
    let way = (&mut *standing, content, egress.as_mut());
    let mut end = match released(record, fence, attempt, way, timings, &meter).await {
        Ok(released) => {
            let way = (standing, egress.as_mut());
            run_to_end(engine, record, fence, attempt, way, released, timings, &meter).await?
        }
        Err(Unreleased::Outcome(outcome)) => {
            destroy(engine, standing).await;
            End::bare(outcome)
        }
        Err(Unreleased::Lost(error)) => {
            let outcome = lost(engine, standing, &error).await;
            End::bare(outcome)
        }
        Err(Unreleased::Books(error)) => {
            destroy(engine, standing).await;
            return Err(error);
        }
    };
    if let Some(egress) = egress {
        end.network = Some(egress.finish().await?);
    }
    let (stdout_bytes, stderr_bytes) = meter.shown();
    end.output = OutputCounts {
        stdout_bytes,
        stderr_bytes,
        log_truncated: tap.ended() == Kept::Truncated || meter.exceeded(),
    };
    Ok(end)
}

/// Starts the gateway of a run that has a way out.
async fn start_gateway(begin: Option<Begin>) -> Option<Result<Link, LinkError>> {
    match begin {
        Some(begin) => Some(Link::start(begin).await),
        None => None,
    }
}

/// A task that runs.
struct Released {
    at: Instant,
    pumps: Pumps,
    master: Option<OwnedFd>,
    environment: Vec<String>,
}

async fn released<R: Record>(
    record: &R,
    fence: Fence,
    attempt: &mut Attempt<'_>,
    (standing, content, egress): (&mut Standing, Option<Content>, Option<&mut Egress<'_>>),
    timings: &mut Timings,
    meter: &Arc<Meter>,
) -> Result<Released, Unreleased> {
    if let Some(content) = content {
        (attempt.progress)(Phase::Workspace);
        tokio::select! {
            sent = send_workspace(content, standing) => {
                let base = sent?;
                if let Some(changes) = &mut attempt.changes {
                    changes.given(base, attempt.place, standing).await?;
                }
            }
            by = control::cancelled(&mut attempt.control) => return Err(Unreleased::Outcome(Outcome::Cancelled(by))),
            () = lease_over(attempt.lease.as_mut()) => return Err(let_go()),
        }
    }
    if let Some(by) = control::cancelled_already(&mut attempt.control) {
        return Err(Unreleased::Outcome(Outcome::Cancelled(by)));
    }
    timings.ended(Phase::Workspace);
    if let Some(egress) = egress {
        egress.open(&standing.sender, &mut standing.receiver).await?;
    }
    let mut sinks = std::mem::replace(&mut attempt.sinks, Sinks::nowhere());
    sinks.redactor = attempt.secrets.redactor.clone();
    if attempt.lease.as_ref().is_some_and(|it| it.remaining_ms() == 0) {
        return Err(let_go());
    }
    if record.release(fence, &standing.attestation, now_ms()).await? == Transition::Superseded {
        return Err(let_go());
    }
    fault::reach(Point::Released);
    let (ends, host) = match attempt.stdio {
        Stdio::Pipes => {
            let (child, host) = streams::pipes(sinks.stdin.is_some()).map_err(|it| io_failed(&it.into()))?;
            (Some(child), Some(host))
        }
        Stdio::Terminal { .. } => (None, None),
    };
    let mut environment =
        request::environment(attempt.image, attempt.task, attempt.stdio, &attempt.place.variables);
    variables_in(&attempt.secrets.given, &mut environment)?;
    files_in(&attempt.secrets.given, standing).await?;
    // Inside it is; here it is needed no more.
    attempt.secrets.given.clear();
    let timeout_ms = attempt.admitted.policy().resources.wall_time_ms;
    let exec = request::main_command(attempt.task, &environment, attempt.stdio, timeout_ms, attempt.grace_ms);
    if let Some(lease) = &attempt.lease {
        // Told before there is anything that could outlive it. Nothing left is an end at once.
        standing.sender.send(&Request::Lease { remaining_ms: lease.remaining_ms() }, &[]).await?;
    }
    let at = Instant::now();
    {
        let descriptors: Vec<_> =
            ends.iter().flat_map(|it| [it.stdin.as_fd(), it.stdout.as_fd(), it.stderr.as_fd()]).collect();
        standing.sender.send(&Request::Exec(exec), &descriptors).await?;
    }
    // From here on the child's ends are the sandbox's alone: the end of the sandbox is the end of the pipes.
    drop(ends);
    let master = started(&mut standing.receiver, attempt.task).await?;
    fault::reach(Point::Started);
    let (pumps, master) = start_pumps(host, master, sinks, meter).map_err(|it| io_failed(&it))?;
    timings.ended(Phase::Release);
    Ok(Released { at, pumps, master, environment })
}

fn start_pumps(
    host: Option<HostEnds>,
    master: Option<OwnedFd>,
    sinks: Sinks,
    meter: &Arc<Meter>,
) -> std::io::Result<(Pumps, Option<OwnedFd>)> {
    match (host, master) {
        (Some(host), _) => Ok((Pumps::start(host, sinks, meter)?, None)),
        (None, Some(master)) => {
            let resized = master.try_clone()?;
            Ok((Pumps::start_terminal(master, sinks, meter)?, Some(resized)))
        }
        (None, None) => Err(std::io::Error::other("init gave no terminal")),
    }
}

/// The run is another's by now.
fn let_go() -> Unreleased {
    Unreleased::Outcome(Outcome::Lost { reason: LostReason::Owner })
}

/// Waits for the end of a lease; for ever where there is none.
async fn lease_over(lease: Option<&mut Lease>) {
    match lease {
        Some(lease) => lease.over().await,
        None => std::future::pending().await,
    }
}

/// Waits for the command's start.
async fn started(receiver: &mut Receiver, task: &TaskSpec) -> Result<Option<OwnedFd>, Unreleased> {
    let received = tokio::time::timeout(RELEASE_TIME_MAX, receiver.receive()).await;
    let received = received.map_err(|_| ChannelError::NobodyCame { waited: RELEASE_TIME_MAX })??;
    let program = task.command.first().map(Vec::as_slice).unwrap_or_default();
    let workdir = task.workdir.as_deref().unwrap_or(WORKSPACE);
    match received.message {
        Reply::Started { exec: MAIN, .. } => {
            Ok(received.descriptors.into_iter().next().filter(|it| rustix::termios::isatty(it)))
        }
        Reply::StartFailed { exec: MAIN, step, errno } => {
            Err(Unreleased::Outcome(session::not_started(program, workdir, step, errno)))
        }
        _ => Err(Unreleased::Lost(unexpected())),
    }
}

/// From the released command to the end of the sandbox.
#[allow(clippy::too_many_arguments, reason = "one attempt's whole state; splitting it would only rename it")]
async fn run_to_end<E: Engine, R: Record>(
    engine: &E,
    record: &R,
    fence: Fence,
    attempt: &mut Attempt<'_>,
    (standing, egress): (&mut Standing, Option<&mut Egress<'_>>),
    released: Released,
    timings: &mut Timings,
    meter: &Arc<Meter>,
) -> Result<End, RecordError> {
    (attempt.progress)(Phase::Run);
    let watch = standing.layers.as_ref().map(|it| watch(it, standing.init, attempt));
    let gauge = watch.as_ref().map(Watch::gauge);
    let mut publishing = Publishing::start(std::mem::take(&mut attempt.listening));
    let mut session = Session {
        sender: &standing.sender,
        receiver: &mut standing.receiver,
        control: &mut attempt.control,
        meter,
        disk: gauge.as_deref(),
        lease: attempt.lease.as_mut(),
        egress,
        publishing: &mut publishing,
        environment: &released.environment,
        workdir: attempt.task.workdir.as_deref().unwrap_or(WORKSPACE),
        grace_ms: attempt.grace_ms,
        timeout_ms: attempt.admitted.policy().resources.wall_time_ms,
        master: released.master.as_ref(),
        cancelled: None,
        execs: std::collections::BTreeMap::new(),
        exec_last: MAIN,
    };
    let main = session.run().await;
    let cancelled = session.cancelled;
    let disk = match watch {
        Some(watch) => watch.finish().await,
        None => Seen::default(),
    };
    timings.ended(Phase::Run);
    let mut end = End::bare(Outcome::Exited(0));
    let exited = match main {
        MainEnd::Exited { status, stopped, usage } => {
            fault::reach(Point::Ended);
            let finishing = record.finishing(fence, now_ms()).await;
            let last = collect_and_end(attempt, standing, &mut end, timings).await;
            // A lost race is told by the last transition.
            let _: Transition = finishing?;
            Some((status, stopped, merged(usage, last), meter.exceeded()))
        }
        MainEnd::ConnectionLost(error) => {
            end.outcome = lost(engine, standing, &error).await;
            None
        }
        MainEnd::Overdue => {
            end.outcome = Outcome::TimedOut(TimeLimit::Wall);
            None
        }
        MainEnd::LeaseOver => {
            end.outcome = Outcome::Lost { reason: LostReason::Owner };
            None
        }
    };
    destroy_unless_ended(engine, standing, exited.is_some()).await;
    // The sandbox is gone, so the pipes end; what is left in them is still shown.
    end.redactions = released.pumps.finish().await;
    if let Some(first) = meter.first() {
        timings.took(Phase::FirstOutput, first.saturating_duration_since(released.at));
    }
    if let Some((status, stopped, usage, exceeded_before)) = exited {
        // It may be what passes the limit; a task that was ended for another reason has that one.
        let output_exceeded = exceeded_before || (stopped.is_none() && meter.exceeded());
        let watched = &standing.watched;
        let disk_limit = disk.passed;
        let ended = Ended { status, stopped, usage: &usage, watched, output_exceeded, disk_limit, cancelled };
        end.outcome = verdict::verdict(&ended);
        end.full_mounts = verdict::full_mounts(&ended).collect();
        let mut usage: crate::record::Usage = usage.into();
        usage.written_bytes_peak = usage.written_bytes_peak.saturating_add(disk.bytes_peak);
        end.usage = Some(usage);
    }
    timings.ended(Phase::Removal);
    Ok(end)
}

/// The watchdog of a workspace on disk.
fn watch(layers: &Layers, init: Option<i32>, attempt: &Attempt<'_>) -> Watch {
    let files = &attempt.admitted.policy().filesystem;
    let limit =
        Amounts { bytes: files.workspace_bytes, entries: files.workspace_files.saturating_add(INODES_LARGE) };
    let below_bytes = attempt.place.base.as_ref().map_or(0, |it| it.bytes);
    Watch::start(Watched { upper: layers.upper(), init, below_bytes, limit })
}

/// Collects what was declared and ends the sandbox. Gives the last usage, where init still told it.
async fn collect_and_end(
    attempt: &mut Attempt<'_>,
    standing: &mut Standing,
    end: &mut End,
    timings: &mut Timings,
) -> Option<Usage> {
    if attempt.lease.is_some() {
        // Each of the following kills what is left of the task before it does anything else. A sandbox that is gone says
        // so at the next message.
        let _ = standing.sender.send(&Request::Lease { remaining_ms: OUT_LEASE_MS }, &[]).await;
    }
    let redactor = &attempt.secrets.redactor;
    if let Some(extractor) = attempt.outputs.take() {
        (attempt.progress)(Phase::Outputs);
        let limits = &attempt.admitted.policy().outputs;
        let mut taker = Taker::new(extractor, Scanner::new(redactor), limits.secrets);
        let collected =
            tokio::time::timeout(COLLECT_TIME_MAX, collect(attempt.task, limits, standing, &mut taker)).await;
        let (done, failed) = match collected {
            Ok(Ok(done)) => (Some(done), None),
            Ok(Err(message)) => (None, Some(message)),
            Err(_) => (None, Some("the collection took too long".to_owned())),
        };
        taker.finish(done, failed, attempt.task, end);
    }
    if let Some(changes) = attempt.changes.take() {
        (attempt.progress)(Phase::Outputs);
        let scanner = Scanner::new(redactor);
        let (counts, exposures) = changes_out(changes, attempt.place, standing, scanner).await;
        end.changes = Some(counts);
        end.exposures.extend(exposures);
    }
    timings.ended(Phase::Outputs);
    standing.sender.send(&Request::End, &[]).await.ok()?;
    tokio::time::timeout(END_TIME_MAX, goodbye(&mut standing.receiver)).await.ok().flatten()
}

/// Waits for the last message. Further commands that end with the sandbox, and leftovers of a collection that was given
/// up, come before it.
async fn goodbye(receiver: &mut Receiver) -> Option<Usage> {
    loop {
        if let Reply::Bye { usage } = receiver.receive().await.ok()?.message {
            return Some(usage);
        }
    }
}

/// The later of two tellings, which counts what the first could not see yet.
fn merged(first: Usage, last: Option<Usage>) -> Usage {
    match last {
        None => first,
        Some(last) => {
            Usage { wall_us: first.wall_us, full_mounts: first.full_mounts | last.full_mounts, ..last }
        }
    }
}

/// What it means that init is gone while nobody had asked it to.
async fn lost<E: Engine>(engine: &E, standing: &Standing, error: &ChannelError) -> Outcome {
    let oom = engine.out_of_memory_seen(&standing.container).await;
    destroy(engine, standing).await;
    match oom {
        Ok(true) => Outcome::OutOfMemory,
        Ok(false) => match error {
            ChannelError::Closed => Outcome::Lost { reason: LostReason::InitDied },
            ChannelError::NobodyCame { .. }
            | ChannelError::Stuck
            | ChannelError::Frame(_)
            | ChannelError::Io(_) => Outcome::Lost { reason: LostReason::Engine { message: told(error) } },
        },
        Err(error) => Outcome::Lost { reason: LostReason::Engine { message: told(&error) } },
    }
}

/// A sandbox that said goodbye is removed by the engine; any other is removed here.
async fn destroy_unless_ended<E: Engine>(engine: &E, standing: &Standing, ended: bool) {
    if !ended {
        destroy(engine, standing).await;
    }
}

async fn destroy<E: Engine>(engine: &E, standing: &Standing) {
    if let Err(error) = engine.destroy(&standing.container).await {
        tracing::warn!(container.id = %standing.container, %error, "a container could not be removed; the next sweep will");
    }
}
