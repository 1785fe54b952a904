//! What the filter says of every system call, in groups with their reasons. A call that is in no group is denied by
//! the filter's default action (EPERM); calls that depend on their arguments are in `conditions`.

use crate::sandbox::seccomp::Profile;

/// The caller lacks the right: what programs branch on.
pub const EPERM: i32 = 1;
/// Refused by the filter, for calls whose first act in the kernel is a capability check: that check answers EPERM, and
/// a kernel without the call ENOSYS, so only a third word shows that it was the filter.
pub const EACCES: i32 = 13;
/// The kernel has no such call: programs fall back to an older one.
pub const ENOSYS: i32 = 38;
/// The file system does not do it: programs do it another way.
pub const EOPNOTSUPP: i32 = 95;
/// The kernel has no such family of sockets: programs do without.
pub const EAFNOSUPPORT: i32 = 97;

/// Calls that are treated alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// One word or two, shown in differences.
    pub name: &'static str,
    /// Why.
    pub reason: &'static str,
    /// What a caller gets.
    pub treatment: GroupTreatment,
    /// Names, separated by white space.
    calls: &'static str,
}

/// What a caller of a group gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupTreatment {
    /// The call.
    Allow,
    /// This errno.
    Deny(i32),
}

impl Group {
    /// The names of its calls.
    pub fn calls(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.calls.split_whitespace()
    }
}

/// The groups of a profile, allowed first.
pub fn groups(profile: Profile) -> Vec<Group> {
    let tracing = if profile.ptrace { TRACING_OPEN } else { TRACING_CLOSED };
    let preallocation = if profile.preallocation { PREALLOCATION_OPEN } else { PREALLOCATION_CLOSED };
    [ALLOWED, DENIED, &[tracing, preallocation]].concat()
}

const fn allow(name: &'static str, reason: &'static str, calls: &'static str) -> Group {
    Group { name, reason, treatment: GroupTreatment::Allow, calls }
}

const fn deny(errno: i32, name: &'static str, reason: &'static str, calls: &'static str) -> Group {
    Group { name, reason, treatment: GroupTreatment::Deny(errno), calls }
}

const TRACING_CALLS: &str = "ptrace process_vm_readv process_vm_writev";

const TRACING_CLOSED: Group = deny(
    EPERM,
    "tracing",
    "one process of a task need not read or steer another, and the code behind it has a long record of flaws",
    TRACING_CALLS,
);

const TRACING_OPEN: Group = allow(
    "tracing",
    "the policy asks for debuggers and sanitizers; the task sees its own processes only, and init is not dumpable",
    TRACING_CALLS,
);

const PREALLOCATION_CALLS: &str = "fallocate";

const PREALLOCATION_OPEN: Group = allow(
    "preallocation",
    "every writable place is in memory, with a size that the kernel holds",
    PREALLOCATION_CALLS,
);

const PREALLOCATION_CLOSED: Group = deny(
    EOPNOTSUPP,
    "preallocation",
    "takes the space of a disk at once, and what bounds a workspace there looks only now and then; programs that are told \
     that a file system lacks it write instead",
    PREALLOCATION_CALLS,
);

