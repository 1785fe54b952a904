//! The table of one rule: its keys, each value read and every mistake kept with its place.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::intake::shown;
use crate::policy::document::Kind;
use crate::policy::document::mistake::Slip;
use crate::policy::document::nearest;
use crate::policy::document::value::{kind, read_text};
use crate::policy::field::Field;
use crate::policy::network::host::{HostPattern, Standing};
use crate::policy::network::method::Method;
use crate::policy::network::path::PathPattern;
use crate::policy::network::port::PortPattern;
use crate::policy::network::reach::CredentialPattern;
use crate::policy::network::rule::{PORTS_MAX, is_credential_name};

/// What stands for any, where it may stand.
const ANY: &str = "*";

/// One rule as it is read.
pub(super) struct Entry<'a> {
    path: &'static str,
    kind: Kind,
    at: usize,
    table: &'a DeTable<'a>,
    pub(super) slips: Vec<Slip>,
}

impl<'a> Entry<'a> {
    /// The table of a rule, whose keys are all known.
    pub(super) fn new(
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
                let is = self::kind(other);
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

    pub(super) fn says(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn slip(&mut self, key: &str, message: String) {
        let at = self.get(key).map_or(self.at, |it| it.span().start);
        self.slips.push(Slip::said(at, format!("`{}`: {message}", self.path)));
    }

    pub(super) fn host(&mut self, standing: Standing) -> Option<HostPattern> {
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

    pub(super) fn ports(&mut self) -> Option<Vec<PortPattern>> {
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
    pub(super) fn words<T: PartialEq>(
        &mut self,
        key: &str,
        read: fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
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

    pub(super) fn credential(&mut self) -> Option<CredentialPattern> {
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

    pub(super) fn truth(&mut self, key: &str) -> bool {
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

pub(super) fn ports(
    path: &str,
    document: Kind,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<PortPattern>, Vec<Slip>> {
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

pub(super) fn method(word: &str) -> Result<Method, String> {
    Method::of_word(word).ok_or_else(|| {
        let known = Method::ALL.map(Method::word);
        let meant = match nearest::word(&word.to_ascii_uppercase(), &known) {
            Some(nearest) => format!("; did you mean \"{nearest}\"?"),
            None => String::new(),
        };
        format!("`{}` is no method that a rule can name: {}{meant}", shown(word), known.join(", "))
    })
}

pub(super) fn path(text: &str) -> Result<PathPattern, String> {
    PathPattern::parse(text).map_err(|err| format!("`{}` is no path of a rule: {err}", shown(text)))
}
