//! Credentials for a registry, from the file that `docker login` writes or the helper that it names. They go to the
//! engine with one pull and nowhere else: no message, no log and no `Debug` shows them.

mod json;

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Bytes of a login file, and of a helper's answer, at the most.
const BYTES_MAX: u64 = 1024 * 1024;
/// Seconds that a helper may take; it may ask a person or a key ring.
const HELPER_SECONDS_MAX: u64 = 60;
/// The user name by which a helper says that its secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Why credentials that should be there could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file is there and cannot be read.
    #[error("the login file `{path}` cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what `docker login` writes.
    #[error("the login file `{path}` is damaged: {reason}; `docker login {registry}` writes it anew")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never its content.
        reason: String,
        /// The registry that was looked for.
        registry: String,
    },
    /// The file names a helper that does not help.
    #[error("the credential helper `{helper}` that `{path}` names {reason}")]
    Helper {
        /// The program.
        helper: String,
        /// The file.
        path: PathBuf,
        /// What it did.
        reason: String,
    },
    /// The engine would not understand them.
    #[error(
        "the credentials for `{registry}` hold a character that cannot be sent to the engine here; `docker pull` the \
         image, or use an access token"
    )]
    Unsendable {
        /// The registry.
        registry: String,
    },
}

/// Where `docker login` keeps its file: in `$DOCKER_CONFIG`, else in `.docker` of the home directory.
pub fn login_file(docker_config: Option<&OsStr>, home: Option<&Path>) -> Option<PathBuf> {
    match docker_config {
        Some(directory) if !directory.is_empty() => Some(Path::new(directory).join("config.json")),
        Some(_) | None => home.map(|it| it.join(".docker/config.json")),
    }
}

/// The credentials for a registry; `None` where there is no file, or it does not know the registry.
pub(super) async fn find(file: &Path, registry: &str) -> Result<Option<DockerCredentials>, CredentialsError> {
    let Some(bytes) = read(file)? else {
        return Ok(None);
    };
    let damaged = |reason: String| CredentialsError::Damaged {
        path: file.to_owned(),
        reason,
        registry: registry.to_owned(),
    };
    // The line and column of the mistake are safe to show, the text around it is not.
    let place = json::place(&bytes, registry)
        .map_err(|it| damaged(format!("no JSON at line {}, column {}", it.line(), it.column())))?;
    let (username, password, identity_token) = match place {
        json::Place::Nowhere => return Ok(None),
        json::Place::Helper(helper) => match ask_helper(&helper, file, registry).await? {
            Some(answer) if answer.username == TOKEN_USER => {
                (String::new(), String::new(), Some(answer.secret))
            }
            Some(answer) => (answer.username, answer.secret, None),
            None => return Ok(None),
        },
        json::Place::Here { auth, identity_token } => {
            let (username, password) = decode(&auth)
                .ok_or_else(|| damaged(format!("the entry for `{registry}` is no base64 of a login")))?;
            (username, password, identity_token)
        }
    };
    if username.is_empty() && identity_token.is_none() {
        return Ok(None);
    }
    let credentials = DockerCredentials {
        username: Some(username),
        password: Some(password),
        identitytoken: identity_token,
        serveraddress: Some(registry.to_owned()),
        ..Default::default()
    };
    if sendable(&credentials) {
        Ok(Some(credentials))
    } else {
        Err(CredentialsError::Unsendable { registry: registry.to_owned() })
    }
}

fn read(file: &Path) -> Result<Option<Vec<u8>>, CredentialsError> {
    let unreadable = |source| CredentialsError::Unreadable { path: file.to_owned(), source };
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    opened.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(unreadable(io::Error::other("it is larger than 1 MiB")));
    }
    Ok(Some(bytes))
}

fn decode(auth: &str) -> Option<(String, String)> {
    if auth.is_empty() {
        return Some((String::new(), String::new()));
    }
    let login = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    let (username, password) = login.split_once(':')?;
    // Some clients end the password with a NUL.
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Runs `docker-credential-NAME get`: the registry on its standard input, JSON on its standard output.
async fn ask_helper(
    name: &str,
    file: &Path,
    registry: &str,
) -> Result<Option<json::Answer>, CredentialsError> {
    let helper = format!("docker-credential-{name}");
    let failed =
        |reason: String| CredentialsError::Helper { helper: helper.clone(), path: file.to_owned(), reason };
    if !name.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.')) {
        return Err(failed("is no name of a program".to_owned()));
    }
    let asked =
        tokio::time::timeout(Duration::from_secs(HELPER_SECONDS_MAX), run_helper(&helper, registry)).await;
    let (success, printed) = match asked {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => return Err(failed(format!("cannot be run: {error}"))),
        Err(_) => return Err(failed(format!("did not answer within {HELPER_SECONDS_MAX} s"))),
    };
    if success {
        return match json::answer(&printed) {
            Some(answer) => Ok(Some(answer)),
            None => Err(failed("answered with no credentials".to_owned())),
        };
    }
    // This sentence is part of the helpers' protocol: the store works and does not know the registry.
    if String::from_utf8_lossy(&printed).contains("credentials not found") {
        return Ok(None);
    }
    Err(failed(format!("failed for `{registry}`; `echo {registry} | {helper} get` shows why")))
}

async fn run_helper(helper: &str, registry: &str) -> io::Result<(bool, Vec<u8>)> {
    let mut command = Command::new(helper);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(registry.as_bytes()).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    let mut printed = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(BYTES_MAX).read_to_end(&mut printed).await?;
    }
    Ok((child.wait().await?.success(), printed))
}

