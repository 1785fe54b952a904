//! Who stands at the way in: holds each entry of the project against the table of what is withheld, lets in what was
//! asked for by name, and keeps the list.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::BorrowedFd;

use rustix::fs::{Access, AtFlags, Dir, FileType, Stat, accessat, statat};

use crate::record::workspace::{WITHHELD_NAMED_MAX, Withheld};
use crate::sandbox::beneath;
use crate::sandbox::workspace::withheld::{self, Kind, Seen, Verdict, look};
use crate::sandbox::workspace::{Choice, Plan, What, WorkspaceError};
use crate::task::escape::escape;

/// The name of the file that makes a directory a virtual environment of Python's, often called `.env`.
const PYTHON_ENVIRONMENT: &[u8] = b"pyvenv.cfg";

/// Entries of one withheld directory that are looked at for other names.
const SEARCHED_MAX: u32 = 10_000;

/// What happens to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// It goes in.
    Goes,
    /// It stays outside and is on the list.
    Stays,
    /// A directory that is withheld for this reason: it is entered for a file in it that was asked for.
    Opens(&'static str),
}

/// What the directory is in which an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    /// An ordinary one.
    Open,
    /// One that is withheld for this reason, entered for a file in it.
    Withheld(&'static str),
}

/// The gate and its list.
pub(super) struct Gate {
    /// Paths that were asked for, and whether they were met.
    asked: BTreeMap<Vec<u8>, Met>,
    list: Vec<Withheld>,
    count: u64,
    /// Files that are withheld under one of several names.
    inodes: HashSet<(u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Not,
    /// It is withheld without the flag, and went in.
    Secret,
    /// It is on no list.
    Ordinary,
    /// A pattern of `.aegisignore` leaves it out.
    Ignored,
    NoFile,
}

impl Gate {
    pub fn new(choice: &Choice) -> Self {
        let asked = choice.include_secrets.iter().map(|it| (it.clone().into_bytes(), Met::Not)).collect();
        Self { asked, list: Vec::new(), count: 0, inodes: HashSet::new() }
    }

    /// Judges the entry `name` of the open `directory`, whose path in the workspace is `parent`.
    pub fn judge(
        &mut self,
        directory: BorrowedFd<'_>,
        (parent, name): (&[u8], &[u8]),
        stat: &Stat,
        around: Around,
        has: impl Fn(&[u8]) -> bool,
    ) -> Pass {
        let kind = kind(stat);
        let reason = match around {
            Around::Withheld(reason) => Some(reason),
            Around::Open => reason(directory, parent, name, kind, has),
        };
        // Most entries: nothing was asked for, and nothing withholds them.
        if reason.is_none() && self.asked.is_empty() {
            return Pass::Goes;
        }
        let path = beneath::join(parent, name);
        if let Some(met) = self.asked.get_mut(&path) {
            *met = match (kind, reason) {
                (Kind::Directory | Kind::Symlink, _) => Met::NoFile,
                (Kind::File { .. }, Some(_)) => Met::Secret,
                (Kind::File { .. }, None) => Met::Ordinary,
            };
            if *met == Met::Secret {
                return Pass::Goes;
            }
        }
        let Some(reason) = reason else { return Pass::Goes };
        if kind == Kind::Directory && self.asks_below(&path) {
            return Pass::Opens(reason);
        }
        self.note_inode(stat);
        if kind == Kind::Directory {
            self.search(directory, name);
        }
        self.withhold(path, reason);
        Pass::Stays
    }

    /// Notes the files below a withheld directory that have other names. What cannot be read has none that could be.
    fn search(&mut self, directory: BorrowedFd<'_>, name: &[u8]) {
        let mut pending = vec![name.to_vec()];
        let mut entries = 0;
        while let Some(path) = pending.pop() {
            let Ok(opened) = beneath::directory(directory, &path) else { continue };
            for entry in Dir::read_from(&opened).into_iter().flatten().flatten() {
                let name = entry.file_name().to_bytes();
                let Ok(stat) = statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                self.note_inode(&stat);
                entries += 1;
                if entries > SEARCHED_MAX {
                    return;
                }
                if name != b"." && name != b".." && kind(&stat) == Kind::Directory {
                    pending.push(beneath::join(&path, name));
                }
            }
        }
    }

