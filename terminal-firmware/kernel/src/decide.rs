//! The gate's decision, in its fixed order: first whether the card is genuine, then whether this ride may be taken
//! with it. Everything that opens a gate is asked here.

use crate::card::Card;
use crate::config::{AidConfig, Config};
use crate::environment::{Asked, Environment, Passback, TapInput};
use crate::exchange::{Exchange, Stop};
use crate::oda::{Oda, Outcome, Proven};
use wavepass_protocol::lists::Suite;
use wavepass_protocol::tags;
use wavepass_protocol::tap::Reason;
use wavepass_protocol::time::Date;
use wavepass_protocol::tlv;

/// Bit 1 of byte 2 of the application interchange profile: the card can be timed.
const AIP_TIMED: u8 = 0x01;

/// What the gate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It opens.
    Open {
        /// True for the same tap again: it opened a moment ago and nobody went through.
        again: bool,
    },
    /// It does not.
    Refuse(Reason),
}

/// The decision, once exchange and authentication have ended and the deny list was asked.
pub(crate) fn decide<E: Environment>(
    config: &Config,
    exchange: &Exchange,
    card: &Card,
    oda: &Oda,
    env: &E,
) -> Option<Decision> {
    let verdict = match ask(config, exchange, card, oda)? {
        Ok(asked) => match env.denied(&asked)? {
            true => Err(Reason::Denied),
            false => after_list(exchange.tap(), &asked, env),
        },
        Err(reason) => Err(reason),
    };
    Some(match verdict {
        Ok(again) => Decision::Open { again },
        Err(reason) => Decision::Refuse(reason),
    })
}

/// What the deny list is asked, where nothing that comes before it in the order refuses; `None` while the card still
/// has to answer or verification is pending.
pub(crate) fn ask(
    config: &Config,
    exchange: &Exchange,
    card: &Card,
    oda: &Oda,
) -> Option<Result<Asked, Reason>> {
    if !exchange.is_over() {
        return None;
    }
    match (exchange.stop(), oda.outcome()) {
        (Some(Stop::Refuse(reason)), _) => Some(Err(reason)),
        (Some(Stop::Unproven(_)), _) | (None, Outcome::Failed(_)) => Some(Err(Reason::AuthenticationFailed)),
        (None, Outcome::Pending) => None,
        (None, Outcome::Passed(proven)) => {
            let application = exchange.chosen()?;
            if config.relay.is_some() && application.suite == Suite::P256 && !was_near(exchange, card) {
                return Some(Err(Reason::RelaySuspected));
            }
            Some(before_list(config, application, exchange.tap(), card, &proven))
        }
    }
}

/// Whether the card itself was in time, by what it signs: that it can be timed, and which exchange it had. An offer
/// that somebody took out of the answer to SELECT, and an answer that was not the card's, are found here. A card that
/// cannot be timed is taken as it is.
fn was_near(exchange: &Exchange, card: &Card) -> bool {
    let can = card.array::<2>(tags::AIP).is_some_and(|[_, byte]| byte & AIP_TIMED != 0);
    match exchange.timed() {
        None => !can,
        Some(timed) => can && tlv::find(card.response(), tags::TIMED_EXCHANGE) == Ok(Some(timed)),
    }
}

/// Whether a genuine card may ride, up to the deny list.
fn before_list(
    config: &Config,
    application: &AidConfig,
    tap: &TapInput,
    card: &Card,
    proven: &Proven,
) -> Result<Asked, Reason> {
    if !has_arqc(card) {
        return Err(Reason::NoCryptogram);
    }
    if card.atc().is_none_or(|atc| atc == 0) {
        return Err(Reason::UnusedCard);
    }
    check_dates(Date::at(tap.now, tap.utc_offset_min), card, proven)?;
    check_domain(config, application, card)?;
    let expiry = signed_date(card, tags::EXPIRY_DATE)?.map(Date::expiry);
    Ok(Asked { token: proven.token, expiry })
}

/// Whether a card that is not denied may ride; true where it is the same tap again.
fn after_list<E: Environment>(tap: &TapInput, asked: &Asked, env: &E) -> Result<bool, Reason> {
    if env.list_stale(tap.now) {
        return Err(Reason::ListStale);
    }
    match env.passback(&asked.token, tap.now) {
        Passback::Clear => Ok(false),
        Passback::SameTap => Ok(true),
        Passback::Refuse => Err(Reason::Passback),
    }
}

/// True if the card gave a cryptogram for the bank to authorise. Where it does not name its kind (9F27), bits 6 and 5
/// of byte 5 of the issuer application data do.
fn has_arqc(card: &Card) -> bool {
    const ARQC: u8 = 0b10;
    let kind = match card.array::<1>(tags::CID) {
        Some([cid]) => Some(cid >> 6),
        None => card.get(tags::IAD).and_then(|iad| iad.get(4)).map(|byte| byte >> 4 & 0b11),
    };
    kind == Some(ARQC) && card.get(tags::CRYPTOGRAM).is_some()
}

/// A date that the card certificate covers. One that is no date was certified so: the card is broken, not forged.
fn signed_date(card: &Card, tag: wavepass_protocol::tlv::Tag) -> Result<Option<Date>, Reason> {
    let Some(value) = card.signed(tag) else { return Ok(None) };
    let value = value.try_into().map_err(|_| Reason::CardError)?;
    Date::from_yymmdd(value).map(Some).map_err(|_| Reason::CardError)
}

/// Certificates, the token's expiry and its effective date. An expiry that is not signed is only ever believed where
/// it speaks against the card; else the card certificate's bounds it.
fn check_dates(today: Date, card: &Card, proven: &Proven) -> Result<(), Reason> {
    let stated = match signed_date(card, tags::EXPIRY_DATE)? {
        Some(date) => Some(date),
        None => card.array(tags::EXPIRY_DATE).and_then(|date| Date::from_yymmdd(date).ok()),
    };
    if proven.expired || stated.is_some_and(|last| today > last) {
        return Err(Reason::Expired);
    }
    if signed_date(card, tags::EFFECTIVE_DATE)?.is_some_and(|first| today < first) {
        return Err(Reason::NotYetValid);
    }
    Ok(())
}

/// The token's domain (DF71), from signed data alone: version 01, domain 01 (transit), network, operator (0: any).
fn check_domain(config: &Config, application: &AidConfig, card: &Card) -> Result<(), Reason> {
    let accepted = match card.signed(tags::DOMAIN) {
        None => !application.domain_required,
        Some([0x01, 0x01, network @ .., high, low]) => {
            let operator = u16::from_be_bytes([*high, *low]);
            network == config.network && (operator == 0 || operator == config.operator)
        }
        Some(_) => false,
    };
    if accepted { Ok(()) } else { Err(Reason::NotAcceptedHere) }
}
