//! Looks at everything that would be copied, by name and size: what is left out, what cannot be read, whether it fits.
//! Reads no content but `.aegisignore`, git's small files, and what the table of withheld names asks for.

mod ahead;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::Scope;

use rustix::fs::{Access, AtFlags, FileType, Stat, accessat, fstat, statat};
use rustix::io::Errno;

use crate::sandbox::beneath;
use crate::sandbox::workspace::gate::{Around, Gate, Pass};
use crate::sandbox::workspace::git::clean::{self, Clean};
use crate::sandbox::workspace::git::history;
use crate::sandbox::workspace::git::parts::{self, Part};
use crate::sandbox::workspace::ignores::{FILE_NAME, Ignores, Said};
use crate::sandbox::workspace::left_out::LeftOut;
use crate::sandbox::workspace::scan::ahead::{Ahead, Looked};
use crate::sandbox::workspace::weight::{Count, Weight, Weights};
use crate::sandbox::workspace::{
    Choice, Directory, Identity, Item, Limits, Meta, Plan, Summary, What, WorkspaceError, changed, excludes,
    git, unreadable,
};
use crate::task::GitHistory;
use crate::task::escape::escape;

use aegis_init::wire::PATH_BYTES_MAX;

/// What a tmpfs gives to a file at the least.
pub(super) const PAGE_BYTES: u64 = 4096;
/// How far beyond the limit entries are counted, so that the message can say how much is too much.
const COUNTED_TIMES: u64 = 4;
/// Bytes of git's configurations and logs in all: they are held in memory.
const CLEANED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Notes on single files.
const NOTES_MAX: usize = 10;
/// Directories that wait before a second thread is worth its start.
const HELPED_MIN: usize = 16;
/// Entries that are counted in any case.
const COUNTED_MIN: u64 = 10_000;

/// Plans the copy of `root`, an absolute directory free of links. Nothing has been started when this fails.
pub fn scan(root: &Path, limits: Limits, choice: &Choice) -> Result<Plan, WorkspaceError> {
    scan_excluding(root, limits, choice, None)
}

/// The same without what these patterns leave out, whatever takes it in.
pub fn scan_excluding(
    root: &Path,
    limits: Limits,
    choice: &Choice,
    excluded: Option<Arc<Ignores>>,
) -> Result<Plan, WorkspaceError> {
    let opened =
        File::open(root).map_err(|cause| WorkspaceError::Missing { path: root.to_path_buf(), cause })?;
    let mut walk = Walk::new(limits, choice);
    walk.plan.left_out = LeftOut::always(excluded.clone());
    walk.excluded = excluded;
    walk.tree(opened.into(), b"", &Select::Project)?;
    if !walk.weights.exceed(limits) {
        git::adopt(root, &mut walk)?;
    }
    if let Some(excess) = walk.excess() {
        return Err(WorkspaceError::TooLarge { path: root.to_path_buf(), excess });
    }
    let Walk { mut plan, gate, first_names, trees, .. } = walk;
    gate.close(&mut plan, &first_names)?;
    history::mark(&mut plan, &trees);
    Ok(plan)
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
    /// Patterns that nothing overrules.
    excluded: Option<Arc<Ignores>>,
    /// Working trees whose `.git` is a file, with their git directories; both as paths inside.
    pub trees: Vec<(Vec<u8>, Vec<u8>)>,
    /// What of the repository goes in.
    pub git: GitHistory,
    gate: Gate,
    weights: Weights,
    count: Count,
    user: u32,
    /// First names of files that have several.
    first_names: HashMap<(u64, u64), Vec<u8>>,
    /// Bytes of git's files that are held without logins.
    cleaned_bytes: u64,
    /// Paths of directories that are made by the plan so far.
    made: HashSet<Vec<u8>>,
}

/// A directory that is still to be visited.
struct Pending {
    from: Vec<u8>,
    to: Vec<u8>,
    made: Option<Meta>,
    ignores: Option<Arc<Ignores>>,
    inside_git: bool,
    /// The git directory that it is or lies in, if any.
    git: Option<GitDirectory>,
    around: Around,
}

