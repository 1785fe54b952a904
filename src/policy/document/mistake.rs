//! What is wrong with a policy file, and where.

use std::fmt;

/// Mistakes that are shown; what is beyond is counted.
pub const MISTAKES_MAX: usize = 20;

/// A place in a file, both counted from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
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

impl DocumentError {
    /// The mistakes of a file in its order, cut to the number that is shown.
    pub fn new(file: &str, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort();
        let more = mistakes.len().saturating_sub(MISTAKES_MAX);
        mistakes.truncate(MISTAKES_MAX);
        Self { file: file.to_owned(), mistakes, more }
    }

    /// One mistake of the file as a whole.
    pub fn whole(file: &str, message: &str) -> Self {
        Self::new(file, vec![Mistake { place: None, message: message.to_owned() }])
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
