//! From nothing to a proven sandbox: slot, container, init's report, comparison. Nothing of the task is in it yet.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aegis_init::wire::{self, Reply, Request};

use tokio_util::sync::CancellationToken;

use crate::container::{ContainerSpec, Engine, EngineError, ImageFacts, WorkspaceVolume};
use crate::executor::disk::has_room;
use crate::fault::{self, Point};
use crate::gateway::link::LinkError;
use crate::policy::{Admitted, WorkspaceMedium};
use crate::record::{Phase, RecordError};
use crate::sandbox::attestation::json::AttestationReport;
use crate::sandbox::attestation::outside::{self, OutsideView};
use crate::sandbox::attestation::{self, Difference, Expectation};
use crate::sandbox::channel::{self, ChannelError, Receiver, Sender};
use crate::sandbox::container_spec::{self, Shape};
use crate::sandbox::layers::Layers;
use crate::sandbox::masks;
use crate::sandbox::seccomp::{Filter, Profile};
use crate::sandbox::slot::{Slot, SlotError};
use crate::sandbox::trust::Authorities;
use crate::sandbox::workspace::snapshot::Base;
use crate::task::Outcome;
use crate::task::causes::causes;
use crate::task::outcome::{LostReason, StartFailure};

/// Time that init may take to come once the engine says that it has started; the call itself has its own bound.
const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(10);
/// Time that init may take for its report.
const REPORT_TIME_MAX: Duration = Duration::from_secs(10);
/// What init lives longer than the task's wall time at the most: workspace in, grace, outputs out.
pub(super) const LIFETIME_SLACK_MS: u64 = 15 * 60 * 1000;

/// Where this host keeps what a sandbox needs.
#[derive(Debug)]
pub struct Place {
    /// The instance's runtime directory, 0700.
    pub runtime_directory: PathBuf,
    /// What workspaces on disk lie in; `None` where the policy has none there.
    pub work_directory: Option<PathBuf>,
    /// The snapshot that lies below the workspace.
    pub base: Option<Base>,
    /// The instance's id.
    pub instance: String,
    /// Open files that this host grants at the most.
    pub nofile_max: u64,
    /// The authorities that the sandbox trusts, where its gateway ends TLS.
    pub authorities: Option<Authorities>,
    /// Variables of ours for the task's command.
    pub variables: Vec<(String, String)>,
    /// The user id inside, where the engine maps user ids; else each slot has its own.
    pub mapped_uid: Option<u32>,
}

/// A sandbox that is proven and waits for its task.
#[derive(Debug)]
pub struct Standing {
    /// To init.
    pub sender: Sender,
    /// From init.
    pub receiver: Receiver,
    /// The engine's id of the container.
    pub container: String,
    /// Its mount points in memory, in the order in which init watches them.
    pub watched: Vec<String>,
    /// What was compared, as JSON.
    pub attestation: String,
    /// PID 1 as the host counts, where the host sees it.
    pub init: Option<i32>,
    /// The workspace's layers, where it is on disk.
    pub layers: Option<Layers>,
    /// What the engine was asked for, by setting.
    pub(super) settings: BTreeMap<String, String>,
    /// What the host saw of it when it was proven.
    pub(super) seen: Option<OutsideView>,
    // Held as long as the sandbox lives, and after the layers, which its lock guards.
    slot: Slot,
}

impl Standing {
    /// What binds a run to it.
    pub fn bound(&self) -> crate::record::Slot {
        crate::record::Slot { number: self.slot.number, container_id: self.container.clone() }
    }
}

/// Why there is no sandbox.
#[derive(Debug)]
pub enum NotStanding {
    /// This is the run's outcome, with what the kernel showed where it was asked.
    Ended {
        /// The outcome.
        outcome: Outcome,
        /// What was compared, as JSON.
        attestation: Option<String>,
    },
    /// The books could not be kept.
    Books(RecordError),
}

