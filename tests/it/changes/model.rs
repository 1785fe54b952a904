//! A tree in memory: it grows and is edited at random, tells the script that does the same, and what it holds then.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::support::random::Random;

const NAMES: [&[u8]; 18] = [
    b"a",
    b"b",
    b"c",
    b"name",
    b"Name",
    b"NAME",
    b"sp ace",
    b"new\nline",
    b"-dash",
    b"\xff\xfe",
    b"q'uote\"",
    b"back\\slash",
    b"tab\t",
    b"*",
    "\u{e4}".as_bytes(),
    "a\u{308}".as_bytes(),
    b"...",
    b"x.txt",
];
const FILE_MODES: [u32; 5] = [0o644, 0o755, 0o600, 0o640, 0o700];
const DIRECTORY_MODES: [u32; 3] = [0o755, 0o700, 0o750];
/// Set at the very end: the task itself could not go on with them.
const CLOSED_FILE_MODES: [u32; 3] = [0o400, 0o000, 0o444];
const CLOSED_DIRECTORY_MODES: [u32; 3] = [0o500, 0o000, 0o555];
const LEVELS_MAX: usize = 4;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A directory with its mode.
    Directory(u32),
    /// A file with its mode and content.
    File(u32, Vec<u8>),
    /// A link with its target.
    Link(Vec<u8>),
}

impl Thing {
    fn kind(&self) -> u8 {
        match self {
            Self::Directory(_) => 0,
            Self::File(..) => 1,
            Self::Link(_) => 2,
        }
    }
}

#[derive(Debug, Clone)]
enum Node {
    Directory(u32),
    File(usize),
    Link(Vec<u8>),
}

/// The tree.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
    /// Mode and content; hard links share one.
    inodes: Vec<(u32, Vec<u8>)>,
    script: String,
}

impl Tree {
    /// Grows a tree at `top`.
    pub fn grow(&mut self, top: &str, random: &Random) {
        self.nodes.insert(top.into(), Node::Directory(0o755));
        for _ in 0..random.below(15) {
            let Some(path) = self.free(top.as_bytes(), random) else { continue };
            self.make(path, random);
        }
        self.script.clear();
    }

    /// Writes it to the disk.
    pub fn write_to(&self, root: &Path) {
        let mut places: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (path, node) in &self.nodes {
            let place = root.join(OsStr::from_bytes(path));
            match node {
                Node::Directory(_) => std::fs::create_dir(&place).expect("a directory"),
                Node::File(inode) => match places.get(inode) {
                    Some(first) => {
                        std::fs::hard_link(root.join(OsStr::from_bytes(first)), &place).expect("a hard link")
                    }
                    None => {
                        std::fs::write(&place, &self.inodes[*inode].1).expect("a file");
                        let mode = std::fs::Permissions::from_mode(self.inodes[*inode].0);
                        std::fs::set_permissions(&place, mode).expect("a mode");
                        places.insert(*inode, path.clone());
                    }
                },
                Node::Link(target) => symlink(OsStr::from_bytes(target), &place).expect("a link"),
            }
        }
        for (path, node) in self.nodes.iter().rev() {
            if let Node::Directory(mode) = node {
                let mode = std::fs::Permissions::from_mode(*mode);
                std::fs::set_permissions(root.join(OsStr::from_bytes(path)), mode).expect("a mode");
            }
        }
    }

    /// What it holds.
    pub fn snapshot(&self) -> BTreeMap<Vec<u8>, Thing> {
        let thing = |node: &Node| match node {
            Node::Directory(mode) => Thing::Directory(*mode),
            Node::File(inode) => Thing::File(self.inodes[*inode].0, self.inodes[*inode].1.clone()),
            Node::Link(target) => Thing::Link(target.clone()),
        };
        self.nodes.iter().map(|(path, node)| (path.clone(), thing(node))).collect()
    }

    /// Edits it, and gives the script that does the same.
    pub fn edit(&mut self, random: &Random) -> String {
        self.script = "set -e\n".to_owned();
        let tops: Vec<Vec<u8>> = self.nodes.keys().filter(|it| !it.contains(&b'/')).cloned().collect();
        for top in tops {
            for _ in 0..random.below(12) {
                self.edit_once(&top, random);
            }
        }
        self.close_some(random);
        std::mem::take(&mut self.script)
    }

