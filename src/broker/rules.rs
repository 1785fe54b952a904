//! What a broker holds each request to. Pure: what lies on the disk is looked at by `places`.

use std::collections::BTreeSet;

use crate::broker::wire::Create;
use crate::policy::HostAmounts;
use crate::policy::lattice::accepts_runtime;
use crate::sandbox::container_spec::{HOME, INIT_BYTES, VOLUMES_MAX, WORKSPACE, is_reserved};
use crate::sandbox::enforceable::MAPPED_UID;
use crate::sandbox::slot;

/// Places in memory that every sandbox has.
const OWN_PLACES: [&str; 5] = ["/dev/shm", "/run", HOME, "/tmp", WORKSPACE];
/// Bytes of all places in memory together at the most, on a small host. They count against the sandbox's memory.
const PLACES_BYTES: u64 = 16 << 30;
/// Files of one place at the most.
const INODES_MAX: u64 = 1 << 28;
/// Variables that are blanked, and bytes of a name.
const VARIABLES_MAX: usize = 1_024;
const NAME_BYTES_MAX: usize = 1_024;
/// Digits of an instance's id, of an id of the engine's, and of a moment.
const INSTANCE_DIGITS: usize = 8;
const ID_DIGITS: usize = 64;
const MOMENT_DIGITS_MAX: usize = 20;
/// Milliseconds since the epoch that are a moment: up to the year 5138.
const MOMENT_MS_MAX: u64 = 100_000_000_000_000;
/// Bytes of a runtime's name.
const RUNTIME_BYTES_MAX: usize = 64;
/// Bytes of a reference.
const REFERENCE_BYTES_MAX: usize = 512;

/// What a broker was told when it was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// What the host has: no sandbox gets more.
    pub host: HostAmounts,
    /// Runtimes that may be asked for.
    pub runtimes: BTreeSet<String>,
}

/// A request that the broker does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A value that may not be.
    #[error("`{field}` {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What would be bound or written is not the slot's own.
    #[error("`{path}` is not what a slot has there: {reason}")]
    Place {
        /// Below the directories that the broker was told.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else's.
    #[error("the container `{container}` is none of the instance `{instance}`")]
    Foreign {
        /// Its id.
        container: String,
        /// Whose it would have to be.
        instance: String,
    },
    /// The first request is another.
    #[error("the instance is told first, once")]
    Order,
}

/// Whether it is an instance's id.
pub fn instance(id: &str) -> Result<(), Refusal> {
    hexadecimal("instance", id, INSTANCE_DIGITS)
}

/// Whether it is a container's whole id: a name, a part of an id or a path is none.
pub fn container(id: &str) -> Result<(), Refusal> {
    hexadecimal("container", id, ID_DIGITS)
}

/// Whether it can be an image's reference, and nothing else in a path of the engine's interface.
pub fn reference(text: &str) -> Result<(), Refusal> {
    let plain = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-/:@".contains(&it));
    let parts = text.split('/').all(|it| !matches!(it, "" | "." | ".."));
    if plain && parts && text.len() <= REFERENCE_BYTES_MAX {
        return Ok(());
    }
    Err(wrong("reference", "is no image reference"))
}

/// Whether a container may be made like this.
pub fn create(create: &Create, bounds: &Bounds) -> Result<(), Refusal> {
    within("slot", create.slot.into(), 0, u64::from(slot::SLOTS_MAX) - 1)?;
    within("moment_ms", create.moment_ms, 0, MOMENT_MS_MAX)?;
    match create.image_id.strip_prefix("sha256:") {
        Some(digits) => hexadecimal("image_id", digits, ID_DIGITS)?,
        None => return Err(wrong("image_id", "is no image's id, which begins with `sha256:`")),
    }
    hexadecimal("policy_digest", &create.policy_digest, ID_DIGITS)?;
    environment(&create.blanked_environment)?;
    if create.uid != slot::UID_FIRST + create.slot && create.uid != MAPPED_UID {
        return Err(wrong("uid", "is not the slot's own"));
    }
    let plain = create.runtime.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it));
    if !plain
        || create.runtime.len() > RUNTIME_BYTES_MAX
        || !accepts_runtime(&bounds.runtimes, &create.runtime)
    {
        let known: Vec<&str> = bounds.runtimes.iter().map(String::as_str).collect();
        return Err(wrong("runtime", &format!("is none that this broker was told of: {}", known.join(", "))));
    }
    if let Some(name) = &create.layers {
        layers(name, create.slot)?;
    }
    amounts(create, &bounds.host)
}

