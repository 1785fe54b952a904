//! What passes, and how it looks on the other side.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::harness::*;
use crate::policy::network::method::Method;
use crate::record::egress::{Failure, Reason, Verdict};

const OTHER: &str = "other.example.org";

fn any() -> Vec<crate::policy::network::Rule> {
    vec![rule(API, &[], &[])]
}

fn post_to_v1() -> Vec<crate::policy::network::Rule> {
    vec![rule(API, &[Method::Post], &["/v1"])]
}

#[tokio::test]
async fn a_request_passes_and_stands_in_the_ledger() {
    let world = World::new(&post_to_v1(), Speaks::Http1, echo());
    let told = world
        .ask(API, request("POST", "/v1/messages?beta=1", API).body(Full::from("hello")).expect("a request"))
        .await;
    assert_eq!((told.status, told.body.as_str()), (200, "POST /v1/messages?beta=1 hello"));
    let entry = world.ledger(1).await.remove(0);
    let request = entry.request.expect("a request");
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/messages"));
    assert_eq!((request.status, request.credential), (Some(200), None));
    assert_eq!((entry.verdict, entry.name.as_str(), entry.port), (Verdict::Allowed, API, Some(443)));
    assert_eq!((entry.bytes_up, entry.bytes_down), (5, 30));
    assert_eq!(entry.address.map(|it| it.to_string()).as_deref(), Some("203.0.113.10"));
    assert!(entry.rule.is_some_and(|it| it.contains(API)));
}

#[tokio::test]
async fn both_sides_speak_the_protocol_that_they_like() {
    for (speaks, http2) in [(Speaks::Both, true), (Speaks::Http1, false)] {
        let world = World::new(&any(), speaks, echo());
        let mut sender = world.http2(API).await;
        let asked =
            Request::post(format!("https://{API}/a")).body(Full::<Bytes>::from("x")).expect("a request");
        let told = Told::of(in_time(sender.send_request(asked)).await.expect("an answer")).await;
        assert_eq!((told.status, told.body.as_str()), (200, "POST /a x"));
        let told = world.ask(API, request("GET", "/b", API).body(Full::default()).expect("a request")).await;
        assert_eq!((told.status, told.body.as_str()), (200, "GET /b "));
        assert!(world.heard().iter().all(|it| it.http2 == http2 && it.host == API));
    }
}

#[tokio::test]
async fn what_no_rule_allows_is_refused_with_the_line_that_would() {
    let world = World::new(&post_to_v1(), Speaks::Both, echo());
    for (method, target) in [("GET", "/v1/messages"), ("POST", "/v2"), ("POST", "/v10"), ("DELETE", "/")] {
        let told =
            world.ask(API, request(method, target, API).body(Full::default()).expect("a request")).await;
        assert_eq!(told.status, 403, "{method} {target}");
        let body: serde_json::Value = serde_json::from_str(&told.body).expect("JSON");
        assert_eq!(body["error"], "denied_by_policy");
        assert_eq!(body["rule_missing"], format!("{method} https://{API}{target}"));
        let line = body["allow_with"].as_str().expect("a line");
        assert!(line.contains(&format!("host = \"{API}\"")) && line.contains(method), "{line}");
    }
    assert_eq!((world.heard().len(), world.dialled()), (0, 0));
    let entries = world.ledger(4).await;
    assert!(entries.iter().all(|it| it.verdict == Verdict::Denied(Reason::Request)));
    assert!(entries.iter().all(|it| it.request.as_ref().is_some_and(|it| it.status == Some(403))));
}

#[tokio::test]
async fn a_client_that_is_still_sending_is_answered_too() {
    let world = World::new(&post_to_v1(), Speaks::Both, echo());
    let mut sender = world.http2(API).await;
    for _ in 0..20 {
        let body = Full::<Bytes>::from(vec![b'x'; 100_000]);
        let asked = Request::put(format!("https://{API}/v1")).body(body).expect("a request");
        let told = Told::of(in_time(sender.send_request(asked)).await.expect("an answer")).await;
        assert_eq!(told.status, 403);
        let asked = request("PUT", "/v1", API).body(Full::from(vec![b'x'; 100_000])).expect("a request");
        assert_eq!(world.ask(API, asked).await.status, 403);
    }
}

