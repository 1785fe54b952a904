//! The archive of a backup, read. Whoever knows a recipient can have written it: nothing in it is believed.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tar::{Archive, Entry, EntryType};

use crate::app::backup::archive::{HEAD, SCHEMA};
use crate::app::backup::{Counts, is_left_out};
use crate::sandbox::outputs::path::SafePath;
use crate::store::RECORDS;
use crate::task::escape::escape;

/// Bytes of the first entry at the most.
const HEAD_BYTES_MAX: u64 = 64 * 1024;
/// Files and directories at the most: a run has three or four.
const ENTRIES_MAX: u64 = 20_000_000;

/// Unpacks an archive into an empty directory of ours. An error leaves what it leaves there.
pub fn unpack(archive: impl Read, into: &Path) -> io::Result<Counts> {
    let mut archive = Archive::new(archive);
    let mut entries = archive.entries()?;
    let first = entries.next().ok_or_else(|| io::Error::other("it is empty"))?;
    check_head(first?)?;
    let (mut counts, mut count) = (Counts::default(), 0u64);
    for entry in entries {
        let mut entry = entry?;
        count += 1;
        if count > ENTRIES_MAX {
            return Err(io::Error::other("it has too many entries"));
        }
        let path = place(&entry, into)?;
        match entry.header().entry_type() {
            EntryType::Directory => DirBuilder::new().mode(0o700).create(&path)?,
            EntryType::Regular => {
                let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
                counts.bytes += io::copy(&mut entry, &mut file)?;
                counts.files += 1;
            }
            other => return Err(io::Error::other(format!("it has an entry of the kind {other:?}"))),
        }
    }
    // The end of the sealed file is what proves that nothing was cut off.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    if !into.join(RECORDS).exists() {
        return Err(io::Error::other("it has no records"));
    }
    Ok(counts)
}

fn check_head(entry: Entry<'_, impl Read>) -> io::Result<()> {
    let is_head = entry.path_bytes().as_ref() == HEAD.as_bytes();
    let mut text = Vec::new();
    entry.take(HEAD_BYTES_MAX).read_to_end(&mut text)?;
    let head: Value = serde_json::from_slice(&text).unwrap_or_default();
    match head.get("schema").and_then(Value::as_str) {
        Some(SCHEMA) if is_head => Ok(()),
        Some(other) if is_head => Err(io::Error::other(format!(
            "it is a backup of the form {}, and this version reads {SCHEMA}",
            escape(other.as_bytes())
        ))),
        Some(_) | None => Err(io::Error::other("it is no backup of Aegis")),
    }
}

/// Where an entry goes, if it may.
fn place(entry: &Entry<'_, impl Read>, into: &Path) -> io::Result<PathBuf> {
    let bytes = entry.path_bytes();
    // A directory's path may end with a slash.
    let bytes = bytes.strip_suffix(b"/").unwrap_or(&bytes);
    let refused = |reason: &str| io::Error::other(format!("it has an entry `{}`: {reason}", escape(bytes)));
    SafePath::parse(bytes).map_err(|it| refused(&it.to_string()))?;
    let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
    let top = path.components().next().map(|it| it.as_os_str().to_owned()).unwrap_or_default();
    if is_left_out(&top) && path != Path::new(RECORDS) {
        return Err(refused("that is made by each machine for itself"));
    }
    Ok(into.join(path))
}

#[cfg(test)]
mod tests {
    use tar::{Builder, Header};

    use super::*;
    use crate::app::backup::archive::Writer;

    fn entry(kind: EntryType, path: &[u8]) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o777);
        // Written as they are: the builder itself refuses such paths.
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path);
        header.set_cksum();
        header
    }

    fn archive(entries: &[Header]) -> Vec<u8> {
        let (bytes, _) = Writer::begin(Vec::new()).and_then(Writer::end).expect("a head");
        // The end of an archive is two empty blocks.
        let head = &bytes[..bytes.len() - 1024];
        let mut builder = Builder::new(head.to_vec());
        for header in entries {
            builder.append(header, io::empty()).expect("appended");
        }
        builder.into_inner().expect("ended")
    }

    #[track_caller]
    fn check_refused(bytes: &[u8], reason: &str) {
        let parent = tempfile::tempdir().expect("a directory");
        let into = parent.path().join("into");
        std::fs::create_dir(&into).expect("made");
        let error = unpack(bytes, &into).expect_err("refused").to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!(std::fs::read_dir(parent.path()).expect("read").count(), 1, "something lies outside");
    }

    #[test]
    fn no_entry_leaves_its_directory_or_is_anything_but_a_file_or_a_directory() {
        let refused = |kind, path: &[u8], reason| check_refused(&archive(&[entry(kind, path)]), reason);
        refused(EntryType::Regular, b"../out", "`..`");
        refused(EntryType::Regular, b"logs/../../out", "`..`");
        refused(EntryType::Regular, b"/etc/out", "absolute");
        refused(EntryType::Symlink, b"logs", "kind Symlink");
        refused(EntryType::Link, b"logs", "kind Link");
        refused(EntryType::Char, b"logs", "kind Char");
        refused(EntryType::Fifo, b"logs", "kind Fifo");
    }

    #[test]
    fn what_belongs_to_a_machine_is_not_taken_from_another() {
        for path in ["instance", "owners/00ff", "aegis.db-wal", ".draft"] {
            check_refused(&archive(&[entry(EntryType::Regular, path.as_bytes())]), "by each machine");
        }
    }

    #[test]
    fn a_name_that_comes_twice_is_refused() {
        let twice = [entry(EntryType::Regular, b"aegis.db"), entry(EntryType::Regular, b"aegis.db")];
        check_refused(&archive(&twice), "exists");
    }

    #[test]
    fn what_is_no_backup_or_has_no_records_is_refused() {
        check_refused(b"", "it is empty");
        check_refused(&[7; 4096], "");
        check_refused(&archive(&[]), "it has no records");
        let other = Builder::new(Vec::new()).into_inner().expect("an archive");
        check_refused(&other, "it is empty");
    }
}