fn environment(names: &[String]) -> Result<(), Refusal> {
    if names.len() > VARIABLES_MAX {
        return Err(wrong("blanked_environment", "has too many names"));
    }
    let is_name =
        |it: &String| !it.is_empty() && it.len() <= NAME_BYTES_MAX && !it.contains(['=', '\0', '\n']);
    if names.iter().all(is_name) {
        return Ok(());
    }
    Err(wrong("blanked_environment", "has something that is no name"))
}

/// `<slot>.<moment>`, and so nothing that leads elsewhere.
fn layers(name: &str, slot: u32) -> Result<(), Refusal> {
    let moment = name.split_once('.').filter(|(number, _)| *number == slot.to_string()).map(|it| it.1);
    let is_moment =
        |it: &str| (1..=MOMENT_DIGITS_MAX).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_digit());
    if moment.is_some_and(is_moment) {
        return Ok(());
    }
    Err(wrong("layers", "are not named for the slot"))
}

fn amounts(create: &Create, host: &HostAmounts) -> Result<(), Refusal> {
    places(create)?;
    let sizes = create.tmpfs.iter().map(|it| it.bytes);
    let places = sizes.fold(0, u64::saturating_add);
    within("tmpfs", places, 0, PLACES_BYTES.max(host.memory_bytes))?;
    let beside = places.saturating_add(INIT_BYTES);
    within("memory_bytes", create.memory_bytes, INIT_BYTES, host.memory_bytes.saturating_add(beside))?;
    within("pids", create.pids, 1, host.pids)?;
    within("cpus_milli", create.cpus_milli, 1, host.cpus_milli)?;
    within("nofile_hard", create.nofile_hard, 1, host.nofile)?;
    within("nofile_soft", create.nofile_soft, 1, create.nofile_hard)?;
    within("file_bytes", create.file_bytes, 1, i64::MAX.unsigned_abs())
}

fn places(create: &Create) -> Result<(), Refusal> {
    if create.tmpfs.len() > OWN_PLACES.len() + VOLUMES_MAX {
        return Err(wrong("tmpfs", "has too many places"));
    }
    for (index, place) in create.tmpfs.iter().enumerate() {
        let point = place.point.as_str();
        if !OWN_PLACES.contains(&point) && is_reserved(point) {
            return Err(wrong("tmpfs", "has a place that is the sandbox's own"));
        }
        if create.tmpfs[..index].iter().any(|it| it.point == point) {
            return Err(wrong("tmpfs", "has a place twice"));
        }
        if create.layers.is_some() && point == WORKSPACE {
            return Err(wrong("tmpfs", "has the workspace, which is on disk"));
        }
        within("tmpfs", place.bytes, 1, i64::MAX.unsigned_abs())?;
        within("tmpfs", place.inodes, 1, INODES_MAX)?;
    }
    Ok(())
}

fn within(field: &'static str, amount: u64, least: u64, most: u64) -> Result<(), Refusal> {
    if (least..=most).contains(&amount) {
        return Ok(());
    }
    Err(wrong(field, &format!("is {amount}, which is out of bounds: {least} to {most}")))
}

fn hexadecimal(field: &'static str, text: &str, digits: usize) -> Result<(), Refusal> {
    let is_digit = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
    if text.len() == digits && text.bytes().all(is_digit) {
        return Ok(());
    }
    Err(wrong(field, &format!("is not {digits} hexadecimal digits")))
}

