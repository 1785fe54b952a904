//! What inside a sandbox is not the task's: files of the kernel and of the engine. Init is non-dumpable and holds a
//! connection; reading its own `/proc` files for the host, because a task planted a link to them, must not happen.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use nix::sys::statfs::fstatfs;

use aegis_init::wire::SLOT_DIR;

/// Filesystems that the kernel makes up, by the number that `statfs` shows.
const KERNEL_FILESYSTEMS: [u32; 19] = [
    0x0000_9fa0, // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x0000_1cd1, // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6e73_6673, // nsfs
    0x5049_5045, // pipefs
    0x534f_434b, // sockfs
    0x0904_1934, // anonymous inodes
    0xf97c_ff8c, // selinuxfs
    0x6265_6570, // configfs
    0x6573_5543, // fusectl
    0x4249_4e4d, // binfmt_misc
    0x5a3c_69f0, // apparmorfs
];

/// Whether an open file or directory belongs to the kernel or the engine. What cannot be told counts as foreign.
pub fn foreign(file: impl AsFd) -> bool {
    let Ok(numbers) = fstatfs(file.as_fd()) else { return true };
    if KERNEL_FILESYSTEMS.contains(&(numbers.filesystem_type().0 as u32)) {
        return true;
    }
    // The slot is a mount of the host's own filesystem, so only its place tells it apart.
    let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let Ok(path) = std::fs::read_link(link) else { return true };
    in_slot(path.as_os_str().as_bytes())
}

fn in_slot(path: &[u8]) -> bool {
    let rest = path.strip_prefix(SLOT_DIR.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: bool) {
        let file = std::fs::File::open(path).expect("it can be opened");
        assert_eq!(foreign(&file), expected, "{path}");
    }

    #[test]
    fn files_of_the_kernel_are_foreign() {
        check("/proc/self/mem", true);
        check("/proc/version", true);
    }

    #[test]
    fn usual_files_are_not() {
        check("/dev/null", false);
        check("/usr", false);
    }

    #[test]
    fn the_slot_is_foreign_and_its_neighbours_are_not() {
        let found =
            ["/.aegis", "/.aegis/aegis-init", "/.aegis2", "/a/.aegis"].map(|it| in_slot(it.as_bytes()));
        assert_eq!(found, [true, true, false, false]);
    }
}
