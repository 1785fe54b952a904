//! Trying system calls, so that what the filter refuses is known and not assumed.
//!
//! Probes run in children, never in init: a call that the filter lets through may end, stop or double its caller.
//! One child tries as many as it survives and writes each answer into shared memory; where it falls, the
//! next one goes on. All that a probe could have started is killed before the answers are read.

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{ForkResult, fork};

use aegis_init::wire::{Entrypoint, ExitStatus, Probe, ProbeResult};

use crate::clock::Moment;
use crate::reap::{Found, kill_and_reap_everything, reap_one};

/// Milliseconds for all probes together.
const PROBES_MS_MAX: u64 = 2_000;
/// Probes in one request at the most.
pub const PROBES_MAX: usize = 4096;

/// Kernel results from -4095 to -1 are errors.
const ERRNO_MAX: i64 = 4095;

/// States of a slot; new memory is zero, which is neither.
const BEGUN: u32 = 1;
const ANSWERED: u32 = 2;

/// Where a child leaves the answer to one probe.
#[repr(C)]
struct Slot {
    state: AtomicU32,
    answer: AtomicI64,
}

/// Anonymous memory that children share with init.
struct Board {
    memory: NonNull<std::ffi::c_void>,
    length: usize,
    slots: usize,
}

/// Runs the probes and answers each, in order. Nothing else may run in the sandbox yet: what is left of the probes is
/// killed by killing everything.
pub fn run(probes: &[Probe], child_ended: &SignalFd) -> Vec<ProbeResult> {
    let mut results = vec![ProbeResult::NotRun; probes.len()];
    let Some(board) = Board::new(probes.len()) else {
        return results;
    };
    let limit = Moment::now().after_ms(PROBES_MS_MAX);
    let quiet: Vec<usize> = (0..probes.len()).filter(|it| !probes[*it].deadly).collect();
    let mut rest = quiet.as_slice();
    while !rest.is_empty() && Moment::now() < limit {
        let Some(end) = try_in_child(probes, rest, &board, child_ended, limit) else { break };
        let answered = rest.iter().take_while(|it| board.answered(**it)).count();
        if let Some(fallen) = rest.get(answered) {
            results[*fallen] = end.of_fallen(board.begun(*fallen));
        }
        rest = rest.get(answered + 1..).unwrap_or_default();
    }
    for index in (0..probes.len()).filter(|it| probes[*it].deadly) {
        if Moment::now() >= limit {
            break;
        }
        if let Some(end) = try_in_child(probes, &[index], &board, child_ended, limit) {
            results[index] = end.of_fallen(board.begun(index));
        }
    }
    for (index, result) in results.iter_mut().enumerate() {
        if let Some(answer) = board.answer(index) {
            *result = answer;
        }
    }
    results
}

/// How a child that tried probes ended.
enum ChildEnd {
    Ended(ExitStatus),
    TimedOut,
}

impl ChildEnd {
    /// The answer to the probe in whose middle the child fell.
    fn of_fallen(&self, begun: bool) -> ProbeResult {
        match self {
            Self::Ended(ExitStatus::Signal(signal)) => ProbeResult::Killed(*signal),
            // The call ended its caller, so it was let through.
            Self::Ended(ExitStatus::Code(code)) if begun => ProbeResult::Returned(i64::from(*code)),
            // The call never came back, so it was let through as well, and the caller was killed for it.
            Self::TimedOut if begun => ProbeResult::Killed(libc::SIGKILL),
            Self::Ended(ExitStatus::Code(_)) | Self::TimedOut => ProbeResult::NotRun,
        }
    }
}

fn try_in_child(
    probes: &[Probe],
    indices: &[usize],
    board: &Board,
    child_ended: &SignalFd,
    limit: Moment,
) -> Option<ChildEnd> {
    // SAFETY: init has one thread; the child only makes system calls and exits.
    let child = match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => child.as_raw(),
        Ok(ForkResult::Child) => try_all(probes, indices, board),
        Err(_) => return None,
    };
    let end = wait_for(child, child_ended, limit);
    kill_and_reap_everything();
    Some(end)
}

