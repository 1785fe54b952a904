//! The mount table against the specification: every mount is one that is expected, as it is expected, once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::container::{ContainerSpec, Tmpfs, TrustBundle, WorkspaceVolume};
use crate::sandbox::attestation::difference::Findings;
use crate::sandbox::attestation::id_map::IdMap;
use crate::sandbox::attestation::mounts::Mounted;

/// Files that the engine writes for every container and binds over the image's.
const ENGINE_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];
/// Devices that an engine without privileges binds from the host.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// File systems of the kernel that every container has: point, type, flags.
const KERNEL: [(&str, &str, &[&str]); 5] = [
    ("/proc", "proc", &["nosuid", "nodev", "noexec"]),
    ("/dev", "tmpfs", &["nosuid"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
    ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
];
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// Hexadecimal digits of a container's id.
const CONTAINER_ID_CHARS: usize = 64;
/// Components at the end of a bind's source that name it: instance, `slots`, number, `in`.
const BIND_COMPONENTS: usize = 4;
/// The same for the file of authorities in `in`.
const BUNDLE_COMPONENTS: usize = 5;
/// Options of an overlay that change nothing of what a task can reach, beside the three that name its layers.
const OVERLAY_OPTIONS: [&str; 13] = [
    "rw",
    "redirect_dir=on",
    "index=off",
    "metacopy=off",
    "uuid=on",
    "uuid=auto",
    "uuid=null",
    "xino=on",
    "xino=auto",
    "xino=off",
    "volatile",
    "fsync=volatile",
    "nouserxattr",
];
/// Bytes of a page: sizes of a tmpfs are rounded up to it.
const PAGE_BYTES: u64 = 4096;

/// What the table is held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub spec: &'a ContainerSpec,
    /// Masked and read-only paths that this kernel has.
    pub existing: &'a BTreeSet<String>,
    pub uids: &'a IdMap,
    pub gids: &'a IdMap,
}

/// Holds a table against what is expected.
pub(super) fn check(findings: &mut Findings, table: &[Mounted], expected: Expected<'_>) {
    let mut points = BTreeSet::new();
    for mounted in table {
        let field = format!("mount `{}`", mounted.point);
        let known = !points.insert(mounted.point.as_str());
        // Two places of an image may be one by a link: the same file lies over itself.
        if known && !expected.spec.bundles.iter().any(|it| is_bundle(mounted, it)) {
            findings.add(&field, "mounted once", "mounted over");
        }
        if mounted.shared {
            findings.add(&field, "private", "shared with other namespaces");
        }
        check_one(findings, &field, mounted, expected);
    }
    check_bundles(findings, table, expected.spec);
    for point in required(expected) {
        if !points.contains(point) {
            findings.add(format!("mount `{point}`"), "mounted", "absent");
        }
    }
}

fn required(expected: Expected<'_>) -> impl Iterator<Item = &str> {
    let spec = expected.spec;
    let paths =
        spec.masked_paths.iter().chain(&spec.readonly_paths).filter(|it| expected.existing.contains(*it));
    ["/"]
        .into_iter()
        .chain(KERNEL.iter().map(|(point, ..)| *point))
        .chain(ENGINE_FILES)
        .chain(spec.tmpfs.iter().map(|it| it.point.as_str()))
        .chain(spec.binds.iter().map(|it| it.target.as_str()))
        .chain(spec.workspace.iter().map(|it| it.point.as_str()))
        .chain(paths.map(String::as_str))
}

fn check_one(findings: &mut Findings, field: &str, mounted: &Mounted, expected: Expected<'_>) {
    let spec = expected.spec;
    let point = mounted.point.as_str();
    if point == "/" {
        has_flags(findings, field, mounted, &["ro"]);
    } else if ENGINE_FILES.contains(&point) {
        has_flags(findings, field, mounted, &["ro"]);
        check_engine_file(findings, field, mounted);
    } else if let Some(bind) = spec.binds.iter().find(|it| it.target == point) {
        has_flags(findings, field, mounted, &["ro"]);
        check_source(findings, field, mounted, &bind.source, BIND_COMPONENTS);
    } else if let Some(bundle) = spec.bundles.iter().find(|it| it.is_place(point)) {
        has_flags(findings, field, mounted, &["ro"]);
        check_source(findings, field, mounted, &bundle.source, BUNDLE_COMPONENTS);
    } else if let Some(volume) = spec.workspace.as_ref().filter(|it| it.point == point) {
        check_workspace(findings, field, mounted, volume);
    } else if let Some(tmpfs) = spec.tmpfs.iter().find(|it| it.point == point) {
        check_tmpfs(findings, field, mounted, tmpfs, expected);
    } else if let Some((_, kind, flags)) = KERNEL.iter().find(|(it, ..)| *it == point) {
        findings.same(field, kind, &mounted.kind);
        has_flags(findings, field, mounted, flags);
    } else if point == CGROUP_ROOT || point.strip_prefix(CGROUP_ROOT).is_some_and(|it| it.starts_with('/')) {
        check_cgroup(findings, field, mounted);
    } else if spec.masked_paths.iter().any(|it| it == point) {
        check_mask(findings, field, mounted);
    } else if spec.readonly_paths.iter().any(|it| it == point) {
        findings.same(field, "proc", &mounted.kind);
        has_flags(findings, field, mounted, &["ro"]);
    } else if !is_bound_device(mounted) {
        let options = mounted.options.join(",");
        findings.add(field, "absent", format!("{} of `{}`, {options}", mounted.kind, mounted.root));
    }
}

/// The engine keeps these in a directory with the container's id for a name: another file of the host is none of them.
fn check_engine_file(findings: &mut Findings, field: &str, mounted: &Mounted) {
    let mut parts = mounted.root.rsplit('/');
    let (file, directory) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let named = mounted.point.rsplit('/').next() == Some(file);
    let id = directory.len() == CONTAINER_ID_CHARS && directory.bytes().all(|it| it.is_ascii_hexdigit());
    if !named || !id {
        findings.add(field, "the engine's own file", format!("`{}`", mounted.root));
    }
}

/// What is mounted is told from the root of its own file system, so the ends of both paths are compared.
fn check_source(findings: &mut Findings, field: &str, mounted: &Mounted, source: &Path, named_by: usize) {
    if !is_of(mounted, source, named_by) {
        findings.add(field, format!("`{}` of the host", source.display()), format!("`{}`", mounted.root));
    }
}

fn is_of(mounted: &Mounted, source: &Path, named_by: usize) -> bool {
    let components = source.components().count();
    let end: PathBuf = source.components().skip(components.saturating_sub(named_by)).collect();
    Path::new(&mounted.root).ends_with(&end)
}

fn is_bundle(mounted: &Mounted, bundle: &TrustBundle) -> bool {
    bundle.is_place(&mounted.point) && is_of(mounted, &bundle.source, BUNDLE_COMPONENTS)
}

/// Every place has its bundle: the sandbox must not trust the image's authorities in one of them and ours in another.
fn check_bundles(findings: &mut Findings, table: &[Mounted], spec: &ContainerSpec) {
    for bundle in &spec.bundles {
        let mounted = table.iter().filter(|it| is_bundle(it, bundle)).count();
        findings.same("mounts of the trusted authorities", bundle.targets.len(), mounted);
    }
}

/// The one place where the host's disk is written: exactly these layers, and no option that gives a task a say in them.
fn check_workspace(findings: &mut Findings, field: &str, mounted: &Mounted, volume: &WorkspaceVolume) {
    findings.same(field, "overlay", &mounted.kind);
    findings.same(format!("{field}: part"), "/", &mounted.root);
    has_flags(findings, field, mounted, &["rw", "nosuid", "nodev"]);
    if mounted.has("noexec") {
        findings.add(field, "exec", mounted.options.join(","));
    }
    let layers = [("lowerdir", &volume.lower), ("upperdir", &volume.upper), ("workdir", &volume.work)];
    for (name, path) in layers {
        let seen = mounted.value(name).unwrap_or("absent");
        findings.same(format!("{field}: {name}"), path.display(), seen);
    }
    for option in &mounted.super_options {
        let layer = layers.iter().any(|(name, path)| *option == format!("{name}={}", path.display()));
        if !layer && !OVERLAY_OPTIONS.contains(&option.as_str()) {
            findings.add(format!("{field}: option"), "none but the layers", option);
        }
    }
}

fn has_flags(findings: &mut Findings, field: &str, mounted: &Mounted, flags: &[&str]) {
    for flag in flags.iter().filter(|it| !mounted.has(it)) {
        findings.add(field, *flag, mounted.options.join(","));
    }
}

fn check_tmpfs(
    findings: &mut Findings,
    field: &str,
    mounted: &Mounted,
    tmpfs: &Tmpfs,
    expected: Expected<'_>,
) {
    findings.same(field, "tmpfs", &mounted.kind);
    findings.same(format!("{field}: part"), "/", &mounted.root);
    has_flags(findings, field, mounted, &["rw", "nosuid", "nodev"]);
    if mounted.has("noexec") == tmpfs.exec {
        findings.add(field, if tmpfs.exec { "exec" } else { "noexec" }, mounted.options.join(","));
    }
    let size = tmpfs.bytes.div_ceil(PAGE_BYTES) * PAGE_BYTES;
    findings.same(format!("{field}: bytes"), size, amount(mounted.value("size")));
    findings.same(format!("{field}: inodes"), tmpfs.inodes, amount(mounted.value("nr_inodes")));
    findings.same(format!("{field}: mode"), "700", mounted.value("mode").unwrap_or("1777"));
    // The kernel writes these as the first namespace counts them.
    check_owner(findings, format!("{field}: uid"), expected.spec.uid, expected.uids, mounted.value("uid"));
    check_owner(findings, format!("{field}: gid"), expected.spec.gid, expected.gids, mounted.value("gid"));
}

fn check_owner(findings: &mut Findings, field: String, id: u32, map: &IdMap, seen: Option<&str>) {
    let outside = map.outside(id).map_or_else(|| "an id that the map has".to_owned(), |it| it.to_string());
    findings.same(field, outside, seen.unwrap_or("0"));
}

/// `262144k` and the like in plain numbers; what is none stays as it is.
fn amount(text: Option<&str>) -> String {
    let Some(text) = text else { return "without a limit".to_owned() };
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k') => (text.trim_end_matches('k'), 10),
        Some(b'm') => (text.trim_end_matches('m'), 20),
        Some(b'g') => (text.trim_end_matches('g'), 30),
        Some(_) | None => (text, 0),
    };
    let number = digits.parse::<u64>().ok().and_then(|it| it.checked_mul(1 << shift));
    number.map_or_else(|| text.to_owned(), |it| it.to_string())
}

