//! `aegis artifact`: what came out of a run, of this user's own or of a server's.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sha2::{Digest, Sha256};

use crate::cli::client::{Client, ServerArgs};
use crate::cli::failure::Failure;
use crate::cli::listing::listed;
use crate::cli::{CommandResult, attached, selected, talk};
use crate::config::Directories;
use crate::intake::shown;
use crate::record::{End, Run};
use crate::report::json::ArtifactJson;
use crate::report::{amount, result};
use crate::sandbox::artifacts::open_below;
use crate::task::ExitCode;
use crate::task::escape::{escape, unescape};

/// Bytes that are copied at once.
const PIECE_BYTES: usize = 128 * 1024;
/// Permission bits of a file that is written, before the umask.
const MODE: u32 = 0o666;

/// List and fetch what came out of a run.
#[derive(Debug, Args)]
pub struct ArtifactArgs {
    #[command(subcommand)]
    command: ArtifactCommand,
}

#[derive(Debug, Subcommand)]
enum ArtifactCommand {
    /// List the files that came out of a run: size, digest, path
    Ls(LsArgs),
    /// Fetch one of them, and hold it against its digest
    Get(GetArgs),
}

#[derive(Debug, Args)]
struct LsArgs {
    /// The run, by the last 12 digits of its id or all of it
    #[arg(value_name = "RUN")]
    run: String,

    /// Print a JSON list
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct GetArgs {
    /// The run, by the last 12 digits of its id or all of it
    #[arg(value_name = "RUN")]
    run: String,

    /// The file, as the list shows it
    #[arg(value_name = "PATH")]
    path: std::ffi::OsString,

    /// Where it goes, `-` for standard output; without it a new file of the same name in this directory
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    server: ServerArgs,
}

/// Lists or fetches.
pub fn cmd_artifact(args: &ArtifactArgs) -> CommandResult {
    attached::wait(async {
        match &args.command {
            ArtifactCommand::Ls(args) => list(args).await,
            ArtifactCommand::Get(args) => get(args).await,
        }
    })
}

async fn list(args: &LsArgs) -> CommandResult {
    let files = match args.server.named()? {
        Some(client) => client.artifacts(&args.run).await?.files,
        None => result::artifacts(&own(&args.run).await?.1).files,
    };
    listed(&files, args.json, "nothing came out", |it| {
        let digest = it.sha256.get(..12).unwrap_or_default();
        format!("{:>10}  {}  {}", amount::bytes(it.bytes), shown(digest), visible(&it.path))
    })
}

async fn get(args: &GetArgs) -> CommandResult {
    if let Some(client) = args.server.named()? {
        return fetched(&client, args).await;
    }
    let (run, end) = own(&args.run).await?;
    let file = chosen(result::artifacts(&end).files, args)?;
    let target = Target::open(args, &file)?;
    copied(&run, &end, &file, target)
}

async fn fetched(client: &Client, args: &GetArgs) -> CommandResult {
    let file = chosen(client.artifacts(&args.run).await?.files, args)?;
    let mut target = Target::open(args, &file)?;
    client.artifact(&args.run, &file, &mut target.writer()).await?;
    target.keep()
}

/// Copies a file of this user's own. It may have been written since: the digest tells.
fn copied(run: &Run, end: &End, file: &ArtifactJson, mut target: Target) -> CommandResult {
    let gone = |reason: &str| {
        Failure::new(format!("`{}` of run {} {reason}", visible(&file.path), run.id.short()))
            .with_exit_code(ExitCode::FAILURE)
    };
    let directory = end.output_dir.as_ref().ok_or_else(|| gone("is kept nowhere"))?;
    let opened =
        File::open(directory).and_then(|it| open_below(&it, &unescape(&file.path).unwrap_or_default()));
    let mut from = opened.map_err(|it| Failure { causes: vec![it.to_string()], ..gone("cannot be read") })?;
    let (mut digest, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
    let mut into = target.writer();
    loop {
        let count = from.read(&mut piece).map_err(|it| Failure::of(&it))?;
        if count == 0 {
            break;
        }
        digest.update(&piece[..count]);
        into.write_all(&piece[..count]).map_err(|it| Failure::of(&it))?;
    }
    drop(into);
    if hex::encode(digest.finalize()) != file.sha256 {
        return Err(gone("was changed since it came out"));
    }
    target.keep()
}

async fn own(run: &str) -> Result<(Run, End), Failure> {
    let directories =
        Directories::of_this_user().map_err(|it| Failure::from(crate::app::AppError::from(it)))?;
    let run = selected::run(run, &directories).await?;
    match run.end.clone() {
        Some(end) => Ok((run, end)),
        None => Err(Failure::new(format!("run {} is going on: it is {}", run.id.short(), run.state.name()))
            .hint("what comes out is there when it has ended")
            .with_exit_code(ExitCode::FAILURE)),
    }
}

/// The file that was named, as it is shown or by its bytes.
fn chosen(files: Vec<ArtifactJson>, args: &GetArgs) -> Result<ArtifactJson, Failure> {
    let typed = args.path.as_bytes();
    let by_bytes = escape(typed);
    let found = files.into_iter().find(|it| it.path.as_bytes() == typed || it.path == by_bytes);
    found.ok_or_else(|| {
        Failure::new(format!("nothing came out as `{by_bytes}`"))
            .hint("`aegis artifact ls RUN` lists what did")
            .with_exit_code(ExitCode::FAILURE)
    })
}

/// Where a file goes. It has its name once it is whole.
enum Target {
    Stdout,
    File { draft: tempfile::NamedTempFile, path: PathBuf, replaces: bool },
}

impl Target {
    fn open(args: &GetArgs, file: &ArtifactJson) -> Result<Self, Failure> {
        let path = match &args.output {
            Some(path) if path.as_os_str() == "-" => return Ok(Self::Stdout),
            Some(path) => path.clone(),
            None => {
                let name = unescape(&file.path).unwrap_or_default();
                let name = name.rsplit(|it| *it == b'/').next().unwrap_or_default();
                PathBuf::from(std::ffi::OsStr::from_bytes(name))
            }
        };
        let replaces = args.output.is_some();
        if path.file_name().is_none() || (!replaces && path.symlink_metadata().is_ok()) {
            return Err(Failure::usage(format!(
                "`{}` is there already",
                escape(path.as_os_str().as_bytes())
            ))
            .hint("name another file: `-o FILE`"));
        }
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let draft = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(MODE))
            .tempfile_in(directory)
            .map_err(|it| Failure::of(&it))?;
        Ok(Self::File { draft, path, replaces })
    }

    fn writer(&mut self) -> Box<dyn Write + '_> {
        match self {
            Self::Stdout => Box::new(std::io::stdout().lock()),
            Self::File { draft, .. } => Box::new(draft),
        }
    }

    fn keep(self) -> CommandResult {
        if let Self::File { draft, path, replaces } = self {
            let kept = if replaces { draft.persist(&path) } else { draft.persist_noclobber(&path) };
            kept.map_err(|it| Failure::of(&it.error))?;
            talk::note(&format!("wrote `{}`", escape(path.as_os_str().as_bytes())));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A path of a list, which may be a server's: escaped once more where it is not what [`escape`] makes.
fn visible(path: &str) -> String {
    match unescape(path) {
        Some(bytes) => escape(&bytes),
        None => escape(path.as_bytes()),
    }
}
