//! `aegis serve`: the server, in this process, until a signal ends it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::api::listener::{Address, Plain};
use crate::app::AppError;
use crate::app::serve::interface::ListenOrder;
use crate::app::serve::pool::SlotsWanted;
use crate::app::serve::upstream::Upstream;
use crate::app::serve::{Role, ServeOrder, Stage, serve};
use crate::cli::client::ServerArgs;
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, flags, talk};
use crate::config::Directories;
use crate::fault::{self, Point};
use crate::intake::duration;
use crate::policy::shipped;
use crate::store::Protection;
use crate::task::ExitCode;

/// Runs at once at the most.
const WORKERS_MAX: usize = 1_024;
/// Waiting sandboxes of one kind at the most.
const SLOTS_MAX: usize = 64;
/// What is logged where the environment does not say.
const LOG_DEFAULT: &str = "aegis=info";
/// The variable that names the records' server.
const DATABASE_VARIABLE: &str = "AEGIS_DATABASE";
/// The variable that says it.
const LOG_VARIABLE: &str = "AEGIS_LOG";

/// The variable by which tests have a server die at a narrow place, `POINT[:PASSES]`; it does nothing else.
const FAULT_VARIABLE: &str = "AEGIS_FAULT";

/// Run what is queued, until SIGTERM or SIGINT: then what runs may end, and a second signal ends it at once.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The whole server, or a host that only runs what waits in the records of one
    #[arg(long, value_name = "server|worker", default_value = "server")]
    role: Part,

    /// This host's name among the workers; without it the one that the system gives it
    #[arg(long, value_name = "NAME", value_parser = flags::worker_name)]
    name: Option<String>,

    /// What this host offers, for runs that ask for it with --worker-label; repeatable; `arch` is there by itself
    #[arg(long = "label", value_name = "K=V", value_parser = flags::label)]
    labels: Vec<(String, String)>,

    /// Listen at unix:/PATH or ADDR:PORT; repeatable; without it at the usual socket
    #[arg(long, value_name = "unix:PATH|ADDR:PORT")]
    listen: Vec<Address>,

    /// Certificates for TCP, PEM; read anew when the file changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,

    /// Their key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,

    /// Let tokens cross the network in the clear, where something else protects them
    #[arg(long)]
    listen_without_tls: bool,

    /// PostgreSQL that keeps the records, instead of the state directory; a password is better given by the variable
    /// AEGIS_DATABASE, which no list of processes shows
    #[arg(long, value_name = "URL")]
    database: Option<String>,

    /// Take a PostgreSQL beyond this machine that does not prove who it is, where something else protects the way to it
    #[arg(long)]
    database_without_proof: bool,

    /// For a worker host: its server, as `https://HOST[:PORT]`, which takes what runs leave behind; AEGIS_SERVER says the
    /// same, AEGIS_TOKEN or AEGIS_TOKEN_FILE carries a token of the role `worker`
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,

    /// Runs at once; without it one for each CPU
    #[arg(long, value_name = "N", value_parser = workers)]
    workers: Option<usize>,

    /// Keep so many sandboxes of an image under a shipped policy waiting; repeatable
    #[arg(long = "slots", value_name = "IMAGE=POLICY:N", value_parser = slots)]
    slots: Vec<SlotsWanted>,

    /// Reach the engine through the broker at this socket; without it a broker is started, under this account
    #[arg(long, value_name = "unix:PATH", value_parser = broker)]
    broker: Option<PathBuf>,

    /// How long running tasks may go on after the first signal
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = drain)]
    drain: Duration,
}

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Server,
    Worker,
}

/// Serves.
pub fn cmd_serve(args: &ServeArgs) -> CommandResult {
    log();
    arm()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|it| Failure::of(&it))?;
    let workers = args.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let given = || std::env::var(DATABASE_VARIABLE).ok().filter(|it| !it.is_empty());
    let database = args.database.clone().or_else(given);
    let order = ServeOrder {
        role: role(args, database.as_deref())?,
        database,
        protection: if args.database_without_proof { Protection::Elsewhere } else { Protection::Proven },
        name: args.name.clone(),
        labels: args.labels.clone(),
        workers,
        slots: args.slots.clone(),
        drain: args.drain,
        broker: args.broker.clone(),
    };
    let upstream = upstream(args)?;
    let served = runtime.block_on(attend(order, upstream));
    runtime.shutdown_background();
    served.map_err(Failure::from)?;
    Ok(ExitCode::SUCCESS)
}

/// What the process is to be, with what belongs to it.
fn role(args: &ServeArgs, database: Option<&str>) -> Result<Role, Failure> {
    match args.role {
        Part::Server => Ok(Role::Server(ListenOrder {
            addresses: args.listen.clone(),
            tls: args.tls_certificate.clone().zip(args.tls_key.clone()),
            plain: if args.listen_without_tls { Plain::Anywhere } else { Plain::Loopback },
        })),
        Part::Worker if !args.listen.is_empty() => {
            Err(Failure::usage("a worker host listens nowhere").hint("leave `--listen` out"))
        }
        Part::Worker if database.is_none() => {
            Err(Failure::usage("a worker host needs the records of a server")
                .hint("name its PostgreSQL: AEGIS_DATABASE, or --database")
                .hint("on one machine `aegis serve` alone runs what is queued"))
        }
        Part::Worker => Ok(Role::Worker),
    }
}

