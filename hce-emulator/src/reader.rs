//! A plain reader: takes a card through directory, selection, processing options and records, and believes it all.
//! For tests, recordings and looking at phones; the kernel is what decides.

use crate::card::{Card, CardFault};
use crate::faults::Exchange;
use wavepass_protocol::apdu::{ApduError, Command, PPSE, Response, Status};
use wavepass_protocol::dol::Dol;
use wavepass_protocol::select::{Afl, AflError, Aid, Fci, RecordRef, oda_part, parse_ppse};
use wavepass_protocol::tags;
use wavepass_protocol::time::Date;
use wavepass_protocol::tlv::{self, Tag, TlvError};
use wavepass_protocol::token::to_bcd;

/// The most parts of one chained answer.
const MAX_PARTS: usize = 32;

/// What the reader tells the card of itself and of this tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// Terminal transaction qualifiers (9F66).
    pub ttq: [u8; 4],
    /// Amount, authorised, in fen.
    pub amount_fen: u64,
    /// Currency, ISO 4217 number in packed decimal.
    pub currency: u16,
    /// Country, ISO 3166 number in packed decimal.
    pub country: u16,
    /// Day of the tap.
    pub date: Date,
    /// Unpredictable number (9F37).
    pub unpredictable: [u8; 4],
}

impl Values {
    /// A gate in China on that day: TTQ as UnionPay's online authentication has it, nothing to pay yet.
    pub const fn gate(date: Date, unpredictable: [u8; 4]) -> Self {
        let ttq = [0x21, 0x80, 0x00, 0x80];
        Self { ttq, amount_fen: 0, currency: 0x0156, country: 0x0156, date, unpredictable }
    }

    /// The values for a card's list.
    pub fn fill(&self, pdol: &[u8]) -> Result<Vec<u8>, TlvError> {
        let dol = Dol::parse(pdol)?;
        let mut amount = [0; 6];
        let mut rest = self.amount_fen;
        for byte in amount.iter_mut().rev() {
            // Below 100.
            *byte = to_bcd((rest % 100) as u8);
            rest /= 100;
        }
        let (currency, country) = (self.currency.to_be_bytes(), self.country.to_be_bytes());
        let date = self.date.to_yymmdd();
        let mut out = vec![0; dol.total_len()];
        dol.fill(&mut out, |tag| {
            Some(match tag {
                tags::TTQ => &self.ttq[..],
                tags::AMOUNT => &amount,
                tags::CURRENCY => &currency,
                tags::TERMINAL_COUNTRY => &country,
                tags::TRANSACTION_DATE => &date,
                tags::UNPREDICTABLE_NUMBER => &self.unpredictable,
                // It believes SM2 signatures as it believes the others.
                tags::SM_SUPPORT => &[0x01],
                _ => return None,
            })
        })?;
        Ok(out)
    }
}

