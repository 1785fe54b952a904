//! `aegis backup`: the records, logs, changes and secrets of this user as one sealed file.

use std::path::PathBuf;

use clap::Args;

use crate::app::AppError;
use crate::app::backup::{BackupError, Counts, back_up};
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, talk};
use crate::config::Directories;
use crate::config::sealed::{Lock, SealError};
use crate::report::amount;
use crate::task::ExitCode;

/// Write the records, logs, changes and secrets into one sealed file, while runs go on.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Seal it for the holder of this key, as `age-keygen` prints it; repeatable, each of them opens it
    #[arg(long = "recipient", value_name = "age1…", required_unless_present = "passphrase_file")]
    recipients: Vec<String>,

    /// Seal it with the passphrase in the first line of this file
    #[arg(long, value_name = "PATH", conflicts_with = "recipients")]
    passphrase_file: Option<PathBuf>,

    /// The file to write; it must not be there
    #[arg(value_name = "FILE")]
    target: PathBuf,
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        Self::from(AppError::from(BackupError::from(error)))
    }
}

/// Writes the backup, and says what is in it.
pub fn cmd_backup(args: &BackupArgs) -> CommandResult {
    let lock = match &args.passphrase_file {
        Some(path) => Lock::with_passphrase_of(path)?,
        None => Lock::for_recipients(&args.recipients)?,
    };
    let counts = attached::wait(async {
        let directories = Directories::of_this_user().map_err(AppError::from)?;
        back_up(&directories.state, &lock, &args.target).await
    })?;
    talk::note(&format!("{} are in {}", shown(counts), args.target.display()));
    Ok(ExitCode::SUCCESS)
}

/// Files and bytes, for a person.
pub(super) fn shown(counts: Counts) -> String {
    format!("{} files, {}", counts.files, amount::bytes(counts.bytes))
}
