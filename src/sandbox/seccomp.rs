//! The system calls that a task gets: deny by default, one ABI, as data. What the engine loads ([`Filter::document`]),
//! what a call gets ([`Filter::decide`]) and what the probes must see ([`Filter::judge`]) come from the same tables.

pub mod conditions;
mod edges;
pub mod groups;
mod json;
pub mod numbers;
pub mod probes;

use std::collections::BTreeMap;

use aegis_init::wire::ProbeResult;
use sha2::{Digest, Sha256};

use crate::policy::{Egress, Policy, WorkspaceMedium};
use crate::sandbox::attestation::Difference;
use crate::sandbox::seccomp::conditions::Rule;
use crate::sandbox::seccomp::groups::{EPERM, GroupTreatment};
use crate::sandbox::seccomp::probes::PlannedProbe;

/// What a policy decides about the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Whether processes of the task may trace each other.
    pub ptrace: bool,
    /// Whether a netlink socket may ask for the (loopback-only) interfaces and routes.
    pub netlink_route: bool,
    /// Whether space may be taken without being written.
    pub preallocation: bool,
}

impl Profile {
    /// The profile that a policy asks for.
    pub fn of(policy: &Policy) -> Self {
        let netlink_route = match policy.network.egress {
            Egress::None => true,
            Egress::Rules | Egress::Public => false,
        };
        let preallocation = policy.filesystem.workspace != WorkspaceMedium::Disk;
        Self { ptrace: policy.process.ptrace, netlink_route, preallocation }
    }
}

/// What a call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel sees it.
    Allow,
    /// The caller gets this errno.
    Errno(i32),
}

/// A profile with its tables.
#[derive(Debug, Clone)]
pub struct Filter {
    profile: Profile,
    calls: BTreeMap<u32, Call>,
    document: String,
    probes: Vec<PlannedProbe>,
}

/// What the filter holds for one number.
#[derive(Debug, Clone)]
struct Call {
    group: &'static str,
    treatment: Treatment,
}

#[derive(Debug, Clone)]
enum Treatment {
    Always(Verdict),
    When { rules: Vec<Rule>, refusals: Vec<(Rule, i32)> },
}

impl Filter {
    /// The tables of a profile.
    pub fn new(profile: Profile) -> Self {
        let groups = groups::groups(profile);
        let conditional = conditions::conditional(profile);
        let mut calls = BTreeMap::new();
        for group in &groups {
            let verdict = match group.treatment {
                GroupTreatment::Allow => Verdict::Allow,
                GroupTreatment::Deny(errno) => Verdict::Errno(errno),
            };
            let call = Call { group: group.name, treatment: Treatment::Always(verdict) };
            calls.extend(group.calls().filter_map(numbers::number).map(|number| (number, call.clone())));
        }
        for it in &conditional {
            let treatment = Treatment::When { rules: it.rules.clone(), refusals: it.refusals.clone() };
            let call = Call { group: it.call, treatment };
            calls.extend(numbers::number(it.call).map(|number| (number, call)));
        }
        let document = json::document(&groups, &conditional);
        let mut filter = Self { profile, calls, document, probes: Vec::new() };
        filter.probes = probes::plan(&filter);
        filter
    }

    /// The profile that it was made for.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What a call on the one ABI gets. A number that the tables lack gets the default answer.
    pub fn decide(&self, number: u32, args: [u64; 6]) -> Verdict {
        match self.calls.get(&number).map(|it| &it.treatment) {
            None => Verdict::Errno(EPERM),
            Some(Treatment::Always(verdict)) => *verdict,
            Some(Treatment::When { rules, .. }) if rules.iter().any(|rule| holds(rule, args)) => {
                Verdict::Allow
            }
            Some(Treatment::When { refusals, .. }) => {
                let own = refusals.iter().find(|(rule, _)| holds(rule, args));
                Verdict::Errno(own.map_or(EPERM, |(_, errno)| *errno))
            }
        }
    }

    /// Whether its arguments decide.
    fn is_conditional(&self, number: u32) -> bool {
        matches!(self.calls.get(&number), Some(Call { treatment: Treatment::When { .. }, .. }))
    }

    /// The group of a call, or the call's own name where its arguments decide.
    fn group_of(&self, number: u32) -> &'static str {
        self.calls.get(&number).map_or("unnamed numbers", |it| it.group)
    }

    /// The document that the engine takes in its `seccomp=` option, one line of JSON.
    pub fn document(&self) -> &str {
        &self.document
    }

    /// SHA-256 of the document, in hexadecimal.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(&self.document))
    }

    /// Every call that must be refused, in the order in which init tries them.
    pub fn probes(&self) -> &[PlannedProbe] {
        &self.probes
    }

    /// Holds the answers against the profile: one difference for each group that is not as it must be.
    pub fn judge(&self, results: &[ProbeResult]) -> Vec<Difference> {
        probes::judge(&self.probes, results)
    }
}

