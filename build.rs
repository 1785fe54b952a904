//! Builds `aegis-init` for this host's architecture as a static program and leaves it where
//! `sandbox::init_binary` embeds it. A target directory of its own keeps the nested cargo from
//! waiting for the outer one's lock.

#![allow(clippy::expect_used, reason = "a build script has nobody else to tell")]

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    for path in ["init/src", "init/Cargo.toml", "Cargo.lock", "build.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target architecture");
    let target = format!("{arch}-unknown-linux-gnu");
    let target_dir = out.join("init");

    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .args(["build", "--release", "--locked", "--package", "aegis-init", "--bin", "aegis-init"])
        .args(["--target", &target])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_LTO", "thin")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_TARGET_DIR");
    let status = cargo.status().expect("the nested cargo starts");
    assert!(status.success(), "building aegis-init failed: {status}");

    let built = target_dir.join(&target).join("release/aegis-init");
    println!("cargo::rustc-env=AEGIS_INIT_PATH={}", built.display());
}
