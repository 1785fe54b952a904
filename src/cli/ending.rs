//! The end of a run, for people and for programs.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::app::run::Finished;
use crate::app::{AppError, RunOrder, plan};
use crate::cli::failure::Failure;
use crate::cli::flags::ResultTarget;
use crate::cli::run::SandboxArgs;
use crate::cli::{CommandResult, attached, known, print, talk};
use crate::record::{ChangeCounts, Exposure, Kept};
use crate::report::why::{Ended, remarks};
use crate::report::{result, summary};
use crate::task::escape::escape;
use crate::task::{ExitCode, Outcome};

/// Files with secrets that are named on the terminal.
const EXPOSURES_SHOWN_MAX: usize = 5;
/// Dropped outputs that are named on the terminal.
const DROPS_SHOWN_MAX: usize = 5;

/// Where the result object goes, opened before anything runs: what cannot be written is known then.
#[derive(Debug)]
pub enum Target {
    /// Nowhere.
    None,
    /// A descriptor of the caller's.
    Descriptor(File),
    /// A file, put in its place whole.
    File {
        /// Its place.
        path: PathBuf,
        /// What is written.
        draft: tempfile::NamedTempFile,
    },
}

impl Target {
    /// Opens the target of `--result`.
    pub fn open(target: Option<&ResultTarget>) -> Result<Self, Failure> {
        match target {
            None => Ok(Self::None),
            Some(ResultTarget::Descriptor(number)) => {
                let opened = File::options().write(true).open(format!("/proc/self/fd/{number}"));
                opened.map(Self::Descriptor).map_err(|it| {
                    Failure::usage(format!("descriptor {number} of `--result` cannot be written: {it}"))
                        .hint(format!("open it: `aegis run --result fd:{number} … {number}>result.json`"))
                })
            }
            Some(ResultTarget::File(path)) => {
                let directory =
                    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let draft = tempfile::Builder::new().prefix(".aegis-result-").tempfile_in(directory);
                draft.map(|draft| Self::File { path: path.clone(), draft }).map_err(|it| {
                    Failure::new(format!("the result file `{}` cannot be written: {it}", path.display()))
                        .hint("name a file in a directory that exists and may be written")
                })
            }
        }
    }

    fn write(self, text: &str) -> Result<(), Failure> {
        let text = known::text(text);
        let failed = |it: std::io::Error| Failure::new(format!("the result cannot be written: {it}"));
        match self {
            Self::None => Ok(()),
            Self::Descriptor(mut file) => writeln!(file, "{text}").map_err(failed),
            Self::File { path, mut draft } => {
                writeln!(draft, "{text}").map_err(failed)?;
                draft.persist(path).map(|_| ()).map_err(|it| failed(it.error))
            }
        }
    }
}

/// Prints what would be enforced.
pub fn dry_run(order: &RunOrder, json: bool) -> CommandResult {
    let runtime = attached::runtime()?;
    let text = if json {
        runtime.block_on(plan::as_json(order)).map_err(Failure::from)?.to_string()
    } else {
        plan::as_text(order).map_err(Failure::from)?
    };
    print::data(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Says how a run ended, and gives its exit status.
pub fn report(args: &SandboxArgs, finished: Result<Finished, AppError>, target: Target) -> CommandResult {
    let finished = match finished {
        Ok(finished) => finished,
        Err(error) => {
            let failure = Failure::from(error);
            target.write(&failure.as_json())?;
            return Err(failure);
        }
    };
    let Some(ended) = Ended::of(&finished.run) else {
        return Err(Failure::new("the run is recorded without an outcome"));
    };
    let object = serde_json::to_string(&result::of(&finished.run)).map_err(|it| Failure::of(&it))?;
    let outcome = &ended.end.outcome;
    // What went wrong is told also to those who want no talk: an exit status alone explains nothing.
    if !args.quiet || !matches!(outcome, Outcome::Exited(_) | Outcome::Signaled(_)) {
        say(&finished, &ended);
    }
    target.write(&object)?;
    Ok(ExitCode::of(outcome))
}

fn say(finished: &Finished, ended: &Ended<'_>) {
    let end = ended.end;
    talk::note(&summary::line(finished.run.id, end));
    let remarks = remarks(ended);
    for line in &remarks.lines {
        talk::note(line);
    }
    if let Some(hint) = remarks.hint() {
        talk::hint(&hint);
    }
    for pattern in &end.unmatched {
        talk::note(&format!("the output `{}` is not there", escape(pattern.as_bytes())));
    }
    for drop in end.dropped.iter().take(DROPS_SHOWN_MAX) {
        talk::note(&format!("the output `{}` was left out: {}", escape(&drop.path), drop.reason));
    }
    let rest = end.dropped_count.saturating_sub(DROPS_SHOWN_MAX as u64);
    if rest > 0 {
        talk::note(&format!("{rest} more were left out: `aegis show {}`", finished.run.id.short()));
    }
    say_exposures(&end.exposures, &finished.run.id.short());
    if let Some(changes) = &end.changes {
        say_changes(changes, &finished.run.id.short());
    }
    if let Some(directory) = &end.output_dir {
        talk::note(&format!("outputs are in {}", directory.display()));
    }
}

fn say_exposures(exposures: &[Exposure], run: &str) {
    for Exposure { path, secret, kept } in exposures.iter().take(EXPOSURES_SHOWN_MAX) {
        let became = match kept {
            Kept::Out => "came out",
            Kept::In => "stayed in",
        };
        talk::note(&format!("the file `{}` holds the secret `{secret}`, and {became}", escape(path)));
    }
    if exposures.len() > EXPOSURES_SHOWN_MAX {
        talk::note(&format!("{} more: `aegis show --json {run}`", exposures.len() - EXPOSURES_SHOWN_MAX));
    }
}

fn say_changes(changes: &ChangeCounts, run: &str) {
    if let Some(failure) = &changes.failure {
        return talk::note(&format!("what changed in the workspace could not be kept: {failure}"));
    }
    if changes.total() > 0 {
        talk::note(&format!("`aegis diff {run}` shows the changes, `aegis apply {run}` brings them in"));
    }
    if !changes.complete {
        talk::note(&format!("these are not all changes: `aegis diff {run}` says why"));
    }
}
