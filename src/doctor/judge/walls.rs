//! What the kernel and the engine enforce.

use crate::container::description::EngineDescription;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Area, Finding};
use crate::sandbox::enforceable;

pub fn judge(facts: &Facts, engine: &EngineDescription, findings: &mut Vec<Finding>) {
    findings.push(cgroup_version(engine));
    findings.extend(controllers(facts, engine));
    findings.push(seccomp(engine));
    findings.push(security_module(facts));
    findings.push(user_namespace(engine));
}

fn cgroup_version(engine: &EngineDescription) -> Finding {
    let (area, id) = (Area::Walls, "walls.cgroup_version");
    match engine.facts.cgroup_version.as_str() {
        "2" => Finding::ok(area, id, "cgroup v2"),
        version => Finding::weak(
            area,
            id,
            if version == "1" { "cgroup v1" } else { "unknown: the engine does not tell" },
            "v1 has files such as `release_agent` whose only guard is that they are read-only (CVE-2022-0492), and \
             counts memory of a group and its swap apart",
            "boot with `systemd.unified_cgroup_hierarchy=1`, as current distributions do by default",
        ),
    }
}

/// A controller that is missing refuses every run.
fn controllers(facts: &Facts, engine: &EngineDescription) -> Vec<Finding> {
    let host = enforceable::HostFacts { swap_bytes: facts.swap_bytes };
    let told = &engine.facts;
    let listed = [
        ("walls.memory", told.limits_memory, "memory is limited", "memory cannot be limited"),
        ("walls.pids", told.limits_pids, "processes are limited", "processes cannot be limited"),
        ("walls.cpu", told.limits_cpu, "CPU time is limited", "CPU time cannot be limited"),
        (
            "walls.swap",
            told.limits_swap || host.swap_bytes == 0,
            if told.limits_swap { "swap is limited" } else { "swap is off on this host" },
            "swap cannot be limited, and this host has some",
        ),
    ];
    let fix = "enable the cgroup controller (rootless: delegate it to the user; swap on v1: boot with `swapaccount=1` \
               or turn swap off)";
    let why = "a task could take all of it from the host; Aegis refuses every run on such an engine";
    let finding = |(id, holds, good, bad)| {
        if holds { Finding::ok(Area::Walls, id, good) } else { Finding::fail(Area::Walls, id, bad, why, fix) }
    };
    listed.into_iter().map(finding).collect()
}

fn seccomp(engine: &EngineDescription) -> Finding {
    let (area, id) = (Area::Walls, "walls.seccomp");
    if has(engine, "seccomp") {
        return Finding::ok(area, id, "the engine filters system calls");
    }
    Finding::fail(
        area,
        id,
        "the engine has no seccomp",
        "no system call would be refused; Aegis refuses every run on such an engine",
        "use a kernel with CONFIG_SECCOMP_FILTER and an engine that was built with seccomp",
    )
}

/// The one wall that a host may lack without a refusal: nothing of `strict` rests on it alone.
fn security_module(facts: &Facts) -> Finding {
    let (area, id) = (Area::Walls, "walls.security_module");
    let why = "one wall behind the others is missing: with AppArmor or SELinux a flaw in a mount or in the runtime \
               meets a second judge. Nothing of `strict` rests on it alone";
    let fix = "boot with `lsm=…,apparmor` (Debian, Ubuntu) or SELinux enforcing (Fedora, RHEL), and restart the engine";
    match &facts.security_modules {
        Some(modules) if !modules.is_empty() => Finding::ok(area, id, modules.join(", ")),
        Some(_) => {
            Finding::weak(area, id, "no LSM confines containers (neither AppArmor nor SELinux)", why, fix)
        }
        None => Finding::weak(area, id, "unknown: the kernel does not tell which LSM it enforces", why, fix),
    }
}

fn user_namespace(engine: &EngineDescription) -> Finding {
    let (area, id) = (Area::Walls, "walls.user_namespace");
    if enforceable::maps_users(&engine.facts) {
        let kind = if has(engine, "rootless") { "the engine is rootless" } else { "users are remapped" };
        return Finding::weak(
            area,
            id,
            format!("{kind}; every sandbox has the uid 65532 inside"),
            "root of a container is nobody on the host, which is good; but sandboxes share one uid, and with it the \
             kernel's quotas for a user (inotify watches, keys)",
            "nothing has to be done; where many tasks of strangers run at once, an engine without a map gives each \
             sandbox a uid of its own",
        );
    }
    Finding::weak(
        area,
        id,
        "users are not remapped: uid 0 of a container is root of the host",
        "no sandbox of Aegis has uid 0 or a way to it; other containers of this engine may, and a flaw in the runtime \
         would be used as root",
        "set `\"userns-remap\": \"default\"` in /etc/docker/daemon.json, or run the engine rootless",
    )
}

fn has(engine: &EngineDescription, option: &str) -> bool {
    let parts = engine.facts.security_options.iter().flat_map(|it| it.split(','));
    parts.into_iter().any(|it| it.strip_prefix("name=").unwrap_or(it) == option)
}
