//! The exchange with the card: directory, application, processing options, records (Book B, Book 3 section 10).
//! A UnionPay card that does not sign in the quick flow goes on with INTERNAL AUTHENTICATE and GENERATE AC.
//!
//! One phase gives one command at a time and takes its answer. Chained answers (61xx, 6Cxx) are joined before a
//! phase sees them. Every way through ends: each command counts, and beyond [`MAX_APDUS`] the card is refused.

use crate::card::{Card, CardError};
use crate::config::{AidConfig, Config};
use crate::environment::TapInput;
use crate::limits::{MAX_ANSWER, MAX_APDUS, MAX_COMMAND, MAX_PDOL, MAX_PDOL_VALUES, MAX_TIMED};
use crate::oda::OdaFault;
use crate::path::Phase;
use crate::selection::{self, Choice};
use heapless::Vec;
use wavepass_protocol::apdu::{Command, PPSE, Response, Status};
use wavepass_protocol::dol::Dol;
use wavepass_protocol::lists::Suite;
use wavepass_protocol::select::{Afl, Aid, Fci, MAX_CANDIDATES, parse_ppse};
use wavepass_protocol::tags;
use wavepass_protocol::tap::Reason;
use wavepass_protocol::time::{Date, time_of_day};
use wavepass_protocol::tlv::{self, Tag};
use wavepass_protocol::token::to_bcd;

/// UnionPay's cards say in DF61 whether they sign in the quick flow; other schemes' have no such flag.
const UNIONPAY: [u8; 5] = [0xA0, 0x00, 0x00, 0x03, 0x33];
/// Terminal type (9F35): unattended, offline with online capability, operated by a merchant.
const TERMINAL_TYPE: u8 = 0x25;
/// Terminal transaction qualifiers for a card without quick offline authentication: the standard contactless flow,
/// with offline authentication.
const STANDARD_TTQ: [u8; 4] = [0x61, 0x00, 0x00, 0x80];
/// The relay resistance that this kernel knows (DF72).
const RELAY_RESISTANCE: u8 = 0x01;
/// Bytes of the answer to a timed exchange: the card's entropy 4, its shortest, longest and transmission time.
const TIMED_ANSWER: usize = 10;
/// The list for INTERNAL AUTHENTICATE where the card gives none: the unpredictable number.
const DEFAULT_DDOL: &[u8] = &[0x9F, 0x37, 4];
/// GENERATE AC: an ARQC.
const ASK_ARQC: u8 = 0x80;

/// Which way leads through the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Signature and cryptogram come with processing options and records.
    Quick,
    /// After the records INTERNAL AUTHENTICATE and GENERATE AC: an older card.
    Standard,
}

/// Why an exchange ended before its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A refusal that needs no verification.
    Refuse(Reason),
    /// The card cannot be proven genuine, whatever else it says.
    Unproven(OdaFault),
}

impl From<CardError> for Stop {
    fn from(_: CardError) -> Self {
        Self::Refuse(Reason::CardError)
    }
}

const CARD_ERROR: Stop = Stop::Refuse(Reason::CardError);

/// The exchange of one tap.
pub(crate) struct Exchange {
    tap: TapInput,
    phase: Phase,
    stop: Option<Stop>,
    sent: u8,
    /// True once the command in flight was repeated for 6Cxx.
    repeated: bool,
    choices: Vec<Choice, MAX_CANDIDATES>,
    tried: u8,
    /// How many of those tried made way for the next.
    passed: u8,
    application: Option<AidConfig>,
    flow: Flow,
    /// Timed exchanges so far.
    tries: u8,
    /// The one that was in time: entropy sent, then the answer.
    timed: Option<[u8; 4 + TIMED_ANSWER]>,
    afl: Afl,
    exchange_us: u32,
    command: Vec<u8, MAX_COMMAND>,
    #[cfg(feature = "sm2")]
    sm2: wavepass_protocol::sm2::Convention,
}

/// Parts of a chained answer.
pub(crate) type Inbox = Vec<u8, MAX_ANSWER>;

