//! The end of a run, for people and for programs.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::api::wire::attach::{EndJson, SaidJson};
use crate::app::run::Finished;
use crate::app::{AppError, RunOrder, plan};
use crate::cli::client::shown_long;
use crate::cli::failure::Failure;
use crate::cli::flags::ResultTarget;
use crate::cli::run::SandboxArgs;
use crate::cli::{CommandResult, attached, known, print, talk};
use crate::report::json::OutcomeJson;
use crate::report::result;
use crate::report::told::{self, Said};
use crate::report::why::Ended;
use crate::task::{ExitCode, Outcome};

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
        told::lines(&finished.run).iter().for_each(say);
    }
    target.write(&object)?;
    Ok(ExitCode::of(outcome))
}

/// The same for a run of a server's. Its words are somebody else's: escaped before they are shown.
pub fn report_handed(args: &SandboxArgs, end: Result<EndJson, Failure>, target: Target) -> CommandResult {
    let EndJson { run, told } = match end {
        Ok(end) => end,
        Err(failure) => {
            target.write(&failure.as_json())?;
            return Err(failure);
        }
    };
    let (Some(status), Some(outcome)) = (run.exit_status, &run.outcome) else {
        return Err(Failure::new("the server told no outcome: is it of another version?"));
    };
    if !args.quiet || !matches!(outcome, OutcomeJson::Exited { .. } | OutcomeJson::Signaled { .. }) {
        for SaidJson { is_hint, text } in told {
            let text = shown_long(&text);
            say(&if is_hint { Said::Hint(text) } else { Said::Note(text) });
        }
    }
    target.write(&serde_json::to_string(&run).map_err(|it| Failure::of(&it))?)?;
    Ok(ExitCode::of_status(status))
}

/// Says a line, or a hint.
fn say(said: &Said) {
    match said {
        Said::Note(text) => talk::note(text),
        Said::Hint(text) => talk::hint(text),
    }
}
