//! `aegis run`: one command in a sandbox.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::Args;

use crate::app::project::FileUse;
use crate::app::{self, Changes, RunOrder, WorkspaceChoice};
use crate::cli::client::ServerArgs;
use crate::cli::failure::Failure;
use crate::cli::flags::{self, ResultTarget};
use crate::cli::{CommandResult, attached, ending, handed, print};
use crate::intake::variable;
use crate::policy::network::Rule;
use crate::policy::{Overrides, Pull};
use crate::task::{ExitCode, GitHistory, OutputRequest, Published, SecretRequest};

/// Milliseconds between SIGTERM and SIGKILL.
const GRACE_MS_DEFAULT: u64 = 2_000;
/// Milliseconds of grace at the most.
const GRACE_MS_MAX: u64 = 10 * 60 * 1000;
/// Bytes of an environment file at the most.
const ENV_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Run a command in a sandbox that is proven before the command starts.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub(super) sandbox: SandboxArgs,

    /// Pass standard input and its end; without it standard input is empty
    #[arg(short = 'i', long)]
    interactive: bool,

    /// Give the command a terminal; the default when all three streams are one terminal
    #[arg(short = 't', long)]
    tty: bool,

    /// Print what would be enforced and where each value comes from, and run nothing
    #[arg(long)]
    dry_run: bool,

    /// With --dry-run: JSON, with the engine's request
    #[arg(long, requires = "dry_run")]
    json: bool,

    /// Give the task to a server, print its id and return; `aegis wait`, `logs -f` and `cancel` go on from there
    #[arg(long, conflicts_with_all = ["interactive", "tty", "dry_run", "result", "output_dir"])]
    detach: bool,

    #[command(flatten)]
    server: ServerArgs,

    /// Run here, also where a server listens or AEGIS_SERVER names one
    #[arg(long, conflicts_with_all = ["detach", "server"])]
    local: bool,

    /// The command and its arguments; without it that of the project's aegis.toml
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The flags that say what of a project goes in.
#[derive(Debug, Args)]
pub struct WaysIn {
    /// What of the repository goes in: all of it without hooks and logins, only its last commit, or no `.git`
    #[arg(long, value_name = "full|shallow|none", default_value = "full", value_parser = flags::git)]
    git: GitHistory,

    /// Bring this file in although it looks like a secret, a path from the workspace's root; the policy must name it
    /// in `filesystem.include_secrets`; repeatable
    #[arg(long = "include-secret", value_name = "PATH", value_parser = flags::secret)]
    include_secrets: Vec<String>,

    /// Put this secret of `aegis secret` inside: as the file /run/secrets/NAME, under another name, or as a variable; the
    /// policy must name it in `secrets.files` or `secrets.environment`; repeatable
    #[arg(long = "secret", value_name = "NAME[=FILE|=env:VAR]", value_parser = flags::granted)]
    secrets: Vec<SecretRequest>,
}

/// The flags that say what a sandbox may reach, and from where it is reached.
#[derive(Debug, Args)]
pub struct WaysOut {
    /// Reach this host, unread, beside what the policy allows; port 443 unless named; repeatable
    #[arg(long = "allow-net", value_name = "HOST[:PORT]", value_parser = flags::allow_net)]
    allow_net: Vec<Rule>,

    /// Let every public name pass and record it, to learn which rules a task needs; the ceiling must permit it
    #[arg(long)]
    egress_audit: bool,

    /// Reach a port of the task at 127.0.0.1 of this host; the policy must list it in `network.publish`; repeatable
    #[arg(long = "publish", value_name = "127.0.0.1:PORT:PORT", value_parser = flags::publish)]
    publish: Vec<Published>,
}

