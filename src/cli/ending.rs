//! The end of a run, for people and for programs.

use std::fs::File;

use crate::app::run::Finished;
use crate::app::{AppError, RunOrder};
use crate::cli::failure::Failure;
use crate::cli::flags::ResultTarget;
use crate::cli::run::SandboxArgs;
use crate::cli::{CommandResult, talk};
use crate::config::Directories;
use crate::task::ExitCode;

/// Where the result object goes, opened before anything runs.
#[derive(Debug)]
pub enum Target {
    /// Nowhere.
    None,
    /// Here.
    File(File),
}

impl Target {
    /// Opens the target of `--result`.
    pub fn open(_target: Option<&ResultTarget>) -> Result<Self, Failure> {
        Ok(Self::None)
    }
}

/// Prints what would be enforced.
pub fn dry_run(_order: &RunOrder, _json: bool) -> CommandResult {
    Ok(ExitCode::SUCCESS)
}

/// Says how a run ended, and gives its exit status.
pub fn report(
    args: &SandboxArgs,
    _order: &RunOrder,
    finished: Result<(Finished, Directories), AppError>,
    _target: &mut Target,
) -> CommandResult {
    let (finished, _) = finished.map_err(Failure::from)?;
    if !args.quiet {
        talk::note(&format!("run {}: {}", finished.id.short(), finished.end.outcome));
        talk::note(&format!("{:?}", finished.end));
    }
    Ok(ExitCode::of(&finished.end.outcome))
}