impl Exchange {
    pub(crate) const fn idle() -> Self {
        let tap = TapInput {
            now: wavepass_protocol::time::UnixMs(0),
            utc_offset_min: 0,
            unpredictable: [0; 4],
            start_us: 0,
            relay_entropy: [[0; 4]; 2],
        };
        Self {
            tap,
            phase: Phase::Over,
            stop: Some(Stop::Refuse(Reason::NoApplication)),
            sent: 0,
            repeated: false,
            choices: Vec::new(),
            tried: 0,
            passed: 0,
            application: None,
            flow: Flow::Quick,
            tries: 0,
            timed: None,
            afl: Afl::EMPTY,
            exchange_us: 0,
            command: Vec::new(),
            #[cfg(feature = "sm2")]
            sm2: wavepass_protocol::sm2::Convention::DEFAULT,
        }
    }

    /// Begins a tap with the directory.
    pub(crate) fn begin(&mut self, config: &Config, tap: TapInput) {
        self.tap = tap;
        #[cfg(feature = "sm2")]
        {
            self.sm2 = config.sm2;
        }
        self.phase = Phase::Directory;
        self.stop = None;
        self.sent = 0;
        self.choices.clear();
        self.tried = 0;
        self.passed = 0;
        self.application = None;
        self.afl = Afl::default();
        self.exchange_us = 0;
        let first = if config.applications.is_empty() {
            Err(Stop::Refuse(Reason::NoApplication))
        } else {
            self.send(&Command::select(PPSE))
        };
        self.settle(first);
    }

    /// Takes one answer of the card.
    pub(crate) fn answer(
        &mut self,
        config: &Config,
        card: &mut Card,
        inbox: &mut Inbox,
        answer: &[u8],
        took_us: u32,
        now_us: u64,
    ) {
        if self.phase == Phase::Over {
            return;
        }
        let next = match self.phase {
            Phase::Timed => self.take_timed(config, card, answer, took_us, now_us),
            _ => self.take(config, card, inbox, answer, now_us),
        };
        self.settle(next);
    }

    /// Ends the exchange for a reason outside the card's answers.
    pub(crate) fn lost(&mut self, reason: Reason, now_us: u64) {
        if self.phase != Phase::Over {
            self.note_time(now_us);
            self.settle(Err(Stop::Refuse(reason)));
        }
    }

    fn settle(&mut self, next: Result<(), Stop>) {
        if let Err(stop) = next {
            self.stop = Some(stop);
            self.phase = Phase::Over;
        }
    }

    fn note_time(&mut self, now_us: u64) -> u64 {
        let passed = now_us.saturating_sub(self.tap.start_us);
        self.exchange_us = u32::try_from(passed).unwrap_or(u32::MAX);
        passed
    }

    fn check_time(&mut self, config: &Config, now_us: u64) -> Result<(), Stop> {
        if self.note_time(now_us) > config.tap_limit_us {
            return Err(Stop::Refuse(Reason::TooSlow));
        }
        Ok(())
    }

    fn take(
        &mut self,
        config: &Config,
        card: &mut Card,
        inbox: &mut Inbox,
        answer: &[u8],
        now_us: u64,
    ) -> Result<(), Stop> {
        self.check_time(config, now_us)?;
        let Response { data, status } = Response::parse(answer).map_err(|_| CARD_ERROR)?;
        if data.len() > MAX_ANSWER {
            return Err(CARD_ERROR);
        }
        match status {
            Status::MoreData(len) => {
                inbox.extend_from_slice(data).map_err(|_| CARD_ERROR)?;
                self.send(&Command::get_response(len))
            }
            Status::WrongLe(len) => self.repeat(len),
            _ if inbox.is_empty() => self.advance(config, card, status, data),
            _ => {
                inbox.extend_from_slice(data).map_err(|_| CARD_ERROR)?;
                let next = self.advance(config, card, status, inbox);
                inbox.clear();
                next
            }
        }
    }

    fn advance(&mut self, config: &Config, card: &mut Card, status: Status, data: &[u8]) -> Result<(), Stop> {
        match self.phase {
            Phase::Directory => self.directory(config, status, data),
            Phase::Application => self.application(config, card, status, data),
            Phase::Options => self.options(config, card, status, data),
            Phase::Record(index) => self.record(config, card, index, status, data),
            Phase::Authenticate => self.signature(config, card, status, data),
            Phase::Cryptogram => self.cryptogram(card, status, data),
            // A timed answer is never chained.
            Phase::Timed | Phase::Over => Err(CARD_ERROR),
        }
    }

