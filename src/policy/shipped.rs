//! The policies inside the binary, and what a name after `--sandbox` stands for. A shipped name is always the shipped
//! policy: a file is named by a path with a `/` in it or by `.toml` at its end, so that no file can stand in for one.

use crate::intake::shown;
use crate::policy::Policy;
use crate::policy::document::{self, Document, DocumentError, Kind};
use crate::policy::lattice::bottom;

/// Every shipped policy, strictest first.
pub const NAMES: [&str; 1] = ["strict"];
/// The policy of a task that names none.
pub const DEFAULT: &str = "strict";

/// What somebody chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// One of [`NAMES`].
    Shipped(&'static str),
    /// A file, to be read and given to [`Chosen::from_file`].
    File(String),
}

/// Where a chosen policy comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// No policy was named.
    Default,
    /// A shipped one, by name.
    Shipped,
    /// A file, which extends a shipped policy.
    File(Document),
}

/// A policy as it was chosen, before flags and ceiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The shipped name it is or extends.
    pub base: &'static str,
    /// What it says.
    pub policy: Policy,
    /// Where it comes from.
    pub source: Source,
}

/// A policy that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// No policy has this name.
    #[error("there is no policy {0}", unknown(.name))]
    Unknown {
        /// What was given.
        name: String,
    },
    /// The file has mistakes.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// What a text after `--sandbox` names.
pub fn select(text: &str) -> Result<Selection, ChoiceError> {
    if text.contains('/') || text.ends_with(".toml") {
        return Ok(Selection::File(text.to_owned()));
    }
    match NAMES.into_iter().find(|it| *it == text) {
        Some(name) => Ok(Selection::Shipped(name)),
        None => Err(ChoiceError::Unknown { name: text.to_owned() }),
    }
}

/// The policy of a task that names none.
pub fn default_policy() -> Result<Chosen, ChoiceError> {
    let chosen = shipped(DEFAULT)?;
    Ok(Chosen { source: Source::Default, ..chosen })
}

/// A shipped policy by its name.
pub fn shipped(name: &str) -> Result<Chosen, ChoiceError> {
    let (base, text) = match name {
        "strict" => ("strict", include_str!("../../policies/strict.toml")),
        _ => return Err(ChoiceError::Unknown { name: name.to_owned() }),
    };
    // A shipped file writes every key, which a test holds; what it should forget is granted to nobody.
    let document = document::parse(&format!("policies/{base}.toml"), text.as_bytes(), Kind::Policy)?;
    Ok(Chosen { base, policy: document.over(&bottom())?, source: Source::Shipped })
}

/// The rest of a sentence about a name that no shipped policy has.
pub(crate) fn unknown(name: &str) -> String {
    let meant = match document::nearest_word(name, &NAMES) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => String::new(),
    };
    format!(
        "`{}`{meant} (there is `{}`; a file is named by a path with `/` or `.toml`)",
        shown(name),
        NAMES.join("`, `")
    )
}

impl Chosen {
    /// The policy of a file: `file` is its name as it is shown.
    pub fn from_file(file: &str, bytes: &[u8]) -> Result<Self, ChoiceError> {
        let document = document::parse(file, bytes, Kind::Policy)?;
        let base = shipped(document.extends.as_deref().unwrap_or(DEFAULT))?;
        Ok(Self { base: base.base, policy: document.over(&base.policy)?, source: Source::File(document) })
    }

    /// The name it is recorded under: the shipped name, or the file's.
    pub fn name(&self) -> &str {
        match &self.source {
            Source::Default | Source::Shipped => self.base,
            Source::File(document) => &document.file,
        }
    }
}
