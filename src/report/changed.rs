//! What changed between two versions of a short text: the lines between the first and the last that differ.

use crate::intake::shown;

/// Lines of each version that are shown.
const LINES_MAX: usize = 10;

/// The lines that went (`-`) and that came (`+`), escaped and cut.
pub fn lines(before: &str, after: &str) -> Vec<String> {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.split('\n').collect(), after.split('\n').collect());
    let same_first = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    let (before, after) = (&before[same_first..], &after[same_first..]);
    let same_last = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    let mut told = Vec::new();
    for (sign, lines) in
        [('-', &before[..before.len() - same_last]), ('+', &after[..after.len() - same_last])]
    {
        told.extend(lines.iter().take(LINES_MAX).map(|it| format!("{sign} {}", shown(it))));
        if lines.len() > LINES_MAX {
            told.push(format!("{sign} … {} lines more", lines.len() - LINES_MAX));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: &str, expected: &[&str]) {
        assert_eq!(lines(before, after), expected);
    }

    #[test]
    fn equal_texts_have_none() {
        check("a\nb\n", "a\nb\n", &[]);
    }

    #[test]
    fn what_stands_between_equal_lines_is_shown() {
        check("a\nb\nc\n", "a\nx\ny\nc\n", &["- b", "+ x", "+ y"]);
    }

    #[test]
    fn a_line_more_is_one_line() {
        check("a\na\n", "a\na\na\n", &["+ a"]);
        check("", "a", &["- ", "+ a"]);
    }

    #[test]
    fn controls_are_escaped_and_lengths_bounded() {
        check("", "\x1b[2J", &["- ", "+ \\u{1b}[2J"]);
        assert_eq!(lines("x", &"y\n".repeat(1000)).len(), 12);
    }
}
