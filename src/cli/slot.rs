//! `aegis slot`: the sandboxes that wait on a server's host.

use clap::{Args, Subcommand};
use hyper::Method;

use crate::api::wire::project::SlotsJson;
use crate::api::wire::run::EmptyJson;
use crate::cli::client::Client;
use crate::cli::listing::{LsArgs, cells, listed};
use crate::cli::{CommandResult, attached};
use crate::intake::duration;

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

/// Lists them.
pub fn cmd_slot(args: &SlotArgs) -> CommandResult {
    let SlotCommand::Ls(args) = &args.command;
    attached::wait(async { list(&args.server.any()?, args.json).await })
}

async fn list(client: &Client, json: bool) -> CommandResult {
    let mut found: SlotsJson = client.ask(Method::GET, "/api/v1/slots", None::<&EmptyJson>).await?;
    found.slots.sort_by_key(|it| it.number);
    listed(&found.slots, json, "nothing waits", |it| {
        let waited = duration::display(it.waited_ms / 1000 * 1000);
        cells([it.number.to_string(), it.key.clone(), it.image.clone(), it.policy.clone(), waited])
    })
}
