//! A server as the commands speak to it: found by flag, variable or its usual sockets; asked over HTTP/1 with JSON, one
//! connection a question. What it answers is somebody else's text: bounded, and escaped where it is shown.

pub mod artifacts;
pub mod changes;
pub mod connection;
pub mod runs;
pub mod submit;
pub mod work;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::wire::problem::ProblemJson;
use crate::cli::client::connection::{Answer, Connection, Question, Upgraded};
use crate::cli::failure::Failure;
use crate::intake::shown;
use crate::task::ExitCode;

/// Where the system's server listens, and below a session's runtime directory that of a person.
const SYSTEM_SOCKET: &str = "/run/aegis/aegis.sock";
const PERSONAL_SOCKET: &str = "aegis/aegis.sock";
/// Names a server, like the flag; this word in it names none.
const VARIABLE: &str = "AEGIS_SERVER";
const NO_SERVER: &str = "local";
/// Bytes of an answer that is held whole.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a token's file.
const TOKEN_BYTES_MAX: u64 = 4096;
/// Time for a question whose answer does not stream.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Which server is asked.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Ask this server instead of this user's own records: unix:/PATH, http://… on loopback or https://…; AEGIS_SERVER says
    /// the same, AEGIS_TOKEN or AEGIS_TOKEN_FILE carries the token
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Its socket.
    Unix(PathBuf),
    /// A host and port, by TLS or on loopback without.
    Tcp {
        /// The host's name, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether the connection is TLS.
        tls: bool,
    },
}

/// A server that can be asked.
#[derive(Debug, Clone)]
pub struct Client {
    place: Place,
    token: Option<String>,
}

/// A server that a run could be handed over to.
#[derive(Debug, Clone)]
pub struct Offer {
    /// It.
    pub client: Client,
    /// How it was found.
    pub by: By,
}

/// How a server was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// By `--server`: it is meant, and no other.
    Flag,
    /// By `AEGIS_SERVER`.
    Variable,
    /// It listens where servers do.
    Socket,
}

impl ServerArgs {
    /// A server that a flag of another meaning named.
    pub fn of(server: Option<String>) -> Self {
        Self { server }
    }

    /// Whether the flag was given.
    pub fn is_given(&self) -> bool {
        self.server.is_some()
    }

    /// The server that was named; `None` where nobody named one.
    pub fn named(&self) -> Result<Option<Client>, Failure> {
        let variable = std::env::var(VARIABLE).ok().filter(|it| !it.is_empty() && it != NO_SERVER);
        match self.server.clone().or(variable) {
            None => Ok(None),
            Some(text) => Client::at(place(&text)?).map(Some),
        }
    }

    /// The server that a run is handed over to, where there is one; `None` runs it here.
    pub fn for_run(&self) -> Result<Option<Offer>, Failure> {
        let variable = std::env::var(VARIABLE).ok().filter(|it| !it.is_empty());
        if let Some(text) = &self.server {
            return Ok(Some(Offer { client: Client::at(place(text)?)?, by: By::Flag }));
        }
        match variable.as_deref() {
            Some(NO_SERVER) => return Ok(None),
            Some(text) => return Ok(Some(Offer { client: Client::at(place(text)?)?, by: By::Variable })),
            None => {}
        }
        // Who names an engine or a place for records means those, and not a server's.
        if ["DOCKER_HOST", "AEGIS_STATE_DIR"].iter().any(|it| std::env::var_os(it).is_some()) {
            return Ok(None);
        }
        match listening() {
            Some(path) => Ok(Some(Offer { client: Client::at(Place::Unix(path))?, by: By::Socket })),
            None => Ok(None),
        }
    }

    /// The server that was named, else one at its usual sockets.
    pub fn any(&self) -> Result<Client, Failure> {
        if let Some(client) = self.named()? {
            return Ok(client);
        }
        if let Some(path) = listening() {
            return Client::at(Place::Unix(path));
        }
        Err(Failure::new("no server listens on this host")
            .hint("start one: `aegis serve`")
            .hint("or name one: --server, or AEGIS_SERVER"))
    }
}

/// A socket at which a server of this host may listen.
fn listening() -> Option<PathBuf> {
    let personal = std::env::var_os("XDG_RUNTIME_DIR").map(|it| PathBuf::from(it).join(PERSONAL_SOCKET));
    [Some(PathBuf::from(SYSTEM_SOCKET)), personal].into_iter().flatten().find(|it| it.exists())
}

/// Reads `unix:PATH` or a URL without a path.
fn place(text: &str) -> Result<Place, Failure> {
    let wrong = |hint: &str| Failure::usage(format!("`{}` is no server", shown(text))).hint(hint);
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Place::Unix(PathBuf::from(path)));
    }
    let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(wrong("write unix:/PATH, http://127.0.0.1:PORT or https://HOST[:PORT]")),
    };
    let authority: hyper::http::uri::Authority =
        rest.trim_end_matches('/').parse().map_err(|_| wrong("write a host and a port, without a path"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("a token goes into AEGIS_TOKEN or AEGIS_TOKEN_FILE, never into the address"));
    }
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let is_loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback());
    if !tls && !is_loopback {
        return Err(wrong("beyond this host the token would be read on its way: write https://"));
    }
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Ok(Place::Tcp { host, port, tls })
}

impl Client {
    fn at(place: Place) -> Result<Self, Failure> {
        Ok(Self { place, token: token()? })
    }

