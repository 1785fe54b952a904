//! A run as its published JSON.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;

use crate::record::egress::Counts;
use crate::record::{ChangeCounts, End, Exposure, Kept, Limits, Run, RunBrief, Usage, WorkspaceRecord};
use crate::report::amount;
use crate::report::json::{
    ArtifactJson, ArtifactsJson, BriefJson, ChangesJson, DroppedJson, ExposureJson, ImageJson, LimitsJson,
    NetworkJson, OutcomeJson, OutputJson, PolicyJson, RESULT_SCHEMA, RunJson, SandboxJson, SecretJson,
    TaskJson, UsageJson, WithheldJson, WorkspaceJson,
};
use crate::task::escape::escape;
use crate::task::outcome::{LostReason, StartFailure};
use crate::task::{DiskLimit, ExitCode, Outcome, TimeLimit};

/// The object of `--result` and of `aegis show --json`.
pub fn of(run: &Run) -> RunJson {
    let end = run.end.as_ref();
    RunJson {
        schema: RESULT_SCHEMA.to_owned(),
        id: run.id.to_string(),
        short_id: run.id.short(),
        name: run.name.clone(),
        labels: run.labels.iter().cloned().collect(),
        state: run.state.name().to_owned(),
        attempt: run.fence.attempt,
        place: if run.project.is_some() { "server" } else { "local" }.to_owned(),
        created_at: amount::date(run.created_ms),
        started_at: run.started_ms.map(amount::date),
        released_at: run.released_ms.map(amount::date),
        ended_at: run.ended_ms.map(amount::date),
        task: task(run),
        workspace: run.workspace.as_ref().map(workspace),
        image: ImageJson {
            reference: run.task.image.clone(),
            id: run.image.as_ref().map(|it| it.id.clone()),
            repo_digest: run.image.as_ref().and_then(|it| it.repo_digest.clone()),
        },
        policy: policy(run),
        limits: limits(&run.limits),
        sandbox: run
            .slot
            .as_ref()
            .map(|it| SandboxJson { slot: it.number, container_id: it.container_id.clone() }),
        outcome: end.map(|it| outcome(&it.outcome)),
        exit_status: end.map(|it| ExitCode::of(&it.outcome).get()),
        usage: end.and_then(|it| it.usage.as_ref()).map(usage),
        output: end.map(|it| OutputJson {
            stdout_bytes: it.output.stdout_bytes,
            stderr_bytes: it.output.stderr_bytes,
            log_truncated: it.output.log_truncated,
        }),
        artifacts: end.map(artifacts),
        changes: end.and_then(|it| it.changes.as_ref()).map(changes),
        network: end.and_then(|it| it.network.as_ref()).map(network),
        redactions: end.map(|it| it.redactions.clone()).unwrap_or_default(),
        exposures: end.map_or_else(Vec::new, |it| it.exposures.iter().map(exposure).collect()),
        full_mounts: end.map_or_else(Vec::new, |it| it.full_mounts.clone()),
        timings_us: end
            .map(|it| it.timings.iter().map(|(phase, us)| (phase.name().to_owned(), *us)).collect())
            .unwrap_or_default(),
        attestation: run.attestation.as_deref().map(document),
    }
}

/// The short form of a list.
pub fn brief(run: &RunBrief) -> BriefJson {
    BriefJson {
        id: run.id.to_string(),
        short_id: run.id.short(),
        name: run.name.clone(),
        labels: run.labels.iter().cloned().collect(),
        state: run.state.name().to_owned(),
        outcome: run.outcome.as_ref().map(outcome),
        command: run.command.iter().map(|it| escape(it)).collect(),
        image: run.image.clone(),
        policy: run.policy_name.clone(),
        created_at: amount::date(run.created_ms),
        released_at: run.released_ms.map(amount::date),
        ended_at: run.ended_ms.map(amount::date),
    }
}

fn task(run: &Run) -> TaskJson {
    TaskJson {
        command: run.task.command.iter().map(|it| escape(it)).collect(),
        workspace: run.task.workspace.as_deref().map(path),
        workdir: run.task.workdir.clone(),
        environment_names: run.task.environment_names.clone(),
        outputs: run.task.outputs.clone(),
        secrets: run.task.secrets.iter().map(secret).collect(),
    }
}

