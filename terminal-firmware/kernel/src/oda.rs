//! Offline data authentication: the gate proves the card genuine without a network, in three public key operations
//! that may run while the card still answers: issuer certificate, card certificate, the card's own signature.
//!
//! A suite is one [`Method`]; the order of the steps, the authority's key, revocation and remembered issuers are
//! common to all. Dates are looked at when the gate decides, for an expired card is not a forged one.

mod ecc;
mod fault;
mod issuers;
mod rsa;
#[cfg(feature = "sm2")]
mod sm2;

pub use fault::{OdaFault, SuiteError};
pub(crate) use issuers::Issuers;

use crate::card::Card;
use crate::config::AidConfig;
use crate::environment::{Environment, TapInput};
use crate::exchange::{Exchange, Flow, Stop};
use crate::limits::MAX_ISSUERS;
use issuers::Issuer;
use wavepass_protocol::ecc::{PublicKey, Verifier};
use wavepass_protocol::lists::{CaKey, Revocation, Suite};
use wavepass_protocol::rsa::{Exponent, MAX_MODULUS};
use wavepass_protocol::tags;
use wavepass_protocol::time::Date;
use wavepass_protocol::tlv::Tag;
use wavepass_protocol::token::{Expiry, Token};

const _: () = assert!(MAX_ISSUERS < 256, "a slot is named by one byte");

/// What a verified card certificate says.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "one lives in the kernel, which has no heap to box into")]
pub(crate) enum Certified {
    /// P-256: the card's key and the hash of its static data, which hold the token.
    P256 { key: PublicKey, static_hash: [u8; 32], expiry: Date, expired: bool },
    /// RSA: the certificate itself names the token.
    Rsa { token: Token, expiry: Expiry, modulus: heapless::Vec<u8, MAX_MODULUS>, exponent: Exponent },
    /// SM2: as RSA.
    #[cfg(feature = "sm2")]
    Sm2 { token: Token, expiry: Expiry, key: wavepass_protocol::sm2::PublicKey },
}

/// A step of authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Issuer,
    Card,
    Dynamic,
}

/// What a step looks at.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) card: &'a Card,
    pub(crate) tap: &'a TapInput,
    pub(crate) application: &'a AidConfig,
    pub(crate) suite: Suite,
    pub(crate) flow: Flow,
    /// True once every record was read: what certificates need and is not here now will not come.
    pub(crate) records: bool,
    /// True once the card has said all.
    pub(crate) complete: bool,
}

impl<'a> Context<'a> {
    /// An object that a step cannot do without.
    fn need(&self, tag: Tag) -> Result<&'a [u8], OdaFault> {
        self.card.get(tag).ok_or(OdaFault::Missing(tag))
    }

    fn today(&self) -> Date {
        Date::at(self.tap.now, self.tap.utc_offset_min)
    }
}

