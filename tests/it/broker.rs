//! The broker, driven with everything that a server which was taken over could send: it makes sandboxes of its instance and
//! nothing else, and each refusal names what stands against it.

mod service;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use aegis::container::Engine;
use aegis::sandbox::slot::{Slot, make_private};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::aegis::{Aegis, docker, eventually};
use crate::support::broker::{Activator, Door, Driven};
use crate::support::engine;
use crate::support::processes::{descriptors, peak_resident_bytes};
use crate::support::serving::{Books, Server, Task};

/// Requests of the flood.
const FLOOD: u64 = 10_000;
/// Memory that a broker may take, whatever it is sent.
const RESIDENT_BYTES_MAX: u64 = 128 << 20;

/// An instance with a slot, and the id of an image.
struct Place {
    aegis: Aegis,
    slot: Slot,
    image: String,
}

impl Place {
    fn new() -> Self {
        let aegis = Aegis::new();
        aegis.call(&["ps"]).code(0);
        let slot = Slot::make(&aegis.runtime()).expect("a slot");
        let image = docker(&["image", "inspect", "-f", "{{.Id}}", "aegis/minimal"]).trim().to_owned();
        assert!(image.starts_with("sha256:"), "the image is there");
        Self { aegis, slot, image }
    }

    /// A request that is followed.
    fn sound(&self) -> Value {
        json!({
            "slot": self.slot.number,
            "moment_ms": 1_700_000_000_000_u64,
            "image_id": self.image,
            "policy_digest": "0".repeat(64),
            "blanked_environment": [],
            "uid": self.slot.uid(),
            "runtime": "runc",
            "tmpfs": [{"point": "/tmp", "bytes": 1 << 20, "inodes": 100, "exec": false}],
            "authorities": false,
            "layers": null,
            "filter": {"ptrace": true, "netlink_route": true, "preallocation": true},
            "memory_bytes": 64 << 20,
            "pids": 50,
            "cpus_milli": 500,
            "nofile_soft": 256,
            "nofile_hard": 256,
            "file_bytes": 1 << 20
        })
    }

    /// The same with one field changed.
    fn with(&self, field: &str, value: Value) -> Value {
        let mut create = self.sound();
        create[field] = value;
        json!({"create": create})
    }

    #[track_caller]
    fn check_nothing_made(&self) {
        assert_eq!(self.aegis.containers(), Vec::<String>::new());
    }
}

#[test]
fn a_sandbox_of_the_one_shape_is_made_seen_and_removed() {
    let place = Place::new();
    let mut broker = Driven::of(&place.aegis);
    assert_eq!(broker.ask(json!("ping")), json!("done"));
    let created = broker.ask(json!({"create": place.sound()}));
    let container = created["created"]["container"].as_str().unwrap_or_else(|| panic!("{created}"));
    let listed = broker.ask(json!("list"));
    assert_eq!(listed["listed"][0]["id"], json!(container), "{listed}");
    let inspected = broker.ask(json!({"inspect": {"container": container}}));
    let settings = &inspected["inspected"]["settings"];
    assert_eq!(settings["HostConfig.NetworkMode"], json!("\"none\""), "{inspected}");
    assert_eq!(settings["HostConfig.CapDrop"], json!("[\"ALL\"]"), "{inspected}");
    assert_eq!(settings.get("HostConfig.Privileged"), None, "{inspected}");
    // Another broker of the instance knows it by its label.
    let mut another = Driven::of(&place.aegis);
    assert_eq!(another.ask(json!({"destroy": {"container": container}})), json!("done"));
    place.check_nothing_made();
    // Gone is gone.
    assert_eq!(broker.ask(json!({"destroy": {"container": container}})), json!("done"));
}

#[test]
fn what_the_shape_has_no_field_for_is_refused_by_name() {
    let place = Place::new();
    for (field, value) in [
        ("privileged", json!(true)),
        ("pid_mode", json!("host")),
        ("network_mode", json!("host")),
        ("ipc_mode", json!("host")),
        ("userns_mode", json!("host")),
        ("devices", json!([{"PathOnHost": "/dev/sda"}])),
        ("cap_add", json!(["SYS_ADMIN"])),
        ("binds", json!(["/:/host"])),
        ("mounts", json!([{"Type": "bind", "Source": "/var/run/docker.sock", "Target": "/x"}])),
        ("seccomp", json!("unconfined")),
        ("security_opt", json!(["apparmor=unconfined"])),
        ("entrypoint", json!(["/bin/sh"])),
        ("labels", json!({"aegis.instance": "deadbeef"})),
        ("readonly_rootfs", json!(false)),
        ("HostConfig", json!({"Privileged": true})),
    ] {
        let mut broker = Driven::of(&place.aegis);
        let mut create = place.sound();
        create[field] = value;
        broker.send(json!({"id": 7, "verb": {"create": create}}).to_string().as_bytes());
        let reason = broker.ends();
        assert!(reason.contains(&format!("unknown field `{field}`")), "{reason}");
    }
    place.check_nothing_made();
}

