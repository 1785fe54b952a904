//! From an order to a task with its policy, before the engine is asked: every mistake that can be found is found here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::join::{Joined, Settled, join};
use crate::app::project::{self, FileUse, Project, Trust};
use crate::app::{AppError, RunOrder, WorkspaceChoice, read_bytes};
use crate::config::trust::TrustStore;
use crate::policy::ceiling::CEILING_PATH;
use crate::policy::document::project::{FILE_NAME, Written};
use crate::policy::request::{Consent, resolve_request};
use crate::policy::{
    Ceiling, Chosen, HostAmounts, Overrides, Resolved, Selection, default_policy, resolve, select, shipped,
};
use crate::sandbox::workspace::{self, Choice, Ignores, Plan, WorkspaceError};
use crate::task::escape::escape;
use crate::task::{TaskSpec, WorkspaceSource};

/// Bytes of a policy file that are read; the parser has a lower bound of its own and a message for it.
const POLICY_BYTES_MAX: u64 = 1024 * 1024;
/// The runtime where no flag names one.
pub(super) const RUNTIME_DEFAULT: &str = "runc";

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
    /// What the project's file leaves out of the copy.
    pub excluded: Vec<Written<String>>,
    /// What is run with whom to thank for it.
    pub settled: Vec<Settled>,
    /// How the image was chosen, where a person wants to know.
    pub remark: Option<String>,
}

/// Reads policy and ceiling; what policy denies is an error before the workspace is walked.
pub fn prepare(order: &RunOrder, host: &HostAmounts, trusted: &TrustStore) -> Result<Prepared, AppError> {
    let prepared = prepare_leniently(order, host, trusted)?;
    let denials = crate::policy::judge(&prepared.task, &prepared.resolved, &prepared.runtime);
    if !denials.is_empty() {
        return Err(AppError::Denied(denials));
    }
    Ok(prepared)
}

/// The workspace of an order that policy allows, to be walked.
#[derive(Debug)]
pub struct Unwalked {
    source: WorkspaceSource,
    choice: Choice,
    limits: workspace::Limits,
    excluded: Vec<Written<String>>,
}

impl Unwalked {
    /// That of this order.
    pub fn of(prepared: &Prepared) -> Self {
        let Prepared { task, resolved, excluded, .. } = prepared;
        Self {
            source: task.workspace.clone(),
            choice: Choice { git: task.git, include_secrets: task.include_secrets.clone() },
            limits: workspace::Limits::from(&resolved.policy.filesystem),
            excluded: excluded.clone(),
        }
    }

    /// Walks and measures it. Gives what is copied in, and when that was begun, seconds since the epoch.
    pub fn walk(&self) -> Result<(Option<Plan>, i64), AppError> {
        let seen_s = jiff::Timestamp::now().as_second();
        let plan = match (&self.source, self.choice.include_secrets.first()) {
            (WorkspaceSource::Directory(root), _) => {
                let excluded = excluded(&self.excluded)?;
                Some(workspace::scan_excluding(root, self.limits, &self.choice, excluded)?)
            }
            (WorkspaceSource::Uploaded(_), _) | (WorkspaceSource::None, None) => None,
            (WorkspaceSource::None, Some(path)) => {
                return Err(WorkspaceError::NoSecret {
                    path: escape(path.as_bytes()),
                    reason: "is in no workspace: there is none; name a directory with `--workspace`",
                }
                .into());
            }
        };
        Ok((plan, seen_s))
    }
}

/// The same without looking into the workspace, and with what policy denies left to the caller.
pub fn prepare_leniently(
    order: &RunOrder,
    host: &HostAmounts,
    trusted: &TrustStore,
) -> Result<Prepared, AppError> {
    let runtime = order.overrides.runtime.clone().unwrap_or_else(|| RUNTIME_DEFAULT.to_owned());
    let root = workspace_root(&order.workspace)?;
    let project = match &root {
        Some(root) => Some(project::open(root, order.project_file)?),
        None => None,
    };
    let trust = match &project {
        Some(project) => project.trust(order, trusted)?,
        None => Trust::Unneeded,
    };
    let asked = (order.policy.as_deref(), &order.overrides);
    let mut resolved = resolved(asked, project.as_ref(), &trust, host)?;
    let Joined { command, image, workdir, environment, outputs, settled, remark, denials } =
        join(order, project.as_ref(), &trust)?;
    let remark = if project.is_some() { remark } else { unmarked(order) };
    resolved.denials.extend(denials);
    let task = TaskSpec {
        name: order.name.clone(),
        labels: order.labels.clone(),
        command,
        image,
        workspace: root.map_or(WorkspaceSource::None, WorkspaceSource::Directory),
        git: order.git,
        include_secrets: order.include_secrets.clone(),
        publish: order.publish.clone(),
        secrets: order.secrets.clone(),
        workdir,
        environment,
        outputs,
    };
    let excluded = project.and_then(|it| it.file).map(|it| it.said.exclude).unwrap_or_default();
    Ok(Prepared { task, resolved, workspace: None, seen_s: 0, runtime, excluded, settled, remark })
}

/// A policy that the user names takes the place of the whole `[policy]` of the project's file.
pub(super) fn resolved(
    (policy, overrides): (Option<&str>, &Overrides),
    project: Option<&Project>,
    trust: &Trust,
    host: &HostAmounts,
) -> Result<Resolved, AppError> {
    let ceiling = ceiling(host)?;
    let file = project.and_then(|it| it.file.as_ref().map(|file| (it, file)));
    let (None, Some((project, file))) = (policy, file) else {
        return Ok(resolve(&choose(policy)?, overrides, &ceiling, host));
    };
    let hint = project.way_out(trust);
    let consent = match trust {
        Trust::Given => Consent::Given,
        Trust::Unneeded | Trust::Never | Trust::Changed(_) => Consent::Missing { hint: &hint },
    };
    Ok(resolve_request(&file.said.policy, consent, overrides, &ceiling, host)?)
}

/// A person who stands in a project that nothing marks would wonder where the files are.
fn unmarked(order: &RunOrder) -> Option<String> {
    if order.workspace != WorkspaceChoice::Project {
        return None;
    }
    let here = std::env::current_dir().ok()?;
    let (sign, _) = project::open(&here, FileUse::Ignore).ok()?.look.found?;
    Some(format!(
        "no {FILE_NAME} or .git is here or above, so nothing is copied in: `-w .` copies this directory (`{sign}` is here)"
    ))
}

fn excluded(patterns: &[Written<String>]) -> Result<Option<Arc<Ignores>>, AppError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let listed = patterns.iter().map(|it| (it.line, it.value.as_str()));
    Ok(Some(Ignores::listed(FILE_NAME, listed)?))
}

pub(super) fn choose(policy: Option<&str>) -> Result<Chosen, AppError> {
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

/// The operator's ceiling, or that of a host without one.
pub(super) fn ceiling(host: &HostAmounts) -> Result<Ceiling, AppError> {
    match read_bytes(Path::new(CEILING_PATH), POLICY_BYTES_MAX) {
        Ok(bytes) => Ok(Ceiling::from_file(CEILING_PATH, &bytes, host)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ceiling::of_host(host)),
        Err(source) => Err(AppError::Read { what: "the ceiling", path: PathBuf::from(CEILING_PATH), source }),
    }
}

pub(super) fn workspace_root(choice: &WorkspaceChoice) -> Result<Option<PathBuf>, AppError> {
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
