//! effective = meet(ceiling, override(policy, flags)), and where each value came from.
//!
//! What was asked for explicitly (a flag, or a key that a policy file writes) is granted or denied, never lowered
//! quietly. A default that the ceiling lowers is reported. CPUs and open files above the host's are clamped to what the
//! host has and reported, whoever asked. Globs of images and pins are demands, not amounts: those of policy and ceiling
//! all hold, and the image that is asked for is judged by `admit`.

use std::collections::BTreeSet;
use std::fmt;

use crate::intake::shown;
use crate::policy::Policy;
use crate::policy::amount::Amount;
use crate::policy::ceiling::{Ceiling, HostAmounts};
use crate::policy::denial::Denial;
use crate::policy::field::{Field, Setting};
use crate::policy::lattice::meet;
use crate::policy::overrides::Overrides;
use crate::policy::shipped::{Chosen, Source};

/// What a task would get, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The name of the policy that was chosen.
    pub policy_name: String,
    /// The effective policy: never wider than the ceiling.
    pub policy: Policy,
    /// Where each field's value came from, in the order of `FIELDS`.
    pub origins: Vec<FieldOrigin>,
    /// What was lowered without having been asked for.
    pub clipped: Vec<Clipped>,
    /// What was asked for and is not allowed; `admit` refuses while there is any.
    pub denials: Vec<Denial>,
    /// The ceiling it was held against.
    pub ceiling: Ceiling,
}

/// Where the value of a field came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldOrigin {
    /// The field.
    pub field: Field,
    /// Its value, as a policy file writes it.
    pub value: String,
    /// Who set it.
    pub origin: Origin,
}

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default policy, which nobody named.
    Default {
        /// Its name.
        policy: &'static str,
    },
    /// A shipped policy, named or extended.
    Policy {
        /// Its name.
        policy: &'static str,
    },
    /// A key that a policy file writes.
    File {
        /// The file.
        file: String,
        /// The line of the key's value.
        line: usize,
    },
    /// A flag.
    Flag(&'static str),
    /// The ceiling.
    Ceiling {
        /// Its file; `None` is the default ceiling.
        file: Option<String>,
    },
    /// What the host has.
    Host,
}

/// A value that was lowered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clipped {
    /// The field.
    pub field: Field,
    /// What the policy says.
    pub from: String,
    /// What it is now.
    pub to: String,
    /// Who lowered it.
    pub by: Origin,
}

/// Applies the flags, meets the ceiling, keeps the books.
pub fn resolve(chosen: &Chosen, overrides: &Overrides, ceiling: &Ceiling, host: &HostAmounts) -> Resolved {
    let mut asked = chosen.policy.clone();
    let mut flagged = BTreeSet::new();
    let mut denials = Vec::new();
    for setting in overrides.settings() {
        match out_of_range(&setting, ceiling) {
            Some(denial) => denials.push(denial),
            None => {
                setting.apply(&mut asked);
                flagged.insert(setting.field());
            }
        }
    }

    let clamped = clamp(&asked, host);
    let effective = meet(&ceiling.policy, &clamped);

    let (mut origins, mut clipped) = (Vec::new(), Vec::new());
    let fields = asked.settings().into_iter().zip(clamped.settings()).zip(effective.settings());
    for ((asked, clamped), effective) in fields {
        let field = effective.field();
        let asker =
            if flagged.contains(&field) { Origin::Flag(flag_of(field)) } else { chosen.origin(field) };
        let value = effective.to_string();
        if effective == asked {
            origins.push(FieldOrigin { field, value, origin: asker });
            continue;
        }
        let by_ceiling = effective != clamped;
        let by = if by_ceiling { ceiling.origin() } else { Origin::Host };
        if by_ceiling && asker.is_explicit() && !is_demand(field) {
            denials.push(exceeds(&asked, &effective, &asker, ceiling));
        } else if !is_demand(field) {
            clipped.push(Clipped { field, from: asked.to_string(), to: value.clone(), by: by.clone() });
        }
        origins.push(FieldOrigin { field, value, origin: by });
    }

    let policy_name = chosen.name().to_owned();
    Resolved { policy_name, policy: effective, origins, clipped, denials, ceiling: ceiling.clone() }
}

/// What the host has less of. Every other amount is the ceiling's or the engine's to judge.
fn clamp(asked: &Policy, host: &HostAmounts) -> Policy {
    let mut clamped = asked.clone();
    let resources = &mut clamped.resources;
    resources.cpus_milli = resources.cpus_milli.min(host.cpus_milli.max(Amount::Cpus.range().0));
    let nofile = host.nofile.max(Amount::NofileHard.range().0);
    resources.nofile_soft = resources.nofile_soft.min(nofile);
    resources.nofile_hard = resources.nofile_hard.min(nofile);
    clamped
}

