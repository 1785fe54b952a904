//! Names of secrets, and the places inside a sandbox that a secret can be put at.

use crate::intake::{shown, variable};
use crate::task::{SecretPlace, SecretRequest};

/// The name that stands for every secret in a policy.
pub const ANY_NAME: &str = "*";
/// Bytes of a name at the most.
const NAME_BYTES_MAX: usize = 64;
/// What a target that is a variable begins with.
const VARIABLE_PREFIX: &str = "env:";

/// A text that asks for no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretNameError {
    /// No name.
    #[error(
        "`{text}` is no name of a secret: use letters, digits, `.`, `_` and `-`, a letter or digit first, at most \
         {NAME_BYTES_MAX}"
    )]
    Name {
        /// What was given, escaped.
        text: String,
    },
    /// No place.
    #[error(
        "`{text}` is no place for a secret: write a file's name (it lies below `{}`), or `env:NAME` for a \
         variable",
        SecretPlace::DIRECTORY
    )]
    Target {
        /// What was given, escaped.
        text: String,
    },
}

/// A name as it is.
pub fn parse(text: &str) -> Result<String, SecretNameError> {
    let plain = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-');
    let begins = text.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric());
    if begins && text.len() <= NAME_BYTES_MAX && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(SecretNameError::Name { text: shown(text) })
}

/// `NAME[=TARGET]`. Without a target it is a file of the secret's own name.
pub fn parse_request(text: &str) -> Result<SecretRequest, SecretNameError> {
    let Some((name, target)) = text.split_once('=') else {
        let name = parse(text)?;
        return Ok(SecretRequest { name: name.clone(), place: SecretPlace::File(name) });
    };
    let name = parse(name)?;
    let refused = || SecretNameError::Target { text: shown(target) };
    if let Some(variable) = target.strip_prefix(VARIABLE_PREFIX) {
        variable::check(variable, "").map_err(|_| refused())?;
        return Ok(SecretRequest { name, place: SecretPlace::Variable(variable.to_owned()) });
    }
    let below = target.strip_prefix(SecretPlace::DIRECTORY).and_then(|it| it.strip_prefix('/'));
    let file = parse(below.unwrap_or(target)).map_err(|_| refused())?;
    Ok(SecretRequest { name, place: SecretPlace::File(file) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, name: &str, place: &str) {
        let request = parse_request(text).expect("a request");
        assert_eq!((request.name.as_str(), request.place.shown().as_str()), (name, place));
    }

    #[test]
    fn a_secret_is_a_file_of_its_name_unless_told_otherwise() {
        check("KEY", "KEY", "/run/secrets/KEY");
        check("KEY=id_ed25519", "KEY", "/run/secrets/id_ed25519");
        check("KEY=/run/secrets/a.pem", "KEY", "/run/secrets/a.pem");
        check("KEY=env:TOKEN", "KEY", "env:TOKEN");
    }

    #[test]
    fn other_places_and_names_are_refused() {
        for text in
            ["", "=a", "a b", "-x", "../x", "KEY=/etc/passwd", "KEY=../x", "KEY=a/b", "KEY=env:1", "KEY="]
        {
            assert!(parse_request(text).is_err(), "{text}");
        }
        assert!(parse(&"x".repeat(65)).is_err());
    }
}