fn try_all(probes: &[Probe], indices: &[usize], board: &Board) -> ! {
    for index in indices {
        let slot = board.slot(*index);
        slot.state.store(BEGUN, Ordering::Release);
        slot.answer.store(call(&probes[*index]), Ordering::Relaxed);
        slot.state.store(ANSWERED, Ordering::Release);
    }
    // SAFETY: `_exit` runs no handlers and does not return.
    unsafe { libc::_exit(0) }
}

fn wait_for(child: i32, child_ended: &SignalFd, limit: Moment) -> ChildEnd {
    loop {
        while let Ok(Some(_)) = child_ended.read_signal() {}
        while let Found::Dead(dead) = reap_one() {
            if dead.pid == child {
                return ChildEnd::Ended(dead.status);
            }
        }
        let left_ms = limit.since(Moment::now()).as_millis();
        if left_ms == 0 {
            return ChildEnd::TimedOut;
        }
        let timeout = PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(child_ended.as_fd(), PollFlags::POLLIN)], timeout);
    }
}

impl Board {
    fn new(slots: usize) -> Option<Self> {
        let length = std::num::NonZeroUsize::new(slots * size_of::<Slot>())?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: new anonymous memory overlaps nothing; it is unmapped in `drop`.
        let memory = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_SHARED) }.ok()?;
        Some(Self { memory, length: length.get(), slots })
    }

    fn slot(&self, index: usize) -> &Slot {
        assert!(index < self.slots);
        // SAFETY: the index is in bounds; zeroed memory is a valid `Slot`, and its fields are atomic.
        unsafe { self.memory.cast::<Slot>().add(index).as_ref() }
    }

    fn begun(&self, index: usize) -> bool {
        self.slot(index).state.load(Ordering::Acquire) == BEGUN
    }

    fn answered(&self, index: usize) -> bool {
        self.slot(index).state.load(Ordering::Acquire) == ANSWERED
    }

    fn answer(&self, index: usize) -> Option<ProbeResult> {
        if !self.answered(index) {
            return None;
        }
        let answer = self.slot(index).answer.load(Ordering::Relaxed);
        if (-ERRNO_MAX..0).contains(&answer) {
            return Some(ProbeResult::Errno(-answer as i32));
        }
        Some(ProbeResult::Returned(answer))
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it is left.
        let _ = unsafe { munmap(self.memory, self.length) };
    }
}

fn call(probe: &Probe) -> i64 {
    match probe.entry {
        Entrypoint::Native => native(i64::from(probe.number), &probe.args),
        Entrypoint::Compat => i64::from(compat(probe.number, &probe.args)),
    }
}

fn native(number: i64, args: &[u64; 6]) -> i64 {
    let answer: i64;
    // SAFETY: the `syscall` instruction with the registers of the kernel's convention. What the call does is the
    // host's choice; this runs in a process made for it, which may be lost.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
        );
    }
    answer
}

fn compat(number: u32, args: &[u64; 6]) -> i32 {
    let answer: u64;
    // SAFETY: as above, through `int 0x80`; `rbx` and `rbp` belong to the compiler and are put back, and old kernels
    // clear `r8` to `r11`.
    unsafe {
        std::arch::asm!(
            "push rbx",
            "push rbp",
            "mov ebx, {first:e}",
            "mov ebp, {sixth:e}",
            "int 0x80",
            "pop rbp",
            "pop rbx",
            first = in(reg) args[0],
            sixth = in(reg) args[5],
            inlateout("rax") u64::from(number) => answer,
            in("rcx") args[1], in("rdx") args[2], in("rsi") args[3], in("rdi") args[4],
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    answer as u32 as i32
}
