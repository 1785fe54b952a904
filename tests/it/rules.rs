//! Rules for the way out, through the command line: what is shown before a run, what is refused, and which names a policy
//! means (NW-16).

use std::fs;

use aegis::policy::network::Name;
use aegis::policy::{Ceiling, Chosen, HostAmounts, Overrides, resolve};
use serde_json::Value;

use crate::support::aegis::{Aegis, Ended};
use crate::support::netns::Net;
use crate::support::netns::server::{Server, page};
use crate::support::netns::task::Tasks;

const HOST: HostAmounts = HostAmounts {
    memory_bytes: 16 << 30,
    cpus_milli: 4_000,
    pids: 40_000,
    nofile: 100_000,
    disk_bytes: 100 << 30,
};

/// The ports at which a name is reached under a policy file.
fn ports(policy: &str, name: &str) -> Vec<u16> {
    let chosen = Chosen::from_file("p.toml", policy.as_bytes()).expect("a policy");
    let resolved = resolve(&chosen, &Overrides::NONE, &Ceiling::of_host(&HOST), &HOST);
    assert_eq!(resolved.denials, vec![]);
    Name::parse(name).map_or(Vec::new(), |it| resolved.policy.network.ports(&it))
}

fn dry_run(policy: &str, flags: &[&str]) -> Ended {
    let aegis = Aegis::new();
    let mut arguments = vec!["run", "--no-workspace", "--dry-run", "--json"];
    if !policy.is_empty() {
        fs::write(aegis.here().join("p.toml"), policy).expect("written");
        arguments.extend(["--sandbox", "./p.toml"]);
    }
    arguments.extend(flags);
    arguments.extend(["--", "true"]);
    aegis.call(&arguments)
}

/// A field of a plan: its value and who set it.
fn field(plan: &str, path: &str) -> (String, String) {
    let plan: Value = serde_json::from_str(plan).expect("it is JSON");
    let fields = plan["fields"].as_array().expect("fields");
    let found = fields.iter().find(|it| it["field"] == path).expect("every field is there");
    let text = |key: &str| found[key].as_str().expect("a text").to_owned();
    (text("value"), text("origin"))
}

#[test]
fn nw_16_names_mean_what_the_rules_say() {
    let exact = "[network]\negress = \"rules\"\n[[network.allow]]\nhost = \"Allowed.test.\"\n";
    for name in ["allowed.test", "ALLOWED.TEST.", "Allowed.Test"] {
        assert_eq!(ports(exact, name), [443], "{name}");
    }
    for name in ["evilallowed.test", "allowed.test.evil.test", "www.allowed.test", "test", "allowed.test.."] {
        assert_eq!(ports(exact, name), [0_u16; 0], "{name}");
    }
    let wild =
        "[network]\negress = \"rules\"\n[[network.allow]]\nhost = \"*.allowed.test\"\nports = [80, 443]\n";
    for name in ["www.allowed.test", "a.b.allowed.test", "WWW.Allowed.TEST."] {
        assert_eq!(ports(wild, name), [80, 443], "{name}");
    }
    for name in
        ["allowed.test", "evilallowed.test", "www.allowed.test.evil.test", "*.allowed.test", ".allowed.test"]
    {
        assert_eq!(ports(wild, name), [0_u16; 0], "{name}");
    }
}

#[test]
fn a_dry_run_shows_the_rules_and_who_wrote_them() {
    let policy =
        "[network]\negress = \"rules\"\n[[network.allow]]\nhost = \"api.example.org\"\npaths = [\"/v1\"]\n";
    let shown = dry_run(policy, &["--allow-net", "Files.example.org:8443"]);
    shown.code(0);
    let rules = "[{ host = \"api.example.org\", ports = [443], paths = [\"/v1\"] }, { host = \"files.example.org\", \
                 ports = [8443] }]";
    assert_eq!(field(&shown.stdout, "network.allow"), (rules.to_owned(), "flag `--allow-net`".to_owned()));
    assert_eq!(field(&shown.stdout, "network.egress"), ("\"rules\"".to_owned(), "./p.toml:2".to_owned()));
}

#[test]
fn a_flag_is_told_what_a_host_is() {
    for (host, part) in [
        ("https://api.example.org", "URL"),
        ("*", "ceiling"),
        ("*.com", "public suffix"),
        ("127.0.0.1", "address"),
        ("[::1]:443", "address"),
        ("a.example.org:0", "1 to 65535"),
        ("", "empty"),
    ] {
        let ended = dry_run("", &["--allow-net", host]);
        ended.code(2).says("--allow-net").says(part);
    }
}

#[test]
fn what_no_ceiling_permits_is_refused_by_name() {
    let refused = |flags: &[&str], code: i32, part: &str| {
        let aegis = Aegis::new();
        let arguments = [&["run", "--no-workspace"], flags, &["--", "true"]].concat();
        aegis.call(&arguments).code(code).says(part);
    };
    refused(&["--egress-audit"], 125, "network.audit");
    refused(&["--publish", "127.0.0.1:8080:8080"], 125, "network.publish");
    refused(&["--publish", "0.0.0.0:8080:8080"], 2, "only 127.0.0.1");
}

