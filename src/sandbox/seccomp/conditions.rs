//! Calls that are allowed for some arguments only. The kernel reads these arguments as 32 bits, so they are compared
//! as 32 bits: a filter that compares 64 is passed by whoever sets an upper bit.

use crate::sandbox::seccomp::Profile;
use crate::sandbox::seccomp::groups::EAFNOSUPPORT;

/// One argument under a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub argument: u8,
    /// The bits that are looked at.
    pub mask: u64,
    /// What they must be.
    pub value: u64,
}

/// Conditions that must all hold.
pub type Rule = Vec<Condition>;

/// A call that is allowed where one of its rules holds; otherwise it gets the answer of the first refusal that holds, or
/// the default answer, EPERM. No refusal overlaps a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditional {
    /// The call.
    pub call: &'static str,
    /// Why it is not simply allowed.
    pub reason: &'static str,
    /// Alternatives.
    pub rules: Vec<Rule>,
    /// Answers of their own.
    pub refusals: Vec<(Rule, i32)>,
}

/// Namespace flags of `clone` (`CLONE_NEWTIME` lies in its signal bits and is not one).
pub const CLONE_NAMESPACES: [(&str, u32); 7] = [
    ("CLONE_NEWNS", 0x0002_0000),
    ("CLONE_NEWCGROUP", 0x0200_0000),
    ("CLONE_NEWUTS", 0x0400_0000),
    ("CLONE_NEWIPC", 0x0800_0000),
    ("CLONE_NEWUSER", 0x1000_0000),
    ("CLONE_NEWPID", 0x2000_0000),
    ("CLONE_NEWNET", 0x4000_0000),
];
/// Requests of `ioctl` that write into a terminal's input or steer the machine's consoles.
pub const IOCTL_DENIED: [(&str, u32); 4] =
    [("TIOCSTI", 0x5412), ("TIOCLINUX", 0x541C), ("TIOCCONS", 0x541D), ("TIOCSETD", 0x5423)];
/// Execution domains that change nothing a task could use: Linux, `UNAME26`, both, and the query.
pub const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x0002_0000, 0x0002_0008, u32::MAX];

/// Socket families that are named: Unix, IPv4, IPv6 and netlink.
pub const AF_UNIX: u32 = 1;
/// IPv4.
pub const AF_INET: u32 = 2;
/// IPv6.
pub const AF_INET6: u32 = 10;
/// Netlink.
pub const AF_NETLINK: u32 = 16;

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_RAW: u32 = 3;
const SOCK_SEQPACKET: u32 = 5;
/// The type is the low four bits; flags are above them.
const SOCK_TYPE_MASK: u32 = 0xF;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const NETLINK_ROUTE: u32 = 0;

/// The file type within a mode, and the types that are no device.
const S_IFMT: u32 = 0xF000;
const NODE_TYPES: [u32; 4] = [0, 0x8000, 0x1000, 0xC000];

/// The conditional calls of a profile.
pub fn conditional(profile: Profile) -> Vec<Conditional> {
    vec![
        Conditional {
            call: "clone",
            reason: "no new namespace, as with `unshare`",
            rules: vec![vec![bits(0, clone_namespaces(), 0)]],
            refusals: Vec::new(),
        },
        Conditional {
            call: "ioctl",
            reason: "nothing is typed into a terminal that somebody else reads",
            rules: excluding(1, &IOCTL_DENIED.map(|(_, request)| request)),
            refusals: Vec::new(),
        },
        Conditional {
            call: "personality",
            reason: "address randomisation stays on",
            rules: PERSONALITIES.iter().map(|it| vec![exactly(0, *it)]).collect(),
            refusals: Vec::new(),
        },
        Conditional {
            call: "socket",
            reason: "other families and protocols load modules, reach past the namespace, or are rarely looked at",
            rules: socket_rules(profile),
            refusals: socket_refusals(profile),
        },
        Conditional {
            call: "socketpair",
            reason: "only Unix sockets come in pairs",
            rules: unix_types().map(|it| vec![exactly(0, AF_UNIX), it]).collect(),
            refusals: Vec::new(),
        },
        Conditional { call: "mknod", reason: "no device nodes", rules: node_rules(1), refusals: Vec::new() },
        Conditional {
            call: "mknodat",
            reason: "no device nodes",
            rules: node_rules(2),
            refusals: Vec::new(),
        },
    ]
}

/// All namespace flags together.
pub fn clone_namespaces() -> u32 {
    CLONE_NAMESPACES.iter().fold(0, |all, (_, flag)| all | flag)
}