    fn directory(&mut self, config: &Config, status: Status, data: &[u8]) -> Result<(), Stop> {
        if status != Status::Success {
            return Err(Stop::Refuse(Reason::NoApplication));
        }
        let directory = parse_ppse(data).map_err(|_| CARD_ERROR)?;
        self.choices = selection::choices(config, &directory);
        self.next_application(config, Stop::Refuse(Reason::NoApplication))
    }

    /// Selects the next application that both sides know; `none` where there is no more.
    fn next_application(&mut self, config: &Config, none: Stop) -> Result<(), Stop> {
        self.passed = self.tried;
        let choice = *self.choices.get(usize::from(self.tried)).ok_or(none)?;
        self.tried += 1;
        self.application = config.applications.get(usize::from(choice.application)).cloned();
        self.phase = Phase::Application;
        self.send(&Command::select(choice.aid.as_slice()))
    }

    fn application(
        &mut self,
        config: &Config,
        card: &mut Card,
        status: Status,
        data: &[u8],
    ) -> Result<(), Stop> {
        // A blocked or absent application makes way for the next one (Book 1 section 12.4).
        if status != Status::Success {
            return self.next_application(config, Stop::Refuse(Reason::NoApplication));
        }
        let fci = Fci::parse(data).map_err(|_| CARD_ERROR)?;
        let aid = Aid::new(fci.df_name).ok_or(CARD_ERROR)?;
        let asked =
            usize::from(self.tried).checked_sub(1).and_then(|i| self.choices.get(i)).ok_or(CARD_ERROR)?;
        if !aid.starts_with(&asked.aid) {
            return Err(CARD_ERROR);
        }
        let application = self.application.as_ref().ok_or(CARD_ERROR)?;
        let flow = match application.suite {
            Suite::Sm2 if !cfg!(feature = "sm2") => return Err(Stop::Refuse(Reason::Unsupported)),
            Suite::Rsa | Suite::Sm2 if aid.rid() == UNIONPAY && !fci.supports_online_oda() => Flow::Standard,
            Suite::P256 | Suite::Rsa | Suite::Sm2 => Flow::Quick,
        };
        // In the quick flow the signature covers this list's values. The card supplies the list, so a gate that answers
        // any list signs nothing but zeros for a thief.
        let needed: &[(Tag, u8)] = match (flow, application.suite) {
            (Flow::Standard, _) => &[],
            (_, Suite::P256) => &[(tags::UNPREDICTABLE_NUMBER, 4)],
            (_, Suite::Rsa | Suite::Sm2) => {
                &[(tags::UNPREDICTABLE_NUMBER, 4), (tags::AMOUNT, 6), (tags::CURRENCY, 2)]
            }
        };
        let pdol = Dol::parse(fci.pdol.unwrap_or_default()).map_err(|_| CARD_ERROR)?;
        if !needed.iter().all(|&(tag, len)| pdol.contains(tag, len)) {
            return Err(Stop::Unproven(OdaFault::UnprotectedPdol));
        }
        check_size(&pdol)?;
        let mut values = [0; MAX_PDOL_VALUES];
        let values = &mut values[..pdol.total_len()];
        let ttq = if flow == Flow::Standard { &STANDARD_TTQ } else { &application.ttq };
        self.fill(config, ttq, &pdol, values)?;
        card.begin(aid, fci.pdol_tlv.unwrap_or_default(), pdol.raw().len(), values)?;
        self.flow = flow;
        self.tries = 0;
        self.timed = None;
        let offered = fci.relay_resistance == Some(RELAY_RESISTANCE);
        if config.relay.is_some() && application.suite == Suite::P256 && offered {
            return self.time_card();
        }
        self.ask_options(card)
    }

    /// Sends what the card must answer at once. Each try sends other bytes: one who relays has the answer to those of
    /// the try before.
    fn time_card(&mut self) -> Result<(), Stop> {
        let late = Stop::Refuse(Reason::RelaySuspected);
        if self.tries == MAX_TIMED {
            return Err(late);
        }
        self.tries += 1;
        self.phase = Phase::Timed;
        let entropy = self.entropy().ok_or(late)?;
        self.send(&Command::exchange_relay_data(&entropy))
    }

