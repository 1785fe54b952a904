//! What the install script says it tried. It is hostile, so its lines are bounded, escaped, and believed only where they
//! speak against us.

use crate::task::escape::escape;

/// Lines that are read, and characters of one detail.
const LINES_MAX: usize = 100;
const DETAIL_CHARS_MAX: usize = 120;

/// Whether an attempt got something, by the script's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// It says so.
    Something,
    /// It was stopped.
    Nothing,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was tried.
    pub name: String,
    /// What came of it.
    pub got: Got,
    /// What stopped it, or what it got.
    pub detail: String,
}

/// The attempts in a script's output.
pub fn parse(printed: &str) -> Vec<Attempt> {
    let lines = printed.lines().filter_map(|it| it.strip_prefix("@attempt\t")).take(LINES_MAX);
    lines.map(attempt).collect()
}

fn attempt(line: &str) -> Attempt {
    let mut fields = line.splitn(3, '\t').map(shown);
    let name = fields.next().unwrap_or_default();
    // Whatever is not the plain word for it counts against us.
    let got = if fields.next().as_deref() == Some("stopped") { Got::Nothing } else { Got::Something };
    Attempt { name, got, detail: fields.next().unwrap_or_default() }
}

fn shown(text: &str) -> String {
    escape(text.as_bytes()).replace("\\\\", "\\").chars().take(DETAIL_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(printed: &str, expected: &[(&str, Got, &str)]) {
        let parsed = parse(printed);
        let told: Vec<_> = parsed.iter().map(|it| (it.name.as_str(), it.got, it.detail.as_str())).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn attempts_are_read_and_other_lines_passed_over() {
        check(
            "hello\n@attempt\tssh key\tstopped\tnot there\n@attempt\tloot\tgot\t/root\n",
            &[("ssh key", Got::Nothing, "not there"), ("loot", Got::Something, "/root")],
        );
    }

    #[test]
    fn a_garbled_line_counts_against_us() {
        check("@attempt\tx\n@attempt\ty\tmaybe\n", &[("x", Got::Something, ""), ("y", Got::Something, "")]);
    }

    #[test]
    fn what_a_script_says_is_safe_to_show() {
        check("@attempt\tx\tstopped\t\u{1b}[2J\n", &[("x", Got::Nothing, "\\x1b[2J")]);
    }
}
