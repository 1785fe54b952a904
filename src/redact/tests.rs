//! The redactor against a model that has the whole text before it, and against forms that others make.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use crate::redact::escapes::{Byte, Escapes};
use crate::redact::view::GAP_BYTES_MAX;
use crate::redact::{Known, Redactor, forms};

const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
                   MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\n\
                   OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\n\
                   1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G\n\
                   -----END PRIVATE KEY-----";
const KEY: &str = "aK9$z'Q/+<é>\"&m 7\\w";

fn known(name: &str, value: &[u8]) -> Known {
    Known::new(name, value).expect("a fit value")
}

fn redactor(values: &[&str]) -> Redactor {
    let known: Vec<Known> = values
        .iter()
        .enumerate()
        .map(|(number, it)| known(&format!("S{}", number + 1), it.as_bytes()))
        .collect();
    Redactor::new(&known)
}

fn shown(redactor: &Redactor, text: &[u8]) -> String {
    redactor.bytes(text).0.escape_ascii().to_string()
}

#[track_caller]
fn check(values: &[&str], text: &str, expected: &str) {
    assert_eq!(String::from_utf8_lossy(&redactor(values).bytes(text.as_bytes()).0), expected);
}

/// What a stream shows of `text` in these pieces.
fn in_pieces<'a>(redactor: &Redactor, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stream = redactor.stream();
    let mut out = Vec::new();
    for piece in pieces {
        stream.push(piece, &mut out);
    }
    stream.flush(&mut out);
    out
}

/// The same with every byte in view: each form tried at each place, what overlaps joined, the longest named.
fn model(values: &[Known], text: &[u8]) -> Vec<u8> {
    let forms: Vec<(forms::Form, &str)> = values
        .iter()
        .flat_map(|it| forms::of(it.value()).into_iter().map(|form| (form, it.name())))
        .filter(|(form, _)| form.len() >= 8)
        .collect();
    let mut found: Vec<(usize, usize, usize, &str)> = Vec::new();
    for escapes_left_out in [false, true] {
        let mut escapes = Escapes::Ground;
        let read: Vec<(usize, u8)> = text
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, byte)| {
                let is_break = matches!(byte, b'\r' | b'\n');
                let is_left_out = is_break || (escapes_left_out && escapes.step(*byte) == Byte::Sequence);
                !is_left_out
            })
            .collect();
        for start in 0..read.len() {
            for (form, name) in &forms {
                let Some(place) = read.get(start..start + form.len()) else { continue };
                let equal = place.iter().map(|it| it.1).eq(form.iter().copied());
                if equal && place.windows(2).all(|it| it[1].0 - it[0].0 <= GAP_BYTES_MAX + 1) {
                    found.push((place[0].0, place[form.len() - 1].0 + 1, form.len(), name));
                }
            }
        }
    }
    found.sort();
    let mut joined: Vec<(usize, usize, usize, usize, &str)> = Vec::new();
    for (start, end, length, name) in found {
        match joined.last_mut().filter(|it| start < it.1) {
            Some(last) => {
                last.1 = last.1.max(end);
                if length > last.2 {
                    (last.2, last.3, last.4) = (length, start, name);
                }
            }
            None => joined.push((start, end, length, start, name)),
        }
    }
    let (mut out, mut told) = (Vec::new(), 0);
    for (start, end, _, _, name) in joined {
        out.extend_from_slice(&text[told..start]);
        out.extend(format!("[redacted:{name}]").bytes());
        told = end;
    }
    out.extend_from_slice(&text[told..]);
    out
}

#[test]
fn a_secret_is_replaced_by_its_name_and_counted() {
    let redactor = redactor(&["hunter2-hunter2", "s3cr3t-s3cr3t"]);
    let (out, counts) = redactor.bytes(b"a hunter2-hunter2 b hunter2-hunter2hunter2-hunter2 s3cr3t-s3cr3");
    let out = String::from_utf8(out).expect("text");
    assert_eq!(out, "a [redacted:S1] b [redacted:S1][redacted:S1] s3cr3t-s3cr3");
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("S1".to_owned(), 3)]);
}

