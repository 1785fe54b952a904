//! From a ledger to rules: the least policy under which a run's traffic would have passed, and the smallest rule for each
//! thing that was refused. Pure.
//!
//! The entries were written about a hostile task: a name or a path that is none makes no rule. A rule is never wider than
//! what was seen: exact names, the ports that were reached, the methods and paths that were sent where requests were read.

use std::collections::{BTreeMap, BTreeSet};

use core::net::IpAddr;

use crate::policy::network::host::HostPattern;
use crate::policy::network::method::Method;
use crate::policy::network::path::{Path, PathPattern};
use crate::policy::network::port::{HTTPS, PortPattern};
use crate::policy::network::reach::CredentialPattern;
use crate::policy::network::rule::{PATHS_MAX, RULES_MAX, is_credential_name};
use crate::policy::network::{Allow, Name, Rule, Transport};
use crate::policy::shipped;
use crate::record::egress::{Entry, Failure, Reason, Verdict};
use crate::report::summary::{cut, shown};

/// Denials that are listed.
pub const DENIALS_MAX: usize = 20;
/// Characters of a request in a line.
const REQUEST_CHARS_MAX: usize = 80;

/// Rules that come of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// What they allow.
    pub allow: Allow,
    /// What a reader should know before they are used; each line stands alone.
    pub remarks: Vec<String>,
}

/// Something that was refused, every time that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The host, with the port where it is known.
    pub host: String,
    /// The request, where it was one: method and path.
    pub request: Option<String>,
    /// Why.
    pub reason: &'static str,
    /// How often.
    pub count: u64,
    /// The smallest rule that lets it pass, as an entry of `network.allow`; `None` where no rule should.
    pub rule: Option<String>,
}

/// What was seen of one host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    opaque: bool,
    private: bool,
    /// Method, path, upgrade and credential of each request that was read.
    requests: BTreeSet<(Option<Method>, PathPattern, bool, Option<String>)>,
}

/// The least rules under which these entries would have passed.
pub fn suggest(entries: &[Entry]) -> Suggestion {
    let (mut seen, mut remarks): (BTreeMap<(Name, u16), Seen>, BTreeSet<String>) = Default::default();
    let mut names_only = BTreeSet::new();
    for entry in entries {
        let Ok(name) = Name::parse(&entry.name) else {
            remarks.insert("a name that is no host's was asked for: no rule can name it".to_owned());
            continue;
        };
        if let Err(remark) = passable(entry.verdict) {
            remarks.extend(remark.map(|it| format!("{}: {it}", place(&name, entry.port))));
            continue;
        }
        match entry.port {
            Some(port) => note(seen.entry((name, port)).or_insert(Seen::NOTHING), entry, &mut remarks),
            None => drop(names_only.insert(name)),
        }
    }
    for name in names_only {
        if !seen.keys().any(|(known, _)| *known == name) {
            remarks.insert(format!("{name}: it was refused before a port was reached, and 443 is a guess"));
            seen.insert((name, HTTPS), Seen::NOTHING);
        }
    }
    if seen.len() > RULES_MAX {
        remarks
            .insert(format!("{} more hosts were asked for than a policy has rules", seen.len() - RULES_MAX));
    }
    let mut rules = Vec::new();
    for ((name, port), seen) in seen.iter().take(RULES_MAX) {
        let (some, left_out) = one_credential_each(seen.rules(name, *port));
        rules.extend(some);
        remarks.extend(left_out.into_iter().map(|credential| {
            format!(
                "{name}: its rules cannot tell which requests get the credential `{credential}` and which another, so that \
                 they do not name it"
            )
        }));
    }
    Suggestion { allow: Allow::of(&rules), remarks: remarks.into_iter().collect() }
}

/// The suggestion as a policy file; `policy` is the name of the one that the run had.
pub fn policy_file(suggestion: &Suggestion, policy: &str) -> String {
    let mut text = String::new();
    for remark in &suggestion.remarks {
        text.push_str(&format!("# {remark}\n"));
    }
    if shipped::NAMES.contains(&policy) {
        text.push_str(&format!("extends = \"{policy}\"\n\n"));
    }
    if suggestion.allow.is_empty() {
        text.push_str("# Nothing was asked for that a rule could allow.\n[network]\negress = \"none\"\n");
        return text;
    }
    text.push_str("[network]\negress = \"rules\"\nallow = [\n");
    for entry in suggestion.allow.entries() {
        text.push_str(&format!("    {entry},\n"));
    }
    text.push_str("]\n");
    text
}

/// What was refused, in the order in which it was first.
pub fn denials(entries: &[Entry]) -> Vec<Denied> {
    let mut found: Vec<(Denied, Verdict)> = Vec::new();
    for entry in entries {
        let Verdict::Denied(_) = entry.verdict else { continue };
        let (Some(reason), Ok(name)) = (entry.verdict.told(), Name::parse(&entry.name)) else { continue };
        let host = place(&name, entry.port);
        let request = entry.request.as_ref().map(|it| format!("{} {}", it.method, it.path));
        let known = found
            .iter_mut()
            .find(|(it, verdict)| *verdict == entry.verdict && it.host == host && it.request == request);
        match known {
            Some((denied, _)) => denied.count += 1,
            None => {
                let allow = suggest(std::slice::from_ref(entry)).allow;
                let rule = allow.entries().into_iter().next();
                found.push((Denied { host, request, reason, count: 1, rule }, entry.verdict));
            }
        }
        if found.len() > DENIALS_MAX {
            break;
        }
    }
    found.into_iter().map(|(it, _)| it).collect()
}

