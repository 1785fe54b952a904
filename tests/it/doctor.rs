//! `aegis doctor` on this machine and on engines that describe or make something else (SC-08, PS-08; acceptance 6).

mod heavy_weakened;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use aegis::doctor::attack::calls::{self, Argument, Call};
use aegis::doctor::attack::{PROBES, Stage};
use aegis::doctor::json::{DoctorJson, FindingJson};
use serde_json::{Value, json};

use crate::support::aegis::{Aegis, Ended, docker, eventually, finish};
use crate::support::live::{record, runs};
use crate::support::rewriter::{Inspection, Rewriter};

/// What `doctor --json` printed, by the published types.
#[track_caller]
fn read(ended: &Ended) -> DoctorJson {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|it| panic!("{it}: {ended:#?}"))
}

#[track_caller]
fn finding<'a>(doctor: &'a DoctorJson, id: &str) -> &'a FindingJson {
    doctor.findings.iter().find(|it| it.id == id).unwrap_or_else(|| panic!("no `{id}` in {doctor:#?}"))
}

/// This machine's engine describes itself otherwise: `doctor` fails over this finding, and says these words.
#[track_caller]
fn fails(change: impl Fn(&mut Value) + Send + Sync + 'static, id: &str, parts: &[&str]) {
    let rewriter = Rewriter::answering(move |path, answer| {
        if path.ends_with("/info") {
            change(answer);
        }
    });
    let ended = Aegis::new().with("DOCKER_HOST", &rewriter.docker_host()).call(&["doctor", "--json"]);
    ended.code(1);
    let doctor = read(&ended);
    let found = finding(&doctor, id);
    assert_eq!((found.verdict.as_str(), doctor.risk.as_str()), ("fail", "high"), "{found:#?}");
    for part in parts {
        assert!(format!("{found:?}").contains(part), "no `{part}` in {found:#?}");
    }
}

#[test]
fn sc_08_versions_cgroups_the_missing_module_and_the_flaws_that_apply_are_named() {
    let ended = Aegis::new().call(&["doctor", "--json"]);
    ended.code(0);
    let doctor = read(&ended);
    let versions =
        docker(&["version", "--format", "{{range .Server.Components}}{{.Name}} {{.Version}}\n{{end}}"]);
    for line in versions.lines().filter(|it| !it.is_empty()) {
        let (name, version) = line.split_once(' ').expect("a name and a version");
        if ["Engine", "containerd", "runc"].contains(&name) {
            let found = finding(&doctor, &format!("flaws.{}", name.to_lowercase()));
            assert!(found.seen.contains(version), "{line}: {found:#?}");
        }
        if name == "runc" && version.starts_with("1.1.5") {
            assert!(finding(&doctor, "flaws.runc").seen.contains("CVE-2025-31133"), "{doctor:#?}");
        }
    }
    let info = docker(&["info", "--format", "{{.CgroupVersion}} {{.SecurityOptions}}"]);
    let version = format!("cgroup v{}", info.split(' ').next().expect("a version"));
    assert_eq!(finding(&doctor, "walls.cgroup_version").seen, version);
    assert!(["low", "raised"].contains(&doctor.risk.as_str()), "{}", doctor.risk);
    let documented =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/doctor.md")).unwrap();
    assert!(documented.contains(&format!("| `{}` |", doctor.risk)), "the level is in docs/doctor.md");
}

#[test]
fn ps_08_doctor_and_the_record_agree_on_the_security_module() {
    let aegis = Aegis::new();
    aegis.script(&["--name", "labelled"], "true").code(0);
    let listed = runs(&aegis, &["--all"]).expect("a list");
    let run = record(&aegis, listed[0]["short_id"].as_str().expect("an id"));
    let label = &run["attestation"]["security_label"];
    let doctor = read(&aegis.call(&["doctor", "--json"]));
    let found = finding(&doctor, "walls.security_module");
    match label.is_null() {
        true => assert!(found.verdict == "weak" && found.seen.contains("no LSM"), "{found:#?}"),
        false => assert_eq!(found.verdict, "ok", "{found:#?}"),
    }
}

#[test]
fn a_pipe_gets_one_line_a_finding_with_its_fields_between_tabs() {
    let ended = Aegis::new().call(&["doctor"]);
    ended.code(0).says("risk ");
    for line in ended.stdout.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        assert!(fields.len() == 5 && ["ok", "weak"].contains(&fields[0]), "{line}");
        assert!(fields[0] == "ok" || !fields[3].is_empty() && !fields[4].is_empty(), "no why or fix: {line}");
    }
}

