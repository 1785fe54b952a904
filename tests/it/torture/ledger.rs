//! OF-02: clients submit numbered tasks over the interface while servers, worker hosts and PostgreSQL are killed, and each
//! attempt writes its number into a ledger that is none of ours, and holds that connection as long as it runs. What clients
//! were told, what the records say and what the ledger has must be the same story.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use aegis::task::RunId;

use crate::support::aegis::{Aegis, long_form};
use crate::support::cluster::Cluster;
use crate::support::netns::{Net, server};
use crate::support::random::Random;
use crate::support::serving::{Books, Server, asked};
use crate::torture::{end, ended_once};

const CLIENTS: u32 = 8;
/// How long they submit, and the pause of one between two tasks.
const TIME_MS: (u64, u64) = (6_000, 300_000);
const PAUSE_MS: (u64, u64) = (1_500, 4_000);
/// Time that a process lives at the most once it serves.
const LIFE_MS_MAX: u64 = 1_200;
/// Time in which a submission is taken that is asked for again and again.
const TAKEN_TIME_MAX: Duration = Duration::from_secs(90);
/// The one host that a task may speak to.
const LEDGER: &str = "203.0.113.10:5432";
const RULES: &str = "extends = \"strict\"\n[network]\negress = \"rules\"\n[[network.allow]]\nhost = \"ledger.test\"\nports = [5432]\nopaque = true\n";

/// What the ledger has: how often each number was written, and what broke the rules.
#[derive(Default)]
struct Ledger {
    entries: BTreeMap<u32, u32>,
    live: BTreeMap<u32, TcpStream>,
    twice_at_once: Vec<u32>,
}

impl Ledger {
    /// Notes a connection's number, then waits for its end.
    fn keep(ledger: &Mutex<Self>, mut stream: TcpStream) {
        let mut line = String::new();
        let Ok(reading) = stream.try_clone() else { return };
        let read = BufReader::new(reading.take(100)).read_line(&mut line);
        // One that ended before it had said its number did nothing.
        let (Ok(1..), Ok(number)) = (read, line.trim().parse::<u32>()) else { return };
        {
            let mut ledger = ledger.lock().expect("nobody panics with it");
            *ledger.entries.entry(number).or_default() += 1;
            let before = ledger.live.insert(number, stream.try_clone().expect("one more"));
            if before.is_some_and(|it| is_open(&it)) {
                ledger.twice_at_once.push(number);
            }
        }
        // A command that ends takes its connections along, those that the gateway has not opened yet, too.
        let _ = stream.write_all(b"noted\n");
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
}

/// Whether the other side still has a connection: its end is known to the kernel before anybody reads it.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("set");
    let looked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("set");
    looked.is_err_and(|it| it.kind() == ErrorKind::WouldBlock)
}

/// What a client was told: its number, the run, and whether the task may be repeated.
type Told = (u32, RunId, bool);

/// Submits until the time is over; each is asked for until it is taken, under a key of its own.
fn client(front: &Aegis, client: u32, until: Instant, random: &Random) -> Vec<Told> {
    let pause = if long_form() { PAUSE_MS.1 } else { PAUSE_MS.0 };
    let mut told = Vec::new();
    let mut number = client;
    while Instant::now() < until {
        let idempotent = random.below(2) == 0;
        let script = format!(
            "exec 3<>/dev/tcp/ledger.test/5432; echo {number} >&3; read -r -u 3; sleep 0.{}",
            random.below(8)
        );
        let document = serde_json::json!({"name": "ledger.toml", "text": RULES});
        let body = serde_json::json!({
            "command": ["bash", "-ec", script],
            "policy_document": document,
            "schedule": {"idempotent": idempotent, "attempts_max": 100},
        });
        let key = format!("idempotency-key: task-{number}\r\n");
        let run = taken(front, &key, &body.to_string());
        told.push((number, run, idempotent));
        number += CLIENTS;
        std::thread::sleep(Duration::from_millis(random.below(2 * pause)));
    }
    told
}

