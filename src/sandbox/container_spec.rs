//! The shape of a sandbox's container, from policy, image and slot. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aegis_init::wire;

use crate::container::{Bind, ContainerSpec, ImageFacts, Tmpfs, TrustBundle, WorkspaceVolume};
use crate::policy::{Policy, WorkspaceMedium};
use crate::sandbox::environment;

/// The workspace inside.
pub const WORKSPACE: &str = "/workspace";
/// The home directory inside.
pub const HOME: &str = "/run/home";
/// The host name inside: nothing of the host or of the run shows in it.
pub const HOSTNAME: &str = "sandbox";

/// Label: the instance that made a container.
pub const LABEL_INSTANCE: &str = "aegis.instance";
/// Label: the slot it belongs to.
pub const LABEL_SLOT: &str = "aegis.slot";
/// Label: the digest of its policy.
pub const LABEL_POLICY: &str = "aegis.policy";

/// Memory that init and the kernel's own bookkeeping need beside the task's, bytes.
pub const INIT_BYTES: u64 = 16 * 1024 * 1024;
/// Size of a volume that an image declares, bytes. Nothing of it outlives the sandbox.
const VOLUME_BYTES: u64 = 64 * 1024 * 1024;
/// Volumes of an image at the most.
pub const VOLUMES_MAX: usize = 8;
/// Inodes of `/tmp` and of a declared volume, and what a workspace may have beside those that came in.
pub const INODES_LARGE: u64 = 65_536;
/// Inodes of the home directory and `/dev/shm`.
const INODES_MEDIUM: u64 = 16_384;
/// Inodes of `/run`.
const INODES_SMALL: u64 = 2_048;
/// Places that no image may declare as a volume, with all that is below them.
const RESERVED: [&str; 4] = ["/proc", "/sys", "/dev", "/.aegis"];

/// What a container's shape depends on.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// The effective policy.
    pub policy: &'a Policy,
    /// Its digest, for the label.
    pub policy_digest: &'a str,
    /// The image.
    pub image: &'a ImageFacts,
    /// The instance's id.
    pub instance: &'a str,
    /// The slot's number.
    pub slot: u32,
    /// User and group id of the slot.
    pub uid: u32,
    /// The directory of the slot that the sandbox sees.
    pub slot_directory: &'a PathBuf,
    /// The files of authorities that the sandbox trusts, where they are not the image's own.
    pub bundles: &'a [TrustBundle],
    /// The layers of a workspace on disk.
    pub workspace: Option<&'a WorkspaceVolume>,
    /// The engine's runtime, by name.
    pub runtime: &'a str,
    /// The seccomp profile, as JSON.
    pub seccomp: &'a str,
    /// Paths that show nothing.
    pub masked_paths: &'a [&'a str],
    /// Kernel paths that cannot be written.
    pub readonly_paths: &'a [&'a str],
    /// Open files that this host grants at the most.
    pub nofile_max: u64,
}

/// An image that no sandbox of ours can carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefusal {
    /// A volume in the way of the sandbox's own places.
    #[error(
        "image: it declares the volume `{volume}`, a place of the sandbox itself; build one that does not"
    )]
    ReservedVolume {
        /// The path.
        volume: String,
    },
    /// Too many of them.
    #[error("image: it declares {count} volumes, and {VOLUMES_MAX} are the most; build one with fewer")]
    TooManyVolumes {
        /// How many.
        count: usize,
    },
    /// Not for this machine.
    #[error(
        "image: it is made for {os}/{architecture}, and sandboxes here run linux/amd64; use one for that"
    )]
    OtherArchitecture {
        /// As the engine names it.
        os: String,
        /// As the engine names it.
        architecture: String,
    },
}

