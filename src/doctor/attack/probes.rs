//! Every probe: its check, what is tried, where, and the items of three catalogues that it is evidence for.
//!
//! Numbers of the CIS Docker Benchmark are those of version 1.6.0. Names of the Kubernetes Pod Security Standards are the
//! controls of the level `restricted`, which has those of `baseline` in it. Numbers of NIST SP 800-190 are those of the
//! countermeasures in its chapter 4.

use crate::doctor::attack::Stage;

/// A probe.
#[derive(Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its check.
    pub id: &'static str,
    /// Where it runs.
    pub stage: Stage,
    /// What is tried.
    pub tried: &'static str,
    /// Items of the CIS Docker Benchmark.
    pub cis: &'static [&'static str],
    /// Controls of the Pod Security Standards.
    pub pod: &'static [&'static str],
    /// Countermeasures of SP 800-190.
    pub nist: &'static [&'static str],
}

const RUNTIME: &str = "4.4.3";
const NETWORK: &str = "4.4.2";
const KERNEL: &str = "4.5.2";
const TAMPERING: &str = "4.5.5";
const CAPS: &str = "Capabilities";
const ESCALATION: &str = "Privilege Escalation";
const SECCOMP: &str = "Seccomp";
const NAMESPACES: &str = "Host Namespaces";
const PROC: &str = "/proc Mount Type";
const HOSTPATH: &str = "HostPath Volumes";

/// Every probe, by check.
pub const PROBES: [Probe; 63] = [
    look("FS-01", "write to the root and to system directories", &["5.13"], &[], &[TAMPERING]),
    look("FS-02", "find a writable mount that honours setuid or devices", &[], &[], &[RUNTIME]),
    limits("FS-03", "fill the workspace", &[], &[], &[RUNTIME]),
    limits("FS-04", "fill /tmp, /dev/shm, /run and the home", &["5.11"], &[], &[RUNTIME]),
    look("FS-05", "read files of the host on nine ways", &["5.6"], &[HOSTPATH], &[TAMPERING]),
    limits("FS-06", "find what the task before left", &[], &[], &[RUNTIME]),
    Probe {
        stage: Stage::Beside,
        ..look("FS-07", "find what a task beside it has", &["5.17"], &[NAMESPACES], &[RUNTIME])
    },
    look("FS-09", "follow links out of the sandbox", &["5.6"], &[HOSTPATH], &[TAMPERING]),
    look("FS-10", "become root by setuid programs", &["5.26"], &[ESCALATION], &[RUNTIME]),
    limits("FS-11", "use up inodes", &[], &[], &[RUNTIME]),
    look("FS-12", "write the engine's own files in /etc", &["5.13"], &[], &[TAMPERING]),
    look("FS-13", "make a file of 4 TiB", &[], &[], &[RUNTIME]),
    look(
        "FS-15",
        "find host directories or sockets in the mount table",
        &["5.6", "5.32"],
        &[HOSTPATH],
        &[RUNTIME],
    ),
    look(
        "PL-01",
        "be root, or in root's group",
        &["4.1"],
        &["Running as Non-root", "Running as Non-root user"],
        &[RUNTIME],
    ),
    look(
        "PL-02",
        "hold a capability, or miss the filter",
        &["5.4", "5.22", "5.26"],
        &[CAPS, SECCOMP, ESCALATION, "Privileged Containers"],
        &[RUNTIME],
    ),
    look("PL-03", "see processes of the host", &["5.16"], &[NAMESPACES], &[RUNTIME]),
    limits("PL-04", "fork without end", &["5.29"], &[], &[RUNTIME]),
    clock("PL-05", "run longer than allowed", &[], &[], &[RUNTIME]),
    clock("PL-06", "ignore every signal", &[], &[], &[RUNTIME]),
    limits("PL-07", "leave a process behind", &[], &[], &[RUNTIME]),
    clock("PL-09", "take more CPUs than given", &["5.12"], &[], &[RUNTIME]),
    Probe {
        stage: Stage::Memory,
        ..look("PL-10", "take more memory than given", &["5.11"], &[], &[RUNTIME])
    },
    look("PL-12", "find a limit that is missing", &["5.19"], &[], &[RUNTIME]),
    look("PL-15", "raise its own priority and limits", &["5.4"], &[CAPS], &[RUNTIME]),
    look("PL-16", "read the operator's standard input", &[], &[], &[RUNTIME]),
    look("PL-17", "find a descriptor of the host", &[], &[], &[RUNTIME]),
    look("PL-19", "signal everybody, and kill PID 1", &["5.16"], &[NAMESPACES], &[RUNTIME]),
    look("PL-20", "type into a terminal", &["5.22"], &[SECCOMP], &[KERNEL]),
    calls("KS-01", "make or enter a namespace", &[CAPS, SECCOMP]),
    calls("KS-02", "mount, unmount, chroot", &[CAPS, SECCOMP]),
    calls("KS-03", "use kernel keyrings", &[SECCOMP]),
    calls("KS-04", "load a program through bpf", &[SECCOMP]),
    calls("KS-05", "open a perf event", &[SECCOMP]),
    calls("KS-06", "use userfaultfd", &[SECCOMP]),
    calls("KS-07", "use io_uring", &[SECCOMP]),
    calls("KS-08", "trace or read another process", &[SECCOMP]),
    calls("KS-09", "load modules, kernels, swap; reboot", &[CAPS, SECCOMP]),
    calls("KS-10", "set clocks and names, read the kernel's log", &[CAPS, SECCOMP]),
    calls("KS-11", "use leftovers of old kernels", &[SECCOMP]),
    calls("KS-12", "open files by handle", &[CAPS, SECCOMP]),
    calls("KS-13", "open packet, raw and XDP sockets", &[CAPS, SECCOMP]),
    calls("KS-14", "open an AF_ALG socket", &[SECCOMP]),
    calls("KS-15", "open an AF_VSOCK socket", &[SECCOMP]),
    calls("KS-16", "open sockets of rare families", &[SECCOMP]),
    calls("KS-18", "call through the x32 ABI", &[SECCOMP]),
    calls("KS-20", "switch randomisation off, place memory", &[SECCOMP]),
    calls("KS-21", "make device nodes", &[CAPS, SECCOMP]),
    calls("KS-24", "find a thread or child without the filter", &[SECCOMP]),
    look("PS-01", "read what /proc and /sys should hide", &[], &[PROC], &[KERNEL]),
    look("PS-02", "write to settings of the kernel", &[], &[PROC], &[TAMPERING]),
    look("PS-05", "read addresses, machine ids, tracing", &[], &[PROC], &[KERNEL]),
    look("PS-06", "read the command line and interrupts of the host", &[], &[PROC], &[KERNEL]),
    look("PS-07", "find credentials in an environment", &[], &[], &[RUNTIME]),
    look(
        "DV-01",
        "find a device that is not a standard one",
        &["5.18"],
        &["Privileged Containers"],
        &[RUNTIME],
    ),
    look("DV-02", "find disks, /dev/kvm, /dev/mem, …", &["5.18"], &["Privileged Containers"], &[RUNTIME]),
    look("DV-05", "make device nodes in /tmp", &["5.18"], &[CAPS], &[RUNTIME]),
    limits("RB-07", "open files without end", &["5.19"], &[], &[RUNTIME]),
    look("NW-01", "find an interface or a route", &["5.10", "5.30"], &[NAMESPACES], &[NETWORK]),
    look(
        "NW-02",
        "reach the host, gateways, metadata over IPv4",
        &["5.10", "5.30"],
        &[NAMESPACES],
        &[NETWORK],
    ),
    look("NW-03", "reach the host and outside over IPv6", &["5.10", "5.30"], &[NAMESPACES], &[NETWORK]),
    look("NW-04", "resolve a name, query a resolver", &[], &[], &[NETWORK]),
    look("NW-05", "find the engine's socket or a bus", &["5.32"], &[HOSTPATH], &[RUNTIME]),
    look("NW-06", "open other transports and raw sockets", &["5.22"], &[CAPS], &[NETWORK]),
];

