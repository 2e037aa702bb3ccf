//! Signed requests: HTTP Message Signatures (RFC 9421) under `hmac-sha256`, and what they cover of the body by
//! Content-Digest (RFC 9530) under `sha-256`.
//!
//! Bytes in, a verdict out: no socket, clock, key or file. Whoever asks hands in the request's head, the key and the time,
//! in this order: [`Signed::read`], [`Signed::requires`], [`Signed::check_time`], [`Signed::verify`] (all of them before a byte of
//! the body is read), then [`ContentDigest::check`]. What is signed is what was parsed, written again as RFC 9421 section 2.5 says, so
//! nothing that was read differently than it was signed can pass.

mod digest;
mod error;
mod head;
mod signed;

pub use digest::{CONTENT_DIGEST, ContentDigest};
pub use error::SignatureError;
pub use head::{Field, Head};
pub use signed::{MAX_COMPONENTS, MAX_KEY_ID, SIGNATURE, SIGNATURE_INPUT, Signed};

/// The longest of the three headers that are parsed here, bytes: [`MAX_COMPONENTS`] of long names fit many times.
pub const MAX_HEADER: usize = 4_096;
