//! The engine makes something weaker than it was asked for, behind the host's back: refused, the difference named, and
//! the command never starts. Once with an engine that tells what it made, and once with one that lies, so that what the
//! kernel shows is all there is.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use aegis::sandbox::seccomp::groups::{GroupTreatment, groups};
use aegis::sandbox::seccomp::{Profile, conditions, numbers};
use serde_json::{Value, json};

use crate::support::aegis::{Aegis, eventually, repetitions};
use crate::support::rewriter::{Inspection, Rewriter};

/// What the command would print.
const MARKER: &str = "THE COMMAND STARTED";

/// Runs a task whose container the engine changes. Refused over every one of `parts`.
fn check_with(inspection: Inspection, change: impl Fn(&mut Value) + Send + Sync + 'static, parts: &[&str]) {
    check_under("strict", inspection, change, parts);
}

/// The same under this policy.
pub fn check_under(
    policy: &str,
    inspection: Inspection,
    change: impl Fn(&mut Value) + Send + Sync + 'static,
    parts: &[&str],
) {
    let rewriter = Rewriter::weakening(inspection, Box::new(change));
    let aegis = Aegis::new().with("DOCKER_HOST", &rewriter.docker_host());
    let ended =
        aegis.script(&["--sandbox", policy, "-o", "proof"], &format!("echo {MARKER}; echo {MARKER} >proof"));
    ended.code(125).says("refused");
    for part in parts {
        ended.says(part);
    }
    assert_eq!(ended.stdout, "", "the command started: {ended:#?}");
    assert!(!aegis.here().join("aegis-out").join("proof").exists());
    eventually("the container is gone", Duration::from_secs(10), || aegis.containers().is_empty());
    let slots = std::fs::read_dir(aegis.runtime().join("slots")).expect("the slots' directory");
    assert_eq!(slots.count(), 0, "a slot is left");
}

/// An engine that says what it made: its own words name the setting.
fn told(change: impl Fn(&mut Value) + Send + Sync + 'static, part: &str) {
    check_with(Inspection::Honest, change, &[part]);
}

/// An engine that hides it: what the kernel shows names it.
fn hidden(change: impl Fn(&mut Value) + Send + Sync + 'static, part: &str) {
    check_with(Inspection::Lying, change, &[part]);
}

/// Both.
fn both(change: impl Fn(&mut Value) + Send + Sync + Copy + 'static, setting: &str, kernel: &str) {
    told(change, &format!("engine setting `{setting}`"));
    hidden(change, kernel);
}

fn host(body: &mut Value, name: &str, value: Value) {
    body["HostConfig"][name] = value;
}

fn add(body: &mut Value, name: &str, value: Value) {
    body["HostConfig"][name].as_array_mut().expect("a list").push(value);
}

// Capabilities.

fn keeps(capability: &'static str, inspection: Inspection) {
    let part = match inspection {
        Inspection::Honest => "engine setting `HostConfig.CapAdd`",
        Inspection::Lying => "capabilities: CapBnd",
    };
    check_with(inspection, move |body| host(body, "CapAdd", json!([capability])), &[part]);
}

#[test]
fn a_capability_more_is_told() {
    keeps("CHOWN", Inspection::Honest);
}

#[test]
fn a_capability_more_cannot_be_hidden() {
    // Every one that an engine grants by default, and the most dangerous ones; the rest in the long form.
    for capability in ["CHOWN", "NET_RAW", "SYS_PTRACE", "SYS_ADMIN"] {
        keeps(capability, Inspection::Lying);
    }
}

#[test]
fn any_other_capability_cannot_be_hidden() {
    // Those that an engine of Docker 20.10 knows by name.
    let all = [
        "AUDIT_CONTROL",
        "AUDIT_WRITE",
        "BLOCK_SUSPEND",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "IPC_LOCK",
        "IPC_OWNER",
        "KILL",
        "LEASE",
        "LINUX_IMMUTABLE",
        "MAC_ADMIN",
        "MAC_OVERRIDE",
        "MKNOD",
        "NET_ADMIN",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_BOOT",
        "SYS_CHROOT",
        "SYS_MODULE",
        "SYS_NICE",
        "SYS_PACCT",
        "SYS_RAWIO",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "SYSLOG",
        "WAKE_ALARM",
    ];
    for capability in all.into_iter().take(repetitions(2, 64) as usize) {
        keeps(capability, Inspection::Lying);
    }
}

