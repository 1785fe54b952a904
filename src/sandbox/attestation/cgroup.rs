//! The limits of the control group, in both layouts, and the group's own namespace.

use crate::container::ContainerSpec;
use crate::sandbox::attestation::difference::{Findings, Viewpoint};

/// The kernel counts memory in pages and rounds a limit down.
const PAGE_BYTES: u64 = 4096;
/// Where a kernel with the first layout keeps CPU limits: the controller is mounted alone, or with its accounting.
const CPU_DIRECTORIES: [&str; 2] = ["cpu", "cpu,cpuacct"];

/// Holds the limits against the specification. A file that is not there means a controller that is not there.
pub(super) fn check_limits(findings: &mut Findings, files: &Files<'_>, spec: &ContainerSpec) {
    let memory = (spec.memory_bytes / PAGE_BYTES * PAGE_BYTES).to_string();
    let pids = spec.pids.to_string();
    if files.get("memory.max").is_some() || files.get("cpu.max").is_some() {
        findings.same("cgroup memory.max", memory, files.text("memory.max"));
        findings.same("cgroup memory.swap.max", 0, files.text("memory.swap.max"));
        findings.same("cgroup pids.max", pids, files.text("pids.max"));
        let (quota, period) = files.text("cpu.max").split_once(' ').unwrap_or((files.text("cpu.max"), ""));
        check_cpu(findings, spec, quota, period);
        return;
    }
    findings.same("cgroup memory.limit_in_bytes", &memory, files.text("memory/memory.limit_in_bytes"));
    findings.same(
        "cgroup memory.memsw.limit_in_bytes",
        &memory,
        files.text("memory/memory.memsw.limit_in_bytes"),
    );
    findings.same("cgroup pids.max", pids, files.text("pids/pids.max"));
    let in_cpu = |name: &str| {
        CPU_DIRECTORIES.iter().find_map(|it| files.get(&format!("{it}/{name}"))).unwrap_or("missing")
    };
    check_cpu(findings, spec, in_cpu("cpu.cfs_quota_us"), in_cpu("cpu.cfs_period_us"));
}

/// Holds `/proc/<pid>/cgroup` against a namespace of the sandbox's own: inside, every path is the root; the host sees
/// a group below it.
pub(super) fn check_membership(findings: &mut Findings, text: &str) {
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) =
            (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let name = if controllers.is_empty() { "unified" } else { controllers };
        match findings.viewpoint() {
            Viewpoint::Inside => findings.same(format!("cgroup path of `{name}`"), "/", path),
            // A hierarchy that the engine does not use leaves everything in its root.
            Viewpoint::Outside if path == "/" && ["memory", "pids", "cpu", "cpu,cpuacct"].contains(&name) => {
                findings.add(format!("cgroup path of `{name}`"), "a group of its own", "/");
            }
            Viewpoint::Outside => {}
        }
    }
    if text.trim().is_empty() {
        findings.add("cgroup membership", "a group", "nothing");
    }
}

fn check_cpu(findings: &mut Findings, spec: &ContainerSpec, quota: &str, period: &str) {
    let (Ok(quota_us), Ok(period_us)) = (quota.parse::<u64>(), period.parse::<u64>()) else {
        findings.add("cgroup CPU limit", cpus(spec.cpus_milli), format!("{quota} of {period}"));
        return;
    };
    if quota_us.checked_mul(1000) != spec.cpus_milli.checked_mul(period_us) {
        findings.add("cgroup CPU limit", cpus(spec.cpus_milli), format!("{quota_us} of {period_us} µs"));
    }
}

fn cpus(milli: u64) -> String {
    format!("{}.{:03} CPUs", milli / 1000, milli % 1000)
}

/// The files of the report, by path.
#[derive(Debug)]
pub(super) struct Files<'a> {
    files: Vec<(&'a str, &'a str)>,
}

impl<'a> Files<'a> {
    pub(super) fn new(files: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map(str::trim).unwrap_or("not text");
        Self { files: files.map(|(path, content)| (text(path), text(content))).collect() }
    }

    fn get(&self, path: &str) -> Option<&'a str> {
        self.files.iter().find(|(it, _)| *it == path).map(|(_, content)| *content)
    }

    fn text(&self, path: &str) -> &'a str {
        self.get(path).unwrap_or("missing")
    }
}
