//! The mount table and the root.

use std::path::Path;

use serde_bytes::ByteBuf;

use crate::sandbox::attestation::fixture::Fixture;
use crate::sandbox::attestation::tests::{check, check_text};
use crate::sandbox::trust;

#[test]
fn a_writable_root_is_named() {
    check_text("mountinfo", " / / ro,", " / / rw,", &["mount `/` is rw,relatime, expected ro"]);
}

#[test]
fn a_root_that_permissions_alone_keep_is_named() {
    check(
        |it| it.inside.root_write_errno = 13,
        &["a write to `/` is refused by permissions only, expected refused as read-only"],
    );
}

#[test]
fn a_mount_of_the_host_is_named() {
    check(
        |it| add_mount(it, "200 72 254:0 /home /mnt/home rw,relatime - ext4 /dev/vda rw\n"),
        &["mount `/mnt/home` is ext4 of `/home`, rw,relatime, expected absent"],
    );
}

#[test]
fn a_file_of_the_host_in_an_engine_files_place_is_named() {
    check_text(
        "mountinfo",
        "/hostname /etc/hostname ro",
        "/shadow /etc/hostname ro",
        &[
            "mount `/etc/hostname` is `/var/lib/docker/containers/2de43be79552516c7fe997452998505f852672a7a6748f49d405d95a4f801997/shadow`, expected the engine's own file",
        ],
    );
}

#[test]
fn a_slot_of_another_is_named() {
    check_text(
        "mountinfo",
        "/slots/1/in /.aegis",
        "/slots/1 /.aegis",
        &[
            "mount `/.aegis` is `/run/aegis/default/slots/1`, expected `/run/aegis/default/slots/1/in` of the host",
        ],
    );
}

#[test]
fn the_engines_socket_is_named() {
    check(
        |it| add_mount(it, "200 72 0:24 /docker.sock /run/docker.sock ro - tmpfs tmpfs rw\n"),
        &["mount `/run/docker.sock` is tmpfs of `/docker.sock`, ro, expected absent"],
    );
}

#[test]
fn a_mount_over_another_is_named() {
    check(
        |it| add_mount(it, "200 72 0:42 / /proc rw,nosuid,nodev,noexec - proc proc rw\n"),
        &["mount `/proc` is mounted over, expected mounted once"],
    );
}

#[test]
fn a_shared_mount_is_named() {
    check_text(
        "mountinfo",
        "master:2",
        "shared:2",
        &["mount `/` is shared with other namespaces, expected private"],
    );
}

#[test]
fn the_hosts_own_file_in_the_place_of_the_engines_is_named() {
    check_text(
        "mountinfo",
        "/var/lib/docker/containers/2de43be79552516c7fe997452998505f852672a7a6748f49d405d95a4f801997/hostname",
        "/etc/hostname",
        &["mount `/etc/hostname` is `/etc/hostname`, expected the engine's own file"],
    );
}

#[test]
fn another_slots_directory_in_the_place_of_its_own_is_named() {
    check_text(
        "mountinfo",
        "/slots/1/in /.aegis",
        "/slots/2/in /.aegis",
        &[
            "mount `/.aegis` is `/run/aegis/default/slots/2/in`, expected `/run/aegis/default/slots/1/in` of the host",
        ],
    );
}

#[test]
fn a_missing_nosuid_is_named() {
    check_text(
        "mountinfo",
        "/tmp rw,nosuid,nodev,",
        "/tmp rw,nodev,",
        &["mount `/tmp` is rw,nodev,relatime, expected nosuid"],
    );
}

#[test]
fn an_executable_shm_is_named() {
    check_text(
        "mountinfo",
        "/dev/shm rw,nosuid,nodev,noexec,",
        "/dev/shm rw,nosuid,nodev,",
        &["mount `/dev/shm` is rw,nosuid,nodev,relatime, expected noexec"],
    );
}

#[test]
fn a_larger_tmpfs_is_named() {
    check_text(
        "mountinfo",
        "size=262144k,nr_inodes=65536",
        "size=524288k,nr_inodes=65536",
        &["mount `/tmp`: bytes is 536870912, expected 268435456"],
    );
}

#[test]
fn a_tmpfs_without_an_inode_limit_is_named() {
    check_text(
        "mountinfo",
        "nr_inodes=2048,",
        "",
        &["mount `/run`: inodes is without a limit, expected 2048"],
    );
}

#[test]
fn a_mask_that_is_not_there_is_named() {
    check(
        |it| remove_mount(it, "/proc/interrupts"),
        &["mount `/proc/interrupts` is absent, expected mounted"],
    );
}

#[test]
fn a_mask_for_what_this_kernel_lacks_is_not_missed() {
    check(
        |it| {
            remove_mount(it, "/proc/interrupts");
            it.existing_paths.remove("/proc/interrupts");
        },
        &[],
    );
}

#[test]
fn a_mask_that_hides_nothing_is_named() {
    check_text(
        "mountinfo",
        "0:43 /null /proc/keys rw,nosuid - tmpfs",
        "0:42 /keys /proc/keys rw,nosuid - proc",
        &["mount `/proc/keys` is proc of `/keys`, rw,nosuid, expected masked"],
    );
}