impl NotStanding {
    /// There is no place for one on this host.
    pub fn unplaced(error: &(dyn std::error::Error + 'static)) -> Self {
        infrastructure(&error.to_string(), &causes(error))
    }
}

impl std::fmt::Display for NotStanding {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended {
                outcome: Outcome::StartFailed { reason: StartFailure::Infrastructure { message } },
                ..
            } => out.write_str(message),
            Self::Ended { outcome: Outcome::Refused { differences }, .. } => {
                write!(out, "refused: {}", differences.join("; "))
            }
            Self::Ended { outcome, .. } => outcome.fmt(out),
            Self::Books(error) => error.fmt(out),
        }
    }
}

impl From<RecordError> for NotStanding {
    fn from(error: RecordError) -> Self {
        Self::Books(error)
    }
}

/// How long each phase took, in order.
#[derive(Debug)]
pub struct Timings {
    begun: Instant,
    last: Instant,
    phases: Vec<(Phase, u64)>,
}

impl Timings {
    /// A clock that starts at `begun`.
    pub fn since(begun: Instant) -> Self {
        Self { begun, last: begun, phases: Vec::new() }
    }

    /// The phase that ends now.
    pub fn ended(&mut self, phase: Phase) {
        let now = Instant::now();
        self.phases.push((phase, micros(now.duration_since(self.last))));
        self.last = now;
    }

    /// A time that lies across the phases.
    pub fn took(&mut self, phase: Phase, duration: Duration) {
        self.phases.push((phase, micros(duration)));
    }

