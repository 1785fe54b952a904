//! Finds known secrets in bytes that leave, in every form that programs write them, and puts their names in their place.
//!
//! Pure: it knows values and bytes, not where either comes from. A [`Redactor`] is compiled once and shared; each stream
//! of bytes has a [`Stream`]. What a program does to hide a secret on purpose is not looked for: a cipher has no form.

mod escapes;
mod forms;
mod index;
mod stream;
#[cfg(test)]
mod tests;
pub mod value;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use stream::Stream;
pub use value::{Known, Unfit};

use crate::redact::index::Index;

/// How often each secret was replaced, by name.
pub type Redactions = BTreeMap<String, u64>;

/// The known secrets, compiled. Clones share.
#[derive(Clone)]
pub struct Redactor {
    compiled: Arc<Compiled>,
}

/// Names, and where their forms lead.
struct Compiled {
    names: Vec<String>,
    index: Index,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Redactor").field("names", &self.compiled.names).finish_non_exhaustive()
    }
}

impl Redactor {
    /// Compiles. Of two secrets with one value the first gives the name.
    pub fn new(known: &[Known]) -> Self {
        let mut all = Vec::new();
        for (name, secret) in known.iter().enumerate() {
            all.extend(forms::of(secret.value()).into_iter().map(|form| (form, name)));
        }
        let names = known.iter().map(|it| it.name().to_owned()).collect();
        Self { compiled: Arc::new(Compiled { names, index: Index::new(all) }) }
    }

    /// One that knows nothing and changes nothing.
    pub fn none() -> Self {
        Self::new(&[])
    }

    /// Whether it knows nothing: then no stream needs it.
    pub fn is_empty(&self) -> bool {
        self.compiled.index.is_empty()
    }

    /// A stream of its own.
    pub fn stream(&self) -> Stream {
        Stream::new(self.clone())
    }

    /// All of `bytes`, without secrets, and how many there were.
    pub fn bytes(&self, bytes: &[u8]) -> (Vec<u8>, Redactions) {
        let mut stream = self.stream();
        let mut out = Vec::with_capacity(bytes.len());
        stream.push(bytes, &mut out);
        stream.flush(&mut out);
        (out, stream.redactions())
    }

    /// A text without secrets.
    pub fn text(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        String::from_utf8_lossy(&self.bytes(text.as_bytes()).0).into_owned()
    }

    fn index(&self) -> &Index {
        &self.compiled.index
    }

    fn name(&self, number: usize) -> &str {
        self.compiled.names.get(number).map_or("", String::as_str)
    }
}
