//! Any bytes with known secrets among them, cut in any way: never a panic, no secret in what comes out, and it is what comes
//! out of the whole.

use std::sync::LazyLock;

use aegis::redact::{Known, Redactor};

/// Inputs to begin with: the first byte says where the rest is cut.
pub const SEEDS: [&[u8]; 6] = [
    b"\x00<\x1b[ h\x1b[ 12345678",
    b"\x05before hunter2-hunter2 after",
    b"\x03aHVudGVyMi1odW50ZXIy",
    b"\x07aK9$z'Q/+<\x1b[0m>\"&m 7\\w",
    b"\x0268756e746572322d68756e74657232",
    b"\x09hunter2-\r\nhunter2-hunter2-hunter3hunter2-hunter3",
];
const SECRETS: [&str; 3] = ["hunter2-hunter2", "hunter2-hunter3-longer", "aK9$z'Q/+<>\"&m 7\\w"];

static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| {
    let known: Vec<Known> =
        SECRETS.iter().map(|it| Known::new("S", it.as_bytes()).expect("it is fit")).collect();
    Redactor::new(&known)
});

/// Holds it for these bytes.
pub fn run(bytes: &[u8]) {
    let Some((step, text)) = bytes.split_first() else { return };
    // A secret where the fuzzer says, so that there is something to find.
    let secret = SECRETS[usize::from(*step) % SECRETS.len()].as_bytes();
    let middle = text.len() / 2;
    let text = [&text[..middle], secret, &text[middle..]].concat();
    let (whole, counts) = REDACTOR.bytes(&text);
    assert!(counts.values().sum::<u64>() > 0, "the secret was not found");
    assert!(!holds_secret(&whole));
    for step in [usize::from(*step) + 1, 1, 7] {
        let mut stream = REDACTOR.stream();
        let mut out = Vec::new();
        for piece in text.chunks(step) {
            stream.push(piece, &mut out);
        }
        stream.flush(&mut out);
        assert!(!holds_secret(&out), "in pieces of {step}");
        assert_eq!((out, stream.redactions()), (whole.clone(), counts.clone()), "in pieces of {step}");
    }
}

fn holds_secret(text: &[u8]) -> bool {
    SECRETS.iter().any(|it| memchr::memmem::find(text, it.as_bytes()).is_some())
}
