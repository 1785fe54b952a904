//! One run in this process: books, engine, image, admission, attempt.

use std::path::{Path, PathBuf};
use std::time::Instant;

use aegis_init::wire::Stdio;
use tokio::sync::mpsc;

use crate::app::owner::service::Door;
use crate::app::prepare::{Prepared, Unwalked, prepare};
use crate::app::{AppError, Changes, RunOrder, egress, host, provision, secrets, sweep};
use crate::config::Directories;
use crate::config::trust::TrustStore;
use crate::container::{Engine, EngineFacts};
use crate::executor::publish::Listening;
use crate::executor::{Attempt, ChangesOut, Control, Feed, Sinks, control, run_attempt};
use crate::policy::{Admitted, admit};
use crate::record::{
    Found, Image, Limits, NewRun, Owner, Phase, PolicyRecord, Record, Run, TaskRecord, WorkspaceRecord,
    now_ms,
};
use crate::sandbox::changes::gather::{Originals, Start, open_root};
use crate::sandbox::changes::kept::Kept;
use crate::sandbox::container_spec::WORKSPACE;
use crate::sandbox::enforceable;
use crate::sandbox::init_binary;
use crate::sandbox::outputs::{Destination, Extractor, OutputLimits, Wanted};
use crate::sandbox::workspace::Base;
use crate::sandbox::workspace::snapshot::{self, Ground, Replay};
use crate::store::{OwnerLock, Store};
use crate::task::run_id::RunSelector;
use crate::task::{OutputRequest, RunId, WorkspaceSource};

/// Makes the sinks of a run.
pub type MakeSinks<'a> = Box<dyn FnOnce(RunId, &Directories) -> Result<Sinks, AppError> + 'a>;

/// A caller's side of a run.
pub struct Caller<'a> {
    /// Makes the sinks, once the run's id is known.
    pub sinks: MakeSinks<'a>,
    /// The caller's wishes, from whoever has the other end.
    pub control: mpsc::Receiver<Control>,
    /// That other end, for the owner's door.
    pub wishes: mpsc::Sender<Control>,
    /// Told what a person waits for.
    pub progress: &'a (dyn Fn(Step) + Sync),
    /// When the program began.
    pub begun: Instant,
}

/// What a person waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The image was chosen by the project, for this reason.
    Image(String),
    /// The workspace was measured: what a person should know of it, and how it is filled.
    Workspace(Vec<String>, WorkspaceRecord),
    /// The image is fetched.
    Pulling(crate::container::PullProgress),
    /// A run was accepted.
    Accepted(RunId),
    /// A default was lowered.
    Clipped(crate::policy::Clipped),
    /// A phase of the attempt began.
    Phase(Phase),
    /// Something that a person should know of the way out.
    Network(String),
}

/// A run that has its outcome.
#[derive(Debug)]
pub struct Finished {
    /// It, as it is recorded.
    pub run: Run,
}

