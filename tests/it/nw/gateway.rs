//! The gateway as a process: what it may do, that it ends with its run, and that a run goes on without it and has no way
//! out then.

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::aegis::{Aegis, docker, eventually};
use crate::support::netns::Net;
use crate::support::netns::server::{Server, page};
use crate::support::netns::task::Tasks;
use crate::watched::Watched;

/// A namespace with `allowed.test` at 203.0.113.10, which says `hello` over TLS.
fn allowed() -> (Net, Server) {
    let net = Net::new();
    net.dns.set("allowed.test", &["203.0.113.10"]);
    let tls = net.tls(&["allowed.test"], &["http/1.1"]);
    let server = Server::https(&net, "203.0.113.10:443", tls, |_| page("hello"));
    (net, server)
}

fn children(process: u32) -> Vec<u32> {
    let listed =
        std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    listed.split_whitespace().map(|it| it.parse().unwrap()).collect()
}

fn command_line(process: u32) -> String {
    std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default()
}

/// The gateways of a run's owner.
fn gateways(run: &Watched<'_>) -> Vec<u32> {
    children(run.pid()).into_iter().filter(|it| command_line(*it).ends_with("\0gateway\0")).collect()
}

#[track_caller]
fn gateway(run: &Watched<'_>) -> u32 {
    let found = gateways(run);
    assert_eq!(found.len(), 1, "one run has one gateway");
    found[0]
}

