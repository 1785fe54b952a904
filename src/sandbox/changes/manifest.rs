//! The manifest of a change set on disk, version 1. Read back it is checked like anything that others could have written:
//! paths, digests, order and words.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::{Deserialize, Serialize};

use crate::sandbox::changes::{
    After, AfterKind, Before, BeforeKind, Change, ChangeSet, Digest, Limit, Root, Skipped, Why,
};
use crate::sandbox::outputs::path::SafePath;
use crate::sandbox::workspace::base::Identity;
use crate::task::escape::{escape, unescape};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestJson {
    version: u32,
    root: RootJson,
    limits: Vec<String>,
    left_out: u64,
    git: u64,
    skipped: Vec<(String, String)>,
    skipped_count: u64,
    changes: Vec<ChangeJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootJson {
    path: String,
    device: u64,
    inode: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeJson {
    path: String,
    before: Option<BeforeJson>,
    after: Option<AfterJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
enum BeforeJson {
    Directory { mode: u32 },
    File { mode: u32, identity: Option<IdentityJson>, sha256: Option<String>, kept: bool },
    Symlink { mode: u32, target: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityJson {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
enum AfterJson {
    Directory { mode: u32 },
    File { mode: u32, size: u64, sha256: Option<String> },
    Symlink { mode: u32, target: String },
}

/// A change set as bytes.
pub(super) fn encode(set: &ChangeSet) -> std::io::Result<Vec<u8>> {
    let manifest = ManifestJson {
        version: VERSION,
        root: RootJson {
            path: escape(set.root.path.as_os_str().as_bytes()),
            device: set.root.device,
            inode: set.root.inode,
        },
        limits: set.limits.iter().map(|it| it.name().to_owned()).collect(),
        left_out: set.left_out,
        git: set.git,
        skipped: set.skipped.iter().map(|it| (escape(&it.path), it.why.name().to_owned())).collect(),
        skipped_count: set.skipped_count,
        changes: set.changes.iter().map(change_json).collect(),
    };
    Ok(serde_json::to_vec(&manifest)?)
}

fn change_json(change: &Change) -> ChangeJson {
    let before = change.before.as_ref().map(|it| match &it.kind {
        BeforeKind::Directory => BeforeJson::Directory { mode: it.mode },
        BeforeKind::File { identity, sha256, kept } => BeforeJson::File {
            mode: it.mode,
            identity: identity.map(|it| IdentityJson {
                device: it.device,
                inode: it.inode,
                size: it.size,
                modified: it.modified,
                changed: it.changed,
            }),
            sha256: sha256.map(hex::encode),
            kept: *kept,
        },
        BeforeKind::Symlink(target) => BeforeJson::Symlink { mode: it.mode, target: escape(target) },
    });
    let after = change.after.as_ref().map(|it| match &it.kind {
        AfterKind::Directory => AfterJson::Directory { mode: it.mode },
        AfterKind::File { size, sha256 } => {
            AfterJson::File { mode: it.mode, size: *size, sha256: sha256.map(hex::encode) }
        }
        AfterKind::Symlink(target) => AfterJson::Symlink { mode: it.mode, target: escape(target) },
    });
    ChangeJson { path: escape(&change.path), before, after }
}

/// The change set of these bytes, or what is wrong with them.
pub(super) fn decode(bytes: &[u8]) -> Result<ChangeSet, &'static str> {
    let manifest: ManifestJson =
        serde_json::from_slice(bytes).map_err(|_| "the manifest is not of its form")?;
    if manifest.version != VERSION {
        return Err("the manifest has another version");
    }
    let path = unescape(&manifest.root.path).ok_or("a path is not of its form")?;
    let root = Root {
        path: OsString::from_vec(path).into(),
        device: manifest.root.device,
        inode: manifest.root.inode,
    };
    let mut limits = Vec::new();
    for name in &manifest.limits {
        limits.push(Limit::from_name(name).ok_or("a limit is unknown")?);
    }
    let mut skipped = Vec::new();
    for (path, why) in &manifest.skipped {
        let path = unescape(path).ok_or("a path is not of its form")?;
        skipped.push(Skipped { path, why: Why::from_name(why).ok_or("a reason is unknown")? });
    }
    let mut changes: Vec<Change> = Vec::with_capacity(manifest.changes.len());
    for it in manifest.changes {
        let change = change(it)?;
        if changes.last().is_some_and(|last| last.path >= change.path) {
            return Err("the changes are not in order");
        }
        changes.push(change);
    }
    Ok(ChangeSet {
        root,
        changes,
        limits,
        left_out: manifest.left_out,
        git: manifest.git,
        skipped,
        skipped_count: manifest.skipped_count,
    })
}

fn change(it: ChangeJson) -> Result<Change, &'static str> {
    let path = unescape(&it.path).ok_or("a path is not of its form")?;
    SafePath::parse(&path).map_err(|_| "a path is none that may be written")?;
    let before = it.before.map(before).transpose()?;
    let after = it.after.map(after).transpose()?;
    if before.is_none() && after.is_none() {
        return Err("a change says nothing");
    }
    Ok(Change { path, before, after })
}

fn before(it: BeforeJson) -> Result<Before, &'static str> {
    Ok(match it {
        BeforeJson::Directory { mode } => Before { mode, kind: BeforeKind::Directory },
        BeforeJson::File { mode, identity, sha256, kept } => {
            let identity = identity.map(|it| Identity {
                device: it.device,
                inode: it.inode,
                size: it.size,
                modified: it.modified,
                changed: it.changed,
            });
            let sha256 = sha256.map(|it| digest(&it)).transpose()?;
            Before { mode, kind: BeforeKind::File { identity, sha256, kept } }
        }
        BeforeJson::Symlink { mode, target } => Before { mode, kind: BeforeKind::Symlink(link(&target)?) },
    })
}

fn after(it: AfterJson) -> Result<After, &'static str> {
    let (mode, kind) = match it {
        AfterJson::Directory { mode } => (mode, AfterKind::Directory),
        AfterJson::File { mode, size, sha256 } => {
            (mode, AfterKind::File { size, sha256: sha256.map(|it| digest(&it)).transpose()? })
        }
        AfterJson::Symlink { mode, target } => (mode, AfterKind::Symlink(link(&target)?)),
    };
    if mode > 0o777 {
        return Err("a mode is out of bounds");
    }
    Ok(After { mode, kind })
}

fn link(target: &str) -> Result<Vec<u8>, &'static str> {
    unescape(target)
        .filter(|it| !it.is_empty() && !it.contains(&0))
        .ok_or("a link's target is not of its form")
}

fn digest(text: &str) -> Result<Digest, &'static str> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|_| "a digest is not of its form")?;
    Ok(digest)
}
