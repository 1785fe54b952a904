//! What came out of an attempt on its way to who asked for it, as a tar archive of files, directories and links. Of the
//! files only those are in it that are on record. What arrives is somebody else's: it is bounded before it is decoded, and
//! then judged by the extractor like everything that a sandbox sends.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aegis_init::wire::{Entry, EntryKind, PATH_BYTES_MAX};
use rustix::fs::{AtFlags, Dir, FileType, Stat, fstat, readlinkat, statat};
use serde_bytes::ByteBuf;
use tar::{Archive, Builder, EntryType, Header};

use crate::record::Artifact;
use crate::sandbox::beneath;
use crate::sandbox::outputs::{Extractor, OutputError};

/// Entries of one directory at the most; policy bounds all of them together.
const NAMES_MAX: usize = 2_000_000;
/// Bytes of a name or target that a header has room for; longer ones have an entry of their own.
const SHORT_BYTES: usize = 100;
const PIECE_BYTES: usize = 128 * 1024;

/// Why a parcel is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    /// It broke off.
    #[error("the outputs did not come whole")]
    Io(#[from] io::Error),
    /// It is not what a server sends.
    #[error("what came are no outputs ({0}): is the server of another version?")]
    Damaged(&'static str),
    /// It is more than any run may put out.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Writes what lies below `directory`: links, directories, and the files of the record.
pub fn pack(directory: &File, files: &[Artifact], into: impl Write) -> io::Result<()> {
    let on_record: HashMap<&[u8], &Artifact> = files.iter().map(|it| (it.path.as_slice(), it)).collect();
    let mut builder = Builder::new(into);
    let mut waiting = vec![Vec::new()];
    while let Some(parent) = waiting.pop() {
        let opened = beneath::directory(directory.as_fd(), &parent)?;
        for name in names(&opened)? {
            let path = beneath::join(&parent, &name);
            let stat = statat(&opened, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let mut header = header(EntryType::Directory, stat.st_mode, &stat, 0);
                    builder.append_data(&mut header, named(&path), io::empty())?;
                    waiting.push(path);
                }
                FileType::Symlink => {
                    let target = readlinkat(&opened, name.as_slice(), Vec::new())?;
                    append_link(&mut builder, &path, target.as_bytes(), &stat)?;
                }
                FileType::RegularFile => {
                    if let Some(artifact) = on_record.get(path.as_slice()) {
                        append_file(&mut builder, &opened, &name, artifact)?;
                    }
                }
                _ => {}
            }
        }
    }
    builder.into_inner()?.flush()
}

fn names(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
        if names.len() > NAMES_MAX {
            return Err(io::Error::other("a directory has more entries than any collection may make"));
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn append_link(builder: &mut Builder<impl Write>, path: &[u8], target: &[u8], stat: &Stat) -> io::Result<()> {
    let mut header = header(EntryType::Symlink, 0o777, stat, 0);
    if target.len() > SHORT_BYTES {
        return builder.append_link(&mut header, named(path), named(target));
    }
    // As it is: a target is compared, and must not be made another.
    header.set_link_name_literal(target)?;
    builder.append_data(&mut header, named(path), io::empty())
}

fn append_file(
    builder: &mut Builder<impl Write>,
    parent: &OwnedFd,
    name: &[u8],
    artifact: &Artifact,
) -> io::Result<()> {
    let file = File::from(beneath::file(parent.as_fd(), name)?);
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
        || u64::try_from(stat.st_size) != Ok(artifact.bytes)
    {
        return Err(io::Error::other("an artifact has another size than its record"));
    }
    let mut header = header(EntryType::Regular, artifact.mode, &stat, artifact.bytes);
    builder.append_data(&mut header, named(&artifact.path), file.take(artifact.bytes))
}

fn header(kind: EntryType, mode: u32, stat: &Stat, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o777);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(bytes);
    header
}

fn named(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Feeds a parcel to the extractor. What is not sound ends it; what was whole by then stays.
pub fn unpack(from: impl Read, extractor: &mut Extractor) -> Result<(), ParcelError> {
    let mut archive = Archive::new(from);
    let (mut long_path, mut long_target) = (None, None);
    // Long names come as entries of their own; they are read here, where they are bounded.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let path = match entry.header().entry_type() {
            EntryType::GNULongName => {
                long_path = Some(long(&mut entry)?);
                continue;
            }
            EntryType::GNULongLink => {
                long_target = Some(long(&mut entry)?);
                continue;
            }
            _ => long_path.take().unwrap_or_else(|| entry.header().path_bytes().into_owned()),
        };
        let header = entry.header();
        let kind = match header.entry_type() {
            EntryType::Regular => EntryKind::File { size: entry.size(), data: ByteBuf::new() },
            EntryType::Directory => EntryKind::Dir,
            EntryType::Symlink => {
                let short = header.link_name_bytes().map(|it| it.into_owned());
                EntryKind::Symlink(ByteBuf::from(long_target.take().or(short).unwrap_or_default()))
            }
            _ => return Err(ParcelError::Damaged("an entry is no file, directory or link")),
        };
        let is_file = matches!(kind, EntryKind::File { .. });
        let (mode, mtime_s) = (header.mode()?, i64::try_from(header.mtime()?).unwrap_or(i64::MAX));
        let told = Entry { path: ByteBuf::from(path), mode, mtime_s, mtime_ns: 0, kind };
        extractor.entries(vec![told])?;
        if is_file {
            content(&mut entry, extractor)?;
        }
    }
    Ok(())
}

fn content(from: &mut impl Read, extractor: &mut Extractor) -> Result<(), ParcelError> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            count => extractor.chunk(&piece[..count])?,
        }
    }
}

