//! A kept change set on its way to who asked for it, as a tar archive of plain files: `manifest.json`, then
//! `content/<sha256>`. What arrives is somebody else's: names, kinds, sizes and digests are checked before it counts.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};

use tar::{Archive, Builder, EntryType, Header};

use crate::sandbox::changes::kept::{Kept, MANIFEST_BYTES_MAX};
use crate::sandbox::changes::{After, AfterKind, Before, BeforeKind, Change, ChangeSet, Digest};
use crate::task::RunId;

const MANIFEST: &str = "manifest.json";
const CONTENT: &str = "content/";
/// Contents of one parcel at the most.
const CONTENTS_MAX: usize = 2_000_000;
/// Bytes of one content at the most.
const CONTENT_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
const PIECE_BYTES: usize = 128 * 1024;

/// Why a parcel is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    /// It cannot be read or kept.
    #[error("the changes cannot be taken over")]
    Io(#[from] io::Error),
    /// It is not what a server sends.
    #[error("what came is no change set ({0}): is the server of another version?")]
    Damaged(&'static str),
}

/// Writes the change set of a run; `false` if none is kept.
pub fn pack(kept: &Kept, run: RunId, into: impl Write) -> io::Result<bool> {
    let Some(mut manifest) = kept.open_manifest(run)? else { return Ok(false) };
    let mut builder = Builder::new(into);
    append(&mut builder, MANIFEST, &mut manifest)?;
    for digest in kept.contents(run)?.into_iter().take(CONTENTS_MAX) {
        let mut file = kept.open(run, &digest).map_err(io::Error::other)?;
        append(&mut builder, &format!("{CONTENT}{}", hex::encode(digest)), &mut file)?;
    }
    builder.into_inner()?.flush()?;
    Ok(true)
}

fn append(builder: &mut Builder<impl Write>, name: &str, file: &mut File) -> io::Result<()> {
    let bytes = file.metadata()?.len();
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_size(bytes);
    builder.append_data(&mut header, name, file.take(bytes))
}

/// Takes a parcel over as the change set of `run`, made the receiver's own by `adapt`, and gives it. Nothing of one that is
/// not sound counts; a content that the set does not name is passed over.
pub fn unpack(
    from: impl Read,
    kept: &Kept,
    run: RunId,
    adapt: impl FnOnce(&mut ChangeSet),
) -> Result<ChangeSet, ParcelError> {
    let draft = kept.begin(run)?;
    let mut archive = Archive::new(from);
    let (mut set, mut contents, mut adapt) = (None::<ChangeSet>, 0, Some(adapt));
    let mut wanted = HashSet::new();
    // An entry that carries another's name would be read whole, however long it says it is: here it is no file.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        if entry.header().entry_type() != EntryType::Regular {
            return Err(ParcelError::Damaged("an entry is no file"));
        }
        let (name, bytes) = (entry.path_bytes().into_owned(), entry.size());
        if name == MANIFEST.as_bytes() && set.is_none() {
            if bytes > MANIFEST_BYTES_MAX {
                return Err(ParcelError::Damaged("its manifest is too large"));
            }
            let mut text = Vec::new();
            entry.read_to_end(&mut text)?;
            let mut read = Kept::read_manifest(&text).map_err(ParcelError::Damaged)?;
            if let Some(adapt) = adapt.take() {
                adapt(&mut read);
            }
            wanted = read.changes.iter().flat_map(contents_of).collect();
            set = Some(read);
            continue;
        }
        contents += 1;
        let digest = named(&name).ok_or(ParcelError::Damaged("an entry has no digest's name"))?;
        if bytes > CONTENT_BYTES_MAX || contents > CONTENTS_MAX {
            return Err(ParcelError::Damaged("it is too large"));
        }
        if set.is_none() {
            return Err(ParcelError::Damaged("a content comes before the manifest"));
        }
        if !wanted.contains(&digest) {
            continue;
        }
        let mut content = draft.content()?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = entry.read(&mut piece)?;
            if count == 0 {
                break;
            }
            content.write(&piece[..count])?;
        }
        if draft.keep(content)? != digest {
            return Err(ParcelError::Damaged("a content does not have its digest"));
        }
    }
    let set = set.ok_or(ParcelError::Damaged("it has no manifest"))?;
    draft.finish(&set)?;
    Ok(set)
}

/// The contents that a change names.
fn contents_of(change: &Change) -> impl Iterator<Item = Digest> {
    let before = match &change.before {
        Some(Before { kind: BeforeKind::File { sha256, .. }, .. }) => *sha256,
        Some(Before { kind: BeforeKind::Directory | BeforeKind::Symlink(_), .. }) | None => None,
    };
    let after = match &change.after {
        Some(After { kind: AfterKind::File { sha256, .. }, .. }) => *sha256,
        Some(After { kind: AfterKind::Directory | AfterKind::Symlink(_), .. }) | None => None,
    };
    before.into_iter().chain(after)
}