#[test]
fn a_verb_that_is_not_known_is_refused_by_name() {
    let place = Place::new();
    for verb in
        ["exec", "attach", "commit", "update", "build", "remove_image", "volume", "network", "archive"]
    {
        let mut broker = Driven::of(&place.aegis);
        broker.send(json!({"id": 7, "verb": {verb: {"container": "x"}}}).to_string().as_bytes());
        let reason = broker.ends();
        assert!(reason.contains(&format!("unknown variant `{verb}`")), "{reason}");
    }
}

#[test]
fn a_value_beyond_the_shape_is_refused_by_name() {
    let place = Place::new();
    let mut broker = Driven::of(&place.aegis);
    let point = |it: &str| json!([{"point": it, "bytes": 1, "inodes": 1, "exec": true}]);
    for (field, value) in [
        ("image_id", json!("aegis/minimal")),
        ("image_id", json!("aegis/minimal:latest")),
        ("uid", json!(0)),
        ("uid", json!(place.slot.uid() + 1)),
        ("runtime", json!("../../bin/sh")),
        ("runtime", json!("runsc")),
        ("slot", json!(4096)),
        ("memory_bytes", json!(u64::MAX)),
        ("pids", json!(0)),
        ("pids", json!(u64::MAX)),
        ("cpus_milli", json!(10_000_000)),
        ("nofile_hard", json!(u64::MAX)),
        ("tmpfs", point("/proc")),
        ("tmpfs", point("/.aegis")),
        ("tmpfs", point("/tmp/../sys")),
        ("tmpfs", point("/x,exec,uid=0")),
        ("layers", json!("../../../etc")),
        ("layers", json!(format!("{}.1/../../..", place.slot.number))),
        ("blanked_environment", json!(["LD_PRELOAD=/x"])),
        ("policy_digest", json!("\" , \"x\":1")),
    ] {
        let reason = broker.refused(place.with(field, value));
        assert!(reason.contains(&format!("`{field}`")), "{reason}");
    }
    place.check_nothing_made();
}

#[test]
fn what_leads_out_of_a_slot_is_refused() {
    let place = Place::new();
    let mut broker = Driven::of(&place.aegis);
    let (slots, number) = (place.aegis.runtime().join("slots"), place.slot.number.to_string());
    let inner = slots.join(&number).join("in");
    // A slot that was never made.
    assert!(broker.refused(place.with("slot", json!(4000))).contains("`uid`"));
    for (path, target) in [
        (inner.clone(), "/"),
        (inner.clone(), "/var/run"),
        (inner.join("aegis-init"), "/bin/sh"),
        (slots.join(&number), "/run"),
    ] {
        let aside = slots.with_file_name("aside");
        fs::rename(&path, &aside).expect("moved");
        symlink(target, &path).expect("a link");
        let reason = broker.refused(json!({"create": place.sound()}));
        assert!(reason.contains(&format!("`{}` is not what a slot has there", path.display())), "{reason}");
        fs::remove_file(&path).expect("removed");
        fs::rename(&aside, &path).expect("moved back");
    }
    // Authorities that are none of the slot's.
    symlink("/etc/shadow", inner.join("ca.pem")).expect("a link");
    let reason = broker.refused(place.with("authorities", json!(true)));
    assert!(reason.contains("ca.pem` is not what a slot has there"), "{reason}");
    let layers = json!(format!("{number}.1"));
    let reason = broker.refused(place.with("layers", layers.clone()));
    assert!(reason.contains("is not what a slot has there"), "{reason}");
    let runs = std::path::Path::new("/var/lib/sandbox-work").join(place.aegis.instance()).join("runs");
    make_private(&runs).expect("made");
    symlink("/etc", runs.join(layers.as_str().expect("text"))).expect("a link");
    let reason = broker.refused(place.with("layers", layers));
    assert!(reason.contains("is not what a slot has there"), "{reason}");
    place.check_nothing_made();
}

