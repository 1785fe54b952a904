//! Looks at everything that would be copied, by name and size: what is left out, what cannot be read, whether it fits.
//! Reads no content but `.aegisignore` and git's small files.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{Access, AtFlags, Dir, FileType, Stat, accessat, fstat, statat};
use rustix::io::Errno;

use crate::sandbox::beneath;
use crate::sandbox::workspace::ignores::{FILE_NAME, Ignores, Said};
use crate::sandbox::workspace::weight::{Count, Weight, Weights};
use crate::sandbox::workspace::{
    Directory, Identity, Item, Limits, Meta, Plan, Summary, What, WorkspaceError, changed, excludes, git,
    unreadable,
};
use crate::task::escape::escape;

use aegis_init::wire::PATH_BYTES_MAX;

/// What a tmpfs gives to a file at the least.
pub(super) const PAGE_BYTES: u64 = 4096;
/// How far beyond the limit entries are counted, so that the message can say how much is too much.
const COUNTED_TIMES: u64 = 4;
/// Entries that are counted in any case.
const COUNTED_MIN: u64 = 10_000;

/// Plans the copy of `root`, an absolute directory free of links. Nothing has been started when this fails.
pub fn scan(root: &Path, limits: Limits) -> Result<Plan, WorkspaceError> {
    let opened =
        File::open(root).map_err(|cause| WorkspaceError::Missing { path: root.to_path_buf(), cause })?;
    let mut walk = Walk::new(limits);
    walk.tree(opened.into(), b"", &Select::Project)?;
    if !walk.weights.exceed(limits) {
        git::adopt(root, &mut walk)?;
    }
    match walk.excess() {
        Some(excess) => Err(WorkspaceError::TooLarge { path: root.to_path_buf(), excess }),
        None => Ok(walk.plan),
    }
}

/// Which entries of a tree are taken.
pub(super) enum Select<'a> {
    /// All but what `.aegisignore` and the built-in rules leave out.
    Project,
    /// Those of a git directory that `takes` says by path below it and whether it is a directory.
    Git {
        takes: fn(&[u8], bool) -> bool,
        /// Text that is added to the files at these paths inside the sandbox.
        added: &'a HashMap<Vec<u8>, Vec<u8>>,
    },
}

/// A plan in the making.
pub(super) struct Walk {
    pub plan: Plan,
    /// Regular files named `.git`, as (directory, item) of the plan.
    pub gitfiles: Vec<(usize, usize)>,
    weights: Weights,
    count: Count,
    user: u32,
    /// First names of files that have several.
    first_names: HashMap<(u64, u64), Vec<u8>>,
    /// Paths of directories that are made by the plan so far.
    made: HashSet<Vec<u8>>,
}

/// A directory that is still to be visited.
struct Pending {
    from: Vec<u8>,
    to: Vec<u8>,
    made: Option<Meta>,
    ignores: Option<Rc<Ignores>>,
    inside_git: bool,
}

impl Walk {
    fn new(limits: Limits) -> Self {
        let plan = Plan { limits, sources: Vec::new(), directories: Vec::new(), summary: Summary::default() };
        Self {
            plan,
            gitfiles: Vec::new(),
            weights: Weights::default(),
            count: Count::Whole,
            user: rustix::process::geteuid().as_raw(),
            first_names: HashMap::new(),
            made: HashSet::new(),
        }
    }

    /// Adds the tree of an open directory, to lie at the path `to`.
    pub fn tree(&mut self, root: OwnedFd, to: &[u8], select: &Select<'_>) -> Result<(), WorkspaceError> {
        let stat = fstat(&root).map_err(|cause| unreadable(to, cause))?;
        self.plan.sources.push(root);
        let source = self.plan.sources.len() - 1;
        let made = (!to.is_empty()).then(|| Meta::of(&stat));
        let inside_git = matches!(select, Select::Git { .. });
        let mut pending =
            vec![Pending { from: Vec::new(), to: to.to_vec(), made, ignores: None, inside_git }];
        while let Some(next) = pending.pop() {
            let deeper = self.visit(source, next, select)?;
            if self.count == Count::Broken {
                return Ok(());
            }
            pending.extend(deeper.into_iter().rev());
        }
        Ok(())
    }

    /// What is too much, if anything.
    fn excess(&self) -> Option<String> {
        self.weights.excess(self.plan.limits, self.count)
    }