/// A git directory: how much of a path is it, and whether it is one only by what lies in it.
#[derive(Debug, Clone, Copy)]
struct GitDirectory {
    length: usize,
    is_bare: bool,
}

/// A directory that is visited, with what is known of it.
struct Here<'a, H> {
    directory: BorrowedFd<'a>,
    at: &'a Pending,
    ignores: Option<&'a Ignores>,
    git: Option<GitDirectory>,
    has: &'a H,
}

/// One entry of it.
struct Entry<'a> {
    name: &'a [u8],
    to: &'a [u8],
    from: &'a [u8],
    stat: &'a Stat,
    is_dir: bool,
}

impl Walk {
    fn new(limits: Limits, choice: &Choice) -> Self {
        let plan = Plan {
            limits,
            sources: Vec::new(),
            directories: Vec::new(),
            left_out: LeftOut::default(),
            summary: Summary::default(),
        };
        Self {
            plan,
            gitfiles: Vec::new(),
            excluded: None,
            trees: Vec::new(),
            git: choice.git,
            gate: Gate::new(choice),
            weights: Weights::default(),
            count: Count::Whole,
            user: rustix::process::geteuid().as_raw(),
            first_names: HashMap::new(),
            cleaned_bytes: 0,
            made: HashSet::new(),
        }
    }

    /// Adds the tree of an open directory, to lie at the path `to`.
    pub fn tree(&mut self, root: OwnedFd, to: &[u8], select: &Select<'_>) -> Result<(), WorkspaceError> {
        let stat = fstat(&root).map_err(|cause| unreadable(to, cause))?;
        let held = rustix::io::dup(&root).map_err(|cause| unreadable(to, cause))?;
        self.plan.sources.push(root);
        let source = self.plan.sources.len() - 1;
        let made = (!to.is_empty()).then(|| Meta::of(&stat));
        let inside_git = matches!(select, Select::Git { .. });
        let git = inside_git.then_some(GitDirectory { length: to.len(), is_bare: false });
        let around = Around::Open;
        let from = Vec::new();
        let first = Pending { from, to: to.to_vec(), made, ignores: None, inside_git, git, around };
        let ahead = Ahead::new(&held, self.counted_max());
        std::thread::scope(|scope| {
            let _over = ahead.over_at_the_end();
            self.walk(source, first, select, (&ahead, scope))
        })
    }

    fn walk<'scope>(
        &mut self,
        source: usize,
        first: Pending,
        select: &Select<'_>,
        (ahead, scope): (&'scope Ahead<'_>, &'scope Scope<'scope, '_>),
    ) -> Result<(), WorkspaceError> {
        let mut pending = vec![first];
        let mut helped = false;
        while let Some(next) = pending.pop() {
            let deeper = self.visit(source, next, select, ahead)?;
            if self.count == Count::Broken {
                return Ok(());
            }
            ahead.add(deeper.iter().rev().map(|it| it.from.clone()));
            pending.extend(deeper.into_iter().rev());
            if !helped && pending.len() >= HELPED_MIN {
                // Without a helper it takes longer.
                helped = std::thread::Builder::new().spawn_scoped(scope, || ahead.help()).is_ok();
            }
        }
        Ok(())
    }

    /// Entries that are counted, so that the message can say how much is too much.
    fn counted_max(&self) -> u64 {
        self.plan.limits.files.saturating_mul(COUNTED_TIMES).max(COUNTED_MIN)
    }

    /// Adds a directory that is made here, with all that is in it.
    pub fn add(&mut self, directory: Directory) {
        let mut own = Weight { bytes: 0, files: 1 };
        for item in &directory.items {
            own.files += 1;
            self.plan.summary.files += 1;
            if let What::Text(text) = &item.what {
                let size = text.1.len() as u64;
                self.plan.summary.bytes += size;
                own.bytes += size.div_ceil(PAGE_BYTES) * PAGE_BYTES;
            }
        }
        self.plan.summary.directories += 1;
        self.weights.add(&directory.to, own);
        self.plan.directories.push(directory);
    }

