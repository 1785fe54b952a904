//! A runtime held against a policy.

use std::collections::BTreeSet;

use crate::intake::shown;
use crate::policy::admit::who;
use crate::policy::denial::Denial;
use crate::policy::field::{Field, Setting};
use crate::policy::lattice::{ANY_RUNTIME, accepts_runtime};
use crate::policy::resolve::Resolved;

/// What stands against a runtime.
pub fn unaccepted(runtime: &str, resolved: &Resolved) -> Option<Denial> {
    let accepted = &resolved.policy.runtimes;
    let hint = |usable: &BTreeSet<String>| match usable.iter().find(|it| !is_gvisor(it)) {
        Some(name) => format!("pass `--runtime {}`", if name == ANY_RUNTIME { "runc" } else { name }),
        None => format!("add `runc` to `runtimes` of {}", who(resolved, Field::Runtimes)),
    };
    if is_gvisor(runtime) {
        let message =
            "runsc (gVisor) shows no seccomp, limits or masks and cannot take passed descriptors; not \
                       supported until its transport exists"
                .to_owned();
        let flagged = accepted.iter().all(|it| is_gvisor(it));
        let usable = if flagged { &resolved.ceiling.policy.runtimes } else { accepted };
        return Some(Denial { field: Field::Runtimes, message, hint: hint(usable), allowed: None });
    }
    if accepts_runtime(accepted, runtime) {
        return None;
    }
    let listed: Vec<String> = accepted.iter().map(|it| format!("`{it}`")).collect();
    let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
    let message = format!(
        "runtime `{}` is not accepted: `runtimes` of {} has {listed}",
        shown(runtime),
        who(resolved, Field::Runtimes)
    );
    let allowed = (!accepted.is_empty()).then(|| Setting::Runtimes(accepted.clone()));
    Some(Denial { field: Field::Runtimes, message, hint: hint(accepted), allowed })
}

/// Whether this names gVisor: by itself, with a suffix, or as containerd's shim.
fn is_gvisor(runtime: &str) -> bool {
    let lower = runtime.to_ascii_lowercase();
    lower.contains("runsc") || lower.contains("gvisor")
}