/// The first layout has a directory of mounts, which is the engine's and only root could write to; every group in it
/// is read-only, as the one mount of the second layout is.
fn check_cgroup(findings: &mut Findings, field: &str, mounted: &Mounted) {
    has_flags(findings, field, mounted, &["nosuid", "nodev", "noexec"]);
    if mounted.point == CGROUP_ROOT && mounted.kind == "tmpfs" {
        findings.same(format!("{field}: mode"), "755", mounted.value("mode").unwrap_or("1777"));
        findings.same(format!("{field}: uid"), "0", mounted.value("uid").unwrap_or("0"));
        return;
    }
    if !matches!(mounted.kind.as_str(), "cgroup" | "cgroup2") {
        findings.add(field, "a cgroup hierarchy", &mounted.kind);
    }
    has_flags(findings, field, mounted, &["ro"]);
}

/// A directory is hidden by an empty read-only tmpfs, a file by `/dev/null`.
fn check_mask(findings: &mut Findings, field: &str, mounted: &Mounted) {
    let null = mounted.root == "/null" && matches!(mounted.kind.as_str(), "tmpfs" | "devtmpfs");
    let empty = mounted.root == "/" && mounted.kind == "tmpfs" && mounted.has("ro");
    if !null && !empty {
        let options = mounted.options.join(",");
        findings.add(field, "masked", format!("{} of `{}`, {options}", mounted.kind, mounted.root));
    }
}

fn is_bound_device(mounted: &Mounted) -> bool {
    let Some(name) = mounted.point.strip_prefix("/dev/") else { return false };
    let same = mounted.root.strip_prefix('/') == Some(name);
    DEVICES.contains(&name) && same && mounted.kind == "devtmpfs" && mounted.has("nosuid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_amount(text: Option<&str>, expected: &str) {
        assert_eq!(amount(text), expected);
    }

    #[test]
    fn the_kernels_units_are_read() {
        check_amount(Some("65536k"), "67108864");
        check_amount(Some("2048"), "2048");
        check_amount(Some("1m"), "1048576");
        check_amount(None, "without a limit");
    }

    #[test]
    fn what_is_no_amount_stays_as_it_is() {
        check_amount(Some("50%"), "50%");
        check_amount(Some("k"), "k");
        check_amount(Some("99999999999999999g"), "99999999999999999g");
    }
}
