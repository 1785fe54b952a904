//! Runs for tests.

use std::path::PathBuf;

use crate::record::egress::Counts;
use crate::record::{
    Artifact, ChangeCounts, Dropped, End, Exposure, Fence, Image, Kept, Limits, NewRun, OutputCounts, Owner,
    Phase, PolicyRecord, Run, Slot, TaskRecord, Usage, Withheld, WorkspaceRecord,
};
use crate::task::outcome::{LostReason, StartFailure};
use crate::task::{Cancellation, DiskLimit, GitHistory, Outcome, RunId, RunState, TimeLimit};

/// 2026-01-02 03:04:05.678 UTC.
pub(crate) const CREATED_MS: i64 = 1_767_323_045_678;

/// A run that somebody wants.
pub(crate) fn new_run(owner: &Owner) -> NewRun {
    NewRun {
        id: RunId::generate(),
        name: Some("unit tests".to_owned()),
        labels: vec![("team".to_owned(), "core".to_owned())],
        task: TaskRecord {
            command: vec![b"sh".to_vec(), b"-c".to_vec(), b"exit \xff".to_vec(), Vec::new()],
            image: "aegis/base".to_owned(),
            workspace: Some(PathBuf::from("/srv/project")),
            workdir: None,
            environment_names: vec!["LANG".to_owned()],
            secrets: vec![("KEY".to_owned(), "/run/secrets/KEY".to_owned())],
            outputs: vec!["report/*.xml".to_owned()],
        },
        workspace: Some(workspace()),
        policy: PolicyRecord {
            name: "strict".to_owned(),
            digest: "sha256:00".to_owned(),
            asked: r#"{"sandbox":"strict"}"#.to_owned(),
            resolved: r#"{"policy":"strict"}"#.to_owned(),
            effective: r#"{"resources":{"memory":{"value":"1GiB","origin":"policy"}}}"#.to_owned(),
        },
        limits: limits(),
        owner: Some(owner.clone()),
        created_ms: CREATED_MS,
    }
}

/// A workspace of which one file stayed outside.
pub(crate) fn workspace() -> WorkspaceRecord {
    let withheld = vec![Withheld {
        path: b"a\xff/.env".to_vec(),
        reason: "environment file".to_owned(),
        in_history: true,
    }];
    WorkspaceRecord {
        git: GitHistory::Full,
        included: vec![".npmrc".to_owned()],
        withheld,
        withheld_count: 1,
    }
}

/// The amounts of `strict`.
pub(crate) fn limits() -> Limits {
    Limits {
        memory_bytes: 1 << 30,
        cpus_milli: 2000,
        pids: 256,
        wall_time_ms: 600_000,
        output_bytes: 64 << 20,
        workspace_bytes: 512 << 20,
        tmp_bytes: 256 << 20,
        home_bytes: 64 << 20,
        run_bytes: 16 << 20,
        shm_bytes: 64 << 20,
    }
}

/// An owner that holds no lock.
pub(crate) fn owner() -> Owner {
    Owner { pid: 4242, lock: "00aa".to_owned() }
}

/// An image that was never pulled.
pub(crate) fn image() -> Image {
    Image { id: format!("sha256:{}", "ab".repeat(32)), repo_digest: None }
}

/// A container of its own for each number.
pub(crate) fn slot(number: u32) -> Slot {
    Slot { number, container_id: format!("{number:064x}") }
}