/// Runs an order to its outcome.
pub async fn run(
    order: &RunOrder,
    directories: &Directories,
    mut caller: Caller<'_>,
) -> Result<Finished, AppError> {
    let host = host::amounts(&directories.state);
    let mut prepared = prepare(order, &host, &TrustStore::of(&directories.state))?;
    if let Some(remark) = &prepared.remark {
        (caller.progress)(Step::Image(remark.clone()));
    }
    // The engine takes its time to answer; what needs only this host is done meanwhile. A mistake in the workspace is told
    // before one of the engine's, and before anything is fetched.
    let unwalked = Unwalked::of(&prepared);
    let walked = tokio::task::spawn_blocking(move || unwalked.walk());
    let digested = tokio::task::spawn_blocking(init_binary::digest);
    let connected = provision::connect_for(Some(&prepared.task.image));
    let (walked, engine, store, _) =
        tokio::join!(walked, connected, Store::open(&directories.state), digested);
    (prepared.workspace, prepared.seen_s) = walked.map_err(unwalkable)??;
    if let Some(plan) = &prepared.workspace {
        (caller.progress)(Step::Workspace(plan.summary.notes.clone(), plan.record(&prepared.task)));
    }
    let held = secrets::of_run(&directories.state, &prepared.task.secrets)?;
    let (engine, store) = (engine?, store?);
    let pull = prepared.resolved.policy.images.pull;
    let pulling = |it| (caller.progress)(Step::Pulling(it));
    let looked_up = async {
        tokio::join!(
            engine.facts(),
            provision::image(&engine, &prepared.task.image, pull, &pulling),
            sweep::leftovers(&engine, &store, directories)
        )
    };
    let (facts, image, swept) = tokio::select! {
        all = looked_up => all,
        by = control::cancelled(&mut caller.control) => return Err(AppError::Cancelled(by)),
    };
    let (facts, image, _) = (facts?, image?, swept?);
    provision::refuse_unenforceable(&facts, &prepared.runtime)?;
    let admitted =
        admit(&prepared.task, &prepared.resolved, &image.id, &prepared.runtime).map_err(AppError::Denied)?;
    for clipped in admitted.clipped() {
        (caller.progress)(Step::Clipped(clipped.clone()));
    }

    // Everything that can fail on this host comes before the run is accepted: from then on it has an outcome.
    let id = RunId::generate();
    let mut place = provision::place(&admitted, directories, &host, &facts)?;
    let outputs = outputs(order, &prepared.task.outputs, id, &admitted)?;
    let changes = changes_out(order, id, &prepared, &admitted, directories)?;
    let ground = tokio::select! {
        ground = ground(place.work_directory.as_deref(), &mut prepared, &facts) => ground?,
        by = control::cancelled(&mut caller.control) => return Err(AppError::Cancelled(by)),
    };
    let (base, feed) = match (ground, &prepared.task.workspace) {
        (Ground::Snapshot(base, delta), _) => (Some(base), Feed::Changes(delta)),
        (Ground::Empty, WorkspaceSource::Directory(root)) if place.work_directory.is_none() => {
            let (state, root) = (directories.state.clone(), root.clone());
            (None, Feed::Replay(Replay { state, root, seen_s: prepared.seen_s }))
        }
        (Ground::Empty, _) => (None, Feed::Whole),
    };
    let way_out = egress::way_out(admitted.policy(), &directories.state, &held.kept_outside())?;
    let (egress, authorities, variables, credentials) = match way_out {
        Some(way) => (Some(way.begin), way.authorities, way.variables, way.credentials),
        None => (None, None, Vec::new(), Vec::new()),
    };
    let known = held.and(credentials);
    let listening = Listening::open(&prepared.task.publish).await?;
    let sinks = (caller.sinks)(id, directories)?;
    let door = Door::open(&directories.runtime, id, caller.wishes).map_err(|source| AppError::Use {
        what: "the runtime directory",
        path: directories.runtime.clone(),
        source,
    })?;
    let lock = OwnerLock::acquire(&directories.state).map_err(|source| AppError::Use {
        what: "the owners' directory below",
        path: directories.state.clone(),
        source,
    })?;
    let mut new = new_run(id, &prepared, &admitted, lock.owner().clone());
    secrets::keep_out_of(&mut new, &known.redactor);
    let kept = Image { id: image.id.clone(), repo_digest: image.repo_digests.first().cloned() };
    let accepted = async {
        let fence = store.insert(&new).await?;
        (caller.progress)(Step::Accepted(id));
        Ok((fence, store.start(fence, &kept, now_ms()).await?))
    };
    (place.base, place.authorities, place.variables) = (base, authorities, variables);
    let phase = |it| (caller.progress)(Step::Phase(it));
    let tell = |text: &str| (caller.progress)(Step::Network(text.to_owned()));
    let attempt = Attempt {
        place: &place,
        task: &prepared.task,
        admitted: &admitted,
        image: &image,
        workspace: prepared.workspace.map(|it| (it, feed)),
        messages: None,
        warm: None,
        lease: None,
        sinks,
        secrets: known,
        stdio: order.terminal.map_or(Stdio::Pipes, |(rows, columns)| Stdio::Terminal { rows, columns }),
        grace_ms: order.grace_ms,
        outputs,
        changes,
        control: caller.control,
        begun: caller.begun,
        progress: &phase,
        egress,
        listening,
        tell: &tell,
    };
    let end = run_attempt(&engine, &store, accepted, attempt).await;
    door.close().await;
    end?;
    let found = store.find(&RunSelector::Id(id)).await?;
    store.leave().await;
    match found {
        Found::Run(run) => Ok(Finished { run: *run }),
        Found::Nothing | Found::Ambiguous(_) => Err(AppError::Superseded(id)),
    }
}

