//! What the engine says it made, held against what it was asked to make: every setting, both ways.

use std::collections::BTreeMap;

use crate::sandbox::attestation::Difference;

/// Settings that an engine fills in by itself and that grant nothing.
const FILLED_IN: [&str; 4] =
    ["HostConfig.ShmSize", "HostConfig.ConsoleSize", "HostConfig.Isolation", "HostConfig.MemorySwappiness"];

/// One difference for each setting that is not as asked, or that nobody asked for.
pub fn compare(asked: &BTreeMap<String, String>, shown: &BTreeMap<String, String>) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (name, value) in asked {
        let seen = shown.get(name).map_or("nothing", String::as_str);
        if seen != value {
            differences.push(Difference::new(format!("engine setting `{name}`"), value, seen));
        }
    }
    for (name, value) in shown {
        if !asked.contains_key(name) && !FILLED_IN.contains(&name.as_str()) {
            differences.push(Difference::new(format!("engine setting `{name}`"), "nothing", value));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn check(asked: &[(&str, &str)], shown: &[(&str, &str)], expected: &[&str]) {
        let differences = compare(&settings(asked), &settings(shown));
        let told: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn the_same_settings_differ_in_nothing() {
        check(&[("HostConfig.CapDrop", "[\"ALL\"]")], &[("HostConfig.CapDrop", "[\"ALL\"]")], &[]);
    }

    #[test]
    fn a_setting_that_was_lost_is_named() {
        check(
            &[("HostConfig.PidsLimit", "256")],
            &[],
            &["engine setting `HostConfig.PidsLimit` is nothing, expected 256"],
        );
    }

    #[test]
    fn a_setting_that_nobody_asked_for_is_named() {
        check(
            &[],
            &[("HostConfig.Privileged", "true")],
            &["engine setting `HostConfig.Privileged` is true, expected nothing"],
        );
    }

    #[test]
    fn what_an_engine_fills_in_is_passed_over() {
        check(&[], &[("HostConfig.ShmSize", "67108864")], &[]);
    }
}
