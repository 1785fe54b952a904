//! A warm sandbox: made and proven before there is a task for it. It is used once, for a task whose container would have
//! been the same, after a second look; what is in doubt is destroyed.

use std::time::{Duration, Instant};

use aegis_init::wire::{Reply, Request};
use futures_util::FutureExt;
use sha2::{Digest, Sha256};

use crate::container::{ContainerSpec, Engine, EngineError, ImageFacts, WorkspaceVolume};
use crate::executor::starting::{self, NotStanding, Place, Standing, Timings};
use crate::policy::{Admitted, WorkspaceMedium};
use crate::sandbox::attestation::json::AttestationReport;
use crate::sandbox::attestation::outside::OutsideView;
use crate::sandbox::attestation::{Difference, engine};
use crate::sandbox::channel::ChannelError;
use crate::sandbox::container_spec::{self, Shape};
use crate::sandbox::masks;
use crate::sandbox::seccomp::{Filter, Profile};

/// How long a warm sandbox may wait.
pub const AGE_MAX: Duration = Duration::from_secs(10 * 60);
/// What its init waits longer than that, before it ends by itself.
const AGE_SLACK: Duration = Duration::from_secs(60);
/// Time that init may take to answer when its task comes.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// Digits of a key that is shown.
const SHOWN_DIGITS: usize = 12;

/// Which tasks a sandbox may be used for: those whose container would be the same. It is the whole request to the engine,
/// without what is a slot's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(ContainerSpec);

/// A sandbox that waits.
#[derive(Debug)]
pub struct Waiting {
    standing: Standing,
    key: Key,
    born: Instant,
}

