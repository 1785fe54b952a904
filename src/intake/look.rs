//! What a project is made with, by the names of the files at its root: which image of ours runs it, and which command
//! tests it. A guess that a person corrects in `aegis.toml`; names decide, so that a look costs nothing.

pub mod starter;

use serde_json::Value;

/// The image where nothing else decides.
pub const IMAGE_DEFAULT: &str = "aegis/base";
/// Bytes of a file that is read for the command.
pub const READ_BYTES_MAX: u64 = 256 * 1024;

/// What a project is made with. Where several fit, the first in [`SIGNS`] wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is its name")]
pub enum Toolchain {
    Rust,
    Node,
    Go,
    Maven,
    Gradle,
    Php,
    Ruby,
    Python,
    CMake,
    Meson,
    Configure,
    Make,
}

/// Files at the root, and what each is a sign of; the most telling first.
pub const SIGNS: [(&str, Toolchain); 26] = [
    ("Cargo.toml", Toolchain::Rust),
    ("package.json", Toolchain::Node),
    ("package-lock.json", Toolchain::Node),
    ("yarn.lock", Toolchain::Node),
    ("pnpm-lock.yaml", Toolchain::Node),
    ("go.mod", Toolchain::Go),
    ("pom.xml", Toolchain::Maven),
    ("build.gradle", Toolchain::Gradle),
    ("build.gradle.kts", Toolchain::Gradle),
    ("composer.json", Toolchain::Php),
    ("Gemfile", Toolchain::Ruby),
    ("pyproject.toml", Toolchain::Python),
    ("setup.py", Toolchain::Python),
    ("setup.cfg", Toolchain::Python),
    ("tox.ini", Toolchain::Python),
    ("pytest.ini", Toolchain::Python),
    ("requirements.txt", Toolchain::Python),
    ("CMakeLists.txt", Toolchain::CMake),
    ("meson.build", Toolchain::Meson),
    ("configure", Toolchain::Configure),
    ("GNUmakefile", Toolchain::Make),
    ("makefile", Toolchain::Make),
    ("Makefile", Toolchain::Make),
    // These name a version of a toolchain, and so a toolchain where nothing else does.
    ("rust-toolchain.toml", Toolchain::Rust),
    ("rust-toolchain", Toolchain::Rust),
    (".nvmrc", Toolchain::Node),
];

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The file that decided and what it is a sign of; `None` where nothing was found.
    pub found: Option<(&'static str, Toolchain)>,
}

/// Looks at a project. `has` tells whether a regular file of this name is at its root.
pub fn look(mut has: impl FnMut(&str) -> bool) -> Look {
    Look { found: SIGNS.into_iter().find(|(name, _)| has(name)) }
}

impl Look {
    /// The image of ours that fits best.
    pub fn image(&self) -> &'static str {
        match self.found {
            Some((_, Toolchain::Rust)) => "aegis/rust",
            Some((_, Toolchain::Node)) => "aegis/node",
            Some((_, Toolchain::Go)) => "aegis/go",
            Some(_) | None => IMAGE_DEFAULT,
        }
    }

    /// What the project needs and the image lacks; `None` where it has all.
    pub fn lacks(&self) -> Option<&'static str> {
        match self.found?.1 {
            Toolchain::Maven => Some("Java with Maven"),
            Toolchain::Gradle => Some("Java with Gradle"),
            Toolchain::Php => Some("PHP with Composer"),
            Toolchain::Ruby => Some("Ruby with Bundler"),
            Toolchain::CMake => Some("CMake"),
            Toolchain::Meson => Some("Meson"),
            Toolchain::Rust
            | Toolchain::Node
            | Toolchain::Go
            | Toolchain::Python
            | Toolchain::Configure
            | Toolchain::Make => None,
        }
    }

    /// The choice and its reason in one line; `None` where it is the default, and nothing is missing in it.
    pub fn reason(&self) -> Option<String> {
        let (file, _) = self.found?;
        let image = self.image();
        match self.lacks() {
            Some(lacking) => Some(format!(
                "image {image}, which has no {lacking} (`{file}` is here): name another with `--image`"
            )),
            None if image == IMAGE_DEFAULT => None,
            None => Some(format!("image {image}, since `{file}` is here")),
        }
    }

    /// How its dependencies come along, where there is no network to fetch them; `None` where that is nobody's habit.
    pub fn dependencies(&self) -> Option<&'static str> {
        match self.found?.1 {
            Toolchain::Rust => Some("`cargo vendor` puts them into the project"),
            Toolchain::Node => Some("`npm ci` puts them into node_modules, which goes in"),
            Toolchain::Go => Some("`go mod vendor` puts them into the project"),
            Toolchain::Python => {
                Some("`pip install --target vendor` puts them, pytest too, where PYTHONPATH below finds them")
            }
            Toolchain::Ruby => Some("`bundle install` with the path `vendor` puts them into the project"),
            Toolchain::Php => Some("`composer install` puts them into vendor, which goes in"),
            Toolchain::Maven
            | Toolchain::Gradle
            | Toolchain::CMake
            | Toolchain::Meson
            | Toolchain::Configure
            | Toolchain::Make => None,
        }
    }

    /// The command that tests such a project; `None` where none can be guessed. `read` gives the text of a file at the
    /// root, where it is there and small.
    pub fn command(&self, read: impl Fn(&str) -> Option<String>) -> Option<Vec<&'static str>> {
        match self.found?.1 {
            Toolchain::Rust => Some(vec!["cargo", "test", "--offline"]),
            Toolchain::Node => has_test_script(&read("package.json")?).then(|| vec!["npm", "test"]),
            Toolchain::Go => Some(vec!["go", "test", "./..."]),
            Toolchain::Maven => Some(vec!["mvn", "--offline", "test"]),
            Toolchain::Gradle => Some(vec!["gradle", "--offline", "test"]),
            Toolchain::Php => Some(vec!["composer", "test"]),
            Toolchain::Ruby => Some(vec!["bundle", "exec", "rake", "test"]),
            Toolchain::Python => Some(python(read)),
            Toolchain::CMake => Some(vec![
                "sh",
                "-c",
                "cmake -S . -B build && cmake --build build && ctest --test-dir build --output-on-failure",
            ]),
            Toolchain::Meson => Some(vec!["sh", "-c", "meson setup build && meson test -C build"]),
            Toolchain::Configure => Some(vec!["sh", "-c", "./configure && make check"]),
            Toolchain::Make => make(read),
        }
    }
}

