//! System calls that init tries, and what the answers must be. Two different filters look the same in
//! `/proc/self/status`; they do not look the same to a call that one of them denies.
//!
//! Every argument is such that a kernel without the filter refuses the call before it does anything, also for root.

use aegis_init::wire::{Entrypoint, Probe, ProbeResult};

use crate::sandbox::attestation::Difference;
use crate::sandbox::seccomp::edges::edges;
use crate::sandbox::seccomp::groups::{ENOSYS, EPERM};
use crate::sandbox::seccomp::{Filter, Verdict, numbers};

/// Numbers that are tried: all that could be given out soon, and those of x32, once callable without its bit.
const NUMBERS_END: u32 = 548;
/// From here an engine's library may not know a name, and answers with its default or with ENOSYS; no call from here
/// on gives either of them to these arguments.
const NEWER_FROM: u32 = 440;
/// The kernel lets these two through every filter, so that there is nothing to see.
const EXEMPT: [u32; 2] = [335, 336];
/// The bit of the x32 ABI.
const X32: u32 = 0x4000_0000;
/// `getpid` of the 32-bit entry.
const COMPAT_GETPID: u32 = 20;

const SIGSEGV: i32 = 11;
const SIGSYS: i32 = 31;

const NOTHING: u64 = u64::MAX;
/// Differences name at most this many calls of a group.
const NAMED_MAX: usize = 4;

/// A call to try, and the answers that only the filter gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedProbe {
    /// The call with what matters of its arguments.
    pub label: String,
    /// What it belongs to.
    pub group: &'static str,
    /// What init is told.
    pub probe: Probe,
    /// Any of these is the filter's answer.
    pub accepted: Vec<ProbeResult>,
}

/// Every call that a filter must refuse.
pub(super) fn plan(filter: &Filter) -> Vec<PlannedProbe> {
    let mut probes = Vec::new();
    // A call whose arguments decide has its edges instead.
    for number in (0..NUMBERS_END).filter(|it| !EXEMPT.contains(it) && !filter.is_conditional(*it)) {
        let label =
            numbers::name(number).map_or_else(|| format!("call {number}"), |name| format!("`{name}`"));
        probes.extend(plan_one(filter, label, number, harmless_arguments(number)));
    }
    for (label, call, args) in edges() {
        if let Some(number) = numbers::number(call) {
            probes.extend(plan_one(filter, format!("`{call}` with {label}"), number, args));
        }
    }
    probes.extend(other_entries());
    probes
}

