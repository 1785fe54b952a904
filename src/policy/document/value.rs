//! One value of a policy file: its type, its unit, its range.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::intake::secret_name::{self, ANY_NAME};
use crate::intake::secret_path::{self, ANY_SECRET};
use crate::intake::{cpus, shown};
use crate::policy::amount::{Amount, AmountError, Unit};
use crate::policy::document::mistake::Slip;
use crate::policy::document::{Kind, egress, nearest};
use crate::policy::field::{Field, Setting};
use crate::policy::lattice::ANY_RUNTIME;
use crate::policy::reference::{self, Reference, is_image_id};
use crate::policy::{Egress, Pull, SecretOutputs, WorkspaceMedium};

/// Entries of a list or of `images.pins`.
const ENTRIES_MAX: usize = 256;
/// Characters of a runtime's name.
const RUNTIME_BYTES_MAX: usize = 64;

/// The value of a field, or everything that is wrong with it.
pub fn read(field: Field, kind: Kind, value: &Spanned<DeValue<'_>>) -> Result<Setting, Vec<Slip>> {
    let at = value.span().start;
    let one = |it: Result<Setting, String>| {
        it.map_err(|message| vec![Slip::said(at, format!("`{}` {message}", field.key().path))])
    };
    match field {
        Field::Amount(amount) => {
            one(read_amount(amount, value.get_ref()).map(|it| Setting::Amount(amount, it)))
        }
        Field::Ptrace => one(read_bool(field, value.get_ref()).map(Setting::Ptrace)),
        Field::RequireDigest => one(read_bool(field, value.get_ref()).map(Setting::RequireDigest)),
        Field::Workspace => {
            let words = WorkspaceMedium::ALL.map(|it| (it.word(), it));
            one(read_word(field, &words, value.get_ref()).map(Setting::Workspace))
        }
        Field::Egress => {
            let words = Egress::ALL.map(|it| (it.word(), it));
            one(read_word(field, &words, value.get_ref()).map(Setting::Egress))
        }
        Field::EgressPorts => egress::read_ports(value).map(Setting::EgressPorts),
        Field::NetworkAllow => egress::read_allow(kind, value).map(Setting::NetworkAllow),
        Field::NetworkDeny => egress::read_deny(value).map(Setting::NetworkDeny),
        Field::EgressAudit => one(read_bool(field, value.get_ref()).map(Setting::EgressAudit)),
        Field::Publish => egress::read_publish(kind, value).map(Setting::Publish),
        Field::Pull => {
            let words = Pull::ALL.map(|it| (it.word(), it));
            one(read_word(field, &words, value.get_ref()).map(Setting::Pull))
        }
        Field::Allow => read_list(field, value, check_glob).map(|it| Setting::Allow(BTreeSet::from([it]))),
        Field::IncludeSecrets => read_secrets(field, value).map(Setting::IncludeSecrets),
        Field::Runtimes => read_runtimes(field, value).map(Setting::Runtimes),
        Field::Pins => read_pins(field, value).map(Setting::Pins),
        Field::SecretFiles => read_granted(field, value).map(Setting::SecretFiles),
        Field::SecretEnvironment => read_granted(field, value).map(Setting::SecretEnvironment),
        Field::SecretOutputs => {
            let words = SecretOutputs::ALL.map(|it| (it.word(), it));
            one(read_word(field, &words, value.get_ref()).map(Setting::SecretOutputs))
        }
    }
}

/// A text of the file, whatever its key.
pub fn read_text<'a>(path: &str, value: &'a Spanned<DeValue<'_>>) -> Result<&'a str, Slip> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text),
        other => Err(Slip::said(
            value.span().start,
            format!("`{path}` is {}, and must be a text in quotes", kind(other)),
        )),
    }
}

