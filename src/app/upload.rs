//! An order for a server: the task as it is run here, with its workspace packed as the messages that init is sent. The
//! server judges it anew; what this user's own rules deny is not sent.

use std::fs::File;
use std::io::{self, Seek, Write};

use aegis_init::frame;
use sha2::{Digest, Sha256};

use crate::app::changes::Given;
use crate::app::prepare::{Unwalked, prepare};
use crate::app::{AppError, Changes, RunOrder, host};
use crate::config::Directories;
use crate::config::trust::TrustStore;
use crate::policy::Origin;
use crate::record::{WorkspaceRecord, now_ms};
use crate::sandbox::changes::gather::open_root;
use crate::sandbox::outputs::OutputLimits;
use crate::sandbox::workspace::{Plan, Stopped, send};
use crate::task::{TaskSpec, WorkspaceSource};

/// A level that packs as fast as the files are read.
const LEVEL: i32 = 1;

/// A task that a server could be given.
#[derive(Debug)]
pub struct Package {
    /// What is to be run.
    pub task: TaskSpec,
    /// Its workspace.
    pub workspace: Option<Packed>,
    /// What a person should know of the workspace, and how it is filled.
    pub summary: Option<(Vec<String>, WorkspaceRecord)>,
    /// Why the image is the one that it is, where nobody named one.
    pub remark: Option<String>,
    /// The tree whose changes are to be kept.
    pub given: Option<Given>,
    /// Bounds of what it puts out, as this user's own rules have them.
    pub outputs: OutputLimits,
    /// Whether the project's file has a say in its policy.
    pub project_policy: ProjectPolicy,
}

/// Whether a project's file has a say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectPolicy {
    /// It changes the policy.
    Asked,
    /// It says nothing about it.
    Silent,
}

/// A packed workspace, in a file without a name.
#[derive(Debug)]
pub struct Packed {
    /// Its bytes, from the beginning.
    pub file: File,
    /// `sha256:…` of them.
    pub digest: String,
    /// How many they are.
    pub bytes: u64,
}

/// Reads the order and packs its workspace.
pub fn package(order: &RunOrder) -> Result<Package, AppError> {
    let directories = Directories::of_this_user()?;
    let trusted = TrustStore::of(&directories.state);
    let prepared = prepare(order, &host::amounts(&directories.state), &trusted)?;
    let said = prepared
        .resolved
        .asked
        .iter()
        .any(|it| matches!(it.origin, Origin::File { .. } | Origin::Requested { .. }));
    let project_policy =
        if said && order.policy.is_none() { ProjectPolicy::Asked } else { ProjectPolicy::Silent };
    let (plan, _) = Unwalked::of(&prepared).walk()?;
    let workspace = plan.as_ref().map(pack).transpose()?;
    let summary = plan.as_ref().map(|it| (it.summary.notes.clone(), it.record(&prepared.task)));
    let remark = prepared.remark.clone();
    let outputs = OutputLimits::from(&prepared.resolved.policy.outputs);
    let given = match (&plan, &prepared.task.workspace, order.changes) {
        (Some(plan), WorkspaceSource::Directory(root), Changes::Kept) => {
            let (root, left_out) = (open_root(root)?.1, plan.left_out.clone());
            Some(Given { root, left_out, asked_ms: now_ms() })
        }
        _ => None,
    };
    Ok(Package { task: prepared.task, workspace, summary, remark, given, outputs, project_policy })
}

fn pack(plan: &Plan) -> Result<Packed, AppError> {
    let failed = |source| AppError::Use { what: "a temporary file in", path: std::env::temp_dir(), source };
    let file = tempfile::tempfile().map_err(failed)?;
    let hashed = Hashed { file, digest: Sha256::new(), bytes: 0 };
    let mut into = zstd::Encoder::new(hashed, LEVEL).map_err(failed)?;
    let mut failure = None;
    let sent = send(plan, &mut |request| {
        let frame = frame::encode(&request, 0, frame::REQUEST_BYTES_MAX).map_err(io::Error::other);
        frame.and_then(|it| into.write_all(&it)).map_err(|error| {
            failure = Some(error);
            Stopped
        })
    });
    if let Some(error) = failure {
        return Err(failed(error));
    }
    sent?;
    let Hashed { mut file, digest, bytes } = into.finish().map_err(failed)?;
    file.rewind().map_err(failed)?;
    Ok(Packed { file, digest: format!("sha256:{}", hex::encode(digest.finalize())), bytes })
}

struct Hashed {
    file: File,
    digest: Sha256,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.digest.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
