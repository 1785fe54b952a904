//! Which paths a change may not reach, or not without being named. Pure.
//!
//! Names are compared as the most careless file system would: without case, without what HFS ignores, without what NTFS
//! cuts off.

/// What stands before a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Git's own: never brought back.
    Git,
    /// Only when named, for this reason.
    Named(&'static str),
}

/// Names, each with the reason why nobody should get it unasked. A name that ends in `/*` is a directory's.
const NAMED: [(&str, &str); 53] = [
    (".vscode/*", "an editor runs its tasks and settings"),
    (".idea/*", "an editor runs its tasks and settings"),
    (".fleet/*", "an editor runs its tasks and settings"),
    (".zed/*", "an editor runs its tasks and settings"),
    (".vs/*", "an editor runs its tasks and settings"),
    (".vim/*", "an editor runs its settings"),
    (".devcontainer/*", "an editor builds and runs it"),
    (".devcontainer.json", "an editor builds and runs it"),
    (".cursor/*", "an agent obeys it"),
    (".claude/*", "an agent obeys it"),
    (".mcp.json", "an agent starts its programs"),
    (".vimrc", "an editor runs it"),
    (".exrc", "an editor runs it"),
    (".nvimrc", "an editor runs it"),
    (".nvim.lua", "an editor runs it"),
    (".lvimrc", "an editor runs it"),
    (".dir-locals.el", "an editor runs it"),
    (".dir-locals-2.el", "an editor runs it"),
    (".gdbinit", "a debugger runs it"),
    (".lldbinit", "a debugger runs it"),
    (".envrc", "a shell runs it on entering the directory"),
    (".mise.toml", "a shell runs it on entering the directory"),
    ("mise.toml", "a shell runs it on entering the directory"),
    (".autoenv.zsh", "a shell runs it on entering the directory"),
    (".husky/*", "git runs it"),
    (".githooks/*", "git runs it"),
    (".pre-commit-config.yaml", "git runs what it names"),
    (".lefthook.yml", "git runs what it names"),
    ("lefthook.yml", "git runs what it names"),
    (".gitattributes", "git runs filters that it names"),
    (".gitmodules", "git fetches what it names"),
    (".gitconfig", "git obeys it"),
    ("head", "git would take its directory for a repository"),
    (".github/*", "a CI service runs it"),
    (".gitea/*", "a CI service runs it"),
    (".forgejo/*", "a CI service runs it"),
    (".circleci/*", "a CI service runs it"),
    (".buildkite/*", "a CI service runs it"),
    (".gitlab-ci.yml", "a CI service runs it"),
    (".travis.yml", "a CI service runs it"),
    ("azure-pipelines.yml", "a CI service runs it"),
    (".cargo/*", "cargo runs programs that it names"),
    (".npmrc", "a package manager takes registries and credentials from it"),
    (".yarnrc", "a package manager runs programs that it names"),
    (".yarnrc.yml", "a package manager runs programs that it names"),
    (".pnpmfile.cjs", "a package manager runs it"),
    (".pypirc", "a package manager takes credentials from it"),
    (".netrc", "programs take credentials from it"),
    (".bazelrc", "bazel obeys it"),
    (".aegisignore", "it says what the next sandbox gets to see"),
    ("aegis.toml", "it says what the next run asks for"),
    (".env", "programs take their environment from it"),
    (".ssh/*", "it holds keys"),
];

/// What stands before this path, if anything.
pub fn guard(path: &[u8]) -> Option<Guard> {
    let names: Vec<String> = path
        // A backslash parts names where a tree is shared with another system.
        .split(|it| matches!(it, b'/' | b'\\'))
        .map(plain)
        .collect();
    if names.iter().any(|it| it == ".git" || is_short_git(it)) {
        return Some(Guard::Git);
    }
    let last = names.len().saturating_sub(1);
    for (at, name) in names.iter().enumerate() {
        for (rule, reason) in NAMED {
            let hit = match rule.strip_suffix("/*") {
                Some(directory) => name == directory,
                None => at == last && name == rule,
            };
            if hit {
                return Some(Guard::Named(reason));
            }
        }
        if at == last && name.ends_with(".code-workspace") {
            return Some(Guard::Named("an editor runs its tasks and settings"));
        }
        if at == last && name.starts_with(".env.") {
            return Some(Guard::Named("programs take their environment from it"));
        }
    }
    None
}

/// `git~1` and its like: the short names that NTFS gives to `.git`.
fn is_short_git(name: &str) -> bool {
    name.strip_prefix("git~").is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit()))
}

/// A name as the most careless file system reads it.
fn plain(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let text: String = text.chars().filter(|it| !ignored(*it)).flat_map(char::to_lowercase).collect();
    // A colon begins a stream's name, and dots and spaces at the end are cut.
    let text = text.split(':').next().unwrap_or_default();
    text.trim_end_matches([' ', '.']).to_owned()
}

/// Code points that HFS leaves out when it compares names.
fn ignored(character: char) -> bool {
    matches!(
        character,
        '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_git(path: &str) {
        assert_eq!(guard(path.as_bytes()), Some(Guard::Git), "{path:?}");
    }

    fn check_named(path: &str) {
        assert!(matches!(guard(path.as_bytes()), Some(Guard::Named(_))), "{path:?}");
    }

    fn check_plain(path: &str) {
        assert_eq!(guard(path.as_bytes()), None, "{path:?}");
    }

    #[test]
    fn git_is_gits_at_any_depth_and_in_any_spelling() {
        for path in [
            ".git",
            ".git/hooks/pre-commit",
            "a/b/.git",
            "sub/.git/config",
            ".GIT/config",
            ".GiT",
            "git~1",
            "GIT~1/config",
            "git~12",
            ".git.",
            ".git ",
            ".git . .",
            ".git::$INDEX_ALLOCATION/x",
            ".git:x",
            "a\\.git\\config",
            ".g\u{200c}it/config",
            "\u{feff}.git",
            ".\u{202e}GIT",
        ] {
            check_git(path);
        }
    }

    #[test]
    fn what_runs_on_opening_has_to_be_named() {
        for path in [
            ".vscode/tasks.json",
            ".VSCode",
            "sub/.idea/x",
            "a.code-workspace",
            ".envrc",
            "x/.ENVRC",
            ".husky/pre-commit",
            ".githooks/x",
            ".pre-commit-config.yaml",
            "a/.gitattributes",
            ".gitmodules",
            ".devcontainer/a/b",
            ".npmrc",
            ".cargo/config.toml",
            ".vimrc",
            ".exrc",
            ".nvimrc",
            ".dir-locals.el",
            ".github/workflows/ci.yml",
            ".env",
            ".env.local",
            "bare/HEAD",
            "aegis.toml",
            ".aegisignore",
            ".envrc.",
        ] {
            check_named(path);
        }
    }

    #[test]
    fn ordinary_files_are_ordinary() {
        for path in [
            "Makefile",
            "src/git/mod.rs",
            ".gitignore",
            "github/x",
            "env",
            "HEAD/x",
            "git~",
            "git~x",
            "a.git",
            "npmrc",
        ] {
            check_plain(path);
        }
    }
}
