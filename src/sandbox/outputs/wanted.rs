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
    /// A pattern names the workspace, or the root, itself.
    everything: bool,
    git_named: bool,
}

impl Wanted {
    /// Takes patterns as typed. `workspace` is where the workspace lies in the sandbox, empty without one: what is
    /// asked for in it by an absolute pattern comes out by its relative name.
    pub fn parse(patterns: &[String], workspace: &str) -> Result<Self, OutputError> {
        let refused = |pattern: &str, reason: String| OutputError::Pattern {
            pattern: escape(pattern.as_bytes()).chars().take(200).collect(),
            reason,
        };
        if let Some(pattern) = patterns.get(PATTERNS_MAX) {
            return Err(refused(pattern, format!("at most {PATTERNS_MAX} patterns are taken")));
        }
        let mut globs = GlobSetBuilder::new();
        let mut everything = false;
        for pattern in patterns {
            if pattern.is_empty() {
                return Err(refused(pattern, "it is empty; name a file, a directory or a glob".to_owned()));
            }
            if pattern.len() > PATTERN_BYTES_MAX {
                return Err(refused(pattern, format!("it is longer than {PATTERN_BYTES_MAX} bytes")));
            }
            if pattern.contains('\0') {
                return Err(refused(pattern, "it has a NUL character".to_owned()));
            }
            let Some(plain) = relative(pattern, workspace) else {
                return Err(refused(pattern, "`..` leads out of the workspace".to_owned()));
            };
            everything |= plain.is_empty();
            match GlobBuilder::new(&plain).literal_separator(true).build() {
                Ok(glob) => globs.add(glob),
                Err(cause) => return Err(refused(pattern, cause.kind().to_string())),
            };
        }
        let git_named = patterns.iter().any(|it| it.split('/').any(|it| is_git(it.as_bytes())));
        match globs.build() {
            Ok(globs) => Ok(Self { globs, count: patterns.len(), everything, git_named }),
            Err(cause) => Err(refused("", cause.kind().to_string())),
        }
    }

    /// How many patterns there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many levels a path lies below what was asked for: 0 for a match itself, `None` if neither it nor a directory
    /// that it lies in was.
    pub fn level(&self, path: &[u8]) -> Option<u64> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let ancestors = path.ancestors().filter(|it| !it.as_os_str().is_empty());
        if self.everything {
            return Some(ancestors.count() as u64);
        }
        let matched = ancestors.enumerate().filter(|(_, it)| self.globs.is_match(it)).last();
        matched.map(|(level, _)| level as u64)
    }

    /// Whether this path lies in a `.git` that no pattern names. Its configuration and hooks are run by whoever only
    /// enters the directory with a prompt that shows the branch.
    pub fn hides_git(&self, path: &[u8]) -> bool {
        !self.git_named && path.split(|it| *it == b'/').any(is_git)
    }
}

/// A pattern as init compares it: free of empty and `.` components, relative to the workspace, else to the root.
fn relative(pattern: &str, workspace: &str) -> Option<String> {
    let components = |it: &'_ str| -> Vec<String> {
        it.split('/').filter(|it| !matches!(*it, "" | ".")).map(str::to_owned).collect()
    };
    let mut names = components(pattern);
    if names.iter().any(|it| it == "..") {
        return None;
    }
    let workspace = components(workspace);
    if pattern.starts_with('/') && !workspace.is_empty() && names.starts_with(&workspace) {
        names.drain(..workspace.len());
    }
    Some(names.join("/"))
}

fn is_git(component: &[u8]) -> bool {
    component.eq_ignore_ascii_case(b".git")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, expected: Option<u64>) {
        let wanted = Wanted::parse(&[pattern.to_owned()], "/workspace").expect("it parses");
        assert_eq!(wanted.level(path.as_bytes()), expected);
    }

    fn check_refused(pattern: &str, expected: &str) {
        let refusal = Wanted::parse(&[pattern.to_owned()], "/workspace").expect_err("a refusal").to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }

    #[test]
    fn a_named_file_is_wanted() {
        check("out/report.xml", "out/report.xml", Some(0));
        check("out/report.xml", "out/other.xml", None);
    }

    #[test]
    fn a_named_directory_is_wanted_whole() {
        check("./out/", "out/a/b", Some(2));
        check("out", "outside", None);
    }

    #[test]
    fn globs_match_within_a_component() {
        check("*.xml", "a.xml", Some(0));
        check("*.xml", "a/b.xml", None);
        check("**/*.xml", "a/b/c.xml", Some(0));
    }

    #[test]
    fn levels_count_from_the_first_match() {
        check("**/d", "d/d/x", Some(2));
    }

    #[test]
    fn an_absolute_pattern_is_relative_to_the_root_or_the_workspace() {
        check("/tmp/x", "tmp/x", Some(0));
        check("/workspace/out", "out/x", Some(1));
        check("/workspace/out", "workspace/out/x", None);
    }

    #[test]
    fn the_workspace_itself_can_be_asked_for() {
        check(".", "a/b", Some(2));
        check("/workspace", "a/b", Some(2));
    }

    #[test]
    fn names_of_hidden_git_directories_are_told() {
        let hides = |pattern: &str, path: &str| {
            Wanted::parse(&[pattern.to_owned()], "").expect("it parses").hides_git(path.as_bytes())
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
