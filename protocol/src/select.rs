//! Finding the application on a card and the records in it: the contactless directory (PPSE), the answer to
//! SELECT (FCI) and the application file locator (Book 1 section 12, Book B, Book 3 section 10.2).

use crate::apdu::PPSE;
use crate::tags;
use crate::tlv::{self, Tlv, TlvError};
use core::fmt;

/// The most directory entries looked at; a card with more is refused.
pub const MAX_CANDIDATES: usize = 16;
/// The most records an application may make the gate read.
pub const MAX_RECORDS: usize = 16;

/// An application identifier: 5 to 16 bytes.
#[derive(Clone, Copy)]
pub struct Aid {
    // What follows `len` is zero.
    bytes: [u8; 16],
    len: u8,
}

impl Aid {
    /// An identifier from its bytes; `None` unless there are 5 to 16.
    pub const fn new(aid: &[u8]) -> Option<Self> {
        if aid.len() < 5 || aid.len() > 16 {
            return None;
        }
        let mut bytes = [0; 16];
        let mut i = 0;
        while i < aid.len() {
            bytes[i] = aid[i];
            i += 1;
        }
        Some(Self { bytes, len: aid.len() as u8 })
    }

    /// The identifier's bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The registered application provider: the first five bytes.
    pub fn rid(&self) -> [u8; 5] {
        let [a, b, c, d, e, ..] = self.bytes;
        [a, b, c, d, e]
    }

    /// True if this identifier begins with `prefix` (partial selection).
    pub fn starts_with(&self, prefix: &Self) -> bool {
        self.as_slice().starts_with(prefix.as_slice())
    }

    /// The identifier as data object 9F06, as the hash of the static card data takes it.
    pub fn tlv(&self) -> heapless::Vec<u8, 19> {
        let mut out = heapless::Vec::new();
        // 2 + 1 + 16 bytes always fit.
        let _ = out.extend_from_slice(&[0x9F, 0x06, self.len]);
        let _ = out.extend_from_slice(self.as_slice());
        out
    }
}

impl PartialEq for Aid {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Aid {}

impl PartialOrd for Aid {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Aid {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl core::hash::Hash for Aid {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl fmt::Debug for Aid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Aid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// One application that the card offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its identifier.
    pub aid: Aid,
    /// Its priority, 1 (highest) to 15; 0: the card has no preference.
    pub priority: u8,
    /// The first byte of its kernel identifier (9F2A), where the card gives one.
    pub kernel: Option<u8>,
}

/// Reads the answer to SELECT PPSE. Entries without a usable identifier are passed over, as Book B wants.
pub fn parse_ppse(fci: &[u8]) -> Result<heapless::Vec<Candidate, MAX_CANDIDATES>, TlvError> {
    let fci = tlv::get(fci, tags::FCI)?;
    let name = tlv::get(fci, tags::DF_NAME)?;
    if name != PPSE {
        return Err(TlvError::WrongLength { tag: tags::DF_NAME, len: name.len() });
    }
    let proprietary = tlv::get(fci, tags::FCI_PROPRIETARY)?;
    let directory = tlv::get(proprietary, tags::FCI_DISCRETIONARY)?;
    let mut candidates = heapless::Vec::new();
    for entry in tlv::iter(directory) {
        let entry = entry?;
        if entry.tag != tags::DIRECTORY_ENTRY {
            continue;
        }
        let Some(aid) = tlv::find(entry.value, tags::ADF_NAME)?.and_then(Aid::new) else { continue };
        let priority =
            tlv::find(entry.value, tags::PRIORITY)?.and_then(|p| p.first()).map_or(0, |p| p & 0x0F);
        let kernel = tlv::find(entry.value, tags::KERNEL_ID)?.and_then(|k| k.first()).copied();
        candidates.push(Candidate { aid, priority, kernel }).map_err(|_| TlvError::Full)?;
    }
    Ok(candidates)
}

/// The answer to SELECT of an application.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fci<'a> {
    /// The identifier of what was selected (84).
    pub df_name: &'a [u8],
    /// The application label (50), in ASCII.
    pub label: Option<&'a [u8]>,
    /// The list of what the card wants to know (9F38), without its header.
    pub pdol: Option<&'a [u8]>,
    /// The same as it stood, with tag and length: the card certificate's hash covers it.
    pub pdol_tlv: Option<&'a [u8]>,
    /// Byte 1 of UnionPay's DF61.
    pub df61: Option<u8>,
    /// The house's DF72: the version of relay resistance that the card offers.
    pub relay_resistance: Option<u8>,
}

impl fmt::Debug for Fci<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fci(pdol {:?} bytes, df61 {:?})", self.pdol.map(<[u8]>::len), self.df61)
    }
}

