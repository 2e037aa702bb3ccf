//! The clear local header of a journal entry. It never leaves the gate and names no rider: a token stands in
//! it as a hash under a key of this gate.

use crate::passback::TokenTag;
use sha2::{Digest, Sha256};
use wavepass_protocol::tap::{Decision, Outcome, Reason};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::Token;

/// Bytes of a local header.
pub(crate) const LOCAL: usize = 22;

/// The newest tap in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// When it was.
    pub time: UnixMs,
    /// Its sequence number.
    pub sequence: u32,
    /// What the gate decided.
    pub decision: Decision,
    /// What the barrier saw afterwards.
    pub outcome: Option<Outcome>,
}

/// A local header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Local {
    Tap { time: UnixMs, decision: Decision, tag: TokenTag },
    Passage { time: UnixMs, of: u32, outcome: Outcome },
    Emergency { time: UnixMs, active: bool },
}

/// Set in the first byte while the emergency input is on: so that the newest entry alone tells it, however many
/// pages have been used again since the input went on.
const IN_EMERGENCY: u8 = 0x80;

impl Local {
    pub(crate) const fn time(&self) -> UnixMs {
        match self {
            Self::Tap { time, .. } | Self::Passage { time, .. } | Self::Emergency { time, .. } => *time,
        }
    }

    /// The header of an entry written while the emergency input is `emergency`.
    pub(crate) fn to_bytes(self, emergency: bool) -> [u8; LOCAL] {
        let mut out = [0; LOCAL];
        match self {
            Self::Tap { time, decision, tag } => {
                out[0] = 1;
                out[1] = match decision {
                    Decision::Open => 0,
                    Decision::Refuse(reason) => reason as u8,
                };
                out[2..10].copy_from_slice(&time.0.to_be_bytes());
                out[10..18].copy_from_slice(&tag);
            }
            Self::Passage { time, of, outcome } => {
                out[0] = 2;
                out[1] = outcome as u8;
                out[2..10].copy_from_slice(&time.0.to_be_bytes());
                out[18..].copy_from_slice(&of.to_be_bytes());
            }
            Self::Emergency { time, active } => {
                out[0] = 3;
                out[1] = u8::from(active);
                out[2..10].copy_from_slice(&time.0.to_be_bytes());
            }
        }
        if emergency {
            out[0] |= IN_EMERGENCY;
        }
        out
    }

    /// The header, and whether the emergency input was on once its entry was written.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<(Self, bool)> {
        let bytes: &[u8; LOCAL] = bytes.try_into().ok()?;
        let number =
            |range: core::ops::Range<usize>| bytes[range].iter().fold(0u64, |n, &b| n << 8 | u64::from(b));
        let time = UnixMs(number(2..10));
        let emergency = bytes[0] & IN_EMERGENCY != 0;
        let local = match (bytes[0] & !IN_EMERGENCY, bytes[1]) {
            (1, code) => {
                let decision = match code {
                    0 => Decision::Open,
                    code => Decision::Refuse(Reason::from_code(code)?),
                };
                let mut tag = [0; 8];
                tag.copy_from_slice(&bytes[10..18]);
                Self::Tap { time, decision, tag }
            }
            (2, code) => {
                let outcome = match code {
                    0 => Outcome::NotPassed,
                    1 => Outcome::Passed,
                    2 => Outcome::Unknown,
                    _ => return None,
                };
                Self::Passage { time, of: number(18..22) as u32, outcome }
            }
            (3, active @ (0 | 1)) => Self::Emergency { time, active: active == 1 },
            _ => return None,
        };
        Some((local, emergency))
    }
}

/// The hash under which this gate remembers a token.
pub(crate) fn tag(local_key: &[u8; 16], token: Option<&Token>) -> TokenTag {
    let Some(token) = token else { return [0; 8] };
    let hash =
        Sha256::new().chain_update(b"wavepass gate token").chain_update(local_key).chain_update(token.bcd());
    let hash = hash.finalize();
    core::array::from_fn(|i| hash[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back() {
        let tap = Local::Tap { time: UnixMs(7), decision: Decision::Refuse(Reason::Denied), tag: [3; 8] };
        let passage = Local::Passage { time: UnixMs(9), of: 0x0102_0304, outcome: Outcome::Unknown };
        let emergency = Local::Emergency { time: UnixMs(11), active: true };
        for local in [tap, passage, emergency] {
            for on in [false, true] {
                assert_eq!(Local::from_bytes(&local.to_bytes(on)), Some((local, on)));
            }
        }
        assert_eq!(Local::from_bytes(&[1; LOCAL - 1]), None);
        assert_eq!(Local::from_bytes(&[9; LOCAL]), None);
    }
}
