//! The policies inside the binary, and what a name after `--sandbox` stands for. A shipped name is always the shipped
//! policy: a file is named by a path with a `/` in it or by `.toml` at its end, so that no file can stand in for one.

use crate::intake::shown;
use crate::policy::Policy;
use crate::policy::document::{self, Document, DocumentError, Kind};
use crate::policy::lattice::bottom;

/// Every shipped policy, strictest first.
pub const NAMES: [&str; 2] = ["strict", "ci"];
/// The policy of a task that names none.
pub const DEFAULT: &str = "strict";

/// What somebody chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// One of [`NAMES`].
    Shipped(&'static str),
    /// A file, to be read and given to [`Chosen::from_file`].
    File(String),
}

/// Where a chosen policy comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// No policy was named.
    Default,
    /// A shipped one, by name.
    Shipped,
    /// A file, which extends a shipped policy.
    File(Document),
    /// A project's file, which begins from the policy that it names, or from the default.
    Project(Document),
}

/// A policy as it was chosen, before flags and ceiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The shipped name it is or extends.
    pub base: &'static str,
    /// What it says.
    pub policy: Policy,
    /// Where it comes from.
    pub source: Source,
}

/// A policy that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// No policy has this name.
    #[error("there is no policy {0}", unknown(.name))]
    Unknown {
        /// What was given.
        name: String,
    },
    /// The file has mistakes.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// What a text after `--sandbox` names.
pub fn select(text: &str) -> Result<Selection, ChoiceError> {
    if text.contains('/') || text.ends_with(".toml") {
        return Ok(Selection::File(text.to_owned()));
    }
    match NAMES.into_iter().find(|it| *it == text) {
        Some(name) => Ok(Selection::Shipped(name)),
        None => Err(ChoiceError::Unknown { name: text.to_owned() }),
    }
}

/// The policy of a task that names none.
pub fn default_policy() -> Result<Chosen, ChoiceError> {
    let chosen = shipped(DEFAULT)?;
    Ok(Chosen { source: Source::Default, ..chosen })
}

/// A shipped policy by its name.
pub fn shipped(name: &str) -> Result<Chosen, ChoiceError> {
    let (base, text) = match name {
        "strict" => ("strict", include_str!("../../policies/strict.toml")),
        "ci" => ("ci", include_str!("../../policies/ci.toml")),
        _ => return Err(ChoiceError::Unknown { name: name.to_owned() }),
    };
    // A shipped file writes every key, which a test holds; what it should forget is granted to nobody.
    let document = document::parse(&format!("policies/{base}.toml"), text.as_bytes(), Kind::Policy)?;
    Ok(Chosen { base, policy: document.over(&bottom())?, source: Source::Shipped })
}

/// The rest of a sentence about a name that no shipped policy has.
pub(crate) fn unknown(name: &str) -> String {
    let meant = match document::nearest_word(name, &NAMES) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => String::new(),
    };
    format!(
        "`{}`{meant} (there is `{}`; a file is named by a path with `/` or `.toml`)",
        shown(name),
        NAMES.join("`, `")
    )
}

impl Chosen {
    /// The policy of a file: `file` is its name as it is shown.
    pub fn from_file(file: &str, bytes: &[u8]) -> Result<Self, ChoiceError> {
        let document = document::parse(file, bytes, Kind::Policy)?;
        let base = shipped(document.extends.as_deref().unwrap_or(DEFAULT))?;
        Ok(Self { base: base.base, policy: document.over(&base.policy)?, source: Source::File(document) })
    }

    /// The name it is recorded under: the shipped name, or the file's.
    pub fn name(&self) -> &str {
        match &self.source {
            Source::Default | Source::Shipped | Source::Project(_) => self.base,
            Source::File(document) => &document.file,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::field::FIELDS;

    fn check(text: &str, expected: Result<Selection, &str>) {
        let selected = select(text).map_err(|it| it.to_string());
        assert_eq!(selected, expected.map_err(str::to_owned));
    }

    #[test]
    fn a_shipped_name_is_the_shipped_policy() {
        check("strict", Ok(Selection::Shipped("strict")));
    }

    #[test]
    fn a_path_is_a_file_and_never_a_shipped_policy() {
        for text in ["./strict", "strict.toml", "/etc/strict", "a/b"] {
            check(text, Ok(Selection::File(text.to_owned())));
        }
    }

    #[test]
    fn an_unknown_name_is_told_the_nearest_and_the_list() {
        let list = "(there is `strict`, `ci`; a file is named by a path with `/` or `.toml`)";
        check("strickt", Err(&format!("there is no policy `strickt`; did you mean `strict`? {list}")));
        check("anything", Err(&format!("there is no policy `anything` {list}")));
        check("", Err(&format!("there is no policy `` {list}")));
    }

    #[test]
    fn every_shipped_policy_writes_every_key() {
        for name in NAMES {
            let path = format!("{}/policies/{name}.toml", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read(path).expect("the file is there");
            let document = document::parse(name, &text, Kind::Policy).expect("no mistakes");
            for field in FIELDS {
                assert!(document.settings.contains_key(&field), "{name} lacks {}", field.key().path);
            }
        }
    }

    #[test]
    fn strict_is_what_the_documentation_says() {
        let strict = shipped("strict").expect("strict").policy;
        insta::assert_snapshot!(crate::policy::canonical::render(&strict), @r#"
        aegis-policy/1
        filesystem.workspace = "memory"
        filesystem.workspace_size = "512MiB"
        filesystem.workspace_files = 200000
        filesystem.tmp_size = "256MiB"
        filesystem.home_size = "64MiB"
        filesystem.run_size = "16MiB"
        filesystem.shm_size = "64MiB"
        filesystem.include_secrets = []
        process.ptrace = false
        resources.memory = "1GiB"
        resources.cpus = 2
        resources.pids = 256
        resources.nofile_soft = 1024
        resources.nofile_hard = 65536
        resources.wall_time = "10m"
        resources.output_size = "64MiB"
        outputs.size = "256MiB"
        outputs.entries = 10000
        outputs.depth = 64
        network.egress = "none"
        network.ports = [80, 443]
        network.allow = []
        network.deny = []
        network.audit = false
        network.publish = []
        images.pull = "never"
        images.allow = ["*"]
        images.require_digest = false
        images.pins = {}
        runtimes = ["runc"]
        secrets.files = []
        secrets.environment = []
        outputs.secrets = "report"
        "#);
    }

    #[test]
    fn a_file_extends_strict_and_is_recorded_by_its_path() {
        let chosen = Chosen::from_file("./strict.toml", b"[resources]\npids = 10").expect("a policy");
        assert_eq!((chosen.name(), chosen.policy.resources.pids), ("./strict.toml", 10));
        assert_eq!(chosen.policy.filesystem, shipped("strict").expect("strict").policy.filesystem);
    }

    #[test]
    fn a_contradiction_with_what_is_inherited_is_placed() {
        let refusal = Chosen::from_file("p", b"[resources]\nnofile_hard = 512").expect_err("a refusal");
        let message = "p:2:15: `resources.nofile_soft` (1024) is above `resources.nofile_hard` (512), one of them \
                       inherited: write both";
        assert_eq!(refusal.to_string(), message);
    }
}
