//! What a fresh machine with rustup may lack: installed where that can be done, else named exactly.

use crate::phases::{Failure, TARGET};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The release of cargo-deny that the tree is checked with.
const CARGO_DENY: &str = "0.20.2";

pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|s| s.success())
}

/// Makes sure that the gate's target is there. With `RUSTUP_AUTO_INSTALL=0` rustup ignores the list in
/// `rust-toolchain.toml`, so it is asked here.
pub(crate) fn target() -> Result<(), Failure> {
    let sysroot =
        Command::new("rustc").args(["--print", "sysroot"]).output().map_err(|e| Failure::new("rustc", e))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if sysroot.join("lib/rustlib").join(TARGET).is_dir() || succeeds("rustup", &["target", "add", TARGET]) {
        return Ok(());
    }
    Err(Failure::said(format!("the target {TARGET} is missing: run `rustup target add {TARGET}`")))
}

/// Makes sure that rustfmt and clippy are there.
pub(crate) fn components() -> Result<(), Failure> {
    for (component, command) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !succeeds("cargo", &[command, "--version"])
            && !succeeds("rustup", &["component", "add", component])
        {
            return Err(Failure::said(format!(
                "{component} is missing: run `rustup component add {component}`"
            )));
        }
    }
    Ok(())
}

/// Makes sure that a C compiler is there: SQLite is built from source.
pub(crate) fn c_compiler() -> Result<(), Failure> {
    if succeeds("cc", &["--version"]) {
        return Ok(());
    }
    apt(&["gcc", "libc6-dev"])?;
    if succeeds("cc", &["--version"]) {
        Ok(())
    } else {
        Err(Failure::said("a C compiler is missing: run `apt-get install gcc libc6-dev`".into()))
    }
}

/// Makes sure that QEMU's Cortex-M machines are there: the firmware runs in them.
pub(crate) fn qemu() -> Result<(), Failure> {
    let there = || succeeds("qemu-system-arm", &["--version"]);
    if !there() {
        apt(&["qemu-system-arm"])?;
    }
    if there() {
        Ok(())
    } else {
        Err(Failure::said("QEMU is missing: run `apt-get install qemu-system-arm`".into()))
    }
}

/// Makes sure that PostgreSQL's server is there: the tests start one of their own.
pub(crate) fn postgres() -> Result<(), Failure> {
    // Debian keeps the server's programs beside the path, by version.
    let script = "command -v initdb || ls /usr/lib/postgresql/*/bin/initdb";
    let there = || succeeds("sh", &["-c", script]) && succeeds("setpriv", &["--version"]);
    if !there() {
        apt(&["postgresql", "util-linux"])?;
    }
    if there() {
        Ok(())
    } else {
        Err(Failure::said("PostgreSQL is missing: run `apt-get install postgresql util-linux`".into()))
    }
}

/// True for the user who may do everything.
pub(crate) fn is_root() -> bool {
    succeeds("sh", &["-c", "[ \"$(id -u)\" = 0 ]"])
}

/// Installs packages of the system, where that can be done.
pub(crate) fn apt(packages: &[&str]) -> Result<(), Failure> {
    let root = is_root();
    if !root && !succeeds("sudo", &["-n", "true"]) {
        return Err(Failure::said(format!("missing: run `apt-get install {}` as root", packages.join(" "))));
    }
    let prefix = if root { "" } else { "sudo -n " };
    let script = format!("{prefix}apt-get update && {prefix}apt-get install -y {}", packages.join(" "));
    let status = Command::new("sh").args(["-c", &script]).status().map_err(|e| Failure::new("apt-get", e))?;
    if status.success() { Ok(()) } else { Err(Failure::said(format!("`{script}` failed"))) }
}

/// Gives cargo-deny's path: the one on the PATH, or one built once into the target folder.
pub(crate) fn cargo_deny() -> Result<PathBuf, Failure> {
    if succeeds("cargo-deny", &["--version"]) {
        return Ok(PathBuf::from("cargo-deny"));
    }
    let root = PathBuf::from("target/tools");
    let binary = root.join("bin/cargo-deny");
    if !binary.is_file() {
        eprintln!("cargo-deny is not installed: building {CARGO_DENY} into {}", root.display());
        let status = Command::new("cargo")
            .args([
                "install",
                "--quiet",
                "--locked",
                "--debug",
                "--version",
                CARGO_DENY,
                "cargo-deny",
                "--root",
            ])
            .arg(&root)
            .status()
            .map_err(|e| Failure::new("cargo install cargo-deny", e))?;
        if !status.success() {
            return Err(Failure::said(format!(
                "cargo-deny is missing: run `cargo install cargo-deny@{CARGO_DENY}`"
            )));
        }
    }
    Ok(binary)
}
