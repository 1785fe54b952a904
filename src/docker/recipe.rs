//! The images that ship: their recipes, carried in the program, and the process that turns one into a tar.
//!
//! What a recipe does is `images/build.sh`'s to know; here it is started, listened to and ended.

use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// The script that every recipe is data for.
const BUILD_SCRIPT: &str = include_str!("../../images/build.sh");
/// Name and recipe, in the order in which they are listed.
const RECIPES: [(&str, &str); 5] = [
    ("base", include_str!("../../images/base/recipe")),
    ("go", include_str!("../../images/go/recipe")),
    ("minimal", include_str!("../../images/minimal/recipe")),
    ("node", include_str!("../../images/node/recipe")),
    ("rust", include_str!("../../images/rust/recipe")),
];
/// Bytes of a recipe's talk that are kept for its error.
const TALK_BYTES_MAX: usize = 4096;

/// Names of the images that can be built here.
pub fn names() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|(name, _)| *name)
}

/// A recipe at work. Dropped, it ends, with everything that it started.
pub(super) struct Recipe {
    child: Child,
    // Holds the script and the recipes for as long as they are read.
    _scripts: TempDir,
}

/// What a recipe gives: the tar, and its talk.
pub(super) struct Streams {
    pub(super) tar: ChildStdout,
    pub(super) talk: ChildStderr,
}

impl Recipe {
    /// Starts the recipe of an image; `name` is one of `names()`.
    pub(super) fn start(name: &str) -> io::Result<(Self, Streams)> {
        let scripts = TempDir::with_prefix("aegis-recipe-")?;
        std::fs::write(scripts.path().join("build.sh"), BUILD_SCRIPT)?;
        for (name, recipe) in RECIPES {
            std::fs::create_dir(scripts.path().join(name))?;
            std::fs::write(scripts.path().join(name).join("recipe"), recipe)?;
        }
        let mut command = Command::new("bash");
        command.arg(scripts.path().join("build.sh")).arg(name);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let (Some(tar), Some(talk)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("a process was started without its streams"));
        };
        Ok((Self { child, _scripts: scripts }, Streams { tar, talk }))
    }

    /// Waits for its end.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

impl Drop for Recipe {
    fn drop(&mut self) {
        // An id is there only while it was not waited for, so the group cannot be somebody else's by now.
        let leader = self.child.id().and_then(|it| i32::try_from(it).ok()).and_then(Pid::from_raw);
        if let Some(leader) = leader {
            // The recipe tidies up on this signal; gone already is as good.
            let _gone = kill_process_group(leader, Signal::TERM);
        }
    }
}

/// The end of what a recipe said, made safe to show.
pub(super) async fn last_words(mut talk: ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(length) = talk.read(&mut chunk).await {
        if length == 0 {
            break;
        }
        kept.extend_from_slice(&chunk[..length]);
        if kept.len() > TALK_BYTES_MAX {
            kept.drain(..kept.len() - TALK_BYTES_MAX);
        }
    }
    let words = String::from_utf8_lossy(&kept);
    words.trim().chars().filter(|it| *it == '\n' || !it.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_of_images_is_a_recipe_that_ships() {
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/images")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.file_name().into_string().unwrap());
            }
        }
        folders.sort();
        assert_eq!(folders, names().collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn unknown_recipe_says_what_there_is() {
        let (mut recipe, streams) = Recipe::start("absent").unwrap();
        let words = last_words(streams.talk).await;
        assert!(!recipe.wait().await.unwrap().success());
        assert!(words.contains("there is no recipe for image `absent`"), "{words}");
        assert!(words.contains("base go minimal node rust"), "{words}");
    }

    #[tokio::test]
    async fn dropped_recipe_ends_with_all_that_it_started() {
        let (recipe, mut streams) = Recipe::start("base").unwrap();
        drop(recipe);
        // Whatever holds the other end of the talk is part of the recipe.
        let mut rest = Vec::new();
        let ended =
            tokio::time::timeout(std::time::Duration::from_secs(30), streams.talk.read_to_end(&mut rest))
                .await;
        ended.expect("the recipe ends").unwrap();
    }
}