    /// What is done with an entry that is taken, and what is around those below it; `None` if it stays outside.
    fn passes<H: Fn(&[u8]) -> bool>(
        &mut self,
        here: &Here<'_, H>,
        entry: &Entry<'_>,
        select: &Select<'_>,
    ) -> Option<(Part, Around)> {
        let part = self.part(here.git, entry);
        if let Select::Git { takes, .. } = select {
            let taken = part != Part::Outside && takes(entry.from, entry.is_dir);
            return taken.then_some((part, Around::Open));
        }
        let excluded = self.excluded.as_deref();
        let taken = excluded.is_none_or(|it| it.say(entry.to, entry.is_dir, here.at.inside_git) != Said::Out)
            && self.takes_git(&here.at.to, entry.name)
            && part != Part::Outside
            && takes(here.ignores, here.at, entry.name, entry.is_dir, here.has);
        if !taken {
            self.plan.summary.excluded += 1;
            self.gate.ignored(entry.to, entry.name, entry.stat);
            return None;
        }
        // What git made has names of its own; a directory that only looks like git's is the project's.
        if here.git.is_some_and(|it| !it.is_bare) {
            return Some((part, Around::Open));
        }
        let place = (here.at.to.as_slice(), entry.name);
        match self.gate.judge(here.directory, place, entry.stat, here.at.around, here.has) {
            Pass::Goes => Some((part, here.at.around)),
            Pass::Opens(reason) => Some((part, Around::Withheld(reason))),
            Pass::Stays => None,
        }
    }

    /// Whether something named `.git` is taken: of a shallow copy only the root's own.
    fn takes_git(&self, parent: &[u8], name: &[u8]) -> bool {
        name != b".git"
            || match self.git {
                GitHistory::Full => true,
                GitHistory::Shallow => parent.is_empty(),
                GitHistory::None => false,
            }
    }

