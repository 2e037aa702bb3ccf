//! What a card has told us in this tap: the bytes as they came, and where in them each data object stands.
//!
//! Data that the card certificate covers lie apart, joined as the certificate's hash takes them; whether an object
//! is signed follows from where it lies, not from what the card says of it.

use crate::limits::{MAX_KEPT, MAX_STATIC};
use heapless::Vec;
use wavepass_protocol::select::{Aid, oda_part};
use wavepass_protocol::tags;
use wavepass_protocol::tlv::{self, Tag, TlvError};

/// Why an answer cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CardError {
    /// Not the TLVs that it should be.
    Tlv,
    /// An object with a length that its tag does not allow, or one that must be there and is not.
    Object,
    /// An object given twice.
    Twice,
    /// More than the kernel keeps.
    TooMuch,
}

impl From<TlvError> for CardError {
    fn from(_: TlvError) -> Self {
        Self::Tlv
    }
}

/// An object that the kernel uses, and the lengths of value it may have.
struct Rule {
    tag: Tag,
    min: usize,
    max: usize,
}

const fn rule(tag: Tag, min: usize, max: usize) -> Rule {
    Rule { tag, min, max }
}

/// Every object that the kernel uses of an answer; others are passed over. Lengths are EMV's (Book 3 annex A), which
/// also keep a tap within the limits of its sealed body.
const RULES: [Rule; 24] = [
    rule(tags::AIP, 2, 2),
    rule(tags::AFL, 4, 64),
    rule(tags::ATC, 2, 2),
    rule(tags::CID, 1, 1),
    rule(tags::CRYPTOGRAM, 8, 8),
    rule(tags::IAD, 1, 32),
    rule(tags::TRACK2, 1, 19),
    rule(tags::PAN, 1, 10),
    rule(tags::PSN, 1, 1),
    rule(tags::EXPIRY_DATE, 3, 3),
    rule(tags::EFFECTIVE_DATE, 3, 3),
    rule(tags::CA_INDEX, 1, 1),
    rule(tags::ISSUER_CERTIFICATE, 1, 256),
    rule(tags::ISSUER_REMAINDER, 0, 256),
    rule(tags::ISSUER_EXPONENT, 1, 3),
    rule(tags::CARD_CERTIFICATE, 1, 256),
    rule(tags::CARD_REMAINDER, 0, 256),
    rule(tags::CARD_EXPONENT, 1, 3),
    rule(tags::SDAD, 1, 256),
    rule(tags::CARD_AUTHENTICATION_DATA, 1, 16),
    rule(tags::DOMAIN, 1, 32),
    rule(tags::SDA_TAG_LIST, 1, 32),
    rule(tags::CDOL1, 1, 252),
    rule(tags::DDOL, 1, 252),
];

/// Where an object was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// In the answer to another command than READ RECORD.
    Answer,
    /// In a record that the card certificate does not cover.
    Record,
    /// In the static data that it covers.
    Static,
}

/// Where an object's value lies: in the static data, or in what else is kept.
#[derive(Debug, Clone, Copy)]
struct Place {
    origin: Origin,
    at: u16,
    len: u16,
}

/// An object and where its value lies.
struct Object<'a> {
    tag: Tag,
    value: &'a [u8],
    at: u16,
}

/// Bytes `at..at + len` of what is kept.
#[derive(Debug, Clone, Copy)]
struct Span {
    at: u16,
    len: u16,
}

impl Span {
    const NONE: Self = Self { at: 0, len: 0 };

    fn of(self, bytes: &[u8]) -> &[u8] {
        let at = usize::from(self.at);
        bytes.get(at..at + usize::from(self.len)).unwrap_or_default()
    }
}

/// What a card has told us. No `Debug`: it names a rider.
pub(crate) struct Card {
    kept: Vec<u8, MAX_KEPT>,
    statics: Vec<u8, MAX_STATIC>,
    objects: [Option<Place>; RULES.len()],
    pdol: Span,
    pdol_header: u16,
    pdol_values: Span,
    ddol_values: Span,
    cdol_values: Option<Span>,
    options: Span,
    aid: Option<Aid>,
}

