//! `aegis wait`: until a server's run has ended.

use clap::Args;

use crate::cli::client::ServerArgs;
use crate::cli::{CommandResult, attached};

/// Wait for a server's run; the exit status is that of `aegis run` for it.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The run, by the last 12 digits of its id or all of it
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    server: ServerArgs,
}

/// Waits.
pub fn cmd_wait(args: &WaitArgs) -> CommandResult {
    let client = args.server.any()?;
    attached::wait(client.wait(&args.run))
}
