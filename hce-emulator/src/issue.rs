//! Making phones: authorities of our own, or a bank that signs and keeps its keys to itself.
//!
//! Everything derives from the randomness given: the same gives the same keys, certificates and phones.

mod house;
mod rsa;
mod sm2;

pub use crate::application::{
    HOUSE_AID, HOUSE_PDOL, RSA_CREDIT_AID, RSA_DEBIT_AID, RSA_OTHER_DEBIT_AID, RSA_PDOL,
    RSA_QUASI_CREDIT_AID, RsaCardKey, RsaFlow, RsaKeyError, SM2_PDOL,
};
pub use house::{AuthorityOrder, Domain, HouseAuthority, HouseIssuer, HouseOrder, Sign};
pub use rsa::{
    CA_BITS, CARD_BITS, ISSUER_BITS, RsaAuthority, RsaAuthorityOrder, RsaCaKey, RsaKeyPool, RsaKind, RsaOrder,
};
pub use sm2::{Sm2Authority, Sm2AuthorityOrder, Sm2CaKey, Sm2Kind};
pub(crate) use sm2::{is_usual_user_id, usual_user_id};

use wavepass_protocol::ecc::CertError;
use wavepass_protocol::sm2::Sm2Error;
use wavepass_protocol::tlv::TlvError;

/// Why a phone or an authority cannot be made. It carries no digits and no keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The issuer's certificate is none.
    #[error("the issuer certificate: {0}")]
    Certificate(CertError),
    /// The token does not begin with the issuer's digits.
    #[error("the token does not begin with the issuer's digits; take one that does")]
    NotOurToken,
    /// The token would expire before it begins.
    #[error("the token expires before its effective date")]
    Dates,
    /// A year that cards cannot write.
    #[error("cards write years from 2000 to 2099, not {0}")]
    Year(u16),
    /// The signature is not the issuer's.
    #[error("the signature is not by the key of the issuer certificate; sign with that key")]
    WrongSigner,
    /// An application identifier of other than 5 to 16 bytes.
    #[error("an application identifier has 5 to 16 bytes, not {0}")]
    Aid(usize),
    /// The RSA card key does not fit under the issuer's.
    #[error("a card key of {card} bits does not fit under an issuer key of {issuer}")]
    KeySize {
        /// Bits of the card's key.
        card: usize,
        /// Bits of the issuer's.
        issuer: usize,
    },
    /// An SM2 certificate or signature.
    #[error("SM2: {0}")]
    Sm2(Sm2Error),
    /// An SM2 card of another user ID than its issuer's.
    #[error("the card's user ID is not its issuer's")]
    UserId,
    /// An RSA key.
    #[error(transparent)]
    RsaKey(#[from] RsaKeyError),
    /// The phone's data do not fit their records.
    #[error("the phone's data do not fit their records: {0}")]
    Tlv(#[from] TlvError),
    /// The text is no authority of this kind and version.
    #[error("no authority file: line {line}, column {column} is not what should stand there")]
    Json {
        /// The line, from 1.
        line: usize,
        /// The column.
        column: usize,
    },
    /// The authority's parts are not of one piece.
    #[error("the authority's keys and certificate are not of one piece")]
    Inconsistent,
}

fn json_error(e: serde_json::Error) -> IssueError {
    // The parser's own message may quote a value, so only the place is kept.
    IssueError::Json { line: e.line(), column: e.column() }
}
