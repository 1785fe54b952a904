//! `aegis doctor --attack`: sandboxes of the ordinary kind, made by the ordinary way of a run, each with a program that tries
//! what it should not get; and the host's own eyes meanwhile.

pub(in crate::app) mod canary;
mod capture;
mod parameters;

pub use capture::Capture;

use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::app::attack::canary::{Canary, Files};
use crate::app::attack::parameters::{Parameters, survivors};
use crate::app::project::FileUse;
use crate::app::run::{Caller, Finished};
use crate::app::{AppError, Changes, RunOrder, WorkspaceChoice, logs, provision, run};
use crate::config::Directories;
use crate::container::Engine;
use crate::doctor::attack::settle::RUNTIME;
use crate::doctor::attack::{Assault, Evidence, Stage, StageEnd, WallDown, settle, wall};
use crate::executor::control::{Control, QUEUE_MAX};
use crate::policy::Overrides;
use crate::record::Usage;
use crate::task::outcome::StartFailure;
use crate::task::{Cancellation, GitHistory, Outcome};

/// The image with what the programs need.
pub const IMAGE: &str = "aegis/base";
/// Wall time of a stage, milliseconds, and its grace.
const STAGE_MS_MAX: u64 = 120_000;
const GRACE_MS: u64 = 500;
/// The deaf task's CPUs, thousandths, and its wall time, milliseconds.
const CLOCK: (u64, u64) = (1_000, 1_500);
/// The label of the attack's runs.
const LABEL: (&str, &str) = ("aegis.doctor", "attack");

/// Attacks sandboxes of this host; `told` hears which stage begins.
pub async fn attack(directories: &Directories, told: &(dyn Fn(Stage) + Sync)) -> Result<Assault, AppError> {
    let begun = Instant::now();
    // Asked for first: an image that is not there is the operator's to build, and no wall that fell.
    let engine = provision::connect().await?;
    engine.image(IMAGE).await?;
    let default_runtime = engine.describe().await?.default_runtime;
    let word = uuid::Uuid::now_v7().simple().to_string();
    let used = |source| AppError::Use { what: "the temporary directory", path: std::env::temp_dir(), source };
    let files = Files::place(&word).map_err(used)?;
    let canary = Canary::listen(&word).map_err(|source| AppError::Use {
        what: "a listener on",
        path: PathBuf::from("this host"),
        source,
    })?;
    let parameters = Parameters::new(&word, &files, &canary, directories);
    let place = parameters.write().map_err(used)?;

    let mut ends = Vec::new();
    let mut runs = Vec::new();
    told(Stage::Look);
    // What one sandbox sees of another needs two of them.
    let (first, beside) = tokio::join!(
        steady_stage(Stage::Look, place.path(), directories),
        steady_stage(Stage::Beside, place.path(), directories)
    );
    for (end, ids) in [first?, beside?] {
        ends.push(end);
        runs.extend(ids);
    }
    // What refuses one sandbox refuses the next.
    if ends.iter().all(|it: &StageEnd| it.differences.is_empty()) {
        for stage in [Stage::Limits, Stage::Clock, Stage::Memory] {
            told(stage);
            let (end, ids) = steady_stage(stage, place.path(), directories).await?;
            ends.push(end);
            runs.extend(ids);
        }
    }
    let evidence = Evidence {
        canary_sings: canary.sings(),
        canary_heard: canary.heard(),
        files_untouched: files.untouched(),
        files: files.count(),
        survivors: survivors(Path::new("/proc"), &parameters.survivor),
        clock: CLOCK,
    };
    let (tried, mut walls_down) = settle(&ends, evidence);
    if default_runtime != RUNTIME && !default_runtime.is_empty() {
        walls_down.extend(under(&default_runtime, place.path(), directories).await?);
    }
    let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Assault { image: IMAGE.to_owned(), tried, walls_down, runs, elapsed_ms })
}

/// Whether the engine did not start a sandbox or lost it: that says nothing of the walls, and is tried once more.
fn stumbled(end: &StageEnd) -> bool {
    match &end.outcome {
        Ok(Outcome::StartFailed { reason: StartFailure::Infrastructure { .. } } | Outcome::Lost { .. }) => {
            true
        }
        Ok(_) | Err(_) => false,
    }
}

/// Runs a stage, once more if the engine stumbled over it.
async fn steady_stage(
    stage: Stage,
    place: &Path,
    directories: &Directories,
) -> Result<(StageEnd, Vec<String>), AppError> {
    let (end, id) = run_stage(stage, place, directories).await?;
    if !stumbled(&end) {
        return Ok((end, id.into_iter().collect()));
    }
    let (again, other) = run_stage(stage, place, directories).await?;
    Ok((again, id.into_iter().chain(other).collect()))
}

