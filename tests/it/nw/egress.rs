//! NW of the checks where a policy has egress: what is named is reached, through the host's gateway, and nothing else is.

use crate::support::netns::Net;
use crate::support::netns::server::{Server, page};

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