fn wrong(field: &'static str, reason: &str) -> Refusal {
    Refusal::Field { field, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::shape::tests::create as sound;
    use crate::broker::wire::Place;

    fn bounds() -> Bounds {
        let host = HostAmounts {
            memory_bytes: 4 << 30,
            cpus_milli: 2000,
            pids: 32_768,
            nofile: 20_000,
            disk_bytes: 1 << 40,
        };
        Bounds { host, runtimes: BTreeSet::from(["runc".to_owned()]) }
    }

    #[test]
    fn the_shape_is_followed() {
        assert_eq!(create(&sound(), &bounds()), Ok(()));
    }

    fn check(change: impl FnOnce(&mut Create), expected: &str) {
        let mut asked = sound();
        change(&mut asked);
        let refusal = create(&asked, &bounds()).expect_err("refused").to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }

    #[test]
    fn an_image_by_tag_is_refused() {
        for image in ["aegis/base", "debian:12", "sha256:abc", "sha256:../../x", ""] {
            check(|it| it.image_id = image.to_owned(), "`image_id`");
        }
    }

    #[test]
    fn another_user_is_refused() {
        for uid in [0, 1000, 2_000_000_008, 2_000_010_000] {
            check(|it| it.uid = uid, "`uid` is not the slot's own");
        }
    }

    #[test]
    fn another_runtime_is_refused() {
        for runtime in ["", "runsc", "../runc", "runc ", "io.containerd.runc.v2"] {
            check(|it| it.runtime = runtime.to_owned(), "`runtime` is none");
        }
    }

    #[test]
    fn amounts_beyond_the_host_are_refused() {
        check(|it| it.memory_bytes = u64::MAX, "`memory_bytes`");
        check(|it| it.memory_bytes = 0, "`memory_bytes`");
        check(|it| it.pids = 0, "`pids`");
        check(|it| it.pids = u64::MAX, "`pids`");
        check(|it| it.cpus_milli = 3000, "`cpus_milli`");
        check(|it| it.cpus_milli = 0, "`cpus_milli`");
        check(|it| it.nofile_hard = 1 << 30, "`nofile_hard`");
        check(|it| it.nofile_soft = 5000, "`nofile_soft`");
        check(|it| it.file_bytes = u64::MAX, "`file_bytes`");
        check(|it| it.slot = 4096, "`slot`");
    }

    #[test]
    fn a_place_over_the_sandboxs_own_is_refused() {
        for point in ["/", "/proc", "/sys/kernel", "/dev", "/.aegis", "/a/../proc", "relative", "/a,exec", ""]
        {
            let place = Place { point: point.to_owned(), bytes: 1, inodes: 1, exec: true };
            check(|it| it.tmpfs.push(place), "`tmpfs` has a place that is the sandbox's own");
        }
        let twice = sound().tmpfs[0].clone();
        check(|it| it.tmpfs.push(twice), "`tmpfs` has a place twice");
        check(|it| it.tmpfs[0].bytes = u64::MAX, "`tmpfs`");
        check(|it| it.tmpfs[0].inodes = 0, "`tmpfs`");
    }

    #[test]
    fn layers_of_another_name_are_refused() {
        for name in ["", "7", "7.", "8.1", "7.1/..", "../7.1", "7.1.2", "7.a", "07.1"] {
            check(|it| it.layers = Some(name.to_owned()), "`layers`");
        }
    }

    #[test]
    fn a_name_that_would_set_a_variable_is_refused() {
        for name in ["", "A=b", "A\nB", "A\0"] {
            check(|it| it.blanked_environment = vec![name.to_owned()], "`blanked_environment`");
        }
    }

    #[test]
    fn only_whole_ids_and_plain_references_are_taken() {
        for id in ["", "abc", "../images/x", "name", &"g".repeat(64), &"A".repeat(64)] {
            assert!(container(id).is_err(), "{id}");
        }
        assert!(container(&"0a".repeat(32)).is_ok());
        for text in ["", "../containers/x", "a/../b", "a//b", "a?b", "a b", "a#b", "a%2e", "/a"] {
            assert!(reference(text).is_err(), "{text}");
        }
        for text in ["aegis/base", "127.0.0.1:5000/a:1", "a@sha256:00", "sha256:00"] {
            assert!(reference(text).is_ok(), "{text}");
        }
    }
}
