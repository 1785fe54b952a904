//! `aegis gateway`: the process of a run's way out. Started by the run's owner and by nobody else.

use clap::Args;

use crate::cli::CommandResult;
use crate::cli::failure::Failure;
use crate::gateway::process;
use crate::task::ExitCode;

/// The first descriptor behind the standard streams.
const FIRST_OWN: u32 = 3;

/// Serve the way out of one run. A part of `aegis run`, not for use by hand.
#[derive(Debug, Args)]
pub struct GatewayArgs {}

/// Serves over the socket that is this process's standard input.
pub fn cmd_gateway(_args: &GatewayArgs) -> CommandResult {
    let stdin = rustix::stdio::stdin();
    let is_socket = rustix::fs::fstat(stdin)
        .is_ok_and(|it| rustix::fs::FileType::from_raw_mode(it.st_mode) == rustix::fs::FileType::Socket);
    if !is_socket {
        return Err(Failure::usage("`aegis gateway` is a part of `aegis run`, which starts it"));
    }
    // What whoever started `aegis` left open is none of the gateway's business.
    aegis_init::descriptors::close_from(FIRST_OWN);
    let socket = stdin.try_clone_to_owned().map_err(|it| Failure::of(&it))?;
    process::serve(socket).map_err(|it| Failure::of(&it))?;
    Ok(ExitCode::SUCCESS)
}
