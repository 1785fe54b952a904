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
pub(super) struct Upload {
    pub(super) name: String,
    pub(super) bytes: u64,
    used: SystemTime,
}

/// What became of an upload that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// It is gone.
    Done,
    /// Somebody has used it since it was looked at: it stays.
    Used,
}

/// Which go, drafts and uploads. `needed` are the digests that runs need which have not ended.
pub(super) fn gone(
    place: &Path,
    retention: &Retention,
    needed: &BTreeSet<String>,
    now: SystemTime,
) -> io::Result<Vec<Upload>> {
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
            gone.push(Upload { name, bytes, used });
        } else if name.starts_with(UPLOAD) && metadata.is_file() {
            uploads.push(Upload { name, bytes, used });
        }
    }
    gone.extend(past(uploads, retention, needed, now));
    Ok(gone)
}

/// Those past their age, then the least recently used until the rest fits.
fn past(
    mut uploads: Vec<Upload>,
    retention: &Retention,
    needed: &BTreeSet<String>,
    now: SystemTime,
) -> Vec<Upload> {
    uploads.sort_by(|one, other| one.used.cmp(&other.used).then_with(|| one.name.cmp(&other.name)));
    let mut total: u64 = uploads.iter().map(|it| it.bytes).sum();
    let mut gone = Vec::new();
    for it in uploads {
        // A submission notes the use before the run is accepted: until it is, the upload is young.
        if needed.contains(&it.name.replacen("sha256-", "sha256:", 1)) || age(it.used, now) < YOUNG {
            continue;
        }
        if total > retention.upload_bytes_max || age(it.used, now) > retention.upload_age_max {
            total -= it.bytes;
            gone.push(it);
        }
    }
    gone
}

fn age(used: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(used).unwrap_or_default()
}

/// Removes one under every name that it has, unless it was used meanwhile. Its own name goes last: as long as that is there,
/// a sweep that was cut goes on with it.
pub(super) fn remove(place: &Path, upload: &Upload) -> io::Result<Removal> {
    let mut places = Vec::new();
    match std::fs::read_dir(place.join(PROJECTS)) {
        Ok(projects) => places.extend(projects.flatten().take(NAMES_MAX).map(|it| it.path())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    places.push(place.to_owned());
    for one in places {
        if used_since(place, upload)? {
            return Ok(Removal::Used);
        }
        match std::fs::remove_file(one.join(&upload.name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(Removal::Done)
}

fn used_since(place: &Path, upload: &Upload) -> io::Result<bool> {
    match std::fs::metadata(place.join(&upload.name)).and_then(|it| it.modified()) {
        Ok(used) => Ok(used != upload.used),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    /// Uploads of 10 bytes each, by hours since their use.
    fn check(hours: &[u32], bytes_max: u64, needed: &[u32], expected: &[u32]) {
        let now = SystemTime::UNIX_EPOCH + 1000 * HOUR;
        let uploads = hours
            .iter()
            .map(|it| Upload { name: format!("sha256-{it}"), bytes: 10, used: now - *it * HOUR })
            .collect();
        let retention =
            Retention { upload_bytes_max: bytes_max, upload_age_max: 100 * HOUR, ..Retention::standard() };
        let needed = needed.iter().map(|it| format!("sha256:{it}")).collect();
        let gone = past(uploads, &retention, &needed, now);
        let names: Vec<String> = gone.into_iter().map(|it| it.name).collect();
        assert_eq!(names, expected.iter().map(|it| format!("sha256-{it}")).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_old_goes() {
        check(&[101, 99], 1_000, &[], &[101]);
    }

    #[test]
    fn the_least_recently_used_goes_until_the_rest_fits() {
        check(&[10, 30, 20], 25, &[], &[30]);
        check(&[10, 30, 20], 5, &[], &[30, 20, 10]);
    }

    #[test]
    fn what_a_run_may_need_stays_and_what_is_young_does() {
        check(&[300, 250, 150, 0], 0, &[250], &[300, 150]);
        check(&[0], 0, &[], &[]);
    }

    #[test]
    fn one_goes_under_every_name() {
        let place = tempfile::tempdir().expect("a directory");
        let projects = place.path().join("projects/a");
        std::fs::create_dir_all(&projects).expect("made");
        std::fs::write(place.path().join("sha256-1"), "content").expect("written");
        std::fs::hard_link(place.path().join("sha256-1"), projects.join("sha256-1")).expect("linked");
        let [upload] = lying(place.path());
        assert_eq!(remove(place.path(), &upload).expect("removed"), Removal::Done);
        assert_eq!(std::fs::read_dir(&projects).expect("there").count(), 0);
        let now = SystemTime::now();
        assert_eq!(gone(place.path(), &Retention::standard(), &BTreeSet::new(), now).expect("read"), []);
    }

    /// The uploads that would go if none were young.
    fn lying<const COUNT: usize>(place: &Path) -> [Upload; COUNT] {
        let retention = Retention { upload_bytes_max: 0, ..Retention::standard() };
        let gone = gone(place, &retention, &BTreeSet::new(), SystemTime::now() + 2 * HOUR);
        gone.expect("read").try_into().expect("as many")
    }

    #[test]
    fn one_that_was_used_meanwhile_stays() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("sha256-1");
        std::fs::write(&path, "content").expect("written");
        let [upload] = lying(place.path());
        let later = SystemTime::now() + HOUR;
        std::fs::File::open(&path).and_then(|it| it.set_modified(later)).expect("set");
        assert_eq!(remove(place.path(), &upload).expect("looked at"), Removal::Used);
        assert!(path.exists());
    }
}
