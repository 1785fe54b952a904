//! Names and labels that people give a run: what every list can show and no shell or header stumbles over.

/// Characters of a name or a label at the most.
const CHARS_MAX: usize = 128;

/// What is wrong with a name or a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The key is one of ours.
    #[error("keys below `aegis.` are Aegis's own: choose another")]
    Reserved,
    /// Characters that are not taken, or too many.
    #[error("use 1 to {CHARS_MAX} letters, digits, spaces and `._-/@:+`")]
    Characters,
}

/// A name: letters, digits and `._-/@:+ `, at most 128 characters.
pub fn plain(text: &str) -> Result<String, LabelError> {
    let fits = (1..=CHARS_MAX).contains(&text.chars().count());
    if fits && text.chars().all(|it| it.is_alphanumeric() || "._-/@:+ ".contains(it)) {
        return Ok(text.to_owned());
    }
    Err(LabelError::Characters)
}

/// Checks a label; its value may be empty.
pub fn check(key: &str, value: &str) -> Result<(), LabelError> {
    if key.starts_with("aegis.") {
        return Err(LabelError::Reserved);
    }
    plain(key)?;
    if !value.is_empty() {
        plain(value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_may_be_empty_but_not_its_key() {
        assert_eq!(check("team", ""), Ok(()));
        assert_eq!(check("", "x"), Err(LabelError::Characters));
    }

    #[test]
    fn our_own_keys_are_refused() {
        assert_eq!(check("aegis.owner", "root"), Err(LabelError::Reserved));
    }
}
