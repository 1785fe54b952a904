//! A policy file: bytes and a name in, the settings that it writes out, or every mistake with its place.
//!
//! A file extends a shipped policy (`strict` unless it says otherwise) and writes what differs. Keys, ranges and words
//! come from the one table in `field`; there is no key that is accepted and ignored. A ceiling is written with the same
//! keys and extends nothing.

pub mod egress;
pub mod guard;
pub mod mistake;
mod nearest;
pub mod project;
pub mod schema;
mod value;

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::intake::shown;
use crate::policy::amount::Amount;
use crate::policy::field::{Field, Setting};
use crate::policy::{Policy, WorkspaceMedium, shipped};

pub use guard::DOCUMENT_BYTES_MAX;
pub use mistake::{DocumentError, Mistake, Place};
use mistake::{Slip, What};
pub use nearest::word as nearest_word;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A policy, which extends a shipped one.
    Policy,
    /// A ceiling, which extends none.
    Ceiling,
    /// The `[policy]` of a project's file, which says `sandbox` where a policy says `extends`.
    Request,
}

impl Kind {
    /// The key that names a shipped policy.
    fn base_key(self) -> &'static str {
        match self {
            Self::Policy | Self::Ceiling => "extends",
            Self::Request => "sandbox",
        }
    }
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The file's name as it is shown.
    pub file: String,
    /// The shipped policy it extends; `None` where it names none.
    pub extends: Option<String>,
    /// The fields it writes, each with its place.
    pub settings: BTreeMap<Field, (Setting, Place)>,
}

/// Reads a file.
pub fn parse(file: &str, bytes: &[u8], kind: Kind) -> Result<Document, DocumentError> {
    let text = guard::text(file, bytes)?;
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let slips = errors.iter().map(|err| syntax_slip(text, err)).collect();
        return Err(DocumentError::new(file, text, slips));
    }
    let Reader { extends, settings, slips, .. } = Reader::read(kind, table.get_ref());
    if !slips.is_empty() {
        return Err(DocumentError::new(file, text, slips));
    }
    if extends.is_none() && settings.is_empty() {
        return Err(DocumentError::whole(
            file,
            "sets nothing: write `extends = \"strict\"` for strict as it is",
        ));
    }
    Ok(Document { file: file.to_owned(), extends, settings: placed(text, settings) })
}

fn placed(text: &str, settings: BTreeMap<Field, (Setting, usize)>) -> BTreeMap<Field, (Setting, Place)> {
    settings.into_iter().map(|(field, (setting, at))| (field, (setting, Place::of(text, at)))).collect()
}

impl Document {
    /// The policy that comes of writing this file over another.
    pub fn over(&self, base: &Policy) -> Result<Policy, DocumentError> {
        let mut policy = base.clone();
        for (setting, _) in self.settings.values() {
            setting.apply(&mut policy);
        }
        self.reached(&policy)?;
        let (soft, hard) = (policy.resources.nofile_soft, policy.resources.nofile_hard);
        if soft <= hard {
            return Ok(policy);
        }
        let written =
            [Amount::NofileHard, Amount::NofileSoft].map(|it| self.settings.get(&Field::Amount(it)));
        let place = written.into_iter().flatten().map(|(_, place)| *place).next();
        let message = format!(
            "`resources.nofile_soft` ({soft}) is above `resources.nofile_hard` ({hard}), one of them inherited: write both"
        );
        Err(DocumentError { file: self.file.clone(), mistakes: vec![Mistake { place, message }], more: 0 })
    }
}

impl Document {
    /// Refuses rules that would say nothing, since nothing is reached.
    fn reached(&self, policy: &Policy) -> Result<(), DocumentError> {
        if policy.network.has_egress() {
            return Ok(());
        }
        let says = |field: &Field| match self.settings.get(field)? {
            (Setting::NetworkAllow(allow), place) => (!allow.is_empty()).then_some(*place),
            (Setting::EgressAudit(audit), place) => audit.then_some(*place),
            (_, _) => None,
        };
        for field in [Field::NetworkAllow, Field::EgressAudit] {
            if let Some(place) = says(&field) {
                let path = field.key().path;
                let message = format!(
                    "`{path}` says nothing where `network.egress` is \"none\": write `egress = \"rules\"` in [network]"
                );
                let mistakes = vec![Mistake { place: Some(place), message }];
                return Err(DocumentError { file: self.file.clone(), mistakes, more: 0 });
            }
        }
        Ok(())
    }
}

