//! Every finding on a fixture: what a sound host shows, and what each change of it does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::container::EngineFacts;
use crate::container::description::{Component, EngineDescription};
use crate::doctor::facts::{AccountFacts, Changelog, DirectoryFacts, Facts, SocketFacts, Space};
use crate::doctor::finding::{Risk, Verdict, worst};
use crate::doctor::judge;

const ROOM: Space = Space { bytes: 100 << 30, inodes: Some(1_000_000) };

fn component(name: &str, version: &str, build: &str) -> Component {
    Component { name: name.to_owned(), version: version.to_owned(), build: build.to_owned() }
}

fn engine() -> EngineDescription {
    EngineDescription {
        facts: EngineFacts {
            description: "Docker 29.5.1".to_owned(),
            api_version: (1, 54),
            cgroup_version: "2".to_owned(),
            security_options: vec!["name=seccomp,profile=builtin".to_owned()],
            runtimes: vec!["runc".to_owned()],
            limits_pids: true,
            limits_memory: true,
            limits_swap: true,
            limits_cpu: true,
        },
        components: vec![
            component("Engine", "29.5.1", "abc"),
            component("containerd", "2.2.1", "abc"),
            component("runc", "1.4.0", "v1.4.0-0-gabc"),
        ],
        storage_driver: "overlay2".to_owned(),
        root_directory: "/var/lib/docker".to_owned(),
        default_runtime: "runc".to_owned(),
        live_restore: Some(true),
        warnings: Vec::new(),
        kernel_version: "6.12.0".to_owned(),
    }
}

fn directory(path: &str) -> DirectoryFacts {
    DirectoryFacts {
        path: Some(PathBuf::from(path)),
        trouble: None,
        exists: true,
        exposed: Vec::new(),
        space: Some(ROOM),
    }
}

/// A host of which every check but the remapping of users says `ok`.
fn sound() -> Facts {
    let sysctls = [
        ("kernel.unprivileged_bpf_disabled", "2"),
        ("kernel.unprivileged_userns_clone", "0"),
        ("kernel.kptr_restrict", "1"),
        ("kernel.dmesg_restrict", "1"),
        ("kernel.yama.ptrace_scope", "1"),
    ];
    Facts {
        engine: Ok(engine()),
        socket: Some(SocketFacts {
            path: PathBuf::from("/var/run/docker.sock"),
            mode: 0o660,
            owner: 0,
            group: "docker".to_owned(),
            members: Some(Vec::new()),
        }),
        open_listeners: Vec::new(),
        account: AccountFacts { uid: 998, in_socket_group: false },
        broker: Some(PathBuf::from("/run/aegis/broker.sock")),
        state: directory("/var/lib/aegis"),
        runtime: directory("/run/aegis/0badcafe"),
        engine_space: Some(ROOM),
        security_modules: Some(vec!["AppArmor".to_owned()]),
        kernel: "6.12.0".to_owned(),
        sysctls: sysctls.into_iter().map(|(name, value)| (name, value.to_owned())).collect(),
        vsock: false,
        swap_bytes: 0,
        changelogs: BTreeMap::new(),
    }
}

/// Changes a sound host: the finding of this id must have this verdict and show each of these parts.
#[track_caller]
fn check(change: impl FnOnce(&mut Facts), id: &str, verdict: Verdict, parts: &[&str]) {
    let mut facts = sound();
    change(&mut facts);
    let findings = judge(&facts);
    let found =
        findings.iter().find(|it| it.id == id).unwrap_or_else(|| panic!("no `{id}` in {findings:#?}"));
    assert_eq!(found.verdict, verdict, "{found:#?}");
    let text = format!("{} {} {}", found.seen, found.why, found.fix);
    for part in parts {
        assert!(text.contains(part), "no `{part}` in {found:#?}");
    }
    // Whatever is not well says why, and what to do.
    assert!(verdict == Verdict::Ok || !found.why.is_empty() && !found.fix.is_empty(), "{found:#?}");
}

/// The same with a change of the engine.
#[track_caller]
fn check_engine(change: impl FnOnce(&mut EngineDescription), id: &str, verdict: Verdict, parts: &[&str]) {
    check(|facts| change(facts.engine.as_mut().expect("an engine")), id, verdict, parts);
}

