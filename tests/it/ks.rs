//! KS of the checks: the filter is an allow-list. What the profile does not name is refused, on every ABI and for
//! every thread. Where the kernel itself would refuse too, the filters in force are read from outside and asked.

use std::process::Command;

use crate::probe::{answers, check_refused, check_script, program, workspace};
use crate::support::aegis::Aegis;
use crate::watched::Watched;

/// Asks the filters that a task is under, read from the kernel, about calls written as `NUMBER:ARGUMENT:…`: each must
/// be refused, and reading from standard input allowed.
#[track_caller]
fn check_filter(calls: &[String]) {
    let aegis = Aegis::new();
    let mut run = Watched::script(&aegis, &[], "echo ready; read -r line");
    run.wait_for("ready");
    let mut command = Command::new(program("filter"));
    let output = command.arg(run.command().to_string()).arg("0:0").args(calls).output().unwrap();
    run.say("done");
    run.end().code(0);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(3) && !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root reads filters: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(output.status.success() && said.starts_with("0:0 allow\n"), "{output:?}");
    let answers: Vec<_> = said.lines().skip(1).collect();
    assert_eq!(answers.len(), calls.len());
    assert!(answers.iter().all(|it| !it.ends_with("allow")), "{said}");
}

/// Every kind of socket of these families, for [`check_filter`].
fn sockets(families: &[u32]) -> Vec<String> {
    let kinds = [1, 2, 3, 4, 5, 10, 0x8_0001, 0x8_0802];
    families.iter().flat_map(|family| kinds.iter().map(move |kind| format!("41:{family}:{kind}:0"))).collect()
}

#[test]
fn ks_01_no_namespace_is_made_or_entered() {
    check_refused(
        "unshare_user unshare_ns unshare_net unshare_pid unshare_ipc unshare_uts unshare_cgroup unshare_time
         clone_newuser clone_newuser_garbage clone_newns clone_newnet clone_newpid setns",
    );
}

#[test]
fn ks_01_clone3_says_enosys_so_that_libraries_fall_back() {
    assert_eq!(answers("clone3_newuser")["clone3_newuser"], "ENOSYS");
}

#[test]
fn ks_02_the_mount_table_cannot_be_changed_or_listed() {
    check_refused(
        "mount_tmpfs mount_proc mount_bind remount_root umount2_proc umount2_mask pivot_root fsopen fsconfig fsmount
         open_tree_clone open_tree_attr move_mount mount_setattr fspick statmount listmount chroot",
    );
}

#[test]
fn ks_03_keyrings_are_out_of_reach() {
    check_refused("add_key request_key keyctl");
}

#[test]
fn ks_04_nothing_is_loaded_through_bpf() {
    check_refused("bpf_map");
    check_filter(&(0..40).map(|command| format!("321:{command}")).collect::<Vec<_>>());
}

#[test]
fn ks_05_perf_events_are_not_opened() {
    check_refused("perf_event_open");
}

#[test]
fn ks_06_userfaultfd_is_refused_and_its_device_absent() {
    check_refused("userfaultfd");
    check_script(1, "[ -e /dev/userfaultfd ] && echo BREACH; echo tried; [ -e /dev/null ] && echo able")
        .prints("able");
}

#[test]
fn ks_07_io_uring_is_refused_by_number_whatever_the_descriptor() {
    check_refused("io_uring_setup io_uring_enter io_uring_register");
}

#[test]
fn ks_08_no_process_traces_or_reads_another() {
    check_refused("ptrace_traceme ptrace_seize_pid1 process_vm_readv process_vm_writev kcmp pidfd_getfd");
}

#[test]
fn ks_09_modules_kernels_power_and_swap_are_the_hosts() {
    check_refused(
        "init_module finit_module delete_module kexec_load kexec_file_load reboot_noop swapon swapoff",
    );
    let numbers = [175, 313, 176, 246, 320, 169, 167, 168];
    check_filter(&numbers.map(|it: u32| it.to_string()));
}

#[test]
fn ks_10_clocks_names_accounting_and_the_log_are_the_hosts() {
    check_refused(
        "clock_settime settimeofday adjtimex_set sethostname setdomainname acct quotactl vhangup syslog_read_all",
    );
    let numbers = [227, 164, 159, 305, 170, 171, 163, 179, 443, 153, 103];
    check_filter(&numbers.map(|it: u32| it.to_string()));
}

#[test]
fn ks_11_leftovers_of_old_kernels_are_refused() {
    check_refused("iopl ioperm modify_ldt lookup_dcookie uselib ustat sysfs _sysctl");
    let numbers = [172, 173, 154, 212, 134, 136, 139, 156];
    check_filter(&numbers.map(|it: u32| it.to_string()));
}

#[test]
fn ks_12_files_have_no_handles() {
    check_refused("open_by_handle_at name_to_handle_at fanotify_init");
    check_filter(&[304, 303, 300, 301].map(|it: u32| it.to_string()));
}

#[test]
fn ks_13_packet_raw_and_xdp_sockets_are_refused_by_the_filter() {
    check_refused("sock_packet sock_packet_dgram sock_raw_icmp sock_raw_icmp6 sock_inet_packet sock_xdp");
    let mut calls = sockets(&[17, 44]);
    // The kernel would refuse these for want of a capability; the filter must refuse them first.
    calls.extend(["41:2:3:1", "41:10:3:58", "41:2:3:255", "41:2:0x80003:17", "41:2:10:3"].map(str::to_owned));
    check_filter(&calls);
}

#[test]
fn ks_14_af_alg_is_refused_by_the_filter_and_not_for_want_of_the_family() {
    check_refused("sock_alg sock_alg_garbage");
    check_filter(&sockets(&[38]));
}

