//! Methods of requests: those that a rule can name.

use std::fmt;

use crate::policy::network::union::Shape;

/// A method that a rule can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is its word")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// Methods that no rule passes: the first asks for a tunnel, the second has the request sent back, with its credential.
pub const NEVER: [&str; 2] = ["CONNECT", "TRACE"];

impl Method {
    /// Every one of them.
    pub const ALL: [Self; 7] =
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    /// As it stands in a request, and in a rule.
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// The one with this word; methods know upper case only.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }
}

/// One method, or any: also those that have no name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MethodPattern {
    /// This one.
    One(Method),
    /// Any.
    Any,
}

impl MethodPattern {
    /// Whether a request with this method is meant.
    pub fn matches(self, method: &str) -> bool {
        match self {
            Self::One(one) => one.word() == method,
            Self::Any => true,
        }
    }
}

impl Shape for MethodPattern {
    fn covers(&self, other: &Self) -> bool {
        *self == Self::Any || self == other
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, both) | (both, Self::Any) => Some(*both),
            (Self::One(left), Self::One(right)) => (left == right).then_some(*self),
        }
    }
}

impl fmt::Display for MethodPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(method) => out.write_str(method.word()),
            Self::Any => out.write_str("*"),
        }
    }
}
