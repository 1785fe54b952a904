//! `aegis retry`: a server's run that has ended is submitted anew.

use std::collections::BTreeMap;

use clap::Args;
use hyper::Method;

use crate::api::wire::submit::{RetryJson, SubmittedJson};
use crate::cli::client::ServerArgs;
use crate::cli::client::runs::path;
use crate::cli::{CommandResult, attached, flags, print};
use crate::intake::shown;
use crate::task::ExitCode;

/// Submit a server's run anew that has ended; prints the new run's id.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The run, by the last 12 digits of its id or all of it
    #[arg(value_name = "RUN")]
    run: String,

    /// A variable that the run had, with its value: values are forgotten when a run ends; repeatable
    #[arg(short = 'e', long = "env", value_name = "K=V", value_parser = flags::variable)]
    environment: Vec<(String, String)>,

    #[command(flatten)]
    server: ServerArgs,
}

/// Submits it.
pub fn cmd_retry(args: &RetryArgs) -> CommandResult {
    let client = args.server.any()?;
    let environment: BTreeMap<String, String> = args.environment.iter().cloned().collect();
    let (json, path) = (RetryJson { environment }, path(&args.run, "/retry")?);
    let submitted = attached::wait(client.ask::<SubmittedJson>(Method::POST, &path, Some(&json)))?;
    print::data(&shown(&submitted.id))?;
    Ok(ExitCode::SUCCESS)
}
