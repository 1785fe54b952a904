//! Who asks: the peer of a Unix socket by what the kernel says of it, everybody else by a token.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::access::{Access, Authenticated, Identity, Role};
use crate::api::problem::Problem;
use crate::record::RecordError;

/// How long a token that was found valid counts as valid without another look.
const BELIEVED: Duration = Duration::from_secs(1);
/// Tokens that are believed at once.
const BELIEVED_MAX: usize = 4096;
/// Bytes of a token at the most.
const TOKEN_BYTES_MAX: usize = 256;
/// The project of runs that name none.
const PROJECT_DEFAULT: &str = "default";

/// Where a connection came in, and from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A user of this host, as the kernel says, with what the socket lets them do; `None` is nobody that it lets in.
    Local(Option<Caller>),
    /// Anybody: a token decides. `hosts` are the names that a request may be for; `None` is any.
    Remote {
        /// Names without ports.
        hosts: Option<Vec<String>>,
    },
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `uid:1000` or `token:NAME`.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The one project that is open; `None` is every one.
    pub project: Option<String>,
    /// Digest of the token, by which a long stream asks again whether it is still valid.
    pub token: Option<[u8; 32]>,
}

impl Caller {
    /// Who a token stands for.
    fn of(identity: Identity, token: [u8; 32]) -> Self {
        let Identity { name, role, project } = identity;
        Self { name: format!("token:{name}"), role, project, token: Some(token) }
    }

    /// Whether this project's runs are open; `None` is a run that no server took.
    pub fn sees(&self, project: Option<&str>) -> bool {
        match &self.project {
            None => true,
            Some(own) => project == Some(own.as_str()),
        }
    }

    /// The project that a request is for.
    pub fn project_for(&self, asked: Option<&str>) -> Result<String, Problem> {
        match (&self.project, asked) {
            (None, None) => Ok(PROJECT_DEFAULT.to_owned()),
            (Some(own), None) => Ok(own.clone()),
            (Some(own), Some(asked)) if own != asked => {
                Err(Problem::forbidden("this token opens another project: leave `project` out"))
            }
            (_, Some(asked)) if is_project(asked) => Ok(asked.to_owned()),
            (_, Some(_)) => Err(Problem::field(
                "project",
                "use 1 to 63 lower-case letters, digits and `-_.`, a letter or digit first",
            )),
        }
    }
}

/// Whether this is a project's name: it stands in paths and messages.
pub fn is_project(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
    let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-_.".contains(&it);
    first && text.len() <= 63 && text.bytes().all(plain)
}

/// The token of a request: exactly one header, the one scheme.
pub fn bearer(headers: &HeaderMap) -> Option<[u8; 32]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let plain = |it: u8| it.is_ascii_graphic();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    token.bytes().all(plain).then(|| digest(token))
}

/// What is kept of a token's secret. It is random and long, so that a plain digest is as good as a slow one, and what is
/// looked up is the digest: time tells nothing of the secret.
pub fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Tokens that were found valid a moment ago: a busy caller costs one look a second.
#[derive(Debug, Default)]
pub struct Believed(Mutex<HashMap<[u8; 32], (Instant, Identity)>>);

impl Believed {
    /// Who a token stands for, if it is valid.
    pub async fn caller(&self, access: &dyn Access, token: [u8; 32]) -> Result<Option<Caller>, RecordError> {
        if let Some(identity) = self.fresh(token) {
            return Ok(Some(Caller::of(identity, token)));
        }
        let identity = match access.authenticate(&token).await? {
            Authenticated::As(identity) => identity,
            // They look alike to who asks; nobody learns that a token once was one.
            Authenticated::Expired { .. } | Authenticated::Revoked { .. } | Authenticated::Unknown => {
                return Ok(None);
            }
        };
        self.keep(token, identity.clone());
        Ok(Some(Caller::of(identity, token)))
    }

    /// Forgets all of them: a token was revoked.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn fresh(&self, token: [u8; 32]) -> Option<Identity> {
        let believed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, identity) = believed.get(&token)?;
        (since.elapsed() < BELIEVED).then(|| identity.clone())
    }

    fn keep(&self, token: [u8; 32], identity: Identity) {
        let mut believed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if believed.len() >= BELIEVED_MAX {
            believed.clear();
        }
        believed.insert(token, (Instant::now(), identity));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str], expected: bool) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().expect("a value"));
        }
        assert_eq!(bearer(&headers).is_some(), expected, "{values:?}");
    }

    #[test]
    fn only_one_plain_bearer_token_is_read() {
        check(&["Bearer abc"], true);
        check(&["bearer abc"], true);
        for values in
            [&["Basic abc"][..], &["Bearer "], &["Bearer"], &["Bearer a b"], &["Bearer a", "Bearer b"], &[]]
        {
            check(values, false);
        }
    }

    #[test]
    fn a_project_is_a_plain_word() {
        for (text, fits) in
            [("a", true), ("user-1000", true), ("..", false), ("", false), ("a/b", false), ("A", false)]
        {
            assert_eq!(is_project(text), fits, "{text}");
        }
    }

    #[test]
    fn a_caller_of_one_project_sees_no_other_and_none_without() {
        let caller =
            Caller { name: "token:a".into(), role: Role::Admin, project: Some("a".into()), token: None };
        assert!(caller.sees(Some("a")));
        assert!(!caller.sees(Some("b")));
        assert!(!caller.sees(None));
        assert!(caller.project_for(Some("b")).is_err());
    }
}