/// Calls that programs need and that reach nothing outside the sandbox.
const ALLOWED: &[Group] = &[
    allow(
        "reading and writing",
        "work on descriptors that the task already has",
        "read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 lseek sendfile copy_file_range
         splice tee vmsplice close close_range dup dup2 dup3 fcntl flock fsync fdatasync sync syncfs
         sync_file_range ftruncate readahead fadvise64 pipe pipe2 cachestat",
    ),
    allow(
        "files",
        "paths resolve below the sandbox's own root; mounts and permissions decide what is there",
        "open openat openat2 creat stat fstat lstat newfstatat statx access faccessat faccessat2 statfs fstatfs
         truncate getdents getdents64 getcwd chdir fchdir rename renameat renameat2 mkdir mkdirat rmdir link linkat
         unlink unlinkat symlink symlinkat readlink readlinkat chmod fchmod fchmodat fchmodat2 chown fchown lchown
         fchownat umask utime utimes utimensat futimesat setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr
         listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr setxattrat getxattrat listxattrat
         removexattrat inotify_init inotify_init1 inotify_add_watch inotify_rm_watch memfd_create",
    ),
    allow(
        "memory",
        "the task's own address space, within its memory limit",
        "mmap mprotect munmap brk mremap msync mincore madvise mlock mlock2 munlock mlockall munlockall
         remap_file_pages pkey_mprotect pkey_alloc pkey_free membarrier mseal map_shadow_stack",
    ),
    allow(
        "processes",
        "the pids limit bounds them; flags that make namespaces are refused at `clone`, and `clone3` falls back to it",
        "fork vfork execve execveat exit exit_group wait4 waitid getpid getppid gettid getpgid setpgid getpgrp setsid
         getsid set_tid_address arch_prctl prctl rseq restart_syscall pidfd_open pidfd_send_signal kill tkill tgkill
         capget capset getrlimit setrlimit prlimit64 getrusage times sysinfo uname getcpu",
    ),
    allow(
        "identity",
        "the task has one uid, one gid and no capability, so the kernel grants only what it already is",
        "getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid
         setresgid setgroups setfsuid setfsgid",
    ),
    allow(
        "scheduling",
        "within the CPU limit; the kernel refuses to raise a priority without a capability",
        "sched_yield sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_setattr sched_getattr
         sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_setaffinity sched_getaffinity
         getpriority setpriority ioprio_get ioprio_set",
    ),
    allow(
        "signals",
        "between processes of one sandbox",
        "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo
         rt_sigsuspend sigaltstack signalfd signalfd4 pause",
    ),
    allow(
        "waiting",
        "for descriptors and for each other",
        "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd
         eventfd2 futex futex_waitv futex_wake futex_wait futex_requeue set_robust_list get_robust_list",
    ),
    allow(
        "clocks",
        "reading them and waiting for them; setting them is denied",
        "time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep getitimer setitimer alarm timer_create
         timer_settime timer_gettime timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime",
    ),
    allow(
        "sockets",
        "use of those that `socket` and `socketpair` gave; the network namespace holds loopback only",
        "connect accept accept4 bind listen shutdown sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg getsockname
         getpeername setsockopt getsockopt",
    ),
    allow(
        "System V and POSIX queues",
        "in an IPC namespace of the sandbox's own",
        "shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink
         mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
    ),
    allow(
        "randomness and self-restriction",
        "a filter or a Landlock rule set can only take away",
        "getrandom seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ),
    allow(
        "probes of the kernel",
        "the kernel exempts them from every filter; outside its own trampolines it ends or refuses the caller",
        "uretprobe uprobe",
    ),
];

/// Calls that no task gets.
const DENIED: &[Group] = &[
    deny(
        EPERM,
        "namespaces",
        "a new user namespace gives every capability inside it, and with them the kernel's privileged surface",
        "unshare setns",
    ),
    deny(
        ENOSYS,
        "clone3",
        "its flags are behind a pointer that a filter cannot follow; C libraries fall back to `clone`",
        "clone3",
    ),
    deny(
        EPERM,
        "mounts",
        "the mount table is what was attested; these answer EFAULT, EINVAL or EBADF when unfiltered",
        "mount umount2 chroot open_tree mount_setattr fsconfig open_tree_attr",
    ),
    deny(
        EACCES,
        "mounts by privilege",
        "the mount table is what was attested; the kernel checks a capability first",
        "pivot_root fsopen fspick fsmount move_mount",
    ),
    deny(EPERM, "mount listing", "shows mounts of the host that `mountinfo` hides", "statmount listmount"),
    deny(
        EPERM,
        "file handles",
        "a handle names a file whatever the mount table says",
        "name_to_handle_at fanotify_mark",
    ),
    deny(
        EACCES,
        "file handles by privilege",
        "a handle names a file whatever the mount table says; the kernel checks a capability first",
        "open_by_handle_at fanotify_init",
    ),
    deny(EPERM, "keyrings", "keys are not namespaced", "add_key request_key keyctl"),
    deny(
        ENOSYS,
        "io_uring",
        "runs operations that the filter never sees, and is where most kernel escapes were found",
        "io_uring_setup io_uring_enter io_uring_register",
    ),
    deny(
        ENOSYS,
        "asynchronous I/O",
        "its contexts are counted against one limit of the whole host; programs fall back to threads",
        "io_setup io_destroy io_getevents io_submit io_cancel io_pgetevents",
    ),
    deny(EACCES, "bpf", "loads code into the kernel", "bpf"),
    deny(EPERM, "perf events", "counters show what other tasks and the kernel do", "perf_event_open"),
    deny(
        EPERM,
        "userfaultfd",
        "lets a task stop the kernel in the middle of a copy, the usual step of an exploit",
        "userfaultfd",
    ),
    deny(
        EPERM,
        "other processes",
        "compares, borrows from or steers another process",
        "kcmp pidfd_getfd process_madvise process_mrelease",
    ),
    deny(EPERM, "secret memory", "pages that the host cannot account for or look at", "memfd_secret"),
    deny(
        EPERM,
        "NUMA placement",
        "moves memory of the host between nodes; one policy for all is the host's",
        "mbind set_mempolicy get_mempolicy migrate_pages move_pages set_mempolicy_home_node",
    ),
    deny(
        EACCES,
        "kernel code",
        "loads a kernel or a module",
        "kexec_load kexec_file_load init_module finit_module delete_module",
    ),
    deny(
        EACCES,
        "the machine",
        "power, swap, names, accounting and the log are the host's",
        "reboot swapon swapoff sethostname setdomainname acct vhangup syslog",
    ),
    deny(EPERM, "quotas", "disk quotas are the host's", "quotactl quotactl_fd"),
    deny(
        EPERM,
        "clock setting",
        "time is the host's; even reading through these is a way to the setting code",
        "clock_settime settimeofday adjtimex clock_adjtime",
    ),
    deny(EPERM, "ports and segments", "raw hardware and 16-bit code", "iopl ioperm modify_ldt"),
    deny(
        EPERM,
        "security modules",
        "names and steers the host's security modules; programs use /proc/self/attr",
        "lsm_get_self_attr lsm_set_self_attr lsm_list_modules",
    ),
    deny(
        EPERM,
        "inode flags",
        "newer names of an ioctl, in no engine's default yet",
        "file_getattr file_setattr",
    ),
    deny(EACCES, "profiling cookies", "names files of the host to a profiler", "lookup_dcookie"),
    deny(
        EPERM,
        "leftovers",
        "old calls that nothing built this century needs, some gone from the kernel",
        "uselib ustat sysfs _sysctl create_module get_kernel_syms query_module nfsservctl getpmsg putpmsg
         afs_syscall tuxcall security vserver epoll_ctl_old epoll_wait_old set_thread_area get_thread_area",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sandbox::seccomp::{conditions, numbers};

    const PROFILES: [Profile; 4] = [
        Profile { ptrace: false, netlink_route: false, preallocation: true },
        Profile { ptrace: false, netlink_route: true, preallocation: true },
        Profile { ptrace: true, netlink_route: false, preallocation: true },
        Profile { ptrace: true, netlink_route: true, preallocation: false },
    ];

    fn times_named(profile: Profile) -> BTreeMap<&'static str, usize> {
        let mut times = BTreeMap::new();
        let conditional = conditions::conditional(profile);
        let names = groups(profile).into_iter().flat_map(|group| group.calls().collect::<Vec<_>>());
        for name in names.chain(conditional.iter().map(|it| it.call)) {
            *times.entry(name).or_insert(0) += 1;
        }
        times
    }

    #[test]
    fn every_call_of_the_kernel_is_named_exactly_once() {
        for profile in PROFILES {
            let times = times_named(profile);
            for (_, name) in numbers::all() {
                assert_eq!(times.get(name), Some(&1), "`{name}`");
            }
            assert_eq!(times.len(), numbers::all().count(), "a group names a call that the table lacks");
        }
    }

    #[test]
    fn what_the_engines_default_keeps_from_a_task_without_capabilities_is_kept_here() {
        let kept = "bpf fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount
            open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount2 unshare
            clone3 open_by_handle_at reboot chroot delete_module init_module finit_module acct kcmp pidfd_getfd
            process_madvise iopl ioperm settimeofday clock_settime vhangup get_mempolicy mbind set_mempolicy
            set_mempolicy_home_node add_key request_key keyctl userfaultfd kexec_load kexec_file_load swapon swapoff
            pivot_root move_pages migrate_pages nfsservctl uselib ustat sysfs _sysctl create_module query_module
            get_kernel_syms io_uring_setup io_uring_enter io_uring_register statmount listmount open_tree_attr";
        for group in groups(Profile { ptrace: true, netlink_route: true, preallocation: false }) {
            let open = group.calls().any(|call| kept.split_whitespace().any(|it| it == call));
            assert!(!open || matches!(group.treatment, GroupTreatment::Deny(_)), "`{}`", group.name);
        }
    }

    #[test]
    fn every_group_has_a_reason() {
        for group in groups(PROFILES[0]) {
            assert!(group.reason.len() > 10, "`{}`", group.name);
        }
    }
}
