//! The keys of `[network]` that are more than a word: rules that allow, rules that deny, and lists of ports.

mod entry;

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeArray, DeValue};

use crate::intake::shown;
use crate::policy::document::Kind;
use crate::policy::document::egress::entry::{Entry, method, path, ports};
use crate::policy::document::mistake::{Slip, What};
use crate::policy::document::value::kind;
use crate::policy::field::Field;
use crate::policy::network::host::Standing;
use crate::policy::network::port::{HTTP, PortPattern};
use crate::policy::network::rule::{PATHS_MAX, RULES_MAX, SHAPES_MAX, default_ports};
use crate::policy::network::{Allow, Denied, Rule, Transport, Union};

/// Keys of a rule that allows, with what each is.
pub const RULE_KEYS: [(&str, &str); 8] = [
    ("host", "A name, or `*.example.org` for every name below it; in a ceiling also `*`."),
    ("ports", "Ports; without it 443."),
    ("methods", "Methods of requests; with it requests are read."),
    ("paths", "Paths, each with all beneath it, `*` for one segment; with it requests are read."),
    ("credential", "A credential of the operator's that is added; with it requests are read."),
    ("upgrade", "Whether requests may become another protocol, as WebSocket; with it requests are read."),
    ("opaque", "Whether any bytes pass, not only TLS."),
    ("private", "Whether the name may lead to a private address."),
];
/// Keys of a rule that denies.
pub const DENY_KEYS: [(&str, &str); 2] = [
    ("host", "A name, `*.example.org` for every name below it, or `*`."),
    ("ports", "Ports; without it every port."),
];

/// `network.allow`.
pub fn read_allow(kind: Kind, value: &Spanned<DeValue<'_>>) -> Result<Allow, Vec<Slip>> {
    let (mut rules, mut slips) = (Vec::new(), Vec::new());
    for entry in entries(Field::NetworkAllow, value)?.iter() {
        match read_rule(kind, entry) {
            Ok(rule) => rules.push((rule, entry.span().start)),
            Err(found) => slips.extend(found),
        }
    }
    let shapes: usize = rules.iter().map(|(it, _)| it.shapes()).sum();
    if shapes > SHAPES_MAX {
        // More would take too long to compare with each other.
        let message = format!(
            "`network.allow` comes to {shapes} combinations of ports, methods and paths, and may come to {SHAPES_MAX}: \
             leave methods or paths out, or write shorter paths"
        );
        slips.push(Slip::said(value.span().start, message));
    } else {
        for (index, (rule, at)) in rules.iter().enumerate() {
            slips.extend(rules[..index].iter().find_map(|(other, before)| clash(rule, *at, other, *before)));
        }
    }
    if !slips.is_empty() {
        return Err(slips);
    }
    let rules: Vec<Rule> = rules.into_iter().map(|(rule, _)| rule).collect();
    Ok(Allow::of(&rules))
}

/// `network.deny`.
pub fn read_deny(value: &Spanned<DeValue<'_>>) -> Result<Union<Denied>, Vec<Slip>> {
    let (mut denied, mut slips) = (Vec::new(), Vec::new());
    for entry in entries(Field::NetworkDeny, value)?.iter() {
        let mut reader = Entry::new(Field::NetworkDeny, Kind::Policy, entry, &DENY_KEYS)?;
        let host = reader.host(Standing::Deny);
        let ports = reader.ports().unwrap_or_else(|| vec![PortPattern::Any]);
        slips.append(&mut reader.slips);
        if let Some(host) = host {
            denied.extend(ports.into_iter().map(|port| Denied { host: host.clone(), port }));
        }
    }
    if denied.len() > SHAPES_MAX {
        let message =
            format!("`network.deny` has {} pairs of host and port, and may have {SHAPES_MAX}", denied.len());
        slips.push(Slip::said(value.span().start, message));
    }
    if slips.is_empty() { Ok(Union::of(denied)) } else { Err(slips) }
}

/// `network.ports`.
pub fn read_ports(value: &Spanned<DeValue<'_>>) -> Result<BTreeSet<u16>, Vec<Slip>> {
    let path = Field::EgressPorts.key().path;
    let ports = ports(path, Kind::Policy, value)?;
    Ok(ports.into_iter().filter_map(PortPattern::one).collect())
}