#[test]
fn a_projects_file_does_not_open_the_way_out() {
    let aegis = Aegis::new();
    let project = aegis.here().join("project");
    fs::create_dir(&project).expect("made");
    let file =
        "[policy.network]\negress = \"rules\"\n[[policy.network.allow]]\nhost = \"evil\\u001b[2J.test\"\n";
    fs::write(project.join("aegis.toml"), file).expect("written");
    let run = || aegis.command(&["run", "--", "true"]).current_dir(&project).spawn().expect("aegis starts");
    let ended = crate::support::aegis::finish(run(), b"");
    ended.code(125).says("aegis.toml:4:").says("is no host");
    assert!(!ended.stderr.contains('\u{1b}'), "{ended:#?}");
    fs::write(project.join("aegis.toml"), file.replace("\\u001b[2J", "")).expect("written");
    let ended = crate::support::aegis::finish(run(), b"");
    ended.code(125).says("network.allow").says("evil.test").says("aegis trust");
}

#[test]
fn a_policy_is_shown_and_checked_by_itself() {
    let aegis = Aegis::new();
    aegis.call(&["policy", "show", "strict"]).code(0).prints("network.egress = \"none\"");
    fs::write(aegis.here().join("p.toml"), "[network]\negress = \"rules\"\n").expect("written");
    aegis.call(&["policy", "check", "./p.toml"]).code(0).says("can be used");
    fs::write(aegis.here().join("p.toml"), "[network]\negress = \"public\"\n").expect("written");
    aegis.call(&["policy", "check", "./p.toml"]).code(1).says("./p.toml:2").says("ceiling");
    fs::write(aegis.here().join("p.toml"), "[netwrok]\n").expect("written");
    aegis.call(&["policy", "check", "./p.toml"]).code(1).says("./p.toml:1:2").says("`network`");
    // What is shown is a policy: it reads back as the same.
    let shown = aegis.call(&["policy", "show", "ci"]).stdout;
    fs::write(aegis.here().join("ci.toml"), &shown).expect("written");
    assert_eq!(aegis.call(&["policy", "show", "./ci.toml"]).stdout, shown);
}

/// A namespace in which each of these names is a server that answers over TLS.
fn hosts(names: &[(&str, &'static str)]) -> (Net, Vec<Server>) {
    let net = Net::new();
    let servers = names.iter().map(|(name, address)| {
        net.dns.set(name, &[address]);
        let tls = net.tls(&[name], &["http/1.1"]);
        let name = (*name).to_owned();
        Server::https(&net, &format!("{address}:443"), tls, move |_| page(&format!("this is {name}")))
    });
    let servers = servers.collect();
    (net, servers)
}

#[test]
fn a_run_under_audit_gives_the_least_policy_that_lets_it_pass() {
    let (net, servers) = hosts(&[("one.test", "203.0.113.10"), ("two.test", "203.0.113.20")]);
    let aegis = net.aegis().with_ceiling("[network]\naudit = true\n");
    let tasks = Tasks::with_policy(&net, aegis, "");
    let script =
        "curl -sS https://one.test/; curl -sS https://two.test/; curl -sS https://nowhere.test/; exit 0";
    let ended = tasks.script_with(&["--egress-audit"], script);
    ended.code(0).prints("this is one.test").prints("this is two.test");
    let suggested = tasks.aegis.call(&["policy", "suggest", &newest(&tasks)]);
    suggested
        .code(0)
        .prints("{ host = \"one.test\", ports = [443] }")
        .prints("{ host = \"two.test\", ports = [443] }");
    assert!(!suggested.stdout.contains("nowhere"), "{suggested:#?}");

    fs::write(tasks.aegis.here().join("policy.toml"), &suggested.stdout).expect("written");
    tasks.script(script).code(0).prints("this is one.test").prints("this is two.test");
    tasks.script("curl -sS https://three.test/").code(6);
    assert_eq!(servers.iter().map(Server::connections).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn what_was_refused_is_told_with_its_smallest_rule() {
    let (net, servers) = hosts(&[("one.test", "203.0.113.10"), ("two.test", "203.0.113.20")]);
    let tasks = Tasks::under(&net, &["one.test:443"]);
    tasks.script("curl -sS https://one.test/; curl -sS https://two.test/").code(6).prints("this is one.test");
    assert_eq!(servers[1].connections(), 0);
    let told = tasks.aegis.call(&["why", &newest(&tasks)]);
    told.code(0).prints("two.test: no rule names it").prints("{ host = \"two.test\", ports = [443] }");
    assert!(!told.stdout.contains("one.test"), "{told:#?}");
    let told: Value =
        serde_json::from_str(&tasks.aegis.call(&["why", &newest(&tasks), "--json"]).stdout).expect("JSON");
    assert_eq!(told["denials"][0]["rule"], "{ host = \"two.test\", ports = [443] }");
}

/// The short id of the newest run.
fn newest(tasks: &Tasks) -> String {
    let listed = tasks.aegis.call(&["ps", "-a", "--json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    listed.pointer("/0/short_id").and_then(Value::as_str).expect("a run").to_owned()
}