    fn edit_once(&mut self, top: &[u8], random: &Random) {
        let free = self.free(top, random);
        let Some(path) = self.any(top, random) else {
            if let Some(free) = free {
                self.make(free, random);
            }
            return;
        };
        match (random.below(9), free) {
            (0, Some(free)) => self.make(free, random),
            (1, _) => self.remove(&path),
            (2, Some(free)) => self.rename(&path, &free),
            (3, _) => {
                // Over another one, where that can be.
                if let Some(other) = self.any(top, random) {
                    self.rename(&path, &other);
                }
            }
            (4, _) => self.change_mode(&path, random),
            (5, Some(free)) => self.link(&path, &free),
            (6, _) => {
                // Something of another kind in its place.
                self.remove(&path);
                self.make(path, random);
            }
            (7, _) => self.script.push_str(&format!("touch -h {}\n", quoted(&path))),
            (_, _) => self.overwrite(&path, random),
        }
    }

    /// A path below `top` that nothing has, in a directory that is there.
    fn free(&self, top: &[u8], random: &Random) -> Option<Vec<u8>> {
        let directories: Vec<&Vec<u8>> = self
            .nodes
            .iter()
            .filter(|(path, node)| {
                matches!(node, Node::Directory(_))
                    && is_in(path, top)
                    && path.iter().filter(|it| **it == b'/').count() < LEVELS_MAX
            })
            .map(|(path, _)| path)
            .collect();
        let parent = directories[random.below(directories.len() as u64) as usize];
        let name = NAMES[random.below(NAMES.len() as u64) as usize];
        let path = [parent.as_slice(), b"/", name].concat();
        (!self.nodes.contains_key(&path)).then_some(path)
    }

    /// Something below `top`.
    fn any(&self, top: &[u8], random: &Random) -> Option<Vec<u8>> {
        let paths: Vec<&Vec<u8>> = self.nodes.keys().filter(|it| is_in(it, top) && *it != top).collect();
        if paths.is_empty() {
            return None;
        }
        Some(paths[random.below(paths.len() as u64) as usize].clone())
    }

    fn make(&mut self, path: Vec<u8>, random: &Random) {
        let place = quoted(&path);
        match random.below(5) {
            0 => {
                let mode = DIRECTORY_MODES[random.below(3) as usize];
                self.script.push_str(&format!("mkdir {place}; chmod {mode:o} {place}\n"));
                self.nodes.insert(path, Node::Directory(mode));
            }
            1 => {
                let target = NAMES[random.below(NAMES.len() as u64) as usize].to_vec();
                self.script.push_str(&format!("ln -s -T -- {} {place}\n", quoted(&target)));
                self.nodes.insert(path, Node::Link(target));
            }
            _ => {
                let mode = FILE_MODES[random.below(5) as usize];
                let (content, text) = content(random);
                self.script.push_str(&format!("{text} >{place}; chmod {mode:o} {place}\n"));
                self.inodes.push((mode, content));
                self.nodes.insert(path, Node::File(self.inodes.len() - 1));
            }
        }
    }

    fn overwrite(&mut self, path: &[u8], random: &Random) {
        if let Some(Node::File(inode)) = self.nodes.get(path) {
            let (new, text) = content(random);
            let appends = random.below(2) == 0;
            self.script.push_str(&format!("{text} >{}{}\n", if appends { ">" } else { "" }, quoted(path)));
            let content = &mut self.inodes[*inode].1;
            if !appends {
                content.clear();
            }
            content.extend(new);
        }
    }

    fn remove(&mut self, path: &[u8]) {
        self.script.push_str(&format!("rm -rf {}\n", quoted(path)));
        self.nodes.retain(|it, _| !is_in(it, path));
    }

    /// To a free path, or over something of the same kind that is no directory; `mv` refuses a link over the file that it
    /// leads to.
    fn rename(&mut self, from: &[u8], to: &[u8]) {
        let (Some(node), other) = (self.nodes.get(from), self.nodes.get(to)) else { return };
        let fits = match (node, other) {
            (_, None) => true,
            (Node::File(one), Some(Node::File(other))) => one != other,
            (Node::Link(_), Some(Node::Link(_))) => from != to,
            (_, Some(_)) => false,
        };
        if !fits || is_in(to, from) {
            return;
        }
        self.script.push_str(&format!("mv -fT {} {}\n", quoted(from), quoted(to)));
        let moved: Vec<Vec<u8>> = self.nodes.keys().filter(|it| is_in(it, from)).cloned().collect();
        for path in moved {
            let node = self.nodes.remove(&path).expect("it is there");
            self.nodes.insert([to, &path[from.len()..]].concat(), node);
        }
    }

