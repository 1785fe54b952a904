//! DV of the checks: a task gets the standard pseudo-devices and nothing else.

use crate::probe::{check_refused, check_script};
use crate::support::aegis::Aegis;
use crate::watched::Watched;

#[test]
fn dv_01_dev_holds_the_standard_names_only() {
    let ended = check_script(
        1,
        r"ls /dev | grep -vxE 'console|core|fd|full|mqueue|null|ptmx|pts|random|shm|stderr|stdin|stdout|tty|urandom|zero' | sed 's/^/BREACH /'
          echo tried $(ls /dev)
          find / -not -path '/proc/*' \( -type c -o -type b \) 2>/dev/null | while read -r d; do echo $(stat -c '%t:%T' $d) $d; done",
    );
    ended.prints("null").prints("urandom");
    // Whatever its name: character devices are those of memory, the terminal and the masks' `/dev/null`.
    let devices =
        ended.stdout.lines().filter_map(|it| it.split_once(" /").filter(|(number, _)| number.contains(':')));
    for (number, path) in devices {
        assert!(["1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2"].contains(&number), "{number} /{path}");
    }
}

#[test]
fn dv_02_no_disk_and_no_device_of_the_host_is_there() {
    check_script(
        13,
        "for d in /dev/vda /dev/sda /dev/nvme0n1 /dev/kvm /dev/fuse /dev/net/tun /dev/vsock /dev/userfaultfd /dev/kmsg /dev/mem \\
            /dev/loop0 /dev/loop-control; do [ -e $d ] && echo BREACH $d; echo tried $d; done
         find / -not -path '/proc/*' -type b 2>/dev/null | sed 's/^/BREACH /'; [ -c /dev/null ] && echo tried find",
    );
}

#[test]
fn dv_03_the_usual_devices_work() {
    check_script(
        6,
        "echo y >/dev/null && echo tried null || echo BREACH null
         [ $(head -c4 /dev/urandom | wc -c) = 4 ] && echo tried urandom || echo BREACH urandom
         [ $(head -c4 /dev/random | wc -c) = 4 ] && echo tried random || echo BREACH random
         [ $(head -c1 /dev/zero | od -An -tu1) = 0 ] && echo tried zero || echo BREACH zero
         (echo x >/dev/full) 2>/tmp/why; grep -q 'No space left' /tmp/why && echo tried full || echo BREACH full
         python3 -c 'import os; a, b = os.openpty(); os.write(a, b\"x\\n\"); print(\"tried pty\", os.read(b, 2))'",
    )
    .prints("tried pty b'x\\n'");
}

#[track_caller]
fn check_policy(line: &str, named: &str) {
    let aegis = Aegis::new();
    let path = aegis.here().join("policy.toml");
    std::fs::write(&path, format!("base = \"strict\"\n{line}\n")).unwrap();
    let ended = aegis.call(&["run", "--no-workspace", "--sandbox", "./policy.toml", "--", "echo", "it ran"]);
    ended.code(125).says(named).says("policy.toml");
    assert!(!ended.stdout.contains("it ran"), "{ended:#?}");
}

#[test]
fn dv_04_a_policy_that_asks_for_devices_is_refused_by_name() {
    check_policy("devices = [\"/dev/kvm\"]", "devices");
    check_policy("gpus = \"all\"", "gpus");
    check_policy("device_cgroup_rules = [\"a *:* rwm\"]", "device_cgroup_rules");
    check_policy("[process]\nuser = 0", "user");
}

#[test]
fn dv_05_device_nodes_are_neither_made_nor_would_they_open() {
    check_refused("mknod_blk mknod_chr");
    let aegis = Aegis::new();
    let mut run = Watched::script(&aegis, &[], "echo ready; read -r line");
    run.wait_for("ready");
    // cgroup v1 lists what may be opened; v2 has a program in its place, which nobody can read.
    if let Ok(list) = std::fs::read_to_string(run.cgroup("devices").join("devices.list")) {
        let disks =
            list.lines().filter(|it| it.starts_with('a') || it.starts_with('b') && !it.ends_with(" m"));
        assert_eq!(disks.collect::<Vec<_>>(), Vec::<&str>::new(), "{list}");
        assert!(!list.contains("1:1 ") && !list.contains("1:2 "), "{list}");
    }
    assert_eq!(
        run.inspect("{{.HostConfig.Devices}} {{.HostConfig.DeviceCgroupRules}} {{.HostConfig.Privileged}}"),
        "[] [] false"
    );
    run.say("done");
    run.end().code(0);
}
