//! What QEMU's host gives by semihosting: the names of the files to use, entropy, and the provisioning file.
//!
//! The program's arguments are `flash=PATH` and `provisioning=PATH`.

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
pub(super) struct Files {
    flash: Vec<u8, PATH>,
    provisioning: Vec<u8, PATH>,
}

impl Files {
    /// The names, from the program's arguments.
    pub(super) fn named() -> Option<Self> {
        let arguments = args::<ARGUMENTS>().ok()?;
        let (mut flash, mut provisioning) = (Vec::new(), Vec::new());
        for argument in &arguments {
            let Some((name, path)) = argument.ok()?.split_once('=') else { continue };
            let into = match name {
                "flash" => &mut flash,
                "provisioning" => &mut provisioning,
                _ => continue,
            };
            *into = Vec::from_slice(path.as_bytes()).ok()?;
            into.push(0).ok()?;
        }
        Some(Self { flash, provisioning })
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

/// Entropy. This board has no generator: the host's is taken where the build allows it, which no build for a
/// station may.
pub(super) fn entropy() -> Option<[u8; 32]> {
    if !cfg!(feature = "host-entropy") {
        return None;
    }
    let mut out = [0; 32];
    let mut file = File::open(c"/dev/urandom").ok()?;
    file.read_exact(&mut out).ok()?;
    Some(out)
}
