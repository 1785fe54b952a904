//! What servers of a test's namespace have to give: files by path, and git repositories through git's own server program.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::netns::server::{Asked, response};

/// Files by path.
#[derive(Default)]
pub struct Site(BTreeMap<String, Vec<u8>>);

impl Site {
    /// One more file.
    pub fn put(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.0.insert(path.to_owned(), content.into());
    }

    /// The answer to a request: a file, its length alone, or that there is none.
    pub fn answer(&self, asked: &Asked) -> Option<Vec<u8>> {
        let (method, path, _) = asked.line();
        let Some(file) = self.0.get(path) else { return response("404 Not Found", &[], b"") };
        // Pages of an index are taken for what they are by this alone.
        let kind = if path.ends_with('/') { "text/html" } else { "application/octet-stream" };
        let whole = response("200 OK", &[&format!("Content-Type: {kind}")], file)?;
        let head = whole.len() - file.len();
        Some(if method == "HEAD" { whole[..head].to_vec() } else { whole })
    }
}

/// The answer of `git http-backend` about the repositories below `root`.
pub fn git(root: &Path, asked: &Asked) -> Option<Vec<u8>> {
    let (method, path, query) = asked.line();
    let mut backend = Command::new("git");
    backend.arg("http-backend").env_clear().envs(std::env::var_os("PATH").map(|it| ("PATH", it)));
    backend.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    backend.env("REQUEST_METHOD", method).env("PATH_INFO", path).env("QUERY_STRING", query);
    backend.env("CONTENT_LENGTH", asked.body.len().to_string());
    for (name, header) in [
        ("CONTENT_TYPE", "content-type"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
        ("GIT_PROTOCOL", "git-protocol"),
    ] {
        backend.envs(asked.header(header).map(|it| (name, it)));
    }
    backend.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut backend = backend.spawn().unwrap();
    let (mut stdin, body) = (backend.stdin.take().unwrap(), asked.body.clone());
    // It may answer without having read everything.
    let fed = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let output = backend.wait_with_output().unwrap().stdout;
    fed.join().unwrap();
    let end = output.windows(4).position(|it| it == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head.lines().find_map(|it| it.strip_prefix("Status: ")).unwrap_or("200 OK");
    let headers: Vec<&str> = head.lines().filter(|it| !it.starts_with("Status: ")).collect();
    response(status, &headers, &output[end + 4..])
}
