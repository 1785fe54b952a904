//! The fields of a policy and the key of each: one table that drives the reader of files, the nearest key, the ranges,
//! the flags, the origins and the reference page.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::amount::{Amount, Unit};
use crate::policy::document::egress::{DENY_KEYS, RULE_KEYS};
use crate::policy::network::port::PortPattern;
use crate::policy::network::{Allow, Denied, Union};
use crate::policy::{
    Egress, Filesystem, Images, Network, Outputs, Policy, Process, Pull, Resources, SecretOutputs,
    WorkspaceMedium,
};

/// One field of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is documented where its key is, in `Field::key`")]
pub enum Field {
    Amount(Amount),
    Workspace,
    IncludeSecrets,
    Ptrace,
    Egress,
    EgressPorts,
    NetworkAllow,
    NetworkDeny,
    EgressAudit,
    Publish,
    Pull,
    Allow,
    RequireDigest,
    Pins,
    Runtimes,
    SecretFiles,
    SecretEnvironment,
    SecretOutputs,
}

/// A field with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is documented where its key is, in `Field::key`")]
pub enum Setting {
    Amount(Amount, u64),
    Workspace(WorkspaceMedium),
    IncludeSecrets(BTreeSet<String>),
    Ptrace(bool),
    Egress(Egress),
    EgressPorts(BTreeSet<u16>),
    NetworkAllow(Allow),
    NetworkDeny(Union<Denied>),
    EgressAudit(bool),
    Publish(Union<PortPattern>),
    Pull(Pull),
    Allow(BTreeSet<BTreeSet<String>>),
    RequireDigest(bool),
    Pins(BTreeMap<String, BTreeSet<String>>),
    Runtimes(BTreeSet<String>),
    SecretFiles(BTreeSet<String>),
    SecretEnvironment(BTreeSet<String>),
    SecretOutputs(SecretOutputs),
}

/// How a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its dotted path in a file.
    pub path: &'static str,
    /// The flag that overrides it.
    pub flag: Option<&'static str>,
    /// What it is, in one line.
    pub doc: &'static str,
}

/// Every field, in the order in which they are shown and hashed.
pub const FIELDS: [Field; 33] = [
    Field::Workspace,
    Field::Amount(Amount::WorkspaceSize),
    Field::Amount(Amount::WorkspaceFiles),
    Field::Amount(Amount::TmpSize),
    Field::Amount(Amount::HomeSize),
    Field::Amount(Amount::RunSize),
    Field::Amount(Amount::ShmSize),
    Field::IncludeSecrets,
    Field::Ptrace,
    Field::Amount(Amount::Memory),
    Field::Amount(Amount::Cpus),
    Field::Amount(Amount::Pids),
    Field::Amount(Amount::NofileSoft),
    Field::Amount(Amount::NofileHard),
    Field::Amount(Amount::WallTime),
    Field::Amount(Amount::OutputSize),
    Field::Amount(Amount::CollectedSize),
    Field::Amount(Amount::CollectedEntries),
    Field::Amount(Amount::CollectedDepth),
    Field::Egress,
    Field::EgressPorts,
    Field::NetworkAllow,
    Field::NetworkDeny,
    Field::EgressAudit,
    Field::Publish,
    Field::Pull,
    Field::Allow,
    Field::RequireDigest,
    Field::Pins,
    Field::Runtimes,
    Field::SecretFiles,
    Field::SecretEnvironment,
    Field::SecretOutputs,
];

