//! NW of the checks where a policy has egress: what is named is reached through the host's gateway.

use std::io::{Read, Write};

use crate::support::netns::Net;
use crate::support::netns::capture::Capture;
use crate::support::netns::server::{Server, page, response};
use crate::support::netns::task::Tasks;

/// A namespace with `allowed.test` at 203.0.113.10, which says `hello` over TLS.
fn allowed() -> (Net, Server) {
    let net = Net::new();
    net.dns.set("allowed.test", &["203.0.113.10"]);
    let tls = net.tls(&["allowed.test"], &["http/1.1"]);
    let server = Server::https(&net, "203.0.113.10:443", tls, |_| page("hello"));
    (net, server)
}

#[test]
fn the_other_hosts_of_these_tests_are_there() {
    let net = Net::new();
    net.dns.set("allowed.test", &["203.0.113.10", "2001:db8::10"]);
    let server =
        Server::https(&net, "203.0.113.10:443", net.tls(&["allowed.test"], &["http/1.1"]), |asked| {
            page(&format!("{} {}", asked.head.lines().next().unwrap(), asked.body.len()))
        });
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), net.authority_pem()).unwrap();
    let mut curl = net.command("curl");
    curl.args(["-sS", "--resolve", "allowed.test:443:203.0.113.10", "--cacert"]).arg(authority.path());
    let output = curl.args(["-d", "12345", "https://allowed.test/a"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "POST /a HTTP/1.1 5", "{output:?}");
    assert_eq!((server.connections(), server.asked().len()), (1, 1));
    let mut resolve = net.command("python3");
    let script = "import socket; s = socket.socket(2, 2); s.settimeout(5); s.sendto(b'\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\7allowed\\4test\\0\\0\\1\\0\\1', ('127.0.0.1', 53)); print(s.recv(512)[-4:].hex())";
    let output = resolve.args(["-c", script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "cb00710a", "{output:?}");
    assert_eq!(net.dns.asked(), ["allowed.test"]);
}

#[test]
fn nw_10_an_allowed_host_is_reached_over_tls_and_is_on_record() {
    let (net, server) = allowed();
    let tasks = Tasks::under(&net, &["allowed.test:443"]);
    tasks.script("curl -sS https://allowed.test/").code(0).prints("hello");
    assert_eq!(server.connections(), 1);
    let ledger = tasks.ledger();
    assert_eq!(ledger.len(), 1, "{ledger:#?}");
    let entry = &ledger[0];
    assert_eq!(entry["address"], "203.0.113.10");
    assert_eq!(entry["rule"], "allowed.test:443");
    assert_eq!(entry["verdict"], "allowed");
    assert!(entry["bytes_up"].as_u64().unwrap() > 500 && entry["bytes_down"].as_u64().unwrap() > 500);
    let shown = tasks.aegis.call(&["ps", "-a", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let id = listed[0]["short_id"].as_str().unwrap();
    let run: serde_json::Value =
        serde_json::from_str(&tasks.aegis.call(&["show", id, "--json"]).stdout).unwrap();
    assert_eq!((&run["network"]["allowed"], &run["network"]["denied"]), (&1.into(), &0.into()));
}

#[test]
fn nw_10_python_and_git_need_no_setting() {
    let (net, _server) = allowed();
    let repository = tempfile::tempdir().unwrap();
    let script = "git init -q -b main w && cd w && echo text >file && git add . && git -c user.name=a -c user.email=a@b commit -qm one && git update-server-info";
    let made =
        std::process::Command::new("sh").args(["-ec", script]).current_dir(&repository).status().unwrap();
    assert!(made.success());
    let root = repository.path().join("w/.git");
    net.dns.set("git.test", &["203.0.113.20"]);
    let tls = net.tls(&["git.test"], &["http/1.1"]);
    let _git = Server::https(&net, "203.0.113.20:443", tls, move |asked| {
        let path = asked.head.split(' ').nth(1).unwrap().split('?').next().unwrap();
        let file = path.strip_prefix("/w.git/").map(|it| root.join(it));
        match file.and_then(|it| std::fs::read(it).ok()) {
            Some(bytes) => response("200 OK", &["Content-Type: application/octet-stream"], &bytes),
            None => response("404 Not Found", &[], b""),
        }
    });
    let tasks = Tasks::under(&net, &["allowed.test:443", "git.test:443"]);
    let script = "python3 -c 'import urllib.request as u; print(u.urlopen(\"https://allowed.test/\").read())'
        git clone -q https://git.test/w.git && cat w/file";
    tasks.script(script).code(0).prints("b'hello'").prints("text");
    assert_eq!(tasks.verdicts(), ["allowed.test:443 allowed", "git.test:443 allowed"]);
}

#[test]
fn nw_10_any_protocol_passes_where_the_rule_says_opaque() {
    let net = Net::new();
    net.dns.set("db.test", &["203.0.113.10"]);
    let _server = Server::stream(&net, "203.0.113.10:5432", |mut stream| {
        stream.write_all(b"ready\n").unwrap();
        let mut asked = String::new();
        stream.read_to_string(&mut asked).unwrap();
        stream.write_all(asked.to_uppercase().as_bytes()).unwrap();
    });
    let tasks = Tasks::under(&net, &["db.test:5432 opaque"]);
    let script = "python3 - <<'PY'
import socket
s = socket.create_connection(('db.test', 5432), 5)
print(s.recv(100)); s.sendall(b'select'); s.shutdown(1); print(s.recv(100))
PY";
    tasks.script(script).code(0).prints("b'ready\\n'").prints("b'SELECT'");
    let ledger = tasks.ledger();
    assert_eq!((&ledger[0]["bytes_up"], &ledger[0]["bytes_down"]), (&6.into(), &12.into()), "{ledger:#?}");
}

#[test]
fn nw_16_a_name_is_compared_as_it_is_written_in_every_form() {
    let (net, server) = allowed();
    net.dns.set("deep.sub.wild.test", &["203.0.113.10"]);
    let tasks = Tasks::under(&net, &["allowed.test:443", "*.wild.test:443"]);
    let script = "for name in ALLOWED.TEST. allowed.test evilallowed.test allowed.test.evil.test sub.allowed.test wild.test \
            a.wild.test deep.sub.wild.test evilwild.test; do
            getent ahostsv4 $name >/dev/null && echo is $name || echo not $name
        done
        curl -sS https://ALLOWED.TEST/";
    let ended = tasks.script(script);
    let answers: Vec<&str> = ended.stdout.lines().collect();
    let expected = "is ALLOWED.TEST.|is allowed.test|not evilallowed.test|not allowed.test.evil.test|not sub.allowed.test|\
        not wild.test|is a.wild.test|is deep.sub.wild.test|not evilwild.test|hello";
    assert_eq!(answers.join("|"), expected, "{ended:#?}");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_name_has_one_address_and_nothing_else() {
    let (net, _server) = allowed();
    let tasks = Tasks::under(&net, &["allowed.test:443", "other.test:443"]);
    let script = "python3 - <<'PY'
import socket, struct
def ask(name, kind, tcp=False):
    q = b'\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0' + b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + struct.pack('>BHH', 0, kind, 1)
    if tcp:
        s = socket.create_connection(('127.0.0.1', 53), 5); s.sendall(struct.pack('>H', len(q)) + q); r = s.recv(2000)[2:]
    else:
        s = socket.socket(2, 2); s.settimeout(5); s.sendto(q, ('127.0.0.1', 53)); r = s.recv(2000)
    return r[3] & 15, struct.unpack('>H', r[6:8])[0], '.'.join(map(str, r[-4:])) if r[7] else ''
print(ask('allowed.test', 1), ask('allowed.test', 1, True), ask('other.test', 1))
print([ask('allowed.test', kind) for kind in (28, 15, 16, 65, 2)])
print([ask('denied.test', kind)[0] for kind in (1, 28, 16, 65)], ask('1.0.64.127.in-addr.arpa', 12)[0])
PY
cat /etc/resolv.conf; getent hosts allowed.test";
    let ended = tasks.script(script);
    ended.code(0).prints("(0, 1, '127.64.0.1') (0, 1, '127.64.0.1') (0, 1, '127.64.0.2')");
    ended.prints("[(0, 0, ''), (0, 0, ''), (0, 0, ''), (0, 0, ''), (0, 0, '')]").prints("[3, 3, 3, 3] 3");
    ended.prints("nameserver 127.0.0.1").prints("127.64.0.1      allowed.test");
    assert_eq!(tasks.verdicts(), ["denied.test denied_name"]);
}

#[test]
fn nw_24_a_host_with_ipv6_alone_is_reached_by_its_name() {
    let net = Net::new();
    net.dns.set("v6only.test", &["2001:db8::10"]);
    let tls = net.tls(&["v6only.test"], &["http/1.1"]);
    let server = Server::https(&net, "[2001:db8::10]:443", tls, |_| page("six"));
    let tasks = Tasks::under(&net, &["v6only.test:443"]);
    let script =
        "curl -sS https://v6only.test/; curl -sS -m 2 -k -g 'https://[2001:db8::10]/' && echo BREACH; exit 0";
    tasks.script(script).code(0).no_breach().prints("six");
    assert_eq!(server.connections(), 1);
    assert_eq!(tasks.ledger()[0]["address"], "2001:db8::10");
}

#[test]
fn streams_of_any_size_go_both_ways_whole() {
    const BYTES: usize = 64 << 20;
    let net = Net::new();
    net.dns.set("bulk.test", &["203.0.113.10"]);
    let _server = Server::stream(&net, "203.0.113.10:9000", |mut stream| {
        let mut count = 0;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                some => count += some,
            }
        }
        stream.write_all(format!("{count:010}").as_bytes()).unwrap();
        stream.write_all(&vec![7; BYTES]).unwrap();
    });
    let tasks = Tasks::under(&net, &["bulk.test:9000 opaque"]);
    let script = format!(
        "python3 - <<'PY'
import socket
s = socket.create_connection(('bulk.test', 9000), 60)
for i in range({BYTES} // 65536): s.sendall(bytes(65536))
s.shutdown(1)
got = b''
while len(got) < 10: got += s.recv(10 - len(got))
count = 0
while True:
    some = s.recv(1 << 18)
    if not some: break
    count += len(some)
print(int(got), count)
PY"
    );
    tasks.script(&script).code(0).prints(&format!("{BYTES} {BYTES}\n"));
    let ledger = tasks.ledger();
    assert_eq!(ledger[0]["bytes_up"], BYTES, "{ledger:#?}");
    assert_eq!(ledger[0]["bytes_down"], BYTES + 10, "{ledger:#?}");
}

#[test]
fn nw_01_a_way_out_adds_no_interface_no_route_and_no_netlink() {
    let (net, _server) = allowed();
    let tasks = Tasks::under(&net, &["allowed.test:443"]);
    let script = "ls /sys/class/net; awk 'NR>1{print \"BREACH route\",$0}' /proc/net/route
        awk '$10!=\"lo\"{print \"BREACH v6\",$0}' /proc/net/ipv6_route 2>/dev/null
        python3 - <<'PY'
import socket
for kind in (1, 2, 3):
    for protocol in (0, 4, 9):
        try: socket.socket(16, kind, protocol); print('BREACH')
        except OSError as e: print('netlink', e.errno)
print(socket.getaddrinfo('allowed.test', 443, 0, 1, 0, socket.AI_ADDRCONFIG)[0][4])
PY
        curl -sS https://allowed.test/";
    let ended = tasks.script(script);
    ended.code(0).no_breach().prints("lo\n").prints("('127.64.0.1', 443)").prints("hello");
    assert_eq!(ended.stdout.matches("netlink 97").count(), 9, "{ended:#?}");
}

#[test]
fn no_packet_of_a_task_has_another_address_than_loopback() {
    let (net, _server) = allowed();
    let tasks = Tasks::under(&net, &["allowed.test:443"]);
    let script = "echo ready; read -r line
        for i in 1 2 3; do curl -sS https://allowed.test/; done; echo
        for a in 203.0.113.10 192.0.2.1 8.8.8.8 224.0.0.1 255.255.255.255; do
            (echo x >/dev/udp/$a/53) 2>/dev/null; (echo x >/dev/tcp/$a/443) 2>/dev/null; done; echo sent; read -r line";
    let mut run = tasks.watched(script);
    run.wait_for("ready");
    let capture = Capture::begin(run.command());
    run.say("go");
    run.wait_for("sent");
    let packets = capture.end();
    run.say("done");
    run.end().code(0);
    assert!(packets.len() > 20, "the capture sees what there is: {}", packets.len());
    for (from, to) in &packets {
        assert!(from.is_loopback() && to.is_loopback(), "a packet from {from} to {to}");
    }
}

#[test]
fn the_operators_proxy_is_told_the_name_and_sees_what_passes() {
    let net = Net::new();
    net.add_address("10.9.0.1");
    let tls = net.tls(&["behind.test"], &["http/1.1"]);
    let _behind = Server::https(&net, "10.9.0.1:443", tls, |_| page("behind"));
    let heads = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = std::sync::Arc::clone(&heads);
    let namespace = std::sync::Arc::new(net);
    let entered = std::sync::Arc::clone(&namespace);
    let _proxy = Server::stream(&namespace, "203.0.113.20:3128", move |mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        kept.lock().unwrap().push(String::from_utf8(head).unwrap());
        let mut host = entered.enter(|| std::net::TcpStream::connect("10.9.0.1:443").unwrap());
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").unwrap();
        let (mut from, mut to) = (stream.try_clone().unwrap(), host.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut host, &mut stream);
    });
    namespace.configure("proxy = \"http://203.0.113.20:3128\"");
    let tasks = Tasks::under(&namespace, &["behind.test:443"]);
    tasks.script("curl -sS https://behind.test/").code(0).prints("behind");
    let heads = heads.lock().unwrap();
    assert_eq!(heads[..], ["CONNECT behind.test:443 HTTP/1.1\r\nHost: behind.test:443\r\n\r\n"]);
    assert_eq!(namespace.dns.asked(), [""; 0], "the proxy resolves");
    assert_eq!(tasks.ledger()[0]["address"], serde_json::Value::Null);
}

#[test]
fn a_flag_names_a_host_and_a_configuration_with_a_mistake_stops_the_run() {
    let (net, _server) = allowed();
    let aegis = net.aegis();
    let script = "curl -sSk https://allowed.test/";
    aegis.script(&["--allow-net", "allowed.test"], script).code(0).prints("hello");
    net.configure("resolver = []");
    let ended = aegis.script(&["--allow-net", "allowed.test"], script);
    ended.code(125).says("config.toml:4:1").says("the nearest is `resolvers`");
    aegis.script(&[], "echo without").code(0).prints("without");
}
