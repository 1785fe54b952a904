//! TCP addresses on the command lines of engines that run on this host, without a check of the client's certificate. What
//! `daemon.json` adds, the engine that was asked warns of itself.

use std::path::Path;

/// Processes that are looked at, and bytes of a command line.
const PROCESSES_MAX: usize = 100_000;
const COMMAND_BYTES_MAX: u64 = 64 * 1024;

/// The addresses, without repetition.
pub fn of_engines(proc: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(proc).into_iter().flatten().flatten().take(PROCESSES_MAX) {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Ok(bytes) = crate::app::read_bytes(&entry.path().join("cmdline"), COMMAND_BYTES_MAX) else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let arguments: Vec<&str> = text.split('\0').collect();
        for address in open(&arguments) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    found
}

fn open(arguments: &[&str]) -> Vec<String> {
    let program = arguments.first().map_or("", |it| it.rsplit('/').next().unwrap_or_default());
    let verified = arguments.iter().any(|it| *it == "--tlsverify" || *it == "--tlsverify=true");
    if program != "dockerd" || verified {
        return Vec::new();
    }
    let addresses = arguments.iter().filter_map(|it| it.find("tcp://").map(|at| it[at..].to_owned()));
    addresses.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &[&str], expected: &[&str]) {
        assert_eq!(open(arguments), expected);
    }

    #[test]
    fn an_address_without_tls_is_found() {
        check(&["/usr/bin/dockerd", "-H", "tcp://0.0.0.0:2375"], &["tcp://0.0.0.0:2375"]);
        check(&["dockerd", "--host=tcp://127.0.0.1:2375", "--tls"], &["tcp://127.0.0.1:2375"]);
    }

    #[test]
    fn one_that_asks_for_certificates_is_passed_over() {
        check(&["dockerd", "-H", "tcp://0.0.0.0:2376", "--tlsverify"], &[]);
    }

    #[test]
    fn other_programs_are_passed_over() {
        check(&["docker", "-H", "tcp://192.0.2.1:2375", "ps"], &[]);
    }
}
