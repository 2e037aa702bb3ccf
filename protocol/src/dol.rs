//! Data object lists: what a card asks the gate to send (PDOL, CDOL1, DDOL), and the values sent for it
//! (Book 3 section 5.4).

use crate::tags::{self, Format};
use crate::tlv::{Tag, TlvError};

/// The most entries a list may have; cards seen in the field have fewer than 20.
pub const MAX_ENTRIES: usize = 32;
/// The most bytes of values a list may ask for: with its wrapper they fill one short APDU.
pub const MAX_VALUES: usize = 252;

/// A well-formed list: at most [`MAX_ENTRIES`] entries, [`MAX_VALUES`] bytes of values, and no tag twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dol<'a> {
    raw: &'a [u8],
    total: usize,
}

impl<'a> Dol<'a> {
    /// Reads a list: tags, each with one byte of length. A list without entries is well formed.
    pub fn parse(raw: &'a [u8]) -> Result<Self, TlvError> {
        let mut total = 0;
        let mut entries = heapless::Vec::<Tag, MAX_ENTRIES>::new();
        let mut rest = raw;
        while !rest.is_empty() {
            let (tag, len, tail) = read(rest)?;
            // A second 9F37 would leave open which of the two values the card signs.
            if entries.contains(&tag) {
                return Err(TlvError::Duplicate(tag));
            }
            entries.push(tag).map_err(|_| TlvError::Full)?;
            total += usize::from(len);
            if total > MAX_VALUES {
                return Err(TlvError::Full);
            }
            rest = tail;
        }
        Ok(Self { raw, total })
    }

    /// The list as it was read.
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The entries in order: tag and the length asked for, in bytes.
    pub fn entries(&self) -> impl Iterator<Item = (Tag, u8)> + use<'a> {
        let mut rest = self.raw;
        core::iter::from_fn(move || {
            // `parse` accepted the whole list, so an error is only its end.
            let (tag, len, tail) = read(rest).ok()?;
            rest = tail;
            Some((tag, len))
        })
    }

    /// True if the list asks for the tag with exactly this length.
    pub fn contains(&self, tag: Tag, len: u8) -> bool {
        self.entries().any(|entry| entry == (tag, len))
    }

    /// How many bytes all values take.
    pub const fn total_len(&self) -> usize {
        self.total
    }

    /// Writes the values in the list's order and returns their length. `value` gives a tag's value; the format
    /// of the tag decides padding and truncation. What is not known, and every template, becomes zeros.
    pub fn fill<'v>(
        &self,
        out: &mut [u8],
        mut value: impl FnMut(Tag) -> Option<&'v [u8]>,
    ) -> Result<usize, TlvError> {
        let mut rest = out.get_mut(..self.total).ok_or(TlvError::Full)?;
        for (tag, len) in self.entries() {
            let (slot, tail) = rest.split_at_mut(usize::from(len));
            match value(tag) {
                Some(value) if !tag.is_constructed() => fit(slot, value, tags::format(tag)),
                _ => slot.fill(0),
            }
            rest = tail;
        }
        Ok(self.total)
    }

    /// Where a tag's value stands among the values sent for this list; `None` if the list does not ask for it or
    /// `values` are not this list's.
    pub fn locate<'v>(&self, values: &'v [u8], tag: Tag) -> Option<&'v [u8]> {
        if values.len() != self.total {
            return None;
        }
        let mut at = 0;
        for (entry, len) in self.entries() {
            let end = at + usize::from(len);
            if entry == tag {
                return values.get(at..end);
            }
            at = end;
        }
        None
    }
}

fn read(data: &[u8]) -> Result<(Tag, u8, &[u8]), TlvError> {
    let (tag, tag_len) = Tag::read(data)?;
    let (&len, rest) = data[tag_len..].split_first().ok_or(TlvError::Truncated)?;
    Ok((tag, len, rest))
}

