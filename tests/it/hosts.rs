//! Many worker hosts: who takes what, what an operator wants, where logs and outputs are read, and what becomes of runs
//! whose host is cut off, killed or paused.

use std::time::Duration;

use aegis::access::Role;
use aegis::queue::{Claimed, Queue, Worker};
use aegis::record::{Fence, Owner};
use aegis::task::{RunId, RunState};
use rustix::process::Signal;

use crate::support::aegis::{Aegis, Ended, eventually, repetitions};
use crate::support::cluster::{Cluster, Door};
use crate::support::hosts::{HUB, Machine, Network};
use crate::support::server;
use crate::support::serving::{Books, Server, Task};

/// Time that a run may take that another host takes over: a lease, the look at who lives, an attempt, on a loaded machine.
const TAKEOVER_TIME_MAX: Duration = Duration::from_secs(240);

/// A command for the server whose socket lies in its state directory.
#[track_caller]
fn ask(server: &Aegis, arguments: &[&str]) -> Ended {
    let socket = format!("unix:{}/aegis.sock", server.state().display());
    let at = arguments.iter().position(|it| *it == "--").unwrap_or(arguments.len());
    let mut all = arguments[..at].to_vec();
    all.extend(["--server", &socket]);
    all.extend(&arguments[at..]);
    server.call(&all)
}

#[track_caller]
fn submitted(server: &Aegis, flags: &[&str], script: &str) -> String {
    let mut arguments = vec!["run", "--detach", "--image", "aegis/minimal", "--no-workspace"];
    arguments.extend(flags);
    arguments.extend(["--", "/bin/sh", "-c", script]);
    let ended = ask(server, &arguments);
    ended.code(0);
    ended.stdout.trim().to_owned()
}

#[test]
fn a_drained_worker_takes_nothing_until_it_is_told_to_go_on() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--name", "alpha", "--label", "disk=fast", "--workers", "2"]);
    let listed = || ask(&aegis, &["worker", "ls"]).code(0).stdout.clone();
    eventually("it is listed", Duration::from_secs(60), || listed().contains("alpha  taking  0/2  arch="));
    assert!(listed().contains("disk=fast"), "{}", listed());
    ask(&aegis, &["worker", "drain", "alpha"]).code(0);
    let waits = submitted(&aegis, &[], "exit 4").parse().expect("an id");
    // Three times the slow look, in which it would have been claimed.
    std::thread::sleep(Duration::from_secs(3));
    assert!(listed().contains("alpha  draining"), "{}", listed());
    server.signal(Signal::TERM);
    server.finish();
    assert_eq!(books.run(waits).state, RunState::Queued);
    let again = Server::start(&aegis, &["--name", "alpha", "--workers", "2"]);
    assert!(listed().contains("alpha  draining"), "a restart changes nothing: {}", listed());
    assert_eq!(books.run(waits).state, RunState::Queued);
    ask(&aegis, &["worker", "resume", "alpha"]).code(0);
    assert_eq!(books.outcome(waits, &again), "exited(4)");
    ask(&aegis, &["worker", "drain", "beta"]).code(1).says("worker");
}

#[test]
fn a_run_that_asks_for_a_label_waits_for_a_host_that_offers_it() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let plain = Server::start(&aegis, &[]);
    let run = submitted(&aegis, &["--worker-label", "disk=fast"], "exit 6");
    let other = submitted(&aegis, &[], "exit 5");
    ask(&aegis, &["wait", &other]).code(5);
    let run_id = run.parse().expect("an id");
    assert_eq!(books.run(run_id).state, RunState::Queued, "it was taken by a host without the label");
    plain.signal(Signal::TERM);
    plain.finish();
    let server = Server::start(&aegis, &["--label", "disk=fast"]);
    assert_eq!(books.outcome(run_id, &server), "exited(6)");
}

#[test]
fn a_worker_host_is_refused_with_what_it_lacks() {
    let aegis = Aegis::new().with("AEGIS_SERVER", "https://aegis.example.org");
    let worker = |more: &[&str]| aegis.call(&[&["serve", "--role", "worker"], more].concat());
    worker(&[]).code(2).says("AEGIS_DATABASE");
    worker(&["--database", "postgresql:///aegis", "--listen", "127.0.0.1:0"]).code(2).says("listens nowhere");
    for mode in ["prefer", "require", "verify-ca"] {
        let url = format!("postgresql://aegis@db.example.org/aegis?sslmode={mode}");
        worker(&["--database", &url]).code(125).says("sslmode=verify-full");
    }
    let alone = Aegis::new().call(&["serve", "--role", "worker", "--database", "postgresql:///aegis"]);
    alone.code(2).says("AEGIS_SERVER");
}

