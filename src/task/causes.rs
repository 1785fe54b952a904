//! An error's causes, in words: what a person or a record is told of it.

use std::error::Error;

/// Each cause of an error in words, the nearest first; the error itself is not among them.
pub fn causes(error: &dyn Error) -> Vec<String> {
    std::iter::successors(error.source(), |&it| it.source()).map(ToString::to_string).collect()
}

/// An error with its causes, in one line. A cause that is in what stands before it is not told again.
pub fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Told(&'static str, #[source] Option<Box<Told>>);

    fn chain(words: &[&'static str]) -> Told {
        let (first, rest) = words.split_first().expect("a word");
        Told(first, (!rest.is_empty()).then(|| Box::new(chain(rest))))
    }

    #[test]
    fn causes_come_nearest_first() {
        assert_eq!(causes(&chain(&["a", "b", "c"])), ["b", "c"]);
        assert_eq!(told(&chain(&["a", "b", "c"])), "a: b: c");
        assert_eq!(told(&chain(&["alone"])), "alone");
    }

    #[test]
    fn a_cause_that_the_error_itself_tells_is_told_once() {
        assert_eq!(
            told(&chain(&["the engine said: no", "no", "a socket is away"])),
            "the engine said: no: a socket is away"
        );
    }
}