fn kill(process: u32) {
    kill_process(Pid::from_raw(process.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn a_gateway_has_a_filter_and_nothing_that_it_did_not_get_from_its_owner() {
    let (net, _server) = allowed();
    let tasks = Tasks::under(&net, &["allowed.test:443"]);
    let mut run = tasks.watched("curl -sS https://allowed.test/; echo; echo ready; read -r line");
    run.wait_for("ready");
    let gateway = gateway(&run);
    let status = std::fs::read_to_string(format!("/proc/{gateway}/status")).unwrap();
    for line in [
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "Threads:\t1",
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        // An account of its own, in no group: its owner is root here.
        "Uid:\t1999999999\t1999999999\t1999999999\t1999999999\n",
        "Gid:\t1999999999\t1999999999\t1999999999\t1999999999\n",
        "Groups:\t \n",
    ] {
        assert!(status.contains(line), "no `{line}` in {status}");
    }
    assert_eq!(std::fs::read(format!("/proc/{gateway}/environ")).unwrap(), b"");
    // What it has: the null device, its connection, its runtime's own, and sockets of the sandbox and of hosts.
    let mut others = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{gateway}/fd")).unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
        let own = ["socket:", "anon_inode:[eventpoll]", "anon_inode:[eventfd]"];
        if !own.iter().any(|it| target.starts_with(it)) && target != "/dev/null" {
            others.push(target);
        }
    }
    assert_eq!(others, [""; 0]);
    // Others of the same user cannot look into it: what tells of a process that is not dumpable belongs to root.
    let environ = std::fs::metadata(format!("/proc/{gateway}/environ")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&environ), 0);
    run.say("done");
    run.end().code(0);
    eventually("the gateway ends with its run", Duration::from_secs(10), || command_line(gateway).is_empty());
}

#[test]
fn a_run_without_a_way_out_has_no_gateway() {
    let aegis = Aegis::new();
    let mut run = Watched::script(&aegis, &[], "echo ready; read -r line");
    run.wait_for("ready");
    assert_eq!(gateways(&run), [0; 0]);
    run.say("done");
    run.end().code(0);
}

#[test]
fn a_gateway_is_started_by_nobody_else() {
    let ended = Aegis::new().call(&["gateway"]);
    ended.code(2).says("`aegis gateway` is a part of `aegis run`");
}

#[test]
fn a_gateway_ends_with_its_owner_however_that_ends() {
    let (net, _server) = allowed();
    let tasks = Tasks::under(&net, &["allowed.test:443"]);
    let mut run = tasks.watched("echo ready; read -r line");
    run.wait_for("ready");
    let gateway = gateway(&run);
    run.signal(Signal::KILL);
    eventually("the gateway ends with its owner", Duration::from_secs(10), || {
        command_line(gateway).is_empty()
    });
    run.end();
}

#[test]
fn nw_29_without_its_gateway_a_task_has_no_way_out_and_goes_on() {
    let (net, server) = allowed();
    let tasks = Tasks::under(&net, &["allowed.test:443"]);
    let script = "curl -sS https://allowed.test/; echo; echo ready; read -r line
        curl -sS -m 10 https://allowed.test/ && echo BREACH; getent hosts allowed.test && echo BREACH resolver
        curl -sS -m 10 --resolve allowed.test:443:127.64.0.1 https://allowed.test/ && echo BREACH kept; echo went on";
    let mut run = tasks.watched(script);
    run.wait_for("ready");
    eventually("the first request is on record", Duration::from_secs(10), || {
        tasks.verdicts() == ["allowed.test:443 allowed"]
    });
    kill(gateway(&run));
    run.say("go");
    let ended = run.end();
    ended.code(0).no_breach().prints("went on");
    ended.says("aegis: network: the gateway ended: the task has no way out any more");
    assert_eq!(server.connections(), 1);
    assert_eq!(tasks.verdicts(), [" failed_gateway", "allowed.test:443 allowed"]);
}

#[test]
fn nw_28_two_tasks_do_not_meet() {
    let (net, _server) = allowed();
    let first = Tasks::under(&net, &["allowed.test:443"]);
    let second = Tasks::under(&net, &["allowed.test:443"]);
    let mut listening = first.watched(
        "python3 - <<'PY' &
import socket
s = socket.create_server(('0.0.0.0', 8080)); print('ready', flush=True); s.accept(); print('BREACH', flush=True)
PY
        read -r line; kill %1",
    );
    listening.wait_for("ready");
    let script = "python3 - <<'PY'
import socket
for host in ('127.0.0.1', '127.64.0.1', '127.0.0.11', '203.0.113.10', 'allowed.test', 'sandbox', '172.17.0.2', '172.17.0.3'):
    s = socket.socket(); s.settimeout(1)
    try: s.connect((host, 8080)); print('BREACH', host)
    except OSError: pass
print('tried')
PY";
    second.script(script).code(0).no_breach().prints("tried");
    listening.say("done");
    listening.end().no_breach();
}

#[test]
fn nw_32_a_task_that_takes_everything_takes_it_from_itself() {
    let (net, _server) = allowed();
    net.dns.set("bulk.test", &["203.0.113.20"]);
    let sink = Server::stream(&net, "203.0.113.20:9000", |mut stream| {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let greedy = Tasks::under(&net, &["bulk.test:9000 opaque"]);
    let script = "python3 - <<'PY'
import socket, threading
kept, refused = [], False
while not refused and len(kept) < 1000:
    s = socket.socket(); s.settimeout(10)
    try:
        s.connect(('bulk.test', 9000)); kept.append(s)
        # One that is refused is reset after its handshake.
        s.settimeout(0.001 if len(kept) <= 512 else 5); s.recv(1)
    except TimeoutError: pass
    except ConnectionResetError: refused = True
print('refused', refused, flush=True)
print('ready', flush=True)
for i in range(1 << 30):
    kept[0].settimeout(30); kept[0].sendall(bytes(1 << 20))
PY";
    let mut run = greedy.watched(script);
    run.wait_for("refused True");
    run.wait_for("ready");
    let other = Tasks::under(&net, &["allowed.test:443"]);
    let timed = "python3 - <<'PY'
import ssl, time, urllib.request as u
begun = time.monotonic(); u.urlopen('https://allowed.test/').read(); print('took', time.monotonic() - begun)
PY";
    let ended = other.script(timed);
    ended.code(0);
    let took: f64 = ended.stdout.trim().strip_prefix("took ").unwrap().parse().unwrap();
    assert!(took < 1.0, "{took} s");
    assert!(sink.connections() <= 512, "{}", sink.connections());
    run.signal(Signal::TERM);
    run.end();
}

#[test]
fn nw_34_nothing_of_a_way_out_stays() {
    let net = Net::new();
    net.dns.set("allowed.test", &["203.0.113.10"]);
    let _server = Server::stream(&net, "203.0.113.10:443", |mut stream| drop(stream.write_all(b"x")));
    let state = || {
        let rules =
            std::process::Command::new("iptables-save").output().map(|it| it.stdout).unwrap_or_default();
        // Counters of packets are no rules.
        let rules = String::from_utf8_lossy(&rules).lines().filter(|it| it.starts_with('-')).count();
        let links = std::fs::read_dir("/sys/class/net").unwrap().count();
        (rules, links, docker(&["network", "ls", "-q"]).lines().count())
    };
    let before = state();
    for round in 0..4 {
        let tasks = Tasks::under(&net, &["allowed.test:443 opaque"]);
        let mut run =
            tasks.watched("curl -s telnet://allowed.test:443 </dev/null; echo; echo ready; read -r line");
        run.wait_for("ready");
        let gateway = gateway(&run);
        if round % 2 == 0 {
            run.signal(Signal::KILL);
            run.end();
        } else {
            run.say("done");
            run.end().code(0);
        }
        eventually("the gateway is gone", Duration::from_secs(10), || command_line(gateway).is_empty());
    }
    assert_eq!(state(), before);
}

#[test]
fn a_task_that_takes_a_port_first_has_only_that_name_less() {
    let (net, server) = allowed();
    net.dns.set("other.test", &["203.0.113.10"]);
    let tasks = Tasks::under(&net, &["allowed.test:443", "other.test:8443"]);
    let script = "python3 - <<'PY'
import socket
for kind in (1, 2):
    try: socket.socket(2, kind).bind(('127.0.0.1', 53)); print('BREACH', kind)
    except OSError as e: print('taken', e.errno)
taken = socket.create_server(('0.0.0.0', 443))
try: print('BREACH', socket.getaddrinfo('allowed.test', 443))
except socket.gaierror as e: print('no answer')
print(socket.getaddrinfo('other.test', 8443)[0][4])
taken.close()
print(socket.getaddrinfo('allowed.test', 443)[0][4])
PY
        curl -sS https://allowed.test/";
    let ended = tasks.script(script);
    ended
        .code(0)
        .no_breach()
        .prints("taken 98\ntaken 98\n")
        .prints("no answer")
        .prints("('127.64.0.2', 8443)");
    ended.prints("('127.64.0.1', 443)").prints("hello");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_run_that_ends_while_it_asks_ends_well() {
    let (net, _server) = allowed();
    let rules: Vec<String> = (0..40).map(|it| format!("n{it}.test:443")).collect();
    let tasks = Tasks::under(&net, &rules.iter().map(String::as_str).collect::<Vec<_>>());
    let begun = Instant::now();
    let script =
        "for i in $(seq 0 39); do (exec getent hosts n$i.test >/dev/null) & done; echo >/tmp/out; exit 7";
    tasks.script_with(&["-o", "/tmp/out"], script).code(7);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}
