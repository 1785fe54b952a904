//! `aegis egress`: what a run's gateway let pass and what it refused.

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, print, selected};
use crate::report::egress;
use crate::task::ExitCode;

/// Show the ledger of a run's way out: every connection and request, and every name that was refused.
#[derive(Debug, Args)]
pub struct EgressArgs {
    /// The run, by the last 12 digits of its id or all of it
    #[arg(value_name = "RUN")]
    run: String,

    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
}

/// Prints the ledger.
pub fn cmd_egress(args: &EgressArgs) -> CommandResult {
    let (run, entries) = attached::wait(selected::run_with_ledger(&args.run))?;
    if args.json {
        let mut lines = String::new();
        for entry in &entries {
            let line = serde_json::to_string(&egress::json(entry)).map_err(|it| Failure::of(&it))?;
            lines.push_str(&line);
            lines.push('\n');
        }
        print::bytes(lines.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let counts = run.end.as_ref().and_then(|it| it.network);
    print::data(&egress::table(&entries, counts.as_ref()))?;
    Ok(ExitCode::SUCCESS)
}
