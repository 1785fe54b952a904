//! How a workspace was filled, in words: what stayed outside because it looks like a secret.

use crate::record::{Withheld, WorkspaceRecord};
use crate::task::GitHistory;
use crate::task::escape::escape;

/// Withheld files that a line names; the record has all of them.
const NAMED_MAX: usize = 5;

/// One line that names the first of them, another for those that can be read all the same; none if nothing is withheld.
pub fn withheld_lines(workspace: &WorkspaceRecord) -> Vec<String> {
    let mut lines = Vec::new();
    if workspace.withheld_count == 0 {
        return lines;
    }
    let files = match workspace.withheld_count {
        1 => "1 file that looks like a secret".to_owned(),
        count => format!("{count} files that look like secrets"),
    };
    lines.push(format!("withheld {files}: {}", named(&workspace.withheld, workspace.withheld_count)));
    let readable: Vec<Withheld> = workspace.withheld.iter().filter(|it| it.in_history).cloned().collect();
    if !readable.is_empty() && workspace.git != GitHistory::None {
        let names = named(&readable, readable.len() as u64);
        lines.push(format!("git tracks {names}: readable inside through the history, unless `--git none`"));
    }
    lines
}

/// What to do about it.
pub fn withheld_hint(workspace: &WorkspaceRecord) -> Option<&'static str> {
    let hint =
        "`--include-secret PATH` brings one in, where the policy names it in `filesystem.include_secrets`";
    (workspace.withheld_count > 0).then_some(hint)
}

/// Each of them with its reason, for a page.
pub fn listed(workspace: &WorkspaceRecord) -> Vec<String> {
    let readable = |it: &Withheld| if it.in_history { ", readable through git's history" } else { "" };
    workspace
        .withheld
        .iter()
        .map(|it| format!("{} ({}{})", escape(&it.path), it.reason, readable(it)))
        .collect()
}

fn named(withheld: &[Withheld], count: u64) -> String {
    let names: Vec<String> =
        withheld.iter().take(NAMED_MAX).map(|it| format!("`{}`", escape(&it.path))).collect();
    match count.saturating_sub(names.len() as u64) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(paths: &[(&str, bool)], git: GitHistory) -> WorkspaceRecord {
        let withheld = paths.iter().map(|(path, in_history)| Withheld {
            path: path.as_bytes().to_vec(),
            reason: "private key".to_owned(),
            in_history: *in_history,
        });
        let withheld: Vec<Withheld> = withheld.collect();
        WorkspaceRecord { git, included: Vec::new(), withheld_count: withheld.len() as u64, withheld }
    }

    #[track_caller]
    fn check(paths: &[(&str, bool)], git: GitHistory, expected: &[&str]) {
        assert_eq!(withheld_lines(&record(paths, git)), expected);
    }

    #[test]
    fn nothing_withheld_is_nothing_said() {
        check(&[], GitHistory::Full, &[]);
    }

    #[test]
    fn the_first_five_are_named_and_the_rest_counted() {
        check(&[(".env", false)], GitHistory::Full, &["withheld 1 file that looks like a secret: `.env`"]);
        let many: Vec<(&str, bool)> = ["a", "b", "c", "d", "e\n", "f", "g"].map(|it| (it, false)).to_vec();
        check(
            &many,
            GitHistory::Full,
            &["withheld 7 files that look like secrets: `a`, `b`, `c`, `d`, `e\\x0a` and 2 more"],
        );
    }

    #[test]
    fn what_the_history_shows_is_told_unless_it_stays_outside() {
        let paths = [(".env", true), ("a.key", false)];
        let withheld = "withheld 2 files that look like secrets: `.env`, `a.key`";
        let readable = "git tracks `.env`: readable inside through the history, unless `--git none`";
        check(&paths, GitHistory::Full, &[withheld, readable]);
        check(&paths, GitHistory::None, &[withheld]);
    }
}
