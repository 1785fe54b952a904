//! What is granted, denied and clipped, case by case.

mod network;
mod recommended;

use super::*;
use crate::policy::ceiling::tests::HOST;
use crate::policy::{Pull, default_policy};

fn with(set: fn(&mut Overrides)) -> Overrides {
    let mut overrides = Overrides::NONE;
    set(&mut overrides);
    overrides
}

fn ceiling(text: &str) -> Ceiling {
    if text.is_empty() {
        return Ceiling::of_host(&HOST);
    }
    Ceiling::from_file("/etc/aegis/ceiling.toml", text.as_bytes(), &HOST).expect("a ceiling")
}

/// Resolves a policy file (the default policy when empty) and flags under a ceiling file (the default when empty)
/// and compares what is denied and what is clipped.
fn check(policy: &str, overrides: &Overrides, ceiling_text: &str, expected: &[&str]) {
    let resolved = resolve(&chosen(policy), overrides, &ceiling(ceiling_text), &HOST);
    let denied = resolved.denials.iter().map(|it| format!("{it}; {}", it.hint));
    let said: Vec<String> = denied.chain(resolved.clipped.iter().map(Clipped::to_string)).collect();
    assert_eq!(said, expected);
}

fn chosen(policy: &str) -> Chosen {
    if policy.is_empty() {
        return default_policy().expect("strict");
    }
    Chosen::from_file("p.toml", policy.as_bytes()).expect("a policy")
}

fn check_origin(policy: &str, overrides: &Overrides, ceiling_text: &str, path: &str, expected: &str) {
    let resolved = resolve(&chosen(policy), overrides, &ceiling(ceiling_text), &HOST);
    let found = resolved.origins.iter().find(|it| it.field.key().path == path).expect("every field is there");
    assert_eq!(format!("{} from {}", found.value, found.origin), expected);
}

#[test]
fn strict_fits_under_the_default_ceiling() {
    check("", &Overrides::NONE, "", &[]);
}

#[test]
fn a_flag_raises_up_to_the_ceiling() {
    check("", &with(|it| it.memory_bytes = Some(12 << 30)), "", &[]);
    check_origin(
        "",
        &with(|it| it.memory_bytes = Some(12 << 30)),
        "",
        "resources.memory",
        "\"12GiB\" from flag `--memory`",
    );
}

#[test]
fn a_flag_above_the_default_ceiling_is_denied_with_what_passes() {
    check(
        "",
        &with(|it| it.memory_bytes = Some(64 << 30)),
        "",
        &[
            "flag `--memory` asks for `resources.memory` = \"64GiB\"; \"12GiB\" is allowed by the default ceiling of \
           a local user: three quarters of this host (its operator can write /etc/aegis/ceiling.toml); pass \
           `--memory 12GiB`",
        ],
    );
}

#[test]
fn a_flag_above_the_operators_ceiling_names_its_file() {
    check(
        "",
        &with(|it| it.pull = Some(Pull::Always)),
        "[images]\npull = \"missing\"",
        &["flag `--pull` asks for `images.pull` = \"always\"; \"missing\" is allowed by the ceiling \
           (/etc/aegis/ceiling.toml, which the operator of this host writes); pass `--pull missing`"],
    );
}

#[test]
fn a_key_of_a_file_above_the_ceiling_is_denied_at_its_line() {
    check(
        "[resources]\npids = 5000",
        &Overrides::NONE,
        "[resources]\npids = 100",
        &[
            "p.toml:2 asks for `resources.pids` = 5000; 100 is allowed by the ceiling (/etc/aegis/ceiling.toml, which \
           the operator of this host writes); write `resources.pids = 100`, or leave the key out",
        ],
    );
}

#[test]
fn a_default_above_the_ceiling_is_clipped_and_reported() {
    check(
        "",
        &Overrides::NONE,
        "[resources]\npids = 100",
        &["`resources.pids` is 100 instead of 256, by ceiling (/etc/aegis/ceiling.toml)"],
    );
}

#[test]
fn what_a_file_inherits_is_clipped_like_a_default() {
    check(
        "[resources]\nmemory = \"2GiB\"",
        &Overrides::NONE,
        "[resources]\npids = 100",
        &["`resources.pids` is 100 instead of 256, by ceiling (/etc/aegis/ceiling.toml)"],
    );
}

#[test]
fn more_cpus_than_the_host_has_are_clamped_and_reported() {
    let asked = with(|it| it.cpus_milli = Some(64_000));
    check("", &asked, "", &["`resources.cpus` is 4 instead of 64, by host"]);
    check_origin("", &asked, "", "resources.cpus", "4 from host");
}

#[test]
fn more_cpus_than_the_operator_allows_are_denied() {
    check(
        "",
        &with(|it| it.cpus_milli = Some(64_000)),
        "[resources]\ncpus = 1",
        &[
            "flag `--cpus` asks for `resources.cpus` = 64; 1 is allowed by the ceiling (/etc/aegis/ceiling.toml, which \
           the operator of this host writes); pass `--cpus 1`",
        ],
    );
}

#[test]
fn a_runtime_the_operator_does_not_accept_is_denied() {
    check(
        "",
        &with(|it| it.runtime = Some("crun".to_owned())),
        "runtimes = [\"runc\"]",
        &["flag `--runtime` asks for `runtimes` = [\"crun\"]; [\"runc\"] is allowed by the ceiling \
           (/etc/aegis/ceiling.toml, which the operator of this host writes); pass `--runtime runc`"],
    );
}

#[test]
fn a_flag_out_of_range_is_denied_with_the_range() {
    check(
        "",
        &with(|it| it.pids = Some(0)),
        "",
        &["flag `--pids-limit`: `0` is out of range: it is 2 to 4194304; pass `--pids-limit 2`"],
    );
}

#[test]
fn globs_of_both_sides_hold() {
    check("[images]\nallow = [\"aegis/*\"]", &Overrides::NONE, "[images]\nallow = [\"*:1\"]", &[]);
    check_origin(
        "[images]\nallow = [\"aegis/*\"]",
        &Overrides::NONE,
        "[images]\nallow = [\"*:1\"]",
        "images.allow",
        "[\"*:1\"] and [\"aegis/*\"] from ceiling (/etc/aegis/ceiling.toml)",
    );
}

#[test]
fn each_value_has_its_origin() {
    check_origin("", &Overrides::NONE, "", "resources.pids", "256 from default (strict)");
    check_origin(
        "[process]\nptrace = false",
        &Overrides::NONE,
        "",
        "resources.pids",
        "256 from policy `strict`",
    );
    check_origin("[resources]\npids = 9", &Overrides::NONE, "", "resources.pids", "9 from p.toml:2");
}

#[test]
fn origins_come_in_the_order_of_the_fields() {
    let resolved = resolve(&chosen(""), &Overrides::NONE, &ceiling(""), &HOST);
    assert!(resolved.origins.iter().map(|it| it.field).eq(crate::policy::field::FIELDS));
}
