//! What a command says when it cannot do its work: one line of what, a line for each cause, hints on lines of their own.

use std::error::Error;
use std::io::{self, ErrorKind};

use crate::app::AppError;
use crate::app::project::ProjectError;
use crate::container::EngineError;
use crate::task::ExitCode;

/// Causes that are printed at the most.
const CAUSES_MAX: usize = 8;

/// A failure, ready to be shown.
#[derive(Debug)]
pub struct Failure {
    /// What could not be done.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do.
    pub hints: Vec<String>,
    /// The exit status.
    pub exit_code: ExitCode,
}

impl Failure {
    /// A failure of Aegis itself (125).
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), hints: Vec::new(), exit_code: ExitCode::AEGIS }
    }

    /// Wrong usage (2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit_code: ExitCode::USAGE, ..Self::new(message) }
    }

    /// The same with a hint more.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same with another exit status.
    pub fn with_exit_code(self, exit_code: ExitCode) -> Self {
        Self { exit_code, ..self }
    }

    /// The failure as a JSON object, in the place of a run's result.
    pub fn as_json(&self) -> String {
        serde_json::json!({
            "schema": "aegis.failure/1",
            "message": self.message,
            "causes": self.causes,
            "hints": self.hints,
            "exit_code": self.exit_code.get(),
        })
        .to_string()
    }

    /// An error with its causes.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut failure = Self::new(error.to_string());
        let mut cause = error.source();
        while let Some(current) = cause {
            if failure.causes.len() == CAUSES_MAX {
                break;
            }
            failure.causes.push(current.to_string());
            cause = current.source();
        }
        failure
    }

    /// An error of our own directories with what to do about it.
    fn of_storage(error: &(dyn Error + 'static)) -> Self {
        let failure = Self::of(error);
        let mut cause = Some(error);
        while let Some(current) = cause {
            match current.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                    return failure.hint(
                        "the disk is full: free some of it, as with `aegis gc`, or set AEGIS_STATE_DIR",
                    );
                }
                Some(ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => {
                    return failure.hint("set AEGIS_STATE_DIR to a directory that this user can write");
                }
                _ => cause = current.source(),
            }
        }
        failure
    }

    /// An engine's error with what to do about it.
    pub fn of_engine(error: &EngineError) -> Self {
        let failure = Self::of(error);
        match error {
            EngineError::NotRunning { .. } => failure
                .hint("start it: `systemctl start docker`, or `dockerd` as root")
                .hint("or point DOCKER_HOST at the socket of a running one: `unix:///path/to/docker.sock`"),
            EngineError::PermissionDenied { .. } => {
                failure.hint("run as root, or as a member of the group that owns the socket").hint(
                    "membership of the `docker` group is root on this host: SECURITY.md says what that means",
                )
            }
            EngineError::ImageNotFound { image } => match image.strip_prefix("aegis/") {
                Some(name) => failure
                    .hint(format!("build it: `aegis image build {}`", name.trim_end_matches(":latest")))
                    .hint("or name another one: `--image`"),
                None => failure.hint("allow the engine to fetch it: `--pull missing`"),
            },
            EngineError::TimedOut { .. } => {
                failure.hint("the engine is overloaded or stuck: look at its log")
            }
            EngineError::Unsupported { .. }
            | EngineError::ContainerNotFound { .. }
            | EngineError::Refused { .. } => failure,
        }
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        match &error {
            AppError::Engine(engine) => Self::of_engine(engine),
            AppError::Denied(denials) => {
                let mut failure = Self::of(&error);
                for denial in denials {
                    failure.causes.push(format!("{}: {}", denial.field.key().path, denial.message));
                    // Several fields may have one way out.
                    if !failure.hints.contains(&denial.hint) {
                        failure.hints.push(denial.hint.clone());
                    }
                }
                failure
            }
            AppError::Cancelled(by) => {
                Self::of(&error).with_exit_code(ExitCode::of(&crate::task::Outcome::Cancelled(*by)))
            }
            AppError::Open(_) | AppError::Record(_) | AppError::Directory(_) | AppError::Use { .. } => {
                Self::of_storage(&error)
            }
            AppError::Project(ProjectError::NoCommand) => {
                Self { exit_code: ExitCode::USAGE, ..Self::of(&error) }
                    .hint("`aegis init` writes an aegis.toml with a command that fits the project")
            }
            AppError::Unenforceable(missing) => Self { causes: missing.clone(), ..Self::of(&error) },
            AppError::Policy(_)
            | AppError::Ceiling(_)
            | AppError::Workspace(_)
            | AppError::Root(_)
            | AppError::Upload(_)
            | AppError::Outputs(_)
            | AppError::Project(_)
            | AppError::Pull(_)
            | AppError::Listen(_)
            | AppError::Secret(_)
            | AppError::Superseded(_)
            | AppError::Operator(_)
            | AppError::Backup(_)
            | AppError::Publish(_)
            | AppError::Roots(_)
            | AppError::Authority(_)
            | AppError::Credential { .. }
            | AppError::Read { .. } => Self::of(&error),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let mut causes = error.chain().map(ToString::to_string);
        let message = causes.next().unwrap_or_default();
        Self { causes: causes.take(CAUSES_MAX).collect(), ..Self::new(message) }
    }
}
