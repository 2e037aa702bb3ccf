//! The RSA suite: certificates with message recovery, and quick dynamic authentication (fDDA) version 01, or
//! dynamic authentication (DDA) by INTERNAL AUTHENTICATE.

use super::issuers::{Issuer, IssuerKey};
use super::{Certified, Context, Method, OdaFault, Part, SuiteError};
use crate::card::Card;
use crate::exchange::Flow;
use wavepass_protocol::dol::Dol;
use wavepass_protocol::lists::CaKey;
use wavepass_protocol::rsa::{BUFFER, Exponent, Fdda, IccCert, IssuerCert, RsaError, RsaKey, Sdad};
use wavepass_protocol::tags;
use wavepass_protocol::time::Date;
use wavepass_protocol::tlv::Tag;
use wavepass_protocol::token::Token;

/// The format of the signature that answers INTERNAL AUTHENTICATE.
const DDA_FORMAT: u8 = 0x05;

/// The suite. It has no state.
pub(super) struct Rsa;

const fn issuer_fault(e: RsaError) -> OdaFault {
    OdaFault::IssuerCertificate(SuiteError::Rsa(e))
}

const fn card_fault(e: RsaError) -> OdaFault {
    OdaFault::CardCertificate(SuiteError::Rsa(e))
}

const fn dynamic_fault(e: RsaError) -> OdaFault {
    OdaFault::DynamicSignature(SuiteError::Rsa(e))
}

impl Method for Rsa {
    fn has_inputs(part: Part, cx: &Context<'_>) -> bool {
        has_inputs(part, cx)
    }

    fn issuer(&mut self, cx: &Context<'_>, ca: &CaKey<'_>) -> Result<Issuer, OdaFault> {
        let mut buf = [0; BUFFER];
        let exponent = Exponent::from_bytes(ca.exponent).map_err(issuer_fault)?;
        let ca_key = RsaKey::new(ca.key, exponent).map_err(issuer_fault)?;
        let issuer = IssuerCert::recover(
            &ca_key,
            cx.need(tags::ISSUER_CERTIFICATE)?,
            cx.card.get(tags::ISSUER_REMAINDER).unwrap_or_default(),
            cx.need(tags::ISSUER_EXPONENT)?,
            &mut buf,
        )
        .map_err(issuer_fault)?;
        let mut issuer_id = [0xFF; 5];
        issuer_id[..4].copy_from_slice(&issuer.issuer_id);
        Ok(Issuer {
            key: IssuerKey::Rsa { modulus: owned(issuer.key.modulus())?, exponent: issuer.key.exponent() },
            issuer_id,
            serial: issuer.serial,
            expiry: Date::last_of(issuer.expiry),
        })
    }

    fn card(&mut self, cx: &Context<'_>, issuer: &Issuer) -> Result<Certified, OdaFault> {
        let IssuerKey::Rsa { modulus, exponent } = &issuer.key else { return Err(OdaFault::Suite) };
        let issuer_key = RsaKey::new(modulus, *exponent).map_err(issuer_fault)?;
        // The only list that EMV allows is the AIP's tag (Book 3 section 10.3).
        let aip: &[u8] = match cx.card.get(tags::SDA_TAG_LIST) {
            None => &[],
            Some([0x82]) => cx.need(tags::AIP)?,
            Some(_) => return Err(OdaFault::TagList),
        };
        let mut buf = [0; BUFFER];
        let card = IccCert::recover(
            &issuer_key,
            cx.need(tags::CARD_CERTIFICATE)?,
            cx.card.get(tags::CARD_REMAINDER).unwrap_or_default(),
            cx.need(tags::CARD_EXPONENT)?,
            &[cx.card.statics(), aip],
            &mut buf,
        )
        .map_err(card_fault)?;
        Ok(Certified::Rsa {
            token: card.pan,
            expiry: card.expiry,
            modulus: owned(card.key.modulus())?,
            exponent: card.key.exponent(),
        })
    }

    fn dynamic(&mut self, cx: &Context<'_>, card: &Certified) -> Result<(), OdaFault> {
        let Certified::Rsa { modulus, exponent, .. } = card else { return Err(OdaFault::Suite) };
        let key = RsaKey::new(modulus, *exponent).map_err(card_fault)?;
        let sdad = cx.need(tags::SDAD)?;
        let mut buf = [0; BUFFER];
        if cx.flow == Flow::Standard {
            return Sdad::verify(&key, sdad, &[cx.card.ddol_values()], &[DDA_FORMAT], &mut buf)
                .map(|_| ())
                .map_err(dynamic_fault);
        }
        Sdad::verify_fdda(&key, sdad, &quick(cx)?, &cx.application.formats, &mut buf)
            .map(|_| ())
            .map_err(dynamic_fault)
    }

    fn token(_: &Context<'_>, card: &Certified) -> Result<Token, OdaFault> {
        let Certified::Rsa { token, .. } = card else { return Err(OdaFault::Suite) };
        Ok(*token)
    }
}

/// True if what the step needs of the card has arrived.
pub(super) fn has_inputs(part: Part, cx: &Context<'_>) -> bool {
    let has = |tag| cx.card.get(tag).is_some();
    match part {
        // Without a remainder yet, only the last record tells that there is none.
        Part::Issuer => {
            has(tags::CA_INDEX)
                && has(tags::ISSUER_CERTIFICATE)
                && has(tags::ISSUER_EXPONENT)
                && has(tags::ISSUER_REMAINDER)
        }
        // The certificate's hash covers all static data, so it waits for the last record.
        Part::Card => false,
        Part::Dynamic => {
            has(tags::SDAD) && (cx.flow == Flow::Standard || has(tags::CARD_AUTHENTICATION_DATA))
        }
    }
}

/// What the signature of the quick flow covers, as sent and as answered.
pub(super) fn quick<'a>(cx: &Context<'a>) -> Result<Fdda<'a>, OdaFault> {
    Ok(Fdda {
        unpredictable: sent(cx.card, tags::UNPREDICTABLE_NUMBER)?,
        amount: sent(cx.card, tags::AMOUNT)?,
        currency: sent(cx.card, tags::CURRENCY)?,
        card_data: cx.need(tags::CARD_AUTHENTICATION_DATA)?,
        atc: cx.card.atc().ok_or(OdaFault::Missing(tags::ATC))?,
    })
}

/// A value as it was sent for the card's PDOL, which was checked to ask for it at this length.
fn sent<const N: usize>(card: &Card, tag: Tag) -> Result<&[u8; N], OdaFault> {
    let pdol = Dol::parse(card.pdol()).map_err(|_| OdaFault::UnprotectedPdol)?;
    let value = pdol.locate(card.pdol_values(), tag).and_then(|value| value.try_into().ok());
    value.ok_or(OdaFault::UnprotectedPdol)
}

fn owned<const N: usize>(modulus: &[u8]) -> Result<heapless::Vec<u8, N>, OdaFault> {
    // A modulus has at most MAX_MODULUS bytes, for which there is room.
    heapless::Vec::from_slice(modulus).map_err(|_| OdaFault::Suite)
}
