//! A disk without space and a disk that cannot be written, for real: small file systems that this test mounts.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::record::fixture::{CREATED_MS, end, new_run, owner};
use crate::record::{Record, RecordError, RunFilter, Stream};
use crate::store::{Logs, Store};
use crate::task::{Outcome, RunId};

/// A file system in memory, unmounted when dropped.
struct Mounted {
    _place: tempfile::TempDir,
    path: PathBuf,
}

impl Mounted {
    /// `None`, said on stderr, where mounting is not allowed here. Where `AEGIS_TEST_REQUIRE` names `mount` it must be.
    fn new(options: &str) -> Option<Self> {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("disk");
        std::fs::create_dir(&path).expect("made");
        let options = format!("mode=0700,{options}");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "aegis-test"]).arg(&path).output();
        if status.is_ok_and(|it| it.status.success()) {
            return Some(Self { _place: place, path });
        }
        let required = std::env::var("AEGIS_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|it| it == "mount"), "this test must mount, and may not");
        eprintln!("skipped: a file system cannot be mounted here");
        None
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.path).status().expect("started");
        assert!(status.success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

/// Fills what is left.
fn fill(path: &Path) -> PathBuf {
    let ballast = path.join("ballast");
    let mut file = std::fs::File::create(&ballast).expect("made");
    let _ = std::io::copy(&mut std::io::repeat(0), &mut file).expect_err("it is full");
    ballast
}

#[tokio::test]
async fn records_on_a_full_disk_say_so_and_go_on_when_there_is_space() {
    let Some(disk) = Mounted::new("size=4m") else { return };
    let store = Store::open(&disk.path).await.expect("it opens");
    let fence = store.insert(&new_run(&owner())).await.expect("inserted");
    let ballast = fill(&disk.path);
    let mut refusal = None;
    // Room that SQLite had set aside may take a few.
    for _ in 0..200 {
        if let Err(err) = store.insert(&new_run(&owner())).await {
            refusal = Some(err);
            break;
        }
    }
    let refusal = refusal.expect("a full disk takes nothing more");
    assert!(matches!(refusal, RecordError::Full { .. }), "{refusal}");
    assert!(refusal.to_string().contains("on a full disk: free some space"));
    std::fs::remove_file(ballast).expect("removed");
    let _ = store.finish(fence, &end(Outcome::Exited(0)), None, CREATED_MS).await.expect("recorded");
    let verdict: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(store.sqlite()).await.expect("read");
    assert_eq!(verdict, "ok");
}

#[tokio::test]
async fn a_new_database_on_a_full_disk_is_refused_and_leaves_nothing() {
    let Some(disk) = Mounted::new("size=256k") else { return };
    fill(&disk.path);
    let refusal = Store::open(&disk.path).await.expect_err("refused").to_string();
    assert!(refusal.contains("on a full disk: free some space"), "{refusal}");
    let left: Vec<_> =
        std::fs::read_dir(&disk.path).expect("read").map(|it| it.expect("read").file_name()).collect();
    assert_eq!(left, ["ballast"]);
}

#[test]
fn a_log_on_a_full_disk_is_truncated_and_its_task_goes_on() {
    let Some(disk) = Mounted::new("size=1m") else { return };
    let (logs, run) = (Logs::new(&disk.path), RunId::generate());
    let writer = logs.writer(run, 64 << 20).expect("a log");
    for _ in 0..40 {
        writer.write(Stream::Stdout, &[7; 65_536], 1);
    }
    assert!(writer.finish(2).truncated);
}

#[tokio::test]
async fn records_on_a_read_only_disk_say_so() {
    let Some(disk) = Mounted::new("size=4m") else { return };
    let store = Store::open(&disk.path).await.expect("it opens");
    store.insert(&new_run(&owner())).await.expect("inserted");
    store.close().await;
    disk.remount("ro");
    let refusal = match Store::open(&disk.path).await {
        Ok(store) => store.list(RunFilter::All, 10).await.expect_err("refused").to_string(),
        Err(refusal) => refusal.to_string(),
    };
    assert!(refusal.contains("cannot be written: check owner and mode"), "{refusal}");
}