#[test]
fn containers_of_others_are_neither_seen_nor_touched() {
    let place = Place::new();
    let mut broker = Driven::of(&place.aegis);
    let started = |labels: &[&str]| {
        let mut arguments = vec!["run", "-d", "--rm", "--label", "aegis.test=broker", "--network", "none"];
        labels.iter().for_each(|it| arguments.extend(["--label", it]));
        arguments.extend(["aegis/minimal", "/bin/sleep", "300"]);
        docker(&arguments).trim().to_owned()
    };
    for others in [started(&[]), started(&["aegis.instance=deadbeef", "aegis.slot=0"])] {
        for verb in ["start", "inspect", "destroy", "out_of_memory_seen"] {
            let reason = broker.refused(json!({verb: {"container": others}}));
            assert!(reason.contains("is none of the instance"), "{reason}");
            for id in [&others[..12], "../images/json", "..", "", "some-name"] {
                let reason = broker.refused(json!({verb: {"container": id}}));
                assert!(reason.contains("`container` is not 64 hexadecimal digits"), "{reason}");
            }
        }
        assert_eq!(broker.ask(json!("list")), json!({"listed": []}));
        let running = docker(&["inspect", "-f", "{{.State.Running}}", &others]);
        docker(&["rm", "-f", &others]);
        assert_eq!(running.trim(), "true");
    }
}

#[test]
fn an_image_reference_leads_nowhere_else() {
    let place = Place::new();
    let mut broker = Driven::of(&place.aegis);
    for reference in
        ["../containers/json", "a/../../version", "a?fromSrc=-", "a b", "a#", "%2e%2e/info", "/x"]
    {
        for verb in ["image", "pull"] {
            let reason = broker.refused(json!({verb: {"reference": reference}}));
            assert!(reason.contains("`reference` is no image reference"), "{reason}");
        }
    }
}

#[test]
fn an_instance_is_told_first_once_and_is_the_servers_own() {
    let place = Place::new();
    let begin = |instance: &str| json!({"begin": {"instance": instance}});
    let mut broker = Driven::fresh(&place.aegis);
    for verb in [json!("ping"), json!("list"), json!({"create": place.sound()})] {
        assert!(broker.refused(verb).contains("the instance is told first, once"));
    }
    for instance in ["../..", "", "deadbeef", "DEADBEEF", "deadbee/"] {
        broker.refused(begin(instance));
    }
    // One whose directory belongs to somebody else.
    let foreign = std::path::Path::new("/run/aegis").join("f00dcafe");
    fs::create_dir_all(&foreign).expect("made");
    std::os::unix::fs::chown(&foreign, Some(1), Some(1)).expect("given");
    let reason = broker.refused(begin("f00dcafe"));
    fs::remove_dir(&foreign).expect("removed");
    assert!(reason.contains("it belongs to user 1"), "{reason}");
    assert_eq!(broker.ask(begin(&place.aegis.instance())), json!("done"));
    assert!(broker.refused(begin(&place.aegis.instance())).contains("the instance is told first, once"));
    place.check_nothing_made();
}

#[test]
fn bytes_that_are_no_message_end_the_connection_and_nothing_else() {
    let place = Place::new();
    let garbled = |bytes: &[u8], expected: &str| {
        let mut broker = Driven::of(&place.aegis);
        broker.write(bytes);
        broker.socket.shutdown(std::net::Shutdown::Write).expect("shut");
        let peak = peak_resident_bytes(broker.child.id());
        assert!(peak.is_none_or(|it| it < RESIDENT_BYTES_MAX), "{peak:?}");
        let reason = broker.ends();
        assert!(reason.contains(expected), "{reason}");
    };
    garbled(&[255, 255, 255, 255], "out of bounds");
    garbled(&[0, 0, 0, 0], "out of bounds");
    garbled(&[1, 0, 4, 0], "out of bounds");
    garbled(&[200, 0, 0, 0, b'{'], "cut off");
    garbled(&[9, 0], "cut off");
    garbled(b"\x04\0\0\0\xff\xfe\0\0", "expected value");
    let deep = "[".repeat(200_000);
    let mut frame = u32::try_from(deep.len()).expect("short").to_le_bytes().to_vec();
    frame.extend(deep.as_bytes());
    garbled(&frame, "");
}

#[test]
fn ten_thousand_requests_are_answered_and_bounded() {
    let place = Place::new();
    let mut broker = Driven::of(&place.aegis);
    let mut writer = broker.socket.try_clone().expect("a clone");
    let create = place.with("uid", json!(0));
    // Nobody reads while they are sent: the broker stops taking them, and goes on when its answers are taken.
    let sender = std::thread::spawn(move || {
        for id in 1..=FLOOD {
            let message = json!({"id": id, "verb": create}).to_string();
            let mut frame = u32::try_from(message.len()).expect("short").to_le_bytes().to_vec();
            frame.extend(message.as_bytes());
            std::io::Write::write_all(&mut writer, &frame).expect("taken");
        }
    });
    let mut answered = vec![false; usize::try_from(FLOOD).expect("small") + 1];
    for _ in 0..FLOOD {
        let answer = broker.answer().expect("an answer");
        assert!(answer["answered"]["failed"]["not_allowed"].is_object(), "{answer}");
        let id = usize::try_from(answer["id"].as_u64().expect("an id")).expect("small");
        assert!(!std::mem::replace(&mut answered[id], true), "{id} twice");
    }
    sender.join().expect("joined");
    let peak = peak_resident_bytes(broker.child.id()).expect("it lives");
    assert!(peak < RESIDENT_BYTES_MAX, "{peak}");
    assert!(descriptors(broker.child.id()) < 64);
    place.check_nothing_made();
}