fn secret((name, place): &(String, String)) -> SecretJson {
    SecretJson { name: name.clone(), place: place.clone() }
}

fn exposure(exposure: &Exposure) -> ExposureJson {
    let Exposure { path, secret, kept } = exposure;
    ExposureJson { path: escape(path), secret: secret.clone(), came_out: *kept == Kept::Out }
}

/// How a workspace was filled, as JSON.
pub fn workspace(workspace: &WorkspaceRecord) -> WorkspaceJson {
    let withheld = workspace.withheld.iter().map(|it| WithheldJson {
        path: escape(&it.path),
        reason: it.reason.clone(),
        in_history: it.in_history,
    });
    WorkspaceJson {
        git: workspace.git.word().to_owned(),
        included_secrets: workspace.included.clone(),
        withheld: withheld.collect(),
        withheld_count: workspace.withheld_count,
    }
}

fn policy(run: &Run) -> PolicyJson {
    PolicyJson {
        name: run.policy.name.clone(),
        digest: run.policy.digest.clone(),
        asked: document(&run.policy.asked),
        resolved: document(&run.policy.resolved),
        effective: document(&run.policy.effective),
    }
}

fn limits(limits: &Limits) -> LimitsJson {
    LimitsJson {
        memory_bytes: limits.memory_bytes,
        cpus_milli: limits.cpus_milli,
        pids: limits.pids,
        wall_time_ms: limits.wall_time_ms,
        output_bytes: limits.output_bytes,
        workspace_bytes: limits.workspace_bytes,
        tmp_bytes: limits.tmp_bytes,
        home_bytes: limits.home_bytes,
        run_bytes: limits.run_bytes,
        shm_bytes: limits.shm_bytes,
    }
}

fn usage(usage: &Usage) -> UsageJson {
    UsageJson {
        wall_us: usage.wall_us,
        cpu_user_us: usage.cpu_user_us,
        cpu_system_us: usage.cpu_system_us,
        memory_peak_bytes: usage.memory_peak_bytes,
        pids_peak: usage.pids_peak,
        pids_limit_hits: usage.pids_limit_hits,
        oom_kills: usage.oom_kills,
        written_bytes_peak: usage.written_bytes_peak,
    }
}

/// What came out, as JSON.
pub fn artifacts(end: &End) -> ArtifactsJson {
    let files = end.artifacts.iter().map(|it| ArtifactJson {
        path: escape(&it.path),
        bytes: it.bytes,
        sha256: hex::encode(it.sha256),
        mode: format!("{:04o}", it.mode),
    });
    let dropped =
        end.dropped.iter().map(|it| DroppedJson { path: escape(&it.path), reason: it.reason.clone() });
    ArtifactsJson {
        directory: end.output_dir.as_deref().map(path),
        files: files.collect(),
        unmatched: end.unmatched.clone(),
        dropped: dropped.collect(),
        dropped_count: end.dropped_count,
    }
}

fn network(counts: &Counts) -> NetworkJson {
    NetworkJson {
        allowed: counts.allowed,
        denied: counts.denied,
        failed: counts.failed,
        bytes_up: counts.bytes_up,
        bytes_down: counts.bytes_down,
        entries_dropped: counts.unkept,
    }
}

fn changes(counts: &ChangeCounts) -> ChangesJson {
    ChangesJson {
        added: counts.added,
        modified: counts.modified,
        deleted: counts.deleted,
        skipped: counts.skipped,
        left_out: counts.left_out,
        complete: counts.complete,
        failure: counts.failure.clone(),
    }
}

