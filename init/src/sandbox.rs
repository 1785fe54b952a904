//! What an attested sandbox does for its host: commands, content in, files, content out.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use serde_bytes::ByteBuf;

use aegis_init::wire::{Attest, Exec, FETCH_PATHS_MAX, Reply, Request, StartStep};

use crate::clock::Moment;
use crate::collect::{Collection, PATTERNS_MAX, Progress};
use crate::command::{Commands, Event};
use crate::compare::{Comparison, Fetching};
use crate::connection::Connection;
use crate::content::Content;
use crate::ending::Ending;
use crate::errand::Errand;
use crate::files;
use crate::launch::StartFailure;
use crate::loopback;
use crate::stamps::Stamps;
use crate::usage::Sampler;

const SIGNAL_MAX: i32 = 64;

/// The state of an attested sandbox.
pub struct Sandbox {
    workspace: ByteBuf,
    commands: Commands,
    sampler: Sampler,
    content: Option<Content>,
    stamps: Stamps,
    errand: Option<Errand>,
    used: bool,
}

impl Sandbox {
    /// Takes the orders of the first message.
    pub fn new(attest: Attest, oom_score_adj: Option<File>, now: Moment) -> Self {
        Self {
            sampler: Sampler::new(&attest.watched, now),
            commands: Commands::new(attest.workspace.clone(), oom_score_adj),
            workspace: attest.workspace,
            content: None,
            stamps: Stamps::new(),
            errand: None,
            used: false,
        }
    }

    /// Whether a command was ever asked for.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// The pipes of commands that are being started.
    pub fn pending(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.commands.pending()
    }

    /// When something is due. An errand is due at once, as soon as the host has read what was sent.
    pub fn next(&self, connection: &Connection) -> Option<Moment> {
        if self.errand.is_some() && !connection.sending() {
            return Some(Moment::BOOT);
        }
        if !self.commands.any() {
            return None;
        }
        let sample = self.sampler.next();
        Some(self.commands.next().map_or(sample, |due| due.min(sample)))
    }

    /// Does what is due and tells what happened.
    pub fn attend(&mut self, connection: &mut Connection, now: Moment) -> Result<(), Ending> {
        if self.commands.any() {
            self.sampler.sample_if_due(now);
            self.commands.keep_time(now);
        }
        self.settle(connection)?;
        if connection.sending() {
            return Ok(());
        }
        match self.errand.as_mut().map(Errand::turn) {
            None | Some(Progress::Working) => Ok(()),
            Some(Progress::Reply(reply)) => connection.send(&reply, None),
            Some(Progress::Done(reply)) => {
                self.errand = None;
                connection.send(&reply, None)
            }
        }
    }

    /// Does what the host asks.
    pub fn obey(
        &mut self,
        connection: &mut Connection,
        request: Request,
        descriptors: Vec<OwnedFd>,
        now: Moment,
    ) -> Result<(), Ending> {
        match request {
            Request::Exec(exec) => self.exec(connection, &exec, descriptors, now),
            Request::Signal { exec, signal } => {
                if !(1..=SIGNAL_MAX).contains(&signal) {
                    return Err(Ending::HostileFrame);
                }
                self.commands.signal(exec, signal);
                Ok(())
            }
            Request::Stop { exec, grace_ms } => {
                self.commands.stop(exec, grace_ms, now);
                Ok(())
            }
            Request::Put(entries) => {
                self.content().put(entries);
                Ok(())
            }
            Request::Remove(gone) => {
                self.content().remove(&gone);
                Ok(())
            }
            Request::PutChunk(data) => {
                self.content().chunk(&data);
                Ok(())
            }
            Request::PutEnd => {
                self.content();
                let Some(content) = self.content.take() else { return Err(Ending::Defect) };
                let (reply, stamps) = content.end();
                self.stamps = stamps;
                connection.send(&reply, None)
            }
            Request::Read { id, path, offset, length_max } => {
                let result = files::read(&self.workspace, &path, offset, length_max);
                connection.send(&Reply::FileContent { id, result: result.map_err(|it| it as i32) }, None)
            }
            Request::Write { id, path, mode, data } => {
                let result = files::write(&self.workspace, &path, mode, &data);
                connection.send(&Reply::FileWritten { id, result: result.map_err(|it| it as i32) }, None)
            }
            Request::Collect(collect) => {
                if collect.patterns.len() > PATTERNS_MAX {
                    return Err(Ending::HostileFrame);
                }
                self.begin(connection, |it| {
                    Errand::Collect(Box::new(Collection::new(&collect, &it.workspace, now)))
                })
            }
            Request::Compare(compare) => self.begin(connection, |it| {
                let stamps = std::mem::replace(&mut it.stamps, Stamps::new());
                Errand::Compare(Box::new(Comparison::new(&compare, &it.workspace, stamps, now)))
            }),
            Request::Fetch(fetch) => {
                if fetch.paths.len() > FETCH_PATHS_MAX {
                    return Err(Ending::HostileFrame);
                }
                self.begin(connection, |it| Errand::Fetch(Box::new(Fetching::new(fetch, &it.workspace, now))))
            }
            Request::Listen(listen) => {
                let (errno, socket) = settled(loopback::listen(&listen));
                connection.send(&Reply::Listening { id: listen.id, errno }, socket)
            }
            Request::Dial { id, port } => {
                let (errno, socket) = settled(loopback::dial(port));
                connection.send(&Reply::Dialled { id, errno }, socket)
            }
            // Those that the session takes itself.
            Request::Attest(_) | Request::Lease { .. } | Request::Begin { .. } | Request::End => {
                Err(Ending::HostileFrame)
            }
        }
    }

