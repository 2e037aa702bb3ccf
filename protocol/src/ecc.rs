//! The P-256 suite (algorithm suite 10): EC-SDSA with SHA-256, issuer and card certificates, and the signature
//! over what changes with each tap (EMV Book 2 sections 12.3 to 12.5 and annex A2.2, as open implementations
//! have them; sources in `docs/formats.md`).
//!
//! Keys are x coordinates only. Of the two points with that x the one with the smaller y is meant.

mod certificate;
mod sdsa;

pub use certificate::{
    CARD_CERTIFICATE_LEN, CardCertificate, CardFields, CertError, DYNAMIC_SIGNATURE_LEN,
    ISSUER_CERTIFICATE_LEN, IssuerCertificate, IssuerFields, MAX_DYNAMIC_PARTS, StaticHash, sign_dynamic,
    verify_dynamic,
};
pub use sdsa::{P256Verifier, PublicKey, SIGNATURE_LEN, SigningKey, Verifier};

/// The algorithm suite indicator of EC-SDSA with SHA-256 on P-256.
pub const SUITE: u8 = 0x10;

#[cfg(test)]
mod tests;
