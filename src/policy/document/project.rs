//! `aegis.toml`: what a project says about how it is run. Bytes in, what it writes out, or every mistake with its place.
//!
//! The file is written by whoever wrote the project, so nothing here is granted: `crate::policy::request` holds what it
//! asks for against what the run would get without it. There is no key for a mount, a device or a user.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::intake::{shown, variable};
use crate::policy::document::mistake::{DocumentError, Place, Slip};
use crate::policy::document::{Document, Kind, Reader, guard, nearest, placed, syntax_slip, value};
use crate::policy::reference::Reference;

/// The file's name, as it is found and as it is shown.
pub const FILE_NAME: &str = "aegis.toml";
/// Keys of the file, with what each is.
pub const KEYS: [(&str, &str); 7] = [
    ("image", "The image, by reference. Another one than the project's look gives needs trust."),
    ("command", "Program and arguments, for `aegis run` without a command."),
    ("outputs", "Globs of what comes out after the end, relative to the workspace."),
    ("workdir", "Working directory inside, relative to the workspace or absolute."),
    ("workspace", "What of the project is copied in."),
    ("environment", "Variables of the command's environment."),
    (
        "policy",
        "What is asked of the policy, in the words of a policy file; wider than the default needs trust.",
    ),
];
/// Entries of a list at the most.
pub const ENTRIES_MAX: usize = 256;
/// Bytes of one text at the most: what the kernel takes for a path or an argument of ordinary size.
pub const TEXT_BYTES_MAX: usize = 4096;

/// A value and the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// The value.
    pub value: T,
    /// Counted from 1.
    pub line: usize,
}

/// What a project's file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectFile {
    /// Image reference.
    pub image: Option<Written<String>>,
    /// Program and arguments; at least the program.
    pub command: Option<Written<Vec<String>>>,
    /// Globs of what comes out.
    pub outputs: Option<Written<Vec<String>>>,
    /// Working directory inside, as written.
    pub workdir: Option<Written<String>>,
    /// Patterns of what is left out, as a line of `.aegisignore` each.
    pub exclude: Vec<Written<String>>,
    /// Names and values of variables.
    pub environment: Vec<Written<(String, String)>>,
    /// What is asked of the policy.
    pub policy: Document,
}

/// Reads a file. An empty one marks a project and says nothing.
pub fn parse(file: &str, bytes: &[u8]) -> Result<ProjectFile, DocumentError> {
    let text = guard::sound(file, bytes)?;
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let slips = errors.iter().map(|err| syntax_slip(text, err)).collect();
        return Err(DocumentError::new(file, text, slips));
    }
    let mut reader = ProjectReader { text, said: nothing(), slips: Vec::new() };
    for (key, value) in table.get_ref() {
        reader.key(key.get_ref(), key.span().start, value);
    }
    let ProjectReader { said, slips, .. } = reader;
    if slips.is_empty() { Ok(said) } else { Err(DocumentError::new(file, text, slips)) }
}

fn nothing() -> ProjectFile {
    ProjectFile {
        image: None,
        command: None,
        outputs: None,
        workdir: None,
        exclude: Vec::new(),
        environment: Vec::new(),
        policy: Document { file: FILE_NAME.to_owned(), extends: None, settings: Default::default() },
    }
}

struct ProjectReader<'a> {
    text: &'a str,
    said: ProjectFile,
    slips: Vec<Slip>,
}

