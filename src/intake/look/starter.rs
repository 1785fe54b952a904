//! The first `aegis.toml` of a project: what a look found, each line with what it is for.

use crate::intake::look::{Look, Toolchain};

/// The first lines.
const HEAD: &str = "\
# How this project is run by `aegis run`. All keys: docs/project-file.md in Aegis's documentation.
# The file comes with the project and is trusted no more than it: it may tighten what a run may do. What it
# asks for beyond that waits for `aegis trust`.
";
/// The last lines.
const TAIL: &str = "\
# What comes out into ./aegis-out after the end, as globs: [\"report\", \"coverage/**\"]
outputs = []

# What stays outside besides caches, in the syntax of .gitignore.
[workspace]
exclude = []

# Tighter limits, in the words of a policy file.
# [policy.resources]
# memory = \"512MiB\"
# wall_time = \"5m\"
";

/// Variables, for a toolchain that is told by one where dependencies are.
const PYTHON: &str = "\
[environment]
PYTHONPATH = \"/workspace/vendor\"
";
/// And for all others.
const VARIABLES: &str = "\
# [environment]
# CI = \"true\"
";

/// The text. `command` is what the look guessed.
pub fn text(look: &Look, command: Option<&[&str]>) -> String {
    let found = match look.found {
        Some((file, _)) => format!("the look at this directory found `{file}`"),
        None => "the look at this directory found no toolchain".to_owned(),
    };
    let mut lines = vec![HEAD.to_owned(), format!("# The image: {found}.")];
    if let Some(lacking) = look.lacks() {
        lines.push(format!(
            "# No image of Aegis has {lacking}: name one here that has, and run `aegis trust`."
        ));
    }
    lines.push(format!("image = \"{}\"\n", look.image()));
    lines.push("# What `aegis run` runs when it is given no command.".to_owned());
    if let Some(dependencies) = look.dependencies() {
        lines.push("# There is no network inside, so dependencies are there before:".to_owned());
        lines.push(format!("# {dependencies}."));
    }
    match command {
        Some(command) => {
            let listed: Vec<String> = command.iter().map(|it| format!("\"{it}\"")).collect();
            lines.push(format!("command = [{}]\n", listed.join(", ")));
        }
        None => lines.push("# command = [\"make\", \"test\"]\n".to_owned()),
    }
    lines.push(TAIL.to_owned());
    lines.push("# Variables of the command.".to_owned());
    lines.push(match look.found {
        Some((_, Toolchain::Python)) => PYTHON.to_owned(),
        Some(_) | None => VARIABLES.to_owned(),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::look::look;

    #[test]
    fn the_text_names_image_command_and_reason() {
        let look = look(|it| it == "Cargo.toml");
        let text = text(&look, look.command(|_| None).as_deref());
        for line in ["image = \"aegis/rust\"", "command = [\"cargo\", \"test\", \"--offline\"]"] {
            assert!(text.lines().any(|it| it == line), "{text}");
        }
        assert!(text.contains("found `Cargo.toml`"), "{text}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let look = look(|it| it == "meson.build");
        assert!(text(&look, None).contains("# No image of Aegis has Meson"));
    }
}
