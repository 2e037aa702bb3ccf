//! What can be wrong with a card. Faults live in the phone's file and compose with each other and with every
//! profile.
//!
//! Some bad cards need no fault here, because what is bad about them is signed: an expired or not yet valid one is
//! issued with such dates, one of another authority by another authority; [`certificate_of`] gives one the
//! certificate of another number.

use crate::application::Quirks;
use crate::card::{Answer, Card};
use crate::phone::{ApplicationFile, PhoneFile};
use crate::reader::{self, ReadError, Values};
use serde::{Deserialize, Serialize};

/// The most faults of one phone.
pub const MAX_FAULTS: usize = 8;
/// The most exchanges of a recording.
pub const MAX_EXCHANGES: usize = 64;

/// Something wrong with a card.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fault {
    /// The dynamic signature is well formed and verifies under no key.
    ForgedSignature,
    /// The dynamic signature covers another transaction counter than the one in the answer.
    WrongAtc,
    /// The counter in the answer is always 0, as of a card that was never used.
    Unused,
    /// The card declines: an AAC instead of an ARQC.
    NoCryptogram,
    /// The card is a recording of another: it gives the answers that the other gave to the same commands.
    Replay {
        /// What was recorded, in order.
        exchanges: Vec<Exchange>,
    },
    /// The card answers nonsense.
    Broken {
        /// Of which kind.
        kind: Broken,
    },
    /// Every answer takes longer.
    Slow {
        /// By so many microseconds.
        delay_us: u64,
    },
    /// Somebody relays between the gate and this card, which is elsewhere: every exchange takes longer, the timed one
    /// too.
    Relay {
        /// By so many microseconds.
        delay_us: u64,
    },
    /// The card leaves the field.
    FieldLost {
        /// After so many answers; the next command is still carried out, and its answer lost.
        after: u8,
    },
    /// The phone is locked: it refuses GET PROCESSING OPTIONS with 6986.
    Locked,
    /// The PDOL asks for an unknown tag where the unpredictable number stood, so that a gate sends zeros there.
    StaleDol,
}

/// Kinds of nonsense, each in answer to every command after SELECT PPSE, but for [`Broken::Directory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Broken {
    /// Random bytes under status 9000.
    Noise,
    /// Half of the right answer under status 9000.
    Truncated,
    /// Nothing at all, not even a status word.
    Empty,
    /// Always more to come: status 61FF.
    Endless,
    /// An answer of 2,048 bytes.
    Oversized,
    /// Random bytes already in answer to SELECT PPSE.
    Directory,
}

/// One command and its answer, as transcripts have them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// The command.
    #[serde(with = "crate::hex")]
    pub c: Vec<u8>,
    /// The answer with its status word.
    #[serde(with = "crate::hex")]
    pub r: Vec<u8>,
}

// A recording names a rider, so only its size is shown.
impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ForgedSignature => f.write_str("forged-signature"),
            Self::WrongAtc => f.write_str("wrong-atc"),
            Self::Unused => f.write_str("unused"),
            Self::NoCryptogram => f.write_str("no-cryptogram"),
            Self::Replay { exchanges } => write!(f, "replay={}", exchanges.len()),
            Self::Broken { kind } => write!(f, "broken={}", kind.word()),
            Self::Slow { delay_us } => write!(f, "slow={delay_us}"),
            Self::Relay { delay_us } => write!(f, "relay={delay_us}"),
            Self::FieldLost { after } => write!(f, "field-lost={after}"),
            Self::Locked => f.write_str("locked"),
            Self::StaleDol => f.write_str("stale-dol"),
        }
    }
}

impl Broken {
    const ALL: [Self; 6] =
        [Self::Noise, Self::Truncated, Self::Empty, Self::Endless, Self::Oversized, Self::Directory];

    const fn word(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Truncated => "truncated",
            Self::Empty => "empty",
            Self::Endless => "endless",
            Self::Oversized => "oversized",
            Self::Directory => "directory",
        }
    }
}

/// Why text names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no fault; known are forged-signature, wrong-atc, unused, no-cryptogram, locked, stale-dol, \
     slow=MICROSECONDS, relay=MICROSECONDS, field-lost=ANSWERS and broken=noise|truncated|empty|endless|oversized|directory"
)]
pub struct UnknownFault(String);

impl std::str::FromStr for Fault {
    type Err = UnknownFault;

