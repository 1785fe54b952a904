//! The standard streams of a task, between the caller and the sandbox.
//!
//! Every stream has a thread of its own that moves bytes with blocking calls: no bytes are relayed by init, none are
//! kept in memory beyond one buffer a stream, and a slow reader slows its task. A thread ends when its pipe does,
//! which the end of the sandbox makes certain, or when it is told to stop.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use tokio_util::sync::CancellationToken;

use crate::executor::meter::Meter;
use crate::record::Stream;
use crate::redact::{self, Redactions, Redactor};

/// Bytes of a buffer.
const BUFFER_BYTES: usize = 256 * 1024;
/// Bytes that a pipe holds, where the system allows it.
const PIPE_BYTES: usize = 1024 * 1024;
/// What Ctrl-C sends through a raw terminal.
const CTRL_C: u8 = 3;
/// So many of them within a second are a cancel.
const CTRL_C_CANCEL: usize = 3;
/// Nanoseconds that the short beginning of what could be a secret is held back from a reader who may wait for it.
const LET_GO_NS: i64 = 20_000_000;

/// Sees every byte that is shown, in the order of its stream. Called from two threads.
pub trait OutputTap: Send + Sync {
    /// Bytes of one stream.
    fn saw(&self, stream: Stream, bytes: &[u8]);
    /// Nothing more comes. Says whether everything was kept.
    fn ended(&self) -> Kept;
}

/// Whether a tap kept everything that it saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All of it.
    Whole,
    /// Less.
    Truncated,
}

/// Where a task's streams lead to on the caller's side.
pub struct Sinks {
    /// Takes standard output.
    pub stdout: Box<dyn Write + Send>,
    /// Takes standard error.
    pub stderr: Box<dyn Write + Send>,
    /// Gives standard input; `None` is empty.
    pub stdin: Option<OwnedFd>,
    /// Sees what is shown.
    pub tap: Arc<dyn OutputTap>,
    /// What is kept out of it.
    pub redactor: Redactor,
    /// Cancelled once the sandbox is over: what is still written then is waited for by an attempt that is otherwise done.
    pub over: CancellationToken,
}

impl Sinks {
    /// Streams that lead nowhere.
    pub fn nowhere() -> Self {
        struct Nobody;
        impl OutputTap for Nobody {
            fn saw(&self, _stream: Stream, _bytes: &[u8]) {}
            fn ended(&self) -> Kept {
                Kept::Whole
            }
        }
        Self {
            stdout: Box::new(std::io::sink()),
            stderr: Box::new(std::io::sink()),
            stdin: None,
            tap: Arc::new(Nobody),
            redactor: Redactor::none(),
            over: CancellationToken::new(),
        }
    }
}

/// The child's ends of three pipes.
#[derive(Debug)]
pub struct ChildEnds {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// The host's ends of three pipes.
#[derive(Debug)]
pub struct HostEnds {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Makes the pipes of a command. Without `input` its standard input is at its end at once.
pub fn pipes(input: bool) -> rustix::io::Result<(ChildEnds, HostEnds)> {
    let (stdin, to_stdin) = pipe()?;
    let (from_stdout, stdout) = pipe()?;
    let (from_stderr, stderr) = pipe()?;
    let to_stdin = if input { Some(to_stdin) } else { None };
    Ok((
        ChildEnds { stdin, stdout, stderr },
        HostEnds { stdin: to_stdin, stdout: from_stdout, stderr: from_stderr },
    ))
}

fn pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let ends = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // A user near the limit of pipe pages gets a small pipe, which is only slower.
    let _ = rustix::pipe::fcntl_setpipe_size(&ends.0, PIPE_BYTES);
    Ok(ends)
}

/// The running threads. [`Pumps::finish`] joins them.
pub struct Pumps {
    outputs: Vec<JoinHandle<Redactions>>,
    input: Option<JoinHandle<()>>,
    // Closing it tells the input thread to stop.
    stop_input: Option<OwnedFd>,
    over: CancellationToken,
}

impl Pumps {
    /// Starts the threads for pipes.
    pub fn start(ends: HostEnds, sinks: Sinks, meter: &Arc<Meter>) -> std::io::Result<Self> {
        let Sinks { stdout, stderr, stdin, tap, redactor, over } = sinks;
        let shown = |into, stream| {
            let (meter, tap) = (meter.clone(), tap.clone());
            Shown::new(Out { into, stream, meter, tap }, &redactor, Reader::Program)
        };
        let outputs = vec![
            output(ends.stdout, shown(stdout, Stream::Stdout))?,
            output(ends.stderr, shown(stderr, Stream::Stderr))?,
        ];
        let (input, stop_input) = match (stdin, ends.stdin) {
            (Some(from), Some(into)) => start_input(from, into, Keyboard::No, meter.clone())?,
            (Some(_) | None, Some(_) | None) => (None, None),
        };
        Ok(Self { outputs, input, stop_input, over })
    }

