//! What this host has: read once, given to the judges as values.

use std::path::Path;

use crate::policy::HostAmounts;
use crate::sandbox::enforceable::HostFacts;

/// What a container may be given where a limit cannot be read.
const PIDS_FALLBACK: u64 = 32_768;

/// The amounts of this host; `state_directory` tells the disk.
pub fn amounts(state_directory: &Path) -> HostAmounts {
    let system = rustix::system::sysinfo();
    let unit = u64::from(system.mem_unit.max(1));
    let pids = std::fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|it| it.trim().parse().ok());
    let disk =
        rustix::fs::statvfs(state_directory).map(|it| it.f_blocks.saturating_mul(it.f_frsize)).unwrap_or(0);
    HostAmounts {
        memory_bytes: system.totalram.saturating_mul(unit),
        cpus_milli: std::thread::available_parallelism().map_or(1, |it| it.get() as u64) * 1000,
        pids: pids.unwrap_or(PIDS_FALLBACK),
        nofile: nofile_max(),
        disk_bytes: disk,
    }
}

/// Open files that this process, and so a container, may be given.
pub fn nofile_max() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(1 << 20)
}

/// What decides whether an engine can enforce everything.
pub fn facts() -> HostFacts {
    let system = rustix::system::sysinfo();
    HostFacts { swap_bytes: system.totalswap.saturating_mul(u64::from(system.mem_unit.max(1))) }
}