#[test]
fn not_dropping_capabilities_is_refused() {
    both(|body| host(body, "CapDrop", json!([])), "HostConfig.CapDrop", "capabilities: CapBnd");
}

// System calls.

#[test]
fn seccomp_off_is_refused() {
    both(
        |body| host(body, "SecurityOpt", json!(["no-new-privileges", "seccomp=unconfined"])),
        "HostConfig.SecurityOpt",
        "Seccomp is 0 (off)",
    );
}

#[test]
fn the_engines_own_filter_is_refused() {
    both(
        |body| host(body, "SecurityOpt", json!(["no-new-privileges"])),
        "HostConfig.SecurityOpt",
        "seccomp group `io_uring`",
    );
}

#[test]
fn privileges_that_can_be_gained_are_refused() {
    both(
        |body| {
            let options = body["HostConfig"]["SecurityOpt"].as_array_mut().expect("a list");
            options.retain(|it| it != "no-new-privileges");
        },
        "HostConfig.SecurityOpt",
        "NoNewPrivs is 0",
    );
}

/// Changes the inline profile of a request.
fn edit_profile(body: &mut Value, edit: impl FnOnce(&mut Value)) {
    for option in body["HostConfig"]["SecurityOpt"].as_array_mut().expect("a list") {
        if let Some(text) = option.as_str().and_then(|it| it.strip_prefix("seccomp=")) {
            let mut profile: Value = serde_json::from_str(text).expect("it is JSON");
            edit(&mut profile);
            *option = Value::String(format!("seccomp={profile}"));
            return;
        }
    }
    panic!("no profile in the request");
}

/// Allows calls, as if no rule denied them.
fn allow(profile: &mut Value, calls: &[&str]) {
    let rules = profile["syscalls"].as_array_mut().expect("a list");
    for rule in rules.iter_mut() {
        rule["names"]
            .as_array_mut()
            .expect("a list")
            .retain(|it| !calls.contains(&it.as_str().unwrap_or_default()));
    }
    rules.retain(|it| !it["names"].as_array().expect("a list").is_empty());
    rules.push(json!({ "names": calls, "action": "SCMP_ACT_ALLOW" }));
}

/// From here the engine's library may not know a call's name, and leaves it denied whatever the profile says.
const NEWER_FROM: u32 = 440;

/// Opens every third denied group, each alone, beginning with `first`.
fn check_groups(first: usize) {
    let strict = Profile { ptrace: false, netlink_route: true, preallocation: true };
    let denied = groups(strict).into_iter().filter(|it| matches!(it.treatment, GroupTreatment::Deny(_)));
    for group in denied.skip(first).step_by(3) {
        check_group(group.name, group.calls().collect());
    }
}

/// An opened group is refused by its name; one that this engine cannot open still answers as if closed.
fn check_group(name: &str, calls: Vec<&'static str>) {
    let listed = |it: &&str| numbers::number(it).expect("the table has it");
    let all: Vec<String> = calls.iter().map(|it| listed(it).to_string()).collect();
    let newer = calls.iter().all(|it| listed(it) >= NEWER_FROM);
    let change = move |body: &mut Value| edit_profile(body, |profile| allow(profile, &calls));
    let rewriter = Rewriter::weakening(Inspection::Lying, Box::new(change));
    let aegis = Aegis::new().with("DOCKER_HOST", &rewriter.docker_host());
    let probe = format!(
        "python3 -c 'import ctypes as c\nl = c.CDLL(None, use_errno=True)\nbad = [c.c_long(-1)] * 6\n\
         for n in [{}]:\n  l.syscall(c.c_long(n), *bad)\n  print(c.get_errno() in (1, 38))'",
        all.join(",")
    );
    let ended = aegis.script(&[], &probe);
    if newer && ended.code == Some(0) {
        assert_eq!(ended.stdout, "True\n".repeat(all.len()), "`{name}`: {ended:#?}");
        return;
    }
    ended.code(125).says("refused").says(&format!("seccomp group `{name}`"));
    assert_eq!(ended.stdout, "", "`{name}`: the command started");
}

