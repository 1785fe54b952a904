//! Policy files and flags through the command line (group PO): what is missing, malformed or ambiguous stops the run, and
//! what is shown before a run is what the engine is asked for in it.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::aegis::{Aegis, Ended, docker, eventually, finish, repetitions};
use crate::support::processes::{Tag, processes_with};
use crate::support::random::Random;

/// A run under a policy file with these bytes.
fn under(bytes: &[u8]) -> (Aegis, Ended) {
    let aegis = Aegis::new();
    fs::write(aegis.here().join("p.toml"), bytes).expect("written");
    let ended = aegis.call(&["run", "--no-workspace", "--sandbox", "./p.toml", "--", "echo", "ran"]);
    (aegis, ended)
}

#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    refused_bytes(text.as_bytes(), parts);
}

#[track_caller]
fn refused_bytes(bytes: &[u8], parts: &[&str]) {
    let begun = Instant::now();
    let (_aegis, ended) = under(bytes);
    ended.code(125);
    assert_eq!(ended.stdout, "", "it ran");
    for part in parts {
        ended.says(part);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(ended.stderr.len() < 8192, "{} bytes of message", ended.stderr.len());
}

#[test]
fn po_01_unknown_keys_are_told_with_file_line_and_key() {
    refused("[netwrok]\negress = \"none\"\n", &["./p.toml:1:2:", "netwrok", "network"]);
    refused("[resources]\nnetwork = \"none\"\n", &["./p.toml:2:1:", "resources.network"]);
    refused("memory = \"1GiB\"\n", &["./p.toml:1:1:", "memory", "resources.memory"]);
}

#[test]
fn po_01_wrong_types_are_told() {
    refused("[resources]\npids = \"100\"\n", &["./p.toml:2:8:", "resources.pids"]);
    refused("[resources]\npids = [100]\n", &["./p.toml:2:8:", "resources.pids"]);
    refused("[process]\nptrace = \"yes\"\n", &["./p.toml:2:10:", "process.ptrace", "true or false"]);
    refused("resources = 1\n", &["./p.toml:1:", "resources"]);
}

#[test]
fn po_01_what_is_no_toml_is_told_with_its_place() {
    refused("[resources\npids = 1\n", &["./p.toml:1:", "TOML"]);
    refused("[resources]\npids = 100\ngarbage\n", &["./p.toml:3:", "TOML"]);
    refused("{\"resources\": {}}\n", &["./p.toml:1:", "TOML"]);
    refused("resources:\n  pids: 100\n", &["./p.toml:1:", "TOML"]);
}

#[test]
fn po_02_a_file_that_cannot_be_a_policy_fails_closed() {
    refused("", &["is empty"]);
    refused("  \n\n", &["is empty"]);
    refused_bytes(b"[resources]\npids = \xff\xfe\n", &["./p.toml:2:", "UTF-8"]);
    refused_bytes(b"\xef\xbb\xbf[resources]\npids = 100\n", &["byte order mark"]);
    refused(&"#".repeat(50 << 20), &["p.toml"]);
    refused(&"# padding\n".repeat(8_000), &["64 KiB"]);
    refused("[resources]\npids = 100\0\n", &["./p.toml:2:"]);
}

#[test]
fn po_02_a_path_that_is_no_file_fails_closed() {
    let aegis = Aegis::new();
    let here = aegis.here();
    fs::create_dir(here.join("directory.toml")).expect("made");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        here.join("fifo.toml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("made");
    std::os::unix::fs::symlink("nowhere", here.join("dangling.toml")).expect("made");
    for name in ["directory.toml", "fifo.toml", "dangling.toml", "none.toml"] {
        let begun = Instant::now();
        let path = format!("./{name}");
        let ended = aegis.call(&["run", "--no-workspace", "--sandbox", &path, "--", "echo", "ran"]);
        ended.code(125).says(name);
        assert_eq!(ended.stdout, "");
        assert!(begun.elapsed() < Duration::from_secs(10), "{name}: {:?}", begun.elapsed());
    }
    let ended = aegis.call(&["run", "--no-workspace", "--sandbox", "/dev/zero", "--", "echo", "ran"]);
    // A name with a slash is a file; a device is none.
    ended.code(125).says("/dev/zero");
}

#[test]
fn po_03_a_key_that_is_written_twice_is_refused() {
    refused("[resources]\npids = 100\npids = 200\n", &["./p.toml:3:1:", "duplicate"]);
    refused("[resources]\npids = 100\n[resources]\nmemory = \"1GiB\"\n", &["./p.toml:3:", "duplicate"]);
    refused("resources.pids = 100\n[resources]\npids = 200\n", &["./p.toml:2:"]);
}

#[test]
fn po_03_settings_that_contradict_each_other_are_refused() {
    refused("[resources]\nnofile_soft = 2000\nnofile_hard = 1000\n", &["nofile_soft", "nofile_hard"]);
}

const RULES: &str = "[network]\negress = \"rules\"\n";

/// A policy file that is shown and not run.
fn shown(text: &str) -> Ended {
    let aegis = Aegis::new();
    fs::write(aegis.here().join("p.toml"), text).expect("written");
    aegis.call(&["run", "--no-workspace", "--dry-run", "--sandbox", "./p.toml", "--", "echo", "ran"])
}

#[test]
fn po_03_a_host_that_is_allowed_and_denied_is_denied_in_either_order() {
    let allow = "[[network.allow]]\nhost = \"x.test\"\n";
    let deny = "[[network.deny]]\nhost = \"x.test\"\n";
    for rules in [format!("{allow}{deny}"), format!("{deny}{allow}")] {
        let chosen = aegis::policy::Chosen::from_file("p.toml", format!("{RULES}{rules}").as_bytes());
        let network = chosen.expect("a policy").policy.network;
        let name = aegis::policy::network::Name::parse("x.test").expect("a name");
        assert_eq!((network.ports(&name), network.connection(&name, 443)), (Vec::new(), None));
    }
}

#[test]
fn po_03_rules_that_cannot_both_be_meant_are_refused_with_both_lines() {
    let rule = "[[network.allow]]\nhost = \"x.test\"\n";
    refused(&format!("{RULES}{rule}{rule}"), &["./p.toml:5:1:", "x.test", "line 3"]);
    let read = "[[network.allow]]\nhost = \"*.x.test\"\nmethods = [\"GET\"]\n";
    let unread = "[[network.allow]]\nhost = \"a.x.test\"\n";
    refused(&format!("{RULES}{read}{unread}"), &["./p.toml:6:1:", "inspected", "pass-through", "line 3"]);
    refused(&format!("{RULES}{rule}ports = [443, 443]\n"), &["./p.toml:5:15:", "twice"]);
    refused(&format!("{RULES}{rule}host = \"y.test\"\n"), &["./p.toml:5:1:", "duplicate"]);
}

#[test]
fn po_04_thousands_of_hosts_are_refused_at_once() {
    let hosts: Vec<String> = (0..3_000).map(|it| format!("{{host=\"h{it}.x\"}}")).collect();
    refused(&format!("network.allow = [{}]\n", hosts.join(",")), &["network.allow", "256"]);
    let wide: Vec<String> = (1..=64).map(|it| it.to_string()).collect();
    let rule = |it: usize| format!("[[network.allow]]\nhost = \"h{it}.x\"\nports = [{}]\n", wide.join(","));
    refused(&format!("{RULES}{}", (0..200).map(rule).collect::<String>()), &["network.allow", "2048"]);
    let paths: Vec<String> = (0..64).map(|it| format!("\"/{it}\"")).collect();
    let rule = |it: usize| {
        let keys = format!(
            "credential = \"c{it}\"\npaths = [{}]\nports = [{}]\n",
            paths.join(","),
            wide[1..].join(",")
        );
        format!("[[network.allow]]\nhost = \"h.x\"\n{}", keys.replace("80,", ""))
    };
    refused(&format!("{RULES}{}", (0..80).map(rule).collect::<String>()), &["network.allow", "2048"]);
}

#[test]
fn po_05_no_rule_means_no_host_and_a_text_is_no_rule() {
    for text in ["network.allow = []\n", "network.egress = \"rules\"\n", "network.deny = []\n"] {
        shown(text).code(0);
        let chosen = aegis::policy::Chosen::from_file("p.toml", text.as_bytes()).expect("a policy");
        let name = aegis::policy::network::Name::parse("x.test").expect("a name");
        assert_eq!(chosen.policy.network.ports(&name), [0_u16; 0], "{text}");
    }
    refused("network.allow = \"x.test\"\n", &["./p.toml:1:17:", "network.allow", "list of rules"]);
    refused("network.allow = [\"x.test\"]\n", &["./p.toml:1:18:", "network.allow", "must be a rule"]);
    refused("network.allow = [\"\"]\n", &["./p.toml:1:18:", "network.allow"]);
    refused("network.allow =\n", &["./p.toml:1:", "TOML"]);
    refused("[[network.allow]]\nhost = \"\"\n", &["./p.toml:2:8:", "empty"]);
    refused("[[network.allow]]\nhost = \"x.test\"\n", &["./p.toml:1:1:", "egress = \"rules\""]);
    refused(
        &format!("{RULES}[[network.allow]]\nhost = \"x.test\"\nports = \"443\"\n"),
        &["./p.toml:5:9:", "list"],
    );
}

#[test]
fn po_04_bombs_are_refused_at_once() {
    refused(&format!("a = {}1{}\n", "[".repeat(10_000), "]".repeat(10_000)), &["./p.toml:1:"]);
    refused(&format!("{}x = 1\n", "a.".repeat(5_000)), &["./p.toml:1:"]);
    refused(&format!("[{}a]\n", "a.".repeat(5_000)), &["./p.toml:1:"]);
    let names: Vec<String> = (0..6_000).map(|it| format!("\"{it}\"")).collect();
    refused(&format!("runtimes = [{}]\n", names.join(",")), &["p.toml"]);
}

#[test]
fn po_05_empty_means_none_and_units_are_required() {
    refused("[images]\nallow = []\n", &["images.allow"]);
    refused("[images]\nallow = \"*\"\n", &["./p.toml:2:9:", "images.allow", "list"]);
    refused("[images]\nallow = [\"\"]\n", &["./p.toml:2:", "images.allow"]);
    refused("network = \"no\"\n", &["./p.toml:1:", "network"]);
    refused("[network]\negress = \"all\"\n", &["./p.toml:2:10:", "network.egress", "\"none\""]);
    refused("[resources]\nmemory = 512\n", &["no unit"]);
    refused("[resources]\nwall_time = 60\n", &["no unit"]);
    refused("runtimes = []\n", &["runtimes"]);
}

#[test]
fn po_06_globs_of_images_mean_what_they_say() {
    refused("[images]\nallow = [\"[\"]\n", &["./p.toml:2:", "glob"]);
    refused("[images]\nallow = [\"debian:*\"]\n", &["images.allow", "aegis/base"]);
    let (_aegis, ended) = under(b"[images]\nallow = [\"aegis/*\"]\n");
    ended.code(0).prints("ran");
}

#[test]
fn po_06_hosts_that_mean_too_much_or_nothing_are_refused() {
    let host = |host: &str, part: &str| {
        let rule = format!("{RULES}[[network.allow]]\nhost = \"{host}\"\n");
        refused(&rule, &["./p.toml:4:8:", "is no host", part]);
    };
    host("*", "only a ceiling");
    host("*.com", "public suffix");
    host("*.github.io", "shared hosting");
    host("http://x", "URL");
    host("x:99999", "port");
    host("x/", "URL");
    host("0.0.0.0/0", "URL");
    host("10.0.0.1", "address");
    host("0x7f.1", "address");
    host("::1", "address");
    host("xn--", "internationalised");
    host("a.*.b", "first dot");
    host("a..b", "empty part");
}

#[test]
fn po_06_names_have_one_form() {
    let policy = format!("{RULES}[[network.allow]]\nhost = \"BÜCHER.example.\"\n");
    shown(&policy).code(0).prints("host = \"xn--bcher-kva.example\"");
    // A homograph is shown as what it is.
    let policy = format!("{RULES}[[network.allow]]\nhost = \"аррӏе.com\"\n");
    shown(&policy).code(0).prints("host = \"xn--80ak6aa92e.com\"");
}

#[test]
fn po_07_there_is_no_key_that_mounts_the_host() {
    for key in ["mounts", "binds", "volumes", "devices", "privileged", "cap_add", "user", "env"] {
        refused(&format!("[filesystem]\n{key} = [\"/:/host\"]\n"), &["./p.toml:2:1:", key]);
        refused(&format!("{key} = [\"/:/host\"]\n"), &["./p.toml:1:1:", key]);
    }
}

#[test]
fn po_07_directories_that_hold_the_host_are_no_workspace() {
    let aegis = Aegis::new();
    aegis.script(&[], "true").code(0);
    let link = aegis.here().join("link");
    std::os::unix::fs::symlink("/", &link).expect("linked");
    let home = aegis.here().join("../home").to_string_lossy().into_owned();
    for directory in ["/", "/.", "//", "/usr/..", &link.to_string_lossy(), &home] {
        let ended = aegis.call(&["run", "-w", directory, "--", "echo", "ran"]);
        ended.code(125).says("is not taken as the workspace");
    }
}

#[test]
fn po_09_a_project_may_only_tighten_its_way_out() {
    let aegis = Aegis::new();
    let project = aegis.here().join("project");
    fs::create_dir(&project).expect("made");
    let run = |file: &str, flags: &[&str]| {
        fs::write(project.join("aegis.toml"), file).expect("written");
        let arguments = [&["run", "--dry-run"], flags, &["--", "true"]].concat();
        finish(aegis.command(&arguments).current_dir(&project).spawn().expect("aegis starts"), b"")
    };
    let widening = [
        ("egress = \"public\"\n", "network.egress"),
        ("egress = \"rules\"\n[[policy.network.allow]]\nhost = \"evil.test\"\n", "network.allow"),
        ("publish = [8080]\n", "network.publish"),
        ("ports = [80, 443, 22]\n", "network.ports"),
        ("egress = \"rules\"\naudit = true\n", "network.audit"),
    ];
    for (text, path) in widening {
        let ended = run(&format!("[policy.network]\n{text}"), &[]);
        ended.prints(path);
        assert!(format!("{}{}", ended.stdout, ended.stderr).contains("aegis trust"), "{ended:#?}");
        let ended = finish(
            aegis.command(&["run", "--", "true"]).current_dir(&project).spawn().expect("started"),
            b"",
        );
        ended.code(125).says(path).says("aegis trust");
    }
    run("[[policy.network.deny]]\nhost = \"x.test\"\n", &["--allow-net", "x.test"]).code(0);
}

#[test]
fn po_10_the_filter_is_no_matter_of_a_policy() {
    for key in ["seccomp", "profile", "capabilities", "no_new_privileges", "readonly_root"] {
        refused(&format!("[process]\n{key} = \"unconfined\"\n"), &["./p.toml:2:1:", key]);
    }
}

#[test]
fn po_13_text_that_looks_like_code_is_text() {
    for text in ["${HOME}", "$(id)", "{{env.HOME}}", "!include /etc/shadow", "!!python/object", "%s%n"] {
        let (_aegis, ended) = under(format!("[resources]\nmemory = \"{text}\"\n").as_bytes());
        ended.code(125).says("./p.toml:2:10:");
        assert!(!ended.stderr.contains("root"), "{ended:#?}");
        let name = format!("./{text}.toml");
        let ended = Aegis::new().call(&["run", "--no-workspace", "--sandbox", &name, "--", "echo", "ran"]);
        ended.code(125);
        assert!(!ended.stderr.contains("uid="), "{ended:#?}");
    }
}

#[test]
fn a_policy_that_asks_for_more_than_the_ceiling_is_refused_with_who_decides() {
    refused("[resources]\nmemory = \"15TiB\"\n", &["resources.memory", "ceiling"]);
    refused("[filesystem]\ntmp_size = \"3TiB\"\n", &["filesystem.tmp_size", "ceiling"]);
}

// PO-14: what is shown is what is made.

/// Amounts within any ceiling of a machine that builds this, as lines of a policy.
fn random_policy(random: &Random) -> String {
    let mib = |low: u64, high: u64| format!("\"{}MiB\"", low + random.below(high - low));
    let soft = 64 + random.below(900);
    format!(
        "[filesystem]\nworkspace_size = {}\ntmp_size = {}\nhome_size = {}\nrun_size = {}\nshm_size = {}\n\
         workspace_files = {}\n[resources]\nmemory = {}\ncpus = {}\npids = {}\nnofile_soft = {soft}\nnofile_hard = {}\n\
         wall_time = \"{}s\"\noutput_size = {}\n",
        mib(1, 600),
        mib(1, 400),
        mib(1, 100),
        mib(1, 32),
        mib(1, 128),
        1 + random.below(300_000),
        mib(64, 1500),
        ["0.5", "1", "1.25", "2"][random.below(4) as usize],
        16 + random.below(1000),
        soft + random.below(10_000),
        60 + random.below(600),
        mib(1, 100),
    )
}

/// Null, false, zero and empty are nothing to an engine; lists of limits have no order.
fn settings(value: &Value) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for (name, value) in value.as_object().expect("an object") {
        let mut value = value.clone();
        if let (Some(items), "Ulimits") = (value.as_array_mut(), name.as_str()) {
            items.sort_by_key(|it| it["Name"].to_string());
        }
        let text = sorted(&value).to_string();
        if !["null", "false", "0", "\"\"", "[]", "{}"].contains(&text.as_str()) {
            settings.insert(name.clone(), text);
        }
    }
    settings
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let ordered: BTreeMap<&String, Value> =
                fields.iter().map(|(name, it)| (name, sorted(it))).collect();
            ordered
                .into_iter()
                .filter(|(_, it)| *it != serde_json::json!({}))
                .map(|(name, it)| (name.clone(), it))
                .collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn check_shown_and_made(random: &Random) {
    let aegis = Aegis::new();
    let policy = random_policy(random);
    fs::write(aegis.here().join("p.toml"), &policy).expect("written");
    let shown = aegis.call(&[
        "run",
        "--no-workspace",
        "--dry-run",
        "--json",
        "--sandbox",
        "./p.toml",
        "--",
        "sleep",
        "1",
    ]);
    shown.code(0);
    let plan: Value = serde_json::from_str(&shown.stdout).expect("it is JSON");
    assert_eq!(aegis.containers(), Vec::<String>::new(), "a dry run made a container");

    let tag = Tag::new();
    let child = aegis
        .command(&[
            "run",
            "--no-workspace",
            "--sandbox",
            "./p.toml",
            "--result",
            "result.json",
            "--",
            "sleep",
            &tag.to_string(),
        ])
        .spawn()
        .expect("aegis starts");
    eventually("the task is up", Duration::from_secs(60), || !processes_with(&tag).is_empty());
    let inspected: Value =
        serde_json::from_str(&docker(&["inspect", &aegis.containers()[0]])).expect("it is JSON");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is there");
    finish(child, b"").code(143);

    let asked = settings(&plan["engine_request"]["HostConfig"]);
    let made = settings(&inspected[0]["HostConfig"]);
    for (name, value) in &asked {
        assert_eq!(made.get(name), Some(value), "`{name}` under\n{policy}");
    }
    for name in made.keys() {
        let filled_in = ["ShmSize", "ConsoleSize", "Isolation", "MemorySwappiness", "CgroupParent"];
        assert!(
            asked.contains_key(name) || filled_in.contains(&name.as_str()),
            "`{name}` was not shown: {}",
            made[name]
        );
    }
    for (name, value) in plan["engine_request"]["Labels"].as_object().expect("an object") {
        assert_eq!(&inspected[0]["Config"]["Labels"][name], value, "label `{name}`");
    }
    for name in ["Hostname", "User", "Entrypoint", "WorkingDir", "Image"] {
        assert_eq!(sorted(&inspected[0]["Config"][name]), sorted(&plan["engine_request"][name]), "`{name}`");
    }
    let result: Value =
        serde_json::from_str(&fs::read_to_string(aegis.here().join("result.json")).expect("read"))
            .expect("JSON");
    assert_eq!(result["policy"]["digest"], plan["policy_digest"]);
    assert_eq!(result["attestation"]["proven"], true);
}

#[test]
fn po_14_what_a_dry_run_shows_is_what_the_engine_makes() {
    let random = Random::seeded_by_the_caller();
    for _ in 0..repetitions(6, 200) {
        check_shown_and_made(&random);
    }
}
