//! What the flags of one run ask for. A flag may raise or lower; the ceiling decides what comes of it.

use std::collections::BTreeSet;

use crate::policy::Pull;
use crate::policy::amount::Amount;
use crate::policy::field::Setting;

/// The flags that were given; `None` asks for nothing. Amounts are read with [`Amount::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overrides {
    /// `--memory`
    pub memory_bytes: Option<u64>,
    /// `--cpus`, in thousandths
    pub cpus_milli: Option<u64>,
    /// `--pids-limit`
    pub pids: Option<u64>,
    /// `--tmp-size`
    pub tmp_bytes: Option<u64>,
    /// `--workspace-size`
    pub workspace_bytes: Option<u64>,
    /// `--output-limit`
    pub output_bytes: Option<u64>,
    /// `--timeout`, in milliseconds
    pub wall_time_ms: Option<u64>,
    /// `--pull`
    pub pull: Option<Pull>,
    /// `--runtime`: this one, and no other
    pub runtime: Option<String>,
}

impl Overrides {
    /// No flag was given.
    pub const NONE: Self = Self {
        memory_bytes: None,
        cpus_milli: None,
        pids: None,
        tmp_bytes: None,
        workspace_bytes: None,
        output_bytes: None,
        wall_time_ms: None,
        pull: None,
        runtime: None,
    };

    /// What they ask for.
    pub fn settings(&self) -> Vec<Setting> {
        let Self {
            memory_bytes,
            cpus_milli,
            pids,
            tmp_bytes,
            workspace_bytes,
            output_bytes,
            wall_time_ms,
            pull,
            runtime,
        } = self;
        let amounts = [
            (Amount::Memory, memory_bytes),
            (Amount::Cpus, cpus_milli),
            (Amount::Pids, pids),
            (Amount::TmpSize, tmp_bytes),
            (Amount::WorkspaceSize, workspace_bytes),
            (Amount::OutputSize, output_bytes),
            (Amount::WallTime, wall_time_ms),
        ];
        let mut settings = Vec::new();
        for (amount, value) in amounts {
            settings.extend(value.map(|it| Setting::Amount(amount, it)));
        }
        settings.extend(pull.map(Setting::Pull));
        settings.extend(runtime.clone().map(|it| Setting::Runtimes(BTreeSet::from([it]))));
        settings
    }
}
