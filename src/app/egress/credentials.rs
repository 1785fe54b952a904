//! The credentials that a run's rules name, from the operator's configuration: what may be read is read here, for this run,
//! and goes to its gateway alone.

use std::collections::BTreeSet;
use std::path::Path;

use http::HeaderName;
use zeroize::Zeroizing;

use crate::app::{AppError, read_bytes};
use crate::config::operator;
use crate::config::secrets::{SecretStore, hide_this_process};
use crate::gateway::credential::{Credential, How};
use crate::policy::network::method::Method;
use crate::policy::network::path::PathPattern;
use crate::policy::network::port::HTTPS;
use crate::policy::network::{Name, Network};
use crate::redact::Known;
use crate::redact::value::without_line_end;
use crate::task::causes::told;

/// Bytes of a credential's file.
const VALUE_BYTES_MAX: u64 = 64 * 1024;

/// Credentials, and the variables that hold their placeholders inside.
#[derive(Debug, Default)]
pub struct Credentials {
    /// What the gateway adds.
    pub added: Vec<Credential>,
    /// Variables of the task's command.
    pub placeholders: Vec<(String, String)>,
}

impl Credentials {
    /// Their values, as far as they can be told from other text.
    pub fn known(&self) -> Vec<Known> {
        self.added.iter().filter_map(|it| Known::new(&it.name, it.value().as_bytes()).ok()).collect()
    }
}

/// Every credential that the rules name. One that is not configured, or has no value, is an error: the task would fail later
/// and not know why.
pub fn gather(
    network: &Network,
    operator: &operator::Operator,
    state: &Path,
) -> Result<Credentials, AppError> {
    let mut gathered = Credentials::default();
    for name in network.credentials() {
        hide_this_process()?;
        let wrong = |reason: String| AppError::Credential { name: name.clone(), reason };
        let configured = operator.credentials.get(&name);
        let configured =
            configured.ok_or_else(|| wrong("the operator's configuration does not have it".to_owned()))?;
        gathered.added.push(credential(&name, configured, state).map_err(wrong)?);
        if let Some(variable) = &configured.env {
            let placeholder = format!("AEGIS-{}", uuid::Uuid::now_v7().simple());
            gathered.placeholders.push((variable.clone(), placeholder));
        }
    }
    Ok(gathered)
}

fn credential(name: &str, configured: &operator::Credential, state: &Path) -> Result<Credential, String> {
    let mut hosts = BTreeSet::new();
    for host in &configured.hosts {
        hosts.insert(
            Name::parse(host).map_err(|why| format!("`{}` in `hosts`: {why}", host.escape_default()))?,
        );
    }
    let mut methods = BTreeSet::new();
    for word in &configured.methods {
        let method = Method::of_word(word);
        methods.insert(method.ok_or_else(|| format!("`{}` is no method", word.escape_default()))?);
    }
    let mut paths = Vec::new();
    for path in &configured.paths {
        paths.push(
            PathPattern::parse(path)
                .map_err(|why| format!("`{}` in `paths`: {why}", path.escape_default()))?,
        );
    }
    let ports = if configured.ports.is_empty() { vec![HTTPS] } else { configured.ports.clone() };
    let value = value(&configured.source, state)?;
    let value = std::str::from_utf8(&value).map_err(|_| "its value is no text".to_owned())?;
    Ok(Credential {
        name: name.to_owned(),
        hosts,
        ports: ports.into_iter().collect(),
        methods,
        paths,
        how: how(configured)?,
        value: value.into(),
    })
}

fn how(configured: &operator::Credential) -> Result<How, String> {
    if let Some(user) = &configured.basic {
        return Ok(How::Basic { user: user.clone() });
    }
    if let Some(key) = &configured.query {
        return Ok(How::Query { key: key.clone() });
    }
    let header = configured.header.as_deref().unwrap_or_default();
    let name =
        header.parse::<HeaderName>().map_err(|_| format!("`{}` is no header", header.escape_default()))?;
    let template = configured.template.clone().unwrap_or_else(|| "{}".to_owned());
    Ok(How::Header { name, template })
}

fn value(source: &str, state: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let (kind, rest) = source.split_once(':').unwrap_or_default();
    let bytes = match kind {
        "secret" => {
            let known = SecretStore::of(state).find(rest).and_then(|it| it.known());
            Zeroizing::new(known.map_err(|error| told(&error))?.value().to_vec())
        }
        "env" => {
            let value =
                std::env::var(rest).map_err(|_| format!("the variable `{rest}` of its source is not set"))?;
            Zeroizing::new(value.into_bytes())
        }
        "file" => {
            let read = read_bytes(Path::new(rest), VALUE_BYTES_MAX);
            Zeroizing::new(read.map_err(|error| format!("the file of its source cannot be read: {error}"))?)
        }
        _ => return Err(format!("its source `{}` is none of this host's", source.escape_default())),
    };
    let value = without_line_end(&bytes);
    if value.is_empty() { Err("its value is empty".to_owned()) } else { Ok(Zeroizing::new(value.to_vec())) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::secrets::Secret;

    #[test]
    fn a_value_comes_from_the_store_of_secrets_or_a_file() {
        let state = tempfile::tempdir().expect("a directory");
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(state.path(), mode).expect("a mode");
        let secret = Secret::stored("KEY", b"hunter2-hunter2", 7).expect("fit");
        SecretStore::of(state.path()).set(secret).expect("set");
        let file = state.path().join("key");
        std::fs::write(&file, "hunter3-hunter3\n").expect("written");
        let source = format!("file:{}", file.display());
        assert_eq!(value("secret:KEY", state.path()).expect("a value").as_slice(), b"hunter2-hunter2");
        assert_eq!(value(&source, state.path()).expect("a value").as_slice(), b"hunter3-hunter3");
        let refusal = value("secret:OTHER", state.path()).expect_err("refused");
        assert!(refusal.contains("there is no secret `OTHER`"), "{refusal}");
    }
}