/// An end with one of everything.
pub(crate) fn end(outcome: Outcome) -> End {
    End {
        outcome,
        usage: Some(Usage {
            wall_us: 1_240_000,
            cpu_user_us: 900_000,
            cpu_system_us: 100_000,
            memory_peak_bytes: Some(34 << 20),
            pids_peak: Some(12),
            pids_limit_hits: Some(0),
            oom_kills: None,
            written_bytes_peak: 4096,
        }),
        output: OutputCounts { stdout_bytes: 1234, stderr_bytes: 56, log_truncated: false },
        artifacts: vec![Artifact {
            path: b"report/a\xff.xml".to_vec(),
            bytes: 77,
            sha256: [7; 32],
            mode: 0o644,
        }],
        output_dir: Some(PathBuf::from("/srv/project/aegis-out/0123456789ab")),
        unmatched: vec!["nothing/*".to_owned()],
        dropped: vec![Dropped { path: b"report/fifo".to_vec(), reason: "not a file".to_owned() }],
        dropped_count: 1,
        changes: Some(ChangeCounts {
            added: 2,
            modified: 1,
            deleted: 0,
            skipped: 1,
            left_out: 7,
            complete: true,
            failure: None,
        }),
        network: Some(Counts {
            allowed: 3,
            denied: 1,
            failed: 0,
            bytes_up: 517,
            bytes_down: 70_000,
            kept: 4,
            unkept: 0,
        }),
        redactions: [("KEY".to_owned(), 2)].into(),
        exposures: vec![Exposure {
            path: b"report/a.xml".to_vec(),
            secret: "KEY".to_owned(),
            kept: Kept::Out,
        }],
        full_mounts: vec!["/tmp".to_owned()],
        timings: vec![(Phase::Create, 40_000), (Phase::Run, 1_240_000), (Phase::Total, 1_400_000)],
    }
}

/// A run that ended, as it is kept.
pub(crate) fn ended(outcome: Outcome) -> Run {
    let new = new_run(&owner());
    let id = "01912345-6789-7abc-8def-0123456789ab".parse().expect("an id");
    Run {
        id,
        name: new.name,
        labels: new.labels,
        task: new.task,
        workspace: new.workspace,
        policy: new.policy,
        limits: new.limits,
        state: RunState::Done,
        fence: Fence { run: id, epoch: 1, attempt: 1 },
        owner: new.owner,
        project: None,
        submitter: None,
        image: Some(image()),
        slot: Some(slot(3)),
        attestation: Some(r#"{"checks":[]}"#.to_owned()),
        created_ms: CREATED_MS,
        started_ms: Some(CREATED_MS + 10),
        released_ms: Some(CREATED_MS + 160),
        ended_ms: Some(CREATED_MS + 1_400),
        end: Some(end(outcome)),
    }
}

/// One of each outcome.
pub(crate) fn every_outcome() -> Vec<Outcome> {
    vec![
        Outcome::Exited(3),
        Outcome::Signaled(11),
        Outcome::TimedOut(TimeLimit::Wall),
        Outcome::OutOfMemory,
        Outcome::OutputLimit,
        Outcome::DiskLimit(DiskLimit::Full { mount: "/tmp".to_owned() }),
        Outcome::DiskLimit(DiskLimit::FileSize),
        Outcome::DiskLimit(DiskLimit::Size { bytes: 5, entries: 3 }),
        Outcome::DiskLimit(DiskLimit::HostSpace { left_bytes: 7 }),
        Outcome::Cancelled(Cancellation::Interrupt),
        Outcome::Cancelled(Cancellation::Terminate),
        Outcome::Cancelled(Cancellation::Command),
        Outcome::Cancelled(Cancellation::Deadline),
        Outcome::Cancelled(Cancellation::Dependency),
        Outcome::Cancelled(Cancellation::Client),
        Outcome::Refused { differences: vec!["root is writable".to_owned()] },
        Outcome::StartFailed { reason: StartFailure::NotFound { program: "node".to_owned() } },
        Outcome::StartFailed {
            reason: StartFailure::NotExecutable {
                program: "./x".to_owned(),
                cause: "permission denied".to_owned(),
            },
        },
        Outcome::StartFailed { reason: StartFailure::Infrastructure { message: "no space".to_owned() } },
        Outcome::Lost { reason: LostReason::InitDied },
        Outcome::Lost { reason: LostReason::Engine { message: "it restarted".to_owned() } },
        Outcome::Lost { reason: LostReason::Owner },
    ]
}
