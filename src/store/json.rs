//! The JSON of single columns: how an outcome and what is counted beside it are written, and read back exactly.

mod submission;
mod workspace;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::record::egress::Counts;
use crate::record::{ChangeCounts, Dropped, End, Exposure, Kept, Limits, Phase, Usage};
use crate::task::outcome::{LostReason, StartFailure};
use crate::task::{Cancellation, DiskLimit, Outcome, TimeLimit};

pub(crate) use submission::{Afterwards, submission, submission_text};
pub(crate) use workspace::{workspace, workspace_text};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exited {
    code: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signaled {
    signal: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "clock", rename_all = "snake_case")]
enum TimedOut {
    Wall {},
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "limit", rename_all = "snake_case")]
enum Disk {
    Full { mount: String },
    FileSize {},
    Size { bytes: u64, entries: u64 },
    HostSpace { left_bytes: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "by", rename_all = "snake_case")]
enum Cancelled {
    Interrupt {},
    Terminate {},
    Command {},
    Deadline {},
    Dependency {},
    Client {},
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    differences: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "reason", rename_all = "snake_case")]
enum Unstarted {
    NotFound { program: String },
    NotExecutable { program: String, cause: String },
    Infrastructure { message: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "reason", rename_all = "snake_case")]
enum Lost {
    InitDied {},
    Engine { message: String },
    Owner {},
}

/// The detail column of an outcome; its name has a column of its own.
pub(crate) fn outcome_detail(outcome: &Outcome) -> Result<String, serde_json::Error> {
    match outcome {
        Outcome::Exited(code) => text(&Exited { code: *code }),
        Outcome::Signaled(signal) => text(&Signaled { signal: *signal }),
        Outcome::TimedOut(TimeLimit::Wall) => text(&TimedOut::Wall {}),
        Outcome::OutOfMemory | Outcome::OutputLimit => text(&Nothing {}),
        Outcome::DiskLimit(DiskLimit::Full { mount }) => text(&Disk::Full { mount: mount.clone() }),
        Outcome::DiskLimit(DiskLimit::FileSize) => text(&Disk::FileSize {}),
        Outcome::DiskLimit(DiskLimit::Size { bytes, entries }) => {
            text(&Disk::Size { bytes: *bytes, entries: *entries })
        }
        Outcome::DiskLimit(DiskLimit::HostSpace { left_bytes }) => {
            text(&Disk::HostSpace { left_bytes: *left_bytes })
        }
        Outcome::Cancelled(by) => text(&cancelled(*by)),
        Outcome::Refused { differences } => text(&Refused { differences: differences.clone() }),
        Outcome::StartFailed { reason } => text(&unstarted(reason)),
        Outcome::Lost { reason } => text(&lost(reason)),
    }
}

fn cancelled(by: Cancellation) -> Cancelled {
    match by {
        Cancellation::Interrupt => Cancelled::Interrupt {},
        Cancellation::Terminate => Cancelled::Terminate {},
        Cancellation::Command => Cancelled::Command {},
        Cancellation::Deadline => Cancelled::Deadline {},
        Cancellation::Dependency => Cancelled::Dependency {},
        Cancellation::Client => Cancelled::Client {},
    }
}

fn unstarted(reason: &StartFailure) -> Unstarted {
    match reason.clone() {
        StartFailure::NotFound { program } => Unstarted::NotFound { program },
        StartFailure::NotExecutable { program, cause } => Unstarted::NotExecutable { program, cause },
        StartFailure::Infrastructure { message } => Unstarted::Infrastructure { message },
    }
}

fn lost(reason: &LostReason) -> Lost {
    match reason.clone() {
        LostReason::InitDied => Lost::InitDied {},
        LostReason::Engine { message } => Lost::Engine { message },
        LostReason::Owner => Lost::Owner {},
    }
}

