//! Copies of worktrees and submodules, looked at by the real git while the originals are out of reach.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::sandbox::workspace::Choice;
use crate::sandbox::workspace::round_trip::Place;
use crate::task::GitHistory;

/// Runs git as in a sandbox: nobody's configuration, a name for commits, local transports for submodules.
fn git(directory: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.test")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.test")
        .output()
        .expect("git runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?} in {}: {text}{errors}", directory.display());
    text.trim_end().to_owned()
}

/// A repository `main` with two commits, in the directory of that name.
fn repository(place: &Place, name: &str) -> std::path::PathBuf {
    let path = place.path(name);
    fs::create_dir_all(&path).expect("a directory");
    git(&path, &["init", "-q"]);
    for content in ["one", "two"] {
        fs::write(path.join("file"), content).expect("a file");
        git(&path, &["add", "file"]);
        git(&path, &["commit", "-qm", content]);
    }
    path
}

/// Copies `name`, puts everything else out of reach, and asks git in the copy whether all is well.
fn check(place: &Place, name: &str, submodules: &[&str]) -> std::path::PathBuf {
    let (summary, _) = place.copy(name);
    assert_eq!(summary.notes, Vec::<String>::new());
    for entry in fs::read_dir(place.path("")).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path != place.path("copy") {
            fs::rename(&path, path.with_extension("away")).expect("it moves");
        }
    }
    let copy = place.path("copy");
    for part in std::iter::once("").chain(submodules.iter().copied()) {
        let part = copy.join(part);
        assert_eq!(git(&part, &["status", "--porcelain"]), "");
        assert_eq!(
            git(&part, &["rev-parse", "--show-toplevel"]),
            part.to_str().expect("utf-8").trim_end_matches('/')
        );
        git(&part, &["fsck", "--no-progress"]);
        fs::write(part.join("new"), "new").expect("a file");
        assert_eq!(git(&part, &["status", "--porcelain", "--", "new"]), "?? new");
        git(&part, &["add", "new"]);
        git(&part, &["commit", "-qm", "inside"]);
    }
    copy
}

#[test]
fn a_plain_repository_works_inside() {
    let place = Place::new();
    repository(&place, "main");
    check(&place, "main", &[]);
}

#[test]
fn a_linked_worktree_works_inside_on_its_own_branch() {
    let place = Place::new();
    let main = repository(&place, "main");
    git(&main, &["worktree", "add", "-q", "-b", "feature/x", "../tree"]);
    let tree = place.path("tree");
    fs::write(tree.join("file"), "three").expect("a file");
    git(&tree, &["commit", "-qam", "three"]);
    let copy = check(&place, "tree", &[]);
    assert_eq!(git(&copy, &["branch", "--show-current"]), "feature/x");
    assert_eq!(git(&copy, &["log", "--format=%s"]), "inside\nthree\ntwo\none");
    assert_eq!(git(&copy, &["rev-parse", "main"]), git(&copy, &["rev-parse", "HEAD~2"]));
    assert_eq!(git(&copy, &["reflog", "--format=%gs", "-1"]), "commit: inside");
    assert_eq!(git(&copy, &["worktree", "list"]).lines().count(), 1);
}

#[test]
fn what_is_staged_in_a_worktree_is_staged_inside() {
    let place = Place::new();
    let main = repository(&place, "main");
    git(&main, &["worktree", "add", "-q", "--detach", "../tree"]);
    fs::write(main.join("only-main"), "x").expect("a file");
    git(&main, &["add", "only-main"]);
    fs::write(place.path("tree/staged"), "x").expect("a file");
    git(&place.path("tree"), &["add", "staged"]);
    place.copy("tree");
    assert_eq!(git(&place.path("copy"), &["status", "--porcelain"]), "A  staged");
}

#[test]
fn a_worktree_of_a_bare_repository_works_inside() {
    let place = Place::new();
    repository(&place, "main");
    git(&place.path(""), &["clone", "-q", "--bare", "main", "bare"]);
    git(&place.path("bare"), &["worktree", "add", "-q", "../tree", "main"]);
    check(&place, "tree", &[]);
}

