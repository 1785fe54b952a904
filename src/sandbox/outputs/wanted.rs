//! What was asked for. Init is told the same patterns; here they bound what a hostile one may send: nothing lands
//! beside what its owner named.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::sandbox::outputs::OutputError;
use crate::task::escape::escape;

/// Patterns of one run at the most.
pub const PATTERNS_MAX: usize = 256;
/// Bytes of a pattern at the most.
const PATTERN_BYTES_MAX: usize = 4096;

/// The patterns of `--output`.
#[derive(Debug, Clone)]
pub struct Wanted {
    globs: GlobSet,
    count: usize,
    git_named: bool,
}

impl Wanted {
    /// Takes patterns as typed.
    pub fn parse(patterns: &[String]) -> Result<Self, OutputError> {
        let refused = |pattern: &str, reason: String| OutputError::Pattern {
            pattern: escape(pattern.as_bytes()).chars().take(200).collect(),
            reason,
        };
        if let Some(pattern) = patterns.get(PATTERNS_MAX) {
            return Err(refused(pattern, format!("at most {PATTERNS_MAX} patterns are taken")));
        }
        let mut globs = GlobSetBuilder::new();
        for pattern in patterns {
            if pattern.len() > PATTERN_BYTES_MAX {
                return Err(refused(pattern, format!("it is longer than {PATTERN_BYTES_MAX} bytes")));
            }
            let components: Vec<&str> = pattern.split('/').filter(|it| !matches!(*it, "" | ".")).collect();
            if components.contains(&"..") {
                return Err(refused(pattern, "`..` leads out of the workspace".to_owned()));
            }
            if pattern.is_empty() {
                return Err(refused(pattern, "it is empty; name a file, a directory or a glob".to_owned()));
            }
            // `.` and `/` ask for everything.
            let plain = if components.is_empty() { "**".to_owned() } else { components.join("/") };
            // Init matches `*` within one component; a wider match here only fails to forbid.
            match GlobBuilder::new(&plain).literal_separator(false).build() {
                Ok(glob) => globs.add(glob),
                Err(cause) => return Err(refused(pattern, cause.kind().to_string())),
            };
        }
        let git_named = patterns.iter().any(|it| it.split('/').any(is_git));
        match globs.build() {
            Ok(globs) => Ok(Self { globs, count: patterns.len(), git_named }),
            Err(cause) => Err(refused("", cause.kind().to_string())),
        }
    }

    /// How many patterns there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a file or link at this path was asked for: it, or a directory that it lies in, matches.
    pub fn names(&self, path: &[u8]) -> bool {
        Path::new(std::ffi::OsStr::from_bytes(path)).ancestors().any(|it| self.globs.is_match(it))
    }

    /// Whether this path lies in a `.git` that no pattern names. Its configuration and hooks are run by whoever only
    /// enters the directory with a prompt that shows the branch.
    pub fn hides_git(&self, path: &[u8]) -> bool {
        !self.git_named && path.split(|it| *it == b'/').any(|it| it.eq_ignore_ascii_case(b".git"))
    }
}

fn is_git(component: &str) -> bool {
    component.eq_ignore_ascii_case(".git")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &[&str], path: &str, expected: bool) {
        let patterns: Vec<String> = patterns.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(Wanted::parse(&patterns).map(|it| it.names(path.as_bytes())).ok(), Some(expected));
    }

    fn check_refused(pattern: &str, expected: &str) {
        let refusal = Wanted::parse(&[pattern.to_owned()]).expect_err("a refusal").to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }

    #[test]
    fn a_named_file_is_wanted() {
        check(&["out/report.xml"], "out/report.xml", true);
        check(&["out/report.xml"], "out/other.xml", false);
    }

    #[test]
    fn a_named_directory_is_wanted_whole() {
        check(&["./out/"], "out/a/b", true);
        check(&["out"], "outside", false);
    }

    #[test]
    fn globs_match() {
        check(&["**/*.xml"], "a/b/c.xml", true);
        check(&["*.xml"], "a.txt", false);
    }

    #[test]
    fn an_absolute_pattern_is_relative_to_the_root() {
        check(&["/tmp/x"], "tmp/x", true);
    }

    #[test]
    fn a_dot_asks_for_everything() {
        check(&["."], "a/b", true);
    }

    #[test]
    fn names_of_hidden_git_directories_are_told() {
        let hides = |pattern: &str, path: &str| {
            Wanted::parse(&[pattern.to_owned()]).expect("it parses").hides_git(path.as_bytes())
        };
        assert!(hides(".", "a/.GIT/config"));
        assert!(!hides("a/.git", "a/.git/config"));
        assert!(!hides(".", "a/.gitignore"));
    }

    #[test]
    fn patterns_that_cannot_match_are_refused() {
        check_refused("", "it is empty");
        check_refused("../x", "`..` leads out");
        check_refused("a[", "`a[` is not an output pattern");
    }
}
