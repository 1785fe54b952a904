//! Connections that become another protocol.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::client::TlsStream;

use super::harness::*;
use crate::policy::network::Rule;
use crate::record::egress::{Reason, Verdict};

const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const COMPRESSED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                          Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
const OTHER: &str = "other.example.org";

fn upgrading(rule: Rule) -> Rule {
    Rule { upgrade: true, ..rule }
}

fn rules() -> Vec<Rule> {
    vec![upgrading(with_credential(rule(API, &[], &[]))), upgrading(rule(OTHER, &[], &[]))]
}

/// Asks for a WebSocket; the connection and the head of the answer.
async fn ask(world: &World, host: &str) -> (TlsStream<DuplexStream>, String) {
    let mut stream = world.connect_tls(host, host, "http/1.1").await.expect("TLS");
    let raw = format!(
        "GET /v1 HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    );
    stream.write_all(raw.as_bytes()).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(in_time(stream.read_u8()).await.expect("a head"));
    }
    (stream, String::from_utf8(head).expect("text"))
}

#[tokio::test]
async fn an_upgrade_that_a_rule_allows_passes_bytes_both_ways() {
    for host in [API, OTHER] {
        let world = World::new(&rules(), Speaks::Script(SWITCHED), echo());
        let (mut stream, head) = ask(&world, host).await;
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: websocket"), "{head}");
        // Bytes that are no HTTP, among them what a request would be.
        for message in [&b"\x81\x05hello"[..], b"GET / HTTP/1.1\n\n", b"\0\xff\n"] {
            stream.write_all(message).await.expect("written");
            stream.flush().await.expect("flushed");
            let mut back = vec![0; message.len()];
            in_time(stream.read_exact(&mut back)).await.expect("an echo");
            assert_eq!(back, message);
        }
        drop(stream);
        let entry = world.ledger(1).await.remove(0);
        assert_eq!((entry.bytes_up, entry.bytes_down), (26, 26));
        assert_eq!(entry.request.and_then(|it| it.status), Some(101));
    }
}

#[tokio::test]
async fn an_upgrade_that_no_rule_allows_is_refused() {
    let world = World::new(&[rule(API, &[], &[])], Speaks::Script(SWITCHED), echo());
    let (_, head) = ask(&world, API).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(world.dialled(), 0);
    assert_eq!(world.ledger(1).await[0].verdict, Verdict::Denied(Reason::Request));
}

#[tokio::test]
async fn a_secret_that_comes_through_a_new_protocol_ends_it() {
    let world = World::new(&rules(), Speaks::Script(SWITCHED), echo());
    let (mut stream, _) = ask(&world, API).await;
    stream.write_all(format!("\x01\x14{}", &VALUE[..9]).as_bytes()).await.expect("written");
    stream.flush().await.expect("flushed");
    stream.write_all(&VALUE.as_bytes()[9..]).await.expect("written");
    stream.flush().await.expect("flushed");
    let mut back = Vec::new();
    let _ = in_time(stream.read_to_end(&mut back)).await;
    assert!(back.len() <= 2, "{back:?}");
    assert_eq!(world.ledger(1).await[0].verdict, Verdict::Denied(Reason::Credential));
}

#[tokio::test]
async fn a_compressed_websocket_of_a_host_with_a_credential_is_refused() {
    let world = World::new(&rules(), Speaks::Script(COMPRESSED), echo());
    let (_, head) = ask(&world, API).await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    let (_, head) = ask(&world, OTHER).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[tokio::test]
async fn a_protocol_that_changes_unasked_is_refused() {
    let world = World::new(&rules(), Speaks::Script(SWITCHED), echo());
    let raw = format!("GET /v1 HTTP/1.1\r\nHost: {OTHER}\r\nConnection: close\r\n\r\n");
    let told = world.send_raw(OTHER, raw.as_bytes()).await;
    assert!(told.starts_with("HTTP/1.1 502 "), "{told}");
}
