//! The house rules that a reader cannot be asked to check: floors, homes of foreign crates, first lines, layout.

use std::fs;
use std::path::{Path, PathBuf};

/// A module of the first level, and its floor. `intake` lies below `policy` inside theirs.
const FLOORS: [(&str, u32); 22] = [
    ("task", 0),
    ("intake", 10),
    ("policy", 11),
    ("container", 20),
    ("record", 20),
    ("access", 21),
    ("queue", 22),
    ("fault", 30),
    ("sandbox", 30),
    ("redact", 30),
    ("report", 30),
    ("confine", 31),
    ("gateway", 32),
    ("doctor", 33),
    ("executor", 35),
    ("docker", 40),
    ("store", 40),
    ("api", 40),
    ("broker", 41),
    ("config", 50),
    ("app", 60),
    ("cli", 70),
];

/// Floors 0 to 2 name none of these: they do no I/O.
const PURE_BELOW: u32 = 30;
const INPUT_AND_OUTPUT: [&str; 8] =
    ["std::fs", "std::net", "std::process", "std::os::fd", "tokio", "rustix", "tempfile", "std::env"];

/// A foreign crate and the modules that name it: one, but for what speaks HTTP and TLS, which the gateway does for tasks,
/// the server for its clients and `cli` as one of them.
const HOMES: [(&str, &[&str]); 16] = [
    ("sqlx", &["store"]),
    ("bollard", &["docker"]),
    ("hyper", &["gateway", "api", "cli"]),
    ("hyper_util", &["gateway", "api", "cli"]),
    ("rustls", &["gateway", "api", "cli"]),
    ("tokio_rustls", &["gateway", "api", "cli"]),
    ("rcgen", &["gateway"]),
    ("axum", &["api"]),
    ("utoipa", &["api"]),
    ("utoipa_axum", &["api"]),
    ("tower", &["api"]),
    ("tower_http", &["api"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("indicatif", &["cli"]),
    ("age", &["config"]),
];

/// Serde's derives are for wire files: these names, and files below a directory of such a name.
const WIRE_NAMES: [&str; 6] = ["manifest", "document", "wire", "json", "row", "key"];

/// A source file of the library: its path below `src`, its module, its lines without tests.
struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

impl Source {
    fn floor(&self) -> u32 {
        let known = FLOORS.iter().find(|(name, _)| *name == self.module);
        known.unwrap_or_else(|| panic!("`{}` has no floor", self.path.display())).1
    }

    /// What comes before the tests, without comments.
    fn code(&self) -> impl Iterator<Item = &str> {
        let tests = self.text.match_indices("#[cfg(test)]\n").find(|(at, mark)| {
            let next = self.text[at + mark.len()..].lines().next().unwrap_or_default();
            next.contains("mod ") && next.ends_with('{')
        });
        let end = tests.map_or(self.text.len(), |(at, _)| at);
        self.text[..end].lines().map(|it| it.split("//").next().unwrap_or_default())
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// Every file of the library but the map and the entrance.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    let mut sources = Vec::new();
    for absolute in paths {
        let path = absolute.strip_prefix(root()).expect("below").to_owned();
        let first = path.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs").to_owned();
        if !["lib", "main"].contains(&module.as_str()) {
            sources.push(Source { path, module, text: fs::read_to_string(&absolute).expect("read") });
        }
    }
    assert!(sources.len() > 100, "the tree was found");
    sources
}

/// A file that is compiled for tests only.
fn is_test(path: &Path) -> bool {
    let Some(parent) = parent_module(path) else {
        return false;
    };
    let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
    let text = fs::read_to_string(root().join(&parent)).unwrap_or_default();
    text.contains(&format!("#[cfg(test)]\nmod {name};"))
        || text.contains(&format!("#[cfg(test)]\npub(crate) mod {name};"))
        || is_test(&parent)
}

fn parent_module(path: &Path) -> Option<PathBuf> {
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty())?;
    Some(directory.with_extension("rs"))
}

/// Whether a line of code names a crate or path, as a path of its own.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let begins = before.is_none_or(|it| !it.is_alphanumeric() && !"_:.\"`".contains(it));
        let ends = after.is_none_or(|it| !it.is_alphanumeric() && it != '_');
        let is_path = line[at + path.len()..].starts_with("::") || line.trim_start().starts_with("use ");
        begins && ends && is_path
    })
}

#[test]
fn a_path_is_told_from_a_word() {
    for (line, named) in [
        ("use sqlx::Row;", true),
        ("    let pool: sqlx::SqlitePool = open();", true),
        ("use crate::store::Store;", false),
        ("    let sqlx = 1;", false),
        ("    my_sqlx::open()", false),
        ("    \"sqlx::query\"", false),
    ] {
        assert_eq!(names(line, "sqlx"), named, "{line}");
    }
    assert!(names("use crate::store::Store;", "crate::store"));
    assert!(!names("use crate::stored::Store;", "crate::store"));
}

