//! `aegis ps`: the runs of this user.

use clap::Args;

use crate::app::AppError;
use crate::cli::client::ServerArgs;
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, print};
use crate::config::Directories;
use crate::record::{Record, RunFilter, now_ms};
use crate::report::{result, summary};
use crate::store::Store;
use crate::task::ExitCode;

/// Runs that a list shows at the most.
const LISTED_MAX: u32 = 1_000;

/// List runs: those going on, or all.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Ended ones too; the newest 1,000
    #[arg(short = 'a', long)]
    all: bool,

    /// Print a JSON list
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

/// Prints the list.
pub fn cmd_ps(args: &PsArgs) -> CommandResult {
    if let Some(client) = args.server.named()? {
        return attached::wait(client.list(args.all, args.json));
    }
    let filter = if args.all { RunFilter::All } else { RunFilter::Active };
    let runs = attached::wait(async {
        let directories = Directories::of_this_user()?;
        let store = Store::open(&directories.state).await?;
        let runs = store.list(filter, LISTED_MAX).await;
        store.close().await;
        Ok::<_, AppError>(runs?)
    })?;
    if args.json {
        let list: Vec<_> = runs.iter().map(result::brief).collect();
        print::data(&serde_json::to_string(&list).map_err(|it| Failure::of(&it))?)?;
    } else {
        print::data(&summary::list::table(&runs, now_ms()))?;
    }
    Ok(ExitCode::SUCCESS)
}