/// The digest that an entry is named after.
fn named(name: &[u8]) -> Option<Digest> {
    let digits = name.strip_prefix(CONTENT.as_bytes())?;
    let mut digest = [0; 32];
    hex::decode_to_slice(digits, &mut digest).ok()?;
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::changes::Root;

    fn set(sha256: Digest) -> ChangeSet {
        let kind = AfterKind::File { size: 7, sha256: Some(sha256) };
        let after = Some(After { mode: 0o644, kind });
        ChangeSet {
            root: Root { path: "/".into(), device: 1, inode: 2 },
            changes: vec![Change { path: b"a".to_vec(), before: None, after }],
            limits: Vec::new(),
            left_out: 0,
            git: 0,
            skipped: Vec::new(),
            skipped_count: 0,
        }
    }

    #[test]
    fn a_parcel_arrives_as_it_was_sent() {
        let place = tempfile::tempdir().expect("a directory");
        let (here, there, run) =
            (Kept::new(&place.path().join("a")), Kept::new(&place.path().join("b")), RunId::generate());
        let mut parcel = Vec::new();
        assert!(!pack(&here, run, &mut parcel).expect("nothing is kept"));
        let draft = here.begin(run).expect("begun");
        let mut content = draft.content().expect("begun");
        content.write(b"content").expect("written");
        let digest = draft.keep(content).expect("kept");
        draft.finish(&set(digest)).expect("finished");
        assert!(pack(&here, run, &mut parcel).expect("packed"));
        assert_eq!(unpack(parcel.as_slice(), &there, run, |_| {}).expect("it is sound"), set(digest));
        assert_eq!(there.load(run).expect("it is read"), Some(set(digest)));
        assert_eq!(there.read(run, &digest, 100).expect("it is read").as_deref(), Some(&b"content"[..]));
        // What the receiver does not want is not kept.
        let trimmed = Kept::new(&place.path().join("c"));
        let set = unpack(parcel.as_slice(), &trimmed, run, |it| it.changes.clear()).expect("it is sound");
        assert_eq!((set.changes, trimmed.contents(run).expect("listed")), (vec![], vec![]));
    }

    fn check_refused(name: &str, kind: EntryType, content: &[u8], expected: &str) {
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.as_gnu_mut().expect("of this kind").name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, content).expect("appended");
        let parcel = builder.into_inner().expect("ended");
        let place = tempfile::tempdir().expect("a directory");
        let (kept, run) = (Kept::new(place.path()), RunId::generate());
        let told = unpack(parcel.as_slice(), &kept, run, |_| {}).expect_err("refused").to_string();
        assert!(told.contains(expected), "{name}: {told}");
        assert_eq!(kept.load(run).expect("it is looked at"), None);
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        let digits = "0".repeat(64);
        check_refused("../../manifest.json", EntryType::Regular, b"x", "no digest's name");
        check_refused("content/../../x", EntryType::Regular, b"x", "no digest's name");
        check_refused(&format!("content/{digits}"), EntryType::Regular, b"x", "before the manifest");
        check_refused("././@LongLink", EntryType::GNULongName, &[b'x'; 4096], "no file");
        check_refused(&format!("content/{digits}"), EntryType::Symlink, b"", "no file");
        check_refused("manifest.json", EntryType::Regular, b"{}", "not of its form");
    }

    #[test]
    fn a_content_that_is_not_what_its_name_says_is_refused() {
        let place = tempfile::tempdir().expect("a directory");
        let (here, there, run) =
            (Kept::new(&place.path().join("a")), Kept::new(&place.path().join("b")), RunId::generate());
        let draft = here.begin(run).expect("begun");
        let mut content = draft.content().expect("begun");
        content.write(b"what it was").expect("written");
        let digest = draft.keep(content).expect("kept");
        draft.finish(&set(digest)).expect("finished");
        let mut parcel = Vec::new();
        assert!(pack(&here, run, &mut parcel).expect("packed"));
        let at = parcel.windows(11).position(|it| it == b"what it was").expect("it is there");
        parcel[at] = b'W';
        let refused = unpack(parcel.as_slice(), &there, run, |_| {}).expect_err("refused").to_string();
        assert!(refused.contains("does not have its digest"), "{refused}");
        assert_eq!(there.load(run).expect("it is looked at"), None);
    }

    #[test]
    fn a_parcel_without_a_manifest_is_none() {
        let place = tempfile::tempdir().expect("a directory");
        let empty = Builder::new(Vec::new()).into_inner().expect("ended");
        let refused = unpack(empty.as_slice(), &Kept::new(place.path()), RunId::generate(), |_| {});
        assert!(matches!(refused, Err(ParcelError::Damaged(_))));
    }
}
