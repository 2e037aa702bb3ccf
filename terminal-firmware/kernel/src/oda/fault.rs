//! Why a card could not be proven genuine.

use core::fmt;
use wavepass_protocol::ecc::CertError;
use wavepass_protocol::rsa::RsaError;
#[cfg(feature = "sm2")]
use wavepass_protocol::sm2::Sm2Error;
use wavepass_protocol::tlv::Tag;

/// What a suite found wrong with a certificate or a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SuiteError {
    /// P-256.
    Ecc(CertError),
    /// RSA.
    Rsa(RsaError),
    /// SM2.
    #[cfg(feature = "sm2")]
    Sm2(Sm2Error),
}

impl fmt::Display for SuiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecc(e) => e.fmt(f),
            Self::Rsa(e) => e.fmt(f),
            #[cfg(feature = "sm2")]
            Self::Sm2(e) => e.fmt(f),
        }
    }
}

/// Why offline data authentication failed. It holds nothing of the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OdaFault {
    /// The card's list does not ask for what its signature must cover: 9F37 (4 bytes), for RSA and SM2 also 9F02 (6) and
    /// 5F2A (2).
    UnprotectedPdol,
    /// The card's list for INTERNAL AUTHENTICATE does not ask for 9F37 (4 bytes).
    UnprotectedDdol,
    /// The card did not give an object that authentication needs.
    Missing(Tag),
    /// The gate holds no such authority key.
    CaKeyUnknown,
    /// The authority's key has expired.
    CaKeyExpired,
    /// The authority's key is not what its check value says.
    CaKeyCheckValue,
    /// The issuer's certificate does not verify.
    IssuerCertificate(SuiteError),
    /// The issuer's certificate is on the revocation list.
    IssuerRevoked,
    /// The issuer's identifier does not begin the token.
    IssuerIdentifier,
    /// The card's certificate does not verify.
    CardCertificate(SuiteError),
    /// The static data are not those of the card's certificate.
    StaticData,
    /// The list of signed objects (9F4A) is not the AIP alone.
    TagList,
    /// The card's own signature does not verify.
    DynamicSignature(SuiteError),
    /// The token in this object (5A or 57) is not the one that is certified.
    TokenDisagrees(Tag),
    /// Track 2 and the expiration date state different months.
    ExpiryDisagrees,
    /// A suite that this kernel does not have.
    Suite,
}

impl OdaFault {
    /// The step at which it was found, as transcripts name it.
    pub const fn step(self) -> &'static str {
        match self {
            Self::UnprotectedPdol => "pdol",
            Self::UnprotectedDdol => "ddol",
            Self::Missing(_) => "data",
            Self::CaKeyUnknown | Self::CaKeyExpired | Self::CaKeyCheckValue => "ca_key",
            Self::IssuerCertificate(_) | Self::IssuerRevoked | Self::IssuerIdentifier => "issuer_certificate",
            Self::CardCertificate(_) => "card_certificate",
            Self::StaticData | Self::TagList => "static_data",
            Self::DynamicSignature(_) => "dynamic_signature",
            Self::TokenDisagrees(_) | Self::ExpiryDisagrees => "agreement",
            Self::Suite => "suite",
        }
    }
}

impl fmt::Display for OdaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnprotectedPdol => f.write_str("the PDOL does not ask for what must be signed"),
            Self::UnprotectedDdol => f.write_str("the DDOL does not ask for the unpredictable number"),
            Self::Missing(tag) => write!(f, "the card gave no {tag}"),
            Self::CaKeyUnknown => f.write_str("the authority's key is unknown"),
            Self::CaKeyExpired => f.write_str("the authority's key has expired"),
            Self::CaKeyCheckValue => f.write_str("the authority's key has another check value"),
            Self::IssuerCertificate(e) => write!(f, "issuer certificate: {e}"),
            Self::IssuerRevoked => f.write_str("the issuer certificate is revoked"),
            Self::IssuerIdentifier => f.write_str("the issuer identifier does not begin the token"),
            Self::CardCertificate(e) => write!(f, "card certificate: {e}"),
            Self::StaticData => f.write_str("the static data are not the certified ones"),
            Self::TagList => f.write_str("the list of signed objects is not the AIP alone"),
            Self::DynamicSignature(e) => write!(f, "dynamic signature: {e}"),
            Self::TokenDisagrees(tag) => write!(f, "tag {tag} states another token than the certified one"),
            Self::ExpiryDisagrees => f.write_str("track 2 and the expiration date disagree"),
            Self::Suite => f.write_str("the suite is not supported"),
        }
    }
}

impl core::error::Error for OdaFault {}