fn fit(slot: &mut [u8], value: &[u8], format: Format) {
    let common = slot.len().min(value.len());
    match format {
        Format::Numeric => {
            let (pad, tail) = slot.split_at_mut(slot.len() - common);
            pad.fill(0);
            tail.copy_from_slice(&value[value.len() - common..]);
        }
        Format::CompressedNumeric | Format::Other => {
            let (head, pad) = slot.split_at_mut(common);
            head.copy_from_slice(&value[..common]);
            pad.fill(if format == Format::Other { 0x00 } else { 0xFF });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    /// The house's list: 33 bytes of values.
    const PDOL: [u8; 24] = [
        0x9F, 0x66, 4, 0x9F, 0x02, 6, 0x9F, 0x03, 6, 0x9F, 0x1A, 2, 0x95, 5, 0x5F, 0x2A, 2, 0x9A, 3, 0x9C, 1,
        0x9F, 0x37, 4,
    ];

    #[test]
    fn the_house_list_asks_for_33_bytes() {
        let dol = Dol::parse(&PDOL).unwrap();
        assert_eq!((dol.total_len(), dol.entries().count()), (33, 9));
        assert!(dol.contains(tags::UNPREDICTABLE_NUMBER, 4));
        assert!(!dol.contains(tags::UNPREDICTABLE_NUMBER, 8));
        let values: Vec<u8> = (0..33).collect();
        assert_eq!(dol.locate(&values, tags::CURRENCY), Some(&[23, 24][..]));
        assert_eq!(dol.locate(&values, tags::UNPREDICTABLE_NUMBER), Some(&[29, 30, 31, 32][..]));
        assert_eq!(dol.locate(&values[1..], tags::CURRENCY), None);
    }

    // EMV Book 3 section 5.4, rules for the length of a data object in a DOL.
    #[test]
    fn values_are_fitted_as_their_format_wants() {
        let value = |tag: Tag| -> Option<&'static [u8]> {
            match tag.0 {
                0x9F02 => Some(&[0x12, 0x34]),
                0x5A => Some(&[0x62, 0x22]),
                0x9F4E => Some(b"gate"),
                0x9F37 => Some(&[1, 2, 3, 4]),
                0x70 => Some(&[9; 4]),
                _ => None,
            }
        };
        let fill = |list: &[u8]| {
            let mut out = [0xEE; 16];
            let len = Dol::parse(list).unwrap().fill(&mut out, value).unwrap();
            out[..len].to_vec()
        };
        assert_eq!(fill(&[0x9F, 0x02, 3]), [0x00, 0x12, 0x34]);
        assert_eq!(fill(&[0x9F, 0x02, 1]), [0x34]);
        assert_eq!(fill(&[0x5A, 3]), [0x62, 0x22, 0xFF]);
        assert_eq!(fill(&[0x5A, 1]), [0x62]);
        assert_eq!(fill(&[0x9F, 0x4E, 5]), *b"gate\0");
        assert_eq!(fill(&[0x9F, 0x37, 2]), [1, 2]);
        assert_eq!(fill(&[0x70, 2, 0xDF, 0x01, 2]), [0, 0, 0, 0]);
    }

    #[test]
    fn a_list_beyond_its_bounds_is_refused() {
        assert_eq!(Dol::parse(&[0x9F, 0x37]), Err(TlvError::Truncated));
        assert_eq!(
            Dol::parse(&[0x9F, 0x37, 4, 0x95, 5, 0x9F, 0x37, 4]),
            Err(TlvError::Duplicate(tags::UNPREDICTABLE_NUMBER))
        );
        assert_eq!(Dol::parse(&[0x95, 252, 0x9C, 1]), Err(TlvError::Full));
        let many: Vec<u8> = (0..33).flat_map(|i| [0xDF, i + 1, 1]).collect();
        assert_eq!(Dol::parse(&many), Err(TlvError::Full));
        assert_eq!(Dol::parse(&[]).unwrap().total_len(), 0);
        assert_eq!(Dol::parse(&PDOL).unwrap().fill(&mut [0; 32], |_| None), Err(TlvError::Full));
    }

    proptest! {
        #[test]
        fn any_list_is_refused_or_filled_as_the_oracle_does(data in prop::collection::vec(any::<u8>(), 0..24)) {
            let Ok(dol) = Dol::parse(&data) else { return Ok(()) };
            let mut out = [0xEE; MAX_VALUES];
            let len = dol.fill(&mut out, |_| Some(&[0x11, 0x22, 0x33])).unwrap();
            // Crate emv as independent reader; it knows tags of one and two bytes only.
            let Ok(oracle) = ::emv::core::dol::Dol::parse(&data) else { return Ok(()) };
            use ::emv::core::dol::ValueFormat;
            let wanted = oracle.build(|tag| {
                let tag = tag.to_bytes().iter().fold(0, |n, &b| n << 8 | u32::from(b));
                let format = match tags::format(Tag(tag)) {
                    Format::Numeric => ValueFormat::Numeric,
                    Format::CompressedNumeric => ValueFormat::CompressedNumeric,
                    Format::Other => ValueFormat::Other,
                };
                Some((format, std::vec![0x11, 0x22, 0x33]))
            });
            prop_assert_eq!(&out[..len], &wanted[..]);
        }
    }
}