    /// What the timed exchange in flight sent.
    fn entropy(&self) -> Option<[u8; 4]> {
        match self.tries {
            0 => None,
            1 => Some(self.tap.unpredictable),
            n => self.tap.relay_entropy.get(usize::from(n) - 2).copied(),
        }
    }

    fn take_timed(
        &mut self,
        config: &Config,
        card: &Card,
        answer: &[u8],
        took_us: u32,
        now_us: u64,
    ) -> Result<(), Stop> {
        self.check_time(config, now_us)?;
        let Response { data, status } = Response::parse(answer).map_err(|_| CARD_ERROR)?;
        let answer: &[u8; TIMED_ANSWER] = match tlv::iter(data).next() {
            Some(Ok(object)) if object.tag == tags::RESPONSE_1 && object.raw.len() == data.len() => {
                object.value.try_into().map_err(|_| CARD_ERROR)?
            }
            _ => return Err(CARD_ERROR),
        };
        let (Status::Success, Some(limits), Some(sent)) = (status, config.relay, self.entropy()) else {
            return Err(CARD_ERROR);
        };
        let [_, _, _, _, _, _, max @ .., t0, t1] = *answer;
        if took_us > limits.allowed_us(u16::from_be_bytes(max), u16::from_be_bytes([t0, t1])) {
            return self.time_card();
        }
        let mut timed = [0; 4 + TIMED_ANSWER];
        timed[..4].copy_from_slice(&sent);
        timed[4..].copy_from_slice(answer);
        self.timed = Some(timed);
        self.ask_options(card)
    }

    fn ask_options(&mut self, card: &Card) -> Result<(), Stop> {
        // `83 len values`, one byte of length up to 127, two beyond.
        let values = card.pdol_values();
        let mut template = [0; MAX_PDOL_VALUES + 3];
        let header = if values.len() > 0x7F { 3 } else { 2 };
        template[0] = tags::COMMAND_TEMPLATE.0 as u8;
        template[1] = 0x81;
        template[header - 1] = values.len() as u8;
        let len = header + values.len();
        template[header..len].copy_from_slice(values);
        self.phase = Phase::Options;
        self.send(&Command::get_processing_options(&template[..len]))
    }

    /// Writes the values that the card asks for.
    fn fill(&self, config: &Config, ttq: &[u8; 4], list: &Dol<'_>, out: &mut [u8]) -> Result<(), Stop> {
        let tap = &self.tap;
        let sm_support = [u8::from(self.application.as_ref().is_some_and(AidConfig::serves_sm2))];
        let amount = decimal_6(config.amount_fen);
        let country = config.country.to_be_bytes();
        let currency = config.currency.to_be_bytes();
        let date = Date::at(tap.now, tap.utc_offset_min).to_yymmdd();
        let time = time_of_day(tap.now, tap.utc_offset_min);
        let filled = list.fill(out, |tag| {
            Some(match tag {
                tags::TTQ => ttq,
                tags::AMOUNT => &amount,
                tags::TERMINAL_COUNTRY => &country,
                tags::CURRENCY => &currency,
                tags::TRANSACTION_DATE => &date,
                tags::TRANSACTION_TIME => &time,
                tags::UNPREDICTABLE_NUMBER => &tap.unpredictable,
                tags::TERMINAL_TYPE => &[TERMINAL_TYPE],
                tags::SM_SUPPORT => &sm_support,
                // Amount other, verification results and type "purchase" are zeros, as is all that the gate does not
                // know.
                _ => return None,
            })
        });
        filled.map(|_| ()).map_err(|_| CARD_ERROR)
    }

