//! The head of a request, and the values of its components (RFC 9421, sections 2.1 and 2.2).

use crate::{MAX_HEADER, SignatureError};

/// A header line: its name in lower case, and its value.
pub type Field<'a> = (&'a str, &'a [u8]);

/// What of a request can be covered by a signature, but for its body.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `POST` and the like, in its own case.
    pub method: &'a str,
    /// `http` or `https`, as the signer sees it: a proxy that ends TLS changes it on the way.
    pub scheme: &'a str,
    /// Host and port as sent; empty where there is none.
    pub authority: &'a str,
    /// The path as sent.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: Option<&'a str>,
    /// The header lines, in their order.
    pub fields: &'a [Field<'a>],
}

impl Head<'_> {
    /// The value of a component by its name; `None` where the request has none, an error where nobody here can compute it.
    pub(crate) fn component(&self, name: &str) -> Result<Option<Vec<u8>>, Unsupported> {
        let path = if self.path.is_empty() { "/" } else { self.path };
        let query = self.query.map(|query| format!("?{query}"));
        let value = match name {
            "@method" => self.method.to_owned(),
            "@scheme" => self.scheme.to_ascii_lowercase(),
            "@path" => path.to_owned(),
            // Without a query, the value is a single question mark (section 2.2.7).
            "@query" => query.unwrap_or_else(|| "?".to_owned()),
            "@request-target" => path.to_owned() + &query.unwrap_or_default(),
            "@authority" if self.authority.is_empty() => return Ok(None),
            "@authority" => self.normal_authority(),
            "@target-uri" if self.authority.is_empty() => return Ok(None),
            "@target-uri" => {
                format!("{}://{}{path}{}", self.scheme, self.authority, query.unwrap_or_default())
            }
            derived if derived.starts_with('@') => return Err(Unsupported),
            name => {
                let Some(value) = field(self.fields, name) else { return Ok(None) };
                // A line break would let one component pass for two.
                return if value.contains(&b'\n') { Err(Unsupported) } else { Ok(Some(value)) };
            }
        };
        Ok(Some(value.into_bytes()))
    }

    /// In lower case, without the scheme's own port (section 2.2.3).
    fn normal_authority(&self) -> String {
        let port = if self.scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
        let authority = self.authority.to_ascii_lowercase();
        authority.strip_suffix(port).map(str::to_owned).unwrap_or(authority)
    }
}

/// A component that is not computed here.
pub(crate) struct Unsupported;

/// The lines of a field, each without the space around it, joined by a comma and a space (section 2.1).
fn field(fields: &[Field<'_>], name: &str) -> Option<Vec<u8>> {
    let mut lines = fields.iter().filter(|(n, _)| *n == name).map(|(_, value)| trimmed(value));
    let first = lines.next()?.to_vec();
    Some(lines.fold(first, |all, line| [&all, &b", "[..], line].concat()))
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The same for a header that is parsed here: it has a limit and is ASCII.
pub(crate) fn parsed_field(
    fields: &[Field<'_>],
    header: &'static str,
) -> Result<Option<String>, SignatureError> {
    let malformed = |why: String| SignatureError::Malformed { header, why };
    let lines = fields.iter().filter(|(name, _)| *name == header);
    if lines.map(|(_, value)| value.len() + 2).sum::<usize>() > MAX_HEADER {
        return Err(malformed(format!("it is longer than {MAX_HEADER} bytes")));
    }
    let Some(value) = field(fields, header) else { return Ok(None) };
    match String::from_utf8(value) {
        Ok(text) if text.is_ascii() => Ok(Some(text)),
        _ => Err(malformed("it is not ASCII".to_owned())),
    }
}
