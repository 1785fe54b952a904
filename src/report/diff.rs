//! Differences between two trees as text, in the form that `git apply` and `patch` take. Names that a terminal or a patch
//! would take for something else are quoted as git quotes them; contents are exact, or visible where a person reads.

use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline, group_diff_ops};

use crate::task::escape::escape;

/// Lines around a change.
const CONTEXT: usize = 3;
/// How long the shortest difference of one file is looked for; after that a longer one is told.
const SEARCH_TIME_MAX: Duration = Duration::from_millis(500);
/// Columns of the bars in a `--stat`.
const BAR_MAX: u64 = 40;

/// A path before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDiff {
    /// Its path.
    pub path: Vec<u8>,
    /// Where its content was before, if it was at another path.
    pub renamed_from: Option<Vec<u8>>,
    /// `None` for a new one.
    pub before: Option<Side>,
    /// `None` for one that is gone.
    pub after: Option<Side>,
}

/// One side of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Directory,
    /// A link with its target.
    Link(Vec<u8>),
    /// A file, whole.
    File(Vec<u8>),
    /// A file that is too large to be shown, or is not there to be shown.
    Unshown(&'static str),
}

/// What a line is, for colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// Begins a file.
    Head,
    /// Begins a hunk.
    Hunk,
    /// Is on both sides.
    Context,
    /// Is new.
    Added,
    /// Is gone.
    Removed,
}

/// A line with its newline.
pub type Line = (LineKind, Vec<u8>);

impl FileDiff {
    /// The letter that git has for it.
    pub fn letter(&self) -> char {
        match (&self.before, &self.after) {
            _ if self.renamed_from.is_some() => 'R',
            (None, _) => 'A',
            (Some(_), None) => 'D',
            (Some(before), Some(after)) if before.content.kind() != after.content.kind() => 'T',
            (Some(_), Some(_)) => 'M',
        }
    }
}

impl Content {
    fn kind(&self) -> u32 {
        match self {
            Self::Directory => 0o040_000,
            Self::Link(_) => 0o120_000,
            Self::File(_) | Self::Unshown(_) => 0o100_000,
        }
    }
}

/// The whole difference.
pub fn unified(diff: &FileDiff) -> Vec<Line> {
    match (&diff.before, &diff.after) {
        // Another kind of thing is one that goes and one that comes.
        (Some(before), Some(after)) if before.content.kind() != after.content.kind() => {
            let mut lines = part(diff, Some(before), None);
            lines.extend(part(diff, None, Some(after)));
            lines
        }
        (before, after) => part(diff, before.as_ref(), after.as_ref()),
    }
}

fn part(diff: &FileDiff, before: Option<&Side>, after: Option<&Side>) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut head = |text: String| lines.push((LineKind::Head, (text + "\n").into_bytes()));
    if let Some(text) = directory(&diff.path, before, after) {
        head(text);
        return lines;
    }
    let old = diff.renamed_from.as_ref().unwrap_or(&diff.path);
    head(format!("diff --git {} {}", quoted("a/", old), quoted("b/", &diff.path)));
    match (before, after) {
        (Some(before), Some(after)) if before.mode != after.mode => {
            head(format!("old mode {}", mode(before)));
            head(format!("new mode {}", mode(after)));
        }
        (None, Some(after)) => head(format!("new file mode {}", mode(after))),
        (Some(before), None) => head(format!("deleted file mode {}", mode(before))),
        _ => {}
    }
    if diff.renamed_from.is_some() {
        head("similarity index 100%".to_owned());
        head(format!("rename from {}", quoted("", old)));
        head(format!("rename to {}", quoted("", &diff.path)));
    }
    let (one, other) = (before.map(|it| &it.content), after.map(|it| &it.content));
    let names = [
        if before.is_some() { quoted("a/", old) } else { "/dev/null".to_owned() },
        if after.is_some() { quoted("b/", &diff.path) } else { "/dev/null".to_owned() },
    ];
    for content in [one, other].into_iter().flatten() {
        if let Content::Unshown(why) = content {
            head(format!("Files {} and {} differ: {why}", names[0], names[1]));
            return lines;
        }
    }
    let (one, other) = (bytes(one), bytes(other));
    if one == other {
        return lines;
    }
    if one.contains(&0) || other.contains(&0) {
        head(format!("Binary files {} and {} differ", names[0], names[1]));
        return lines;
    }
    let [old_name, new_name] =
        names.map(|it| if it.contains(' ') && !it.starts_with('"') { it + "\t" } else { it });
    head(format!("--- {old_name}"));
    head(format!("+++ {new_name}"));
    hunks(one, other, &mut lines);
    lines
}

