//! What a request would have bound or written, looked at on the disk: every directory on the way is opened by itself, never
//! through a link, and belongs to the server. The path that the engine is given then is the one that was looked at; whoever
//! can rename these directories can still put something else there before the engine looks (SECURITY.md says what for).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aegis_init::wire::INIT_PATH;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat};

use crate::broker::rules::Refusal;
use crate::broker::shape::Ground;
use crate::broker::wire::Create;
use crate::sandbox::trust;

/// How a directory is opened here: to be looked at, never through a link.
const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The same for a file.
const FILE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Others may write.
const OPEN_TO_OTHERS: u32 = 0o022;

/// A directory on the way down, with where it is.
struct Held {
    directory: OwnedFd,
    path: PathBuf,
}

/// Whether the instance's directory is there, and the server's.
pub fn instance(ground: &Ground, server_uid: u32) -> Result<(), Refusal> {
    below(&ground.runtime_directory, &[], server_uid).map(drop)
}

/// Whether everything that a container would be given of the host is the slot's own.
pub fn create(create: &Create, ground: &Ground, server_uid: u32) -> Result<(), Refusal> {
    let slot = create.slot.to_string();
    let inner = below(&ground.runtime_directory, &["slots", &slot, "in"], server_uid)?;
    let init = Path::new(INIT_PATH).file_name().and_then(|it| it.to_str()).unwrap_or_default();
    inner.file(init, server_uid)?;
    if create.authorities {
        inner.file(trust::BUNDLE_NAME, server_uid)?;
        inner.file(trust::KEY_STORE_NAME, server_uid)?;
    }
    let Some(name) = &create.layers else { return Ok(()) };
    let Some(work) = &ground.work_directory else {
        return Err(Refusal::Field {
            field: "layers",
            reason: "cannot be had: there is no work directory".to_owned(),
        });
    };
    let layers = below(work, &["runs", name], server_uid)?;
    layers.enter("lower", server_uid)?;
    layers.enter("work", server_uid)?;
    layers.enter("upper", create.uid).map(drop)
}

/// Opens a directory of an instance and what is below it, step by step.
fn below(instance: &Path, names: &[&str], owner: u32) -> Result<Held, Refusal> {
    let directory = openat(CWD, instance, DIRECTORY, Mode::empty()).map_err(|it| missing(instance, it))?;
    let mut held = Held { directory, path: instance.to_owned() };
    held.is_owned(owner)?;
    for name in names {
        held = held.enter(name, owner)?;
    }
    Ok(held)
}

impl Held {
    fn enter(&self, name: &str, owner: u32) -> Result<Self, Refusal> {
        let path = self.path.join(name);
        let directory = openat(self.directory.as_fd(), name, DIRECTORY, Mode::empty())
            .map_err(|it| missing(&path, it))?;
        let held = Self { directory, path };
        held.is_owned(owner)?;
        Ok(held)
    }

    fn is_owned(&self, owner: u32) -> Result<(), Refusal> {
        let found = fstat(&self.directory).map_err(|it| missing(&self.path, it))?;
        owned(&self.path, &found, owner)
    }

    fn file(&self, name: &str, owner: u32) -> Result<(), Refusal> {
        let path = self.path.join(name);
        let opened = openat(self.directory.as_fd(), name, FILE, Mode::empty());
        let found = opened.and_then(fstat).map_err(|it| missing(&path, it))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(wrong(&path, "it is no file"));
        }
        owned(&path, &found, owner)
    }
}

fn owned(path: &Path, found: &Stat, owner: u32) -> Result<(), Refusal> {
    if found.st_uid != owner {
        return Err(wrong(path, &format!("it belongs to user {}, not {owner}", found.st_uid)));
    }
    if found.st_mode & OPEN_TO_OTHERS != 0 {
        return Err(wrong(path, "others may write it"));
    }
    Ok(())
}

fn missing(path: &Path, error: rustix::io::Errno) -> Refusal {
    wrong(path, &std::io::Error::from(error).to_string())
}