#[test]
fn cr_08_of_secrets_that_overlap_the_longest_gives_the_name() {
    let values = ["abcd-1234", "abcd-1234-efgh", "34-efgh-5678"];
    check(&values, "<abcd-1234>", "<[redacted:S1]>");
    check(&values, "<abcd-1234-efgh>", "<[redacted:S2]>");
    check(&values, "<abcd-1234-efg>", "<[redacted:S1]-efg>");
    check(&values, "<abcd-1234-efgh-5678>", "<[redacted:S2]>");
}

#[test]
fn cr_05_every_documented_form_is_found() {
    let redactor = redactor(&[KEY]);
    let mut written: Vec<String> = vec![
        KEY.to_owned(),
        hex::encode(KEY),
        hex::encode_upper(KEY),
        KEY.to_ascii_lowercase(),
        "aK9%24z%27Q%2F%2B%3C%C3%A9%3E%22%26m%207%5Cw".to_owned(),
        "aK9%24z%27Q%2f%2b%3c%c3%a9%3e%22%26m+7%5cw".to_owned(),
        "aK9%24z'Q%2F%2B%3C%C3%A9%3E%22%26m%207%5Cw".to_owned(),
        serde_json::to_string(KEY).expect("JSON").trim_matches('"').to_owned(),
        r#"aK9$z'Q\/+<\u00e9>\"&m 7\\w"#.to_owned(),
        r#"aK9$z'Q/+\u003cé\u003e\"\u0026m 7\\w"#.to_owned(),
        r#"aK9$z\u0027Q/\u002B\u003C\u00E9\u003E\u0022\u0026m 7\\w"#.to_owned(),
        r#"aK9$z'Q/+<é>\\\"&m 7\\\\w"#.to_owned(),
        r#"aK9$z'\''Q/+<é>"&m 7\w"#.to_owned(),
        r#"aK9$z'"'"'Q/+<é>"&m 7\w"#.to_owned(),
        r#"aK9\$z'Q/+<é>\"&m 7\\w"#.to_owned(),
        r#"aK9\$z\'Q/+\<é\>\"\&m\ 7\\w"#.to_owned(),
        format!("{KEY:?}").trim_matches('"').to_owned(),
        r#"aK9$z'Q/+<\u00e9>\"&m 7\\w"#.to_owned(),
        r#"aK9$z'Q/+&lt;é&gt;"&amp;m 7\w"#.to_owned(),
        "aK9$z&apos;Q/+&lt;é&gt;&quot;&amp;m 7\\w".to_owned(),
        "aK9$z&#x27;Q/+&lt;é&gt;&quot;&amp;m 7\\w".to_owned(),
        "aK9$z&#39;Q/+&lt;é&gt;&#34;&amp;m 7\\w".to_owned(),
    ];
    for (engine, padded) in [(&STANDARD, true), (&STANDARD_NO_PAD, false), (&URL_SAFE_NO_PAD, false)] {
        let text = engine.encode(KEY);
        assert_eq!(text.ends_with('='), padded);
        written.push(text);
    }
    for form in written {
        assert_eq!(shown(&redactor, format!("<{form}>").as_bytes()), "<[redacted:S1]>", "{form}");
    }
}

#[test]
fn cr_05_base64_is_found_at_each_offset() {
    let redactor = redactor(&[KEY]);
    for before in ["", "u", "us", "user:", "user-a:", "user-ab:"] {
        for after in ["", "\n", "ab", "abc"] {
            for engine in [STANDARD, URL_SAFE_NO_PAD] {
                let text = engine.encode(format!("{before}{KEY}{after}"));
                let shown = shown(&redactor, text.as_bytes());
                assert!(shown.contains("[redacted:S1]"), "{before} {after} {text} {shown}");
                // What is left is what the neighbours have a part in.
                let left = shown.replace("[redacted:S1]", "").len();
                assert!(left <= (before.len() + after.len()) * 4 / 3 + 6, "{shown}");
            }
        }
    }
}

