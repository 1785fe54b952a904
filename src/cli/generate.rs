//! `aegis completions` and `aegis man`: what packages install beside the program.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::failure::Failure;
use crate::cli::{CommandResult, command_line, print};
use crate::task::ExitCode;

/// Print completions for a shell.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Shells that completions are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Write the man pages.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// An existing directory
    directory: PathBuf,
}

/// Prints the completions.
pub fn cmd_completions(args: &CompletionsArgs) -> CommandResult {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command_line(), "aegis", &mut script);
    print::bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for the program and one for each command.
pub fn cmd_man(args: &ManArgs) -> CommandResult {
    let written = clap_mangen::generate_to(command_line(), &args.directory);
    written.map_err(|it| {
        Failure::new(format!("the man pages cannot be written to `{}`: {it}", args.directory.display()))
            .hint("give a directory that exists and may be written")
    })?;
    Ok(ExitCode::SUCCESS)
}