/// A suite: what differs between ways of proving a card genuine. Each of the first three does one public key
/// operation; inputs are there when `has_inputs` said so, or every record was read.
pub(crate) trait Method {
    /// True if what the step needs of the card has arrived.
    fn has_inputs(part: Part, cx: &Context<'_>) -> bool;
    /// Verifies the issuer's certificate under the authority's key.
    fn issuer(&mut self, cx: &Context<'_>, ca: &CaKey<'_>) -> Result<Issuer, OdaFault>;
    /// Verifies the card's certificate under the issuer's key.
    fn card(&mut self, cx: &Context<'_>, issuer: &Issuer) -> Result<Certified, OdaFault>;
    /// Verifies the card's own signature over this tap.
    fn dynamic(&mut self, cx: &Context<'_>, card: &Certified) -> Result<(), OdaFault>;
    /// Checks what needs no key, once all is there; gives the token that the certificates cover.
    fn token(cx: &Context<'_>, card: &Certified) -> Result<Token, OdaFault>;
}

/// What a genuine card's signatures say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proven {
    /// The token.
    pub(crate) token: Token,
    /// The last month of the card certificate, which bounds the token's expiry where that is not signed.
    pub(crate) card_expiry: Expiry,
    /// True if the issuer's or the card's certificate has expired.
    pub(crate) expired: bool,
}

/// How far authentication has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pending,
    Passed(Proven),
    Failed(OdaFault),
}

/// Authentication of one tap's card.
pub(crate) struct Oda {
    outcome: Outcome,
    issuer: Option<u8>,
    card: Option<Certified>,
    dynamic: bool,
}

impl Oda {
    pub(crate) const fn new() -> Self {
        Self { outcome: Outcome::Pending, issuer: None, card: None, dynamic: false }
    }

    pub(crate) const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Begins again from the issuer, unless it has ended.
    pub(crate) fn restart(&mut self) {
        if self.outcome == Outcome::Pending {
            *self = Self::new();
        }
    }

    /// Does the next step, if its inputs are there: at most one public key operation. True if there may be more to
    /// do now.
    pub(crate) fn step<V: Verifier, E: Environment>(
        &mut self,
        verifier: &mut V,
        issuers: &mut Issuers,
        exchange: &Exchange,
        card: &Card,
        env: &E,
    ) -> bool {
        if self.outcome != Outcome::Pending {
            return false;
        }
        match exchange.stop() {
            Some(Stop::Unproven(fault)) => {
                self.outcome = Outcome::Failed(fault);
                return false;
            }
            // Nothing can open any more, so nothing is worth verifying.
            Some(Stop::Refuse(_)) => return false,
            None => {}
        }
        let Some(application) = exchange.chosen() else { return false };
        let cx = Context {
            card,
            tap: exchange.tap(),
            application,
            suite: suite(application, card),
            flow: exchange.flow(),
            records: exchange.has_records(),
            complete: exchange.is_complete(),
        };
        let next = match cx.suite {
            Suite::P256 => self.advance(&mut ecc::Ecc(verifier), &cx, issuers, env),
            Suite::Rsa => self.advance(&mut rsa::Rsa, &cx, issuers, env),
            #[cfg(feature = "sm2")]
            Suite::Sm2 => self.advance(&mut sm2::Sm2(exchange.sm2()), &cx, issuers, env),
            // Refused when it was selected.
            #[cfg(not(feature = "sm2"))]
            Suite::Sm2 => Err(OdaFault::Suite),
        };
        match next {
            Ok(more) => more,
            Err(fault) => {
                self.outcome = Outcome::Failed(fault);
                false
            }
        }
    }

    fn advance<M: Method, E: Environment>(
        &mut self,
        method: &mut M,
        cx: &Context<'_>,
        issuers: &mut Issuers,
        env: &E,
    ) -> Result<bool, OdaFault> {
        let ready = |part| {
            let all = if part == Part::Dynamic { cx.complete } else { cx.records };
            all || M::has_inputs(part, cx)
        };
        let Some(slot) = self.issuer else {
            if !ready(Part::Issuer) {
                return Ok(false);
            }
            self.issuer = Some(take_issuer(method, cx, issuers, env)?);
            return Ok(true);
        };
        let issuer = issuers.get(slot).ok_or(OdaFault::Suite)?;
        let Some(card) = &self.card else {
            if !ready(Part::Card) {
                return Ok(false);
            }
            self.card = Some(method.card(cx, issuer)?);
            return Ok(true);
        };
        if !self.dynamic {
            if !ready(Part::Dynamic) {
                return Ok(false);
            }
            method.dynamic(cx, card)?;
            self.dynamic = true;
        }
        if cx.complete {
            let token = M::token(cx, card)?;
            self.outcome = Outcome::Passed(agree(cx, issuer, card, token)?);
        }
        Ok(false)
    }
}

/// How the card is to be proven. Where the gate serves RSA and SM2 under one identifier, the form of the issuer's
/// certificate tells; it decides nothing but which of the two is tried, and either is verified up to an authority's key
/// of its own suite.
pub(crate) fn suite(application: &AidConfig, card: &Card) -> Suite {
    #[cfg(feature = "sm2")]
    if application.sm2
        && let Some(certificate) = card.get(tags::ISSUER_CERTIFICATE)
    {
        use wavepass_protocol::sm2::IssuerCertificate;
        return if IssuerCertificate::is_one(certificate) { Suite::Sm2 } else { application.suite };
    }
    #[cfg(not(feature = "sm2"))]
    let _ = card;
    application.suite
}

/// The issuer of a card: remembered, or verified now and remembered. What may change between taps (the authority's
/// key, its expiry, revocation) is looked at every time.
fn take_issuer<M: Method, E: Environment>(
    method: &mut M,
    cx: &Context<'_>,
    issuers: &mut Issuers,
    env: &E,
) -> Result<u8, OdaFault> {
    let certificate = cx.need(tags::ISSUER_CERTIFICATE)?;
    let index = cx.card.array::<1>(tags::CA_INDEX).ok_or(OdaFault::Missing(tags::CA_INDEX))?[0];
    let rid = cx.card.aid().ok_or(OdaFault::Suite)?.rid();
    let ca = env.ca_key(&rid, index, cx.suite).ok_or(OdaFault::CaKeyUnknown)?;
    if ca.last_day().is_none_or(|last| Date::at(cx.tap.now, 0) > last) {
        return Err(OdaFault::CaKeyExpired);
    }
    let part = |tag| cx.card.get(tag).unwrap_or_default();
    let id =
        issuers::identity(&[certificate, part(tags::ISSUER_REMAINDER), part(tags::ISSUER_EXPONENT)], &ca);
    let slot = match issuers.find(&id) {
        Some(slot) => slot,
        None => {
            if !ca.check_value_matches() {
                return Err(OdaFault::CaKeyCheckValue);
            }
            issuers.remember(id, method.issuer(cx, &ca)?)
        }
    };
    let serial = issuers.get(slot).ok_or(OdaFault::Suite)?.serial;
    if env.is_revoked(&Revocation { rid, index, serial }) {
        return Err(OdaFault::IssuerRevoked);
    }
    Ok(slot)
}

/// Checks that every copy of the token and of its expiry is the one that is signed.
fn agree(cx: &Context<'_>, issuer: &Issuer, card: &Certified, token: Token) -> Result<Proven, OdaFault> {
    if !issuer.begins(&token) {
        return Err(OdaFault::IssuerIdentifier);
    }
    if cx.card.get(tags::PAN).is_some_and(|pan| Token::from_bcd(pan) != Ok(token)) {
        return Err(OdaFault::TokenDisagrees(tags::PAN));
    }
    if let Some(value) = cx.card.get(tags::TRACK2) {
        let (other, expiry) = crate::track2::parse(value).ok_or(OdaFault::TokenDisagrees(tags::TRACK2))?;
        if other != token {
            return Err(OdaFault::TokenDisagrees(tags::TRACK2));
        }
        let stated = cx.card.array(tags::EXPIRY_DATE).and_then(|date| Date::from_yymmdd(date).ok());
        if stated.is_some_and(|stated| stated.expiry() != expiry) {
            return Err(OdaFault::ExpiryDisagrees);
        }
    }
    let (card_expiry, card_expired) = match *card {
        Certified::P256 { expiry, expired, .. } => (expiry.expiry(), expired),
        Certified::Rsa { expiry, .. } => (expiry, cx.today() > Date::last_of(expiry)),
        #[cfg(feature = "sm2")]
        Certified::Sm2 { expiry, .. } => (expiry, cx.today() > Date::last_of(expiry)),
    };
    Ok(Proven { token, card_expiry, expired: card_expired || issuer.expired(cx) })
}
