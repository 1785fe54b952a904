//! `aegis logs`: what a run wrote, and what it goes on writing.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::app::owner::client::{Asked, ask};
use crate::app::owner::wire::Ask;
use crate::cli::client::runs::Flow;
use crate::cli::client::{Client, ServerArgs};
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::{CommandResult, attached, known, selected, talk};
use crate::config::Directories;
use crate::record::{Run, Stream};
use crate::redact;
use crate::store::Logs;
use crate::store::log::{Chunk, LogReader, Look};
use crate::task::ExitCode;

/// How often a log that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Print what a run wrote: its standard output to standard output, its standard error to standard error.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The run, by the last 12 digits of its id or all of it
    #[arg(value_name = "RUN")]
    run: String,

    /// Go on until the run ends
    #[arg(short = 'f', long)]
    follow: bool,

    /// Only this stream
    #[arg(long, value_name = "stdout|stderr")]
    stream: Option<Only>,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    Stdout,
    Stderr,
}

/// Prints the log.
pub fn cmd_logs(args: &LogsArgs) -> CommandResult {
    match args.server.named()? {
        Some(client) => attached::wait(of_server(&client, args)),
        None => attached::wait(logs(args)),
    }
}

async fn of_server(client: &Client, args: &LogsArgs) -> CommandResult {
    let only = args.stream.map(|it| match it {
        Only::Stdout => "stdout",
        Only::Stderr => "stderr",
    });
    let mut shown = Shown::new();
    let mut take = |stream: &str, bytes: &[u8]| {
        let stream = if stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
        Ok(match shown.bytes(stream, bytes)? {
            Reader::Listens => Flow::On,
            Reader::Gone => Flow::Stop,
        })
    };
    let code = client.logs(&args.run, only, args.follow, &mut take).await?;
    shown.end()?;
    Ok(code)
}

async fn logs(args: &LogsArgs) -> CommandResult {
    let directories = Directories::of_this_user().map_err(|it| Failure::of(&it))?;
    let run = selected::run(&args.run, &directories).await?;
    // Asked before the log is opened: an owner that ends meanwhile has written everything by then.
    let owner = if args.follow { owner(&run, &directories).await } else { None };
    let reader = Logs::new(&directories.state).reader(run.id).map_err(|it| Failure::of(&it))?;
    let Some(mut reader) = reader else {
        return Err(Failure::new(format!("run {} has no log", run.id.short()))
            .hint("it ended before its command started, or its log is past its retention")
            .with_exit_code(ExitCode::FAILURE));
    };
    reader = match args.stream {
        Some(Only::Stdout) => reader.only(Stream::Stdout),
        Some(Only::Stderr) => reader.only(Stream::Stderr),
        None => reader,
    };
    let mut shown = Shown::new();
    match owner {
        Some(asked) => follow(asked, &mut reader, &mut shown).await,
        None => show(&mut reader, &mut shown).map(|_| ()),
    }?;
    finish(&mut reader, &mut shown)
}

async fn owner(run: &Run, directories: &Directories) -> Option<Asked> {
    let mut asked = ask(&directories.runtime, run.id, &Ask::Wait, &[]).await.ok()?;
    asked.answer().await.ok()?;
    Some(asked)
}

/// Shows what comes until the owner has closed its door.
async fn follow(asked: Asked, reader: &mut LogReader, shown: &mut Shown) -> Result<(), Failure> {
    let mut ended = std::pin::pin!(asked.wait());
    loop {
        if show(reader, shown)? == Seen::End {
            return Ok(());
        }
        tokio::select! {
            () = &mut ended => return show(reader, shown).map(|_| ()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Pending,
    End,
}

/// Shows what is there.
fn show(reader: &mut LogReader, shown: &mut Shown) -> Result<Seen, Failure> {
    loop {
        match reader.look().map_err(|it| Failure::of(&it))? {
            Look::Chunk(chunk) => {
                if shown.chunk(&chunk)? == Reader::Gone {
                    return Ok(Seen::End);
                }
            }
            Look::Pending => return Ok(Seen::Pending),
            Look::End { truncated } => {
                shown.truncated |= truncated;
                return Ok(Seen::End);
            }
        }
    }
}

/// Shows what a writer that was killed left without an entry, and says what is missing.
fn finish(reader: &mut LogReader, shown: &mut Shown) -> CommandResult {
    while let Some(chunk) = reader.rest().map_err(|it| Failure::of(&it))? {
        if shown.chunk(&chunk)? == Reader::Gone {
            break;
        }
    }
    shown.end()?;
    if shown.truncated {
        talk::note("the log is cut: the run wrote more than is kept");
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether anybody takes the bytes. A reader that left has what it wanted: that is no failure.
#[derive(Debug, PartialEq, Eq)]
enum Reader {
    Listens,
    Gone,
}

fn listens(written: std::io::Result<()>) -> Result<Reader, Failure> {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        written => written.map(|()| Reader::Listens).map_err(|it| Failure::of(&it)),
    }
}

/// Where the bytes go.
struct Shown {
    stdout: Side,
    stderr: Side,
    truncated: bool,
}

/// One stream: escaped on a terminal, exact elsewhere; free of the secrets that are known now.
struct Side {
    into: Box<dyn Write>,
    redacting: Option<redact::Stream>,
}

impl Side {
    fn new(into: Box<dyn Write>) -> Self {
        Self { into, redacting: known::stream() }
    }

    fn show(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.redacting {
            None => self.into.write_all(bytes)?,
            Some(stream) => {
                let mut left = Vec::with_capacity(bytes.len());
                stream.push(bytes, &mut left);
                self.into.write_all(&left)?;
            }
        }
        self.into.flush()
    }

    fn end(&mut self) -> std::io::Result<()> {
        let Some(stream) = &mut self.redacting else { return Ok(()) };
        let mut left = Vec::new();
        stream.flush(&mut left);
        self.into.write_all(&left)?;
        self.into.flush()
    }
}

impl Shown {
    fn new() -> Self {
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        Self {
            stdout: Side::new(if stdout.is_terminal() {
                Box::new(Screen::new(stdout))
            } else {
                Box::new(stdout)
            }),
            stderr: Side::new(if stderr.is_terminal() {
                Box::new(Screen::new(stderr))
            } else {
                Box::new(stderr)
            }),
            truncated: false,
        }
    }

    fn chunk(&mut self, chunk: &Chunk) -> Result<Reader, Failure> {
        self.bytes(chunk.stream, &chunk.bytes)
    }

    fn bytes(&mut self, stream: Stream, bytes: &[u8]) -> Result<Reader, Failure> {
        let into = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        listens(into.show(bytes))
    }

    fn end(&mut self) -> Result<Reader, Failure> {
        listens(self.stdout.end())?;
        listens(self.stderr.end())
    }
}
