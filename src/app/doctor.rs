//! `aegis doctor`: what is looked at on this host. Files are read, the engine is asked; nothing is made or changed.

mod directories;
mod listeners;
mod packages;
pub mod report;
mod users;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::app::{host, provision, read_bounded};
use crate::config::surroundings::Surroundings;
use crate::container::description::EngineDescription;
use crate::docker::address;
use crate::doctor::facts::{AccountFacts, Facts, SocketFacts, Space};
use crate::doctor::judge::setting_names;
use crate::task::causes::told;

/// Where packages have the broker of the service.
const BROKER_SOCKET: &str = "/run/aegis/broker.sock";
/// Bytes of a kernel setting.
const SETTING_BYTES_MAX: u64 = 4096;

/// Everything that `doctor::judge` judges.
pub async fn gather() -> Facts {
    let engine = describe().await;
    // Files and one child at the most: quick, and nothing else waits on this thread.
    let socket = socket();
    let surroundings = Surroundings::of_this_process();
    let uid = surroundings.uid;
    let in_socket_group =
        socket.as_ref().is_some_and(|it| uid != 0 && uid != it.owner && users::reaches(&it.group));
    let root = engine.as_ref().ok().map(|it| PathBuf::from(&it.root_directory));
    let changelogs = engine.as_ref().map(packages::changelogs).unwrap_or_default();
    Facts {
        socket,
        open_listeners: listeners::of_engines(Path::new("/proc")),
        account: AccountFacts { uid, in_socket_group },
        broker: Some(PathBuf::from(BROKER_SOCKET)).filter(|it| it.exists()),
        state: directories::state(&surroundings),
        runtime: directories::runtime(&surroundings),
        engine_space: root.as_deref().and_then(directories::space),
        security_modules: security_modules(Path::new("/sys")),
        kernel: kernel(engine.as_ref().ok()),
        sysctls: sysctls(Path::new("/proc/sys")),
        vsock: Path::new("/dev/vsock").exists(),
        swap_bytes: host::facts().swap_bytes,
        changelogs,
        engine,
    }
}

async fn describe() -> Result<EngineDescription, String> {
    let engine = provision::connect().await.map_err(|it| told(&it))?;
    engine.describe().await.map_err(|it| told(&it))
}

fn socket() -> Option<SocketFacts> {
    let docker_host = std::env::var("DOCKER_HOST").ok();
    let runtime_directory = std::env::var("XDG_RUNTIME_DIR").ok();
    let path = address::socket_path(docker_host.as_deref(), runtime_directory.as_deref()).ok()?;
    let metadata = std::fs::metadata(&path).ok()?;
    if !metadata.file_type().is_socket() {
        return None;
    }
    let (group, members) = users::group(metadata.gid());
    Some(SocketFacts { path, mode: metadata.mode() & 0o777, owner: metadata.uid(), group, members })
}

fn kernel(engine: Option<&EngineDescription>) -> String {
    let own = rustix::system::uname().release().to_string_lossy().into_owned();
    engine.map(|it| it.kernel_version.clone()).filter(|it| !it.is_empty()).unwrap_or(own)
}

/// AppArmor and SELinux where they confine; `None` where `sys` is not there to be asked.
fn security_modules(sys: &Path) -> Option<Vec<String>> {
    if !sys.join("kernel").exists() {
        return None;
    }
    let mut modules = Vec::new();
    if read(&sys.join("module/apparmor/parameters/enabled")).is_some_and(|it| it == "Y") {
        modules.push("AppArmor".to_owned());
    }
    if read(&sys.join("fs/selinux/enforce")).is_some_and(|it| it == "1") {
        modules.push("SELinux".to_owned());
    }
    Some(modules)
}

fn sysctls(root: &Path) -> BTreeMap<&'static str, String> {
    let value = |name: &'static str| Some((name, read(&root.join(name.replace('.', "/")))?));
    setting_names().filter_map(value).collect()
}

fn read(path: &Path) -> Option<String> {
    read_bounded(path, SETTING_BYTES_MAX).ok().map(|it| it.trim().to_owned())
}

/// Free space of the disk that holds a path; it need not be there yet.
fn free(path: &Path) -> Option<Space> {
    let existing = path.ancestors().find(|it| it.exists())?;
    let found = rustix::fs::statvfs(existing).ok()?;
    let inodes = (found.f_files > 0).then_some(found.f_favail);
    Some(Space { bytes: found.f_bavail.saturating_mul(found.f_frsize), inodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: Option<&[&str]>) {
        let sys = tempfile::tempdir().expect("a directory");
        for (path, content) in files {
            let path = sys.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        let expected = expected.map(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(security_modules(sys.path()), expected);
    }

    #[test]
    fn a_module_counts_if_it_confines() {
        check(&[("kernel/x", ""), ("module/apparmor/parameters/enabled", "Y\n")], Some(&["AppArmor"]));
        check(&[("kernel/x", ""), ("fs/selinux/enforce", "0")], Some(&[]));
    }

    #[test]
    fn without_sysfs_nothing_is_claimed() {
        check(&[], None);
    }
}