/// A name that has an entry of its own, with a zero behind it.
fn long(from: &mut impl Read) -> Result<Vec<u8>, ParcelError> {
    let mut name = Vec::new();
    from.take(PATH_BYTES_MAX as u64 + 2).read_to_end(&mut name)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    if name.len() > PATH_BYTES_MAX {
        return Err(ParcelError::Damaged("a name is too long"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::sandbox::outputs::{Collected, Destination, OutputLimits, Wanted, Why};

    fn artifact(path: &str, bytes: u64, mode: u32) -> Artifact {
        Artifact { path: path.into(), bytes, sha256: [0; 32], mode }
    }

    fn taken(parcel: &[u8], into: &Path) -> (Result<(), ParcelError>, Collected) {
        let wanted = Wanted::parse(&["out".to_owned()], "/workspace").expect("a pattern");
        let limits = OutputLimits { bytes: 10_000, entries: 100, depth: 10 };
        let destination = Destination::Named(into.to_owned());
        let mut extractor = Extractor::new(&destination, wanted, limits).expect("a directory");
        let end = unpack(parcel, &mut extractor);
        (end, extractor.finish(Some(aegis_init::wire::OutDone::default())))
    }

    #[test]
    fn what_came_out_arrives_as_it_lay_there() {
        let place = tempfile::tempdir().expect("a directory");
        let (here, there) = (place.path().join("here"), place.path().join("there"));
        let long = format!("out/{}/{}", "d".repeat(120), "f".repeat(200));
        fs::create_dir_all(here.join(&long).parent().expect("a parent")).expect("made");
        fs::create_dir(here.join("out/empty")).expect("made");
        fs::write(here.join(&long), "deep").expect("written");
        fs::write(here.join("out/run"), "#!").expect("written");
        fs::write(here.join("out/unlisted"), "secret").expect("written");
        symlink("run", here.join("out/link")).expect("a link");
        symlink(format!("{}/x", "d".repeat(120)), here.join("out/far")).expect("a link");
        let files = [artifact(&long, 4, 0o640), artifact("out/run", 2, 0o755)];
        let mut parcel = Vec::new();
        pack(&File::open(&here).expect("opened"), &files, &mut parcel).expect("packed");
        let (end, collected) = taken(&parcel, &there);
        end.expect("it is sound");
        assert_eq!((collected.artifacts.len(), collected.symlinks, collected.dropped), (2, 2, vec![]));
        assert_eq!(fs::read_to_string(there.join(&long)).expect("read"), "deep");
        assert_eq!(
            fs::read_link(there.join("out/far")).expect("a link"),
            Path::new(&format!("{}/x", "d".repeat(120)))
        );
        assert!(there.join("out/empty").is_dir() && !there.join("out/unlisted").exists());
        let mode = fs::metadata(there.join("out/run")).expect("there").permissions().mode();
        assert_eq!(mode & 0o700, 0o700, "{mode:o}");
        let of =
            |root: &Path| fs::metadata(root.join("out/run")).and_then(|it| it.modified()).expect("a time");
        let late = of(&here).duration_since(of(&there)).expect("not later");
        assert!(late.as_secs() < 1, "{late:?}");
    }

    fn parcel(name: &[u8], kind: EntryType, target: &[u8], content: &[u8]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_link_name_literal(target).expect("short");
        header.as_gnu_mut().expect("of this kind").name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        builder.append(&header, content).expect("appended");
        builder.into_inner().expect("ended")
    }

    #[track_caller]
    fn check_dropped(parcel: &[u8], why: &str) {
        let place = tempfile::tempdir().expect("a directory");
        let (end, collected) = taken(parcel, &place.path().join("out"));
        end.expect("it is read");
        let told: Vec<&str> = collected.dropped.iter().map(|it| it.why.name()).collect();
        assert_eq!((told, collected.artifacts.len()), (vec![why], 0));
        assert!(!place.path().join("escaped").exists());
    }

    #[test]
    fn what_a_server_sends_lands_only_where_its_client_asked() {
        use EntryType::{Directory, Regular, Symlink};
        check_dropped(&parcel(b"../escaped", Regular, b"", b"x"), "bad_path");
        check_dropped(&parcel(b"/etc/escaped", Regular, b"", b"x"), "bad_path");
        check_dropped(&parcel(b"out/../../escaped", Directory, b"", b""), "bad_path");
        check_dropped(&parcel(b"other", Regular, b"", b"x"), Why::NotWanted.name());
        check_dropped(&parcel(b"out/.git/config", Regular, b"", b"x"), "git_directory");
        check_dropped(&parcel(b"out/link", Symlink, b"../../escaped", b""), "link_leads_out");
        check_dropped(&parcel(b"out/large", Regular, b"", &[0; 10_001]), "byte_limit");
    }

    #[track_caller]
    fn check_refused(parcel: &[u8], expected: &str) {
        let place = tempfile::tempdir().expect("a directory");
        let (end, _) = taken(parcel, &place.path().join("out"));
        let told = end.expect_err("refused").to_string();
        assert!(told.contains(expected), "{told}");
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        check_refused(&parcel(b"out/device", EntryType::Char, b"", b""), "no file, directory or link");
        check_refused(&parcel(b"out/hard", EntryType::Link, b"out/a", b""), "no file, directory or link");
        check_refused(&parcel(b"././@LongLink", EntryType::GNULongName, b"", &[b'a'; 10_000]), "too long");
        check_refused(
            &parcel(b"out/cut", EntryType::Regular, b"", &[0; 5_000])[..2_000],
            "did not come whole",
        );
        check_refused(&vec![b'x'; 4_096], "did not come whole");
    }
}
