//! The first `aegis.toml` of a project: what a look found, each line with what it is for.

use crate::intake::look::Look;

/// The text. `command` is what the look guessed.
pub fn text(look: &Look, command: Option<&[&str]>) -> String {
    let mut lines = vec![
        "# How this project is run by `aegis run`. All keys: docs/project-file.md in Aegis's documentation.".to_owned(),
        "# The file is part of the project and as little trusted: it may tighten what a run may do. What it asks".to_owned(),
        "# for beyond that waits for `aegis trust`.".to_owned(),
        String::new(),
    ];
    let reason = match look.found {
        Some((file, _)) => format!("the look at this directory found `{file}`"),
        None => "the look at this directory found no toolchain".to_owned(),
    };
    lines.push(format!("# The image: {reason}."));
    if let Some(lacking) = look.lacks() {
        lines.push(format!("# No image of Aegis has {lacking}: build or pull one that has, name it here, and run `aegis trust`."));
    }
    lines.push(format!("image = \"{}\"", look.image()));
    lines.push(String::new());
    lines.push("# What `aegis run` runs when it is given no command. There is no network: dependencies come with the".to_owned());
    lines.push("# workspace or the image.".to_owned());
    match command {
        Some(command) => {
            let listed: Vec<String> = command.iter().map(|it| format!("\"{it}\"")).collect();
            lines.push(format!("command = [{}]", listed.join(", ")));
        }
        None => lines.push("# command = [\"make\", \"test\"]".to_owned()),
    }
    let rest = "
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
    lines.join("\n") + "\n" + rest
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
        let look = look(|it| it == "go.mod");
        assert!(text(&look, None).contains("# No image of Aegis has Go"));
    }
}