/// The flags that say what a sandbox is: shared by `run` and `shell`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Policy by name, or a policy file (a path with `/` or ending in `.toml`); without it `strict`
    #[arg(long, value_name = "POLICY|FILE")]
    sandbox: Option<String>,

    /// Image; without it the one that aegis.toml or a look at the project gives, else `aegis/base`
    #[arg(long, value_name = "REF")]
    image: Option<String>,

    /// When the engine may fetch the image
    #[arg(long, value_name = "missing|never|always", value_parser = pull)]
    pull: Option<Pull>,

    /// Directory whose copy is the workspace; without it the project around the current directory
    #[arg(short = 'w', long, value_name = "DIR", conflicts_with = "no_workspace")]
    workspace: Option<PathBuf>,

    /// Copy nothing in
    #[arg(long)]
    no_workspace: bool,

    /// Leave the project's aegis.toml aside
    #[arg(long)]
    no_project_file: bool,

    #[command(flatten)]
    ways_in: WaysIn,

    #[command(flatten)]
    ways_out: WaysOut,

    /// Copy these files out after the end, a glob, relative to the workspace; repeatable
    #[arg(short = 'o', long = "output", value_name = "PATH")]
    outputs: Vec<String>,

    /// Where outputs go; without it a directory of the run below ./aegis-out
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,

    /// Do not keep what changes in the workspace: `aegis diff` and `aegis apply` have nothing then
    #[arg(long)]
    no_changes: bool,

    /// A variable of the command's environment; repeatable
    #[arg(short = 'e', long = "env", value_name = "K=V", value_parser = flags::variable)]
    environment: Vec<(String, String)>,

    /// A file of variables, NAME=value a line, taken literally
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// Working directory inside; without it the workspace
    #[arg(long, value_name = "DIR")]
    workdir: Option<String>,

    /// Wall time of the command, as 90s or 10m
    #[arg(long, value_name = "DUR", value_parser = flags::duration)]
    timeout: Option<u64>,

    /// Time between SIGTERM and SIGKILL, as 2s
    #[arg(long, value_name = "DUR", value_parser = flags::duration)]
    grace: Option<u64>,

    /// Memory, swap included, as 512MiB or 2GiB
    #[arg(long, value_name = "SIZE", value_parser = flags::size)]
    memory: Option<u64>,

    /// CPUs, as 2 or 0.5
    #[arg(long, value_name = "N", value_parser = flags::cpus)]
    cpus: Option<u64>,

    /// Processes and threads
    #[arg(long, value_name = "N", value_parser = flags::count)]
    pids_limit: Option<u64>,

    /// Size of /tmp
    #[arg(long, value_name = "SIZE", value_parser = flags::size)]
    tmp_size: Option<u64>,

    /// Size of the workspace
    #[arg(long, value_name = "SIZE", value_parser = flags::size)]
    workspace_size: Option<u64>,

    /// Bytes of standard output and error together
    #[arg(long, value_name = "SIZE", value_parser = flags::size)]
    output_limit: Option<u64>,

    /// The engine's runtime; the policy must accept it
    #[arg(long, value_name = "NAME", value_parser = flags::plain)]
    runtime: Option<String>,

    /// A name, shown in lists
    #[arg(long, value_parser = flags::plain)]
    name: Option<String>,

    /// A label, shown in lists; repeatable
    #[arg(long = "label", value_name = "K=V", value_parser = flags::label)]
    labels: Vec<(String, String)>,

    /// Write the result object at the end
    #[arg(long, value_name = "FILE|fd:N", value_parser = flags::result_target)]
    pub(super) result: Option<ResultTarget>,

    /// No talk of Aegis on stderr
    #[arg(short = 'q', long)]
    pub(super) quiet: bool,
}

/// Runs the command and gives its exit status.
pub fn cmd_run(args: &RunArgs) -> CommandResult {
    let stdio =
        if args.detach { attached::Stdio::Output } else { attached::Stdio::of(args.interactive, args.tty) };
    let given = (!args.command.is_empty()).then(|| command_bytes(&args.command));
    let order = order(&args.sandbox, given, stdio)?;
    if args.dry_run {
        return ending::dry_run(&order, args.json);
    }
    if args.detach {
        return detach(args, &order);
    }
    if let Some(offer) = if args.local { None } else { args.server.for_run()? }
        && let Some(code) = handed::run(&offer, &args.sandbox, &order, stdio)?
    {
        return Ok(code);
    }
    attached::run(&args.sandbox, order, stdio)
}

/// Gives the task to a server.
fn detach(args: &RunArgs, order: &RunOrder) -> CommandResult {
    let client = args.server.any()?;
    let runtime = attached::runtime()?;
    let submitted = runtime.block_on(client.submit(order));
    runtime.shutdown_background();
    print::data(&submitted?.id)?;
    Ok(ExitCode::SUCCESS)
}

