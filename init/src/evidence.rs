//! The evidence: what the kernel shows from inside, as it wrote it. Nothing is judged here; the host compares.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use serde_bytes::ByteBuf;

use aegis_init::wire::{Attest, Device, Report, VERSION};

use crate::clock::Moment;
use crate::probe;

/// Bytes of one text.
const TEXT_BYTES_MAX: u64 = 256 * 1024;
/// Entries of `/dev` that are reported, and how deep.
const DEVICES_MAX: usize = 1_000;
const DEVICES_DEPTH_MAX: usize = 4;
/// Mounts below `/dev` that are named and not entered.
const DEVICE_MOUNTS: [&str; 3] = ["pts", "shm", "mqueue"];

const ROOT_PROBE: &str = "/.aegis-probe";
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// Files that say limits, in both layouts of cgroups.
const CGROUP_LIMITS: [&str; 11] = [
    "memory/memory.limit_in_bytes",
    "memory/memory.memsw.limit_in_bytes",
    "pids/pids.max",
    "cpu/cpu.cfs_quota_us",
    "cpu/cpu.cfs_period_us",
    "cpu,cpuacct/cpu.cfs_quota_us",
    "cpu,cpuacct/cpu.cfs_period_us",
    "memory.max",
    "memory.swap.max",
    "pids.max",
    "cpu.max",
];
/// `/proc/self/ns` itself is closed to a non-dumpable process of another uid than root; its names are known.
const NAMESPACES: [&str; 10] =
    ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

/// Runs the probes and reads the rest.
pub fn gather(attest: &Attest, born: Moment, child_ended: &SignalFd) -> Report {
    let begun = Moment::now();
    let probes = probe::run(&attest.probes, child_ended);
    let root_write_errno = root_write_errno();
    let outside_connect_errno = connect_errno(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    let outside_connect6_errno = connect_errno(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)));
    let probes_us = Moment::now().micros_since(begun);
    let mut report = Report {
        version: VERSION,
        status: text("/proc/self/status"),
        uid_map: text("/proc/self/uid_map"),
        gid_map: text("/proc/self/gid_map"),
        mountinfo: text("/proc/self/mountinfo"),
        limits: text("/proc/self/limits"),
        cgroup: text("/proc/self/cgroup"),
        net_dev: text("/proc/net/dev"),
        net_route: text("/proc/net/route"),
        net_ipv6_route: text("/proc/net/ipv6_route"),
        net_if_inet6: text("/proc/net/if_inet6"),
        security_label: text("/proc/self/attr/current"),
        port_start: text("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
        hostname: hostname(),
        devices: devices(Path::new("/dev")),
        cgroup_limits: cgroup_limits(Path::new(CGROUP_ROOT)),
        namespaces: namespaces(),
        probes,
        root_write_errno,
        outside_connect_errno,
        outside_connect6_errno,
        probes_us,
        ready_us: 0,
    };
    report.ready_us = Moment::now().micros_since(born);
    report
}

/// Processes of the sandbox besides this one. What cannot be counted counts as many.
pub fn others() -> u32 {
    let Ok(entries) = std::fs::read_dir("/proc") else { return u32::MAX };
    let is_process = |name: OsString| name.as_bytes().iter().all(u8::is_ascii_digit);
    let processes = entries.flatten().filter(|it| is_process(it.file_name())).count();
    u32::try_from(processes).unwrap_or(u32::MAX).saturating_sub(1)
}

/// The start of a file, empty where it cannot be read.
fn text(path: impl AsRef<Path>) -> ByteBuf {
    read_text(path.as_ref()).unwrap_or_default()
}

fn read_text(path: &Path) -> std::io::Result<ByteBuf> {
    let mut content = Vec::new();
    File::open(path)?.take(TEXT_BYTES_MAX).read_to_end(&mut content)?;
    Ok(ByteBuf::from(content))
}

fn hostname() -> ByteBuf {
    nix::unistd::gethostname().map(|it| ByteBuf::from(OsString::into_vec(it))).unwrap_or_default()
}

fn root_write_errno() -> i32 {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match open(ROOT_PROBE, flags, Mode::S_IRUSR) {
        Ok(_) => {
            let _ = std::fs::remove_file(ROOT_PROBE);
            0
        }
        Err(errno) => errno as i32,
    }
}

/// Connecting a UDP socket asks the kernel for a route and sends nothing.
fn connect_errno(to: IpAddr) -> i32 {
    let any: SocketAddr = match to {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    match UdpSocket::bind(any).and_then(|socket| socket.connect((to, 9))) {
        Ok(()) => 0,
        Err(err) => err.raw_os_error().unwrap_or(Errno::EIO as i32),
    }
}

fn cgroup_limits(root: &Path) -> Vec<(ByteBuf, ByteBuf)> {
    let mut limits = Vec::new();
    for name in CGROUP_LIMITS {
        if let Ok(content) = read_text(&root.join(name)) {
            limits.push((ByteBuf::from(name), content));
        }
    }
    limits
}

fn namespaces() -> Vec<(ByteBuf, u64)> {
    let mut found = Vec::new();
    for name in NAMESPACES {
        if let Ok(metadata) = std::fs::metadata(format!("/proc/self/ns/{name}")) {
            found.push((ByteBuf::from(name), metadata.ino()));
        }
    }
    found
}

fn devices(dev: &Path) -> Vec<Device> {
    let mut found = Vec::new();
    let mut waiting = vec![(PathBuf::new(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(dev.join(&directory)) else { continue };
        for entry in entries.flatten() {
            if found.len() == DEVICES_MAX {
                return found;
            }
            let path = directory.join(entry.file_name());
            let Ok(metadata) = entry.metadata() else { continue };
            let mounted = DEVICE_MOUNTS.iter().any(|it| path == Path::new(it));
            if metadata.is_dir() && !mounted && depth < DEVICES_DEPTH_MAX {
                waiting.push((path.clone(), depth + 1));
            }
            let kind = metadata.file_type();
            let numbered = kind.is_char_device() || kind.is_block_device();
            found.push(Device {
                name: ByteBuf::from(path.as_os_str().as_bytes()),
                mode: metadata.mode(),
                device: if numbered { device_number(metadata.rdev()) } else { (0, 0) },
            });
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn device_number(rdev: u64) -> (u32, u32) {
    (libc::major(rdev), libc::minor(rdev))
}