/// Fields that meet by adding demands: more of them is not less of what was asked.
fn is_demand(field: Field) -> bool {
    match field {
        Field::Allow | Field::Pins => true,
        Field::Amount(_)
        | Field::Workspace
        | Field::Ptrace
        | Field::Egress
        | Field::Pull
        | Field::RequireDigest
        | Field::Runtimes => false,
    }
}

fn exceeds(asked: &Setting, effective: &Setting, origin: &Origin, ceiling: &Ceiling) -> Denial {
    let field = asked.field();
    let path = field.key().path;
    let allowed = allowed(effective, ceiling);
    let allows = allowed.as_ref().map_or("nothing".to_owned(), Setting::to_string);
    let message =
        format!("{origin} asks for `{path}` = {asked}; {allows} is allowed by {}", ceiling.authority(field));
    Denial { field, message, hint: way_out(field, allowed.as_ref(), origin), allowed }
}

/// The value to ask for instead. Where both sides share no runtime, it is what the ceiling accepts.
fn allowed(effective: &Setting, ceiling: &Ceiling) -> Option<Setting> {
    match effective {
        Setting::Runtimes(names) if names.is_empty() => {
            let accepted = &ceiling.policy.runtimes;
            (!accepted.is_empty()).then(|| Setting::Runtimes(accepted.clone()))
        }
        other => Some(other.clone()),
    }
}

fn way_out(field: Field, allowed: Option<&Setting>, origin: &Origin) -> String {
    let path = field.key().path;
    match (allowed, origin) {
        (None, _) => format!("`{path}` of the ceiling accepts nothing: ask the operator of this host"),
        (Some(setting), Origin::Flag(flag)) => format!("pass `{flag} {}`", setting.as_flag()),
        (Some(setting), Origin::File { .. }) => format!("write `{path} = {setting}`, or leave the key out"),
        (
            Some(setting),
            Origin::Default { .. } | Origin::Policy { .. } | Origin::Ceiling { .. } | Origin::Host,
        ) => {
            format!("`{path} = {setting}` passes")
        }
    }
}

fn out_of_range(setting: &Setting, ceiling: &Ceiling) -> Option<Denial> {
    let Setting::Amount(amount, value) = setting else {
        return None;
    };
    let err = amount.checked(*value).err()?;
    let field = setting.field();
    let (min, max) = amount.range();
    let mut within = ceiling.policy.clone();
    Setting::Amount(*amount, (*value).clamp(min, max)).apply(&mut within);
    let allowed = meet(&within, &ceiling.policy).settings().into_iter().find(|it| it.field() == field);
    let origin = Origin::Flag(flag_of(field));
    let message = format!("{origin}: {err}");
    Some(Denial { field, message, hint: way_out(field, allowed.as_ref(), &origin), allowed })
}

fn flag_of(field: Field) -> &'static str {
    let key = field.key();
    key.flag.unwrap_or(key.path)
}

impl Origin {
    /// Whether somebody asked for this very value.
    fn is_explicit(&self) -> bool {
        match self {
            Self::File { .. } | Self::Flag(_) => true,
            Self::Default { .. } | Self::Policy { .. } | Self::Ceiling { .. } | Self::Host => false,
        }
    }
}

impl Chosen {
    /// Where it has the value of a field from.
    fn origin(&self, field: Field) -> Origin {
        match &self.source {
            Source::Default => Origin::Default { policy: self.base },
            Source::Shipped => Origin::Policy { policy: self.base },
            Source::File(document) => match document.settings.get(&field) {
                Some((_, place)) => Origin::File { file: document.file.clone(), line: place.line },
                None => Origin::Policy { policy: self.base },
            },
        }
    }
}

impl Ceiling {
    fn origin(&self) -> Origin {
        Origin::Ceiling { file: self.file.as_ref().map(|(file, _)| file.clone()) }
    }
}