fn wrong(path: &Path, reason: &str) -> Refusal {
    Refusal::Place { path: path.display().to_string(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};

    use super::*;
    use crate::broker::shape;

    struct Tree {
        root: tempfile::TempDir,
        uid: u32,
    }

    impl Tree {
        /// A slot and layers as a server makes them.
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a directory");
            let make = |path: &str| {
                let mut builder = fs::DirBuilder::new();
                builder.recursive(true).mode(0o700).create(root.path().join(path)).expect("made");
            };
            make("run/slots/7/in");
            for name in ["lower", "upper", "work"] {
                make(&format!("work/runs/7.1/{name}"));
            }
            for name in ["aegis-init", "ca.pem", "cacerts"] {
                fs::write(root.path().join("run/slots/7/in").join(name), "x").expect("written");
                let mode = fs::Permissions::from_mode(0o444);
                fs::set_permissions(root.path().join("run/slots/7/in").join(name), mode).expect("set");
            }
            Self { root, uid: rustix::process::geteuid().as_raw() }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.root.path().join(path)
        }

        fn replace(&self, path: &str, target: &str) {
            fs::rename(self.path(path), self.path("aside")).expect("moved");
            symlink(target, self.path(path)).expect("a link");
        }

        fn asked(&self) -> Result<(), Refusal> {
            self.asked_by(self.uid)
        }

        fn asked_by(&self, server_uid: u32) -> Result<(), Refusal> {
            let mut asked = shape::tests::create();
            // As layers of the server's own user: only root gives them to another.
            (asked.uid, asked.authorities, asked.layers) = (self.uid, true, Some("7.1".to_owned()));
            let ground = Ground {
                runtime_directory: self.path("run"),
                work_directory: Some(self.path("work")),
                ..shape::tests::ground()
            };
            create(&asked, &ground, server_uid)
        }

        #[track_caller]
        fn check_refused(&self, path: &str) {
            let refusal = self.asked().expect_err("refused").to_string();
            assert!(refusal.contains(&format!("{path}` is not what a slot has there")), "{refusal}");
        }
    }

    #[test]
    fn what_a_server_made_is_taken() {
        assert_eq!(Tree::new().asked(), Ok(()));
    }

    #[test]
    fn a_link_anywhere_on_the_way_is_refused() {
        for path in [
            "run",
            "run/slots",
            "run/slots/7",
            "run/slots/7/in",
            "run/slots/7/in/aegis-init",
            "run/slots/7/in/ca.pem",
            "run/slots/7/in/cacerts",
            "work",
            "work/runs",
            "work/runs/7.1",
            "work/runs/7.1/lower",
            "work/runs/7.1/upper",
            "work/runs/7.1/work",
        ] {
            let tree = Tree::new();
            // It leads to the very same.
            tree.replace(path, tree.path("aside").to_str().expect("a path"));
            tree.check_refused(path);
        }
        let tree = Tree::new();
        tree.replace("run/slots/7/in", "/");
        tree.check_refused("run/slots/7/in");
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let tree = Tree::new();
        let mode = fs::Permissions::from_mode(0o777);
        fs::set_permissions(tree.path("run/slots/7/in"), mode).expect("set");
        tree.check_refused("run/slots/7/in");
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let tree = Tree::new();
        fs::remove_file(tree.path("run/slots/7/in/aegis-init")).expect("removed");
        tree.check_refused("run/slots/7/in/aegis-init");
        let tree = Tree::new();
        fs::remove_dir_all(tree.path("work/runs/7.1/upper")).expect("removed");
        tree.check_refused("work/runs/7.1/upper");
    }

    #[test]
    fn what_somebody_else_owns_is_refused() {
        let tree = Tree::new();
        let refusal = tree.asked_by(tree.uid + 1).expect_err("refused").to_string();
        assert!(refusal.contains("it belongs to user"), "{refusal}");
    }
}