    /// Records one directory and gives those in it.
    fn visit(
        &mut self,
        source: usize,
        at: Pending,
        select: &Select<'_>,
    ) -> Result<Vec<Pending>, WorkspaceError> {
        let directory = beneath::directory(self.plan.sources[source].as_fd(), &at.from)
            .map_err(|cause| refused(&at.to, cause))?;
        let counted_max = self.plan.limits.files.saturating_mul(COUNTED_TIMES).max(COUNTED_MIN);
        let room = counted_max.saturating_sub(self.weights.total.files);
        let Some(names) = names(directory.as_fd(), &at.to, room)? else {
            self.count = Count::Broken;
            self.weights.add(&at.to, Weight { bytes: 0, files: room });
            return Ok(Vec::new());
        };
        let has = |name: &[u8]| names.binary_search_by(|it| it.as_slice().cmp(name)).is_ok();
        let ignores = if matches!(select, Select::Project) && has(FILE_NAME.as_bytes()) {
            Some(Ignores::read(directory.as_fd(), &at.to, at.ignores.clone())?)
        } else {
            at.ignores.clone()
        };

        let mut items = Vec::new();
        let mut deeper = Vec::new();
        let mut own = Weight::default();
        for name in &names {
            let stat = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Gone since the names were read: it was never there.
                Err(Errno::NOENT) => continue,
                Err(cause) => return Err(unreadable(&beneath::join(&at.to, name), cause)),
            };
            let to = beneath::join(&at.to, name);
            let from = beneath::join(&at.from, name);
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let taken = match select {
                Select::Git { takes, .. } => takes(&from, is_dir),
                Select::Project => {
                    let taken = takes(ignores.as_deref(), &at, name, is_dir, &has);
                    self.plan.summary.excluded += u64::from(!taken);
                    taken
                }
            };
            if !taken {
                continue;
            }
            if to.len() > PATH_BYTES_MAX {
                return Err(WorkspaceError::PathTooLong { start: escape(&to).chars().take(80).collect() });
            }
            if is_dir {
                own.files += 1;
                let inside_git = at.inside_git || name == b".git";
                let made = Some(Meta::of(&stat));
                deeper.push(Pending { from, to, made, ignores: ignores.clone(), inside_git });
                continue;
            }
            let Some(what) = self.item(directory.as_fd(), name, &to, &stat, select, &mut own)? else {
                continue;
            };
            if name == b".git" && matches!((&what, select), (What::File(_), Select::Project)) {
                self.gitfiles.push((self.plan.directories.len(), items.len()));
            }
            items.push(Item { name: name.clone(), what });
        }
        self.record(source, at, items, own);
        Ok(deeper)
    }

    fn record(&mut self, source: usize, at: Pending, items: Vec<Item>, own: Weight) {
        self.weights.add(&at.to, own);
        if self.weights.exceed(self.plan.limits) {
            // From here on only the count matters, for the message.
            self.plan.directories.clear();
            self.first_names.clear();
            return;
        }
        let made = at.made.filter(|_| self.made.insert(at.to.clone()));
        self.plan.summary.directories += u64::from(made.is_some());
        self.plan.directories.push(Directory { source, from: at.from, to: at.to, made, items });
    }

    /// What travels for an entry that is no directory; `None` if nothing does.
    fn item(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        to: &[u8],
        stat: &Stat,
        select: &Select<'_>,
        own: &mut Weight,
    ) -> Result<Option<What>, WorkspaceError> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Symlink => {
                self.plan.summary.symlinks += 1;
                own.files += 1;
                return Ok(Some(What::Symlink(Identity::of(stat))));
            }
            FileType::Directory
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {
                self.plan.summary.skipped += 1;
                return Ok(None);
            }
        }
        self.require_readable(directory, name, to, stat)?;
        self.plan.summary.files += 1;
        own.files += 1;
        if let Select::Git { added, .. } = select
            && let Some(text) = added.get(to)
        {
            let (meta, mut content) = git::read_small(directory, name).map_err(|cause| refused(to, cause))?;
            content.extend_from_slice(text);
            own.bytes += PAGE_BYTES;
            return Ok(Some(What::Text(Box::new((meta, content)))));
        }
        if stat.st_nlink > 1 {
            let id = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.first_names.get(&id) {
                return Ok(Some(What::Hardlink(first.clone(), Identity::of(stat))));
            }
            self.first_names.insert(id, to.to_vec());
        }
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        self.plan.summary.bytes += size;
        own.bytes = own.bytes.saturating_add(size.div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES));
        Ok(Some(What::File(Identity::of(stat))))
    }

    /// Refuses a file that could not be sent. Its owner's bit answers for most files without a call.
    fn require_readable(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        to: &[u8],
        stat: &Stat,
    ) -> Result<(), WorkspaceError> {
        if stat.st_uid == self.user && stat.st_mode & 0o400 != 0 {
            return Ok(());
        }
        accessat(directory, name, Access::READ_OK, AtFlags::EACCESS).map_err(|cause| refused(to, cause))
    }
}

/// The names in a directory, in order; `None` if there are more than `room`.
fn names(directory: BorrowedFd<'_>, path: &[u8], room: u64) -> Result<Option<Vec<Vec<u8>>>, WorkspaceError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(|cause| refused(path, cause))? {
        let entry = entry.map_err(|cause| refused(path, cause))?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() as u64 >= room {
            return Ok(None);
        }
        names.push(name.to_vec());
    }
    names.sort_unstable();
    Ok(Some(names))
}

fn takes(
    ignores: Option<&Ignores>,
    at: &Pending,
    name: &[u8],
    is_dir: bool,
    has: &impl Fn(&[u8]) -> bool,
) -> bool {
    let said = match ignores {
        Some(ignores) => ignores.say(&beneath::join(&at.to, name), is_dir, at.inside_git),
        None => Said::Nothing,
    };
    match said {
        Said::Out => false,
        Said::In => true,
        Said::Nothing => at.inside_git || !is_dir || excludes::excluded(&at.to, name, has).is_none(),
    }
}

/// A call on something that was there a moment ago failed.
fn refused(path: &[u8], cause: Errno) -> WorkspaceError {
    match cause {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => changed(path),
        _ => unreadable(path, cause),
    }
}
