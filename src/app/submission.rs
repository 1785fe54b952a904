//! A submitted task as policy sees it. It is judged when it is submitted, for a quick answer, and again when it starts, so
//! that a policy that was tightened meanwhile wins.

use crate::access::Project;
use crate::app::prepare::{RUNTIME_DEFAULT, ceiling};
use crate::app::{AppError, secrets};
use crate::policy::{
    Chosen, Denial, HostAmounts, Overrides, Resolved, default_policy, judge, resolve, shipped,
};
use crate::queue::{PolicySource, Submission};
use crate::record::{Limits, NewRun, PolicyRecord, TaskRecord};
use crate::redact::Redactor;
use crate::report::policy as told;
use crate::task::{GitHistory, RunId, TaskSpec, WorkspaceSource};

/// A submitted task with its policy.
#[derive(Debug)]
pub struct Understood {
    /// What is to be run.
    pub task: TaskSpec,
    /// What it may do.
    pub resolved: Resolved,
    /// The engine's runtime, by name.
    pub runtime: String,
}

/// What people call a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// A name.
    pub name: Option<String>,
    /// Labels.
    pub labels: Vec<(String, String)>,
}

/// A project's own ceiling, within the operator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrower {
    /// How it is named in messages.
    pub name: String,
    /// TOML.
    pub text: String,
}

impl Narrower {
    /// That of a project, where it has one.
    pub fn of(project: &Project) -> Option<Self> {
        let text = project.ceiling.clone()?;
        Some(Self { name: format!("project `{}`", project.name), text })
    }
}

/// Resolves the policy of a submission under this host's ceiling. What speaks against it is told by [`Understood::denials`].
pub fn understand(submission: &Submission, named: Named, host: &HostAmounts) -> Result<Understood, AppError> {
    understand_within(submission, named, host, None)
}

/// The same under a project's ceiling, too.
pub fn understand_within(
    submission: &Submission,
    named: Named,
    host: &HostAmounts,
    narrower: Option<&Narrower>,
) -> Result<Understood, AppError> {
    let Submission { overrides, .. } = submission;
    let mut ceiling = ceiling(host)?;
    if let Some(Narrower { name, text }) = narrower {
        ceiling = ceiling.narrowed(name, text.as_bytes())?;
    }
    let resolved = resolve(&chosen(&submission.policy)?, overrides, &ceiling, host);
    let workspace = submission.workspace.clone();
    let task = TaskSpec {
        name: named.name,
        labels: named.labels,
        command: submission.command.clone(),
        image: submission.image.clone(),
        workspace: workspace.map_or(WorkspaceSource::None, WorkspaceSource::Uploaded),
        git: GitHistory::Full,
        include_secrets: Vec::new(),
        publish: Vec::new(),
        workdir: submission.workdir.clone(),
        environment: submission.environment.clone(),
        secrets: submission.secrets.clone(),
        outputs: submission.outputs.clone(),
    };
    let Overrides { runtime, .. } = overrides;
    let runtime = runtime.clone().unwrap_or_else(|| RUNTIME_DEFAULT.to_owned());
    Ok(Understood { task, resolved, runtime })
}

impl Understood {
    /// Everything that policy has against it, before its image is looked at.
    pub fn denials(&self) -> Vec<Denial> {
        judge(&self.task, &self.resolved, &self.runtime)
    }

    /// What is kept of it, free of what `redactor` knows. It has no owner yet.
    pub fn new_run(&self, id: RunId, redactor: &Redactor, created_ms: i64) -> NewRun {
        let mut run = NewRun {
            id,
            name: self.task.name.clone(),
            labels: self.task.labels.clone(),
            task: TaskRecord::of(&self.task),
            workspace: None,
            policy: PolicyRecord {
                name: self.resolved.policy_name.clone(),
                digest: crate::policy::canonical::digest(&self.resolved.policy),
                asked: told::asked(&self.resolved),
                resolved: told::resolved(&self.resolved),
                effective: told::effective(&self.resolved),
            },
            limits: Limits::of(&self.resolved.policy),
            owner: None,
            created_ms,
        };
        secrets::keep_out_of(&mut run, redactor);
        run
    }
}

/// A name is a shipped policy's: whoever submits names no file of the server's.
fn chosen(source: &PolicySource) -> Result<Chosen, AppError> {
    Ok(match source {
        PolicySource::Default => default_policy()?,
        PolicySource::Named(name) => shipped(name)?,
        PolicySource::Document { name, text } => Chosen::from_file(name, text.as_bytes())?,
    })
}
