//! PS of the checks: what the kernel shows and lets be set through `/proc` and `/sys` is little, and stays so.

use std::path::Path;

use crate::probe::{answers, check_refused, check_script, script_with_result};
use crate::support::aegis::Aegis;

#[test]
fn ps_01_what_is_masked_shows_nothing() {
    let ended = check_script(
        30,
        "for p in /proc/kcore /proc/keys /proc/timer_list /proc/latency_stats /proc/sched_debug /proc/scsi /proc/acpi \\
            /proc/asound /proc/kmsg /sys/firmware /sys/devices/virtual/powercap /proc/key-users /proc/kallsyms \\
            /proc/modules /proc/slabinfo /proc/vmallocinfo /proc/iomem /proc/softirqs /proc/schedstat /sys/kernel/slab \\
            /sys/kernel/btf /proc/buddyinfo /proc/zoneinfo /proc/pagetypeinfo /proc/dma /proc/consoles /proc/partitions \\
            /proc/diskstats /proc/pressure /sys/kernel/boot_params; do
            if [ -d $p ]; then [ -n \"$(ls -A $p 2>/dev/null)\" ] && echo BREACH $p
            elif [ -e $p ]; then [ -n \"$(timeout 2 head -c 16 $p 2>/dev/null | tr -d '\\0')\" ] && echo BREACH $p; fi
            echo tried $p
         done
         head -c 6 /proc/version",
    );
    ended.prints("Linux");
}

#[test]
fn ps_02_no_knob_of_the_kernel_can_be_written() {
    let ended = check_script(
        14,
        "for p in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/drop_caches \\
            /proc/sys/net/ipv4/ip_forward /proc/sys/fs/binfmt_misc/register /sys/kernel/uevent_helper \\
            /sys/fs/cgroup/release_agent /sys/fs/cgroup/cpu/release_agent /proc/irq/default_smp_affinity \\
            /sys/kernel/mm/transparent_hugepage/enabled /sys/power/state /proc/self/ns; do
            (: >>$p) 2>/dev/null && echo BREACH $p; echo tried $p
         done
         for p in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do
            (: >>$p) 2>/dev/null && echo BREACH $p
         done
         # A mask is listed as the file that it hides, and is `/dev/null` when it is looked at.
         find /proc/sys /proc/irq /proc/bus /proc/fs /sys -type f -writable -exec test -f {} \\; -print 2>/dev/null | sed 's/^/BREACH /'
         find /proc -maxdepth 1 -type f -writable -exec test -f {} \\; -print 2>/dev/null | sed 's/^/BREACH /'
         echo tried $(find /proc/sys /sys -type f 2>/dev/null | wc -l) files",
    );
    let line = ended.stdout.lines().find(|it| it.ends_with(" files")).unwrap();
    assert!(line.split(' ').nth(1).unwrap().parse::<u32>().unwrap() > 500, "{line}");
}

#[test]
fn ps_03_masks_are_neither_lifted_nor_side_stepped() {
    check_refused("umount2_mask umount2_proc mount_proc mount_bind remount_root open_tree_clone move_mount");
    assert_eq!(answers("umount2_mask")["umount2_mask"], "EPERM");
}

#[test]
fn ps_05_no_kernel_address_machine_id_or_tracing_is_shown_and_no_interface_but_its_own() {
    let ended = check_script(
        9,
        "awk '$1!~/^0+$/{print \"BREACH kallsyms\";exit}' /proc/kallsyms 2>/dev/null; echo tried kallsyms
         for f in product_uuid product_serial board_serial; do
            [ -r /sys/devices/virtual/dmi/id/$f ] && echo BREACH dmi $f; [ -r /sys/class/dmi/id/$f ] && echo BREACH dmi $f
         done; echo tried dmi
         for d in /sys/kernel/debug /sys/kernel/tracing /sys/kernel/security /sys/fs/bpf /sys/fs/pstore /sys/fs/fuse/connections; do
            [ -n \"$(ls -A $d 2>/dev/null)\" ] && echo BREACH $d; echo tried $d
         done
         ls /sys/class/net | grep -vx lo | sed 's/^/BREACH net /'; echo tried net $(ls /sys/class/net)",
    );
    ended.prints("tried net lo\n");
}

#[test]
fn ps_06_the_hosts_command_line_configuration_and_interrupts_are_masked() {
    check_script(
        5,
        "for p in /proc/cmdline /proc/config.gz /proc/interrupts /proc/softirqs /proc/schedstat; do
            [ -e $p ] && head -c1 $p 2>/dev/null | grep -q . && echo BREACH $p; echo tried $p
         done",
    );
}

/// The paths that `SECURITY.md` says a task can read.
fn documented() -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("SECURITY.md")).unwrap();
    let (_, block) = text.split_once("```readable\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    block.lines().filter_map(|it| it.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn ps_06_what_has_content_below_proc_is_the_list_of_security_md() {
    let ended = check_script(
        1,
        "for f in /proc/*; do
            [ -f $f ] && timeout 1 head -c 4096 $f 2>/dev/null | tr -d '\\0' | grep -q . && echo has $f
         done; echo tried all",
    );
    let found: Vec<_> = ended.stdout.lines().filter_map(|it| it.strip_prefix("has ")).collect();
    let documented = documented();
    let unknown: Vec<_> = found.iter().filter(|it| !documented.iter().any(|known| known == *it)).collect();
    assert!(unknown.is_empty() && found.len() > 8, "not in SECURITY.md: {unknown:?}; found: {found:?}");
}

#[test]
fn ps_07_no_credential_of_the_caller_is_in_any_environment() {
    let aegis = Aegis::new()
        .with("AEGIS_SECRET_TOKEN", "word-of-the-host")
        .with("DATABASE_URL", "postgres://u:word-of-the-host@db/x")
        .with("SSH_AUTH_SOCK", "/tmp/word-of-the-host")
        .with("GITHUB_TOKEN", "word-of-the-host");
    let script = r"
tr '\0' '\n' </proc/1/environ 2>/dev/null | grep -iE 'token|secret|passw|key=|postgres|database_url|docker_host|ssh_auth' && echo BREACH
for e in /proc/[0-9]*/environ; do tr '\0' '\n' <$e 2>/dev/null | grep -qiE 'aegis_secret|word-of-the-ho[s]t' && echo BREACH $e; done
env | grep -iE 'token|secret|postgres|database_url|docker_host|ssh_auth' && echo BREACH env
echo tried $(env | wc -l); echo given $GIVEN";
    let ended = aegis.script(&["-e", "GIVEN=yes"], script);
    ended.code(0).no_breach().prints("tried").prints("given yes");
    assert!(!ended.stdout.contains("word-of-the-host"), "{ended:#?}");
}

#[test]
fn ps_08_the_record_says_which_security_module_confines_the_task_or_that_none_does() {
    let aegis = Aegis::new();
    let (ended, result) = script_with_result(&aegis, &[], "cat /proc/self/attr/current; echo tried");
    ended.code(0).prints("tried");
    let label = &result["attestation"]["security_label"];
    let apparmor = Path::new("/sys/module/apparmor/parameters/enabled");
    match std::fs::read_to_string(apparmor).is_ok_and(|it| it.trim() == "Y") {
        true => assert!(label.as_str().is_some_and(|it| it.ends_with("(enforce)")), "{label}"),
        false => assert!(label.is_null() || Path::new("/sys/fs/selinux/enforce").exists(), "{label}"),
    }
}
