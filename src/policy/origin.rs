//! Where the value of a field came from, and what was lowered on the way.

use std::fmt;

use crate::intake::shown;
use crate::policy::ceiling::Ceiling;
use crate::policy::field::Field;
use crate::policy::shipped::{Chosen, Source};

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
    /// A shipped policy that a project's file names.
    Requested {
        /// Its name.
        policy: &'static str,
        /// The file.
        file: String,
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

impl Origin {
    /// Whether somebody asked for this very value.
    pub(crate) fn is_explicit(&self) -> bool {
        match self {
            Self::File { .. } | Self::Flag(_) => true,
            Self::Default { .. }
            | Self::Policy { .. }
            | Self::Requested { .. }
            | Self::Ceiling { .. }
            | Self::Host => false,
        }
    }
}

impl Chosen {
    /// Where it has the value of a field from.
    pub(crate) fn origin(&self, field: Field) -> Origin {
        match &self.source {
            Source::Default => Origin::Default { policy: self.base },
            Source::Shipped => Origin::Policy { policy: self.base },
            Source::File(document) => match document.settings.get(&field) {
                Some((_, place)) => Origin::File { file: document.file.clone(), line: place.line },
                None => Origin::Policy { policy: self.base },
            },
            Source::Project(document) => match (document.settings.get(&field), &document.extends) {
                (Some((_, place)), _) => Origin::File { file: document.file.clone(), line: place.line },
                (None, Some(_)) => Origin::Requested { policy: self.base, file: document.file.clone() },
                (None, None) => Origin::Default { policy: self.base },
            },
        }
    }
}

impl Ceiling {
    /// As an origin.
    pub(crate) fn origin(&self) -> Origin {
        Origin::Ceiling { file: self.file.as_ref().map(|(file, _)| file.clone()) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default { policy } => write!(out, "default ({policy})"),
            Self::Policy { policy } => write!(out, "policy `{policy}`"),
            Self::File { file, line } => write!(out, "{}:{line}", shown(file)),
            Self::Requested { policy, file } => write!(out, "policy `{policy}` by {}", shown(file)),
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
