//! Floor 7: the commands, one a file. Only this module talks to a person: data to stdout, talk to stderr.

pub mod attached;
pub mod ending;
pub mod failure;
pub mod flags;
pub mod progress;
pub mod run;
pub mod screen;
pub mod talk;

use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::failure::Failure;
use crate::task::ExitCode;

/// Run a task in a sandbox that proves itself.
#[derive(Debug, Parser)]
#[command(
    name = "aegis",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::RunArgs>),
}

/// Parses the command line, carries the command out, says what failed, and gives the exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::USAGE } else { ExitCode::SUCCESS };
        }
    };
    let carried_out = match cli.command {
        Command::Run(args) => run::cmd_run(&args),
    };
    match carried_out {
        Ok(code) => code,
        Err(failure) => {
            talk::failure(&failure);
            failure.exit_code
        }
    }
}

/// The command line as clap knows it: for completions and man pages.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// A result of a command.
pub type CommandResult = Result<ExitCode, Failure>;
