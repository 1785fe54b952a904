//! An order and a project's file joined into what is run: a flag takes the place of a key, variables one by one.

use crate::app::RunOrder;
use crate::app::project::{Project, ProjectError, Trust};
use crate::intake::look::IMAGE_DEFAULT;
use crate::policy::document::project::{FILE_NAME, ProjectFile};
use crate::policy::{Denial, request};
use crate::sandbox::container_spec::WORKSPACE;
use crate::task::OutputRequest;

/// One thing that was settled, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// What it is.
    pub what: &'static str,
    /// Its value.
    pub value: String,
    /// Who said so.
    pub origin: String,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Program and arguments.
    pub command: Vec<Vec<u8>>,
    /// Image reference.
    pub image: String,
    /// Working directory inside.
    pub workdir: Option<String>,
    /// Variables, later ones win.
    pub environment: Vec<(String, String)>,
    /// What comes out.
    pub outputs: Vec<OutputRequest>,
    /// Each with its origin, for who asks.
    pub settled: Vec<Settled>,
    /// The choice of the image in one line, where a person wants to know.
    pub remark: Option<String>,
    /// What the file asks for here and may not have.
    pub denials: Vec<Denial>,
}

/// Joins them. What needs trust and has none is denied, and is as it would be without the file.
pub fn join(order: &RunOrder, project: Option<&Project>, trust: &Trust) -> Result<Joined, ProjectError> {
    let said = project.and_then(|it| it.file.as_ref()).map(|it| &it.said);
    let image = image(order, project, trust);
    let (command, command_origin) = match (&order.command, said.and_then(|it| it.command.as_ref())) {
        (Some(command), _) => (command.clone(), "command line".to_owned()),
        (None, Some(written)) => {
            (written.value.iter().map(|it| it.clone().into_bytes()).collect(), at(written.line))
        }
        (None, None) => return Err(ProjectError::NoCommand),
    };
    let (workdir, workdir_origin) = match (&order.workdir, said.and_then(|it| it.workdir.as_ref())) {
        (Some(workdir), _) => (Some(workdir.clone()), "flag `--workdir`".to_owned()),
        (None, Some(written)) => (Some(inside(&written.value)), at(written.line)),
        (None, None) => (None, "default".to_owned()),
    };
    let (outputs, outputs_origin) = match said.and_then(|it| it.outputs.as_ref()) {
        Some(written) if order.outputs.is_empty() => {
            let listed = written.value.iter().map(|it| OutputRequest { pattern: it.clone() });
            (listed.collect(), at(written.line))
        }
        Some(_) | None => (order.outputs.clone(), "flag `--output`".to_owned()),
    };
    let mut settled = vec![
        Settled { what: "image", value: image.reference.clone(), origin: image.origin },
        Settled { what: "command", value: shown_command(&command), origin: command_origin },
    ];
    if let Some(workdir) = &workdir {
        settled.push(Settled { what: "workdir", value: shown(workdir), origin: workdir_origin });
    }
    for output in &outputs {
        let value = shown(&output.pattern);
        settled.push(Settled { what: "output", value, origin: outputs_origin.clone() });
    }
    let environment = environment(order, said, &mut settled);
    for pattern in said.map(|it| it.exclude.as_slice()).unwrap_or_default() {
        settled.push(Settled { what: "exclude", value: shown(&pattern.value), origin: at(pattern.line) });
    }
    Ok(Joined {
        command,
        image: image.reference,
        workdir,
        environment,
        outputs,
        settled,
        remark: image.remark,
        denials: image.denial.into_iter().collect(),
    })
}

struct Image {
    reference: String,
    origin: String,
    remark: Option<String>,
    denial: Option<Denial>,
}

fn image(order: &RunOrder, project: Option<&Project>, trust: &Trust) -> Image {
    if let Some(reference) = &order.image {
        let origin = "flag `--image`".to_owned();
        return Image { reference: reference.clone(), origin, remark: None, denial: None };
    }
    let Some(project) = project else {
        let origin = "default".to_owned();
        return Image { reference: IMAGE_DEFAULT.to_owned(), origin, remark: None, denial: None };
    };
    let otherwise = project.look.image();
    let written = project.file.as_ref().and_then(|it| it.said.image.as_ref());
    let Some(written) = written else {
        let origin = match project.look.found {
            Some((file, _)) => format!("look at the project (`{file}`)"),
            None => "default".to_owned(),
        };
        let remark = project.look.reason();
        return Image { reference: otherwise.to_owned(), origin, remark, denial: None };
    };
    let reference = written.value.clone();
    let is_trusted = *trust == Trust::Given;
    let denial = (!is_trusted && request::is_another_image(&reference, otherwise))
        .then(|| request::image_denial(written, otherwise, &project.way_out(trust)));
    let is_default = !request::is_another_image(&reference, IMAGE_DEFAULT);
    let remark = (!is_default).then(|| format!("image {}, by {}", shown(&reference), at(written.line)));
    Image { reference, origin: at(written.line), remark, denial }
}

fn environment(
    order: &RunOrder,
    said: Option<&ProjectFile>,
    settled: &mut Vec<Settled>,
) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for written in said.map(|it| it.environment.as_slice()).unwrap_or_default() {
        let (name, value) = &written.value;
        if order.environment.iter().any(|(given, _)| given == name) {
            continue;
        }
        settled.push(Settled { what: "variable", value: name.clone(), origin: at(written.line) });
        variables.push((name.clone(), value.clone()));
    }
    for (name, _) in &order.environment {
        let origin = "command line".to_owned();
        settled.push(Settled { what: "variable", value: name.clone(), origin });
    }
    variables.extend(order.environment.iter().cloned());
    variables
}

/// A working directory as the sandbox knows it.
fn inside(workdir: &str) -> String {
    if workdir.starts_with('/') { workdir.to_owned() } else { format!("{WORKSPACE}/{workdir}") }
}

fn at(line: usize) -> String {
    format!("{FILE_NAME}:{line}")
}

fn shown(text: &str) -> String {
    crate::task::escape::escape(text.as_bytes())
}

fn shown_command(command: &[Vec<u8>]) -> String {
    let shown: Vec<String> = command.iter().map(|it| crate::task::escape::escape(it)).collect();
    shown.join(" ")
}
