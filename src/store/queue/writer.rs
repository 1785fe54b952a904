//! Group commit: submissions that come at the same time share one transaction and one sync of the disk.

use std::sync::Mutex;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::access::NewAudit;
use crate::queue::{BATCH_MAX, NewSubmission, Submitted};
use crate::record::RecordError;
use crate::store::books::Books;
use crate::store::queue::submit::{self, Batch, Entry};

/// Batches that wait for the writer at the most; the next ones wait to be taken.
const WAITING_MAX: usize = 4096;

/// The one writer of submissions of this process, begun with the first of them.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    sender: mpsc::Sender<Asked>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Asked {
    entries: Vec<Entry>,
    audit: Option<NewAudit>,
    answer: oneshot::Sender<Result<Submitted, RecordError>>,
}

impl Asked {
    fn batch(&self) -> Batch<'_> {
        Batch { entries: &self.entries, audit: self.audit.as_ref() }
    }
}

/// The writer ended before it answered: the process is ending.
#[derive(Debug, thiserror::Error)]
#[error("the records are being closed")]
struct Closed;

/// What happened to others that shared the transaction.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Shared(String);

impl Writer {
    pub(crate) async fn submit(
        &self,
        books: &Books,
        batch: &[NewSubmission],
        audit: Option<&NewAudit>,
    ) -> Result<Submitted, RecordError> {
        if batch.is_empty() {
            return Ok(Submitted::Accepted(Vec::new()));
        }
        if let Some(refusal) = submit::refused(batch) {
            return Ok(refusal);
        }
        let entries = books.encode(batch)?;
        let closed = || RecordError::Unavailable {
            place: books.database.place.to_path_buf(),
            source: Box::new(Closed),
        };
        let (answer, answered) = oneshot::channel();
        let sender = self.sender(books);
        let asked = Asked { entries, audit: audit.cloned(), answer };
        sender.send(asked).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Lets the writer finish what it was given, and waits for it.
    pub(crate) async fn close(&self) {
        let running = self.running.lock().unwrap_or_else(|it| it.into_inner()).take();
        if let Some(Running { sender, task }) = running {
            drop(sender);
            let _ = task.await;
        }
    }

    fn sender(&self, books: &Books) -> mpsc::Sender<Asked> {
        let mut running = self.running.lock().unwrap_or_else(|it| it.into_inner());
        if let Some(it) = running.as_ref().filter(|it| !it.task.is_finished()) {
            return it.sender.clone();
        }
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(write(books.clone(), receiver));
        *running = Some(Running { sender: sender.clone(), task });
        sender
    }
}

async fn write(books: Books, mut asked: mpsc::Receiver<Asked>) {
    while let Some(first) = asked.recv().await {
        let mut runs = first.entries.len();
        let mut group = vec![first];
        while runs < BATCH_MAX {
            let Ok(next) = asked.try_recv() else { break };
            runs += next.entries.len();
            group.push(next);
        }
        commit(&books, group).await;
    }
}

async fn commit(books: &Books, group: Vec<Asked>) {
    let batches: Vec<Batch<'_>> = group.iter().map(Asked::batch).collect();
    match books.submit_all(&batches).await {
        Ok(answers) => {
            for (asked, answer) in group.into_iter().zip(answers) {
                let _ = asked.answer.send(Ok(answer));
            }
        }
        Err(err) if group.len() == 1 || is_of_all(&err) => {
            for asked in group {
                let _ = asked.answer.send(Err(again(&err)));
            }
        }
        // One of them cannot be written: it must not take the others with it.
        Err(_) => {
            for asked in group {
                let answer = books.submit_all(&[asked.batch()]).await;
                let _ = asked.answer.send(answer.map(|mut it| it.remove(0)));
            }
        }
    }
}

/// Whether a failure is the database's and not one batch's.
fn is_of_all(err: &RecordError) -> bool {
    match err {
        RecordError::Full { .. }
        | RecordError::Busy { .. }
        | RecordError::ReadOnly { .. }
        | RecordError::Damaged { .. }
        | RecordError::Unreachable { .. } => true,
        RecordError::Undecodable { .. } | RecordError::NulInArgument | RecordError::Unavailable { .. } => {
            false
        }
    }
}

/// The same failure, for another who asked.
fn again(err: &RecordError) -> RecordError {
    match err {
        RecordError::Full { place } => RecordError::Full { place: place.clone() },
        RecordError::Busy { place, waited_s } => {
            RecordError::Busy { place: place.clone(), waited_s: *waited_s }
        }
        RecordError::ReadOnly { place } => RecordError::ReadOnly { place: place.clone() },
        RecordError::Damaged { place } => RecordError::Damaged { place: place.clone() },
        RecordError::Undecodable { place, run, field } => {
            RecordError::Undecodable { place: place.clone(), run: run.clone(), field }
        }
        RecordError::NulInArgument => RecordError::NulInArgument,
        RecordError::Unreachable { place, source } => {
            RecordError::Unreachable { place: place.clone(), source: Box::new(Shared(source.to_string())) }
        }
        RecordError::Unavailable { place, source } => {
            RecordError::Unavailable { place: place.clone(), source: Box::new(Shared(source.to_string())) }
        }
    }
}
