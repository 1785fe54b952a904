//! Which entries of a git directory go in: those that git itself makes and that hold no login. Hooks, what was fetched
//! from where, and whatever other tools put there stay outside. Pure.

/// Files and directories directly in a git directory; names in capitals that end in `_HEAD` are added to them.
const TOP: [&[u8]; 31] = [
    b"AUTO_MERGE",
    b"BISECT_ANCESTORS_OK",
    b"BISECT_EXPECTED_REV",
    b"BISECT_LOG",
    b"BISECT_NAMES",
    b"BISECT_RUN",
    b"BISECT_START",
    b"BISECT_TERMS",
    b"COMMIT_EDITMSG",
    b"HEAD",
    b"MERGE_AUTOSTASH",
    b"MERGE_MODE",
    b"MERGE_MSG",
    b"MERGE_RR",
    b"SQUASH_MSG",
    b"commondir",
    b"config",
    b"config.worktree",
    b"description",
    b"gitdir",
    b"index",
    b"info",
    b"locked",
    b"logs",
    b"objects",
    b"packed-refs",
    b"rebase-apply",
    b"rebase-merge",
    b"refs",
    b"sequencer",
    b"shallow",
];
/// More of them, which only some repositories have.
const RARE: [&[u8]; 5] = [b"lfs", b"modules", b"reftable", b"rr-cache", b"worktrees"];

/// What is done with an entry of a git directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It goes in as it is.
    Whole,
    /// It goes in without logins: a configuration.
    Config,
    /// It goes in without logins in URLs: what references did.
    Log,
    /// It stays outside.
    Outside,
}

/// What is done with the entry at `path`, relative to its git directory.
pub fn part(path: &[u8], is_dir: bool) -> Part {
    let first = path.split(|it| *it == b'/').next().unwrap_or_default();
    let rest = path.get(first.len() + 1..).unwrap_or_default();
    match first {
        b"config" | b"config.worktree" if rest.is_empty() && !is_dir => Part::Config,
        b"logs" if !is_dir => Part::Log,
        // Repositories of submodules and worktrees are git directories of their own; nothing else lies between.
        b"modules" | b"worktrees" if !is_dir => Part::Outside,
        b"lfs" if rest.is_empty() || rest == b"objects" || rest.starts_with(b"objects/") => Part::Whole,
        b"lfs" => Part::Outside,
        _ if is_known(first) => Part::Whole,
        _ => Part::Outside,
    }
}

/// The same in a directory that is a repository by what lies in it, as a bare one: it may as well be a project's own, so
/// that what git does not know is the project's.
pub fn part_of_bare(path: &[u8], is_dir: bool) -> Part {
    match path.split(|it| *it == b'/').next().unwrap_or_default() {
        b"hooks" | b"FETCH_HEAD" | b"branches" | b"remotes" | b"credentials" => Part::Outside,
        first if first.starts_with(b"config.") && first != b"config.worktree" => Part::Outside,
        b"config" | b"config.worktree" | b"logs" | b"lfs" => part(path, is_dir),
        _ => Part::Whole,
    }
}

/// What of a git directory a shallow copy has from the disk; its objects and references are made anew.
pub fn needed_by_head(path: &[u8]) -> bool {
    let first = path.split(|it| *it == b'/').next().unwrap_or_default();
    let plain: [&[u8]; 6] = [b"HEAD", b"config", b"config.worktree", b"description", b"index", b"info"];
    plain.contains(&first) || first.starts_with(b"sharedindex.")
}

/// Whether a directory with these entries is a git directory, whatever its name.
pub fn is_git_directory(has: impl Fn(&[u8]) -> bool) -> bool {
    has(b"HEAD") && ((has(b"objects") && has(b"refs")) || has(b"commondir"))
}

fn is_known(name: &[u8]) -> bool {
    let is_reference = name.ends_with(b"_HEAD")
        && name != b"FETCH_HEAD"
        && name.iter().all(|it| it.is_ascii_uppercase() || *it == b'_');
    TOP.contains(&name) || RARE.contains(&name) || is_reference || name.starts_with(b"sharedindex.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(paths: &[&str], is_dir: bool, expected: Part) {
        for path in paths {
            assert_eq!(part(path.as_bytes(), is_dir), expected, "{path}");
        }
    }

    #[test]
    fn what_git_needs_goes_in() {
        check(
            &["HEAD", "ORIG_HEAD", "MERGE_HEAD", "index", "packed-refs", "refs/heads/hooks"],
            false,
            Part::Whole,
        );
        check(
            &["objects", "refs", "logs", "modules", "modules/deep", "worktrees", "lfs/objects/aa"],
            true,
            Part::Whole,
        );
    }

    #[test]
    fn hooks_logins_and_what_others_put_there_stay_outside() {
        check(&["hooks", "branches", "remotes", "svn", "lfs/tmp", "annex"], true, Part::Outside);
        check(
            &["hooks", "FETCH_HEAD", "credentials", "config.bak", "config.lock", "x"],
            false,
            Part::Outside,
        );
        check(&["modules/stray", "worktrees/stray", "lfs/cache"], false, Part::Outside);
    }

    #[test]
    fn what_only_looks_like_a_repository_keeps_its_own_files() {
        for path in ["src", "main.rs", "objects/x", "HEAD"] {
            assert_eq!(part_of_bare(path.as_bytes(), false), Part::Whole, "{path}");
        }
        for path in ["hooks", "FETCH_HEAD", "credentials", "config.bak", "lfs/cache"] {
            assert_eq!(part_of_bare(path.as_bytes(), false), Part::Outside, "{path}");
        }
        assert_eq!(part_of_bare(b"config", false), Part::Config);
    }

    #[test]
    fn configurations_and_logs_are_cleaned() {
        check(&["config", "config.worktree"], false, Part::Config);
        check(&["logs/HEAD", "logs/refs/heads/main"], false, Part::Log);
        check(&["refs/heads/config", "info/config"], false, Part::Whole);
    }
}