/// The outcome of the two columns; `None` if they hold what this version never writes.
pub(crate) fn outcome(name: &str, detail: &str) -> Option<Outcome> {
    let outcome = match name {
        "exited" => Outcome::Exited(value::<Exited>(detail)?.code),
        "signaled" => Outcome::Signaled(value::<Signaled>(detail)?.signal),
        "timed_out" => match value::<TimedOut>(detail)? {
            TimedOut::Wall {} => Outcome::TimedOut(TimeLimit::Wall),
        },
        "out_of_memory" => value::<Nothing>(detail).map(|Nothing {}| Outcome::OutOfMemory)?,
        "output_limit" => value::<Nothing>(detail).map(|Nothing {}| Outcome::OutputLimit)?,
        "disk_limit" => Outcome::DiskLimit(match value::<Disk>(detail)? {
            Disk::Full { mount } => DiskLimit::Full { mount },
            Disk::FileSize {} => DiskLimit::FileSize,
            Disk::Size { bytes, entries } => DiskLimit::Size { bytes, entries },
            Disk::HostSpace { left_bytes } => DiskLimit::HostSpace { left_bytes },
        }),
        "cancelled" => Outcome::Cancelled(match value::<Cancelled>(detail)? {
            Cancelled::Interrupt {} => Cancellation::Interrupt,
            Cancelled::Terminate {} => Cancellation::Terminate,
            Cancelled::Command {} => Cancellation::Command,
            Cancelled::Deadline {} => Cancellation::Deadline,
            Cancelled::Dependency {} => Cancellation::Dependency,
            Cancelled::Client {} => Cancellation::Client,
        }),
        "refused" => Outcome::Refused { differences: value::<Refused>(detail)?.differences },
        "start_failed" => Outcome::StartFailed {
            reason: match value::<Unstarted>(detail)? {
                Unstarted::NotFound { program } => StartFailure::NotFound { program },
                Unstarted::NotExecutable { program, cause } => StartFailure::NotExecutable { program, cause },
                Unstarted::Infrastructure { message } => StartFailure::Infrastructure { message },
            },
        },
        "lost" => Outcome::Lost {
            reason: match value::<Lost>(detail)? {
                Lost::InitDied {} => LostReason::InitDied,
                Lost::Engine { message } => LostReason::Engine { message },
                Lost::Owner {} => LostReason::Owner,
            },
        },
        _ => return None,
    };
    Some(outcome)
}

/// The limits column.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsJson {
    memory_bytes: u64,
    cpus_milli: u64,
    pids: u64,
    wall_time_ms: u64,
    output_bytes: u64,
    workspace_bytes: u64,
    tmp_bytes: u64,
    home_bytes: u64,
    run_bytes: u64,
    shm_bytes: u64,
}

pub(crate) fn limits_text(limits: &Limits) -> Result<String, serde_json::Error> {
    text(&LimitsJson {
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
    })
}

pub(crate) fn limits(text: &str) -> Option<Limits> {
    let it: LimitsJson = value(text)?;
    Some(Limits {
        memory_bytes: it.memory_bytes,
        cpus_milli: it.cpus_milli,
        pids: it.pids,
        wall_time_ms: it.wall_time_ms,
        output_bytes: it.output_bytes,
        workspace_bytes: it.workspace_bytes,
        tmp_bytes: it.tmp_bytes,
        home_bytes: it.home_bytes,
        run_bytes: it.run_bytes,
        shm_bytes: it.shm_bytes,
    })
}

/// The usage column.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageJson {
    wall_us: u64,
    cpu_user_us: u64,
    cpu_system_us: u64,
    memory_peak_bytes: Option<u64>,
    pids_peak: Option<u64>,
    pids_limit_hits: Option<u64>,
    oom_kills: Option<u64>,
    written_bytes_peak: u64,
}

pub(crate) fn usage_text(usage: &Usage) -> Result<String, serde_json::Error> {
    text(&UsageJson {
        wall_us: usage.wall_us,
        cpu_user_us: usage.cpu_user_us,
        cpu_system_us: usage.cpu_system_us,
        memory_peak_bytes: usage.memory_peak_bytes,
        pids_peak: usage.pids_peak,
        pids_limit_hits: usage.pids_limit_hits,
        oom_kills: usage.oom_kills,
        written_bytes_peak: usage.written_bytes_peak,
    })
}

