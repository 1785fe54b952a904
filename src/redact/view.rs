//! One reading of a stream: its text without what can stand between two bytes of a secret unseen, searched as it comes.
//!
//! Line breaks are never text. Whether escape sequences are depends on the reading: a secret can be cut by one, and it
//! can lie inside one.

use crate::redact::escapes::{Byte, ESCAPE, Escapes};
use crate::redact::index::{FORM_BYTES_MIN, Index, Steps, Walk};

/// Bytes between two bytes of a secret at the most. What is further apart is not read as one.
pub const GAP_BYTES_MAX: usize = 256;

/// What a reading leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeavesOut {
    /// Line breaks.
    Breaks,
    /// Line breaks and escape sequences.
    Sequences,
}

/// A form that was found. Places are counted from the beginning of the stream, before anything was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its first byte.
    pub start: u64,
    /// After its last.
    pub end: u64,
    /// Bytes of the form.
    pub length: usize,
    /// Its place in the order of forms.
    pub form: usize,
    /// Whose it is.
    pub name: usize,
}

/// The reading, and what of it could still become a secret.
#[derive(Debug, Clone)]
pub struct View {
    leaves_out: LeavesOut,
    escapes: Escapes,
    // From the first byte that could begin a secret on.
    text: Vec<u8>,
    runs: Vec<Run>,
    gap: usize,
    partials: Vec<Partial>,
    // Below it every place has been looked at.
    looked: usize,
}

/// Bytes that stand together in text and stream.
#[derive(Debug, Clone, Copy)]
struct Run {
    text: usize,
    stream: u64,
}

/// A place that forms fit as far as the text goes.
#[derive(Debug, Clone)]
struct Partial {
    place: usize,
    walk: Walk,
}

/// Whether more text can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Open,
    Ended,
}

impl View {
    /// A new one, at the beginning of a stream.
    pub fn new() -> Self {
        Self {
            leaves_out: LeavesOut::Breaks,
            escapes: Escapes::Ground,
            text: Vec::new(),
            runs: Vec::new(),
            gap: 0,
            partials: Vec::new(),
            looked: 0,
        }
    }

    /// The same place in the stream, read without escape sequences. What is held must have none.
    pub fn without_sequences(&self) -> Self {
        Self { leaves_out: LeavesOut::Sequences, ..self.clone() }
    }

    /// Whether it stands in no sequence.
    pub fn is_outside(&self) -> bool {
        self.escapes == Escapes::Ground
    }

    /// The first place of the stream that could still begin a secret.
    pub fn hold(&self) -> Option<u64> {
        self.runs.first().map(|it| it.stream)
    }

    /// How many bytes of a secret the text that is held could be.
    pub fn tail(&self) -> usize {
        self.text.len()
    }

    /// Reads the bytes that stand at `at` in the stream.
    pub fn push(&mut self, index: &Index, bytes: &[u8], at: u64, found: &mut Vec<Found>) {
        match self.leaves_out {
            LeavesOut::Breaks => self.push_lines(index, bytes, at, found),
            LeavesOut::Sequences => self.push_shown(index, bytes, at, found),
        }
        self.search(index, Text::Open, found);
    }

    /// Nothing more comes.
    pub fn end(&mut self, index: &Index, found: &mut Vec<Found>) {
        self.search(index, Text::Ended, found);
        self.escapes = Escapes::Ground;
        self.gap = 0;
    }

    fn push_lines(&mut self, index: &Index, bytes: &[u8], at: u64, found: &mut Vec<Found>) {
        let mut begun = 0;
        for end in memchr::memchr2_iter(b'\n', b'\r', bytes) {
            self.take(&bytes[begun..end], at + begun as u64);
            self.leave_out(index, found);
            begun = end + 1;
        }
        self.take(&bytes[begun..], at + begun as u64);
    }

    fn push_shown(&mut self, index: &Index, bytes: &[u8], at: u64, found: &mut Vec<Found>) {
        let mut next = 0;
        while next < bytes.len() {
            if self.escapes == Escapes::Ground {
                let rest = &bytes[next..];
                let length = memchr::memchr3(b'\n', b'\r', ESCAPE, rest).unwrap_or(rest.len());
                self.take(&rest[..length], at + next as u64);
                next += length;
                if next == bytes.len() {
                    return;
                }
            }
            let byte = bytes[next];
            if matches!(byte, b'\n' | b'\r') || self.escapes.step(byte) == Byte::Sequence {
                self.leave_out(index, found);
            } else {
                self.take(&bytes[next..=next], at + next as u64);
            }
            next += 1;
        }
    }

    fn take(&mut self, text: &[u8], at: u64) {
        if text.is_empty() {
            return;
        }
        let follows = self.runs.last().is_some_and(|it| it.stream + (self.text.len() - it.text) as u64 == at);
        if !follows {
            self.runs.push(Run { text: self.text.len(), stream: at });
        }
        self.gap = 0;
        self.text.extend_from_slice(text);
    }

    fn leave_out(&mut self, index: &Index, found: &mut Vec<Found>) {
        self.gap += 1;
        if self.gap == GAP_BYTES_MAX + 1 {
            self.search(index, Text::Ended, found);
        }
    }

    /// Looks at what is new, and forgets the text before the first place that could still begin a secret.
    fn search(&mut self, index: &Index, text: Text, found: &mut Vec<Found>) {
        let mut partials = std::mem::take(&mut self.partials);
        partials.retain_mut(|it| self.follow(index, it, found) == Steps::Open);
        let from = self.looked;
        index.candidates(&self.text, from, |place, walk| {
            let mut partial = Partial { place, walk };
            if self.follow(index, &mut partial, found) == Steps::Open {
                partials.push(partial);
            }
        });
        self.looked = self.looked.max((self.text.len() + 1).saturating_sub(FORM_BYTES_MIN));
        match text {
            Text::Open => {
                self.partials = partials;
                while self.looked < self.text.len() && !index.begins(&self.text[self.looked..]) {
                    self.looked += 1;
                }
                self.forget();
            }
            Text::Ended => {
                self.text.clear();
                self.runs.clear();
                self.looked = 0;
            }
        }
    }

    fn follow(&self, index: &Index, partial: &mut Partial, found: &mut Vec<Found>) -> Steps {
        let place = partial.place;
        index.follow(&mut partial.walk, &self.text[place..], |fit| {
            found.push(Found {
                start: self.in_stream(place),
                end: self.in_stream(place + fit.length - 1) + 1,
                length: fit.length,
                form: fit.form,
                name: fit.name,
            });
        })
    }

    fn forget(&mut self) {
        // Places come in order: the first is the earliest.
        let keep = self.partials.first().map_or(self.looked, |it| it.place.min(self.looked));
        if keep == 0 {
            return;
        }
        if keep == self.text.len() {
            self.runs.clear();
        } else {
            let first = self.in_stream(keep);
            self.runs.drain(..self.runs.partition_point(|it| it.text <= keep).saturating_sub(1));
            for run in &mut self.runs {
                run.text = run.text.saturating_sub(keep);
            }
            if let Some(run) = self.runs.first_mut() {
                run.stream = first;
            }
        }
        self.text.drain(..keep);
        self.looked -= keep;
        for partial in &mut self.partials {
            partial.place -= keep;
        }
    }

    fn in_stream(&self, place: usize) -> u64 {
        let run = self.runs.partition_point(|it| it.text <= place).saturating_sub(1);
        self.runs.get(run).map_or(0, |it| it.stream + (place - it.text) as u64)
    }
}
