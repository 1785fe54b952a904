//! Image references and the globs that policies write for them.
//!
//! One image has several spellings: `aegis/base`, `aegis/base:latest`, `docker.io/aegis/base:latest`. A glob matches a
//! reference when it matches any of them, since the engine runs the same image for each. `*` matches any characters,
//! `/` and `:` among them, so `aegis/*` covers every tag and digest below `aegis/`, and `debian:12` only that tag.

use globset::{GlobBuilder, GlobMatcher};

use crate::intake::shown;

/// Characters of a reference, as in the engine's own limit on names with room for tag and digest.
const REFERENCE_BYTES_MAX: usize = 512;
/// Characters of a glob.
const GLOB_BYTES_MAX: usize = 256;
/// Hexadecimal digits of a SHA-256.
const DIGEST_DIGITS: usize = 64;

/// An image reference, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    typed: String,
    name: Name,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// An image id.
    Id(String),
    /// A name in a repository.
    Repository { domain: String, path: String, tag: Option<String>, digest: Option<String> },
}

/// Text that is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was given.
    #[error("an image reference is empty: write a name, such as `aegis/base`")]
    Empty,
    /// Not of the engine's form.
    #[error("`{text}` is not an image reference: {reason}")]
    Malformed {
        /// What was given.
        text: String,
        /// Which part is wrong.
        reason: &'static str,
    },
}

/// Text that is no glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a glob: {reason}")]
pub struct GlobError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Reference {
    /// Takes a reference apart.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let malformed = |reason| ReferenceError::Malformed { text: shown(text), reason };
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(malformed("it is longer than 512 characters"));
        }
        if is_image_id(text) {
            return Ok(Self { typed: text.to_owned(), name: Name::Id(text.to_owned()) });
        }
        let (named, digest) = match text.split_once('@') {
            Some((_, digest)) if !is_image_id(digest) => {
                return Err(malformed("what follows `@` is `sha256:` and 64 lower-case hexadecimal digits"));
            }
            Some((named, digest)) => (named, Some(digest.to_owned())),
            None => (text, None),
        };
        let (repository, tag) = match named.rsplit_once(':') {
            // A colon before the last slash belongs to a registry's port.
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag.to_owned())),
            Some(_) | None => (named, None),
        };
        if tag.as_deref().is_some_and(|it| !is_tag(it)) {
            return Err(malformed("a tag is 1 to 128 letters, digits, `_`, `.` or `-`, no `.` or `-` first"));
        }
        let (domain, path) = split_domain(repository);
        if !is_domain(&domain) || !path.split('/').all(is_component) {
            return Err(malformed(
                "a name is lower-case letters and digits with single `.`, `_`, `-` between, parts joined by `/`",
            ));
        }
        Ok(Self { typed: text.to_owned(), name: Name::Repository { domain, path, tag, digest } })
    }

    /// As it was typed.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// Whether the reference itself says which content it names.
    pub fn has_digest(&self) -> bool {
        match &self.name {
            Name::Id(_) => true,
            Name::Repository { digest, .. } => digest.is_some(),
        }
    }

    /// The short form with its tag, by which pins are kept: `aegis/base:latest`.
    pub fn normal(&self) -> String {
        match &self.name {
            Name::Id(id) => id.clone(),
            Name::Repository { domain, path, tag, digest } => {
                spelled(&short_repository(domain, path), tag.as_deref(), digest.as_deref())
            }
        }
    }

    /// What pins are looked up by: the normal form, and without its digest where it has a tag as well.
    pub fn pin_keys(&self) -> Vec<String> {
        let mut keys = vec![self.normal()];
        if let Name::Repository { domain, path, tag: Some(tag), digest: Some(_) } = &self.name {
            keys.push(spelled(&short_repository(domain, path), Some(tag), None));
        }
        keys
    }

    /// Every spelling that globs are held against.
    pub fn spellings(&self) -> Vec<String> {
        let mut spellings = vec![self.typed.clone(), self.normal()];
        if let Name::Repository { domain, path, tag, digest } = &self.name {
            spellings.push(spelled(&format!("{domain}/{path}"), tag.as_deref(), digest.as_deref()));
        }
        spellings.dedup();
        spellings
    }

    /// Whether a glob matches any spelling. A text that is no glob matches nothing.
    pub fn matches(&self, glob: &str) -> bool {
        let Ok(matcher) = matcher(glob) else {
            return false;
        };
        self.spellings().iter().any(|it| matcher.is_match(it))
    }
}

/// Whether this is an image id: `sha256:` and 64 lower-case hexadecimal digits.
pub fn is_image_id(text: &str) -> bool {
    let lower_hex = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
    text.strip_prefix("sha256:").is_some_and(|it| it.len() == DIGEST_DIGITS && it.bytes().all(lower_hex))
}

/// Compiles a glob, which shows that it is one.
pub fn matcher(glob: &str) -> Result<GlobMatcher, GlobError> {
    let refused = |reason: &str| GlobError { text: shown(glob), reason: reason.to_owned() };
    if glob.is_empty() {
        return Err(refused("it is empty"));
    }
    if glob.len() > GLOB_BYTES_MAX {
        return Err(refused("it is longer than 256 characters"));
    }
    if !glob.bytes().all(|it| it.is_ascii_graphic()) || glob.contains('\\') {
        return Err(refused(
            "an image reference has no spaces, backslashes, control or non-ASCII characters",
        ));
    }
    let built = GlobBuilder::new(glob).literal_separator(false).backslash_escape(false).build();
    built.map(|it| it.compile_matcher()).map_err(|err| refused(&err.kind().to_string()))
}

