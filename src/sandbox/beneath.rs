//! Opening what lies below a directory that somebody else fills, one component at a time: no link is followed, so no
//! name leads out of it.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// How directories are opened here.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the directory at `path`, relative to `root`; the empty path is `root` itself. A link on the way is `ENOTDIR`
/// or `ELOOP`, a component `..` is `EINVAL`.
pub fn directory(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut names = path.split(|it| *it == b'/').filter(|it| !it.is_empty());
    if names.clone().any(|it| it == b"..") {
        return Err(Errno::INVAL);
    }
    if names.clone().nth(1).is_some() && path.first() != Some(&b'/') {
        // One call, where the kernel has it and the path is one that it takes.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(root, path, DIRECTORY, Mode::empty(), resolve) {
            Err(Errno::NAMETOOLONG | Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    let opened = openat(root, names.next().unwrap_or(b"."), DIRECTORY, Mode::empty())?;
    names.try_fold(opened, |opened, name| openat(&opened, name, DIRECTORY, Mode::empty()))
}

/// Opens what `name` is in `parent` for reading, never through a link. A FIFO does not block; whether it is a regular
/// file is for the caller to look at.
pub fn file(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// `parent` and `name` as one relative path.
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        return name.to_vec();
    }
    [parent, b"/", name].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;

    fn check(path: &str, expected: Result<(), Errno>) {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("a/b")).expect("directories");
        symlink("/etc", root.path().join("out")).expect("a link");
        symlink("a", root.path().join("in")).expect("a link");
        let opened = fs::File::open(root.path()).expect("the root");
        assert_eq!(directory(opened.as_fd(), path.as_bytes()).map(drop), expected);
    }

    #[test]
    fn a_directory_below_is_opened() {
        check("a/b", Ok(()));
    }

    #[test]
    fn the_empty_path_is_the_root() {
        check("", Ok(()));
    }

    #[test]
    fn no_link_is_followed_wherever_it_leads() {
        check("out", Err(Errno::NOTDIR));
        check("in/b", Err(Errno::LOOP));
        check("a/b/../../out", Err(Errno::INVAL));
    }

    #[test]
    fn the_parent_is_out_of_reach() {
        check("a/../..", Err(Errno::INVAL));
    }
}