impl<'a> Fci<'a> {
    /// Reads the data field of the answer.
    pub fn parse(response: &'a [u8]) -> Result<Self, TlvError> {
        let fci = tlv::get(response, tags::FCI)?;
        let df_name = tlv::get(fci, tags::DF_NAME)?;
        if Aid::new(df_name).is_none() {
            return Err(TlvError::WrongLength { tag: tags::DF_NAME, len: df_name.len() });
        }
        let proprietary = tlv::get(fci, tags::FCI_PROPRIETARY)?;
        let pdol = tlv::find_tlv(proprietary, tags::PDOL)?;
        let discretionary = tlv::find(proprietary, tags::FCI_DISCRETIONARY)?.unwrap_or_default();
        Ok(Self {
            df_name,
            label: tlv::find(proprietary, tags::APPLICATION_LABEL)?,
            pdol: pdol.map(|tlv: Tlv<'a>| tlv.value),
            pdol_tlv: pdol.map(|tlv| tlv.raw),
            df61: tlv::find(discretionary, tags::CARD_SUPPORTS)?.and_then(|v| v.first()).copied(),
            relay_resistance: tlv::find(discretionary, tags::RELAY_RESISTANCE)?
                .and_then(|v| v.first())
                .copied(),
        })
    }

    /// True if the card says that it supports offline data authentication for online (UnionPay: DF61 byte 1
    /// bit 7).
    pub fn supports_online_oda(&self) -> bool {
        self.df61.is_some_and(|byte| byte & 0x40 != 0)
    }
}

/// Why bytes are not an application file locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AflError {
    /// Empty, or not a multiple of four bytes.
    Length(usize),
    /// A file identifier outside 1 to 30, or with its low bits set; the byte as it stood.
    Sfi(u8),
    /// Record numbers that begin at 0 or run backwards.
    Records {
        /// First record.
        first: u8,
        /// Last record.
        last: u8,
    },
    /// More records for offline authentication than the entry has.
    Oda(u8),
    /// More than [`MAX_RECORDS`] records in all.
    TooMany,
    /// A record listed twice.
    Repeated {
        /// Its file.
        sfi: u8,
        /// Its number.
        record: u8,
    },
}

impl fmt::Display for AflError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(n) => write!(f, "a file locator has entries of four bytes, not {n} bytes"),
            Self::Sfi(byte) => write!(f, "a file locator cannot name file {byte:02X}"),
            Self::Records { first, last } => write!(f, "a file locator cannot run from {first} to {last}"),
            Self::Oda(n) => write!(f, "a file locator signs {n} records, more than it lists"),
            Self::TooMany => write!(f, "a file locator lists more than {MAX_RECORDS} records"),
            Self::Repeated { sfi, record } => write!(f, "record {record} of file {sfi} is listed twice"),
        }
    }
}

impl core::error::Error for AflError {}

/// One entry of a file locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AflEntry {
    /// The file, 1 to 30.
    pub sfi: u8,
    /// Its first record, from 1.
    pub first: u8,
    /// Its last record.
    pub last: u8,
    /// How many of them, from the first, offline data authentication covers.
    pub oda_records: u8,
}

impl AflEntry {
    fn holds(&self, sfi: u8, record: u8) -> bool {
        self.sfi == sfi && (self.first..=self.last).contains(&record)
    }
}

/// One record to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef {
    /// Its file, 1 to 30.
    pub sfi: u8,
    /// Its number, from 1.
    pub record: u8,
    /// True if offline data authentication covers it.
    pub is_oda: bool,
}

/// A well-formed application file locator: at most [`MAX_RECORDS`] records, none twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Afl {
    entries: heapless::Vec<AflEntry, MAX_RECORDS>,
}

impl Afl {
    /// One that names no record.
    pub const EMPTY: Self = Self { entries: heapless::Vec::new() };

