//! Checks AP: what a caller may not do to the server's API, whoever they are.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aegis::access::{Access, Decision, Role};
use aegis::api::services::Limits;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::support::server::{Server, read};

/// Every route of the served document, with something in the place of each parameter.
fn routes() -> Vec<(String, String)> {
    let document = aegis::api::openapi();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let digest = format!("sha256:{}", "0".repeat(64));
        let path = path
            .replace("{id}", "0192f5a0-0000-7000-8000-000000000000")
            .replace("{digest}", &digest)
            .replace("{name}", "nobody")
            .replace("{index}", "0")
            .replace("{path}", "none");
        for method in item.as_object().expect("operations").keys() {
            routes.push((method.to_uppercase(), path.clone()));
        }
    }
    assert!(routes.len() > 15, "{routes:?}");
    routes
}

#[test]
fn ap_01_each_route_takes_a_valid_token_only() {
    let server = Server::new();
    let expired = server.token_until("expired", Role::Admin, None, Some(1));
    let revoked = server.token("revoked", Role::Admin, None);
    let _ = server.within(server.store.revoke_token("revoked", None)).expect("records");
    let wrong = [
        String::new(),
        "Bearer ".to_owned(),
        "Basic YTpi".to_owned(),
        "Bearer aegis_of_another_instance".to_owned(),
        format!("Bearer {expired}"),
        format!("Bearer {revoked}"),
    ];
    for (method, path) in routes() {
        for authorization in &wrong {
            let json = ("content-type", "application/json");
            let headers: &[(&str, &str)] =
                if authorization.is_empty() { &[json] } else { &[json, ("authorization", authorization)] };
            let answer = server.send(&method, &path, headers, "{}");
            match path.as_str() {
                "/livez" | "/readyz" => assert_eq!(answer.status, 200, "{method} {path}"),
                _ => assert_eq!(answer.status, 401, "{method} {path} {authorization}: {answer:#?}"),
            }
        }
    }
    // Who is not known does not learn which paths there are.
    server.send("GET", "/api/v1/nothing", &[], "").refused(401);
}

#[test]
fn ap_01_a_role_has_its_routes_and_no_others() {
    let server = Server::new();
    let reader = server.token("reader", Role::Read, None);
    let of_project = server.token("ann", Role::Admin, Some("a"));
    for (method, path) in routes() {
        let looks = ["GET", "HEAD"].contains(&method.as_str())
            && !["tokens", "slots", "workspaces", "/workers", "/work/"].iter().any(|it| path.contains(it));
        let answer = server.ask(&reader, &method, &path, "{}");
        assert_eq!(answer.status == 403, !looks, "{method} {path}: {answer:#?}");
        if path.contains("tokens") || path.contains("/workers") {
            server.ask(&of_project, &method, &path, "{}").refused(403);
        }
    }
}