/// `network.publish`.
pub fn read_publish(kind: Kind, value: &Spanned<DeValue<'_>>) -> Result<Union<PortPattern>, Vec<Slip>> {
    Ok(Union::of(ports(Field::Publish.key().path, kind, value)?))
}

fn read_rule(kind: Kind, entry: &Spanned<DeValue<'_>>) -> Result<Rule, Vec<Slip>> {
    let standing = match kind {
        Kind::Ceiling => Standing::Ceiling,
        Kind::Policy | Kind::Request => Standing::Policy,
    };
    let mut reader = Entry::new(Field::NetworkAllow, kind, entry, &RULE_KEYS)?;
    let host = reader.host(standing);
    let ports = reader.ports().unwrap_or_else(default_ports);
    let methods = reader.words("methods", method).unwrap_or_default();
    let paths = reader.words("paths", path).unwrap_or_default();
    if paths.len() > PATHS_MAX {
        let message = format!("`paths` has {} entries, and may have {PATHS_MAX}", paths.len());
        reader.slip("paths", message);
    }
    let credential = reader.credential();
    let [upgrade, opaque, private] = ["upgrade", "opaque", "private"].map(|it| reader.truth(it));
    // A ceiling says which credentials may be added, not that one is.
    let reading: Vec<&str> = ["methods", "paths", "upgrade", "credential"]
        .into_iter()
        .filter(|it| reader.says(it) && (*it != "upgrade" || upgrade))
        .filter(|it| *it != "credential" || kind != Kind::Ceiling)
        .collect();
    if let (true, Some(key)) = (opaque, reading.first()) {
        let message =
            format!("`opaque` lets any bytes pass unread, and `{key}` has requests read: leave one out");
        reader.slip("opaque", message);
    }
    if credential.is_some() && ports.contains(&PortPattern::One(HTTP)) {
        reader.slip("credential", "a credential goes over TLS only, and port 80 is plain".to_owned());
    }
    let transport = match (opaque, reading.is_empty()) {
        (true, _) => Transport::Opaque,
        (false, true) => Transport::PassThrough,
        (false, false) => Transport::Inspected,
    };
    match host {
        Some(host) if reader.slips.is_empty() => {
            Ok(Rule { host, ports, transport, methods, paths, upgrade, private, credential })
        }
        Some(_) | None => Err(reader.slips),
    }
}

/// Two rules of one document that cannot both be meant; the later one is told, and names the line of the other.
fn clash(rule: &Rule, at: usize, other: &Rule, before: usize) -> Option<Slip> {
    let message = if rule == other {
        format!("the rule for `{}` is there already", rule.host)
    } else if let Some(port) = rule.contradicts(other) {
        format!(
            "`{}:{port}` is {} by this rule and {} by another for `{}`: one of them must not mean it",
            rule.host,
            rule.transport.word(),
            other.transport.word(),
            other.host
        )
    } else if rule.adds_another(other) {
        format!(
            "this rule for `{}` adds one credential and another rule adds another to the same requests",
            rule.host
        )
    } else {
        return None;
    };
    Some(Slip { at, what: What::Clash { message, other: before } })
}

fn entries<'a>(field: Field, value: &'a Spanned<DeValue<'a>>) -> Result<&'a DeArray<'a>, Vec<Slip>> {
    let path = field.key().path;
    let message = match value.get_ref() {
        DeValue::Array(array) if array.len() <= RULES_MAX => return Ok(array),
        DeValue::Array(array) => {
            format!("`{path}` has {} rules, and may have {RULES_MAX}", array.len())
        }
        DeValue::String(host) => {
            format!(
                "`{path}` is a string, and must be a list of rules: write [{{ host = \"{}\" }}]",
                shown(host)
            )
        }
        DeValue::Table(_) => format!("`{path}` is one table, and must be a list of them: write [[{path}]]"),
        other => format!("`{path}` is {}, and must be a list of rules: write [[{path}]]", kind(other)),
    };
    Err(vec![Slip::said(value.span().start, message)])
}

#[cfg(test)]
mod tests;
