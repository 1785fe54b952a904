//! What is said of rules that flags and files ask for: which of them the ceiling does not allow, one by one, and which of
//! a flag's a policy treats in another way.

use crate::policy::ceiling::Ceiling;
use crate::policy::denial::Denial;
use crate::policy::field::{Field, Setting};
use crate::policy::network::reach::{CredentialPattern, Reach};
use crate::policy::network::union::{Shape, Union};
use crate::policy::network::{Allow, Denied, Rule};
use crate::policy::origin::Origin;
use crate::policy::{Chosen, Egress, Overrides, Policy};

/// Pairs of a policy's shapes and the ceiling's that are compared: what both allow is found pair by pair.
const PAIRS_MAX: usize = 32_768;
/// Rules that a message lists.
const LISTED_MAX: usize = 3;

/// Whether lowering this value would leave less than was asked for in a way that must not pass quietly, whoever asked:
/// what was to be recorded or to be open is not the same task when it is closed.
pub fn must_not_be_lowered(asked: &Setting) -> bool {
    matches!(asked, Setting::Egress(Egress::Public | Egress::Rules) | Setting::EgressAudit(true))
        || matches!(asked, Setting::NetworkAllow(allow) if !allow.is_empty())
}

/// The denial of rules that the ceiling does not allow.
pub fn exceeds(asked: &Allow, effective: &Setting, origin: &Origin, ceiling: &Ceiling) -> Denial {
    let beyond = beyond(asked, &ceiling.policy.network.allow);
    let mut listed = beyond.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if beyond.len() > LISTED_MAX {
        listed.push_str(&format!(" and {} more", beyond.len() - LISTED_MAX));
    }
    let field = Field::NetworkAllow;
    let message = format!(
        "{origin} asks in `{}` for {listed}, which is not allowed by {}",
        field.key().path,
        ceiling.authority(field)
    );
    let hint = match origin {
        Origin::Flag(flag) => format!("leave `{flag}` out for it, or ask the operator of this host"),
        Origin::File { .. }
        | Origin::Default { .. }
        | Origin::Policy { .. }
        | Origin::Requested { .. }
        | Origin::Ceiling { .. }
        | Origin::Host => "leave the rule out, or ask the operator of this host".to_owned(),
    };
    Denial { field, message, hint, allowed: Some(effective.clone()) }
}

/// The denial of rules that the ceiling's own denials leave nothing of: the run would miss what was asked for.
pub fn closed(asked: &Allow, origin: &Origin, ceiling: &Ceiling) -> Option<Denial> {
    let deny = &ceiling.policy.network.deny;
    let is_closed = |it: &&Reach| deny.holds(&Denied { host: it.host.clone(), port: it.port });
    let reach = asked.reach.iter().find(is_closed)?;
    let message = format!(
        "{origin} asks in `{}` for `{reach}`, which `{}` denies by {}",
        Field::NetworkAllow.key().path,
        Field::NetworkDeny.key().path,
        ceiling.authority(Field::NetworkDeny)
    );
    let hint = "leave the host out, or ask the operator of this host".to_owned();
    Some(Denial { field: Field::NetworkAllow, message, hint, allowed: None })
}

/// Rules of a flag that let pass unread what the policy has read, or the other way round.
pub fn contradictions(overrides: &Overrides, policy: &Policy) -> Vec<Denial> {
    let mut denials = Vec::new();
    for rule in &overrides.allow_net {
        if let Some(reach) = policy.network.allow.reach.iter().find(|it| contradicts(rule, it)) {
            let flag = Field::NetworkAllow.key().flag.unwrap_or_default();
            let message = format!(
                "flag `{flag}` asks for `{}` as {}, and the policy has `{reach}` as {}",
                rule.host,
                rule.transport.word(),
                reach.access.transport().word()
            );
            let hint = format!("leave `{flag}` out for it: the policy names the host already");
            denials.push(Denial { field: Field::NetworkAllow, message, hint, allowed: None });
        }
    }
    denials
}

/// A flag's hosts that the policy, or the project's file, denies: the run would miss what was asked for.
pub fn denied_already(overrides: &Overrides, chosen: &Chosen) -> Vec<Denial> {
    let (mut denials, deny) = (Vec::new(), &chosen.policy.network.deny);
    for rule in &overrides.allow_net {
        let asked = rule.ports.iter().map(|port| Denied { host: rule.host.clone(), port: *port });
        let closed = asked.filter_map(|it| Some((deny.iter().find(|deny| deny.covers(&it))?, it))).next();
        let Some((deny, asked)) = closed else { continue };
        let flag = Field::NetworkAllow.key().flag.unwrap_or_default();
        let message = format!(
            "flag `{flag}` asks for `{}:{}`, which `{}` of {} denies with {}",
            asked.host,
            asked.port,
            Field::NetworkDeny.key().path,
            chosen.origin(Field::NetworkDeny),
            Union::of([deny.clone()])
        );
        let hint = format!("leave `{flag}` out for it, or take that denial away");
        denials.push(Denial { field: Field::NetworkAllow, message, hint, allowed: None });
    }
    denials
}

/// The denial of more rules than are compared.
pub fn too_many(asked: &Policy, ceiling: &Ceiling) -> Option<Denial> {
    let (ours, theirs) = (asked.network.allow.len(), ceiling.policy.network.allow.len());
    if ours.saturating_mul(theirs) <= PAIRS_MAX {
        return None;
    }
    let message = format!(
        "`network.allow` comes to {ours} combinations of ports, methods and paths, and the ceiling's to {theirs}: \
         together they may have {PAIRS_MAX} pairs"
    );
    let hint =
        "leave methods or paths out, or ask the operator of this host for a shorter ceiling".to_owned();
    Some(Denial { field: Field::NetworkAllow, message, hint, allowed: None })
}

fn contradicts(rule: &Rule, reach: &Reach) -> bool {
    rule.transport != reach.access.transport()
        && rule.host.meet(&reach.host).is_some()
        && rule.ports.iter().any(|it| it.meet(&reach.port).is_some())
}

/// What the ceiling does not hold, in words.
fn beyond(asked: &Allow, ceiling: &Allow) -> Vec<String> {
    let mut beyond = Vec::new();
    for reach in asked.reach.iter().filter(|it| !ceiling.reach.holds(it)) {
        beyond.push(format!("`{reach}`"));
    }
    for target in asked.private.iter().filter(|it| !ceiling.private.holds(it)) {
        beyond.push(format!("`{}:{}` at a private address", target.host, target.port));
    }
    for grant in asked.grants.iter().filter(|it| !ceiling.grants.holds(it)) {
        let credential = match &grant.credential {
            CredentialPattern::Named(name) => format!("the credential `{name}`"),
            CredentialPattern::Any => "any credential".to_owned(),
        };
        beyond
            .push(format!("{credential} at `{}:{} {} {}`", grant.host, grant.port, grant.method, grant.path));
    }
    beyond
}