#[test]
fn a_sparse_worktree_with_its_own_configuration_works_inside() {
    let place = Place::new();
    let main = repository(&place, "main");
    fs::create_dir(main.join("left-out")).expect("a directory");
    fs::write(main.join("left-out/x"), "x").expect("a file");
    git(&main, &["add", "."]);
    git(&main, &["commit", "-qm", "three"]);
    git(&main, &["worktree", "add", "-q", "../tree", "-b", "sparse"]);
    git(&place.path("tree"), &["sparse-checkout", "set", "--cone"]);
    assert!(!place.path("tree/left-out").exists());
    check(&place, "tree", &[]);
}

#[test]
fn a_repository_with_submodules_works_inside() {
    let place = Place::new();
    repository(&place, "library");
    let main = repository(&place, "main");
    git(&main, &["submodule", "add", "-q", "../library", "deps/library"]);
    git(&main, &["commit", "-qm", "three"]);
    let copy = check(&place, "main", &[]);
    assert_eq!(git(&copy.join("deps/library"), &["status", "--porcelain"]), "");
}

#[test]
fn a_submodule_alone_works_inside() {
    let place = Place::new();
    repository(&place, "library");
    let main = repository(&place, "main");
    git(&main, &["submodule", "add", "-q", "../library", "deps/library"]);
    git(&main, &["commit", "-qm", "three"]);
    check(&place, "main/deps/library", &[]);
}

#[test]
fn a_submodule_in_a_submodule_works_inside() {
    let place = Place::new();
    repository(&place, "inner");
    let library = repository(&place, "library");
    git(&library, &["submodule", "add", "-q", "../inner", "in ner"]);
    git(&library, &["commit", "-qm", "three"]);
    let main = repository(&place, "main");
    git(&main, &["submodule", "add", "-q", "../library", "library"]);
    git(&main, &["submodule", "update", "-q", "--init", "--recursive"]);
    git(&main, &["commit", "-qm", "three"]);
    let copy = check(&place, "main/library", &[]);
    assert_eq!(git(&copy.join("in ner"), &["status", "--porcelain"]), "");
    assert_eq!(git(&copy.join("in ner"), &["log", "--format=%s"]), "two\none");
}

#[test]
fn a_submodule_in_a_linked_worktree_works_inside() {
    let place = Place::new();
    repository(&place, "library");
    let main = repository(&place, "main");
    git(&main, &["submodule", "add", "-q", "../library", "deps/library"]);
    git(&main, &["commit", "-qm", "three"]);
    git(&main, &["worktree", "add", "-q", "../tree", "-b", "other"]);
    git(&place.path("tree"), &["submodule", "update", "-q", "--init"]);
    let copy = check(&place, "tree", &[]);
    assert_eq!(git(&copy.join("deps/library"), &["status", "--porcelain"]), "");
    assert_eq!(git(&copy.join("deps/library"), &["log", "--format=%s"]), "two\none");
}

#[test]
fn a_worktree_inside_its_repository_works_inside() {
    let place = Place::new();
    let main = repository(&place, "main");
    fs::write(main.join(".git/info/exclude"), "/trees\n").expect("a file");
    git(&main, &["worktree", "add", "-q", "trees/one", "-b", "one"]);
    let copy = check(&place, "main", &[]);
    assert_eq!(git(&copy.join("trees/one"), &["status", "--porcelain"]), "");
    assert_eq!(git(&copy.join("trees/one"), &["branch", "--show-current"]), "one");
}

/// A `.git` file that the tree's author wrote, naming the directory `target` beside the project.
fn check_not_followed(target: &str, prepare: impl Fn(&Place)) {
    let place = Place::new();
    fs::create_dir_all(place.path("secret")).expect("a directory");
    fs::write(place.path("secret/key"), "canary").expect("a file");
    fs::write(place.path("project/.git"), format!("gitdir: {}\n", place.path(target).display()))
        .expect("a file");
    prepare(&place);
    let (summary, _) = place.copy("project");
    assert!(place.path("copy/.git").is_file(), "nothing was copied for it");
    assert!(
        summary.notes.iter().all(|it| it.starts_with("git does not work inside: ")),
        "{:?}",
        summary.notes
    );
    let found =
        Command::new("grep").args(["-r", "canary"]).arg(place.path("copy")).output().expect("grep runs");
    assert!(found.stdout.is_empty());
}

