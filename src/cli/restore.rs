//! `aegis restore`: what `aegis backup` wrote, brought back into an empty state directory.

use std::path::PathBuf;

use clap::Args;

use crate::app::AppError;
use crate::app::backup::restore;
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, backup, talk};
use crate::config::Directories;
use crate::config::sealed::Unlock;
use crate::task::ExitCode;

/// Bring a backup back into an empty state directory, whole or not at all.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Open it with the identity in this file, as `age-keygen` writes it
    #[arg(long, value_name = "PATH", required_unless_present = "passphrase_file")]
    identity: Option<PathBuf>,

    /// Open it with the passphrase in the first line of this file
    #[arg(long, value_name = "PATH", conflicts_with = "identity")]
    passphrase_file: Option<PathBuf>,

    /// The file that `aegis backup` wrote
    #[arg(value_name = "FILE")]
    source: PathBuf,
}

/// Restores, and says what came back.
pub fn cmd_restore(args: &RestoreArgs) -> CommandResult {
    let unlock = match (&args.passphrase_file, &args.identity) {
        (Some(path), _) => Unlock::with_passphrase_of(path)?,
        (None, Some(path)) => Unlock::with_identities_of(path)?,
        (None, None) => return Err(Failure::usage("give `--identity` or `--passphrase-file`")),
    };
    let (directories, counts) = attached::wait(async {
        let directories = Directories::of_this_user()?;
        let counts = restore(&args.source, &unlock, &directories.state).await?;
        Ok::<_, AppError>((directories, counts))
    })?;
    talk::note(&format!("{} are back in {}", backup::shown(counts), directories.state.display()));
    Ok(ExitCode::SUCCESS)
}