impl Setting {
    /// The value as its flag takes it; of several runtimes, the first.
    pub fn as_flag(&self) -> String {
        match self {
            Self::Amount(amount, value) => amount.display(*value),
            Self::Pull(pull) => pull.word().to_owned(),
            Self::Runtimes(names) => names.first().cloned().unwrap_or_default(),
            Self::Workspace(_)
            | Self::Ptrace(_)
            | Self::Egress(_)
            | Self::Allow(_)
            | Self::RequireDigest(_)
            | Self::Pins(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default { policy } => write!(out, "default ({policy})"),
            Self::Policy { policy } => write!(out, "policy `{policy}`"),
            Self::File { file, line } => write!(out, "{}:{line}", shown(file)),
            Self::Flag(flag) => write!(out, "flag `{flag}`"),
            Self::Ceiling { file: Some(file) } => write!(out, "ceiling ({})", shown(file)),
            Self::Ceiling { file: None } => write!(out, "default ceiling"),
            Self::Host => write!(out, "host"),
        }
    }
}

/// One line for a report.
impl fmt::Display for Clipped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{}` is {} instead of {}, by {}", self.field.key().path, self.to, self.from, self.by)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::ceiling::tests::HOST;
    use crate::policy::lattice::le;
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
        let found =
            resolved.origins.iter().find(|it| it.field.key().path == path).expect("every field is there");
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

    fn overrides() -> impl Strategy<Value = Overrides> {
        let amount = || prop::option::of(prop_oneof![0..10_000u64, any::<u64>()]);
        let pull = prop::option::of(prop::sample::select(Pull::ALL.to_vec()));
        let runtime = prop::option::of(prop::sample::select(vec!["runc", "crun"]).prop_map(str::to_owned));
        (amount(), amount(), amount(), amount(), amount(), amount(), pull, runtime).prop_map(
            |(memory_bytes, cpus_milli, pids, tmp_bytes, output_bytes, wall_time_ms, pull, runtime)| {
                Overrides {
                    memory_bytes,
                    cpus_milli,
                    pids,
                    tmp_bytes,
                    output_bytes,
                    wall_time_ms,
                    pull,
                    runtime,
                }
            },
        )
    }

    fn ceilings() -> impl Strategy<Value = Ceiling> {
        prop::sample::select(vec![
            "",
            "runtimes = [\"runc\"]\n[resources]\npids = 100\nmemory = \"32MiB\"",
            "[images]\npull = \"never\"\n[resources]\ncpus = 0.5\nwall_time = \"1m\"",
            "[filesystem]\ntmp_size = \"64KiB\"\n[resources]\noutput_size = \"2GiB\"",
        ])
        .prop_map(ceiling)
    }

    /// Asks for what a denial says is allowed, by the text that it says to type.
    fn follow(denial: &Denial, overrides: &mut Overrides) {
        let allowed = denial.allowed.as_ref().expect("a flag's denial says what passes");
        let typed = allowed.as_flag();
        assert_eq!(denial.hint, format!("pass `{} {typed}`", flag_of(denial.field)));
        match denial.field {
            Field::Amount(amount) => {
                let value = Some(amount.parse(&typed).expect("what is recommended can be typed"));
                match amount {
                    Amount::Memory => overrides.memory_bytes = value,
                    Amount::Cpus => overrides.cpus_milli = value,
                    Amount::Pids => overrides.pids = value,
                    Amount::TmpSize => overrides.tmp_bytes = value,
                    Amount::OutputSize => overrides.output_bytes = value,
                    Amount::WallTime => overrides.wall_time_ms = value,
                    other => unreachable!("{other:?} has no flag"),
                }
            }
            Field::Pull => overrides.pull = Pull::ALL.into_iter().find(|it| it.word() == typed),
            Field::Runtimes => overrides.runtime = Some(typed),
            other => unreachable!("{other:?} has no flag"),
        }
    }

    proptest! {
        #[test]
        fn nothing_is_ever_wider_than_the_ceiling(flags in overrides(), ceiling in ceilings()) {
            let resolved = resolve(&chosen(""), &flags, &ceiling, &HOST);
            prop_assert!(le(&resolved.policy, &ceiling.policy));
            prop_assert!(resolved.policy.resources.nofile_soft <= resolved.policy.resources.nofile_hard);
        }

        #[test]
        fn what_a_denial_recommends_passes(mut flags in overrides(), ceiling in ceilings()) {
            let first = resolve(&chosen(""), &flags, &ceiling, &HOST);
            for denial in &first.denials {
                follow(denial, &mut flags);
            }
            let second = resolve(&chosen(""), &flags, &ceiling, &HOST);
            prop_assert_eq!(second.denials, vec![]);
        }

        #[test]
        fn what_is_asked_is_granted_or_denied_or_reported(flags in overrides(), ceiling in ceilings()) {
            let resolved = resolve(&chosen(""), &flags, &ceiling, &HOST);
            for asked in flags.settings() {
                let granted = resolved.policy.settings().contains(&asked);
                let denied = resolved.denials.iter().any(|it| it.field == asked.field());
                let clipped = resolved.clipped.iter().any(|it| it.field == asked.field());
                prop_assert!(granted || denied || clipped);
            }
        }
    }

    #[test]
    fn what_is_recommended_for_a_file_passes() {
        let ceiling = ceiling("runtimes = [\"runc\"]\n[resources]\npids = 100");
        let first = resolve(
            &chosen("runtimes = [\"crun\"]\n[resources]\npids = 200"),
            &Overrides::NONE,
            &ceiling,
            &HOST,
        );
        let mut text = String::new();
        for denial in &first.denials {
            let line = denial
                .hint
                .strip_prefix("write `")
                .and_then(|it| it.split_once('`'))
                .expect("a line to write");
            text.push_str(&format!("{}\n", line.0));
        }
        assert_eq!(text, "resources.pids = 100\nruntimes = [\"runc\"]\n");
        assert_eq!(resolve(&chosen(&text), &Overrides::NONE, &ceiling, &HOST).denials, vec![]);
    }
}
