//! Processes of this machine, told apart by a mark in their arguments, and what the kernel counts for one.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A number of seconds that no other process sleeps.
#[derive(Debug, Clone)]
pub struct Tag(String);

impl Tag {
    /// A new one.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("9{:07}{next:04}", std::process::id() % 10_000_000))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Arguments of every live process that carries a tag; the program under test itself carries it too and is none of
/// them.
pub fn processes_with(tag: &Tag) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("read").flatten() {
        let Some(arguments) = arguments(&entry.path()) else {
            continue;
        };
        let program = arguments.split('\0').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        if program != "aegis" && arguments.contains(&tag.0) {
            found.push(arguments.replace('\0', " "));
        }
    }
    found
}

fn arguments(process: &Path) -> Option<String> {
    process.file_name()?.to_str()?.parse::<u32>().ok()?;
    // A process that ended meanwhile has none, and so has a zombie.
    let bytes = std::fs::read(process.join("cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The most memory that a live process has had resident, bytes; `None` once it has ended.
pub fn peak_resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|it| it.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Open descriptors of a live process.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