/// The broker of a server, as the server tells it.
fn broker_of(server: &Server, earlier: &[u32]) -> u32 {
    let mut found = None;
    eventually("a broker is there", Duration::from_secs(60), || {
        let said = server.said();
        let told = said.lines().filter_map(|it| it.split_once("the broker is process "));
        let mut pids = told.filter_map(|(_, it)| it.split_whitespace().next()?.parse().ok());
        found = pids.rfind(|it| !earlier.contains(it));
        found.is_some()
    });
    found.expect("it was found")
}

#[test]
fn only_the_broker_comes_to_the_engine_and_it_has_nothing_else() {
    let door = Door::open();
    let aegis = Aegis::new().with("DOCKER_HOST", &door.address());
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--workers", "1"]);
    let run = books.submit(&Task::minimal("echo through the broker"));
    assert_eq!(books.outcome(run, &server), "exited(0)", "{}", server.said());
    let broker = broker_of(&server, &[]);
    let comers = door.comers();
    assert!(!comers.is_empty() && comers.iter().all(|it| *it == broker), "{broker}: {comers:?}");
    let status = fs::read_to_string(format!("/proc/{broker}/status")).expect("it lives");
    let field = |name: &str| status.lines().find_map(|it| it.strip_prefix(name)).unwrap_or_default().trim();
    assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), ("2", "1"));
    assert_eq!(u64::from_str_radix(field("CapEff:"), 16).expect("a number") & !(1 << 2), 0, "{status}");
    server.kill();
    eventually("the broker is gone", Duration::from_secs(10), || {
        !std::path::Path::new(&format!("/proc/{broker}/exe")).exists()
    });
}

#[test]
fn a_broker_that_is_killed_is_had_again_and_no_run_is_lost() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--workers", "1"]);
    let mut killed = Vec::new();
    for _ in 0..2 {
        let broker = broker_of(&server, &killed);
        let run = books.submit(&Task::minimal("echo before"));
        assert_eq!(books.outcome(run, &server), "exited(0)", "{}", server.said());
        let pid = Pid::from_raw(i32::try_from(broker).expect("a pid")).expect("a pid");
        kill_process(pid, Signal::KILL).expect("killed");
        killed.push(broker);
        // Asked for while there is none.
        let run = books.submit(&Task::minimal("echo after"));
        assert_eq!(books.outcome(run, &server), "exited(0)", "{}", server.said());
    }
    assert!(server.said().contains("the engine cannot be had"), "{}", server.said());
}

#[tokio::test]
async fn a_container_of_another_shape_is_not_even_asked_for() {
    use aegis::broker::BrokeredEngine;
    use aegis::broker::link::Order;
    use aegis::broker::shape::{self, Ground};
    use aegis::broker::wire::Create;

    let Some(_engine) = engine::engine().await else { return };
    let place = tokio::task::spawn_blocking(Place::new).await.expect("made");
    let directory = tempfile::tempdir().expect("a directory");
    let aegis = place.aegis.command(&["broker", "--runtime-root", "/run/aegis"]);
    let program = aegis.get_program().to_owned();
    let activator = Activator::listen(directory.path().join("broker.sock"), 0, move || {
        let mut command = std::process::Command::new(&program);
        command.args(["broker", "--runtime-root", "/run/aegis"]);
        command
    });
    let path = activator.address().trim_start_matches("unix:").into();
    let ground = Ground::of(place.aegis.instance(), place.aegis.runtime(), None);
    let broker = BrokeredEngine::open(&Order::Reach(path), ground.clone().into()).await.expect("it answers");
    broker.ping().await.expect("the engine answers");
    let create: Create = serde_json::from_value(place.sound()).expect("sound");
    let mut spec = shape::whole(&create, &ground);
    let container = broker.create(&spec).await.expect("made");
    broker.destroy(&container).await.expect("removed");
    spec.binds[0].source = "/".into();
    let refused = broker.create(&spec).await.expect_err("refused").to_string();
    assert!(refused.contains("another shape"), "{refused}");
    assert!(broker.list("aegis.instance=deadbeef").await.is_err());
}
