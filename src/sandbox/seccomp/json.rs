//! The engine's form of a filter: the JSON that `--security-opt seccomp=` takes. Written, never read.

use serde_json::{Value, json};

use crate::sandbox::seccomp::conditions::{Condition, Conditional, Rule};
use crate::sandbox::seccomp::groups::{EPERM, Group, GroupTreatment};

const ALLOW: &str = "SCMP_ACT_ALLOW";
const ERRNO: &str = "SCMP_ACT_ERRNO";

/// One line of JSON. `defaultErrnoRet` is left out: engine 20.10 does not know it, and its default is EPERM.
pub(super) fn document(groups: &[Group], conditional: &[Conditional]) -> String {
    let mut syscalls: Vec<Value> = groups.iter().map(unconditional).collect();
    for it in conditional {
        syscalls.extend(it.rules.iter().map(|rule| alternative(it, rule)));
    }
    json!({ "defaultAction": ERRNO, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": syscalls }).to_string()
}

/// The engine drops a rule that is its default action, but takes the highest number it names: with every group named,
/// later numbers get ENOSYS and the gaps below them EPERM.
fn unconditional(group: &Group) -> Value {
    let names: Vec<&str> = group.calls().collect();
    match group.treatment {
        GroupTreatment::Allow => json!({ "names": names, "action": ALLOW, "comment": group.reason }),
        GroupTreatment::Deny(EPERM) => json!({ "names": names, "action": ERRNO, "comment": group.reason }),
        GroupTreatment::Deny(errno) => {
            json!({ "names": names, "action": ERRNO, "errnoRet": errno, "comment": group.reason })
        }
    }
}

fn alternative(call: &Conditional, rule: &Rule) -> Value {
    let args: Vec<Value> = rule.iter().map(argument).collect();
    json!({ "names": [call.call], "action": ALLOW, "args": args, "comment": call.reason })
}

/// Under `SCMP_CMP_MASKED_EQ` the engine's `value` is the mask and `valueTwo` what must be left.
fn argument(it: &Condition) -> Value {
    json!({ "index": it.argument, "value": it.mask, "valueTwo": it.value, "op": "SCMP_CMP_MASKED_EQ" })
}

#[cfg(test)]
mod tests {
    use crate::sandbox::seccomp::{Filter, Profile};

    fn check(pointer: &str, expected: serde_json::Value) {
        let filter = Filter::new(Profile { ptrace: false, netlink_route: true });
        let document: serde_json::Value = serde_json::from_str(filter.document()).expect("it is JSON");
        assert_eq!(document.pointer(pointer), Some(&expected));
    }

    #[test]
    fn the_default_is_to_refuse() {
        check("/defaultAction", "SCMP_ACT_ERRNO".into());
    }

    #[test]
    fn there_is_one_abi() {
        check("/architectures", serde_json::json!(["SCMP_ARCH_X86_64"]));
    }
}
