//! What the flags of one run ask for. A flag may raise or lower; the ceiling decides what comes of it.

use std::collections::BTreeSet;

use crate::policy::amount::Amount;
use crate::policy::field::{Field, Setting};
use crate::policy::network::{Allow, Rule};
use crate::policy::{Egress, Policy, Pull};

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
    /// `--allow-net`: beside what the policy allows
    pub allow_net: Vec<Rule>,
    /// `--egress-audit`
    pub egress_audit: bool,
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
        allow_net: Vec::new(),
        egress_audit: false,
    };

    /// What they ask for over a policy: rules are added to its own.
    pub fn settings(&self, policy: &Policy) -> Vec<Setting> {
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
            allow_net,
            egress_audit,
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
        let network = &policy.network;
        if !allow_net.is_empty() {
            settings.push(Setting::NetworkAllow(network.allow.join(&Allow::of(allow_net))));
        }
        if *egress_audit {
            settings.push(Setting::EgressAudit(true));
        }
        if network.egress == Egress::None && (*egress_audit || !allow_net.is_empty()) {
            settings.push(Setting::Egress(Egress::Rules));
        }
        settings
    }

    /// The flag that asks for a field.
    pub fn flag_of(&self, field: Field) -> &'static str {
        let key = field.key();
        match field {
            Field::Egress if self.allow_net.is_empty() => "--egress-audit",
            Field::Egress => "--allow-net",
            _ => key.flag.unwrap_or(key.path),
        }
    }
}
