//! A home and a project with secrets that are none: every one holds the demo's word and opens nothing.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Something to steal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// Where it lies.
    pub path: PathBuf,
    /// What it would open, if it were real.
    pub opens: &'static str,
    content: String,
}

/// The demo's home. Dropped, it is gone.
#[derive(Debug)]
pub struct Home {
    root: tempfile::TempDir,
    canaries: Vec<Canary>,
}

impl Home {
    /// Makes it, with a project whose one dependency is this package.
    pub fn make(word: &str, package: &[(&str, &str)]) -> std::io::Result<Self> {
        let root = tempfile::Builder::new().prefix("aegis-demo-").tempdir()?;
        let home = root.path().join("home");
        let things = [
            (".ssh/id_ed25519", "your servers and repositories", key(word)),
            (
                ".aws/credentials",
                "your cloud account",
                format!("[default]\naws_secret_access_key = {word}\n"),
            ),
            ("project/.env", "your project's database", format!("DATABASE_PASSWORD={word}\n")),
            (".bashrc", "your shell, at every start", format!("# {word}\n")),
        ];
        let mut canaries = Vec::new();
        for (name, opens, content) in things {
            let path = home.join(name);
            write(&path, &content)?;
            canaries.push(Canary { path, opens, content });
        }
        let made = Self { root, canaries };
        for (name, content) in package {
            write(&made.package().join(name), content)?;
        }
        Ok(made)
    }

    /// The home directory.
    pub fn path(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// The project in it.
    pub fn project(&self) -> PathBuf {
        self.path().join("project")
    }

    /// The package in the project.
    pub fn package(&self) -> PathBuf {
        self.project().join("packages/tiny-format")
    }

    /// What there is to steal.
    pub fn canaries(&self) -> &[Canary] {
        &self.canaries
    }

    /// Canaries that are not as they were made.
    pub fn losses(&self) -> Vec<String> {
        let changed =
            |it: &&Canary| std::fs::read_to_string(&it.path).map_or(true, |text| text != it.content);
        self.canaries.iter().filter(changed).map(|it| format!("{} was changed", it.path.display())).collect()
    }
}

/// In the shape of a key, so that a search for one finds it.
fn key(word: &str) -> String {
    let (begin, end) = ("-----BEGIN DEMO KEY-----", "-----END DEMO KEY-----");
    format!("{begin}\n{word}\n{end}\n")
}

fn write(path: &Path, content: &str) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_that_was_written_to_or_removed_is_a_loss() {
        let home = Home::make("the-word", &[("setup.py", "pass\n")]).expect("made");
        assert_eq!(home.losses(), Vec::<String>::new());
        assert!(home.package().join("setup.py").exists() && home.canaries().len() == 4);
        std::fs::write(&home.canaries()[3].path, "curl | sh\n").expect("written");
        std::fs::remove_file(&home.canaries()[0].path).expect("removed");
        assert_eq!(home.losses().len(), 2);
    }
}