    /// Starts the threads for a terminal, whose `master` side carries both directions.
    pub fn start_terminal(master: OwnedFd, sinks: Sinks, meter: &Arc<Meter>) -> std::io::Result<Self> {
        let Sinks { stdout, stderr: _, stdin, tap, redactor, over } = sinks;
        let (input, stop_input) = match stdin {
            Some(from) => start_input(from, master.try_clone()?, Keyboard::Yes, meter.clone())?,
            None => (None, None),
        };
        let out = Out { into: stdout, stream: Stream::Stdout, meter: meter.clone(), tap };
        let outputs = vec![output(master, Shown::new(out, &redactor, Reader::Person))?];
        Ok(Self { outputs, input, stop_input, over })
    }

    /// Waits until everything that the task wrote is shown. The sandbox must be ended or ending: then the pipes end.
    /// A caller that does not read its own streams is waited for, as long as its sinks wait once they are told. Gives what
    /// was kept out.
    pub async fn finish(mut self) -> Redactions {
        self.over.cancel();
        drop(self.stop_input.take());
        let (outputs, input) = (self.outputs, self.input);
        let joined = tokio::task::spawn_blocking(move || {
            let mut redactions = Redactions::new();
            for thread in outputs {
                // A panic in a pump has been reported by its own thread; the others are joined all the same.
                for (name, count) in thread.join().unwrap_or_default() {
                    *redactions.entry(name).or_default() += count;
                }
            }
            if let Some(thread) = input {
                let _ = thread.join();
            }
            redactions
        });
        joined.await.unwrap_or_default()
    }
}

/// Whether an input is a person's keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyboard {
    Yes,
    No,
}

/// Who reads an output while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Somebody who waits for a prompt.
    Person,
    /// Something that waits for whole lines.
    Program,
}

/// Where an output goes.
struct Out {
    into: Box<dyn Write + Send>,
    stream: Stream,
    meter: Arc<Meter>,
    tap: Arc<dyn OutputTap>,
}

/// Whether an output goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    /// The limit is reached, or nobody takes the bytes any more.
    Ended,
}

impl Out {
    fn show(&mut self, bytes: &[u8]) -> Flow {
        if bytes.is_empty() {
            return Flow::On;
        }
        let admitted = self.meter.admit(self.stream, bytes.len());
        self.tap.saw(self.stream, &bytes[..admitted]);
        let written = self.into.write_all(&bytes[..admitted]).and_then(|()| self.into.flush());
        if written.is_err() || admitted < bytes.len() { Flow::Ended } else { Flow::On }
    }
}

/// An output, with what is kept out of it. Everything behind it sees what is left.
struct Shown {
    out: Out,
    redacting: Option<redact::Stream>,
    left: Vec<u8>,
    reader: Reader,
}

impl Shown {
    /// Where nothing is known the bytes go through as they are, without a copy.
    fn new(out: Out, redactor: &Redactor, reader: Reader) -> Self {
        let redacting = (!redactor.is_empty()).then(|| redactor.stream());
        Self { out, redacting, left: Vec::new(), reader }
    }

