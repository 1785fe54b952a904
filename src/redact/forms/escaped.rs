//! Forms that write most characters as they are and escape some: JSON, shells, Go, XML.

use std::fmt::Write;

use zeroize::Zeroizing;

use crate::redact::forms::Form;

/// Writes one character of a value.
type Escape = fn(char, &mut String);
/// Writes one byte that is not part of a character.
type EscapeByte = fn(u8, &mut String);

/// Characters that bash's `printf %q` puts a backslash before, and the comma, before which only some versions do.
const BASH_SPECIAL: &str = " \t'\"\\|&;()<>!{}*[]?^$`";

/// Adds them. What is not text has no form in JSON and XML.
pub fn add(value: &[u8], forms: &mut Vec<Form>) {
    for (escape, escape_byte) in
        [(go as Escape, hex_byte as EscapeByte), (go_ascii, hex_byte), (ansi_c, octal_byte)]
    {
        forms.push(each_chunk(value, escape, escape_byte));
    }
    for escape in [single_quoted as Escape, shlex, double_quoted, backslashed, backslashed_comma] {
        forms.push(kept_bytes(value, escape));
    }
    let Ok(text) = std::str::from_utf8(value) else { return };
    for escape in
        [json as Escape, json_ascii, json_ascii_upper, json_html, json_html_upper, json_slashed, json_php]
    {
        let form = each(text, escape);
        // JSON inside of JSON: a log line that quotes a body.
        if let Ok(inner) = std::str::from_utf8(&form)
            && inner != text
        {
            forms.push(each(inner, json));
        }
        forms.push(form);
    }
    for escape in [xml_text as Escape, xml_named, xml_apos, xml_hex, xml_decimal, xml_go] {
        forms.push(each(text, escape));
    }
}

fn each(text: &str, escape: Escape) -> Form {
    let mut form = String::with_capacity(text.len() * 6);
    for character in text.chars() {
        escape(character, &mut form);
    }
    Zeroizing::new(form.into_bytes())
}

fn each_chunk(value: &[u8], escape: Escape, escape_byte: EscapeByte) -> Form {
    let mut form = String::with_capacity(value.len() * 6);
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            escape(character, &mut form);
        }
        for byte in chunk.invalid() {
            escape_byte(*byte, &mut form);
        }
    }
    Zeroizing::new(form.into_bytes())
}

/// Shells keep bytes that are not text as they are.
fn kept_bytes(value: &[u8], escape: Escape) -> Form {
    let mut form = Zeroizing::new(Vec::with_capacity(value.len() * 5));
    for chunk in value.utf8_chunks() {
        form.extend_from_slice(&each(chunk.valid(), escape));
        form.extend_from_slice(chunk.invalid());
    }
    form
}

// Writing into a string cannot fail.
fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

fn hex_byte(byte: u8, out: &mut String) {
    write(out, format_args!("\\x{byte:02x}"));
}

fn octal_byte(byte: u8, out: &mut String) {
    write(out, format_args!("\\{byte:03o}"));
}

fn json(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        it if it < ' ' => write(out, format_args!("\\u{:04x}", u32::from(it))),
        it => out.push(it),
    }
}

fn utf16(character: char) -> impl Iterator<Item = u16> {
    let mut units = [0; 2];
    let length = character.encode_utf16(&mut units).len();
    units.into_iter().take(length)
}

fn json_ascii(character: char, out: &mut String) {
    if character.is_ascii() && character != '\u{7f}' {
        return json(character, out);
    }
    for unit in utf16(character) {
        write(out, format_args!("\\u{unit:04x}"));
    }
}

fn json_ascii_upper(character: char, out: &mut String) {
    if character.is_ascii() && character != '\u{7f}' {
        return json(character, out);
    }
    for unit in utf16(character) {
        write(out, format_args!("\\u{unit:04X}"));
    }
}

fn json_html(character: char, out: &mut String) {
    match character {
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            write(out, format_args!("\\u{:04x}", u32::from(character)));
        }
        it => json(it, out),
    }
}

/// .NET escapes more, with capital digits.
fn json_html_upper(character: char, out: &mut String) {
    match character {
        '<' | '>' | '&' | '+' | '\'' | '"' | '`' | '\u{7f}' => {
            write(out, format_args!("\\u{:04X}", u32::from(character)));
        }
        it => json_ascii_upper(it, out),
    }
}

fn json_slashed(character: char, out: &mut String) {
    match character {
        '/' => out.push_str("\\/"),
        it => json(it, out),
    }
}

fn json_php(character: char, out: &mut String) {
    match character {
        '/' => out.push_str("\\/"),
        it => json_ascii(it, out),
    }
}

fn go(character: char, out: &mut String) {
    match character {
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        '"' => out.push_str("\\\""),
        it if it < ' ' || it == '\u{7f}' => write(out, format_args!("\\x{:02x}", u32::from(it))),
        it => out.push(it),
    }
}

fn go_ascii(character: char, out: &mut String) {
    match u32::from(character) {
        0..=0x7f => go(character, out),
        code @ 0x80..=0xffff => write(out, format_args!("\\u{code:04x}")),
        code => write(out, format_args!("\\U{code:08x}")),
    }
}

fn single_quoted(character: char, out: &mut String) {
    match character {
        '\'' => out.push_str("'\\''"),
        it => out.push(it),
    }
}

fn shlex(character: char, out: &mut String) {
    match character {
        '\'' => out.push_str("'\"'\"'"),
        it => out.push(it),
    }
}

fn double_quoted(character: char, out: &mut String) {
    if matches!(character, '"' | '\\' | '$' | '`') {
        out.push('\\');
    }
    out.push(character);
}

fn backslashed(character: char, out: &mut String) {
    if BASH_SPECIAL.contains(character) {
        out.push('\\');
    }
    out.push(character);
}

fn backslashed_comma(character: char, out: &mut String) {
    if character == ',' {
        out.push('\\');
    }
    backslashed(character, out);
}

/// `$'…'`, as bash and others write what has control characters.
fn ansi_c(character: char, out: &mut String) {
    match character {
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        '\u{1b}' => out.push_str("\\E"),
        '\\' => out.push_str("\\\\"),
        '\'' => out.push_str("\\'"),
        it if it < ' ' || it == '\u{7f}' => write(out, format_args!("\\{:03o}", u32::from(it))),
        it => out.push(it),
    }
}

fn xml_text(character: char, out: &mut String) {
    match character {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        it => out.push(it),
    }
}

/// An attribute between double quotes.
fn xml_named(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("&quot;"),
        it => xml_text(it, out),
    }
}

fn xml_apos(character: char, out: &mut String) {
    match character {
        '\'' => out.push_str("&apos;"),
        it => xml_named(it, out),
    }
}

/// Python's `html.escape`.
fn xml_hex(character: char, out: &mut String) {
    match character {
        '\'' => out.push_str("&#x27;"),
        it => xml_named(it, out),
    }
}

fn xml_decimal(character: char, out: &mut String) {
    match character {
        '\'' => out.push_str("&#39;"),
        it => xml_named(it, out),
    }
}

fn xml_go(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("&#34;"),
        '\'' => out.push_str("&#39;"),
        '\t' => out.push_str("&#x9;"),
        '\n' => out.push_str("&#xA;"),
        '\r' => out.push_str("&#xD;"),
        it => xml_text(it, out),
    }
}
