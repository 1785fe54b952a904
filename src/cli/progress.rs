//! What a person waits for: a spinner on a terminal, plain lines elsewhere, nothing when told to be quiet.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::app::run::Step;
use crate::cli::talk;
use crate::policy::Origin;
use crate::queue::PLACE_MAX;
use crate::record::Phase;
use crate::report::{amount, workspace};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Shows steps on stderr.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    spinner: ProgressBar,
}

impl Progress {
    /// Progress for this process's stderr.
    pub fn new(quiet: bool) -> Self {
        let target = if quiet || !talk::is_lively() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let spinner = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            spinner.set_style(style);
        }
        Self { quiet, spinner }
    }

    /// Shows a step.
    pub fn step(&self, step: &Step) {
        match step {
            Step::Image(remark) => self.line(remark),
            Step::Workspace(notes, filled) => {
                for note in notes.iter().chain(&workspace::withheld_lines(filled)) {
                    self.line(note);
                }
                if let Some(hint) = workspace::withheld_hint(filled).filter(|_| !self.quiet) {
                    self.spinner.suspend(|| talk::hint(hint));
                }
            }
            Step::Pulling(progress) => {
                let done = amount::bytes(progress.current_bytes);
                let total = amount::bytes(progress.total_bytes);
                self.spin(&format!("fetching the image: {done} of {total} ({})", progress.status));
            }
            Step::Accepted(_) => {}
            // What the host lacks is in the record; a person is told what somebody decided.
            Step::Clipped(clipped) if clipped.by == Origin::Host => {}
            Step::Clipped(clipped) => {
                self.line(&clipped.to_string());
            }
            Step::Phase(Phase::Workspace) => self.spin("copying the workspace in"),
            Step::Phase(Phase::Outputs) => self.spin("copying the outputs out"),
            Step::Phase(Phase::Start) => self.spin("making the sandbox"),
            Step::Network(text) => self.line(&format!("network: {text}")),
            Step::Phase(_) => self.clear(),
        }
    }

    /// A server has no worker free yet; 0 is no place.
    pub fn waiting(&self, place: u32) {
        let text = match place {
            0 => return self.spin("waiting"),
            PLACE_MAX.. => format!("waiting: position {PLACE_MAX} or later"),
            place => format!("waiting: position {place}"),
        };
        if talk::is_lively() { self.spin(&text) } else { self.line(&text) }
    }

    /// Takes the spinner away.
    pub fn clear(&self) {
        self.spinner.disable_steady_tick();
        self.spinner.finish_and_clear();
    }

    fn spin(&self, text: &str) {
        self.spinner.set_message(text.to_owned());
        self.spinner.enable_steady_tick(TICK);
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            self.spinner.suspend(|| talk::note(text));
        }
    }
}
