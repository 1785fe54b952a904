//! Paths of `/proc` and `/sys` that a task does not see, or sees read-only. The lists replace the engine's own, so
//! they hold all of it and more; a path that this kernel lacks is passed over by the engine.

/// A path and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masked {
    /// Absolute path inside the sandbox.
    pub path: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// Every path that shows nothing on a host with this many CPUs. Each CPU's count of heat events tells a task what
/// others compute (moby#49560), so there is one path for each.
pub fn masked_paths(cpus: usize) -> Vec<String> {
    let mut paths: Vec<String> = MASKED.iter().map(|it| it.path.to_owned()).collect();
    paths.extend((0..cpus).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle")));
    paths
}

/// Every path that cannot be written.
pub fn readonly_paths() -> Vec<String> {
    READ_ONLY.iter().map(|it| it.path.to_owned()).collect()
}

const fn mask(path: &'static str, reason: &'static str) -> Masked {
    Masked { path, reason }
}

/// What appears empty: a directory under a read-only tmpfs, a file under `/dev/null`.
pub const MASKED: &[Masked] = &[
    mask("/proc/asound", "the host's sound cards"),
    mask("/proc/acpi", "the host's power and buttons"),
    mask("/proc/kcore", "the memory of the host"),
    mask("/proc/keys", "keys of every user of the host"),
    mask("/proc/key-users", "how many keys each user of the host has"),
    mask("/proc/latency_stats", "what delays other processes"),
    mask("/proc/timer_list", "timers of the host, with kernel addresses"),
    mask("/proc/timer_stats", "which processes of the host use timers"),
    mask("/proc/sched_debug", "every process of the host by name"),
    mask("/proc/scsi", "the host's disks, and commands to them"),
    mask("/sys/firmware", "ACPI tables, device tree and EFI variables"),
    mask("/proc/cmdline", "how the host was started, sometimes with secrets"),
    mask("/proc/bootconfig", "the same, where the kernel was given a file of it"),
    mask("/proc/config.gz", "which flaws to look for"),
    mask("/proc/interrupts", "a side channel: keystrokes and traffic of the host"),
    mask("/proc/softirqs", "a side channel, as interrupts"),
    mask("/proc/schedstat", "a side channel: when other tasks run"),
    mask("/proc/kallsyms", "where the kernel's functions are"),
    mask("/proc/modules", "what the kernel has loaded"),
    mask("/proc/kmsg", "the kernel's log"),
    mask("/proc/kpagecount", "a side channel: who shares pages"),
    mask("/proc/kpageflags", "a side channel: who shares pages"),
    mask("/proc/kpagecgroup", "a side channel: which task owns a page"),
    mask("/proc/pagetypeinfo", "the layout of physical memory"),
    mask("/proc/buddyinfo", "the layout of physical memory"),
    mask("/proc/zoneinfo", "the layout of physical memory"),
    mask("/proc/allocinfo", "what the kernel's code allocates"),
    mask("/proc/mdstat", "the host's disks"),
    mask("/proc/slabinfo", "the layout of the kernel's heap"),
    mask("/proc/vmallocinfo", "kernel addresses"),
    mask("/proc/iomem", "the layout of physical memory"),
    mask("/proc/ioports", "the layout of the hardware"),
    mask("/proc/mtrr", "the layout of physical memory"),
    mask("/proc/dma", "the layout of the hardware"),
    mask("/proc/consoles", "where the host's log goes"),
    mask("/proc/partitions", "the host's disks"),
    mask("/proc/diskstats", "a side channel: what others read and write"),
    mask("/proc/pressure", "a side channel: when others wait for the host"),
    mask(
        "/sys/devices/virtual/powercap",
        "energy counters: a side channel to other tasks' keys (CVE-2020-8694)",
    ),
    mask("/sys/class/powercap", "the same by another way"),
    mask("/sys/devices/virtual/dmi", "serial numbers of the host"),
    mask("/sys/kernel/debug", "debugfs, where the host mounts it"),
    mask("/sys/kernel/tracing", "tracefs, where the host mounts it"),
    mask("/sys/kernel/security", "the host's security modules"),
    mask("/sys/fs/bpf", "pinned programs and maps of the host"),
    mask("/sys/kernel/slab", "the layout of the kernel's heap"),
    mask("/sys/kernel/boot_params", "how the host was started, with physical addresses"),
    mask("/sys/kernel/notes", "the exact build of the kernel, with addresses"),
    mask("/sys/kernel/vmcoreinfo", "where the kernel's structures are"),
    mask("/sys/kernel/btf", "the layout of the kernel's structures"),
    mask("/sys/kernel/mm/ksm", "a side channel: which pages are the same"),
];

/// What is there and cannot be written.
pub const READ_ONLY: &[Masked] = &[
    mask("/proc/bus", "devices of the host"),
    mask("/proc/fs", "file systems of the host"),
    mask("/proc/irq", "which CPU serves which device"),
    mask("/proc/sys", "the kernel's settings"),
    mask("/proc/sysrq-trigger", "a write reboots the host"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str) {
        assert!(masked_paths(2).iter().any(|it| it == path), "{path}");
    }

    #[test]
    fn what_the_engine_masks_by_itself_stays_masked() {
        for path in
            ["asound", "acpi", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug"]
        {
            check(&format!("/proc/{path}"));
        }
        check("/proc/scsi");
        check("/proc/interrupts");
        check("/sys/firmware");
        check("/sys/devices/virtual/powercap");
    }

    #[test]
    fn every_cpu_has_its_path() {
        check("/sys/devices/system/cpu/cpu0/thermal_throttle");
        check("/sys/devices/system/cpu/cpu1/thermal_throttle");
    }

    #[test]
    fn paths_are_plain_and_named_once() {
        let mut all = masked_paths(1);
        all.extend(readonly_paths());
        let unique: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(unique.len(), all.len());
        assert!(all.iter().all(|it| it.starts_with("/proc/") || it.starts_with("/sys/")));
    }

    #[test]
    fn what_the_engine_makes_read_only_stays_so() {
        assert_eq!(
            readonly_paths(),
            ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        );
    }
}
