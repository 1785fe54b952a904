//! `aegis cancel`: end a run that is going on.

use clap::Args;

use crate::app::owner::client::{DoorError, ask};
use crate::app::owner::wire::Ask;
use crate::cli::client::ServerArgs;
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, selected};
use crate::config::Directories;
use crate::task::{ExitCode, RunState};

/// End a running run: SIGTERM, after its grace period SIGKILL.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The run, by the last 12 digits of its id or all of it
    #[arg(value_name = "RUN")]
    run: String,

    /// Return at once, without waiting for the end
    #[arg(long)]
    no_wait: bool,

    #[command(flatten)]
    server: ServerArgs,
}

/// Asks the owner to end the run, and waits for the end. A run that has ended already stays as it is.
pub fn cmd_cancel(args: &CancelArgs) -> CommandResult {
    match args.server.named()? {
        Some(client) => attached::wait(client.cancel(&args.run, !args.no_wait)),
        None => attached::wait(cancel(args)),
    }
}

async fn cancel(args: &CancelArgs) -> CommandResult {
    let directories = Directories::of_this_user().map_err(|it| Failure::of(&it))?;
    let run = selected::run(&args.run, &directories).await?;
    if run.state == RunState::Done {
        return Err(selected::ended(&run).with_exit_code(ExitCode::FAILURE));
    }
    let asked = ask(&directories.runtime, run.id, &Ask::Cancel, &[]).await;
    let mut asked = match asked {
        Ok(asked) => asked,
        Err(error @ DoorError::NoOwner { .. }) => {
            return Err(Failure::of(&error)
                .hint("if its owner died, `aegis gc` ends it as `lost` and removes what it left")
                .with_exit_code(ExitCode::FAILURE));
        }
        Err(error) => return Err(Failure::of(&error).with_exit_code(ExitCode::FAILURE)),
    };
    asked.answer().await.map_err(|it| Failure::of(&it).with_exit_code(ExitCode::FAILURE))?;
    if !args.no_wait {
        asked.wait().await;
    }
    Ok(ExitCode::SUCCESS)
}
