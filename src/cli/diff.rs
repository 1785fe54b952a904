//! `aegis diff`: what a run changed in its workspace.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::app::AppError;
use crate::app::changes::{ChangesError, RunChanges, brought, load};
use crate::cli::client::ServerArgs;
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, known, print, selected, talk};
use crate::config::Directories;
use crate::record::Run;
use crate::report::diff::{self, FileDiff, Line, LineKind};
use crate::sandbox::changes::apply::lies_in;
use crate::sandbox::workspace::find_project;
use crate::task::ExitCode;
use crate::task::escape::escape;

/// Skipped entries that are named.
const SKIPPED_SHOWN_MAX: usize = 5;

/// Show what a run changed in its workspace, as a patch against what it was given.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The run, by the last 12 digits of its id or all of it
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    place: PlaceArgs,

    /// Only these paths, relative to the workspace, and what lies below them
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    /// One line for each path, with how many lines came and went
    #[arg(long, conflicts_with_all = ["name_status", "json"])]
    stat: bool,

    /// One line for each path, with a letter for what happened: A, M, D, R, T
    #[arg(long, conflicts_with = "json")]
    name_status: bool,

    /// Print a JSON object
    #[arg(long)]
    json: bool,

    /// Exit with 1 if anything changed
    #[arg(long)]
    exit_code: bool,

    /// When to colour
    #[arg(
        long,
        value_name = "auto|always|never",
        default_value = "auto",
        hide_default_value = true,
        hide_possible_values = true
    )]
    color: Color,
}

/// Where the run is, and the directory that it was given a copy of.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// The directory that a server's run was given a copy of; without it the project around this one
    #[arg(short = 'w', long, value_name = "DIR")]
    workspace: Option<PathBuf>,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// Shows the changes.
pub fn cmd_diff(args: &DiffArgs) -> CommandResult {
    let changes = changes_of(&args.run, &args.place)?;
    let paths = paths(&args.paths, &changes)?;
    let selected = changes.selected(&paths);
    if args.json {
        print::data(&json(&changes, &paths)?)?;
    } else {
        for it in &selected {
            let difference = changes.difference(it).map_err(failure)?;
            let going_on = match (args.stat, args.name_status) {
                (true, _) => line(&diff::stat(&difference))?,
                (_, true) => line(&name_status(&difference))?,
                _ => patch(&difference, args.color)?,
            };
            if going_on == Reader::Gone {
                break;
            }
        }
        remarks(&changes);
    }
    let differs = args.exit_code && !selected.is_empty();
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The changes of the run that was named.
pub(super) fn changes_of(text: &str, place: &PlaceArgs) -> Result<RunChanges, Failure> {
    if !place.server.is_given()
        && place.workspace.is_none()
        && let Some(changes) = here(text)?
    {
        return Ok(changes);
    }
    if let Some(client) = place.server.named()? {
        let directory = tree(place.workspace.as_ref())?;
        return attached::wait(client.changes(text, &directory));
    }
    if place.workspace.is_some() {
        return Err(Failure::usage(
            "`--workspace` goes with a server's run: the records know the directory of this one",
        )
        .hint("name the server: `--server`"));
    }
    let (run, directories): (Run, Directories) = attached::wait(async {
        let directories = Directories::of_this_user().map_err(|it| Failure::from(AppError::from(it)))?;
        Ok::<_, Failure>((selected::run(text, &directories).await?, directories))
    })?;
    load(&run, &directories).map_err(failure)
}

/// What was brought here when a run that was handed over ended.
fn here(text: &str) -> Result<Option<RunChanges>, Failure> {
    let Ok(selector) = text.parse() else { return Ok(None) };
    let directories = Directories::of_this_user().map_err(|it| Failure::from(AppError::from(it)))?;
    brought(&selector, &directories).map_err(failure)
}

/// The directory that a server's run was given a copy of.
fn tree(named: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    let directory = match named {
        Some(directory) => Some(directory.clone()),
        None => {
            let here = std::env::current_dir().map_err(|it| Failure::of(&it))?;
            let home = std::env::var_os("HOME").map(PathBuf::from);
            find_project(&here, home.as_deref()).map_err(|it| Failure::from(AppError::from(it)))?
        }
    };
    let Some(directory) = directory else {
        return Err(Failure::usage(
            "no project is here or above, and the server does not know the directory",
        )
        .hint("name it: `-w DIR`"));
    };
    std::fs::canonicalize(&directory).map_err(|it| Failure::of(&it))
}

/// What went wrong, with what to do.
pub(super) fn failure(error: ChangesError) -> Failure {
    let failure = Failure::of(&error);
    match error {
        ChangesError::GoingOn(_) => {
            failure.hint("`aegis logs -f` follows it").with_exit_code(ExitCode::FAILURE)
        }
        ChangesError::NoWorkspace(_) | ChangesError::NotKept(_) => failure
            .hint("a run that was given a workspace, without `--no-changes`, keeps them for 30 days")
            .with_exit_code(ExitCode::FAILURE),
        ChangesError::Kept(_) | ChangesError::Parcel(_) | ChangesError::Root(_) | ChangesError::Apply(_) => {
            failure
        }
    }
}

/// Paths as typed: relative to the workspace, or absolute and in it.
pub(super) fn paths(typed: &[OsString], changes: &RunChanges) -> Result<Vec<Vec<u8>>, Failure> {
    use std::os::unix::ffi::OsStrExt;

    let root = changes.set.root.path.as_os_str().as_bytes();
    let mut paths = Vec::new();
    for path in typed {
        let bytes = path.as_bytes();
        let relative = match bytes.strip_prefix(b"/") {
            None => bytes,
            Some(_) if lies_in(bytes, root) => &bytes[root.len()..],
            Some(_) => {
                return Err(Failure::usage(format!("`{}` does not lie in the workspace", escape(bytes)))
                    .hint("name paths relative to the workspace's directory"));
            }
        };
        let names: Vec<&[u8]> =
            relative.split(|it| *it == b'/').filter(|it| !matches!(*it, b"" | b".")).collect();
        if names.contains(&b"..".as_slice()) {
            return Err(Failure::usage(format!("`{}` holds `..`", escape(bytes)))
                .hint("name paths relative to the workspace's directory"));
        }
        paths.push(names.join(&b'/'));
    }
    Ok(paths)
}

fn name_status(difference: &FileDiff) -> String {
    let path = diff::quoted("", &difference.path);
    match &difference.renamed_from {
        Some(from) => format!("R\t{}\t{path}", diff::quoted("", from)),
        None => format!("{}\t{path}", difference.letter()),
    }
}

/// Whether anybody takes what is written.
#[derive(Debug, PartialEq, Eq)]
enum Reader {
    Listens,
    Gone,
}

fn line(text: &str) -> Result<Reader, Failure> {
    write(&[text.as_bytes(), b"\n"].concat())
}

fn write(bytes: &[u8]) -> Result<Reader, Failure> {
    match std::io::stdout().lock().write_all(&known::bytes(bytes)) {
        Ok(()) => Ok(Reader::Listens),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::of(&error)),
    }
}

