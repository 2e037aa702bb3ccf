//! What QEMU's host gives by semihosting: the names of the files to use, entropy, and the provisioning file.
//!
//! The program's arguments are `flash=PATH`, `provisioning=PATH`, and `entropy=PATH` where that is not the host's
//! generator. With the feature `faults`, for tests: `hang=start` hangs while the gate starts, `slow=flash` takes a
//! millisecond for each read of the flash.

use core::ffi::CStr;
use heapless::Vec;
use semihosting::experimental::env::args;
use semihosting::fs::File;
use semihosting::io::Read;
use wavepass_protocol::provisioning::MAX_FILE;
use wavepass_terminal::{Provisioner, Refused};

/// Bytes of a path, with its end.
const PATH: usize = 160;
/// Bytes of all arguments.
const ARGUMENTS: usize = 400;

/// The files that the host named.
#[derive(Default)]
pub(super) struct Files {
    flash: Vec<u8, PATH>,
    provisioning: Vec<u8, PATH>,
    entropy: Vec<u8, PATH>,
    #[cfg(feature = "faults")]
    hang: Vec<u8, PATH>,
    #[cfg(feature = "faults")]
    slow: Vec<u8, PATH>,
}

impl Files {
    /// The names, from the program's arguments.
    pub(super) fn named() -> Option<Self> {
        let arguments = args::<ARGUMENTS>().ok()?;
        let mut files = Self::default();
        for argument in &arguments {
            let Some((name, path)) = argument.ok()?.split_once('=') else { continue };
            let into = match name {
                "flash" => &mut files.flash,
                "provisioning" => &mut files.provisioning,
                "entropy" => &mut files.entropy,
                #[cfg(feature = "faults")]
                "hang" => &mut files.hang,
                #[cfg(feature = "faults")]
                "slow" => &mut files.slow,
                _ => continue,
            };
            *into = Vec::from_slice(path.as_bytes()).ok()?;
            into.push(0).ok()?;
        }
        Some(files)
    }

    /// True where the host wants the start to hang.
    #[cfg(feature = "faults")]
    pub(super) fn hangs(&self) -> bool {
        !self.hang.is_empty()
    }

    /// True where the host wants a slow flash.
    #[cfg(feature = "faults")]
    pub(super) fn are_slow(&self) -> bool {
        !self.slow.is_empty()
    }

    /// Entropy. This board has no generator: the host's is taken where the build allows it, which no build for a
    /// station may.
    pub(super) fn entropy(&self) -> Option<[u8; 32]> {
        if !cfg!(feature = "host-entropy") {
            return None;
        }
        let named = CStr::from_bytes_until_nul(&self.entropy).unwrap_or(c"/dev/urandom");
        let mut out = [0; 32];
        let mut file = File::open(named).ok()?;
        file.read_exact(&mut out).ok()?;
        Some(out)
    }

    /// The flash file's.
    pub(super) fn flash(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.flash).unwrap_or_default()
    }
}

/// The provisioning file that the host named, once.
impl Provisioner for Files {
    async fn file(&mut self, into: &mut [u8; MAX_FILE]) -> Option<usize> {
        let named = core::mem::take(&mut self.provisioning);
        let mut file = File::open(CStr::from_bytes_until_nul(&named).ok()?).ok()?;
        let mut len = 0;
        while len < into.len() {
            match file.read(&mut into[len..]).ok()? {
                0 => break,
                n => len += n,
            }
        }
        Some(len)
    }

    fn answer(&mut self, outcome: Result<(), Refused>) {
        match outcome {
            Ok(()) => defmt::info!("commissioned"),
            Err(why) => defmt::error!("provisioning: {}", defmt::Display2Format(&why)),
        }
    }
}
