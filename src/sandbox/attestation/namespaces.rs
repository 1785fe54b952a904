//! Namespaces by inode number: those that must be the sandbox's own.

use crate::sandbox::attestation::difference::Findings;

/// What a sandbox never shares with the host. A user namespace depends on the engine and is told, not demanded.
const OWN: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

/// The inode of a namespace in a list.
pub(super) fn inode<'a, T: AsRef<[u8]> + 'a>(
    list: impl IntoIterator<Item = &'a (T, u64)>,
    name: &str,
) -> Option<u64> {
    list.into_iter().find(|(it, _)| it.as_ref() == name.as_bytes()).map(|(_, inode)| *inode)
}

/// Holds a sandbox's namespaces against the host's.
pub(super) fn check<'a, T, U>(findings: &mut Findings, seen: &'a [(T, u64)], host: &'a [(U, u64)])
where
    T: AsRef<[u8]> + 'a,
    U: AsRef<[u8]> + 'a,
{
    for name in OWN {
        let field = format!("namespace `{name}`");
        match (inode(seen, name), inode(host, name)) {
            (None, _) => findings.add(field, "one of its own", "missing"),
            (Some(seen), Some(host)) if seen == host => findings.add(field, "one of its own", "the host's"),
            (Some(_), _) => {}
        }
    }
}
