//! `aegis demo`: what a package that steals gets in a sandbox, shown to a newcomer.

use clap::Args;

use crate::app::AppError;
use crate::app::demo::{Got, Shown, Stage};
use crate::cli::doctor::cut_short;
use crate::cli::{CommandResult, attached, print, talk};
use crate::config::Directories;
use crate::doctor::attack::settle::RUNTIME;
use crate::doctor::attack::wall;
use crate::doctor::text::shown;
use crate::task::ExitCode;

/// Install a package that steals, in a sandbox, and list what stopped it; the secrets are the demo's own.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Only say whether the canary is safe
    #[arg(short = 'q', long)]
    quiet: bool,
}

/// Shows what there is to steal, lets the package try, and says what it got: 1 where it got something or could not try.
pub fn cmd_demo(args: &DemoArgs) -> CommandResult {
    let runtime = attached::runtime()?;
    let played = runtime.block_on(async {
        let directories = Directories::of_this_user()?;
        let stage = Stage::set().await?;
        if !args.quiet {
            // A reader that left is told nothing more, and the demo goes on to its end.
            let _ = print::data(&before(&stage));
            talk::note("installing tiny-format in a sandbox: python3 setup.py install");
        }
        stage.play(&directories).await
    });
    runtime.shutdown_background();
    let played = played.map_err(|it: AppError| cut_short(it, "demo"))?;
    print::data(&after(&played, args.quiet))?;
    Ok(if played.safe() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn before(stage: &Stage) -> String {
    let mut lines = vec![
        "A project needs the package tiny-format, and its install script steals (examples/stealing-package/setup.py).".to_owned(),
        "Run by hand, it would have had these. They are made for the demo, and open nothing:".to_owned(),
    ];
    for it in stage.canaries() {
        lines.push(format!("  {:<62} {}", it.path.display(), it.opens));
    }
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let telling = names.filter(|it| {
        ["TOKEN", "SECRET", "PASSW", "API_KEY"].iter().any(|word| it.to_uppercase().contains(word))
    });
    lines.push(format!(
        "  and the environment of this shell, where {} names look like secrets",
        telling.count()
    ));
    lines.push(String::new());
    lines.join("\n")
}

fn after(played: &Shown, quiet: bool) -> String {
    let mut lines = Vec::new();
    if !quiet {
        for it in &played.attempts {
            let word = match it.got {
                Got::Nothing => "stopped",
                Got::Something => "GOT",
            };
            lines.push(format!("  {word:<8} {:<22} {}", it.name, it.detail));
        }
    }
    if !played.refused.is_empty() {
        lines.push(
            "The sandbox was refused before anything ran in it; `aegis doctor --attack` says more:"
                .to_owned(),
        );
        lines.extend(
            wall::down(&played.refused, RUNTIME).iter().map(|it| format!("  {}", shown(&it.to_string()))),
        );
        return lines.join("\n");
    }
    lines.extend(played.losses.iter().map(|it| format!("  LOST     {it}")));
    lines.push(verdict(played).to_owned());
    if !quiet {
        lines.extend(next(played));
    }
    lines.join("\n")
}

fn verdict(played: &Shown) -> &'static str {
    match (played.safe(), played.installed) {
        (true, true) => "The canary is safe, and the package is installed all the same.",
        (true, false) => "The canary is safe. The package was not installed.",
        (false, _) => "The canary is NOT safe.",
    }
}

fn next(played: &Shown) -> Vec<String> {
    let mut lines = vec![String::new(), "Next:".to_owned()];
    if let Some(run) = &played.run {
        lines
            .push(format!("  aegis show {run}        what this run was allowed, and what the kernel showed"));
    }
    lines.push("  aegis doctor --attack         sixty more attempts, and what stopped each".to_owned());
    lines.push(
        "  aegis run -- COMMAND          a command of yours, on a copy of the project you stand in"
            .to_owned(),
    );
    lines
}