#[test]
fn a_sound_host_is_weak_in_nothing_but_the_map_of_users_and_the_gateways_account() {
    let findings = judge(&sound());
    let weak: Vec<_> = findings.iter().filter(|it| it.verdict != Verdict::Ok).map(|it| it.id).collect();
    assert_eq!(weak, ["walls.user_namespace", "aegis.gateway"]);
    assert!(findings.len() > 25, "{}", findings.len());
}

#[test]
fn ids_are_unique_and_begin_with_their_area() {
    let findings = judge(&sound());
    let ids: BTreeSet<_> = findings.iter().map(|it| it.id).collect();
    assert_eq!(ids.len(), findings.len());
    assert!(findings.iter().all(|it| it.id.starts_with(&format!("{}.", it.area.name()))), "{ids:?}");
}

#[test]
fn no_engine_is_a_failure_and_the_rest_is_still_looked_at() {
    check(
        |it| it.engine = Err("no container engine answers".to_owned()),
        "engine.answers",
        Verdict::Fail,
        &["DOCKER_HOST"],
    );
    check(|it| it.engine = Err("x".to_owned()), "kernel.version", Verdict::Ok, &[]);
}

#[test]
fn how_the_engine_is_set_up_is_judged() {
    check_engine(
        |it| it.storage_driver = "vfs".to_owned(),
        "engine.storage_driver",
        Verdict::Weak,
        &["vfs", "overlay2"],
    );
    check_engine(|it| it.storage_driver.clear(), "engine.storage_driver", Verdict::Weak, &["unknown"]);
    check_engine(|it| it.live_restore = Some(false), "engine.live_restore", Verdict::Weak, &["lost"]);
    check_engine(|it| it.live_restore = None, "engine.live_restore", Verdict::Weak, &["unknown"]);
    check_engine(
        |it| it.default_runtime = "odd".to_owned(),
        "engine.default_runtime",
        Verdict::Weak,
        &["odd", "by name"],
    );
    check_engine(
        |it| it.facts.runtimes = vec!["crun".to_owned()],
        "engine.runtimes",
        Verdict::Fail,
        &["crun", "refused"],
    );
    check(
        |it| it.engine_space = Some(Space { bytes: 5, inodes: None }),
        "engine.space",
        Verdict::Weak,
        &["docker system df"],
    );
    check(|it| it.engine_space = None, "engine.space", Verdict::Weak, &["unknown"]);
}

#[test]
fn a_wall_that_is_missing_fails() {
    check_engine(|it| it.facts.security_options.clear(), "walls.seccomp", Verdict::Fail, &["no seccomp"]);
    check_engine(|it| it.facts.limits_pids = false, "walls.pids", Verdict::Fail, &["delegate"]);
    check_engine(|it| it.facts.limits_memory = false, "walls.memory", Verdict::Fail, &["refuses every run"]);
    check_engine(|it| it.facts.limits_cpu = false, "walls.cpu", Verdict::Fail, &["CPU"]);
}

#[test]
fn swap_that_cannot_be_limited_matters_where_there_is_some() {
    check_engine(|it| it.facts.limits_swap = false, "walls.swap", Verdict::Ok, &["swap is off"]);
    let some = |facts: &mut Facts| {
        facts.swap_bytes = 1;
        facts.engine.as_mut().expect("an engine").facts.limits_swap = false;
    };
    check(some, "walls.swap", Verdict::Fail, &["swapaccount=1"]);
}

#[test]
fn cgroup_v1_and_a_version_that_is_not_told_are_weak() {
    check_engine(
        |it| it.facts.cgroup_version = "1".to_owned(),
        "walls.cgroup_version",
        Verdict::Weak,
        &["cgroup v1", "CVE-2022-0492"],
    );
    check_engine(|it| it.facts.cgroup_version.clear(), "walls.cgroup_version", Verdict::Weak, &["unknown"]);
}

#[test]
fn a_host_without_a_security_module_says_so() {
    check(
        |it| it.security_modules = Some(Vec::new()),
        "walls.security_module",
        Verdict::Weak,
        &["no LSM", "AppArmor"],
    );
    check(|it| it.security_modules = None, "walls.security_module", Verdict::Weak, &["unknown"]);
}

