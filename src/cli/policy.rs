//! `aegis policy`: what a policy says, whether it could be used here, and the least one that a run would have needed.

use clap::{Args, Subcommand};

use crate::app::{AppError, policy};
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, print, selected, talk};
use crate::report::suggest::{policy_file, suggest};
use crate::task::ExitCode;

/// Read policies, and get one from a run.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Print every key of a policy with its value
    Show(PolicyArgs),
    /// Read a policy and hold it against this host's ceiling, and run nothing
    Check(CheckArgs),
    /// Print the least rules under which what a run asked of the network would have passed, as a policy file
    Suggest(SuggestArgs),
}

/// What is shown.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// A policy by name, or a policy file (a path with `/` or ending in `.toml`)
    #[arg(value_name = "POLICY|FILE")]
    policy: String,
}

/// What is checked.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A policy by name, or a policy file (a path with `/` or ending in `.toml`)
    #[arg(value_name = "POLICY|FILE")]
    policy: String,
}

/// What is suggested for.
#[derive(Debug, Args)]
pub struct SuggestArgs {
    /// The run, by the last 12 digits of its id or all of it; one under `--egress-audit` shows the most
    #[arg(value_name = "RUN")]
    run: String,
}

/// Shows, checks or suggests.
pub fn cmd_policy(command: &PolicyCommand) -> CommandResult {
    match command {
        PolicyCommand::Show(args) => {
            print::data(policy::text(&args.policy).map_err(no)?.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Check(args) => check(args),
        PolicyCommand::Suggest(args) => suggested(args),
    }
}

fn check(args: &CheckArgs) -> CommandResult {
    for lowered in policy::check(&args.policy).map_err(no)? {
        talk::note(&format!("lowered: {lowered}"));
    }
    talk::note("the policy can be used on this host");
    Ok(ExitCode::SUCCESS)
}

fn suggested(args: &SuggestArgs) -> CommandResult {
    let (run, entries) = attached::wait(selected::run_with_ledger(&args.run))?;
    print::data(policy_file(&suggest(&entries), &run.policy.name).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// A policy that is none, or is not allowed: this command says no.
fn no(error: AppError) -> Failure {
    Failure::from(error).with_exit_code(ExitCode::FAILURE)
}