/// What a workspace on disk begins with. Where the engine maps user ids, a tree of ours cannot be given to the sandbox's.
async fn ground(
    work: Option<&Path>,
    prepared: &mut Prepared,
    facts: &EngineFacts,
) -> Result<Ground, AppError> {
    let (WorkspaceSource::Directory(root), Some(work)) = (&prepared.task.workspace, work) else {
        return Ok(Ground::Empty);
    };
    if enforceable::maps_users(facts) {
        return Ok(Ground::Empty);
    }
    let Some(plan) = prepared.workspace.take() else { return Ok(Ground::Empty) };
    let (work, root, seen_s) = (work.to_owned(), root.clone(), prepared.seen_s);
    let chosen = tokio::task::spawn_blocking(move || {
        let ground = snapshot::ground(&work, &root, &plan, seen_s);
        (ground, plan)
    });
    let (ground, plan) = chosen.await.map_err(unwalkable)?;
    prepared.workspace = Some(plan);
    Ok(ground?)
}

/// The thread that walked through the workspace was lost.
fn unwalkable(error: tokio::task::JoinError) -> AppError {
    let source = std::io::Error::other(error);
    AppError::Read { what: "the workspace", path: PathBuf::new(), source }
}

fn new_run(id: RunId, prepared: &Prepared, admitted: &Admitted, owner: Owner) -> NewRun {
    NewRun {
        id,
        name: prepared.task.name.clone(),
        labels: prepared.task.labels.clone(),
        task: TaskRecord::of(&prepared.task),
        workspace: prepared.workspace.as_ref().map(|it| it.record(&prepared.task)),
        policy: PolicyRecord {
            name: admitted.policy_name().to_owned(),
            digest: admitted.digest().to_owned(),
            asked: crate::report::policy::asked(&prepared.resolved),
            resolved: crate::report::policy::resolved(&prepared.resolved),
            effective: crate::report::policy::effective(&prepared.resolved),
        },
        limits: Limits::of(admitted.policy()),
        owner: Some(owner),
        created_ms: now_ms(),
    }
}

/// Opens where outputs go, before anything is started.
fn outputs(
    order: &RunOrder,
    wanted: &[OutputRequest],
    id: RunId,
    admitted: &Admitted,
) -> Result<Option<Extractor>, AppError> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let destination = destination(order, id)?;
    let limits = OutputLimits::from(&admitted.policy().outputs);
    let patterns: Vec<String> = wanted.iter().map(|it| it.pattern.clone()).collect();
    Ok(Some(Extractor::new(&destination, Wanted::parse(&patterns, WORKSPACE)?, limits)?))
}

/// Where the outputs of a run go, as its caller asked.
pub fn destination(order: &RunOrder, run: RunId) -> Result<Destination, AppError> {
    // Whole paths: the record is read from other directories.
    let whole = |path: &Path| {
        std::path::absolute(path).map_err(|source| AppError::Read {
            what: "the output directory",
            path: path.to_owned(),
            source,
        })
    };
    Ok(match &order.output_directory {
        Some(directory) => Destination::Named(whole(directory)?),
        None => Destination::Run { base: whole(Path::new("."))?, run },
    })
}

/// Opens where changes are looked for, before anything is started; `None` where there is no workspace, or nobody wants
/// them.
fn changes_out(
    order: &RunOrder,
    run: RunId,
    prepared: &Prepared,
    admitted: &Admitted,
    directories: &Directories,
) -> Result<Option<ChangesOut>, AppError> {
    let (Some(plan), WorkspaceSource::Directory(root), Changes::Kept) =
        (&prepared.workspace, &prepared.task.workspace, order.changes)
    else {
        return Ok(None);
    };
    let (directory, root) = open_root(root)?;
    let start = Start {
        root,
        originals: Originals::Tree(directory),
        left_out: plan.left_out.clone(),
        limits: OutputLimits::from(&admitted.policy().outputs),
        kept: Kept::new(&directories.state),
        run,
    };
    Ok(Some(ChangesOut { start, base: Base::default(), laid: None }))
}