    /// What is done with an entry for the sake of the git directory that it lies in.
    fn part(&self, git: Option<GitDirectory>, entry: &Entry<'_>) -> Part {
        let Some(GitDirectory { length, is_bare }) = git else { return Part::Whole };
        let relative = entry.to.get(length + usize::from(length > 0)..).unwrap_or_default();
        if is_bare {
            return parts::part_of_bare(relative, entry.is_dir);
        }
        let in_root = entry.to.starts_with(b".git/");
        if self.git == GitHistory::Shallow && in_root && !parts::needed_by_head(relative) {
            return Part::Outside;
        }
        parts::part(relative, entry.is_dir)
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
        ahead: &Ahead<'_>,
    ) -> Result<Vec<Pending>, WorkspaceError> {
        let Looked { directory, names, stats } =
            ahead.take(&at.from).map_err(|cause| refused(&at.to, cause))?;
        let room = self.counted_max().saturating_sub(self.weights.total.files);
        let Some(names) = names.filter(|it| it.len() as u64 <= room) else {
            self.count = Count::Broken;
            self.weights.add(&at.to, Weight { bytes: 0, files: room });
            return Ok(Vec::new());
        };
        let has = |name: &[u8]| names.binary_search_by(|it| it.as_slice().cmp(name)).is_ok();
        let ignores = if matches!(select, Select::Project) && has(FILE_NAME.as_bytes()) {
            let read = Ignores::read(directory.as_fd(), &at.to, at.ignores.clone())?;
            self.plan.left_out.add(&at.to, read.clone());
            Some(read)
        } else {
            at.ignores.clone()
        };

        let git = git_directory(&at, has);
        let mut items = Vec::new();
        let mut deeper = Vec::new();
        let mut own = Weight::default();
        for (number, name) in names.iter().enumerate() {
            let seen = stats.get(number).copied();
            let stat = match seen.unwrap_or_else(|| statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)) {
                Ok(stat) => stat,
                // Gone since the names were read: it was never there.
                Err(Errno::NOENT) => continue,
                Err(cause) => return Err(unreadable(&beneath::join(&at.to, name), cause)),
            };
            let to = beneath::join(&at.to, name);
            let from = beneath::join(&at.from, name);
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let entry = Entry { name, to: &to, from: &from, stat: &stat, is_dir };
            let here =
                Here { directory: directory.as_fd(), at: &at, ignores: ignores.as_deref(), git, has: &has };
            let Some((part, around)) = self.passes(&here, &entry, select) else { continue };
            if to.len() > PATH_BYTES_MAX {
                return Err(WorkspaceError::PathTooLong { start: escape(&to).chars().take(80).collect() });
            }
            if is_dir {
                own.files += 1;
                let inside_git = at.inside_git || name == b".git";
                let made = Some(Meta::of(&stat));
                let ignores = ignores.clone();
                deeper.push(Pending { from, to, made, ignores, inside_git, git, around });
                continue;
            }
            let Some(what) = self.item(directory.as_fd(), name, &to, &stat, (select, part), &mut own)? else {
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
        (select, part): (&Select<'_>, Part),
        own: &mut Weight,
    ) -> Result<Option<What>, WorkspaceError> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            // What it leads to would be read by git, and not cleaned.
            FileType::Symlink if part != Part::Whole => {
                self.plan.summary.excluded += 1;
                return Ok(None);
            }
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
        if part != Part::Whole {
            let added = match select {
                Select::Git { added, .. } => added.get(to).map(Vec::as_slice),
                Select::Project => None,
            };
            return self.cleaned(directory, (name, to), (part, added.unwrap_or_default()), own);
        }
        self.plan.summary.files += 1;
        own.files += 1;
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

    /// A file of git's without logins, held in memory: what is sent is what was looked at.
    fn cleaned(
        &mut self,
        directory: BorrowedFd<'_>,
        (name, to): (&[u8], &[u8]),
        (part, added): (Part, &[u8]),
        own: &mut Weight,
    ) -> Result<Option<What>, WorkspaceError> {
        let room = CLEANED_BYTES_MAX.saturating_sub(self.cleaned_bytes);
        match clean::clean(directory, name, part, room).map_err(|cause| refused(to, cause))? {
            Clean::Text(meta, mut content) => {
                content.extend_from_slice(added);
                let size = content.len() as u64;
                self.cleaned_bytes += size;
                self.plan.summary.files += 1;
                self.plan.summary.bytes += size;
                own.files += 1;
                own.bytes += size.div_ceil(PAGE_BYTES) * PAGE_BYTES;
                Ok(Some(What::Text(Box::new((meta, content)))))
            }
            Clean::Unclear(why) => {
                self.plan.summary.excluded += 1;
                if self.plan.summary.notes.len() < NOTES_MAX {
                    self.plan.summary.notes.push(format!("`{}` stays outside: {why}", escape(to)));
                }
                Ok(None)
            }
        }
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
        Said::In => !is_dir || at.inside_git || name != excludes::OUTPUTS.as_bytes(),
        Said::Nothing => at.inside_git || !is_dir || excludes::excluded(name, has).is_none(),
    }
}

/// The git directory that a directory is, or else the one that it lies in.
fn git_directory(at: &Pending, has: impl Fn(&[u8]) -> bool) -> Option<GitDirectory> {
    let is_named = at.to == b".git" || at.to.ends_with(b"/.git");
    if is_named || parts::is_git_directory(has) {
        return Some(GitDirectory { length: at.to.len(), is_bare: !is_named && !at.inside_git });
    }
    at.git
}

/// A call on something that was there a moment ago failed.
fn refused(path: &[u8], cause: Errno) -> WorkspaceError {
    match cause {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => changed(path),
        _ => unreadable(path, cause),
    }
}
