//! Makes git work inside when the repository lies outside of the copied directory: in a linked worktree and in a
//! submodule `.git` is a file that points out of it. The copy gets a real `.git` made of what that file names.
//!
//! A hostile tree could name any directory of its reader this way, so a directory is taken only if it points back.

pub mod clean;
pub mod config;
pub mod delta;
pub mod history;
pub mod index;
pub mod objects;
pub mod pack;
pub mod parts;
pub mod shallow;
pub mod url;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, fstat};
use rustix::io::Errno;

use crate::sandbox::beneath;
use crate::sandbox::workspace::git::config::quoted;
use crate::sandbox::workspace::scan::{Select, Walk};
use crate::sandbox::workspace::{Meta, What, WorkspaceError, unreadable};
use crate::task::GitHistory;
use crate::task::escape::escape;

/// Bytes of a `.git` file, a back link or a configuration at the most.
const SMALL_BYTES_MAX: u64 = 256 * 1024;
/// Where the repository lies inside.
const GIT: &[u8] = b".git";

/// What in a common directory belongs to every worktree of it; the rest is the main worktree's.
const COMMON: [&[u8]; 14] = [
    b"branches",
    b"common",
    b"config",
    b"description",
    b"hooks",
    b"info",
    b"lfs",
    b"logs",
    b"objects",
    b"packed-refs",
    b"refs",
    b"remotes",
    b"rr-cache",
    b"shallow",
];
/// Exceptions: what belongs to one worktree although it lies below a common name.
const OF_ONE_WORKTREE: [&[u8]; 8] = [
    b"info/sparse-checkout",
    b"logs/HEAD",
    b"logs/refs/bisect",
    b"logs/refs/rewritten",
    b"logs/refs/worktree",
    b"refs/bisect",
    b"refs/rewritten",
    b"refs/worktree",
];
/// What ties a linked worktree to its place on this host.
const TIES: [&[u8]; 3] = [b"commondir", b"gitdir", b"locked"];

/// A repository outside of the workspace that belongs to it.
struct Repository {
    /// The directory that `.git` names.
    own: PathBuf,
    /// For a linked worktree, what it shares with the others.
    common: Option<PathBuf>,
}

/// Replaces the `.git` files of a planned workspace by what works inside.
pub(super) fn adopt(root: &Path, walk: &mut Walk) -> Result<(), WorkspaceError> {
    let mut added = HashMap::new();
    let repository =
        match walk.gitfiles.iter().find(|(directory, _)| walk.plan.directories[*directory].to.is_empty()) {
            Some(_) => outside_repository(root, walk),
            None => None,
        };
    for (directory, item) in std::mem::take(&mut walk.gitfiles) {
        redirect(root, repository.as_ref(), walk, (directory, item), &mut added)?;
    }
    let (own, common) = match &repository {
        Some(repository) => {
            (repository.own.clone(), repository.common.as_ref().unwrap_or(&repository.own).clone())
        }
        None => (root.join(".git"), root.join(".git")),
    };
    if let Some(repository) = repository {
        take_over(&repository, walk, added)?;
    }
    if walk.git == GitHistory::Shallow {
        return shallow::fill(walk, &own, &common);
    }
    let objects = common.join("objects");
    let taken = walk.plan.directories.iter().any(|it| it.to == b".git/objects/info");
    if taken && text_of(&objects.join("info/alternates")).is_some_and(|it| !it.as_os_str().is_empty()) {
        walk.plan.summary.notes.push(
            "git may miss objects inside: the repository borrows some from another one (`git repack -a -d` copies them, then `.git/objects/info/alternates` can go)"
                .to_owned(),
        );
    }
    Ok(())
}

