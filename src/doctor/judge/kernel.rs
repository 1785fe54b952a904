//! The kernel and its settings. None of them is a wall of its own: each closes something that a process could use which
//! got past one.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Area, Finding};
use crate::doctor::version::Version;

/// The oldest line that still gets fixes.
const KERNEL_MIN: Version = Version { numbers: [5, 10, 0], candidate: None };

/// A setting: its name, values that are good, why it matters, how it is set. Where the kernel lacks it, `absent` says
/// what that means; `None` is good.
struct Setting {
    id: &'static str,
    name: &'static str,
    good: &'static [&'static str],
    why: &'static str,
    fix: &'static str,
    absent: Option<&'static str>,
}

const SETTINGS: [Setting; 5] = [
    Setting {
        id: "kernel.bpf",
        name: "kernel.unprivileged_bpf_disabled",
        good: &["1", "2"],
        why: "programs of any user run in the kernel; `strict` refuses the call by its filter",
        fix: "sysctl -w kernel.unprivileged_bpf_disabled=1",
        absent: None,
    },
    Setting {
        id: "kernel.user_namespaces",
        name: "kernel.unprivileged_userns_clone",
        good: &["0"],
        why: "any user of the host gets a namespace with all capabilities, the way to most kernel flaws; `strict` refuses \
              the call by its filter",
        fix: "sysctl -w kernel.unprivileged_userns_clone=0 (browsers and rootless engines need it)",
        absent: Some("this kernel has no switch for it; `user.max_user_namespaces=0` turns them off"),
    },
    Setting {
        id: "kernel.kptr_restrict",
        name: "kernel.kptr_restrict",
        good: &["1", "2"],
        why: "addresses of the kernel can be read, which most exploits need first; `strict` masks the files",
        fix: "sysctl -w kernel.kptr_restrict=1",
        absent: Some("this kernel does not have it"),
    },
    Setting {
        id: "kernel.dmesg_restrict",
        name: "kernel.dmesg_restrict",
        good: &["1"],
        why: "any user reads the kernel's log; `strict` refuses the call by its filter",
        fix: "sysctl -w kernel.dmesg_restrict=1",
        absent: Some("this kernel does not have it"),
    },
    Setting {
        id: "kernel.yama",
        name: "kernel.yama.ptrace_scope",
        good: &["1", "2", "3"],
        why: "a process of a user can read another of the same user; sandboxes have users of their own",
        fix: "boot with `lsm=…,yama` and set kernel.yama.ptrace_scope=1",
        absent: Some("this kernel has no Yama"),
    },
];

/// The names of the settings that are read.
pub fn setting_names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|it| it.name)
}

pub fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    findings.push(version(facts));
    findings.extend(SETTINGS.iter().map(|it| setting(facts, it)));
    findings.push(vsock(facts));
}

fn version(facts: &Facts) -> Finding {
    let (area, id) = (Area::Kernel, "kernel.version");
    let why = "sandboxes share the kernel with the host: its flaws are theirs to try";
    match Version::parse(&facts.kernel) {
        Some(version) if version.numbers >= KERNEL_MIN.numbers => Finding::ok(area, id, facts.kernel.clone()),
        Some(_) => {
            Finding::weak(area, id, facts.kernel.clone(), why, "use 5.10 or newer, and keep it updated")
        }
        None => Finding::weak(
            area,
            id,
            "unknown: the kernel does not tell its version",
            why,
            "look by hand: `uname -r`",
        ),
    }
}

fn setting(facts: &Facts, setting: &Setting) -> Finding {
    let name = setting.name;
    let weak = |seen: String| Finding::weak(Area::Kernel, setting.id, seen, setting.why, setting.fix);
    match (facts.sysctls.get(name), setting.absent) {
        (Some(value), _) if setting.good.contains(&value.as_str()) => {
            Finding::ok(Area::Kernel, setting.id, format!("{name} = {value}"))
        }
        (Some(value), _) => weak(format!("{name} = {value}")),
        (None, Some(absent)) => weak(format!("{name}: {absent}")),
        (None, None) => {
            Finding::ok(Area::Kernel, setting.id, format!("{name}: this kernel does not have it"))
        }
    }
}

fn vsock(facts: &Facts) -> Finding {
    let (area, id) = (Area::Kernel, "kernel.vsock");
    if !facts.vsock {
        return Finding::ok(area, id, "no vsock device");
    }
    Finding::weak(
        area,
        id,
        "there is a vsock device",
        "vsock leads from a virtual machine to its host and is not cut by a network namespace: in `strict` only the filter \
         refuses it, in other containers nothing does",
        "blacklist the module where nothing needs it: `echo 'install vsock /bin/false' >/etc/modprobe.d/vsock.conf`",
    )
}