#[test]
fn a_denied_group_opened_cannot_be_hidden_first_third() {
    check_groups(0);
}

#[test]
fn a_denied_group_opened_cannot_be_hidden_second_third() {
    check_groups(1);
}

#[test]
fn a_denied_group_opened_cannot_be_hidden_last_third() {
    check_groups(2);
}

#[test]
fn one_call_opened_is_told() {
    told(
        |body| edit_profile(body, |profile| allow(profile, &["keyctl"])),
        "engine setting `HostConfig.SecurityOpt`",
    );
}

#[test]
fn a_call_without_its_conditions_cannot_be_hidden() {
    let strict = Profile { ptrace: false, netlink_route: true, preallocation: true };
    let calls: std::collections::BTreeSet<&str> =
        conditions::conditional(strict).into_iter().map(|it| it.call).collect();
    assert!(calls.contains("socket") && calls.contains("clone"), "{calls:?}");
    for call in calls {
        hidden(
            move |body| edit_profile(body, |profile| allow(profile, &[call])),
            &format!("seccomp group `{call}`"),
        );
    }
}

#[test]
fn a_filter_that_logs_instead_of_refusing_cannot_be_hidden() {
    hidden(
        |body| edit_profile(body, |profile| profile["defaultAction"] = json!("SCMP_ACT_LOG")),
        "seccomp group",
    );
}

#[test]
fn another_abi_cannot_be_hidden() {
    hidden(
        |body| {
            edit_profile(body, |profile| {
                profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
            });
        },
        "seccomp group `other ABIs`",
    );
}

// The file system.

#[test]
fn a_writable_root_is_refused() {
    both(|body| host(body, "ReadonlyRootfs", json!(false)), "HostConfig.ReadonlyRootfs", "mount `/`");
}

