//! Messages between the host and `aegis-init`, in the order in which an attempt sends them.
//!
//! The host speaks [`Request`], init answers with [`Reply`]. Paths, arguments and file contents are
//! bytes: nothing here assumes UTF-8.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::path_key::PathKey;

/// Version of this protocol. Host and init are built together; a difference is a defect.
pub const VERSION: u16 = 1;

/// Where the slot directory is mounted inside a sandbox, read-only.
pub const SLOT_DIR: &str = "/.aegis";
/// The init binary as the sandbox sees it.
pub const INIT_PATH: &str = "/.aegis/aegis-init";
/// The control socket as the sandbox sees it; unlinked by the host after the one accept.
pub const SOCKET_PATH: &str = "/.aegis/control.sock";

/// Content bytes in one message at the most, of a file or of a batch of small ones.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one path at the most (Linux `PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;
/// Bytes that one [`Request::Read`] or [`Request::Write`] may carry.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Paths of one [`Request::Fetch`].
pub const FETCH_PATHS_MAX: usize = 1024;
/// Commands that may run in one sandbox at once.
pub const EXECS_MAX: usize = 32;

/// What the host asks of init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first message: run the probes and report. Answered by [`Reply::Report`].
    Attest(Attest),
    /// Workspace content, parents before children. Not answered one by one: the first failure is kept
    /// and told in [`Reply::PutDone`].
    Put(Vec<Entry>),
    /// The next bytes of the last file of the last [`Request::Put`].
    PutChunk(ByteBuf),
    /// Workspace content that was there and is there no more, children before parents; a failure is kept as one of
    /// [`Request::Put`] is.
    Remove(Vec<Gone>),
    /// Ends the content: directories get their modes and times. Answered by [`Reply::PutDone`].
    PutEnd,
    /// Start a command. With [`Stdio::Pipes`] the message carries three descriptors: the child's
    /// standard input, output and error. Answered by [`Reply::Started`] or [`Reply::StartFailed`].
    Exec(Exec),
    /// Send a signal to a command's process group.
    Signal {
        /// The command.
        exec: u32,
        /// A signal number, 1 to 64.
        signal: i32,
    },
    /// End a command's whole tree: SIGTERM, after `grace_ms` SIGKILL. Zero kills at once.
    Stop {
        /// The command.
        exec: u32,
        /// Milliseconds between the two signals.
        grace_ms: u64,
    },
    /// Read at most [`FILE_BYTES_MAX`] bytes of a regular file. Answered by [`Reply::FileContent`].
    Read {
        /// Chosen by the host, returned in the answer.
        id: u32,
        /// Absolute, or relative to the workspace.
        path: ByteBuf,
        /// First byte.
        offset: u64,
        /// Bytes at the most.
        length_max: u32,
    },
    /// Write a regular file whole (made with its parents, replaced if it exists). Answered by [`Reply::FileWritten`].
    Write {
        /// Chosen by the host, returned in the answer.
        id: u32,
        /// Absolute, or relative to the workspace.
        path: ByteBuf,
        /// Permission bits; more than 0777 is refused.
        mode: u32,
        /// The content.
        data: ByteBuf,
    },
    /// Time until which the owner's lease is certain, counted from the receipt of this message.
    Lease {
        /// Milliseconds.
        remaining_ms: u64,
    },
    /// Kill every command, then send the files that match. Answered by [`Reply::Out`], [`Reply::OutChunk`] and
    /// last [`Reply::OutDone`].
    Collect(Collect),
    /// Kill what is left, answer [`Reply::Bye`] and exit.
    End,
    /// Kill every command, then tell how the workspace differs from what was put: new and changed entries without
    /// their content in [`Reply::Out`], what is there at all in [`Reply::Met`], last [`Reply::Compared`]. Asked once.
    Compare(Compare),
    /// Send these regular files of the workspace. Answered as [`Request::Collect`] is.
    Fetch(Fetch),
    /// Make a listening socket on the sandbox's loopback and pass it over; init keeps nothing of it. Answered by
    /// [`Reply::Listening`].
    Listen(Listen),
    /// Connect to a port of 127.0.0.1 inside the sandbox and pass the socket over, perhaps while it is still connecting.
    /// Answered by [`Reply::Dialled`].
    Dial {
        /// Chosen by the host, returned in the answer.
        id: u32,
        /// The port.
        port: u16,
    },
    /// The sandbox that waited gets its task: its lifetime counts anew, from this message. Taken only before the first
    /// command. Answered by [`Reply::Begun`].
    Begin {
        /// As in [`Attest::lifetime_ms`].
        lifetime_ms: u64,
    },
}

