//! BER-TLV as EMV uses it (Book 3 annex B): reading without copying, writing into the caller's buffer.
//!
//! Bounds: a tag has one to four bytes, a length field one to three (values up to 65,535 bytes; the
//! indefinite form is refused). One call looks at one level; nothing recurses.

use core::fmt;

/// A tag of one to four bytes, written as the number those bytes make: `Tag(0x9F37)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u32);

impl Tag {
    /// How many bytes the tag has, 1 to 4.
    #[expect(clippy::len_without_is_empty, reason = "a tag is never empty")]
    pub const fn len(self) -> usize {
        let bits = 32 - self.0.leading_zeros() as usize;
        if bits <= 8 { 1 } else { bits.div_ceil(8) }
    }

    /// True for a template, whose value is TLVs (bit 6 of the first byte).
    pub const fn is_constructed(self) -> bool {
        self.0 >> (8 * (self.len() - 1)) & 0x20 != 0
    }

    /// Reads the tag that `data` begins with, and how many bytes it took.
    pub fn read(data: &[u8]) -> Result<(Self, usize), TlvError> {
        let &first = data.first().ok_or(TlvError::Truncated)?;
        let mut tag = u32::from(first);
        if first & 0x1F != 0x1F {
            return Ok((Self(tag), 1));
        }
        for (i, &byte) in data.iter().enumerate().skip(1) {
            if i == 4 {
                return Err(TlvError::TagTooLong);
            }
            tag = tag << 8 | u32::from(byte);
            if byte & 0x80 == 0 {
                return Ok((Self(tag), i + 1));
            }
        }
        Err(if data.len() >= 4 { TlvError::TagTooLong } else { TlvError::Truncated })
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$X}", self.0, width = self.len() * 2)
    }
}

/// Why bytes are not the TLVs that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlvError {
    /// The data ends inside a tag, a length or a value.
    Truncated,
    /// A tag of more than four bytes.
    TagTooLong,
    /// The indefinite form, or a length field of more than three bytes.
    LengthTooLong,
    /// The tag stands twice on one level.
    Duplicate(Tag),
    /// The tag is absent.
    Missing(Tag),
    /// A path of more than [`MAX_DEPTH`] tags.
    TooDeep,
    /// The tag's value has a length that the tag does not allow.
    WrongLength {
        /// Which tag.
        tag: Tag,
        /// Its length in bytes.
        len: usize,
    },
    /// More than the buffer or the list holds.
    Full,
}

impl fmt::Display for TlvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the data ends inside a TLV"),
            Self::TagTooLong => f.write_str("a tag has more than four bytes"),
            Self::LengthTooLong => f.write_str("a length is indefinite or has more than three bytes"),
            Self::Duplicate(tag) => write!(f, "tag {tag} is given twice"),
            Self::Missing(tag) => write!(f, "tag {tag} is missing"),
            Self::TooDeep => write!(f, "templates are nested deeper than {MAX_DEPTH}"),
            Self::WrongLength { tag, len } => write!(f, "tag {tag} cannot have {len} bytes"),
            Self::Full => f.write_str("more data than there is room for"),
        }
    }
}

impl core::error::Error for TlvError {}

/// How deep [`path`] follows templates: an EMV directory needs four levels.
pub const MAX_DEPTH: usize = 8;

/// One data object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Its tag.
    pub tag: Tag,
    /// Its value.
    pub value: &'a [u8],
    /// Its whole encoding as it stood: tag, length, value.
    pub raw: &'a [u8],
}

// Values may be token numbers, so only their length is shown.
impl fmt::Debug for Tlv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.tag, self.value.len())
    }
}

/// The TLVs of one level, in order. After an error it ends.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

/// Walks the TLVs of one level, skipping `00` and `FF` padding before, between and after them.
pub const fn iter(data: &[u8]) -> Iter<'_> {
    Iter { rest: data }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Result<Tlv<'a>, TlvError>;

    fn next(&mut self) -> Option<Self::Item> {
        // FF is padding only where it cannot begin a private tag such as FF8105.
        while let [0x00, ..] | [0xFF] | [0xFF, 0x00 | 0xFF, ..] = self.rest {
            self.rest = &self.rest[1..];
        }
        if self.rest.is_empty() {
            return None;
        }
        match read(self.rest) {
            Ok((tlv, rest)) => {
                self.rest = rest;
                Some(Ok(tlv))
            }
            Err(e) => {
                self.rest = &[];
                Some(Err(e))
            }
        }
    }
}

