//! A slot's directory below the runtime directory: the owner's lock, and the one directory that the sandbox sees.
//!
//! ```text
//! <runtime>/slots/<number>/            0700
//! <runtime>/slots/<number>/owner.lock  locked as long as the owner lives
//! <runtime>/slots/<number>/container   the engine's id of its container, once there is one
//! <runtime>/slots/<number>/in/         0711, mounted read-only: aegis-init, control.sock (unlinked after the accept),
//!                                      ca.pem, cacerts where the sandbox trusts its gateway
//! ```
//!
//! The number gives the sandbox a user id of its own: inotify and key quotas are counted per user.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::container::TrustBundle;
use crate::sandbox::trust::Authorities;
use crate::sandbox::{init_binary, trust};

/// Slots of one instance at the most.
pub const SLOTS_MAX: u32 = 4096;
/// User and group id of slot 0.
pub const UID_FIRST: u32 = 2_000_000_000;
/// Bytes of a socket's path, below `sun_path`.
const SOCKET_PATH_BYTES_MAX: usize = 100;
/// The lock's name.
const LOCK_NAME: &str = "owner.lock";
/// How the extension of a directory begins that is being removed.
const GONE: &str = "gone-";
/// The name of the file that tells the container.
const CONTAINER_NAME: &str = "container";

/// A slot that this process owns. Dropping it removes its directory.
#[derive(Debug)]
pub struct Slot {
    /// Its number, 0 to 4,095.
    pub number: u32,
    directory: PathBuf,
    listener: Option<OwnedFd>,
    // The kernel gives the lock back when the process ends, however it ends.
    _lock: OwnedFd,
}

/// Why there is no slot.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The runtime directory's path is too long for a socket.
    #[error(
        "the runtime directory `{}` is too long for a socket below it ({SOCKET_PATH_BYTES_MAX} bytes): use a shorter \
         XDG_RUNTIME_DIR", path.display()
    )]
    PathTooLong {
        /// The directory.
        path: PathBuf,
    },
    /// Every number is taken.
    #[error(
        "all {SLOTS_MAX} slots of this instance are taken: wait for runs to end, or end some with `aegis cancel`"
    )]
    Exhausted,
    /// The directory could not be made.
    #[error("the slot directory below `{}` cannot be made", path.display())]
    Io {
        /// The runtime directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What a sweep found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadSlot {
    /// Its number.
    pub number: u32,
    /// Its directory.
    pub directory: PathBuf,
}

impl Slot {
    /// Takes the first free number and lays its directory out, listening.
    pub fn make(runtime_directory: &Path) -> Result<Self, SlotError> {
        let failed = |source| SlotError::Io { path: runtime_directory.to_owned(), source };
        let slots = runtime_directory.join("slots");
        make_private(&slots).map_err(failed)?;
        let program = init_binary::ensure(runtime_directory).map_err(failed)?;
        for number in 0..SLOTS_MAX {
            let directory = slots.join(number.to_string());
            if let Some(lock) = take(&directory).map_err(failed)? {
                return Self::lay_out(number, directory, lock, &program, runtime_directory);
            }
        }
        Err(SlotError::Exhausted)
    }