pub(crate) fn usage(text: &str) -> Option<Usage> {
    let it: UsageJson = value(text)?;
    Some(Usage {
        wall_us: it.wall_us,
        cpu_user_us: it.cpu_user_us,
        cpu_system_us: it.cpu_system_us,
        memory_peak_bytes: it.memory_peak_bytes,
        pids_peak: it.pids_peak,
        pids_limit_hits: it.pids_limit_hits,
        oom_kills: it.oom_kills,
        written_bytes_peak: it.written_bytes_peak,
    })
}

/// The remarks column: what is told beside an outcome and never searched for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemarksJson {
    unmatched: Vec<String>,
    dropped: Vec<DroppedJson>,
    dropped_count: u64,
    full_mounts: Vec<String>,
    timings_us: Vec<(String, u64)>,
    // Runs of an earlier version have none.
    #[serde(default)]
    changes: Option<ChangesJson>,
    #[serde(default)]
    network: Option<NetworkJson>,
    #[serde(default)]
    redactions: BTreeMap<String, u64>,
    #[serde(default)]
    exposures: Vec<ExposureJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkJson {
    allowed: u64,
    denied: u64,
    failed: u64,
    bytes_up: u64,
    bytes_down: u64,
    kept: u64,
    unkept: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExposureJson {
    path_hex: String,
    secret: String,
    kept_in: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesJson {
    added: u64,
    modified: u64,
    deleted: u64,
    skipped: u64,
    left_out: u64,
    complete: bool,
    failure: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DroppedJson {
    path_hex: String,
    reason: String,
}

/// What the remarks column adds to an end.
pub(crate) struct Remarks {
    pub(crate) unmatched: Vec<String>,
    pub(crate) dropped: Vec<Dropped>,
    pub(crate) dropped_count: u64,
    pub(crate) full_mounts: Vec<String>,
    pub(crate) timings: Vec<(Phase, u64)>,
    pub(crate) changes: Option<ChangeCounts>,
    pub(crate) network: Option<Counts>,
    pub(crate) redactions: BTreeMap<String, u64>,
    pub(crate) exposures: Vec<Exposure>,
}

pub(crate) fn remarks_text(end: &End) -> Result<String, serde_json::Error> {
    let dropped = end
        .dropped
        .iter()
        .map(|it| DroppedJson { path_hex: hex::encode(&it.path), reason: it.reason.clone() })
        .collect();
    text(&RemarksJson {
        unmatched: end.unmatched.clone(),
        dropped,
        dropped_count: end.dropped_count,
        full_mounts: end.full_mounts.clone(),
        timings_us: end.timings.iter().map(|(phase, us)| (phase.name().to_owned(), *us)).collect(),
        changes: end.changes.as_ref().map(|it| ChangesJson {
            added: it.added,
            modified: it.modified,
            deleted: it.deleted,
            skipped: it.skipped,
            left_out: it.left_out,
            complete: it.complete,
            failure: it.failure.clone(),
        }),
        network: end.network.map(|it| NetworkJson {
            allowed: it.allowed,
            denied: it.denied,
            failed: it.failed,
            bytes_up: it.bytes_up,
            bytes_down: it.bytes_down,
            kept: it.kept,
            unkept: it.unkept,
        }),
        redactions: end.redactions.clone(),
        exposures: end.exposures.iter().map(exposure_json).collect(),
    })
}

fn exposure_json(exposure: &Exposure) -> ExposureJson {
    let Exposure { path, secret, kept } = exposure;
    ExposureJson { path_hex: hex::encode(path), secret: secret.clone(), kept_in: *kept == Kept::In }
}

fn exposure(json: ExposureJson) -> Option<Exposure> {
    let kept = if json.kept_in { Kept::In } else { Kept::Out };
    Some(Exposure { path: hex::decode(json.path_hex).ok()?, secret: json.secret, kept })
}

pub(crate) fn remarks(text: &str) -> Option<Remarks> {
    let it: RemarksJson = value(text)?;
    let mut dropped = Vec::with_capacity(it.dropped.len());
    for entry in it.dropped {
        dropped.push(Dropped { path: hex::decode(entry.path_hex).ok()?, reason: entry.reason });
    }
    let mut timings = Vec::with_capacity(it.timings_us.len());
    for (name, us) in it.timings_us {
        timings.push((Phase::from_name(&name)?, us));
    }
    Some(Remarks {
        unmatched: it.unmatched,
        dropped,
        dropped_count: it.dropped_count,
        full_mounts: it.full_mounts,
        timings,
        changes: it.changes.map(|it| ChangeCounts {
            added: it.added,
            modified: it.modified,
            deleted: it.deleted,
            skipped: it.skipped,
            left_out: it.left_out,
            complete: it.complete,
            failure: it.failure,
        }),
        network: it.network.map(|it| Counts {
            allowed: it.allowed,
            denied: it.denied,
            failed: it.failed,
            bytes_up: it.bytes_up,
            bytes_down: it.bytes_down,
            kept: it.kept,
            unkept: it.unkept,
        }),
        redactions: it.redactions,
        exposures: it.exposures.into_iter().map(exposure).collect::<Option<_>>()?,
    })
}

/// Any plain value as a column's text.
pub(crate) fn text<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string(value)
}

/// A column's text as a plain value.
pub(crate) fn value<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// The detail of an event: names and values, in this order.
pub(crate) fn detail(fields: &[(&str, serde_json::Value)]) -> String {
    let map: serde_json::Map<String, serde_json::Value> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    serde_json::Value::Object(map).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            any::<u8>().prop_map(Outcome::Exited),
            any::<u8>().prop_map(Outcome::Signaled),
            Just(Outcome::TimedOut(TimeLimit::Wall)),
            Just(Outcome::OutOfMemory),
            Just(Outcome::OutputLimit),
            any::<String>().prop_map(|mount| Outcome::DiskLimit(DiskLimit::Full { mount })),
            Just(Outcome::DiskLimit(DiskLimit::FileSize)),
            any::<(u64, u64)>()
                .prop_map(|(bytes, entries)| Outcome::DiskLimit(DiskLimit::Size { bytes, entries })),
            any::<u64>().prop_map(|left_bytes| Outcome::DiskLimit(DiskLimit::HostSpace { left_bytes })),
            proptest::sample::select(Cancellation::ALL.to_vec()).prop_map(Outcome::Cancelled),
            any::<Vec<String>>().prop_map(|differences| Outcome::Refused { differences }),
            any::<String>()
                .prop_map(|program| Outcome::StartFailed { reason: StartFailure::NotFound { program } }),
            any::<(String, String)>().prop_map(|(program, cause)| Outcome::StartFailed {
                reason: StartFailure::NotExecutable { program, cause }
            }),
            any::<String>().prop_map(|message| Outcome::StartFailed {
                reason: StartFailure::Infrastructure { message }
            }),
            Just(Outcome::Lost { reason: LostReason::InitDied }),
            any::<String>().prop_map(|message| Outcome::Lost { reason: LostReason::Engine { message } }),
            Just(Outcome::Lost { reason: LostReason::Owner }),
        ]
    }

    proptest! {
        #[test]
        fn every_outcome_is_read_back_exactly(given in any_outcome()) {
            let detail = outcome_detail(&given).expect("it encodes");
            prop_assert_eq!(outcome(given.name(), &detail), Some(given));
        }

        #[test]
        fn no_text_makes_the_decoder_panic(name in "[a-z_]{0,13}", detail in any::<String>()) {
            let _ = outcome(&name, &detail);
        }
    }

    fn check_refused(name: &str, detail: &str) {
        assert_eq!(outcome(name, detail), None);
    }

    #[test]
    fn an_unknown_outcome_is_refused() {
        check_refused("vanished", "{}");
    }

    #[test]
    fn an_unknown_field_is_refused() {
        check_refused("exited", r#"{"code":1,"why":2}"#);
        check_refused("timed_out", r#"{"clock":"wall","why":2}"#);
    }

    #[test]
    fn a_detail_of_another_outcome_is_refused() {
        check_refused("exited", r#"{"signal":9}"#);
        check_refused("out_of_memory", r#"{"code":1}"#);
    }

    #[test]
    fn remarks_of_the_first_version_are_read() {
        let first = r#"{"unmatched":[],"dropped":[],"dropped_count":0,"full_mounts":[],"timings_us":[]}"#;
        let remarks = remarks(first).expect("they are read");
        assert!(remarks.changes.is_none() && remarks.network.is_none());
        assert!(remarks.redactions.is_empty() && remarks.exposures.is_empty());
    }
}
