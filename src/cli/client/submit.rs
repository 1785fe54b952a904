//! A task is given to a server, which runs it when it is its turn: left there (`--detach`), or with this process attached.

use hyper::{Method, StatusCode};

use crate::api::attach;
use crate::api::wire::attach::{AttachJson, TerminalJson};
use crate::api::wire::submit::{
    LimitsAskedJson, PolicyDocumentJson, ScheduleJson, SubmitJson, SubmittedJson,
};
use crate::app::upload::{Package, Packed, ProjectPolicy, package};
use crate::app::{Changes, RunOrder};
use crate::cli::attached::Stdio;
use crate::cli::client::connection::Question;
use crate::cli::client::{Client, refused};
use crate::cli::failure::Failure;
use crate::intake::{cpus, duration, size};
use crate::policy::{Overrides, Pull, Selection, select};
use crate::task::ExitCode;

/// Bytes of a policy file.
const POLICY_BYTES_MAX: u64 = 256 * 1024;

impl Client {
    /// Uploads the workspace where the server lacks it, and submits; the id is on the server's disk then.
    pub async fn submit(&self, order: &RunOrder) -> Result<SubmittedJson, Failure> {
        let package = package(order).map_err(Failure::from)?;
        if let Some(obstacle) = obstacle(order, &package) {
            return Err(obstacle.refusal());
        }
        let json = json(order, &package)?;
        // Whatever the server has against it, the task was not run.
        self.send_workspace(package).await.map_err(not_run)?;
        self.ask(Method::POST, "/api/v1/runs", Some(&json)).await.map_err(not_run)
    }

    /// The same with this process attached: the connection, as a stream of frames.
    pub async fn attach(
        &self,
        order: &RunOrder,
        package: Package,
        stdio: Stdio,
    ) -> Result<hyper::upgrade::Upgraded, Failure> {
        let run = json(order, &package)?;
        self.send_workspace(package).await.map_err(not_run)?;
        let terminal = stdio.terminal().map(|(rows, columns)| TerminalJson { rows, columns });
        let body = AttachJson { run, input: stdio != Stdio::Output, terminal };
        let body = Some(serde_json::to_vec(&body).map_err(|it| Failure::of(&it))?);
        let accept = "application/json";
        let question = Question { body, accept, ..Question::new(Method::POST, "/api/v1/runs/attach") };
        self.upgrade(question, attach::PROTOCOL).await.map_err(not_run)
    }

    async fn send_workspace(&self, package: Package) -> Result<(), Failure> {
        match package.workspace {
            Some(packed) => self.upload(packed).await,
            None => Ok(()),
        }
    }

    async fn upload(&self, packed: Packed) -> Result<(), Failure> {
        let path = format!("/api/v1/workspaces/{}", packed.digest);
        let look = self.send(Question::new(Method::HEAD, &path)).await?;
        if look.status().is_success() {
            return Ok(());
        }
        if look.status() != StatusCode::NOT_FOUND {
            // The answer to HEAD has no words: the upload is refused with them.
            tracing::debug!(status = %look.status(), "the server did not say whether it has the workspace");
        }
        let file = Some((tokio::fs::File::from_std(packed.file), packed.bytes));
        let mut answer = self.send(Question { file, ..Question::new(Method::PUT, &path) }).await?;
        if answer.status().is_success() {
            return Ok(());
        }
        let body = answer.whole(64 * 1024).await.unwrap_or_default();
        Err(refused(answer.status(), serde_json::from_slice(&body).ok()))
    }
}

/// What was refused was not run.
fn not_run(failure: Failure) -> Failure {
    failure.with_exit_code(ExitCode::AEGIS)
}

/// Why a server cannot be given a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obstacle {
    /// What is in the way.
    pub why: &'static str,
    hints: &'static [&'static str],
}

impl Obstacle {
    /// As the failure of who insists on a server.
    pub fn refusal(self) -> Failure {
        self.hints.iter().fold(Failure::usage(self.why), |failure, hint| failure.hint(*hint))
    }
}

/// What no server can do for an order.
pub fn obstacle(order: &RunOrder, package: &Package) -> Option<Obstacle> {
    if !order.publish.is_empty() {
        let why = "`--publish` leads to this process, and a server's run has none here";
        return Some(Obstacle { why, hints: &[] });
    }
    if package.project_policy == ProjectPolicy::Asked {
        return Some(Obstacle {
            why: "the project's aegis.toml changes the policy, and a server does not read it",
            hints: &[
                "name a policy or a policy file: `--sandbox`",
                "or leave the file aside: `--no-project-file`",
            ],
        });
    }
    if package.task.command.iter().any(|it| std::str::from_utf8(it).is_err()) {
        return Some(Obstacle {
            why: "an argument is not UTF-8 text, which a server does not take",
            hints: &[],
        });
    }
    None
}

fn json(order: &RunOrder, package: &Package) -> Result<SubmitJson, Failure> {
    let task = &package.task;
    // Whoever submits looked for what no text is (`obstacle`).
    let command = task.command.iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect();
    let (policy, policy_document) = policy(order.policy.as_deref())?;
    let Overrides { pull, runtime, allow_net, egress_audit, .. } = &order.overrides;
    Ok(SubmitJson {
        command,
        image: Some(task.image.clone()),
        project: None,
        name: task.name.clone(),
        labels: task.labels.iter().cloned().collect(),
        policy,
        policy_document,
        limits: limits(&order.overrides),
        pull: pull.map(|it| word(it).to_owned()),
        runtime: runtime.clone(),
        allow_net: allow_net.iter().map(|it| format!("{}:{}", it.host, it.ports[0])).collect(),
        egress_audit: *egress_audit,
        workspace: package.workspace.as_ref().map(|it| it.digest.clone()),
        workdir: task.workdir.clone(),
        environment: task.environment.iter().cloned().collect(),
        secrets: task.secrets.iter().map(|it| format!("{}={}", it.name, it.place.shown())).collect(),
        outputs: task.outputs.iter().map(|it| it.pattern.clone()).collect(),
        keep_changes: order.changes == Changes::Kept && package.workspace.is_some(),
        grace: Some(duration::display(order.grace_ms)),
        schedule: ScheduleJson::default(),
    })
}

fn policy(asked: Option<&str>) -> Result<(Option<String>, Option<PolicyDocumentJson>), Failure> {
    let Some(asked) = asked else { return Ok((None, None)) };
    match select(asked).map_err(|it| Failure::of(&it))? {
        Selection::Shipped(name) => Ok((Some(name.to_owned()), None)),
        Selection::File(path) => {
            let text = crate::app::read_bounded(std::path::Path::new(&path), POLICY_BYTES_MAX);
            let text = text.map_err(|it| Failure::of(&it))?;
            let name =
                std::path::Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((None, Some(PolicyDocumentJson { name, text })))
        }
    }
}

fn limits(overrides: &Overrides) -> LimitsAskedJson {
    let bytes = |it: Option<u64>| it.map(size::display);
    LimitsAskedJson {
        memory: bytes(overrides.memory_bytes),
        cpus: overrides.cpus_milli.map(cpus::display),
        pids: overrides.pids,
        tmp_size: bytes(overrides.tmp_bytes),
        workspace_size: bytes(overrides.workspace_bytes),
        output_limit: bytes(overrides.output_bytes),
        timeout: overrides.wall_time_ms.map(duration::display),
    }
}

fn word(pull: Pull) -> &'static str {
    match pull {
        Pull::Never => "never",
        Pull::Missing => "missing",
        Pull::Always => "always",
    }
}
