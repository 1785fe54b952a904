//! `aegis init`: the first `aegis.toml` of a project.

use std::path::PathBuf;

use clap::Args;

use crate::app::starter;
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, print, talk};
use crate::task::ExitCode;

/// Write an aegis.toml for a project, after a look at its lock and toolchain files.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The project's directory; without it the current one
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,

    /// Print it, and write nothing
    #[arg(long)]
    print: bool,
}

/// Writes the file, or prints it.
pub fn cmd_init(args: &InitArgs) -> CommandResult {
    let (path, text) = starter::text(&args.directory).map_err(Failure::from)?;
    if args.print {
        print::data(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    starter::write(&path, &text).map_err(Failure::from)?;
    talk::note(&format!("wrote {}: look it over, then `aegis run`", path.display()));
    Ok(ExitCode::SUCCESS)
}