/// Reads the TLV that `data` begins with; also gives what follows it.
fn read(data: &[u8]) -> Result<(Tlv<'_>, &[u8]), TlvError> {
    let (tag, tag_len) = Tag::read(data)?;
    let (length, header) = match data[tag_len..] {
        [] | [0x81] | [0x82] | [0x82, _] => return Err(TlvError::Truncated),
        [short @ ..=0x7F, ..] => (usize::from(short), tag_len + 1),
        [0x81, length, ..] => (usize::from(length), tag_len + 2),
        [0x82, high, low, ..] => (usize::from(high) << 8 | usize::from(low), tag_len + 3),
        _ => return Err(TlvError::LengthTooLong),
    };
    let (raw, rest) = data.split_at_checked(header + length).ok_or(TlvError::Truncated)?;
    Ok((Tlv { tag, value: &raw[header..], raw }, rest))
}

/// Finds one tag on this level. The whole level must be well formed and hold the tag at most once.
pub fn find_tlv(data: &[u8], tag: Tag) -> Result<Option<Tlv<'_>>, TlvError> {
    let mut found = None;
    for tlv in iter(data) {
        let tlv = tlv?;
        if tlv.tag == tag && found.replace(tlv).is_some() {
            return Err(TlvError::Duplicate(tag));
        }
    }
    Ok(found)
}

/// The value of one tag on this level. See [`find_tlv`].
pub fn find(data: &[u8], tag: Tag) -> Result<Option<&[u8]>, TlvError> {
    Ok(find_tlv(data, tag)?.map(|tlv| tlv.value))
}

/// The value of a tag that must be on this level.
pub fn get(data: &[u8], tag: Tag) -> Result<&[u8], TlvError> {
    find(data, tag)?.ok_or(TlvError::Missing(tag))
}

/// The value of a tag that must be on this level and have exactly `N` bytes.
pub fn get_array<const N: usize>(data: &[u8], tag: Tag) -> Result<[u8; N], TlvError> {
    find_array(data, tag)?.ok_or(TlvError::Missing(tag))
}

/// The value of a tag that has exactly `N` bytes where it is present.
pub fn find_array<const N: usize>(data: &[u8], tag: Tag) -> Result<Option<[u8; N]>, TlvError> {
    let Some(value) = find(data, tag)? else { return Ok(None) };
    let array = value.try_into().map_err(|_| TlvError::WrongLength { tag, len: value.len() })?;
    Ok(Some(array))
}

/// Follows templates: the value of the last tag of `tags`, each inside the one before.
pub fn path<'a>(mut data: &'a [u8], tags: &[Tag]) -> Result<Option<&'a [u8]>, TlvError> {
    if tags.len() > MAX_DEPTH {
        return Err(TlvError::TooDeep);
    }
    for &tag in tags {
        match find(data, tag)? {
            Some(value) => data = value,
            None => return Ok(None),
        }
    }
    Ok(Some(data))
}

/// What stands before a tag, its value, what follows it.
pub type Split<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits one level around a tag that must be on it. The dynamic signature covers a response without the signature
/// itself.
pub fn split_around(data: &[u8], tag: Tag) -> Result<Split<'_>, TlvError> {
    let mut split = None;
    let mut tlvs = iter(data);
    while let Some(tlv) = tlvs.next() {
        let tlv = tlv?;
        if tlv.tag == tag {
            let after = tlvs.rest;
            let before = &data[..data.len() - after.len() - tlv.raw.len()];
            if split.replace((before, tlv.value, after)).is_some() {
                return Err(TlvError::Duplicate(tag));
            }
        }
    }
    split.ok_or(TlvError::Missing(tag))
}

/// Writes TLVs into a buffer. After an error nothing of the failed TLV remains.
#[derive(Debug)]
pub struct Writer<'b> {
    buf: &'b mut [u8],
    len: usize,
}

