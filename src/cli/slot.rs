//! `aegis slot`: the sandboxes that wait on a server's host.

use clap::{Args, Subcommand};
use hyper::Method;

use crate::api::wire::project::SlotsJson;
use crate::api::wire::run::EmptyJson;
use crate::cli::client::{Client, ServerArgs};
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, print};
use crate::intake::{duration, shown};
use crate::task::ExitCode;

/// Show the sandboxes that wait for tasks on a server's host; for its administrator.
#[derive(Debug, Args)]
pub struct SlotArgs {
    #[command(subcommand)]
    command: SlotCommand,
}

#[derive(Debug, Subcommand)]
enum SlotCommand {
    /// List them: number, kind, image, policy, how long each has waited
    Ls(LsArgs),
}

#[derive(Debug, Args)]
struct LsArgs {
    /// Print a JSON list
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

/// Lists them.
pub fn cmd_slot(args: &SlotArgs) -> CommandResult {
    let runtime = attached::runtime()?;
    let SlotCommand::Ls(args) = &args.command;
    let code = runtime.block_on(list(&args.server.any()?, args.json));
    runtime.shutdown_background();
    code
}

async fn list(client: &Client, json: bool) -> CommandResult {
    let mut found: SlotsJson = client.ask(Method::GET, "/api/v1/slots", None::<&EmptyJson>).await?;
    found.slots.sort_by_key(|it| it.number);
    if json {
        print::data(&serde_json::to_string(&found.slots).map_err(|it| Failure::of(&it))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = Vec::new();
    for it in &found.slots {
        let waited = duration::display(it.waited_ms / 1000 * 1000);
        let cells = [it.number.to_string(), it.key.clone(), it.image.clone(), it.policy.clone(), waited];
        lines.push(cells.map(|it| shown(&it)).join("  "));
    }
    let text = if lines.is_empty() { "nothing waits".to_owned() } else { lines.join("\n") };
    print::data(&text)?;
    Ok(ExitCode::SUCCESS)
}