fn socket_rules(profile: Profile) -> Vec<Rule> {
    let mut rules: Vec<Rule> = unix_types().map(|it| vec![exactly(0, AF_UNIX), it]).collect();
    let internet = [(SOCK_STREAM, 0), (SOCK_STREAM, IPPROTO_TCP), (SOCK_DGRAM, 0), (SOCK_DGRAM, IPPROTO_UDP)];
    for family in [AF_INET, AF_INET6] {
        for (kind, protocol) in internet {
            rules.push(vec![exactly(0, family), bits(1, SOCK_TYPE_MASK, kind), exactly(2, protocol)]);
        }
    }
    if profile.netlink_route {
        for kind in [SOCK_DGRAM, SOCK_RAW] {
            rules.push(vec![
                exactly(0, AF_NETLINK),
                bits(1, SOCK_TYPE_MASK, kind),
                exactly(2, NETLINK_ROUTE),
            ]);
        }
    }
    rules
}

/// Where there is a way out, the kernel seems to know no netlink: the C library then takes names of both families for
/// reachable on loopback, which it would not if it could ask for interfaces.
fn socket_refusals(profile: Profile) -> Vec<(Rule, i32)> {
    if profile.netlink_route { Vec::new() } else { vec![(vec![exactly(0, AF_NETLINK)], EAFNOSUPPORT)] }
}

fn unix_types() -> impl Iterator<Item = Condition> {
    [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET].into_iter().map(|kind| bits(1, SOCK_TYPE_MASK, kind))
}

fn node_rules(argument: u8) -> Vec<Rule> {
    NODE_TYPES.iter().map(|kind| vec![bits(argument, S_IFMT, *kind)]).collect()
}

fn exactly(argument: u8, value: u32) -> Condition {
    bits(argument, u32::MAX, value)
}

fn bits(argument: u8, mask: u32, value: u32) -> Condition {
    Condition { argument, mask: u64::from(mask), value: u64::from(value) }
}

/// Rules that together hold for every 32-bit value but these. The engine's library can say "under this mask, equal" but
/// has no "not equal" of 32 bits, so the space is cut in halves until a half holds none of the values.
fn excluding(argument: u8, values: &[u32]) -> Vec<Rule> {
    let mut rules = Vec::new();
    // A half is its leading bits and how many of them are fixed.
    let mut halves = vec![(0_u32, 0_u32)];
    while let Some((prefix, fixed)) = halves.pop() {
        let mask = leading(fixed);
        if !values.iter().any(|it| it & mask == prefix) {
            rules.push(vec![bits(argument, mask, prefix)]);
        } else if fixed < u32::BITS {
            halves.push((prefix | 1 << (u32::BITS - 1 - fixed), fixed + 1));
            halves.push((prefix, fixed + 1));
        }
    }
    rules
}

fn leading(bits: u32) -> u32 {
    u32::MAX.checked_shl(u32::BITS - bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(rules: &[Rule], value: u64) -> bool {
        rules.iter().any(|rule| rule.iter().all(|it| value & it.mask == it.value))
    }

    fn check(values: &[u32], probe: u32, upper: u32) {
        let wide = u64::from(upper) << 32 | u64::from(probe);
        assert_eq!(holds(&excluding(1, values), wide), !values.contains(&probe), "{wide:#x}");
    }

    #[test]
    fn exactly_the_denied_requests_are_excluded_whatever_the_upper_bits() {
        let denied = IOCTL_DENIED.map(|(_, request)| request);
        for upper in [0, 1, 0x8000_0000, u32::MAX] {
            for low in 0..=0xFFFF {
                check(&denied, low, upper);
            }
            for bit in 0..32 {
                for request in denied {
                    check(&denied, request ^ (1 << bit), upper);
                }
            }
        }
    }

    #[test]
    fn the_rules_stay_few() {
        let denied = IOCTL_DENIED.map(|(_, request)| request);
        assert!(excluding(1, &denied).len() < 48);
    }

    #[test]
    fn excluding_nothing_is_one_rule_that_always_holds() {
        assert_eq!(excluding(1, &[]), [vec![bits(1, 0, 0)]]);
    }

    #[test]
    fn the_clone_mask_is_all_namespace_flags() {
        assert_eq!(clone_namespaces(), 0x7E02_0000);
    }

    proptest! {
        #[test]
        fn any_set_of_values_is_excluded_and_no_other(
            values in prop::collection::vec(any::<u32>(), 0..6), probe: u32, upper: u32, flip in 0_u32..32,
        ) {
            check(&values, probe, upper);
            for value in &values {
                check(&values, *value, upper);
                check(&values, value ^ (1 << flip), upper);
            }
        }
    }
}
