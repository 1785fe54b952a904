//! The system calls that the attack makes, by check, with arguments of a caller who means it and which, let through, would
//! harm nobody but the process that made them.

use crate::sandbox::seccomp::numbers;

/// An argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// A number.
    Number(i64),
    /// A page of zeros that may be written.
    Page,
    /// A text.
    Text(&'static str),
}

use Argument::{Number as N, Page as P, Text as T};

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Its check.
    pub check: &'static str,
    /// The kernel's name of the call.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: &'static [Argument],
}

/// The bit that makes a number one of the x32 ABI.
const X32_BIT: u32 = 0x4000_0000;
/// Calls whose name is for people and whose number is this.
const SPECIAL: [(&str, u32); 1] = [("x32 getpid", X32_BIT | 39)];
/// Two flags of `clone`, and the signal of a child's end.
const NEW_USER: i64 = 0x1000_0000;
const NEW_NET: i64 = 0x4000_0000;
const SIGCHLD: i64 = 17;

const CALLS: &[Call] = &[
    call("KS-01", "unshare", &[N(NEW_USER)]),
    call("KS-01", "unshare", &[N(0x0002_0000)]),
    call("KS-01", "unshare", &[N(NEW_NET)]),
    call("KS-01", "unshare", &[N(0x2000_0000)]),
    call("KS-01", "clone", &[N(NEW_USER | SIGCHLD), N(0), N(0), N(0), N(0)]),
    call("KS-01", "clone", &[N(NEW_NET | SIGCHLD), N(0), N(0), N(0), N(0)]),
    call("KS-01", "clone3", &[P, N(88)]),
    call("KS-01", "setns", &[N(0), N(NEW_NET)]),
    call("KS-02", "mount", &[T("none"), T("/tmp"), T("tmpfs"), N(0), T("")]),
    call("KS-02", "umount2", &[T("/proc"), N(2)]),
    call("KS-02", "pivot_root", &[T("/tmp"), T("/tmp")]),
    call("KS-02", "fsopen", &[T("tmpfs"), N(0)]),
    call("KS-02", "open_tree", &[N(-100), T("/"), N(1)]),
    call("KS-02", "move_mount", &[N(-100), T("/proc"), N(-100), T("/tmp"), N(0)]),
    call("KS-02", "mount_setattr", &[N(-100), T("/"), N(0), P, N(32)]),
    call("KS-02", "fspick", &[N(-100), T("/"), N(0)]),
    call("KS-02", "statmount", &[P, P, N(4096), N(0)]),
    call("KS-02", "listmount", &[P, P, N(16), N(0)]),
    call("KS-02", "chroot", &[T("/tmp")]),
    call("KS-03", "add_key", &[T("user"), T("aegis-probe"), T("x"), N(1), N(-2)]),
    call("KS-03", "request_key", &[T("user"), T("aegis-probe"), N(0), N(-2)]),
    call("KS-03", "keyctl", &[N(0), N(-3), N(1)]),
    call("KS-04", "bpf", &[N(0), P, N(48)]),
    call("KS-05", "perf_event_open", &[P, N(0), N(-1), N(-1), N(0)]),
    call("KS-06", "userfaultfd", &[N(0x8_0001)]),
    call("KS-07", "io_uring_setup", &[N(1), P]),
    call("KS-07", "io_uring_enter", &[N(-1), N(0), N(0), N(0), N(0), N(0)]),
    call("KS-07", "io_uring_register", &[N(-1), N(0), N(0), N(0)]),
    call("KS-08", "ptrace", &[N(0), N(0), N(0), N(0)]),
    call("KS-08", "ptrace", &[N(0x4206), N(1), N(0), N(0)]),
    call("KS-08", "process_vm_readv", &[N(1), P, N(1), P, N(1), N(0)]),
    call("KS-08", "process_vm_writev", &[N(1), P, N(1), P, N(1), N(0)]),
    call("KS-08", "kcmp", &[N(1), N(1), N(1), N(0), N(0)]),
    call("KS-08", "pidfd_getfd", &[N(0), N(0), N(0)]),
    call("KS-09", "init_module", &[P, N(4096), T("")]),
    call("KS-09", "finit_module", &[N(0), T(""), N(0)]),
    call("KS-09", "delete_module", &[T("aegis_no_such_module"), N(0x800)]),
    call("KS-09", "kexec_load", &[N(0), N(1), P, N(0xffff_0000)]),
    call("KS-09", "kexec_file_load", &[N(-1), N(-1), N(0), N(0), N(0xffff)]),
    // A command that no kernel knows.
    call("KS-09", "reboot", &[N(0xfee1_dead), N(672_274_793), N(0xffff_ffff), N(0)]),
    call("KS-09", "swapon", &[T("/tmp/aegis-no-such-file"), N(0)]),
    call("KS-09", "swapoff", &[T("/tmp/aegis-no-such-file")]),
    call("KS-10", "clock_settime", &[N(-1), P]),
    // Neither a time nor a zone: let through, it changes nothing.
    call("KS-10", "settimeofday", &[N(0), N(0)]),
    call("KS-10", "sethostname", &[T("sandbox"), N(7)]),
    call("KS-10", "setdomainname", &[T("(none)"), N(6)]),
    call("KS-10", "acct", &[T("/tmp/aegis-no-such-file")]),
    call("KS-10", "quotactl", &[N(0x8000_0100), N(0), N(0), N(0)]),
    call("KS-10", "vhangup", &[]),
    call("KS-10", "syslog", &[N(3), P, N(4096)]),
    call("KS-11", "iopl", &[N(3)]),
    call("KS-11", "ioperm", &[N(0x80), N(1), N(1)]),
    call("KS-11", "modify_ldt", &[N(0), P, N(16)]),
    call("KS-11", "lookup_dcookie", &[N(0), P, N(4096)]),
    call("KS-11", "uselib", &[T("/bin/true")]),
    call("KS-11", "ustat", &[N(0), P]),
    call("KS-11", "sysfs", &[N(3)]),
    call("KS-11", "_sysctl", &[P]),
    call("KS-12", "open_by_handle_at", &[N(-100), P, N(0)]),
    call("KS-12", "name_to_handle_at", &[N(-100), T("/"), P, P, N(0)]),
    call("KS-12", "fanotify_init", &[N(0x200), N(0)]),
    call("KS-13", "socket", &[N(17), N(3), N(0x300)]),
    call("KS-13", "socket", &[N(2), N(3), N(1)]),
    call("KS-13", "socket", &[N(10), N(3), N(58)]),
    call("KS-13", "socket", &[N(44), N(3), N(0)]),
    call("KS-14", "socket", &[N(38), N(5), N(0)]),
    call("KS-15", "socket", &[N(40), N(1), N(0)]),
    call("KS-16", "socket", &[N(31), N(3), N(0)]),
    call("KS-16", "socket", &[N(30), N(1), N(0)]),
    call("KS-16", "socket", &[N(21), N(5), N(0)]),
    call("KS-16", "socket", &[N(29), N(3), N(1)]),
    call("KS-16", "socket", &[N(3), N(2), N(0)]),
    call("KS-16", "socket", &[N(5), N(2), N(0)]),
    call("KS-16", "socket", &[N(9), N(1), N(0)]),
    call("KS-16", "socket", &[N(43), N(1), N(0)]),
    call("KS-16", "socket", &[N(41), N(2), N(0)]),
    call("KS-16", "socket", &[N(42), N(2), N(0)]),
    call("KS-16", "socket", &[N(24), N(1), N(0)]),
    call("KS-16", "socket", &[N(15), N(3), N(2)]),
    call("KS-18", "x32 getpid", &[]),
    call("KS-20", "personality", &[N(0x0004_0000)]),
    call("KS-20", "mbind", &[P, N(4096), N(0), N(0), N(0), N(0)]),
    call("KS-20", "move_pages", &[N(0), N(0), N(0), N(0), N(0), N(0)]),
    call("KS-20", "migrate_pages", &[N(0), N(1), P, P]),
    call("KS-20", "set_mempolicy", &[N(0), N(0), N(0)]),
    call("KS-20", "memfd_secret", &[N(0)]),
    call("KS-21", "mknod", &[T("/tmp/aegis-probe-b"), N(0o60_666), N(0x0103)]),
    call("KS-21", "mknod", &[T("/tmp/aegis-probe-c"), N(0o20_666), N(0x0103)]),
];

const fn call(check: &'static str, name: &'static str, arguments: &'static [Argument]) -> Call {
    Call { check, name, arguments }
}

/// The calls of a check.
pub fn of(check: &str) -> impl Iterator<Item = &'static Call> {
    CALLS.iter().filter(move |it| it.check == check)
}

impl Call {
    /// Its number on x86_64; `None` for a name that no kernel has.
    pub fn number(&self) -> Option<u32> {
        let special = SPECIAL.iter().find(|(name, _)| *name == self.name).map(|(_, number)| *number);
        special.or_else(|| numbers::number(self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_a_number_and_a_check_of_the_table() {
        for call in CALLS {
            assert!(call.number().is_some(), "{call:?}");
            assert!(crate::doctor::attack::PROBES.iter().any(|it| it.id == call.check), "{call:?}");
        }
    }
}