/// The denials for a person: each with the entry of `network.allow` that lets it pass.
pub fn lines(denials: &[Denied]) -> Vec<String> {
    let mut lines = Vec::new();
    for denied in denials.iter().take(DENIALS_MAX) {
        let what = match &denied.request {
            Some(request) => format!("{} {}", denied.host, cut(&shown(request), REQUEST_CHARS_MAX)),
            None => denied.host.clone(),
        };
        let times = if denied.count == 1 { String::new() } else { format!(" {} times", denied.count) };
        lines.push(format!("refused{times}: {what}: {}", denied.reason));
        lines.extend(denied.rule.as_ref().map(|it| format!("hint: `network.allow` lets it pass with {it}")));
    }
    if denials.len() > DENIALS_MAX {
        lines.push("more was refused: `aegis egress` lists it".to_owned());
    }
    lines
}

impl Seen {
    const NOTHING: Self = Self { opaque: false, private: false, requests: BTreeSet::new() };

    fn rules(&self, name: &Name, port: u16) -> Vec<Rule> {
        let host = HostPattern::Exact(name.clone());
        let plain = Rule { private: self.private, ..Rule::pass_through(host, port) };
        if self.opaque {
            return vec![Rule { transport: Transport::Opaque, ..plain }];
        }
        if self.requests.is_empty() {
            return vec![plain];
        }
        let whole = self.shortened();
        whole
            .into_iter()
            .map(|(method, path, upgrade, credential)| Rule {
                transport: Transport::Inspected,
                ports: vec![PortPattern::One(port)],
                methods: method.into_iter().collect(),
                paths: vec![path],
                upgrade,
                credential: credential.map(CredentialPattern::Named),
                ..plain.clone()
            })
            .collect()
    }

    /// The requests; where their paths are more than a rule has, only the first segments of each.
    fn shortened(&self) -> BTreeSet<(Option<Method>, PathPattern, bool, Option<String>)> {
        let paths = |requests: &BTreeSet<(Option<Method>, PathPattern, bool, Option<String>)>| {
            requests.iter().map(|(_, path, _, _)| path.clone()).collect::<BTreeSet<_>>().len()
        };
        let mut requests = self.requests.clone();
        let mut depth = requests.iter().map(|(_, path, _, _)| path.depth()).max().unwrap_or(0);
        while paths(&requests) > PATHS_MAX && depth > 0 {
            depth -= 1;
            requests = requests
                .into_iter()
                .map(|(method, path, upgrade, credential)| (method, path.cut(depth), upgrade, credential))
                .collect();
        }
        requests
    }
}

/// Rules of which no two add different credentials to the same requests, as no policy may have such, and the credentials
/// that were left out for it. Paths that were cut may lead there.
fn one_credential_each(rules: Vec<Rule>) -> (Vec<Rule>, BTreeSet<String>) {
    let (mut kept, mut left_out): (Vec<Rule>, BTreeSet<String>) = Default::default();
    for mut rule in rules {
        if kept.iter().any(|it| rule.adds_another(it))
            && let Some(CredentialPattern::Named(name)) = rule.credential.take()
        {
            left_out.insert(name);
        }
        kept.push(rule);
    }
    (kept, left_out)
}

/// Takes down what an entry shows.
fn note(seen: &mut Seen, entry: &Entry, remarks: &mut BTreeSet<String>) {
    let was_opaque = entry.rule.as_deref().is_some_and(|it| it.ends_with(" opaque"));
    seen.opaque |= was_opaque || entry.verdict == Verdict::Denied(Reason::NotTls);
    seen.private |=
        entry.verdict == Verdict::Denied(Reason::PrivateAddress) || entry.address.is_some_and(is_private);
    let Some(request) = &entry.request else { return };
    let Ok(path) = Path::parse(&request.path) else { return };
    let method = Method::of_word(&request.method);
    if method.is_none() {
        remarks.insert(format!(
            "{}: a method was sent that rules do not name, so that the rule for it names none",
            entry.name
        ));
    }
    let credential = request.credential.clone().filter(|it| is_credential_name(it));
    seen.requests.insert((method, path.pattern(), request.status == Some(101), credential));
}

/// Whether a rule should let pass what had this verdict; with the reason where it should not and a reader would wonder.
fn passable(verdict: Verdict) -> Result<(), Option<&'static str>> {
    match verdict {
        Verdict::Allowed => Ok(()),
        Verdict::Denied(Reason::Name | Reason::PrivateAddress | Reason::NotTls | Reason::Request) => Ok(()),
        Verdict::Denied(
            Reason::ServerNameAbsent
            | Reason::ServerNameDiffers
            | Reason::ServerNameHidden
            | Reason::Greeting,
        ) => Err(Some("its TLS does not say that it is for this name; only `opaque = true` passes that")),
        Verdict::Denied(Reason::Malformed | Reason::HostDiffers) => {
            Err(Some("a request was refused that no rule allows"))
        }
        Verdict::Denied(Reason::Credential) => {
            Err(Some("the task sent a credential of the operator's, which no rule allows"))
        }
        Verdict::Denied(Reason::Bound) => Err(Some("a bound was met, which is no matter of rules")),
        Verdict::Failed(Failure::Resolution) => Err(None),
        Verdict::Failed(
            Failure::Connection
            | Failure::Certificate
            | Failure::Timeout
            | Failure::Broken
            | Failure::Gateway,
        ) => Ok(()),
    }
}

fn place(name: &Name, port: Option<u16>) -> String {
    port.map_or_else(|| name.to_string(), |port| format!("{name}:{port}"))
}

/// Addresses that a rule has to say `private` for, as far as one can have been reached.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(it) => {
            let [first, second, ..] = it.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            it.is_private() || it.is_loopback() || it.is_link_local() || is_shared
        }
        IpAddr::V6(it) => it.is_loopback() || it.is_unique_local() || it.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
