//! How programs write a value: every form of it that is looked for.
//!
//! A form is text without line breaks, since those are left out of what is searched.

mod encoded;
mod escaped;

use zeroize::Zeroizing;

use crate::redact::escapes::{Byte, Escapes};
use crate::redact::value::check;

/// A form, or a value. Cleared when it goes.
pub type Form = Zeroizing<Vec<u8>>;

/// Every form of a value, each once. Some may be too short to be looked for.
pub fn of(value: &[u8]) -> Vec<Form> {
    let mut written = Vec::new();
    for part in parts(value) {
        written.push(part.clone());
        // As a host name or a header has it. What is a word then is left alone.
        let lower: Form = Zeroizing::new(part.to_ascii_lowercase());
        if check(&lower).is_ok() {
            written.push(lower);
        }
        encoded::add(&part, &mut written);
        escaped::add(&part, &mut written);
    }
    let mut forms = Vec::new();
    for form in written {
        let lines: Form = Zeroizing::new(form.iter().copied().filter(|it| !is_break(*it)).collect());
        if lines.contains(&crate::redact::escapes::ESCAPE) {
            let mut escapes = Escapes::Ground;
            let shown = lines.iter().copied().filter(|it| escapes.step(*it) == Byte::Text).collect();
            forms.push(Zeroizing::new(shown));
        }
        forms.push(lines);
    }
    forms.sort_by(|left, right| left.as_slice().cmp(right));
    forms.dedup_by(|later, earlier| later.as_slice() == earlier.as_slice());
    forms
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// The value with either line ending, and each of its lines that can be told from ordinary text.
fn parts(value: &[u8]) -> Vec<Form> {
    let mut parts: Vec<Form> = vec![Zeroizing::new(value.to_vec())];
    if !value.contains(&b'\n') {
        return parts;
    }
    let lines: Vec<&[u8]> =
        value.split(|it| *it == b'\n').map(|it| it.strip_suffix(b"\r").unwrap_or(it)).collect();
    for ending in [&b"\n"[..], b"\r\n"] {
        parts.push(Zeroizing::new(lines.join(ending)));
    }
    for line in lines.iter().map(|it| it.trim_ascii()).filter(|it| check(it).is_ok()) {
        parts.push(Zeroizing::new(line.to_vec()));
    }
    parts
}
