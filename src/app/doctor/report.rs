//! The report file: Markdown or JSON by its name, for its owner alone, put in its place whole. A link in its place is
//! replaced, not followed.

use std::io::Write;
use std::path::Path;

use crate::app::AppError;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `.md`
    Markdown,
    /// `.json`
    Json,
}

impl Form {
    /// The form that a file's name asks for; `None` for another ending.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "md" => Some(Self::Markdown),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// A report that has its place: opened before anything is tried, so that what cannot be written is known then.
#[derive(Debug)]
pub struct Draft {
    file: tempfile::NamedTempFile,
    path: std::path::PathBuf,
}

impl Draft {
    /// Opens a draft beside its place, mode 0600.
    pub fn open(path: &Path) -> Result<Self, AppError> {
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let made = tempfile::Builder::new().prefix(".aegis-report-").tempfile_in(directory);
        let file = made.map_err(|source| failed(path, source))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Writes it and puts it in its place.
    pub fn finish(mut self, text: &str) -> Result<(), AppError> {
        self.file.write_all(text.as_bytes()).map_err(|source| failed(&self.path, source))?;
        self.file.as_file().sync_all().map_err(|source| failed(&self.path, source))?;
        let persisted = self.file.persist(&self.path);
        persisted.map(|_| ()).map_err(|it| failed(&self.path, it.error))
    }
}

fn failed(path: &Path, source: std::io::Error) -> AppError {
    AppError::Use { what: "the report file", path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_report_is_its_owners_and_replaces_a_link() {
        let place = tempfile::tempdir().expect("a directory");
        let (other, report) = (place.path().join("other"), place.path().join("report.md"));
        std::fs::write(&other, "kept").expect("written");
        std::os::unix::fs::symlink(&other, &report).expect("linked");
        Draft::open(&report).expect("opened").finish("text").expect("finished");
        assert_eq!(std::fs::read_to_string(&other).expect("read"), "kept");
        let metadata = std::fs::symlink_metadata(&report).expect("it is there");
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(place.path()).expect("read").count(), 2);
    }

    #[test]
    fn the_name_tells_the_form() {
        assert_eq!(Form::of(Path::new("a.md")), Some(Form::Markdown));
        assert_eq!(Form::of(Path::new("/x/a.json")), Some(Form::Json));
        assert_eq!(Form::of(Path::new("a.html")), None);
        assert_eq!(Form::of(Path::new("md")), None);
    }
}