    fn show(&mut self, bytes: &[u8]) -> Flow {
        match &mut self.redacting {
            None => self.out.show(bytes),
            Some(stream) => {
                self.left.clear();
                stream.push(bytes, &mut self.left);
                self.out.show(&self.left)
            }
        }
    }

    /// Whether something is held back that its reader may wait for, and that is too short to give a secret away.
    fn keeps_waiting(&self) -> bool {
        self.redacting
            .as_ref()
            .is_some_and(|it| it.can_let_go() && (self.reader == Reader::Person || it.ends_line()))
    }

    fn let_go(&mut self) -> Flow {
        let Some(stream) = &mut self.redacting else { return Flow::On };
        self.left.clear();
        stream.let_go(&mut self.left);
        self.out.show(&self.left)
    }

    fn finish(mut self) -> Redactions {
        let Some(mut stream) = self.redacting.take() else { return Redactions::new() };
        self.left.clear();
        stream.flush(&mut self.left);
        // The last bytes; that they were the last is known already.
        let _: Flow = self.out.show(&self.left);
        stream.redactions()
    }
}

fn output(from: OwnedFd, shown: Shown) -> std::io::Result<JoinHandle<Redactions>> {
    let name = match shown.out.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(move || pump_output(&from, shown))
}

/// Ends at the end of the pipe, at the limit, or when nobody takes the bytes any more; dropping the pipe's end then
/// tells the task with SIGPIPE, as a pipe of the caller's own would.
fn pump_output(from: &OwnedFd, mut shown: Shown) -> Redactions {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        if shown.keeps_waiting() && !comes(from) && shown.let_go() == Flow::Ended {
            return shown.finish();
        }
        let count = match rustix::io::read(from, &mut buffer[..]) {
            Ok(0) => return shown.finish(),
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            // A terminal is one open file in both directions, and its input side must not block.
            Err(Errno::AGAIN) => {
                let mut polled = [PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN)];
                match rustix::event::poll(&mut polled, None) {
                    Ok(_) | Err(Errno::INTR) => continue,
                    Err(_) => return shown.finish(),
                }
            }
            // A terminal whose other side is closed answers EIO.
            Err(_) => return shown.finish(),
        };
        if shown.show(&buffer[..count]) == Flow::Ended {
            return shown.finish();
        }
    }
}

/// Whether more comes before what is held is let go.
fn comes(from: &OwnedFd) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN)];
    let time = Timespec { tv_sec: 0, tv_nsec: LET_GO_NS };
    !matches!(rustix::event::poll(&mut polled, Some(&time)), Ok(0))
}

type Input = (Option<JoinHandle<()>>, Option<OwnedFd>);

fn start_input(
    from: OwnedFd,
    into: OwnedFd,
    keyboard: Keyboard,
    meter: Arc<Meter>,
) -> std::io::Result<Input> {
    let (stop, stopper) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&into, true)?;
    let thread = std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || pump_input(&from, &into, &stop, keyboard, &meter))?;
    Ok((Some(thread), Some(stopper)))
}

fn pump_input(from: &OwnedFd, into: &OwnedFd, stop: &OwnedFd, keyboard: Keyboard, meter: &Meter) {
    let mut buffer = vec![0; 64 * 1024];
    let mut interrupts: Vec<std::time::Instant> = Vec::new();
    while wait(from.as_fd(), PollFlags::IN, stop.as_fd()) {
        let count = match rustix::io::read(from, &mut buffer[..]) {
            Ok(0) => return,
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(_) => return,
        };
        if keyboard == Keyboard::Yes && typed_cancel(&buffer[..count], &mut interrupts) {
            meter.interrupted.notify_one();
        }
        if !write_all(into, &buffer[..count], stop) {
            return;
        }
    }
}

fn typed_cancel(bytes: &[u8], interrupts: &mut Vec<std::time::Instant>) -> bool {
    let now = std::time::Instant::now();
    interrupts.extend(bytes.iter().filter(|it| **it == CTRL_C).map(|_| now));
    interrupts.retain(|it| now.duration_since(*it).as_secs() < 1);
    interrupts.len() >= CTRL_C_CANCEL
}

