//! The keys of `[network]` that are more than a word: rules that allow, rules that deny, and lists of ports.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::intake::shown;
use crate::policy::document::Kind;
use crate::policy::document::mistake::{Slip, What};
use crate::policy::document::nearest;
use crate::policy::document::value::{kind, read_text};
use crate::policy::field::Field;
use crate::policy::network::host::{HostPattern, Standing};
use crate::policy::network::method::Method;
use crate::policy::network::path::PathPattern;
use crate::policy::network::port::{HTTP, PortPattern};
use crate::policy::network::reach::CredentialPattern;
use crate::policy::network::rule::{
    PATHS_MAX, PORTS_MAX, RULES_MAX, SHAPES_MAX, default_ports, is_credential_name,
};
use crate::policy::network::{Allow, Denied, Rule, Transport, Union};

/// What stands for any, where it may stand.
const ANY: &str = "*";

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
    let mut rules: Vec<(Rule, usize)> = Vec::new();
    let (mut slips, mut shapes) = (Vec::new(), 0);
    for entry in entries(Field::NetworkAllow, value)?.iter() {
        let at = entry.span().start;
        match read_rule(kind, entry) {
            Ok(rule) => {
                shapes += rule.shapes();
                slips.extend(rules.iter().find_map(|(other, before)| clash(&rule, at, other, *before)));
                rules.push((rule, at));
            }
            Err(found) => slips.extend(found),
        }
    }
    if shapes > SHAPES_MAX {
        let message = format!(
            "`network.allow` comes to {shapes} combinations of ports, methods and paths, and may come to {SHAPES_MAX}: \
             leave methods or paths out, or write shorter paths"
        );
        slips.push(Slip::said(value.span().start, message));
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

/// One rule as it is read.
struct Entry<'a> {
    path: &'static str,
    kind: Kind,
    at: usize,
    table: &'a DeTable<'a>,
    slips: Vec<Slip>,
}

