//! What an engine says of itself in the headers of its shortest answer. `/version` tells that and more, but the engine starts
//! two programs to give it: time of every cold run. Who answers in any other way is asked for the long form.

use std::io;
use std::path::Path;
use std::time::Duration;

use bollard::models::SystemVersion;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Bytes of an answer.
const BYTES_MAX: u64 = 8 * 1024;
/// How long it is waited for.
const TIME_MAX: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n";

/// Version and newest API of a Docker engine; `None` where the answer is none, or another program's.
pub(super) async fn greeting(socket: &Path) -> Option<SystemVersion> {
    let answer = tokio::time::timeout(TIME_MAX, ask(socket)).await.ok()?.ok()?;
    read(std::str::from_utf8(&answer).ok()?)
}

async fn ask(socket: &Path) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn read(answer: &str) -> Option<SystemVersion> {
    let (head, _) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    if lines.next()?.split(' ').nth(1)? != "200" {
        return None;
    }
    let (mut api, mut server) = (None, None);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "api-version" => api = Some(value.trim().to_owned()),
            "server" => server = Some(value.trim()),
            // Podman's service says this beside the rest.
            "libpod-api-version" => return None,
            _ => {}
        }
    }
    let version = server?.strip_prefix("Docker/")?.split(' ').next()?.to_owned();
    Some(SystemVersion { api_version: Some(api?), version: Some(version), ..SystemVersion::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &str, expected: Option<(&str, &str)>) {
        let answer = format!("HTTP/1.1 {headers}\r\nContent-Length: 2\r\n\r\nOK");
        let version = read(&answer);
        let found =
            version.as_ref().and_then(|it| Some((it.version.as_deref()?, it.api_version.as_deref()?)));
        assert_eq!(found, expected, "{headers}");
    }

    #[test]
    fn a_docker_engine_says_its_version_and_its_newest_api() {
        let headers = "200 OK\r\nApi-Version: 1.41\r\nServer: Docker/20.10.24+dfsg1 (linux)";
        check(headers, Some(("20.10.24+dfsg1", "1.41")));
    }

    #[test]
    fn who_is_none_or_says_less_is_asked_for_the_long_form() {
        check("200 OK\r\nApi-Version: 1.41\r\nServer: Libpod/4.3.1 (linux)", None);
        check(
            "200 OK\r\nApi-Version: 1.41\r\nLibpod-API-Version: 4.3.1\r\nServer: Docker/20.10.24 (linux)",
            None,
        );
        check("200 OK\r\nApi-Version: 1.41", None);
        check("200 OK\r\nServer: Docker/20.10.24 (linux)", None);
        check("503 Service Unavailable\r\nApi-Version: 1.41\r\nServer: Docker/20.10.24 (linux)", None);
        assert!(read("HTTP/1.1 200 OK\r\nApi-Version: 1.41").is_none());
    }
}