/// A listening socket. The one address of the resolver is 127.0.0.1, port 53; names have theirs in 127.64.0.0/10, and
/// those are for TCP. Anything else is refused with `EACCES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// Chosen by the host, returned in the answer.
    pub id: u32,
    /// What it takes.
    pub transport: Transport,
    /// The address.
    pub address: [u8; 4],
    /// The port.
    pub port: u16,
}

impl Listen {
    /// Whether it is one that a host may ask for.
    pub fn is_within_bounds(&self) -> bool {
        let names = self.address[0] == 127 && self.address[1] & 0b1100_0000 == 64;
        let resolver = self.address == [127, 0, 0, 1] && self.port == 53;
        resolver || (names && self.port != 0 && self.transport == Transport::Tcp)
    }
}

/// What a listening socket takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

/// The orders of the first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attest {
    /// [`VERSION`] of the host.
    pub version: u16,
    /// System calls to try; the answers come back in the same order.
    pub probes: Vec<Probe>,
    /// The workspace directory, absolute; empty if there is none. Relative paths start here.
    pub workspace: ByteBuf,
    /// Writable mounts whose fullness is sampled, absolute.
    pub watched: Vec<ByteBuf>,
    /// Init ends the sandbox by itself this many milliseconds after this message, whatever happens: the wall
    /// deadline with its grace and the time for outputs, and slack.
    pub lifetime_ms: u64,
}

/// One system call to try. The arguments are such that a kernel without the filter would refuse them with
/// another error, so that nothing happens whatever the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// How it is called.
    pub entry: Entrypoint,
    /// System call number.
    pub number: u32,
    /// The six arguments.
    pub args: [u64; 6],
    /// Whether the filter may kill the caller for it: such a probe runs in a process of its own.
    pub deadly: bool,
}

/// The kernel entry that a probe uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entrypoint {
    /// The `syscall` instruction.
    Native,
    /// `int 0x80`, the 32-bit entry of x86.
    Compat,
}

/// What a probe got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeResult {
    /// The call succeeded.
    Returned(i64),
    /// The call failed with this errno.
    Errno(i32),
    /// The process that tried it was killed by this signal.
    Killed(i32),
    /// The probe itself could not be run (its process could not be made).
    NotRun,
}

/// What the kernel shows from inside. Text is as the kernel wrote it, each at most 256 KiB.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`] of init.
    pub version: u16,
    /// `/proc/self/status`.
    pub status: ByteBuf,
    /// `/proc/self/uid_map`.
    pub uid_map: ByteBuf,
    /// `/proc/self/gid_map`.
    pub gid_map: ByteBuf,
    /// `/proc/self/mountinfo`.
    pub mountinfo: ByteBuf,
    /// `/proc/self/limits`.
    pub limits: ByteBuf,
    /// `/proc/self/cgroup`.
    pub cgroup: ByteBuf,
    /// `/proc/net/dev`: the interfaces.
    pub net_dev: ByteBuf,
    /// `/proc/net/route`.
    pub net_route: ByteBuf,
    /// `/proc/net/ipv6_route`, empty where the kernel has no IPv6.
    pub net_ipv6_route: ByteBuf,
    /// `/proc/net/if_inet6`, empty where the kernel has no IPv6.
    pub net_if_inet6: ByteBuf,
    /// `/proc/self/attr/current`, empty where no security module answers.
    pub security_label: ByteBuf,
    /// `/proc/sys/net/ipv4/ip_unprivileged_port_start`, empty if unreadable.
    pub port_start: ByteBuf,
    /// The host name that the kernel shows.
    pub hostname: ByteBuf,
    /// Every entry below `/dev` (its mounts `pts`, `shm`, `mqueue` not entered).
    pub devices: Vec<Device>,
    /// The cgroup files that say limits, by path below `/sys/fs/cgroup`, with their content.
    pub cgroup_limits: Vec<(ByteBuf, ByteBuf)>,
    /// `/proc/self/ns/*`: name and inode number.
    pub namespaces: Vec<(ByteBuf, u64)>,
    /// Answers to [`Attest::probes`], in order.
    pub probes: Vec<ProbeResult>,
    /// Making a file in `/`: the errno, 0 if it could be made.
    pub root_write_errno: i32,
    /// Connecting a UDP socket to 192.0.2.1 (RFC 5737; sends nothing): the errno, 0 if a route existed.
    pub outside_connect_errno: i32,
    /// The same for 2001:db8::1 (RFC 3849).
    pub outside_connect6_errno: i32,
    /// Microseconds that the probes took.
    pub probes_us: u64,
    /// Microseconds from init's first instruction to this report.
    pub ready_us: u64,
}

