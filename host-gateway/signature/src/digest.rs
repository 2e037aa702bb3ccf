//! `Content-Digest` (RFC 9530): the body's hash in a header, which a signature can cover.

use crate::head::parsed_field;
use crate::signed::{parse, stands_in};
use crate::{Field, SignatureError};
use sfv::{BareItem, ListEntry};
use sha2::{Digest, Sha256};

/// The header, in lower case.
pub const CONTENT_DIGEST: &str = "content-digest";

/// The SHA-256 that a request gives for its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// Reads the header. Digests under other algorithms may stand beside it and are not looked at.
    pub fn read(fields: &[Field<'_>]) -> Result<Self, SignatureError> {
        let text = parsed_field(fields, CONTENT_DIGEST)?.ok_or(SignatureError::DigestMissing)?;
        let digests = parse(CONTENT_DIGEST, &text)?;
        let wrong = |why: &str| SignatureError::Malformed { header: CONTENT_DIGEST, why: why.to_owned() };
        let digest = match digests.get("sha-256") {
            None => return Err(SignatureError::DigestMissing),
            Some(ListEntry::Item(item)) => match &item.bare_item {
                BareItem::ByteSequence(bytes) if stands_in(bytes, &text) => bytes,
                _ => return Err(wrong("sha-256 is not bytes in base64 between colons")),
            },
            Some(ListEntry::InnerList(_)) => return Err(wrong("sha-256 is a list")),
        };
        let digest = digest.as_slice().try_into().map_err(|_| wrong("sha-256 does not have 32 bytes"))?;
        Ok(Self(digest))
    }

    /// Whether the body is the one that the digest was made of.
    pub fn check(&self, body: &[u8]) -> Result<(), SignatureError> {
        if self.0 == *Sha256::digest(body) { Ok(()) } else { Err(SignatureError::DigestDiffers) }
    }
}