fn write_all(into: &OwnedFd, mut bytes: &[u8], stop: &OwnedFd) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(into, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !wait(into.as_fd(), PollFlags::OUT, stop.as_fd()) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// Waits until `fd` is ready; false if the stop came first.
fn wait(fd: BorrowedFd<'_>, flags: PollFlags, stop: BorrowedFd<'_>) -> bool {
    loop {
        let mut polled = [PollFd::from_borrowed_fd(fd, flags), PollFd::from_borrowed_fd(stop, PollFlags::IN)];
        match rustix::event::poll(&mut polled, None) {
            Ok(_) if !polled[1].revents().is_empty() => return false,
            Ok(_) if !polled[0].revents().is_empty() => return true,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Memory(Mutex<Vec<(Stream, Vec<u8>)>>);

    impl OutputTap for Memory {
        fn saw(&self, stream: Stream, bytes: &[u8]) {
            self.0.lock().expect("no panic").push((stream, bytes.to_vec()));
        }

        fn ended(&self) -> Kept {
            Kept::Whole
        }
    }

    async fn shown(limit_bytes: u64, written: &[u8]) -> (Vec<u8>, Arc<Meter>) {
        let (child, host) = pipes(false).expect("pipes");
        let meter = Arc::new(Meter::new(limit_bytes));
        let kept = Arc::new(Memory(Mutex::new(Vec::new())));
        let sinks = Sinks {
            stdout: Box::new(std::io::sink()),
            stderr: Box::new(std::io::sink()),
            stdin: None,
            tap: kept.clone(),
            ..Sinks::nowhere()
        };
        let pumps = Pumps::start(host, sinks, &meter).expect("started");
        rustix::io::write(&child.stdout, written).expect("written");
        drop(child);
        pumps.finish().await;
        let bytes = kept.0.lock().expect("no panic").iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        (bytes, meter)
    }

    #[tokio::test]
    async fn everything_below_the_limit_is_shown() {
        let (bytes, meter) = shown(5, b"hello").await;
        assert_eq!((bytes.as_slice(), meter.exceeded(), meter.shown()), (&b"hello"[..], false, (5, 0)));
    }

    #[tokio::test]
    async fn what_passes_the_limit_is_cut_exactly_and_told() {
        let (bytes, meter) = shown(4, b"hello").await;
        assert_eq!((bytes.as_slice(), meter.exceeded(), meter.shown()), (&b"hell"[..], true, (4, 0)));
    }

    #[tokio::test]
    async fn a_line_that_ends_like_the_beginning_of_a_secret_is_not_waited_for() {
        let known = crate::redact::Known::new("KEY", b"hunter2-hunter2").expect("fit");
        let (child, host) = pipes(false).expect("pipes");
        let (meter, kept) = (Arc::new(Meter::new(1000)), Arc::new(Memory(Mutex::new(Vec::new()))));
        let redactor = Redactor::new(&[known]);
        let sinks = Sinks { tap: kept.clone(), redactor, ..Sinks::nowhere() };
        let pumps = Pumps::start(host, sinks, &meter).expect("started");
        let shown = || -> Vec<u8> {
            kept.0.lock().expect("no panic").iter().flat_map(|(_, bytes)| bytes.clone()).collect()
        };
        rustix::io::write(&child.stdout, b"oh\n").expect("written");
        let begun = std::time::Instant::now();
        while shown() != b"oh\n" {
            assert!(begun.elapsed().as_secs() < 30, "it is held back");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        rustix::io::write(&child.stdout, b"unter2-hunter2\n").expect("written");
        drop(child);
        let redactions = pumps.finish().await;
        assert_eq!((shown().as_slice(), redactions.get("KEY")), (&b"oh\n[redacted:KEY]\n"[..], Some(&1)));
    }

    #[test]
    fn three_interrupts_within_a_second_are_a_cancel() {
        let mut interrupts = Vec::new();
        assert!(!typed_cancel(b"a\x03b\x03", &mut interrupts));
        assert!(typed_cancel(b"\x03", &mut interrupts));
    }
}
