//! A repository's configuration without what logs in somewhere: read by git's own grammar and written anew. Pure.
//!
//! What only runs a program (aliases, filters, an editor) stays: the task could run it anyway, and inside. A file that
//! holds nothing to take out goes in as it is.

use memchr::memmem::find;

use crate::sandbox::workspace::git::url;

/// Sections that hold logins, or name files of this host.
const SECTIONS: [&[u8]; 10] = [
    b"credential",
    b"http",
    b"https",
    b"include",
    b"includeif",
    b"sendemail",
    b"imap",
    b"github",
    b"gitlab",
    b"svn",
];
/// Settings that name files or programs of this host which git would run by itself.
const SETTINGS: [(&[u8], &[u8]); 7] = [
    (b"core", b"hookspath"),
    (b"core", b"fsmonitor"),
    (b"core", b"sshcommand"),
    (b"core", b"askpass"),
    (b"core", b"gitproxy"),
    (b"core", b"alternaterefscommand"),
    (b"remote", b"proxy"),
];
/// Parts of a setting's name whose value is a login.
const LOGIN_WORDS: [&[u8]; 8] =
    [b"pass", b"token", b"secret", b"extraheader", b"apikey", b"cookie", b"credential", b"authorization"];

/// What a configuration is without its logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleaned {
    /// Nothing had to go.
    Same,
    /// This is left.
    Changed(Vec<u8>),
}

/// Text that git could not read either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoConfig {
    /// The line, from 1.
    pub line: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Section {
    /// In lower case.
    name: Vec<u8>,
    subsection: Option<Vec<u8>>,
    settings: Vec<Setting>,
}

#[derive(Debug, PartialEq, Eq)]
struct Setting {
    /// In lower case.
    name: Vec<u8>,
    /// `None` is git's bare name, which means true.
    value: Option<Vec<u8>>,
}

/// Takes out logins, and comments, in which one may stand.
pub fn clean(text: &[u8]) -> Result<Cleaned, NoConfig> {
    let (mut sections, comments) = read(text)?;
    let mut changed = comments;
    sections.retain_mut(|section| {
        let goes = !leaves(section);
        changed |= !goes;
        section.settings.retain(|it| {
            let goes = !holds_login(&section.name, &it.name);
            changed |= !goes;
            goes
        });
        for value in section.settings.iter_mut().filter_map(|it| it.value.as_mut()) {
            if let Some(without) = url::without_login(value) {
                *value = without;
                changed = true;
            }
        }
        goes
    });
    Ok(if changed { Cleaned::Changed(write(&sections)) } else { Cleaned::Same })
}

fn leaves(section: &Section) -> bool {
    let in_subsection = section.subsection.as_ref().is_some_and(|it| url::without_login(it).is_some());
    in_subsection || SECTIONS.contains(&section.name.as_slice())
}

fn holds_login(section: &[u8], setting: &[u8]) -> bool {
    SETTINGS.contains(&(section, setting)) || LOGIN_WORDS.iter().any(|it| find(setting, it).is_some())
}

/// Every section in order, and whether there is any comment.
fn read(text: &[u8]) -> Result<(Vec<Section>, bool), NoConfig> {
    let mut reader =
        Reader { text: text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text), at: 0, line: 1, comments: false };
    let mut sections: Vec<Section> = Vec::new();
    while let Some(byte) = reader.next() {
        match byte {
            b'#' | b';' => reader.skip_comment(),
            b'[' => {
                let (name, subsection) = reader.header()?;
                sections.push(Section { name, subsection, settings: Vec::new() });
            }
            _ if byte.is_ascii_whitespace() => {}
            _ if byte.is_ascii_alphabetic() => {
                let setting = reader.setting(byte)?;
                // A setting before any section means nothing to git.
                let Some(section) = sections.last_mut() else { return Err(reader.wrong()) };
                section.settings.push(setting);
            }
            _ => return Err(reader.wrong()),
        }
    }
    Ok((sections, reader.comments))
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    comments: bool,
}