/// Runs a stage, and gives its end and the run's short id.
async fn run_stage(
    stage: Stage,
    place: &Path,
    directories: &Directories,
) -> Result<(StageEnd, Option<String>), AppError> {
    let printed = Capture::new();
    let (finished, cancelled) = attended(&order(stage, place), directories, &printed).await;
    if cancelled {
        return Err(AppError::Cancelled(Cancellation::Interrupt));
    }
    let mut end = StageEnd {
        stage,
        outcome: Err("the run has no outcome".to_owned()),
        differences: Vec::new(),
        printed: printed.text(),
        used_us: None,
        pids_limit_hits: None,
        up_ms: None,
    };
    let run = match finished {
        Ok(finished) => finished.run,
        Err(AppError::Unenforceable(missing)) => {
            return Ok((StageEnd { differences: missing, ..end }, None));
        }
        Err(AppError::Denied(denials)) => {
            let told: Vec<String> = denials.iter().map(|it| it.message.clone()).collect();
            return Ok((StageEnd { outcome: Err(told.join("; ")), ..end }, None));
        }
        Err(error) => return Err(error),
    };
    end.up_ms = run.released_ms.zip(run.ended_ms);
    if let Some(ended) = &run.end {
        if let Outcome::Refused { differences } = &ended.outcome {
            end.differences = differences.clone();
        }
        end.used_us = ended.usage.as_ref().map(used);
        end.pids_limit_hits = ended.usage.as_ref().and_then(|it| it.pids_limit_hits);
        end.outcome = Ok(ended.outcome.clone());
    }
    Ok((end, Some(run.id.short())))
}

/// The walls that another runtime does not raise. Nothing runs under it but a command that does nothing, and only if the
/// sandbox is proven. A runtime that no policy may name is not looked at.
async fn under(runtime: &str, place: &Path, directories: &Directories) -> Result<Vec<WallDown>, AppError> {
    let policy = place.join("default-runtime.toml");
    // A name with a quote in it is none that an engine gives.
    let text = format!("extends = \"strict\"\nruntimes = [\"{}\"]\n", runtime.replace(['"', '\\'], ""));
    std::fs::write(&policy, text).map_err(|source| AppError::Use {
        what: "the temporary directory",
        path: policy.clone(),
        source,
    })?;
    let overrides = Overrides { runtime: Some(runtime.to_owned()), ..Overrides::NONE };
    let mut order = quiet_order("doctor-default-runtime".to_owned(), LABEL, overrides, place, &["true"]);
    order.policy = Some(policy.display().to_string());
    let (finished, cancelled) = attended(&order, directories, &Capture::new()).await;
    if cancelled {
        return Err(AppError::Cancelled(Cancellation::Interrupt));
    }
    let run = match finished {
        Ok(finished) => finished.run,
        Err(AppError::Denied(_) | AppError::Policy(_)) => return Ok(Vec::new()),
        Err(AppError::Unenforceable(missing)) => return Ok(wall::down(&missing, runtime)),
        Err(error) => return Err(error),
    };
    match run.end.map(|it| it.outcome) {
        Some(Outcome::Refused { differences }) => Ok(wall::down(&differences, runtime)),
        Some(_) | None => Ok(Vec::new()),
    }
}

fn used(usage: &Usage) -> (u64, u64) {
    (usage.wall_us, usage.cpu_user_us.saturating_add(usage.cpu_system_us))
}

fn order(stage: Stage, place: &Path) -> RunOrder {
    let overrides = match stage {
        Stage::Clock => {
            Overrides { cpus_milli: Some(CLOCK.0), wall_time_ms: Some(CLOCK.1), ..Overrides::NONE }
        }
        Stage::Look | Stage::Beside | Stage::Limits | Stage::Memory => {
            Overrides { wall_time_ms: Some(STAGE_MS_MAX), ..Overrides::NONE }
        }
    };
    quiet_order(
        format!("doctor-{}", stage.name()),
        LABEL,
        overrides,
        place,
        &["python3", &format!("{}.py", stage.name())],
    )
}

/// An order under `strict` in the base image, with a directory of ours as its workspace.
pub fn quiet_order(
    name: String,
    label: (&str, &str),
    overrides: Overrides,
    workspace: &Path,
    command: &[&str],
) -> RunOrder {
    RunOrder {
        policy: Some("strict".to_owned()),
        overrides,
        name: Some(name),
        labels: vec![(label.0.to_owned(), label.1.to_owned())],
        command: Some(command.iter().map(|it| it.as_bytes().to_vec()).collect()),
        image: Some(IMAGE.to_owned()),
        workspace: WorkspaceChoice::Directory(workspace.to_owned()),
        project_file: FileUse::Ignore,
        git: GitHistory::Full,
        include_secrets: Vec::new(),
        publish: Vec::new(),
        secrets: Vec::new(),
        changes: Changes::Dropped,
        workdir: None,
        environment: Vec::new(),
        outputs: Vec::new(),
        output_directory: None,
        grace_ms: GRACE_MS,
        terminal: None,
    }
}

/// Runs an order with its output captured; the first Ctrl-C ends it in order. Says whether there was one.
pub async fn attended(
    order: &RunOrder,
    directories: &Directories,
    printed: &Capture,
) -> (Result<Finished, AppError>, bool) {
    let (wishes, control) = mpsc::channel(QUEUE_MAX);
    let caller = Caller {
        sinks: Box::new(|id, directories| Ok(printed.sinks(logs::writer(id, directories)?))),
        control,
        wishes: wishes.clone(),
        progress: &|_| (),
        begun: Instant::now(),
    };
    let mut running = std::pin::pin!(run::run(order, directories, caller));
    let interrupted = tokio::select! {
        finished = &mut running => return (finished, false),
        signal = tokio::signal::ctrl_c() => signal.is_ok(),
    };
    // A closed channel means that the run is over.
    let _ = wishes.try_send(Control::Cancel(Cancellation::Interrupt));
    (running.await, interrupted)
}
