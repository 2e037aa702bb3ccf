//! The P-256 suite: EC-SDSA certificates and a signature over the whole answer to GET PROCESSING OPTIONS.

use super::issuers::{Issuer, IssuerKey};
use super::{Certified, Context, Method, OdaFault, Part, SuiteError};
use wavepass_protocol::ecc::{
    CardCertificate, CertError, IssuerCertificate, PublicKey, StaticHash, Verifier, verify_dynamic,
};
use wavepass_protocol::lists::CaKey;
use wavepass_protocol::tags;
use wavepass_protocol::tlv;
use wavepass_protocol::token::Token;

/// The suite, over the gate's verifier.
pub(super) struct Ecc<'v, V>(pub(super) &'v mut V);

const fn issuer_fault(e: CertError) -> OdaFault {
    OdaFault::IssuerCertificate(SuiteError::Ecc(e))
}

const fn card_fault(e: CertError) -> OdaFault {
    OdaFault::CardCertificate(SuiteError::Ecc(e))
}

impl<V: Verifier> Method for Ecc<'_, V> {
    fn has_inputs(part: Part, cx: &Context<'_>) -> bool {
        let card = cx.card;
        match part {
            Part::Issuer => {
                card.get(tags::CA_INDEX).is_some() && card.get(tags::ISSUER_CERTIFICATE).is_some()
            }
            Part::Card => card.get(tags::CARD_CERTIFICATE).is_some(),
            Part::Dynamic => card.get(tags::SDAD).is_some(),
        }
    }

    fn issuer(&mut self, cx: &Context<'_>, ca: &CaKey<'_>) -> Result<Issuer, OdaFault> {
        let certificate =
            IssuerCertificate::parse(cx.need(tags::ISSUER_CERTIFICATE)?).map_err(issuer_fault)?;
        certificate.check_authority(&ca.rid, ca.index).map_err(issuer_fault)?;
        let ca_key = ca.key.try_into().map_err(|_| OdaFault::CaKeyUnknown)?;
        certificate.verify(self.0, &PublicKey::from_x(ca_key)).map_err(issuer_fault)?;
        let fields = certificate.fields;
        Ok(Issuer {
            key: IssuerKey::P256(fields.key),
            issuer_id: fields.issuer_id,
            serial: fields.serial,
            expiry: fields.expiry,
        })
    }

    fn card(&mut self, cx: &Context<'_>, issuer: &Issuer) -> Result<Certified, OdaFault> {
        let IssuerKey::P256(key) = &issuer.key else { return Err(OdaFault::Suite) };
        let certificate = CardCertificate::parse(cx.need(tags::CARD_CERTIFICATE)?).map_err(card_fault)?;
        certificate.verify(self.0, key).map_err(card_fault)?;
        // The authority vouches for this issuer, and it has cards here: its next card will come.
        self.0.remember(key);
        let fields = certificate.fields;
        Ok(Certified::P256 {
            key: fields.key,
            static_hash: fields.static_hash,
            expiry: fields.expiry,
            expired: certificate.check_time(cx.tap.now).is_err(),
        })
    }

    fn dynamic(&mut self, cx: &Context<'_>, card: &Certified) -> Result<(), OdaFault> {
        let Certified::P256 { key, .. } = card else { return Err(OdaFault::Suite) };
        // The signature stands in the answer that it signs; in a record it could be of another tap's answer.
        let (before, signature, after) =
            tlv::split_around(cx.card.response(), tags::SDAD).map_err(|_| OdaFault::Missing(tags::SDAD))?;
        verify_dynamic(self.0, key, cx.card.pdol_values(), &[before, after], signature)
            .map_err(|e| OdaFault::DynamicSignature(SuiteError::Ecc(e)))
    }

    fn token(cx: &Context<'_>, card: &Certified) -> Result<Token, OdaFault> {
        let Certified::P256 { static_hash, .. } = card else { return Err(OdaFault::Suite) };
        let aid = cx.card.aid().ok_or(OdaFault::Suite)?;
        let aip = tlv::find_tlv(cx.card.response(), tags::AIP).ok().flatten();
        let aip = aip.ok_or(OdaFault::Missing(tags::AIP))?;
        let mut hash = StaticHash::new();
        hash.record(cx.card.statics());
        if hash.finish(aip.raw, &aid.tlv(), cx.card.pdol_tlv()) != *static_hash {
            return Err(OdaFault::StaticData);
        }
        // Only the certified copy names the token.
        let pan = cx.card.signed(tags::PAN).ok_or(OdaFault::Missing(tags::PAN))?;
        Token::from_bcd(pan).map_err(|_| OdaFault::TokenDisagrees(tags::PAN))
    }
}
