//! `aegis project`: what the runs of a server's project may use.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hyper::Method;

use crate::api::wire::project::{ProjectJson, ProjectsJson, QuotasJson};
use crate::api::wire::run::EmptyJson;
use crate::cli::client::{Client, ServerArgs};
use crate::cli::failure::Failure;
use crate::cli::listing::{LsArgs, cells, listed};
use crate::cli::{CommandResult, attached, flags};
use crate::intake::shown;
use crate::task::ExitCode;

/// Bytes of a ceiling's file.
const CEILING_BYTES_MAX: u64 = 256 * 1024;

/// Show and set up the projects of a server.
#[derive(Debug, Args)]
pub struct ProjectArgs {
    #[command(subcommand)]
    command: ProjectCommand,
}

#[derive(Debug, Subcommand)]
enum ProjectCommand {
    /// List the projects: runs at once, waiting runs, CPU seconds a day, bytes of outputs
    Ls(LsArgs),
    /// Set a project up, or anew: what is left out is no limit
    Set(SetArgs),
}

#[derive(Debug, Args)]
struct SetArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,

    /// Runs at once
    #[arg(long, value_name = "N")]
    runs: Option<u64>,

    /// Runs that wait
    #[arg(long, value_name = "N")]
    queued: Option<u64>,

    /// CPU seconds a day
    #[arg(long, value_name = "N")]
    cpu_seconds: Option<u64>,

    /// Bytes of kept outputs, as 10GiB
    #[arg(long, value_name = "SIZE", value_parser = flags::size)]
    storage: Option<u64>,

    /// A policy file that its runs may not exceed
    #[arg(long, value_name = "FILE")]
    ceiling: Option<PathBuf>,

    /// An image that its runs may use; repeatable; without it those that policy allows
    #[arg(long = "image", value_name = "IMAGE")]
    images: Vec<String>,

    /// A secret of the server's store that its runs may be given; repeatable; without it none
    #[arg(long = "secret", value_name = "NAME", value_parser = flags::secret_name)]
    secrets: Vec<String>,

    #[command(flatten)]
    server: ServerArgs,
}

/// Lists or sets up.
pub fn cmd_project(args: &ProjectArgs) -> CommandResult {
    attached::wait(async {
        match &args.command {
            ProjectCommand::Ls(args) => list(&args.server.any()?, args.json).await,
            ProjectCommand::Set(args) => set(&args.server.any()?, args).await,
        }
    })
}

async fn list(client: &Client, json: bool) -> CommandResult {
    let found: ProjectsJson = client.ask(Method::GET, "/api/v1/projects", None::<&EmptyJson>).await?;
    listed(&found.projects, json, "no projects", |ProjectJson { name, quotas, .. }| {
        let amounts = [quotas.runs, quotas.queued, quotas.cpu_seconds_day, quotas.storage_bytes];
        let [runs, queued, seconds, bytes] =
            amounts.map(|it| it.map_or_else(|| "-".to_owned(), |it| it.to_string()));
        cells([name.clone(), runs, queued, seconds, bytes])
    })
}

async fn set(client: &Client, args: &SetArgs) -> CommandResult {
    let ceiling = match &args.ceiling {
        Some(path) => Some(crate::app::read_bounded(path, CEILING_BYTES_MAX).map_err(|it| Failure::of(&it))?),
        None => None,
    };
    let listed = |items: &[String]| (!items.is_empty()).then(|| items.to_vec());
    let project = ProjectJson {
        name: args.name.clone(),
        quotas: QuotasJson {
            runs: args.runs,
            queued: args.queued,
            cpu_seconds_day: args.cpu_seconds,
            storage_bytes: args.storage,
        },
        ceiling,
        images: listed(&args.images),
        secrets: listed(&args.secrets),
    };
    if !args.name.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it)) {
        return Err(Failure::usage(format!("`{}` is no project's name", shown(&args.name))));
    }
    let path = format!("/api/v1/projects/{}", args.name);
    let _: ProjectJson = client.ask(Method::PUT, &path, Some(&project)).await?;
    Ok(ExitCode::SUCCESS)
}