impl Field {
    /// How it is written.
    pub fn key(self) -> Key {
        let (path, flag, doc) = match self {
            Self::Amount(amount) => return amount_key(amount),
            Self::Workspace => {
                ("filesystem.workspace", None, "What carries the workspace; `none` admits no workspace.")
            }
            Self::IncludeSecrets => (
                "filesystem.include_secrets",
                None,
                "Files that look like secrets and that `--include-secret` may bring in; `**` is any.",
            ),
            Self::Ptrace => ("process.ptrace", None, "Whether the task's processes may trace each other."),
            Self::Egress => ("network.egress", None, "Which names the task may reach."),
            Self::EgressPorts => {
                ("network.ports", None, "The ports of `public`, and of names that `audit` lets pass.")
            }
            Self::NetworkAllow => (
                "network.allow",
                Some("--allow-net"),
                "Rules, each a table `[[network.allow]]`: what may be reached under `rules`.",
            ),
            Self::NetworkDeny => (
                "network.deny",
                None,
                "Rules, each a table `[[network.deny]]`: what is not reached, whatever allows it.",
            ),
            Self::EgressAudit => (
                "network.audit",
                Some("--egress-audit"),
                "Whether every public name passes and is recorded, to learn which rules a task needs.",
            ),
            Self::Publish => (
                "network.publish",
                None,
                "Ports of the task that `--publish` may make reachable on the host's loopback.",
            ),
            Self::Pull => ("images.pull", Some("--pull"), "When the engine may fetch an image."),
            Self::Allow => {
                ("images.allow", None, "Globs; an image needs one that matches. An empty list allows none.")
            }
            Self::RequireDigest => {
                ("images.require_digest", None, "Whether a reference must carry a digest.")
            }
            Self::Pins => ("images.pins", None, "References and the image id each must still have."),
            Self::Runtimes => {
                ("runtimes", Some("--runtime"), "The engine's runtimes that are accepted; `*` is any.")
            }
            Self::SecretFiles => {
                ("secrets.files", None, "Secrets that `--secret` may put below `/run/secrets`; `*` is any.")
            }
            Self::SecretEnvironment => {
                ("secrets.environment", None, "Secrets that `--secret` may put into a variable; `*` is any.")
            }
            Self::SecretOutputs => {
                ("outputs.secrets", None, "What becomes of a collected file that holds a known secret.")
            }
        };
        Key { path, flag, doc }
    }

    /// The field with this dotted path.
    pub fn of_path(path: &str) -> Option<Self> {
        FIELDS.into_iter().find(|it| it.key().path == path)
    }

    /// Its values in words: unit, words or shape, and the range.
    pub fn values(self) -> String {
        match self {
            Self::Amount(amount) => {
                let (min, max) = amount.range();
                let shape = match amount.unit() {
                    Unit::Bytes => "a size",
                    Unit::Time => "a duration",
                    Unit::Cpus => "a number of CPUs",
                    Unit::Count => "a whole number",
                };
                format!("{shape}, {} to {}", amount.display(min), amount.display(max))
            }
            Self::Ptrace | Self::EgressAudit | Self::RequireDigest => "true or false".to_owned(),
            Self::Workspace => either(&WorkspaceMedium::ALL.map(WorkspaceMedium::word)),
            Self::IncludeSecrets => "a list of globs, from the workspace's root".to_owned(),
            Self::Egress => either(&Egress::ALL.map(Egress::word)),
            Self::EgressPorts | Self::Publish => "a list of ports, 1 to 65535".to_owned(),
            Self::NetworkAllow => keys_of(&RULE_KEYS),
            Self::NetworkDeny => keys_of(&DENY_KEYS),
            Self::Pull => either(&Pull::ALL.map(Pull::word)),
            Self::Allow => "a list of globs".to_owned(),
            Self::Pins => {
                "a table of references and image ids (`sha256:` and 64 hexadecimal digits)".to_owned()
            }
            Self::Runtimes => "a list of runtime names".to_owned(),
            Self::SecretFiles | Self::SecretEnvironment => "a list of names of secrets".to_owned(),
            Self::SecretOutputs => either(&SecretOutputs::ALL.map(SecretOutputs::word)),
        }
    }
}

