//! Bytes in, the same bytes without secrets out, in any pieces.
//!
//! Held back is only what could still become a secret: at most the longest form, with what a terminal may insert into
//! it. Secrets that overlap are replaced as one, by the name of the longest.

use std::cmp::Reverse;

use crate::redact::escapes::ESCAPE;
use crate::redact::view::{Found, View};
use crate::redact::{Redactions, Redactor};

/// A tail that could be so many bytes of a secret is never let go.
const TAIL_BYTES_KEPT: usize = 4;

/// One stream of bytes.
#[derive(Debug)]
pub struct Stream {
    redactor: Redactor,
    lines: View,
    // Only while a sequence could lie inside of a secret.
    shown_only: Option<View>,
    /// Bytes that came.
    position: u64,
    /// Bytes that are told of: shown, or replaced.
    told: u64,
    /// From `held_at` to `position`.
    held: Vec<u8>,
    held_at: u64,
    /// Secrets that could still grow, in order.
    pending: Vec<Secret>,
    found: Vec<Found>,
    counts: Vec<u64>,
}

/// Forms that overlap.
#[derive(Debug, Clone, Copy)]
struct Secret {
    start: u64,
    end: u64,
    longest: Found,
}

impl Stream {
    pub(super) fn new(redactor: Redactor) -> Self {
        let counts = vec![0; redactor.compiled.names.len()];
        Self {
            redactor,
            lines: View::new(),
            shown_only: None,
            position: 0,
            told: 0,
            held: Vec::new(),
            held_at: 0,
            pending: Vec::new(),
            found: Vec::new(),
            counts,
        }
    }

    /// Takes bytes; what can be shown is put behind `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.redactor.is_empty() {
            out.extend_from_slice(bytes);
            return;
        }
        if self.shown_only.is_none() && memchr::memchr(ESCAPE, bytes).is_some() {
            self.shown_only = Some(self.lines.without_sequences());
        }
        let at = self.position;
        let index = self.redactor.index();
        self.lines.push(index, bytes, at, &mut self.found);
        if let Some(view) = &mut self.shown_only {
            view.push(index, bytes, at, &mut self.found);
        }
        self.position += bytes.len() as u64;
        self.join_found();
        let hold = [self.lines.hold(), self.shown_only.as_ref().and_then(View::hold)];
        let settled = hold.into_iter().flatten().min().unwrap_or(self.position);
        self.tell(settled, bytes, out);
        self.keep(settled, bytes);
        // What one reading holds may be a part of a sequence for the other: they are one again where they hold the same.
        let differs = |it: &View| (it.hold(), it.tail()) != (self.lines.hold(), self.lines.tail());
        let needed =
            |it: &View| !it.is_outside() || differs(it) || memchr::memchr(ESCAPE, &self.held).is_some();
        if !self.shown_only.as_ref().is_some_and(needed) {
            self.shown_only = None;
        }
    }

    /// Nothing more comes: what is held is no secret.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        let index = self.redactor.index();
        self.lines.end(index, &mut self.found);
        if let Some(mut view) = self.shown_only.take() {
            view.end(index, &mut self.found);
        }
        self.join_found();
        self.tell(self.position, &[], out);
        self.keep(self.position, &[]);
    }

    /// Bytes that are held back.
    pub fn held(&self) -> usize {
        (self.position - self.told.max(self.held_at)) as usize
    }

    /// Whether what is held could be less than four bytes of a secret: then [`Stream::let_go`] shows it.
    pub fn can_let_go(&self) -> bool {
        let tail = self.lines.tail().max(self.shown_only.as_ref().map_or(0, View::tail));
        self.held() > 0 && tail < TAIL_BYTES_KEPT
    }

    /// Whether what is held ends a line, for which a reader may wait.
    pub fn ends_line(&self) -> bool {
        self.held.last() == Some(&b'\n')
    }

    /// Shows what is held if it could be less than four bytes of a secret. If it was, the rest is still found.
    pub fn let_go(&mut self, out: &mut Vec<u8>) {
        if self.can_let_go() {
            self.tell(self.position, &[], out);
        }
    }

    /// How often each secret was replaced.
    pub fn redactions(&self) -> Redactions {
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(name, count)| (self.redactor.name(name).to_owned(), *count)).collect()
    }

    /// Brings what was found among what is pending, and joins what overlaps.
    fn join_found(&mut self) {
        if self.found.is_empty() {
            return;
        }
        let found = self.found.drain(..);
        self.pending.extend(found.map(|it| Secret { start: it.start, end: it.end, longest: it }));
        self.pending.sort_by_key(|it| it.start);
        self.pending.dedup_by(|later, earlier| {
            let overlap = later.start < earlier.end;
            if overlap {
                earlier.end = earlier.end.max(later.end);
                earlier.longest = longer(earlier.longest, later.longest);
            }
            overlap
        });
    }

    /// Shows everything before `settled`: no secret that is still to be found begins there.
    fn tell(&mut self, settled: u64, bytes: &[u8], out: &mut Vec<u8>) {
        let whole = self.pending.partition_point(|it| it.end <= settled);
        for number in 0..whole {
            let Secret { start, end, longest } = self.pending[number];
            self.show(start, bytes, out);
            out.extend_from_slice(b"[redacted:");
            out.extend_from_slice(self.redactor.name(longest.name).as_bytes());
            out.push(b']');
            self.counts[longest.name] += 1;
            self.told = self.told.max(end);
        }
        self.pending.drain(..whole);
        let end = self.pending.first().map_or(settled, |it| it.start.min(settled));
        self.show(end, bytes, out);
    }

    /// Shows what is not told of before `end`, from what is held and from `bytes`, which follow it.
    fn show(&mut self, end: u64, bytes: &[u8], out: &mut Vec<u8>) {
        let mut begin = self.told;
        if end <= begin {
            return;
        }
        self.told = end;
        let bytes_at = self.held_at + self.held.len() as u64;
        if begin < bytes_at {
            let held_end = end.min(bytes_at);
            out.extend_from_slice(
                &self.held[(begin - self.held_at) as usize..(held_end - self.held_at) as usize],
            );
            begin = held_end;
        }
        if begin < end {
            out.extend_from_slice(&bytes[(begin - bytes_at) as usize..(end - bytes_at) as usize]);
        }
    }

    /// Keeps what stands at `settled` and later.
    fn keep(&mut self, settled: u64, bytes: &[u8]) {
        let bytes_at = self.held_at + self.held.len() as u64;
        if settled >= bytes_at {
            self.held.clear();
            self.held.extend_from_slice(&bytes[(settled - bytes_at) as usize..]);
        } else {
            self.held.drain(..(settled - self.held_at) as usize);
            self.held.extend_from_slice(bytes);
        }
        self.held_at = settled;
    }
}

/// The longer of two; of equals the earlier one, so that the pieces a stream came in make no difference.
fn longer(left: Found, right: Found) -> Found {
    let rank = |it: &Found| (it.length, Reverse(it.start), Reverse(it.form));
    if rank(&right) > rank(&left) { right } else { left }
}
