//! `aegis demo`: a package whose install script steals is installed under `strict`. Home and secrets are the demo's own, made
//! for it and gone after it. The script says what it tried; whether it got anything, the host looks for itself.

mod attempts;
mod home;

pub use attempts::{Attempt, Got};
pub use home::Canary;

use std::path::PathBuf;

use serde_json::json;

use crate::app::attack::canary::Canary as Listener;
use crate::app::attack::{Capture, IMAGE, attended, quiet_order};
use crate::app::demo::home::Home;
use crate::app::{AppError, provision};
use crate::config::Directories;
use crate::container::Engine;
use crate::policy::Overrides;
use crate::task::{Cancellation, Outcome};

/// Wall time of the install, milliseconds.
const WALL_MS_MAX: u64 = 60_000;
/// The label of the demo's run.
const LABEL: (&str, &str) = ("aegis.demo", "install");
/// The package: names and contents.
const PACKAGE: [(&str, &str); 2] = [
    ("setup.py", include_str!("../../examples/stealing-package/setup.py")),
    ("tiny_format.py", include_str!("../../examples/stealing-package/tiny_format.py")),
];

/// A demo that is set up: what lies there to be stolen.
pub struct Stage {
    home: Home,
    listener: Listener,
    word: String,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What the script says it tried.
    pub attempts: Vec<Attempt>,
    /// Whether the package was installed all the same.
    pub installed: bool,
    /// What the host found out of place; empty is safe.
    pub losses: Vec<String>,
    /// Why the sandbox was refused; nothing ran then.
    pub refused: Vec<String>,
    /// The run's short id.
    pub run: Option<String>,
}

impl Shown {
    /// Whether the script ran, was heard out, and got nothing.
    pub fn safe(&self) -> bool {
        let stopped = self.attempts.iter().all(|it| it.got == Got::Nothing);
        self.refused.is_empty() && self.losses.is_empty() && stopped && !self.attempts.is_empty()
    }
}

impl Stage {
    /// Makes a home with secrets, a project and a listener.
    pub async fn set() -> Result<Self, AppError> {
        // Asked for first: without the image there is nothing to show.
        provision::connect().await?.image(IMAGE).await?;
        let word = uuid::Uuid::now_v7().simple().to_string();
        let used =
            |source| AppError::Use { what: "the temporary directory", path: std::env::temp_dir(), source };
        let home = Home::make(&word, &PACKAGE).map_err(used)?;
        let listener = Listener::listen(&word).map_err(|source| AppError::Use {
            what: "a listener on",
            path: PathBuf::from("this host"),
            source,
        })?;
        let targets = json!({
            "home": home.path(),
            "env": home.project().join(".env"),
            "addresses": listener.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "port": listener.port(),
            "mark": word,
        });
        std::fs::write(home.package().join("targets.json"), targets.to_string()).map_err(used)?;
        Ok(Self { home, listener, word })
    }

    /// What lies there.
    pub fn canaries(&self) -> &[Canary] {
        self.home.canaries()
    }

    /// The demo's own home.
    pub fn home(&self) -> PathBuf {
        self.home.path()
    }

    /// Installs the package, and looks what it got.
    pub async fn play(&self, directories: &Directories) -> Result<Shown, AppError> {
        let printed = Capture::new();
        let overrides = Overrides { wall_time_ms: Some(WALL_MS_MAX), ..Overrides::NONE };
        let package = self.home.package();
        let command = ["python3", "setup.py", "install"];
        let order = quiet_order("demo".to_owned(), LABEL, overrides, &package, &command);
        let (finished, cancelled) = attended(&order, directories, &printed).await;
        if cancelled {
            return Err(AppError::Cancelled(Cancellation::Interrupt));
        }
        let run = match finished {
            Ok(finished) => finished.run,
            Err(AppError::Unenforceable(refused)) => return Ok(self.shown(&printed, refused, None)),
            Err(error) => return Err(error),
        };
        let refused = match run.end.as_ref().map(|it| &it.outcome) {
            Some(Outcome::Refused { differences }) => differences.clone(),
            Some(Outcome::Exited(0)) | None => Vec::new(),
            Some(other) => vec![format!("the install ended otherwise: {other}")],
        };
        Ok(self.shown(&printed, refused, Some(run.id.short())))
    }

    fn shown(&self, printed: &Capture, refused: Vec<String>, run: Option<String>) -> Shown {
        let text = printed.text();
        let mut losses = self.home.losses();
        if self.listener.heard() > 0 {
            losses.push("a listener on this host heard the script".to_owned());
        }
        if printed.holds(&self.word) {
            losses.push("a secret stands in what the script printed".to_owned());
        }
        Shown {
            attempts: attempts::parse(&text),
            installed: text.lines().any(|it| it == "@installed"),
            losses,
            refused,
            run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(printed: &str, losses: &[&str], refused: &[&str]) -> Shown {
        Shown {
            attempts: attempts::parse(printed),
            installed: true,
            losses: losses.iter().map(|it| (*it).to_owned()).collect(),
            refused: refused.iter().map(|it| (*it).to_owned()).collect(),
            run: None,
        }
    }

    #[test]
    fn a_script_that_was_stopped_everywhere_is_safe() {
        assert!(shown("@attempt\tx\tstopped\ty\n", &[], &[]).safe());
    }

    #[test]
    fn what_it_got_what_the_host_missed_and_what_never_ran_is_not() {
        assert!(!shown("@attempt\tx\tgot\ty\n", &[], &[]).safe());
        assert!(!shown("@attempt\tx\tstopped\ty\n", &["a file was changed"], &[]).safe());
        assert!(!shown("@attempt\tx\tstopped\ty\n", &[], &["Seccomp is 0 (off)"]).safe());
        assert!(!shown("", &[], &[]).safe());
    }
}