/// A directory has no content; git does not know it, and passes over these lines.
fn directory(path: &[u8], before: Option<&Side>, after: Option<&Side>) -> Option<String> {
    let is = |it: Option<&Side>| matches!(it, Some(Side { content: Content::Directory, .. }));
    if !is(before) && !is(after) {
        return None;
    }
    let name = quoted("", path);
    Some(match (before, after) {
        (Some(before), Some(after)) => {
            format!("directory {name}: mode {:03o} is now {:03o}", before.mode, after.mode)
        }
        (None, Some(after)) => format!("new directory {name} (mode {:03o})", after.mode),
        _ => format!("deleted directory {name}"),
    })
}

fn mode(side: &Side) -> String {
    match &side.content {
        Content::Link(_) => "120000".to_owned(),
        content => format!("{:06o}", content.kind() | side.mode),
    }
}

fn bytes(content: Option<&Content>) -> &[u8] {
    match content {
        Some(Content::File(bytes) | Content::Link(bytes)) => bytes,
        Some(Content::Directory | Content::Unshown(_)) | None => b"",
    }
}

fn hunks(old: &[u8], new: &[u8], lines: &mut Vec<Line>) {
    let old: Vec<&[u8]> = old.split_inclusive(|it| *it == b'\n').collect();
    let new: Vec<&[u8]> = new.split_inclusive(|it| *it == b'\n').collect();
    let deadline = Instant::now() + SEARCH_TIME_MAX;
    let ops = capture_diff_slices_deadline(Algorithm::Myers, &old, &new, Some(deadline));
    for group in group_diff_ops(ops, CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let header = format!(
            "@@ -{} +{} @@\n",
            range(first.old_range().start, last.old_range().end),
            range(first.new_range().start, last.new_range().end)
        );
        lines.push((LineKind::Hunk, header.into_bytes()));
        for op in &group {
            if let DiffOp::Equal { .. } = op {
                for line in &old[op.old_range()] {
                    push(lines, LineKind::Context, b' ', line);
                }
                continue;
            }
            for line in &old[op.old_range()] {
                push(lines, LineKind::Removed, b'-', line);
            }
            for line in &new[op.new_range()] {
                push(lines, LineKind::Added, b'+', line);
            }
        }
    }
}

fn range(start: usize, end: usize) -> String {
    match end - start {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        count => format!("{},{count}", start + 1),
    }
}

fn push(lines: &mut Vec<Line>, kind: LineKind, mark: u8, line: &[u8]) {
    let mut bytes = vec![mark];
    bytes.extend_from_slice(line);
    if !line.ends_with(b"\n") {
        bytes.extend_from_slice(b"\n\\ No newline at end of file\n");
    }
    lines.push((kind, bytes));
}

/// How many lines come and go; `None` where that cannot be said.
pub fn line_counts(diff: &FileDiff) -> Option<(u64, u64)> {
    let (mut added, mut removed) = (0, 0);
    for (kind, bytes) in unified(diff) {
        match kind {
            LineKind::Added => added += 1,
            LineKind::Removed => removed += 1,
            LineKind::Head if bytes.starts_with(b"Binary files") || bytes.starts_with(b"Files ") => {
                return None;
            }
            LineKind::Head | LineKind::Hunk | LineKind::Context => {}
        }
    }
    Some((added, removed))
}

/// A line of `--stat`.
pub fn stat(diff: &FileDiff) -> String {
    let name = match &diff.renamed_from {
        Some(from) => format!("{} => {}", quoted("", from), quoted("", &diff.path)),
        None => quoted("", &diff.path),
    };
    let is_directory = |it: &Option<Side>| matches!(it, Some(Side { content: Content::Directory, .. }));
    if is_directory(&diff.before) || is_directory(&diff.after) {
        return format!(" {name} | directory");
    }
    match line_counts(diff) {
        None => format!(" {name} | binary or large"),
        Some((added, removed)) => {
            let total = added + removed;
            let scale = |count: u64| if total <= BAR_MAX { count } else { (count * BAR_MAX).div_ceil(total) };
            let bar = "+".repeat(scale(added) as usize) + &"-".repeat(scale(removed) as usize);
            format!(" {name} | {total} {bar}").trim_end().to_owned()
        }
    }
}

