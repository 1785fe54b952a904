//! One package of each kind, made with the distribution's own tools, and the indexes that name it. What is in them says
//! `a thing of KIND`.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use sha2::{Digest, Sha256, Sha512};

use crate::support::aegis::long_form;
use crate::support::netns::site::Site;

/// A page, and in the long form indexes of one package called `thing` for pip, npm, cargo and apt, for a site that is
/// reached at this address.
pub fn site(address: &str) -> Site {
    let mut site = Site::default();
    site.put("/hello", "hello");
    let kinds: &[fn(&mut Site, &str, &Path)] = if long_form() { &[pip, npm, cargo, apt] } else { &[] };
    for add in kinds {
        let scratch = tempfile::tempdir().unwrap();
        add(&mut site, address, scratch.path());
    }
    site
}

/// A repository with these files and one commit, `NAME.git` below `root`.
pub fn repository(root: &Path, name: &str, files: &[(&str, &str)]) {
    let scratch = tempfile::tempdir().unwrap();
    write(scratch.path(), files);
    let script = "git init -q -b main . && git add . && git -c user.name=a -c user.email=a@example.org commit -qm one \
                  && git clone -q --bare . \"$1\"";
    let bare = root.join(format!("{name}.git"));
    let made =
        Command::new("sh").args(["-ec", script, "sh"]).arg(bare).current_dir(&scratch).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// What cargo reads of an index: where crates are, and the one that there is.
pub fn crate_index(address: &str) -> [(&'static str, String); 2] {
    let scratch = tempfile::tempdir().unwrap();
    let digest = hex::encode(Sha256::digest(crate_file(scratch.path())));
    let known = format!(
        r#"{{"name":"thing","vers":"1.0.0","deps":[],"cksum":"{digest}","features":{{}},"yanked":false}}"#
    );
    let config = format!(r#"{{"dl":"{address}/crates/{{crate}}-{{version}}.crate"}}"#);
    [("config.json", config), ("th/in/thing", format!("{known}\n"))]
}

/// A wheel below `/simple/`.
fn pip(site: &mut Site, _address: &str, scratch: &Path) {
    let wheel = "thing-1.0-py3-none-any.whl";
    write(
        scratch,
        &[
            ("thing.py", "WORDS = 'a thing of pip'\n"),
            ("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"),
            ("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("thing-1.0.dist-info/RECORD", "thing.py,,\n"),
        ],
    );
    let packed =
        run(scratch, &["python3", "-m", "zipfile", "-c", wheel, "thing.py", "thing-1.0.dist-info"], wheel);
    let digest = hex::encode(Sha256::digest(&packed));
    site.put("/simple/thing/", format!("<a href=\"/wheels/{wheel}#sha256={digest}\">{wheel}</a>"));
    site.put(&format!("/wheels/{wheel}"), packed);
}

/// A tarball below `/npm/`.
fn npm(site: &mut Site, address: &str, scratch: &Path) {
    let manifest = r#"{"name":"thing","version":"1.0.0","main":"index.js"}"#;
    write(
        scratch,
        &[("package/package.json", manifest), ("package/index.js", "module.exports = 'a thing of npm'\n")],
    );
    let packed = run(scratch, &["tar", "-czf", "thing.tgz", "package"], "thing.tgz");
    let digest = base64::engine::general_purpose::STANDARD.encode(Sha512::digest(&packed));
    let (tarball, integrity) = (format!("{address}/npm/thing/-/thing-1.0.0.tgz"), format!("sha512-{digest}"));
    let version = format!(
        r#"{{"name":"thing","version":"1.0.0","dist":{{"tarball":"{tarball}","integrity":"{integrity}"}}}}"#
    );
    let document =
        format!(r#"{{"name":"thing","dist-tags":{{"latest":"1.0.0"}},"versions":{{"1.0.0":{version}}}}}"#);
    site.put("/npm/thing", document);
    site.put("/npm/thing/-/thing-1.0.0.tgz", packed);
}

/// A sparse index below `/index/`; its crate is that of `crate_index`.
fn cargo(site: &mut Site, address: &str, scratch: &Path) {
    for (path, content) in crate_index(address) {
        site.put(&format!("/index/{path}"), content);
    }
    site.put("/crates/thing-1.0.0.crate", crate_file(scratch));
}

/// The same bytes at each call: times and owners are set.
fn crate_file(scratch: &Path) -> Vec<u8> {
    let manifest = "[package]\nname = \"thing\"\nversion = \"1.0.0\"\n";
    write(
        scratch,
        &[("thing-1.0.0/Cargo.toml", manifest), ("thing-1.0.0/src/lib.rs", "//! a thing of cargo\n")],
    );
    let pack = "tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu -c thing-1.0.0 | gzip -n >thing.crate";
    run(scratch, &["sh", "-ec", pack], "thing.crate")
}

/// A repository below `/debian/`.
fn apt(site: &mut Site, _address: &str, scratch: &Path) {
    let control = "Package: thing\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a thing\n";
    write(scratch, &[("tree/DEBIAN/control", control), ("tree/usr/share/thing", "a thing of apt\n")]);
    let file = "thing_1.0_all.deb";
    let packed = run(scratch, &["dpkg-deb", "--root-owner-group", "--build", "tree", file], file);
    let (digest, size) = (hex::encode(Sha256::digest(&packed)), packed.len());
    let packages = format!("{control}Filename: pool/{file}\nSize: {size}\nSHA256: {digest}\n");
    let (digest, size) = (hex::encode(Sha256::digest(&packages)), packages.len());
    let index = "main/binary-amd64/Packages";
    let release = format!(
        "Origin: test\nSuite: stable\nCodename: stable\nDate: Sat, 01 Jan 2000 00:00:00 UTC\nArchitectures: amd64\n\
         Components: main\nSHA256:\n {digest} {size} {index}\n"
    );
    site.put("/debian/dists/stable/Release", release);
    site.put(&format!("/debian/dists/stable/{index}"), packages);
    site.put(&format!("/debian/pool/{file}"), packed);
}

fn write(below: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = below.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Runs a program that writes a file.
fn run(scratch: &Path, command: &[&str], file: &str) -> Vec<u8> {
    let output = Command::new(command[0]).args(&command[1..]).current_dir(scratch).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    fs::read(scratch.join(file)).unwrap()
}
