//! Floor 7: the commands, one a file. Only this module talks to a person: data to stdout, talk to stderr.

pub mod attached;
pub mod cancel;
pub mod ending;
pub mod exec;
pub mod failure;
pub mod flags;
pub mod gc;
pub mod generate;
pub mod image;
pub mod logs;
pub mod print;
pub mod progress;
pub mod ps;
pub mod run;
pub mod screen;
pub mod selected;
pub mod shell;
pub mod show;
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
    Shell(Box<shell::ShellArgs>),
    Exec(Box<exec::ExecArgs>),
    Ps(ps::PsArgs),
    Show(show::ShowArgs),
    Logs(logs::LogsArgs),
    Why(show::WhyArgs),
    Cancel(cancel::CancelArgs),
    Gc(gc::GcArgs),
    Image(image::ImageArgs),
    Completions(generate::CompletionsArgs),
    Man(generate::ManArgs),
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
        Command::Shell(args) => shell::cmd_shell(&args),
        Command::Exec(args) => exec::cmd_exec(&args),
        Command::Ps(args) => ps::cmd_ps(&args),
        Command::Show(args) => show::cmd_show(&args),
        Command::Logs(args) => logs::cmd_logs(&args),
        Command::Why(args) => show::cmd_why(&args),
        Command::Cancel(args) => cancel::cmd_cancel(&args),
        Command::Gc(args) => gc::cmd_gc(&args),
        Command::Image(args) => image::cmd_image(&args),
        Command::Completions(args) => generate::cmd_completions(&args),
        Command::Man(args) => generate::cmd_man(&args),
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
