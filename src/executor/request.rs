//! A command as init is told: argv, environment and working directory as bytes.

use aegis_init::wire::{Exec, Stdio};
use serde_bytes::ByteBuf;

use crate::container::ImageFacts;
use crate::sandbox::container_spec::{HOME, HOSTNAME, WORKSPACE};
use crate::sandbox::environment::{self, Place};
use crate::task::TaskSpec;

/// Number of the task's own command.
pub const MAIN: u32 = 0;
/// The kind of terminal where the caller's is not known.
pub const TERM_DEFAULT: &str = "xterm-256color";

/// The environment of a task's command.
pub fn environment(
    image: &ImageFacts,
    task: &TaskSpec,
    stdio: Stdio,
    variables: &[(String, String)],
) -> Vec<String> {
    let terminal = match stdio {
        Stdio::Pipes => None,
        Stdio::Terminal { .. } => Some(TERM_DEFAULT),
    };
    let place = Place { home: HOME, hostname: HOSTNAME, terminal, variables };
    environment::environment(&image.environment, place, &task.environment)
}

/// The task's own command.
pub fn main_command(
    task: &TaskSpec,
    environment: &[String],
    stdio: Stdio,
    timeout_ms: u64,
    grace_ms: u64,
) -> Exec {
    Exec {
        id: MAIN,
        argv: task.command.iter().map(|it| ByteBuf::from(it.clone())).collect(),
        env: environment.iter().map(|it| ByteBuf::from(it.as_bytes())).collect(),
        cwd: ByteBuf::from(task.workdir.as_deref().unwrap_or(WORKSPACE).as_bytes()),
        stdio,
        timeout_ms: Some(timeout_ms),
        grace_ms,
    }
}