#[test]
fn a_git_file_cannot_name_a_directory_that_does_not_point_back() {
    check_not_followed("secret", |_| {});
}

#[test]
fn a_git_file_cannot_name_another_repository() {
    check_not_followed("other/.git", |place| {
        let other = repository(place, "other");
        fs::write(other.join(".git/canary"), "canary").expect("a file");
    });
}

#[test]
fn a_git_file_cannot_name_another_repositorys_worktree() {
    check_not_followed("other/.git/worktrees/tree", |place| {
        let other = repository(place, "other");
        fs::write(other.join(".git/hooks/canary"), "canary").expect("a file");
        git(&other, &["worktree", "add", "-q", "../tree", "-b", "x"]);
    });
}

#[test]
fn a_common_directory_named_from_inside_the_tree_is_not_copied() {
    check_not_followed("project/worktrees/x", |place| {
        fs::create_dir_all(place.path("project/worktrees/x")).expect("directories");
        let back = format!("{}\n", place.path("project/.git").display());
        fs::write(place.path("project/worktrees/x/gitdir"), back).expect("a file");
        let common = format!("{}\n", place.path("secret").display());
        fs::write(place.path("project/worktrees/x/commondir"), common).expect("a file");
    });
}

#[test]
fn a_git_file_that_names_nothing_is_told() {
    let place = Place::new();
    fs::write(place.path("project/.git"), "gitdir: ../absent\n").expect("a file");
    let (summary, _) = place.copy("project");
    assert_eq!(summary.notes, ["git does not work inside: `.git` names `../absent`, which is not there"]);
}

#[test]
fn borrowed_objects_are_told_and_the_advice_helps() {
    let place = Place::new();
    repository(&place, "main");
    git(&place.path(""), &["clone", "-q", "--shared", "main", "borrower"]);
    let (summary, _) = place.copy("borrower");
    assert_eq!(summary.notes.len(), 1);
    assert!(summary.notes[0].contains("`git repack -a -d`"));
    fs::remove_dir_all(place.path("copy")).expect("it is gone");
    git(&place.path("borrower"), &["repack", "-a", "-d", "-q"]);
    fs::remove_file(place.path("borrower/.git/objects/info/alternates")).expect("it is gone");
    check(&place, "borrower", &[]);
}

/// Copies `name` with its last commit only, puts everything else out of reach, and asks git in the copy.
fn check_shallow(place: &Place, name: &str, status: &str) -> std::path::PathBuf {
    place.copy_with(name, &shallow());
    let head = git(&place.path(name), &["rev-parse", "HEAD"]);
    for entry in fs::read_dir(place.path("")).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path != place.path("copy") {
            fs::rename(&path, path.with_extension("away")).expect("it moves");
        }
    }
    let copy = place.path("copy");
    assert_eq!(git(&copy, &["rev-parse", "HEAD"]), head);
    assert_eq!(git(&copy, &["status", "--porcelain"]), status);
    git(&copy, &["fsck", "--no-progress", "--strict"]);
    assert_eq!(git(&copy, &["log", "--format=%H"]), head);
    git(&copy, &["commit", "-q", "--allow-empty", "-m", "inside"]);
    assert_eq!(git(&copy, &["log", "--format=%s", "-1"]), "inside");
    git(&copy, &["checkout", "-q", "HEAD", "--", "."]);
    copy
}

fn shallow() -> Choice {
    Choice { git: GitHistory::Shallow, include_secrets: Vec::new() }
}