impl<'b> Writer<'b> {
    /// A writer over an empty buffer.
    pub const fn new(buf: &'b mut [u8]) -> Self {
        Self { buf, len: 0 }
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), TlvError> {
        let end = self.len.checked_add(bytes.len()).ok_or(TlvError::Full)?;
        self.buf.get_mut(self.len..end).ok_or(TlvError::Full)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Appends one TLV with the shortest length field; values go up to 65,535 bytes.
    pub fn tlv(&mut self, tag: Tag, value: &[u8]) -> Result<(), TlvError> {
        self.nested(tag, |w| w.bytes(value))
    }

    /// Appends a template (or any TLV) whose value the closure writes.
    pub fn nested(
        &mut self,
        tag: Tag,
        content: impl FnOnce(&mut Writer<'_>) -> Result<(), TlvError>,
    ) -> Result<(), TlvError> {
        let start = self.len;
        let result = self.write_nested(tag, content);
        if result.is_err() {
            self.len = start;
        }
        result
    }

    fn write_nested(
        &mut self,
        tag: Tag,
        content: impl FnOnce(&mut Writer<'_>) -> Result<(), TlvError>,
    ) -> Result<(), TlvError> {
        self.bytes(&tag.0.to_be_bytes()[4 - tag.len()..])?;
        let length_at = self.len;
        // One byte of length is kept free; a longer field moves the value up afterwards.
        self.bytes(&[0])?;
        let mut inner = Writer { buf: &mut self.buf[length_at + 1..], len: 0 };
        content(&mut inner)?;
        let length = inner.len;
        let field: &[u8] = match length {
            ..=0x7F => &[length as u8],
            0x80..=0xFF => &[0x81, length as u8],
            0x100..=0xFFFF => &[0x82, (length >> 8) as u8, length as u8],
            _ => return Err(TlvError::LengthTooLong),
        };
        let end = length_at + field.len() + length;
        if end > self.buf.len() {
            return Err(TlvError::Full);
        }
        self.buf.copy_within(length_at + 1..length_at + 1 + length, length_at + field.len());
        self.buf[length_at..length_at + field.len()].copy_from_slice(field);
        self.len = end;
        Ok(())
    }

    /// How many bytes are written.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True before anything is written.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is written so far.
    pub fn written(&self) -> &[u8] {
        &self.buf[..self.len]
    }

    /// What was written.
    pub fn finish(self) -> &'b [u8] {
        &self.buf[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tags;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    // ISO/IEC 8825-1 section 8.1 (identifier and length octets); EMV Book 3 annex B2 has the same forms.
    #[test]
    fn tags_and_lengths_of_every_form_are_read() {
        let cases: [(&[u8], u32, usize); 6] = [
            (&[0x5A, 0x00], 0x5A, 0),
            (&[0x9F, 0x37, 0x01, 0xAA], 0x9F37, 1),
            (&[0xDF, 0x81, 0x05, 0x01, 0xAA], 0xDF_8105, 1),
            (&[0xDF, 0x81, 0x82, 0x05, 0x01, 0xAA], 0xDF81_8205, 1),
            (&[0xFF, 0x81, 0x05, 0x00], 0xFF_8105, 0),
            (&[0x5A, 0x82, 0x00, 0x01, 0xAA], 0x5A, 1),
        ];
        for (data, tag, len) in cases {
            let tlvs: Vec<_> = iter(data).collect::<Result<_, _>>().unwrap();
            assert_eq!((tlvs[0].tag, tlvs[0].value.len(), tlvs.len()), (Tag(tag), len, 1));
            assert_eq!(tlvs[0].raw, data);
            assert_eq!(Tag(tag).len(), Tag::read(data).unwrap().1);
        }
        let mut long = std::vec![0x70, 0x81, 0x80];
        long.resize(3 + 0x80, 7);
        assert_eq!(get(&long, tags::RECORD).unwrap().len(), 0x80);
    }

    #[test]
    fn padding_between_objects_is_skipped() {
        let data = [0x00, 0xFF, 0x00, 0x82, 0x01, 0x11, 0xFF, 0xFF, 0x00, 0x9A, 0x00, 0x00, 0xFF];
        let tags: Vec<_> = iter(&data).map(|tlv| tlv.unwrap().tag).collect();
        assert_eq!(tags, [Tag(0x82), Tag(0x9A)]);
    }

    #[test]
    fn malformed_data_is_named_and_ends_the_walk() {
        let cases: [(&[u8], TlvError); 9] = [
            (&[0x9F], TlvError::Truncated),
            (&[0x5A], TlvError::Truncated),
            (&[0x5A, 0x81], TlvError::Truncated),
            (&[0x5A, 0x82, 0x01], TlvError::Truncated),
            (&[0x5A, 0x02, 0x01], TlvError::Truncated),
            (&[0x9F, 0x81, 0x82, 0x83, 0x04, 0x00], TlvError::TagTooLong),
            (&[0x70, 0x80, 0x00, 0x00], TlvError::LengthTooLong),
            (&[0x70, 0x83, 0x00, 0x00, 0x01, 0x00], TlvError::LengthTooLong),
            (&[0x5A, 0xFF], TlvError::LengthTooLong),
        ];
        for (data, error) in cases {
            let all: Vec<_> = iter(data).collect();
            assert_eq!(all, [Err(error)], "{data:02X?}");
        }
    }

    #[test]
    fn a_tag_given_twice_is_refused_and_an_error_after_it_is_seen() {
        let twice = [0x5A, 0x01, 0x11, 0x5A, 0x01, 0x22];
        assert_eq!(find(&twice, tags::PAN), Err(TlvError::Duplicate(tags::PAN)));
        assert_eq!(split_around(&twice, tags::PAN), Err(TlvError::Duplicate(tags::PAN)));
        assert_eq!(find(&[0x5A, 0x01, 0x11, 0x9F], tags::PAN), Err(TlvError::Truncated));
        assert_eq!(get(&[0x5A, 0x00], tags::AIP), Err(TlvError::Missing(tags::AIP)));
        assert_eq!(
            get_array::<2>(&[0x82, 0x01, 0x11], tags::AIP),
            Err(TlvError::WrongLength { tag: tags::AIP, len: 1 })
        );
    }

    #[test]
    fn a_path_follows_templates_to_a_bound() {
        let data = [0x6F, 0x04, 0xA5, 0x02, 0x50, 0x00];
        assert_eq!(
            path(&data, &[tags::FCI, tags::FCI_PROPRIETARY, tags::APPLICATION_LABEL]),
            Ok(Some(&[][..]))
        );
        assert_eq!(path(&data, &[tags::FCI, tags::PDOL]), Ok(None));
        assert_eq!(path(&data, &[tags::FCI; 9]), Err(TlvError::TooDeep));
    }

    #[test]
    fn a_response_splits_around_its_signature() {
        let data = [0x82, 0x01, 0x11, 0x00, 0x9F, 0x4B, 0x01, 0x22, 0x9F, 0x36, 0x01, 0x33];
        let (before, value, after) = split_around(&data, tags::SDAD).unwrap();
        assert_eq!((before, value, after), (&data[..4], &[0x22][..], &data[8..]));
    }

    #[test]
    fn a_writer_that_runs_full_keeps_what_was_whole() {
        let mut buf = [0; 8];
        let mut w = Writer::new(&mut buf);
        w.tlv(tags::AIP, &[1, 2]).unwrap();
        assert_eq!(w.tlv(tags::AFL, &[1, 2, 3, 4]), Err(TlvError::Full));
        assert_eq!(w.nested(tags::RECORD, |w| w.tlv(tags::PAN, &[0; 4])), Err(TlvError::Full));
        assert_eq!(w.finish(), [0x82, 0x02, 1, 2]);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(
            values in prop::collection::vec((0usize..4, prop::collection::vec(any::<u8>(), 0..300)), 0..5)
        ) {
            let names = [tags::PAN, tags::ATC, tags::RECORD, Tag(0xDF_8105)];
            let mut buf = [0; 2048];
            let mut w = Writer::new(&mut buf);
            w.nested(tags::RESPONSE_2, |w| {
                values.iter().try_for_each(|(name, value)| w.tlv(names[*name], value))
            }).unwrap();
            let written = w.finish();
            let inner = get(written, tags::RESPONSE_2).unwrap();
            let read: Vec<_> = iter(inner).map(|tlv| tlv.map(|t| (t.tag, t.value.to_vec()))).collect::<Result<_, _>>().unwrap();
            let wanted: Vec<_> = values.iter().map(|(name, value)| (names[*name], value.clone())).collect();
            prop_assert_eq!(read, wanted);
            // An independent reader agrees (crate emv).
            let oracle = ::emv::Tlv::parse_all(written);
            if values.iter().all(|(name, _)| *name != 2) {
                prop_assert_eq!(oracle.unwrap()[0].value().as_constructed().unwrap().len(), values.len());
            }
        }

        #[test]
        fn any_bytes_end_in_objects_or_one_error(data in prop::collection::vec(any::<u8>(), 0..64)) {
            let all: Vec<_> = iter(&data).collect();
            let errors = all.iter().filter(|tlv| tlv.is_err()).count();
            prop_assert!(errors == 0 || (errors == 1 && all.last().unwrap().is_err()));
            prop_assert!(all.iter().flatten().map(|tlv| tlv.raw.len()).sum::<usize>() <= data.len());
        }
    }
}
