//! The SM2 suite (feature `sm2`): certificates of the national suite, and a signature in the quick flow, or by
//! INTERNAL AUTHENTICATE as an older card gives it.

use super::issuers::{Issuer, IssuerKey};
use super::{Certified, Context, Method, OdaFault, Part, SuiteError, rsa};
use crate::exchange::Flow;
use wavepass_protocol::lists::CaKey;
use wavepass_protocol::sm2::{
    CardCertificate, Convention, IssuerCertificate, PublicKey, Sm2Error, verify_dynamic, verify_fdda,
};
use wavepass_protocol::tags;
use wavepass_protocol::time::Date;
use wavepass_protocol::token::Token;

/// The suite, and how its cards sign.
pub(super) struct Sm2<'a>(pub(super) &'a Convention);

const fn issuer_fault(e: Sm2Error) -> OdaFault {
    OdaFault::IssuerCertificate(SuiteError::Sm2(e))
}

const fn card_fault(e: Sm2Error) -> OdaFault {
    OdaFault::CardCertificate(SuiteError::Sm2(e))
}

impl Method for Sm2<'_> {
    fn has_inputs(part: Part, cx: &Context<'_>) -> bool {
        let has = |tag| cx.card.get(tag).is_some();
        match part {
            Part::Issuer => has(tags::CA_INDEX) && has(tags::ISSUER_CERTIFICATE),
            Part::Card | Part::Dynamic => rsa::has_inputs(part, cx),
        }
    }

    fn issuer(&mut self, cx: &Context<'_>, ca: &CaKey<'_>) -> Result<Issuer, OdaFault> {
        let certificate =
            IssuerCertificate::parse(cx.need(tags::ISSUER_CERTIFICATE)?).map_err(issuer_fault)?;
        let ca_key = ca.key.try_into().map_err(|_| OdaFault::CaKeyUnknown)?;
        certificate.verify(&PublicKey::from_bytes(ca_key), self.0).map_err(issuer_fault)?;
        let fields = certificate.fields;
        let mut issuer_id = [0xFF; 5];
        issuer_id[..4].copy_from_slice(&fields.issuer_id);
        Ok(Issuer {
            key: IssuerKey::Sm2(fields.key),
            issuer_id,
            serial: fields.serial,
            expiry: Date::last_of(fields.expiry),
        })
    }

    fn card(&mut self, cx: &Context<'_>, issuer: &Issuer) -> Result<Certified, OdaFault> {
        let IssuerKey::Sm2(key) = &issuer.key else { return Err(OdaFault::Suite) };
        // The AIP is covered in any case; a list that says more than that is none that EMV allows.
        if cx.card.get(tags::SDA_TAG_LIST).is_some_and(|list| list != [0x82]) {
            return Err(OdaFault::TagList);
        }
        let aip = cx.card.array(tags::AIP).ok_or(OdaFault::Missing(tags::AIP))?;
        let certificate = CardCertificate::parse(cx.need(tags::CARD_CERTIFICATE)?).map_err(card_fault)?;
        certificate.verify(key, cx.card.statics(), &aip, self.0).map_err(card_fault)?;
        let fields = certificate.fields;
        Ok(Certified::Sm2 { token: fields.token, expiry: fields.expiry, key: fields.key })
    }

    fn dynamic(&mut self, cx: &Context<'_>, card: &Certified) -> Result<(), OdaFault> {
        let Certified::Sm2 { key, .. } = card else { return Err(OdaFault::Suite) };
        let signature = cx.need(tags::SDAD)?;
        let result = match cx.flow {
            Flow::Standard => verify_dynamic(key, signature, cx.card.ddol_values(), self.0).map(|_| ()),
            Flow::Quick => verify_fdda(key, signature, &rsa::quick(cx)?, self.0),
        };
        result.map_err(|e| OdaFault::DynamicSignature(SuiteError::Sm2(e)))
    }

    fn token(_: &Context<'_>, card: &Certified) -> Result<Token, OdaFault> {
        let Certified::Sm2 { token, .. } = card else { return Err(OdaFault::Suite) };
        Ok(*token)
    }
}
