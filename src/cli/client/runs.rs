//! Runs of a server: listed, shown, followed, ended, waited for.

use hyper::Method;

use crate::api::wire::WhoamiJson;
use crate::api::wire::run::{CancelledJson, EmptyJson, LogChunkJson, LogEndJson, RunsJson};
use crate::cli::client::connection::{Answer, Question};
use crate::cli::client::{Client, shown_long};
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, print, talk};
use crate::intake::shown;
use crate::report::json::RunJson;
use crate::task::run_id::RunSelector;
use crate::task::{ExitCode, RunId};

/// Runs of one page, and pages, at the most: the newest thousand.
const PAGE: u32 = 200;
const PAGES_MAX: usize = 5;
/// Bytes of one event at the most: a chunk of a log is 1 MiB, and grows by its encoding.
const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often a stream that broke is taken up again, and how long after.
const RESUMES_MAX: u32 = 30;
const RESUME_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

impl Client {
    /// Prints the list of `aegis ps`.
    pub async fn list(&self, all: bool, json: bool) -> CommandResult {
        let (mut runs, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let after = cursor.as_ref().map(|it| format!("&cursor={it}")).unwrap_or_default();
            let path = format!("/api/v1/runs?limit={PAGE}{after}");
            let page: RunsJson = self.ask(Method::GET, &path, None::<&EmptyJson>).await?;
            runs.extend(page.runs.into_iter().filter(|it| all || it.run.state != "done"));
            cursor = page.next_cursor.filter(|it| it.parse::<RunId>().is_ok());
            if cursor.is_none() {
                break;
            }
        }
        if json {
            let runs: Vec<_> = runs.iter().map(|it| &it.run).collect();
            print::data(&serde_json::to_string(&runs).map_err(|it| Failure::of(&it))?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut lines = Vec::new();
        for it in &runs {
            let project = it.project.as_deref().unwrap_or("-");
            let command = it.run.command.join(" ");
            let cells = [&it.run.short_id, &it.run.state, project, &it.run.policy, &it.run.image, &command];
            lines.push(cells.map(shown).join("  "));
        }
        let text = if lines.is_empty() { "no runs".to_owned() } else { lines.join("\n") };
        print::data(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Whether this server is there, and takes runs of this user.
    pub async fn takes_runs(&self) -> bool {
        let who: Result<WhoamiJson, _> = self.ask(Method::GET, "/api/v1/whoami", None::<&EmptyJson>).await;
        who.is_ok_and(|it| ["submit", "admin"].contains(&it.role.as_str()))
    }

    /// One run.
    pub async fn run(&self, run: &str) -> Result<RunJson, Failure> {
        self.ask(Method::GET, &path(run, "")?, None::<&EmptyJson>).await
    }

    /// Prints one run as its published object.
    pub async fn show(&self, run: &str, json: bool) -> CommandResult {
        let run = self.run(run).await?;
        let text = if json { serde_json::to_string(&run) } else { serde_json::to_string_pretty(&run) };
        print::data(&text.map_err(|it| Failure::of(&it))?)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Ends a run, and waits for its end unless told not to.
    pub async fn cancel(&self, run: &str, wait: bool) -> CommandResult {
        let cancelled: CancelledJson =
            self.ask(Method::POST, &path(run, "/cancel")?, Some(&EmptyJson::default())).await?;
        match cancelled.result.as_str() {
            "over" => Err(Failure::new(format!("run {} has ended already", shown(run)))
                .with_exit_code(ExitCode::FAILURE)),
            "asked" if wait => self.wait(run).await.map(|_| ExitCode::SUCCESS),
            _ => Ok(ExitCode::SUCCESS),
        }
    }

    /// Waits for the end of a run; its exit status is that of `aegis run`.
    pub async fn wait(&self, run: &str) -> CommandResult {
        let mut last = None;
        for _ in 0..=RESUMES_MAX {
            let path = path(run, "/events")?;
            let mut ended = false;
            let followed = self
                .follow(&path, &mut last, &mut |event| {
                    ended |= event.kind == "done";
                    Ok(Flow::On)
                })
                .await;
            if !ended {
                pause(followed).await?;
                continue;
            }
            let run = self.run(run).await?;
            let Some(status) = run.exit_status else { continue };
            return Ok(ExitCode::of_status(status));
        }
        Err(broken())
    }

    /// Passes on what a run wrote, to its end or so far.
    pub async fn logs(
        &self,
        run: &str,
        stream: Option<&str>,
        follow: bool,
        take: &mut Take<'_>,
    ) -> CommandResult {
        let stream = stream.map(|it| format!("&stream={it}")).unwrap_or_default();
        let path = path(run, &format!("/logs?follow={follow}{stream}"))?;
        let mut last = None;
        for _ in 0..=RESUMES_MAX {
            let mut is_over = false;
            let mut each = |event: &Event| {
                let flow = match event.kind.as_str() {
                    "chunk" => {
                        let (stream, bytes) = chunk(&event.data)?;
                        take(&stream, &bytes)?
                    }
                    "end" => {
                        let end: LogEndJson = serde_json::from_str(&event.data).map_err(|_| garbled())?;
                        if end.truncated {
                            talk::note("the log is cut: the run wrote more than is kept");
                        }
                        Flow::Stop
                    }
                    _ => Flow::On,
                };
                is_over |= flow == Flow::Stop;
                Ok(flow)
            };
            let followed = self.follow(&path, &mut last, &mut each).await;
            if is_over {
                return Ok(ExitCode::SUCCESS);
            }
            pause(followed).await?;
        }
        Err(broken())
    }

    /// Reads events from the last one on, until the stream ends or `take` has enough.
    async fn follow(
        &self,
        path: &str,
        last: &mut Option<u64>,
        take: &mut dyn FnMut(&Event) -> Result<Flow, Failure>,
    ) -> Result<(), Failure> {
        let mut question = Question { accept: "text/event-stream", ..Question::new(Method::GET, path) };
        question.headers.extend(last.map(|it| ("last-event-id", it.to_string())));
        let mut events = Events { answer: self.open(question).await?, bytes: Vec::new() };
        while let Some(event) = events.next().await? {
            *last = event.id.or(*last);
            if take(&event)? == Flow::Stop {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What takes the bytes of a stream, by its name.
pub type Take<'a> = dyn FnMut(&str, &[u8]) -> Result<Flow, Failure> + 'a;

/// Whether a reader wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    On,
    /// It has enough.
    Stop,
}

/// A refusal stays one; a stream that only broke is taken up again.
async fn pause(followed: Result<(), Failure>) -> Result<(), Failure> {
    match followed {
        Err(failure) if failure.exit_code == ExitCode::FAILURE => Err(failure),
        Ok(()) | Err(_) => {
            tokio::time::sleep(RESUME_PAUSE).await;
            Ok(())
        }
    }
}

fn broken() -> Failure {
    Failure::new("the server's stream broke again and again").hint("ask again: what came is not lost")
}

fn garbled() -> Failure {
    Failure::new("the server sent an event that is not understood: is it of another version?")
}

/// The run that a server told of.
pub fn told(id: &str) -> Result<RunId, Failure> {
    id.parse().map_err(|_| Failure::new("the server told of a run that has no id"))
}

/// The path of a run: what was typed is a run's id before it stands in a path.
pub fn path(run: &str, rest: &str) -> Result<String, Failure> {
    let selector: RunSelector = run.parse().map_err(|it| Failure::usage(Failure::of(&it).message))?;
    let id = match selector {
        RunSelector::Id(id) => id.to_string(),
        RunSelector::Short(digits) => digits,
    };
    Ok(format!("/api/v1/runs/{id}{rest}"))
}

fn chunk(data: &str) -> Result<(String, Vec<u8>), Failure> {
    use base64::Engine as _;

    let chunk: LogChunkJson = serde_json::from_str(data).map_err(|_| garbled())?;
    let bytes = match (chunk.text, chunk.base64) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(text)) => {
            base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| garbled())?
        }
        (None, None) => return Err(garbled()),
    };
    Ok((chunk.stream, bytes))
}

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    id: Option<u64>,
    kind: String,
    data: String,
}

/// Server-sent events as they come.
struct Events {
    answer: Answer,
    bytes: Vec<u8>,
}

impl Events {
    async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|it| it == b"\n\n") {
                let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
                let event = parse(&String::from_utf8_lossy(&block));
                // A comment shows that the server lives.
                if event.kind.is_empty() && event.data.is_empty() {
                    continue;
                }
                return Ok(Some(event));
            }
            if self.bytes.len() > EVENT_BYTES_MAX {
                return Err(Failure::new(shown_long("the server sent an event that has no end")));
            }
            match self.answer.next().await.map_err(|it| Failure::of(&it))? {
                Some(bytes) => self.bytes.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

fn parse(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        let Some((field, value)) = line.split_once(':') else { continue };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => event.id = value.parse().ok(),
            "event" => value.clone_into(&mut event.kind),
            "data" => event.data.push_str(value),
            _ => {}
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read() {
        let event = parse("id: 7\nevent: chunk\ndata: {\"a\":1}\n\n");
        assert_eq!(event, Event { id: Some(7), kind: "chunk".into(), data: "{\"a\":1}".into() });
        assert_eq!(parse(":\n\n"), Event::default());
    }

    #[test]
    fn what_was_typed_is_an_id_before_it_is_a_path() {
        assert!(path("../tokens", "").is_err());
        assert_eq!(path("0123456789AB", "/logs").expect("an id"), "/api/v1/runs/0123456789ab/logs");
    }
}