/// Why a card could not be read to the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The card stopped answering.
    #[error(transparent)]
    Card(#[from] CardFault),
    /// Not a response.
    #[error("an answer is no response: {0}")]
    Apdu(#[from] ApduError),
    /// A status word other than 9000.
    #[error("{step}: the card answered {:04X}", u16::from(*status))]
    Status {
        /// Which command.
        step: &'static str,
        /// What it answered.
        status: Status,
    },
    /// Malformed data.
    #[error("{step}: {error}")]
    Tlv {
        /// In answer to which command.
        step: &'static str,
        /// What is wrong.
        error: TlvError,
    },
    /// A malformed file locator.
    #[error("the file locator: {0}")]
    Afl(#[from] AflError),
    /// No application in the directory.
    #[error("the card has no application")]
    NoApplication,
    /// An answer in more parts than 32.
    #[error("an answer never ends")]
    Endless,
}

/// What a card said in one tap.
#[derive(Clone)]
pub struct Reading {
    /// The application.
    pub aid: Aid,
    /// The PDOL as the card gave it, with tag and length.
    pub pdol_tlv: Vec<u8>,
    /// The values sent for it.
    pub pdol_values: Vec<u8>,
    /// The TLVs of the answer to GET PROCESSING OPTIONS.
    pub options: Vec<u8>,
    /// The records in order: which, and the data field.
    pub records: Vec<(RecordRef, Vec<u8>)>,
    /// Every command and answer.
    pub exchanges: Vec<Exchange>,
}

impl Reading {
    /// The first value of a tag in the options or in a record.
    pub fn value(&self, tag: Tag) -> Option<Vec<u8>> {
        let records = self.records.iter().filter_map(|(_, data)| tlv::find(data, tags::RECORD).ok()?);
        std::iter::once(&self.options[..])
            .chain(records)
            .find_map(|level| tlv::find(level, tag).ok()?.map(<[u8]>::to_vec))
    }

    /// What of the records the card certificate covers, joined.
    pub fn static_records(&self) -> Vec<u8> {
        let signed = self.records.iter().filter(|(record, _)| record.is_oda);
        signed.flat_map(|(record, data)| oda_part(record.sfi, data).unwrap_or_default().to_vec()).collect()
    }
}

/// Reads the application that the card prefers.
pub fn read(card: &mut dyn Card, values: &Values) -> Result<Reading, ReadError> {
    read_application(card, values, None)
}

/// Reads one application, or the one that the card prefers.
pub fn read_application(
    card: &mut dyn Card,
    values: &Values,
    wanted: Option<&Aid>,
) -> Result<Reading, ReadError> {
    read_card(card, values, wanted, false)
}

/// Reads the application that the card prefers, and times it once if it offers that.
pub(crate) fn read_timed(card: &mut dyn Card, values: &Values) -> Result<Reading, ReadError> {
    read_card(card, values, None, true)
}

fn read_card(
    card: &mut dyn Card,
    values: &Values,
    wanted: Option<&Aid>,
    timed: bool,
) -> Result<Reading, ReadError> {
    card.enter_field();
    let mut exchanges = Vec::new();
    let directory = exchange(card, &mut exchanges, "SELECT PPSE", &Command::select(PPSE))?;
    let candidates = parse_ppse(&directory).map_err(|error| ReadError::Tlv { step: "SELECT PPSE", error })?;
    // Priority 0 is none, so it comes last.
    let preferred = candidates.iter().min_by_key(|c| c.priority.wrapping_sub(1));
    let aid = match wanted {
        Some(aid) => *aid,
        None => preferred.ok_or(ReadError::NoApplication)?.aid,
    };
    let step = "SELECT";
    let fci = exchange(card, &mut exchanges, step, &Command::select(aid.as_slice()))?;
    let parsed = Fci::parse(&fci).map_err(|error| ReadError::Tlv { step, error })?;
    let pdol_values =
        values.fill(parsed.pdol.unwrap_or_default()).map_err(|error| ReadError::Tlv { step, error })?;
    if timed && offers_timing(&fci).map_err(|error| ReadError::Tlv { step, error })? {
        let command = Command::exchange_relay_data(&values.unpredictable);
        exchange(card, &mut exchanges, "EXCHANGE RELAY RESISTANCE DATA", &command)?;
    }
    let step = "GET PROCESSING OPTIONS";
    let mut template = [0; 260];
    let mut writer = tlv::Writer::new(&mut template);
    writer.tlv(tags::COMMAND_TEMPLATE, &pdol_values).map_err(|error| ReadError::Tlv { step, error })?;
    let command = Command::get_processing_options(writer.finish());
    let answer = exchange(card, &mut exchanges, step, &command)?;
    let malformed = |error| ReadError::Tlv { step, error };
    let options = options(&answer).map_err(malformed)?;
    let afl = Afl::parse(tlv::get(&options, tags::AFL).map_err(malformed)?)?;
    let mut records = Vec::new();
    for record in afl.records() {
        let command = Command::read_record(record.sfi, record.record);
        records.push((record, exchange(card, &mut exchanges, "READ RECORD", &command)?));
    }
    let pdol_tlv = parsed.pdol_tlv.unwrap_or_default().to_vec();
    let mut reading = Reading { aid, pdol_tlv, pdol_values, options, records, exchanges };
    if tlv::find(&reading.options, tags::CRYPTOGRAM).map_err(malformed)?.is_none() {
        finish_older(card, values, &mut reading)?;
    }
    Ok(reading)
}

fn offers_timing(fci: &[u8]) -> Result<bool, TlvError> {
    let mut level = fci;
    for tag in [tags::FCI, tags::FCI_PROPRIETARY, tags::FCI_DISCRETIONARY] {
        match tlv::find(level, tag)? {
            Some(inside) => level = inside,
            None => return Ok(false),
        }
    }
    Ok(tlv::find(level, tags::RELAY_RESISTANCE)?.is_some())
}

/// The TLVs of the answer to GET PROCESSING OPTIONS, also of one that gives values only: profile, then file locator.
fn options(answer: &[u8]) -> Result<Vec<u8>, TlvError> {
    let Some(plain) = tlv::find(answer, tags::RESPONSE_1)? else {
        return tlv::get(answer, tags::RESPONSE_2).map(<[u8]>::to_vec);
    };
    let (aip, afl) = plain.split_at_checked(2).ok_or(TlvError::Truncated)?;
    let mut buf = [0; 300];
    let mut w = tlv::Writer::new(&mut buf);
    w.tlv(tags::AIP, aip)?;
    w.tlv(tags::AFL, afl)?;
    Ok(w.finish().to_vec())
}

/// What an older card is asked beyond its records: a signature and a cryptogram.
fn finish_older(card: &mut dyn Card, values: &Values, reading: &mut Reading) -> Result<(), ReadError> {
    let Some(cdol) = reading.value(tags::CDOL1) else { return Ok(()) };
    let step = "INTERNAL AUTHENTICATE";
    let ddol = reading.value(tags::DDOL).unwrap_or_else(|| vec![0x9F, 0x37, 4]);
    let sent = values.fill(&ddol).map_err(|error| ReadError::Tlv { step, error })?;
    exchange(card, &mut reading.exchanges, step, &Command::internal_authenticate(&sent))?;
    let step = "GENERATE AC";
    let sent = values.fill(&cdol).map_err(|error| ReadError::Tlv { step, error })?;
    exchange(card, &mut reading.exchanges, step, &Command::generate_ac(0x80, &sent))?;
    Ok(())
}

fn exchange(
    card: &mut dyn Card,
    exchanges: &mut Vec<Exchange>,
    step: &'static str,
    command: &Command<'_>,
) -> Result<Vec<u8>, ReadError> {
    let mut data = Vec::new();
    let mut command = *command;
    for _ in 0..MAX_PARTS {
        let mut bytes = [0; 300];
        let len = command.encode(&mut bytes)?;
        let answer = card.transmit(&bytes[..len])?.data;
        exchanges.push(Exchange { c: bytes[..len].to_vec(), r: answer.clone() });
        let response = Response::parse(&answer)?;
        data.extend_from_slice(response.data);
        match response.status {
            Status::Success => return Ok(data),
            Status::MoreData(len) => command = Command::get_response(len),
            status => return Err(ReadError::Status { step, status }),
        }
    }
    Err(ReadError::Endless)
}
