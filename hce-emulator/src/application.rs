//! The card applications: what stands in their files, and how they answer GET PROCESSING OPTIONS.

mod house;
mod rsa;
mod sm2;

pub(crate) use house::House;
pub(crate) use house::static_hash;
pub use house::{HOUSE_AID, HOUSE_PDOL, HouseFile};
pub use rsa::{
    RSA_CREDIT_AID, RSA_DEBIT_AID, RSA_OTHER_DEBIT_AID, RSA_PDOL, RSA_QUASI_CREDIT_AID, RsaCardKey, RsaFile,
    RsaFlow, RsaKeyError,
};
pub(crate) use rsa::{Rsa, seal, sm2_static_data, static_data};
pub(crate) use sm2::Sm2;
pub use sm2::{SM2_PDOL, Sm2File};

use crate::hex::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use wavepass_protocol::cryptogram::{application_cryptogram, session_key};
use wavepass_protocol::select::Aid;
use wavepass_protocol::tags;
use wavepass_protocol::time::Date;
use wavepass_protocol::tlv::{Tag, TlvError, Writer};
use wavepass_protocol::token::{MAX_DIGITS, Token};
use zeroize::Zeroizing;

/// The longest application label (EMV Book 3 annex A, tag 50).
pub const MAX_LABEL: usize = 16;

/// Bytes of the answer to a timed exchange: entropy 4, shortest, longest and transmission time 2 each.
pub(crate) const TIMED_ANSWER: usize = 10;
/// Cryptogram information data: a request for online authorisation.
const CID_ARQC: u8 = 0x80;
/// Cryptogram information data: declined.
const CID_AAC: u8 = 0x00;
/// Issuer application data of an ARQC; byte 5 bits 6 and 5 name the cryptogram.
const IAD_ARQC: [u8; 7] = [0x06, 0x01, 0x12, 0x03, 0xA0, 0x00, 0x00];
/// The same of an AAC.
const IAD_AAC: [u8; 7] = [0x06, 0x01, 0x12, 0x03, 0x80, 0x00, 0x00];
/// Card transaction qualifiers: the card asks for nothing; a gate verifies no cardholder.
const CTQ: [u8; 2] = [0x00, 0x00];

/// What every application has, whatever its suite.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardData {
    /// Application identifier.
    #[serde(with = "aid_text")]
    pub aid: Aid,
    /// Name for people, ASCII, up to 16 characters.
    pub label: String,
    /// Priority, 1 (highest) to 15.
    pub priority: u8,
    /// The token.
    #[serde(with = "token_text")]
    pub token: Token,
    /// The last day on which the token is good.
    #[serde(with = "date_text")]
    pub expiry: Date,
    /// The first day on which it is good.
    #[serde(with = "date_text")]
    pub effective: Date,
    /// Sequence number of the token.
    pub psn: u8,
    /// The card's master key for cryptograms (option C).
    #[serde(with = "crate::hex")]
    pub master_key: Secret<16>,
}

impl CardData {
    /// The records' part that says whose card it is: token, expiry, effective date, sequence number.
    fn write_identity(&self, w: &mut Writer<'_>) -> Result<(), TlvError> {
        w.tlv(tags::PAN, self.token.bcd_short())?;
        w.tlv(tags::EXPIRY_DATE, &self.expiry.to_yymmdd())?;
        w.tlv(tags::EFFECTIVE_DATE, &self.effective.to_yymmdd())?;
        w.tlv(tags::PSN, &[self.psn])
    }

    /// The cryptogram of a tap: over the values sent, AIP, counter and issuer application data.
    fn cryptogram(&self, tap: &Tap<'_>, aip: &[u8], atc: u16) -> [u8; 8] {
        let session = Zeroizing::new(session_key(self.master_key.bytes(), atc));
        application_cryptogram(&session, &[tap.values, aip, &atc.to_be_bytes(), &tap.quirks.iad()])
    }
}

/// One tap, as GET PROCESSING OPTIONS brings it, and after it INTERNAL AUTHENTICATE and GENERATE AC.
pub(crate) struct Tap<'a> {
    /// The values for the command's list.
    pub(crate) values: &'a [u8],
    /// The counter of this tap.
    pub(crate) atc: u16,
    /// Fresh random bytes.
    pub(crate) nonce: [u8; 32],
    /// The timed exchange that went before, where one did: the gate's entropy, then the answer.
    pub(crate) timed: Option<[u8; 4 + TIMED_ANSWER]>,
    /// What is wrong with the card.
    pub(crate) quirks: Quirks,
}

