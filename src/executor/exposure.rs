//! Files on their way out, looked through for known secrets.

use crate::record::{End, Exposure, Kept};
use crate::redact::{Redactions, Redactor, Stream};

/// Exposures that are named; more files than that are looked through, and kept in where that is asked for.
const EXPOSURES_MAX: usize = 1000;

/// Looks through one file after the other.
#[derive(Debug)]
pub(super) struct Scanner {
    redactor: Redactor,
    current: Option<Current>,
    // What a stream shows; nobody needs it.
    shown: Vec<u8>,
    found: Vec<Exposure>,
}

#[derive(Debug)]
struct Current {
    path: Vec<u8>,
    in_name: Redactions,
    content: Stream,
}

/// What a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// No known secret.
    Nothing,
    /// One at least.
    Secret,
}

impl Scanner {
    /// `None` where nothing is known.
    pub(super) fn new(redactor: &Redactor) -> Option<Self> {
        let redactor = redactor.clone();
        (!redactor.is_empty()).then(|| Self { redactor, current: None, shown: Vec::new(), found: Vec::new() })
    }

    /// A file begins. The one before it must have been ended.
    pub(super) fn begin(&mut self, path: &[u8], bytes: &[u8]) {
        let (path, in_name) = self.redactor.bytes(path);
        self.current = Some(Current { path, in_name, content: self.redactor.stream() });
        self.chunk(bytes);
    }

    /// More of it.
    pub(super) fn chunk(&mut self, bytes: &[u8]) {
        if let Some(current) = &mut self.current {
            current.content.push(bytes, &mut self.shown);
            self.shown.clear();
        }
    }

    /// It ends; `kept` is what becomes of it if it has a secret.
    pub(super) fn end(&mut self, kept: Kept) -> Seen {
        let Some(Current { path, mut in_name, mut content }) = self.current.take() else {
            return Seen::Nothing;
        };
        content.flush(&mut self.shown);
        self.shown.clear();
        in_name.extend(content.redactions());
        if in_name.is_empty() {
            return Seen::Nothing;
        }
        let room = EXPOSURES_MAX.saturating_sub(self.found.len());
        let named = in_name.into_keys().take(room);
        self.found.extend(named.map(|secret| Exposure { path: path.clone(), secret, kept }));
        Seen::Secret
    }

    /// What was found.
    pub(super) fn finish(self) -> Vec<Exposure> {
        self.found
    }
}

/// Keeps secrets out of what is told about an end. Names of files on the host's disk stay what they are.
pub(super) fn redact(end: &mut End, redactor: &Redactor) {
    if redactor.is_empty() {
        return;
    }
    end.outcome.edit_texts(|text| *text = redactor.text(text));
    for artifact in &mut end.artifacts {
        artifact.path = redactor.bytes(&artifact.path).0;
    }
    for dropped in &mut end.dropped {
        dropped.path = redactor.bytes(&dropped.path).0;
        dropped.reason = redactor.text(&dropped.reason);
    }
    for pattern in &mut end.unmatched {
        *pattern = redactor.text(pattern);
    }
    if let Some(failure) = end.changes.as_mut().and_then(|it| it.failure.as_mut()) {
        *failure = redactor.text(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Known;

    #[test]
    fn a_secret_is_found_in_content_across_chunks_and_in_a_name() {
        let known = Known::new("KEY", b"hunter2-hunter2").expect("fit");
        let mut scanner = Scanner::new(&Redactor::new(&[known])).expect("something is known");
        scanner.begin(b"a.txt", b"x hunter2-");
        scanner.chunk(b"hunter2 y");
        assert_eq!(scanner.end(Kept::Out), Seen::Secret);
        scanner.begin(b"b.txt", b"x hunter2-");
        assert_eq!(scanner.end(Kept::Out), Seen::Nothing);
        scanner.begin(b"c-hunter2-hunter2.txt", b"");
        assert_eq!(scanner.end(Kept::In), Seen::Secret);
        let found: Vec<(Vec<u8>, Kept)> = scanner.finish().into_iter().map(|it| (it.path, it.kept)).collect();
        assert_eq!(found, [(b"a.txt".to_vec(), Kept::Out), (b"c-[redacted:KEY].txt".to_vec(), Kept::In)]);
    }
}
