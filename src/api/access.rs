//! Who may come in: tokens, and what is written down of refusals and changes.

use crate::record::Pending;

/// What a caller may do. Each includes what is before it, except that `approve` does not submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Look.
    Read,
    /// Submit, cancel, try again.
    Submit,
    /// Approve what waits for it.
    Approve,
    /// Everything, tokens too.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Read, Self::Submit, Self::Approve, Self::Admin];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Approve => "approve",
            Self::Admin => "admin",
        }
    }

    /// The role with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }
}

/// Who a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The one project that it opens; `None` is every one.
    pub project: Option<String>,
}

/// A token that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Who it stands for.
    pub identity: Identity,
    /// SHA-256 of its secret.
    pub sha256: [u8; 32],
    /// When it ends; `None` when it is revoked.
    pub expires_ms: Option<i64>,
}

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Who it stands for.
    pub identity: Identity,
    /// When it was made.
    pub created_ms: i64,
    /// When it ends.
    pub expires_ms: Option<i64>,
    /// When it was last used.
    pub last_used_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
}

/// Something that is written down and never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Who: `uid:1000`, `token:NAME`, `-` for nobody that is known.
    pub who: String,
    /// What was tried: method and route.
    pub what: String,
    /// `allowed` or `refused`, with the code.
    pub decision: String,
    /// What it was about: a run, a token, a digest.
    pub object: String,
}

/// Tokens and the audit.
pub trait Access: Send + Sync {
    /// Who this secret's digest stands for; `None` when it is unknown, revoked or past its end.
    fn authenticate(&self, sha256: [u8; 32]) -> Pending<'_, Option<Identity>>;

    /// Keeps a token; `false` when the name is taken.
    fn create_token<'a>(&'a self, token: &'a NewToken) -> Pending<'a, bool>;

    /// Ends a token; `false` when there is none of this name that is valid.
    fn revoke_token<'a>(&'a self, name: &'a str) -> Pending<'a, bool>;

    /// Every token, by name.
    fn tokens(&self) -> Pending<'_, Vec<Token>>;

    /// Writes something down.
    fn audit<'a>(&'a self, event: &'a Audit) -> Pending<'a, ()>;
}
