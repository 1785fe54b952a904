//! `aegis show` and `aegis why`: one run, whole, and why it ended.

use clap::Args;

use crate::app::AppError;
use crate::cli::client::ServerArgs;
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, print, selected};
use crate::config::Directories;
use crate::record::Record;
use crate::report::suggest::Denied;
use crate::report::why::{Ended, why};
use crate::report::{result, suggest, summary};
use crate::store::Store;
use crate::task::ExitCode;

/// Show a run: what was asked, what policy made of it, what the kernel showed, how it ended.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The run, by the last 12 digits of its id or all of it
    #[arg(value_name = "RUN")]
    run: String,

    /// Print a JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

/// Explain why a run ended as it did, with the smallest change that would have let it pass.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The run, by the last 12 digits of its id or all of it
    #[arg(value_name = "RUN")]
    run: String,

    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Prints the run.
pub fn cmd_show(args: &ShowArgs) -> CommandResult {
    if let Some(client) = args.server.named()? {
        return attached::wait(client.show(&args.run, args.json));
    }
    let text = attached::wait(async {
        let directories = Directories::of_this_user().map_err(|it| Failure::from(AppError::from(it)))?;
        let run = selected::run(&args.run, &directories).await?;
        if args.json {
            return serde_json::to_string(&result::of(&run)).map_err(|it| Failure::of(&it));
        }
        let store = Store::open(&directories.state).await.map_err(|it| Failure::from(AppError::from(it)))?;
        let events = store.events(run.id).await;
        store.close().await;
        let events = events.map_err(|it| Failure::from(AppError::from(it)))?;
        Ok(summary::show::page(&run, &events))
    })?;
    print::data(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the explanation.
pub fn cmd_why(args: &WhyArgs) -> CommandResult {
    let (run, entries) = attached::wait(selected::run_with_ledger(&args.run))?;
    let Some(ended) = Ended::of(&run) else {
        return Err(Failure::new(format!("run {} is going on: it is {}", run.id.short(), run.state.name()))
            .hint("ask again when it has ended; `aegis logs -f` follows it")
            .with_exit_code(ExitCode::FAILURE));
    };
    let explanation = why(&ended);
    let denials = suggest::denials(&entries);
    if args.json {
        let flag = explanation.recommendation.as_ref();
        let object = serde_json::json!({
            "run": run.id.to_string(),
            "outcome": ended.end.outcome.name(),
            "lines": explanation.lines,
            "recommendation": flag.map(|it| serde_json::json!({"flag": it.name, "value": it.value})),
            "denials": denials.iter().map(denial).collect::<Vec<_>>(),
        });
        print::data(&object.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = explanation.lines.clone();
    lines.extend(explanation.hint().map(|it| format!("hint: {it}")));
    lines.extend(suggest::lines(&denials));
    print::data(&lines.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn denial(denied: &Denied) -> serde_json::Value {
    serde_json::json!({
        "host": denied.host,
        "request": denied.request,
        "reason": denied.reason,
        "count": denied.count,
        "rule": denied.rule,
    })
}
