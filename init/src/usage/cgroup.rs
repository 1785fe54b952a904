//! The counters of the sandbox's own cgroup, in both layouts. Parsing is pure and tested on recorded files, because
//! no machine has both.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const ROOT: &str = "/sys/fs/cgroup";
/// Bytes of a counter file that are read; the longest is `cpu.stat` with some hundred.
const FILE_BYTES_MAX: usize = 4096;

/// CPU time in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// In programs.
    pub user_us: u64,
    /// In the kernel for them.
    pub system_us: u64,
}

/// Open counter files; `None` where this kernel or layout has none.
pub struct Counters {
    layout: Layout,
    memory_peak: Option<File>,
    memory_events: Option<File>,
    pids_peak: Option<File>,
    pids_current: Option<File>,
    pids_events: Option<File>,
    cpu: Option<File>,
    cpu_system: Option<File>,
}

enum Layout {
    V1,
    V2,
}

impl Counters {
    /// Opens what there is.
    pub fn open() -> Self {
        Self::open_at(Path::new(ROOT))
    }

    fn open_at(root: &Path) -> Self {
        let file = |name: &str| File::open(root.join(name)).ok();
        if root.join("cgroup.controllers").exists() {
            return Self {
                layout: Layout::V2,
                memory_peak: file("memory.peak"),
                memory_events: file("memory.events"),
                pids_peak: file("pids.peak"),
                pids_current: file("pids.current"),
                pids_events: file("pids.events"),
                cpu: file("cpu.stat"),
                cpu_system: None,
            };
        }
        let cpuacct =
            |name: &str| file(&format!("cpuacct/{name}")).or_else(|| file(&format!("cpu,cpuacct/{name}")));
        Self {
            layout: Layout::V1,
            memory_peak: file("memory/memory.max_usage_in_bytes"),
            memory_events: file("memory/memory.oom_control"),
            pids_peak: file("pids/pids.peak"),
            pids_current: file("pids/pids.current"),
            pids_events: file("pids/pids.events"),
            cpu: cpuacct("cpuacct.usage_user"),
            cpu_system: cpuacct("cpuacct.usage_sys"),
        }
    }

    /// Highest memory of the cgroup.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        number(&read(self.memory_peak.as_ref())?)
    }

    /// Processes that the kernel killed for memory.
    pub fn oom_kills(&self) -> Option<u64> {
        field(&read(self.memory_events.as_ref())?, "oom_kill")
    }

    /// Highest number of processes and threads, where the kernel keeps it.
    pub fn pids_peak(&self) -> Option<u64> {
        number(&read(self.pids_peak.as_ref())?)
    }

    /// Processes and threads now.
    pub fn pids_current(&self) -> Option<u64> {
        number(&read(self.pids_current.as_ref())?)
    }

    /// How often the limit refused a fork.
    pub fn pids_limit_hits(&self) -> Option<u64> {
        field(&read(self.pids_events.as_ref())?, "max")
    }

    /// CPU time of the cgroup; where it has no such counter, of init and the children it collected.
    pub fn cpu(&self) -> Cpu {
        let counted = match self.layout {
            Layout::V1 => read(self.cpu.as_ref()).zip(read(self.cpu_system.as_ref())).and_then(cpu_v1),
            Layout::V2 => read(self.cpu.as_ref()).and_then(|it| cpu_v2(&it)),
        };
        counted.unwrap_or_else(cpu_collected)
    }
}

fn read(file: Option<&File>) -> Option<String> {
    let mut bytes = [0; FILE_BYTES_MAX];
    let length = file?.read_at(&mut bytes, 0).ok()?;
    String::from_utf8(bytes[..length].to_vec()).ok()
}

/// A file that is one number.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The value of a line `name value`.
fn field(text: &str, name: &str) -> Option<u64> {
    for line in text.lines() {
        if let Some((key, value)) = line.split_once(' ')
            && key == name
        {
            return value.trim().parse().ok();
        }
    }
    None
}