/// Puts the repository in the place of the `.git` file of the root.
fn take_over(
    repository: &Repository,
    walk: &mut Walk,
    mut added: HashMap<Vec<u8>, Vec<u8>>,
) -> Result<(), WorkspaceError> {
    walk.plan.directories[0].items.retain(|it| it.name != GIT);
    walk.plan.summary.files -= 1;
    for name in ["config", "config.worktree"] {
        // The last value counts: the common configuration may be that of a bare repository or of another directory.
        let text = b"\n[core]\n\tbare = false\n\tworktree = ..\n";
        added.insert(beneath::join(GIT, name.as_bytes()), text.to_vec());
    }
    if walk.git == GitHistory::Shallow {
        let takes = |path: &[u8], is_dir: bool| is_common(path, is_dir) && parts::needed_by_head(path);
        let takes_own = |path: &[u8], is_dir: bool| is_own(path, is_dir) && parts::needed_by_head(path);
        let takes_all = |path: &[u8], _: bool| parts::needed_by_head(path);
        return match &repository.common {
            Some(common) => {
                walk.tree(open(common)?, GIT, &Select::Git { takes, added: &added })?;
                walk.tree(open(&repository.own)?, GIT, &Select::Git { takes: takes_own, added: &added })
            }
            None => walk.tree(open(&repository.own)?, GIT, &Select::Git { takes: takes_all, added: &added }),
        };
    }
    match &repository.common {
        Some(common) => {
            walk.tree(open(common)?, GIT, &Select::Git { takes: is_common, added: &added })?;
            walk.tree(open(&repository.own)?, GIT, &Select::Git { takes: is_own, added: &added })
        }
        None => {
            walk.tree(open(&repository.own)?, GIT, &Select::Git { takes: is_not_worktrees, added: &added })
        }
    }
}

/// A small regular file with its permissions and time.
pub(super) fn read_small(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(Meta, Vec<u8>), Errno> {
    read_up_to(directory, name, SMALL_BYTES_MAX)
}

/// The same with a bound of its own; a larger file is `EFBIG`.
fn read_up_to(directory: BorrowedFd<'_>, name: &[u8], bytes_max: u64) -> Result<(Meta, Vec<u8>), Errno> {
    let opened = beneath::file(directory, name)?;
    let stat = fstat(&opened)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut content = Vec::new();
    File::from(opened)
        .take(bytes_max + 1)
        .read_to_end(&mut content)
        .map_err(|cause| Errno::from_io_error(&cause).unwrap_or(Errno::IO))?;
    if content.len() as u64 > bytes_max {
        return Err(Errno::FBIG);
    }
    Ok((Meta::of(&stat), content))
}

/// The repository that the root's `.git` file names, if it lies outside and points back. If it does not, the file
/// goes in as it is, and a note says so.
fn outside_repository(root: &Path, walk: &mut Walk) -> Option<Repository> {
    let target = named(&root.join(".git"))?;
    let Ok(own) = fs::canonicalize(root.join(&target)) else {
        walk.plan.summary.notes.push(format!(
            "git does not work inside: `.git` names `{}`, which is not there",
            escape(target.as_os_str().as_bytes())
        ));
        return None;
    };
    if own.starts_with(root) {
        return None;
    }
    let common = match worktree_common(root, &own) {
        Some(common) => Some(common),
        None if is_submodule(root, &own) => None,
        None => {
            walk.plan.summary.notes.push(format!(
                "git does not work inside: `.git` names `{}`, which does not point back (`git worktree repair` helps a moved worktree)",
                escape(own.as_os_str().as_bytes())
            ));
            return None;
        }
    };
    if common.as_ref().is_some_and(|it| it.join("reftable").exists()) {
        walk.plan.summary.notes.push(
            "git does not work inside: a linked worktree with reftable references cannot be copied alone"
                .to_owned(),
        );
        return None;
    }
    Some(Repository { own, common })
}

/// The common directory of a linked worktree, if both name each other.
fn worktree_common(root: &Path, own: &Path) -> Option<PathBuf> {
    let worktrees = own.parent().filter(|it| it.file_name().is_some_and(|name| name == "worktrees"))?;
    let common = worktrees.parent()?;
    let listed = fs::canonicalize(own.join(text_of(&own.join("commondir"))?)).ok()?;
    let back = fs::canonicalize(own.join(text_of(&own.join("gitdir"))?)).ok()?;
    (listed == common && back == root.join(".git")).then(|| common.to_path_buf())
}

/// Whether a git directory says that its working tree is `root`.
fn is_submodule(root: &Path, own: &Path) -> bool {
    ["config", "config.worktree"].into_iter().any(|name| {
        let Some(config) = small_file(&own.join(name)) else { return false };
        working_tree(&config).is_some_and(|it| fs::canonicalize(own.join(it)).is_ok_and(|tree| tree == root))
    })
}

/// The last `core.worktree` of a configuration.
fn working_tree(config: &[u8]) -> Option<PathBuf> {
    let mut in_core = false;
    let mut found = None;
    for line in config.split(|it| *it == b'\n') {
        let line = line.trim_ascii();
        if line.starts_with(b"[") {
            in_core = line.eq_ignore_ascii_case(b"[core]");
            continue;
        }
        let Some(equals) = line.iter().position(|it| *it == b'=') else { continue };
        if in_core && line[..equals].trim_ascii().eq_ignore_ascii_case(b"worktree") {
            let value = line[equals + 1..].trim_ascii();
            let value = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value);
            found = Some(path_of(value));
        }
    }
    found
}