    /// Reads the value of tag 94.
    pub fn parse(value: &[u8]) -> Result<Self, AflError> {
        let (quads, []) = value.as_chunks::<4>() else { return Err(AflError::Length(value.len())) };
        if quads.is_empty() {
            return Err(AflError::Length(0));
        }
        let mut afl = Self::default();
        let mut total = 0;
        for &[file, first, last, oda_records] in quads {
            let sfi = file >> 3;
            if file & 0x07 != 0 || !(1..=30).contains(&sfi) {
                return Err(AflError::Sfi(file));
            }
            if first == 0 || last < first {
                return Err(AflError::Records { first, last });
            }
            let count = usize::from(last - first) + 1;
            if usize::from(oda_records) > count {
                return Err(AflError::Oda(oda_records));
            }
            total += count;
            if total > MAX_RECORDS {
                return Err(AflError::TooMany);
            }
            let seen = |record: &u8| afl.entries.iter().any(|entry| entry.holds(sfi, *record));
            if let Some(record) = (first..=last).find(seen) {
                return Err(AflError::Repeated { sfi, record });
            }
            let entry = AflEntry { sfi, first, last, oda_records };
            afl.entries.push(entry).map_err(|_| AflError::TooMany)?;
        }
        Ok(afl)
    }

    /// The entries in order.
    pub fn entries(&self) -> &[AflEntry] {
        &self.entries
    }

    /// The records in the order in which they are read.
    pub fn records(&self) -> impl Iterator<Item = RecordRef> + '_ {
        self.entries.iter().flat_map(|&AflEntry { sfi, first, last, oda_records }| {
            (first..=last).map(move |record| RecordRef { sfi, record, is_oda: record - first < oda_records })
        })
    }

    /// How many records there are, 1 to [`MAX_RECORDS`].
    pub fn count(&self) -> usize {
        self.records().count()
    }

    /// The record at that place of the reading order.
    pub fn record(&self, index: usize) -> Option<RecordRef> {
        self.records().nth(index)
    }
}

