//! `aegis token`: who may speak to a server over the network.

use clap::{Args, Subcommand};
use hyper::Method;

use crate::api::wire::run::EmptyJson;
use crate::api::wire::token::{NewTokenJson, TokenMadeJson, TokensJson};
use crate::cli::client::{Client, ServerArgs};
use crate::cli::listing::{LsArgs, cells, listed};
use crate::cli::{CommandResult, attached, flags, print, talk};
use crate::task::ExitCode;

/// Make, list and end the tokens of a server; for its administrator.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print its secret, this once
    Create(CreateArgs),
    /// List every token: name, role, project, end, last use
    Ls(LsArgs),
    /// End a token: its streams close within seconds, and its runs go on
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its name, which is never used twice
    #[arg(long, value_parser = flags::secret_name)]
    name: String,

    /// What it may do
    #[arg(long, value_name = "submit|read|approve|admin|worker")]
    role: String,

    /// The one project that it opens; without it every one
    #[arg(long)]
    project: Option<String>,

    /// How long it is valid, as 30d; without it until it is revoked
    #[arg(long, value_name = "DUR")]
    expires: Option<String>,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// Its name
    #[arg(value_name = "NAME", value_parser = flags::secret_name)]
    name: String,

    #[command(flatten)]
    server: ServerArgs,
}

/// Makes, lists or ends.
pub fn cmd_token(args: &TokenArgs) -> CommandResult {
    attached::wait(async {
        match &args.command {
            TokenCommand::Create(args) => create(&args.server.any()?, args).await,
            TokenCommand::Ls(args) => list(&args.server.any()?, args.json).await,
            TokenCommand::Revoke(args) => revoke(&args.server.any()?, &args.name).await,
        }
    })
}

async fn create(client: &Client, args: &CreateArgs) -> CommandResult {
    let token = NewTokenJson {
        name: args.name.clone(),
        role: args.role.clone(),
        project: args.project.clone(),
        expires_in: args.expires.clone(),
    };
    let made: TokenMadeJson = client.ask(Method::POST, "/api/v1/tokens", Some(&token)).await?;
    talk::note("this is shown once: keep it where only its user reads it");
    print::data(&made.secret)?;
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, json: bool) -> CommandResult {
    let tokens: TokensJson = client.ask(Method::GET, "/api/v1/tokens", None::<&EmptyJson>).await?;
    listed(&tokens.tokens, json, "no tokens", |it| {
        let or_none = |it: &Option<String>| it.clone().unwrap_or_else(|| "-".to_owned());
        let end = if it.revoked { "revoked".to_owned() } else { or_none(&it.expires_at) };
        cells([it.name.clone(), it.role.clone(), or_none(&it.project), end, or_none(&it.last_used_at)])
    })
}

async fn revoke(client: &Client, name: &str) -> CommandResult {
    client.ask_bytes(Method::DELETE, &format!("/api/v1/tokens/{name}"), None::<&EmptyJson>).await?;
    Ok(ExitCode::SUCCESS)
}
