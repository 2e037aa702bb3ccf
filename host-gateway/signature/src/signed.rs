//! The two headers of a signature: read, and held against the request, a key and the time.

use crate::head::parsed_field;
use crate::{Field, Head, SignatureError};
use hmac::{Hmac, KeyInit, Mac};
use sfv::{BareItem, Dictionary, FieldType, InnerList, ListEntry, Parameters, Parser, Version};
use sha2::Sha256;

/// The header that says what is signed and by whom, in lower case.
pub const SIGNATURE_INPUT: &str = "signature-input";
/// The header with the signature, in lower case.
pub const SIGNATURE: &str = "signature";
/// The most components of a signature: seven are derived, and no caller has so many headers to cover.
pub const MAX_COMPONENTS: usize = 16;
/// The longest name of a key, bytes.
pub const MAX_KEY_ID: usize = 64;

/// A signature as a request carries it; nothing of it is believed yet.
#[derive(Debug, Clone)]
pub struct Signed {
    covered: InnerList,
    key_id: String,
    created_s: i64,
    expires_s: Option<i64>,
    signature: Vec<u8>,
}

impl Signed {
    /// Reads the two headers. There is one signature: of several it would have to be said which one counts.
    pub fn read(fields: &[Field<'_>]) -> Result<Self, SignatureError> {
        for header in [SIGNATURE_INPUT, SIGNATURE] {
            // Of two members with one name the parser keeps the last: somebody else may read the first.
            if fields.iter().filter(|(name, _)| *name == header).count() > 1 {
                return Err(malformed(header, "it stands on two lines; one signature is taken"));
            }
        }
        let input = parsed_field(fields, SIGNATURE_INPUT)?;
        let input = input.ok_or(SignatureError::HeaderMissing(SIGNATURE_INPUT))?;
        let text = parsed_field(fields, SIGNATURE)?.ok_or(SignatureError::HeaderMissing(SIGNATURE))?;
        let (label, entry) = only(SIGNATURE_INPUT, parse(SIGNATURE_INPUT, &input)?)?;
        let ListEntry::InnerList(covered) = entry else {
            return Err(malformed(SIGNATURE_INPUT, "the signature's components are not a list"));
        };
        let (signed_label, entry) = only(SIGNATURE, parse(SIGNATURE, &text)?)?;
        if signed_label != label {
            return Err(malformed(SIGNATURE, "its label is not that of signature-input"));
        }
        let signature = match entry {
            ListEntry::Item(item) => match item.bare_item {
                BareItem::ByteSequence(bytes) if stands_in(&bytes, &text) => bytes,
                _ => return Err(malformed(SIGNATURE, "it is not bytes in base64 between colons")),
            },
            ListEntry::InnerList(_) => return Err(malformed(SIGNATURE, "it is a list")),
        };
        check_components(&covered)?;
        let params = &covered.params;
        if text_of(params, "alg")?.is_some_and(|alg| alg != "hmac-sha256") {
            return Err(SignatureError::Algorithm);
        }
        // Only its form is looked at: what a request brings counts once, however often it comes.
        text_of(params, "nonce")?;
        let key_id = text_of(params, "keyid")?.ok_or(SignatureError::ParameterMissing("keyid"))?.to_owned();
        if key_id.is_empty() || key_id.len() > MAX_KEY_ID {
            return Err(malformed(SIGNATURE_INPUT, format!("keyid is 1 to {MAX_KEY_ID} characters")));
        }
        let created_s = seconds_of(params, "created")?.ok_or(SignatureError::ParameterMissing("created"))?;
        let expires_s = seconds_of(params, "expires")?;
        Ok(Self { key_id, created_s, expires_s, signature, covered })
    }

    /// The name of the key that is said to have signed.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Whether it covers what it must: the method, where it goes (the target URI, or the path and the query if there is one),
    /// and the digest of the body.
    pub fn requires(&self, head: &Head<'_>) -> Result<(), SignatureError> {
        let covers = |any: &[&str]| self.components().any(|name| any.contains(&name));
        if !covers(&["@method"]) {
            return Err(SignatureError::NotCovered("@method"));
        }
        if !covers(&["@target-uri", "@path", "@request-target"]) {
            return Err(SignatureError::NotCovered("@target-uri or @path"));
        }
        if head.query.is_some() && !covers(&["@target-uri", "@query", "@request-target"]) {
            return Err(SignatureError::NotCovered("@target-uri or @query"));
        }
        if !covers(&[crate::CONTENT_DIGEST]) {
            return Err(SignatureError::NotCovered(crate::CONTENT_DIGEST));
        }
        Ok(())
    }

    /// Whether it was made within `window_s` seconds of now, before or after it, and has not expired. Times are seconds
    /// since 1970-01-01 UTC.
    pub fn check_time(&self, now_s: u64, window_s: u64) -> Result<(), SignatureError> {
        let (now, created) = (i128::from(now_s), i128::from(self.created_s));
        if now - created > i128::from(window_s) {
            return Err(SignatureError::TooOld { window_s });
        }
        if created - now > i128::from(window_s) {
            return Err(SignatureError::OfTheFuture { window_s });
        }
        match self.expires_s {
            Some(expires) if i128::from(expires) < now => Err(SignatureError::Expired),
            _ => Ok(()),
        }
    }

    /// Whether it is this key's over this request. The comparison takes the same time wherever they differ.
    pub fn verify(&self, key: &[u8], head: &Head<'_>) -> Result<(), SignatureError> {
        let base = self.base(head)?;
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| SignatureError::BadSignature)?;
        mac.update(&base);
        mac.verify_slice(&self.signature).map_err(|_| SignatureError::BadSignature)
    }