struct Reader {
    kind: Kind,
    extends: Option<String>,
    settings: BTreeMap<Field, (Setting, usize)>,
    slips: Vec<Slip>,
}

impl Reader {
    /// Reads the keys of a policy from the table that holds them.
    fn read(kind: Kind, table: &DeTable<'_>) -> Self {
        let mut reader = Self { kind, extends: None, settings: BTreeMap::new(), slips: Vec::new() };
        reader.table(table, "");
        reader.contradictions();
        reader
    }

    fn table(&mut self, table: &DeTable<'_>, above: &str) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = if above.is_empty() { name.to_string() } else { format!("{above}.{name}") };
            let at = key.span().start;
            if name.contains('.') {
                // Taken for a path, it would be a second spelling of a key that the parser's duplicate check misses.
                self.slip(at, format!("`{}` is one quoted key: write a path without quotes", shown(name)));
            } else if let Some(field) = Field::of_path(&path) {
                self.field(field, value);
            } else if nearest::tables().contains(path.as_str()) {
                match value.get_ref() {
                    DeValue::Table(inner) => self.table(inner, &path),
                    other => {
                        let is = value::kind(other);
                        self.slip(at, format!("`{path}` is {is}, and must be a table: write [{path}]"));
                    }
                }
            } else if path == self.kind.base_key() {
                self.extends(at, value);
            } else {
                let what = What::UnknownKey { path, table: above.to_owned(), base: self.kind.base_key() };
                self.slips.push(Slip { at, what });
            }
        }
    }

    fn field(&mut self, field: Field, value: &Spanned<DeValue<'_>>) {
        match value::read(field, self.kind, value) {
            Ok(setting) => {
                self.settings.insert(field, (setting, value.span().start));
            }
            Err(slips) => self.slips.extend(slips),
        }
    }

    fn extends(&mut self, at: usize, value: &Spanned<DeValue<'_>>) {
        if self.kind == Kind::Ceiling {
            let message = "a ceiling extends no policy: a key that is absent has the default ceiling's value";
            return self.slip(at, message.to_owned());
        }
        let key = self.kind.base_key();
        match value::read_text(key, value) {
            Ok(name) if shipped::NAMES.contains(&name) => self.extends = Some(name.to_owned()),
            Ok(name) => self.slip(value.span().start, format!("`{key}` names {}", shipped::unknown(name))),
            Err(slip) => self.slips.push(slip),
        }
    }

    /// Settings that cannot both be meant.
    fn contradictions(&mut self) {
        let written = |amount| match self.settings.get(&Field::Amount(amount)) {
            Some((Setting::Amount(_, value), at)) => Some((*value, *at)),
            Some(_) | None => None,
        };
        let mut found = Vec::new();
        if let (Some((soft, at)), Some((hard, _))) =
            (written(Amount::NofileSoft), written(Amount::NofileHard))
            && soft > hard
        {
            let message =
                format!("`resources.nofile_soft` ({soft}) is above `resources.nofile_hard` ({hard})");
            found.push(Slip::said(at, message));
        }
        let medium = self.settings.get(&Field::Workspace).map(|(setting, _)| setting);
        let none = medium == Some(&Setting::Workspace(WorkspaceMedium::None));
        for amount in [Amount::WorkspaceSize, Amount::WorkspaceFiles] {
            if let (true, Some((_, at))) = (none, written(amount)) {
                let path = Field::Amount(amount).key().path;
                let reason = "says nothing where `filesystem.workspace` is \"none\": leave one out";
                found.push(Slip::said(at, format!("`{path}` {reason}")));
            }
        }
        self.slips.extend(found);
    }

    fn slip(&mut self, at: usize, message: String) {
        self.slips.push(Slip::said(at, message));
    }
}

fn syntax_slip(text: &str, err: &toml::de::Error) -> Slip {
    let at = err.span().map_or(text.len(), |it| it.start);
    Slip { at, what: What::NotToml(err.message().to_owned()) }
}

#[cfg(test)]
mod tests;
