//! The benches: one program, one module per subject, for people. Every bar is a ratio of two measurements that were
//! taken in turns in one run. Words after `cargo bench --` name the subjects to run; without one all are run.
//!
//! Nothing here is a test: no build fails because a machine is busy.

mod cold;
mod gateway;
mod queue;
mod redaction;
mod serve;
mod streaming;
mod support;
mod workspace;

use std::process::ExitCode;

use crate::support::instance::Instance;
use crate::support::table::Verdict;

type Subject = fn(&Instance) -> anyhow::Result<Verdict>;

const SUBJECTS: [(&str, Subject); 7] = [
    ("cold", cold::measure),
    ("redaction", redaction::measure),
    ("streaming", streaming::measure),
    ("workspace", workspace::measure),
    ("gateway", gateway::measure),
    ("queue", queue::measure),
    ("serve", serve::measure),
];

fn main() -> anyhow::Result<ExitCode> {
    // cargo itself adds `--bench`.
    let named: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let mut verdict = Verdict::Held;
    for (name, measure) in SUBJECTS {
        if named.is_empty() || named.iter().any(|it| it == name) {
            verdict = verdict.and(measure(&Instance::new()?)?);
        }
    }
    Ok(match verdict {
        Verdict::Held => ExitCode::SUCCESS,
        Verdict::Missed => ExitCode::FAILURE,
    })
}
