//! The pages hang together: each is in the book, and each link leads to a file and, where it names one, a heading.
//!
//! What a page says and does is tried elsewhere (`readme.rs`, `reference.rs`). Links to other sites are not followed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Pages outside of the book whose links are held too.
const OTHERS: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap_or_else(|cause| panic!("{page}: {cause}"))
}

/// Every page below `docs/`, as a path from the root of the repository.
fn pages() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![root().join("docs")];
    while let Some(directory) = left.pop() {
        for path in std::fs::read_dir(directory).unwrap().map(|it| it.unwrap().path()) {
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|it| it == "md") {
                found.insert(path.strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    found
}

/// The lines of a page that are no code.
fn prose(text: &str) -> Vec<&str> {
    let mut code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            code = !code;
        } else if !code {
            lines.push(line);
        }
    }
    lines
}

/// What the links of a page lead to. A link may be broken over two lines in its words, never in its target.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        // Code in a line may hold anything.
        let spoken: String = line.split('`').step_by(2).collect();
        found.extend(spoken.split("](").skip(1).filter_map(|it| Some(it.split_once(')')?.0.to_owned())));
    }
    found
}

/// The names that headings of a page get: lower case, spaces as dashes, no punctuation.
fn headings(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for line in prose(text) {
        let words = line.trim_start_matches('#');
        if words.len() == line.len() || !words.starts_with(' ') {
            continue;
        }
        let mut name = String::new();
        for letter in words.trim().to_lowercase().chars() {
            match letter {
                ' ' => name.push('-'),
                _ if letter.is_alphanumeric() || letter == '-' || letter == '_' => name.push(letter),
                _ => {}
            }
        }
        let count = taken.entry(name.clone()).or_default();
        names.insert(if *count == 0 { name } else { format!("{name}-{count}") });
        *count += 1;
    }
    names
}

/// The path that a link of a page leads to, without `.` and `..`.
fn target(page: &str, file: &str) -> String {
    let mut path = PathBuf::new();
    for part in Path::new(page).parent().unwrap().join(file).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{page}: `{file}` leaves the repository"),
            part => path.push(part),
        }
    }
    path.display().to_string()
}

fn is_outside(link: &str) -> bool {
    link.contains("://") || link.starts_with("mailto:")
}

/// Why a link of a page leads nowhere.
fn wrong(page: &str, link: &str) -> Option<String> {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.to_owned() } else { target(page, file) };
    if !root().join(&target).exists() {
        return Some(format!("{page}: `{link}`: there is no {target}"));
    }
    if page.starts_with("docs/") && !target.starts_with("docs/") {
        return Some(format!("{page}: `{link}` leads out of the book, which is read without the repository"));
    }
    if !heading.is_empty() && !headings(&text(&target)).contains(heading) {
        return Some(format!("{page}: `{link}`: {target} has no such heading"));
    }
    None
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrongs = Vec::new();
    for page in pages().into_iter().chain(OTHERS.map(str::to_owned)) {
        let links = links(&text(&page));
        wrongs.extend(links.iter().filter(|it| !is_outside(it)).filter_map(|it| wrong(&page, it)));
    }
    assert!(wrongs.is_empty(), "{wrongs:#?}");
}

#[test]
fn every_page_is_in_the_book_once() {
    let mut listed = Vec::new();
    for link in links(&text("docs/SUMMARY.md")) {
        listed.push(target("docs/SUMMARY.md", &link));
    }
    listed.sort();
    let mut pages = pages();
    assert!(pages.remove("docs/SUMMARY.md"));
    assert_eq!(listed, pages.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_wrong_link_is_found() {
    assert_eq!(wrong("docs/index.md", "quickstart.md#a-first-task"), None);
    assert_eq!(wrong("docs/recipes/c.md", "../quickstart.md"), None);
    assert!(wrong("docs/index.md", "absent.md").unwrap().contains("there is no docs/absent.md"));
    assert!(wrong("docs/index.md", "quickstart.md#absent").unwrap().contains("no such heading"));
    assert!(wrong("docs/index.md", "../README.md").unwrap().contains("leads out of the book"));
}

#[test]
fn links_and_headings_are_told_from_code() {
    let page =
        "# A `word` & more\n[a](b.md) and `[no](c.md)`\n```sh\n# no\n[no](d.md)\n```\n## Twice\n## Twice\n";
    assert_eq!(links(page), ["b.md"]);
    let names: Vec<_> = headings(page).into_iter().collect();
    assert_eq!(names, ["a-word--more", "twice", "twice-1"]);
}
