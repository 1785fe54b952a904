//! One thing that is not as it was asked for, and the list of them.

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
    /// A difference; every side is made safe to show.
    pub fn new(field: impl AsRef<str>, expected: impl AsRef<str>, seen: impl AsRef<str>) -> Self {
        Self { field: shown(field.as_ref()), expected: shown(expected.as_ref()), seen: shown(seen.as_ref()) }
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

/// Who saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Viewpoint {
    /// Init, from inside.
    Inside,
    /// The host, in its own `/proc`.
    Outside,
}

/// Collects differences, each with who saw it.
#[derive(Debug)]
pub(super) struct Findings {
    viewpoint: Viewpoint,
    list: Vec<Difference>,
}

impl Findings {
    pub(super) fn new() -> Self {
        Self { viewpoint: Viewpoint::Inside, list: Vec::new() }
    }

    pub(super) fn seen_from(&mut self, viewpoint: Viewpoint) {
        self.viewpoint = viewpoint;
    }

    pub(super) fn viewpoint(&self) -> Viewpoint {
        self.viewpoint
    }

    pub(super) fn add(&mut self, field: impl AsRef<str>, expected: impl AsRef<str>, seen: impl AsRef<str>) {
        let mut found = Difference::new(field, expected, seen);
        // What both see is told once, in init's words.
        if self.list.contains(&found) {
            return;
        }
        if self.viewpoint == Viewpoint::Outside {
            found.field.push_str(" (as the host sees it)");
        }
        self.list.push(found);
    }

    pub(super) fn extend(&mut self, differences: Vec<Difference>) {
        self.list.extend(differences);
    }

    /// Both sides are compared as they would be shown.
    pub(super) fn same(
        &mut self,
        field: impl AsRef<str>,
        expected: impl fmt::Display,
        seen: impl fmt::Display,
    ) {
        let (expected, seen) = (expected.to_string(), seen.to_string());
        if expected != seen {
            self.add(field, expected, if seen.is_empty() { "empty" } else { &seen });
        }
    }

    pub(super) fn into_list(self) -> Vec<Difference> {
        self.list
    }
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
