//! The edges of the calls whose arguments decide: for each kind of argument that must be refused, one call that a
//! kernel without the filter refuses with another errno, before it does anything.

use crate::sandbox::seccomp::conditions::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, CLONE_NAMESPACES, IOCTL_DENIED, clone_namespaces,
};

const NOTHING: u64 = u64::MAX;
/// A flag that no socket type has: the kernel refuses it before it looks at the family.
const BAD_TYPE_FLAG: u64 = 0x4000_0000;
/// Set above an argument of 32 bits, which the kernel ignores there.
const UPPER: u64 = 0xDEAD_BEEF_0000_0000;
/// With this and without `CLONE_SIGHAND` the kernel refuses to clone.
const CLONE_THREAD: u64 = 0x0001_0000;
/// One above the last family that Linux 6.18 has.
const AF_END: u64 = 47;

/// The edges of calls that depend on their arguments: label, call, arguments.
pub(super) fn edges() -> Vec<(String, &'static str, [u64; 6])> {
    let mut edges = Vec::new();
    for (name, flag) in CLONE_NAMESPACES.into_iter().chain([("every namespace", clone_namespaces())]) {
        edges.push((name.to_owned(), "clone", [CLONE_THREAD | u64::from(flag), 0, 0, 0, 0, 0]));
    }
    edges.push((
        "CLONE_NEWUSER below other bits".to_owned(),
        "clone",
        [UPPER | CLONE_THREAD | u64::from(clone_namespaces()), 0, 0, 0, 0, 0],
    ));
    for (name, request) in IOCTL_DENIED {
        for (upper, place) in [(0, ""), (UPPER, " below other bits")] {
            let args = [NOTHING, upper | u64::from(request), NOTHING, NOTHING, NOTHING, NOTHING];
            edges.push((format!("{name}{place}"), "ioctl", args));
        }
    }
    // These take effect where nothing stops them, on the one process that tries them and exits.
    for (label, persona) in [
        ("ADDR_NO_RANDOMIZE", 0x0004_0000),
        ("ADDR_NO_RANDOMIZE below other bits", UPPER | 0x0004_0000),
        ("READ_IMPLIES_EXEC", 0x0040_0000),
        ("MMAP_PAGE_ZERO", 0x0010_0000),
    ] {
        edges.push((label.to_owned(), "personality", [persona, 0, 0, 0, 0, 0]));
    }
    for (label, kind) in [("a character device", 0x2000), ("a block device", 0x6000)] {
        edges.push((label.to_owned(), "mknod", [NOTHING, kind | 0o600, 0x103, 0, 0, 0]));
        edges.push((label.to_owned(), "mknodat", [NOTHING, NOTHING, kind | 0o600, 0x103, 0, 0]));
    }
    edges.extend(socket_edges());
    edges
}

fn socket_edges() -> Vec<(String, &'static str, [u64; 6])> {
    let mut edges = Vec::new();
    let mut push = |call, label: String, family: u64, kind: u64, protocol: u64| {
        edges.push((label, call, [family, kind | BAD_TYPE_FLAG, protocol, NOTHING, NOTHING, NOTHING]));
    };
    // The profile drops those that it allows.
    for family in 0..AF_END {
        push("socket", format!("family {family}"), family, 1, 0);
        push("socket", format!("family {family}, raw"), family, 3, 0);
        push("socketpair", format!("family {family}"), family, 1, 0);
    }
    push("socket", "family 17 below other bits".to_owned(), UPPER | 17, 3, 0);
    push("socketpair", "a raw type".to_owned(), u64::from(AF_UNIX), 3, 0);
    for family in [AF_INET, AF_INET6].map(u64::from) {
        for kind in (0..16).filter(|it| ![1, 2].contains(it)) {
            push("socket", format!("family {family}, type {kind}"), family, kind, 1);
        }
        for (kind, protocol) in
            [(1, 17), (1, 132), (1, 256), (1, 262), (2, 1), (2, 6), (2, 58), (2, 132), (2, 136)]
        {
            push("socket", format!("family {family}, protocol {protocol}"), family, kind, protocol);
        }
        push("socket", format!("family {family}, protocol 262 below other bits"), family, 1, UPPER | 262);
    }
    for protocol in 1..32 {
        push("socket", format!("netlink protocol {protocol}"), u64::from(AF_NETLINK), 3, protocol);
    }
    edges
}