    fn lay_out(
        number: u32,
        directory: PathBuf,
        lock: OwnedFd,
        program: &Path,
        runtime_directory: &Path,
    ) -> Result<Self, SlotError> {
        let failed = |source| SlotError::Io { path: runtime_directory.to_owned(), source };
        let inner = directory.join("in");
        let socket = inner.join("control.sock");
        if socket.as_os_str().len() >= SOCKET_PATH_BYTES_MAX {
            return Err(SlotError::PathTooLong { path: runtime_directory.to_owned() });
        }
        // A dead owner's leftovers: the number was free, so nobody uses them.
        let _ = std::fs::remove_dir_all(&inner);
        let _ = std::fs::remove_file(directory.join(CONTAINER_NAME));
        std::fs::DirBuilder::new().mode(0o711).create(&inner).map_err(failed)?;
        std::fs::hard_link(program, inner.join("aegis-init")).map_err(failed)?;
        let listener = listen(&socket).map_err(|it| failed(it.into()))?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o711)).map_err(failed)?;
        Ok(Self { number, directory, listener: Some(listener), _lock: lock })
    }

    /// The directory that the sandbox sees.
    pub fn inner_directory(&self) -> PathBuf {
        self.directory.join("in")
    }

    /// Lays the authorities that the sandbox trusts where it can read them.
    pub fn put_authorities(&self, authorities: &Authorities) -> Result<Vec<TrustBundle>, SlotError> {
        let inner = self.inner_directory();
        let put = |name: &str, bytes: &[u8]| {
            std::fs::write(inner.join(name), bytes)?;
            std::fs::set_permissions(inner.join(name), std::fs::Permissions::from_mode(0o444))
        };
        put(trust::BUNDLE_NAME, authorities.pem.as_bytes())
            .and_then(|()| put(trust::KEY_STORE_NAME, &authorities.key_store))
            .map_err(|source| SlotError::Io { path: self.directory.clone(), source })?;
        Ok(trust::bundles(&inner))
    }

    /// Tells which container is this slot's: another one with its number is a dead owner's. Where that cannot be told, none
    /// with its number is removed as long as this slot is held.
    pub fn hold(&self, container: &str) {
        let _ = std::fs::write(self.directory.join(CONTAINER_NAME), container);
    }

    /// User and group id of the sandbox.
    pub fn uid(&self) -> u32 {
        UID_FIRST + self.number
    }

    /// The listening socket, once.
    pub fn take_listener(&mut self) -> Option<OwnedFd> {
        self.listener.take()
    }

    /// Takes the socket's name away: nobody else can come.
    pub fn close_door(&self) {
        let _ = std::fs::remove_file(self.inner_directory().join("control.sock"));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _ = remove(&self.directory);
    }
}

/// Removes a slot's directory, whose lock the caller holds. It loses its name first, and whole: who takes the number next
/// finds nothing that is being removed.
fn remove(directory: &Path) -> std::io::Result<()> {
    static REMOVED: AtomicU64 = AtomicU64::new(0);
    let (process, count) = (std::process::id(), REMOVED.fetch_add(1, Ordering::Relaxed));
    let gone = directory.with_extension(format!("{GONE}{process}-{count}"));
    std::fs::rename(directory, &gone)?;
    // Who was about to take the number may have put a lock there under the old name: the next sweep finds what is left then.
    let _ = std::fs::remove_dir_all(&gone).or_else(|_| std::fs::remove_dir_all(&gone));
    Ok(())
}

/// Slots whose owner is gone. Each is held by the caller only for the moment of looking.
pub fn dead_slots(runtime_directory: &Path) -> std::io::Result<Vec<DeadSlot>> {
    let mut dead = Vec::new();
    let entries = match std::fs::read_dir(runtime_directory.join("slots")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(dead),
        Err(error) => return Err(error),
    };
    for entry in entries.take(SLOTS_MAX as usize) {
        let directory = entry?.path();
        if directory.extension().and_then(|it| it.to_str()).is_some_and(|it| it.starts_with(GONE)) {
            // Its remover may have died over it, or be at it.
            let _ = std::fs::remove_dir_all(&directory);
            continue;
        }
        let Some(number) = directory.file_name().and_then(|it| it.to_str()).and_then(|it| it.parse().ok())
        else {
            continue;
        };
        if is_free(&directory) {
            dead.push(DeadSlot { number, directory });
        }
    }
    Ok(dead)
}

/// Takes a dead slot for removal, runs `before` while nobody else can have it, and removes its directory. False if
/// somebody has it after all.
pub async fn remove_dead<F: Future<Output = bool>>(
    dead: &DeadSlot,
    before: impl FnOnce() -> F,
) -> std::io::Result<bool> {
    let Some(_lock) = take(&dead.directory)? else {
        return Ok(false);
    };
    if !before().await {
        return Ok(false);
    }
    remove(&dead.directory)?;
    Ok(true)
}

/// Whether the slot with this number has a living owner.
pub fn is_owned(runtime_directory: &Path, number: u32) -> bool {
    let directory = runtime_directory.join("slots").join(number.to_string());
    directory.is_dir() && !is_free(&directory)
}

