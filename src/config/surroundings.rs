//! Who this process is and what its environment says about directories: read once, then a value.

use std::ffi::OsString;
use std::path::PathBuf;

/// The account that packages make for the server.
const SERVICE_ACCOUNT: &str = "aegis";
/// Bytes of the account database that are read.
const PASSWD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the choice of directories depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The effective user.
    pub uid: u32,
    /// What kind of user it is.
    pub account: Account,
    /// `$AEGIS_STATE_DIR`.
    pub state_dir: Option<PathBuf>,
    /// `$XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `$AEGIS_CONFIG`.
    pub config: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<PathBuf>,
    /// `$AEGIS_WORK_DIR`.
    pub work_dir: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// Where the system's services keep what a restart may lose.
    pub run: PathBuf,
}

/// Kinds of users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// Root, or the service account.
    System,
    /// A person.
    Person,
}

impl Surroundings {
    /// This process's own.
    pub fn of_this_process() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self {
            uid,
            account: if uid == 0 || is_service_account(uid) { Account::System } else { Account::Person },
            state_dir: variable("AEGIS_STATE_DIR"),
            xdg_state_home: variable("XDG_STATE_HOME"),
            xdg_runtime_dir: variable("XDG_RUNTIME_DIR"),
            config: variable("AEGIS_CONFIG"),
            xdg_config_home: variable("XDG_CONFIG_HOME"),
            work_dir: variable("AEGIS_WORK_DIR"),
            home: variable("HOME"),
            run: PathBuf::from("/run/aegis"),
        }
    }
}

/// An empty variable counts as unset.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|it: &OsString| !it.is_empty()).map(PathBuf::from)
}

fn is_service_account(uid: u32) -> bool {
    use std::io::Read;
    let mut text = String::new();
    let Ok(file) = std::fs::File::open("/etc/passwd") else { return false };
    if file.take(PASSWD_BYTES_MAX).read_to_string(&mut text).is_err() {
        return false;
    }
    names_service_account(&text, uid)
}

fn names_service_account(passwd: &str, uid: u32) -> bool {
    passwd.lines().any(|line| {
        let mut fields = line.split(':');
        fields.next() == Some(SERVICE_ACCOUNT) && fields.nth(1).and_then(|it| it.parse().ok()) == Some(uid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(passwd: &str, uid: u32, expected: bool) {
        assert_eq!(names_service_account(passwd, uid), expected);
    }

    #[test]
    fn the_account_is_known_by_its_name_and_number() {
        check("root:x:0:0::/root:/bin/sh\naegis:x:998:998::/var/lib/aegis:/usr/sbin/nologin\n", 998, true);
    }

    #[test]
    fn another_user_is_a_person() {
        check("aegis:x:998:998::/:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n", 1000, false);
    }

    #[test]
    fn half_a_line_names_nobody() {
        check("aegis:x", 998, false);
    }
}
