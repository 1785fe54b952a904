//! What a run has to do with the user's secrets, and what everything that is shown is kept free of.

use std::path::Path;

use crate::app::AppError;
use crate::config::secrets::{Secret, SecretError, SecretStore};
use crate::executor::{Given, Secrets};
use crate::record::NewRun;
use crate::redact::{Known, Redactor};
use crate::task::SecretRequest;

/// The secrets that a run has to do with.
#[derive(Debug)]
pub struct Held {
    /// What is put inside.
    pub given: Vec<Given>,
    /// Every value that is known here.
    pub known: Vec<Known>,
}

impl Held {
    /// Those that are not put inside: a task that has one of them anyway may not send it.
    pub fn kept_outside(&self) -> Vec<Known> {
        let is_given = |it: &Known| self.given.iter().any(|given| given.secret.name() == it.name());
        self.known.iter().filter(|it| !is_given(it)).cloned().collect()
    }

    /// The same with further values to keep out: those that the gateway adds.
    pub fn and(self, further: Vec<Known>) -> Secrets {
        let known: Vec<Known> = self.known.into_iter().chain(further).collect();
        Secrets { given: self.given, redactor: Redactor::new(&known) }
    }
}

/// Reads the store: what was asked for by name must be there, everything else is kept out where its value is known.
pub fn of_run(state: &Path, requests: &[SecretRequest]) -> Result<Held, AppError> {
    let stored = SecretStore::of(state).read()?;
    let mut given = Vec::with_capacity(requests.len());
    for SecretRequest { name, place } in requests {
        let found = stored.iter().find(|it| it.name == *name);
        let secret = found.ok_or_else(|| SecretError::Unknown { name: name.clone() })?.known()?;
        given.push(Given { secret, place: place.clone() });
    }
    Ok(Held { given, known: known_of(&stored) })
}

/// What keeps every secret of the user's out of what is shown.
pub fn redactor(state: &Path) -> Result<Redactor, SecretError> {
    let store = SecretStore::of(state);
    if !store.exists() {
        return Ok(Redactor::none());
    }
    Ok(Redactor::new(&known_of(&store.read()?)))
}

/// Keeps them out of the record: a shell puts a value into a command line before Aegis sees it.
pub fn keep_out_of(run: &mut NewRun, redactor: &Redactor) {
    if redactor.is_empty() {
        return;
    }
    for argument in &mut run.task.command {
        *argument = redactor.bytes(argument).0;
    }
    let labels = run.labels.iter_mut().flat_map(|(key, value)| [key, value]);
    let texts = run.name.iter_mut().chain(labels).chain(&mut run.task.workdir).chain(&mut run.task.outputs);
    for text in texts {
        *text = redactor.text(text);
    }
}

/// A value whose variable is not set or whose file is not there now is not known to this process, and cannot be shown by
/// what it never had; nor can one be found that is in every text.
fn known_of(stored: &[Secret]) -> Vec<Known> {
    stored.iter().filter_map(|it| it.known().ok()).collect()
}