#[test]
fn cr_04_a_key_of_many_lines_is_found_whole_by_line_and_inside_of_json() {
    let redactor = redactor(&[PEM]);
    let crlf = PEM.replace('\n', "\r\n");
    let json = serde_json::to_string(PEM).expect("JSON");
    let wrapped: String =
        STANDARD.encode(PEM).as_bytes().chunks(76).map(|it| String::from_utf8_lossy(it) + "\n").collect();
    for whole in [PEM.to_owned(), crlf.clone(), json.trim_matches('"').to_owned(), hex::encode(&crlf)] {
        assert_eq!(shown(&redactor, whole.as_bytes()), "[redacted:S1]", "{whole}");
    }
    assert_eq!(shown(&redactor, wrapped.as_bytes()), "[redacted:S1]\\n");
    for line in PEM.lines() {
        assert_eq!(shown(&redactor, format!("  {line}\r\n").as_bytes()), "  [redacted:S1]\\r\\n");
    }
    let numbered: String =
        PEM.lines().enumerate().map(|(number, line)| format!("{number}: {line}\n")).collect();
    assert_eq!(redactor.text(&numbered).matches("[redacted:S1]").count(), PEM.lines().count());
}

#[test]
fn what_a_terminal_inserts_hides_nothing() {
    let values = ["hunter2-hunter2"];
    check(&values, "hunter2\r\n-hunter2", "[redacted:S1]");
    check(
        &values,
        "\u{1b}[31mhun\u{1b}[0mter2-\u{1b}]0;title\u{7}hunter2\u{1b}[0m",
        "\u{1b}[31m[redacted:S1]\u{1b}[0m",
    );
    check(&values, "\u{1b}]0;hunter2-hunter2\u{7}", "\u{1b}]0;[redacted:S1]\u{7}");
    check(&values, "\u{1b}]0;never ended hunter2-hunter2", "\u{1b}]0;never ended [redacted:S1]");
    check(&values, "hunter2-\u{1b}", "hunter2-\u{1b}");
}

#[test]
fn text_without_secrets_is_not_touched() {
    let redactor = redactor(&[KEY, PEM, "hunter2-hunter2"]);
    let text: Vec<u8> = (0..200_000_u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert!(redactor.bytes(&text).0 == text);
    assert!(in_pieces(&redactor, text.chunks(7)) == text);
}

#[test]
fn cr_06_a_secret_is_found_at_every_border_of_two_pieces() {
    let redactor = redactor(&[KEY, PEM, "hunter2-hunter2"]);
    for text in [KEY, PEM, "hunter2\u{1b}[0m\r\n-hunter2", &STANDARD.encode(PEM)] {
        for border in 0..=text.len() {
            let (left, right) = text.as_bytes().split_at(border);
            let out = in_pieces(&redactor, [left, right]);
            let out = String::from_utf8_lossy(&out).into_owned();
            assert!(
                out.starts_with("[redacted:S") && out.ends_with(']') && !out[1..].contains('['),
                "{border}: {out}"
            );
        }
    }
}

#[test]
fn only_what_could_become_a_secret_is_held() {
    let redactor = redactor(&["hunter2-hunter2"]);
    let mut stream = redactor.stream();
    let mut out = Vec::new();
    stream.push(b"a line\nhun", &mut out);
    assert_eq!((out.as_slice(), stream.held()), (&b"a line\n"[..], 3));
    stream.push(b"gry\n", &mut out);
    assert_eq!((out.as_slice(), stream.held()), (&b"a line\nhungry\n"[..], 0));
}

#[test]
fn a_short_tail_can_be_let_go_and_the_rest_of_its_secret_is_still_found() {
    let redactor = redactor(&["hunter2-hunter2"]);
    let mut stream = redactor.stream();
    let mut out = Vec::new();
    stream.push(b"> hun", &mut out);
    assert!(stream.can_let_go());
    stream.let_go(&mut out);
    assert_eq!((out.as_slice(), stream.held()), (&b"> hun"[..], 0));
    stream.push(b"t", &mut out);
    assert!(!stream.can_let_go());
    stream.let_go(&mut out);
    stream.push(b"er2-hunter2!", &mut out);
    assert_eq!(out.escape_ascii().to_string(), "> hun[redacted:S1]!");
}

#[test]
fn line_breaks_inside_of_a_tail_do_not_fill_the_memory() {
    let redactor = redactor(&["hunter2-hunter2"]);
    let mut stream = redactor.stream();
    let mut out = Vec::new();
    stream.push(b"hunter2", &mut out);
    for _ in 0..1000 {
        stream.push(&[b'\n'; 100], &mut out);
        assert!(stream.held() <= 7 + GAP_BYTES_MAX, "{}", stream.held());
    }
    assert_eq!(out.len(), 7 + 100_000);
}

#[test]
fn cr_10_a_long_line_of_near_secrets_takes_no_longer_than_its_length() {
    let values: Vec<Known> =
        (0..200).map(|it| known("S", format!("abababab-{it:03}-abababab").as_bytes())).collect();
    let redactor = Redactor::new(&values);
    let line = b"abababab-".repeat(1_000_000);
    let begun = std::time::Instant::now();
    let out = in_pieces(&redactor, line.chunks(4096));
    assert!(out == line);
    // Nine megabytes; the floor that is written down is 10 MB/s of a build that is not optimised, on a busy machine.
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

fn secret() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 8..40),
        "[a-c1-2]{8,14}".prop_map(String::into_bytes),
        "[ab'\"<é\\\\ \n]{8,20}".prop_map(String::into_bytes),
    ]
}