#[test]
fn a_map_of_users_is_told_with_what_it_costs() {
    let mapped = |option: &'static str| {
        move |it: &mut EngineDescription| it.facts.security_options.push(option.to_owned())
    };
    check_engine(mapped("name=rootless"), "walls.user_namespace", Verdict::Weak, &["rootless", "65532"]);
    check_engine(mapped("name=userns"), "walls.user_namespace", Verdict::Weak, &["remapped"]);
    check_engine(|_| (), "walls.user_namespace", Verdict::Weak, &["not remapped"]);
}

#[test]
fn a_version_with_a_flaw_of_the_walls_fails() {
    let runc = |it: &mut EngineDescription| it.components[2] = component("runc", "1.1.11", "v1.1.11-0-gabc");
    check_engine(runc, "flaws.runc", Verdict::Fail, &["has CVE-2024-21626", "1.1.12"]);
}

#[test]
fn a_flaw_that_aegis_does_not_touch_is_weak() {
    let docker = |it: &mut EngineDescription| it.components[0] = component("Engine", "27.1.0", "abc");
    check_engine(docker, "flaws.engine", Verdict::Weak, &["CVE-2024-41110", "authorization plugins"]);
}

#[test]
fn a_distributions_build_is_judged_by_its_changelog_or_not_at_all() {
    let debian = |facts: &mut Facts| {
        facts.engine.as_mut().expect("an engine").components[2] =
            component("runc", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1");
    };
    check(debian, "flaws.runc", Verdict::Weak, &["cannot be told from the version", "zgrep CVE-2024-21626"]);
    let with_log = |version: &'static str| {
        move |facts: &mut Facts| {
            debian(facts);
            let cves = ["CVE-2024-21626", "CVE-2024-45310"].map(str::to_owned).into();
            let log = Changelog { package: "runc".to_owned(), version: version.to_owned(), cves };
            facts.changelogs.insert("runc".to_owned(), log);
        }
    };
    let named = "its changelog does not name a fix for CVE-2025-31133, CVE-2025-52565, CVE-2025-52881";
    check(with_log("1.1.5+ds1-1+deb12u1"), "flaws.runc", Verdict::Weak, &[named]);
    // The changelog of a package that is not the one that runs says nothing.
    check(with_log("1.3.3+ds1-1"), "flaws.runc", Verdict::Weak, &["cannot be told"]);
}

#[test]
fn a_component_that_is_not_told_is_unknown() {
    check_engine(|it| it.components.clear(), "flaws.runc", Verdict::Weak, &["unknown", "runc --version"]);
    check_engine(|it| it.components.clear(), "flaws.engine", Verdict::Weak, &["dockerd --version"]);
}

#[test]
fn who_may_reach_the_engine_is_judged() {
    let socket = |change: fn(&mut SocketFacts)| {
        move |facts: &mut Facts| change(facts.socket.as_mut().expect("a socket"))
    };
    check(socket(|it| it.mode = 0o666), "access.socket", Verdict::Fail, &["chmod o="]);
    check(|it| it.socket = None, "access.socket", Verdict::Weak, &["unknown"]);
    check(
        socket(|it| it.members = Some(vec!["alice".to_owned()])),
        "access.group",
        Verdict::Weak,
        &["alice", "gpasswd"],
    );
    check(socket(|it| it.members = None), "access.group", Verdict::Weak, &["unknown", "getent group docker"]);
    check(socket(|it| it.mode = 0o600), "access.group", Verdict::Ok, &["owner alone"]);
}

#[test]
fn an_engine_on_the_network_without_tls_fails() {
    check(
        |it| it.open_listeners = vec!["tcp://0.0.0.0:2375".to_owned()],
        "access.network",
        Verdict::Fail,
        &["2375", "tlsverify"],
    );
    let warning =
        "WARNING: API is accessible on http://0.0.0.0:2375 without encryption.\n         Access is root.";
    check_engine(
        |it| it.warnings = vec![warning.to_owned()],
        "access.network",
        Verdict::Fail,
        &["without encryption"],
    );
    check_engine(
        |it| it.warnings = vec!["WARNING: No swap limit support".to_owned()],
        "access.network",
        Verdict::Ok,
        &[],
    );
}

