//! `aegis broker`: the process that holds the engine's socket for one server. Started by a server, or by a service manager for
//! each connection to the broker's socket.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use crate::app::broker;
use crate::broker::process;
use crate::cli::CommandResult;
use crate::cli::failure::Failure;
use crate::task::ExitCode;

/// The first descriptor behind the standard streams.
const FIRST_OWN: u32 = 3;

/// Make sandboxes for one server. A part of `aegis serve`, not for use by hand.
#[derive(Debug, Args)]
pub struct BrokerArgs {
    /// Where instances have their runtime directories
    #[arg(long, value_name = "DIR", default_value = "/run/aegis")]
    runtime_root: PathBuf,

    /// Where instances have their work directories; without it there is no workspace on disk
    #[arg(long, value_name = "DIR")]
    work_root: Option<PathBuf>,

    /// A runtime that may be asked for; repeatable
    #[arg(long = "runtime", value_name = "NAME", default_value = "runc")]
    runtimes: Vec<String>,
}

/// Serves over the socket that is this process's standard input.
pub fn cmd_broker(args: &BrokerArgs) -> CommandResult {
    let stdin = rustix::stdio::stdin();
    let Ok(peer) = rustix::net::sockopt::socket_peercred(stdin) else {
        return Err(Failure::usage("`aegis broker` is a part of `aegis serve`, which starts it"));
    };
    // What whoever started `aegis` left open is none of the broker's business.
    aegis_init::descriptors::close_from(FIRST_OWN);
    let socket = stdin.try_clone_to_owned().map_err(|it| Failure::of(&it))?;
    let runtimes: BTreeSet<String> = args.runtimes.iter().cloned().collect();
    let (runtime_root, work_root) = (args.runtime_root.clone(), args.work_root.clone());
    let settings = broker::settings(runtime_root, work_root, runtimes, peer.uid.as_raw())?;
    process::serve(socket, settings).map_err(|it| Failure::of(&it))?;
    Ok(ExitCode::SUCCESS)
}