/// What an older card asks for.
#[derive(Clone, Copy)]
pub(crate) struct Lists {
    /// With GENERATE AC (CDOL1).
    pub(crate) cdol: &'static [u8],
    /// With INTERNAL AUTHENTICATE (DDOL).
    pub(crate) ddol: &'static [u8],
}

/// What is wrong with a card's answers of its own making; see [`crate::faults::Fault`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quirks {
    pub(crate) forged_signature: bool,
    pub(crate) wrong_atc: bool,
    pub(crate) unused: bool,
    pub(crate) no_cryptogram: bool,
    pub(crate) stale_dol: bool,
}

impl Quirks {
    const fn cid(self) -> u8 {
        if self.no_cryptogram { CID_AAC } else { CID_ARQC }
    }

    const fn iad(self) -> [u8; 7] {
        if self.no_cryptogram { IAD_AAC } else { IAD_ARQC }
    }

    /// The counter that the card answers with.
    const fn stated_atc(self, atc: u16) -> u16 {
        if self.unused { 0 } else { atc }
    }

    /// The counter that it signs.
    const fn signed_atc(self, atc: u16) -> u16 {
        let stated = self.stated_atc(atc);
        if self.wrong_atc { stated.wrapping_add(1) } else { stated }
    }

    /// The PDOL that the card gives: a thief's asks for an unknown tag where the unpredictable number stood.
    fn pdol(self, pdol: &[u8]) -> Vec<u8> {
        const ASKED: [u8; 3] = [0x9F, 0x37, 0x04];
        const STAND_IN: [u8; 3] = [0xDF, 0x7F, 0x04];
        let mut pdol = pdol.to_vec();
        if self.stale_dol
            && let Some(at) = pdol.windows(3).position(|w| w == ASKED)
        {
            pdol[at..at + 3].copy_from_slice(&STAND_IN);
        }
        pdol
    }
}

/// An application's answer to SELECT. `discretionary` writes what goes into template BF0C, where anything does.
fn fci(card: &CardData, pdol: &[u8], discretionary: &[(Tag, &[u8])]) -> Result<Vec<u8>, TlvError> {
    write(|w| {
        w.nested(tags::FCI, |w| {
            w.tlv(tags::DF_NAME, card.aid.as_slice())?;
            w.nested(tags::FCI_PROPRIETARY, |w| {
                w.tlv(tags::APPLICATION_LABEL, card.label.as_bytes())?;
                w.tlv(tags::PRIORITY, &[card.priority])?;
                w.tlv(tags::PDOL, pdol)?;
                if discretionary.is_empty() {
                    return Ok(());
                }
                w.nested(tags::FCI_DISCRETIONARY, |w| {
                    discretionary.iter().try_for_each(|(tag, v)| w.tlv(*tag, v))
                })
            })
        })
    })
}

