//! Where the bytes of a workspace lie, for the message that says it is too large. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::sandbox::workspace::Limits;
use crate::task::escape::escape;

/// Directories that the message names.
const NAMED: usize = 3;
/// A directory is named by the one inside it that has this share of it, in percent.
const SHARE_PERCENT: u64 = 90;

/// What directories hold, themselves and with everything below.
#[derive(Debug, Default)]
pub struct Weights {
    own: Vec<(Vec<u8>, Weight)>,
    /// Everything.
    pub total: Weight,
}

/// An amount of both kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    /// Bytes in whole pages.
    pub bytes: u64,
    /// Files, directories and links.
    pub files: u64,
}

/// Whether the count is the whole truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Everything was counted.
    Whole,
    /// Counting was given up: there is more.
    Broken,
}

impl Weights {
    /// Adds what lies directly in the directory `path`.
    pub fn add(&mut self, path: &[u8], weight: Weight) {
        self.total = self.total.and(weight);
        if !path.is_empty() {
            self.own.push((path.to_vec(), weight));
        }
    }

    /// Whether anything is too much.
    pub fn exceed(&self, limits: Limits) -> bool {
        self.total.bytes > limits.bytes || self.total.files > limits.files
    }

    /// What is too much, if anything: sizes, limit, largest directories and what to do.
    pub fn excess(&self, limits: Limits, count: Count) -> Option<String> {
        let more = match count {
            Count::Whole => "",
            Count::Broken => "more than ",
        };
        if self.total.bytes > limits.bytes {
            let (bytes, limit) = (size(self.total.bytes), size(limits.bytes));
            let named = self.name_largest(|it| it.bytes, size);
            let enough = match count {
                Count::Whole => format!(" {}", crate::intake::size::display(whole_mib(self.total.bytes))),
                Count::Broken => String::new(),
            };
            return Some(format!(
                "takes {more}{bytes} and its limit is {limit}{named}; leave out what the task does not need with lines in `.aegisignore`, or raise it with `--workspace-size{enough}` or `filesystem.workspace_size` in the policy"
            ));
        }
        if self.total.files > limits.files {
            let (files, limit) = (self.total.files, limits.files);
            let named = self.name_largest(|it| it.files, |it| format!("{it} files"));
            return Some(format!(
                "holds {more}{files} files and its limit is {limit}{named}; leave out what the task does not need with lines in `.aegisignore`, or raise `filesystem.workspace_files` in the policy"
            ));
        }
        None
    }

    fn name_largest(&self, of: impl Fn(Weight) -> u64, show: impl Fn(u64) -> String) -> String {
        let mut largest = self.largest(of);
        largest.truncate(NAMED);
        let names: Vec<String> =
            largest.iter().map(|(path, amount)| format!("`{}` {}", escape(path), show(*amount))).collect();
        if names.is_empty() {
            return String::new();
        }
        format!(" (largest: {})", names.join(", "))
    }

    /// The directories below the root, heaviest first, each as deep as one path holds nearly all of it.
    fn largest(&self, of: impl Fn(Weight) -> u64) -> Vec<(Vec<u8>, u64)> {
        let mut sums: BTreeMap<&[u8], u64> = BTreeMap::new();
        let mut below: BTreeMap<&[u8], BTreeSet<&[u8]>> = BTreeMap::new();
        for (path, weight) in &self.own {
            let mut path = path.as_slice();
            while !path.is_empty() {
                *sums.entry(path).or_default() += of(*weight);
                below.entry(parent(path)).or_default().insert(path);
                path = parent(path);
            }
        }
        let sum = |path: &[u8]| sums.get(path).copied().unwrap_or_default();
        let mut largest = Vec::new();
        for start in below.get(b"".as_slice()).into_iter().flatten() {
            let mut path = *start;
            while let Some(deeper) = below
                .get(path)
                .and_then(|it| it.iter().find(|child| sum(child) * 100 >= sum(path) * SHARE_PERCENT))
            {
                path = deeper;
            }
            largest.push((path.to_vec(), sum(path)));
        }
        largest.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        largest
    }
}

impl Weight {
    fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), files: self.files.saturating_add(other.files) }
    }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|it| *it == b'/').map_or(b"", |slash| &path[..slash])
}

/// The next whole MiB.
fn whole_mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20).saturating_mul(1 << 20)
}

/// Bytes for a person: binary units, one decimal.
fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x10_0000 => (1 << 10, "KiB"),
        0x10_0000..0x4000_0000 => (1 << 20, "MiB"),
        0x4000_0000.. => (1u64 << 30, "GiB"),
    };
    let tenths = (u128::from(bytes) * 10).div_ceil(u128::from(unit));
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        rest => format!("{}.{rest} {name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn check(directories: &[(&str, u64, u64)], limits: Limits, expected: Option<&str>) {
        let mut weights = Weights::default();
        for (path, bytes, files) in directories {
            weights.add(path.as_bytes(), Weight { bytes: *bytes, files: *files });
        }
        let excess = weights.excess(limits, Count::Whole);
        let short = excess.as_deref().and_then(|it| it.split(';').next());
        assert_eq!(short, expected);
    }

    #[test]
    fn what_fits_is_no_excess() {
        check(&[("", MIB, 1)], Limits { bytes: MIB, files: 1 }, None);
    }

    #[test]
    fn the_three_largest_directories_are_named() {
        check(
            &[("", 0, 4), ("a", MIB, 1), ("b", 3 * MIB, 1), ("c", 5 * MIB, 1), ("d", MIB / 2, 1)],
            Limits { bytes: 4 * MIB, files: 100 },
            Some("takes 9.5 MiB and its limit is 4 MiB (largest: `c` 5 MiB, `b` 3 MiB, `a` 1 MiB)"),
        );
    }

    #[test]
    fn a_directory_is_named_as_deep_as_it_says_more() {
        check(
            &[("", 0, 1), ("a", 0, 1), ("a/b", 0, 3), ("a/b/c", 4 * MIB, 1), ("a/b/d", 4 * MIB, 1)],
            Limits { bytes: 4 * MIB, files: 100 },
            Some("takes 8 MiB and its limit is 4 MiB (largest: `a/b` 8 MiB)"),
        );
    }

    #[test]
    fn the_size_that_would_do_is_named() {
        let mut weights = Weights::default();
        weights.add(b"a", Weight { bytes: 5 * MIB / 2, files: 1 });
        let limits = Limits { bytes: MIB, files: 100 };
        let whole = weights.excess(limits, Count::Whole).expect("too much");
        assert!(whole.contains("raise it with `--workspace-size 3MiB`"), "{whole}");
        let broken = weights.excess(limits, Count::Broken).expect("too much");
        assert!(broken.contains("raise it with `--workspace-size` or"), "{broken}");
    }

    #[test]
    fn too_many_files_are_told_apart() {
        check(
            &[("", 0, 2), ("many", 0, 99)],
            Limits { bytes: MIB, files: 100 },
            Some("holds 101 files and its limit is 100 (largest: `many` 99 files)"),
        );
    }
}
