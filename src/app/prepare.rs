//! From an order to a task with its policy, before the engine is asked: every mistake that can be found is found here.

use std::path::{Path, PathBuf};

use crate::app::{AppError, RunOrder, WorkspaceChoice, read_bytes};
use crate::policy::ceiling::CEILING_PATH;
use crate::policy::{
    Ceiling, Chosen, HostAmounts, Resolved, Selection, default_policy, resolve, select, shipped,
};
use crate::sandbox::workspace::{self, Plan};
use crate::task::{TaskSpec, WorkspaceSource};

/// Bytes of a policy file that are read; the parser has a lower bound of its own and a message for it.
const POLICY_BYTES_MAX: u64 = 1024 * 1024;
/// The runtime where no flag names one.
const RUNTIME_DEFAULT: &str = "runc";

/// An order that was understood.
#[derive(Debug)]
pub struct Prepared {
    /// What is to be run.
    pub task: TaskSpec,
    /// What it may do.
    pub resolved: Resolved,
    /// What is copied in, already walked and measured.
    pub workspace: Option<Plan>,
    /// When that was begun, seconds since the epoch.
    pub seen_s: i64,
    /// The engine's runtime, by name.
    pub runtime: String,
}

/// Reads policy, ceiling and workspace; what policy denies is an error before the workspace is walked.
pub fn prepare(order: &RunOrder, host: &HostAmounts) -> Result<Prepared, AppError> {
    let mut prepared = prepare_leniently(order, host)?;
    let denials = crate::policy::judge(&prepared.task, &prepared.resolved, &prepared.runtime);
    if !denials.is_empty() {
        return Err(AppError::Denied(denials));
    }
    if let WorkspaceSource::Directory(root) = &prepared.task.workspace {
        let limits = workspace::Limits::from(&prepared.resolved.policy.filesystem);
        prepared.seen_s = jiff::Timestamp::now().as_second();
        prepared.workspace = Some(workspace::scan(root, limits)?);
    }
    Ok(prepared)
}

/// The same without looking into the workspace, and with what policy denies left to the caller.
pub fn prepare_leniently(order: &RunOrder, host: &HostAmounts) -> Result<Prepared, AppError> {
    let chosen = choose(order.policy.as_deref())?;
    let ceiling = ceiling(host)?;
    let resolved = resolve(&chosen, &order.overrides, &ceiling, host);
    let runtime = order.overrides.runtime.clone().unwrap_or_else(|| RUNTIME_DEFAULT.to_owned());
    let root = workspace_root(&order.workspace)?;
    let task = TaskSpec {
        name: order.name.clone(),
        labels: order.labels.clone(),
        command: order.command.clone(),
        image: order.image.clone(),
        workspace: root.map_or(WorkspaceSource::None, WorkspaceSource::Directory),
        workdir: order.workdir.clone(),
        environment: order.environment.clone(),
        outputs: order.outputs.clone(),
    };
    Ok(Prepared { task, resolved, workspace: None, seen_s: 0, runtime })
}

fn choose(policy: Option<&str>) -> Result<Chosen, AppError> {
    let Some(policy) = policy else {
        return Ok(default_policy()?);
    };
    match select(policy)? {
        Selection::Shipped(name) => Ok(shipped(name)?),
        Selection::File(path) => {
            let failed =
                |source| AppError::Read { what: "the policy file", path: PathBuf::from(&path), source };
            let bytes = read_bytes(Path::new(&path), POLICY_BYTES_MAX).map_err(failed)?;
            Ok(Chosen::from_file(&path, &bytes)?)
        }
    }
}

fn ceiling(host: &HostAmounts) -> Result<Ceiling, AppError> {
    match read_bytes(Path::new(CEILING_PATH), POLICY_BYTES_MAX) {
        Ok(bytes) => Ok(Ceiling::from_file(CEILING_PATH, &bytes, host)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ceiling::of_host(host)),
        Err(source) => Err(AppError::Read { what: "the ceiling", path: PathBuf::from(CEILING_PATH), source }),
    }
}

fn workspace_root(choice: &WorkspaceChoice) -> Result<Option<PathBuf>, AppError> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match choice {
        WorkspaceChoice::None => Ok(None),
        WorkspaceChoice::Directory(directory) => Ok(Some(workspace::accept(directory, home.as_deref())?)),
        WorkspaceChoice::Project => {
            let here = std::env::current_dir().map_err(|source| AppError::Read {
                what: "the current directory",
                path: PathBuf::from("."),
                source,
            })?;
            Ok(workspace::find_project(&here, home.as_deref())?)
        }
    }
}
