//! The operator's configuration: how this host's gateways reach other hosts, and which credentials they may add. One TOML
//! file; that there is none is fine, that it has a mistake is not.

mod document;
mod retention;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::retention::Retention;
use crate::config::surroundings::{Account, Surroundings};
use crate::policy::document::DocumentError;

pub use document::Credential;

/// Bytes of the file.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What the operator configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Resolvers that gateways ask; none: the host's own.
    pub resolvers: Vec<SocketAddr>,
    /// Files of further authorities that upstream servers are verified with, beside the system's.
    pub roots: Vec<PathBuf>,
    /// The upstream proxy: host and port.
    pub proxy: Option<(String, u16)>,
    /// Credentials by name.
    pub credentials: BTreeMap<String, Credential>,
    /// How long things are kept, and how much of them.
    pub retention: Retention,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Mistakes in it.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The file that a variable names cannot be read.
    #[error("the operator's configuration `{}` cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Operator {
    /// The configuration of this process's user.
    pub fn of_this_user() -> Result<Self, OperatorError> {
        match place(&Surroundings::of_this_process()) {
            Some((path, named)) => Self::read(&path, named),
            None => Ok(Self::none()),
        }
    }

    /// What holds where nothing is configured.
    pub fn none() -> Self {
        let retention = Retention::standard();
        Self {
            resolvers: Vec::new(),
            roots: Vec::new(),
            proxy: None,
            credentials: BTreeMap::new(),
            retention,
        }
    }

    fn read(path: &Path, named: bool) -> Result<Self, OperatorError> {
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => {
                return Ok(Self::none());
            }
            Err(source) => return Err(OperatorError::Unreadable { path: path.to_owned(), source }),
        };
        Ok(document::parse(&path.display().to_string(), &bytes)?)
    }
}

/// Where the file is, and whether somebody named that very place, so that it must be there.
fn place(surroundings: &Surroundings) -> Option<(PathBuf, bool)> {
    if let Some(path) = &surroundings.config {
        return Some((path.clone(), true));
    }
    if surroundings.account == Account::System {
        return Some((PathBuf::from("/etc/aegis/config.toml"), false));
    }
    // The specification has relative paths ignored.
    let configured = surroundings.xdg_config_home.clone().filter(|it| it.is_absolute());
    let home = surroundings.home.clone().filter(|it| it.is_absolute()).map(|it| it.join(".config"));
    configured.or(home).map(|it| (it.join("aegis/config.toml"), false))
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;

    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_place(
        account: Account,
        config: Option<&str>,
        xdg: Option<&str>,
        expected: Option<(&str, bool)>,
    ) {
        let surroundings = Surroundings {
            uid: 1000,
            account,
            config: config.map(PathBuf::from),
            xdg_config_home: xdg.map(PathBuf::from),
            state_dir: None,
            xdg_state_home: None,
            xdg_runtime_dir: None,
            work_dir: None,
            home: Some(PathBuf::from("/home/alice")),
            run: PathBuf::from("/run/aegis"),
        };
        assert_eq!(place(&surroundings), expected.map(|(path, named)| (PathBuf::from(path), named)));
    }

    #[test]
    fn each_user_has_one_place() {
        check_place(Account::System, None, Some("/x"), Some(("/etc/aegis/config.toml", false)));
        check_place(Account::Person, None, Some("/x"), Some(("/x/aegis/config.toml", false)));
        check_place(Account::Person, None, None, Some(("/home/alice/.config/aegis/config.toml", false)));
        check_place(Account::System, Some("/c.toml"), None, Some(("/c.toml", true)));
    }

    #[test]
    fn an_absent_file_is_fine_unless_it_was_named() {
        let absent = Path::new("/nonexistent/config.toml");
        assert_eq!(Operator::read(absent, false).ok(), Some(Operator::none()));
        assert!(matches!(Operator::read(absent, true), Err(OperatorError::Unreadable { .. })));
    }
}