/// bollard writes the header in the standard base64 alphabet and the engine reads the one for addresses. They differ in
/// two letters: where one of them would appear, the engine would drop the credentials without a word.
fn sendable(credentials: &DockerCredentials) -> bool {
    match serde_json::to_vec(credentials) {
        Ok(header) => !STANDARD.encode(header).contains(['+', '/']),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What is found for `127.0.0.1:5000` in a login file, as `user/password/token`.
    async fn found(content: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        std::fs::write(&file, content).unwrap();
        match find(&file, "127.0.0.1:5000").await {
            Ok(None) => "nothing".to_owned(),
            Ok(Some(it)) => format!(
                "{}/{}/{}",
                it.username.unwrap_or_default(),
                it.password.unwrap_or_default(),
                it.identitytoken.unwrap_or_default()
            ),
            Err(error) => error.to_string().replace(&directory.path().display().to_string(), "DIR"),
        }
    }

    #[track_caller]
    fn check(content: &str, expected: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(found(content)), expected);
    }

    #[test]
    fn login_is_found_by_host_and_port() {
        check(r#"{"auths": {"127.0.0.1:5000": {"auth": "dXNlcjpwYXNz"}}}"#, "user/pass/");
    }

    #[test]
    fn login_of_an_old_client_is_found() {
        check(r#"{"auths": {"http://127.0.0.1:5000/v1/": {"auth": "dXNlcjpwYXNz"}}}"#, "user/pass/");
    }

    #[test]
    fn password_may_hold_colons() {
        check(r#"{"auths": {"127.0.0.1:5000": {"auth": "dTphOmI="}}}"#, "u/a:b/");
    }

    #[test]
    fn identity_token_is_kept() {
        check(r#"{"auths": {"127.0.0.1:5000": {"identitytoken": "t"}}}"#, "//t");
    }

    #[test]
    fn other_registry_is_not_answered_for() {
        check(r#"{"auths": {"127.0.0.1:5001": {"auth": "dXNlcjpwYXNz"}}}"#, "nothing");
    }

    #[test]
    fn other_keys_do_not_disturb() {
        check(r#"{"HttpHeaders": {"A": "b"}, "psFormat": "x"}"#, "nothing");
    }

    #[test]
    fn damaged_file_is_told_by_place_alone() {
        let expected = "the login file `DIR/config.json` is damaged: no JSON at line 1, column 15; \
                        `docker login 127.0.0.1:5000` writes it anew";
        check(r#"{"auth": "top" "secret"}"#, &expected.replace("column 15", "column 16"));
    }

    #[test]
    fn damaged_login_is_told_without_it() {
        let expected = "the login file `DIR/config.json` is damaged: the entry for `127.0.0.1:5000` is no base64 of a \
                        login; `docker login 127.0.0.1:5000` writes it anew";
        check(r#"{"auths": {"127.0.0.1:5000": {"auth": "!secret!"}}}"#, expected);
    }

    #[test]
    fn absent_helper_is_named() {
        let expected = "the credential helper `docker-credential-aegis-absent` that `DIR/config.json` names cannot be \
                        run: No such file or directory (os error 2)";
        check(r#"{"credsStore": "aegis-absent"}"#, expected);
    }

    #[test]
    fn helper_is_no_path() {
        let expected = "the credential helper `docker-credential-../x` that `DIR/config.json` names is no name of a \
                        program";
        check(r#"{"credHelpers": {"127.0.0.1:5000": "../x"}}"#, expected);
    }

    #[test]
    fn unsendable_password_is_refused() {
        let mut credentials = DockerCredentials {
            username: Some("u".to_owned()),
            password: Some("a".repeat(8)),
            ..Default::default()
        };
        assert!(sendable(&credentials));
        credentials.password = Some("???".to_owned());
        assert!(!sendable(&credentials));
    }

    /// Runs a helper of these lines and shows what came of it.
    #[track_caller]
    fn check_helper(script: &str, expected: Result<(bool, &str), io::ErrorKind>) {
        let directory = tempfile::tempdir().unwrap();
        let helper = directory.path().join("helper");
        std::fs::write(&helper, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ran = runtime.block_on(run_helper(&helper.display().to_string(), "127.0.0.1:5000"));
        let ran = ran.map(|(success, printed)| (success, String::from_utf8(printed).unwrap()));
        match ran {
            Ok((success, printed)) => assert_eq!(Ok((success, printed.as_str())), expected),
            Err(error) => assert_eq!(Err(error.kind()), expected),
        }
    }

    #[test]
    fn helper_gets_the_registry() {
        check_helper(r#"printf '%s ' "$1"; cat"#, Ok((true, "get 127.0.0.1:5000")));
    }

    #[test]
    fn helper_that_reads_nothing_is_heard() {
        check_helper("echo credentials not found; exit 1", Ok((false, "credentials not found\n")));
    }

    #[test]
    fn login_file_follows_the_variable() {
        let home = Path::new("/home/a");
        assert_eq!(login_file(Some(OsStr::new("/c")), Some(home)), Some(PathBuf::from("/c/config.json")));
        assert_eq!(
            login_file(Some(OsStr::new("")), Some(home)),
            Some(PathBuf::from("/home/a/.docker/config.json"))
        );
        assert_eq!(login_file(None, None), None);
    }
}
