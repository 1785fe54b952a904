//! The rules that left entries out, kept to be asked again: what a task makes in an ignored place is a cache, not a
//! change. Always the caller's rules, never those that the task may have written over them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::sandbox::beneath;
use crate::sandbox::workspace::excludes;
use crate::sandbox::workspace::ignores::{Ignores, Said};

/// The patterns of each directory that has some.
#[derive(Debug, Clone, Default)]
pub struct LeftOut {
    by_directory: HashMap<Vec<u8>, Arc<Ignores>>,
    /// Patterns that nothing overrules.
    always: Option<Arc<Ignores>>,
}

impl LeftOut {
    /// Beginning with patterns that nothing overrules.
    pub(super) fn always(patterns: Option<Arc<Ignores>>) -> Self {
        Self { by_directory: HashMap::new(), always: patterns }
    }

    /// Adds the patterns in force from this directory on.
    pub(super) fn add(&mut self, directory: &[u8], ignores: Arc<Ignores>) {
        self.by_directory.insert(directory.to_vec(), ignores);
    }

    /// Whether a path, or a directory on the way to it, is left out. `exists` tells whether there is an entry at a path.
    pub fn says(&self, path: &[u8], is_dir: bool, exists: impl Fn(&[u8]) -> bool) -> bool {
        let mut ignores = self.by_directory.get(b"".as_slice());
        let mut start = 0;
        while start <= path.len() {
            let length = path[start..].iter().position(|it| *it == b'/').unwrap_or(path.len() - start);
            let (here, last) = (&path[..start + length], start + length == path.len());
            let (parent, name) = (&path[..start.saturating_sub(1)], &path[start..start + length]);
            let is_dir = is_dir || !last;
            if self.always.as_deref().is_some_and(|it| it.say(here, is_dir, false) == Said::Out) {
                return true;
            }
            let said = ignores.map_or(Said::Nothing, |it| it.say(here, is_dir, false));
            let out = match said {
                Said::Out => true,
                Said::In => false,
                Said::Nothing => {
                    let has = |sibling: &[u8]| exists(&beneath::join(parent, sibling));
                    is_dir && excludes::excluded(name, has).is_some()
                }
            };
            if out {
                return true;
            }
            ignores = self.by_directory.get(here).or(ignores);
            start += length + 1;
        }
        false
    }
}
