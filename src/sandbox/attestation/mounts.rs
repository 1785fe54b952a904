//! `/proc/<pid>/mountinfo`, read.

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The part of the file system that is mounted.
    pub root: String,
    /// Where.
    pub point: String,
    /// Flags of the mount.
    pub options: Vec<String>,
    /// Whether mounts below it travel to other namespaces.
    pub shared: bool,
    /// Type of the file system.
    pub kind: String,
    /// Options of the file system.
    pub super_options: Vec<String>,
}

impl Mounted {
    /// Whether a flag of the mount is set.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|it| it == option)
    }

    /// The value of an option of the file system.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.super_options.iter().find_map(|it| it.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The mount table; `Err` holds the first line that is none.
pub fn parse(text: &str) -> Result<Vec<Mounted>, String> {
    text.lines().map(|line| parse_line(line).ok_or_else(|| line.to_owned())).collect()
}

fn parse_line(line: &str) -> Option<Mounted> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
    let shared = fields.any(|it| it.starts_with("shared:"));
    let mut rest = file_system.split(' ');
    let (kind, _source, super_options) = (rest.next()?, rest.next()?, rest.next()?);
    Some(Mounted {
        root: unescape(root),
        point: unescape(point),
        options: options.split(',').map(str::to_owned).collect(),
        shared,
        kind: kind.to_owned(),
        super_options: super_options.split(',').map(str::to_owned).collect(),
    })
}

/// The kernel writes blanks, line ends and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .filter(|it| *first == b'\\' && it.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        if let Some(digits) = digits {
            let code = digits.iter().fold(0_u32, |code, digit| code * 8 + u32::from(digit - b'0'));
            bytes.push(code as u8);
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, point: &str, kind: &str, shared: bool) {
        let mounted = parse_line(line).expect("a line of mountinfo");
        assert_eq!((mounted.point.as_str(), mounted.kind.as_str(), mounted.shared), (point, kind, shared));
    }

    #[test]
    fn a_line_is_read() {
        check("73 72 0:42 / /proc rw,nosuid - proc proc rw", "/proc", "proc", false);
    }

    #[test]
    fn optional_fields_may_be_many() {
        check("1 2 0:1 / /a\\040b rw shared:1 master:2 - ext4 /dev/x rw", "/a b", "ext4", true);
    }

    #[test]
    fn options_have_values() {
        let mounted = parse_line("1 2 0:1 / /t rw - tmpfs t rw,size=64k,uid=5").expect("a line of mountinfo");
        assert_eq!(mounted.value("size"), Some("64k"));
        assert_eq!(mounted.value("si"), None);
    }

    #[test]
    fn what_is_no_line_is_told() {
        assert_eq!(parse("nonsense\n"), Err("nonsense".to_owned()));
    }
}