/// Writes TLVs of at most 512 bytes: no answer of a card here is longer.
fn write(content: impl FnOnce(&mut Writer<'_>) -> Result<(), TlvError>) -> Result<Vec<u8>, TlvError> {
    let mut buf = [0; 512];
    let mut w = Writer::new(&mut buf);
    content(&mut w)?;
    Ok(w.finish().to_vec())
}

/// A record by file and number.
pub(crate) type Record = (u8, u8, Vec<u8>);

/// An application at work.
pub(crate) enum Application {
    House(Box<House>),
    Rsa(Box<Rsa>),
    Sm2(Box<Sm2>),
}

impl Application {
    pub(crate) fn card(&self) -> &CardData {
        match self {
            Self::House(house) => &house.file.card,
            Self::Rsa(rsa) => &rsa.file.card,
            Self::Sm2(sm2) => &sm2.file.card,
        }
    }

    pub(crate) fn select(&self, quirks: Quirks) -> Result<Vec<u8>, TlvError> {
        match self {
            Self::House(house) if house.file.relay_resistance => {
                fci(self.card(), &self.pdol(quirks), &[(tags::RELAY_RESISTANCE, &[0x01])])
            }
            Self::House(_) => fci(self.card(), &self.pdol(quirks), &[]),
            // UnionPay's sign that the card authenticates itself off line for an online cryptogram.
            Self::Rsa(rsa) if rsa.file.flow != RsaFlow::Quick => fci(self.card(), &self.pdol(quirks), &[]),
            Self::Rsa(_) | Self::Sm2(_) => {
                fci(self.card(), &self.pdol(quirks), &[(tags::CARD_SUPPORTS, &[0x40, 0x00])])
            }
        }
    }

    pub(crate) fn pdol(&self, quirks: Quirks) -> Vec<u8> {
        match self {
            Self::House(_) => quirks.pdol(HOUSE_PDOL),
            Self::Rsa(_) => quirks.pdol(RSA_PDOL),
            Self::Sm2(_) => quirks.pdol(SM2_PDOL),
        }
    }

    /// True if the application goes on with a gate that sent these values for its PDOL.
    pub(crate) fn accepts(&self, pdol: &[u8], values: &[u8]) -> bool {
        match self {
            Self::House(_) | Self::Rsa(_) => true,
            Self::Sm2(_) => Sm2::accepts(pdol, values),
        }
    }

    /// The answer to a timed exchange; `None` where the application cannot be timed.
    pub(crate) fn timed_answer(&self, nonce: &[u8; 32]) -> Option<[u8; TIMED_ANSWER]> {
        match self {
            Self::House(house) => house.timed_answer(nonce),
            Self::Rsa(_) | Self::Sm2(_) => None,
        }
    }

    /// What the application asks for with an older card's commands; `None` where it has none.
    pub(crate) const fn lists(&self) -> Option<Lists> {
        match self {
            Self::House(_) | Self::Sm2(_) => None,
            Self::Rsa(rsa) => rsa.lists(),
        }
    }

    /// The answer to INTERNAL AUTHENTICATE; `None` where the application has no such command.
    pub(crate) fn authenticate(&self, tap: &Tap<'_>) -> Option<Result<Vec<u8>, TlvError>> {
        match self {
            Self::House(_) | Self::Sm2(_) => None,
            Self::Rsa(rsa) => rsa.authenticate(tap),
        }
    }

    /// The answer to GENERATE AC; `None` where no cryptogram is due.
    pub(crate) fn generate(&mut self, tap: &Tap<'_>) -> Option<Result<Vec<u8>, TlvError>> {
        match self {
            Self::House(_) | Self::Sm2(_) => None,
            Self::Rsa(rsa) => rsa.generate(tap),
        }
    }

    /// The answer to GET PROCESSING OPTIONS.
    pub(crate) fn process(&mut self, tap: &Tap<'_>) -> Result<Vec<u8>, TlvError> {
        match self {
            Self::House(house) => house.process(tap),
            Self::Rsa(rsa) => rsa.process(tap),
            Self::Sm2(sm2) => sm2.process(tap),
        }
    }

    pub(crate) fn record(&self, sfi: u8, number: u8) -> Option<&[u8]> {
        let records = match self {
            Self::House(house) => &house.records,
            Self::Rsa(rsa) => &rsa.records,
            Self::Sm2(sm2) => &sm2.records,
        };
        records.iter().find(|r| (r.0, r.1) == (sfi, number)).map(|r| r.2.as_slice())
    }
}

pub(crate) mod aid_text {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(aid: &Aid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(aid)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Aid, D::Error> {
        let bytes = crate::hex::decode(&String::deserialize(deserializer)?).map_err(de::Error::custom)?;
        Aid::new(&bytes).ok_or_else(|| de::Error::custom("an application identifier has 5 to 16 bytes"))
    }
}

pub(crate) mod token_text {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(token: &Token, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(token.write_digits(&mut Zeroizing::new([0; MAX_DIGITS])))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Token, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Token::from_digits(&text).map_err(de::Error::custom)
    }
}

pub(crate) mod date_text {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(date: &Date, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04}-{:02}-{:02}", date.year, date.month, date.day))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
        parse(&String::deserialize(deserializer)?)
            .ok_or_else(|| de::Error::custom("a date is YYYY-MM-DD, from 2000 to 2099"))
    }

    /// Reads `YYYY-MM-DD` of this century: cards write two digits of a year.
    pub(crate) fn parse(text: &str) -> Option<Date> {
        let mut parts = text.split('-');
        let (year, month, day) =
            (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let whole = parts.next().is_none() && (2000..2100).contains(&year);
        Date::new(year, month, day).ok().filter(|_| whole)
    }
}
