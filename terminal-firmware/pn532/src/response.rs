//! What the chip answers: firmware version, cards found. Read by the driver, written by the simulated chip.
//!
//! An answer here is the data of a frame, code first. Facts: NXP UM0701-02 chapter 7, and published open drivers.

use crate::command::{Modulation, code};
use core::fmt;
use heapless::Vec;

/// The longest UID (triple size).
pub const MAX_UID: usize = 10;
/// The longest ATS that is kept: what fits in the smallest frame that a reader with FSD 64 announces.
pub const MAX_ATS: usize = 62;
/// An ATQB, its first byte `50` included.
pub const ATQB: usize = 12;
/// The longest answer to ATTRIB that is kept.
pub const MAX_ATTRIB: usize = 62;

/// The answer's code for a command's.
pub const fn answer_code(command: u8) -> u8 {
    command.wrapping_add(1)
}

/// An answer that is not what its command calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Malformed;

/// Which chip, which firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FirmwareVersion {
    /// `32` is a PN532.
    pub ic: u8,
    /// Version.
    pub version: u8,
    /// Revision.
    pub revision: u8,
    /// What it supports: bit 0 type A, 1 type B, 2 ISO/IEC 18092.
    pub support: u8,
}

impl FirmwareVersion {
    /// Reads the answer to GetFirmwareVersion.
    pub fn parse(data: &[u8]) -> Result<Self, Malformed> {
        match *data {
            [c, ic, version, revision, support] if c == answer_code(code::GET_FIRMWARE_VERSION) => {
                Ok(Self { ic, version, revision, support })
            }
            _ => Err(Malformed),
        }
    }

    /// The answer's bytes.
    pub const fn to_bytes(self) -> [u8; 5] {
        [answer_code(code::GET_FIRMWARE_VERSION), self.ic, self.version, self.revision, self.support]
    }
}

/// A type A card.
#[derive(Clone, PartialEq, Eq)]
pub struct TypeA {
    /// ATQA.
    pub sens_res: [u8; 2],
    /// SAK. Bit 0x20: the card speaks ISO/IEC 14443-4.
    pub sel_res: u8,
    /// 4, 7 or 10 bytes.
    pub uid: Vec<u8, MAX_UID>,
    /// The ATS, its length byte first; empty where the card has none.
    pub ats: Vec<u8, MAX_ATS>,
}

/// A type B card.
#[derive(Clone, PartialEq, Eq)]
pub struct TypeB {
    /// ATQB, its first byte `50` included.
    pub atqb: [u8; ATQB],
    /// The answer to ATTRIB.
    pub attrib: Vec<u8, MAX_ATTRIB>,
}

impl TypeB {
    /// The card's pseudo-unique identifier.
    pub fn pupi(&self) -> &[u8] {
        self.atqb.get(1..5).unwrap_or_default()
    }
}

/// A card as the chip found it.
#[derive(Clone, PartialEq, Eq)]
pub enum Found {
    /// Type A.
    A(TypeA),
    /// Type B.
    B(TypeB),
}

// Identifiers of cards may identify riders, so only sizes are shown.
impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(a) => {
                write!(f, "A(SAK {:02X}, UID [{}], ATS [{}])", a.sel_res, a.uid.len(), a.ats.len())
            }
            Self::B(b) => write!(f, "B(ATTRIB [{}])", b.attrib.len()),
        }
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Found {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self {
            Self::A(a) => {
                defmt::write!(f, "A(SAK {=u8:02X}, UID [{}], ATS [{}])", a.sel_res, a.uid.len(), a.ats.len())
            }
            Self::B(b) => defmt::write!(f, "B(ATTRIB [{}])", b.attrib.len()),
        }
    }
}

impl Found {
    /// True where the card takes APDUs. A type B card that was activated does.
    pub fn takes_apdus(&self) -> bool {
        match self {
            Self::A(a) => a.sel_res & 0x20 != 0,
            Self::B(_) => true,
        }
    }

    /// UID or PUPI.
    pub fn identifier(&self) -> &[u8] {
        match self {
            Self::A(a) => &a.uid,
            Self::B(b) => b.pupi(),
        }
    }

    /// Writes what stands after the target's number in the answer to InListPassiveTarget; the length, if it fits.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let (a, b);
        let parts: [&[u8]; 3] = match self {
            Self::A(card) => {
                let [high, low] = card.sens_res;
                a = [high, low, card.sel_res, card.uid.len() as u8]; // at most 10
                [&a, &card.uid, &card.ats]
            }
            Self::B(card) => {
                b = [card.attrib.len() as u8]; // at most 62
                [&card.atqb, &b, &card.attrib]
            }
        };
        let mut len = 0;
        for part in parts {
            out.get_mut(len..len + part.len())?.copy_from_slice(part);
            len += part.len();
        }
        Some(len)
    }
}

/// Bytes being read from the front.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(Malformed)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }
}

