//! Findings as text: a table by area for a person, one line each for a pipe, Markdown for a report.

use std::fmt::Write as _;

use crate::doctor::finding::{Area, Finding, Risk, Verdict, worst};
use crate::task::escape::escape;

/// Characters of a line below a finding, and what stands before it.
const LINE_CHARS_MAX: usize = 100;
const INDENT: &str = "        ";

/// How a text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Titles, indents, colour.
    Lively,
    /// Titles and indents.
    Grouped,
    /// One line a finding, fields between tabs.
    Plain,
}

/// The findings.
pub fn findings(findings: &[Finding], layout: Layout) -> String {
    let mut text = String::new();
    if layout == Layout::Plain {
        for it in findings {
            line(&mut text, &[it.verdict.name(), it.id, &it.seen, &it.why, &it.fix].map(shown).join("\t"));
        }
        return text;
    }
    for area in Area::ALL {
        let mut of_area = findings.iter().filter(|it| it.area == area).peekable();
        if of_area.peek().is_none() {
            continue;
        }
        line(&mut text, area.title());
        for it in of_area {
            line(&mut text, &format!("  {}  {:<24} {}", mark(it.verdict, layout), name(it), shown(&it.seen)));
            for (word, said) in [("why", &it.why), ("fix", &it.fix)] {
                if !said.is_empty() {
                    line(&mut text, &wrapped(&format!("{word}: {}", shown(said))));
                }
            }
        }
        text.push('\n');
    }
    text
}

/// One line of what they come to.
pub fn verdict(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|it| it.verdict == verdict).count();
    let risk = Risk::of(findings).name();
    format!(
        "{} ok, {} weak, {} fail: risk {risk}",
        count(Verdict::Ok),
        count(Verdict::Weak),
        count(Verdict::Fail)
    )
}

/// The findings as a Markdown table.
pub fn markdown(findings: &[Finding]) -> String {
    let mut text = format!("## Checks\n\n{} (worst: {}).\n\n", verdict(findings), worst(findings).name());
    line(&mut text, "| check | verdict | seen | why it matters | fix |\n|---|---|---|---|---|");
    for it in findings {
        let cells = [&it.seen, &it.why, &it.fix].map(|it| cell(it));
        line(&mut text, &format!("| {} | {} | {} |", it.id, it.verdict.name(), cells.join(" | ")));
    }
    text
}

/// A text below a finding, in lines of a readable length.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(last) if last.chars().count() + word.chars().count() < LINE_CHARS_MAX => {
                last.push(' ');
                last.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    format!("{INDENT}{}", lines.join(&format!("\n{INDENT}     ")))
}

/// A text in a cell of a Markdown table.
pub fn cell(text: &str) -> String {
    shown(text).replace('|', "\\|")
}

/// A text of others on one line of ours.
pub fn shown(text: &str) -> String {
    // Backslashes stand for themselves: what is shown is not read back.
    escape(text.as_bytes()).replace("\\\\", "\\")
}

fn name(finding: &Finding) -> &'static str {
    finding.id.split_once('.').map_or(finding.id, |(_, name)| name)
}

fn mark(verdict: Verdict, layout: Layout) -> String {
    let word = format!("{:<4}", verdict.name());
    let code = match verdict {
        Verdict::Ok => "32",
        Verdict::Weak => "33",
        Verdict::Fail => "1;31",
    };
    if layout == Layout::Lively { format!("\x1b[{code}m{word}\x1b[0m") } else { word }
}

fn line(text: &mut String, content: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Finding {
        Finding::weak(Area::Engine, "engine.live_restore", "off\u{1b}[2J", "a|b", "set it")
    }

    #[test]
    fn a_plain_line_has_five_fields() {
        assert_eq!(
            findings(&[finding()], Layout::Plain),
            "weak\tengine.live_restore\toff\\x1b[2J\ta|b\tset it\n"
        );
    }

    #[test]
    fn a_group_has_its_title_and_the_fix_its_own_line() {
        let text = findings(&[finding()], Layout::Grouped);
        assert!(text.starts_with("The engine\n  weak  live_restore"), "{text}");
        assert!(text.contains("\n        fix: set it\n"), "{text}");
    }

    #[test]
    fn a_long_text_is_broken_between_words() {
        let text = wrapped(&format!("why: {}", "word ".repeat(40).trim_end()));
        assert!(text.lines().count() == 3 && text.lines().all(|it| it.chars().count() <= 113), "{text}");
    }

    #[test]
    fn a_cell_keeps_its_table() {
        assert!(markdown(&[finding()]).contains("| a\\|b |"));
    }
}
