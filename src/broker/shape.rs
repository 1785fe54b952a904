//! A container's whole shape from what a request says, and back. Everything that a request does not say is the same for
//! every sandbox of an instance, or follows from its slot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use aegis_init::wire::{INIT_PATH, SLOT_DIR};

use crate::broker::wire::Create;
use crate::container::{Bind, ContainerSpec, WorkspaceVolume};
use crate::sandbox::attestation::outside;
use crate::sandbox::container_spec::{HOSTNAME, LABEL_INSTANCE, LABEL_POLICY, LABEL_SLOT, WORKSPACE};
use crate::sandbox::seccomp::{Filter, Profile};
use crate::sandbox::{masks, trust};

/// What every sandbox of an instance has in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// The instance's id.
    pub instance: String,
    /// Where its slots lie.
    pub runtime_directory: PathBuf,
    /// Where its workspaces on disk lie; `None` where there can be none.
    pub work_directory: Option<PathBuf>,
    /// Paths that show nothing.
    pub masked_paths: Vec<String>,
    /// Kernel paths that cannot be written.
    pub readonly_paths: Vec<String>,
}

impl Ground {
    /// That of an instance on this host.
    pub fn of(instance: String, runtime_directory: PathBuf, work_directory: Option<PathBuf>) -> Self {
        let (masked_paths, readonly_paths) = (masks::masked_paths(outside::cpus()), masks::readonly_paths());
        Self { instance, runtime_directory, work_directory, masked_paths, readonly_paths }
    }

    /// What a slot's sandbox sees of it.
    pub fn inner_directory(&self, slot: u32) -> PathBuf {
        self.runtime_directory.join("slots").join(slot.to_string()).join("in")
    }

    /// The layers of a workspace, by their name; `None` where there are none.
    pub fn layers(&self, name: &str) -> Option<PathBuf> {
        Some(self.work_directory.as_ref()?.join("runs").join(name))
    }
}

/// The container that a request stands for.
pub fn whole(create: &Create, ground: &Ground) -> ContainerSpec {
    let inner = ground.inner_directory(create.slot);
    let layers = create.layers.as_ref().and_then(|it| ground.layers(it));
    ContainerSpec {
        name: format!("aegis-{}-{}-{}", ground.instance, create.slot, create.moment_ms),
        image_id: create.image_id.clone(),
        entrypoint: vec![INIT_PATH.to_owned()],
        blanked_environment: create.blanked_environment.clone(),
        labels: BTreeMap::from([
            (LABEL_INSTANCE.to_owned(), ground.instance.clone()),
            (LABEL_SLOT.to_owned(), create.slot.to_string()),
            (LABEL_POLICY.to_owned(), create.policy_digest.clone()),
        ]),
        hostname: HOSTNAME.to_owned(),
        uid: create.uid,
        gid: create.uid,
        runtime: create.runtime.clone(),
        tmpfs: create.tmpfs.iter().cloned().map(Into::into).collect(),
        bundles: if create.authorities { trust::bundles(&inner) } else { Vec::new() },
        binds: vec![Bind { source: inner, target: SLOT_DIR.to_owned() }],
        workspace: layers.map(|it| WorkspaceVolume {
            point: WORKSPACE.to_owned(),
            lower: it.join("lower"),
            upper: it.join("upper"),
            work: it.join("work"),
        }),
        seccomp: document(create.filter.into()).to_owned(),
        masked_paths: ground.masked_paths.clone(),
        readonly_paths: ground.readonly_paths.clone(),
        memory_bytes: create.memory_bytes,
        pids: create.pids,
        cpus_milli: create.cpus_milli,
        nofile_soft: create.nofile_soft,
        nofile_hard: create.nofile_hard,
        file_bytes: create.file_bytes,
        sysctls: BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())]),
    }
}

