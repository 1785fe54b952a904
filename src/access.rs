//! Floor 2, a port: who may speak to a server, for which project, within which quotas, and what was decided about it.
//! Plain types and one trait. A token's secret is never here, only its digest.

use crate::record::Pending;

/// Bytes of a name (of a token, a project) at the most.
pub const NAME_BYTES_MAX: usize = 64;
/// Entries of the audit trail that one look gives at the most.
pub const AUDIT_PAGE_MAX: u32 = 1_000;

/// What a token may do. Each role may do what it says and nothing else, but `admin`, which may do everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Submit runs, see and end those of its project.
    Submit,
    /// See runs.
    Read,
    /// Let runs go on that wait for it.
    Approve,
    /// Everything.
    Admin,
    /// Hand in what runs under its leases left behind, and fetch what they need. It sees no runs.
    Worker,
}

/// A token that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its name, unique among all that were ever made.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// In which project; `None` is every one.
    pub project: Option<String>,
    /// Digest of its secret.
    pub secret_sha256: [u8; 32],
    /// From when on it is refused; `None` is never.
    pub expires_ms: Option<i64>,
    /// Who made it.
    pub created_by: String,
}

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// In which project; `None` is every one.
    pub project: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_ms: i64,
    /// From when on it is refused; `None` is never.
    pub expires_ms: Option<i64>,
    /// When it was used last, to the minute; `None` is never.
    pub last_used_ms: Option<i64>,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
}

/// Who a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// In which project; `None` is every one.
    pub project: Option<String>,
}

/// What a secret stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authenticated {
    /// This token.
    As(Identity),
    /// A token whose time is over.
    Expired {
        /// Its name.
        name: String,
    },
    /// A token that was revoked.
    Revoked {
        /// Its name.
        name: String,
    },
    /// Nothing.
    Unknown,
}

/// Whether a token was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a name that is taken is told here"]
pub enum Created {
    /// It was.
    Created,
    /// There is, or was, one of this name.
    NameTaken,
}

/// Whether a token was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a name that nobody has is told here"]
pub enum Revoked {
    /// It is, now or since earlier.
    Revoked,
    /// There is none of this name.
    Unknown,
}

/// What runs of one project may use together. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Runs at once.
    pub runs_max: Option<u64>,
    /// Runs that wait.
    pub queued_max: Option<u64>,
    /// CPU seconds a day (UTC).
    pub cpu_seconds_day_max: Option<u64>,
    /// Bytes of kept outputs.
    pub storage_bytes_max: Option<u64>,
}

impl Quotas {
    /// No limit.
    pub const NONE: Self =
        Self { runs_max: None, queued_max: None, cpu_seconds_day_max: None, storage_bytes_max: None };
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// What its runs may use together.
    pub quotas: Quotas,
    /// A policy that its runs may not exceed, TOML; `None` is the server's alone.
    pub ceiling: Option<String>,
    /// Images that its runs may use; `None` is what policy allows.
    pub images: Option<Vec<String>>,
    /// Secrets of the server's store that its runs may be given; `None` is none.
    pub secrets: Option<Vec<String>>,
}

/// How something was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was done.
    Allowed,
    /// It was refused.
    Refused,
}

/// Something that was asked for and decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAudit {
    /// Who asked: `uid:1000`, `token:NAME`, `unknown`.
    pub who: String,
    /// What for: a verb of the server's.
    pub what: String,
    /// How it was decided.
    pub decision: Decision,
    /// On what: a run's id, a token's or project's name.
    pub object: Option<String>,
    /// The request, as the client was told it.
    pub request_id: Option<String>,
    /// More about it, a JSON object.
    pub detail: String,
}

/// An entry of the audit trail. Entries are appended and never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Grows with each entry.
    pub seq: u64,
    /// When.
    pub at_ms: i64,
    /// What was asked for and decided.
    pub entry: NewAudit,
}

/// Tokens, projects and the audit trail. Both databases behave alike.
pub trait Access: Send + Sync {
    /// Makes a token. Where it is made, `audit` is on disk with it.
    fn create_token<'a>(&'a self, token: &'a NewToken, audit: Option<&'a NewAudit>) -> Pending<'a, Created>;

    /// Refuses a token from now on; with `audit`, as it is made.
    fn revoke_token<'a>(&'a self, name: &'a str, audit: Option<&'a NewAudit>) -> Pending<'a, Revoked>;

    /// Every token, by name.
    fn tokens(&self) -> Pending<'_, Vec<Token>>;

    /// What the secret with this digest stands for; notes its use.
    fn authenticate<'a>(&'a self, secret_sha256: &'a [u8; 32]) -> Pending<'a, Authenticated>;

    /// Makes a project, or changes it.
    fn put_project<'a>(&'a self, project: &'a Project, audit: Option<&'a NewAudit>) -> Pending<'a, ()>;

    /// The project of this name. Runs may be submitted to one that was never made: it has no quotas.
    fn project<'a>(&'a self, name: &'a str) -> Pending<'a, Option<Project>>;

    /// Every project that was made, by name.
    fn projects(&self) -> Pending<'_, Vec<Project>>;

    /// Appends to the audit trail.
    fn audit<'a>(&'a self, entry: &'a NewAudit) -> Pending<'a, ()>;

    /// Newest first, before this number where one is given; at most `count_max` and [`AUDIT_PAGE_MAX`].
    fn audits(&self, before_seq: Option<u64>, count_max: u32) -> Pending<'_, Vec<Audit>>;
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Submit, Self::Read, Self::Approve, Self::Admin, Self::Worker];

    /// The word for it in records and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Approve => "approve",
            Self::Admin => "admin",
            Self::Worker => "worker",
        }
    }

    /// The role with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }
}

impl Decision {
    /// The word for it in records and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
        }
    }

    /// The decision with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Allowed, Self::Refused].into_iter().find(|it| it.word() == word)
    }
}
