//! Directories below a root, reached component by component through descriptors, following no link: whatever a
//! task does to names meanwhile, nothing outside the root is reached.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use aegis_init::wire::PATH_BYTES_MAX;

/// Levels below the root; each holds a descriptor.
pub const LEVELS_MAX: usize = 256;

/// A root with the way to the directory that was asked for last: neighbours cost one step, not a walk.
pub struct Beneath {
    root: OwnedFd,
    open: Vec<(Vec<u8>, OwnedFd)>,
}

impl Beneath {
    /// Opens the root, which the host names: its own path may have links.
    pub fn new(root: &[u8]) -> nix::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { root: open(OsStr::from_bytes(root), flags, Mode::empty())?, open: Vec::new() })
    }

    /// The same root with a way of its own.
    pub fn again(&self) -> std::io::Result<Self> {
        Ok(Self { root: self.root.try_clone()?, open: Vec::new() })
    }

    /// The directory at a path that `split` has checked; empty means the root. The descriptor is good for calls
    /// relative to it, not for reading it.
    pub fn directory(&mut self, path: &[u8]) -> nix::Result<BorrowedFd<'_>> {
        let names: Vec<&[u8]> = components(path).collect();
        if names.len() > LEVELS_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let shared = self.open.iter().zip(&names).take_while(|((open, _), name)| open == *name).count();
        self.open.truncate(shared);
        for name in &names[shared..] {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let next = openat(self.last(), OsStr::from_bytes(name), flags, Mode::empty())?;
            self.open.push((name.to_vec(), next));
        }
        Ok(self.last())
    }

    /// Walks from the root again next time: what a name led to may be another directory by then.
    pub fn forget(&mut self) {
        self.open.clear();
    }

    fn last(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.root.as_fd(), |(_, directory)| directory.as_fd())
    }
}

/// Parent and name of a path that travels. Refused: absolute ones, too long ones, and empty, `.` or `..` components.
pub fn split(path: &[u8]) -> nix::Result<(&[u8], &OsStr)> {
    if path.len() > PATH_BYTES_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let sound = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    if !path.split(|byte| *byte == b'/').all(sound) {
        return Err(Errno::EINVAL);
    }
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => Ok((&path[..at], OsStr::from_bytes(&path[at + 1..]))),
        None => Ok((b"", OsStr::from_bytes(path))),
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Result<(&str, &str), Errno>) {
        let expected = expected.map(|(parent, name)| (parent.as_bytes(), OsStr::new(name)));
        assert_eq!(split(path.as_bytes()), expected, "{path:?}");
    }

    #[test]
    fn a_path_has_a_parent_and_a_name() {
        check("a/b/c", Ok(("a/b", "c")));
        check("c", Ok(("", "c")));
    }

    #[test]
    fn paths_that_could_leave_are_refused() {
        for path in ["", "/", "/a", "..", "a/..", "../a", "a/../b", ".", "./a", "a//b", "a/", "a\0b"] {
            check(path, Err(Errno::EINVAL));
        }
    }

    #[test]
    fn names_of_dots_are_names() {
        check("...", Ok(("", "...")));
        check("..a/.b", Ok(("..a", ".b")));
    }

    #[test]
    fn a_path_above_the_bound_is_refused() {
        check(&"a/".repeat(PATH_BYTES_MAX), Err(Errno::ENAMETOOLONG));
    }
}
