//! The broker of a server: what its process is told, and how a server has one again when it died.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::app::prepare::ceiling;
use crate::app::{AppError, host};
use crate::broker::BrokeredEngine;
use crate::broker::link::Order;
use crate::broker::rules::Bounds;
use crate::broker::server::Settings;
use crate::broker::shape::Ground;
use crate::config::Directories;
use crate::container::EngineError;
use crate::docker::{address, credentials};
use crate::policy::HostAmounts;
use crate::sandbox::slot;

/// What of the environment says where the engine and a login are.
const VARIABLES: [&str; 4] = ["DOCKER_HOST", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "HOME"];
/// The pause after the first broker that died at once, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A broker that lived so long died of something new.
const LONG: Duration = Duration::from_secs(60);

/// What the process of a broker works with: its arguments, this host, its environment.
pub fn settings(
    runtime_root: PathBuf,
    work_root: Option<PathBuf>,
    runtimes: BTreeSet<String>,
    server_uid: u32,
) -> Result<Settings, AppError> {
    let text = |name| std::env::var(name).ok();
    let engine = address::socket_path(text("DOCKER_HOST").as_deref(), text("XDG_RUNTIME_DIR").as_deref())?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let login_file = credentials::login_file(std::env::var_os("DOCKER_CONFIG").as_deref(), home.as_deref());
    let bounds = Bounds { host: host::amounts(&runtime_root), runtimes };
    Ok(Settings { engine, runtime_root, work_root, login_file, bounds, server_uid })
}

/// The one broker of a server.
#[derive(Debug)]
pub struct Brokers {
    order: Order,
    ground: Arc<Ground>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    engine: Option<BrokeredEngine>,
    opened: Option<Instant>,
    deaths: u32,
}

impl Brokers {
    /// For this instance: the one at a socket, else a process that is started when it is needed.
    pub fn new(socket: Option<PathBuf>, directories: &Directories, amounts: &HostAmounts) -> Self {
        // Where no work directory can be had there is no workspace on disk either.
        let work = directories.work().ok();
        let order = match socket {
            Some(path) => Order::Reach(path),
            None => started(directories, work.as_ref(), amounts),
        };
        let ground = Ground::of(directories.instance.clone(), directories.runtime.clone(), work);
        Self { order, ground: Arc::new(ground), state: Mutex::default() }
    }

    /// The engine behind the broker, which is had anew if it died: not at once, where that happens again and again.
    pub async fn engine(&self) -> Result<BrokeredEngine, EngineError> {
        let known = self.state().engine.clone();
        if let Some(engine) = known.filter(|it| !it.has_ended()) {
            return Ok(engine);
        }
        self.may_open(Instant::now())?;
        // It may have been emptied since; the broker looks whose it is, and says what is wrong with it.
        let _ = slot::make_private(&self.ground.runtime_directory);
        let engine = BrokeredEngine::open(&self.order, self.ground.clone()).await?;
        if let Some(pid) = engine.process_id() {
            tracing::info!(broker.pid = pid, "the broker is process {pid}");
        }
        self.state().engine = Some(engine.clone());
        Ok(engine)
    }

    fn may_open(&self, now: Instant) -> Result<(), EngineError> {
        let mut state = self.state();
        state.engine = None;
        if let Some(opened) = state.opened {
            let lived = now.saturating_duration_since(opened);
            if lived >= LONG {
                state.deaths = 0;
            } else if lived < pause(state.deaths) {
                return Err(EngineError::NotRunning {
                    address: "the broker, which died and is had again soon".to_owned(),
                    source: None,
                });
            }
            state.deaths = state.deaths.saturating_add(1);
        }
        state.opened = Some(now);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long after its start a broker is had again, which died that often in a row.
fn pause(deaths: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << deaths.min(10)).min(PAUSE_MAX)
}

fn started(directories: &Directories, work: Option<&PathBuf>, amounts: &HostAmounts) -> Order {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut argument = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    if let Some(root) = directories.runtime.parent() {
        argument("--runtime-root", root.into());
    }
    if let Some(root) = work.and_then(|it| it.parent()) {
        argument("--work-root", root.into());
    }
    // A ceiling that cannot be read is told with every run that it is asked for.
    let runtimes = ceiling(amounts).map(|it| it.policy.runtimes).unwrap_or_default();
    for runtime in runtimes {
        argument("--runtime", runtime.into());
    }
    let given = VARIABLES.iter().filter_map(|it| Some(((*it).to_owned(), std::env::var_os(it)?)));
    Order::Start { arguments, environment: given.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_dies_again_and_again_is_had_more_and_more_rarely() {
        let pauses: Vec<u128> = [0, 1, 2, 5, 10, 40].map(|it| pause(it).as_millis()).into();
        assert_eq!(pauses, [250, 500, 1_000, 8_000, 30_000, 30_000]);
    }
}