/// Holds answers against a plan: one difference for each group that is not as it must be.
pub(super) fn judge(planned: &[PlannedProbe], results: &[ProbeResult]) -> Vec<Difference> {
    if planned.len() != results.len() {
        let expected = format!("{} answers", planned.len());
        return vec![Difference::new("seccomp probes", expected, format!("{} answers", results.len()))];
    }
    let mut open: Vec<(&'static str, Vec<(&PlannedProbe, ProbeResult)>)> = Vec::new();
    for (plan, result) in planned.iter().zip(results) {
        if plan.accepted.contains(result) {
            continue;
        }
        match open.iter_mut().find(|(group, _)| *group == plan.group) {
            Some((_, wrong)) => wrong.push((plan, *result)),
            None => open.push((plan.group, vec![(plan, *result)])),
        }
    }
    open.iter().map(|(group, wrong)| group_difference(group, wrong)).collect()
}

/// `None` if the profile allows it.
fn plan_one(filter: &Filter, label: String, number: u32, args: [u64; 6]) -> Option<PlannedProbe> {
    let Verdict::Errno(errno) = filter.decide(number, args) else { return None };
    let mut accepted = vec![ProbeResult::Errno(errno)];
    if number >= NEWER_FROM {
        accepted.extend([EPERM, ENOSYS].into_iter().filter(|it| *it != errno).map(ProbeResult::Errno));
    }
    let probe = Probe { entry: Entrypoint::Native, number, args, deadly: false };
    Some(PlannedProbe { label, group: filter.group_of(number), probe, accepted })
}

/// Arguments that no kernel acts on. All ones is a bad descriptor, a bad pointer and an invalid flag at once.
fn harmless_arguments(number: u32) -> [u64; 6] {
    let mut args = [NOTHING; 6];
    match numbers::name(number) {
        // Its "unknown function" answer is ENOSYS, as if it were absent; writing an entry of the wrong size is EINVAL.
        Some("modify_ldt") => args[0] = 1,
        // One bit that is no namespace, so that no kernel can find a valid one in it.
        Some("unshare") => args[0] = 1,
        Some(_) | None => {}
    }
    args
}

/// The ABIs that the filter must not know. It may end the caller, so each is tried by a process of its own.
fn other_entries() -> Vec<PlannedProbe> {
    let mut probes = Vec::new();
    // `read`, `getpid`, and the first, the `execve` and the last of the numbers that only x32 has.
    for number in [0, 39, 512, 520, 547] {
        probes.push(PlannedProbe {
            label: format!("x32 call {number}"),
            group: "other ABIs",
            probe: Probe {
                entry: Entrypoint::Native,
                number: X32 | number,
                args: [NOTHING; 6],
                deadly: true,
            },
            accepted: vec![
                ProbeResult::Errno(ENOSYS),
                ProbeResult::Errno(EPERM),
                ProbeResult::Killed(SIGSYS),
            ],
        });
    }
    probes.push(PlannedProbe {
        label: "32-bit `getpid`".to_owned(),
        group: "other ABIs",
        probe: Probe { entry: Entrypoint::Compat, number: COMPAT_GETPID, args: [0; 6], deadly: true },
        // A kernel without the entry ends the caller with SIGSEGV.
        accepted: vec![
            ProbeResult::Killed(SIGSYS),
            ProbeResult::Errno(ENOSYS),
            ProbeResult::Errno(EPERM),
            ProbeResult::Killed(SIGSEGV),
        ],
    });
    probes
}

fn group_difference(group: &str, wrong: &[(&PlannedProbe, ProbeResult)]) -> Difference {
    let named =
        wrong.iter().take(NAMED_MAX).map(|(plan, result)| format!("{}: {}", plan.label, said(*result)));
    let mut seen = named.collect::<Vec<_>>().join(", ");
    if wrong.len() > NAMED_MAX {
        seen.push_str(&format!(", and {} more", wrong.len() - NAMED_MAX));
    }
    let accepted = wrong.first().map_or(&[][..], |(plan, _)| &plan.accepted);
    let expected = accepted.iter().map(|it| said(*it)).collect::<Vec<_>>().join(" or ");
    Difference::new(format!("seccomp group `{group}`"), expected, seen)
}

fn said(result: ProbeResult) -> String {
    match result {
        ProbeResult::Returned(value) => format!("returned {value}"),
        ProbeResult::Errno(errno) => errno_name(errno),
        ProbeResult::Killed(signal) => format!("killed by signal {signal}"),
        ProbeResult::NotRun => "not run".to_owned(),
    }
}

fn errno_name(errno: i32) -> String {
    let name = match errno {
        1 => "EPERM",
        3 => "ESRCH",
        7 => "E2BIG",
        9 => "EBADF",
        13 => "EACCES",
        14 => "EFAULT",
        22 => "EINVAL",
        38 => "ENOSYS",
        95 => "EOPNOTSUPP",
        other => return format!("errno {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::seccomp::Profile;

    fn strict() -> Filter {
        Filter::new(Profile { ptrace: false, netlink_route: true, preallocation: true })
    }

    fn filtered(probes: &[PlannedProbe]) -> Vec<ProbeResult> {
        probes.iter().map(|it| it.accepted[0]).collect()
    }

    fn allowed(filter: &Filter, number: u32) -> bool {
        !filter.is_conditional(number) && filter.decide(number, [0; 6]) == Verdict::Allow
    }

    #[test]
    fn every_number_that_is_not_allowed_is_tried() {
        let filter = strict();
        let probes = filter.probes();
        for number in (0..NUMBERS_END).filter(|it| !EXEMPT.contains(it) && !allowed(&filter, *it)) {
            assert!(probes.iter().any(|it| it.probe.number == number), "{number}");
        }
    }

    #[test]
    fn nothing_is_tried_that_the_profile_allows() {
        let filter = Filter::new(Profile { ptrace: true, netlink_route: true, preallocation: false });
        for it in filter.probes().iter().filter(|it| !it.probe.deadly) {
            assert_ne!(filter.decide(it.probe.number, it.probe.args), Verdict::Allow, "{}", it.label);
        }
    }

    #[test]
    fn the_filters_own_answers_are_no_difference() {
        assert_eq!(strict().judge(&filtered(strict().probes())), []);
    }

    #[test]
    fn a_probe_that_did_not_run_is_a_difference() {
        let mut results = filtered(strict().probes());
        results[0] = ProbeResult::NotRun;
        assert_eq!(strict().judge(&results).len(), 1);
    }

    #[test]
    fn a_missing_answer_is_a_difference() {
        assert_eq!(strict().judge(&[]).len(), 1);
    }

    #[test]
    fn an_open_group_is_one_difference_that_names_it() {
        let filter = strict();
        let mut results = filtered(filter.probes());
        for (plan, result) in filter.probes().iter().zip(&mut results) {
            if plan.group == "keyrings" {
                *result = ProbeResult::Errno(22);
            }
        }
        let differences = filter.judge(&results);
        assert_eq!(
            differences.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "seccomp group `keyrings` is `add_key`: EINVAL, `request_key`: EINVAL, `keyctl`: EINVAL, expected EPERM"
            ]
        );
    }
}