fn amount_key(amount: Amount) -> Key {
    let (path, flag, doc) = match amount {
        Amount::WorkspaceSize => (
            "filesystem.workspace_size",
            Some("--workspace-size"),
            "Size of the workspace; in memory it is counted beside the memory limit.",
        ),
        Amount::WorkspaceFiles => {
            ("filesystem.workspace_files", None, "Entries that a workspace may have on the way in.")
        }
        Amount::TmpSize => {
            ("filesystem.tmp_size", Some("--tmp-size"), "Size of `/tmp`, beside the memory limit.")
        }
        Amount::HomeSize => {
            ("filesystem.home_size", None, "Size of the home directory, beside the memory limit.")
        }
        Amount::RunSize => ("filesystem.run_size", None, "Size of `/run`, beside the memory limit."),
        Amount::ShmSize => ("filesystem.shm_size", None, "Size of `/dev/shm`, beside the memory limit."),
        Amount::Memory => {
            ("resources.memory", Some("--memory"), "Memory of the task's processes; there is no swap.")
        }
        Amount::Cpus => {
            ("resources.cpus", Some("--cpus"), "CPUs; more than the host has is clamped to what it has.")
        }
        Amount::Pids => ("resources.pids", Some("--pids-limit"), "Processes and threads."),
        Amount::NofileSoft => {
            ("resources.nofile_soft", None, "Open files per process, where the limit starts.")
        }
        Amount::NofileHard => {
            ("resources.nofile_hard", None, "Open files per process, where a process may raise it to.")
        }
        Amount::WallTime => {
            ("resources.wall_time", Some("--timeout"), "Wall time from the release of the command.")
        }
        Amount::OutputSize => {
            ("resources.output_size", Some("--output-limit"), "Standard output and error together.")
        }
        Amount::CollectedSize => ("outputs.size", None, "Content of what is collected, by apparent size."),
        Amount::CollectedEntries => {
            ("outputs.entries", None, "Files, directories and links that are collected.")
        }
        Amount::CollectedDepth => ("outputs.depth", None, "Directory levels of what is collected."),
    };
    Key { path, flag, doc }
}

impl WorkspaceMedium {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::None, Self::Memory, Self::Disk];

    /// Its word in a policy file.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

impl Egress {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::None, Self::Rules, Self::Public];

    /// Its word in a policy file.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Rules => "rules",
            Self::Public => "public",
        }
    }
}

impl SecretOutputs {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::Block, Self::Report];

    /// Its word in a policy file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Report => "report",
        }
    }
}

impl Pull {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Never, Self::Missing, Self::Always];

    /// Its word in a policy file and after `--pull`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Missing => "missing",
            Self::Always => "always",
        }
    }
}

fn keys_of(keys: &[(&str, &str)]) -> String {
    let keys: Vec<String> = keys.iter().map(|(key, _)| format!("`{key}`")).collect();
    format!("a list of tables with the keys {}", keys.join(", "))
}

fn either(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|it| format!("\"{it}\"")).collect();
    quoted.join(" or ")
}

impl Setting {
    /// Its field.
    pub fn field(&self) -> Field {
        match self {
            Self::Amount(amount, _) => Field::Amount(*amount),
            Self::Workspace(_) => Field::Workspace,
            Self::IncludeSecrets(_) => Field::IncludeSecrets,
            Self::Ptrace(_) => Field::Ptrace,
            Self::Egress(_) => Field::Egress,
            Self::EgressPorts(_) => Field::EgressPorts,
            Self::NetworkAllow(_) => Field::NetworkAllow,
            Self::NetworkDeny(_) => Field::NetworkDeny,
            Self::EgressAudit(_) => Field::EgressAudit,
            Self::Publish(_) => Field::Publish,
            Self::Pull(_) => Field::Pull,
            Self::Allow(_) => Field::Allow,
            Self::RequireDigest(_) => Field::RequireDigest,
            Self::Pins(_) => Field::Pins,
            Self::Runtimes(_) => Field::Runtimes,
            Self::SecretFiles(_) => Field::SecretFiles,
            Self::SecretEnvironment(_) => Field::SecretEnvironment,
            Self::SecretOutputs(_) => Field::SecretOutputs,
        }
    }

    /// Writes it into a policy.
    pub fn apply(&self, policy: &mut Policy) {
        match self {
            Self::Amount(amount, value) => *amount.slot(policy) = *value,
            Self::Workspace(medium) => policy.filesystem.workspace = *medium,
            Self::IncludeSecrets(globs) => policy.filesystem.include_secrets = globs.clone(),
            Self::Ptrace(allowed) => policy.process.ptrace = *allowed,
            Self::Egress(egress) => policy.network.egress = *egress,
            Self::EgressPorts(ports) => policy.network.ports = ports.clone(),
            Self::NetworkAllow(allow) => policy.network.allow = allow.clone(),
            Self::NetworkDeny(denied) => policy.network.deny = denied.clone(),
            Self::EgressAudit(audit) => policy.network.audit = *audit,
            Self::Publish(ports) => policy.network.publish = ports.clone(),
            Self::Pull(pull) => policy.images.pull = *pull,
            Self::Allow(sets) => policy.images.allow = sets.clone(),
            Self::RequireDigest(required) => policy.images.require_digest = *required,
            Self::Pins(pins) => policy.images.pins = pins.clone(),
            Self::Runtimes(names) => policy.runtimes = names.clone(),
            Self::SecretFiles(names) => policy.secrets.files = names.clone(),
            Self::SecretEnvironment(names) => policy.secrets.environment = names.clone(),
            Self::SecretOutputs(secrets) => policy.outputs.secrets = *secrets,
        }
    }

