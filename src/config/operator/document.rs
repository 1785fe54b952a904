//! The operator's configuration as it is written, and what it comes to. Unknown keys and wrong types are told with their
//! place.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::operator::Operator;
use crate::config::operator::retention::document::RetentionDocument;
use crate::intake::shown;
use crate::policy::document::{DocumentError, Mistake, Place, guard, nearest_word};

/// Resolvers at the most.
const RESOLVERS_MAX: usize = 8;
/// Files of authorities at the most.
const ROOTS_MAX: usize = 32;
/// Credentials at the most.
const CREDENTIALS_MAX: usize = 256;
/// The port of a resolver that names none.
const DNS_PORT: u16 = 53;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    gateway: Gateway,
    #[serde(default)]
    retention: RetentionDocument,
    #[serde(default)]
    credentials: BTreeMap<String, Spanned<Credential>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gateway {
    #[serde(default)]
    resolvers: Vec<Spanned<String>>,
    #[serde(default)]
    roots: Vec<Spanned<PathBuf>>,
    proxy: Option<Spanned<String>>,
}

/// A credential: where it may go, how it is sent, and where it comes from. The value is never here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The exact names that it may ever go to.
    pub hosts: Vec<String>,
    /// The ports; none is 443.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// The methods; none is any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The paths, as in rules; none is any.
    #[serde(default)]
    pub paths: Vec<String>,
    /// The header that carries it, by `template`.
    pub header: Option<String>,
    /// The header's value, with `{}` for the credential's.
    pub template: Option<String>,
    /// The user whose password it is, by basic authentication.
    pub basic: Option<String>,
    /// The query key that carries it.
    pub query: Option<String>,
    /// `secret:NAME`, `env:NAME` or `file:PATH`.
    pub source: String,
    /// A variable of the task that gets a placeholder, for clients that insist on a key.
    pub env: Option<String>,
}

/// Reads the file.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Operator, DocumentError> {
    let text = guard::text(file, bytes)?;
    let mut mistakes = Vec::new();
    let document: Document = match toml::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            let place = error.span().map(|it| Place::of(text, it.start));
            let mistake = Mistake { place, message: told(error.message()) };
            return Err(DocumentError { file: file.to_owned(), mistakes: vec![mistake], more: 0 });
        }
    };
    let mut mistake = |at: usize, message: String| {
        mistakes.push(Mistake { place: Some(Place::of(text, at)), message });
    };
    let mut operator = Operator::none();
    for entry in document.gateway.resolvers.iter().take(RESOLVERS_MAX) {
        match resolver(entry.get_ref()) {
            Some(address) => operator.resolvers.push(address),
            None => mistake(
                entry.span().start,
                format!(
                    "`{}` is no resolver: write an address, as 192.0.2.53 or 192.0.2.53:5353",
                    shown(entry.get_ref())
                ),
            ),
        }
    }
    for entry in document.gateway.roots.iter().take(ROOTS_MAX) {
        match entry.get_ref().is_absolute() {
            true => operator.roots.push(entry.get_ref().clone()),
            false => mistake(entry.span().start, "a file of authorities has an absolute path".to_owned()),
        }
    }
    if let Some(entry) = &document.gateway.proxy {
        operator.proxy = proxy(entry.get_ref());
        if operator.proxy.is_none() {
            mistake(entry.span().start, "a proxy is written as http://HOST:PORT".to_owned());
        }
    }
    document.retention.read(&mut operator.retention, &mut mistake);
    for (name, entry) in document.credentials.into_iter().take(CREDENTIALS_MAX) {
        if let Some(message) = wrong(entry.get_ref()) {
            mistake(entry.span().start, format!("`credentials.{}`: {message}", shown(&name)));
        }
        operator.credentials.insert(name, entry.into_inner());
    }
    if mistakes.is_empty() {
        return Ok(operator);
    }
    Err(DocumentError { file: file.to_owned(), mistakes, more: 0 })
}