    /// Reads a fault as the command line has it. A replay needs its recording and is not among them.
    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let unknown = || UnknownFault(text.to_owned());
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("forged-signature", None) => Ok(Self::ForgedSignature),
            ("wrong-atc", None) => Ok(Self::WrongAtc),
            ("unused", None) => Ok(Self::Unused),
            ("no-cryptogram", None) => Ok(Self::NoCryptogram),
            ("locked", None) => Ok(Self::Locked),
            ("stale-dol", None) => Ok(Self::StaleDol),
            ("slow", Some(us)) => Ok(Self::Slow { delay_us: us.parse().map_err(|_| unknown())? }),
            ("relay", Some(us)) => Ok(Self::Relay { delay_us: us.parse().map_err(|_| unknown())? }),
            ("field-lost", Some(n)) => Ok(Self::FieldLost { after: n.parse().map_err(|_| unknown())? }),
            ("broken", Some(word)) => {
                let kind = Broken::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(unknown)?;
                Ok(Self::Broken { kind })
            }
            _ => Err(unknown()),
        }
    }
}

/// What the faults of a phone do to the answers that it makes.
pub(crate) fn quirks(faults: &[Fault]) -> Quirks {
    Quirks {
        forged_signature: faults.contains(&Fault::ForgedSignature),
        wrong_atc: faults.contains(&Fault::WrongAtc),
        unused: faults.contains(&Fault::Unused),
        no_cryptogram: faults.contains(&Fault::NoCryptogram),
        stale_dol: faults.contains(&Fault::StaleDol),
    }
}

/// The recorded answer to a command. GET PROCESSING OPTIONS differs at each tap and matches by its header alone.
pub(crate) fn replayed<'e>(exchanges: &'e [Exchange], command: &[u8]) -> Option<&'e [u8]> {
    const GPO: [u8; 4] = [0x80, 0xA8, 0x00, 0x00];
    let is_gpo = command.starts_with(&GPO);
    let matches = |e: &&Exchange| if is_gpo { e.c.starts_with(&GPO) } else { e.c == command };
    exchanges.iter().find(matches).map(|e| e.r.as_slice())
}

/// Reads a card once, as a thief with a reader of his own does, and gives the fault that replays what it said.
pub fn recording(card: &mut dyn Card, values: &Values) -> Result<Fault, ReadError> {
    let reading = reader::read(card, values)?;
    Ok(Fault::Replay { exchanges: reading.exchanges })
}

/// A phone that shows its own data with the card certificate and the key of another number: for each application
/// of `phone` the certificate of the first of `other` with the same suite.
pub fn certificate_of(mut phone: PhoneFile, other: &PhoneFile) -> PhoneFile {
    for application in &mut phone.applications {
        for theirs in &other.applications {
            match (&mut *application, theirs) {
                (ApplicationFile::House(mine), ApplicationFile::House(theirs)) => {
                    mine.card_certificate.clone_from(&theirs.card_certificate);
                    mine.card_key = theirs.card_key.clone();
                }
                (ApplicationFile::Rsa(mine), ApplicationFile::Rsa(theirs)) => {
                    mine.card_certificate.clone_from(&theirs.card_certificate);
                    mine.card_remainder.clone_from(&theirs.card_remainder);
                    mine.card_key = theirs.card_key.clone();
                }
                (ApplicationFile::Sm2(mine), ApplicationFile::Sm2(theirs)) => {
                    mine.card_certificate.clone_from(&theirs.card_certificate);
                    mine.card_key = theirs.card_key.clone();
                }
                _ => continue,
            }
            break;
        }
    }
    phone
}

/// Nonsense instead of an answer; `noise` is random.
pub(crate) fn broken(kind: Broken, right: Answer, noise: [u8; 32], is_directory: bool) -> Answer {
    let data = match kind {
        _ if is_directory && kind != Broken::Directory => return right,
        Broken::Noise | Broken::Directory => [&noise[..], &[0x90, 0x00]].concat(),
        Broken::Truncated => {
            let half = right.data.len().saturating_sub(2).div_ceil(2);
            [&right.data[..half], &[0x90, 0x00]].concat()
        }
        Broken::Empty => Vec::new(),
        Broken::Endless => [&noise[..], &[0x61, 0xFF]].concat(),
        Broken::Oversized => {
            let mut data = noise.repeat(64);
            data.extend([0x90, 0x00]);
            data
        }
    };
    Answer { data, ..right }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_as_it_is_written() {
        let simple = ["forged-signature", "wrong-atc", "unused", "no-cryptogram", "locked", "stale-dol"];
        let valued = [
            "slow=250000",
            "relay=8000",
            "field-lost=3",
            "broken=noise",
            "broken=endless",
            "broken=directory",
        ];
        for text in simple.into_iter().chain(valued) {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        for text in ["", "slow", "slow=x", "broken=glass", "replay=3", "field-lost=256"] {
            assert_eq!(text.parse::<Fault>(), Err(UnknownFault(text.to_owned())));
        }
    }
}
