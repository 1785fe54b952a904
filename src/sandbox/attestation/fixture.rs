//! Recorded evidence of a real sandbox, for tests: what was asked for and what the kernel showed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use aegis_init::wire::{Device, Report, VERSION};
use serde_bytes::ByteBuf;

use crate::container::{Bind, ContainerSpec, Tmpfs};
use crate::sandbox::attestation::{Difference, Expectation, OutsideView, compare};
use crate::sandbox::masks;
use crate::sandbox::seccomp::{Filter, Profile};

const UID: u32 = 2_000_000_001;
const MIB: u64 = 1024 * 1024;

/// A sandbox and its evidence, to be changed by a test.
pub(super) struct Fixture {
    pub spec: ContainerSpec,
    pub filter: Filter,
    pub existing_paths: BTreeSet<String>,
    pub inside: Report,
    pub outside: OutsideView,
}

impl Fixture {
    /// As recorded: first layout of control groups.
    pub fn recorded() -> Self {
        let filter = Filter::new(Profile { ptrace: false, netlink_route: true, preallocation: true });
        let inside = inside(&sections("inside-cgroup-v1.txt"), &filter);
        let outside = outside(&sections("outside-cgroup-v1.txt"));
        let existing_paths = text("existing-paths.txt").lines().map(str::to_owned).collect();
        Self { spec: spec(&filter), filter, existing_paths, inside, outside }
    }

    /// The same on a host with the second layout.
    pub fn recorded_v2() -> Self {
        let mut fixture = Self::recorded();
        let made = sections("cgroup-v2.txt");
        let in_its_place = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            let kept = text
                .lines()
                .filter(|line| !line.split(' ').nth(4).is_some_and(|it| it.starts_with("/sys/fs/cgroup")));
            let kept = kept.filter(|line| !line.contains(" /sys ro"));
            let lines: Vec<&str> = kept.chain(made["mountinfo"].lines()).collect();
            ByteBuf::from(lines.join("\n") + "\n")
        };
        fixture.inside.mountinfo = in_its_place(&fixture.inside.mountinfo);
        fixture.outside.mountinfo =
            Some(in_its_place(&fixture.outside.mountinfo.unwrap_or_default()).into_vec());
        fixture.inside.cgroup = bytes(&made["cgroup"]);
        fixture.outside.cgroup = Some(b"0::/system.slice/docker-1f.scope\n".to_vec());
        fixture.inside.cgroup_limits = limits(&made["cgroup_limits"]);
        fixture
    }

    pub fn expectation(&self) -> Expectation<'_> {
        Expectation { spec: &self.spec, filter: &self.filter, existing_paths: &self.existing_paths }
    }

    pub fn differences(&self) -> Vec<Difference> {
        compare(self.expectation(), &self.inside, Some(&self.outside))
    }

    /// Replaces text in every view of one file.
    pub fn replace(&mut self, file: &str, from: &str, to: &str) {
        let (inside, outside) = match file {
            "status" => (&mut self.inside.status, &mut self.outside.status),
            "mountinfo" => (&mut self.inside.mountinfo, &mut self.outside.mountinfo),
            "limits" => (&mut self.inside.limits, &mut self.outside.limits),
            "net_route" => (&mut self.inside.net_route, &mut self.outside.net_route),
            other => unreachable!("no such file: {other}"),
        };
        let changed = String::from_utf8_lossy(inside).replace(from, to);
        assert_ne!(changed.as_bytes(), inside.as_slice(), "`{from}` is not in {file}");
        *inside = bytes(&changed);
        let seen = String::from_utf8_lossy(outside.as_deref().unwrap_or_default()).replace(from, to);
        *outside = Some(seen.into_bytes());
    }
}

/// What the filter answers, in order: the answers of a sandbox as it must be.
pub(super) fn filtered(filter: &Filter) -> Vec<aegis_init::wire::ProbeResult> {
    filter.probes().iter().map(|it| it.accepted[0]).collect()
}

/// A recorded file.
pub(super) fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/attestation").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sections(name: &str) -> BTreeMap<String, String> {
    let text = text(name);
    let parts = text.split("@@ ").skip(1).filter_map(|part| part.split_once('\n'));
    parts.map(|(name, content)| (name.to_owned(), content.to_owned())).collect()
}