    fn options(&mut self, config: &Config, card: &mut Card, status: Status, data: &[u8]) -> Result<(), Stop> {
        match status {
            Status::Success => {}
            // The application withdraws; another may serve (Book 3 section 10.1).
            Status::ConditionsNotSatisfied => {
                card.clear();
                return self.next_application(config, CARD_ERROR);
            }
            _ => return Err(CARD_ERROR),
        }
        let is_plain = Tag::read(data).is_ok_and(|(tag, _)| tag == tags::RESPONSE_1);
        match (self.flow, is_plain) {
            (Flow::Quick, true) => return Err(Stop::Refuse(Reason::Unsupported)),
            (Flow::Standard, true) => card.plain_options(data)?,
            (_, false) => card.options(data)?,
        }
        let has = |tag| card.get(tag).is_some();
        match self.flow {
            // The counter is needed to tell taps apart.
            Flow::Quick if !has(tags::ATC) => return Err(CARD_ERROR),
            // A quick answer, from a card that does not sign in that flow.
            Flow::Standard if has(tags::ATC) || has(tags::CRYPTOGRAM) => {
                return Err(Stop::Refuse(Reason::Unsupported));
            }
            Flow::Quick | Flow::Standard => {}
        }
        // Profile and locator are needed to go on.
        let afl = match (card.get(tags::AFL), card.get(tags::AIP)) {
            (Some(afl), Some(_)) => afl,
            _ => return Err(CARD_ERROR),
        };
        self.afl = Afl::parse(afl).map_err(|_| CARD_ERROR)?;
        self.read(config, card, 0)
    }

    fn read(&mut self, config: &Config, card: &mut Card, index: u8) -> Result<(), Stop> {
        match self.afl.record(usize::from(index)) {
            Some(record) => {
                self.phase = Phase::Record(index);
                self.send(&Command::read_record(record.sfi, record.record))
            }
            None if self.flow == Flow::Standard => self.authenticate(config, card),
            None => {
                self.phase = Phase::Over;
                Ok(())
            }
        }
    }

    fn record(
        &mut self,
        config: &Config,
        card: &mut Card,
        index: u8,
        status: Status,
        data: &[u8],
    ) -> Result<(), Stop> {
        if status != Status::Success {
            return Err(CARD_ERROR);
        }
        let record = self.afl.record(usize::from(index)).ok_or(CARD_ERROR)?;
        card.record(record.sfi, record.is_oda, data)?;
        self.read(config, card, index + 1)
    }

    /// Lets an older card sign.
    fn authenticate(&mut self, config: &Config, card: &mut Card) -> Result<(), Stop> {
        let list = Dol::parse(card.get(tags::DDOL).unwrap_or(DEFAULT_DDOL)).map_err(|_| CARD_ERROR)?;
        if !list.contains(tags::UNPREDICTABLE_NUMBER, 4) {
            return Err(Stop::Unproven(OdaFault::UnprotectedDdol));
        }
        // A signature that was there before it was asked for is none over this tap.
        if card.get(tags::SDAD).is_some() {
            return Err(CARD_ERROR);
        }
        let mut values = [0; MAX_PDOL_VALUES];
        let values = self.values(config, &list, &mut values)?;
        card.authenticates(values)?;
        self.phase = Phase::Authenticate;
        self.send(&Command::internal_authenticate(values))
    }

    fn signature(
        &mut self,
        config: &Config,
        card: &mut Card,
        status: Status,
        data: &[u8],
    ) -> Result<(), Stop> {
        if status != Status::Success {
            return Err(Stop::Unproven(OdaFault::Missing(tags::SDAD)));
        }
        card.signature(data)?;
        let list = Dol::parse(card.get(tags::CDOL1).ok_or(CARD_ERROR)?).map_err(|_| CARD_ERROR)?;
        let mut values = [0; MAX_PDOL_VALUES];
        let values = self.values(config, &list, &mut values)?;
        card.asks_cryptogram(values)?;
        self.phase = Phase::Cryptogram;
        self.send(&Command::generate_ac(ASK_ARQC, values))
    }

    fn cryptogram(&mut self, card: &mut Card, status: Status, data: &[u8]) -> Result<(), Stop> {
        if status != Status::Success {
            return Err(CARD_ERROR);
        }
        card.cryptogram(data)?;
        if card.atc().is_none() {
            return Err(CARD_ERROR);
        }
        self.phase = Phase::Over;
        Ok(())
    }