/// An outcome as JSON.
pub fn outcome(outcome: &Outcome) -> OutcomeJson {
    match outcome {
        Outcome::Exited(code) => OutcomeJson::Exited { code: *code },
        Outcome::Signaled(signal) => OutcomeJson::Signaled { signal: *signal },
        Outcome::TimedOut(TimeLimit::Wall) => OutcomeJson::TimedOut { clock: "wall".to_owned() },
        Outcome::OutOfMemory => OutcomeJson::OutOfMemory {},
        Outcome::OutputLimit => OutcomeJson::OutputLimit {},
        Outcome::DiskLimit(DiskLimit::Full { mount }) => {
            OutcomeJson::DiskLimit { limit: "full".to_owned(), mount: Some(mount.clone()), seen_bytes: None }
        }
        Outcome::DiskLimit(DiskLimit::FileSize) => {
            OutcomeJson::DiskLimit { limit: "file_size".to_owned(), mount: None, seen_bytes: None }
        }
        Outcome::DiskLimit(DiskLimit::Size { bytes, .. }) => OutcomeJson::DiskLimit {
            limit: "size".to_owned(),
            mount: Some("/workspace".to_owned()),
            seen_bytes: Some(*bytes),
        },
        Outcome::DiskLimit(DiskLimit::HostSpace { .. }) => {
            OutcomeJson::DiskLimit { limit: "host_space".to_owned(), mount: None, seen_bytes: None }
        }
        Outcome::Cancelled(by) => OutcomeJson::Cancelled { by: by.to_string() },
        Outcome::Refused { differences } => OutcomeJson::Refused { differences: differences.clone() },
        Outcome::StartFailed { reason } => OutcomeJson::StartFailed {
            reason: reason.name().to_owned(),
            message: match reason {
                StartFailure::NotFound { program } => program.clone(),
                StartFailure::NotExecutable { program, cause } => format!("{program}: {cause}"),
                StartFailure::Infrastructure { message } => message.clone(),
            },
        },
        Outcome::Lost { reason } => OutcomeJson::Lost {
            reason: reason.name().to_owned(),
            message: match reason {
                LostReason::Engine { message } => Some(message.clone()),
                LostReason::InitDied | LostReason::Owner => None,
            },
        },
    }
}

/// A document that was stored as JSON text. The store checked it; what is none all the same is shown as text.
fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn path(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixture;
    use crate::report::json::OutcomeJson;

    fn object(outcome: Outcome) -> Value {
        serde_json::to_value(of(&fixture::ended(outcome))).expect("it encodes")
    }

    fn check(outcome: Outcome, pointer: &str, expected: Value) {
        assert_eq!(object(outcome).pointer(pointer), Some(&expected), "{pointer}");
    }

    #[test]
    fn a_result_names_its_schema_and_its_run() {
        check(Outcome::Exited(0), "/schema", "aegis.run/1".into());
        check(Outcome::Exited(0), "/short_id", "0123456789ab".into());
    }

    #[test]
    fn hostile_bytes_are_escaped() {
        check(Outcome::Exited(0), "/task/command/2", "exit \\xff".into());
        check(Outcome::Exited(0), "/artifacts/files/0/path", "report/a\\xff.xml".into());
    }

    #[test]
    fn the_exit_status_is_the_programs_own() {
        check(Outcome::OutOfMemory, "/exit_status", 137.into());
    }

    #[test]
    fn the_policys_documents_are_objects() {
        check(Outcome::Exited(0), "/policy/asked/sandbox", "strict".into());
    }

    #[test]
    fn every_outcome_has_its_word() {
        for outcome in fixture::every_outcome() {
            let name = outcome.name();
            check(outcome, "/outcome/kind", name.into());
        }
    }

    #[test]
    fn a_result_reads_back_the_same() {
        for outcome in fixture::every_outcome() {
            let result = of(&fixture::ended(outcome));
            let text = serde_json::to_string(&result).expect("it encodes");
            assert_eq!(serde_json::from_str::<RunJson>(&text).expect("it decodes"), result);
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(serde_json::from_str::<OutcomeJson>(r#"{"kind":"exited","code":1,"x":2}"#).is_err());
    }

    /// `AEGIS_BLESS=1` writes the file anew.
    fn check_schema(schema: schemars::Schema, file: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas").join(file);
        let text = serde_json::to_string_pretty(&schema).expect("it encodes") + "\n";
        if std::env::var_os("AEGIS_BLESS").is_some() {
            std::fs::write(&path, &text).expect("written");
        }
        let published = std::fs::read_to_string(&path).expect("it is published");
        assert!(
            published == text,
            "`docs/schemas/{file}` is not what the code says: run this test with AEGIS_BLESS=1"
        );
    }

    #[test]
    fn the_published_schema_of_a_result_is_the_codes() {
        check_schema(schemars::schema_for!(RunJson), "result-1.json");
    }

    #[test]
    fn the_published_schema_of_a_list_is_the_codes() {
        check_schema(schemars::schema_for!(Vec<BriefJson>), "list-1.json");
    }
}