#[test]
fn the_account_and_its_directories_are_judged() {
    check(|it| it.account.uid = 0, "aegis.account", Verdict::Weak, &["as root"]);
    check(|it| it.account.uid = 0, "aegis.gateway", Verdict::Ok, &["1999999999"]);
    check(|it| it.account.uid = 1000, "aegis.gateway", Verdict::Weak, &["uid 1000"]);
}

#[test]
fn a_broker_under_the_servers_account_is_weak() {
    check(|_| {}, "aegis.broker", Verdict::Ok, &["/run/aegis/broker.sock"]);
    check(|it| it.broker = None, "aegis.broker", Verdict::Weak, &["uid 998"]);
    check(|it| it.account.in_socket_group = true, "aegis.account", Verdict::Weak, &["root by another name"]);
    let open = "`/var/lib/aegis` is open to other users (mode 755): run `chmod 700 /var/lib/aegis`";
    check(
        |it| it.state.trouble = Some(open.to_owned()),
        "aegis.state_directory",
        Verdict::Fail,
        &["chmod 700"],
    );
    check(|it| it.state.exists = false, "aegis.state_directory", Verdict::Ok, &["first run"]);
    check(
        |it| it.state.exposed = vec![PathBuf::from("/var/lib/aegis/x")],
        "aegis.state_files",
        Verdict::Fail,
        &["chmod -R go="],
    );
    check(
        |it| it.runtime.trouble = Some("no XDG_RUNTIME_DIR".to_owned()),
        "aegis.runtime_directory",
        Verdict::Fail,
        &["XDG"],
    );
}

#[test]
fn room_for_records_is_judged_in_bytes_and_inodes() {
    let space = |bytes, inodes| move |it: &mut Facts| it.state.space = Some(Space { bytes, inodes });
    check(space(1 << 20, None), "aegis.space", Verdict::Fail, &["aegis gc"]);
    check(space(500 << 20, None), "aegis.space", Verdict::Weak, &[]);
    check(space(100 << 30, Some(10)), "aegis.space", Verdict::Fail, &["10 inodes"]);
    check(|it| it.state.space = None, "aegis.space", Verdict::Weak, &["unknown"]);
}

#[test]
fn settings_of_the_kernel_are_judged() {
    let set = |name: &'static str, value: &'static str| {
        move |it: &mut Facts| drop(it.sysctls.insert(name, value.to_owned()))
    };
    check(set("kernel.unprivileged_bpf_disabled", "0"), "kernel.bpf", Verdict::Weak, &["sysctl -w"]);
    check(set("kernel.unprivileged_userns_clone", "1"), "kernel.user_namespaces", Verdict::Weak, &["filter"]);
    check(set("kernel.kptr_restrict", "0"), "kernel.kptr_restrict", Verdict::Weak, &["masks"]);
    check(
        |it| drop(it.sysctls.remove("kernel.yama.ptrace_scope")),
        "kernel.yama",
        Verdict::Weak,
        &["no Yama"],
    );
    check(|it| it.vsock = true, "kernel.vsock", Verdict::Weak, &["vsock"]);
    check(|it| it.kernel = "4.19.0-25-amd64".to_owned(), "kernel.version", Verdict::Weak, &["5.10"]);
    check(|it| it.kernel = "odd".to_owned(), "kernel.version", Verdict::Weak, &["unknown"]);
}

#[test]
fn the_risk_follows_from_what_is_weak() {
    let risk = |change: fn(&mut Facts)| {
        let mut facts = sound();
        change(&mut facts);
        let findings = judge(&facts);
        (worst(&findings), Risk::of(&findings))
    };
    assert_eq!(risk(|_| ()), (Verdict::Weak, Risk::Raised));
    assert_eq!(risk(|it| it.account.uid = 0), (Verdict::Weak, Risk::Raised));
    assert_eq!(risk(|it| it.open_listeners.push("tcp://x".to_owned())), (Verdict::Fail, Risk::High));
}