impl Reader<'_> {
    /// The next byte, line ends of either kind as `\n`.
    fn next(&mut self) -> Option<u8> {
        let mut byte = *self.text.get(self.at)?;
        self.at += 1;
        if byte == b'\r' && self.text.get(self.at) == Some(&b'\n') {
            self.at += 1;
            byte = b'\n';
        }
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    fn wrong(&self) -> NoConfig {
        NoConfig { line: self.line }
    }

    fn skip_comment(&mut self) {
        self.comments = true;
        while self.next().is_some_and(|it| it != b'\n') {}
    }

    /// `[name]`, `[name.old-style]` or `[name "sub"]`, after its bracket.
    fn header(&mut self) -> Result<(Vec<u8>, Option<Vec<u8>>), NoConfig> {
        let mut name = Vec::new();
        loop {
            match self.next() {
                Some(b']') => break,
                Some(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.') => {
                    name.push(byte.to_ascii_lowercase());
                }
                Some(b' ' | b'\t') => return Ok((name, Some(self.subsection()?))),
                Some(_) | None => return Err(self.wrong()),
            }
        }
        // The older form is a subsection without case.
        match name.iter().position(|it| *it == b'.') {
            Some(dot) => Ok((name[..dot].to_vec(), Some(name[dot + 1..].to_vec()))),
            None => Ok((name, None)),
        }
    }

    fn subsection(&mut self) -> Result<Vec<u8>, NoConfig> {
        loop {
            match self.next() {
                Some(b' ' | b'\t') => {}
                Some(b'"') => break,
                Some(_) | None => return Err(self.wrong()),
            }
        }
        let mut name = Vec::new();
        loop {
            match self.next() {
                Some(b'"') => break,
                Some(b'\\') => match self.next() {
                    Some(b'\n') | None => return Err(self.wrong()),
                    Some(escaped) => name.push(escaped),
                },
                Some(b'\n') | None => return Err(self.wrong()),
                Some(byte) => name.push(byte),
            }
        }
        if self.next() == Some(b']') { Ok(name) } else { Err(self.wrong()) }
    }

    fn setting(&mut self, first: u8) -> Result<Setting, NoConfig> {
        let mut name = vec![first.to_ascii_lowercase()];
        let mut after = self.next();
        while let Some(byte) = after.filter(|it| it.is_ascii_alphanumeric() || *it == b'-') {
            name.push(byte.to_ascii_lowercase());
            after = self.next();
        }
        while matches!(after, Some(b' ' | b'\t')) {
            after = self.next();
        }
        let value = match after {
            None | Some(b'\n') => None,
            Some(b'=') => Some(self.value()?),
            Some(_) => return Err(self.wrong()),
        };
        Ok(Setting { name, value })
    }

    fn value(&mut self) -> Result<Vec<u8>, NoConfig> {
        let mut value = Vec::new();
        let (mut quoted, mut kept) = (false, 0);
        loop {
            let byte = match self.next() {
                None | Some(b'\n') if quoted => return Err(self.wrong()),
                None | Some(b'\n') => break,
                Some(byte) => byte,
            };
            match byte {
                b' ' | b'\t' | b'\r' | 0x0b | 0x0c if !quoted => {
                    // Blanks count only before something that does.
                    if !value.is_empty() {
                        value.push(byte);
                    }
                    continue;
                }
                b'#' | b';' if !quoted => {
                    self.skip_comment();
                    break;
                }
                b'"' => quoted = !quoted,
                b'\\' => match self.next() {
                    Some(b'\n') => {}
                    Some(b'n') => value.push(b'\n'),
                    Some(b't') => value.push(b'\t'),
                    Some(b'b') => value.push(8),
                    Some(escaped @ (b'\\' | b'"')) => value.push(escaped),
                    Some(_) | None => return Err(self.wrong()),
                },
                _ => value.push(byte),
            }
            kept = value.len();
        }
        value.truncate(kept);
        Ok(value)
    }
}

fn write(sections: &[Section]) -> Vec<u8> {
    let mut text = Vec::new();
    for section in sections {
        text.push(b'[');
        text.extend_from_slice(&section.name);
        if let Some(subsection) = &section.subsection {
            text.extend(b" \"");
            for byte in subsection {
                if matches!(byte, b'"' | b'\\') {
                    text.push(b'\\');
                }
                text.push(*byte);
            }
            text.push(b'"');
        }
        text.extend(b"]\n");
        for setting in &section.settings {
            text.push(b'\t');
            text.extend_from_slice(&setting.name);
            if let Some(value) = &setting.value {
                text.extend(b" = ");
                text.extend(quoted(value));
            }
            text.push(b'\n');
        }
    }
    text
}

/// A value of git's configuration in quotes.
pub fn quoted(value: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for byte in value {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', *byte]),
            b'\n' => text.extend(b"\\n"),
            8 => text.extend(b"\\b"),
            _ => text.push(*byte),
        }
    }
    text.push(b'"');
    text
}

#[cfg(test)]
mod tests;