    fn link(&mut self, path: &[u8], to: &[u8]) {
        if let Some(Node::File(inode)) = self.nodes.get(path) {
            self.script.push_str(&format!("ln -T {} {}\n", quoted(path), quoted(to)));
            self.nodes.insert(to.to_vec(), Node::File(*inode));
        }
    }

    fn change_mode(&mut self, path: &[u8], random: &Random) {
        let mode = match self.nodes.get(path) {
            Some(Node::Directory(_)) => DIRECTORY_MODES[random.below(3) as usize],
            Some(Node::File(_)) => FILE_MODES[random.below(5) as usize],
            Some(Node::Link(_)) | None => return,
        };
        self.set_mode(path, mode);
    }

    fn set_mode(&mut self, path: &[u8], mode: u32) {
        self.script.push_str(&format!("chmod {mode:o} {}\n", quoted(path)));
        match self.nodes.get_mut(path) {
            Some(Node::Directory(now)) => *now = mode,
            Some(Node::File(inode)) => self.inodes[*inode].0 = mode,
            Some(Node::Link(_)) | None => {}
        }
    }

    /// Takes the task's own rights to some things away, the deepest first.
    fn close_some(&mut self, random: &Random) {
        let mut paths: Vec<Vec<u8>> = self.nodes.keys().filter(|it| it.contains(&b'/')).cloned().collect();
        paths.sort_by_key(|it| std::cmp::Reverse(it.iter().filter(|it| **it == b'/').count()));
        let mut closed = BTreeSet::new();
        for path in paths {
            if random.below(8) > 0 {
                continue;
            }
            match self.nodes.get(&path) {
                Some(Node::Directory(_)) => {
                    self.set_mode(&path, CLOSED_DIRECTORY_MODES[random.below(3) as usize])
                }
                Some(Node::File(inode)) if closed.insert(*inode) => {
                    self.set_mode(&path, CLOSED_FILE_MODES[random.below(3) as usize]);
                }
                Some(Node::File(_) | Node::Link(_)) | None => {}
            }
        }
    }
}

/// A content and the words that print it.
fn content(random: &Random) -> (Vec<u8>, String) {
    match random.below(8) {
        0 => (Vec::new(), "printf ''".to_owned()),
        1 => (vec![b'x'; 300_000], "head -c 300000 /dev/zero | tr '\\0' x".to_owned()),
        2 => (vec![0; 70_000], "head -c 70000 /dev/zero".to_owned()),
        _ => {
            let bytes: Vec<u8> = (0..random.below(40)).map(|_| random.below(256) as u8).collect();
            let text: String = bytes.iter().map(|it| format!("\\x{it:02x}")).collect();
            (bytes, format!("printf '{text}'"))
        }
    }
}

/// A path that no shell takes for anything else.
fn quoted(path: &[u8]) -> String {
    let text: String = path.iter().map(|it| format!("\\x{it:02x}")).collect();
    format!("$'{text}'")
}

fn is_in(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// What lies below a directory of the disk.
pub fn read(root: &Path) -> BTreeMap<Vec<u8>, Thing> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let metadata = std::fs::symlink_metadata(&path).expect("metadata");
            let mode = metadata.permissions().mode() & 0o7777;
            let thing = if metadata.is_dir() {
                waiting.push(path.clone());
                Thing::Directory(mode)
            } else if metadata.is_symlink() {
                Thing::Link(std::fs::read_link(&path).expect("a link").as_os_str().as_bytes().to_vec())
            } else {
                Thing::File(mode, std::fs::read(&path).expect("a file"))
            };
            let relative = path.strip_prefix(root).expect("below");
            found.insert(relative.as_os_str().as_bytes().to_vec(), thing);
        }
    }
    found
}

/// Which paths differ, with git's letters.
pub fn differences(
    before: &BTreeMap<Vec<u8>, Thing>,
    after: &BTreeMap<Vec<u8>, Thing>,
) -> Vec<(Vec<u8>, char)> {
    let paths: BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for path in paths {
        let letter = match (before.get(path), after.get(path)) {
            (Some(one), Some(other)) if one == other => continue,
            (Some(one), Some(other)) if one.kind() != other.kind() => 'T',
            (Some(_), Some(_)) => 'M',
            (None, _) => 'A',
            (Some(_), None) => 'D',
        };
        changes.push((path.clone(), letter));
    }
    changes
}

/// Holds that two trees are the same; shows only what differs.
#[track_caller]
pub fn check(found: &BTreeMap<Vec<u8>, Thing>, expected: &BTreeMap<Vec<u8>, Thing>, script: &str) {
    let differs = differences(expected, found);
    assert!(differs.is_empty(), "{differs:?}\nafter\n{script}");
}
