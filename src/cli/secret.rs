//! `aegis secret`: values that are kept out of every output, and that can be put inside a sandbox.

use std::io::{BufRead, IsTerminal, Read};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, Termios};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::failure::Failure;
use crate::cli::{CommandResult, flags, print, talk};
use crate::config::Directories;
use crate::config::secrets::{Origin, Secret, SecretError, SecretStore, hide_this_process};
use crate::intake::variable;
use crate::record::now_ms;
use crate::redact::value::VALUE_BYTES_MAX;
use crate::report::amount;
use crate::task::ExitCode;
use crate::task::escape::escape;

/// Keep secrets: encrypted, out of every output, and inside a sandbox only where its policy names them.
#[derive(Debug, Args)]
pub struct SecretArgs {
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Keep a value, read from standard input (on a terminal without showing it), or say where it is
    Set {
        /// Its name: letters, digits, `.`, `_` and `-`
        #[arg(value_name = "NAME", value_parser = flags::secret_name)]
        name: String,

        /// Keep no value: it is in this variable of whoever uses it
        #[arg(long, value_name = "VAR", conflicts_with = "from_file")]
        from_env: Option<String>,

        /// Keep no value: it is in this file
        #[arg(long, value_name = "PATH")]
        from_file: Option<PathBuf>,
    },
    /// List the names, and where the values are
    Ls {
        /// JSON, one object
        #[arg(long)]
        json: bool,
    },
    /// Remove secrets; if one of them is not there, none
    Rm {
        /// Their names
        #[arg(required = true, value_name = "NAME", value_parser = flags::secret_name)]
        names: Vec<String>,
    },
    /// Give a secret a new value, or without a name encrypt the store with a new key
    Rotate {
        /// The secret; it must be there
        #[arg(value_name = "NAME", value_parser = flags::secret_name)]
        name: Option<String>,
    },
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self::of(&error).with_exit_code(ExitCode::FAILURE)
    }
}

/// Carries the command out.
pub fn cmd_secret(args: &SecretArgs) -> CommandResult {
    let directories = Directories::of_this_user().map_err(|it| Failure::of(&it))?;
    let store = SecretStore::of(&directories.state);
    match &args.command {
        SecretCommand::Set { name, from_env, from_file } => {
            let origin = match (from_env, from_file) {
                (Some(variable), _) => Some(variable_origin(variable)?),
                (None, Some(path)) => Some(file_origin(path)?),
                (None, None) => None,
            };
            set(&store, name, origin)
        }
        SecretCommand::Ls { json } => list(&store, *json),
        SecretCommand::Rm { names } => {
            store.remove(names)?;
            talk::note(&format!("removed {}", names.join(", ")));
            Ok(ExitCode::SUCCESS)
        }
        SecretCommand::Rotate { name: Some(name) } => {
            store.find(name)?;
            set(&store, name, None)
        }
        SecretCommand::Rotate { name: None } => {
            store.rotate_key()?;
            talk::note("the store has a new key; the values are what they were");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn variable_origin(name: &str) -> Result<Origin, Failure> {
    variable::check(name, "").map_err(|it| Failure::usage(it.to_string()))?;
    Ok(Origin::Variable(name.to_owned()))
}

fn file_origin(path: &PathBuf) -> Result<Origin, Failure> {
    let whole = std::path::absolute(path).map_err(|it| Failure::of(&it))?;
    Ok(Origin::File(whole))
}

fn set(store: &SecretStore, name: &str, origin: Option<Origin>) -> CommandResult {
    hide_this_process()?;
    let now_ms = now_ms();
    let secret = match origin {
        None => Secret::stored(name, &typed(name)?, now_ms)?,
        Some(origin) => {
            let secret = Secret { name: name.to_owned(), origin, set_ms: now_ms };
            match secret.known() {
                // Whoever uses it may have the variable where this command does not.
                Ok(_) | Err(SecretError::NoVariable { .. }) => secret,
                Err(error) => return Err(error.into()),
            }
        }
    };
    let replaced = store.set(secret)?;
    talk::note(&format!("{} `{name}`", if replaced { "replaced" } else { "set" }));
    Ok(ExitCode::SUCCESS)
}

/// The value: a line that is typed twice, or everything on standard input.
fn typed(name: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if !std::io::stdin().is_terminal() {
        let mut value = Zeroizing::new(Vec::with_capacity(VALUE_BYTES_MAX + 3));
        let bytes_max = VALUE_BYTES_MAX as u64 + 3;
        std::io::stdin().lock().take(bytes_max).read_to_end(&mut value).map_err(|it| Failure::of(&it))?;
        return Ok(value);
    }
    let quiet = Quiet::enter().ok_or_else(|| {
        Failure::new("this terminal shows what is typed, and cannot be told not to")
            .hint(format!("pipe the value in: `aegis secret set {name} <file`"))
    })?;
    talk::note(&format!("the value of `{name}` (it is not shown):"));
    let first = line()?;
    talk::note("the same again:");
    let second = line()?;
    drop(quiet);
    if *first != *second {
        return Err(Failure::usage("the two are not the same: nothing was set"));
    }
    Ok(first)
}

fn line() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut value = Zeroizing::new(Vec::with_capacity(VALUE_BYTES_MAX + 3));
    let mut input = std::io::stdin().lock().take(VALUE_BYTES_MAX as u64 + 3);
    input.read_until(b'\n', &mut value).map_err(|it| Failure::of(&it))?;
    Ok(value)
}

/// A terminal that does not show what is typed; dropped, it is as it was.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn enter() -> Option<Self> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ICANON | LocalModes::ISIG);
        // What was typed before the question was shown is not an answer to it.
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &quiet).ok()?;
        Some(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone has no mode.
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

fn list(store: &SecretStore, json: bool) -> CommandResult {
    let secrets = store.read()?;
    if json {
        let listed: Vec<Value> = secrets.iter().map(as_json).collect();
        print::data(&json!({"schema": "aegis.secret.list/1", "secrets": listed}).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let lines: Vec<String> = secrets.iter().map(as_line).collect();
    if !lines.is_empty() {
        print::data(&lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(secret: &Secret) -> Value {
    let (source, place) = match &secret.origin {
        Origin::Stored(_) => ("stored", Value::Null),
        Origin::Variable(variable) => ("variable", Value::String(variable.clone())),
        Origin::File(path) => ("file", Value::String(escape(path.as_os_str().as_encoded_bytes()))),
    };
    json!({"name": secret.name, "source": source, "place": place, "set_at": amount::date(secret.set_ms)})
}

fn as_line(secret: &Secret) -> String {
    let place = match &secret.origin {
        Origin::Stored(_) => "stored".to_owned(),
        Origin::Variable(variable) => format!("variable {variable}"),
        Origin::File(path) => format!("file {}", escape(path.as_os_str().as_encoded_bytes())),
    };
    format!("{:<24} {:<24} {place}", secret.name, amount::date(secret.set_ms))
}