const fn look(
    id: &'static str,
    tried: &'static str,
    cis: &'static [&'static str],
    pod: &'static [&'static str],
    nist: &'static [&'static str],
) -> Probe {
    Probe { id, stage: Stage::Look, tried, cis, pod, nist }
}

const fn limits(
    id: &'static str,
    tried: &'static str,
    cis: &'static [&'static str],
    pod: &'static [&'static str],
    nist: &'static [&'static str],
) -> Probe {
    Probe { id, stage: Stage::Limits, tried, cis, pod, nist }
}

const fn clock(
    id: &'static str,
    tried: &'static str,
    cis: &'static [&'static str],
    pod: &'static [&'static str],
    nist: &'static [&'static str],
) -> Probe {
    Probe { id, stage: Stage::Clock, tried, cis, pod, nist }
}

const fn calls(id: &'static str, tried: &'static str, pod: &'static [&'static str]) -> Probe {
    Probe { id, stage: Stage::Look, tried, cis: &["5.22"], pod, nist: &[KERNEL] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_there_once_and_every_program_names_its_checks() {
        let mut seen = std::collections::BTreeSet::new();
        for probe in &PROBES {
            assert!(seen.insert(probe.id), "{} is there twice", probe.id);
            let told_by_the_host = ["PL-05", "PL-06", "PL-07", "PL-09"].contains(&probe.id);
            let in_table = crate::doctor::attack::calls::of(probe.id).next().is_some();
            assert!(told_by_the_host || in_table || probe.stage.program().contains(probe.id), "{}", probe.id);
        }
    }
}
