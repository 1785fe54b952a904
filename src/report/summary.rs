//! Text about runs for people: one line at the end, a table, a page. Stands without colour; nothing a task chose
//! reaches the terminal unescaped.

pub mod list;
pub mod show;

use crate::record::End;
use crate::report::amount;
use crate::task::RunId;
use crate::task::escape::escape;

/// The line at the end of a run: `run 0123456789ab: exited(0) in 1.24 s, peak 34 MiB, 12 pids, 1.2 KiB out`.
pub fn line(run: RunId, end: &End) -> String {
    let mut text = format!("run {}: {}", run.short(), shown(&end.outcome.to_string()));
    if let Some(usage) = &end.usage {
        text.push_str(&format!(" in {}", amount::microseconds(usage.wall_us)));
        if let Some(peak) = usage.memory_peak_bytes {
            text.push_str(&format!(", peak {}", amount::bytes(peak)));
        }
        match usage.pids_peak {
            Some(1) => text.push_str(", 1 pid"),
            Some(peak) => text.push_str(&format!(", {peak} pids")),
            None => {}
        }
    }
    let written = end.output.stdout_bytes.saturating_add(end.output.stderr_bytes);
    if written > 0 {
        text.push_str(&format!(", {} out", amount::bytes(written)));
    }
    for part in artifacts(end).into_iter().chain(changes(end)) {
        text.push_str(&format!(", {part}"));
    }
    text
}

/// What came out, in words.
fn artifacts(end: &End) -> Vec<String> {
    let mut parts = Vec::new();
    match end.artifacts.len() {
        0 => {}
        1 => parts.push("1 file collected".to_owned()),
        count => parts.push(format!("{count} files collected")),
    }
    if end.dropped_count > 0 {
        parts.push(format!("{} left out", end.dropped_count));
    }
    if !end.unmatched.is_empty() {
        parts.push(format!("{} not found", end.unmatched.len()));
    }
    parts
}

/// What changed in the workspace, in words.
fn changes(end: &End) -> Option<String> {
    match end.changes.as_ref()?.total() {
        0 => None,
        1 => Some("1 change in the workspace".to_owned()),
        count => Some(format!("{count} changes in the workspace")),
    }
}

/// A command as one line that a shell would read the same way, as far as text can carry it.
pub(crate) fn command(arguments: &[Vec<u8>]) -> String {
    let words: Vec<String> = arguments.iter().map(|it| word(it)).collect();
    words.join(" ")
}

fn word(argument: &[u8]) -> String {
    let text = escape(argument);
    let plain = |it: char| it.is_alphanumeric() || "-_./:=+,@%".contains(it);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Our own text with what others put into it: nothing that a terminal acts on.
pub(crate) fn shown(text: &str) -> String {
    // Backslashes need no doubling where nobody reads the text back.
    escape(text.as_bytes()).replace("\\\\", "\\")
}

/// The first characters of a text, with a mark if there are more.
pub(crate) fn cut(text: &str, characters_max: usize) -> String {
    if text.chars().count() <= characters_max {
        return text.to_owned();
    }
    text.chars().take(characters_max.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixture;
    use crate::task::Outcome;

    fn check(end: &End, expected: &str) {
        let run = "01912345-6789-7abc-8def-0123456789ab".parse().expect("an id");
        assert_eq!(line(run, end), expected);
    }

    #[test]
    fn the_last_line_has_time_peak_and_output() {
        check(
            &fixture::end(Outcome::Exited(0)),
            "run 0123456789ab: exited(0) in 1.24 s, peak 34 MiB, 12 pids, 1.2 KiB out, 1 file collected, 1 left out, 1 not found, 3 changes in the workspace",
        );
    }

    #[test]
    fn a_run_that_never_ran_has_only_its_outcome() {
        check(&End::bare(Outcome::Refused { differences: vec![] }), "run 0123456789ab: refused");
    }

    #[test]
    fn a_command_is_quoted_where_it_needs_to_be() {
        let arguments = [b"sh".to_vec(), b"-c".to_vec(), b"echo 'a'\n".to_vec(), Vec::new()];
        assert_eq!(command(&arguments), r"sh -c 'echo '\''a'\''\x0a' ''");
    }

    #[test]
    fn a_long_text_is_cut_by_characters() {
        assert_eq!(cut("äöüß", 4), "äöüß");
        assert_eq!(cut("äöüßé", 4), "äöü…");
    }
}