/// The engine's rule: the part before the first slash is a registry when it has a dot, a colon or is `localhost`.
fn split_domain(repository: &str) -> (String, String) {
    let default = "docker.io";
    let (domain, path) = match repository.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        Some(_) | None => (default, repository),
    };
    let domain = if domain == "index.docker.io" { default } else { domain };
    if domain == default && !path.contains('/') {
        return (domain.to_owned(), format!("library/{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn short_repository(domain: &str, path: &str) -> String {
    if domain != "docker.io" {
        return format!("{domain}/{path}");
    }
    match path.strip_prefix("library/") {
        Some(official) if !official.contains('/') => official.to_owned(),
        Some(_) | None => path.to_owned(),
    }
}

fn spelled(repository: &str, tag: Option<&str>, digest: Option<&str>) -> String {
    match (tag, digest) {
        (Some(tag), Some(digest)) => format!("{repository}:{tag}@{digest}"),
        (None, Some(digest)) => format!("{repository}@{digest}"),
        (tag, None) => format!("{repository}:{}", tag.unwrap_or("latest")),
    }
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'.' | b'-'))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = domain.split_once(':').unwrap_or((domain, "0"));
    let label = |it: &str| {
        !it.is_empty()
            && !it.starts_with('-')
            && !it.ends_with('-')
            && it.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(label) && port.parse::<u16>().is_ok()
}

fn is_component(component: &str) -> bool {
    let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_plain = |it: Option<&u8>| it.is_some_and(|byte| plain(*byte));
    let separators = component.split(|it: char| it.is_ascii_lowercase() || it.is_ascii_digit());
    let separated = |it: &str| matches!(it, "" | "." | "_" | "__") || it.bytes().all(|byte| byte == b'-');
    ends_plain(bytes.first()) && ends_plain(bytes.last()) && separators.into_iter().all(separated)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn check(text: &str, spellings: &[&str]) {
        assert_eq!(Reference::parse(text).expect("a reference").spellings(), spellings);
    }

    fn check_refused(text: &str, message: &str) {
        let refusal = Reference::parse(text).expect_err("a refusal").to_string();
        assert!(refusal.contains(message), "`{refusal}` lacks `{message}`");
    }

    fn check_match(text: &str, glob: &str, expected: bool) {
        assert_eq!(
            Reference::parse(text).expect("a reference").matches(glob),
            expected,
            "`{text}` and `{glob}`"
        );
    }

    #[test]
    fn a_name_without_tag_means_latest() {
        check("aegis/base", &["aegis/base", "aegis/base:latest", "docker.io/aegis/base:latest"]);
    }

    #[test]
    fn an_official_name_has_its_long_form() {
        check("debian:12", &["debian:12", "docker.io/library/debian:12"]);
        check(
            "docker.io/library/debian",
            &["docker.io/library/debian", "debian:latest", "docker.io/library/debian:latest"],
        );
    }

    #[test]
    fn a_port_is_no_tag() {
        check("localhost:5000/app", &["localhost:5000/app", "localhost:5000/app:latest"]);
    }

    #[test]
    fn a_digest_stands_instead_of_a_tag() {
        let typed = format!("ghcr.io/a/b@{DIGEST}");
        check(&typed, &[&typed]);
    }

    #[test]
    fn an_id_is_its_only_spelling() {
        check(DIGEST, &[DIGEST]);
    }

    #[test]
    fn malformed_references_are_refused() {
        check_refused("", "empty");
        check_refused("Aegis/base", "lower-case");
        check_refused("a//b", "lower-case");
        check_refused("../b", "lower-case");
        check_refused("a b", "lower-case");
        check_refused("a:", "a tag is");
        check_refused("a:-x", "a tag is");
        check_refused("a@sha256:12", "64 lower-case hexadecimal digits");
        check_refused(&"a".repeat(600), "longer than 512");
        check_refused("host:99999/a", "lower-case");
    }

    #[test]
    fn a_star_crosses_slashes_and_tags() {
        check_match("ghcr.io/a/b:1", "*", true);
        check_match("aegis/base:2", "aegis/*", true);
    }

    #[test]
    fn a_glob_meets_every_spelling() {
        check_match("aegis/base", "aegis/base:latest", true);
        check_match("aegis/base:latest", "aegis/base:latest", true);
        check_match("debian", "docker.io/library/*", true);
        check_match("docker.io/library/debian:latest", "debian:*", true);
    }

    #[test]
    fn a_glob_matches_the_whole_reference_only() {
        check_match("evil/aegis/base", "aegis/*", false);
        check_match("debian:12-evil", "debian:12", false);
        check_match("debian", "", false);
    }

    #[test]
    fn bad_globs_are_refused() {
        for glob in ["", "a b", "a\\b", "[", "{a", &"a".repeat(300)] {
            assert!(matcher(glob).is_err(), "`{glob}`");
        }
    }

    #[test]
    fn a_pin_of_a_tag_holds_for_the_tag_with_a_digest_too() {
        let reference = Reference::parse(&format!("aegis/base:1@{DIGEST}")).expect("a reference");
        assert_eq!(reference.pin_keys(), [format!("aegis/base:1@{DIGEST}"), "aegis/base:1".to_owned()]);
    }
}
