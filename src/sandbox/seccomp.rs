//! The system calls that a task gets: deny by default, one ABI, as data. What the engine loads ([`Filter::document`]),
//! what a call gets ([`Filter::decide`]) and what the probes must see ([`Filter::judge`]) come from the same tables.

pub mod conditions;
pub mod groups;
mod json;
pub mod numbers;
pub mod probes;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::policy::{Egress, Policy};
use crate::sandbox::seccomp::conditions::{Conditional, Rule};
use crate::sandbox::seccomp::groups::{EPERM, Group, GroupTreatment};

/// What a policy decides about the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Whether processes of the task may trace each other.
    pub ptrace: bool,
    /// Whether a netlink socket may ask for the (loopback-only) interfaces and routes.
    pub netlink_route: bool,
}

impl Profile {
    /// The profile that a policy asks for.
    pub fn of(policy: &Policy) -> Self {
        let netlink_route = match policy.network.egress {
            Egress::None => true,
        };
        Self { ptrace: policy.process.ptrace, netlink_route }
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
    groups: Vec<Group>,
    conditional: Vec<Conditional>,
    calls: BTreeMap<u32, Treatment>,
}

/// What the filter holds for one number.
#[derive(Debug, Clone)]
enum Treatment {
    Always(Verdict),
    When(Vec<Rule>),
}

impl Filter {
    /// The tables of a profile.
    pub fn new(profile: Profile) -> Self {
        let groups = groups::groups(profile);
        let conditional = conditions::conditional(profile);
        let mut by_name = BTreeMap::new();
        for group in &groups {
            let verdict = match group.treatment {
                GroupTreatment::Allow => Verdict::Allow,
                GroupTreatment::Deny(errno) => Verdict::Errno(errno),
            };
            by_name.extend(group.calls().map(|call| (call, Treatment::Always(verdict))));
        }
        for it in &conditional {
            by_name.insert(it.call, Treatment::When(it.rules.clone()));
        }
        let calls = numbers::all().filter_map(|(number, name)| Some((number, by_name.remove(name)?))).collect();
        Self { profile, groups, conditional, calls }
    }

    /// The profile that it was made for.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What a call on the one ABI gets. A number that the tables lack gets the default answer.
    pub fn decide(&self, number: u32, args: [u64; 6]) -> Verdict {
        match self.calls.get(&number) {
            None => Verdict::Errno(EPERM),
            Some(Treatment::Always(verdict)) => *verdict,
            Some(Treatment::When(rules)) if rules.iter().any(|rule| holds(rule, args)) => Verdict::Allow,
            Some(Treatment::When(_)) => Verdict::Errno(EPERM),
        }
    }

    /// Whether a number is allowed whatever its arguments are.
    pub fn always_allowed(&self, number: u32) -> bool {
        matches!(self.calls.get(&number), Some(Treatment::Always(Verdict::Allow)))
    }

    /// The document that the engine takes in its `seccomp=` option, one line of JSON.
    pub fn document(&self) -> String {
        json::document(&self.groups, &self.conditional)
    }

    /// SHA-256 of the document, in hexadecimal.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(self.document()))
    }

    /// The denied group of a call, or the call's own name where its arguments decide.
    pub(crate) fn group_of(&self, number: u32) -> &'static str {
        let Some(name) = numbers::name(number) else { return "unnamed numbers" };
        self.groups.iter().find(|group| group.calls().any(|call| call == name)).map_or(name, |group| group.name)
    }
}

fn holds(rule: &Rule, args: [u64; 6]) -> bool {
    rule.iter().all(|it| args.get(usize::from(it.argument)).is_some_and(|arg| arg & it.mask == it.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Profile = Profile { ptrace: false, netlink_route: true };

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
        let closed = Filter::new(Profile { ptrace: false, netlink_route: false });
        assert_eq!(closed.decide(41, [16, 3, 0, 0, 0, 0]), Verdict::Errno(EPERM));
    }

    #[test]
    fn tracing_opens_with_the_profile() {
        denied("ptrace", &[0]);
        let open = Filter::new(Profile { ptrace: true, netlink_route: true });
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
        let open = Filter::new(Profile { ptrace: true, netlink_route: true });
        assert_eq!(closed.digest(), Filter::new(STRICT).digest());
        assert_ne!(closed.digest(), open.digest());
    }
}
