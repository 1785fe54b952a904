//! The `aegis` program: parse, run, print the failure, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(aegis::cli::main().get())
}