/// Exact for programs, visible for people.
fn patch(difference: &FileDiff, color: Color) -> Result<Reader, Failure> {
    let terminal = std::io::stdout().is_terminal();
    let color = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()),
    };
    let mut shown = Vec::new();
    for (kind, bytes) in diff::unified(difference) {
        match (terminal || color, color) {
            (false, _) => shown.extend(bytes),
            (true, false) => shown.extend(diff::visible(&bytes).into_bytes()),
            (true, true) => shown.extend(coloured((kind, bytes)).into_bytes()),
        }
    }
    write(&shown)
}

fn coloured((kind, bytes): Line) -> String {
    let code = match kind {
        LineKind::Head => "1",
        LineKind::Hunk => "36",
        LineKind::Added => "32",
        LineKind::Removed => "31",
        LineKind::Context => return diff::visible(&bytes),
    };
    let text = diff::visible(&bytes);
    format!("\x1b[{code}m{}\x1b[m\n", text.trim_end_matches('\n'))
}

/// What the patch does not show.
fn remarks(changes: &RunChanges) {
    let set = &changes.set;
    for limit in &set.limits {
        talk::note(&format!("these are not all changes: {}", limit.explained()));
    }
    if set.left_out > 0 {
        talk::note(&format!("{} changes in ignored directories are left out", set.left_out));
    }
    if set.git > 0 {
        talk::note(&format!("{} changes inside `.git` are left out", set.git));
    }
    for it in set.skipped.iter().take(SKIPPED_SHOWN_MAX) {
        talk::note(&format!("`{}` is left out: {}", escape(&it.path), it.why.explained()));
    }
    let rest = set.skipped_count.saturating_sub(SKIPPED_SHOWN_MAX as u64);
    if rest > 0 {
        talk::note(&format!("{rest} more are left out: `--json` names them"));
    }
}

fn json(changes: &RunChanges, paths: &[Vec<u8>]) -> Result<String, Failure> {
    let set = &changes.set;
    let mut entries = Vec::new();
    for it in changes.selected(paths) {
        let difference = changes.difference(&it).map_err(failure)?;
        let counts = diff::line_counts(&difference);
        let mode = |side: &Option<diff::Side>| side.as_ref().map(|it| format!("{:04o}", it.mode));
        entries.push(serde_json::json!({
            "path": escape(&difference.path),
            "status": difference.letter().to_string(),
            "renamed_from": difference.renamed_from.as_deref().map(escape),
            "mode_before": mode(&difference.before),
            "mode_after": mode(&difference.after),
            "lines_added": counts.map(|it| it.0),
            "lines_removed": counts.map(|it| it.1),
        }));
    }
    let skipped: Vec<_> = set
        .skipped
        .iter()
        .map(|it| serde_json::json!({ "path": escape(&it.path), "reason": it.why.name() }))
        .collect();
    let limits: Vec<_> = set.limits.iter().map(|it| it.name()).collect();
    Ok(serde_json::json!({
        "schema": "aegis.diff/1",
        "run": changes.run.to_string(),
        "complete": set.limits.is_empty(),
        "limits": limits,
        "left_out": set.left_out,
        "git": set.git,
        "skipped": skipped,
        "skipped_count": set.skipped_count,
        "changes": entries,
    })
    .to_string())
}
