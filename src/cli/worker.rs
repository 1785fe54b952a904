//! `aegis worker`: the hosts that run what a server was given.

use clap::{Args, Subcommand};
use hyper::Method;

use crate::api::wire::run::EmptyJson;
use crate::api::wire::worker::WorkersJson;
use crate::cli::client::{Client, ServerArgs};
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, flags, print};
use crate::intake::shown;
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
struct LsArgs {
    /// Print a JSON list
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
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
    let runtime = attached::runtime()?;
    let code = match &args.command {
        WorkerCommand::Ls(args) => runtime.block_on(list(&args.server.any()?, args.json)),
        WorkerCommand::Drain(args) => runtime.block_on(stand(args, "drain")),
        WorkerCommand::Resume(args) => runtime.block_on(stand(args, "resume")),
    };
    runtime.shutdown_background();
    code
}

async fn list(client: &Client, json: bool) -> CommandResult {
    let told: WorkersJson = client.ask(Method::GET, "/api/v1/workers", None::<&EmptyJson>).await?;
    if json {
        print::data(&serde_json::to_string(&told.workers).map_err(|it| Failure::of(&it))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = Vec::new();
    for it in &told.workers {
        let labels: Vec<String> = it.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let busy = format!("{}/{}", it.running, it.capacity);
        let living = if it.living { "" } else { " (away)" };
        let cells = [it.name.clone(), format!("{}{living}", it.standing), busy, labels.join(",")];
        lines.push(cells.map(|it| shown(&it)).join("  "));
    }
    let text = if lines.is_empty() { "no workers".to_owned() } else { lines.join("\n") };
    print::data(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn stand(args: &NameArgs, verb: &str) -> CommandResult {
    let path = format!("/api/v1/workers/{}/{verb}", args.name);
    args.server.any()?.ask_bytes(Method::POST, &path, Some(&EmptyJson {})).await?;
    Ok(ExitCode::SUCCESS)
}
