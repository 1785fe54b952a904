//! A credential goes where it belongs and nowhere else, and never comes back.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

use super::harness::*;
use crate::policy::network::Rule;
use crate::record::egress::{Reason, Verdict};

const OTHER: &str = "other.example.org";

fn rules() -> Vec<Rule> {
    vec![with_credential(rule(API, &[], &["/v1"])), rule(API, &[], &["/free"]), rule(OTHER, &[], &[])]
}

/// An answer that shows everything that the host heard.
fn mirror() -> Answers {
    Arc::new(|heard| {
        let mut response = text(&format!("{} {:?} {}", heard.target, heard.headers, VALUE));
        for (name, value) in &heard.headers {
            if name == "x-api-key" {
                response.headers_mut().insert("x-echo", value.clone());
            }
        }
        response
    })
}

fn shows_the_key(told: &Told) -> bool {
    let text = format!("{:?} {}", told.headers, told.body);
    let base64 = base64::engine::general_purpose::STANDARD.encode(VALUE);
    text.contains(VALUE) || text.contains(&base64) || text.contains(&hex::encode(VALUE))
}

#[tokio::test]
async fn the_host_sees_the_key_and_the_task_does_not() {
    for speaks in [Speaks::Both, Speaks::Http1] {
        let world = World::new(&rules(), speaks, mirror());
        let asked = request("POST", "/v1/messages", API)
            .header("x-api-key", "AEGIS-0123456789abcdef")
            .header("X_Api_Key", "mine")
            .header("accept-encoding", "gzip, br")
            .header("connection", "x-api-key");
        let told = world.ask(API, asked.body(Full::from("hello")).expect("a request")).await;
        assert_eq!(told.status, 200);
        assert!(!shows_the_key(&told), "{told:?}");
        assert!(told.body.contains("[redacted:model]") && told.headers["x-echo"] == "[redacted:model]");
        let heard = world.heard().remove(0);
        let keys: Vec<_> = heard.headers.get_all("x-api-key").into_iter().collect();
        assert_eq!(keys, [VALUE]);
        assert!(!heard.headers.contains_key("x_api_key"));
        assert_eq!(heard.headers["accept-encoding"], "identity");
        let entry = world.ledger(1).await.remove(0);
        assert_eq!(entry.request.as_ref().and_then(|it| it.credential.as_deref()), Some("model"));
        assert!(!format!("{entry:?}").contains(VALUE));
    }
}

#[tokio::test]
async fn a_request_that_the_credential_is_not_for_goes_without_it() {
    let world = World::new(&rules(), Speaks::Both, mirror());
    for (host, target) in [(API, "/free"), (OTHER, "/v1/messages")] {
        let asked = request("GET", target, host).header("x-api-key", "AEGIS-0123456789abcdef");
        assert_eq!(world.ask(host, asked.body(Full::default()).expect("a request")).await.status, 200);
    }
    for heard in world.heard() {
        assert_eq!(
            heard.headers["x-api-key"], "AEGIS-0123456789abcdef",
            "a placeholder is only replaced in its place"
        );
    }
}

#[tokio::test]
async fn a_redirect_to_another_host_does_not_carry_it() {
    let answers: Answers = Arc::new(|heard| {
        let mut response = text("");
        if heard.host == API {
            *response.status_mut() = http::StatusCode::TEMPORARY_REDIRECT;
            let there = format!("https://{OTHER}/v1/take?key={VALUE}");
            response.headers_mut().insert("location", there.parse().expect("a value"));
        }
        response
    });
    let world = World::new(&rules(), Speaks::Both, answers);
    let asked = request("POST", "/v1/x", API).body(Full::from("hello")).expect("a request");
    let told = world.ask(API, asked).await;
    let there = told.headers["location"].to_str().expect("text");
    assert_eq!(there, format!("https://{OTHER}/v1/take?key=[redacted:model]"));
    let asked = request("POST", "/v1/take", OTHER).body(Full::from("hello")).expect("a request");
    assert_eq!(world.ask(OTHER, asked).await.status, 200);
    let taken = world.heard().remove(1);
    assert_eq!(taken.host, OTHER);
    assert!(!format!("{taken:?}").contains(VALUE));
}