/// What of a record's data field offline data authentication covers: for files 1 to 10 the value of template 70,
/// for others the whole field (Book 3 section 10.3). For files 1 to 10 the field must be one template 70 and
/// nothing else.
pub fn oda_part(sfi: u8, response: &[u8]) -> Result<&[u8], TlvError> {
    if sfi > 10 {
        return Ok(response);
    }
    match tlv::iter(response).next() {
        Some(Ok(record)) if record.tag == tags::RECORD && record.raw.len() == response.len() => {
            Ok(record.value)
        }
        Some(Err(e)) => Err(e),
        _ => Err(TlvError::Missing(tags::RECORD)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlv::Writer;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    const HOUSE: &[u8] = b"\xF0WAVEPASS\x01";

    fn ppse(entries: &[(&[u8], Option<u8>)]) -> Vec<u8> {
        let mut buf = [0; 1024];
        let mut w = Writer::new(&mut buf);
        w.nested(tags::FCI, |w| {
            w.tlv(tags::DF_NAME, PPSE)?;
            w.nested(tags::FCI_PROPRIETARY, |w| {
                w.nested(tags::FCI_DISCRETIONARY, |w| {
                    entries.iter().try_for_each(|(aid, priority)| {
                        w.nested(tags::DIRECTORY_ENTRY, |w| {
                            w.tlv(tags::ADF_NAME, aid)?;
                            priority.map_or(Ok(()), |p| w.tlv(tags::PRIORITY, &[p]))
                        })
                    })
                })
            })
        })
        .unwrap();
        w.finish().to_vec()
    }

    #[test]
    fn the_directory_lists_applications_in_the_cards_order() {
        let union_pay = [0xA0, 0x00, 0x00, 0x03, 0x33, 0x01, 0x01, 0x01];
        let list = parse_ppse(&ppse(&[(&union_pay, Some(0x82)), (b"tiny", None), (HOUSE, None)])).unwrap();
        let wanted = [
            Candidate { aid: Aid::new(&union_pay).unwrap(), priority: 2, kernel: None },
            Candidate { aid: Aid::new(HOUSE).unwrap(), priority: 0, kernel: None },
        ];
        assert_eq!(list, wanted);
        assert_eq!(std::format!("{}", wanted[0].aid), "A000000333010101");
        assert_eq!(wanted[0].aid.rid(), [0xA0, 0, 0, 3, 0x33]);
        assert_eq!(wanted[0].aid.tlv()[..4], [0x9F, 0x06, 0x08, 0xA0]);
    }

    #[test]
    fn a_directory_with_too_many_entries_or_another_name_is_refused() {
        assert_eq!(parse_ppse(&ppse(&[(HOUSE, None); 17])), Err(TlvError::Full));
        let mut other = ppse(&[(HOUSE, None)]);
        let at = other.windows(4).position(|w| w == b"2PAY").unwrap();
        other[at] = b'1';
        assert_eq!(parse_ppse(&other), Err(TlvError::WrongLength { tag: tags::DF_NAME, len: 14 }));
        assert_eq!(parse_ppse(&[]), Err(TlvError::Missing(tags::FCI)));
    }

    #[test]
    fn a_pdol_given_twice_is_refused() {
        let mut buf = [0; 256];
        let mut write = |times: usize| {
            let mut w = Writer::new(&mut buf);
            w.nested(tags::FCI, |w| {
                w.tlv(tags::DF_NAME, HOUSE)?;
                w.nested(tags::FCI_PROPRIETARY, |w| {
                    (0..times).try_for_each(|_| w.tlv(tags::PDOL, &[0x9F, 0x37, 4]))?;
                    w.nested(tags::FCI_DISCRETIONARY, |w| w.tlv(tags::CARD_SUPPORTS, &[0x40, 0]))
                })
            })
            .unwrap();
            w.finish().to_vec()
        };
        let once = write(1);
        let fci = Fci::parse(&once).unwrap();
        assert_eq!(fci.pdol_tlv, Some(&[0x9F, 0x38, 3, 0x9F, 0x37, 4][..]));
        assert!(fci.supports_online_oda());
        assert_eq!(Fci::parse(&write(2)), Err(TlvError::Duplicate(tags::PDOL)));
    }

    #[test]
    fn a_file_locator_says_what_to_read_and_what_is_signed() {
        let afl = Afl::parse(&[0x08, 1, 2, 0, 0x10, 1, 1, 1, 0x58, 5, 6, 1]).unwrap();
        let records: Vec<_> = afl.records().map(|r| (r.sfi, r.record, r.is_oda)).collect();
        assert_eq!(records, [(1, 1, false), (1, 2, false), (2, 1, true), (11, 5, true), (11, 6, false)]);
        assert_eq!((afl.count(), afl.record(2).unwrap().sfi, afl.record(5)), (5, 2, None));
    }

    #[test]
    fn a_malformed_file_locator_is_named() {
        let cases: [(&[u8], AflError); 10] = [
            (&[], AflError::Length(0)),
            (&[0x08, 1, 1], AflError::Length(3)),
            (&[0x00, 1, 1, 0], AflError::Sfi(0x00)),
            (&[0xF8, 1, 1, 0], AflError::Sfi(0xF8)),
            (&[0x0C, 1, 1, 0], AflError::Sfi(0x0C)),
            (&[0x08, 0, 1, 0], AflError::Records { first: 0, last: 1 }),
            (&[0x08, 2, 1, 0], AflError::Records { first: 2, last: 1 }),
            (&[0x08, 1, 2, 3], AflError::Oda(3)),
            (&[0x08, 1, 255, 0], AflError::TooMany),
            (&[0x08, 1, 3, 0, 0x08, 3, 4, 1], AflError::Repeated { sfi: 1, record: 3 }),
        ];
        for (value, error) in cases {
            assert_eq!(Afl::parse(value), Err(error), "{value:02X?}");
        }
    }

    #[test]
    fn signed_records_of_low_files_are_one_template() {
        let record = [0x70, 0x02, 0x5A, 0x00];
        assert_eq!(oda_part(10, &record), Ok(&record[2..]));
        assert_eq!(oda_part(11, &record), Ok(&record[..]));
        assert_eq!(oda_part(1, &[0x77, 0x00]), Err(TlvError::Missing(tags::RECORD)));
        assert_eq!(oda_part(1, &[0x70, 0x00, 0x5A, 0x00]), Err(TlvError::Missing(tags::RECORD)));
        assert_eq!(oda_part(1, &[0x70, 0x05, 0x00]), Err(TlvError::Truncated));
    }

    proptest! {
        #[test]
        fn any_file_locator_is_bounded(value in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(afl) = Afl::parse(&value) {
                prop_assert!((1..=MAX_RECORDS).contains(&afl.count()));
                prop_assert!(afl.records().all(|r| (1..=30).contains(&r.sfi) && r.record > 0));
            }
        }

        #[test]
        fn any_answer_to_select_is_read_or_refused(at in 0usize..64, byte in any::<u8>()) {
            let mut data = ppse(&[(HOUSE, Some(1)), (HOUSE, None)]);
            let at = at % data.len();
            data[at] = byte;
            let _ = (parse_ppse(&data), Fci::parse(&data));
        }
    }
}
