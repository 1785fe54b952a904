//! Which wall a difference of a refused sandbox belongs to, in words of the trade.

use std::fmt;

/// Differences that are told of one wall.
const TOLD_MAX: usize = 6;
/// Capabilities by bit.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wall {
    /// The system call filter.
    Seccomp,
    /// Capabilities.
    Capabilities,
    /// No new privileges.
    NoNewPrivileges,
    /// The user inside.
    User,
    /// The root, masks, scratch space and binds.
    Filesystem,
    /// Memory, processes, CPUs, descriptors.
    Limits,
    /// Devices.
    Devices,
    /// The network.
    Network,
    /// Namespaces.
    Namespaces,
    /// What the engine was told or told, beside those.
    Engine,
}

impl Wall {
    /// The words for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seccomp => "seccomp",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivileges => "no-new-privileges",
            Self::User => "user",
            Self::Filesystem => "filesystem",
            Self::Limits => "limits",
            Self::Devices => "devices",
            Self::Network => "network",
            Self::Namespaces => "namespaces",
            Self::Engine => "engine",
        }
    }

    /// The wall that a difference tells of; differences begin with the field that differs.
    fn of(difference: &str) -> Self {
        let setting = difference.strip_prefix("engine setting `").map(|it| {
            let name = it.split('`').next().unwrap_or_default();
            name.rsplit('.').next().unwrap_or_default()
        });
        if let Some(setting) = setting {
            return Self::of_setting(setting, difference);
        }
        let table: [(&[&str], Self); 9] = [
            (&["Seccomp", "seccomp", "engine: it has no seccomp"], Self::Seccomp),
            (&["capabilities"], Self::Capabilities),
            (&["NoNewPrivs"], Self::NoNewPrivileges),
            (&["Uid", "Gid", "supplementary groups", "user and group map"], Self::User),
            (&["mount", "a write to `/`"], Self::Filesystem),
            (&["cgroup", "limit", "engine: it has no", "engine: it cannot limit"], Self::Limits),
            (&["device"], Self::Devices),
            (&["network", "IPv4", "IPv6", "net.", "route", "a UDP"], Self::Network),
            (&["namespace", "NSpid", "host name", "TracerPid"], Self::Namespaces),
        ];
        let found = table.into_iter().find(|(starts, _)| starts.iter().any(|it| difference.starts_with(it)));
        found.map_or(Self::Engine, |(_, wall)| wall)
    }

    fn of_setting(setting: &str, difference: &str) -> Self {
        match setting {
            "SecurityOpt" if !difference.contains("seccomp=") => Self::NoNewPrivileges,
            "SecurityOpt" => Self::Seccomp,
            "CapAdd" | "CapDrop" | "Privileged" => Self::Capabilities,
            "User" | "GroupAdd" => Self::User,
            "ReadonlyRootfs" | "Mounts" | "Binds" | "Tmpfs" | "MaskedPaths" | "ReadonlyPaths" | "Volumes" => {
                Self::Filesystem
            }
            "Memory" | "MemorySwap" | "PidsLimit" | "NanoCpus" | "Ulimits" | "OomKillDisable" => Self::Limits,
            "Devices" | "DeviceCgroupRules" | "DeviceRequests" => Self::Devices,
            "NetworkMode" | "Dns" | "ExtraHosts" | "Sysctls" => Self::Network,
            "PidMode" | "IpcMode" | "UTSMode" | "CgroupnsMode" | "UsernsMode" | "Hostname" => {
                Self::Namespaces
            }
            _ => Self::Engine,
        }
    }
}

/// A wall that a sandbox lacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WallDown {
    /// Which.
    pub wall: Wall,
    /// The runtime that did not raise it.
    pub runtime: String,
    /// What is missing of it.
    pub details: Vec<String>,
}

impl fmt::Display for WallDown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} (runtime `{}`): {}", self.wall.name(), self.runtime, self.details.join("; "))
    }
}

/// The walls that these differences of a sandbox under this runtime tell of, each once.
pub fn down(differences: &[String], runtime: &str) -> Vec<WallDown> {
    let mut walls: Vec<WallDown> = Vec::new();
    for difference in differences {
        let (wall, detail) = (Wall::of(difference), detail(difference));
        match walls.iter_mut().find(|it| it.wall == wall) {
            Some(known) if known.details.len() < TOLD_MAX && !known.details.contains(&detail) => {
                known.details.push(detail);
            }
            Some(_) => {}
            None => walls.push(WallDown { wall, runtime: runtime.to_owned(), details: vec![detail] }),
        }
    }
    walls.sort_by_key(|it| it.wall);
    walls
}

/// A difference in words: what a mask of capabilities keeps, what a filter lacks.
fn detail(difference: &str) -> String {
    if difference.starts_with("Seccomp is 0 (off)") {
        return "not in force: every system call is allowed".to_owned();
    }
    let Some(rest) = difference.strip_prefix("capabilities: ") else {
        return difference.to_owned();
    };
    let mut words = rest.split([' ', ',']).filter(|it| !it.is_empty());
    let (set, mask) = (words.next().unwrap_or_default(), words.find(|it| it.len() == 16));
    match mask.and_then(|it| u64::from_str_radix(it, 16).ok()) {
        Some(mask) => format!("{} kept in {set}", kept(mask)),
        None => difference.to_owned(),
    }
}

fn kept(mask: u64) -> String {
    let names: Vec<&str> = CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| mask & (1 << bit) != 0)
        .map(|(_, name)| *name)
        .collect();
    let all = names.len() == CAPABILITIES.len();
    if all || names.is_empty() {
        if all { "all".to_owned() } else { format!("{mask:#x}") }
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(differences: &[&str], expected: &[&str]) {
        let differences: Vec<String> = differences.iter().map(|it| (*it).to_owned()).collect();
        let told: Vec<String> = down(&differences, "runc").iter().map(ToString::to_string).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_filter_that_is_off_is_said_so() {
        check(
            &[
                "Seccomp is 0 (off), expected 2 (a filter)",
                "seccomp group `io_uring` is open, expected refused",
            ],
            &[
                "seccomp (runtime `runc`): not in force: every system call is allowed; seccomp group `io_uring` is open, expected refused",
            ],
        );
    }

    #[test]
    fn capabilities_are_named() {
        check(
            &["capabilities: CapBnd is 0000000000000001, expected 0"],
            &["capabilities (runtime `runc`): CHOWN kept in CapBnd"],
        );
        check(
            &["capabilities: CapEff (as the host sees it) is 0000000000202000, expected 0"],
            &["capabilities (runtime `runc`): NET_RAW, SYS_ADMIN kept in CapEff"],
        );
    }

    #[test]
    fn settings_of_the_engine_belong_to_their_walls() {
        check(
            &[
                "engine setting `HostConfig.NetworkMode` is \"bridge\", expected \"none\"",
                "mount `/` is rw, expected ro",
            ],
            &[
                "filesystem (runtime `runc`): mount `/` is rw, expected ro",
                "network (runtime `runc`): engine setting `HostConfig.NetworkMode` is \"bridge\", expected \"none\"",
            ],
        );
    }

    #[test]
    fn what_is_not_known_is_the_engines() {
        check(
            &["init's protocol version is 1, expected 2"],
            &["engine (runtime `runc`): init's protocol version is 1, expected 2"],
        );
    }
}
