//! Files of a workspace on disk that have no name any more and are held open: no walk of the workspace sees them. They are
//! looked for in what the kernel shows of the sandbox's processes, which only root may see whole.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, stat, statat};

use crate::sandbox::container_spec::WORKSPACE;
use crate::sandbox::disk_use::BLOCK_BYTES;

/// Processes that one look goes through.
const PROCESSES_MAX: usize = 4096;
/// Descriptors that one look goes through.
const DESCRIPTORS_MAX: usize = 262_144;

/// Bytes of such files in the sandbox whose PID 1 this is. What cannot be looked at counts nothing.
pub fn bytes(init: i32) -> u64 {
    let Ok(workspace) = stat(Path::new(&format!("/proc/{init}/root{WORKSPACE}"))) else { return 0 };
    let (mut seen, mut sum, mut left) = (HashSet::new(), 0_u64, DESCRIPTORS_MAX);
    for process in processes(init) {
        let Ok(directory) = std::fs::File::open(format!("/proc/{process}/fd")) else { continue };
        let Ok(names) = rustix::fs::Dir::read_from(&directory) else { continue };
        for name in names.flatten() {
            left = left.saturating_sub(1);
            if left == 0 {
                return sum;
            }
            // The link leads to the open file itself, whatever became of its name.
            let Ok(file) = statat(&directory, name.file_name(), AtFlags::empty()) else { continue };
            let regular = FileType::from_raw_mode(file.st_mode) == FileType::RegularFile;
            if regular && file.st_nlink == 0 && file.st_dev == workspace.st_dev && seen.insert(file.st_ino) {
                sum += u64::try_from(file.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES);
            }
        }
    }
    sum
}

/// Every process of a sandbox: what lost its parent is a child of PID 1.
fn processes(init: i32) -> Vec<i32> {
    let mut found = vec![init];
    let mut at = 0;
    while let Some(process) = found.get(at).copied() {
        at += 1;
        for thread in threads(process) {
            let children = std::fs::read_to_string(thread.join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|it| it.parse::<i32>().ok()));
        }
        if found.len() > PROCESSES_MAX {
            found.truncate(PROCESSES_MAX);
            break;
        }
    }
    found
}

fn threads(process: i32) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    entries.take(PROCESSES_MAX).flatten().map(|it| it.path()).collect()
}