/// Why a warm sandbox was not used.
#[derive(Debug, thiserror::Error)]
pub enum Doubt {
    /// Nobody answers in it.
    #[error("its init does not answer")]
    Silent(#[source] ChannelError),
    /// It said something else.
    #[error("its init said what nobody asked for")]
    Unasked,
    /// Somebody else is in it.
    #[error("{others} processes are in it that nobody started")]
    Company {
        /// How many.
        others: u32,
    },
    /// The engine does not know it any more, or does not answer.
    #[error("the engine does not show it")]
    Unseen(#[source] EngineError),
    /// It is not what was proven.
    #[error("it is not what was proven: {difference}")]
    Changed {
        /// The first difference.
        difference: String,
    },
}

impl Key {
    /// The key of a task. `None` where nothing can be made ahead: a sandbox with authorities of its own has those of its run.
    pub fn of(place: &Place, admitted: &Admitted, image: &ImageFacts) -> Option<Self> {
        if place.authorities.is_some() || place.base.is_some() || admitted.policy().network.inspects_tls() {
            return None;
        }
        let filter = Filter::new(Profile::of(admitted.policy()));
        let nowhere = std::path::PathBuf::from("/");
        let layer = WorkspaceVolume {
            point: container_spec::WORKSPACE.to_owned(),
            lower: nowhere.clone(),
            upper: nowhere.clone(),
            work: nowhere.clone(),
        };
        let on_disk = admitted.policy().filesystem.workspace == WorkspaceMedium::Disk;
        let cpus = crate::sandbox::attestation::outside::cpus();
        let (masked, read_only) = (masks::masked_paths(cpus), masks::readonly_paths());
        let shape = Shape {
            policy: admitted.policy(),
            policy_digest: "",
            image,
            instance: "",
            slot: 0,
            uid: place.mapped_uid.unwrap_or(0),
            slot_directory: &nowhere,
            bundles: &[],
            workspace: on_disk.then_some(&layer),
            runtime: admitted.runtime(),
            seccomp: filter.document(),
            masked_paths: &masked.iter().map(String::as_str).collect::<Vec<_>>(),
            readonly_paths: &read_only.iter().map(String::as_str).collect::<Vec<_>>(),
            nofile_max: place.nofile_max,
        };
        let mut spec = container_spec::container_spec(&shape).ok()?;
        // It has the time in it.
        spec.name.clear();
        Some(Self(spec))
    }

    /// A few digits of it, for people.
    pub fn shown(&self) -> String {
        let mut digits = hex::encode(Sha256::digest(format!("{:?}", self.0)));
        digits.truncate(SHOWN_DIGITS);
        digits
    }
}

impl Waiting {
    /// Makes and proves a sandbox ahead of its task. `key` is that of the same place, policy and image.
    pub async fn make<E: Engine>(
        engine: &E,
        place: &Place,
        admitted: &Admitted,
        image: &ImageFacts,
        key: Key,
    ) -> Result<Self, NotStanding> {
        let lifetime_ms = u64::try_from((AGE_MAX + AGE_SLACK).as_millis()).unwrap_or(u64::MAX);
        let created = starting::create(engine, place, admitted, image).await?;
        let mut timings = Timings::since(Instant::now());
        let standing = starting::prove(engine, created, lifetime_ms, &mut timings).await?;
        Ok(Self { standing, key, born: Instant::now() })
    }

    /// The tasks it may be used for.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// How long it has waited.
    pub fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Number and container.
    pub fn bound(&self) -> crate::record::Slot {
        self.standing.bound()
    }

    /// Whether nothing speaks against it so far: its init is there, and says nothing.
    pub fn is_sound(&mut self) -> bool {
        self.age() < AGE_MAX && self.standing.receiver.receive().now_or_never().is_none()
    }

    /// Ends it unused.
    pub async fn retire<E: Engine>(self, engine: &E) {
        starting::discard(engine, &self.standing.container).await;
    }

    /// Gives it to a task that may live `lifetime_ms`, after a second look. What is in doubt is destroyed.
    pub async fn wake<E: Engine>(mut self, engine: &E, lifetime_ms: u64) -> Result<Standing, Doubt> {
        let waited = self.age();
        match looked_at(engine, &mut self.standing, lifetime_ms).await {
            Ok(()) => {
                self.standing.attestation = with_wait(&self.standing.attestation, waited);
                Ok(self.standing)
            }
            Err(doubt) => {
                self.retire(engine).await;
                Err(doubt)
            }
        }
    }
}

/// The second look: init answers and is alone, the engine shows the container as it was asked for, and the kernel what it
/// showed when the sandbox was proven.
async fn looked_at<E: Engine>(engine: &E, standing: &mut Standing, lifetime_ms: u64) -> Result<(), Doubt> {
    let Standing { sender, receiver, container, settings, seen, init, .. } = standing;
    let answered = async {
        sender.send(&Request::Begin { lifetime_ms }, &[]).await.map_err(Doubt::Silent)?;
        let late = |_| Doubt::Silent(ChannelError::NobodyCame { waited: ANSWER_TIME_MAX });
        let received = tokio::time::timeout(ANSWER_TIME_MAX, receiver.receive()).await.map_err(late)?;
        match received.map_err(Doubt::Silent)?.message {
            Reply::Begun { others: 0 } => Ok(()),
            Reply::Begun { others } => Err(Doubt::Company { others }),
            _ => Err(Doubt::Unasked),
        }
    };
    let inspected = async { engine.inspect(container).await.map_err(Doubt::Unseen) };
    let (inspected, ()) = tokio::try_join!(inspected, answered)?;
    let mut differences = engine::compare(settings, &inspected.settings);
    if let (Some(then), Some(pid)) = (seen, init) {
        differences.extend(changed(then, &OutsideView::read(*pid)));
    }
    match differences.first() {
        None => Ok(()),
        Some(difference) => Err(Doubt::Changed { difference: difference.to_string() }),
    }
}

/// What the host sees otherwise than when the sandbox was proven.
fn changed(then: &OutsideView, now: &OutsideView) -> Vec<Difference> {
    let status = |view: &OutsideView| view.status.as_deref().map(privileges);
    let shown = |text: &Option<Vec<u8>>| text.as_deref().map(|it| String::from_utf8_lossy(it).into_owned());
    let views = [
        ("status", status(then), status(now)),
        ("mountinfo", shown(&then.mountinfo), shown(&now.mountinfo)),
        ("cgroup", shown(&then.cgroup), shown(&now.cgroup)),
        ("limits", shown(&then.limits), shown(&now.limits)),
        ("uid_map", shown(&then.uid_map), shown(&now.uid_map)),
        ("net/route", shown(&then.net_route), shown(&now.net_route)),
        ("ns", Some(format!("{:?}", then.namespaces)), Some(format!("{:?}", now.namespaces))),
    ];
    let mut differences = Vec::new();
    for (name, then, now) in views {
        if then != now {
            let (then, now) = (then.unwrap_or_default(), now.unwrap_or_default());
            differences.push(Difference::new(format!("/proc/<pid>/{name}"), &then, &now));
        }
    }
    differences
}

/// The lines of a status that say what a process may do; the others say how it is.
fn privileges(status: &[u8]) -> String {
    const FIELDS: [&str; 12] = [
        "Uid:",
        "Gid:",
        "Groups:",
        "NSpid:",
        "TracerPid:",
        "CapInh:",
        "CapPrm:",
        "CapEff:",
        "CapBnd:",
        "CapAmb:",
        "NoNewPrivs:",
        "Seccomp:",
    ];
    let text = String::from_utf8_lossy(status);
    let lines = text.lines().filter(|line| FIELDS.iter().any(|it| line.starts_with(it)));
    lines.collect::<Vec<_>>().join("\n")
}

/// The proof, with how long ago it was.
fn with_wait(attestation: &str, waited: Duration) -> String {
    let Ok(mut report) = serde_json::from_str::<AttestationReport>(attestation) else {
        return attestation.to_owned();
    };
    report.waited_ms = Some(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
    serde_json::to_string(&report).unwrap_or_else(|_| attestation.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(status: &str, mountinfo: &str) -> OutsideView {
        OutsideView {
            pid: 7,
            status: Some(status.as_bytes().to_vec()),
            mountinfo: Some(mountinfo.as_bytes().to_vec()),
            cgroup: None,
            limits: None,
            uid_map: None,
            net_route: None,
            namespaces: Vec::new(),
            host_namespaces: Vec::new(),
        }
    }

    fn check(now: OutsideView, expected: &[&str]) {
        let then = view("Name:\tinit\nVmRSS:\t1 kB\nCapEff:\t0\n", "1 2 3\n");
        let told: Vec<String> = changed(&then, &now).iter().map(|it| it.field.clone()).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn memory_that_moved_is_no_difference() {
        check(view("Name:\tinit\nVmRSS:\t9 kB\nCapEff:\t0\n", "1 2 3\n"), &[]);
    }

    #[test]
    fn a_capability_that_appeared_is_one() {
        check(view("CapEff:\tffff\n", "1 2 3\n"), &["/proc/<pid>/status"]);
    }

    #[test]
    fn a_mount_that_appeared_is_one() {
        check(view("CapEff:\t0\n", "1 2 3\n4 5 6\n"), &["/proc/<pid>/mountinfo"]);
    }
}