#[tokio::test]
async fn a_path_that_servers_read_differently_is_refused() {
    let world = World::new(&post_to_v1(), Speaks::Both, echo());
    for target in
        ["/v1/../v2", "/v1/%2e%2e/v2", "/v1//x", "/v1/%252e", "/v1/a%2fb", "/v1/\\x", "/v1/%00", "/v1/%zz"]
    {
        let raw = format!("POST {target} HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n\r\n");
        let told = world.send_raw(API, raw.as_bytes()).await;
        assert!(told.starts_with("HTTP/1.1 400 "), "{target}: {told}");
    }
    assert_eq!(world.dialled(), 0);
}

#[tokio::test]
async fn requests_of_one_connection_share_one_to_the_host() {
    for speaks in [Speaks::Http1, Speaks::Both] {
        let world = World::new(&any(), speaks, echo());
        let mut sender = world.http1(API).await;
        for number in 0..5 {
            let asked = request("POST", &format!("/{number}"), API).body(Full::<Bytes>::from("x"));
            let told =
                Told::of(in_time(sender.send_request(asked.expect("a request"))).await.expect("sent")).await;
            assert_eq!(told.body, format!("POST /{number} x"));
        }
        assert_eq!((world.heard().len(), world.dialled()), (5, 1));
    }
}

#[tokio::test]
async fn many_requests_at_once_are_each_answered() {
    for speaks in [Speaks::Http1, Speaks::Both] {
        let world = World::new(&any(), speaks, echo());
        let sender = world.http2(API).await;
        let mut asked = tokio::task::JoinSet::new();
        for number in 0..40 {
            let mut sender = sender.clone();
            asked.spawn(async move {
                let asked = Request::get(format!("https://{API}/{number}")).body(Full::<Bytes>::default());
                let answer = sender.send_request(asked.expect("a request")).await.expect("an answer");
                (number, Told::of(answer).await.body)
            });
        }
        while let Some(told) = in_time(asked.join_next()).await {
            let (number, body) = told.expect("joined");
            assert_eq!(body, format!("GET /{number} "));
        }
    }
}

#[tokio::test]
async fn fields_of_a_connection_stay_with_it() {
    let answers: Answers = Arc::new(|_| {
        let mut response = text("x");
        for (name, value) in [
            ("connection", "x-mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=1"),
            ("alt-svc", "h3=\":443\""),
        ] {
            response.headers_mut().insert(name, value.parse().expect("a value"));
        }
        response
    });
    let world = World::new(&[rule(OTHER, &[], &[])], Speaks::Http1, answers);
    let asked = request("GET", "/", OTHER)
        .header("connection", "close, X-Mine")
        .header("x-mine", "1")
        .header("te", "trailers, deflate")
        .header("keep-alive", "1")
        .header("proxy-authorization", "Basic x")
        .header("proxy-connection", "keep-alive")
        .header("upgrade", "h2c")
        .header("accept", "*/*");
    let told = world.ask(OTHER, asked.body(Full::default()).expect("a request")).await;
    let mut names: Vec<String> = told.headers.keys().map(ToString::to_string).collect();
    names.sort_unstable();
    assert_eq!(names, ["connection", "content-length", "date"]);
    assert_eq!(told.headers[CONNECTION], "close");
    let heard = world.heard().remove(0);
    let mut names: Vec<&str> = heard.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "host", "te"]);
    assert_eq!(heard.headers["te"], "trailers");
}

#[tokio::test]
async fn a_body_streams_piece_by_piece() {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let receiver = Arc::new(std::sync::Mutex::new(Some(receiver)));
    let answers: Answers = Arc::new(move |_| {
        let pieces = receiver.lock().expect("whole").take();
        let pieces = futures_util::stream::unfold(pieces, |pieces| async {
            let mut pieces = pieces?;
            let piece = pieces.recv().await?;
            Some((Ok(Frame::data(piece)), Some(pieces)))
        });
        Response::new(StreamBody::new(pieces).boxed_unsync())
    });
    let world = World::new(&any(), Speaks::Http1, answers);
    let mut client = world.http1(API).await;
    let asked = request("GET", "/", API).body(Full::<Bytes>::default()).expect("a request");
    let mut body = in_time(client.send_request(asked)).await.expect("an answer").into_body();
    // Each piece arrives before the next one exists.
    for piece in ["data: one\n\n", "data: two\n\n"] {
        sender.send(Bytes::from(piece)).await.expect("sent");
        let frame = in_time(body.frame()).await.expect("a frame").expect("whole");
        assert_eq!(frame.data_ref().expect("data"), piece);
    }
    drop(sender);
    assert!(in_time(body.frame()).await.is_none());
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_host() {
    let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = made.clone();
    let answers: Answers = Arc::new(move |_| {
        let counted = counted.clone();
        let pieces = futures_util::stream::repeat_with(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(Frame::data(Bytes::from(vec![0; 16 * 1024])))
        });
        Response::new(StreamBody::new(pieces).boxed_unsync())
    });
    let world = World::new(&any(), Speaks::Http1, answers);
    let mut client = world.http1(API).await;
    let asked = request("GET", "/", API).body(Full::<Bytes>::default()).expect("a request");
    let _unread = in_time(client.send_request(asked)).await.expect("an answer");
    let mut last = 0;
    loop {
        // Everything that can run does, until nothing moves any more.
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        let now = made.load(std::sync::atomic::Ordering::Relaxed);
        if now == last {
            break;
        }
        last = now;
        assert!(last < 1_000, "more than 16 MiB wait for a reader");
    }
}

