//! effective = meet(ceiling, override(policy, flags)), and where each value came from.
//!
//! What was asked for explicitly (a flag, or a key that a policy file writes) is granted or denied, never lowered
//! quietly. A default that the ceiling lowers is reported. CPUs and open files above the host's are clamped to what the
//! host has and reported, whoever asked. Globs of images and pins are demands, not amounts: those of policy and ceiling
//! all hold, and the image that is asked for is judged by `admit`.

mod network;

use std::collections::BTreeSet;

use crate::policy::Policy;
use crate::policy::amount::Amount;
use crate::policy::ceiling::{Ceiling, HostAmounts};
use crate::policy::denial::Denial;
use crate::policy::field::{Field, Setting};
use crate::policy::lattice::meet;
use crate::policy::network::Allow;
use crate::policy::origin::{Clipped, FieldOrigin, Origin};
use crate::policy::overrides::Overrides;
use crate::policy::shipped::Chosen;

/// What a task would get, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The name of the policy that was chosen.
    pub policy_name: String,
    /// The effective policy: never wider than the ceiling.
    pub policy: Policy,
    /// Where each field's value came from, in the order of `FIELDS`.
    pub origins: Vec<FieldOrigin>,
    /// The same before ceiling and host had their say: what policy and flags come to.
    pub asked: Vec<FieldOrigin>,
    /// What was lowered without having been asked for.
    pub clipped: Vec<Clipped>,
    /// What was asked for and is not allowed; `admit` refuses while there is any.
    pub denials: Vec<Denial>,
    /// The ceiling it was held against.
    pub ceiling: Ceiling,
}

/// Applies the flags, meets the ceiling, keeps the books.
pub fn resolve(chosen: &Chosen, overrides: &Overrides, ceiling: &Ceiling, host: &HostAmounts) -> Resolved {
    let mut asked = chosen.policy.clone();
    let ceiling = &ceiling.for_medium(asked.filesystem.workspace, host);
    let mut flagged = BTreeSet::new();
    let mut denials = network::contradictions(overrides, &asked);
    denials.extend(network::denied_already(overrides, chosen));
    for setting in overrides.settings(&chosen.policy) {
        match out_of_range(&setting, ceiling) {
            Some(denial) => denials.push(denial),
            None => {
                setting.apply(&mut asked);
                flagged.insert(setting.field());
            }
        }
    }

    if let Some(denial) = network::too_many(&asked, ceiling) {
        denials.push(denial);
        asked.network.allow = Allow::NOTHING;
    }

    let clamped = clamp(&asked, host);
    let effective = meet(&ceiling.policy, &clamped);

    let (mut origins, mut before, mut clipped) = (Vec::new(), Vec::new(), Vec::new());
    let fields = asked.settings().into_iter().zip(clamped.settings()).zip(effective.settings());
    for ((asked, clamped), effective) in fields {
        let field = effective.field();
        let asker = if flagged.contains(&field) {
            Origin::Flag(overrides.flag_of(field))
        } else {
            chosen.origin(field)
        };
        if let Setting::NetworkAllow(allow) = &asked {
            denials.extend(network::closed(allow, &asker, ceiling));
        }
        let value = effective.to_string();
        before.push(FieldOrigin { field, value: asked.to_string(), origin: asker.clone() });
        if effective == asked {
            origins.push(FieldOrigin { field, value, origin: asker });
            continue;
        }
        let by_ceiling = effective != clamped;
        let by = if by_ceiling { ceiling.origin() } else { Origin::Host };
        let is_asked = asker.is_explicit() || network::must_not_be_lowered(&asked);
        if by_ceiling && is_asked && !is_demand(field) {
            denials.push(exceeds(&asked, &effective, &asker, ceiling));
        } else if !is_demand(field) {
            clipped.push(Clipped { field, from: asked.to_string(), to: value.clone(), by: by.clone() });
        }
        origins.push(FieldOrigin { field, value, origin: by });
    }

    let policy_name = chosen.name().to_owned();
    Resolved {
        policy_name,
        policy: effective,
        origins,
        asked: before,
        clipped,
        denials,
        ceiling: ceiling.clone(),
    }
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
        Field::Allow | Field::Pins | Field::NetworkDeny => true,
        Field::Amount(_)
        | Field::Workspace
        | Field::IncludeSecrets
        | Field::Ptrace
        | Field::Egress
        | Field::EgressPorts
        | Field::NetworkAllow
        | Field::EgressAudit
        | Field::Publish
        | Field::Pull
        | Field::RequireDigest
        | Field::Runtimes
        | Field::SecretFiles
        | Field::SecretEnvironment
        | Field::SecretOutputs => false,
    }
}

fn exceeds(asked: &Setting, effective: &Setting, origin: &Origin, ceiling: &Ceiling) -> Denial {
    if let Setting::NetworkAllow(allow) = asked {
        return network::exceeds(allow, effective, origin, ceiling);
    }
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
        (Some(Setting::Egress(_) | Setting::EgressAudit(_)), Origin::Flag(flag)) => {
            format!("leave `{flag}` out, or ask the operator of this host")
        }
        (Some(setting), Origin::Flag(flag)) => format!("pass `{flag} {}`", setting.as_flag()),
        (Some(setting), Origin::File { .. }) => format!("write `{path} = {setting}`, or leave the key out"),
        (
            Some(setting),
            Origin::Default { .. }
            | Origin::Policy { .. }
            | Origin::Requested { .. }
            | Origin::Ceiling { .. }
            | Origin::Host,
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
    let origin = Origin::Flag(Overrides::NONE.flag_of(field));
    let message = format!("{origin}: {err}");
    Some(Denial { field, message, hint: way_out(field, allowed.as_ref(), &origin), allowed })
}

#[cfg(test)]
mod tests;