/// pytest where a file of the project says so, else what Python brings along.
fn python(read: impl Fn(&str) -> Option<String>) -> Vec<&'static str> {
    let files = ["pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "requirements.txt", "setup.py"];
    if files.into_iter().any(|it| read(it).is_some_and(|text| it == "pytest.ini" || text.contains("pytest")))
    {
        return vec!["python3", "-m", "pytest"];
    }
    vec!["python3", "-m", "unittest"]
}

/// The first target of a makefile that tests.
fn make(read: impl Fn(&str) -> Option<String>) -> Option<Vec<&'static str>> {
    let text = ["GNUmakefile", "makefile", "Makefile"].into_iter().find_map(read)?;
    for target in ["test", "check"] {
        let is_target = |line: &str| {
            line.strip_prefix(target).is_some_and(|it| it.trim_start().starts_with(':') && !it.contains(":="))
        };
        if text.lines().any(is_target) {
            return Some(vec!["make", target]);
        }
    }
    Some(vec!["make"])
}

fn has_test_script(package: &str) -> bool {
    let package: Value = serde_json::from_str(package).unwrap_or_default();
    package["scripts"]["test"].is_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Files with their texts, `name` or `name=text`.
    fn check(files: &[&str], image: &str, command: &str) {
        let files: BTreeMap<&str, &str> =
            files.iter().map(|it| it.split_once('=').unwrap_or((it, ""))).collect();
        let look = look(|it| files.contains_key(it));
        assert_eq!(look.image(), image);
        let guessed = look.command(|it| files.get(it).map(|text| (*text).to_owned()));
        assert_eq!(guessed.unwrap_or_default().join(" "), command);
    }

    #[test]
    fn nothing_known_is_the_default_without_a_command() {
        check(&[], "aegis/base", "");
        check(&["README.md"], "aegis/base", "");
    }

    #[test]
    fn a_manifest_decides() {
        check(&["Cargo.toml", "Cargo.lock"], "aegis/rust", "cargo test --offline");
        check(&["package.json={\"scripts\":{\"test\":\"x\"}}"], "aegis/node", "npm test");
        check(&["pyproject.toml"], "aegis/base", "python3 -m unittest");
        check(&["Makefile=all:\n"], "aegis/base", "make");
        check(&["configure", "Makefile"], "aegis/base", "sh -c ./configure && make check");
    }

    #[test]
    fn a_lock_or_a_version_alone_decides_too() {
        check(&["yarn.lock"], "aegis/node", "");
        check(&["rust-toolchain.toml"], "aegis/rust", "cargo test --offline");
    }

    #[test]
    fn a_manifest_is_before_a_makefile_and_a_makefile_before_a_version() {
        check(&["Makefile=test:", "go.mod"], "aegis/go", "go test ./...");
        check(&["Makefile=test:", ".nvmrc"], "aegis/base", "make test");
        check(&["package.json={}", "Cargo.toml"], "aegis/rust", "cargo test --offline");
    }

    #[test]
    fn a_package_without_a_test_has_no_command() {
        check(&["package.json={\"scripts\":{}}"], "aegis/node", "");
        check(&["package.json=not json"], "aegis/node", "");
    }

    #[test]
    fn pytest_is_chosen_where_a_file_names_it() {
        check(&["pytest.ini"], "aegis/base", "python3 -m pytest");
        check(&["tox.ini=deps = pytest\n"], "aegis/base", "python3 -m pytest");
        check(&["setup.py=import setuptools"], "aegis/base", "python3 -m unittest");
    }

    #[test]
    fn a_target_is_told_from_a_variable() {
        check(&["Makefile=test := 1\ncheck: all\n"], "aegis/base", "make check");
        check(&["Makefile=testing:\n"], "aegis/base", "make");
    }

    fn check_reason(file: &str, expected: Option<&str>) {
        assert_eq!(look(|it| it == file).reason().as_deref(), expected);
    }

    #[test]
    fn the_choice_has_a_reason() {
        check_reason("package.json", Some("image aegis/node, since `package.json` is here"));
        let php = "image aegis/base, which has no PHP with Composer (`composer.json` is here): name another with `--image`";
        check_reason("composer.json", Some(php));
    }

    #[test]
    fn the_default_needs_none() {
        check_reason("Makefile", None);
        check_reason("none", None);
    }
}
