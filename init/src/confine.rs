//! The second filter, which every command gets on top of the sandbox's own: nothing may set limits, priorities or
//! scheduling of PID 1. All processes of a sandbox share one uid, so the kernel alone would allow that, and a task
//! could starve or kill the one process that ends it.
//!
//! Calls on a process group or a user are refused whole, because PID 1 may be a member. Arguments are compared by
//! their low 32 bits, which is all that the kernel looks at. It allows everything else: the first filter judges that.

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long, sock_filter, sock_fprog,
};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const X32_SYSCALL_BIT: u32 = 0x4000_0000;
const IOPRIO_WHO_PROCESS: u32 = 1;
const PRIO_PROCESS: u32 = 0;
const INIT_PID: u32 = 1;

// Offsets in `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;

const LOAD: u32 = BPF_LD | BPF_W | BPF_ABS;
const EQUAL: u32 = BPF_JMP | BPF_JEQ | BPF_K;
const AT_LEAST: u32 = BPF_JMP | BPF_JGE | BPF_K;
const RETURN: u32 = BPF_RET | BPF_K;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | (libc::EPERM as u32);

/// Calls whose first argument is the process they act on.
const BY_PID: [c_long; 5] = [
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
];
/// Calls whose first argument says what the second is, with the value that means a process.
const BY_KIND: [(c_long, u32); 2] =
    [(libc::SYS_setpriority, PRIO_PROCESS), (libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS)];

/// The filter's program.
pub fn program() -> Vec<sock_filter> {
    let mut program = vec![
        statement(LOAD, ARCH_AT),
        jump(EQUAL, AUDIT_ARCH_X86_64, 1, 0),
        statement(RETURN, DENY),
        statement(LOAD, NUMBER_AT),
        jump(AT_LEAST, X32_SYSCALL_BIT, 0, 1),
        statement(RETURN, DENY),
    ];
    for number in BY_PID {
        program.extend([
            jump(EQUAL, number as u32, 0, 4),
            statement(LOAD, argument_at(0)),
            jump(EQUAL, INIT_PID, 0, 1),
            statement(RETURN, DENY),
            statement(RETURN, libc::SECCOMP_RET_ALLOW),
        ]);
    }
    for (number, process) in BY_KIND {
        program.extend([
            jump(EQUAL, number as u32, 0, 6),
            statement(LOAD, argument_at(0)),
            jump(EQUAL, process, 0, 2),
            statement(LOAD, argument_at(1)),
            jump(EQUAL, INIT_PID, 0, 1),
            statement(RETURN, DENY),
            statement(RETURN, libc::SECCOMP_RET_ALLOW),
        ]);
    }
    program.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    program
}

/// Puts the calling process and all that it starts under the filter, for good.
pub fn confine(program: &mut [sock_filter]) -> nix::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    let filter = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives until the call returns.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    nix::errno::Errno::result(result).map(drop)
}

/// The low half of an argument, on a little-endian machine.
const fn argument_at(index: u32) -> u32 {
    16 + 8 * index
}

const fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Call {
        arch: u32,
        number: u32,
        args: [u64; 6],
    }

    /// Classic BPF as far as the program uses it; anything else fails the test.
    fn simulate(program: &[sock_filter], call: &Call) -> u32 {
        let mut data = [0u8; 64];
        data[..4].copy_from_slice(&call.number.to_le_bytes());
        data[4..8].copy_from_slice(&call.arch.to_le_bytes());
        for (index, argument) in call.args.iter().enumerate() {
            data[16 + 8 * index..24 + 8 * index].copy_from_slice(&argument.to_le_bytes());
        }
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let step = program[at];
            let (k, code) = (step.k, u32::from(step.code));
            at += 1;
            match code {
                RETURN => return k,
                LOAD => {
                    let k = k as usize;
                    accumulator = u32::from_le_bytes(data[k..k + 4].try_into().expect("four bytes"));
                }
                EQUAL => at += usize::from(if accumulator == k { step.jt } else { step.jf }),
                AT_LEAST => at += usize::from(if accumulator >= k { step.jt } else { step.jf }),
                _ => panic!("unknown code {code}"),
            }
        }
    }

    fn check(number: c_long, first: u64, second: u64, allowed: bool) {
        let call = Call { arch: AUDIT_ARCH_X86_64, number: number as u32, args: [first, second, 0, 0, 0, 0] };
        let expected = if allowed { libc::SECCOMP_RET_ALLOW } else { DENY };
        assert_eq!(simulate(&program(), &call), expected, "call {number} with {first:#x}, {second:#x}");
    }

    #[test]
    fn calls_on_init_are_denied() {
        for number in BY_PID {
            check(number, 1, 0, false);
        }
    }

    #[test]
    fn calls_on_oneself_and_on_others_are_allowed() {
        for number in BY_PID {
            check(number, 0, 1, true);
            check(number, 77, 1, true);
        }
    }

    #[test]
    fn high_halves_of_arguments_hide_nothing() {
        for number in BY_PID {
            check(number, 0xdead_beef_0000_0001, 0, false);
        }
        check(libc::SYS_setpriority, 0x1_0000_0000, 0x7_0000_0001, false);
    }

    #[test]
    fn setpriority_is_for_processes_other_than_init() {
        check(libc::SYS_setpriority, 0, 0, true);
        check(libc::SYS_setpriority, 0, 77, true);
        check(libc::SYS_setpriority, 0, 1, false);
    }

    #[test]
    fn setpriority_on_a_group_or_a_user_is_denied() {
        for who in [0, 1, 77] {
            check(libc::SYS_setpriority, 1, who, false);
            check(libc::SYS_setpriority, 2, who, false);
        }
    }

    #[test]
    fn ioprio_set_is_for_processes_other_than_init() {
        check(libc::SYS_ioprio_set, 1, 0, true);
        check(libc::SYS_ioprio_set, 1, 77, true);
        check(libc::SYS_ioprio_set, 1, 1, false);
    }

    #[test]
    fn ioprio_set_on_a_group_or_a_user_is_denied() {
        for who in [0, 1, 77] {
            check(libc::SYS_ioprio_set, 2, who, false);
            check(libc::SYS_ioprio_set, 3, who, false);
        }
    }

    #[test]
    fn every_other_call_is_left_to_the_first_filter() {
        for number in 0..600 {
            if !BY_PID.contains(&number) && !BY_KIND.iter().any(|(it, _)| *it == number) {
                check(number, 1, 1, true);
            }
        }
    }

    #[test]
    fn x32_numbers_are_denied() {
        check(0x4000_0000 + libc::SYS_getpid, 0, 0, false);
    }

    #[test]
    fn another_architecture_is_denied() {
        let call = Call { arch: 0x4000_0003, number: 20, args: [0; 6] };
        assert_eq!(simulate(&program(), &call), DENY);
    }
}