fn secrets() -> impl Strategy<Value = Vec<Known>> {
    proptest::collection::vec(secret(), 1..5).prop_map(|values| {
        let fit = values.iter().enumerate();
        fit.filter_map(|(number, it)| Known::new(&format!("S{number}"), it).ok()).collect()
    })
}

/// Pieces of text that have secrets, parts of them, and what terminals insert.
fn text(values: &[Known]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let forms: Vec<Vec<u8>> =
        values.iter().flat_map(|it| forms::of(it.value())).map(|it| it.to_vec()).collect();
    let forms = if forms.is_empty() { vec![Vec::new()] } else { forms };
    let part = (proptest::sample::select(forms), 0..64_usize, 0..64_usize, 0..4_u8).prop_map(
        |(form, from, to, how)| {
            let (from, to) = (from.min(form.len()), to.max(from).min(form.len()));
            match how {
                0 => form,
                1 => [&form[..from], b"\r\n\x1b[0m", &form[from..]].concat(),
                2 => [&form[..from], &form[..to], &form[to..]].concat(),
                _ => form[from.min(to)..to.max(from)].to_vec(),
            }
        },
    );
    let other = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..6),
        "[ab12\n]{0,9}".prop_map(String::into_bytes),
        Just(b"\x1b]0;".to_vec()),
        Just(vec![b'\n'; GAP_BYTES_MAX + 1]),
    ];
    proptest::collection::vec(prop_oneof![part, other], 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn every_split_gives_what_the_model_gives(
        (values, text) in secrets().prop_flat_map(|it| (Just(it.clone()), text(&it))),
        sizes in proptest::collection::vec(1..9_usize, 1..6),
    ) {
        let expected = model(&values, &text).escape_ascii().to_string();
        let redactor = Redactor::new(&values);
        prop_assert_eq!(&shown(&redactor, &text), &expected);
        let mut pieces = Vec::new();
        let (mut rest, mut sizes) = (text.as_slice(), sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, left) = rest.split_at((*sizes.next().expect("a size")).min(rest.len()));
            pieces.push(piece);
            rest = left;
        }
        let out = in_pieces(&redactor, pieces);
        prop_assert_eq!(&out.escape_ascii().to_string(), &expected);
    }

    #[test]
    fn no_form_of_a_random_secret_is_left(value in "[!-~é\n]{16,40}", before in "[ -~]{0,5}") {
        let Ok(known) = Known::new("S", value.as_bytes()) else { return Ok(()) };
        let value = std::str::from_utf8(known.value()).expect("text").to_owned();
        let redactor = Redactor::new(std::slice::from_ref(&known));
        let written = [
            value.clone(),
            value.replace('\n', "\r\n"),
            hex::encode(&value),
            serde_json::to_string(&value).expect("JSON"),
            percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC).to_string(),
            STANDARD.encode(format!("{before}{value}")),
            format!("'{}'", value.replace('\'', "'\\''")),
        ];
        for (number, form) in written.iter().enumerate() {
            // `NON_ALPHANUMERIC` encodes what no encoder of URLs does.
            let left_alone = number == 4 && value.contains(['-', '_', '.', '~', '!', '*', '\'', '(', ')']);
            let out = redactor.text(&format!("{before}\n<{form}>"));
            prop_assert!(left_alone || out.contains("[redacted:S]"), "{} {}", form, out);
        }
    }
}