fn spec(filter: &Filter) -> ContainerSpec {
    let tmpfs = |point: &str, mib: u64, inodes: u64, exec: bool| Tmpfs {
        point: point.to_owned(),
        bytes: mib * MIB,
        inodes,
        exec,
    };
    ContainerSpec {
        name: "aegis-fixture".to_owned(),
        image_id: "sha256:0".to_owned(),
        entrypoint: Vec::new(),
        blanked_environment: Vec::new(),
        labels: BTreeMap::new(),
        hostname: "sandbox".to_owned(),
        uid: UID,
        gid: UID,
        runtime: "runc".to_owned(),
        tmpfs: vec![
            tmpfs("/dev/shm", 64, 16_384, false),
            tmpfs("/run", 16, 2_048, true),
            tmpfs("/run/home", 64, 16_384, true),
            tmpfs("/tmp", 256, 65_536, true),
            tmpfs("/workspace", 512, 165_536, true),
        ],
        binds: vec![Bind {
            source: PathBuf::from("/run/aegis/default/slots/1/in"),
            target: "/.aegis".to_owned(),
        }],
        bundles: Vec::new(),
        workspace: None,
        seccomp: filter.document().to_owned(),
        masked_paths: masks::masked_paths(2),
        readonly_paths: masks::readonly_paths(),
        memory_bytes: (1024 + 64 + 16 + 64 + 256 + 512 + 16) * MIB,
        pids: 256,
        cpus_milli: 2_000,
        nofile_soft: 1_024,
        nofile_hard: 20_000,
        file_bytes: 512 * MIB,
        sysctls: BTreeMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())]),
    }
}

fn inside(files: &BTreeMap<String, String>, filter: &Filter) -> Report {
    let namespaces = namespaces(&files["namespaces"]).into_iter();
    Report {
        version: VERSION,
        status: bytes(&files["status"]),
        uid_map: bytes(&files["uid_map"]),
        gid_map: bytes(&files["gid_map"]),
        mountinfo: bytes(&files["mountinfo"]),
        limits: bytes(&files["limits"]),
        cgroup: bytes(&files["cgroup"]),
        net_dev: bytes(&files["net/dev"]),
        net_route: bytes(&files["net/route"]),
        net_ipv6_route: bytes(&files["net/ipv6_route"]),
        net_if_inet6: bytes(&files["net/if_inet6"]),
        security_label: bytes(&files["attr/current"]),
        port_start: bytes(&files["port_start"]),
        hostname: bytes(files["hostname"].trim()),
        devices: files["devices"].lines().map(device).collect(),
        cgroup_limits: limits(&files["cgroup_limits"]),
        namespaces: namespaces.map(|(name, inode)| (bytes(&name), inode)).collect(),
        probes: filtered(filter),
        root_write_errno: 30,
        outside_connect_errno: 101,
        outside_connect6_errno: 101,
        probes_us: 900,
        ready_us: 1_900,
    }
}

fn outside(files: &BTreeMap<String, String>) -> OutsideView {
    let file = |name: &str| Some(files[name].clone().into_bytes());
    OutsideView {
        pid: 8010,
        status: file("status"),
        mountinfo: file("mountinfo"),
        cgroup: file("cgroup"),
        limits: file("limits"),
        uid_map: file("uid_map"),
        net_route: file("net/route"),
        namespaces: namespaces(&files["namespaces"]),
        host_namespaces: namespaces(&files["own_namespaces"]),
    }
}

fn namespaces(text: &str) -> Vec<(String, u64)> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, inode)| (name.to_owned(), inode.parse().expect("a number"))).collect()
}

fn limits(text: &str) -> Vec<(ByteBuf, ByteBuf)> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(path, value)| (bytes(path), bytes(&format!("{value}\n")))).collect()
}

fn device(line: &str) -> Device {
    let fields: Vec<&str> = line.split(' ').collect();
    let hex = |text: &str| u32::from_str_radix(text, 16).expect("a hexadecimal number");
    Device { name: bytes(fields[0]), mode: hex(fields[1]), device: (hex(fields[2]), hex(fields[3])) }
}

fn bytes(text: &str) -> ByteBuf {
    ByteBuf::from(text.as_bytes())
}
