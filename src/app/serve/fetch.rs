//! What a run of a worker host needs from the server: its uploaded workspace, under its digest.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::api::services::Limits;
use crate::app::AppError;
use crate::app::serve::Host;
use crate::app::serve::attempt::Unstarted;
use crate::app::serve::upstream::{Unsent, Upstream};
use crate::queue::fleet::Proof;
use crate::sandbox::workspace::upload::{self, UploadError};

/// Pause before a run is given back because the server is away: it is claimed again at once.
const AWAY_PAUSE: Duration = Duration::from_secs(2);
/// Bytes that are hashed at once.
const HASHED_AT_ONCE: usize = 256 * 1024;

/// Fetches the workspace of a run into a file without a name, and holds it to its digest.
pub async fn workspace(
    host: &Host,
    upstream: &dyn Upstream,
    proof: &Proof,
    digest: &str,
) -> Result<File, Unstarted> {
    let unwritten = |source| AppError::from(UploadError::Write(source));
    let file = unnamed(&host.directories.state).map_err(unwritten)?;
    let into = file.try_clone().map_err(unwritten)?;
    match upstream.workspace(proof, into, Limits::USUAL.upload_bytes).await {
        Ok(()) => {}
        Err(Unsent::NotOurs) => return Err(unknown(digest)),
        Err(Unsent::Here(source)) => return Err(unwritten(source).into()),
        Err(error @ (Unsent::Away { .. } | Unsent::NotNow { .. } | Unsent::Refused { .. })) => {
            let run = proof.fence.run;
            tracing::warn!(run.id = %run, "the workspace of run `{run}` cannot be fetched now: {error}");
            tokio::time::sleep(AWAY_PAUSE).await;
            return Err(Unstarted::GiveBack);
        }
    }
    let expected = digest.to_owned();
    let checked = tokio::task::spawn_blocking(move || has_digest(file, &expected)).await;
    let checked = checked.map_err(io::Error::other).and_then(|it| it);
    let fetched = checked.map_err(|source| AppError::from(UploadError::Read(source)))?;
    fetched.ok_or_else(|| unknown(digest))
}

fn unknown(digest: &str) -> Unstarted {
    AppError::from(UploadError::Unknown { digest: digest.to_owned() }).into()
}

fn unnamed(state: &Path) -> io::Result<File> {
    let place = state.join(upload::DIRECTORY);
    DirBuilder::new().recursive(true).mode(0o700).create(&place)?;
    tempfile::tempfile_in(place)
}

/// The file, at its beginning, if it is what was asked for.
fn has_digest(mut file: File, expected: &str) -> io::Result<Option<File>> {
    file.rewind()?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; HASHED_AT_ONCE]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    file.rewind()?;
    Ok((format!("sha256:{}", hex::encode(digest.finalize())) == expected).then_some(file))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_has_another_digest_is_not_the_workspace() {
        let of = |text: &str| {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(text.as_bytes()).expect("written");
            let expected = format!("sha256:{}", hex::encode(Sha256::digest(b"content")));
            has_digest(file, &expected).expect("read").is_some()
        };
        assert!(of("content"));
        assert!(!of("content and more"));
        assert!(!of(""));
    }
}
