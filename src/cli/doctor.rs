//! `aegis doctor`: what this host and its engine hold, and what they hold against an attack.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use crate::app::doctor::report::{Draft, Form};
use crate::app::{self, AppError};
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, print, talk};
use crate::config::Directories;
use crate::doctor::attack::{self, Assault, Stage};
use crate::doctor::finding::{Finding, Verdict, worst};
use crate::doctor::json::DoctorJson;
use crate::doctor::text::{self, Layout};
use crate::doctor::{Facts, judge};
use crate::task::ExitCode;

/// Check the engine, its walls and this host; with --attack, try them.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Attack real sandboxes of this host, and say what stopped each attempt
    #[arg(long)]
    attack: bool,

    /// Print a JSON object
    #[arg(long)]
    json: bool,

    /// Write a report, Markdown or JSON by its ending
    #[arg(long, value_name = "FILE.md|FILE.json", value_parser = report)]
    report: Option<(PathBuf, ReportForm)>,
}

/// The form of a report, as clap keeps it.
#[derive(Debug, Clone, Copy)]
struct ReportForm(Form);

/// Looks, attacks if asked, prints, and says whether all is well: 1 where a check fails, a probe got through or could not
/// be tried.
pub fn cmd_doctor(args: &DoctorArgs) -> CommandResult {
    let report = args
        .report
        .as_ref()
        .map(|(path, form)| Ok::<_, Failure>((Draft::open(path)?, form.0)))
        .transpose()?;
    let runtime = attached::runtime()?;
    let facts = runtime.block_on(app::doctor::gather());
    let findings = judge(&facts);
    let assault = if args.attack { runtime.block_on(assault(&facts)) } else { Ok(None) };
    runtime.shutdown_background();
    let assault = assault?;
    show(args, &findings, assault.as_ref())?;
    if let Some((draft, form)) = report {
        draft.finish(&document(form, &findings, assault.as_ref())?)?;
    }
    let sound = worst(&findings) != Verdict::Fail && assault.as_ref().is_none_or(Assault::held);
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Without an engine there is nothing to attack, which the findings say.
async fn assault(facts: &Facts) -> Result<Option<Assault>, Failure> {
    if facts.engine.is_err() {
        return Ok(None);
    }
    let directories = Directories::of_this_user().map_err(AppError::from)?;
    let told = |stage: Stage| talk::note(&format!("attacking a sandbox: {}", stage.name()));
    let attacked = app::attack::attack(&directories, &told).await;
    attacked.map(Some).map_err(|it| cut_short(it, "attack"))
}

/// What a cancelled attack or demo says: there was something, and it proves nothing.
pub(super) fn cut_short(error: AppError, what: &str) -> Failure {
    match error {
        AppError::Cancelled(_) => {
            Failure::new(format!("cancelled: what the {what} has seen so far proves nothing"))
                .with_exit_code(ExitCode::INTERRUPTED)
        }
        other => Failure::from(other),
    }
}

fn show(args: &DoctorArgs, findings: &[Finding], assault: Option<&Assault>) -> Result<(), Failure> {
    if args.json {
        return print::data(&json(findings, assault)?);
    }
    let layout = layout();
    let mut page = text::findings(findings, layout);
    if let Some(assault) = assault {
        page.push_str(&attack::text::probes(assault, layout));
    }
    print::data(&page)?;
    talk::note(&text::verdict(findings));
    if let Some(assault) = assault {
        talk::note(&attack::text::verdict(assault));
    }
    Ok(())
}

fn layout() -> Layout {
    let colour = std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    match (std::io::stdout().is_terminal(), colour) {
        (true, true) => Layout::Lively,
        (true, false) => Layout::Grouped,
        (false, _) => Layout::Plain,
    }
}

fn json(findings: &[Finding], assault: Option<&Assault>) -> Result<String, Failure> {
    serde_json::to_string(&DoctorJson::of(findings, assault)).map_err(|it| Failure::of(&it))
}

fn document(form: Form, findings: &[Finding], assault: Option<&Assault>) -> Result<String, Failure> {
    if form == Form::Json {
        return json(findings, assault).map(|it| it + "\n");
    }
    let mut page = format!("# Aegis doctor\n\n{}\n", text::markdown(findings));
    if let Some(assault) = assault {
        page.push_str(&attack::text::markdown(assault));
    }
    Ok(page)
}

fn report(path: &str) -> Result<(PathBuf, ReportForm), String> {
    let path = PathBuf::from(path);
    match Form::of(&path) {
        Some(form) => Ok((path, ReportForm(form))),
        None => Err("name a file that ends in `.md` or `.json`".to_owned()),
    }
}