    /// Asks, and reads the whole answer.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, Failure> {
        let bytes = self.ask_bytes(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new("the server's answer is not understood: is it of another version?")
                .hint(shown(&error.to_string()))
        })
    }

    /// The same without reading what the answer says.
    pub async fn ask_bytes(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Vec<u8>, Failure> {
        let body = body.map(serde_json::to_vec).transpose().map_err(|it| Failure::of(&it))?;
        let question = Question { body, accept: "application/json", ..Question::new(method, path) };
        let asked = async {
            let mut answer = self.open(question).await?;
            answer.whole(ANSWER_BYTES_MAX).await
        };
        let late = |_| Failure::new("the server does not answer in time");
        tokio::time::timeout(ANSWER_TIME_MAX, asked).await.map_err(late)?
    }

    /// Asks, and gives an answer that is still to be read. A refusal is a failure.
    pub async fn open(&self, question: Question) -> Result<Answer, Failure> {
        let mut answer = self.send(question).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.whole(ANSWER_BYTES_MAX).await.unwrap_or_default();
        Err(refused(status, serde_json::from_slice(&body).ok()))
    }

    /// Asks for the connection itself, as a stream.
    pub async fn upgrade(
        &self,
        question: Question,
        protocol: &'static str,
    ) -> Result<hyper::upgrade::Upgraded, Failure> {
        let connection = self.connect().await?;
        let upgraded = connection.upgrade(question, self.token.as_deref(), protocol);
        let late = |_| Failure::new("the server does not answer in time");
        let upgraded = tokio::time::timeout(ANSWER_TIME_MAX, upgraded).await.map_err(late)?;
        match upgraded.map_err(|it| Failure::of(&it))? {
            Upgraded::Stream(stream) => Ok(stream),
            Upgraded::Answer(mut answer) => {
                let body = answer.whole(ANSWER_BYTES_MAX).await.unwrap_or_default();
                Err(refused(answer.status(), serde_json::from_slice(&body).ok()))
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let connection = Connection::open(&self.place).await;
        connection.map_err(|it| Failure::of(&it).hint("is the server running there?"))
    }

    /// The same with a refusal as an answer.
    pub async fn send(&self, question: Question) -> Result<Answer, Failure> {
        let connection = self.connect().await?;
        connection.ask(question, self.token.as_deref()).await.map_err(|it| Failure::of(&it))
    }
}

/// What a server refused, as a command says it.
fn refused(status: StatusCode, problem: Option<ProblemJson>) -> Failure {
    let Some(problem) = problem else {
        return Failure::new(format!("the server answered {status}")).hint("is it an Aegis server?");
    };
    let mut failure = Failure::new(shown_long(&problem.message)).with_exit_code(ExitCode::FAILURE);
    for error in &problem.errors {
        if error.message != problem.message || problem.errors.len() > 1 {
            failure.causes.push(format!("{}: {}", shown(&error.field), shown_long(&error.message)));
        } else {
            failure.causes.push(format!("in `{}`", shown(&error.field)));
        }
        failure.hints.extend(error.hint.iter().map(|it| shown_long(it)));
    }
    match status {
        StatusCode::UNAUTHORIZED => {
            failure.hint("set AEGIS_TOKEN, or AEGIS_TOKEN_FILE to a file with the token")
        }
        StatusCode::UPGRADE_REQUIRED => {
            failure.hint("the server is of another version: with `--local` the task runs here")
        }
        status if status.is_server_error() => {
            failure.hint(format!("the server's log has more under {}", shown(&problem.request_id)))
        }
        _ => failure,
    }
}

/// Text of a server, free of what would change how a terminal shows it.
pub(super) fn shown_long(text: &str) -> String {
    const CHARS_MAX: usize = 2_000;
    let cut: String = text.chars().take(CHARS_MAX).collect();
    crate::task::escape::escape(cut.as_bytes())
}

fn token() -> Result<Option<String>, Failure> {
    if let Some(token) = std::env::var("AEGIS_TOKEN").ok().filter(|it| !it.is_empty()) {
        return Ok(Some(token));
    }
    let Some(path) = std::env::var_os("AEGIS_TOKEN_FILE").filter(|it| !it.is_empty()) else {
        return Ok(None);
    };
    let text = crate::app::read_bounded(PathBuf::from(path).as_path(), TOKEN_BYTES_MAX);
    let text =
        text.map_err(|it| Failure::of(&it).hint("AEGIS_TOKEN_FILE names a text file with the token alone"))?;
    Ok(Some(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<Place>) {
        assert_eq!(place(text).ok(), expected, "{text}");
    }

    #[test]
    fn a_server_is_a_socket_or_an_address() {
        check("unix:/run/x.sock", Some(Place::Unix("/run/x.sock".into())));
        let tcp = |host: &str, port, tls| Some(Place::Tcp { host: host.into(), port, tls });
        check("http://127.0.0.1:7410", tcp("127.0.0.1", 7410, false));
        check("http://[::1]:7410/", tcp("::1", 7410, false));
        check("https://aegis.example.org", tcp("aegis.example.org", 443, true));
        for text in ["aegis.example.org", "https://a/b", "https://token@aegis.example.org", "ftp://a"] {
            check(text, None);
        }
    }

    #[test]
    fn a_token_never_crosses_a_network_in_the_clear() {
        check("http://aegis.example.org:7410", None);
        check("http://10.0.0.1", None);
    }
}