#[tokio::test]
async fn a_task_that_carries_a_known_secret_is_refused() {
    let world = World::new(&rules(), Speaks::Both, echo());
    let base64 = base64::engine::general_purpose::STANDARD.encode(format!("ci:{VALUE}"));
    let (basic, bearer) = (format!("Basic {base64}"), format!("Bearer {VALUE}"));
    for (host, target, header) in [
        (API, "/v1/x".to_owned(), ("x-api-key", VALUE)),
        (OTHER, "/".to_owned(), ("authorization", bearer.as_str())),
        (OTHER, "/".to_owned(), ("authorization", basic.as_str())),
        (OTHER, format!("/?key={VALUE}"), ("accept", "*/*")),
        (OTHER, format!("/{VALUE}"), ("accept", "*/*")),
    ] {
        let asked = request("GET", &target, host).header(header.0, header.1);
        let told = world.ask(host, asked.body(Full::default()).expect("a request")).await;
        assert_eq!(told.status, 403, "{target} {header:?}");
        assert!(told.body.contains("`model`") && !told.body.contains(VALUE), "{}", told.body);
    }
    assert_eq!(world.dialled(), 0);
    let entries = world.ledger(5).await;
    assert!(entries.iter().all(|it| it.verdict == Verdict::Denied(Reason::Credential)));
}

#[tokio::test]
async fn it_is_not_sent_where_the_operator_does_not_let_it_go() {
    let world = World::new(&[with_credential(rule(OTHER, &[], &[]))], Speaks::Both, echo());
    let told = world.ask(OTHER, request("GET", "/", OTHER).body(Full::default()).expect("a request")).await;
    assert_eq!(told.status, 403);
    assert!(told.body.contains("does not let the credential `model` go there"), "{}", told.body);
    assert_eq!(world.dialled(), 0);
}

#[tokio::test]
async fn it_is_never_sent_without_tls() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new(&rules(), Speaks::Plain, echo());
    let mut stream = world.connect(API, 80);
    let raw = format!("GET /v1/x HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n\r\n");
    stream.write_all(raw.as_bytes()).await.expect("written");
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("without TLS"), "{answer}");
    assert_eq!(world.dialled(), 0);
}

#[tokio::test]
async fn an_echo_is_found_however_it_is_cut() {
    let base64 = base64::engine::general_purpose::STANDARD.encode(VALUE);
    for form in [VALUE.to_owned(), base64, hex::encode(VALUE)] {
        for cut in 1..form.len() {
            let pieces = [format!("before {}", &form[..cut]), format!("{} after", &form[cut..])];
            let answers: Answers = Arc::new(move |_| {
                let frames = pieces.clone().map(|it| Ok(Frame::data(Bytes::from(it))));
                Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
            });
            let world = World::new(&rules(), Speaks::Http1, answers);
            let asked = request("GET", "/free", API).body(Full::default()).expect("a request");
            let told = world.ask(API, asked).await;
            assert_eq!(told.body, "before [redacted:model] after", "{form} at {cut}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_refused() {
    for coding in ["gzip", "br", "identity, zstd", "x"] {
        let answers: Answers = Arc::new(move |_| {
            let mut response = text("coded");
            response.headers_mut().insert("content-encoding", coding.parse().expect("a value"));
            response
        });
        let world = World::new(&rules(), Speaks::Http1, answers);
        let asked = request("GET", "/v1", API).body(Full::default()).expect("a request");
        let told = world.ask(API, asked).await;
        assert_eq!(told.status, 502, "{coding}");
        assert!(told.body.contains("coding"), "{}", told.body);
        // Where no credential goes, nothing has to be read.
        let asked = request("GET", "/", OTHER).body(Full::default()).expect("a request");
        assert_eq!(world.ask(OTHER, asked).await.body, "coded");
    }
}

#[tokio::test]
async fn fields_behind_an_answer_are_scrubbed() {
    let answers: Answers = Arc::new(|_| {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-message", VALUE.parse().expect("a value"));
        let frames = [Ok(Frame::data(Bytes::from(&VALUE[..5]))), Ok(Frame::trailers(trailers))];
        Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
    });
    let world = World::new(&rules(), Speaks::Both, answers);
    let mut sender = world.http2(API).await;
    let asked = http::Request::post(format!("https://{API}/v1/x")).header("te", "trailers");
    let asked = asked.body(Full::<Bytes>::default()).expect("a request");
    let response = in_time(sender.send_request(asked)).await.expect("an answer");
    let collected = in_time(response.into_body().collect()).await.expect("whole");
    assert_eq!(collected.trailers().expect("trailers")["grpc-message"], "[redacted:model]");
    assert_eq!(collected.to_bytes(), &VALUE[..5]);
}