/// Whether this container is, or may be, that of a living owner's slot with this number.
pub fn is_container_owned(runtime_directory: &Path, number: u32, container: &str) -> bool {
    let told = runtime_directory.join("slots").join(number.to_string()).join(CONTAINER_NAME);
    let is_anothers = std::fs::read_to_string(told).is_ok_and(|it| !it.is_empty() && it != container);
    !is_anothers && is_owned(runtime_directory, number)
}

/// Makes a directory, and its parents, for this user alone.
pub fn make_private(directory: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn is_free(directory: &Path) -> bool {
    let lock = rustix::fs::open(directory.join(LOCK_NAME), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    match lock {
        Ok(lock) => rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(_) => true,
    }
}

/// The lock of a directory, made if it was not there; nothing if another process owns it.
fn take(directory: &Path) -> std::io::Result<Option<OwnedFd>> {
    // One step: what makes parents, too, looks again at what was there, and fails where its owner removed it meanwhile.
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let path = directory.join(LOCK_NAME);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)) {
        Ok(lock) => lock,
        // Its owner removed the directory between our two steps.
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    // The lock counts only if it is still the file of that name.
    let held = rustix::fs::fstat(&lock)?;
    match rustix::fs::stat(&path) {
        Ok(named) if (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino) => Ok(Some(lock)),
        Ok(_) | Err(_) => Ok(None),
    }
}

fn listen(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, 1)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_slots_have_different_numbers_and_a_dropped_one_leaves_nothing() {
        let runtime = tempfile::tempdir().expect("a directory");
        let first = Slot::make(runtime.path()).expect("a slot");
        let second = Slot::make(runtime.path()).expect("a slot");
        assert_ne!(first.uid(), second.uid());
        let directory = first.inner_directory();
        assert!(directory.join("aegis-init").exists() && directory.join("control.sock").exists());
        drop(first);
        assert!(!directory.exists());
        assert!(is_owned(runtime.path(), second.number));
    }

    #[test]
    fn a_container_of_the_number_before_is_not_the_slots() {
        let runtime = tempfile::tempdir().expect("a directory");
        let slot = Slot::make(runtime.path()).expect("a slot");
        assert!(is_container_owned(runtime.path(), slot.number, "one"), "it may be on its way");
        slot.hold("one");
        assert!(is_container_owned(runtime.path(), slot.number, "one"));
        assert!(!is_container_owned(runtime.path(), slot.number, "two"));
        assert!(!is_container_owned(runtime.path(), slot.number + 1, "one"));
    }

    #[test]
    fn slots_are_made_while_others_go_and_the_dead_are_swept() {
        let runtime = tempfile::tempdir().expect("a directory");
        let place = runtime.path();
        drop(Slot::make(place).expect("init is in its place"));
        std::thread::scope(|threads| {
            let makers: Vec<_> = (0..3)
                .map(|_| {
                    threads.spawn(|| {
                        for _ in 0..300 {
                            let slot = Slot::make(place).expect("a slot");
                            assert!(slot.inner_directory().join("aegis-init").exists());
                        }
                    })
                })
                .collect();
            let sweeping = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let sweep = || {
                for dead in dead_slots(place).expect("read") {
                    sweeping.block_on(remove_dead(&dead, || async { true })).expect("removed");
                }
            };
            while makers.iter().any(|it| !it.is_finished()) {
                sweep();
            }
            sweep();
        });
        assert_eq!(std::fs::read_dir(place.join("slots")).expect("read").count(), 0);
    }

    #[test]
    fn a_slot_without_its_owner_is_found_dead() {
        let runtime = tempfile::tempdir().expect("a directory");
        let left = runtime.path().join("slots/7");
        std::fs::create_dir_all(left.join("in")).expect("made");
        let slot = Slot::make(runtime.path()).expect("a slot");
        let dead = dead_slots(runtime.path()).expect("read");
        assert_eq!(dead, vec![DeadSlot { number: 7, directory: left }]);
        assert_eq!(slot.number, 0);
    }
}
