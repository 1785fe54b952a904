//! AP-16: a tester of HTTP interfaces makes requests from the served document, for half an hour. It is installed for the long
//! form only, where its packages come from the network.

use std::path::PathBuf;
use std::process::Command;

use crate::support::aegis::{Aegis, long_form};
use crate::support::serving::{Server, asked};
use crate::torture::end;

/// Seconds.
const TIME_S: &str = "1800";

/// Where `packaging/bootstrap.sh api_tester` puts it.
fn program() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache");
    cache.unwrap_or_else(home).join("aegis/schemathesis-4.32.5/bin/schemathesis")
}

#[test]
fn ap_16_no_request_that_the_document_allows_breaks_the_server() {
    if !long_form() {
        eprintln!("skipped: this is for the long form");
        return;
    }
    let aegis = Aegis::new();
    let socket = format!("unix:{}/aegis.sock", aegis.state().display());
    let server = Server::start(&aegis, &["--workers", "1", "--listen", &socket, "--listen", "127.0.0.1:0"]);
    let said = server.said();
    let address = said.split_whitespace().find(|it| it.starts_with("http://")).expect("an address");
    // One of a project may not end itself.
    let body = r#"{"name": "tester", "role": "admin", "project": "web"}"#;
    let made = asked(&aegis, "POST", "/api/v1/tokens", "", body).expect("an answer");
    let secret = made.is(201).json()["secret"].as_str().expect("a secret").to_owned();
    let place = tempfile::tempdir().expect("a directory");
    let output = Command::new(program())
        .args(["run", &format!("{address}/api/v1/openapi.json")])
        .args(["--header", &format!("Authorization: Bearer {secret}")])
        // What the document cannot say (that a digest has 64 digits that are somebody's) may be refused.
        .args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"])
        // Streams last as long as their runs: AP-19, OF-17 and RB-04 are theirs.
        .args(["--exclude-path-regex", "/(events|logs)$"])
        .args(["--rate-limit", "100/s", "--max-time", TIME_S, "--no-color"])
        .current_dir(&place)
        .output()
        .expect("`packaging/bootstrap.sh api_tester` installs it");
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), server.said());
    end(&aegis, server);
}
