//! What a gate is given once, when it is commissioned. The file is secret: it holds the gate's keys.

use crate::dukpt::KeyId;
use crate::tap::{Direction, MAX_STATION};
use core::fmt;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"WPGATE\x00\x01";
/// The longest provisioning file, bytes.
pub const MAX_FILE: usize = 192;

/// Why bytes are not a provisioning file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisioningError {
    /// It does not begin as one of this version does.
    Magic,
    /// The body is not of the expected form.
    Body,
    /// The station code is empty, longer than 16 bytes or not printable ASCII.
    Station,
    /// It does not fit the buffer.
    Full,
}

impl fmt::Display for ProvisioningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "not a gate's provisioning file of this version",
            Self::Body => "the provisioning file is damaged",
            Self::Station => "a station code is 1 to 16 printable ASCII characters",
            Self::Full => "the provisioning file does not fit",
        })
    }
}

impl core::error::Error for ProvisioningError {}

/// A gate's identity, place and keys. No `Debug`: it holds keys.
#[derive(Clone, Serialize, Deserialize)]
pub struct Provisioning<'a> {
    /// The gate's number, unique at the host.
    pub gate_id: u32,
    /// Which DUKPT initial key it holds.
    pub key_id: KeyId,
    /// The DUKPT initial key. The gate derives its registers from it and forgets it.
    pub initial_key: [u8; 16],
    /// The key that gate and host prove to each other.
    pub link_key: [u8; 16],
    /// The root's public key (x), which vouches for the list-signing key.
    pub root_key: [u8; 32],
    /// Station code.
    pub station: &'a str,
    /// Which way the gate lets riders through.
    pub direction: Direction,
    /// The operator whose gate it is.
    pub operator: u16,
    /// The network it belongs to.
    pub network: [u8; 4],
}

impl<'a> Provisioning<'a> {
    /// Reads a provisioning file.
    pub fn parse(file: &'a [u8]) -> Result<Self, ProvisioningError> {
        let body = file.strip_prefix(MAGIC).ok_or(ProvisioningError::Magic)?;
        let parsed: Self = postcard::from_bytes(body).map_err(|_| ProvisioningError::Body)?;
        if station_is_valid(parsed.station) { Ok(parsed) } else { Err(ProvisioningError::Station) }
    }

    /// Writes it.
    pub fn write<'b>(&self, out: &'b mut [u8; MAX_FILE]) -> Result<&'b [u8], ProvisioningError> {
        if !station_is_valid(self.station) {
            return Err(ProvisioningError::Station);
        }
        out[..MAGIC.len()].copy_from_slice(MAGIC);
        let len =
            postcard::to_slice(self, &mut out[MAGIC.len()..]).map_err(|_| ProvisioningError::Full)?.len();
        Ok(&out[..MAGIC.len() + len])
    }
}

/// True for codes that fit a sealed tap: 1 to 16 printable ASCII characters.
pub fn station_is_valid(code: &str) -> bool {
    !code.is_empty() && code.len() <= MAX_STATION && code.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Provisioning<'static> {
        Provisioning {
            gate_id: 7,
            key_id: KeyId([1; 8]),
            initial_key: [2; 16],
            link_key: [3; 16],
            root_key: [4; 32],
            station: "A1",
            direction: Direction::Entry,
            operator: 1,
            network: *b"WAVE",
        }
    }

    #[test]
    fn a_file_reads_back() {
        let mut out = [0; MAX_FILE];
        let file = sample().write(&mut out).unwrap();
        let back = Provisioning::parse(file).unwrap();
        assert_eq!((back.gate_id, back.station, back.direction), (7, "A1", Direction::Entry));
    }

    #[test]
    fn damaged_files_are_named() {
        let mut out = [0; MAX_FILE];
        let len = sample().write(&mut out).unwrap().len();
        assert_eq!(Provisioning::parse(&out[1..len]).err(), Some(ProvisioningError::Magic));
        assert_eq!(Provisioning::parse(&out[..len - 3]).err(), Some(ProvisioningError::Body));
        let long = Provisioning { station: "ABCDEFGHIJKLMNOPQ", ..sample() };
        assert_eq!(long.write(&mut [0; MAX_FILE]).err(), Some(ProvisioningError::Station));
    }
}