fn taken(front: &Aegis, key: &str, body: &str) -> RunId {
    let begun = Instant::now();
    loop {
        match asked(front, "POST", "/api/v1/runs", key, body) {
            Some(answer) if [200, 201].contains(&answer.status) => {
                return answer.json()["id"].as_str().expect("an id").parse().expect("an id");
            }
            Some(answer) => assert!([429, 503].contains(&answer.status), "{answer:#?}"),
            None => {}
        }
        assert!(begun.elapsed() < TAKEN_TIME_MAX, "nobody takes it");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Kills a process again and again until the time is over; how often.
fn killed(aegis: &Aegis, flags: &[&str], up: &RwLock<()>, until: Instant, random: &Random) -> u32 {
    let mut count = 0;
    while Instant::now() < until {
        let server = {
            let _books_answer = up.read().expect("nobody panics with it");
            Server::start(aegis, flags)
        };
        std::thread::sleep(Duration::from_millis(random.below(LIFE_MS_MAX)));
        server.kill();
        count += 1;
    }
    count
}

#[test]
fn of_02_clients_records_and_an_outside_ledger_tell_the_same_story() {
    let Some(mut cluster) = Cluster::start() else { return };
    let net = Net::new();
    net.dns.set("ledger.test", &["203.0.113.10"]);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let keeping = ledger.clone();
    let _outside = server::Server::stream(&net, LEDGER, move |stream| Ledger::keep(&keeping, stream));
    let url = cluster.url();
    let front = net.aegis();
    let socket = format!("unix:{}/aegis.sock", front.state().display());
    let host = net.aegis().with("AEGIS_SERVER", &socket);
    let books = Books::at(&url);
    let random = Random::seeded_by_the_caller();
    let front_flags = ["--database", &url, "--name", "front", "--workers", "2"];
    let host_flags = ["--database", &url, "--role", "worker", "--name", "host", "--workers", "2"];
    let until = Instant::now() + Duration::from_millis(if long_form() { TIME_MS.1 } else { TIME_MS.0 });
    let up = RwLock::new(());
    let (told, kills, server) = std::thread::scope(|scope| {
        let (front, host, up, random) = (&front, &host, &up, &random);
        let (front_flags, host_flags) = (&front_flags, &host_flags);
        let clients: Vec<_> =
            (0..CLIENTS).map(|it| scope.spawn(move || client(front, it, until, random))).collect();
        let server = scope.spawn(move || killed(front, front_flags, up, until, random));
        let worker = scope.spawn(move || killed(host, host_flags, up, until, random));
        let mut kills = 0;
        let pause = until.saturating_duration_since(Instant::now()) / if long_form() { 20 } else { 2 };
        while !server.is_finished() {
            std::thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
            let _nobody_begins = up.write().expect("nobody panics with it");
            cluster.crash();
            cluster.begin();
            kills += 1;
            if Instant::now() >= until {
                break;
            }
        }
        kills += server.join().expect("it holds") + worker.join().expect("it holds");
        // Those whose last submission nobody has taken yet need somebody.
        let last = Server::start(front, front_flags);
        let told: Vec<Told> = clients.into_iter().flat_map(|it| it.join().expect("it holds")).collect();
        (told, kills, last)
    });
    println!("{} tasks, {kills} kills", told.len());
    let worker = Server::start(&host, &host_flags);
    check(&books, &cluster, &ledger, &told, &server);
    end(&host, worker);
    end(&front, server);
}

/// The checker, over all three.
fn check(books: &Books, cluster: &Cluster, ledger: &Mutex<Ledger>, told: &[Told], server: &Server) {
    let runs: BTreeSet<RunId> = told.iter().map(|it| it.1).collect();
    assert_eq!(runs.len(), told.len(), "each number is a run of its own");
    let mut outcomes = Vec::new();
    for (number, run, idempotent) in told {
        outcomes.push((*number, *run, *idempotent, ended_once(books, *run, server)));
    }
    let recorded = cluster.sql("books", "SELECT count(*) FROM runs");
    assert_eq!(recorded, told.len().to_string(), "runs that nobody asked for, or was told of");
    let ledger = ledger.lock().expect("nobody panics with it");
    assert!(ledger.twice_at_once.is_empty(), "live twice at once: {:?}", ledger.twice_at_once);
    let numbers: BTreeSet<u32> = told.iter().map(|it| it.0).collect();
    let foreign: Vec<&u32> = ledger.entries.keys().filter(|it| !numbers.contains(it)).collect();
    assert!(foreign.is_empty(), "nobody submitted {foreign:?}");
    for (number, run, idempotent, outcome) in outcomes {
        let written = ledger.entries.get(&number).copied().unwrap_or(0);
        let events = books.events(run);
        let released = events.iter().filter(|it| it.as_str() == "Running").count() as u32;
        let story = format!("{number}: {outcome}, {written} entries, {events:?}");
        match outcome.as_str() {
            "exited(0)" => assert!(written >= 1, "it did nothing: {story}"),
            "lost(owner)" => assert!(!idempotent && released == 1, "{story}"),
            other => panic!("{other}: {story}"),
        }
        assert!(written <= released, "more attempts than were documented: {story}");
        assert!(idempotent || written <= 1, "{story}");
        let epochs = cluster.sql(
            "books",
            &format!(
                "SELECT detail::json->>'epoch' FROM events WHERE run_id = '{run}' AND kind = 'leased' ORDER BY seq"
            ),
        );
        let epochs: Vec<u64> = epochs.lines().map(|it| it.parse().expect("a number")).collect();
        assert!(epochs.is_sorted_by(|a, b| a < b) && !epochs.is_empty(), "{epochs:?}: {story}");
    }
}