impl ProjectReader<'_> {
    fn key(&mut self, name: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        match name {
            "image" => self.said.image = self.one(name, value, check_image),
            "command" => self.command(value),
            "outputs" => self.said.outputs = self.list(name, value, check_text).map(plain),
            "workdir" => self.said.workdir = self.one(name, value, check_text),
            "workspace" => self.workspace(value),
            "environment" => self.environment(value),
            "policy" => self.policy(value),
            _ => self.slips.push(Slip::said(at, unknown(name))),
        }
    }

    fn command(&mut self, value: &Spanned<DeValue<'_>>) {
        let told = self.slips.len();
        let Some(list) = self.list("command", value, check_argument).map(plain) else { return };
        if self.slips.len() == told && list.value.first().is_none_or(String::is_empty) {
            let message = "`command` names no program: write [\"make\", \"test\"], or leave the key out";
            self.slips.push(Slip::said(value.span().start, message.to_owned()));
        }
        self.said.command = Some(list);
    }

    fn workspace(&mut self, value: &Spanned<DeValue<'_>>) {
        let Some(table) = self.table("workspace", value) else { return };
        for (key, value) in table {
            if key.get_ref() == "exclude" {
                let listed = self.list("workspace.exclude", value, check_pattern);
                self.said.exclude = listed.map(|it| it.value).unwrap_or_default();
            } else {
                let path = shown(&format!("workspace.{}", key.get_ref()));
                let message = format!("unknown key `{path}`; the key here is `workspace.exclude`");
                self.slips.push(Slip::said(key.span().start, message));
            }
        }
    }

    fn environment(&mut self, value: &Spanned<DeValue<'_>>) {
        let Some(table) = self.table("environment", value) else { return };
        for (key, value) in table {
            let name = key.get_ref().to_string();
            let path = format!("environment.{}", shown(&name));
            match value::read_text(&path, value) {
                Ok(text) => match variable::check(&name, text) {
                    Ok(()) => {
                        let line = self.line(key.span().start);
                        self.said.environment.push(Written { value: (name, text.to_owned()), line });
                    }
                    Err(err) => self.slips.push(Slip::said(key.span().start, err.to_string())),
                },
                Err(slip) => self.slips.push(slip),
            }
        }
    }

    fn policy(&mut self, value: &Spanned<DeValue<'_>>) {
        let Some(table) = self.table("policy", value) else { return };
        let Reader { extends, settings, slips, .. } = Reader::read(Kind::Request, table);
        self.slips.extend(slips);
        self.said.policy =
            Document { file: FILE_NAME.to_owned(), extends, settings: placed(self.text, settings) };
    }

    fn table<'t>(&mut self, path: &str, value: &'t Spanned<DeValue<'_>>) -> Option<&'t DeTable<'t>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            other => {
                let message =
                    format!("`{path}` is {}, and must be a table: write [{path}]", value::kind(other));
                self.slips.push(Slip::said(value.span().start, message));
                None
            }
        }
    }

    fn one(
        &mut self,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        check: fn(&str) -> Result<(), String>,
    ) -> Option<Written<String>> {
        let at = value.span().start;
        let read = value::read_text(path, value).and_then(|text| match check(text) {
            Ok(()) => Ok(text.to_owned()),
            Err(reason) => Err(Slip::said(at, format!("`{path}` {reason}"))),
        });
        match read {
            Ok(value) => Some(Written { value, line: self.line(at) }),
            Err(slip) => {
                self.slips.push(slip);
                None
            }
        }
    }

    fn list(
        &mut self,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        check: fn(&str) -> Result<(), String>,
    ) -> Option<Written<Vec<Written<String>>>> {
        let at = value.span().start;
        let array: &DeArray<'_> = match value.get_ref() {
            DeValue::Array(array) if array.len() <= ENTRIES_MAX => array,
            DeValue::Array(array) => {
                let message = format!("`{path}` has {} entries, and may have {ENTRIES_MAX}", array.len());
                self.slips.push(Slip::said(at, message));
                return None;
            }
            DeValue::String(text) => {
                let message =
                    format!("`{path}` is a string, and must be a list: write [\"{}\"]", shown(text));
                self.slips.push(Slip::said(at, message));
                return None;
            }
            other => {
                let message = format!("`{path}` is {}, and must be a list of texts", value::kind(other));
                self.slips.push(Slip::said(at, message));
                return None;
            }
        };
        let entries: Vec<_> = array.iter().filter_map(|entry| self.one(path, entry, check)).collect();
        Some(Written { value: entries, line: self.line(at) })
    }

    fn line(&self, at: usize) -> usize {
        Place::of(self.text, at).line
    }
}

fn plain(list: Written<Vec<Written<String>>>) -> Written<Vec<String>> {
    Written { value: list.value.into_iter().map(|it| it.value).collect(), line: list.line }
}

fn check_image(text: &str) -> Result<(), String> {
    Reference::parse(text).map(|_| ()).map_err(|err| format!("is no image: {err}"))
}

fn check_argument(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("holds a NUL, which no program can be given".to_owned());
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("has an empty text: write a path, or leave it out".to_owned());
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("has a text of {} bytes, and one may have {TEXT_BYTES_MAX}", text.len()));
    }
    if text.contains('\0') {
        return Err("holds a NUL, which no path has".to_owned());
    }
    Ok(())
}

fn check_pattern(text: &str) -> Result<(), String> {
    check_text(text)?;
    if text.contains('\n') {
        return Err("has a line break in a pattern: write one pattern an entry".to_owned());
    }
    if text.trim().is_empty() || text.starts_with('#') {
        return Err("has a pattern that is no pattern: write `\\\\#` for a `#` at its beginning".to_owned());
    }
    if text.starts_with('!') {
        let reason =
            "only leaves out: a `!` pattern belongs in `.aegisignore` (write `\\\\!` for the character)";
        return Err(reason.to_owned());
    }
    Ok(())
}

/// What is said about a key of the file that does not exist.
fn unknown(name: &str) -> String {
    let keys = KEYS.map(|(key, _)| key);
    if let Some(nearest) = nearest::word(name, &keys) {
        return format!("unknown key `{}`; the nearest is `{nearest}`", shown(name));
    }
    // A right key one table too high.
    if let Some(meant) = nearest::key(name, "sandbox") {
        return format!("unknown key `{}`; the nearest is `policy.{meant}`", shown(name));
    }
    format!("unknown key `{}`; the keys here are `{}`", shown(name), keys.join("`, `"))
}

#[cfg(test)]
mod tests;