    /// The value as its flag takes it; of several runtimes, the first.
    pub fn as_flag(&self) -> String {
        match self {
            Self::Amount(amount, value) => amount.display(*value),
            Self::Pull(pull) => pull.word().to_owned(),
            Self::Runtimes(names) => names.first().cloned().unwrap_or_default(),
            Self::Workspace(_)
            | Self::IncludeSecrets(_)
            | Self::Ptrace(_)
            | Self::Egress(_)
            | Self::EgressPorts(_)
            | Self::NetworkAllow(_)
            | Self::NetworkDeny(_)
            | Self::EgressAudit(_)
            | Self::Publish(_)
            | Self::Allow(_)
            | Self::RequireDigest(_)
            | Self::Pins(_)
            | Self::SecretFiles(_)
            | Self::SecretEnvironment(_)
            | Self::SecretOutputs(_) => self.to_string(),
        }
    }
}

impl Policy {
    /// Every field with its value, in the order of [`FIELDS`].
    pub fn settings(&self) -> [Setting; FIELDS.len()] {
        // Taken apart by name: a new field stops the build here.
        let Policy { filesystem, process, resources, outputs, network, images, runtimes, secrets } = self;
        let Filesystem {
            workspace,
            workspace_bytes,
            workspace_files,
            tmp_bytes,
            home_bytes,
            run_bytes,
            shm_bytes,
            include_secrets,
        } = filesystem;
        let Process { ptrace } = process;
        let Resources {
            memory_bytes,
            cpus_milli,
            pids,
            nofile_soft,
            nofile_hard,
            wall_time_ms,
            output_bytes,
        } = resources;
        let Network { egress, ports, allow: reach, deny, audit, publish } = network;
        let Outputs { bytes, entries, depth, secrets: secret_outputs } = outputs;
        let Images { pull, allow, require_digest, pins } = images;
        [
            Setting::Workspace(*workspace),
            Setting::Amount(Amount::WorkspaceSize, *workspace_bytes),
            Setting::Amount(Amount::WorkspaceFiles, *workspace_files),
            Setting::Amount(Amount::TmpSize, *tmp_bytes),
            Setting::Amount(Amount::HomeSize, *home_bytes),
            Setting::Amount(Amount::RunSize, *run_bytes),
            Setting::Amount(Amount::ShmSize, *shm_bytes),
            Setting::IncludeSecrets(include_secrets.clone()),
            Setting::Ptrace(*ptrace),
            Setting::Amount(Amount::Memory, *memory_bytes),
            Setting::Amount(Amount::Cpus, *cpus_milli),
            Setting::Amount(Amount::Pids, *pids),
            Setting::Amount(Amount::NofileSoft, *nofile_soft),
            Setting::Amount(Amount::NofileHard, *nofile_hard),
            Setting::Amount(Amount::WallTime, *wall_time_ms),
            Setting::Amount(Amount::OutputSize, *output_bytes),
            Setting::Amount(Amount::CollectedSize, *bytes),
            Setting::Amount(Amount::CollectedEntries, *entries),
            Setting::Amount(Amount::CollectedDepth, *depth),
            Setting::Egress(*egress),
            Setting::EgressPorts(ports.clone()),
            Setting::NetworkAllow(reach.clone()),
            Setting::NetworkDeny(deny.clone()),
            Setting::EgressAudit(*audit),
            Setting::Publish(publish.clone()),
            Setting::Pull(*pull),
            Setting::Allow(allow.clone()),
            Setting::RequireDigest(*require_digest),
            Setting::Pins(pins.clone()),
            Setting::Runtimes(runtimes.clone()),
            Setting::SecretFiles(secrets.files.clone()),
            Setting::SecretEnvironment(secrets.environment.clone()),
            Setting::SecretOutputs(*secret_outputs),
        ]
    }
}
