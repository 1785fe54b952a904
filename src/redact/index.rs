//! The forms, sorted and indexed: a filter that looks at four of every five bytes' groups only, and a walk that follows a
//! candidate byte by byte.

use std::collections::HashMap;
use std::ops::Range;

use zeroize::Zeroizing;

/// Bytes of a form at the least: the filter looks at its first ones.
pub const FORM_BYTES_MIN: usize = 8;
/// Bytes that the filter looks at.
const GRAM: usize = 4;
/// Bytes from one look to the next: of a form's first eight bytes one look falls whole into them.
const STRIDE: usize = FORM_BYTES_MIN - GRAM + 1;

/// All forms of all secrets.
pub struct Index {
    // One after the other, in the order of `forms`; cleared when it goes.
    bytes: Zeroizing<Vec<u8>>,
    forms: Vec<Form>,
    grams: Bits,
    starts: Bits,
    by_start: HashMap<u64, Range<usize>>,
}

/// One form of one secret.
#[derive(Debug, Clone, Copy)]
struct Form {
    at: usize,
    length: usize,
    name: usize,
}

/// A place that some forms fit so far.
#[derive(Debug, Clone)]
pub struct Walk {
    forms: Range<usize>,
    length: usize,
}

/// Whether a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steps {
    /// More bytes could make a form whole.
    Open,
    /// No further form fits.
    Over,
}

/// A form that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Its length.
    pub length: usize,
    /// Its place in the order of forms.
    pub form: usize,
    /// Whose it is.
    pub name: usize,
}

impl Index {
    /// Sorts and indexes. Forms that are too short are left out; of two equal ones the first stays.
    pub fn new(mut all: Vec<(Zeroizing<Vec<u8>>, usize)>) -> Self {
        all.retain(|(form, _)| form.len() >= FORM_BYTES_MIN);
        // Stable: the first of equal forms stays first.
        all.sort_by(|(left, _), (right, _)| left.cmp(right));
        all.dedup_by(|(later, _), (earlier, _)| later == earlier);
        let total: usize = all.iter().map(|(form, _)| form.len()).sum();
        // Room for all at once: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(total));
        let mut forms = Vec::with_capacity(all.len());
        let mut grams = Bits::for_entries(all.len() * STRIDE);
        let mut starts = Bits::for_entries(all.len());
        let mut by_start: HashMap<u64, Range<usize>> = HashMap::new();
        for (number, (form, name)) in all.iter().enumerate() {
            forms.push(Form { at: bytes.len(), length: form.len(), name: *name });
            bytes.extend_from_slice(form);
            for gram in form[..FORM_BYTES_MIN].windows(GRAM) {
                grams.set(u64::from(gram_of(gram)));
            }
            if let Some(start) = start_of(form) {
                starts.set(start);
                by_start.entry(start).or_insert(number..number).end = number + 1;
            }
        }
        Self { bytes, forms, grams, starts, by_start }
    }

    /// Whether there is no form.
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Calls `found` for each place of `text` from `from` on whose next [`FORM_BYTES_MIN`] bytes begin a form, in order.
    pub fn candidates(&self, text: &[u8], from: usize, mut found: impl FnMut(usize, Walk)) {
        let first = from + STRIDE - 1;
        let Some(looked) = text.get(first..) else { return };
        let (groups, rest) = looked.as_chunks::<STRIDE>();
        for (number, [a, b, c, d, _]) in groups.iter().enumerate() {
            if self.grams.has(u64::from(u32::from_le_bytes([*a, *b, *c, *d]))) {
                self.around(text, first + number * STRIDE, &mut found);
            }
        }
        if rest.len() == GRAM && self.grams.has(u64::from(gram_of(rest))) {
            self.around(text, first + groups.len() * STRIDE, &mut found);
        }
    }

    /// The places whose first bytes have the look at `at` in them.
    fn around(&self, text: &[u8], at: usize, found: &mut impl FnMut(usize, Walk)) {
        for place in (at + 1).saturating_sub(STRIDE)..=at {
            let Some(start) = start_of(&text[place..]) else { return };
            if self.starts.has(start)
                && let Some(forms) = self.by_start.get(&start)
            {
                found(place, Walk { forms: forms.clone(), length: FORM_BYTES_MIN });
            }
        }
    }

    /// Whether all of `text`, shorter than any form, begins one.
    pub fn begins(&self, text: &[u8]) -> bool {
        let first = self.forms.partition_point(|it| self.form(it) < text);
        self.forms.get(first).is_some_and(|it| self.form(it).starts_with(text))
    }

    /// Follows a walk through `text`, which begins where the walk does and is longer than before. `fits` gets each form
    /// that is whole.
    pub fn follow(&self, walk: &mut Walk, text: &[u8], mut fits: impl FnMut(Fit)) -> Steps {
        loop {
            let Some(first) = self.forms.get(walk.forms.start).filter(|_| !walk.forms.is_empty()) else {
                return Steps::Over;
            };
            if first.length == walk.length {
                fits(Fit { length: first.length, form: walk.forms.start, name: first.name });
                walk.forms.start += 1;
                continue;
            }
            if walk.forms.len() == 1 {
                let known = self.form(first);
                let end = text.len().min(known.len());
                if known[walk.length..end] != text[walk.length..end] {
                    return Steps::Over;
                }
                walk.length = end;
                if end < known.len() {
                    return Steps::Open;
                }
                continue;
            }
            let Some(next) = text.get(walk.length) else { return Steps::Open };
            let (forms, length) = (&self.forms[walk.forms.clone()], walk.length);
            let below = forms.partition_point(|it| self.bytes[it.at + length] < *next);
            let within = forms.partition_point(|it| self.bytes[it.at + length] <= *next);
            walk.forms = walk.forms.start + below..walk.forms.start + within;
            walk.length += 1;
        }
    }

    fn form(&self, form: &Form) -> &[u8] {
        &self.bytes[form.at..form.at + form.length]
    }
}

fn gram_of(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |it| u32::from_le_bytes(*it))
}

fn start_of(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|it| u64::from_le_bytes(*it))
}

/// A set that may say yes too often, never no.
struct Bits {
    words: Box<[u64]>,
    shift: u32,
}

impl Bits {
    /// About one in thirty-two of other values is taken for a member; between 16 KiB and 1 MiB.
    fn for_entries(entries: usize) -> Self {
        let bits = (entries * 32).next_power_of_two().clamp(1 << 17, 1 << 23);
        Self { words: vec![0; bits / 64].into_boxed_slice(), shift: 64 - bits.ilog2() }
    }

    /// Which bit: the high bits of a product with an odd constant (2^64 by the golden ratio).
    fn bit(&self, value: u64) -> usize {
        (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    fn set(&mut self, value: u64) {
        let bit = self.bit(value);
        self.words[bit / 64] |= 1 << (bit % 64);
    }

    #[inline]
    fn has(&self, value: u64) -> bool {
        let bit = self.bit(value);
        self.words[bit / 64] >> (bit % 64) & 1 == 1
    }
}