/// The request for a container; `None` for one that none stands for.
pub fn request(spec: &ContainerSpec, ground: &Ground) -> Option<Create> {
    let slot: u32 = spec.labels.get(LABEL_SLOT)?.parse().ok()?;
    let moment = spec.name.strip_prefix(&format!("aegis-{}-{slot}-", ground.instance))?;
    let layers = match &spec.workspace {
        Some(volume) => Some(volume.upper.parent()?.file_name()?.to_str()?.to_owned()),
        None => None,
    };
    let create = Create {
        slot,
        moment_ms: moment.parse().ok()?,
        image_id: spec.image_id.clone(),
        policy_digest: spec.labels.get(LABEL_POLICY)?.clone(),
        blanked_environment: spec.blanked_environment.clone(),
        uid: spec.uid,
        runtime: spec.runtime.clone(),
        tmpfs: spec.tmpfs.iter().cloned().map(Into::into).collect(),
        authorities: !spec.bundles.is_empty(),
        layers,
        filter: profile(&spec.seccomp)?.into(),
        memory_bytes: spec.memory_bytes,
        pids: spec.pids,
        cpus_milli: spec.cpus_milli,
        nofile_soft: spec.nofile_soft,
        nofile_hard: spec.nofile_hard,
        file_bytes: spec.file_bytes,
    };
    (whole(&create, ground) == *spec).then_some(create)
}

/// Every built-in profile with its document.
fn documents() -> &'static [(Profile, String)] {
    static DOCUMENTS: OnceLock<Vec<(Profile, String)>> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        let profile = |bits: u8| Profile {
            ptrace: bits & 1 != 0,
            netlink_route: bits & 2 != 0,
            preallocation: bits & 4 != 0,
        };
        (0..8).map(profile).map(|it| (it, Filter::new(it).document().to_owned())).collect()
    })
}

fn document(profile: Profile) -> &'static str {
    documents().iter().find(|(known, _)| *known == profile).map_or("", |(_, document)| document)
}

fn profile(document: &str) -> Option<Profile> {
    documents().iter().find(|(_, known)| known == document).map(|(profile, _)| *profile)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::broker::wire::{Filter as Asked, Place};

    pub(crate) fn ground() -> Ground {
        Ground::of("0badcafe".to_owned(), "/run/aegis/0badcafe".into(), Some("/var/lib/w/0badcafe".into()))
    }

    pub(crate) fn create() -> Create {
        Create {
            slot: 7,
            moment_ms: 1_700_000_000_000,
            image_id: format!("sha256:{}", "a".repeat(64)),
            policy_digest: "b".repeat(64),
            blanked_environment: vec!["LD_PRELOAD".to_owned()],
            uid: 2_000_000_007,
            runtime: "runc".to_owned(),
            tmpfs: vec![Place { point: "/tmp".to_owned(), bytes: 1 << 20, inodes: 100, exec: true }],
            authorities: false,
            layers: None,
            filter: Asked { ptrace: true, netlink_route: true, preallocation: true },
            memory_bytes: 64 << 20,
            pids: 100,
            cpus_milli: 1000,
            nofile_soft: 1024,
            nofile_hard: 4096,
            file_bytes: 1 << 20,
        }
    }

    fn check(change: impl FnOnce(&mut Create)) {
        let mut create = create();
        change(&mut create);
        let spec = whole(&create, &ground());
        assert_eq!(request(&spec, &ground()), Some(create));
    }

    #[test]
    fn what_is_left_out_comes_back() {
        check(|_| {});
        check(|it| it.authorities = true);
        check(|it| it.layers = Some("7.1700000000000000".to_owned()));
        check(|it| it.filter.ptrace = false);
    }

    fn check_none(change: impl FnOnce(&mut ContainerSpec)) {
        let mut spec = whole(&create(), &ground());
        change(&mut spec);
        assert_eq!(request(&spec, &ground()), None);
    }

    #[test]
    fn a_container_of_another_shape_cannot_be_asked_for() {
        check_none(|it| it.binds[0].source = "/".into());
        check_none(|it| it.binds.push(Bind { source: "/etc".into(), target: "/x".to_owned() }));
        check_none(|it| it.seccomp = "{}".to_owned());
        check_none(|it| it.masked_paths.clear());
        check_none(|it| it.entrypoint = vec!["/bin/sh".to_owned()]);
        check_none(|it| it.hostname = "host".to_owned());
        check_none(|it| it.gid = 0);
        check_none(|it| drop(it.labels.insert("x".to_owned(), "y".to_owned())));
        check_none(|it| drop(it.sysctls.insert("kernel.x".to_owned(), "1".to_owned())));
    }

    #[test]
    fn every_profile_is_told_from_the_others() {
        let mut all: Vec<&str> = documents().iter().map(|(_, it)| it.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 8);
    }
}