/// Nanoseconds in two files.
fn cpu_v1((user, system): (String, String)) -> Option<Cpu> {
    Some(Cpu { user_us: number(&user)? / 1_000, system_us: number(&system)? / 1_000 })
}

/// Microseconds in two lines.
fn cpu_v2(stat: &str) -> Option<Cpu> {
    Some(Cpu { user_us: field(stat, "user_usec")?, system_us: field(stat, "system_usec")? })
}

fn cpu_collected() -> Cpu {
    let mut sum = Cpu { user_us: 0, system_us: 0 };
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        if let Ok(usage) = getrusage(who) {
            sum.user_us += usage.user_time().num_microseconds().unsigned_abs();
            sum.system_us += usage.system_time().num_microseconds().unsigned_abs();
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2_CPU_STAT: &str = "usage_usec 71823\nuser_usec 41210\nsystem_usec 30613\ncore_sched.force_idle_usec 0\n\
        nr_periods 12\nnr_throttled 3\nthrottled_usec 90210\nnr_bursts 0\nburst_usec 0\n";
    const V2_MEMORY_EVENTS: &str = "low 0\nhigh 0\nmax 37\noom 2\noom_kill 1\noom_group_kill 0\n";
    const V2_PIDS_EVENTS: &str = "max 4\n";
    const V1_OOM_CONTROL: &str = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";

    fn check(text: &str, name: &str, expected: Option<u64>) {
        assert_eq!(field(text, name), expected);
    }

    #[test]
    fn v2_oom_kills_are_not_oom_events() {
        check(V2_MEMORY_EVENTS, "oom_kill", Some(1));
    }

    #[test]
    fn v1_oom_kills_are_not_the_disable_flag() {
        check(V1_OOM_CONTROL, "oom_kill", Some(3));
    }

    #[test]
    fn an_old_kernel_without_the_counter_says_nothing() {
        check("oom_kill_disable 0\nunder_oom 0\n", "oom_kill", None);
    }

    #[test]
    fn refused_forks_are_counted() {
        check(V2_PIDS_EVENTS, "max", Some(4));
    }

    #[test]
    fn v2_cpu_is_in_microseconds() {
        assert_eq!(cpu_v2(V2_CPU_STAT), Some(Cpu { user_us: 41_210, system_us: 30_613 }));
    }

    #[test]
    fn v1_cpu_is_in_nanoseconds() {
        let files = ("41210999\n".to_owned(), "30613000\n".to_owned());
        assert_eq!(cpu_v1(files), Some(Cpu { user_us: 41_210, system_us: 30_613 }));
    }

    #[test]
    fn a_number_that_is_none_is_none() {
        assert_eq!(number("max\n"), None);
        assert_eq!(number("18446744073709551615\n"), Some(u64::MAX));
    }

    /// A recorded tree of the second layout, as Linux 6.1 shows it in a container.
    #[test]
    fn a_v2_tree_is_read_whole() {
        let root = std::env::temp_dir().join(format!("aegis-init-cgroup-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a directory");
        for (name, content) in [
            ("cgroup.controllers", "cpuset cpu io memory pids\n"),
            ("memory.peak", "52428800\n"),
            ("memory.events", V2_MEMORY_EVENTS),
            ("pids.current", "3\n"),
            ("pids.peak", "17\n"),
            ("pids.events", V2_PIDS_EVENTS),
            ("cpu.stat", V2_CPU_STAT),
        ] {
            std::fs::write(root.join(name), content).expect("a file");
        }
        let counters = Counters::open_at(&root);
        std::fs::remove_dir_all(&root).expect("it is ours");
        assert_eq!(counters.memory_peak_bytes(), Some(52_428_800));
        assert_eq!(counters.oom_kills(), Some(1));
        assert_eq!(counters.pids_current(), Some(3));
        assert_eq!(counters.pids_peak(), Some(17));
        assert_eq!(counters.pids_limit_hits(), Some(4));
        assert_eq!(counters.cpu(), Cpu { user_us: 41_210, system_us: 30_613 });
    }
}
