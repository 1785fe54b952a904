//! Patterns of host names: one name, the names below one, or any.
//!
//! `*.example.org` is every name below it at any depth, not `example.org` itself, and ends where somebody else's names
//! begin: below a public suffix or a shared-hosting suffix (the public suffix list, its private part too) anybody can
//! have a name. Such a suffix has no wildcard, and a wildcard above one does not reach across it.

use std::fmt;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use crate::intake::shown;
use crate::policy::network::name::{NAME_BYTES_MAX, Name, NameError};
use crate::policy::network::union::Shape;

/// Bytes of a pattern that is looked at: a name of letters outside ASCII is longer than its A-labels.
const TEXT_BYTES_MAX: usize = 4 * NAME_BYTES_MAX;
/// Bytes of a wildcard's name: room for the labels below it.
const BELOW_BYTES_MAX: usize = 180;

/// Where a pattern stands, which decides what it may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A rule of a policy.
    Policy,
    /// A rule of a ceiling, which may say `*`.
    Ceiling,
    /// A rule that denies, which may be as wide as it likes.
    Deny,
}

/// A pattern of host names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// This name.
    Exact(Name),
    /// The names below this one, as far as they belong to whoever has it.
    Below(Name),
    /// Every name.
    Any,
}

/// Text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no host: {reason}")]
pub struct HostError {
    /// What was given, escaped and cut.
    pub text: String,
    /// What is wrong with it, and what to write.
    pub reason: Reason,
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each is its message")]
pub enum Reason {
    #[error("it is empty")]
    Empty,
    #[error("it is a URL or has a path: write the name alone, as `api.example.org`, and paths in `paths`")]
    Url,
    #[error("it has a port: write the name alone, and `ports = [8443]`")]
    Port,
    #[error("a `*` is all there is before the first dot: write `*.example.org`, or the names one by one")]
    InnerStar,
    #[error("`*` is any host, which only a ceiling may say: name the hosts, or write `egress = \"public\"`")]
    Any,
    #[error("as an internationalised name it has a mistake")]
    Idn,
    #[error("a wildcard has at most 180 bytes after its star")]
    LongWildcard,
    #[error("anybody can register names below `{suffix}`, a public suffix: name the hosts")]
    PublicSuffix { suffix: Name },
    #[error("anybody can have names below `{suffix}`, a suffix of shared hosting: name the hosts")]
    SharedHosting { suffix: Name },
    #[error(transparent)]
    Name(#[from] NameError),
}

impl HostPattern {
    /// Reads a pattern. Letters outside ASCII become A-labels.
    pub fn parse(text: &str, standing: Standing) -> Result<Self, HostError> {
        read(text, standing).map_err(|reason| HostError { text: shown(text), reason })
    }

    /// Whether it means this name.
    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Self::Exact(one) => one == name,
            Self::Below(above) => name.is_below(above) && name.registered() == above.registered(),
            Self::Any => true,
        }
    }

    /// The same by the text alone, whoever has the names: how what denies is read.
    pub fn matches_as_text(&self, name: &Name) -> bool {
        match self {
            Self::Exact(one) => one == name,
            Self::Below(above) => name.is_below(above),
            Self::Any => true,
        }
    }

    /// Whether it means every name of the other, by the text alone.
    pub fn covers_as_text(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Exact(_), _) => self == other,
            (Self::Below(_), Self::Exact(name)) => self.matches_as_text(name),
            (Self::Below(above), Self::Below(name)) => above == name || self.matches_as_text(name),
            (Self::Below(_), Self::Any) => false,
        }
    }
}

impl Shape for HostPattern {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Exact(_), _) => self == other,
            (Self::Below(_), Self::Exact(name)) => self.matches(name),
            (Self::Below(above), Self::Below(name)) => above == name || self.matches(name),
            (Self::Below(_), Self::Any) => false,
        }
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        // Names form a tree: two patterns are one within the other, or have nothing in common.
        if self.covers(other) {
            return Some(other.clone());
        }
        other.covers(self).then(|| self.clone())
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(out, "{name}"),
            Self::Below(name) => write!(out, "*.{name}"),
            Self::Any => out.write_str("*"),
        }
    }
}

fn read(text: &str, standing: Standing) -> Result<HostPattern, Reason> {
    if text.is_empty() {
        return Err(Reason::Empty);
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(NameError::Long.into());
    }
    if text.contains(['/', '\\', '?', '#']) {
        return Err(Reason::Url);
    }
    if let Some((host, port)) = text.split_once(':') {
        let port_only = !host.is_empty() && port.bytes().all(|it| it.is_ascii_digit());
        return Err(if port_only { Reason::Port } else { NameError::Address.into() });
    }
    if text == "*" {
        return match standing {
            Standing::Policy => Err(Reason::Any),
            Standing::Ceiling | Standing::Deny => Ok(HostPattern::Any),
        };
    }
    let (wild, rest) = match text.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.contains('*') {
        return Err(Reason::InnerStar);
    }
    let name = name(rest)?;
    if !wild {
        return Ok(HostPattern::Exact(name));
    }
    if name.as_str().len() > BELOW_BYTES_MAX {
        return Err(Reason::LongWildcard);
    }
    match standing {
        Standing::Deny => {}
        Standing::Policy | Standing::Ceiling => owned(&name)?,
    }
    Ok(HostPattern::Below(name))
}

fn name(text: &str) -> Result<Name, Reason> {
    if text.is_ascii() && !text.to_ascii_lowercase().split('.').any(|it| it.starts_with("xn--")) {
        return Ok(Name::parse(text)?);
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let ascii = Uts46::new()
        .to_ascii(text.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
        .map_err(|_| Reason::Idn)?;
    Ok(Name::parse(&ascii)?)
}

/// Whether the names below this one are its owner's. A name is looked up below it too: some rules of the list mean every
/// name one step down.
fn owned(name: &Name) -> Result<(), Reason> {
    let below = format!("x.{name}");
    let found = [name.as_str(), below.as_str()].into_iter().find_map(|it| {
        let suffix = psl::suffix(it.as_bytes())?;
        (suffix.as_bytes() == it.as_bytes()).then_some(suffix)
    });
    let Some(suffix) = found else {
        return Ok(());
    };
    let shared = suffix.typ() == Some(psl::Type::Private);
    let suffix = name.clone();
    Err(if shared { Reason::SharedHosting { suffix } } else { Reason::PublicSuffix { suffix } })
}

#[cfg(test)]
mod tests;
