//! What a run's record and `--result` say of the proof: the evidence in short, with its differences.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use aegis_init::wire::Report;

use crate::sandbox::attestation::id_map::IdMap;
use crate::sandbox::attestation::mounts::{self, Mounted};
use crate::sandbox::attestation::outside::OutsideView;
use crate::sandbox::attestation::{Difference, Expectation, network, status};

/// The proof of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttestationReport {
    /// Whether nothing differed.
    pub proven: bool,
    /// What differed.
    pub differences: Vec<DifferenceReport>,
    /// Real, effective, saved and file-system user id, as the kernel shows them.
    pub uids: String,
    /// The same of the group.
    pub gids: String,
    /// Whether the sandbox has a user namespace of its own.
    pub user_namespace: bool,
    /// The effective capabilities, in hexadecimal; zero is none.
    pub capabilities: String,
    /// Whether privileges can never be gained.
    pub no_new_privileges: bool,
    /// The system call filter.
    pub seccomp: SeccompReport,
    /// The mounts of the task: everything but the kernel's own file systems and masks.
    pub mounts: Vec<MountReport>,
    /// How many kernel paths are hidden.
    pub masked_paths: usize,
    /// How many kernel paths are read-only.
    pub readonly_paths: usize,
    /// Interfaces by name.
    pub interfaces: Vec<String>,
    /// Limits that the kernel shows, by file of the control group.
    pub cgroup_limits: Vec<CgroupLimitReport>,
    /// What a security module calls the process; `None` where the host has none.
    pub security_label: Option<String>,
    /// What the host could read by itself and held against init's report, by name below `/proc/<pid>`.
    pub seen_by_host: Vec<String>,
    /// Microseconds that the probes took.
    pub probes_us: u64,
    /// Microseconds from init's first instruction to its report.
    pub ready_us: u64,
    /// Milliseconds that the sandbox had waited, proven, when its task came and it was looked at again; `None` where it was
    /// made for its task.
    pub waited_ms: Option<u64>,
}

/// One thing that differed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DifferenceReport {
    /// Where.
    pub field: String,
    /// What was asked for.
    pub expected: String,
    /// What was seen.
    pub seen: String,
}

/// The system call filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeccompReport {
    /// SHA-256 of the profile that the engine was given.
    pub digest: String,
    /// Calls that init tried.
    pub probes: usize,
    /// How many of them the filter refused as it must.
    pub refused: usize,
}

/// A mount of the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MountReport {
    /// Where.
    pub point: String,
    /// Type of the file system.
    pub kind: String,
    /// Flags of the mount.
    pub options: String,
    /// Its size where it is in memory, as the kernel writes it.
    pub size: Option<String>,
}

/// One limit of the control group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CgroupLimitReport {
    /// Path below `/sys/fs/cgroup`.
    pub file: String,
    /// What the kernel says.
    pub value: String,
}

impl AttestationReport {
    /// The proof in short. `differences` are those that [`compare`](crate::sandbox::attestation::compare) found.
    pub fn of(
        expected: Expectation<'_>,
        inside: &Report,
        outside: Option<&OutsideView>,
        differences: &[Difference],
    ) -> Self {
        let text = String::from_utf8_lossy(&inside.status);
        let field = |name| words(status::field(&text, name).unwrap_or_default());
        let table = mounts::parse(&String::from_utf8_lossy(&inside.mountinfo)).unwrap_or_default();
        let spec = expected.spec;
        let mounted = |paths: &[String]| table.iter().filter(|it| paths.contains(&it.point)).count();
        Self {
            proven: differences.is_empty(),
            differences: differences.iter().map(difference).collect(),
            uids: field("Uid"),
            gids: field("Gid"),
            user_namespace: IdMap::parse(&inside.uid_map).is_none_or(|it| !it.is_identity()),
            capabilities: field("CapEff"),
            no_new_privileges: field("NoNewPrivs") == "1",
            seccomp: seccomp(expected, inside),
            mounts: table.iter().filter(|it| is_of_task(it, expected)).map(mount).collect(),
            masked_paths: mounted(&spec.masked_paths),
            readonly_paths: mounted(&spec.readonly_paths),
            interfaces: network::interfaces(&String::from_utf8_lossy(&inside.net_dev)),
            cgroup_limits: inside.cgroup_limits.iter().map(|(file, value)| limit(file, value)).collect(),
            security_label: label(&inside.security_label),
            seen_by_host: outside
                .map_or_else(Vec::new, |it| it.readable().into_iter().map(str::to_owned).collect()),
            probes_us: inside.probes_us,
            ready_us: inside.ready_us,
            waited_ms: None,
        }
    }
}

fn seccomp(expected: Expectation<'_>, inside: &Report) -> SeccompReport {
    let planned = expected.filter.probes();
    let refused = planned.iter().zip(&inside.probes).filter(|(plan, result)| plan.accepted.contains(result));
    SeccompReport { digest: expected.filter.digest(), probes: planned.len(), refused: refused.count() }
}

fn is_of_task(mounted: &Mounted, expected: Expectation<'_>) -> bool {
    let spec = expected.spec;
    let kernel = ["proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"].contains(&mounted.kind.as_str());
    let engine = ["/dev", "/sys/fs/cgroup"].contains(&mounted.point.as_str());
    !kernel && !engine && !spec.masked_paths.contains(&mounted.point)
}

fn mount(mounted: &Mounted) -> MountReport {
    MountReport {
        point: mounted.point.clone(),
        kind: mounted.kind.clone(),
        options: mounted.options.join(","),
        size: mounted.value("size").map(str::to_owned),
    }
}

fn limit(file: &[u8], value: &[u8]) -> CgroupLimitReport {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    CgroupLimitReport { file: text(file), value: text(value) }
}

fn difference(it: &Difference) -> DifferenceReport {
    DifferenceReport { field: it.field.clone(), expected: it.expected.clone(), seen: it.seen.clone() }
}

fn label(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes).trim_matches(['\0', '\n', ' ']).to_owned();
    (!text.is_empty()).then_some(text)
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