    /// All phases with the total.
    pub fn total(mut self) -> Vec<(Phase, u64)> {
        self.phases.push((Phase::Total, micros(self.begun.elapsed())));
        self.phases
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A container that was made and does not run yet.
#[derive(Debug)]
pub struct Created {
    slot: Slot,
    listener: std::os::fd::OwnedFd,
    spec: ContainerSpec,
    filter: Filter,
    container: String,
    layers: Option<Layers>,
}

impl Created {
    /// What binds a run to it.
    pub fn bound(&self) -> crate::record::Slot {
        crate::record::Slot { number: self.slot.number, container_id: self.container.clone() }
    }

    /// The engine's id of the container.
    pub fn container(&self) -> &str {
        &self.container
    }
}

/// Makes a sandbox. Nothing runs in it, so this may go on while the run is still being accepted.
pub async fn create<E: Engine>(
    engine: &E,
    place: &Place,
    admitted: &Admitted,
    image: &ImageFacts,
) -> Result<Created, NotStanding> {
    let mut slot = Slot::make(&place.runtime_directory).map_err(|it| unstarted_slot(&it))?;
    let filter = Filter::new(Profile::of(admitted.policy()));
    let layers = layers(place, admitted, &slot)?;
    let volume = layers.as_ref().map(Layers::volume);
    let spec = spec_for(place, admitted, image, &slot, volume.as_ref(), &filter)?;
    let listener = slot.take_listener().ok_or_else(|| infrastructure("the slot has no socket", &[]))?;
    let container = engine.create(&spec).await.map_err(|it| engine_failed(&it))?;
    slot.hold(&container);
    fault::reach(Point::Created);
    Ok(Created { slot, listener, spec, filter, container, layers })
}

/// Removes what was made for a run that was not accepted.
pub async fn discard<E: Engine>(engine: &E, container: &str) {
    destroyed(engine, container, superseded()).await;
}

/// How long init lives that runs a task under this policy, at the most.
pub fn lifetime_ms(admitted: &Admitted) -> u64 {
    admitted.policy().resources.wall_time_ms.saturating_add(LIFETIME_SLACK_MS)
}

/// Starts a sandbox and proves it; it ends by itself after `lifetime_ms`. What is not proven is destroyed.
pub async fn prove<E: Engine>(
    engine: &E,
    created: Created,
    lifetime_ms: u64,
    timings: &mut Timings,
) -> Result<Standing, NotStanding> {
    let Created { slot, listener, spec, filter, container, layers } = created;
    let attest = attest_request(&spec, &filter, lifetime_ms);
    let up = match start_and_report(engine, &container, listener, &slot, attest).await {
        Ok(up) => up,
        Err(not) => return Err(destroyed(engine, &container, not).await),
    };
    timings.ended(Phase::Start);

    let judged = judge(&up, &container, &spec, &filter, engine);
    timings.ended(Phase::Attestation);
    let (attestation, seen) = match judged {
        Ok(proof) => proof,
        Err(not) => return Err(destroyed(engine, &container, not).await),
    };
    let watched = spec.tmpfs.iter().map(|it| it.point.clone()).collect();
    let (sender, receiver, init, settings) = (up.sender, up.receiver, up.peer, up.settings);
    Ok(Standing { sender, receiver, container, watched, attestation, init, layers, settings, seen, slot })
}

/// The user of a sandbox: its slot's own, but for one over a snapshot, which belongs to the snapshot's.
fn user(place: &Place, slot: &Slot) -> u32 {
    let own = place.base.as_ref().map_or_else(|| slot.uid(), |it| it.uid);
    place.mapped_uid.unwrap_or(own)
}

/// Directories for a workspace on disk, where policy has it there.
fn layers(place: &Place, admitted: &Admitted, slot: &Slot) -> Result<Option<Layers>, NotStanding> {
    if admitted.policy().filesystem.workspace != WorkspaceMedium::Disk {
        return Ok(None);
    }
    let Some(work) = &place.work_directory else {
        return Err(infrastructure("there is no work directory for a workspace on disk", &[]));
    };
    has_room(work).map_err(|it| infrastructure(&it, &[]))?;
    let (uid, lower) = (user(place, slot), place.base.as_ref().map(|it| it.tree.as_path()));
    match Layers::make(work, slot.number, uid, lower) {
        Ok(layers) => Ok(Some(layers)),
        Err(error) => {
            let message = format!("the layers of the workspace below `{}` cannot be made", work.display());
            Err(infrastructure(&message, &[error.to_string()]))
        }
    }
}

/// Init's side of a start.
struct Up {
    sender: Sender,
    receiver: Receiver,
    peer: Option<i32>,
    report: Box<wire::Report>,
    settings: BTreeMap<String, String>,
}

async fn start_and_report<E: Engine>(
    engine: &E,
    container: &str,
    listener: std::os::fd::OwnedFd,
    slot: &Slot,
    attest: Request,
) -> Result<Up, NotStanding> {
    let started = CancellationToken::new();
    let start = async {
        engine.start(container).await.map_err(|it| engine_failed(&it))?;
        started.cancel();
        // The engine tells what it has made while init still probes. An init that died of what was made says so itself,
        // and is heard before an engine that then knows no such container.
        Ok(engine.inspect(container).await)
    };
    let report = async {
        let late = async {
            started.cancelled().await;
            tokio::time::sleep(ARRIVAL_TIME_MAX).await;
        };
        let arrived = tokio::select! {
            arrived = channel::accept(listener) => arrived,
            () = late => Err(ChannelError::NobodyCame { waited: ARRIVAL_TIME_MAX }),
        };
        let (sender, mut receiver, peer) = arrived.map_err(|it| channel_failed(&it))?;
        slot.close_door();
        sender.send(&attest, &[]).await.map_err(|it| channel_failed(&it))?;
        let received = tokio::time::timeout(REPORT_TIME_MAX, receiver.receive()).await;
        let received = received.map_err(|_| infrastructure("init did not report in time", &[]))?;
        match received.map_err(|it| channel_failed(&it))?.message {
            Reply::Report(report) => Ok((sender, receiver, peer, report)),
            _ => Err(infrastructure("init's first message is no report", &[])),
        }
    };
    let (inspected, (sender, receiver, peer, report)) = tokio::try_join!(start, report)?;
    let inspected = inspected.map_err(|it| engine_failed(&it))?;
    Ok(Up { sender, receiver, peer, report, settings: inspected.settings })
}

fn spec_for(
    place: &Place,
    admitted: &Admitted,
    image: &ImageFacts,
    slot: &Slot,
    workspace: Option<&WorkspaceVolume>,
    filter: &Filter,
) -> Result<ContainerSpec, NotStanding> {
    let inner = slot.inner_directory();
    let bundles = place.authorities.as_ref().map(|it| slot.put_authorities(it)).transpose();
    let bundles = bundles.map_err(|it| unstarted_slot(&it))?.unwrap_or_default();
    let (masked, read_only) = (masks::masked_paths(outside::cpus()), masks::readonly_paths());
    let shape = Shape {
        policy: admitted.policy(),
        policy_digest: admitted.digest(),
        image,
        instance: &place.instance,
        slot: slot.number,
        uid: user(place, slot),
        slot_directory: &inner,
        bundles: &bundles,
        workspace,
        runtime: admitted.runtime(),
        seccomp: filter.document(),
        masked_paths: &masked.iter().map(String::as_str).collect::<Vec<_>>(),
        readonly_paths: &read_only.iter().map(String::as_str).collect::<Vec<_>>(),
        nofile_max: place.nofile_max,
    };
    container_spec::container_spec(&shape)
        .map_err(|refusal| ended(Outcome::Refused { differences: vec![refusal.to_string()] }))
}

fn attest_request(spec: &ContainerSpec, filter: &Filter, lifetime_ms: u64) -> Request {
    Request::Attest(wire::Attest {
        version: wire::VERSION,
        probes: filter.probes().iter().map(|it| it.probe).collect(),
        workspace: container_spec::WORKSPACE.as_bytes().to_vec().into(),
        watched: spec.tmpfs.iter().map(|it| it.point.as_bytes().to_vec().into()).collect(),
        lifetime_ms,
    })
}

/// Compares what init, the host's `/proc` and the engine show with what was asked. Gives the report as JSON, and what the
/// host saw. The engine may start a dead owner's container late, which then comes to the door of whoever has its slot's
/// number by now: it is not proven, however like the right one it is.
fn judge<E: Engine>(
    up: &Up,
    container: &str,
    spec: &ContainerSpec,
    filter: &Filter,
    engine: &E,
) -> Result<(String, Option<OutsideView>), NotStanding> {
    let seen = up.peer.map(OutsideView::read);
    if seen.as_ref().is_some_and(|it| it.is_of_another(container)) {
        return Err(infrastructure(
            "the init that came is that of another container with this slot's number",
            &[],
        ));
    }
    let named: Vec<String> = spec.masked_paths.iter().chain(&spec.readonly_paths).cloned().collect();
    let expected = Expectation { spec, filter, existing_paths: &outside::existing(&named) };
    let mut differences = attestation::compare(expected, &up.report, seen.as_ref());
    differences.extend(attestation::engine::compare(&engine.settings(spec), &up.settings));
    let report = AttestationReport::of(expected, &up.report, seen.as_ref(), &differences);
    let attestation = serde_json::to_string(&report).unwrap_or_default();
    if differences.is_empty() {
        return Ok((attestation, seen));
    }
    let differences = differences.iter().map(Difference::to_string).collect();
    Err(NotStanding::Ended { outcome: Outcome::Refused { differences }, attestation: Some(attestation) })
}

/// Ends a container that is of no use, and says in the outcome if that failed too.
pub(super) async fn destroyed<E: Engine>(engine: &E, container: &str, not: NotStanding) -> NotStanding {
    if let Err(error) = engine.destroy(container).await {
        tracing::warn!(container.id = container, %error, "a container could not be removed; the next sweep will");
    }
    not
}

/// What an attempt ends with whose run belongs to another by now.
pub(super) fn superseded() -> NotStanding {
    ended(Outcome::Lost { reason: LostReason::Owner })
}

/// What an attempt ends with whose gateway could not be started.
pub(super) fn ungated(error: &LinkError) -> NotStanding {
    infrastructure(&error.to_string(), &causes(error))
}

fn ended(outcome: Outcome) -> NotStanding {
    NotStanding::Ended { outcome, attestation: None }
}

fn infrastructure(message: &str, causes: &[String]) -> NotStanding {
    let mut message = message.to_owned();
    for cause in causes {
        message.push_str(": ");
        message.push_str(cause);
    }
    ended(Outcome::StartFailed { reason: StartFailure::Infrastructure { message } })
}

fn engine_failed(error: &EngineError) -> NotStanding {
    infrastructure(&error.to_string(), &causes(error))
}

fn channel_failed(error: &ChannelError) -> NotStanding {
    infrastructure(&error.to_string(), &causes(error))
}

fn unstarted_slot(error: &SlotError) -> NotStanding {
    infrastructure(&error.to_string(), &causes(error))
}
