//! What a command lists: a line each for a person, a JSON list for a program.

use clap::Args;
use serde::Serialize;

use crate::cli::client::ServerArgs;
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, print};
use crate::intake::shown;
use crate::task::ExitCode;

/// How a list of a server's is asked for.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Print a JSON list
    #[arg(long)]
    pub json: bool,

    /// Whose list it is
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Prints the items, as lines or as JSON; where there are none, a person is told so in these words.
pub fn listed<T: Serialize>(
    items: &[T],
    json: bool,
    none: &str,
    line: impl Fn(&T) -> String,
) -> CommandResult {
    if json {
        print::data(&serde_json::to_string(items).map_err(|it| Failure::of(&it))?)?;
    } else if items.is_empty() {
        print::data(none)?;
    } else {
        print::data(&items.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line of cells, free of what would change how a terminal shows it.
pub fn cells<const N: usize>(cells: [String; N]) -> String {
    cells.map(|it| shown(&it)).join("  ")
}
