//! `aegis backup` and `aegis restore`: the state directory as one sealed file, taken while runs go on, and brought back into an
//! empty one.
//!
//! ```text
//! age( zstd( tar ) ):  backup.json   what this is, first
//!                      aegis.db      the records as they were at one moment
//!                      logs/… changes/… trust/… secrets.age secret.key …
//! ```
//!
//! The records are copied first: a file that a record names was there by then, unless retention let go of both. What belongs to
//! this machine alone (locks, the instance's id, copies that only save time) stays here.

pub mod archive;
mod unpack;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::app::AppError;
use crate::config::sealed::{Lock, SealError, Unlock};
use crate::store::{ELSEWHERE, OpenError, RECORDS, Store};

/// What stays here: locks, what is made anew, and the records' own files, of which a copy goes in.
const LEFT_OUT: [&str; 7] =
    [ELSEWHERE, "owners", "trees", "instance", RECORDS, "aegis.db-wal", "aegis.db-shm"];
/// Effort of the compression: logs and change sets are compressed already.
const ZSTD_LEVEL: i32 = 3;

/// What was put into a backup, or brought back from one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Regular files, the records' included.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why there is no backup, or nothing was brought back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The key or the passphrase.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Something lies where the backup would.
    #[error("`{}` is there already: name another file, or remove it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error("{what} `{}` cannot be used", path.display())]
    Use {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A state directory in use.
    #[error(
        "`{}` holds `{name}` already: restore into an empty state directory (AEGIS_STATE_DIR), or move this one away",
        path.display()
    )]
    NotEmpty {
        /// The state directory.
        path: PathBuf,
        /// What is there.
        name: String,
    },
    /// No backup, one of another kind, or a damaged one.
    #[error("`{}` cannot be restored: {reason}; nothing was changed", path.display())]
    Unfit {
        /// The backup.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Its records are of no use here.
    #[error("the records of the backup cannot be used here; nothing was changed")]
    Records(#[from] OpenError),
}

/// Writes everything of a state directory into a new sealed file, for its owner alone.
pub async fn back_up(state: &Path, lock: &Lock, target: &Path) -> Result<Counts, AppError> {
    if std::fs::symlink_metadata(target).is_ok() {
        return Err(BackupError::Exists { path: target.to_owned() }.into());
    }
    // Copied beside the records: both are on one disk, for this user alone.
    let scratch = scratch(state, ".aegis-backup-")?;
    let records = scratch.path().join(RECORDS);
    let store = Store::open(state).await?;
    store.copy_to(&records).await?;
    store.leave().await;
    let directory = target.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |source| BackupError::Use { what: "the backup", path: target.to_owned(), source };
    // Made with mode 0600; gone again if anything fails.
    let mut draft =
        tempfile::Builder::new().prefix(".aegis-backup-").tempfile_in(directory).map_err(failed)?;
    let counts = write(state, &records, lock, draft.as_file_mut()).map_err(failed)?;
    draft.as_file().sync_all().map_err(failed)?;
    draft.persist_noclobber(target).map_err(|it| failed(it.error))?;
    Ok(counts)
}

fn write(state: &Path, records: &Path, lock: &Lock, file: &mut File) -> io::Result<Counts> {
    let sealing = lock.seal(io::BufWriter::new(file))?;
    let compressing = zstd::Encoder::new(sealing, ZSTD_LEVEL)?;
    let mut archive = archive::Writer::begin(compressing)?;
    archive.file(Path::new(RECORDS), &mut File::open(records)?)?;
    let mut names: Vec<_> = std::fs::read_dir(state)?.collect::<Result<_, _>>()?;
    names.sort_by_key(std::fs::DirEntry::file_name);
    for entry in names {
        let name = entry.file_name();
        if is_left_out(&name) {
            continue;
        }
        archive.tree(&entry.path(), Path::new(&name))?;
    }
    let (compressing, counts) = archive.end()?;
    compressing.finish()?.finish()?.flush()?;
    Ok(counts)
}

/// Drafts begin with a dot, the scratch directory of a backup among them.
fn is_left_out(name: &OsStr) -> bool {
    LEFT_OUT.iter().any(|it| name == *it) || name.as_encoded_bytes().first() == Some(&b'.')
}

/// Brings a backup back into a state directory that holds none of its files: whole, or not at all.
pub async fn restore(source: &Path, unlock: &Unlock, state: &Path) -> Result<Counts, AppError> {
    let failed = |error| BackupError::Use { what: "the backup", path: source.to_owned(), source: error };
    let sealed = File::open(source).map_err(failed)?;
    // Before all of it is unpacked: a backup is large.
    check_without(RECORDS, state)?;
    let scratch = scratch(state, ".aegis-restore-")?;
    let unfit = |it: io::Error| BackupError::Unfit { path: source.to_owned(), reason: it.to_string() };
    let opened = unlock.open(BufReader::new(sealed)).map_err(BackupError::Seal)?;
    let decompressing = zstd::Decoder::new(opened).map_err(unfit)?;
    let counts = unpack::unpack(decompressing, scratch.path()).map_err(unfit)?;
    // Ours, whole, and not of a later version: brought forward before anything is put in its place.
    let store = Store::open(scratch.path()).await.map_err(BackupError::Records)?;
    store.close().await;
    put_in_place(scratch.path(), state)?;
    Ok(counts)
}

/// Moves what was unpacked, the records last: a state directory without them is no state yet.
fn put_in_place(scratch: &Path, state: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::Use { what: "the state directory", path: state.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(scratch).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name());
    }
    names.sort_by_key(|it| it == RECORDS);
    for name in &names {
        check_without(name, state)?;
    }
    for name in &names {
        std::fs::rename(scratch.join(name), state.join(name)).map_err(failed)?;
    }
    File::open(state).and_then(|it| it.sync_all()).map_err(failed)
}

fn check_without(name: impl AsRef<OsStr>, state: &Path) -> Result<(), BackupError> {
    let name = name.as_ref();
    if std::fs::symlink_metadata(state.join(name)).is_err() {
        return Ok(());
    }
    Err(BackupError::NotEmpty { path: state.to_owned(), name: name.to_string_lossy().into_owned() })
}

fn scratch(state: &Path, prefix: &str) -> Result<tempfile::TempDir, BackupError> {
    // Made with mode 0700.
    let made = tempfile::Builder::new().prefix(prefix).tempdir_in(state);
    made.map_err(|source| BackupError::Use { what: "the state directory", path: state.to_owned(), source })
}