    /// What is signed: the signature base of RFC 9421, section 2.5.
    pub fn base(&self, head: &Head<'_>) -> Result<Vec<u8>, SignatureError> {
        let mut base = Vec::new();
        for (i, item) in self.covered.items.iter().enumerate() {
            let name = name_of(item).unwrap_or_default();
            let value = head.component(name).map_err(|_| SignatureError::NotSupported(i + 1))?;
            let value = value.ok_or(SignatureError::ComponentMissing(i + 1))?;
            base.extend([item.serialize().as_bytes(), b": ", &value, b"\n"].concat());
        }
        let list: sfv::List = vec![self.covered.clone().into()];
        // A list of one member is never left out.
        let params = list.serialize().unwrap_or_default();
        base.extend([b"\"@signature-params\": ", params.as_bytes()].concat());
        Ok(base)
    }

    fn components(&self) -> impl Iterator<Item = &str> {
        self.covered.items.iter().filter_map(name_of)
    }
}

fn malformed(header: &'static str, why: impl Into<String>) -> SignatureError {
    SignatureError::Malformed { header, why: why.into() }
}

/// Reads a dictionary of structured fields, as RFC 8941, which RFC 9421 rests on, has them.
pub(crate) fn parse(header: &'static str, text: &str) -> Result<Dictionary, SignatureError> {
    let parser = Parser::new(text).with_version(Version::Rfc8941);
    parser.parse().map_err(|e| malformed(header, e.to_string()))
}

fn only(header: &'static str, members: Dictionary) -> Result<(String, ListEntry), SignatureError> {
    let count = members.len();
    match members.into_iter().next() {
        Some((label, entry)) if count == 1 => Ok((label.as_str().to_owned(), entry)),
        _ => Err(malformed(header, format!("it has {count} members; one signature is taken"))),
    }
}

/// Whether bytes stand in a header just as they are written: the parser overlooks spare bits and padding, by which two
/// texts would be one signature.
pub(crate) fn stands_in(bytes: &[u8], text: &str) -> bool {
    text.contains(&sfv::Item::new(BareItem::ByteSequence(bytes.to_vec())).serialize())
}

fn name_of(item: &sfv::Item) -> Option<&str> {
    item.bare_item.as_string().map(sfv::StringRef::as_str)
}

/// Every component is a name in lower case, without parameters, and is there once.
fn check_components(covered: &InnerList) -> Result<(), SignatureError> {
    let items = &covered.items;
    if items.len() > MAX_COMPONENTS {
        let why = format!("it covers {} components; at most {MAX_COMPONENTS} are taken", items.len());
        return Err(malformed(SIGNATURE_INPUT, why));
    }
    for (i, item) in items.iter().enumerate() {
        let Some(name) = name_of(item) else {
            return Err(malformed(SIGNATURE_INPUT, format!("component {} is not a string", i + 1)));
        };
        if name.is_empty() || name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(malformed(SIGNATURE_INPUT, format!("component {} is no name in lower case", i + 1)));
        }
        if !item.params.is_empty() {
            return Err(SignatureError::NotSupported(i + 1));
        }
        if items[..i].iter().any(|before| name_of(before) == Some(name)) {
            return Err(malformed(SIGNATURE_INPUT, format!("component {} is there twice", i + 1)));
        }
    }
    Ok(())
}

fn text_of<'p>(params: &'p Parameters, name: &'static str) -> Result<Option<&'p str>, SignatureError> {
    let Some(value) = params.get(name) else { return Ok(None) };
    let text = value.as_string().map(sfv::StringRef::as_str);
    text.map(Some).ok_or_else(|| malformed(SIGNATURE_INPUT, format!("{name} is not a string")))
}

fn seconds_of(params: &Parameters, name: &'static str) -> Result<Option<i64>, SignatureError> {
    let Some(value) = params.get(name) else { return Ok(None) };
    let seconds = value.as_integer().map(i64::from);
    seconds.map(Some).ok_or_else(|| malformed(SIGNATURE_INPUT, format!("{name} is not a whole number")))
}

#[cfg(test)]
mod tests;