/// A name as git writes it: in quotation marks where it holds what would be taken for something else.
pub fn quoted(prefix: &str, name: &[u8]) -> String {
    // The escape leaves what is harmless and doubles the backslash, so that only a plain name is equal to itself.
    let plain = std::str::from_utf8(name).is_ok_and(|it| escape(name) == it && !it.contains('"'));
    if plain {
        return format!("{prefix}{}", String::from_utf8_lossy(name));
    }
    let mut text = format!("\"{prefix}");
    for byte in name {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            0x20..=0x7e => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\{other:03o}")),
        }
    }
    text + "\""
}

/// A line as a terminal may show it: its tabs and its newline stay, all else that steers is escaped.
pub fn visible(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    for (at, part) in line.split(|it| matches!(it, b'\n' | b'\t')).enumerate() {
        if at > 0 {
            let separator = text.len();
            text.insert(separator, '\u{0}');
        }
        // Backslashes need no doubling where nobody reads the text back.
        text.push_str(&escape(part).replace("\\\\", "\\"));
    }
    let mut separators = line.iter().filter(|it| matches!(it, b'\n' | b'\t'));
    text.chars()
        .map(|it| if it == '\u{0}' { separators.next().map_or('\n', |it| char::from(*it)) } else { it })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32, content: &[u8]) -> Option<Side> {
        Some(Side { mode, content: Content::File(content.to_vec()) })
    }

    fn check(diff: FileDiff, expected: &str) {
        let text: Vec<u8> = unified(&diff).into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    fn changed(path: &str, before: Option<Side>, after: Option<Side>) -> FileDiff {
        FileDiff { path: path.into(), renamed_from: None, before, after }
    }

    #[test]
    fn a_changed_line_stands_with_its_context() {
        check(
            changed("a", file(0o644, b"1\n2\n3\n"), file(0o644, b"1\nx\n3\n")),
            "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,3 +1,3 @@\n 1\n-2\n+x\n 3\n",
        );
    }

    #[test]
    fn a_new_file_without_a_last_newline_says_so() {
        check(
            changed("a b", None, file(0o755, b"x")),
            "diff --git a/a b b/a b\nnew file mode 100755\n--- /dev/null\n+++ b/a b\t\n@@ -0,0 +1 @@\n+x\n\\ No newline at end of file\n",
        );
    }

    #[test]
    fn a_deleted_file_goes_to_nothing() {
        check(
            changed("a", file(0o644, b"x\n"), None),
            "diff --git a/a b/a\ndeleted file mode 100644\n--- a/a\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n",
        );
    }

    #[test]
    fn a_mode_alone_has_no_hunk() {
        check(
            changed("a", file(0o644, b"x"), file(0o755, b"x")),
            "diff --git a/a b/a\nold mode 100644\nnew mode 100755\n",
        );
    }

    #[test]
    fn a_file_that_became_a_link_goes_and_comes() {
        let link = Some(Side { mode: 0o777, content: Content::Link(b"t".to_vec()) });
        check(
            changed("a", file(0o644, b"x\n"), link),
            "diff --git a/a b/a\ndeleted file mode 100644\n--- a/a\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\ndiff --git a/a b/a\nnew file mode 120000\n--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+t\n\\ No newline at end of file\n",
        );
    }

    #[test]
    fn binary_and_large_files_only_differ() {
        check(
            changed("a", file(0o644, b"\0"), file(0o644, b"x")),
            "diff --git a/a b/a\nBinary files a/a and b/a differ\n",
        );
        let large = Some(Side { mode: 0o644, content: Content::Unshown("too large to show") });
        check(
            changed("a", None, large),
            "diff --git a/a b/a\nnew file mode 100644\nFiles /dev/null and b/a differ: too large to show\n",
        );
    }

    #[test]
    fn a_rename_names_both_places() {
        let mut diff = changed("b", file(0o644, b"x"), file(0o644, b"x"));
        diff.renamed_from = Some(b"a".to_vec());
        check(diff, "diff --git a/a b/b\nsimilarity index 100%\nrename from a\nrename to b\n");
    }

    #[test]
    fn hostile_names_are_quoted() {
        assert_eq!(quoted("a/", b"x\n\x1b[2J\"\\\xff"), "\"a/x\\n\\033[2J\\\"\\\\\\377\"");
        assert_eq!(quoted("a/", "\u{202e}x".as_bytes()), "\"a/\\342\\200\\256x\"");
        assert_eq!(quoted("a/", "ä b".as_bytes()), "a/ä b");
    }

    #[test]
    fn hostile_lines_are_visible_on_a_terminal() {
        assert_eq!(visible(b"+a\tb\\c\x1b[8m\r\0\n"), "+a\tb\\c\\x1b[8m\\x0d\\x00\n");
    }
}
