//! A host for tests: makes the namespaces and a small root, starts init, and speaks its protocol.

use std::fs;
use std::io::{IoSlice, IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio as ProcessStdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde_bytes::ByteBuf;

use aegis_init::frame::{self, HEADER_BYTES, REPLY_BYTES_MAX, REQUEST_BYTES_MAX};
use aegis_init::wire::{
    Attest, Exec, ExitStatus, Probe, Reply, Report, Request, Stdio, StopCause, Usage, VERSION,
};

/// No answer may take longer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The sandbox's lifetime where a test asks for no other.
pub const LIFETIME_MS: u64 = 60_000;

/// A root as an engine would make it: read-only, with some tmpfs, devices, `/proc` and the slot.
const SCRIPT: &str = r#"
mount --make-rprivate /
ip link set lo up
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
mount -t tmpfs -o mode=0755 none "$1/root"
cd "$1/root"
mkdir usr dev proc tmp workspace small .aegis etc
for d in bin lib lib64 sbin; do ln -s usr/$d $d; done
mount --rbind /usr usr
mount -t proc proc proc
mount --bind "$1/slot" .aegis
mount -o remount,bind,ro .aegis
mount -t tmpfs -o size=64m,mode=1777 none tmp
mount -t tmpfs -o size=64m,mode=0700,uid=$2,gid=$2 none workspace
mount -t tmpfs -o size=1m,mode=0700,uid=$2,gid=$2 none small
mount -t tmpfs -o mode=0755 none dev
for d in 'null 1 3' 'zero 1 5' 'full 1 7' 'urandom 1 9' 'tty 5 0'; do
    set -- "$1" "$2" $d; mknod -m 0666 dev/$3 c $4 $5
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -o remount,bind,ro .
exec chroot . /usr/bin/setpriv --reuid "$2" --regid "$2" --clear-groups --bounding-set=-all --inh-caps=-all \
    --no-new-privs /.aegis/aegis-init
"#;
const UID: u32 = 2_000_000_001;

/// One sandbox and its owner's end of the control connection.
pub struct Sandbox {
    /// The control connection; dropping it must end the sandbox.
    pub control: Option<UnixStream>,
    init: Child,
    directory: PathBuf,
    execs: u32,
}

/// How a command ended, with what it wrote.
#[derive(Debug)]
pub struct Finished {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Whether init was stopping it.
    pub stopped: Option<StopCause>,
    /// The sandbox's usage.
    pub usage: Usage,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub error: String,
}

/// The host's ends of a command's pipes.
pub struct Running {
    /// The command.
    pub exec: u32,
    /// Its standard input, until it is closed.
    pub input: Option<fs::File>,
    output: fs::File,
    error: fs::File,
}

impl Sandbox {
    /// A sandbox that connected and was told nothing yet.
    pub fn connected() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("aegis-init-live-{}-{count}", std::process::id()));
        let slot = directory.join("slot");
        fs::create_dir_all(directory.join("root")).expect("a root");
        fs::create_dir_all(&slot).expect("a slot");
        fs::copy(env!("CARGO_BIN_EXE_aegis-init"), slot.join("aegis-init")).expect("the binary");
        let listener = UnixListener::bind(slot.join("control.sock")).expect("a listener");
        fs::set_permissions(slot.join("control.sock"), fs::Permissions::from_mode(0o666)).expect("a mode");
        let init = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount", "--net", "--ipc", "--uts"])
            .args(["sh", "-euc", SCRIPT, "sh"])
            .arg(&directory)
            .arg(UID.to_string())
            .stdin(ProcessStdio::null())
            .spawn()
            .expect("`unshare` starts");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let begun = Instant::now();
        let control = loop {
            match listener.accept() {
                Ok((control, _)) => break control,
                Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(1)),
                Err(err) => panic!("init does not connect (these tests need root): {err}"),
            }
        };
        control.set_nonblocking(false).expect("a connection that blocks");
        control.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        Self { control: Some(control), init, directory, execs: 0 }
    }

    /// A sandbox that reported and can run commands.
    pub fn attested() -> Self {
        let mut sandbox = Self::connected();
        sandbox.attest(Vec::new(), LIFETIME_MS);
        sandbox
    }

    /// Sends the first message and takes the report.
    pub fn attest(&mut self, probes: Vec<Probe>, lifetime_ms: u64) -> Report {
        self.request(&Request::Attest(Attest {
            version: VERSION,
            probes,
            workspace: ByteBuf::from("/workspace"),
            watched: vec![ByteBuf::from("/workspace"), ByteBuf::from("/tmp"), ByteBuf::from("/small")],
            lifetime_ms,
        }));
        match self.reply() {
            Reply::Report(report) => *report,
            other => panic!("no report but {other:?}"),
        }
    }

    /// The connection.
    pub fn control(&self) -> &UnixStream {
        self.control.as_ref().expect("the connection is open")
    }

    /// Sends a request without descriptors.
    pub fn request(&mut self, request: &Request) {
        self.request_with(request, &[]);
    }

    /// Sends a request.
    pub fn request_with(&mut self, request: &Request, descriptors: &[RawFd]) {
        let frame = frame::encode(request, descriptors.len(), REQUEST_BYTES_MAX).expect("it fits");
        self.send(&frame, descriptors);
    }

    /// Sends bytes, whatever they are.
    pub fn send(&mut self, bytes: &[u8], descriptors: &[RawFd]) {
        let rights = [ControlMessage::ScmRights(descriptors)];
        let rights = if descriptors.is_empty() { &rights[..0] } else { &rights };
        let mut sent = 0;
        while sent < bytes.len() {
            let rights = if sent == 0 { rights } else { &[] };
            let piece = [IoSlice::new(&bytes[sent..])];
            let fd = self.control().as_raw_fd();
            sent += sendmsg::<()>(fd, &piece, rights, MsgFlags::MSG_NOSIGNAL, None).expect("init reads");
        }
    }

    /// The next answer.
    pub fn reply(&mut self) -> Reply {
        self.reply_with().0
    }

    /// The next answer with its descriptors.
    pub fn reply_with(&mut self) -> (Reply, Vec<OwnedFd>) {
        let mut bytes = [0; HEADER_BYTES];
        let mut descriptors = Vec::new();
        let mut filled = 0;
        while filled < HEADER_BYTES {
            let mut space = nix::cmsg_space!([RawFd; 3]);
            let mut buffers = [IoSliceMut::new(&mut bytes[filled..])];
            let fd = self.control().as_raw_fd();
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let message = recvmsg::<()>(fd, &mut buffers, Some(&mut space), flags).expect("init answers");
            for control in message.cmsgs().expect("whole control messages") {
                if let ControlMessageOwned::ScmRights(raw) = control {
                    // SAFETY: the kernel just made them for this process.
                    descriptors.extend(raw.into_iter().map(|it| unsafe { OwnedFd::from_raw_fd(it) }));
                }
            }
            assert!(message.bytes > 0, "init closed the connection");
            filled += message.bytes;
        }
        let header = frame::parse_header(bytes, REPLY_BYTES_MAX).expect("a sound header");
        assert_eq!(header.descriptors, descriptors.len());
        let mut payload = vec![0; header.length];
        self.control().read_exact(&mut payload).expect("a whole frame");
        (frame::decode(&payload).expect("an answer"), descriptors)
    }

    /// An order for a command with pipes.
    pub fn order(&mut self, argv: &[&str]) -> Exec {
        self.execs += 1;
        Exec {
            id: self.execs - 1,
            argv: argv.iter().map(|it| ByteBuf::from(*it)).collect(),
            env: vec![ByteBuf::from("PATH=/usr/bin:/bin:/usr/sbin"), ByteBuf::from("LANG=C")],
            cwd: ByteBuf::new(),
            stdio: Stdio::Pipes,
            timeout_ms: None,
            grace_ms: 0,
        }
    }

    /// Sends an order with three new pipes; the answer is still to be read.
    pub fn launch(&mut self, exec: &Exec) -> (fs::File, fs::File, fs::File) {
        let (input_child, input) = pipe();
        let (output, output_child) = pipe();
        let (error, error_child) = pipe();
        let descriptors = [input_child.as_raw_fd(), output_child.as_raw_fd(), error_child.as_raw_fd()];
        self.request_with(&Request::Exec(exec.clone()), &descriptors);
        (input.into(), output.into(), error.into())
    }

    /// Starts an order and waits until its program runs.
    pub fn start(&mut self, exec: &Exec) -> Running {
        let (input, output, error) = self.launch(exec);
        match self.reply() {
            Reply::Started { exec: id, .. } if id == exec.id => {
                Running { exec: id, input: Some(input), output, error }
            }
            other => panic!("not started but {other:?}"),
        }
    }

    /// Starts a shell command.
    pub fn shell(&mut self, script: &str) -> Running {
        let exec = self.order(&["sh", "-c", script]);
        self.start(&exec)
    }

    /// Waits for a command's end; every answer before must be this one.
    pub fn finish(&mut self, mut running: Running) -> Finished {
        running.input = None;
        match self.reply() {
            Reply::Exited { exec, status, stopped, usage } if exec == running.exec => {
                let output = read_to_end(running.output);
                let error = read_to_end(running.error);
                Finished { status, stopped, usage, output, error }
            }
            other => panic!("not ended but {other:?}"),
        }
    }

    /// Runs a shell command to its end.
    pub fn run(&mut self, script: &str) -> Finished {
        let running = self.shell(script);
        self.finish(running)
    }

    /// The command lines of all processes but init and the one that looks.
    pub fn processes(&mut self) -> Vec<String> {
        let finished = self.run(
            "for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || tr '\\0' ' ' <$p/cmdline 2>/dev/null && echo; done",
        );
        let lines = finished.output.lines().map(str::trim).map(str::to_owned);
        lines.filter(|it| !it.is_empty() && !it.contains("aegis-init")).collect()
    }

    /// Sends the last message and takes the farewell.
    pub fn end(&mut self) -> Usage {
        self.request(&Request::End);
        loop {
            match self.reply() {
                Reply::Bye { usage } => return usage,
                Reply::Exited { .. } => {}
                other => panic!("no farewell but {other:?}"),
            }
        }
    }

    /// The exit status of PID 1, which has to end by itself.
    pub fn exit_status(&mut self) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.init.try_wait().expect("it is our child") {
                return status.code().expect("`unshare` passes on an exit status");
            }
            assert!(begun.elapsed() < PATIENCE, "the sandbox goes on");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Running {
    /// Reads standard output up to this text, which must be all of it so far.
    pub fn await_output(&mut self, expected: &str) {
        let mut bytes = vec![0; expected.len()];
        self.output.read_exact(&mut bytes).expect("the command writes");
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.control = None;
        let begun = Instant::now();
        while matches!(self.init.try_wait(), Ok(None)) {
            if begun.elapsed() > PATIENCE {
                // `--kill-child` takes init along.
                let _ = self.init.kill();
                let _ = self.init.wait();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Processes of this machine whose command line has this text.
pub fn machine_processes(text: &str) -> usize {
    let mut found = 0;
    for entry in fs::read_dir("/proc").expect("`/proc`").flatten() {
        if let Ok(line) = fs::read(entry.path().join("cmdline"))
            && String::from_utf8_lossy(&line).contains(text)
        {
            found += 1;
        }
    }
    found
}

fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe")
}

fn read_to_end(mut file: fs::File) -> String {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("a pipe is read");
    String::from_utf8_lossy(&bytes).into_owned()
}
