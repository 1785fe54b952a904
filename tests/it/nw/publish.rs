//! Ports of the task on the host's loopback: only those that policy lists, and no way further in.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::aegis::{Aegis, eventually};
use crate::support::netns::Net;
use crate::watched::Watched;

/// Answers each connection with what it was sent, in upper case, on port 8080 of the sandbox.
const SERVER: &str = "python3 -u - <<'PY' &
import socket, threading
s = socket.create_server(('127.0.0.1', 8080)); print('ready')
def serve(c):
    data = b''
    while True:
        some = c.recv(1 << 16)
        if not some: break
        data += some
    c.sendall(data.upper()); c.close()
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
PY
read -r line; kill %1";

/// An instance in a namespace of its own, whose loopback nobody else uses, under a policy that publishes 8080.
fn publishing() -> (Net, Aegis) {
    let net = Net::new();
    let aegis = net.aegis();
    let policy = "extends = \"strict\"\n[network]\npublish = [8080]\n";
    std::fs::write(aegis.here().join("policy.toml"), policy).unwrap();
    (net, aegis)
}

fn flags(publish: &str) -> [&str; 4] {
    ["--sandbox", "./policy.toml", "--publish", publish]
}

fn connect(net: &Net, address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    net.enter(move || TcpStream::connect_timeout(&address, Duration::from_secs(5)))
}

#[test]
fn a_published_port_is_reached_on_the_hosts_loopback_and_nowhere_else() {
    let (net, aegis) = publishing();
    let mut run = Watched::script(&aegis, &flags("127.0.0.1:18080:8080"), SERVER);
    run.wait_for("ready");
    for length in [1, 1 << 22] {
        let mut stream = connect(&net, "127.0.0.1:18080").unwrap();
        let sent = vec![b'a'; length];
        let mut writing = stream.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            writing.write_all(&sent).unwrap();
            writing.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        writer.join().unwrap();
        assert!(answer.len() == length && answer.iter().all(|it| *it == b'A'), "{}", answer.len());
    }
    assert!(connect(&net, "203.0.113.10:18080").is_err(), "another address of the host");
    assert!(connect(&net, "127.0.0.1:8080").is_err(), "another port");
    run.say("done");
    run.end().code(0);
    assert!(connect(&net, "127.0.0.1:18080").is_err(), "after the run");
}

#[test]
fn a_visitor_of_a_port_that_nobody_serves_is_reset() {
    let (net, aegis) = publishing();
    let mut run = Watched::script(&aegis, &flags("127.0.0.1:18080:8080"), "echo ready; read -r line");
    run.wait_for("ready");
    let mut stream = connect(&net, "127.0.0.1:18080").unwrap();
    assert!(stream.read(&mut [0]).is_err(), "reset, not an end");
    run.say("done");
    run.end().code(0);
}

#[test]
fn a_port_that_policy_does_not_list_is_refused() {
    let (_net, aegis) = publishing();
    let ended = aegis.script(&flags("127.0.0.1:18080:22"), "true");
    ended.code(125).says("network.publish");
    aegis.script(&["--publish", "127.0.0.1:18080:8080"], "true").code(125).says("network.publish");
}

#[test]
fn a_port_of_the_host_that_is_taken_is_told_before_anything_starts() {
    let (net, aegis) = publishing();
    let _taken = net.enter(|| std::net::TcpListener::bind("127.0.0.1:18080").unwrap());
    let ended = aegis.script(&flags("127.0.0.1:18080:8080"), "echo BREACH");
    ended.code(125).no_breach().says("port 18080 of 127.0.0.1");
}

#[test]
fn a_published_port_is_no_way_out_and_adds_no_interface() {
    let (net, aegis) = publishing();
    let script = "ls /sys/class/net; awk 'NR>1{print \"BREACH route\",$0}' /proc/net/route
        python3 -c 'import socket; socket.create_connection((\"203.0.113.10\", 80), 1); print(\"BREACH\")' 2>/dev/null
        getent hosts example.test && echo BREACH; exit 0";
    aegis.script(&flags("127.0.0.1:18080:8080"), script).code(0).no_breach().prints("lo\n");
    assert_eq!(net.dns.asked(), [""; 0]);
}

#[test]
fn visitors_are_bounded_and_end_with_the_run() {
    let (net, aegis) = publishing();
    let mut run = Watched::script(&aegis, &flags("127.0.0.1:18080:8080"), SERVER);
    run.wait_for("ready");
    let mut visitors: Vec<TcpStream> = (0..100).map(|_| connect(&net, "127.0.0.1:18080").unwrap()).collect();
    for visitor in &mut visitors {
        visitor.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    let descriptors = crate::support::processes::descriptors(run.pid());
    assert!(descriptors < 2 * 64 + 100, "{descriptors}");
    run.say("done");
    run.end().code(0);
    eventually("every visitor is let go", Duration::from_secs(20), || {
        visitors.iter_mut().all(|it| matches!(it.read(&mut [0]), Ok(0) | Err(_)))
    });
}