    /// Told of an entry that a pattern leaves out.
    pub fn ignored(&mut self, path: &[u8], name: &[u8], stat: &Stat) {
        let kind = kind(stat);
        for (asked, met) in &mut self.asked {
            let below =
                kind == Kind::Directory && asked.strip_prefix(path).is_some_and(|it| it.starts_with(b"/"));
            if asked == path || below {
                *met = Met::Ignored;
            }
        }
        // It is left out by its owner's wish, so it is on no list; its other names are still those of a secret.
        if stat.st_nlink > 1 && matches!(withheld::judge(b"", name, kind, |_| false), Verdict::Withheld(_)) {
            self.note_inode(stat);
        }
    }

    fn asks_below(&self, path: &[u8]) -> bool {
        self.asked.keys().any(|it| it.strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/")))
    }

    // The widths of these fields differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    fn note_inode(&mut self, stat: &Stat) {
        if stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            self.inodes.insert((stat.st_dev as u64, stat.st_ino as u64));
        }
    }

    fn withhold(&mut self, path: Vec<u8>, reason: &str) {
        self.count += 1;
        if self.list.len() < WITHHELD_NAMED_MAX {
            self.list.push(Withheld { path, reason: reason.to_owned(), in_history: false });
        }
    }

    /// Takes the other names of withheld files out of a plan; `names` are the first names of its files with several.
    fn recall(&mut self, plan: &mut Plan, names: &HashMap<(u64, u64), Vec<u8>>) {
        let recalled: HashSet<Vec<u8>> = self.inodes.iter().filter_map(|it| names.get(it)).cloned().collect();
        if recalled.is_empty() {
            return;
        }
        let mut found = Vec::new();
        for directory in &mut plan.directories {
            let to = &directory.to;
            directory.items.retain_mut(|item| {
                let path = beneath::join(to, &item.name);
                let asked = self.asked.get(&path) == Some(&Met::Secret);
                let goes = match &item.what {
                    What::File(_) => asked || !recalled.contains(&path),
                    What::Hardlink(first, _) => asked || !recalled.contains(first),
                    What::Symlink(_) | What::Text(_) => true,
                };
                if let (true, What::Hardlink(_, identity)) = (asked, &item.what) {
                    // Its first name may go; it travels by itself.
                    item.what = What::File(*identity);
                }
                if !goes {
                    found.push(path);
                }
                goes
            });
        }
        plan.summary.files -= found.len() as u64;
        for path in found {
            self.withhold(path, "another name of a withheld file");
        }
    }

    /// The list in order, after everything was judged; refuses what was asked for and is not there.
    pub fn close(
        mut self,
        plan: &mut Plan,
        names: &HashMap<(u64, u64), Vec<u8>>,
    ) -> Result<(), WorkspaceError> {
        self.recall(plan, names);
        for (path, met) in &self.asked {
            let reason = match met {
                Met::Secret => continue,
                Met::Ordinary => {
                    plan.summary.notes.push(format!(
                        "`--include-secret {}` changes nothing: the file is not withheld",
                        escape(path)
                    ));
                    continue;
                }
                Met::Not => "is not in the workspace; give its path from the workspace's root",
                Met::Ignored => "is left out by a line in `.aegisignore`; take that line away",
                Met::NoFile => "is not a regular file; name a file in it, or the file that it leads to",
            };
            return Err(WorkspaceError::NoSecret { path: escape(path), reason });
        }
        plan.summary.withheld = self.list;
        plan.summary.withheld.sort_by(|a, b| a.path.cmp(&b.path));
        plan.summary.withheld_count = self.count;
        Ok(())
    }
}

/// Why an entry is withheld, if it is.
fn reason(
    directory: BorrowedFd<'_>,
    parent: &[u8],
    name: &[u8],
    kind: Kind,
    has: impl Fn(&[u8]) -> bool,
) -> Option<&'static str> {
    match withheld::judge(parent, name, kind, has) {
        Verdict::Goes => None,
        Verdict::Withheld(_) if kind == Kind::Directory && is_python_environment(directory, name) => None,
        Verdict::Withheld(reason) => Some(reason),
        Verdict::Asks(asked, reason) => {
            (look::look(directory, name, asked) == Seen::Secret).then_some(reason)
        }
    }
}

fn is_python_environment(directory: BorrowedFd<'_>, name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b".env")
        && accessat(
            directory,
            beneath::join(name, PYTHON_ENVIRONMENT).as_slice(),
            Access::EXISTS,
            AtFlags::empty(),
        )
        .is_ok()
}

fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::RegularFile
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Kind::File {
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            executable: stat.st_mode & 0o111 != 0,
        },
    }
}

#[cfg(test)]
mod tests;