    /// The values of a list for an older card.
    fn values<'b>(
        &self,
        config: &Config,
        list: &Dol<'_>,
        out: &'b mut [u8; MAX_PDOL_VALUES],
    ) -> Result<&'b [u8], Stop> {
        check_size(list)?;
        let out = &mut out[..list.total_len()];
        self.fill(config, &STANDARD_TTQ, list, out)?;
        Ok(out)
    }

    /// Takes the values of a command that went out instead of the one in flight. False where it is no such command.
    pub(crate) fn sent(&self, card: &mut Card, command: &[u8]) -> bool {
        let Ok(theirs) = Command::parse(command) else { return false };
        if self.command.get(..2) != Some(&[theirs.cla, theirs.ins]) {
            return false;
        }
        match self.phase {
            Phase::Options => tlv::get(theirs.data, tags::COMMAND_TEMPLATE)
                .is_ok_and(|values| card.replace_pdol_values(values)),
            Phase::Authenticate => card.replace_ddol_values(theirs.data),
            Phase::Cryptogram => card.replace_cdol_values(theirs.data),
            _ => false,
        }
    }

    fn send(&mut self, command: &Command<'_>) -> Result<(), Stop> {
        self.repeated = false;
        self.command.resize_default(MAX_COMMAND).map_err(|_| CARD_ERROR)?;
        let len = command.encode(&mut self.command).map_err(|_| CARD_ERROR)?;
        self.command.truncate(len);
        self.count()
    }

    /// Sends the command in flight again with the length that the card named, once.
    fn repeat(&mut self, len: u8) -> Result<(), Stop> {
        if core::mem::replace(&mut self.repeated, true) {
            return Err(CARD_ERROR);
        }
        // Every command here ends in its Le.
        *self.command.last_mut().ok_or(CARD_ERROR)? = len;
        self.count()
    }

    fn count(&mut self) -> Result<(), Stop> {
        if self.sent == MAX_APDUS {
            return Err(CARD_ERROR);
        }
        self.sent += 1;
        Ok(())
    }

    /// The command to send, or `None` when there is no more.
    pub(crate) fn command(&self) -> Option<&[u8]> {
        (self.phase != Phase::Over).then_some(&self.command[..])
    }

    pub(crate) const fn phase(&self) -> Phase {
        self.phase
    }

    /// The applications that both sides know, in the order in which they are tried.
    pub(crate) fn choices(&self) -> impl Iterator<Item = Aid> {
        self.choices.iter().map(|choice| choice.aid)
    }

    /// How many of them made way for the next, and how many were tried.
    pub(crate) const fn progress(&self) -> (u8, u8) {
        (self.passed, self.tried)
    }

    /// True if the command to send is one that is timed.
    pub(crate) fn is_timed(&self) -> bool {
        self.phase == Phase::Timed
    }

    /// The exchange that was in time: entropy sent, then the answer.
    pub(crate) fn timed(&self) -> Option<&[u8]> {
        self.timed.as_ref().map(|timed| &timed[..])
    }

    /// True when the card has no more to say, or nobody listens any more.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// True if the card has said all that it was asked.
    pub(crate) fn is_complete(&self) -> bool {
        self.phase == Phase::Over && self.stop.is_none()
    }

    /// True once every record was read, whatever is still to be asked.
    pub(crate) fn has_records(&self) -> bool {
        matches!(self.phase, Phase::Authenticate | Phase::Cryptogram) || self.is_complete()
    }

    pub(crate) const fn flow(&self) -> Flow {
        self.flow
    }

    pub(crate) const fn stop(&self) -> Option<Stop> {
        self.stop
    }

    pub(crate) const fn tap(&self) -> &TapInput {
        &self.tap
    }

    pub(crate) const fn chosen(&self) -> Option<&AidConfig> {
        self.application.as_ref()
    }

    /// How SM2 cards sign.
    #[cfg(feature = "sm2")]
    pub(crate) const fn sm2(&self) -> &wavepass_protocol::sm2::Convention {
        &self.sm2
    }

    pub(crate) const fn exchange_us(&self) -> u32 {
        self.exchange_us
    }
}

/// Refuses a list that is longer, or asks for more, than is kept of it.
fn check_size(list: &Dol<'_>) -> Result<(), Stop> {
    if list.raw().len() > MAX_PDOL || list.total_len() > MAX_PDOL_VALUES {
        return Err(CARD_ERROR);
    }
    Ok(())
}

/// An amount as 12 digits of packed decimal; more digits than that are cut, and the configuration has none.
fn decimal_6(amount_fen: u64) -> [u8; 6] {
    let mut out = [0; 6];
    let mut rest = amount_fen;
    for byte in out.iter_mut().rev() {
        *byte = to_bcd((rest % 100) as u8);
        rest /= 100;
    }
    out
}