impl Card {
    /// Nothing has been told yet.
    pub(crate) const fn new() -> Self {
        Self {
            kept: Vec::new(),
            statics: Vec::new(),
            objects: [None; RULES.len()],
            pdol: Span::NONE,
            pdol_header: 0,
            pdol_values: Span::NONE,
            ddol_values: Span::NONE,
            cdol_values: None,
            options: Span::NONE,
            aid: None,
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.statics.clear();
        self.objects = [None; RULES.len()];
        self.pdol = Span::NONE;
        self.pdol_header = 0;
        self.pdol_values = Span::NONE;
        self.ddol_values = Span::NONE;
        self.cdol_values = None;
        self.options = Span::NONE;
        self.aid = None;
    }

    /// Begins with an application: its identifier, its PDOL with header, and the values sent for it.
    pub(crate) fn begin(
        &mut self,
        aid: Aid,
        pdol_tlv: &[u8],
        pdol_len: usize,
        values: &[u8],
    ) -> Result<(), CardError> {
        self.clear();
        self.aid = Some(aid);
        self.pdol = self.keep(pdol_tlv)?;
        self.pdol_header = (pdol_tlv.len() - pdol_len) as u16;
        self.pdol_values = self.keep(values)?;
        Ok(())
    }

    /// Takes the answer to GET PROCESSING OPTIONS: exactly one template 77.
    pub(crate) fn options(&mut self, data: &[u8]) -> Result<(), CardError> {
        let content = sole(data, tags::RESPONSE_2)?;
        self.options = self.keep(content)?;
        self.index(content, Origin::Answer, usize::from(self.options.at))
    }

    /// Takes the answer to GET PROCESSING OPTIONS in the form without tags: template 80 of AIP and AFL.
    pub(crate) fn plain_options(&mut self, data: &[u8]) -> Result<(), CardError> {
        let (aip, afl) = sole(data, tags::RESPONSE_1)?.split_first_chunk::<2>().ok_or(CardError::Object)?;
        self.note(tags::AIP, aip)?;
        self.note(tags::AFL, afl)
    }

    /// Notes the values sent with INTERNAL AUTHENTICATE.
    pub(crate) fn authenticates(&mut self, values: &[u8]) -> Result<(), CardError> {
        self.ddol_values = self.keep(values)?;
        Ok(())
    }

    /// Takes the answer to INTERNAL AUTHENTICATE: the signature in template 77, or alone in template 80. Nothing else
    /// of it is used: what the certificates cover was complete before.
    pub(crate) fn signature(&mut self, data: &[u8]) -> Result<(), CardError> {
        if is_plain(data) {
            return self.note(tags::SDAD, sole(data, tags::RESPONSE_1)?);
        }
        self.take_only(&[tags::SDAD], data)
    }

    /// Notes the values sent with GENERATE AC.
    pub(crate) fn asks_cryptogram(&mut self, values: &[u8]) -> Result<(), CardError> {
        self.cdol_values = Some(self.keep(values)?);
        Ok(())
    }

    /// Takes the answer to GENERATE AC: template 77, or template 80 of CID, ATC, cryptogram and issuer application
    /// data.
    pub(crate) fn cryptogram(&mut self, data: &[u8]) -> Result<(), CardError> {
        if !is_plain(data) {
            return self.take_only(&[tags::CID, tags::ATC, tags::CRYPTOGRAM, tags::IAD], data);
        }
        let mut rest = sole(data, tags::RESPONSE_1)?;
        for (tag, len) in [(tags::CID, 1), (tags::ATC, 2), (tags::CRYPTOGRAM, 8)] {
            let (value, tail) = rest.split_at_checked(len).ok_or(CardError::Object)?;
            self.note(tag, value)?;
            rest = tail;
        }
        if rest.is_empty() { Ok(()) } else { self.note(tags::IAD, rest) }
    }

    /// Takes these objects of an answer in template 77, and passes over all others.
    fn take_only(&mut self, tags: &[Tag], data: &[u8]) -> Result<(), CardError> {
        for object in tlv::iter(sole(data, tags::RESPONSE_2)?) {
            let object = object?;
            if tags.contains(&object.tag) {
                self.note(object.tag, object.value)?;
            }
        }
        Ok(())
    }

    /// Keeps and notes one object of an answer.
    fn note(&mut self, tag: Tag, value: &[u8]) -> Result<(), CardError> {
        let at = self.keep(value)?.at;
        self.place_at(Object { tag, value, at }, Origin::Answer)
    }

    /// Takes a record. `signed` where the file locator lists it for offline data authentication.
    pub(crate) fn record(&mut self, sfi: u8, signed: bool, data: &[u8]) -> Result<(), CardError> {
        let covered = oda_part(sfi, data)?;
        // Files above 10 may hold anything; objects are looked for only in a record template.
        let content = if sfi <= 10 { covered } else { sole(data, tags::RECORD).unwrap_or_default() };
        // The template's value is the end of what is covered, so a header may stand before it.
        let header = if content.is_empty() { 0 } else { covered.len() - content.len() };
        if signed {
            let at = self.statics.len() + header;
            self.statics.extend_from_slice(covered).map_err(|_| CardError::TooMuch)?;
            self.index(content, Origin::Static, at)
        } else {
            let at = usize::from(self.keep(content)?.at);
            self.index(content, Origin::Record, at)
        }
    }

    /// Puts other values of the same length in the place of those sent for the PDOL. False where the length differs.
    pub(crate) fn replace_pdol_values(&mut self, values: &[u8]) -> bool {
        self.replace(self.pdol_values, values)
    }

    /// The same with the values sent with INTERNAL AUTHENTICATE.
    pub(crate) fn replace_ddol_values(&mut self, values: &[u8]) -> bool {
        self.replace(self.ddol_values, values)
    }

    /// The same with the values sent with GENERATE AC.
    pub(crate) fn replace_cdol_values(&mut self, values: &[u8]) -> bool {
        self.cdol_values.is_some_and(|place| self.replace(place, values))
    }

    fn replace(&mut self, place: Span, values: &[u8]) -> bool {
        let at = usize::from(place.at);
        match self.kept.get_mut(at..at + usize::from(place.len)) {
            Some(kept) if kept.len() == values.len() => {
                kept.copy_from_slice(values);
                true
            }
            _ => false,
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<Span, CardError> {
        let at = self.kept.len();
        self.kept.extend_from_slice(bytes).map_err(|_| CardError::TooMuch)?;
        // MAX_KEPT is far below 65,536.
        Ok(Span { at: at as u16, len: bytes.len() as u16 })
    }

    /// Notes where the objects of `content` lie; its first byte lies at `base`.
    fn index(&mut self, content: &[u8], origin: Origin, base: usize) -> Result<(), CardError> {
        for object in tlv::iter(content) {
            let tlv::Tlv { tag, value, .. } = object?;
            // `value` is a part of `content`, so its distance from the start is an offset into it.
            let at = base + (value.as_ptr().addr() - content.as_ptr().addr());
            self.place_at(Object { tag, value, at: at as u16 }, origin)?;
        }
        Ok(())
    }

    /// Notes where an object lies, if it is one that the kernel uses.
    fn place_at(&mut self, object: Object<'_>, origin: Origin) -> Result<(), CardError> {
        let Some(i) = RULES.iter().position(|rule| rule.tag == object.tag) else { return Ok(()) };
        let len = object.value.len();
        if !(RULES[i].min..=RULES[i].max).contains(&len) {
            return Err(CardError::Object);
        }
        let place = Place { origin, at: object.at, len: len as u16 };
        match self.objects[i] {
            None => self.objects[i] = Some(place),
            // Cards repeat the sequence number, which nothing depends on, in records; the signed copy is used.
            Some(first) if object.tag == tags::PSN && self.value(first) == object.value => {
                if origin == Origin::Static {
                    self.objects[i] = Some(place);
                }
            }
            Some(_) => return Err(CardError::Twice),
        }
        Ok(())
    }

    fn place(&self, tag: Tag) -> Option<Place> {
        self.objects[RULES.iter().position(|rule| rule.tag == tag)?]
    }

    fn value(&self, place: Place) -> &[u8] {
        let bytes: &[u8] = if place.origin == Origin::Static { &self.statics } else { &self.kept };
        Span { at: place.at, len: place.len }.of(bytes)
    }

    /// The value of an object, wherever it was given.
    pub(crate) fn get(&self, tag: Tag) -> Option<&[u8]> {
        Some(self.value(self.place(tag)?))
    }

    /// The value of an object of exactly `N` bytes, wherever it was given.
    pub(crate) fn array<const N: usize>(&self, tag: Tag) -> Option<[u8; N]> {
        self.get(tag)?.try_into().ok()
    }

    /// The value of an object that the card certificate covers.
    pub(crate) fn signed(&self, tag: Tag) -> Option<&[u8]> {
        let place = self.place(tag)?;
        (place.origin == Origin::Static).then(|| self.value(place))
    }

    /// The transaction counter.
    pub(crate) fn atc(&self) -> Option<u16> {
        self.array(tags::ATC).map(u16::from_be_bytes)
    }

    /// The application as selected.
    pub(crate) fn aid(&self) -> Option<&Aid> {
        self.aid.as_ref()
    }

    /// The PDOL as the card gave it, with tag and length.
    pub(crate) fn pdol_tlv(&self) -> &[u8] {
        self.pdol.of(&self.kept)
    }

    /// The PDOL's value.
    pub(crate) fn pdol(&self) -> &[u8] {
        self.pdol_tlv().get(usize::from(self.pdol_header)..).unwrap_or_default()
    }

    /// The values sent for the PDOL.
    pub(crate) fn pdol_values(&self) -> &[u8] {
        self.pdol_values.of(&self.kept)
    }

    /// The values sent with INTERNAL AUTHENTICATE.
    pub(crate) fn ddol_values(&self) -> &[u8] {
        self.ddol_values.of(&self.kept)
    }

    /// The list whose values the card's cryptogram covers, and the values sent: CDOL1 where GENERATE AC was sent,
    /// else the PDOL.
    pub(crate) fn cryptogram_list(&self) -> (&[u8], &[u8]) {
        match self.cdol_values {
            None => (self.pdol(), self.pdol_values()),
            Some(values) => (self.get(tags::CDOL1).unwrap_or_default(), values.of(&self.kept)),
        }
    }

    /// The TLVs of the answer to GET PROCESSING OPTIONS.
    pub(crate) fn response(&self) -> &[u8] {
        self.options.of(&self.kept)
    }

    /// The records that the card certificate covers, joined.
    pub(crate) fn statics(&self) -> &[u8] {
        &self.statics
    }
}

/// True for an answer in template 80: values without tags.
fn is_plain(data: &[u8]) -> bool {
    Tag::read(data).is_ok_and(|(tag, _)| tag == tags::RESPONSE_1)
}

/// The value of the one template that `data` must consist of.
fn sole(data: &[u8], template: Tag) -> Result<&[u8], CardError> {
    match tlv::iter(data).next() {
        Some(Ok(tlv)) if tlv.tag == template && tlv.raw.len() == data.len() => Ok(tlv.value),
        _ => Err(CardError::Tlv),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: [u8; 10] = [0x5A, 0x08, 0x62, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34];

    fn record(content: &[u8]) -> std::vec::Vec<u8> {
        [&[0x70, content.len() as u8], content].concat()
    }

    #[test]
    fn an_object_is_signed_only_where_its_record_is() {
        let mut card = Card::new();
        card.record(2, false, &record(&TOKEN)).unwrap();
        assert_eq!((card.get(tags::PAN), card.signed(tags::PAN)), (Some(&TOKEN[2..]), None));
        card.clear();
        card.record(2, true, &record(&TOKEN)).unwrap();
        assert_eq!(card.signed(tags::PAN), Some(&TOKEN[2..]));
        assert_eq!(card.statics(), TOKEN);
    }

    #[test]
    fn a_record_of_a_file_above_10_is_covered_whole() {
        let mut card = Card::new();
        let whole = record(&TOKEN);
        card.record(11, true, &whole).unwrap();
        assert_eq!(card.statics(), whole);
        assert_eq!(card.signed(tags::PAN), Some(&TOKEN[2..]));
        card.record(12, true, b"anything").unwrap();
        assert_eq!(card.statics().len(), whole.len() + 8);
    }

    #[test]
    fn an_object_twice_is_refused_across_records_and_within_one() {
        let mut card = Card::new();
        card.record(2, true, &record(&TOKEN)).unwrap();
        assert_eq!(card.record(3, false, &record(&TOKEN)), Err(CardError::Twice));
        card.clear();
        assert_eq!(card.record(2, true, &record(&[TOKEN, TOKEN].concat())), Err(CardError::Twice));
    }

    #[test]
    fn only_the_sequence_number_may_be_repeated_and_only_unchanged() {
        let mut card = Card::new();
        card.options(&[0x77, 0x04, 0x5F, 0x34, 0x01, 0x01]).unwrap();
        card.record(2, true, &record(&[0x5F, 0x34, 0x01, 0x01])).unwrap();
        assert_eq!(card.signed(tags::PSN), Some(&[0x01][..]));
        assert_eq!(card.record(3, true, &record(&[0x5F, 0x34, 0x01, 0x02])), Err(CardError::Twice));
    }

    #[test]
    fn more_than_is_kept_is_refused() {
        let mut card = Card::new();
        let big = [&[0x70, 0x82, 0x01, 0x90, 0xC1, 0x82, 0x01, 0x8C][..], &[0; 0x18C]].concat();
        for _ in 0..MAX_STATIC / 0x190 {
            card.record(1, true, &big).unwrap();
        }
        assert_eq!(card.record(1, true, &big), Err(CardError::TooMuch));
    }
}
