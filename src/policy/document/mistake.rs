//! What is wrong with a policy file, and where.

use std::fmt;

use crate::intake::shown;
use crate::policy::document::nearest;

/// Mistakes that are shown; what is beyond is counted.
pub const MISTAKES_MAX: usize = 20;

/// A place in a file, both counted from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where; `None` is the file as a whole.
    pub place: Option<Place>,
    /// What is wrong and what to write.
    pub message: String,
}

/// A policy file with mistakes: nothing of it is used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocumentError {
    /// The file's name as it is shown.
    pub file: String,
    /// The first of them, in the order of the file.
    pub mistakes: Vec<Mistake>,
    /// How many more there are.
    pub more: usize,
}

impl Place {
    /// The place of a byte of a text.
    pub fn of(text: &str, offset: usize) -> Self {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line_start = before.rfind('\n').map_or(0, |it| it + 1);
        Self {
            line: before.bytes().filter(|it| *it == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// A mistake as it is found: the byte it is at, and what it is. Place and text are made only for those that are shown,
/// so that a file of thousands of mistakes costs no more than one of twenty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slip {
    /// The byte.
    pub at: usize,
    /// What is wrong.
    pub what: What,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// No key has this path.
    UnknownKey {
        /// The dotted path.
        path: String,
        /// The table it stands in; empty for the file.
        table: String,
        /// The key that names a shipped policy here.
        base: &'static str,
    },
    /// The text is no TOML, for this reason.
    NotToml(String),
    /// It cannot stand beside what another place says.
    Clash {
        /// In which way.
        message: String,
        /// The byte of the other place.
        other: usize,
    },
    /// Anything else, in its words.
    Said(String),
}

impl Slip {
    /// A mistake in its words.
    pub fn said(at: usize, message: String) -> Self {
        Self { at, what: What::Said(message) }
    }
}

impl DocumentError {
    /// The mistakes of a file in its order, cut to the number that is shown.
    pub fn new(file: &str, text: &str, mut slips: Vec<Slip>) -> Self {
        slips.sort_by_key(|it| it.at);
        let more = slips.len().saturating_sub(MISTAKES_MAX);
        slips.truncate(MISTAKES_MAX);
        let mistakes = slips.into_iter().map(|it| Mistake {
            place: Some(Place::of(text, it.at)),
            message: match it.what {
                What::UnknownKey { path, table, base } => nearest::unknown_key(&path, &table, base),
                What::NotToml(reason) => format!("is not TOML: {}", shown(&reason)),
                What::Clash { message, other } => {
                    format!("{message} (the other is on line {})", Place::of(text, other).line)
                }
                What::Said(message) => message,
            },
        });
        Self { file: file.to_owned(), mistakes: mistakes.collect(), more }
    }

    /// One mistake of the file as a whole.
    pub fn whole(file: &str, message: &str) -> Self {
        let mistakes = vec![Mistake { place: None, message: message.to_owned() }];
        Self { file: file.to_owned(), mistakes, more: 0 }
    }
}

/// One mistake per line, each as `file:line:column: message`.
impl fmt::Display for DocumentError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write!(out, "{}:", self.file)?;
            if let Some(place) = mistake.place {
                write!(out, "{}:{}:", place.line, place.column)?;
            }
            write!(out, " {}", mistake.message)?;
        }
        if self.more > 0 {
            write!(out, "\n{}: and {} more", self.file, self.more)?;
        }
        Ok(())
    }
}