#[test]
fn looking_changes_nothing() {
    let aegis = Aegis::new();
    aegis.call(&["doctor"]).code(0);
    assert!(!aegis.state().exists());
    let containers = docker(&["ps", "-aq", "--filter", "label=aegis.instance=00000000"]);
    assert_eq!(containers, "");
}

#[test]
fn a_state_directory_that_others_can_enter_fails_with_the_command_that_mends_it() {
    let aegis = Aegis::new();
    std::fs::create_dir(aegis.state()).unwrap();
    std::fs::set_permissions(aegis.state(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let ended = aegis.call(&["doctor"]);
    ended.code(1).prints("fail\taegis.state_directory").prints("chmod 700");
}

#[test]
fn without_an_engine_the_rest_is_looked_at_and_nothing_attacked() {
    let aegis = Aegis::new().with("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let ended = aegis.call(&["doctor", "--attack", "--json"]);
    ended.code(1);
    let doctor = read(&ended);
    assert_eq!(finding(&doctor, "engine.answers").verdict, "fail");
    assert!(doctor.attack.is_none() && doctor.findings.len() > 8, "{doctor:#?}");
}

#[test]
fn an_engine_without_a_wall_fails() {
    fails(|info| info["SecurityOptions"] = json!([]), "walls.seccomp", &["no seccomp"]);
    fails(|info| info["PidsLimit"] = json!(false), "walls.pids", &["controller"]);
}

#[test]
fn an_engine_that_is_open_to_the_network_fails() {
    let warning = "WARNING: API is accessible on http://0.0.0.0:2375 without encryption.";
    fails(move |info| info["Warnings"] = json!([warning]), "access.network", &["2375", "tlsverify"]);
}

#[test]
fn a_report_is_its_owners_and_replaces_a_link_in_its_place() {
    let aegis = Aegis::new();
    let other = aegis.here().join("other");
    std::fs::write(&other, "kept").unwrap();
    for (name, begins) in [("report.md", "# Aegis doctor"), ("report.json", "{\"schema\":\"aegis.doctor/1\"")]
    {
        let path = aegis.here().join(name);
        symlink(&other, &path).unwrap();
        aegis.call(&["doctor", "--report", name]).code(0);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(begins));
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o600);
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "kept");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_anything_is_tried() {
    let aegis = Aegis::new();
    aegis.call(&["doctor", "--report", "report.html"]).code(2).says(".md");
    let ended = aegis.call(&["doctor", "--attack", "--report", "absent/report.md"]);
    ended.code(125).says("report file").says("absent/report.md");
    assert!(!ended.stderr.contains("attacking"), "{ended:#?}");
}

#[test]
fn on_a_sound_engine_every_probe_is_tried_and_stopped() {
    let aegis = Aegis::new();
    let ended = aegis.call(&["doctor", "--attack", "--json", "--report", "report.md"]);
    ended.code(0);
    let attack = read(&ended).attack.expect("an attack");
    assert!(attack.held && attack.walls_down.is_empty(), "{attack:#?}");
    assert_eq!(attack.probes.len(), PROBES.len());
    for probe in &attack.probes {
        assert_eq!(probe.result, "stopped", "{probe:#?}");
        assert!(!probe.detail.is_empty(), "{probe:#?}");
    }
    let report = std::fs::read_to_string(aegis.here().join("report.md")).unwrap();
    assert!(report.contains("every wall held") && report.contains("| KS-07 |"), "{report}");
    // They were ordinary runs: each is in the records, under `strict`.
    let listed = runs(&aegis, &["--all"]).expect("a list");
    assert_eq!(listed.len(), attack.runs.len());
    assert!(
        listed.iter().all(|it| it["policy"] == "strict" && it["labels"]["aegis.doctor"] == "attack"),
        "{listed:?}"
    );
}

#[test]
fn an_attack_that_is_interrupted_ends_its_run_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let aegis = Aegis::new().with("TMPDIR", place.path().to_str().unwrap());
    let child = aegis.command(&["doctor", "--attack"]).spawn().unwrap();
    let running = || runs(&aegis, &[]).is_some_and(|it| it.iter().any(|run| run["state"] == "running"));
    eventually("a sandbox runs", Duration::from_secs(60), running);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = finish(child, b"");
    ended.code(130).says("proves nothing");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "a file is left");
    let listed = runs(&aegis, &["--all"]).expect("a list");
    assert_eq!(listed[0]["outcome"]["kind"], "cancelled", "{listed:?}");
}

