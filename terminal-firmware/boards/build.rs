//! Hands a board's memory map to the linker, on the boards' target only. It runs in the board's own folder.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS")? == "none" {
        let out = PathBuf::from(std::env::var("OUT_DIR")?);
        // `device.x` is of boards that name their interrupts themselves.
        for script in ["memory.x", "device.x"] {
            if Path::new(script).exists() {
                println!("cargo:rerun-if-changed={script}");
                std::fs::copy(script, out.join(script))?;
            }
        }
        println!("cargo:rustc-link-search={}", out.display());
        for argument in ["--nmagic", "-Tlink.x", "-Tdefmt.x"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
    Ok(())
}
