//! `/proc/<pid>/limits`: resource limits of the process.

use crate::container::{ContainerSpec, MEMLOCK_BYTES, MSGQUEUE_BYTES};
use crate::sandbox::attestation::difference::Findings;

/// The width of the kernel's first column.
const NAME_COLUMN: usize = 26;

/// Holds the limits against the specification.
pub(super) fn check(findings: &mut Findings, text: &str, spec: &ContainerSpec) {
    for (name, soft, hard) in [
        ("Max open files", spec.nofile_soft, spec.nofile_hard),
        ("Max core file size", 0, 0),
        ("Max file size", spec.file_bytes, spec.file_bytes),
        ("Max locked memory", MEMLOCK_BYTES, MEMLOCK_BYTES),
        ("Max msgqueue size", MSGQUEUE_BYTES, MSGQUEUE_BYTES),
    ] {
        let seen = match find(text, name) {
            Some((soft, hard)) => format!("{soft} to {hard}"),
            None => "missing".to_owned(),
        };
        findings.same(format!("limit `{name}`"), format!("{soft} to {hard}"), seen);
    }
}

/// Soft and hard value of a limit, as the kernel writes them.
fn find<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let line = text.lines().find(|line| line.get(..NAME_COLUMN).is_some_and(|it| it.trim_end() == name))?;
    let mut values = line.get(NAME_COLUMN..)?.split_whitespace();
    Some((values.next()?, values.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max open files            1024                 20000                files     \n\
        Max file size             unlimited            unlimited            bytes     \n";

    fn check(name: &str, expected: Option<(&str, &str)>) {
        assert_eq!(find(TEXT, name), expected);
    }

    #[test]
    fn a_limit_is_soft_and_hard() {
        check("Max open files", Some(("1024", "20000")));
        check("Max file size", Some(("unlimited", "unlimited")));
    }

    #[test]
    fn a_missing_limit_is_none() {
        check("Max file", None);
    }
}
