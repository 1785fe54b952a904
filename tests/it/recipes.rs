//! What the recipes give: the same bytes from the same packages, and nothing that differs between two builds or helps a task.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::engine::required;

/// Paths of a Debian tree that are different in every build, or of no use in a sandbox.
const LEFT_OUT: [&str; 7] = [
    "./etc/machine-id",
    "./var/lib/apt/",
    "./var/cache/",
    "./var/log/",
    "./var/lib/dbus/",
    "./etc/apt/",
    "./tmp/",
];

/// The images whose recipes are tried twice: all of them, some hundred packages each, only in the long form.
fn tried() -> &'static [&'static str] {
    let long = std::env::var("AEGIS_TEST_FORM").is_ok_and(|it| it == "long");
    if long { &["minimal", "base", "go", "node", "rust"] } else { &["minimal"] }
}

/// Runs a recipe into a file, or gives `None` where it cannot run and is not required to.
fn build(name: &str, directory: &Path, file: &str) -> Option<PathBuf> {
    let tar = directory.join(file);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/build.sh");
    let built = Command::new("bash")
        .arg(script)
        .arg(name)
        .stdout(std::fs::File::create(&tar).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    if built.status.success() {
        return Some(tar);
    }
    assert!(!required("docker"), "{name}: {said}");
    eprintln!("skipped: {name}: {said}");
    None
}

fn sha256sum(tar: &Path) -> String {
    let summed = Command::new("sha256sum").arg(tar).output().unwrap();
    String::from_utf8(summed.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// Modes and paths, as `tar -tv` shows them.
fn entries(tar: &Path) -> Vec<(String, String)> {
    let listed = Command::new("tar").arg("-tvf").arg(tar).output().unwrap();
    let mut entries = Vec::new();
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let mut words = line.split_whitespace();
        let mode = words.next().unwrap().to_owned();
        entries.push((mode, words.nth(4).unwrap().to_owned()));
    }
    entries
}

#[test]
fn heavy_the_same_packages_give_the_same_bytes() {
    for name in tried() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let Some(first) = build(name, directory.path(), "first") else { return };
        let Some(second) = build(name, directory.path(), "second") else { return };
        assert_eq!(sha256sum(&first), sha256sum(&second), "{name}");

        let entries = entries(&first);
        assert!(entries.iter().any(|(_, path)| path == "./run/home/"), "{name} has its mount points");
        for (mode, path) in &entries {
            assert!(!mode.contains(['s', 'S']) || mode.starts_with('d'), "{name}: {mode} {path}");
            assert!(!mode.starts_with(['b', 'c', 'p']), "{name}: {mode} {path}");
            let left_in = LEFT_OUT.iter().any(|it| path.starts_with(it) && path != it);
            assert!(!left_in, "{name}: {path}");
        }
    }
}
