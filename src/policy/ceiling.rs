//! The policy that nothing may exceed.
//!
//! Without a file it is the default ceiling of a local user: three quarters of each amount the host has, all of its
//! CPUs, any public name by rules that a flag or a policy writes, a workspace on disk and tracing (what `ci` asks for), any
//! image, any runtime by name, any secret that a policy names. An operator's file replaces it key by key: a key that is
//! written decides, above or below the default, and a key that is absent has the default ceiling's value. So a file of one
//! line bounds one thing and nothing becomes unbounded by leaving it out. Where it permits `public`, it permits rules for
//! every name at the same ports.

use std::collections::{BTreeMap, BTreeSet};

use crate::intake::secret_name::ANY_NAME;
use crate::intake::secret_path::ANY_SECRET;
use crate::policy::amount::Amount;
use crate::policy::document::{self, DocumentError, Kind};
use crate::policy::field::{Field, Setting};
use crate::policy::lattice::{ANY_RUNTIME, meet};
use crate::policy::network::host::HostPattern;
use crate::policy::network::port::{HTTP, HTTPS, PortPattern};
use crate::policy::network::reach::CredentialPattern;
use crate::policy::network::{Allow, Rule, Transport, Union};
use crate::policy::{
    Egress, Filesystem, Images, Network, Outputs, Policy, Process, Pull, Resources, SecretOutputs, Secrets,
    WorkspaceMedium,
};

/// Where an operator's ceiling is.
pub const CEILING_PATH: &str = "/etc/aegis/ceiling.toml";

const MIB: u64 = 1 << 20;

/// What the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostAmounts {
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// CPUs that a container may use, in thousandths.
    pub cpus_milli: u64,
    /// Processes and threads that the host may hold.
    pub pids: u64,
    /// The highest limit of open files that a container may be given.
    pub nofile: u64,
    /// Size of the file system that holds the state directory, bytes.
    pub disk_bytes: u64,
}

/// A ceiling and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    /// What may not be exceeded.
    pub policy: Policy,
    /// The file and the fields it writes; `None` is the default ceiling.
    pub file: Option<(String, BTreeSet<Field>)>,
}

impl Ceiling {
    /// The ceiling of a local user on a host without a file.
    pub fn of_host(host: &HostAmounts) -> Self {
        Self { policy: default_ceiling(host), file: None }
    }

    /// The operator's ceiling: `file` is its name as it is shown.
    pub fn from_file(file: &str, bytes: &[u8], host: &HostAmounts) -> Result<Self, DocumentError> {
        let document = document::parse(file, bytes, Kind::Ceiling)?;
        let mut base = default_ceiling(host);
        // Only the hard limit written: the soft one follows it, since nobody asked for more.
        if let Some((Setting::Amount(_, hard), _)) = document.settings.get(&Field::Amount(Amount::NofileHard))
        {
            base.resources.nofile_soft = base.resources.nofile_soft.min(*hard);
        }
        let mut policy = document.over(&base)?;
        policy.network.allow = with_public(&policy.network);
        Ok(Self { policy, file: Some((document.file, document.settings.into_keys().collect())) })
    }

    /// The same narrowed by a further ceiling, of which what it does not write is this one's. It allows nothing more.
    pub fn narrowed(&self, file: &str, bytes: &[u8]) -> Result<Self, DocumentError> {
        let document = document::parse(file, bytes, Kind::Ceiling)?;
        let mut policy = document.over(&self.policy)?;
        policy.network.allow = with_public(&policy.network);
        let mut written: BTreeSet<Field> = document.settings.into_keys().collect();
        written.extend(self.file.iter().flat_map(|(_, written)| written.iter().copied()));
        Ok(Self { policy: meet(&policy, &self.policy), file: Some((document.file, written)) })
    }

    /// The same for a workspace on this medium: a size that nobody wrote is a share of what carries the workspace.
    pub fn for_medium(&self, medium: WorkspaceMedium, host: &HostAmounts) -> Self {
        let size = Field::Amount(Amount::WorkspaceSize);
        let written = self.file.as_ref().is_some_and(|(_, written)| written.contains(&size));
        let mut ceiling = self.clone();
        if !written && medium.min(self.policy.filesystem.workspace) == WorkspaceMedium::Disk {
            ceiling.policy.filesystem.workspace_bytes = share(Amount::WorkspaceSize, host.disk_bytes);
        }
        ceiling
    }

    /// Who could allow more of a field.
    pub fn authority(&self, field: Field) -> String {
        match &self.file {
            Some((file, written)) if written.contains(&field) => {
                format!("the ceiling ({file}, which the operator of this host writes)")
            }
            Some((file, _)) => format!(
                "the default ceiling: {} ({file}, which the operator of this host writes, does not set `{}`)",
                share_of(field),
                field.key().path
            ),
            None => format!(
                "the default ceiling of a local user: {} (its operator can write {CEILING_PATH})",
                share_of(field)
            ),
        }
    }
}

/// What the default ceiling is, for a field.
fn share_of(field: Field) -> &'static str {
    if field.key().path.starts_with("network.") {
        "public names by rules"
    } else {
        "three quarters of this host"
    }
}

