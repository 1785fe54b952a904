//! Talk to a person, on stderr: lines, hints, colour only on a terminal and never with `NO_COLOR`.

use std::io::{IsTerminal, Write};

use crate::cli::failure::Failure;
use crate::cli::known;

/// Prints a failure: what, why, what to do.
pub fn failure(failure: &Failure) {
    let mut lines = vec![format!("{} {}", painted("error:", "1;31"), failure.message)];
    lines.extend(failure.causes.iter().map(|it| format!("  caused by: {it}")));
    lines.extend(failure.hints.iter().map(|it| format!("{} {it}", painted("hint:", "36"))));
    print(&lines);
}

/// Prints one line with the program's name before it.
pub fn note(text: &str) {
    print(&[format!("{} {text}", painted("aegis:", "1"))]);
}

/// Prints one hint.
pub fn hint(text: &str) {
    print(&[format!("{} {text}", painted("hint:", "36"))]);
}

/// Whether stderr takes colour and motion.
pub fn is_lively() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

fn painted(text: &str, code: &str) -> String {
    if is_lively() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// A closed stderr is nobody to talk to, and no reason to fail.
fn print(lines: &[String]) {
    let mut text = known::text(&lines.join("\n"));
    text.push('\n');
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