#[test]
fn ap_02_runs_of_another_project_are_not_there() {
    let server = Server::new();
    let ann = server.token("ann", Role::Submit, Some("a"));
    let bob = server.token("bob", Role::Admin, Some("b"));
    let run = server.queued(&ann);
    let short = &run[run.len() - 12..];
    for id in [run.as_str(), short] {
        for (method, rest) in [
            ("GET", ""),
            ("GET", "/logs"),
            ("GET", "/events"),
            ("GET", "/egress"),
            ("GET", "/artifacts"),
            ("GET", "/artifacts/out"),
            ("GET", "/outputs"),
            ("GET", "/changes"),
            ("POST", "/retry"),
            ("POST", "/cancel"),
        ] {
            let path = format!("/api/v1/runs/{id}{rest}");
            server.ask(&bob, method, &path, "{}").refused(404);
        }
        server.ask(&ann, "GET", &format!("/api/v1/runs/{id}"), "").is(200);
    }
    let listed = |token: &str, query: &str| server.ask(token, "GET", &format!("/api/v1/runs{query}"), "");
    assert_eq!(listed(&bob, "").json()["runs"].as_array().expect("runs").len(), 0);
    assert_eq!(listed(&ann, "").json()["runs"].as_array().expect("runs").len(), 1);
    listed(&bob, "?project=a").refused(403);
    let body = r#"{"command": ["true"], "project": "a"}"#;
    server.ask(&bob, "POST", "/api/v1/runs", body).refused(403);
    server.ask(&bob, "POST", "/api/v1/runs/batch", &format!(r#"{{"runs": [{body}]}}"#)).refused(403);
}

#[test]
fn ap_02_a_digest_alone_opens_nobodys_workspace() {
    use sha2::{Digest, Sha256};

    let server = Server::new();
    let ann = server.token("ann", Role::Submit, Some("a"));
    let bob = server.token("bob", Role::Submit, Some("b"));
    let digest = format!("sha256:{}", hex::encode(Sha256::digest("content")));
    let path = format!("/api/v1/workspaces/{digest}");
    let put = |token: &str, path: &str| {
        let authorization = format!("Bearer {token}");
        let headers =
            [("authorization", authorization.as_str()), ("content-type", "application/octet-stream")];
        server.send("PUT", path, &headers, "content")
    };
    put(&ann, &format!("/api/v1/workspaces/sha256:{}", "0".repeat(64))).refused(400);
    put(&ann, &path).is(201);
    server.ask(&ann, "HEAD", &path, "").is(200);
    server.ask(&bob, "HEAD", &path, "").is(404);
    let body = format!(r#"{{"command": ["true"], "workspace": "{digest}"}}"#);
    server.ask(&ann, "POST", "/api/v1/runs", &body).is(201);
    let problem = server.ask(&bob, "POST", "/api/v1/runs", &body).refused(400);
    assert_eq!(problem["errors"][0]["field"], "workspace");
    put(&bob, &path).is(201);
    server.ask(&bob, "POST", "/api/v1/runs", &body).is(201);
    let left = std::fs::read_dir(server.state.path().join("uploads")).expect("uploads");
    let drafts = left.flatten().filter(|it| it.file_name().to_string_lossy().starts_with("draft")).count();
    assert_eq!(drafts, 0, "nothing of a refused upload is left");
}

#[test]
fn ap_03_fields_that_would_weaken_a_sandbox_are_named() {
    let server = Server::new();
    let token = server.token("ann", Role::Submit, Some("a"));
    for field in [
        "privileged",
        "network_mode",
        "pid_mode",
        "user",
        "cap_add",
        "security_opt",
        "devices",
        "binds",
        "sandbox",
        "Command",
    ] {
        let body = format!(r#"{{"command": ["true"], "{field}": "host"}}"#);
        let problem = server.ask(&token, "POST", "/api/v1/runs", &body).refused(400);
        assert_eq!(problem["errors"][0]["field"], field);
        let batch = format!(r#"{{"runs": [{body}]}}"#);
        let problem = server.ask(&token, "POST", "/api/v1/runs/batch", &batch).refused(400);
        assert!(problem["errors"][0]["field"].as_str().is_some_and(|it| it.ends_with(field)), "{problem}");
    }
    let listed = server.ask(&token, "GET", "/api/v1/runs", "").json();
    assert_eq!(listed["runs"].as_array().expect("runs").len(), 0, "nothing of them was taken");
}

#[test]
fn ap_04_what_a_page_of_another_site_can_send_is_refused() {
    let server = Server::new();
    let token = server.token("ann", Role::Submit, Some("a"));
    let authorization = format!("Bearer {token}");
    let body = r#"{"command": ["true"]}"#;
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    {
        let headers = [("authorization", authorization.as_str()), ("content-type", content_type)];
        server.send("POST", "/api/v1/runs", &headers, body).refused(415);
    }
    server.send("POST", "/api/v1/runs", &[("authorization", &authorization)], body).refused(415);
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
            ("origin", origin),
        ];
        let answer = server.send("POST", "/api/v1/runs", &headers, body);
        answer.refused(403);
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
        // AP-17: streams, too.
        let run = "/api/v1/runs/0192f5a0-0000-7000-8000-000000000000/events";
        server.send("GET", run, &headers, "").refused(403);
    }
    let preflight = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let answer = server.send("OPTIONS", "/api/v1/runs", &preflight, "");
    assert!(
        answer.status >= 400 && !answer.headers.keys().any(|it| it.starts_with("access-control")),
        "{answer:#?}"
    );
}

#[test]
fn ap_05_loopback_answers_to_its_own_names_only() {
    let server = Server::new();
    let port = server.address.port();
    for head in [
        "GET /livez HTTP/1.1\r\nhost: evil.example".to_owned(),
        format!("GET /livez HTTP/1.1\r\nhost: 127.attacker.test:{port}"),
        "GET /livez HTTP/1.1".to_owned(),
        format!("GET http://evil.example/livez HTTP/1.1\r\nhost: 127.0.0.1:{port}"),
    ] {
        let answer = server.raw(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes());
        assert!([400, 403, 421].contains(&answer.status), "{head}: {answer:#?}");
    }
    server.send("GET", "/livez", &[], "").is(200);
}

#[test]
fn ap_07_odd_paths_are_not_found_and_nothing_breaks() {
    let server = Server::new();
    let token = server.token("ann", Role::Submit, Some("a"));
    let long = "9".repeat(8_000);
    for rest in [
        "..%2fadmin",
        "%00",
        "..",
        "%252e%252e",
        ";x",
        "%f0%9d%9f%8e%f0%9d%9f%8f",
        "१२३४५६७८९०१२",
        &long,
        "%ff%fe",
        "' OR 1=1--",
        "a%20b",
        "%27%3BDROP%20TABLE%20runs",
        "0192f5a0-0000-7000-8000-000000000000%00",
    ] {
        for path in [format!("/api/v1/runs/{rest}"), format!("/api/v1/runs/{rest}/logs")] {
            let answer = server.ask(&token, "GET", &path.replace(' ', "%20"), "");
            assert!([400, 404].contains(&answer.status), "{path:.60}: {answer:#?}");
        }
    }
    server.ask(&token, "GET", "//api//v1/runs", "").refused(404);
    server.ask(&token, "PATCH", "/api/v1/runs", "{}").refused(405);
}

#[test]
fn ap_08_what_is_too_large_ends_early() {
    let server = Server::new();
    let token = server.token("ann", Role::Submit, Some("a"));
    let head = |length: &str| {
        format!(
            "POST /api/v1/runs HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\nconnection: close\r\n{length}\r\n\r\n",
            server.address
        )
    };
    // It says so itself: refused before a byte of it came.
    server.raw(head("content-length: 104857600").as_bytes()).refused(413);
    // It does not: refused when it is too much.
    let mut stream = server.connect();
    stream.write_all(head("transfer-encoding: chunked").as_bytes()).expect("sent");
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let mut sent = 0_u64;
    while sent < 1 << 30 && stream.write_all(&chunk).is_ok() {
        sent += 0x10000;
    }
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    let nested = format!("{{\"command\": {}", "[".repeat(200_000));
    server.ask(&token, "POST", "/api/v1/runs", &nested).refused(400);
    let keys: Vec<String> = (0..60_000).map(|it| format!("\"{it}\": \"\"")).collect();
    let body = format!("{{\"command\": [\"true\"], \"labels\": {{{}}}}}", keys.join(","));
    server.ask(&token, "POST", "/api/v1/runs", &body).refused(400);
    let authorization = format!("Bearer {token}");
    let packed = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    server.send("POST", "/api/v1/runs", &packed, "\u{1f}").refused(415);
    let large = "x".repeat(64 * 1024);
    let answer = server.send("GET", "/livez", &[("x-large", &large)], "");
    assert_eq!(answer.status, 431);
    let many: Vec<(&str, &str)> = (0..10_000).map(|_| ("x-a", "b")).collect();
    assert_eq!(server.send("GET", "/livez", &many, "").status, 431);
}

#[test]
fn ap_09_slow_clients_hold_nobody_up() {
    let limits = Limits {
        head_time: Duration::from_secs(2),
        request_time: Duration::from_secs(2),
        // They are slow, not many.
        requests_burst: 10_000,
        ..Limits::USUAL
    };
    let server = Server::with(limits);
    let token = server.token("ann", Role::Submit, Some("a"));
    let (mut slow, mut unread) = (Vec::new(), Vec::new());
    for index in 0..500 {
        let mut stream = server.connect();
        let head = match index % 3 {
            0 => "GET /livez HTTP/1.1\r\nhost: 127".to_owned(),
            // Nothing of what is answered is taken.
            1 => format!(
                "GET /api/v1/openapi.json HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\r\n",
                server.address
            )
            .repeat(3),
            _ => format!(
                "POST /api/v1/runs HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
                server.address
            ),
        };
        stream.write_all(head.as_bytes()).expect("sent");
        if index % 3 != 1 {
            slow.push(stream);
        } else {
            unread.push(stream);
        }
    }
    let begun = Instant::now();
    server.send("GET", "/livez", &[], "").is(200);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // Each is closed by its deadline: reading ends.
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let text = String::from_utf8_lossy(&rest);
        assert!(rest.is_empty() || text.contains(" 408 "), "{text}");
    }
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[test]
fn ap_10_queries_are_typed_and_unknown_ones_refused() {
    let server = Server::new();
    let token = server.token("ann", Role::Submit, Some("a"));
    for query in [
        "state=%27%20OR%201%3D1--",
        "sort=(select%201)",
        "label=%25",
        "label=a%00%3Db",
        "cursor=1%3BDROP",
        "limit=-1",
        "limit=1e9",
        "limit=201",
        "project=..",
        "state=done&state=done",
    ] {
        let answer = server.ask(&token, "GET", &format!("/api/v1/runs?{query}"), "");
        assert!([400, 403].contains(&answer.status), "{query}: {answer:#?}");
    }
    // AP-17: a token in the query is no token.
    server.send("GET", &format!("/api/v1/runs?token={token}"), &[], "").refused(401);
    server.ask(&token, "GET", &format!("/api/v1/runs?access_token={token}"), "").refused(400);
}

#[test]
fn ap_12_http_2_is_not_spoken() {
    let server = Server::new();
    let answer = server.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(answer.status == 0 || answer.status >= 400, "{answer:#?}");
    let upgrade = [
        ("connection", "upgrade, http2-settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
    ];
    let answer = server.send("GET", "/livez", &upgrade, "");
    assert_ne!(answer.status, 101);
}

#[test]
fn ap_13_words_that_look_like_options_are_words() {
    let server = Server::new();
    let token = server.token("ann", Role::Submit, Some("a"));
    let check = |body: &str, expected: Result<(), &str>| {
        let answer = server.ask(&token, "POST", "/api/v1/runs", body);
        match expected {
            Ok(()) => drop(answer.is(201)),
            Err(field) => assert_eq!(answer.refused(400)["errors"][0]["field"], field, "{body}"),
        }
    };
    check(r#"{"command": ["--", "-", "", "--rm"]}"#, Ok(()));
    check(r#"{"command": []}"#, Err("command"));
    check(r#"{"command": [""]}"#, Err("command"));
    check(r#"{"command": ["a", "b\u0000"]}"#, Err("command[1]"));
    for image in ["--help", "a b", "../x", "UPPER", ""] {
        check(&format!(r#"{{"command": ["true"], "image": "{image}"}}"#), Err("image"));
    }
    for name in ["A=B", "", "A\\n", "1A"] {
        check(&format!(r#"{{"command": ["true"], "environment": {{"{name}": ""}}}}"#), Err("environment"));
    }
    check(r#"{"command": ["true"], "labels": {"aegis.owner": "root"}}"#, Err("labels"));
    check(r#"{"command": ["true"], "name": "\u001b[2J"}"#, Err("name"));
    check(r#"{"command": ["true"], "schedule": {"priority": 101}}"#, Err("schedule.priority"));
    check(r#"{"command": ["true"], "limits": {"memory": "1"}}"#, Err("limits.memory"));
    check(
        r#"{"command": ["true"], "policy": "ci", "policy_document": {"name": "p", "text": ""}}"#,
        Err("policy"),
    );
    let large = format!(r#"{{"command": ["{}"]}}"#, "x".repeat(2 << 20));
    server.ask(&token, "POST", "/api/v1/runs", &large).refused(413);
}

#[test]
fn ap_14_one_callers_flood_is_its_own() {
    let limits = Limits {
        requests_per_second: 5,
        requests_burst: 10,
        streams: 8,
        streams_per_caller: 3,
        ..Limits::USUAL
    };
    let server = Server::with(limits);
    let ann = server.token("ann", Role::Submit, Some("a"));
    let bob = server.token("bob", Role::Submit, Some("b"));
    let run = server.queued(&bob);
    let answers: Vec<_> = (0..200).map(|_| server.ask(&ann, "GET", "/api/v1/whoami", "")).collect();
    let refused = answers.iter().find(|it| it.status == 429).expect("some are refused");
    refused.refused(429);
    assert!(refused.headers["retry-after"].parse::<u64>().is_ok_and(|it| it >= 1), "{refused:#?}");
    server.ask(&bob, "GET", "/api/v1/whoami", "").is(200);
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(open_stream(&server, &bob, &run, "events"));
    }
    server.ask(&bob, "GET", &format!("/api/v1/runs/{run}/events"), "").refused(429);
}

#[test]
fn a_thousand_readers_are_told_of_the_same_end() {
    let server = Server::with(Limits { requests_burst: 4_000, ..Limits::USUAL });
    let ann = server.token("ann", Role::Submit, Some("a"));
    let run = server.queued(&ann);
    let readers: Vec<_> = (0..1_000).map(|_| open_stream(&server, &ann, &run, "events")).collect();
    let begun = Instant::now();
    server.send("GET", "/livez", &[], "").is(200);
    server.ask(&ann, "POST", &format!("/api/v1/runs/{run}/cancel"), "{}").is(200);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    for mut reader in readers {
        // The stream of a run ends with the run.
        let mut told = String::new();
        let _ = reader.read_to_string(&mut told);
        assert!(told.contains("cancelled"), "{told}");
    }
}

/// A stream whose head has come.
fn open_stream(server: &Server, token: &str, run: &str, what: &str) -> std::net::TcpStream {
    let mut stream = server.connect();
    let head = format!(
        "GET /api/v1/runs/{run}/{what} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\naccept: text/event-stream\r\n\r\n",
        server.address
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let mut seen = Vec::new();
    let mut byte = [0; 1];
    while !seen.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        seen.push(byte[0]);
    }
    assert!(seen.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&seen));
    stream
}

#[test]
fn ap_18_nothing_of_the_inside_is_told() {
    let server = Server::new();
    let token = server.token("ann", Role::Submit, Some("a"));
    server.ask(&token, "GET", "/api/v1/whoami", "").is(200);
    server.clerk.broken.store(true, Ordering::SeqCst);
    for (method, path) in routes() {
        let answer = server.ask(&token, &method, &path, r#"{"command": ["true"]}"#);
        for inside in ["SELECT", "/var/lib", "aegis.db", "panicked", "src/"] {
            assert!(!answer.body.contains(inside), "{method} {path}: {answer:#?}");
        }
    }
    server.clerk.broken.store(false, Ordering::SeqCst);
}

#[test]
fn ap_19_a_revoked_tokens_streams_close() {
    let server = Server::new();
    let admin = server.token("admin", Role::Admin, None);
    let ann = server.token("ann", Role::Submit, Some("a"));
    let run = server.queued(&ann);
    let mut streams = ["events", "logs"].map(|it| open_stream(&server, &ann, &run, it));
    server.ask(&admin, "DELETE", "/api/v1/tokens/ann", "").is(204);
    let begun = Instant::now();
    for stream in &mut streams {
        read(stream);
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    server.ask(&ann, "GET", "/api/v1/whoami", "").refused(401);
}

#[test]
fn ap_20_every_refusal_and_every_change_is_written_down() {
    let server = Server::new();
    let ann = server.token("ann", Role::Submit, Some("a"));
    let run = server.queued(&ann);
    server.ask(&ann, "GET", "/api/v1/tokens", "").refused(403);
    server.ask(&ann, "POST", &format!("/api/v1/runs/{run}/cancel"), "{}").is(200);
    server.send("GET", "/api/v1/runs", &[], "").refused(401);
    server.ask(&ann, "POST", "/api/v1/runs", "{}").refused(400);
    let mut audits = server.within(server.store.audits(None, 100)).expect("records");
    audits.reverse();
    let (allowed, refused) = (Decision::Allowed, Decision::Refused);
    let told: Vec<_> =
        audits.iter().map(|it| (it.entry.who.as_str(), it.entry.what.as_str(), it.entry.decision)).collect();
    assert_eq!(
        told,
        [
            ("token:ann", "POST /api/v1/runs", allowed),
            ("token:ann", "GET /api/v1/tokens", refused),
            ("token:ann", "POST /api/v1/runs/{id}/cancel", allowed),
            ("unknown", "GET /api/v1/runs", refused),
            ("token:ann", "POST /api/v1/runs", refused),
        ]
    );
    for index in [0, 2] {
        assert_eq!(audits[index].entry.object.as_deref(), Some(run.as_str()));
    }
    assert!(audits.iter().all(|it| it.entry.request_id.is_some()));
}

#[test]
fn the_socket_names_its_peers_by_the_kernels_word() {
    let server = Server::new();
    let who = server.local("GET", "/api/v1/whoami", "").is(200).json();
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!((&who["name"], &who["role"]), (&format!("uid:{uid}").into(), &"admin".into()));
    // A token says nothing here: nobody gains or loses by sending one.
    let made =
        server.local("POST", "/api/v1/tokens", r#"{"name": "ci", "role": "submit", "project": "web"}"#);
    let secret = made.is(201).json()["secret"].as_str().expect("a secret").to_owned();
    let who = server.ask(&secret, "GET", "/api/v1/whoami", "").is(200).json();
    assert_eq!((&who["name"], &who["project"]), (&"token:ci".into(), &"web".into()));
    let listed = server.local("GET", "/api/v1/tokens", "");
    assert!(!listed.is(200).body.contains(&secret), "a secret is shown once");
    server.local("POST", "/api/v1/tokens", r#"{"name": "ci", "role": "read"}"#).refused(409);
}

#[test]
fn pages_follow_each_other_and_filters_hold() {
    let server = Server::new();
    let ann = server.token("ann", Role::Submit, Some("a"));
    for index in 0..5 {
        let body = format!(r#"{{"command": ["true"], "labels": {{"n": "{}"}}}}"#, index % 2);
        server.ask(&ann, "POST", "/api/v1/runs", &body).is(201);
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/runs?limit=2".to_owned();
    for _ in 0..3 {
        let page = server.ask(&ann, "GET", &path, "").is(200).json();
        seen.extend(page["runs"].as_array().expect("runs").iter().map(|it| it["run"]["id"].to_string()));
        path = format!("/api/v1/runs?limit=2&cursor={}", page["next_cursor"].as_str().unwrap_or_default());
    }
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    sorted.reverse();
    assert_eq!((seen.len(), &seen), (5, &sorted), "each once, newest first");
    for (query, count) in
        [("label=n=0", 3), ("label=n=1&state=queued", 2), ("state=done", 0), ("label=n=2", 0)]
    {
        let page = server.ask(&ann, "GET", &format!("/api/v1/runs?{query}"), "").is(200).json();
        assert_eq!(page["runs"].as_array().expect("runs").len(), count, "{query}");
    }
}

#[test]
fn of_16_a_key_makes_one_run() {
    let server = Server::new();
    let ann = server.token("ann", Role::Submit, Some("a"));
    let authorization = format!("Bearer {ann}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("idempotency-key", "k1"),
    ];
    let body = r#"{"command": ["true"]}"#;
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            (0..50).map(|_| scope.spawn(|| server.send("POST", "/api/v1/runs", &headers, body))).collect();
        asked.into_iter().map(|it| it.join().expect("an answer")).collect()
    });
    let first = answers[0].json()["id"].clone();
    for answer in &answers {
        assert_eq!(answer.json()["id"], first, "{answer:#?}");
    }
    assert_eq!(answers.iter().filter(|it| it.status == 201).count(), 1);
    let other = server.send("POST", "/api/v1/runs", &headers, r#"{"command": ["false"]}"#);
    assert_eq!(other.refused(409)["code"], "idempotency_conflict");
}

#[test]
fn of_15_a_run_is_cancelled_once_however_often_it_is_asked() {
    let server = Server::new();
    let ann = server.token("ann", Role::Submit, Some("a"));
    let run = server.queued(&ann);
    let cancel = || server.ask(&ann, "POST", &format!("/api/v1/runs/{run}/cancel"), "{}");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..50).map(|_| scope.spawn(cancel)).collect();
        asked.into_iter().map(|it| it.join().expect("an answer").is(200).json()).collect()
    });
    assert_eq!(answers.iter().filter(|it| it["result"] == "ended").count(), 1);
    assert_eq!(cancel().json()["result"], "over");
    let run = server.ask(&ann, "GET", &format!("/api/v1/runs/{run}"), "").json();
    assert_eq!((&run["state"], &run["exit_status"]), (&"done".into(), &143.into()));
}

/// Asks over the Unix socket as another user of this host: the answer, or what the kernel said. A thread's credentials are
/// its own: one is made, used and ended.
fn as_user(server: &Server, uid: u32, gid: u32, more_groups: &[u32], path: &str) -> String {
    let groups: Vec<Gid> = more_groups.iter().map(|it| Gid::from_raw(*it)).collect();
    let asked = || {
        set_thread_groups(&groups).expect("groups");
        set_thread_gid(Gid::from_raw(gid)).expect("a group");
        set_thread_uid(Uid::from_raw(uid)).expect("a user");
        let mut stream = match UnixStream::connect(&server.socket) {
            Ok(stream) => stream,
            Err(error) => return error.kind().to_string(),
        };
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        let answer = read(&mut stream);
        format!("{} {}", answer.status, answer.body)
    };
    std::thread::scope(|scope| scope.spawn(asked).join().expect("it ends"))
}

#[test]
fn ap_02_a_member_of_the_sockets_group_has_a_project_of_its_own_and_nobody_else_comes_in() {
    use std::os::unix::fs::PermissionsExt;

    const GROUP: u32 = 64_990;
    let server = Server::for_group(GROUP);
    // As the system's runtime directory is: everybody may come up to the socket.
    std::fs::set_permissions(server.state.path(), std::fs::Permissions::from_mode(0o711)).expect("changed");
    let mode = std::fs::metadata(&server.socket).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let foreign = server.queued(&server.token("admin", Role::Admin, None));
    let asked = |uid, gid, more: &[u32], path: &str| as_user(&server, uid, gid, more, path);
    let told = asked(64_991, GROUP, &[], "/api/v1/whoami");
    for part in ["200 ", r#""role":"submit""#, r#""project":"user-64991""#] {
        assert!(told.contains(part), "{told}");
    }
    let run = format!("/api/v1/runs/{foreign}");
    assert!(asked(64_991, GROUP, &[], &run).starts_with("404 "));
    assert!(asked(64_991, GROUP, &[], "/api/v1/tokens").starts_with("403 "));
    // The kernel lets a process in that has the group; who the host's accounts do not name as a member is nobody here.
    assert!(asked(64_991, 64_992, &[GROUP], "/api/v1/whoami").starts_with("403 "));
    assert!(asked(64_991, 64_992, &[], "/api/v1/whoami").contains("permission denied"));
}
