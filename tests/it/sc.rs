//! What runs is what was pinned (group SC): images by id and digest, dependencies by lock file, the program hardened.

use std::path::Path;
use std::process::Command;

use crate::support::aegis::{Aegis, docker, repetitions};

const IMAGE: &str = "aegis/minimal";

/// The engine's id of an image.
fn image_id(reference: &str) -> String {
    docker(&["image", "inspect", "--format", "{{.Id}}", reference]).trim().to_owned()
}

fn policy(aegis: &Aegis, text: &str) -> String {
    let path = aegis.here().join("policy.toml");
    std::fs::write(&path, format!("extends = \"strict\"\n{text}")).expect("written");
    path.to_string_lossy().into_owned()
}

/// Runs a shell in an image under a policy file of these lines.
fn run(lines: &str, image: &str) -> crate::support::aegis::Ended {
    let aegis = Aegis::new();
    let policy = policy(&aegis, lines);
    aegis.call(&[
        "run",
        "--no-workspace",
        "--sandbox",
        &policy,
        "--image",
        image,
        "--",
        "sh",
        "-c",
        "echo ran",
    ])
}

#[test]
fn sc_01_where_digests_are_wanted_a_tag_is_refused() {
    run("[images]\nrequire_digest = true", IMAGE).code(125).says("digest");
}

#[test]
fn sc_01_a_wrong_digest_is_refused() {
    let wrong = format!("{IMAGE}@sha256:{}", "0".repeat(64));
    run("[images]\nrequire_digest = true", &wrong).code(125).says("not on this engine");
}

#[test]
fn sc_01_an_id_is_as_good_as_a_digest() {
    run("[images]\nrequire_digest = true", &image_id(IMAGE)).code(0).prints("ran");
}

#[test]
fn sc_01_a_pinned_tag_runs_while_it_has_not_moved() {
    run(&format!("[images.pins]\n\"{IMAGE}\" = \"{}\"", image_id(IMAGE)), IMAGE).code(0).prints("ran");
}

#[test]
fn sc_01_a_pinned_tag_that_moved_is_refused() {
    let moved = format!("[images.pins]\n\"{IMAGE}\" = \"sha256:{}\"", "1".repeat(64));
    run(&moved, IMAGE).code(125).says("pin").says(&image_id(IMAGE)[7..19]);
}

#[test]
fn sc_02_what_ran_is_what_was_recorded_while_its_tag_moves() {
    let (good, other) = (image_id(IMAGE), image_id("aegis/base"));
    let tag = format!("aegis-test-moving:{}", std::process::id());
    docker(&["tag", &good, &tag]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let aegis = Aegis::new();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                docker(&["tag", &other, &tag]);
                docker(&["tag", &good, &tag]);
            }
        });
        for _ in 0..repetitions(5, 100) {
            // The static busybox image has no Python; the other has.
            let told = "test -e /usr/bin/python3 && echo other || echo good";
            let ended = aegis.call(&[
                "run",
                "--no-workspace",
                "--result",
                "result",
                "--image",
                &tag,
                "--",
                "/bin/sh",
                "-c",
                told,
            ]);
            ended.code(0);
            let text = std::fs::read_to_string(aegis.here().join("result")).expect("a result");
            let result: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
            let expected = if ended.stdout.contains("other") { &other } else { &good };
            assert_eq!(result["image"]["id"].as_str(), Some(expected.as_str()), "{result}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    docker(&["rmi", &tag]);
}

#[test]
fn sc_04_every_dependency_of_the_lock_file_has_a_checksum() {
    let lock =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).expect("read");
    for package in lock.split("[[package]]").skip(1).filter(|it| it.contains("source = ")) {
        assert!(package.contains("checksum = "), "{package}");
    }
}

#[test]
fn sc_05_an_absent_image_is_told_at_once_and_not_fetched() {
    let begun = std::time::Instant::now();
    let ended =
        Aegis::new().call(&["run", "--no-workspace", "--image", "registry.invalid/x:1", "--", "true"]);
    ended.code(125).says("is not on this engine").says("--pull");
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn sc_07_the_lock_file_is_whole_and_knows_one_registry() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).expect("read");
    let sources: std::collections::BTreeSet<&str> =
        lock.lines().filter(|it| it.starts_with("source = ")).collect();
    assert_eq!(sources.len(), 1, "{sources:?}");
    assert!(sources.iter().all(|it| it.contains("registry+")), "{sources:?}");
    let without: Vec<&str> = lock
        .split("[[package]]")
        .skip(1)
        .filter(|it| !it.contains("source = "))
        .filter_map(|it| it.lines().find(|line| line.starts_with("name = ")))
        .collect();
    assert_eq!(without, ["name = \"aegis\"", "name = \"aegis-init\""], "packages by path");
}

fn readelf(arguments: &[&str]) -> String {
    let output = Command::new("readelf")
        .args(arguments)
        .arg(env!("CARGO_BIN_EXE_aegis"))
        .output()
        .expect("readelf runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn sc_09_the_program_is_position_independent_with_read_only_relocations() {
    let header = readelf(&["-hW"]);
    assert!(header.lines().any(|it| it.contains("Type:") && it.contains("DYN")), "{header}");
    let segments = readelf(&["-lW"]);
    assert!(segments.contains("GNU_RELRO"), "{segments}");
    let stack = segments.lines().find(|it| it.contains("GNU_STACK")).expect("a segment");
    assert!(stack.contains("RW ") && !stack.contains("RWE"), "{stack}");
    assert!(!segments.lines().any(|it| it.contains("LOAD") && it.contains("RWE")), "{segments}");
    let dynamic = readelf(&["-dW"]);
    assert!(dynamic.contains("BIND_NOW") || dynamic.contains("NOW"), "{dynamic}");
    assert!(!dynamic.contains("RPATH") && !dynamic.contains("RUNPATH"), "{dynamic}");
}

#[test]
fn sc_09_no_secret_is_inside() {
    let bytes = std::fs::read(env!("CARGO_BIN_EXE_aegis")).expect("read");
    for word in
        ["BEGIN RSA PRIVATE", "BEGIN PRIVATE KEY", "BEGIN OPENSSH PRIVATE", "BEGIN EC PRIVATE", "open sesame"]
    {
        assert!(!bytes.windows(word.len()).any(|it| it == word.as_bytes()), "{word}");
    }
}
