//! `aegis worker`: the hosts that run what a server was given.

use clap::{Args, Subcommand};
use hyper::Method;

use crate::api::wire::run::EmptyJson;
use crate::api::wire::worker::WorkersJson;
use crate::cli::client::{Client, ServerArgs};
use crate::cli::listing::{LsArgs, cells, listed};
use crate::cli::{CommandResult, attached, flags};
use crate::task::ExitCode;

/// List the hosts that run what a server was given, and let one take nothing more; for its administrator.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    #[command(subcommand)]
    command: WorkerCommand,
}

#[derive(Debug, Subcommand)]
enum WorkerCommand {
    /// List every worker: name, state, runs it has of those it takes at once, labels
    Ls(LsArgs),
    /// Let a worker take nothing more: what it runs goes on, and a restart changes nothing
    Drain(NameArgs),
    /// Let a worker take runs again
    Resume(NameArgs),
}

#[derive(Debug, Args)]
struct NameArgs {
    /// Its name
    #[arg(value_name = "NAME", value_parser = flags::worker_name)]
    name: String,

    #[command(flatten)]
    server: ServerArgs,
}

/// Lists, drains or lets go on.
pub fn cmd_worker(args: &WorkerArgs) -> CommandResult {
    attached::wait(async {
        match &args.command {
            WorkerCommand::Ls(args) => list(&args.server.any()?, args.json).await,
            WorkerCommand::Drain(args) => stand(args, "drain").await,
            WorkerCommand::Resume(args) => stand(args, "resume").await,
        }
    })
}

async fn list(client: &Client, json: bool) -> CommandResult {
    let told: WorkersJson = client.ask(Method::GET, "/api/v1/workers", None::<&EmptyJson>).await?;
    listed(&told.workers, json, "no workers", |it| {
        let labels: Vec<String> = it.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let busy = format!("{}/{}", it.running, it.capacity);
        let living = if it.living { "" } else { " (away)" };
        cells([it.name.clone(), format!("{}{living}", it.standing), busy, labels.join(",")])
    })
}

async fn stand(args: &NameArgs, verb: &str) -> CommandResult {
    let path = format!("/api/v1/workers/{}/{verb}", args.name);
    args.server.any()?.ask_bytes(Method::POST, &path, Some(&EmptyJson {})).await?;
    Ok(ExitCode::SUCCESS)
}