fn bound(source: &str, target: &str, read_only: bool) -> Value {
    json!({ "Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only })
}

#[test]
fn a_host_directory_added_is_refused() {
    both(|body| add(body, "Mounts", bound("/etc", "/mnt", false)), "HostConfig.Mounts", "mount `/mnt`");
}

#[test]
fn a_host_directory_added_read_only_is_refused() {
    both(|body| add(body, "Mounts", bound("/etc", "/mnt", true)), "HostConfig.Mounts", "mount `/mnt`");
}

#[test]
fn a_bind_in_the_older_form_is_refused() {
    both(|body| add(body, "Binds", json!("/etc:/mnt:ro")), "HostConfig.Binds", "mount `/mnt`");
}

#[test]
fn a_host_file_in_the_place_of_one_of_the_engines_is_refused() {
    for target in ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"] {
        both(
            move |body| add(body, "Mounts", bound("/etc/passwd", target, true)),
            "HostConfig.Mounts",
            &format!("mount `{target}`"),
        );
    }
}

#[test]
fn a_host_directory_under_a_place_of_the_sandbox_is_refused() {
    both(|body| add(body, "Mounts", bound("/etc", "/tmp/x", true)), "HostConfig.Mounts", "mount `/tmp/x`");
}

#[test]
fn the_engines_socket_inside_is_refused() {
    both(
        |body| add(body, "Mounts", bound("/var/run/docker.sock", "/opt/docker.sock", true)),
        "HostConfig.Mounts",
        "mount `/opt/docker.sock`",
    );
}

#[test]
fn another_slot_directory_is_refused() {
    // The whole runtime directory in the place of the slot's: the same mount point, other content.
    both(
        |body| {
            let mount = &mut body["HostConfig"]["Mounts"][0];
            let source = mount["Source"].as_str().expect("a path").to_owned();
            let copy = format!("{source}-other");
            std::process::Command::new("cp").args(["-a", &source, &copy]).status().expect("copied");
            // The socket cannot be copied: a link to the slot's own leads init to its owner.
            let _ = std::fs::remove_file(format!("{copy}/control.sock"));
            for entry in std::fs::read_dir(&source).expect("read").flatten() {
                let to = format!("{copy}/{}", entry.file_name().to_string_lossy());
                if !std::path::Path::new(&to).exists() {
                    std::fs::hard_link(entry.path(), &to).expect("linked");
                }
            }
            mount["Source"] = json!(copy);
        },
        "HostConfig.Mounts",
        "mount `/.aegis`",
    );
}

fn tmpfs(body: &mut Value, edit: impl Fn(&str) -> String) {
    let options = body["HostConfig"]["Tmpfs"]["/tmp"].as_str().expect("a text").to_owned();
    body["HostConfig"]["Tmpfs"]["/tmp"] = json!(edit(&options));
}

#[test]
fn a_tmpfs_that_honours_setuid_is_refused() {
    both(|body| tmpfs(body, |it| it.replace("nosuid", "suid")), "HostConfig.Tmpfs", "mount `/tmp`");
}

#[test]
fn a_tmpfs_with_devices_is_refused() {
    both(|body| tmpfs(body, |it| it.replace("nodev", "dev")), "HostConfig.Tmpfs", "mount `/tmp`");
}

#[test]
fn a_larger_tmpfs_is_refused() {
    both(
        |body| tmpfs(body, |it| it.replace("size=268435456", "size=1073741824")),
        "HostConfig.Tmpfs",
        "mount `/tmp`: bytes",
    );
}

#[test]
fn a_tmpfs_with_more_inodes_is_refused() {
    both(
        |body| tmpfs(body, |it| it.replace("nr_inodes=65536", "nr_inodes=0")),
        "HostConfig.Tmpfs",
        "mount `/tmp`: inodes",
    );
}

#[test]
fn a_tmpfs_that_is_open_to_all_is_refused() {
    both(
        |body| tmpfs(body, |it| it.replace("mode=0700", "mode=0777")),
        "HostConfig.Tmpfs",
        "mount `/tmp`: mode",
    );
}

#[test]
fn masks_that_were_left_out_are_refused() {
    both(|body| host(body, "MaskedPaths", json!([])), "HostConfig.MaskedPaths", "mount `/proc/");
}

#[test]
fn one_mask_that_was_left_out_is_refused() {
    both(
        |body| {
            body["HostConfig"]["MaskedPaths"]
                .as_array_mut()
                .expect("a list")
                .retain(|it| it != "/proc/interrupts");
        },
        "HostConfig.MaskedPaths",
        "mount `/proc/interrupts`",
    );
}

#[test]
fn kernel_settings_that_can_be_written_are_refused() {
    both(|body| host(body, "ReadonlyPaths", json!([])), "HostConfig.ReadonlyPaths", "mount `/proc/sys`");
}

#[test]
fn a_device_added_is_refused() {
    both(
        |body| {
            let device = json!({ "PathOnHost": "/dev/loop-control", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm" });
            let existing = if std::path::Path::new("/dev/loop-control").exists() {
                "/dev/loop-control"
            } else {
                "/dev/null"
            };
            add(body, "Devices", device);
            body["HostConfig"]["Devices"][0]["PathOnHost"] = json!(existing);
        },
        "HostConfig.Devices",
        "device `x`",
    );
}

#[test]
fn a_privileged_container_is_refused() {
    // Where the machine itself lacks a capability, the engine cannot even start one; that it does not run is enough.
    let rewriter =
        Rewriter::weakening(Inspection::Lying, Box::new(|body| host(body, "Privileged", json!(true))));
    let aegis = Aegis::new().with("DOCKER_HOST", &rewriter.docker_host());
    let ended = aegis.script(&[], &format!("echo {MARKER}"));
    ended.code(125);
    assert_eq!(ended.stdout, "");
}

// Amounts.

#[test]
fn unlimited_processes_are_refused() {
    both(|body| host(body, "PidsLimit", json!(-1)), "HostConfig.PidsLimit", "cgroup pids.max");
}

#[test]
fn a_process_more_is_refused() {
    both(|body| host(body, "PidsLimit", json!(257)), "HostConfig.PidsLimit", "cgroup pids.max");
}

#[test]
fn unlimited_memory_is_refused() {
    both(
        |body| {
            host(body, "Memory", json!(0));
            host(body, "MemorySwap", json!(0));
        },
        "HostConfig.Memory",
        "cgroup memory.limit_in_bytes",
    );
}

#[test]
fn swap_is_refused() {
    both(|body| host(body, "MemorySwap", json!(-1)), "HostConfig.MemorySwap", "memsw");
}

#[test]
fn more_cpus_are_refused() {
    both(|body| host(body, "NanoCpus", json!(0)), "HostConfig.NanoCpus", "cgroup CPU limit");
}

fn limit(body: &mut Value, name: &str, amount: u64) {
    for it in body["HostConfig"]["Ulimits"].as_array_mut().expect("a list") {
        if it["Name"] == name {
            it["Soft"] = json!(amount);
            it["Hard"] = json!(amount);
        }
    }
}

#[test]
fn more_open_files_are_refused() {
    both(|body| limit(body, "nofile", 1025), "HostConfig.Ulimits", "limit `Max open files`");
}

#[test]
fn core_dumps_are_refused() {
    both(|body| limit(body, "core", 1 << 30), "HostConfig.Ulimits", "limit `Max core file size`");
}

#[test]
fn larger_files_are_refused() {
    both(|body| limit(body, "fsize", 1 << 40), "HostConfig.Ulimits", "limit `Max file size`");
}

#[test]
fn no_limits_at_all_are_refused() {
    both(|body| host(body, "Ulimits", json!([])), "HostConfig.Ulimits", "limit `Max");
}

// Namespaces, users, the network.

#[test]
fn a_bridge_network_is_refused() {
    both(|body| host(body, "NetworkMode", json!("bridge")), "HostConfig.NetworkMode", "network interface");
}

#[test]
fn the_hosts_network_is_refused() {
    both(
        |body| {
            host(body, "NetworkMode", json!("host"));
            host(body, "Sysctls", json!({}));
        },
        "HostConfig.NetworkMode",
        "network interface",
    );
}

#[test]
fn the_hosts_processes_are_refused() {
    both(|body| host(body, "PidMode", json!("host")), "HostConfig.PidMode", "NSpid");
}

#[test]
fn the_hosts_ipc_is_refused() {
    both(|body| host(body, "IpcMode", json!("host")), "HostConfig.IpcMode", "namespace `ipc`");
}

#[test]
fn a_shareable_ipc_is_told() {
    told(|body| host(body, "IpcMode", json!("shareable")), "engine setting `HostConfig.IpcMode`");
}

#[test]
fn the_hosts_name_is_refused() {
    both(
        |body| {
            host(body, "UTSMode", json!("host"));
            body["Hostname"] = json!("");
        },
        "HostConfig.UTSMode",
        "namespace `uts`",
    );
}

#[test]
fn the_hosts_control_groups_are_refused() {
    both(|body| host(body, "CgroupnsMode", json!("host")), "HostConfig.CgroupnsMode", "cgroup");
}

#[test]
fn another_host_name_is_refused() {
    both(|body| body["Hostname"] = json!("build-17"), "Config.Hostname", "host name");
}

#[test]
fn root_inside_is_refused() {
    both(|body| body["User"] = json!("0:0"), "Config.User", "Uid");
}

#[test]
fn the_root_group_is_refused() {
    both(
        |body| {
            let user =
                body["User"].as_str().expect("a text").split(':').next().unwrap_or_default().to_owned();
            body["User"] = json!(format!("{user}:0"));
        },
        "Config.User",
        "Gid",
    );
}

#[test]
fn another_tasks_user_is_refused() {
    both(|body| body["User"] = json!("2000000999:2000000999"), "Config.User", "Uid");
}

#[test]
fn a_supplementary_group_is_refused() {
    both(|body| add(body, "GroupAdd", json!("27")), "HostConfig.GroupAdd", "supplementary groups");
}

#[test]
fn another_kernel_parameter_is_refused() {
    both(
        |body| body["HostConfig"]["Sysctls"]["net.ipv4.ip_unprivileged_port_start"] = json!("1024"),
        "HostConfig.Sysctls",
        "net.ipv4.ip_unprivileged_port_start",
    );
}

// What only the engine can tell.

#[test]
fn settings_that_leave_no_trace_in_the_kernel_are_told() {
    for (name, value) in [
        ("AutoRemove", json!(false)),
        ("OomKillDisable", json!(true)),
        ("ExtraHosts", json!(["host.example.org:192.0.2.1"])),
        ("Dns", json!(["192.0.2.53"])),
        ("DeviceCgroupRules", json!(["c 1:1 rwm"])),
        ("LogConfig", json!({ "Type": "json-file", "Config": {} })),
    ] {
        told(move |body| host(body, name, value.clone()), &format!("engine setting `HostConfig.{name}`"));
    }
}

#[test]
fn a_volume_added_is_refused() {
    // The engine adds those of the image to what it shows, so that the kernel's word is the one that counts.
    for inspection in [Inspection::Honest, Inspection::Lying] {
        check_with(inspection, |body| body["Volumes"] = json!({ "/data": {} }), &["mount `/data`"]);
    }
}

#[test]
fn another_first_process_is_refused() {
    both(|body| host(body, "Init", json!(true)), "HostConfig.Init", "NSpid");
}

#[test]
fn programs_that_the_engine_would_start_are_told() {
    told(|body| body["Cmd"] = json!(["sh"]), "engine setting `Config.Cmd`");
    told(
        |body| body["Healthcheck"] = json!({ "Test": ["CMD", "sh"], "Interval": 1_000_000_000_u64 }),
        "engine setting `Config.Healthcheck`",
    );
}

#[test]
fn another_runtime_is_told() {
    told(|body| host(body, "Runtime", json!("io.containerd.runc.v2")), "engine setting `HostConfig.Runtime`");
}

#[test]
fn a_variable_that_the_engine_adds_does_not_reach_the_command() {
    let change = |body: &mut Value| body["Env"] = json!(["LD_PRELOAD=/tmp/x.so", "PLANTED=1"]);
    let rewriter = Rewriter::weakening(Inspection::Lying, Box::new(change));
    let ended = Aegis::new().with("DOCKER_HOST", &rewriter.docker_host()).script(&[], "env");
    ended.code(0);
    assert!(!ended.stdout.contains("PLANTED") && !ended.stdout.contains("LD_PRELOAD"), "{ended:#?}");
}

#[test]
fn another_program_in_inits_place_is_refused() {
    for inspection in [Inspection::Honest, Inspection::Lying] {
        let change = |body: &mut Value| body["Entrypoint"] = json!(["/bin/echo", MARKER]);
        let rewriter = Rewriter::weakening(inspection, Box::new(change));
        let aegis = Aegis::new().with("DOCKER_HOST", &rewriter.docker_host());
        let ended = aegis.script(&[], &format!("echo {MARKER}"));
        ended.code(125);
        assert_eq!(ended.stdout, "");
    }
}

/// Has the real engine make and start a container like this one.
fn start_like(body: &Value) {
    let id = |answer: &str| {
        let json: Value =
            serde_json::from_str(&answer[answer.find('{').expect("an object")..]).expect("JSON");
        json["Id"].as_str().expect("an id").to_owned()
    };
    let ask = |path: &str, body: &str| {
        let mut stream = UnixStream::connect("/var/run/docker.sock").expect("the engine");
        let head = "HTTP/1.0\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length";
        write!(stream, "POST {path} {head}: {}\r\n\r\n{body}", body.len()).expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let made = id(&ask("/containers/create", &body.to_string()));
    let started = ask(&format!("/containers/{made}/start"), "");
    assert!(started.contains(" 204 "), "{started}");
}

#[test]
fn another_container_that_comes_to_the_slots_door_is_not_taken_for_the_right_one() {
    let rewriter = Rewriter::weakening(Inspection::Honest, Box::new(|body| start_like(body)));
    let aegis = Aegis::new().with("DOCKER_HOST", &rewriter.docker_host());
    let ended = aegis.script(&[], &format!("echo {MARKER}"));
    ended.code(125).says("that of another container");
    assert_eq!(ended.stdout, "");
}

#[test]
fn nothing_changed_runs() {
    for inspection in [Inspection::Honest, Inspection::Lying] {
        let rewriter = Rewriter::weakening(inspection, Box::new(|_| {}));
        let ended =
            Aegis::new().with("DOCKER_HOST", &rewriter.docker_host()).script(&[], &format!("echo {MARKER}"));
        ended.code(0).prints(MARKER);
        assert!(rewriter.asked().is_some(), "the request passed the proxy");
    }
}