#[test]
fn ks_15_af_vsock_is_refused() {
    check_refused("sock_vsock");
    check_filter(&sockets(&[40]));
}

#[test]
fn ks_16_no_family_but_unix_internet_and_netlink_is_named() {
    check_refused(
        "sock_bluetooth sock_tipc sock_rds sock_can sock_ax25 sock_appletalk sock_x25 sock_smc sock_kcm sock_qipcrtr
         sock_pppox sock_key sock_netlink_audit sock_netlink_uevent sock_netlink_netfilter",
    );
    let others: Vec<u32> = (0..64).filter(|it| ![1, 2, 10, 16].contains(it)).collect();
    let mut calls = sockets(&others);
    calls.extend((1..32).map(|protocol| format!("41:16:3:{protocol}")));
    check_filter(&calls);
}

#[test]
fn ks_18_no_other_abi_gets_through() {
    let answers = answers("x32_getpid x32_ptrace int80_getpid int80_unshare int80_socketcall");
    for (name, answer) in answers {
        // A kernel without 32-bit programs answers the interrupt itself with SIGSEGV.
        let absent = name.starts_with("int80") && answer == "SIGSEGV";
        assert!(absent || ["EPERM", "ENOSYS", "SIGSYS"].contains(&answer.as_str()), "{name}: {answer}");
    }
    check_filter(&["0x40000027", "0x40000000", "0x40000209", "0x400001ff"].map(str::to_owned));
}

#[test]
fn ks_20_placement_randomisation_and_secret_memory_stay_as_they_are() {
    check_refused(
        "personality_aslr_off personality_read_exec mbind move_pages migrate_pages set_mempolicy memfd_secret",
    );
    let numbers = [237, 279, 256, 238, 239, 450, 447].map(|it: u32| it.to_string());
    check_filter(&[&numbers[..], &["135:0x40000".to_owned(), "135:0x1234567800040000".to_owned()]].concat());
}

#[test]
fn ks_21_device_nodes_are_refused_and_named_pipes_made() {
    check_refused("mknod_blk mknod_chr");
    assert_eq!(answers("mknod_fifo")["mknod_fifo"], "ok");
    check_filter(
        &["133:0:0x61b6:0x0801", "133:0:0x21b6:0x0101", "259:0:0:0x61b6", "259:0:0:0x21b6"]
            .map(str::to_owned),
    );
}

#[test]
fn ks_24_every_thread_and_every_child_is_under_the_filters() {
    let ended = check_script(
        22,
        r#"
python3 - <<'PY'
import threading, glob
wait = threading.Barrier(21)
leave = threading.Event()
def idle():
    wait.wait(); leave.wait()
threads = [threading.Thread(target=idle) for _ in range(20)]
for it in threads: it.start()
wait.wait()
for path in glob.glob('/proc/self/task/*/status'):
    fields = dict(line.split(':', 1) for line in open(path))
    print('tried', path)
    if int(fields['Seccomp']) != 2 or int(fields['Seccomp_filters']) < 2: print('BREACH', path)
leave.set()
PY
mkfifo /tmp/hold; cat /tmp/hold | /usr/bin/su root -c true >/dev/null 2>&1 & child=$!
exec 3>/tmp/hold; sleep 0.2
awk '/^Seccomp:/ { print "tried su"; if ($2 != 2) print "BREACH su" }' /proc/$child/status
"#,
    );
    ended.prints("tried su");
}

#[test]
fn ks_24_the_host_counts_two_filters_on_the_command() {
    let aegis = Aegis::new();
    let mut run = Watched::script(&aegis, &[], "echo ready; read -r line");
    run.wait_for("ready");
    for (process, filters) in [(run.init(), 1), (run.command(), 2)] {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let field =
            |name: &str| status.lines().find_map(|it| it.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(field("Seccomp:"), "2", "{status}");
        assert!(field("Seccomp_filters:").parse::<u32>().unwrap() >= filters, "{status}");
    }
    run.say("done");
    run.end().code(0);
}

#[test]
fn ks_24_a_further_command_is_under_the_same_filters() {
    let aegis = Aegis::new();
    let mut run = Watched::script(&aegis, &[], "echo ready; read -r line");
    run.wait_for("ready");
    let ended =
        run.exec("awk '/^(Cap|NoNew|Seccomp)/' /proc/self/status; unshare -U true && echo BREACH; exit 6");
    ended.code(6).no_breach().prints("Seccomp:\t2\nSeccomp_filters:\t2\n").prints("NoNewPrivs:\t1\n");
    assert_eq!(ended.stdout.matches("\t0000000000000000\n").count(), 5, "{ended:#?}");
    run.say("done");
    run.end().code(0);
}

#[test]
fn ks_25_odd_calls_by_the_thousand_leave_the_kernel_and_aegis_well() {
    let complaints = || {
        let log = Command::new("dmesg").output().map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
        let log = log.unwrap_or_default();
        log.lines().filter(|it| ["Oops", "BUG:", "hung task"].iter().any(|word| it.contains(word))).count()
    };
    let before = complaints();
    let workspace = workspace();
    std::fs::copy(program("storm"), workspace.path().join("storm")).unwrap();
    let aegis = Aegis::new();
    let arguments =
        ["run", "-w", workspace.path().to_str().unwrap(), "--timeout", "60s", "--", "./storm", "2"];
    aegis.call(&arguments).code(0).prints("the storm is over");
    assert_eq!(complaints(), before);
    aegis.script(&[], "echo well").code(0).prints("well");
}
