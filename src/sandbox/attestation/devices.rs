//! `/dev`: the standard few, with the right numbers, and nothing else.

use aegis_init::wire::Device;

use crate::sandbox::attestation::difference::Findings;

const TYPE_MASK: u32 = 0o170_000;
const CHARACTER: u32 = 0o020_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// Character devices that every container has: name, major, minor.
const STANDARD: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Links that the runtime makes; `core` only where the kernel has `/proc/kcore`.
const LINKS: [&str; 6] = ["fd", "stdin", "stdout", "stderr", "ptmx", "core"];
/// Mount points.
const DIRECTORIES: [&str; 3] = ["pts", "shm", "mqueue"];

/// Holds the entries of `/dev` against the standard set.
pub(super) fn check(findings: &mut Findings, devices: &[Device]) {
    for device in devices {
        let name = String::from_utf8_lossy(&device.name);
        let Some(expected) = expected(&name) else {
            findings.add(format!("device `{name}`"), "absent", described(device));
            continue;
        };
        findings.same(format!("device `{name}`"), expected, described(device));
    }
    for (name, ..) in STANDARD {
        if !devices.iter().any(|it| it.name[..] == *name.as_bytes()) {
            findings.add(format!("device `{name}`"), "there", "absent");
        }
    }
}

fn expected(name: &str) -> Option<String> {
    if let Some((_, major, minor)) = STANDARD.iter().find(|(it, ..)| *it == name) {
        return Some(format!("a character device {major}:{minor}"));
    }
    if LINKS.contains(&name) {
        return Some("a link".to_owned());
    }
    DIRECTORIES.contains(&name).then(|| "a directory".to_owned())
}

fn described(device: &Device) -> String {
    let (major, minor) = device.device;
    match device.mode & TYPE_MASK {
        CHARACTER => format!("a character device {major}:{minor}"),
        LINK => "a link".to_owned(),
        DIRECTORY => "a directory".to_owned(),
        other => format!("of type {other:o}, {major}:{minor}"),
    }
}
