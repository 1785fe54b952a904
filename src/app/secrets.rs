//! What a run has to do with the user's secrets, and what everything that is shown is kept free of.

use std::path::Path;

use crate::app::AppError;
use crate::config::secrets::{Secret, SecretError, SecretStore};
use crate::executor::{Given, Secrets};
use crate::record::NewRun;
use crate::redact::{Known, Redactor};
use crate::task::SecretRequest;

/// The secrets of a run.
#[derive(Debug)]
pub struct OfRun {
    /// What is put inside, and what is kept out of everything that comes out.
    pub secrets: Secrets,
    /// Every one of the user's whose value is known, and that is not put inside.
    pub others: Vec<Known>,
}

impl OfRun {
    /// Has these kept out of everything that comes out, too.
    pub fn keep_out(&mut self, more: &[Known]) {
        if !more.is_empty() {
            let given = self.secrets.given.iter().map(|it| &it.secret);
            let all: Vec<Known> = given.chain(&self.others).chain(more).cloned().collect();
            self.secrets.redactor = Redactor::new(&all);
        }
    }
}

/// Reads the store: what was asked for by name must be there, everything else is kept out where its value is known.
pub fn of_run(state: &Path, requests: &[SecretRequest]) -> Result<OfRun, AppError> {
    let stored = SecretStore::of(state).read()?;
    let mut given = Vec::with_capacity(requests.len());
    for SecretRequest { name, place } in requests {
        let found = stored.iter().find(|it| it.name == *name);
        let secret = found.ok_or_else(|| SecretError::Unknown { name: name.clone() })?.known()?;
        given.push(Given { secret, place: place.clone() });
    }
    let known: Vec<Known> = stored.iter().filter_map(|it| it.known().ok()).collect();
    let redactor = Redactor::new(&known);
    let is_given = |it: &Known| given.iter().any(|one: &Given| one.secret.name() == it.name());
    let others = known.into_iter().filter(|it| !is_given(it)).collect();
    Ok(OfRun { secrets: Secrets { redactor, given }, others })
}

/// What keeps every secret of the user's out of what is shown.
pub fn redactor(state: &Path) -> Result<Redactor, SecretError> {
    let store = SecretStore::of(state);
    if !store.exists() {
        return Ok(Redactor::none());
    }
    Ok(redactor_of(&store.read()?))
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
fn redactor_of(stored: &[Secret]) -> Redactor {
    let known: Vec<Known> = stored.iter().filter_map(|it| it.known().ok()).collect();
    Redactor::new(&known)
}
