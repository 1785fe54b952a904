//! `aegis trust`: what a project's file asks for, and the user's answer.

use std::io::{BufRead, IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;

use crate::app::project::Trust;
use crate::app::trust::{self, Asked, GrantState, Question};
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, print, talk};
use crate::report::amount;
use crate::task::ExitCode;
use crate::task::escape::escape;

/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64;

/// Show what a project's aegis.toml asks for beyond what a run gets without it, and agree to it or not.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// The project's directory; without it the project around the current directory
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,

    /// Only show it
    #[arg(long, conflicts_with_all = ["revoke", "list", "yes"])]
    show: bool,

    /// End the trust in it
    #[arg(long, conflicts_with_all = ["list", "yes"])]
    revoke: bool,

    /// List every file that was agreed to
    #[arg(long, conflicts_with_all = ["directory", "yes"])]
    list: bool,

    /// Agree without being asked
    #[arg(short = 'y', long)]
    yes: bool,
}

/// Asks, shows, lists or revokes.
pub fn cmd_trust(args: &TrustArgs) -> CommandResult {
    if args.list {
        return list();
    }
    if args.revoke {
        return revoke(args);
    }
    let Some(question) = trust::ask(args.directory.as_deref()).map_err(Failure::from)? else {
        return Err(Failure::new("there is no aegis.toml to trust")
            .hint("name the project's directory: `aegis trust DIR`; `aegis init` writes a file")
            .with_exit_code(ExitCode::FAILURE));
    };
    print::data(&page(&question))?;
    if args.show || question.asked.is_empty() || question.trust == Trust::Given {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes && !agreed()? {
        talk::note("not trusted: nothing has changed");
        return Ok(ExitCode::FAILURE);
    }
    question.agree().map_err(Failure::from)?;
    talk::note(
        "trusted, as long as this file stays as it is in this directory; `aegis trust --revoke` ends it",
    );
    Ok(ExitCode::SUCCESS)
}

/// Asks the person at the terminal.
fn agreed() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask on").hint("agree with `aegis trust --yes`"));
    }
    talk::note("give runs of this project what is asked for? [y/N]");
    let mut answer = String::new();
    let mut line = std::io::stdin().lock().take(ANSWER_BYTES_MAX);
    line.read_line(&mut answer).map_err(|it| Failure::of(&it))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn page(question: &Question) -> String {
    let path = escape(question.path.as_os_str().as_encoded_bytes());
    let mut lines = Vec::new();
    if question.asked.is_empty() {
        lines.push(format!("{path} asks for nothing beyond what a run gets without it: it needs no trust"));
        return lines.join("\n");
    }
    lines.push(format!("{path} asks for more than a run gets without it:"));
    lines.push(row("field", "without trust", "with trust", "written at"));
    lines.extend(question.asked.iter().map(asked));
    lines.extend(question.beyond.iter().map(|it| format!("the ceiling stays in force: {it}")));
    match &question.trust {
        Trust::Given => lines.push("it is trusted".to_owned()),
        Trust::Changed(grant) => {
            lines.push(format!(
                "it was trusted at {}, and has changed since:",
                amount::date(grant.granted_ms)
            ));
            lines.extend(question.changed.iter().map(|it| format!("  {it}")));
        }
        Trust::Never | Trust::Unneeded => lines.push("it is not trusted".to_owned()),
    }
    lines.join("\n")
}

fn asked(asked: &Asked) -> String {
    row(&asked.field, &asked.granted, &escape(asked.asked.as_bytes()), &asked.origin)
}

fn row(field: &str, granted: &str, asked: &str, origin: &str) -> String {
    format!("  {field:<28} {granted:<20} {asked:<20} {origin}")
}

fn list() -> CommandResult {
    let grants = trust::list().map_err(Failure::from)?;
    let lines: Vec<String> = grants
        .iter()
        .map(|(grant, state)| {
            let state = match state {
                GrantState::Holds => "holds",
                GrantState::Ended => "ended: the file changed",
                GrantState::Gone => "the file is gone",
            };
            format!("{}  {}  {state}", amount::date(grant.granted_ms), grant.directory)
        })
        .collect();
    if !lines.is_empty() {
        print::data(&lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn revoke(args: &TrustArgs) -> CommandResult {
    let (directory, revoked) = trust::revoke(args.directory.as_deref()).map_err(Failure::from)?;
    let directory = escape(directory.as_os_str().as_encoded_bytes());
    if !revoked {
        return Err(Failure::new(format!("the project in `{directory}` was not trusted"))
            .hint("`aegis trust --list` lists what is")
            .with_exit_code(ExitCode::FAILURE));
    }
    talk::note(&format!("the project in {directory} is no longer trusted"));
    Ok(ExitCode::SUCCESS)
}