#[tokio::test]
async fn fields_behind_a_body_pass() {
    let answers: Answers = Arc::new(|_| {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        let frames = [Ok(Frame::data(Bytes::from("x"))), Ok(Frame::trailers(trailers))];
        Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
    });
    let world = World::new(&any(), Speaks::Both, answers);
    let mut sender = world.http2(API).await;
    let asked =
        Request::post(format!("https://{API}/")).header("te", "trailers").body(Full::<Bytes>::default());
    let response = in_time(sender.send_request(asked.expect("a request"))).await.expect("an answer");
    let collected = in_time(response.into_body().collect()).await.expect("whole");
    assert_eq!(collected.trailers().expect("trailers")["grpc-status"], "0");
    assert_eq!(world.heard()[0].headers["te"], "trailers");
}

#[tokio::test]
async fn a_client_that_waits_before_its_body_is_told_to_go_on() {
    let world = World::new(&any(), Speaks::Http1, echo());
    let mut stream = world.connect_tls(API, API, "http/1.1").await.expect("TLS");
    let head = format!("PUT / HTTP/1.1\r\nHost: {API}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut interim = [0; 25];
    in_time(stream.read_exact(&mut interim)).await.expect("an interim answer");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.expect("written");
    let mut answer = [0; 15];
    in_time(stream.read_exact(&mut answer)).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert!(!world.heard()[0].headers.contains_key("expect"));
}

#[tokio::test]
async fn an_answer_without_a_body_keeps_its_length() {
    let answers: Answers = Arc::new(|_| {
        let mut response = text("");
        response.headers_mut().insert(CONTENT_LENGTH, "77".parse().expect("a value"));
        response
    });
    let world = World::new(&any(), Speaks::Http1, answers);
    let told = world.ask(API, request("HEAD", "/", API).body(Full::default()).expect("a request")).await;
    assert_eq!((told.status, told.headers[CONTENT_LENGTH].to_str().expect("text")), (200, "77"));
    assert_eq!(world.ledger(1).await[0].verdict, Verdict::Allowed);
}

#[tokio::test]
async fn an_empty_answer_is_a_whole_one() {
    for host in [API, OTHER] {
        for speaks in [Speaks::Http1, Speaks::Both] {
            let world = World::new(&[rule(host, &[], &[])], speaks, Arc::new(|_| text("")));
            let told =
                world.ask(host, request("GET", "/", host).body(Full::default()).expect("a request")).await;
            assert_eq!((told.status, told.body.as_str()), (200, ""));
            assert_eq!(world.ledger(1).await[0].verdict, Verdict::Allowed, "{host} {speaks:?}");
        }
    }
}

#[tokio::test]
async fn plain_http_is_read_the_same_way() {
    let world = World::new(&post_to_v1(), Speaks::Plain, echo());
    for (target, status) in [("/v1/x", "200"), ("/v2", "403")] {
        let mut stream = world.connect(API, 80);
        let raw = format!(
            "POST {target} HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(raw.as_bytes()).await.expect("written");
        let mut answer = String::new();
        in_time(stream.read_to_string(&mut answer)).await.expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert_eq!(world.heard().len(), 1);
}

#[tokio::test]
async fn a_host_that_cannot_prove_itself_gets_nothing() {
    let world = World::new(&any(), Speaks::Forged, echo());
    let told = world.ask(API, request("GET", "/", API).body(Full::default()).expect("a request")).await;
    assert_eq!(told.status, StatusCode::BAD_GATEWAY.as_u16());
    assert!(told.body.contains("is not believed"), "{}", told.body);
    assert_eq!(world.heard().len(), 0);
    assert_eq!(world.ledger(1).await[0].verdict, Verdict::Failed(Failure::Certificate));
}