fn holds(rule: &Rule, args: [u64; 6]) -> bool {
    rule.iter().all(|it| args.get(usize::from(it.argument)).is_some_and(|arg| arg & it.mask == it.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Profile = Profile { ptrace: false, netlink_route: true, preallocation: true };

    fn check(call: &str, args: &[u64], expected: Verdict) {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let number = numbers::number(call).expect("the table has it");
        assert_eq!(Filter::new(STRICT).decide(number, all), expected, "{call} {args:x?}");
    }

    fn allowed(call: &str, args: &[u64]) {
        check(call, args, Verdict::Allow);
    }

    fn denied(call: &str, args: &[u64]) {
        check(call, args, Verdict::Errno(EPERM));
    }

    #[test]
    fn threads_and_forks_are_allowed() {
        allowed("clone", &[0x003D_0F00]);
        allowed("clone", &[17]);
    }

    #[test]
    fn namespace_flags_are_denied_whatever_the_upper_bits() {
        denied("clone", &[0x1000_0011]);
        denied("clone", &[0xDEAD_BEEF_1000_0011]);
        allowed("clone", &[0xDEAD_BEEF_0000_0011]);
    }

    #[test]
    fn clone3_says_that_it_does_not_exist() {
        check("clone3", &[], Verdict::Errno(groups::ENOSYS));
    }

    #[test]
    fn ordinary_sockets_are_allowed() {
        allowed("socket", &[1, 0x8_0001, 0]);
        allowed("socket", &[1, 5, 0]);
        allowed("socket", &[2, 0x8_0801, 6]);
        allowed("socket", &[10, 2, 17]);
        allowed("socket", &[16, 0x8_0003, 0]);
        allowed("socketpair", &[1, 0x8_0001, 0]);
    }

    #[test]
    fn raw_sockets_are_denied() {
        denied("socket", &[2, 3, 1]);
        denied("socket", &[2, 0xDEAD_BEEF_0008_0803, 1]);
        denied("socket", &[1, 3, 0]);
        denied("socket", &[2, 10, 0]);
    }

    #[test]
    fn other_protocols_are_denied() {
        for protocol in [1, 58, 132, 136, 255, 256, 262, 0x1_0000_0106] {
            denied("socket", &[2, 1, protocol]);
            denied("socket", &[10, 2, protocol]);
        }
        denied("socket", &[2, 1, 17]);
        denied("socket", &[2, 2, 6]);
        denied("socket", &[16, 3, 9]);
    }

    #[test]
    fn a_family_with_garbage_above_is_the_family() {
        denied("socket", &[0x1_0000_0011, 1, 0]);
        allowed("socket", &[0x1_0000_0002, 1, 0]);
    }

    #[test]
    fn netlink_closes_with_the_profile() {
        let closed = Filter::new(Profile { ptrace: false, netlink_route: false, preallocation: true });
        assert_eq!(closed.decide(41, [16, 3, 0, 0, 0, 0]), Verdict::Errno(groups::EAFNOSUPPORT));
        assert_eq!(closed.decide(41, [17, 3, 0, 0, 0, 0]), Verdict::Errno(EPERM));
    }

    #[test]
    fn tracing_opens_with_the_profile() {
        denied("ptrace", &[0]);
        let open = Filter::new(Profile { ptrace: true, netlink_route: true, preallocation: false });
        assert_eq!(open.decide(101, [0; 6]), Verdict::Allow);
    }

    #[test]
    fn typing_into_a_terminal_is_denied() {
        denied("ioctl", &[0, 0x5412]);
        denied("ioctl", &[0, 0xFFFF_FFFF_0000_5412]);
        allowed("ioctl", &[0, 0x5413]);
        allowed("ioctl", &[0, 0x5401]);
    }

    #[test]
    fn randomisation_stays_on() {
        denied("personality", &[0x0004_0000]);
        denied("personality", &[0xFFFF_FFFF_0004_0000]);
        allowed("personality", &[0xFFFF_FFFF]);
        allowed("personality", &[u64::MAX]);
        allowed("personality", &[0]);
    }

    #[test]
    fn devices_are_not_made() {
        denied("mknod", &[0, 0x2000 | 0o666]);
        denied("mknodat", &[0, 0, 0x6000 | 0o666]);
        allowed("mknod", &[0, 0x1000 | 0o666]);
        allowed("mknodat", &[0, 0, 0o644]);
    }

    #[test]
    fn a_number_that_nobody_named_is_denied() {
        assert_eq!(Filter::new(STRICT).decide(400, [0; 6]), Verdict::Errno(EPERM));
        assert_eq!(Filter::new(STRICT).decide(0x4000_0027, [0; 6]), Verdict::Errno(EPERM));
    }

    #[test]
    fn the_digest_is_of_the_document_and_profiles_differ() {
        let closed = Filter::new(STRICT);
        let open = Filter::new(Profile { ptrace: true, netlink_route: true, preallocation: false });
        assert_eq!(closed.digest(), Filter::new(STRICT).digest());
        assert_ne!(closed.digest(), open.digest());
    }
}