fn default_ceiling(host: &HostAmounts) -> Policy {
    let memory = |amount| share(amount, host.memory_bytes);
    let most = |amount: Amount| amount.range().1;
    let nofile = in_range(Amount::NofileHard, host.nofile);
    Policy {
        filesystem: Filesystem {
            workspace: WorkspaceMedium::Disk,
            workspace_bytes: memory(Amount::WorkspaceSize),
            workspace_files: most(Amount::WorkspaceFiles),
            tmp_bytes: memory(Amount::TmpSize),
            home_bytes: memory(Amount::HomeSize),
            run_bytes: memory(Amount::RunSize),
            shm_bytes: memory(Amount::ShmSize),
            include_secrets: BTreeSet::from([ANY_SECRET.to_owned()]),
        },
        process: Process { ptrace: true },
        resources: Resources {
            memory_bytes: memory(Amount::Memory),
            cpus_milli: in_range(Amount::Cpus, host.cpus_milli),
            pids: share(Amount::Pids, host.pids),
            nofile_soft: nofile,
            nofile_hard: nofile,
            wall_time_ms: most(Amount::WallTime),
            output_bytes: share(Amount::OutputSize, host.disk_bytes),
        },
        outputs: Outputs {
            bytes: share(Amount::CollectedSize, host.disk_bytes),
            entries: most(Amount::CollectedEntries),
            depth: most(Amount::CollectedDepth),
            secrets: SecretOutputs::Report,
        },
        network: default_network(),
        images: Images {
            pull: Pull::Always,
            allow: BTreeSet::new(),
            require_digest: false,
            pins: BTreeMap::new(),
        },
        runtimes: BTreeSet::from([ANY_RUNTIME.to_owned()]),
        // Any secret of the user's own store, where a policy that the user names has it.
        secrets: Secrets {
            files: BTreeSet::from([ANY_NAME.to_owned()]),
            environment: BTreeSet::from([ANY_NAME.to_owned()]),
        },
    }
}

/// Any public name by rules, with any credential that the operator's configuration has; no `public`, nothing private.
fn default_network() -> Network {
    let any = Rule {
        transport: Transport::Opaque,
        ports: vec![PortPattern::Any],
        credential: Some(CredentialPattern::Any),
        ..Rule::pass_through(HostPattern::Any, HTTPS)
    };
    Network {
        egress: Egress::Rules,
        ports: BTreeSet::from([HTTP, HTTPS]),
        allow: Allow::of(&[any]),
        publish: Union::of([PortPattern::Any]),
        ..Network::none()
    }
}

/// What an operator who permits `public` permits: any public name, and so each of them by a rule.
fn with_public(network: &Network) -> Allow {
    let mut rules = Vec::new();
    if network.egress == Egress::Public {
        rules.extend(network.ports.iter().map(|port| Rule::pass_through(HostPattern::Any, *port)));
    }
    network.allow.join(&Allow::of(&rules))
}

/// Three quarters, whole mebibytes where there are any, so that a message can be typed back.
fn share(amount: Amount, whole: u64) -> u64 {
    let part = whole / 4 * 3;
    in_range(amount, if part >= MIB { part / MIB * MIB } else { part })
}

/// A value that somebody could have asked for; hosts smaller than the least of an amount are left to the engine.
fn in_range(amount: Amount, value: u64) -> u64 {
    let (min, max) = amount.range();
    value.clamp(min, max)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A host of 16 GiB and four CPUs.
    pub(crate) const HOST: HostAmounts = HostAmounts {
        memory_bytes: 16 << 30,
        cpus_milli: 4_000,
        pids: 40_000,
        nofile: 100_000,
        disk_bytes: 100 << 30,
    };

    fn check(text: &str, expected: fn(&mut Policy)) {
        let ceiling = Ceiling::from_file("c", text.as_bytes(), &HOST).expect("a ceiling");
        let mut policy = Ceiling::of_host(&HOST).policy;
        expected(&mut policy);
        assert_eq!(ceiling.policy, policy);
    }

    #[test]
    fn the_default_is_three_quarters_and_all_cpus() {
        let resources = Ceiling::of_host(&HOST).policy.resources;
        assert_eq!((resources.memory_bytes, resources.cpus_milli, resources.pids), (12 << 30, 4_000, 30_000));
    }

    #[test]
    fn an_absent_key_has_the_default_ceilings_value() {
        check("[resources]\npids = 100", |policy| policy.resources.pids = 100);
    }

    #[test]
    fn a_written_key_may_be_above_the_default() {
        check("[resources]\nmemory = \"15GiB\"", |policy| policy.resources.memory_bytes = 15 << 30);
        check("[process]\nptrace = true", |policy| policy.process.ptrace = true);
    }

    #[test]
    fn a_hard_limit_alone_brings_the_soft_one_down() {
        check("[resources]\nnofile_hard = 512", |policy| {
            policy.resources.nofile_soft = 512;
            policy.resources.nofile_hard = 512;
        });
    }

    #[test]
    fn the_default_reaches_any_public_name_by_rules_and_nothing_else() {
        let network = Ceiling::of_host(&HOST).policy.network;
        assert_eq!((network.egress, network.audit), (Egress::Rules, false));
        let rules = "[{ host = \"*\", ports = \"*\", credential = \"*\", opaque = true }]";
        assert_eq!(network.allow.to_string(), rules);
    }

    #[test]
    fn a_ceiling_with_a_mistake_is_no_ceiling() {
        let refusal = Ceiling::from_file("c", b"[resources]\npid = 100", &HOST).expect_err("a refusal");
        assert_eq!(
            refusal.to_string(),
            "c:2:1: unknown key `resources.pid`; the nearest is `resources.pids`"
        );
    }

    #[test]
    fn a_tiny_host_has_a_ceiling_that_can_be_asked_for() {
        let host = HostAmounts { memory_bytes: 1, cpus_milli: 0, pids: 1, nofile: 1, disk_bytes: 0 };
        for setting in Ceiling::of_host(&host).policy.settings() {
            if let Setting::Amount(amount, value) = setting {
                assert_eq!(amount.checked(value), Ok(value));
            }
        }
    }
}
