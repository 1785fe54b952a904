//! Whether an engine can raise the walls at all. What it cannot enforce is a refusal that names it, before anything is
//! made. Pure.

use crate::container::EngineFacts;

/// What the host adds to the engine's own description.
#[derive(Debug, Clone, Copy)]
pub struct HostFacts {
    /// Swap that the host has, bytes.
    pub swap_bytes: u64,
}

/// The user id inside, where the engine maps user ids: the number of a slot would lie outside the map.
pub const MAPPED_UID: u32 = 65_532;

/// Everything that `strict` needs and this engine lacks, a sentence each.
pub fn missing(facts: &EngineFacts, host: HostFacts, runtime: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let mut need = |present: bool, text: &str| {
        if !present {
            missing.push(format!("engine: {text}"));
        }
    };
    need(
        has(facts, "seccomp"),
        "it has no seccomp, so no system call would be refused; use a kernel and an engine with seccomp",
    );
    need(
        facts.limits_pids,
        "it has no pids controller, so a fork bomb would not be stopped; enable the `pids` cgroup controller (rootless: delegate it)",
    );
    need(
        facts.limits_memory,
        "it has no memory controller; enable the `memory` cgroup controller (rootless: delegate it)",
    );
    need(
        facts.limits_cpu,
        "it cannot limit CPU time; enable the `cpu` cgroup controller (rootless: delegate it)",
    );
    need(
        facts.limits_swap || host.swap_bytes == 0,
        "it cannot limit swap and this host has some, so memory would not be held; boot with `swapaccount=1` or turn swap off",
    );
    if !facts.runtimes.iter().any(|it| it == runtime) {
        missing.push(format!(
            "engine: it has no runtime `{runtime}` (it has {}); name one of these with `--runtime` where the policy accepts it",
            facts.runtimes.join(", ")
        ));
    }
    missing
}

/// Whether containers have user ids of a map, not the host's own.
pub fn maps_users(facts: &EngineFacts) -> bool {
    has(facts, "userns") || has(facts, "rootless")
}

/// Docker writes its options as `name=seccomp,profile=default`.
fn has(facts: &EngineFacts, option: &str) -> bool {
    facts
        .security_options
        .iter()
        .any(|it| it.split(',').any(|part| part.strip_prefix("name=").unwrap_or(part) == option))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> EngineFacts {
        EngineFacts {
            description: "Docker 20.10.24".to_owned(),
            api_version: (1, 41),
            cgroup_version: "2".to_owned(),
            security_options: vec!["name=seccomp,profile=default".to_owned()],
            runtimes: vec!["runc".to_owned()],
            limits_pids: true,
            limits_memory: true,
            limits_swap: true,
            limits_cpu: true,
        }
    }

    fn check(facts: &EngineFacts, swap_bytes: u64, expected: &[&str]) {
        let missing = missing(facts, HostFacts { swap_bytes }, "runc");
        assert_eq!(missing.len(), expected.len(), "{missing:?}");
        for (seen, part) in missing.iter().zip(expected) {
            assert!(seen.contains(part), "{seen}");
        }
    }

    #[test]
    fn a_sound_engine_lacks_nothing() {
        check(&sound(), 1, &[]);
    }

    #[test]
    fn an_engine_without_seccomp_is_named() {
        check(&EngineFacts { security_options: vec![], ..sound() }, 0, &["no seccomp"]);
    }

    #[test]
    fn an_engine_without_a_pids_controller_is_named() {
        check(&EngineFacts { limits_pids: false, ..sound() }, 0, &["no pids controller"]);
    }

    #[test]
    fn swap_matters_only_where_there_is_some() {
        let facts = EngineFacts { limits_swap: false, ..sound() };
        check(&facts, 0, &[]);
        check(&facts, 1, &["cannot limit swap"]);
    }

    #[test]
    fn a_runtime_that_is_not_there_is_named_with_those_that_are() {
        check(
            &EngineFacts { runtimes: vec!["crun".to_owned()], ..sound() },
            0,
            &["no runtime `runc` (it has crun)"],
        );
    }

    #[test]
    fn rootless_and_remapped_engines_map_users() {
        assert!(!maps_users(&sound()));
        assert!(maps_users(&EngineFacts { security_options: vec!["name=rootless".to_owned()], ..sound() }));
    }
}