/// What is wrong with a credential as a whole.
fn wrong(credential: &Credential) -> Option<&'static str> {
    let ways = [&credential.header, &credential.basic, &credential.query];
    if ways.into_iter().flatten().count() != 1 {
        return Some("it is sent in one way: write one of `header`, `basic` and `query`");
    }
    if credential
        .template
        .as_ref()
        .is_some_and(|it| credential.header.is_none() || it.matches("{}").count() != 1)
    {
        return Some("`template` goes with `header` and has `{}` once, where the value goes");
    }
    if credential.hosts.is_empty() {
        return Some("it goes to no host: name some in `hosts`");
    }
    let source = credential.source.split_once(':');
    if !source.is_some_and(|(kind, rest)| matches!(kind, "secret" | "env" | "file") && !rest.is_empty()) {
        return Some("`source` is `secret:NAME`, `env:NAME` or `file:PATH`");
    }
    None
}

fn resolver(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(|it| SocketAddr::new(it, DNS_PORT)))
}

fn proxy(text: &str) -> Option<(String, u16)> {
    let place = text.strip_prefix("http://")?.trim_end_matches('/');
    let (host, port) = place.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | ':');
    let port = port.parse().ok().filter(|it| *it != 0)?;
    (!host.is_empty() && host.chars().all(plain)).then(|| (host.to_owned(), port))
}

/// The reader's own message, and the nearest key where it does not know one.
fn told(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let mut quoted = first.split('`').skip(1).step_by(2);
    let nearest = match quoted.next() {
        Some(unknown) if first.starts_with("unknown field") => {
            nearest_word(unknown, &quoted.collect::<Vec<_>>())
        }
        Some(_) | None => None,
    };
    match nearest {
        Some(nearest) => format!("{}; the nearest is `{nearest}`", shown(first)),
        None => shown(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_mistake(text: &str, parts: &[&str]) {
        let told = parse("config.toml", text.as_bytes()).expect_err("it has a mistake").to_string();
        for part in parts {
            assert!(told.contains(part), "no `{part}` in {told}");
        }
    }

    #[test]
    fn everything_is_read() {
        let text = "[gateway]\nresolvers = [\"192.0.2.53\", \"[2001:db8::53]:5353\"]\nroots = [\"/etc/ssl/own.pem\"]\n\
            proxy = \"http://proxy.example.org:3128\"\n[credentials.model]\nhosts = [\"api.example.org\"]\n\
            header = \"x-api-key\"\nsource = \"env:KEY\"\n";
        let operator = parse("config.toml", text.as_bytes()).expect("no mistake");
        let resolvers: Vec<String> = operator.resolvers.iter().map(ToString::to_string).collect();
        assert_eq!(resolvers, ["192.0.2.53:53", "[2001:db8::53]:5353"]);
        assert_eq!(operator.roots, [PathBuf::from("/etc/ssl/own.pem")]);
        assert_eq!(operator.proxy, Some(("proxy.example.org".to_owned(), 3128)));
        assert_eq!(operator.credentials["model"].hosts, ["api.example.org"]);
    }

    #[test]
    fn unknown_keys_are_told_with_place_and_nearest_key() {
        check_mistake(
            "[gateway]\nresolver = []\n",
            &["config.toml:2:1", "resolver", "the nearest is `resolvers`"],
        );
        check_mistake("[gatewy]\n", &["config.toml:1:2", "the nearest is `gateway`"]);
    }

    #[test]
    fn wrong_types_and_values_are_told_with_their_place() {
        check_mistake("[gateway]\nresolvers = \"192.0.2.53\"\n", &["config.toml:2:13"]);
        check_mistake(
            "[gateway]\nresolvers = [\"dns.example.org\"]\n",
            &["config.toml:2:14", "write an address"],
        );
        check_mistake(
            "[gateway]\nproxy = \"socks5://p.example.org:1\"\n",
            &["config.toml:2:9", "http://HOST:PORT"],
        );
        check_mistake("[gateway]\nroots = [\"own.pem\"]\n", &["config.toml:2:10", "absolute"]);
    }

    #[test]
    fn a_credential_says_how_it_is_sent_and_where_it_comes_from() {
        let with = |rest: &str| format!("[credentials.a]\nhosts = [\"a.example.org\"]\n{rest}\n");
        check_mistake(&with("source = \"env:K\""), &["credentials.a", "one of `header`"]);
        check_mistake(&with("source = \"env:K\"\nheader = \"h\"\nquery = \"q\""), &["one of `header`"]);
        check_mistake(&with("source = \"K\"\nheader = \"h\""), &["`secret:NAME`"]);
        check_mistake(&with("source = \"env:K\"\nheader = \"h\"\ntemplate = \"Bearer\""), &["`{}` once"]);
    }
}