impl<'a> Entry<'a> {
    /// The table of a rule, whose keys are all known.
    fn new(
        field: Field,
        kind: Kind,
        entry: &'a Spanned<DeValue<'a>>,
        keys: &[(&'static str, &str)],
    ) -> Result<Self, Vec<Slip>> {
        let (path, at) = (field.key().path, entry.span().start);
        let table = match entry.get_ref() {
            DeValue::Table(table) => table,
            DeValue::String(host) => {
                let host = shown(host);
                let message = format!(
                    "an entry of `{path}` is a string, and must be a rule: write {{ host = \"{host}\" }}"
                );
                return Err(vec![Slip::said(at, message)]);
            }
            other => {
                let is = super::value::kind(other);
                return Err(vec![Slip::said(
                    at,
                    format!("an entry of `{path}` is {is}, and must be a rule"),
                )]);
            }
        };
        let known: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
        let mut slips = Vec::new();
        for (key, _) in table {
            if !known.contains(&&**key.get_ref()) {
                let meant = match nearest::word(key.get_ref(), &known) {
                    Some(nearest) => format!("the nearest is `{nearest}`"),
                    None => format!("the keys here are `{}`", known.join("`, `")),
                };
                let message = format!("unknown key `{}` of `{path}`; {meant}", shown(key.get_ref()));
                slips.push(Slip::said(key.span().start, message));
            }
        }
        Ok(Self { path, kind, at, table, slips })
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    fn says(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn slip(&mut self, key: &str, message: String) {
        let at = self.get(key).map_or(self.at, |it| it.span().start);
        self.slips.push(Slip::said(at, format!("`{}`: {message}", self.path)));
    }

    fn host(&mut self, standing: Standing) -> Option<HostPattern> {
        let Some(value) = self.get("host") else {
            self.slip("host", "a rule has no `host`".to_owned());
            return None;
        };
        match read_text("host", value) {
            Ok(text) => match HostPattern::parse(text, standing) {
                Ok(host) => return Some(host),
                Err(err) => self.slip("host", err.to_string()),
            },
            Err(slip) => self.slips.push(slip),
        }
        None
    }

    fn ports(&mut self) -> Option<Vec<PortPattern>> {
        match ports("ports", self.kind, self.get("ports")?) {
            Ok(ports) if !ports.is_empty() => Some(ports),
            Ok(_) => {
                self.slip("ports", "`ports` is empty: name one, or leave the key out".to_owned());
                None
            }
            Err(slips) => {
                self.slips.extend(slips);
                None
            }
        }
    }

    /// A list of words, each read by itself.
    fn words<T: PartialEq>(&mut self, key: &str, read: fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let value = self.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            self.slip(key, format!("`{key}` is {}, and must be a list of texts", kind(value.get_ref())));
            return None;
        };
        if array.is_empty() {
            self.slip(key, format!("`{key}` is empty: name one, or leave the key out for any"));
        }
        let mut found = Vec::new();
        for entry in array.iter() {
            let said = match read_text(key, entry).map(read) {
                Ok(Ok(word)) if found.contains(&word) => Err(format!("`{key}` has an entry twice")),
                Ok(word) => word,
                Err(slip) => {
                    self.slips.push(slip);
                    continue;
                }
            };
            match said {
                Ok(word) => found.push(word),
                Err(message) => {
                    self.slips.push(Slip::said(entry.span().start, format!("`{}`: {message}", self.path)));
                }
            }
        }
        Some(found)
    }

    fn credential(&mut self) -> Option<CredentialPattern> {
        let name = match read_text("credential", self.get("credential")?) {
            Ok(name) => name,
            Err(slip) => {
                self.slips.push(slip);
                return None;
            }
        };
        if name == ANY && self.kind == Kind::Ceiling {
            return Some(CredentialPattern::Any);
        }
        if is_credential_name(name) {
            return Some(CredentialPattern::Named(name.to_owned()));
        }
        let message = format!(
            "`{}` is no name of a credential: it has letters, digits, `.`, `_` and `-`, at most 64",
            shown(name)
        );
        self.slip("credential", message);
        None
    }

    fn truth(&mut self, key: &str) -> bool {
        match self.get(key).map(Spanned::get_ref) {
            None => false,
            Some(DeValue::Boolean(value)) => *value,
            Some(other) => {
                self.slip(key, format!("`{key}` is {}, and must be true or false", kind(other)));
                false
            }
        }
    }
}

fn ports(path: &str, document: Kind, value: &Spanned<DeValue<'_>>) -> Result<Vec<PortPattern>, Vec<Slip>> {
    let one = |message: String| Err(vec![Slip::said(value.span().start, format!("`{path}` {message}"))]);
    let array = match value.get_ref() {
        DeValue::Array(array) if array.len() <= PORTS_MAX => array,
        DeValue::Array(array) => {
            return one(format!("has {} entries, and may have {PORTS_MAX}", array.len()));
        }
        DeValue::String(text) if text == ANY && document == Kind::Ceiling => {
            return Ok(vec![PortPattern::Any]);
        }
        other => return one(format!("is {}, and must be a list of ports, such as [443]", kind(other))),
    };
    let (mut ports, mut slips) = (Vec::new(), Vec::new());
    for entry in array.iter() {
        let read = match entry.get_ref() {
            DeValue::Integer(it) => match u16::from_str_radix(it.as_str(), it.radix()) {
                Ok(port @ 1..) => Ok(PortPattern::One(port)),
                Ok(0) | Err(_) => Err(format!("has {}, and a port is 1 to 65535", shown(&it.to_string()))),
            },
            other => Err(format!("has {} as an entry, and a port is a number", kind(other))),
        };
        match read {
            Ok(port) if ports.contains(&port) => {
                slips.push(Slip::said(entry.span().start, format!("`{path}` has {port} twice")));
            }
            Ok(port) => ports.push(port),
            Err(message) => slips.push(Slip::said(entry.span().start, format!("`{path}` {message}"))),
        }
    }
    if slips.is_empty() { Ok(ports) } else { Err(slips) }
}

fn method(word: &str) -> Result<Method, String> {
    Method::of_word(word).ok_or_else(|| {
        let known = Method::ALL.map(Method::word);
        let meant = match nearest::word(&word.to_ascii_uppercase(), &known) {
            Some(nearest) => format!("; did you mean \"{nearest}\"?"),
            None => String::new(),
        };
        format!("`{}` is no method that a rule can name: {}{meant}", shown(word), known.join(", "))
    })
}

fn path(text: &str) -> Result<PathPattern, String> {
    PathPattern::parse(text).map_err(|err| format!("`{}` is no path of a rule: {err}", shown(text)))
}

#[cfg(test)]
mod tests;
