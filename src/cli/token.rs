//! `aegis token`: who may speak to a server over the network.

use clap::{Args, Subcommand};
use hyper::Method;

use crate::api::wire::run::EmptyJson;
use crate::api::wire::token::{NewTokenJson, TokenMadeJson, TokensJson};
use crate::cli::client::{Client, ServerArgs};
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, flags, print, talk};
use crate::intake::shown;
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
struct LsArgs {
    /// Print a JSON list
    #[arg(long)]
    json: bool,

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
    let runtime = attached::runtime()?;
    let code = match &args.command {
        TokenCommand::Create(args) => runtime.block_on(create(&args.server.any()?, args)),
        TokenCommand::Ls(args) => runtime.block_on(list(&args.server.any()?, args.json)),
        TokenCommand::Revoke(args) => runtime.block_on(revoke(&args.server.any()?, &args.name)),
    };
    runtime.shutdown_background();
    code
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
    if json {
        print::data(&serde_json::to_string(&tokens.tokens).map_err(|it| Failure::of(&it))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = Vec::new();
    for it in &tokens.tokens {
        let or_none = |it: &Option<String>| it.clone().unwrap_or_else(|| "-".to_owned());
        let end = if it.revoked { "revoked".to_owned() } else { or_none(&it.expires_at) };
        let cells = [it.name.clone(), it.role.clone(), or_none(&it.project), end, or_none(&it.last_used_at)];
        lines.push(cells.map(|it| shown(&it)).join("  "));
    }
    let text = if lines.is_empty() { "no tokens".to_owned() } else { lines.join("\n") };
    print::data(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn revoke(client: &Client, name: &str) -> CommandResult {
    client.ask_bytes(Method::DELETE, &format!("/api/v1/tokens/{name}"), None::<&EmptyJson>).await?;
    Ok(ExitCode::SUCCESS)
}