/// Makes one `.git` file name its repository by a relative path inside, where it lies inside.
fn redirect(
    root: &Path,
    repository: Option<&Repository>,
    walk: &mut Walk,
    (directory, item): (usize, usize),
    added: &mut HashMap<Vec<u8>, Vec<u8>>,
) -> Result<(), WorkspaceError> {
    let planned = &walk.plan.directories[directory];
    let holder = planned.to.clone();
    let on_disk = root.join(path_of(&holder));
    let Some(target) = named(&on_disk.join(".git")) else { return Ok(()) };
    let Ok(resolved) = fs::canonicalize(on_disk.join(&target)) else { return Ok(()) };
    let inside = if let Ok(inside) = resolved.strip_prefix(root) {
        let inside = inside.as_os_str().as_bytes().to_vec();
        if target.is_relative() {
            walk.trees.push((holder, inside));
            return Ok(());
        }
        inside
    } else if let Some(rest) = repository.and_then(|it| resolved.strip_prefix(&it.own).ok()) {
        beneath::join(GIT, rest.as_os_str().as_bytes())
    } else {
        return Ok(());
    };
    if inside == GIT {
        return Ok(());
    }
    walk.trees.push((holder.clone(), inside.clone()));
    if inside.starts_with(b".git/modules/") {
        let tree = quoted(&upwards(&inside, &holder));
        for name in ["config", "config.worktree"] {
            let text = [b"\n[core]\n\tworktree = ".as_slice(), &tree, b"\n"].concat();
            added.insert(beneath::join(&inside, name.as_bytes()), text);
        }
    }
    let source = walk.plan.sources[planned.source].as_fd();
    let opened = beneath::directory(source, &planned.from).map_err(|cause| unreadable(&holder, cause))?;
    let (meta, _) = read_small(opened.as_fd(), GIT).map_err(|cause| unreadable(&holder, cause))?;
    let content = [b"gitdir: ".as_slice(), &upwards(&holder, &inside), b"\n"].concat();
    walk.plan.directories[directory].items[item].what = What::Text(Box::new((meta, content)));
    Ok(())
}

/// The path from the directory `from` to `to`, both relative to the workspace.
fn upwards(from: &[u8], to: &[u8]) -> Vec<u8> {
    let levels = from.split(|it| *it == b'/').filter(|it| !it.is_empty()).count();
    [b"../".repeat(levels).as_slice(), to].concat()
}

fn is_common(path: &[u8], _is_dir: bool) -> bool {
    let first = path.split(|it| *it == b'/').next().unwrap_or_default();
    COMMON.contains(&first) && !of_one_worktree(path)
}

fn is_own(path: &[u8], is_dir: bool) -> bool {
    // Directories that hold some of both are entered; what is common in them is not taken.
    let holds_both = is_dir && [b"info".as_slice(), b"logs", b"logs/refs", b"refs"].contains(&path);
    !TIES.contains(&path) && (holds_both || !is_common(path, is_dir))
}

fn is_not_worktrees(path: &[u8], _is_dir: bool) -> bool {
    path != b"worktrees"
}

fn of_one_worktree(path: &[u8]) -> bool {
    OF_ONE_WORKTREE
        .iter()
        .any(|it| path.strip_prefix(*it).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")))
}

/// The path that a `.git` file names, as written: relative ones start at the file's directory.
fn named(gitfile: &Path) -> Option<PathBuf> {
    let content = small_file(gitfile)?;
    let path = content.strip_prefix(b"gitdir:")?.trim_ascii();
    (!path.is_empty()).then(|| path_of(path))
}

fn text_of(path: &Path) -> Option<PathBuf> {
    small_file(path).map(|it| path_of(it.trim_ascii()))
}

fn small_file(path: &Path) -> Option<Vec<u8>> {
    read_small(CWD, path.as_os_str().as_bytes()).ok().map(|(_, content)| content)
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

fn open(path: &Path) -> Result<std::os::fd::OwnedFd, WorkspaceError> {
    File::open(path)
        .map(Into::into)
        .map_err(|cause| WorkspaceError::Missing { path: path.to_path_buf(), cause })
}
