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
        syscalls.extend(it.refusals.iter().map(|(rule, errno)| refusal(it, rule, *errno)));
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

fn refusal(call: &Conditional, rule: &Rule, errno: i32) -> Value {
    let args: Vec<Value> = rule.iter().map(argument).collect();
    json!({ "names": [call.call], "action": ERRNO, "errnoRet": errno, "args": args, "comment": call.reason })
}

/// Under `SCMP_CMP_MASKED_EQ` the engine's `value` is the mask and `valueTwo` what must be left.
fn argument(it: &Condition) -> Value {
    json!({ "index": it.argument, "value": it.mask, "valueTwo": it.value, "op": "SCMP_CMP_MASKED_EQ" })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::sandbox::seccomp::{Filter, Profile, Verdict, numbers};

    const STRICT: Profile = Profile { ptrace: false, netlink_route: true, preallocation: true };

    fn document() -> Value {
        serde_json::from_str(Filter::new(STRICT).document()).expect("it is JSON")
    }

    fn check(pointer: &str, expected: Value) {
        assert_eq!(document().pointer(pointer), Some(&expected));
    }

    /// What the engine's library makes of a document: the first rule whose conditions all hold, else the default.
    fn interpret(document: &Value, name: &str, args: [u64; 6]) -> Verdict {
        for rule in document["syscalls"].as_array().expect("a list") {
            let named = rule["names"].as_array().expect("a list").iter().any(|it| it == name);
            let conditions = rule["args"].as_array().cloned().unwrap_or_default();
            if named && conditions.iter().all(|it| holds(it, args)) {
                return match rule["action"].as_str() {
                    Some("SCMP_ACT_ALLOW") => Verdict::Allow,
                    Some("SCMP_ACT_ERRNO") => Verdict::Errno(rule["errnoRet"].as_i64().unwrap_or(1) as i32),
                    other => unreachable!("{other:?}"),
                };
            }
        }
        Verdict::Errno(1)
    }

    fn holds(condition: &Value, args: [u64; 6]) -> bool {
        assert_eq!(condition["op"], "SCMP_CMP_MASKED_EQ");
        let number = |field: &str| condition[field].as_u64().expect("a number");
        args[number("index") as usize] & number("value") == number("valueTwo")
    }

    #[test]
    fn the_document_says_what_the_tables_decide() {
        check_document(STRICT);
        check_document(Profile { netlink_route: false, ..STRICT });
    }

    fn check_document(profile: Profile) {
        let filter = Filter::new(profile);
        let document: Value = serde_json::from_str(filter.document()).expect("it is JSON");
        for (number, name) in numbers::all() {
            for args in [[0; 6], [u64::MAX; 6], [1, 1, 0, 0, 0, 0], [2, 0x5412, 6, 0, 0, 0], [0x1000_0000; 6]]
            {
                let decided = filter.decide(number, args);
                assert_eq!(interpret(&document, name, args), decided, "{name} {args:x?}");
            }
        }
        for it in filter.probes().iter().filter(|it| !it.probe.deadly) {
            let name = numbers::name(it.probe.number).unwrap_or_default();
            assert_ne!(interpret(&document, name, it.probe.args), Verdict::Allow, "{}", it.label);
        }
    }

    #[test]
    fn the_default_is_to_refuse() {
        check("/defaultAction", "SCMP_ACT_ERRNO".into());
    }

    #[test]
    fn there_is_one_abi() {
        check("/architectures", serde_json::json!(["SCMP_ARCH_X86_64"]));
    }

    #[test]
    fn no_rule_looks_at_one_argument_twice() {
        // The engine's library would take such a rule for alternatives.
        for rule in document()["syscalls"].as_array().expect("a list") {
            let conditions = rule["args"].as_array().cloned().unwrap_or_default();
            let indices: std::collections::BTreeSet<_> =
                conditions.iter().map(|it| it["index"].as_u64()).collect();
            assert_eq!(indices.len(), conditions.len(), "{rule}");
        }
    }
}
