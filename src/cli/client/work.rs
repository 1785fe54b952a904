//! A server as a worker host speaks to it.

use std::fs::File;
use std::io::Seek;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt;

use crate::api::services::Answer as Later;
use crate::api::wire::problem::ProblemJson;
use crate::api::wire::work::{LogPieceJson, LogStandsJson, OutputStandsJson};
use crate::app::serve::upstream::{Stands, Unsent, Upstream};
use crate::cli::client::Client;
use crate::cli::client::connection::{Answer, Question};
use crate::cli::failure::Failure;
use crate::intake::shown;
use crate::queue::fleet::Proof;

/// Bytes of an answer that is held whole.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Time for a question whose content is small.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// The same where a file of any size goes one way or the other.
const FILE_TIME_MAX: Duration = Duration::from_secs(60 * 60);

impl Upstream for Client {
    fn log<'a>(
        &'a self,
        proof: &'a Proof,
        after: u64,
        entries: &'a [u8],
    ) -> Later<'a, Result<Stands, Unsent>> {
        Box::pin(async move {
            let piece = LogPieceJson { after, entries: STANDARD.encode(entries) };
            let body = Some(serde_json::to_vec(&piece).map_err(|it| Unsent::Here(it.into()))?);
            let path = path(proof, "log", "");
            let question = Question { body, ..Question::new(Method::POST, &path) };
            let stands: LogStandsJson = self.told(question, ANSWER_TIME_MAX).await?;
            Ok(Stands { at: stands.entries, complete: stands.complete })
        })
    }

    fn output_stands<'a>(&'a self, proof: &'a Proof, index: u32) -> Later<'a, Result<Stands, Unsent>> {
        Box::pin(async move {
            let question = Question::new(Method::GET, &path(proof, &format!("outputs/{index}"), ""));
            let stands: OutputStandsJson = self.told(question, ANSWER_TIME_MAX).await?;
            Ok(Stands { at: stands.bytes, complete: stands.complete })
        })
    }

    fn output<'a>(
        &'a self,
        proof: &'a Proof,
        index: u32,
        mut file: File,
        at: u64,
        bytes: u64,
    ) -> Later<'a, Result<Stands, Unsent>> {
        Box::pin(async move {
            file.seek(std::io::SeekFrom::Start(at)).map_err(Unsent::Here)?;
            let path = path(proof, &format!("outputs/{index}"), &format!("&offset={at}"));
            let file = Some((tokio::fs::File::from_std(file), bytes));
            let question = Question { file, ..Question::new(Method::PUT, &path) };
            let stands: OutputStandsJson = self.told(question, FILE_TIME_MAX).await?;
            Ok(Stands { at: stands.bytes, complete: stands.complete })
        })
    }

    fn workspace<'a>(
        &'a self,
        proof: &'a Proof,
        into: File,
        bytes_max: u64,
    ) -> Later<'a, Result<(), Unsent>> {
        Box::pin(async move {
            let question = Question::new(Method::GET, &path(proof, "workspace", ""));
            let fetched = async {
                let mut answer = self.taken(question).await?;
                let (mut file, mut left) = (tokio::fs::File::from_std(into), bytes_max);
                while let Some(piece) = answer.next().await.map_err(|it| away(&Failure::of(&it)))? {
                    let more = left.checked_sub(piece.len() as u64);
                    left = more.ok_or_else(|| refused("the workspace is larger than any may be"))?;
                    file.write_all(&piece).await.map_err(Unsent::Here)?;
                }
                file.flush().await.map_err(Unsent::Here)
            };
            tokio::time::timeout(FILE_TIME_MAX, fetched).await.map_err(late)?
        })
    }
}

impl Client {
    /// Asks, and reads what is told.
    async fn told<T: DeserializeOwned>(&self, question: Question, time_max: Duration) -> Result<T, Unsent> {
        let told = async {
            let mut answer = self.taken(question).await?;
            let bytes = answer.whole(ANSWER_BYTES_MAX).await.map_err(|it| away(&it))?;
            serde_json::from_slice(&bytes)
                .map_err(|_| refused("its answer is not understood: is it of another version?"))
        };
        tokio::time::timeout(time_max, told).await.map_err(late)?
    }

    /// Asks; anything but a success says what it means for who asks.
    async fn taken(&self, question: Question) -> Result<Answer, Unsent> {
        let mut answer = self.send(question).await.map_err(|it| away(&it))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.whole(ANSWER_BYTES_MAX).await.unwrap_or_default();
        Err(unsent(status, serde_json::from_slice(&body).ok().as_ref()))
    }
}

/// What an answer means that is no success. Only a problem in the server's own words says that it knows nothing of a run:
/// whatever stands before it may answer 404, too.
fn unsent(status: StatusCode, problem: Option<&ProblemJson>) -> Unsent {
    let reason = problem.map_or_else(|| status.to_string(), |it| shown(&it.message));
    match status {
        StatusCode::NOT_FOUND if problem.is_some_and(|it| it.code == "not_found") => Unsent::NotOurs,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Unsent::Refused { reason },
        // A token can be given anew, a busy server asked again.
        _ => Unsent::NotNow { reason },
    }
}

fn path(proof: &Proof, what: &str, more: &str) -> String {
    let crate::record::Fence { run, attempt, epoch } = proof.fence;
    format!("/api/v1/work/{run}/{what}?attempt={attempt}&epoch={epoch}&owner={}{more}", proof.owner_lock)
}

fn away(failure: &Failure) -> Unsent {
    let words = std::iter::once(&failure.message).chain(&failure.causes);
    Unsent::Away { reason: words.map(String::as_str).collect::<Vec<_>>().join(": ") }
}

fn refused(reason: &str) -> Unsent {
    Unsent::Refused { reason: reason.to_owned() }
}

fn late(_: tokio::time::error::Elapsed) -> Unsent {
    Unsent::Away { reason: "it does not answer in time".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: StatusCode, body: &str, expected: &str) {
        let meant = unsent(status, serde_json::from_str(body).ok().as_ref());
        assert_eq!(format!("{meant:?}").split(' ').next(), Some(expected), "{status} {body}");
    }

    fn problem(code: &str) -> String {
        format!(
            r#"{{"type":"about:blank","title":"t","status":404,"code":"{code}","message":"m","request_id":"r","errors":[]}}"#
        )
    }

    #[test]
    fn only_the_servers_own_words_say_that_a_run_is_not_ours() {
        check(StatusCode::NOT_FOUND, &problem("not_found"), "NotOurs");
        check(StatusCode::NOT_FOUND, &problem("other"), "NotNow");
        check(StatusCode::NOT_FOUND, "<html>404</html>", "NotNow");
        check(StatusCode::NOT_FOUND, "", "NotNow");
    }

    #[test]
    fn what_is_malformed_is_refused_and_what_is_busy_is_not() {
        check(StatusCode::BAD_REQUEST, &problem("digest_mismatch"), "Refused");
        check(StatusCode::CONFLICT, &problem("elsewhere"), "NotNow");
        check(StatusCode::SERVICE_UNAVAILABLE, "", "NotNow");
    }
}