/// Reads the answer to InListPassiveTarget: number and description of each card, at most 2.
pub fn parse_targets(data: &[u8], modulation: Modulation) -> Result<Vec<(u8, Found), 2>, Malformed> {
    let mut rest = Rest(data);
    if rest.byte()? != answer_code(code::IN_LIST_PASSIVE_TARGET) {
        return Err(Malformed);
    }
    let count = rest.byte()?;
    let mut targets = Vec::new();
    for left in (0..count).rev() {
        let number = rest.byte()?;
        let found = match modulation {
            Modulation::A => Found::A(type_a(&mut rest, left > 0)?),
            Modulation::B => {
                let atqb = rest.array()?;
                let len = usize::from(rest.byte()?);
                let attrib = Vec::from_slice(rest.take(len)?).map_err(|_| Malformed)?;
                Found::B(TypeB { atqb, attrib })
            }
        };
        targets.push((number, found)).map_err(|_| Malformed)?;
    }
    if rest.0.is_empty() { Ok(targets) } else { Err(Malformed) }
}

fn type_a(rest: &mut Rest<'_>, is_followed: bool) -> Result<TypeA, Malformed> {
    let sens_res = rest.array()?;
    let sel_res = rest.byte()?;
    let len = usize::from(rest.byte()?);
    let uid = Vec::from_slice(rest.take(len)?).map_err(|_| Malformed)?;
    // A card without ISO/IEC 14443-4 has no ATS; nor has one whose RATS failed, which shows only at the end.
    let has_ats = sel_res & 0x20 != 0 && (is_followed || !rest.0.is_empty());
    let ats = match rest.0.first() {
        Some(&len) if has_ats => rest.take(usize::from(len.max(1)))?,
        _ => &[],
    };
    let ats = Vec::from_slice(ats).map_err(|_| Malformed)?;
    Ok(TypeA { sens_res, sel_res, uid, ats })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATS: &[u8] = &[0x0A, 0x78, 0x80, 0x70, 0x02, 0x80, 0x31, 0x80, 0x40, 0x80];

    fn phone(uid: &[u8]) -> Found {
        Found::A(TypeA {
            sens_res: [0x00, 0x04],
            sel_res: 0x20,
            uid: Vec::from_slice(uid).unwrap(),
            ats: Vec::from_slice(ATS).unwrap(),
        })
    }

    fn answer(cards: &[Found]) -> std::vec::Vec<u8> {
        let mut data = std::vec![0x4B, cards.len() as u8];
        for (i, card) in cards.iter().enumerate() {
            let mut out = [0; 128];
            let len = card.write(&mut out).unwrap();
            data.push(i as u8 + 1);
            data.extend(&out[..len]);
        }
        data
    }

    #[test]
    fn cards_are_read_as_they_are_written() {
        let plastic = Found::A(TypeA {
            sens_res: [0x00, 0x44],
            sel_res: 0x08,
            uid: Vec::from_slice(&[4, 1, 2, 3, 4, 5, 6]).unwrap(),
            ats: Vec::new(),
        });
        for cards in [
            &[][..],
            &[phone(&[8, 1, 2, 3])],
            &[phone(&[8, 1, 2, 3]), phone(&[8, 9, 9, 9])],
            &[plastic.clone(), phone(&[8, 1, 2, 3])],
        ] {
            let read = parse_targets(&answer(cards), Modulation::A).unwrap();
            assert!(read.iter().map(|(_, found)| found).eq(cards));
        }
        assert!(phone(&[8, 0, 0, 0]).takes_apdus());
        assert!(!plastic.takes_apdus());

        let b = Found::B(TypeB {
            atqb: [0x50, 1, 2, 3, 4, 0, 0, 0, 0, 0x00, 0x81, 0x71],
            attrib: Vec::from_slice(&[0x01]).unwrap(),
        });
        let read = parse_targets(&answer(core::slice::from_ref(&b)), Modulation::B).unwrap();
        assert_eq!(read.first(), Some(&(1, b.clone())));
        assert_eq!(b.identifier(), [1, 2, 3, 4]);
    }

    /// The answer for one ISO/IEC 14443-4 card, laid out as UM0701-02 has it.
    #[test]
    fn an_answer_as_the_manual_lays_it_out_is_read() {
        let data = [&[0x4B, 1, 1, 0x03, 0x44, 0x20, 4, 8, 1, 2, 3][..], ATS].concat();
        let read = parse_targets(&data, Modulation::A).unwrap();
        let (number, found) = &read[0];
        assert_eq!((*number, found.identifier()), (1, &[8, 1, 2, 3][..]));
        for cut in 0..data.len() {
            let cut = parse_targets(&data[..cut], Modulation::A);
            assert!(
                cut.is_err() || cut.is_ok_and(|targets| targets[0].1 != *found),
                "a cut answer is not whole"
            );
        }
        assert!(parse_targets(&[&data[..], &[0]].concat(), Modulation::A).is_err());
        assert!(parse_targets(&[0x4B, 3], Modulation::A).is_err());
    }
}