    /// Kills what is left, tells how each command ended, and says goodbye.
    pub fn end(&mut self, connection: &mut Connection) -> Result<(), Ending> {
        self.commands.kill_all();
        self.settle(connection)?;
        connection.send(&Reply::Bye { usage: self.sampler.usage(Moment::now()) }, None)
    }

    fn exec(
        &mut self,
        connection: &mut Connection,
        exec: &Exec,
        descriptors: Vec<OwnedFd>,
        now: Moment,
    ) -> Result<(), Ending> {
        self.used = true;
        let busy = StartFailure { step: StartStep::Request, errno: Errno::EBUSY as i32 };
        let started = if self.errand.is_some() {
            Err(busy)
        } else {
            // A second thread is gone before anything forks.
            if let Some(content) = &mut self.content {
                content.rest();
            }
            // A change at the same moment as the last thing put would not be seen.
            self.stamps.outlast();
            self.sampler.release(now);
            self.commands.start(exec, descriptors, now)
        };
        match started {
            Ok(()) => Ok(()),
            Err(failure) => self.tell(connection, Event::StartFailed { exec: exec.id, failure }),
        }
    }

    /// Begins what needs a tree at rest: nothing of the task runs any more when `errand` first looks at it.
    fn begin(
        &mut self,
        connection: &mut Connection,
        errand: impl FnOnce(&mut Self) -> Errand,
    ) -> Result<(), Ending> {
        if self.errand.is_some() {
            return Err(Ending::HostileFrame);
        }
        self.commands.kill_all();
        self.settle(connection)?;
        self.errand = Some(errand(self));
        Ok(())
    }

    fn content(&mut self) -> &mut Content {
        let stamps = &mut self.stamps;
        self.content
            .get_or_insert_with(|| Content::new(&self.workspace, std::mem::replace(stamps, Stamps::new())))
    }

    fn settle(&mut self, connection: &mut Connection) -> Result<(), Ending> {
        for event in self.commands.settle() {
            self.tell(connection, event)?;
        }
        Ok(())
    }

    fn tell(&mut self, connection: &mut Connection, event: Event) -> Result<(), Ending> {
        match event {
            Event::Started { exec, pid, master } => connection.send(&Reply::Started { exec, pid }, master),
            Event::StartFailed { exec, failure: StartFailure { step, errno } } => {
                connection.send(&Reply::StartFailed { exec, step, errno }, None)
            }
            Event::Exited { exec, status, stopped } => {
                let usage = self.sampler.usage(Moment::now());
                connection.send(&Reply::Exited { exec, status, stopped, usage }, None)
            }
        }
    }
}

/// A socket, or why there is none, as an answer carries it.
fn settled(made: nix::Result<OwnedFd>) -> (i32, Option<OwnedFd>) {
    match made {
        Ok(socket) => (0, Some(socket)),
        Err(errno) => (errno as i32, None),
    }
}
