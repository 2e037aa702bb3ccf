//! Where the board's programs lie, and how much of flash and static memory the firmware takes.

use crate::Failure;
use object::{Object, ObjectSection, SectionFlags, elf};
use std::path::{Path, PathBuf};

/// The firmware.
pub fn firmware() -> PathBuf {
    wavepass_tests::qemu::firmware()
}

/// The firmware of the board one can buy.
pub fn nrf52840() -> PathBuf {
    firmware().with_file_name("wavepass-nrf52840-dk")
}

/// The program that counts.
pub fn bench_program() -> PathBuf {
    firmware().with_file_name("wavepass-mps2-an386-bench")
}

/// Bytes that a program takes.
pub struct Sizes {
    /// Code, constants, and the first values of what is in memory.
    pub flash: u64,
    /// Static memory, first values or not.
    pub ram: u64,
}

/// Adds up the sections of a program that are loaded.
pub fn measure(path: &Path) -> Result<Sizes, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|e| format!("{}: {e}: `cargo x bench gate` builds it", path.display()))?;
    let file = object::File::parse(&*bytes)?;
    let mut sizes = Sizes { flash: 0, ram: 0 };
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
        if sh_flags & u64::from(elf::SHF_ALLOC) == 0 {
            continue;
        }
        let writable = sh_flags & u64::from(elf::SHF_WRITE) != 0;
        let held = section.compressed_file_range().is_ok_and(|range| range.uncompressed_size > 0);
        if writable {
            sizes.ram += section.size();
        }
        if !writable || held {
            sizes.flash += section.size();
        }
    }
    Ok(sizes)
}
