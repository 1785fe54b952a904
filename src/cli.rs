//! Floor 7: the commands, one a file. Only this module talks to a person: data to stdout, talk to stderr.

pub mod apply;
pub mod artifact;
pub mod attached;
pub mod backup;
pub mod broker;
pub mod cancel;
pub mod client;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod egress;
pub mod ending;
pub mod exec;
pub mod failure;
pub mod flags;
pub mod gateway;
pub mod gc;
pub mod generate;
pub mod habits;
pub mod handed;
pub mod image;
pub mod init;
pub mod known;
pub mod listing;
pub mod logs;
pub mod policy;
pub mod print;
pub mod progress;
pub mod project;
pub mod ps;
pub mod restore;
pub mod retry;
pub mod run;
pub mod screen;
pub mod secret;
pub mod selected;
pub mod serve;
pub mod shell;
pub mod show;
pub mod slot;
pub mod talk;
pub mod token;
pub mod trust;
pub mod wait;
pub mod worker;

use std::error::Error;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::failure::Failure;
use crate::task::ExitCode;
use crate::task::escape::escape;

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
    Egress(egress::EgressArgs),
    Diff(diff::DiffArgs),
    Apply(apply::ApplyArgs),
    Artifact(artifact::ArtifactArgs),
    Cancel(cancel::CancelArgs),
    Wait(wait::WaitArgs),
    Retry(retry::RetryArgs),
    Gc(gc::GcArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Serve(serve::ServeArgs),
    Doctor(doctor::DoctorArgs),
    Demo(demo::DemoArgs),
    Image(image::ImageArgs),
    Init(init::InitArgs),
    Trust(trust::TrustArgs),
    Secret(secret::SecretArgs),
    Token(token::TokenArgs),
    Worker(worker::WorkerArgs),
    Project(project::ProjectArgs),
    Slot(slot::SlotArgs),
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    Completions(generate::CompletionsArgs),
    Man(generate::ManArgs),
    #[command(hide = true)]
    Gateway(gateway::GatewayArgs),
    #[command(hide = true)]
    Broker(broker::BrokerArgs),
}

impl Command {
    /// Whether what it says can have something of a task in it, or of what a caller asked for.
    fn shows_runs(&self) -> bool {
        match self {
            Self::Run(_)
            | Self::Shell(_)
            | Self::Exec(_)
            | Self::Ps(_)
            | Self::Show(_)
            | Self::Logs(_)
            | Self::Why(_)
            | Self::Diff(_)
            | Self::Apply(_)
            | Self::Artifact(_)
            | Self::Cancel(_)
            | Self::Wait(_)
            | Self::Retry(_)
            | Self::Gc(_)
            | Self::Egress(_)
            | Self::Image(_) => true,
            Self::Serve(_)
            | Self::Doctor(_)
            | Self::Demo(_)
            | Self::Init(_)
            | Self::Trust(_)
            | Self::Secret(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Token(_)
            | Self::Worker(_)
            | Self::Project(_)
            | Self::Slot(_)
            | Self::Policy(_)
            | Self::Gateway(_)
            | Self::Broker(_)
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }
}

/// Parses the command line, carries the command out, says what failed, and gives the exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            misunderstood(&error);
            return ExitCode::USAGE;
        }
    };
    // A run says itself that it does not begin without them.
    let begins = matches!(cli.command, Command::Run(_) | Command::Shell(_));
    if cli.command.shows_runs()
        && let (Some(reason), false) = (known::learn(), begins)
    {
        talk::note(&format!(
            "the secret store cannot be read, so what is recorded is shown as it is: {reason}"
        ));
    }
    let carried_out = match cli.command {
        Command::Run(args) => run::cmd_run(&args),
        Command::Shell(args) => shell::cmd_shell(&args),
        Command::Exec(args) => exec::cmd_exec(&args),
        Command::Ps(args) => ps::cmd_ps(&args),
        Command::Show(args) => show::cmd_show(&args),
        Command::Logs(args) => logs::cmd_logs(&args),
        Command::Why(args) => show::cmd_why(&args),
        Command::Egress(args) => egress::cmd_egress(&args),
        Command::Diff(args) => diff::cmd_diff(&args),
        Command::Apply(args) => apply::cmd_apply(&args),
        Command::Artifact(args) => artifact::cmd_artifact(&args),
        Command::Cancel(args) => cancel::cmd_cancel(&args),
        Command::Wait(args) => wait::cmd_wait(&args),
        Command::Retry(args) => retry::cmd_retry(&args),
        Command::Gc(args) => gc::cmd_gc(&args),
        Command::Backup(args) => backup::cmd_backup(&args),
        Command::Restore(args) => restore::cmd_restore(&args),
        Command::Serve(args) => serve::cmd_serve(&args),
        Command::Doctor(args) => doctor::cmd_doctor(&args),
        Command::Demo(args) => demo::cmd_demo(&args),
        Command::Image(args) => image::cmd_image(&args),
        Command::Init(args) => init::cmd_init(&args),
        Command::Trust(args) => trust::cmd_trust(&args),
        Command::Secret(args) => secret::cmd_secret(&args),
        Command::Token(args) => token::cmd_token(&args),
        Command::Worker(args) => worker::cmd_worker(&args),
        Command::Project(args) => project::cmd_project(&args),
        Command::Slot(args) => slot::cmd_slot(&args),
        Command::Policy(command) => policy::cmd_policy(&command),
        Command::Completions(args) => generate::cmd_completions(&args),
        Command::Man(args) => generate::cmd_man(&args),
        Command::Gateway(args) => gateway::cmd_gateway(&args),
        Command::Broker(args) => broker::cmd_broker(&args),
    };
    match carried_out {
        Ok(code) => code,
        Err(failure) => {
            talk::failure(&failure);
            failure.exit_code
        }
    }
}

/// Says what was wrong with a command line. A value that a flag refused is not repeated: it may be a secret, and our own
/// readers repeat what is none.
fn misunderstood(error: &clap::Error) {
    let flag = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    if let (ErrorKind::ValueValidation, Some(flag), Some(reason)) = (error.kind(), flag, error.source()) {
        let failure = Failure::usage(format!("the value of `{flag}` is not taken: {reason}"));
        talk::failure(&failure.hint("`--help` shows what each flag takes"));
        return;
    }
    let shown = error.render().to_string();
    if shown.chars().any(|it| it.is_control() && it != '\n') {
        let escaped = shown.lines().map(|it| escape(it.as_bytes())).collect::<Vec<_>>().join("\n");
        talk::failure(&Failure::usage(escaped.trim_start_matches("error: ").to_owned()));
        return;
    }
    let _ = error.print();
    if let Some(hint) = habits::hint(error) {
        talk::hint(hint);
    }
}

/// The command line as clap knows it: for completions and man pages.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// A result of a command.
pub type CommandResult = Result<ExitCode, Failure>;
