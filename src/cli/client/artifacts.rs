//! What came out of a server's runs: listed, and fetched as exactly what the list says it is.

use std::io::Write;
use std::time::Duration;

use hyper::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::api::wire::artifact::FilesJson;
use crate::api::wire::run::EmptyJson;
use crate::cli::client::connection::{Answer, Question};
use crate::cli::client::runs::path;
use crate::cli::client::{ANSWER_TIME_MAX, Client, refused};
use crate::cli::failure::Failure;
use crate::report::json::ArtifactJson;

/// What stands in a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'/');

/// Bytes of a refusal.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// How often archives that others read are waited for, and how long each time.
const BUSY_TRIES_MAX: u32 = 60;
const BUSY_PAUSE: Duration = Duration::from_secs(1);

impl Client {
    /// An archive of a run, of its outputs or changes, that is still to be read.
    pub async fn archive(&self, run: &str, rest: &str) -> Result<Answer, Failure> {
        let path = path(run, rest)?;
        let late = |_| Failure::new("the server does not answer in time");
        for _ in 0..BUSY_TRIES_MAX {
            let asked = self.send(Question::new(Method::GET, &path));
            let mut answer = tokio::time::timeout(ANSWER_TIME_MAX, asked).await.map_err(late)??;
            if answer.status().is_success() {
                return Ok(answer);
            }
            if answer.status() != StatusCode::TOO_MANY_REQUESTS {
                let body = answer.whole(REFUSAL_BYTES_MAX).await.unwrap_or_default();
                return Err(refused(answer.status(), serde_json::from_slice(&body).ok()));
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
        Err(Failure::new("the server is busy with what others read").hint("ask again"))
    }

    /// The files that came out of a run.
    pub async fn artifacts(&self, run: &str) -> Result<FilesJson, Failure> {
        self.ask(Method::GET, &path(run, "/artifacts")?, None::<&EmptyJson>).await
    }

    /// Writes one of them; fails unless it is as long as the list says and has its digest.
    pub async fn artifact(
        &self,
        run: &str,
        file: &ArtifactJson,
        into: &mut impl Write,
    ) -> Result<(), Failure> {
        let rest = format!("/artifacts/{}", utf8_percent_encode(&file.path, PLAIN));
        let mut answer = self.open(Question::new(Method::GET, &path(run, &rest)?)).await?;
        let (mut bytes, mut digest) = (0_u64, Sha256::new());
        while let Some(piece) = answer.next().await.map_err(|it| Failure::of(&it))? {
            bytes += piece.len() as u64;
            if bytes > file.bytes {
                break;
            }
            digest.update(&piece);
            into.write_all(&piece).map_err(|it| Failure::of(&it))?;
        }
        if bytes != file.bytes || hex::encode(digest.finalize()) != file.sha256 {
            return Err(Failure::new("what came is not the file that the run left").hint("ask again"));
        }
        Ok(())
    }
}
