//! Values of flags: text in, checked values out. clap puts the flag's name before what these say.

use std::path::PathBuf;

use crate::intake::{cpus, duration, label, secret_name, secret_path, shown, size};
use crate::policy::network::Rule;
use crate::task::{GitHistory, Published, SecretRequest};

/// Where the result object goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultTarget {
    /// A file, written whole at the end.
    File(PathBuf),
    /// A descriptor that the caller opened.
    Descriptor(u32),
}

/// A size with its unit, in bytes.
pub fn size(text: &str) -> Result<u64, String> {
    size::parse(text).map_err(|it| it.to_string())
}

/// A duration with its unit, in milliseconds.
pub fn duration(text: &str) -> Result<u64, String> {
    duration::parse(text).map_err(|it| it.to_string())
}

/// A whole number.
pub fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{}` is not a whole number: write digits only, as 256", shown(text)))
}

/// CPUs, in thousandths.
pub fn cpus(text: &str) -> Result<u64, String> {
    cpus::parse(text).map_err(|it| it.to_string())
}

/// What of a repository goes in.
pub fn git(text: &str) -> Result<GitHistory, String> {
    let words = GitHistory::ALL.map(GitHistory::word).join(", ");
    GitHistory::of_word(text).ok_or_else(|| format!("give one of {words}"))
}

/// A file of the workspace.
pub fn secret(text: &str) -> Result<String, String> {
    secret_path::parse(text).map_err(|it| it.to_string())
}

/// A host, with its port or without.
pub fn allow_net(text: &str) -> Result<Rule, String> {
    Rule::of_flag(text).map_err(|it| it.to_string())
}

/// A port of the host's loopback and one of the task.
pub fn publish(text: &str) -> Result<Published, String> {
    let port = |text: &str| match text.parse() {
        Ok(port @ 1_u16..) if text.bytes().all(|it| it.is_ascii_digit()) => Some(port),
        Ok(_) | Err(_) => None,
    };
    match text.split(':').collect::<Vec<_>>().as_slice() {
        ["127.0.0.1", host_port, inner] => match (port(host_port), port(inner)) {
            (Some(host_port), Some(port)) => Ok(Published { host_port, port }),
            (_, _) => Err("a port is 1 to 65535: write 127.0.0.1:8080:8080".to_owned()),
        },
        [_, _, _] => Err("only 127.0.0.1 is listened at: write 127.0.0.1:8080:8080".to_owned()),
        _ => Err("write 127.0.0.1:PORT:PORT, the host's port first".to_owned()),
    }
}

/// A secret of the store, and where it is put.
pub fn granted(text: &str) -> Result<SecretRequest, String> {
    secret_name::parse_request(text).map_err(|it| it.to_string())
}

/// The name of a secret.
pub fn secret_name(text: &str) -> Result<String, String> {
    secret_name::parse(text).map_err(|it| it.to_string())
}

/// The name of a worker host.
pub fn worker_name(text: &str) -> Result<String, String> {
    let form = "it is letters, digits, `.`, `_` and `-`, a letter or digit first, at most 64 of them";
    secret_name::parse(text).map_err(|_| form.to_owned())
}

/// `NAME=value` of an environment.
pub fn variable(text: &str) -> Result<(String, String), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("write NAME=value: the caller's own environment is never passed on".to_owned());
    };
    crate::intake::variable::check(name, value).map_err(|it| it.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `KEY=value` of a label.
pub fn label(text: &str) -> Result<(String, String), String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err("write KEY=value".to_owned());
    };
    label::check(key, value).map_err(|it| it.to_string())?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A name: letters, digits and `._-/@:+ `, at most 128 characters.
pub fn plain(text: &str) -> Result<String, String> {
    label::plain(text).map_err(|it| it.to_string())
}

/// `FILE` or `fd:N`.
pub fn result_target(text: &str) -> Result<ResultTarget, String> {
    match text.strip_prefix("fd:") {
        None if text.is_empty() => Err("give a file, or fd:N".to_owned()),
        None if text == "-" => {
            Err("give fd:1 for standard output, or ./- for a file of that name".to_owned())
        }
        None => Ok(ResultTarget::File(PathBuf::from(text))),
        Some(number) => match number.parse() {
            Ok(number @ 1..=1023) => Ok(ResultTarget::Descriptor(number)),
            Ok(_) | Err(_) => Err("give a descriptor that the caller opened, fd:1 to fd:1023".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_needs_its_value() {
        assert!(variable("TOKEN").is_err());
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
    }

    #[test]
    fn a_host_is_allowed_with_its_port_or_without() {
        let port = |text: &str| allow_net(text).map(|it| format!("{}:{}", it.host, it.ports[0]));
        assert_eq!(port("API.example.org"), Ok("api.example.org:443".to_owned()));
        assert_eq!(port("*.example.org:8443"), Ok("*.example.org:8443".to_owned()));
        for text in [
            "a.org:0",
            "a.org:+1",
            "a.org:",
            "a.org:65536",
            "::1",
            "[::1]:443",
            "https://a.org",
            "*",
            "127.1",
        ] {
            assert!(allow_net(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_is_published_at_loopback_only() {
        assert_eq!(publish("127.0.0.1:80:8080"), Ok(Published { host_port: 80, port: 8080 }));
        for text in ["0.0.0.0:80:80", "80:80", "127.0.0.1:0:80", "127.0.0.1:80:+8", ":80:80", "127.0.0.1:80"]
        {
            assert!(publish(text).is_err(), "{text}");
        }
    }

    #[test]
    fn our_own_labels_cannot_be_given() {
        assert!(label("aegis.owner=root").is_err());
    }

    #[test]
    fn odd_names_are_refused() {
        for name in ["", "a\nb", "\u{1b}[2J"] {
            assert!(plain(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_result_goes_to_a_file_or_a_descriptor() {
        assert_eq!(result_target("fd:3"), Ok(ResultTarget::Descriptor(3)));
        assert!(result_target("fd:x").is_err());
        assert!(result_target("-").is_err_and(|it| it.contains("fd:1")));
    }
}
