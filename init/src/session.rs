//! The loop of init: waits for the host, for children and for time, and answers. Everything that ends a sandbox
//! comes out of here as an `Ending`.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use aegis_init::wire::{Attest, Reply, Request, VERSION};

use crate::clock::{Deadlines, Moment};
use crate::connection::{Connection, Message};
use crate::ending::Ending;
use crate::evidence;
use crate::probe::PROBES_MAX;
use crate::sandbox::Sandbox;

/// The loop turns at least this often, so that a machine that slept is noticed.
const TURN_MS_MAX: u64 = 1_000;
/// How long the last answers may take to be read.
const FAREWELL_MS_MAX: u64 = 5_000;

/// One sandbox, from the connection to the end.
pub struct Session {
    born: Moment,
    connection: Connection,
    child_ended: SignalFd,
    deadlines: Deadlines,
    phase: Phase,
}

enum Phase {
    /// Nothing but the first message is taken.
    Greeting { oom_score_adj: Option<File> },
    /// Commands may run.
    Attested(Box<Sandbox>),
    /// The last answers are being sent.
    Farewell,
}

impl Session {
    /// Joins what the start-up made.
    pub fn new(
        born: Moment,
        connection: Connection,
        child_ended: SignalFd,
        oom_score_adj: Option<File>,
    ) -> Self {
        let phase = Phase::Greeting { oom_score_adj };
        Self { born, connection, child_ended, deadlines: Deadlines::new(born), phase }
    }

    /// Runs until the sandbox has to end.
    pub fn run(&mut self) -> Ending {
        loop {
            if let Err(ending) = self.turn() {
                return ending;
            }
        }
    }

    fn turn(&mut self) -> Result<(), Ending> {
        let now = Moment::now();
        if let Some(ending) = self.deadlines.over(now) {
            return Err(ending);
        }
        if matches!(self.phase, Phase::Farewell) && !self.connection.sending() {
            return Err(Ending::Asked);
        }
        let (control, child_ended) = self.wait(now)?;
        if control.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Err(Ending::HostGone);
        }
        if child_ended {
            while let Ok(Some(_)) = self.child_ended.read_signal() {}
        }
        if control.contains(PollFlags::POLLOUT) {
            self.connection.flush()?;
        }
        if control.contains(PollFlags::POLLIN)
            && let Some(message) = self.connection.receive()?
        {
            self.obey(message)?;
        }
        self.attend()
    }

    /// Waits for the host, a child, the start of a command or the next thing that is due.
    fn wait(&self, now: Moment) -> Result<(PollFlags, bool), Ending> {
        let mut wanted = PollFlags::empty();
        if self.connection.receptive() && !matches!(self.phase, Phase::Farewell) {
            wanted |= PollFlags::POLLIN;
        }
        if self.connection.sending() {
            wanted |= PollFlags::POLLOUT;
        }
        let mut watched = vec![
            PollFd::new(self.connection.as_fd(), wanted),
            PollFd::new(self.child_ended.as_fd(), PollFlags::POLLIN),
        ];
        if let Phase::Attested(sandbox) = &self.phase {
            watched.extend(sandbox.pending().map(|it| PollFd::new(it, PollFlags::POLLIN)));
        }
        match poll(&mut watched, timeout(self.next().since(now))) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Err(Ending::Defect),
        }
        let control = watched[0].revents().unwrap_or(PollFlags::empty());
        Ok((control, watched[1].any().unwrap_or(false)))
    }

    /// When something is due without anybody's doing.
    fn next(&self) -> Moment {
        let mut next = self.deadlines.next().min(Moment::now().after_ms(TURN_MS_MAX));
        if let Phase::Attested(sandbox) = &self.phase {
            next = sandbox.next(&self.connection).map_or(next, |due| due.min(next));
        }
        next
    }

    /// What is due in the sandbox, and what happened in it.
    fn attend(&mut self) -> Result<(), Ending> {
        match &mut self.phase {
            Phase::Attested(sandbox) => sandbox.attend(&mut self.connection, Moment::now()),
            Phase::Greeting { .. } | Phase::Farewell => Ok(()),
        }
    }

    fn obey(&mut self, message: Message) -> Result<(), Ending> {
        let now = Moment::now();
        let Message { request, descriptors } = message;
        match (&mut self.phase, request) {
            (Phase::Greeting { oom_score_adj }, Request::Attest(attest)) => {
                let oom_score_adj = oom_score_adj.take();
                self.attest(attest, oom_score_adj, now)
            }
            (Phase::Attested(_), Request::End) => self.end(),
            (Phase::Attested(_), Request::Lease { remaining_ms }) => {
                self.deadlines.set_lease(now, remaining_ms);
                Ok(())
            }
            (Phase::Attested(sandbox), Request::Begin { lifetime_ms }) => {
                if sandbox.is_used() {
                    return Err(Ending::HostileFrame);
                }
                self.deadlines.set_lifetime(now, lifetime_ms);
                self.connection.send(&Reply::Begun { others: evidence::others() }, None)
            }
            (Phase::Attested(sandbox), request) => {
                sandbox.obey(&mut self.connection, request, descriptors, now)
            }
            (Phase::Greeting { .. } | Phase::Farewell, _) => Err(Ending::HostileFrame),
        }
    }

    fn attest(&mut self, attest: Attest, oom_score_adj: Option<File>, now: Moment) -> Result<(), Ending> {
        if attest.version != VERSION || attest.probes.len() > PROBES_MAX {
            return Err(Ending::HostileFrame);
        }
        self.deadlines.set_lifetime(now, attest.lifetime_ms);
        let report = evidence::gather(&attest, self.born, &self.child_ended);
        self.connection.send(&Reply::Report(Box::new(report)), None)?;
        self.phase = Phase::Attested(Box::new(Sandbox::new(attest, oom_score_adj, now)));
        Ok(())
    }

    /// Kills what is left, tells how each command ended, and says goodbye.
    fn end(&mut self) -> Result<(), Ending> {
        let Phase::Attested(sandbox) = &mut self.phase else {
            return Err(Ending::HostileFrame);
        };
        sandbox.end(&mut self.connection)?;
        let now = Moment::now();
        self.deadlines.shorten_lifetime(now.after_ms(FAREWELL_MS_MAX));
        self.phase = Phase::Farewell;
        Ok(())
    }
}

/// Rounded up: a loop that wakes before the time would turn until it has come.
fn timeout(left: std::time::Duration) -> PollTimeout {
    let left_ms = left.as_micros().div_ceil(1_000);
    PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX)
}
