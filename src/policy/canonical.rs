//! A policy as text, one line per field in a fixed order: what people read, and what the digest is taken of. Two
//! policies that differ have different texts.

use std::collections::BTreeSet;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::policy::Policy;
use crate::policy::amount::Unit;
use crate::policy::field::Setting;

/// First line of the hashed text: a change of the form changes every digest.
const FORM: &str = "aegis-policy/1";

/// The canonical text of a policy.
pub fn render(policy: &Policy) -> String {
    let mut text = format!("{FORM}\n");
    for setting in policy.settings() {
        text.push_str(&format!("{} = {setting}\n", setting.field().key().path));
    }
    text
}

/// SHA-256 of the canonical text, in hexadecimal.
pub fn digest(policy: &Policy) -> String {
    hex::encode(Sha256::digest(render(policy).as_bytes()))
}

/// The value as a policy file writes it.
impl fmt::Display for Setting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(amount, value) => match amount.unit() {
                Unit::Bytes | Unit::Time => {
                    write!(out, "\"{}\"", amount.display(*value))
                }
                Unit::Cpus | Unit::Count => out.write_str(&amount.display(*value)),
            },
            Self::Ptrace(value) | Self::EgressAudit(value) | Self::RequireDigest(value) => {
                write!(out, "{value}")
            }
            Self::Workspace(value) => write!(out, "\"{}\"", value.word()),
            Self::Egress(value) => write!(out, "\"{}\"", value.word()),
            Self::EgressPorts(ports) => {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                write!(out, "[{}]", ports.join(", "))
            }
            Self::NetworkAllow(allow) => write!(out, "{allow}"),
            Self::NetworkDeny(denied) => write!(out, "{denied}"),
            Self::Publish(ports) => write!(out, "{ports}"),
            Self::Pull(value) => write!(out, "\"{}\"", value.word()),
            Self::Allow(sets) => out.write_str(&conjunction(sets)),
            Self::Pins(pins) => {
                let pins: Vec<String> =
                    pins.iter().map(|(name, ids)| format!("{} = {}", quoted(name), either(ids))).collect();
                if pins.is_empty() { out.write_str("{}") } else { write!(out, "{{ {} }}", pins.join(", ")) }
            }
            Self::IncludeSecrets(globs) => out.write_str(&list(globs)),
            Self::Runtimes(names) => out.write_str(&list(names)),
            Self::SecretFiles(names) | Self::SecretEnvironment(names) => out.write_str(&list(names)),
            Self::SecretOutputs(value) => write!(out, "\"{}\"", value.word()),
        }
    }
}

/// The sets of globs, each of which must match: one set as a file writes it, several joined by `and`.
fn conjunction(sets: &BTreeSet<BTreeSet<String>>) -> String {
    if sets.is_empty() {
        return "any".to_owned();
    }
    let lists: Vec<String> = sets.iter().map(list).collect();
    lists.join(" and ")
}

/// The ids of a pin: one as a file writes it, several (which nothing satisfies) as a list.
fn either(ids: &BTreeSet<String>) -> String {
    match ids.first() {
        Some(id) if ids.len() == 1 => quoted(id),
        Some(_) | None => list(ids),
    }
}

fn list(texts: &BTreeSet<String>) -> String {
    let texts: Vec<String> = texts.iter().map(|it| quoted(it)).collect();
    format!("[{}]", texts.join(", "))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::document::{self, Kind};
    use crate::policy::lattice::tests::policies;
    use crate::policy::{lattice, shipped};

    #[test]
    fn the_digest_of_strict_is_known() {
        let strict = shipped("strict").expect("strict").policy;
        insta::assert_snapshot!(digest(&strict), @"28c74d11050c060c68308b62267b160d69adc95bbf825604b37bf63888d49838");
    }

    #[test]
    fn the_text_of_a_written_policy_is_a_policy_file() {
        let strict = shipped("strict").expect("strict").policy;
        let text = render(&strict).replacen(FORM, "", 1);
        let document = document::parse("p", text.as_bytes(), Kind::Policy).expect("no mistakes");
        assert_eq!(document.over(&lattice::bottom()), Ok(strict));
    }

    proptest! {
        #[test]
        fn different_policies_have_different_texts(a in policies(), b in policies()) {
            prop_assert_eq!(render(&a) == render(&b), a == b);
        }
    }
}