#[test]
fn the_probes_find_what_a_plain_container_leaves_open() {
    let place = tempfile::tempdir().unwrap();
    for stage in Stage::ALL {
        std::fs::write(place.path().join(format!("{}.py", stage.name())), stage.program()).unwrap();
    }
    let argument = |it: &Argument| match it {
        Argument::Number(number) => json!(number),
        Argument::Page => Value::Null,
        Argument::Text(text) => json!(text),
    };
    let call =
        |it: &Call| json!([it.name, it.number(), it.arguments.iter().map(argument).collect::<Vec<_>>()]);
    let table = |id: &str| calls::of(id).map(call).collect::<Vec<_>>();
    let with_calls = PROBES.iter().filter(|it| calls::of(it.id).next().is_some());
    let calls: serde_json::Map<String, Value> =
        with_calls.map(|it| (it.id.to_owned(), json!(table(it.id)))).collect();
    // What takes space, files or processes until something stops it would take the host's.
    let greedy = ["FS-03", "FS-04", "FS-11", "FS-13", "PL-04", "PL-10", "RB-07", "RB-12"];
    let checks: Vec<&str> = PROBES.iter().map(|it| it.id).filter(|it| !greedy.contains(it)).collect();
    let parameters = json!({
        "word": "the-word", "canaries": ["/attack/look.py"], "port": 9, "addresses": [], "state": "/attack",
        "survivor": "1", "beside_s": 0, "checks": checks, "calls": calls,
    });
    std::fs::write(place.path().join("parameters.json"), parameters.to_string()).unwrap();
    let mount = format!("{}:/attack", place.path().display());
    let flags = [
        "run",
        "--rm",
        "--label",
        "aegis.test=doctor",
        "--log-driver",
        "none",
        "--memory",
        "1g",
        "--pids-limit",
        "512",
        "--network",
        "none",
        "-v",
        &mount,
        "-w",
        "/attack",
    ];
    let printed = docker(&[&flags[..], &["aegis/base", "python3", "look.py"]].concat());
    assert!(printed.contains("@end"), "{printed}");
    // What the engine's defaults leave open, whatever the version: root with capabilities, a writable root, no masks of ours.
    for id in [
        "FS-01", "FS-02", "FS-10", "FS-12", "FS-15", "PL-01", "PL-02", "KS-02", "KS-11", "KS-13", "KS-21",
        "PS-01", "PS-06", "DV-05",
    ] {
        assert!(printed.contains(&format!("@probe\t{id}\tbreach\t")), "{id} is not seen: {printed}");
    }
}

/// An engine that makes something weaker and lies about it: nothing is tried, the wall is named, and a run is refused.
#[track_caller]
fn down(change: impl Fn(&mut Value) + Send + Sync + 'static, wall: &str, detail: &str) {
    let rewriter = Rewriter::weakening(Inspection::Lying, Box::new(change));
    let aegis = Aegis::new().with("DOCKER_HOST", &rewriter.docker_host());
    let ended = aegis.call(&["doctor", "--attack", "--json"]);
    ended.code(1).says("attacking");
    let attack = read(&ended).attack.expect("an attack");
    let found = attack.walls_down.iter().find(|it| it.wall == wall).unwrap_or_else(|| panic!("{attack:#?}"));
    assert!(found.details.iter().any(|it| it.contains(detail)), "no `{detail}` in {found:#?}");
    assert!(!attack.held && attack.probes.iter().all(|it| it.result == "not_tried"), "{attack:#?}");
    aegis.script(&[], "echo STARTED").code(125).says("refused");
}

#[test]
fn a_filter_that_was_taken_away_is_named() {
    let unconfined = json!(["no-new-privileges", "seccomp=unconfined"]);
    down(move |body| body["HostConfig"]["SecurityOpt"] = unconfined.clone(), "seccomp", "not in force");
}

#[test]
fn a_capability_that_was_kept_is_named() {
    down(|body| body["HostConfig"]["CapAdd"] = json!(["CHOWN"]), "capabilities", "CHOWN kept");
}

#[test]
fn a_network_that_was_given_is_named() {
    down(|body| body["HostConfig"]["NetworkMode"] = json!("bridge"), "network", "network interface");
}