fn read_amount(amount: Amount, value: &DeValue<'_>) -> Result<u64, String> {
    let read = match (amount.unit(), value) {
        (Unit::Bytes | Unit::Time, DeValue::String(text)) => amount.parse(text),
        (Unit::Bytes, DeValue::Integer(it)) => {
            let digits = shown(&it.to_string());
            return Err(format!(
                "has no unit: write \"{digits}MiB\" for mebibytes, or \"{digits}B\" for bytes"
            ));
        }
        (Unit::Time, DeValue::Integer(it)) => {
            let digits = shown(&it.to_string());
            return Err(format!(
                "has no unit: write \"{digits}s\" for seconds, or \"{digits}m\" for minutes"
            ));
        }
        (Unit::Count, DeValue::Integer(it)) => match u64::from_str_radix(it.as_str(), it.radix()) {
            Ok(count) => amount.checked(count),
            Err(_) => return Err(out_of_range(amount, &it.to_string())),
        },
        (Unit::Cpus, DeValue::Integer(it)) if it.radix() == 10 => {
            cpus::parse(it.as_str()).map_err(AmountError::from).and_then(|milli| amount.checked(milli))
        }
        (Unit::Cpus, DeValue::Float(it)) => {
            cpus::parse(it.as_str()).map_err(AmountError::from).and_then(|milli| amount.checked(milli))
        }
        (Unit::Cpus | Unit::Count, DeValue::String(text)) => {
            let bare = amount.parse(text).map(|it| format!(": write {} without quotes", amount.display(it)));
            return Err(format!("is a string, and must be a number{}", bare.unwrap_or_default()));
        }
        (Unit::Bytes, other) => {
            return Err(format!("is {}, and must be a size, such as \"512MiB\"", kind(other)));
        }
        (Unit::Time, other) => {
            return Err(format!("is {}, and must be a duration, such as \"10m\"", kind(other)));
        }
        (Unit::Cpus | Unit::Count, other) => return Err(format!("is {}, and must be a number", kind(other))),
    };
    match read {
        Ok(value) => Ok(value),
        Err(AmountError::Range { text, .. }) => Err(out_of_range(amount, &text)),
        Err(err) => Err(format!("is no value: {err}")),
    }
}

fn out_of_range(amount: Amount, text: &str) -> String {
    let (min, max) = amount.range();
    format!("is out of range: {} is not {} to {}", shown(text), amount.display(min), amount.display(max))
}

fn read_bool(field: Field, value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        other => Err(format!("is {}, and must be {}", kind(other), field.values())),
    }
}

