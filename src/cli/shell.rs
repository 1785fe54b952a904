//! `aegis shell`: a terminal in a fresh sandbox.

use std::ffi::OsString;

use clap::Args;

use crate::cli::CommandResult;
use crate::cli::attached::{self, Stdio};
use crate::cli::failure::Failure;
use crate::cli::run::{SandboxArgs, command_bytes, order, streams_are_one_terminal};

/// What a shell is in an image that may have only the small one.
const SHELL: [&str; 3] = ["sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash; fi; exec sh"];

/// Open a terminal in a fresh sandbox.
#[derive(Debug, Args)]
pub struct ShellArgs {
    #[command(flatten)]
    sandbox: SandboxArgs,

    /// The shell; without it bash, or sh where the image has no bash
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Opens the terminal and gives the shell's exit status.
pub fn cmd_shell(args: &ShellArgs) -> CommandResult {
    if !streams_are_one_terminal() {
        return Err(Failure::usage("a shell needs a terminal, and these streams are none")
            .hint("run a script with `aegis run -- sh -c '…'`, or pass input with `aegis run -i -- sh`"));
    }
    let command = match args.command.as_slice() {
        [] => SHELL.iter().map(|it| it.as_bytes().to_vec()).collect(),
        given => command_bytes(given),
    };
    let stdio = Stdio::Terminal;
    attached::run(&args.sandbox, order(&args.sandbox, Some(command), stdio)?, stdio)
}
