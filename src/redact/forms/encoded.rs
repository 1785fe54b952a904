//! Forms that write every byte anew: base64, hex, percent encoding.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::redact::forms::Form;

/// What an encoder of URLs leaves as it is beside letters and digits, and how it writes a space.
const URL_ENCODERS: [(&[u8], &str); 6] = [
    // RFC 3986's unreserved characters.
    (b"-._~", "%20"),
    // The same in a query.
    (b"-._~", "+"),
    // `encodeURIComponent`.
    (b"-._~!*'()", "%20"),
    // `encodeURI`.
    (b"-._~!*'();/?:@&=+$,#", "%20"),
    // A path, as Python's `quote` writes it.
    (b"-._~/", "%20"),
    // An HTML form.
    (b"-._*", "+"),
];

/// Adds them.
pub fn add(value: &[u8], forms: &mut Vec<Form>) {
    for offset in 0..3 {
        base64(value, offset, &STANDARD_NO_PAD, forms);
        base64(value, offset, &URL_SAFE_NO_PAD, forms);
    }
    forms.push(Zeroizing::new(hex::encode(value).into_bytes()));
    forms.push(Zeroizing::new(hex::encode_upper(value).into_bytes()));
    for (kept, space) in URL_ENCODERS {
        forms.push(percent(value, kept, space, b"0123456789ABCDEF"));
        forms.push(percent(value, kept, space, b"0123456789abcdef"));
    }
}

/// The value as it looks when `offset` bytes (and a multiple of three) come before it. The characters that bytes before
/// it have a part in are left out; those that bytes after it would have one in are there once without any (the end of
/// the text, padded or not) and once left out.
fn base64(value: &[u8], offset: usize, engine: &impl Engine, forms: &mut Vec<Form>) {
    let mut bytes = Zeroizing::new(vec![0; offset]);
    bytes.extend_from_slice(value);
    let text = Zeroizing::new(engine.encode(&*bytes).into_bytes());
    let first = (offset * 8).div_ceil(6);
    let certain = bytes.len() * 8 / 6;
    forms.push(Zeroizing::new(text[first..certain].to_vec()));
    if certain < text.len() {
        let mut ended = Zeroizing::new(text[first..].to_vec());
        forms.push(ended.clone());
        ended.extend(std::iter::repeat_n(b'=', text.len().next_multiple_of(4) - text.len()));
        forms.push(ended);
    }
}

fn percent(value: &[u8], kept: &[u8], space: &str, digits: &[u8; 16]) -> Form {
    let mut form = Zeroizing::new(Vec::with_capacity(value.len() * 3));
    for byte in value {
        match byte {
            b' ' => form.extend_from_slice(space.as_bytes()),
            it if it.is_ascii_alphanumeric() || kept.contains(it) => form.push(*it),
            it => form.extend([b'%', digits[usize::from(it >> 4)], digits[usize::from(it & 15)]]),
        }
    }
    form
}
