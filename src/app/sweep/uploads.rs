//! Uploaded workspaces that go: drafts of requests that were cut, what nobody used for long, and the least recently used
//! above what they may use together. What a run that has not ended may need stays, whatever that comes to.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::config::Retention;

/// A project's names for uploads, beside the uploads.
const PROJECTS: &str = "projects";
/// How the name of an upload begins, and that of one that is being written.
const UPLOAD: &str = "sha256-";
const DRAFT: &str = "draft-";
/// Younger ones may belong to a request that is still being answered.
const YOUNG: Duration = Duration::from_secs(60 * 60);
/// A request that writes for longer has ended.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Names that are looked at.
const NAMES_MAX: usize = 1_000_000;

/// An upload as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Upload {
    name: String,
    bytes: u64,
    used: SystemTime,
}

/// Which go, with their bytes: drafts and uploads by name. `needed_since` is when the oldest run was accepted that has not
/// ended.
pub(super) fn gone(
    place: &Path,
    retention: &Retention,
    needed_since: Option<SystemTime>,
    now: SystemTime,
) -> io::Result<Vec<(String, u64)>> {
    let (mut uploads, mut gone) = (Vec::new(), Vec::new());
    let entries = match std::fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    for entry in entries.take(NAMES_MAX) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that goes away at this moment is none.
        let Ok(metadata) = entry.metadata() else { continue };
        let (bytes, used) = (metadata.len(), metadata.modified().unwrap_or(now));
        if name.starts_with(DRAFT) && age(used, now) > DRAFT_AGE_MAX {
            gone.push((name, bytes));
        } else if name.starts_with(UPLOAD) && metadata.is_file() {
            uploads.push(Upload { name, bytes, used });
        }
    }
    gone.extend(past(uploads, retention, needed_since, now));
    Ok(gone)
}

/// Those past their age, then the least recently used until the rest fits.
fn past(
    mut uploads: Vec<Upload>,
    retention: &Retention,
    needed_since: Option<SystemTime>,
    now: SystemTime,
) -> Vec<(String, u64)> {
    uploads.sort_by(|one, other| one.used.cmp(&other.used).then_with(|| one.name.cmp(&other.name)));
    let mut total: u64 = uploads.iter().map(|it| it.bytes).sum();
    let mut gone = Vec::new();
    for it in uploads {
        // A submission notes the use before the run is accepted.
        let needed = needed_since.is_some_and(|since| it.used + YOUNG >= since);
        if needed || age(it.used, now) < YOUNG {
            continue;
        }
        if total > retention.upload_bytes_max || age(it.used, now) > retention.upload_age_max {
            total -= it.bytes;
            gone.push((it.name, it.bytes));
        }
    }
    gone
}

fn age(used: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(used).unwrap_or_default()
}

/// Removes one under every name that it has.
pub(super) fn remove(place: &Path, name: &str) -> io::Result<()> {
    let mut places = BTreeSet::from([place.to_owned()]);
    match std::fs::read_dir(place.join(PROJECTS)) {
        Ok(projects) => places.extend(projects.flatten().take(NAMES_MAX).map(|it| it.path())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for place in places {
        match std::fs::remove_file(place.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    /// Uploads of 10 bytes each, by hours since their use.
    fn check(hours: &[u32], bytes_max: u64, needed_hours: Option<u32>, expected: &[u32]) {
        let now = SystemTime::UNIX_EPOCH + 1000 * HOUR;
        let uploads = hours
            .iter()
            .map(|it| Upload { name: it.to_string(), bytes: 10, used: now - *it * HOUR })
            .collect();
        let retention =
            Retention { upload_bytes_max: bytes_max, upload_age_max: 100 * HOUR, ..Retention::standard() };
        let gone = past(uploads, &retention, needed_hours.map(|it| now - it * HOUR), now);
        let names: Vec<String> = gone.into_iter().map(|it| it.0).collect();
        assert_eq!(names, expected.iter().map(ToString::to_string).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_old_goes() {
        check(&[101, 99], 1_000, None, &[101]);
    }

    #[test]
    fn the_least_recently_used_goes_until_the_rest_fits() {
        check(&[10, 30, 20], 25, None, &[30]);
        check(&[10, 30, 20], 5, None, &[30, 20, 10]);
    }

    #[test]
    fn what_a_run_may_need_stays_and_what_is_young_does() {
        check(&[300, 150, 0], 0, Some(200), &[300]);
        check(&[0], 0, None, &[]);
    }

    #[test]
    fn one_goes_under_every_name() {
        let place = tempfile::tempdir().expect("a directory");
        let projects = place.path().join("projects/a");
        std::fs::create_dir_all(&projects).expect("made");
        std::fs::write(place.path().join("sha256-1"), "content").expect("written");
        std::fs::hard_link(place.path().join("sha256-1"), projects.join("sha256-1")).expect("linked");
        remove(place.path(), "sha256-1").expect("removed");
        assert_eq!(std::fs::read_dir(&projects).expect("there").count(), 0);
        assert_eq!(gone(place.path(), &Retention::standard(), None, SystemTime::now()).expect("read"), []);
    }
}