/// What `run` and `shell` ask of the application.
pub(super) fn order(
    args: &SandboxArgs,
    command: Option<Vec<Vec<u8>>>,
    stdio: attached::Stdio,
) -> Result<RunOrder, Failure> {
    let grace_ms = args.grace.unwrap_or(GRACE_MS_DEFAULT);
    if grace_ms > GRACE_MS_MAX {
        return Err(Failure::usage("`--grace` is longer than 10m").hint("give 10m or less"));
    }
    if let Some(argument) = command.iter().flatten().find(|it| it.contains(&0)) {
        let shown = crate::task::escape::escape(argument);
        return Err(Failure::usage(format!(
            "the argument `{shown}` holds a NUL byte, which no program can be given"
        )));
    }
    if command.as_ref().is_some_and(|it| it.first().is_none_or(Vec::is_empty)) {
        return Err(Failure::usage("the command is empty").hint("name a program after `--`"));
    }
    Ok(RunOrder {
        policy: args.sandbox.clone(),
        overrides: overrides(args),
        name: args.name.clone(),
        labels: args.labels.clone(),
        command,
        image: args.image.clone(),
        project_file: if args.no_project_file { FileUse::Ignore } else { FileUse::Read },
        workspace: workspace(args),
        git: args.ways_in.git,
        include_secrets: args.ways_in.include_secrets.clone(),
        publish: args.ways_out.publish.clone(),
        secrets: args.ways_in.secrets.clone(),
        workdir: workdir(args)?,
        environment: environment(args)?,
        outputs: args.outputs.iter().map(|it| OutputRequest { pattern: it.clone() }).collect(),
        output_directory: args.output_dir.clone(),
        changes: if args.no_changes { Changes::Dropped } else { Changes::Kept },
        grace_ms,
        terminal: stdio.terminal(),
    })
}

fn overrides(args: &SandboxArgs) -> Overrides {
    Overrides {
        memory_bytes: args.memory,
        cpus_milli: args.cpus,
        pids: args.pids_limit,
        tmp_bytes: args.tmp_size,
        workspace_bytes: args.workspace_size,
        output_bytes: args.output_limit,
        wall_time_ms: args.timeout,
        pull: args.pull,
        runtime: args.runtime.clone(),
        allow_net: args.ways_out.allow_net.clone(),
        egress_audit: args.ways_out.egress_audit,
    }
}

fn workspace(args: &SandboxArgs) -> WorkspaceChoice {
    match (&args.workspace, args.no_workspace) {
        (_, true) => WorkspaceChoice::None,
        (Some(directory), false) => WorkspaceChoice::Directory(directory.clone()),
        (None, false) => WorkspaceChoice::Project,
    }
}

fn workdir(args: &SandboxArgs) -> Result<Option<String>, Failure> {
    match &args.workdir {
        Some(path) if path.is_empty() || path.contains('\0') => Err(Failure::usage("`--workdir` is no path")
            .hint("give a directory inside the sandbox, as /workspace/src")),
        Some(path) => Ok(Some(path.clone())),
        None => Ok(None),
    }
}

fn environment(args: &SandboxArgs) -> Result<Vec<(String, String)>, Failure> {
    let mut variables = Vec::new();
    if let Some(file) = &args.env_file {
        let text = app::read_bounded(file, ENV_FILE_BYTES_MAX).map_err(|it| {
            Failure::of(&it).hint("`--env-file` takes a text file of NAME=value lines, 1 MiB at the most")
        })?;
        let parsed = variable::parse_file(&text);
        variables = parsed.map_err(|it| Failure::usage(format!("`{}`: {it}", file.display())))?;
    }
    variables.extend(args.environment.iter().cloned());
    Ok(variables)
}

fn pull(text: &str) -> Result<Pull, String> {
    match text {
        "never" => Ok(Pull::Never),
        "missing" => Ok(Pull::Missing),
        "always" => Ok(Pull::Always),
        _ => Err("give missing, never or always".to_owned()),
    }
}

/// Arguments as bytes, as the kernel gave them.
pub(super) fn command_bytes(command: &[OsString]) -> Vec<Vec<u8>> {
    command.iter().map(|it| it.clone().into_vec()).collect()
}

/// Whether all three standard streams are one terminal.
pub(super) fn streams_are_one_terminal() -> bool {
    let all =
        std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    all && {
        let numbers: Vec<_> = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
            .into_iter()
            .map(|it| rustix::fs::fstat(it).map(|stat| stat.st_rdev).unwrap_or_default())
            .collect();
        numbers.iter().all(|it| *it == numbers[0])
    }
}