/// A repository with an older commit whose content is found nowhere in a shallow copy.
fn with_a_past(place: &Place) -> std::path::PathBuf {
    let main = repository(place, "main");
    for number in 0..40 {
        let path = main.join(format!("d{}/f{number}", number % 3));
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, format!("{number}\n{}", "line\n".repeat(200))).expect("a file");
    }
    fs::write(main.join("gone"), "canary-of-the-past").expect("a file");
    git(&main, &["add", "."]);
    git(&main, &["commit", "-qm", "three"]);
    git(&main, &["rm", "-q", "gone"]);
    fs::write(main.join("d0/f0"), "four").expect("a file");
    std::os::unix::fs::symlink("file", main.join("link")).expect("a link");
    git(&main, &["add", "."]);
    git(&main, &["commit", "-qm", "four"]);
    git(&main, &["branch", "other", "HEAD~1"]);
    git(&main, &["tag", "-a", "v1", "-m", "v1"]);
    main
}

fn has_no_past(copy: &Path) {
    let objects = git(copy, &["cat-file", "--batch-all-objects", "--batch"]);
    assert!(!objects.contains("canary-of-the-past"));
    assert_eq!(git(copy, &["branch", "--format=%(refname)"]), "refs/heads/main");
}

#[test]
fn a_shallow_copy_of_loose_objects_has_the_last_commit_only() {
    let place = Place::new();
    with_a_past(&place);
    has_no_past(&check_shallow(&place, "main", ""));
}

#[test]
fn a_shallow_copy_of_packed_objects_with_deltas_has_the_last_commit_only() {
    let place = Place::new();
    let main = with_a_past(&place);
    git(&main, &["repack", "-adfq", "--depth=50", "--window=50"]);
    git(&main, &["pack-refs", "--all"]);
    has_no_past(&check_shallow(&place, "main", ""));
}

#[test]
fn what_is_staged_is_in_a_shallow_copy_too() {
    let place = Place::new();
    let main = with_a_past(&place);
    fs::write(main.join("staged"), "new").expect("a file");
    git(&main, &["add", "staged"]);
    fs::write(main.join("announced"), "new").expect("a file");
    git(&main, &["add", "-N", "announced"]);
    place.copy_with("main", &shallow());
    let copy = place.path("copy");
    assert_eq!(
        git(&copy, &["status", "--porcelain", "--", "staged", "announced"]),
        " A announced\nA  staged"
    );
    assert_eq!(git(&copy, &["show", ":staged"]), "new");
}

#[test]
fn a_shallow_copy_is_made_of_a_worktree_a_submodule_and_a_detached_head() {
    let place = Place::new();
    let main = with_a_past(&place);
    git(&main, &["worktree", "add", "-q", "../tree", "-b", "feature/x"]);
    check_shallow(&place, "tree", "");
    let place = Place::new();
    repository(&place, "library");
    let main = with_a_past(&place);
    git(&main, &["submodule", "add", "-q", "../library", "deps/library"]);
    git(&main, &["commit", "-qm", "five"]);
    check_shallow(&place, "main/deps/library", "");
    let place = Place::new();
    let main = with_a_past(&place);
    git(&main, &["checkout", "-q", "--detach", "HEAD~1"]);
    check_shallow(&place, "main", "");
}

#[test]
fn a_shallow_copy_of_a_repository_with_submodules_is_quiet_about_them() {
    let place = Place::new();
    repository(&place, "library");
    let main = with_a_past(&place);
    git(&main, &["submodule", "add", "-q", "../library", "deps/library"]);
    git(&main, &["commit", "-qm", "five"]);
    place.copy_with("main", &shallow());
    let copy = place.path("copy");
    assert_eq!(git(&copy, &["status", "--porcelain"]), "");
    assert!(copy.join("deps/library/file").exists() && !copy.join("deps/library/.git").exists());
}

#[test]
fn a_first_commit_and_none_are_whole_as_they_are() {
    let place = Place::new();
    let main = place.path("main");
    fs::create_dir_all(&main).expect("a directory");
    git(&main, &["init", "-q"]);
    place.copy_with("main", &shallow());
    assert_eq!(git(&place.path("copy"), &["status", "--porcelain"]), "");
    fs::remove_dir_all(place.path("copy")).expect("it is gone");
    fs::write(main.join("file"), "x").expect("a file");
    git(&main, &["add", "."]);
    git(&main, &["commit", "-qm", "one"]);
    let copy = check_shallow(&place, "main", "");
    assert!(!copy.join(".git/shallow").exists());
}