/// The server of a worker host.
fn upstream(args: &ServeArgs) -> Result<Option<Arc<dyn Upstream>>, Failure> {
    match args.role {
        Part::Server if args.server.is_some() => {
            Err(Failure::usage("`--server` is for worker hosts").hint("this process is the server"))
        }
        Part::Server => Ok(None),
        Part::Worker => {
            let client = ServerArgs::of(args.server.clone()).named()?;
            let client = client.ok_or_else(|| {
                Failure::usage("a worker host needs its server, which keeps logs and outputs of runs")
                    .hint("name it: AEGIS_SERVER, or --server")
            })?;
            Ok(Some(Arc::new(client)))
        }
    }
}

async fn attend(order: ServeOrder, upstream: Option<Arc<dyn Upstream>>) -> Result<(), AppError> {
    let directories = Directories::of_this_user()?;
    let (tell, stage) = watch::channel(Stage::Serving);
    let workers = order.workers;
    let began = |places: &[String], name: &str| match places {
        [] => talk::note(&format!("serving with {workers} workers as `{name}`")),
        places => talk::note(&format!("serving with {workers} workers at {}", places.join(", "))),
    };
    tokio::select! {
        served = serve(order, directories, upstream, stage, began) => served,
        error = signals(tell) => Err(AppError::Read {
            what: "the signals of",
            path: std::path::PathBuf::from("this process"),
            source: error,
        }),
    }
}

/// Turns signals into stages; ends only if there can be none.
async fn signals(stage: watch::Sender<Stage>) -> std::io::Error {
    let made = || {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let hangup = signal(SignalKind::hangup())?;
        Ok::<_, std::io::Error>((interrupt, terminate, hangup))
    };
    let (mut interrupt, mut terminate, mut hangup) = match made() {
        Ok(signals) => signals,
        Err(error) => return error,
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            // A terminal that went away, or a service manager that has files read again: those that matter are read at
            // each start.
            _ = hangup.recv() => continue,
        }
        stage.send_modify(|it| {
            *it = match it {
                Stage::Serving => Stage::Draining,
                Stage::Draining | Stage::Stopping => Stage::Stopping,
            }
        });
        match *stage.borrow() {
            Stage::Serving => {}
            Stage::Draining => {
                talk::note("nothing more is claimed; what runs may end, and a second signal ends it")
            }
            Stage::Stopping => talk::note("what runs is ended"),
        }
    }
}

/// A server that is to die says so first: nobody is to look for another reason.
fn arm() -> Result<(), Failure> {
    let Some(text) = std::env::var(FAULT_VARIABLE).ok().filter(|it| !it.is_empty()) else { return Ok(()) };
    let (word, passes) = text.split_once(':').unwrap_or((&text, "0"));
    if passes.parse().is_ok_and(|passes| fault::arm(word, passes)) {
        talk::note(&format!("{FAULT_VARIABLE} is set: this server kills itself at `{text}`"));
        return Ok(());
    }
    let points = Point::ALL.map(Point::word).join(", ");
    Err(Failure::usage(format!("{FAULT_VARIABLE} is for tests: `POINT[:PASSES]`, with one of {points}")))
}

/// Log lines go to stderr; the service's manager adds the time.
fn log() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    // A second one is not installed: the first goes on.
    let _ = lines.with_ansi(talk::is_lively()).with_target(false).try_init();
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=WORKERS_MAX).contains(&count) => Ok(count),
        _ => Err(format!("it is a number from 1 to {WORKERS_MAX}")),
    }
}

/// `IMAGE=POLICY:N`; an image reference may have `:` in it, a policy's name has neither.
fn slots(text: &str) -> Result<SlotsWanted, String> {
    let form = || format!("it is IMAGE=POLICY:N, as in `aegis/base=strict:4`, with N from 1 to {SLOTS_MAX}");
    let (image, rest) = text.rsplit_once('=').ok_or_else(form)?;
    let (policy, count) = rest.split_once(':').ok_or_else(form)?;
    let count = count.parse().ok().filter(|it| (1..=SLOTS_MAX).contains(it)).ok_or_else(form)?;
    if image.is_empty() {
        return Err(form());
    }
    shipped(policy).map_err(|it| it.to_string())?;
    Ok(SlotsWanted { image: image.to_owned(), policy: policy.to_owned(), count })
}

fn broker(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix:").map(PathBuf::from).filter(|it| it.is_absolute());
    path.ok_or_else(|| "it is unix:/PATH, as in `unix:/run/aegis/broker.sock`".to_owned())
}

fn drain(text: &str) -> Result<Duration, String> {
    duration::parse(text).map(Duration::from_millis).map_err(|it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let told = match slots(text) {
            Ok(it) => format!("{} {} {}", it.image, it.policy, it.count),
            Err(error) => error,
        };
        assert!(told.contains(expected), "{told}");
    }

    #[test]
    fn slots_are_an_image_a_policy_and_a_number() {
        check("registry.example.org:5000/a:1=ci:3", "registry.example.org:5000/a:1 ci 3");
    }

    #[test]
    fn what_is_none_of_it_is_refused() {
        for text in
            ["aegis/base", "aegis/base=strict", "=strict:1", "aegis/base=strict:0", "aegis/base=strict:x"]
        {
            check(text, "IMAGE=POLICY:N");
        }
        check("aegis/base=none:1", "there is no policy");
    }
}
