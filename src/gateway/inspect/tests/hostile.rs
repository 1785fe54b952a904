//! A task that lies about whom it asks, or about where its request ends.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::*;
use crate::policy::network::Rule;
use crate::record::egress::{Reason, Verdict};

const OTHER: &str = "other.example.org";

fn rules() -> Vec<Rule> {
    vec![rule(API, &[], &[]), rule(OTHER, &[], &["/open"])]
}

/// Bytes on one connection: the answer, and how many requests a host heard.
#[track_caller]
fn check(bytes: &str, status: &str, heard: usize) -> impl Future<Output = ()> {
    let (bytes, status) = (bytes.to_owned(), status.to_owned());
    async move {
        let world = World::new(&rules(), Speaks::Http1, echo());
        let told = world.send_raw(API, bytes.as_bytes()).await;
        assert!(told.contains(&format!("HTTP/1.1 {status} ")), "{bytes:?}: {told:?}");
        let all: Vec<String> = world.heard().iter().map(|it| it.target.clone()).collect();
        assert_eq!(all.len(), heard, "{bytes:?}: {all:?}");
    }
}

#[tokio::test]
async fn a_request_for_another_host_is_refused() {
    for host in [
        OTHER,
        "api.example.org.evil.example",
        "203.0.113.30",
        "api.example.org:8443",
        "",
        "a b",
        "@api.example.org",
    ] {
        check(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"), "400", 0).await;
    }
    for host in ["api.example.org", "API.Example.ORG", "api.example.org:443", "api.example.org."] {
        check(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"), "200", 1).await;
    }
}

#[tokio::test]
async fn a_request_for_another_host_is_refused_in_http2_too() {
    let world = World::new(&rules(), Speaks::Both, echo());
    let mut sender = world.http2(API).await;
    for (authority, field) in [(OTHER, None), (API, Some(OTHER)), ("api.example.org:8443", None)] {
        let mut asked = Request::get(format!("https://{authority}/"));
        if let Some(host) = field {
            asked = asked.header("host", host);
        }
        let asked = asked.body(Full::<Bytes>::default()).expect("a request");
        let told = Told::of(in_time(sender.send_request(asked)).await.expect("an answer")).await;
        assert_eq!(told.status, 400, "{authority} {field:?}");
    }
    assert_eq!(world.dialled(), 0);
    let entries = world.ledger(3).await;
    assert!(entries.iter().all(|it| it.verdict == Verdict::Denied(Reason::HostDiffers)));
}

#[tokio::test]
async fn a_client_that_names_another_server_gets_no_handshake() {
    let world = World::new(&rules(), Speaks::Both, echo());
    for (server, reason) in [(OTHER, Reason::ServerNameDiffers), ("203.0.113.10", Reason::ServerNameAbsent)] {
        assert!(world.connect_tls(API, server, "http/1.1").await.is_err(), "{server}");
        assert_eq!(world.ledger(1).await.last().map(|it| it.verdict), Some(Verdict::Denied(reason)));
        world.forget();
    }
    let mut stream = world.connect(API, 443);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: api.example.org\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    let _ = in_time(stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"));
    assert_eq!(world.ledger(1).await[0].verdict, Verdict::Denied(Reason::Greeting));
}

#[tokio::test]
async fn a_request_for_a_proxy_is_refused() {
    for line in [
        "CONNECT 203.0.113.30:443 HTTP/1.1",
        "CONNECT [2001:db8::10]:443 HTTP/1.1",
        "CONNECT localhost:5432 HTTP/1.1",
        "GET http://denied.example.org/ HTTP/1.1",
        "GET http://[::1]:8080/ HTTP/1.1",
        "GET https://api.example.org/ HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        check(&format!("{line}\r\nHost: api.example.org\r\n\r\n"), "400", 0).await;
    }
    check("TRACE / HTTP/1.1\r\nHost: api.example.org\r\nConnection: close\r\n\r\n", "400", 0).await;
}

#[tokio::test]
async fn no_request_hides_in_another() {
    let head = "POST / HTTP/1.1\r\nHost: api.example.org\r\n";
    let hidden = "GET /hidden HTTP/1.1\r\nHost: api.example.org\r\n\r\n";
    for (lines, body) in [
        ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        ("Transfer_Encoding: chunked\r\n", "0\r\n\r\n"),
        ("X: 1\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("X:\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Content-Length: 0\r\nContent-Length: 50\r\n", ""),
        ("Content-Length: 0\r\nContent-Length: 0\r\n", ""),
        ("Content-Length: +0\r\n", ""),
        ("Content-Length: 0, 50\r\n", ""),
        ("Host: other.example.org\r\n", ""),
    ] {
        check(&format!("{head}{lines}\r\n{body}{hidden}"), "400", 0).await;
    }
}

#[tokio::test]
async fn a_body_that_lies_about_its_chunks_is_broken_off() {
    let head = "POST / HTTP/1.1\r\nHost: api.example.org\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "3;x\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabcdGET /hidden HTTP/1.1\r\n\r\n",
        "0\r\nHost: x\r\n\r\n",
    ] {
        let world = World::new(&rules(), Speaks::Http1, echo());
        let told = world.send_raw(API, format!("{head}{body}").as_bytes()).await;
        assert!(!told.contains(" 200 "), "{body:?}: {told:?}");
        // The host sees a request without an end, and nothing behind it.
        assert!(world.heard().iter().all(|it| it.target == "/"), "{body:?}");
    }
}

#[tokio::test]
async fn each_of_many_requests_on_a_connection_is_judged() {
    let world = World::new(&rules(), Speaks::Http1, echo());
    let raw = "GET /open HTTP/1.1\r\nHost: other.example.org\r\n\r\n\
               GET /closed HTTP/1.1\r\nHost: other.example.org\r\n\r\n\
               GET /open/x HTTP/1.1\r\nHost: other.example.org\r\nConnection: close\r\n\r\n";
    let told = world.send_raw(OTHER, raw.as_bytes()).await;
    let statuses: Vec<&str> = told.matches("HTTP/1.1 200").chain(told.matches("HTTP/1.1 403")).collect();
    assert_eq!(statuses.len(), 3, "{told}");
    let targets: Vec<String> = world.heard().into_iter().map(|it| it.target).collect();
    assert_eq!(targets, ["/open", "/open/x"]);
}

#[tokio::test]
async fn more_header_lines_or_bytes_than_any_client_needs_are_refused() {
    let many = "X: 1\r\n".repeat(101);
    check(&format!("GET / HTTP/1.1\r\nHost: api.example.org\r\n{many}\r\n"), "400", 0).await;
    let long = "a".repeat(70_000);
    check(&format!("GET / HTTP/1.1\r\nHost: api.example.org\r\nX: {long}\r\n\r\n"), "400", 0).await;
    let world = World::new(&rules(), Speaks::Both, echo());
    let mut sender = world.http2(API).await;
    let mut asked = Request::get(format!("https://{API}/"));
    for number in 0..101 {
        asked = asked.header(format!("x-{number}"), "1");
    }
    let asked = asked.body(Full::<Bytes>::default()).expect("a request");
    let told = Told::of(in_time(sender.send_request(asked)).await.expect("an answer")).await;
    assert_eq!((told.status, world.dialled()), (400, 0));
}