/// The container for a slot.
pub fn container_spec(shape: &Shape<'_>) -> Result<ContainerSpec, ImageRefusal> {
    let image = shape.image;
    if image.os != "linux" || image.architecture != "amd64" {
        return Err(ImageRefusal::OtherArchitecture {
            os: image.os.clone(),
            architecture: image.architecture.clone(),
        });
    }
    let resources = &shape.policy.resources;
    let tmpfs = tmpfs(shape.policy, image)?;
    let nofile_hard = resources.nofile_hard.min(shape.nofile_max);
    let on_disk = shape.workspace.map(|_| shape.policy.filesystem.workspace_bytes);
    Ok(ContainerSpec {
        name: format!("aegis-{}-{}-{}", shape.instance, shape.slot, jiff::Timestamp::now().as_millisecond()),
        image_id: image.id.clone(),
        entrypoint: vec![wire::INIT_PATH.to_owned()],
        blanked_environment: environment::blanked(&image.environment),
        labels: labels(shape),
        hostname: HOSTNAME.to_owned(),
        uid: shape.uid,
        gid: shape.uid,
        runtime: shape.runtime.to_owned(),
        memory_bytes: resources.memory_bytes + tmpfs.iter().map(|it| it.bytes).sum::<u64>() + INIT_BYTES,
        file_bytes: tmpfs.iter().map(|it| it.bytes).chain(on_disk).max().unwrap_or(INIT_BYTES),
        tmpfs,
        binds: vec![Bind { source: shape.slot_directory.clone(), target: wire::SLOT_DIR.to_owned() }],
        bundles: shape.bundles.to_vec(),
        workspace: shape.workspace.cloned(),
        seccomp: shape.seccomp.to_owned(),
        masked_paths: shape.masked_paths.iter().map(|it| (*it).to_owned()).collect(),
        readonly_paths: shape.readonly_paths.iter().map(|it| (*it).to_owned()).collect(),
        // Init itself is one process more.
        pids: resources.pids,
        cpus_milli: resources.cpus_milli,
        nofile_soft: resources.nofile_soft.min(nofile_hard),
        nofile_hard,
        sysctls: BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())]),
    })
}

fn labels(shape: &Shape<'_>) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_INSTANCE.to_owned(), shape.instance.to_owned()),
        (LABEL_SLOT.to_owned(), shape.slot.to_string()),
        (LABEL_POLICY.to_owned(), shape.policy_digest.to_owned()),
    ])
}

fn tmpfs(policy: &Policy, image: &ImageFacts) -> Result<Vec<Tmpfs>, ImageRefusal> {
    let files = &policy.filesystem;
    let place = |point: &str, bytes: u64, inodes: u64, exec: bool| Tmpfs {
        point: point.to_owned(),
        bytes,
        inodes,
        exec,
    };
    let mut places = vec![
        place("/dev/shm", files.shm_bytes, INODES_MEDIUM, false),
        place("/run", files.run_bytes, INODES_SMALL, true),
        place(HOME, files.home_bytes, INODES_MEDIUM, true),
        place("/tmp", files.tmp_bytes, INODES_LARGE, true),
    ];
    if files.workspace == WorkspaceMedium::Memory {
        places.push(place(WORKSPACE, files.workspace_bytes, files.workspace_files + INODES_LARGE, true));
    }
    if image.volumes.len() > VOLUMES_MAX {
        return Err(ImageRefusal::TooManyVolumes { count: image.volumes.len() });
    }
    for volume in &image.volumes {
        let point = volume.trim_end_matches('/');
        if places.iter().any(|it| it.point == point) {
            continue;
        }
        if is_reserved(point) {
            return Err(ImageRefusal::ReservedVolume { volume: volume.escape_default().to_string() });
        }
        places.push(place(point, VOLUME_BYTES, INODES_LARGE, true));
    }
    Ok(places)
}

/// Whether a declared volume would be the root, no plain path, or in the way of our own places.
pub fn is_reserved(point: &str) -> bool {
    let plain = point.starts_with('/') && point.split('/').skip(1).all(|it| !matches!(it, "" | "." | ".."));
    let safe = point.bytes().all(|it| it.is_ascii_graphic() && !matches!(it, b',' | b':' | b'\\'));
    let below = |place: &str| point == place || point.starts_with(&format!("{place}/"));
    !plain || !safe || RESERVED.iter().any(|it| below(it)) || below("/run") || below(WORKSPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_volume(volume: &str, reserved: bool) {
        assert_eq!(is_reserved(volume), reserved, "{volume}");
    }

    #[test]
    fn a_plain_volume_becomes_a_place_in_memory() {
        check_volume("/var/lib/data", false);
    }

    #[test]
    fn a_volume_over_a_place_of_the_sandbox_is_refused() {
        for volume in
            ["", "/proc", "/proc/sys", "/sys", "/dev", "/.aegis", "/a/../proc", "/run/x", "relative", "/a,b"]
        {
            check_volume(volume, true);
        }
    }
}
