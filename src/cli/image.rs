//! `aegis image`: build, list and show images.

use clap::{Args, Subcommand};

use crate::app::{AppError, provision};
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, attached, print, talk};
use crate::container::{Engine, ImageFacts};
use crate::report::amount;
use crate::task::ExitCode;

/// Build, list and show images.
#[derive(Debug, Args)]
pub struct ImageArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build an image from the distribution's packages, without a registry
    Build {
        /// base, go, minimal, node or rust
        name: String,
    },
    /// List the images that recipes of ours made
    Ls {
        /// Print a JSON list
        #[arg(long)]
        json: bool,
    },
    /// Show what the engine knows of an image
    Show {
        /// Reference or id
        image: String,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Carries the verb out.
pub fn cmd_image(args: &ImageArgs) -> CommandResult {
    attached::wait(carry_out(&args.verb))
}

async fn carry_out(verb: &Verb) -> CommandResult {
    let engine = provision::connect().await.map_err(Failure::from)?;
    match verb {
        Verb::Build { name } => {
            talk::note(&format!(
                "building aegis/{name} from the distribution's packages; this takes a minute or two"
            ));
            // Dropping the build ends its recipe, which has a process group of its own and would not see Ctrl-C.
            let built = tokio::select! {
                built = engine.build_image(name) => built.map_err(|it| Failure::of(&it))?,
                _ = tokio::signal::ctrl_c() => {
                    return Err(Failure::new("cancelled: nothing was built").with_exit_code(ExitCode::INTERRUPTED));
                }
            };
            print::data(&built.id)?;
        }
        Verb::Ls { json } => {
            let images = engine.images().await.map_err(|it| Failure::from(AppError::from(it)))?;
            let text = if *json {
                serde_json::Value::Array(images.iter().map(object).collect()).to_string()
            } else {
                images.iter().map(line).collect::<Vec<_>>().join("\n")
            };
            print::data(&text)?;
        }
        Verb::Show { image, json } => {
            let facts = engine.image(image).await.map_err(|it| Failure::from(AppError::from(it)))?;
            print::data(&if *json { object(&facts).to_string() } else { page(&facts) })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(image: &ImageFacts) -> String {
    let id = image.id.trim_start_matches("sha256:");
    format!(
        "{:<24} {:<12} {:>10}  {}",
        tags(image),
        &id[..id.len().min(12)],
        amount::bytes(image.size_bytes),
        image.created
    )
}

fn page(image: &ImageFacts) -> String {
    let mut lines = vec![
        format!("id:           {}", image.id),
        format!("tags:         {}", tags(image)),
        format!("repo digests: {}", image.repo_digests.join(", ")),
        format!("size:         {}", amount::bytes(image.size_bytes)),
        format!("made for:     {}/{}", image.os, image.architecture),
        format!("created:      {}", image.created),
    ];
    lines.extend(
        image
            .environment
            .iter()
            .map(|it| format!("environment:  {}", crate::task::escape::escape(it.as_bytes()))),
    );
    lines.extend(
        image
            .volumes
            .iter()
            .map(|it| format!("volume:       {}", crate::task::escape::escape(it.as_bytes()))),
    );
    lines.join("\n")
}

fn tags(image: &ImageFacts) -> String {
    if image.repo_tags.is_empty() { "<none>".to_owned() } else { image.repo_tags.join(", ") }
}

fn object(image: &ImageFacts) -> serde_json::Value {
    serde_json::json!({
        "id": image.id,
        "repo_tags": image.repo_tags,
        "repo_digests": image.repo_digests,
        "size_bytes": image.size_bytes,
        "os": image.os,
        "architecture": image.architecture,
        "created": image.created,
        "environment": image.environment,
        "volumes": image.volumes,
        "labels": image.labels,
    })
}
