//! Patterns of files to collect, and where a walk has to look for them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use aegis_init::wire::PATH_BYTES_MAX;

/// Bytes that make a component a glob.
const GLOB_BYTES: &[u8] = b"*?[]{}\\";

/// Where a pattern starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The workspace.
    Workspace,
    /// The root of the sandbox.
    Root,
}

/// One pattern.
#[derive(Debug)]
pub struct Pattern {
    /// Where it starts.
    pub base: Base,
    /// Its place in the request.
    pub index: u32,
    /// Whether something matched it.
    pub matched: bool,
    literal: Vec<Vec<u8>>,
    glob: Option<Glob>,
}

#[derive(Debug)]
struct Glob {
    matcher: GlobMatcher,
    /// Components of every path that it can match; `None` where they vary.
    depth: Option<usize>,
}

/// What a walk needs of a directory for a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest<'a> {
    /// Nothing below can match.
    Nothing,
    /// Only this name.
    Name(&'a [u8]),
    /// Any name.
    Everything,
}

impl Pattern {
    /// Reads a pattern; `None` if it can match nothing: it climbs, is too long, or is no glob.
    pub fn parse(index: u32, pattern: &[u8], workspace: &[u8]) -> Option<Self> {
        if pattern.is_empty() || pattern.len() > PATH_BYTES_MAX || pattern.contains(&0) {
            return None;
        }
        let mut names: Vec<&[u8]> = components(pattern).collect();
        if names.contains(&b"..".as_slice()) {
            return None;
        }
        let mut base = if pattern.starts_with(b"/") { Base::Root } else { Base::Workspace };
        let workspace: Vec<&[u8]> = components(workspace).collect();
        if base == Base::Root && !workspace.is_empty() && names.starts_with(&workspace) {
            // A file of the workspace has one name, however it is asked for.
            names.drain(..workspace.len());
            base = Base::Workspace;
        }
        let is_glob = |name: &&[u8]| name.iter().any(|byte| GLOB_BYTES.contains(byte));
        let literal: Vec<Vec<u8>> =
            names.iter().take_while(|it| !is_glob(it)).map(|it| it.to_vec()).collect();
        let glob = if literal.len() < names.len() { Some(Glob::parse(&names)?) } else { None };
        Some(Self { base, index, matched: false, literal, glob })
    }

    /// Whether a path below the base matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        match &self.glob {
            Some(glob) => glob.matcher.is_match(Path::new(OsStr::from_bytes(path))),
            None => components(path).eq(self.literal.iter().map(Vec::as_slice)),
        }
    }

    /// What is of interest in the directory at this path; empty means the base.
    pub fn interest(&self, directory: &[u8]) -> Interest<'_> {
        let mut depth = 0;
        for name in components(directory) {
            if self.literal.get(depth).is_some_and(|literal| literal != name) {
                return Interest::Nothing;
            }
            depth += 1;
        }
        if let Some(next) = self.literal.get(depth) {
            return Interest::Name(next);
        }
        match &self.glob {
            Some(glob) if glob.depth.is_none_or(|it| depth < it) => Interest::Everything,
            Some(_) | None => Interest::Nothing,
        }
    }
}

impl Glob {
    fn parse(names: &[&[u8]]) -> Option<Self> {
        let text = std::str::from_utf8(&names.join(&b'/')).ok()?.to_owned();
        let matcher = GlobBuilder::new(&text).literal_separator(true).build().ok()?.compile_matcher();
        // An alternative may hold separators; two stars stand for any number of names.
        let varies = text.contains("**") || text.contains('{') || text.contains('\\');
        Some(Self { matcher, depth: (!varies).then_some(names.len()) })
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(0, text.as_bytes(), b"/workspace").expect("a pattern")
    }

    fn check(text: &str, path: &str, expected: bool) {
        assert_eq!(pattern(text).matches(path.as_bytes()), expected, "{text} on {path}");
    }

    fn check_interest(text: &str, directory: &str, expected: Interest) {
        assert_eq!(pattern(text).interest(directory.as_bytes()), expected, "{text} in {directory:?}");
    }

    fn check_base(text: &str, expected: Option<Base>) {
        let parsed = Pattern::parse(0, text.as_bytes(), b"/workspace");
        assert_eq!(parsed.map(|it| it.base), expected, "{text}");
    }

    #[test]
    fn a_name_matches_itself() {
        check("dist/app", "dist/app", true);
        check("./dist//app/", "dist/app", true);
        check("dist/app", "dist/apps", false);
        check("dist/app", "dist", false);
    }

    #[test]
    fn one_star_stays_in_its_directory() {
        check("dist/*.js", "dist/a.js", true);
        check("dist/*.js", "dist/sub/a.js", false);
    }

    #[test]
    fn two_stars_go_down() {
        check("**/*.xml", "a.xml", true);
        check("**/*.xml", "a/b/c.xml", true);
        check("dist/**", "dist/a/b", true);
    }

    #[test]
    fn alternatives_may_hold_separators() {
        check("{a/b,c}.txt", "a/b.txt", true);
        check("{a/b,c}.txt", "c.txt", true);
    }

    #[test]
    fn bytes_that_are_no_text_match_by_name() {
        let parsed = Pattern::parse(0, b"a\xff/b", b"/workspace").expect("a pattern");
        assert!(parsed.matches(b"a\xff/b"));
        assert!(Pattern::parse(0, b"a\xff/*", b"/workspace").is_none());
    }

    #[test]
    fn a_walk_goes_straight_to_a_name() {
        check_interest("a/b/*.c", "", Interest::Name(b"a"));
        check_interest("a/b/*.c", "a", Interest::Name(b"b"));
        check_interest("a/b/*.c", "a/b", Interest::Everything);
    }

    #[test]
    fn a_walk_goes_nowhere_else() {
        check_interest("a/b/*.c", "x", Interest::Nothing);
        check_interest("a/b/*.c", "a/b/sub", Interest::Nothing);
        check_interest("a/b", "a/b", Interest::Nothing);
    }

    #[test]
    fn a_walk_for_two_stars_goes_everywhere_below() {
        check_interest("a/**/c", "a/x/y/z", Interest::Everything);
        check_interest("a/**/c", "b", Interest::Nothing);
    }

    #[test]
    fn patterns_that_climb_or_are_broken_match_nothing() {
        for text in ["../x", "a/../b", "/..", "", "[a", "a\0"] {
            check_base(text, None);
        }
    }

    #[test]
    fn an_absolute_pattern_in_the_workspace_is_the_workspaces() {
        check_base("/workspace/dist", Some(Base::Workspace));
        check_base("/workspace2/dist", Some(Base::Root));
        check_base("/tmp/*", Some(Base::Root));
        check("/workspace/dist", "dist", true);
    }
}