/// A run of a server that nobody runs, under lease by a worker of this test.
fn leased(server: &server::Server) -> (Claimed, Worker) {
    let admin = server.token("admin", Role::Admin, None);
    server.queued(&admin);
    let worker = Worker {
        name: "alpha".to_owned(),
        owner: Owner { pid: 1, lock: "00ff".to_owned() },
        labels: Vec::new(),
        capacity: 1,
    };
    let claimed = server.within(server.store.claim(&worker, 1)).expect("claimed").remove(0);
    (claimed, worker)
}

fn log_path(fence: Fence, owner: &str) -> String {
    let Fence { run, attempt, epoch } = fence;
    format!("/api/v1/work/{run}/log?attempt={attempt}&epoch={epoch}&owner={owner}")
}

/// One entry of a log: four bytes of standard output.
const PIECE: &str = r#"{"after": 0, "entries": "AQAAAAAAAAAEAAAAAQAAAGJ5dGU="}"#;

#[test]
fn a_worker_hands_in_what_is_under_its_lease_and_nothing_else() {
    let server = server::Server::new();
    let (claimed, worker) = leased(&server);
    let token = server.token("alpha", Role::Worker, None);
    let fence = claimed.fence;
    let own = log_path(fence, &worker.owner.lock);
    let first = server.ask(&token, "POST", &own, PIECE).is(200).json();
    assert_eq!((&first["added"], &first["entries"]), (&true.into(), &1.into()));
    let again = server.ask(&token, "POST", &own, PIECE).is(200).json();
    assert_eq!((&again["added"], &again["entries"]), (&false.into(), &1.into()), "the same twice");
    for foreign in [
        log_path(fence, "00fe"),
        log_path(Fence { epoch: fence.epoch + 1, ..fence }, &worker.owner.lock),
        log_path(Fence { attempt: 9, ..fence }, &worker.owner.lock),
        log_path(Fence { run: RunId::generate(), ..fence }, &worker.owner.lock),
    ] {
        server.ask(&token, "POST", &foreign, PIECE).refused(404);
    }
    server.ask(&token, "POST", &own, r#"{"after": 1, "entries": "AAAA"}"#).refused(400);
    let log = server.ask("aegis_test_admin", "GET", &format!("/api/v1/runs/{}/logs", fence.run), "");
    assert!(log.is(200).body.contains("byte"), "{log:?}");
    // Somebody else has it from now on: what comes late is not taken.
    server.within(server.store.give_back(&[fence])).expect("given back");
    server.ask(&token, "POST", &own, PIECE).refused(404);
}

#[test]
fn a_workers_token_opens_nothing_but_its_work_and_no_other_opens_that() {
    let server = server::Server::new();
    let (claimed, worker) = leased(&server);
    let token = server.token("alpha", Role::Worker, None);
    let run = claimed.fence.run;
    let cancel = format!("/api/v1/runs/{run}/cancel");
    let reads = ["", "/events", "/logs", "/egress"].map(|it| format!("/api/v1/runs/{run}{it}"));
    for path in reads.iter().map(String::as_str).chain(["/api/v1/runs", "/api/v1/workers", "/metrics"]) {
        server.ask(&token, "GET", path, "").refused(403);
    }
    for (path, body) in [("/api/v1/runs", r#"{"command": ["true"]}"#), (&*cancel, "{}")] {
        server.ask(&token, "POST", path, body).refused(403);
    }
    server.ask(&token, "POST", "/api/v1/workers/alpha/drain", "{}").refused(403);
    let own = log_path(claimed.fence, &worker.owner.lock);
    for (name, role, project) in [
        ("reader", Role::Read, None),
        ("submitter", Role::Submit, None),
        ("approver", Role::Approve, None),
        ("of_one", Role::Worker, Some("default")),
    ] {
        let other = server.token(name, role, project);
        server.ask(&other, "POST", &own, PIECE).refused(403);
    }
    let new = r#"{"name": "beta", "role": "worker", "project": "web"}"#;
    server.ask("aegis_test_admin", "POST", "/api/v1/tokens", new).refused(400);
}

#[test]
fn outputs_of_a_run_that_goes_on_or_has_none_are_not_taken() {
    let server = server::Server::new();
    let (claimed, worker) = leased(&server);
    let token = server.token("alpha", Role::Worker, None);
    let Fence { run, attempt, epoch } = claimed.fence;
    let lease = format!("attempt={attempt}&epoch={epoch}&owner={}", worker.owner.lock);
    let output = format!("/api/v1/work/{run}/outputs/0?{lease}&offset=0");
    server.ask(&token, "PUT", &output, "content").refused(409);
    server.ask(&token, "GET", &format!("/api/v1/work/{run}/workspace?{lease}"), "").refused(404);
    let path = format!("/api/v1/work/..%2f..%2fruns/outputs/0?{lease}&offset=0");
    assert!([400, 404].contains(&server.ask(&token, "PUT", &path, "content").status));
}

/// A server and its database, for worker hosts of this machine's engine.
struct House {
    aegis: Aegis,
    postgres: Cluster,
}

impl House {
    fn new() -> Self {
        let postgres = Cluster::start().expect("PostgreSQL is installed");
        Self { aegis: Aegis::new().with("AEGIS_DATABASE", &postgres.url()), postgres }
    }

    /// The server; its own worker has one slot, and `role=hub`.
    fn serve(&self) -> Server {
        Server::start(&self.aegis, &["--name", "hub", "--workers", "1"])
    }

    /// A worker host that speaks to it over its socket.
    fn worker(&self) -> Aegis {
        let socket = format!("unix:{}/aegis.sock", self.aegis.state().display());
        Aegis::new().with("AEGIS_DATABASE", &self.postgres.url()).with("AEGIS_SERVER", &socket)
    }
}

#[test]
fn what_another_host_ran_is_read_from_the_server_even_when_that_was_away() {
    let house = House::new();
    let server = house.serve();
    let worker = house.worker();
    std::fs::write(house.aegis.here().join("given.txt"), "from the workspace").expect("written");
    let host = Server::start(&worker, &["--role", "worker", "--name", "alpha", "--label", "host=alpha"]);
    let script = "cat given.txt; echo; echo made >made.txt; i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done";
    let flags = ["run", "--detach", "--image", "aegis/minimal", "-w", ".", "-o", "made.txt"];
    let flags = [&flags[..], &["--worker-label", "host=alpha", "--", "/bin/sh", "-c", script]].concat();
    let run = ask(&house.aegis, &flags).code(0).stdout.trim().to_owned();
    ask(&house.aegis, &["wait", &run]).code(0);
    // The end of the log may come after the run's: who follows it waits for that.
    let log = ask(&house.aegis, &["logs", "-f", &run]);
    log.code(0).prints("from the workspace").prints("line 299");

    let late = submitted(&house.aegis, &["--worker-label", "host=alpha"], "sleep 4; echo told later");
    Books::at(&house.postgres.url()).until(late.parse().expect("an id"), RunState::Running, &host);
    server.signal(Signal::TERM);
    server.finish();
    eventually("its end is recorded", TAKEOVER_TIME_MAX, || {
        host.said().contains(&format!("run `{late}` is over"))
    });
    let again = house.serve();
    ask(&house.aegis, &["wait", &late]).code(0);
    eventually("its log comes later", TAKEOVER_TIME_MAX, || {
        ask(&house.aegis, &["logs", &late]).stdout.contains("told later")
    });
    let output = house.aegis.state().join("artifacts").join(&run).join("1/made.txt");
    eventually("its output is there", TAKEOVER_TIME_MAX, || {
        std::fs::read_to_string(&output).is_ok_and(|it| it == "made\n")
    });
    let left = || std::fs::read_dir(worker.state().join("handover")).map_or(0, Iterator::count);
    eventually("nothing waits on the worker", TAKEOVER_TIME_MAX, || left() == 0);
    // Old enough for what no record names: the records are not in the state directory.
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(7_200);
    let of_run = std::fs::File::open(house.aegis.state().join("artifacts").join(&run)).expect("it is there");
    of_run.set_modified(long_ago).expect("aged");
    house.aegis.call(&["gc"]).code(0).says("on a PostgreSQL server");
    assert!(output.exists(), "gc took what a run left");
    drop((host, again));
}

/// Three machines around one server.
struct Fleet {
    /// Before the machines: it goes last.
    server: Server,
    hub: Aegis,
    workers: Vec<(Aegis, Machine)>,
    url: String,
    _postgres: Cluster,
    _network: Network,
}

impl Fleet {
    fn new() -> Self {
        let network = Network::new();
        let machines = [1, 2, 3].map(|it| network.machine(it));
        let (certificate, key) = network.pair();
        let door = Door { namespace: network.hub(), address: HUB, pair: (&certificate, &key) };
        let postgres = Cluster::start_at(&door).expect("PostgreSQL is installed");
        let hub = Aegis::new().with("AEGIS_DATABASE", &postgres.url()).within(network.hub());
        for (name, text) in [("server.pem", &certificate), ("key.pem", &key)] {
            std::fs::write(hub.here().join(name), text).expect("written");
        }
        let socket = format!("unix:{}/aegis.sock", hub.state().display());
        let flags = ["--listen", &socket, "--listen", "10.77.0.1:7443", "--tls-certificate", "server.pem"];
        let flags = [&flags[..], &["--tls-key", "key.pem", "--name", "hub", "--workers", "1"]].concat();
        let server = Server::start(&hub, &flags);
        ask(&hub, &["worker", "drain", "hub"]).code(0);
        let made = ask(&hub, &["token", "create", "--name", "hosts", "--role", "worker"]);
        let token = made.code(0).stdout.trim().to_owned();
        let authority = network.authority().display().to_string();
        let url = format!("postgresql://aegis@{HUB}/books?sslmode=verify-full&sslrootcert={authority}");
        let mut workers = Vec::new();
        for machine in machines {
            machine.ready();
            let worker = Aegis::new()
                .with("DOCKER_HOST", &machine.docker_host())
                .with("AEGIS_DATABASE", &url)
                .with("AEGIS_SERVER", &format!("https://{HUB}:7443"))
                .with("AEGIS_TOKEN", &token)
                .with("SSL_CERT_FILE", &authority)
                .within(machine.namespace());
            workers.push((worker, machine));
        }
        Self { server, hub, workers, url: postgres.url(), _postgres: postgres, _network: network }
    }

    /// Starts the worker of a machine, from 0; it has three slots.
    fn start(&self, at: usize) -> Server {
        let (name, label) = (format!("host-{at}"), format!("host=host-{at}"));
        Server::start(
            &self.workers[at].0,
            &["--role", "worker", "--name", &name, "--label", &label, "--workers", "3"],
        )
    }
}

/// A run that says which it is, and takes its time.
fn slow(seconds: u32, number: usize) -> Task {
    Task::minimal(&format!("sleep {seconds}; echo finished {number}"))
}

#[test]
fn heavy_no_run_is_lost_or_ended_twice_when_hosts_are_cut_off_killed_and_paused() {
    let rounds = repetitions(1, 10);
    let fleet = Fleet::new();
    let books = Books::at(&fleet.url);
    let mut hosts: Vec<Server> = (0..3).map(|it| fleet.start(it)).collect();
    for round in 0..rounds {
        // On each host one that may be run only once, and would outlast everything here.
        let once: Vec<Task> = (0..3).map(|it| slow(3_000, it).on(&format!("host-{it}"))).collect();
        let once = books.submit_all(&once);
        let again: Vec<Task> = (0..6).map(|it| slow(15, it).idempotent(20)).collect();
        let again = books.submit_all(&again);
        let all: Vec<_> = once.iter().chain(&again).copied().collect();
        let running =
            |runs: &[RunId]| runs.iter().filter(|it| books.run(**it).state == RunState::Running).count();
        eventually("every host is busy", TAKEOVER_TIME_MAX, || running(&once) == 3 && running(&again) >= 3);
        fleet.workers[0].1.link("down");
        hosts[1].signal(Signal::KILL);
        hosts[2].signal(Signal::STOP);
        drop(hosts.remove(1));
        hosts.insert(1, fleet.start(1));
        // Asleep and away for longer than their leases: others have ended what only they could have ended.
        let ended = |it: &RunId| books.run(*it).state == RunState::Done;
        eventually("their leases are over", TAKEOVER_TIME_MAX, || once.iter().all(ended));
        hosts[2].signal(Signal::CONT);
        fleet.workers[0].1.link("up");
        eventually("every run ends", TAKEOVER_TIME_MAX, || all.iter().all(ended));
        for run in &once {
            let outcome = books.run(*run).end.expect("it ended").outcome.to_string();
            assert_eq!(outcome, "lost(owner)", "round {round}: {run}: {:?}", books.events(*run));
        }
        for run in &again {
            let outcome = books.run(*run).end.expect("it ended").outcome.to_string();
            assert_eq!(outcome, "exited(0)", "round {round}: {run}: {:?}", books.events(*run));
            let log = || ask(&fleet.hub, &["logs", &run.to_string()]);
            eventually("its log is read from the server", TAKEOVER_TIME_MAX, || {
                log().stdout.matches("finished").count() == 1
            });
        }
        for run in &all {
            let ends = books.events(*run).iter().filter(|it| *it == "Done").count();
            assert_eq!(ends, 1, "round {round}: {run} ended {ends} times: {:?}", books.events(*run));
        }
    }
    for host in hosts {
        host.signal(Signal::TERM);
        let (code, said) = host.finish();
        assert_eq!(code, Some(0), "{said}");
    }
    for (worker, machine) in &fleet.workers {
        assert_eq!(machine.containers(), "", "something is left on an engine");
        let slots = std::fs::read_dir(worker.runtime().join("slots")).map_or(0, Iterator::count);
        assert_eq!(slots, 0, "slots are left");
    }
    fleet.server.signal(Signal::TERM);
    let (code, said) = fleet.server.finish();
    assert_eq!(code, Some(0), "{said}");
}
