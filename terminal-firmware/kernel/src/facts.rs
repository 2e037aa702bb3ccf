//! What the sealed tap records of a card. Fields are present only where the card gave them.

use crate::card::Card;
use crate::exchange::{Exchange, Flow, Stop};
use crate::oda::{self, Oda, OdaFault, Outcome};
use crate::track2;
use wavepass_protocol::lists::Suite;
use wavepass_protocol::select::Aid;
use wavepass_protocol::tags;
use wavepass_protocol::tap::{OdaMethod, OdaResult};
use wavepass_protocol::time::Date;
use wavepass_protocol::token::{Expiry, Token};

/// What is known of the card of this tap. Where authentication did not pass, all of it is only what the card claims.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The application that was selected; empty before.
    pub aid: &'a [u8],
    /// The token: the certified one where authentication passed.
    pub token: Option<Token>,
    /// Its expiry: where authentication passed, the signed one, or else the card certificate's, which bounds it.
    pub expiry: Option<Expiry>,
    /// True if authentication passed and the card certificate covers the token's own expiry.
    pub expiry_signed: bool,
    /// Sequence number of the token (5F34).
    pub psn: Option<u8>,
    /// Transaction counter (9F36).
    pub atc: Option<u16>,
    /// Cryptogram information data (9F27).
    pub cid: Option<u8>,
    /// Application cryptogram (9F26).
    pub cryptogram: Option<[u8; 8]>,
    /// Issuer application data (9F10), at most 32 bytes.
    pub iad: &'a [u8],
    /// Application interchange profile (82).
    pub aip: Option<[u8; 2]>,
    /// Track 2 equivalent data (57), at most 19 bytes.
    pub track2: &'a [u8],
    /// The list whose values the cryptogram covers, as the card gave it, at most [`crate::limits::MAX_PDOL`] bytes: the
    /// PDOL, or CDOL1 where GENERATE AC was sent.
    pub pdol: &'a [u8],
    /// The values sent for it, at most [`crate::limits::MAX_PDOL_VALUES`] bytes.
    pub pdol_values: &'a [u8],
    /// How the card was to be proven genuine, once an application was selected.
    pub oda_method: Option<OdaMethod>,
    /// How that ended.
    pub oda_result: OdaResult,
    /// Why it failed, where it did.
    pub oda_fault: Option<OdaFault>,
    /// From the start of the tap to the card's last answer, microseconds.
    pub exchange_us: u32,
}

pub(crate) fn facts<'a>(exchange: &'a Exchange, card: &'a Card, oda: &Oda) -> Facts<'a> {
    let track2 = card.get(tags::TRACK2).unwrap_or_default();
    let on_track2 = track2::parse(track2);
    let stated =
        card.array(tags::EXPIRY_DATE).and_then(|date| Date::from_yymmdd(date).ok()).map(Date::expiry);
    let signed = card.signed(tags::EXPIRY_DATE).is_some();
    let claimed_token = card.get(tags::PAN).and_then(|pan| Token::from_bcd(pan).ok());
    let claimed = (
        claimed_token.or_else(|| on_track2.map(|(token, _)| token)),
        stated.or_else(|| on_track2.map(|(_, expiry)| expiry)),
    );
    let (oda_result, oda_fault, token, expiry, expiry_signed) = match (exchange.stop(), oda.outcome()) {
        (Some(Stop::Unproven(fault)), _) | (_, Outcome::Failed(fault)) => {
            (OdaResult::Failed, Some(fault), claimed.0, claimed.1, false)
        }
        (_, Outcome::Pending) => (OdaResult::NotDone, None, claimed.0, claimed.1, false),
        (_, Outcome::Passed(proven)) => {
            let expiry = stated.filter(|_| signed).unwrap_or(proven.card_expiry);
            (OdaResult::Passed, None, Some(proven.token), Some(expiry), signed)
        }
    };
    let aid = card.aid();
    let (pdol, pdol_values) = card.cryptogram_list();
    Facts {
        aid: aid.map_or(&[], Aid::as_slice),
        token,
        expiry,
        expiry_signed,
        psn: card.array::<1>(tags::PSN).map(|[psn]| psn),
        atc: card.atc(),
        cid: card.array::<1>(tags::CID).map(|[cid]| cid),
        cryptogram: card.array(tags::CRYPTOGRAM),
        iad: card.get(tags::IAD).unwrap_or_default(),
        aip: card.array(tags::AIP),
        track2,
        pdol,
        pdol_values,
        oda_method: exchange.chosen().filter(|_| aid.is_some()).map(|application| {
            match oda::suite(application, card) {
                Suite::P256 => OdaMethod::Ecc,
                Suite::Rsa if exchange.flow() == Flow::Standard => OdaMethod::Dda,
                Suite::Rsa => OdaMethod::Fdda,
                Suite::Sm2 => OdaMethod::Sm2,
            }
        }),
        oda_result,
        oda_fault,
        exchange_us: exchange.exchange_us(),
    }
}
