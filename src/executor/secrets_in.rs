//! Secrets on their way into a proven sandbox, over the control connection and nowhere else: the engine never has them.

use std::time::Duration;

use aegis_init::wire::{Reply, Request};
use serde_bytes::ByteBuf;

use crate::executor::starting::Standing;
use crate::executor::unreleased::{Unreleased, infrastructure, unexpected};
use crate::redact::{Known, Redactor};
use crate::sandbox::channel::ChannelError;
use crate::task::SecretPlace;

/// Only their owner reads them.
const MODE: u32 = 0o400;
/// Time that init may take to write one.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// What a run has to do with secrets.
#[derive(Debug)]
pub struct Secrets {
    /// What is put inside.
    pub given: Vec<Given>,
    /// What is kept out of everything that comes out: these, and every other that is known here.
    pub redactor: Redactor,
}

/// A secret that is put inside.
#[derive(Debug)]
pub struct Given {
    /// It.
    pub secret: Known,
    /// Where.
    pub place: SecretPlace,
}

/// Puts the files in their places.
pub(super) async fn files_in(given: &[Given], standing: &mut Standing) -> Result<(), Unreleased> {
    for (number, Given { secret, place }) in given.iter().enumerate() {
        let SecretPlace::File(_) = place else { continue };
        let path = place.shown();
        let request = Request::Write {
            id: number as u32,
            path: ByteBuf::from(path.clone().into_bytes()),
            mode: MODE,
            data: ByteBuf::from(secret.value().to_vec()),
        };
        standing.sender.send(&request, &[]).await?;
        let received = tokio::time::timeout(WRITE_TIME_MAX, standing.receiver.receive()).await;
        let received = received.map_err(|_| ChannelError::NobodyCame { waited: WRITE_TIME_MAX })??;
        match received.message {
            Reply::FileWritten { id, result: Ok(()) } if id == number as u32 => {}
            Reply::FileWritten { result: Err(errno), .. } => {
                let cause = std::io::Error::from_raw_os_error(errno);
                let message = format!(
                    "the secret `{}` could not be written to `{path}`: {cause} (`filesystem.run_size` bounds `/run`)",
                    secret.name()
                );
                return Err(infrastructure(message));
            }
            _ => return Err(Unreleased::Lost(unexpected())),
        }
    }
    Ok(())
}

/// Adds the variables; one of the same name that was there goes.
pub(super) fn variables_in(given: &[Given], environment: &mut Vec<String>) -> Result<(), Unreleased> {
    for Given { secret, place } in given {
        let SecretPlace::Variable(variable) = place else { continue };
        let text = std::str::from_utf8(secret.value()).ok().filter(|it| !it.contains('\0'));
        let Some(text) = text else {
            let message = format!(
                "the secret `{}` is no text, which a variable must be: pass it as a file",
                secret.name()
            );
            return Err(infrastructure(message));
        };
        let begin = format!("{variable}=");
        environment.retain(|it| !it.starts_with(&begin));
        environment.push(begin + text);
    }
    Ok(())
}