fn read_word<T: Copy>(field: Field, words: &[(&'static str, T)], value: &DeValue<'_>) -> Result<T, String> {
    let DeValue::String(text) = value else {
        return Err(format!("is {}, and must be {}", kind(value), field.values()));
    };
    if let Some((_, found)) = words.iter().find(|(word, _)| word == text) {
        return Ok(*found);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let meant = nearest::word(text, &known).map(|it| format!("; did you mean \"{it}\"?")).unwrap_or_default();
    Err(format!("is \"{}\", and must be {}{meant}", shown(text), field.values()))
}

fn read_list(
    field: Field,
    value: &Spanned<DeValue<'_>>,
    check: fn(&str) -> Result<(), String>,
) -> Result<BTreeSet<String>, Vec<Slip>> {
    let path = field.key().path;
    let array: &DeArray<'_> = match value.get_ref() {
        DeValue::Array(array) => array,
        DeValue::String(text) => {
            let message = format!("`{path}` is a string, and must be a list: write [\"{}\"]", shown(text));
            return Err(vec![Slip::said(value.span().start, message)]);
        }
        other => {
            return Err(vec![Slip::said(
                value.span().start,
                format!("`{path}` is {}, and must be a list", kind(other)),
            )]);
        }
    };
    if array.len() > ENTRIES_MAX {
        let message = format!("`{path}` has {} entries, and may have {ENTRIES_MAX}", array.len());
        return Err(vec![Slip::said(value.span().start, message)]);
    }
    let (mut texts, mut slips) = (BTreeSet::new(), Vec::new());
    for entry in array.iter() {
        let at = entry.span().start;
        match entry.get_ref() {
            DeValue::String(text) => match check(text) {
                Ok(()) if texts.insert(text.to_string()) => {}
                Ok(()) => slips.push(Slip::said(at, format!("`{path}` has \"{}\" twice", shown(text)))),
                Err(reason) => slips.push(Slip::said(at, format!("`{path}`: {reason}"))),
            },
            other => slips.push(Slip::said(
                at,
                format!("an entry of `{path}` is {}, and must be a string", kind(other)),
            )),
        }
    }
    if slips.is_empty() { Ok(texts) } else { Err(slips) }
}

fn check_glob(text: &str) -> Result<(), String> {
    reference::matcher(text).map(|_| ()).map_err(|err| err.to_string())
}

fn check_secret(glob: &str) -> Result<(), String> {
    secret_path::matcher(glob).map(|_| ()).map_err(|err| err.to_string())
}

fn read_secrets(field: Field, value: &Spanned<DeValue<'_>>) -> Result<BTreeSet<String>, Vec<Slip>> {
    let globs = read_list(field, value, check_secret)?;
    if globs.len() > 1 && globs.contains(ANY_SECRET) {
        let path = field.key().path;
        let message =
            format!("`{path}` has `**` beside globs: `**` is any file, write it alone or leave it out");
        return Err(vec![Slip::said(value.span().start, message)]);
    }
    Ok(globs)
}

fn check_granted(name: &str) -> Result<(), String> {
    if name == ANY_NAME {
        return Ok(());
    }
    secret_name::parse(name).map(|_| ()).map_err(|err| err.to_string())
}

fn read_granted(field: Field, value: &Spanned<DeValue<'_>>) -> Result<BTreeSet<String>, Vec<Slip>> {
    let names = read_list(field, value, check_granted)?;
    if names.len() > 1 && names.contains(ANY_NAME) {
        let path = field.key().path;
        let message =
            format!("`{path}` has `*` beside names: `*` is any secret, write it alone or leave it out");
        return Err(vec![Slip::said(value.span().start, message)]);
    }
    Ok(names)
}

fn check_runtime(name: &str) -> Result<(), String> {
    let plain = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-');
    let named = (1..=RUNTIME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain);
    if named || name == ANY_RUNTIME {
        return Ok(());
    }
    Err(format!(
        "`{}` is not a runtime's name: it has letters, digits, `.`, `_` and `-`, at most 64",
        shown(name)
    ))
}

fn read_runtimes(field: Field, value: &Spanned<DeValue<'_>>) -> Result<BTreeSet<String>, Vec<Slip>> {
    let names = read_list(field, value, check_runtime)?;
    if names.len() > 1 && names.contains(ANY_RUNTIME) {
        let message = "`runtimes` has `*` beside names: `*` is any runtime, write it alone or leave it out";
        return Err(vec![Slip::said(value.span().start, message.to_owned())]);
    }
    Ok(names)
}

fn read_pins(
    field: Field,
    value: &Spanned<DeValue<'_>>,
) -> Result<BTreeMap<String, BTreeSet<String>>, Vec<Slip>> {
    let path = field.key().path;
    let table: &DeTable<'_> = match value.get_ref() {
        DeValue::Table(table) => table,
        other => {
            let message = format!("`{path}` is {}, and must be {}", kind(other), field.values());
            return Err(vec![Slip::said(value.span().start, message)]);
        }
    };
    if table.len() > ENTRIES_MAX {
        let message = format!("`{path}` has {} entries, and may have {ENTRIES_MAX}", table.len());
        return Err(vec![Slip::said(value.span().start, message)]);
    }
    let (mut pins, mut slips) = (BTreeMap::new(), Vec::new());
    for (name, id) in table {
        let at = name.span().start;
        let normal = match Reference::parse(name.get_ref()) {
            Ok(reference) => reference.normal(),
            Err(err) => {
                slips.push(Slip::said(at, format!("`{path}`: {err}")));
                continue;
            }
        };
        let named = shown(name.get_ref());
        match id.get_ref() {
            DeValue::String(text) if is_image_id(text) => {
                if pins.insert(normal, BTreeSet::from([text.to_string()])).is_some() {
                    slips.push(Slip::said(at, format!("`{path}` pins `{named}` twice, in two spellings")));
                }
            }
            DeValue::String(_) => {
                let message = format!(
                    "`{path}` of `{named}` is no image id: it is `sha256:` and 64 hexadecimal digits"
                );
                slips.push(Slip::said(id.span().start, message));
            }
            other => {
                let message =
                    format!("`{path}` of `{named}` is {}, and must be an image id in quotes", kind(other));
                slips.push(Slip::said(id.span().start, message));
            }
        }
    }
    if slips.is_empty() { Ok(pins) } else { Err(slips) }
}

/// What a value is, with its article.
pub fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a broken number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
