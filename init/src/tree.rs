//! The processes of one command, also those that left its session and its parent.
//!
//! Each command carries a tag: a hard limit of `RLIMIT_MSGQUEUE` of its own, which children inherit, nobody without
//! a capability can raise, and init reads with `prlimit`. A command's tree is what carries its tag, what descends from its first
//! process, and what carries the tag of no live command. The limit of this: a hostile process may lower its tag to the
//! one of another live command, and then dies with that command, at the latest with the sandbox.

use std::collections::BTreeSet;

use nix::errno::Errno;

/// Whose tree is meant.
#[derive(Debug, Clone)]
pub struct Target {
    /// The command's first process; `None` once it was collected, when its number may be another's.
    pub root: Option<i32>,
    /// First process and tag of every other live command.
    pub others: Vec<(Option<i32>, u64)>,
}

/// A process as `/proc` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its tag, `None` if it is gone or another's.
    pub tag: Option<u64>,
}

/// Sends a signal to every process of the tree once: at once to the group of the first process, one by one to
/// the others.
pub fn signal(target: &Target, signal: i32) {
    if let Some(root) = target.root {
        signal_root(root, signal);
    }
    for process in members(&living(), target) {
        if Some(process.group) != target.root && Some(process.pid) != target.root {
            let _ = send(process.pid, signal);
        }
    }
}

/// Stops what is found, so that it starts nothing more, and kills it. Returns how many there were; the tree is empty
/// when that is zero.
pub fn kill_pass(target: &Target) -> usize {
    let found = members(&living(), target);
    for signal in [libc::SIGSTOP, libc::SIGKILL] {
        for process in &found {
            let _ = send(process.pid, signal);
        }
    }
    found.len()
}

/// Signals the process group of a command; before its first process leads one, that process.
pub fn signal_root(root: i32, signal: i32) {
    if send(-root, signal).is_err() {
        let _ = send(root, signal);
    }
}

/// `kill` by number: a command may be sent real-time signals, too.
fn send(pid: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: takes two numbers, touches no memory.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Which processes belong to the tree.
fn members(processes: &[Process], target: &Target) -> Vec<Process> {
    let mut inside: BTreeSet<i32> = target.root.into_iter().collect();
    // Parents can stand behind their children in the list, so this goes on until nothing is added.
    loop {
        let before = inside.len();
        for process in processes {
            if inside.contains(&process.parent) {
                inside.insert(process.pid);
            }
        }
        if inside.len() == before {
            break;
        }
    }
    let owned_by_another = |process: &Process| {
        target.others.iter().any(|(root, tag)| *root == Some(process.pid) || process.tag == Some(*tag))
    };
    processes.iter().filter(|it| inside.contains(&it.pid) || !owned_by_another(it)).copied().collect()
}

/// Every process of the sandbox but init, without the dead that wait to be collected.
fn living() -> Vec<Process> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return found;
    };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse().ok()) else { continue };
        if pid == 1 {
            continue;
        }
        let Ok(stat) = std::fs::read(format!("/proc/{pid}/stat")) else { continue };
        if let Some((parent, group)) = parse_stat(&stat) {
            found.push(Process { pid, parent, group, tag: tag(pid) });
        }
    }
    found
}

/// Parent and group, `None` for the dead. The name in brackets is the process's own choice and may hold anything.
fn parse_stat(stat: &[u8]) -> Option<(i32, i32)> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" | "x" => None,
        _ => Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)),
    }
}

fn tag(pid: i32) -> Option<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: no new limit is given, and the old one has a valid place.
    let result = unsafe { libc::prlimit64(pid, libc::RLIMIT_MSGQUEUE, std::ptr::null(), &raw mut limit) };
    (result == 0).then_some(limit.rlim_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: u64 = 100;
    const OTHER: u64 = 99;

    fn process(pid: i32, parent: i32, tag: u64) -> Process {
        Process { pid, parent, group: pid, tag: Some(tag) }
    }

    fn check(processes: &[Process], root: Option<i32>, expected: &[i32]) {
        let target = Target { root, others: vec![(Some(20), OTHER)] };
        let found: Vec<i32> = members(processes, &target).into_iter().map(|it| it.pid).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn children_and_their_children_belong() {
        check(&[process(10, 1, MINE), process(11, 10, MINE), process(12, 11, MINE)], Some(10), &[10, 11, 12]);
    }

    #[test]
    fn a_daemon_that_fell_to_init_belongs_by_its_tag() {
        check(&[process(30, 1, MINE)], None, &[30]);
    }

    #[test]
    fn the_other_command_and_its_daemon_do_not_belong() {
        check(&[process(20, 1, OTHER), process(31, 1, OTHER)], Some(10), &[]);
    }

    #[test]
    fn a_process_with_a_tag_of_nobody_belongs() {
        check(&[process(30, 1, 7)], Some(10), &[30]);
    }

    #[test]
    fn a_descendant_that_took_the_others_tag_belongs() {
        check(
            &[process(12, 11, OTHER), process(11, 10, MINE), process(10, 1, MINE)],
            Some(10),
            &[12, 11, 10],
        );
    }

    #[test]
    fn a_child_that_has_no_tag_yet_is_the_others() {
        check(&[process(20, 1, 819_200)], Some(10), &[]);
    }

    #[test]
    fn a_process_that_cannot_be_read_belongs() {
        check(&[Process { pid: 40, parent: 1, group: 40, tag: None }], Some(10), &[40]);
    }

    #[test]
    fn a_name_in_brackets_hides_nothing() {
        assert_eq!(parse_stat(b"12 (a) Z 1 2 (b)) S 10 11 12 0"), Some((10, 11)));
    }

    #[test]
    fn the_dead_are_passed_over() {
        assert_eq!(parse_stat(b"12 (sh) Z 10 11 12 0"), None);
    }
}
