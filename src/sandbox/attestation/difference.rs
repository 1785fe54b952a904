//! One thing that is not as it was asked for.

use std::fmt;

/// Longest text of one side; what a sandbox shows is hostile and may be long.
const SIDE_CHARS_MAX: usize = 300;

/// A field, what it should be and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub field: String,
    /// What was asked for.
    pub expected: String,
    /// What the kernel showed; control characters are escaped and the length is bounded.
    pub seen: String,
}

impl Difference {
    /// A difference; both sides are made safe to show.
    pub fn new(field: impl Into<String>, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { field: field.into(), expected: shown(&expected.into()), seen: shown(&seen.into()) }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} is {}, expected {}", self.field, self.seen, self.expected)
    }
}

fn shown(text: &str) -> String {
    let mut safe = String::new();
    for (index, it) in text.chars().enumerate() {
        if index == SIDE_CHARS_MAX {
            safe.push('…');
            break;
        }
        if it.is_control() { safe.extend(it.escape_default()) } else { safe.push(it) }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seen: &str, expected: &str) {
        assert_eq!(Difference::new("field", "x", seen).to_string(), expected);
    }

    #[test]
    fn a_difference_reads_as_a_sentence() {
        check("y", "field is y, expected x");
    }

    #[test]
    fn control_characters_are_escaped() {
        check("a\u{1b}[2J\n", "field is a\\u{1b}[2J\\n, expected x");
    }

    #[test]
    fn a_long_text_is_cut() {
        check(&"é".repeat(400), &format!("field is {}…, expected x", "é".repeat(300)));
    }
}
