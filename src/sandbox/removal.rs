//! Removes a tree that a task wrote: any names, any depth, any modes. One directory is open at a time, no link is
//! followed, and nothing outside of the tree is reached.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

/// Removes the directory with all that is in it; gone already is success. Nobody else may be at work in it.
pub fn remove_tree(directory: &Path) -> io::Result<()> {
    let Some(parent) = directory.parent() else {
        return Err(io::Error::other("the root is not removed"));
    };
    let name = directory.file_name().map(|it| CString::new(it.as_encoded_bytes()));
    let Some(Ok(name)) = name else {
        return Err(io::Error::other("the path has no name"));
    };
    let mut here: OwnedFd = match rustix::fs::open(parent, FLAGS, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // The names of the directories that are being emptied, outermost first.
    let mut inside: Vec<CString> = Vec::new();
    let mut next = Some(name);
    loop {
        match next.take() {
            Some(name) => match openat(&here, &name, FLAGS, Mode::empty()) {
                Ok(opened) => {
                    here = opened;
                    inside.push(name);
                    next = empty(&here)?;
                }
                Err(Errno::NOENT) if inside.is_empty() => return Ok(()),
                Err(error) => return Err(error.into()),
            },
            None => {
                let Some(name) = inside.pop() else { return Ok(()) };
                here = openat(&here, c"..", FLAGS, Mode::empty())?;
                unlinkat(&here, &name, AtFlags::REMOVEDIR)?;
                if inside.is_empty() {
                    return Ok(());
                }
                next = empty(&here)?;
            }
        }
    }
}

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes what is no directory, and directories that are empty; gives the first that is not.
fn empty(directory: &OwnedFd) -> io::Result<Option<CString>> {
    for entry in Dir::read_from(directory.as_fd())? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags =
            if entry.file_type() == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(directory, name, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Some(name.to_owned())),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_goes_with_all_that_is_in_it_and_nothing_else() {
        let kept = tempfile::tempdir().expect("a directory");
        let tree = kept.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).expect("made");
        std::fs::create_dir_all(tree.join("c/d/e")).expect("made");
        std::fs::write(kept.path().join("outside"), "kept").expect("written");
        std::fs::write(tree.join("a/b/f\n"), "").expect("written");
        symlink(kept.path(), tree.join("c/link")).expect("linked");
        std::fs::set_permissions(tree.join("a/b"), std::fs::Permissions::from_mode(0o700)).expect("set");
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists() && kept.path().join("outside").exists());
        remove_tree(&tree).expect("gone already");
    }

    #[test]
    fn a_deep_tree_needs_neither_stack_nor_descriptors() {
        let kept = tempfile::tempdir().expect("a directory");
        let tree = kept.path().join("tree");
        std::fs::create_dir(&tree).expect("made");
        let mut here = rustix::fs::open(&tree, FLAGS, Mode::empty()).expect("opened");
        for _ in 0..4_000 {
            rustix::fs::mkdirat(&here, "d", Mode::from_raw_mode(0o700)).expect("made");
            here = openat(&here, "d", FLAGS, Mode::empty()).expect("opened");
        }
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists());
    }
}
