//! The host's own reading of a sandbox's PID 1. What this user may not read is `None`; the rest must agree with what
//! init reported.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of one text at the most, as init bounds its own.
const TEXT_BYTES_MAX: u64 = 256 * 1024;
/// CPUs that are believed at the most, the kernel's own bound on x86_64.
const CPUS_MAX: usize = 8192;
/// Names below `/proc/<pid>/ns`.
const NAMESPACES: [&str; 10] =
    ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

/// What the host sees; texts are as the kernel wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideView {
    /// Process id of init on the host.
    pub pid: i32,
    /// `/proc/<pid>/status`.
    pub status: Option<Vec<u8>>,
    /// `/proc/<pid>/mountinfo`.
    pub mountinfo: Option<Vec<u8>>,
    /// `/proc/<pid>/cgroup`.
    pub cgroup: Option<Vec<u8>>,
    /// `/proc/<pid>/limits`.
    pub limits: Option<Vec<u8>>,
    /// `/proc/<pid>/uid_map`.
    pub uid_map: Option<Vec<u8>>,
    /// `/proc/<pid>/net/route`.
    pub net_route: Option<Vec<u8>>,
    /// `/proc/<pid>/ns/*`: name and inode number, those that may be read.
    pub namespaces: Vec<(String, u64)>,
    /// The same of this process.
    pub host_namespaces: Vec<(String, u64)>,
}

/// Digits of the id that the engine gives a container, and names its cgroups after.
const CONTAINER_DIGITS: usize = 64;

impl OutsideView {
    /// Whether its cgroups are named after another container than this one: `/docker/<id>`, or `docker-<id>.scope`.
    pub fn is_of_another(&self, container: &str) -> bool {
        let cgroups = String::from_utf8_lossy(self.cgroup.as_deref().unwrap_or_default());
        let words = cgroups.split(|it: char| !it.is_ascii_hexdigit());
        let ids: Vec<&str> = words.filter(|it| it.len() == CONTAINER_DIGITS).collect();
        !ids.is_empty() && !ids.contains(&container)
    }

    /// Reads what the host shows of a process. The caller has its id from the sandbox's connection, so it cannot be
    /// another's as long as that is open.
    pub fn read(pid: i32) -> Self {
        let text = |name: &str| text(&Path::new("/proc").join(pid.to_string()).join(name));
        Self {
            pid,
            status: text("status"),
            mountinfo: text("mountinfo"),
            cgroup: text("cgroup"),
            limits: text("limits"),
            uid_map: text("uid_map"),
            net_route: text("net/route"),
            namespaces: namespaces(&pid.to_string()),
            host_namespaces: namespaces("self"),
        }
    }

    /// Names of what could be read.
    pub fn readable(&self) -> Vec<&'static str> {
        let texts = [
            ("status", &self.status),
            ("mountinfo", &self.mountinfo),
            ("cgroup", &self.cgroup),
            ("limits", &self.limits),
            ("uid_map", &self.uid_map),
            ("net/route", &self.net_route),
        ];
        let mut names: Vec<_> = texts.iter().filter(|(_, it)| it.is_some()).map(|(name, _)| *name).collect();
        if !self.namespaces.is_empty() {
            names.push("ns");
        }
        names
    }
}

/// Those of the paths that this host's kernel has: a sandbox has the same kernel, so there they must be masked.
pub fn existing(paths: &[String]) -> BTreeSet<String> {
    paths.iter().filter(|it| Path::new(it).symlink_metadata().is_ok()).cloned().collect()
}

/// How many CPUs this host's kernel may ever have, at least one: each has its own paths below `/sys`.
pub fn cpus() -> usize {
    let possible = text(Path::new("/sys/devices/system/cpu/possible")).unwrap_or_default();
    cpus_in(&String::from_utf8_lossy(&possible)).clamp(1, CPUS_MAX)
}

/// The kernel lists ranges: `0-7`, `0`, `0-3,8-11`.
fn cpus_in(possible: &str) -> usize {
    let highest = possible.trim().rsplit(['-', ',']).next().and_then(|it| it.parse::<usize>().ok());
    highest.map_or(1, |it| it.saturating_add(1))
}

fn text(path: &Path) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path).ok()?.take(TEXT_BYTES_MAX).read_to_end(&mut content).ok()?;
    Some(content)
}

fn namespaces(process: &str) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for name in NAMESPACES {
        if let Ok(metadata) = std::fs::metadata(format!("/proc/{process}/ns/{name}")) {
            found.push((name.to_owned(), metadata.ino()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_existing(path: &str, there: bool) {
        assert_eq!(existing(&[path.to_owned()]).contains(path), there);
    }

    #[test]
    fn a_process_of_ones_own_is_readable_whole() {
        let view = OutsideView::read(std::process::id() as i32);
        assert_eq!(
            view.readable(),
            ["status", "mountinfo", "cgroup", "limits", "uid_map", "net/route", "ns"]
        );
        assert_eq!(view.namespaces, view.host_namespaces);
    }

    fn check_another(cgroup: &str, is_of_another: bool) {
        let view = OutsideView { cgroup: Some(cgroup.into()), ..OutsideView::read(-1) };
        assert_eq!(view.is_of_another(&"a1".repeat(32)), is_of_another, "{cgroup}");
    }

    #[test]
    fn a_process_is_of_the_container_that_its_cgroups_name() {
        let (ours, others) = ("a1".repeat(32), "b2".repeat(32));
        check_another(&format!("9:name=systemd:/docker/{ours}\n8:pids:/docker/{ours}\n"), false);
        check_another(&format!("0::/system.slice/docker-{ours}.scope\n"), false);
        check_another(&format!("0::/docker/{others}/docker/{ours}\n"), false);
        check_another(&format!("8:pids:/docker/{others}\n"), true);
        check_another(&format!("0::/system.slice/docker-{others}.scope\n"), true);
        // What names none says nothing.
        check_another("0::/\n", false);
        check_another("", false);
    }

    #[test]
    fn a_process_that_is_not_there_shows_nothing() {
        assert_eq!(OutsideView::read(-1).readable(), Vec::<&str>::new());
    }

    #[test]
    fn cpus_are_counted_to_the_highest() {
        for (possible, cpus) in [("0-7\n", 8), ("0\n", 1), ("0-3,8-11\n", 12), ("", 1), ("x", 1)] {
            assert_eq!(cpus_in(possible), cpus, "{possible:?}");
        }
    }

    #[test]
    fn only_paths_that_are_there_exist() {
        check_existing("/proc/sys", true);
        check_existing("/proc/no-such-thing", false);
    }
}
