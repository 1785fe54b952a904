//! AP-16: a tester of HTTP interfaces makes requests from the served document, for two minutes in CI's form and half an hour
//! in the long one.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::aegis::{Aegis, long_form, repetitions};
use crate::support::engine::required;
use crate::support::serving::{Server, asked};
use crate::torture::end;

/// What the tester takes for a refusal, beside its own list: the attach route wants another protocol before it looks at more.
/// And how it finds what follows on what: from the document. Its guesses from addresses in answers may lead from a run to a
/// route whose path only begins alike, which it then holds to be a mistake of the document.
const SETTINGS: &str = "[checks.negative_data_rejection]\n\
    expected-statuses = [400, 401, 403, 404, 405, 406, 409, 411, 413, 415, 416, 422, 426, 428, 429, 431]\n\
    [phases.stateful.inference]\nalgorithms = [\"dependency-analysis\"]\n";

/// Where `packaging/bootstrap.sh api_tester` puts it: by the version that it pins.
fn program() -> PathBuf {
    let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/schemathesis.txt");
    let pins = std::fs::read_to_string(pins).expect("the pins are there");
    let version = pins.lines().find_map(|it| it.strip_prefix("schemathesis==")).expect("it is pinned");
    let version = version.trim_end_matches(['\\', ' ']);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache");
    cache.unwrap_or_else(home).join(format!("aegis/schemathesis-{version}/bin/schemathesis"))
}

/// Asks whatever the document allows, and what it does not, for so long; with a token of this body and these flags.
fn test(server: &Server, aegis: &Aegis, token: &str, flags: &[&str], time_s: u32) {
    let said = server.said();
    let address = said.split_whitespace().find(|it| it.starts_with("http://")).expect("an address");
    let address = address.trim_end_matches(',');
    let made = asked(aegis, "POST", "/api/v1/tokens", "", token).expect("an answer");
    let secret = made.is(201).json()["secret"].as_str().expect("a secret").to_owned();
    let place = tempfile::tempdir().expect("a directory");
    std::fs::write(place.path().join("schemathesis.toml"), SETTINGS).expect("written");
    let output = Command::new(program())
        .args(["run", &format!("{address}/api/v1/openapi.json")])
        .args(["--header", &format!("Authorization: Bearer {secret}")])
        // What the document cannot say (that a digest has 64 digits that are somebody's) may be refused.
        .args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"])
        // Streams last as long as their runs: AP-19, OF-17 and RB-04 are theirs.
        .args(["--exclude-path-regex", "/(events|logs)$"])
        .args(["--rate-limit", "100/s", "--max-time", &time_s.to_string(), "--no-color"])
        // In CI the same requests each time: what a commit did not do does not fail it.
        .args(if long_form() { &[][..] } else { &["--seed", "1"] })
        .args(flags)
        .env("NO_PROXY", "127.0.0.1")
        .current_dir(&place)
        .output()
        .expect("`packaging/bootstrap.sh api_tester` installs it");
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), server.said());
}

#[test]
fn ap_16_no_request_that_the_document_allows_breaks_the_server() {
    if !program().exists() && !required("api_tester") {
        eprintln!("skipped: `packaging/bootstrap.sh api_tester` installs the tester");
        return;
    }
    let aegis = Aegis::new();
    let socket = format!("unix:{}/aegis.sock", aegis.state().display());
    let server = Server::start(&aegis, &["--workers", "1", "--listen", &socket, "--listen", "127.0.0.1:0"]);
    // It must not end itself, and everything else is open to it.
    let all = r#"{"name": "tester", "role": "admin"}"#;
    let own_end = ["--exclude-operation-id", "revoke"];
    test(&server, &aegis, all, &own_end, repetitions(80, 1_200));
    // One of a project meets the refusals.
    let of_one = r#"{"name": "of-one", "role": "admin", "project": "web"}"#;
    test(&server, &aegis, of_one, &[], repetitions(40, 600));
    end(&aegis, server);
}