#[track_caller]
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn a_module_names_lower_floors_only() {
    let mut findings = Vec::new();
    for source in sources() {
        let floor = source.floor();
        for line in source.code() {
            for (name, other) in FLOORS {
                if names(line, &format!("crate::{name}")) && name != source.module && other >= floor {
                    findings.push(format!("{}: names `{name}`: {}", source.path.display(), line.trim()));
                }
            }
        }
    }
    none(&findings);
}

#[test]
fn every_module_of_the_first_level_has_a_floor_and_is_on_the_map() {
    let map = fs::read_to_string(root().join("lib.rs")).expect("read");
    let mut findings = Vec::new();
    for source in sources() {
        if !FLOORS.iter().any(|(name, _)| *name == source.module) {
            findings.push(format!("`{}` has no floor", source.module));
        }
        if !map.contains(&format!("mod {};", source.module)) {
            findings.push(format!("`{}` is not in lib.rs", source.module));
        }
    }
    none(&findings);
}

#[test]
fn floors_below_three_do_no_input_and_output() {
    let mut findings = Vec::new();
    for source in sources().into_iter().filter(|it| it.floor() < PURE_BELOW && !is_test(&it.path)) {
        for line in source.code() {
            for path in INPUT_AND_OUTPUT {
                if names(line, path) {
                    findings.push(format!("{}: {}", source.path.display(), line.trim()));
                }
            }
        }
    }
    none(&findings);
}

#[test]
fn a_foreign_crate_has_one_home() {
    let mut findings = Vec::new();
    for source in sources() {
        for (name, homes) in HOMES {
            if !homes.contains(&source.module.as_str()) && source.code().any(|it| names(it, name)) {
                findings.push(format!("{}: names `{name}`, whose home is {homes:?}", source.path.display()));
            }
        }
    }
    none(&findings);
}

#[test]
fn what_is_read_or_written_by_others_has_a_file_of_its_own() {
    let mut findings = Vec::new();
    for source in sources().into_iter().filter(|it| !is_test(&it.path)) {
        let is_wire = source
            .path
            .with_extension("")
            .components()
            .any(|it| WIRE_NAMES.contains(&it.as_os_str().to_string_lossy().as_ref()));
        for line in source.code() {
            if !is_wire
                && line.contains("derive(")
                && (line.contains("Serialize") || line.contains("Deserialize"))
            {
                findings.push(format!("{}: {}", source.path.display(), line.trim()));
            }
            if line.contains("serde(") && (line.contains("flatten") || line.contains("untagged")) {
                findings.push(format!("{}: {}", source.path.display(), line.trim()));
            }
        }
    }
    none(&findings);
}

#[test]
fn what_is_read_knows_all_its_fields() {
    let mut findings = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.code().collect();
        for (at, line) in
            lines.iter().enumerate().filter(|(_, it)| it.contains("derive(") && it.contains("Deserialize"))
        {
            let rest: Vec<&str> = lines[at..].iter().copied().take_while(|it| !it.contains('{')).collect();
            let head = lines.get(at + rest.len()).copied().unwrap_or_default();
            let denies = rest.iter().any(|it| it.contains("deny_unknown_fields"));
            if head.contains("struct ") && !denies {
                findings.push(format!("{}: {} {}", source.path.display(), line.trim(), head.trim()));
            }
        }
    }
    none(&findings);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut paths = Vec::new();
    for directory in ["src", "init/src", "init/tests", "tests", "benches"] {
        let directory = root().parent().expect("a parent").join(directory);
        if directory.exists() {
            walk(&directory, &mut paths);
        }
    }
    let first = |it: &PathBuf| fs::read_to_string(it).expect("read").starts_with("//! ");
    let findings: Vec<String> =
        paths.iter().filter(|it| !first(it)).map(|it| it.display().to_string()).collect();
    none(&findings);
}

#[test]
fn a_module_is_a_file_beside_its_directory() {
    let mut findings = Vec::new();
    for source in sources() {
        if source.path.file_name().is_some_and(|it| it == "mod.rs") {
            findings.push(source.path.display().to_string());
        }
        for forbidden in ["utils", "common", "helpers", "manager", "imp", "misc"] {
            if source.path.file_stem().is_some_and(|it| it == forbidden) {
                findings.push(source.path.display().to_string());
            }
        }
    }
    none(&findings);
}

#[test]
fn names_are_told_from_the_root() {
    let mut findings = Vec::new();
    for source in sources() {
        for line in source.code() {
            if line.contains("super::super") || line.trim_start().starts_with("use crate::{") {
                findings.push(format!("{}: {}", source.path.display(), line.trim()));
            }
        }
    }
    none(&findings);
}

#[test]
fn nothing_panics_on_purpose_and_nothing_is_left_to_do() {
    let mut findings = Vec::new();
    for source in sources().into_iter().filter(|it| !is_test(&it.path)) {
        for line in source.code() {
            for word in [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "dbg!(", "unsafe {"]
            {
                if line.contains(word) {
                    findings.push(format!("{}: {}", source.path.display(), line.trim()));
                }
            }
        }
        for word in ["TODO", "FIXME", "XXX"] {
            if source.text.contains(word) {
                findings.push(format!("{}: {word}", source.path.display()));
            }
        }
    }
    none(&findings);
}