#[test]
fn writable_kernel_settings_are_named() {
    check_text(
        "mountinfo",
        "/proc/sys ro,nosuid",
        "/proc/sys rw,nosuid",
        &["mount `/proc/sys` is rw,nosuid,nodev,noexec,relatime, expected ro"],
    );
}

#[test]
fn a_writable_cgroup_is_named() {
    check_text(
        "mountinfo",
        "/sys/fs/cgroup/pids ro,",
        "/sys/fs/cgroup/pids rw,",
        &["mount `/sys/fs/cgroup/pids` is rw,nosuid,nodev,noexec,relatime, expected ro"],
    );
}

#[test]
fn a_line_that_is_no_mount_is_named() {
    check(|it| add_mount(it, "nonsense\n"), &["mount table is nonsense, expected lines of mountinfo"]);
}

/// The directory of the sandbox's slot.
const INNER: &str = "/run/aegis/default/slots/1/in";

/// A sandbox that trusts its gateway, with its bundle at these places and Java's form of it at those.
fn with_bundle(fixture: &mut Fixture, points: &[&str], key_store_points: &[&str]) {
    fixture.spec.bundles = trust::bundles(Path::new(INNER));
    let bundles = points.iter().map(|it| (trust::BUNDLE_NAME, it));
    let key_stores = key_store_points.iter().map(|it| (trust::KEY_STORE_NAME, it));
    for (at, (name, point)) in bundles.chain(key_stores).enumerate() {
        let line = format!("{} 72 254:0 {INNER}/{name} {point} ro,relatime - ext4 /dev/vda rw\n", 300 + at);
        add_mount(fixture, &line);
        let outside = fixture.outside.mountinfo.get_or_insert_default();
        outside.extend_from_slice(line.as_bytes());
    }
}

#[test]
fn a_bundle_at_all_of_its_places_is_as_asked() {
    check(|it| with_bundle(it, &trust::PLACES, &trust::KEY_STORE_PLACES), &[]);
}

#[test]
fn a_bundle_behind_links_of_the_image_is_as_asked() {
    let [debian, _, suse, _] = trust::PLACES;
    let [java, _] = trust::KEY_STORE_PLACES;
    let key_stores = [java, trust::KEY_STORE_BEHIND_LINKS[0]];
    check(|it| with_bundle(it, &[debian, trust::BEHIND_LINKS[0], suse, debian], &key_stores), &[]);
}

#[test]
fn a_bundle_that_is_missing_somewhere_is_named() {
    check(
        |it| with_bundle(it, &trust::PLACES[..3], &trust::KEY_STORE_PLACES),
        &["mounts of the trusted authorities is 3, expected 4"],
    );
    check(
        |it| with_bundle(it, &trust::PLACES, &trust::KEY_STORE_PLACES[..1]),
        &["mounts of the trusted authorities is 1, expected 2"],
    );
}

#[test]
fn a_bundle_that_nobody_asked_for_is_named() {
    check(
        |it| {
            with_bundle(it, &trust::PLACES[3..], &[]);
            it.spec.bundles.clear();
        },
        &[
            "mount `/etc/ssl/cert.pem` is ext4 of `/run/aegis/default/slots/1/in/ca.pem`, ro,relatime, expected absent",
        ],
    );
}

#[test]
fn a_bundle_elsewhere_or_of_another_is_named() {
    check(
        |it| {
            with_bundle(it, &trust::PLACES, &trust::KEY_STORE_PLACES);
            let line =
                "400 72 254:0 /run/aegis/default/slots/1/in/ca.pem /etc/passwd ro - ext4 /dev/vda rw\n";
            add_mount(it, line);
        },
        &["mount `/etc/passwd` is ext4 of `/run/aegis/default/slots/1/in/ca.pem`, ro, expected absent"],
    );
    check(
        |it| {
            with_bundle(it, &trust::PLACES[..3], &trust::KEY_STORE_PLACES);
            add_mount(it, "400 72 254:0 /home/mine/ca.pem /etc/ssl/cert.pem ro - ext4 /dev/vda rw\n");
        },
        &[
            "mount `/etc/ssl/cert.pem` is `/home/mine/ca.pem`, expected `/run/aegis/default/slots/1/in/ca.pem` of the host",
            "mounts of the trusted authorities is 3, expected 4",
        ],
    );
    // The one form where the other belongs.
    check(
        |it| {
            with_bundle(it, &trust::PLACES, &trust::KEY_STORE_PLACES[..1]);
            let line = format!("400 72 254:0 {INNER}/ca.pem /etc/pki/java/cacerts ro - ext4 /dev/vda rw\n");
            add_mount(it, &line);
        },
        &[
            "mount `/etc/pki/java/cacerts` is `/run/aegis/default/slots/1/in/ca.pem`, expected `/run/aegis/default/slots/1/in/cacerts` of the host",
            "mounts of the trusted authorities is 1, expected 2",
        ],
    );
}

fn add_mount(fixture: &mut Fixture, line: &str) {
    fixture.inside.mountinfo.extend_from_slice(line.as_bytes());
}

fn remove_mount(fixture: &mut Fixture, point: &str) {
    let text = String::from_utf8_lossy(&fixture.inside.mountinfo).into_owned();
    let kept: Vec<&str> = text.lines().filter(|line| line.split(' ').nth(4) != Some(point)).collect();
    fixture.inside.mountinfo = ByteBuf::from(kept.join("\n").into_bytes());
}
