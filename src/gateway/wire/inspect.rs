//! What a gateway needs for the connections whose requests it reads, as it travels: the run's authority, the credentials
//! that its rules name, and the secrets that no request may carry. Shown to nobody, in no message and no log.

use std::collections::BTreeSet;
use std::fmt;

use http::HeaderName;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::gateway::authority::Handover;
use crate::gateway::credential::{Credential, How, Vault};
use crate::policy::network::Name;
use crate::policy::network::method::Method;
use crate::policy::network::path::PathPattern;
use crate::redact::Known;

/// Text that is not shown, and overwritten when it is dropped.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(#[serde(with = "serde_bytes")] Vec<u8>);

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspect {
    authority: Option<AuthorityRow>,
    credentials: Vec<CredentialRow>,
    secrets: Vec<SecretRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorityRow {
    certificate: String,
    label: String,
    key: Hidden,
    ends_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialRow {
    name: String,
    hosts: Vec<String>,
    ports: Vec<u16>,
    methods: Vec<String>,
    paths: Vec<String>,
    how: HowRow,
    value: Hidden,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum HowRow {
    Header { name: String, template: String },
    Basic { user: String },
    Query { key: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretRow {
    name: String,
    value: Hidden,
}

impl fmt::Debug for Hidden {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(hidden)")
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Inspect {
    /// As it travels.
    pub fn of(authority: Option<&Handover>, credentials: &[Credential], others: &[Known]) -> Self {
        Self {
            authority: authority.map(|it| AuthorityRow {
                certificate: it.certificate.clone(),
                label: it.label.clone(),
                key: Hidden(it.key.to_vec()),
                ends_s: it.ends_s,
            }),
            credentials: credentials.iter().map(row).collect(),
            secrets: others
                .iter()
                .map(|it| SecretRow { name: it.name().to_owned(), value: Hidden(it.value().to_vec()) })
                .collect(),
        }
    }

    /// The authority that arrived.
    pub fn authority(&self) -> Option<Handover> {
        self.authority.as_ref().map(|it| Handover {
            certificate: it.certificate.clone(),
            label: it.label.clone(),
            key: Zeroizing::new(it.key.0.clone()),
            ends_s: it.ends_s,
        })
    }

    /// The vault that arrived; `None` if that is nothing that [`Inspect::of`] gives.
    pub fn vault(&self) -> Option<Vault> {
        let credentials = self.credentials.iter().map(credential).collect::<Option<Vec<_>>>()?;
        // A value that cannot be told from other text is not looked for; whoever keeps secrets refuses such a one.
        let others: Vec<Known> =
            self.secrets.iter().filter_map(|it| Known::new(&it.name, &it.value.0).ok()).collect();
        Some(Vault::new(credentials, &others))
    }
}

fn row(credential: &Credential) -> CredentialRow {
    CredentialRow {
        name: credential.name.clone(),
        hosts: credential.hosts.iter().map(ToString::to_string).collect(),
        ports: credential.ports.iter().copied().collect(),
        methods: credential.methods.iter().map(|it| it.word().to_owned()).collect(),
        paths: credential.paths.iter().map(ToString::to_string).collect(),
        how: match &credential.how {
            How::Header { name, template } => {
                HowRow::Header { name: name.as_str().to_owned(), template: template.clone() }
            }
            How::Basic { user } => HowRow::Basic { user: user.clone() },
            How::Query { key } => HowRow::Query { key: key.clone() },
        },
        value: Hidden(credential.value().as_bytes().to_vec()),
    }
}

fn credential(row: &CredentialRow) -> Option<Credential> {
    let hosts = row.hosts.iter().map(|it| Name::parse(it).ok()).collect::<Option<BTreeSet<_>>>()?;
    let methods = row.methods.iter().map(|it| Method::of_word(it)).collect::<Option<BTreeSet<_>>>()?;
    let paths = row.paths.iter().map(|it| PathPattern::parse(it).ok()).collect::<Option<Vec<_>>>()?;
    let how = match &row.how {
        HowRow::Header { name, template } => {
            How::Header { name: name.parse::<HeaderName>().ok()?, template: template.clone() }
        }
        HowRow::Basic { user } => How::Basic { user: user.clone() },
        HowRow::Query { key } => How::Query { key: key.clone() },
    };
    Some(Credential {
        name: row.name.clone(),
        hosts,
        ports: row.ports.iter().copied().collect(),
        methods,
        paths,
        how,
        value: std::str::from_utf8(&row.value.0).ok()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use crate::gateway::authority::Authority;

    use super::*;

    const VALUE: &str = "k7Qz-93hfWpLx0vB2mTn";

    fn sent() -> Inspect {
        let credential = Credential {
            name: "model".to_owned(),
            hosts: BTreeSet::from([Name::parse("api.example.org").expect("a name")]),
            ports: BTreeSet::from([443]),
            methods: BTreeSet::from([Method::Post]),
            paths: vec![PathPattern::parse("/v1/*/items").expect("a path")],
            how: How::Header { name: HeaderName::from_static("x-api-key"), template: "{}".to_owned() },
            value: VALUE.into(),
        };
        let names = ["api.example.org".to_owned()];
        let authority = Authority::make(&names, SystemTime::now(), Duration::from_secs(60)).expect("made");
        let other = Known::new("other", b"another-Secret-83hd").expect("fit");
        Inspect::of(Some(&authority.handover()), &[credential], &[other])
    }

    #[test]
    fn what_was_sent_arrives() {
        let arrived = sent();
        assert!(Authority::take_over(&arrived.authority().expect("an authority")).is_ok());
        let rows: Vec<CredentialRow> =
            arrived.credentials.iter().map(|it| row(&credential(it).expect("whole"))).collect();
        assert_eq!(rows, arrived.credentials);
        let vault = arrived.vault().expect("a vault");
        assert!(vault.scrubber(&Name::parse("api.example.org").expect("a name")).is_some());
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!("{:?}", sent());
        assert!(!shown.contains(VALUE) && !shown.contains("another-Secret"), "{shown}");
    }
}