/// One entry of `/dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path below `/dev`.
    pub name: ByteBuf,
    /// `st_mode`, type and permission bits.
    pub mode: u32,
    /// Major and minor number of a device, else zero.
    pub device: (u32, u32),
}

/// A file, directory or link that travels, relative to the directory it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative, no empty, `.` or `..` component; at most [`PATH_BYTES_MAX`] bytes.
    pub path: ByteBuf,
    /// Permission bits, 0 to 0o7777 (extraction keeps 0o777 only).
    pub mode: u32,
    /// Modification time: seconds since the epoch.
    pub mtime_s: i64,
    /// Modification time: nanoseconds, 0 to 999,999,999.
    pub mtime_ns: u32,
    /// What it is.
    pub kind: EntryKind,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A directory.
    Dir,
    /// A regular file.
    File {
        /// Bytes in all; what `data` lacks follows in chunk messages.
        size: u64,
        /// The first bytes, at most [`CHUNK_BYTES_MAX`].
        data: ByteBuf,
    },
    /// A symbolic link with its target as stored.
    Symlink(ByteBuf),
    /// Another name of an earlier file of the same transfer.
    Hardlink(ByteBuf),
}

/// A path that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// As in [`Entry::path`].
    pub path: ByteBuf,
    /// Whether it is a directory, empty by now.
    pub directory: bool,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Chosen by the host, unique in this sandbox; 0 is the task's own command.
    pub id: u32,
    /// Program and arguments; the program is looked up in the `PATH` of `env` unless it has a slash.
    pub argv: Vec<ByteBuf>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<ByteBuf>,
    /// Working directory, absolute or relative to the workspace.
    pub cwd: ByteBuf,
    /// Standard streams.
    pub stdio: Stdio,
    /// Wall time in milliseconds until the command is stopped; `None` means the sandbox's own lifetime.
    pub timeout_ms: Option<u64>,
    /// Milliseconds between SIGTERM and SIGKILL when the deadline passes.
    pub grace_ms: u64,
}

/// The standard streams of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// Three descriptors travel with the message.
    Pipes,
    /// A new terminal of the sandbox; its master side comes back with [`Reply::Started`].
    Terminal {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
}

/// What to collect after the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// Globs, relative to the workspace or absolute; a directory that matches comes whole.
    pub patterns: Vec<ByteBuf>,
    /// Entries at the most.
    pub entries_max: u64,
    /// Content bytes at the most, by apparent size.
    pub bytes_max: u64,
    /// Directory levels below a match at the most.
    pub depth_max: u32,
    /// Milliseconds at the most.
    pub timeout_ms: u64,
}

/// How far a comparison of the workspace goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Paths are told as hashes under it.
    pub key: PathKey,
    /// Entries that are told at the most.
    pub entries_max: u64,
    /// Directory levels at the most.
    pub depth_max: u32,
    /// Milliseconds at the most.
    pub timeout_ms: u64,
}

/// Files whose content is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// Paths below the workspace, at most [`FETCH_PATHS_MAX`].
    pub paths: Vec<ByteBuf>,
    /// Milliseconds at the most.
    pub timeout_ms: u64,
}

