//! Which paths and link targets may be written. Pure.

use std::fmt;

use aegis_init::wire::PATH_BYTES_MAX;

/// Bytes of one component at the most (Linux `NAME_MAX`).
const COMPONENT_BYTES_MAX: usize = 255;

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathFault {
    /// It is empty.
    Empty,
    /// It starts with `/`.
    Absolute,
    /// It has an empty component, `.` or `..`.
    Dots,
    /// It has a NUL byte.
    Nul,
    /// It, or a component of it, is too long.
    TooLong,
}

impl fmt::Display for PathFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Empty => "its path is empty",
            Self::Absolute => "its path is absolute",
            Self::Dots => "its path has an empty component, `.` or `..`",
            Self::Nul => "its path has a NUL byte",
            Self::TooLong => "its path is too long",
        })
    }
}

/// A path that may be written: relative, of proper components only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SafePath<'a>(&'a [u8]);

impl<'a> SafePath<'a> {
    /// Takes a path if nothing is wrong with it.
    pub fn parse(path: &'a [u8]) -> Result<Self, PathFault> {
        if path.is_empty() {
            return Err(PathFault::Empty);
        }
        if path[0] == b'/' {
            return Err(PathFault::Absolute);
        }
        if path.contains(&0) {
            return Err(PathFault::Nul);
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(PathFault::TooLong);
        }
        for component in path.split(|it| *it == b'/') {
            if matches!(component, b"" | b"." | b"..") {
                return Err(PathFault::Dots);
            }
            if component.len() > COMPONENT_BYTES_MAX {
                return Err(PathFault::TooLong);
            }
        }
        Ok(Self(path))
    }

    /// The whole path.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The directory part, empty at the top, and the last component.
    pub fn split(self) -> (&'a [u8], &'a [u8]) {
        match self.0.iter().rposition(|it| *it == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (b"", self.0),
        }
    }

    /// How many directories lead to it.
    pub fn depth(self) -> usize {
        self.0.iter().filter(|it| **it == b'/').count()
    }

    /// Whether a link at this path may have this target. The directories that lead to the link are real ones, because
    /// no link is ever traversed while writing; so each leading `..` goes up exactly one of them, and as many as there
    /// are stay below the top. A `..` after a name could stand behind another link, where up is elsewhere: refused.
    pub fn may_link_to(self, target: &[u8]) -> bool {
        if target.is_empty() || target[0] == b'/' || target.contains(&0) || target.len() >= PATH_BYTES_MAX {
            return false;
        }
        let mut upwards = 0;
        let mut named = false;
        for component in target.split(|it| *it == b'/') {
            match component {
                b"" | b"." => {}
                b".." if named => return false,
                b".." => upwards += 1,
                _ => named = true,
            }
        }
        upwards <= self.depth()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &[u8], expected: Result<(), PathFault>) {
        assert_eq!(SafePath::parse(path).map(drop), expected);
    }

    fn check_link(path: &str, target: &str, expected: bool) {
        assert_eq!(
            SafePath::parse(path.as_bytes()).map(|it| it.may_link_to(target.as_bytes())),
            Ok(expected)
        );
    }

    #[test]
    fn plain_and_odd_names_are_taken() {
        for path in [b"a/b.txt".as_slice(), b"-rf", b"...", b"a\nb", b"\xff\xfe", b"C:\\x", b".git"] {
            check(path, Ok(()));
        }
    }

    #[test]
    fn absolute_paths_are_refused() {
        check(b"/etc/passwd", Err(PathFault::Absolute));
    }

    #[test]
    fn dots_are_refused_wherever_they_stand() {
        for path in [b"..".as_slice(), b"../x", b"a/../../x", b"a/.", b"./a", b"a//b", b"a/"] {
            check(path, Err(PathFault::Dots));
        }
    }

    #[test]
    fn an_empty_path_and_a_nul_are_refused() {
        check(b"", Err(PathFault::Empty));
        check(b"a\0b", Err(PathFault::Nul));
    }

    #[test]
    fn long_paths_and_components_are_refused() {
        check(&[b'a'; 255], Ok(()));
        check(&[b'a'; 256], Err(PathFault::TooLong));
        check(&b"a/".repeat(2048)[..4095], Ok(()));
        check(&[b"a/".repeat(2048), b"aa".to_vec()].concat(), Err(PathFault::TooLong));
    }

    #[test]
    fn a_link_may_point_beside_and_below_itself() {
        check_link("a", "b", true);
        check_link("a", "./b/c/", true);
    }

    #[test]
    fn a_link_may_go_up_to_the_top_and_not_further() {
        check_link("a/b/link", "../../c", true);
        check_link("a/b/link", "../../..", false);
        check_link("link", "..", false);
    }

    #[test]
    fn an_absolute_target_is_refused() {
        check_link("a/b", "/etc/passwd", false);
    }

    #[test]
    fn going_up_behind_a_name_is_refused() {
        check_link("a/b/link", "c/..", false);
        check_link("a/b/link", "../c/../d", false);
    }

    #[test]
    fn an_empty_target_is_refused() {
        check_link("a", "", false);
    }
}