fn check_not_shallow(prepare: impl Fn(&Path), said: &str) {
    let place = Place::new();
    let main = with_a_past(&place);
    prepare(&main);
    let refusal =
        crate::sandbox::workspace::scan(&main, crate::sandbox::workspace::round_trip::LIMITS, &shallow())
            .expect_err("a refusal")
            .to_string();
    assert!(refusal.contains(said), "{refusal}");
    assert!(refusal.contains("give `--git full` or `--git none`"), "{refusal}");
}

#[test]
fn what_cannot_be_made_shallow_is_told_with_the_reason() {
    check_not_shallow(
        |main| fs::remove_dir_all(main.join(".git/objects")).expect("gone"),
        "it has no objects",
    );
    check_not_shallow(
        |main| fs::write(main.join(".git/HEAD"), "ref: ../../x").expect("written"),
        "names no branch",
    );
    check_not_shallow(
        |main| fs::write(main.join(".git/HEAD"), "ab".repeat(20)).expect("written"),
        "is not there: the repository is a partial one",
    );
    check_not_shallow(
        |main| {
            let tree = git(main, &["rev-parse", "HEAD^{tree}"]);
            let path = main.join(format!(".git/objects/{}/{}", &tree[..2], &tree[2..]));
            fs::remove_file(&path).expect("gone");
            fs::write(path, "damaged").expect("written");
        },
        "is damaged",
    );
}

/// Which withheld files of `name` are told as readable through the history.
#[track_caller]
fn check_tracked(place: &Place, name: &str, expected: &[(&str, bool)]) {
    let (summary, _) = place.copy(name);
    let told: Vec<(String, bool)> = summary
        .withheld
        .iter()
        .map(|it| (String::from_utf8_lossy(&it.path).into_owned(), it.in_history))
        .collect();
    let expected: Vec<(String, bool)> = expected.iter().map(|(path, it)| ((*path).to_owned(), *it)).collect();
    assert_eq!(told, expected);
}

/// Commits a secret, and leaves another beside it.
fn add_secrets(repository: &Path) {
    fs::create_dir_all(repository.join(".aws")).expect("a directory");
    fs::write(repository.join(".aws/config"), "x").expect("a file");
    fs::write(repository.join(".env"), "x").expect("a file");
    git(repository, &["add", "-f", ".env", ".aws"]);
    git(repository, &["commit", "-qm", "secrets"]);
    fs::write(repository.join(".npmrc"), "x").expect("a file");
}

#[test]
fn what_is_tracked_is_told_in_a_repository_a_worktree_and_a_submodule() {
    let place = Place::new();
    let main = repository(&place, "main");
    add_secrets(&main);
    let told = [(".aws", true), (".env", true), (".npmrc", false)];
    check_tracked(&place, "main", &told);
    fs::remove_dir_all(place.path("copy")).expect("it is gone");
    git(&main, &["worktree", "add", "-q", "../tree", "-b", "other"]);
    fs::write(place.path("tree/.npmrc"), "x").expect("a file");
    check_tracked(&place, "tree", &told);

    let place = Place::new();
    add_secrets(&repository(&place, "library"));
    let main = repository(&place, "main");
    git(&main, &["submodule", "add", "-q", "../library", "deps/library"]);
    fs::write(main.join("deps/library/.npmrc"), "x").expect("a file");
    fs::write(main.join(".env"), "x").expect("a file");
    check_tracked(
        &place,
        "main",
        &[
            (".env", false),
            ("deps/library/.aws", true),
            ("deps/library/.env", true),
            ("deps/library/.npmrc", false),
        ],
    );
}

#[test]
fn what_an_index_does_not_tell_is_told_as_the_worse() {
    let place = Place::new();
    let main = repository(&place, "main");
    fs::write(main.join(".env"), "x").expect("a file");
    git(&main, &["update-index", "--split-index"]);
    check_tracked(&place, "main", &[(".env", true)]);
    fs::remove_dir_all(place.path("copy")).expect("it is gone");
    fs::write(main.join(".git/index"), "DIRC damaged").expect("a file");
    check_tracked(&place, "main", &[(".env", true)]);
}
