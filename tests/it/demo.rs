//! `aegis demo`: the package that steals gets nothing, and a demo that could not be shown says so.

use serde_json::json;

use crate::support::aegis::Aegis;
use crate::support::live::runs;
use crate::support::rewriter::{Inspection, Rewriter};

#[test]
fn every_attempt_is_listed_and_stopped_and_the_canary_is_safe() {
    let aegis = Aegis::new().with("MY_API_KEY", "word-of-the-caller");
    let ended = aegis.call(&["demo"]);
    ended
        .code(0)
        .prints("The canary is safe")
        .prints("installed all the same")
        .prints("where 1 names look like secrets");
    for attempt in [
        "ssh key",
        "cloud keys",
        ".env of the project",
        "environment",
        "engine socket",
        "cloud metadata",
        "send by DNS",
        "send by HTTP",
        "shell start-up",
        "fork bomb",
    ] {
        ended.prints(&format!("  stopped  {attempt}"));
    }
    assert!(!ended.stdout.contains("word-of-the-caller") && !ended.stdout.contains("GOT"), "{ended:#?}");
    // The run it names is in the records, and nothing of its home is left.
    let run = runs(&aegis, &["--all"]).expect("a list")[0]["short_id"].as_str().expect("an id").to_owned();
    ended.prints(&format!("aegis show {run}"));
    let home =
        ended.stdout.lines().find_map(|it| it.trim().split_once("/.ssh/")).expect("a home").0.to_owned();
    assert!(!std::path::Path::new(&home).exists(), "{home}");
}

#[test]
fn quiet_says_one_line() {
    let ended = Aegis::new().call(&["demo", "--quiet"]);
    ended.code(0);
    assert_eq!(ended.stdout, "The canary is safe, and the package is installed all the same.\n");
}

#[test]
fn on_an_engine_that_shares_the_home_the_sandbox_is_refused_and_the_demo_fails() {
    let rewriter = Rewriter::weakening(
        Inspection::Lying,
        Box::new(|body| {
            let mounts = body["HostConfig"]["Mounts"].as_array_mut().expect("a list");
            mounts.push(json!({ "Type": "bind", "Source": "/tmp", "Target": "/mnt", "ReadOnly": false }));
        }),
    );
    let ended = Aegis::new().with("DOCKER_HOST", &rewriter.docker_host()).call(&["demo"]);
    ended.code(1).prints("was refused before anything ran").prints("filesystem").prints("mount `/mnt`");
    assert!(!ended.stdout.contains("is safe"), "{ended:#?}");
}