/// What init answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The evidence.
    Report(Box<Report>),
    /// The content arrived, or the first thing that failed.
    PutDone {
        /// Entries made.
        entries: u64,
        /// Content bytes written.
        bytes: u64,
        /// The first failure: path and errno.
        failed: Option<(ByteBuf, i32)>,
    },
    /// The command's program was executed. Carries the terminal's master descriptor where one was asked for.
    Started {
        /// The command.
        exec: u32,
        /// Its process id inside the sandbox.
        pid: i32,
    },
    /// The command could not be started; nothing of it is left.
    StartFailed {
        /// The command.
        exec: u32,
        /// What was being done.
        step: StartStep,
        /// Why.
        errno: i32,
    },
    /// The command's first process ended. Its tree is killed only if it was stopped.
    Exited {
        /// The command.
        exec: u32,
        /// How.
        status: ExitStatus,
        /// Whether init had begun to stop it, and why.
        stopped: Option<StopCause>,
        /// Resources of the sandbox so far.
        usage: Usage,
    },
    /// Answer to [`Request::Read`].
    FileContent {
        /// As asked.
        id: u32,
        /// Size of the whole file and the bytes, or an errno.
        result: Result<(u64, ByteBuf), i32>,
    },
    /// Answer to [`Request::Write`].
    FileWritten {
        /// As asked.
        id: u32,
        /// Nothing, or an errno.
        result: Result<(), i32>,
    },
    /// Collected entries; paths are relative to the workspace, or to `/` for absolute patterns.
    Out(Vec<Entry>),
    /// The next bytes of the last file.
    OutChunk(ByteBuf),
    /// The collection is over.
    OutDone(OutDone),
    /// The last message; init exits.
    Bye {
        /// Resources of the whole sandbox.
        usage: Usage,
    },
    /// Directories, files and links that are there, changed or not, each as the hash of its path.
    Met(Vec<u64>),
    /// The comparison is over.
    Compared {
        /// What was left out.
        done: OutDone,
        /// Whether everything was looked at; if not, nothing is told to be gone.
        complete: bool,
    },
    /// Answer to [`Request::Listen`], with the socket where it could be made.
    Listening {
        /// As asked.
        id: u32,
        /// Why there is none, or 0.
        errno: i32,
    },
    /// Answer to [`Request::Dial`], with the socket where it could be made.
    Dialled {
        /// As asked.
        id: u32,
        /// Why there is none, or 0.
        errno: i32,
    },
    /// Answer to [`Request::Begin`].
    Begun {
        /// Processes in the sandbox besides init: somebody else's, since nothing was started yet.
        others: u32,
    },
}

/// The end of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutDone {
    /// Patterns (by index) that matched nothing.
    pub unmatched: Vec<u32>,
    /// What was left out: path and reason. At most 1,000 are named.
    pub dropped: Vec<(ByteBuf, DropReason)>,
    /// How many were left out in all.
    pub dropped_count: u64,
}

/// Why an entry was not collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DropReason {
    /// A FIFO, socket or device.
    NotAFile,
    /// The count limit was reached.
    EntryLimit,
    /// The byte limit would be passed, by apparent size.
    ByteLimit,
    /// Nested too deeply, or the path is too long.
    DepthLimit,
    /// The time was over.
    TimeLimit,
    /// It could not be read.
    Unreadable,
    /// It belongs to the kernel or the engine (`/proc`, `/sys`, `/dev`, the slot).
    Foreign,
}

/// The step at which a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartStep {
    /// The request itself: too many commands, a bad id, missing descriptors.
    Request,
    /// Making the terminal.
    Terminal,
    /// `fork`.
    Fork,
    /// The second filter, limits, descriptors.
    Confine,
    /// `chdir` to the working directory.
    WorkDir,
    /// `execve`: `ENOENT` is a program that the image lacks, `EACCES` one that cannot be executed.
    Execute,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// Exit code, 0 to 255.
    Code(i32),
    /// Signal number.
    Signal(i32),
}

/// Why init stopped a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCause {
    /// Its deadline passed.
    Deadline,
    /// The host asked.
    Asked,
}

/// What the sandbox used, as the cgroup counts it; `None` where this kernel does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Microseconds since release.
    pub wall_us: u64,
    /// User CPU time, microseconds.
    pub cpu_user_us: u64,
    /// System CPU time, microseconds.
    pub cpu_system_us: u64,
    /// Peak memory of the cgroup, bytes, tmpfs included.
    pub memory_peak_bytes: Option<u64>,
    /// Peak number of processes and threads (from the kernel, else the highest sample).
    pub pids_peak: Option<u64>,
    /// How often the pids limit refused a fork.
    pub pids_limit_hits: Option<u64>,
    /// Processes that the kernel killed for memory.
    pub oom_kills: Option<u64>,
    /// Bytes written to the watched mounts: the sum of their highest samples.
    pub written_bytes_peak: u64,
    /// Watched mounts that a sample saw full, a bit each in the order of [`Attest::watched`].
    pub full_mounts: u64,
}
