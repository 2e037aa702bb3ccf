//! The way that a tap took through the kernel, for people who watch it. Nothing here decides, and a host that does not
//! ask pays nothing.

use crate::exchange::Exchange;
use crate::oda::{Certified, Issuers, Oda};
use wavepass_protocol::lists::Suite;
use wavepass_protocol::select::Aid;
use wavepass_protocol::time::Date;

/// What the command in flight is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// SELECT of the contactless directory.
    Directory,
    /// SELECT of an application.
    Application,
    /// The exchange that is timed.
    Timed,
    /// GET PROCESSING OPTIONS.
    Options,
    /// READ RECORD; the place in the order of the file locator, from 0.
    Record(u8),
    /// INTERNAL AUTHENTICATE, an older card.
    Authenticate,
    /// GENERATE AC, an older card.
    Cryptogram,
    /// None is: the exchange is over.
    Over,
}

/// What became of an application that both card and gate know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The card did not select it, or it withdrew when asked for its processing options.
    PassedOver,
    /// The tap goes on, or ended, with it.
    Taken,
    /// Its turn did not come.
    NotTried,
}

/// How far the proof has come. What is there has verified; why the next step failed is in
/// [`crate::Facts::oda_fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// The issuer, whose certificate is an authority's, now or at a tap before.
    pub issuer: Option<ProvenIssuer>,
    /// The card, whose certificate is the issuer's.
    pub card: Option<ProvenCard>,
    /// True once the card's own signature verified.
    pub dynamic: bool,
}

/// What a verified issuer certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenIssuer {
    /// The suite of its key.
    pub suite: Suite,
    /// Bits of its key.
    pub key_bits: u16,
    /// The first digits of its tokens, packed, padded with F.
    pub issuer_id: [u8; 5],
    /// Serial number.
    pub serial: [u8; 3],
    /// The last day on which the certificate is good.
    pub last_day: Date,
}

/// What a verified card certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenCard {
    /// Bits of its key.
    pub key_bits: u16,
    /// The last day on which the certificate is good.
    pub last_day: Date,
}

/// What both sides know, in the order in which it is tried.
pub(crate) fn choices(exchange: &Exchange) -> impl Iterator<Item = (Aid, Fate)> {
    let (passed, tried) = exchange.progress();
    exchange.choices().zip(0u8..).map(move |(aid, place)| {
        let fate = match place {
            place if place < passed => Fate::PassedOver,
            place if place < tried => Fate::Taken,
            _ => Fate::NotTried,
        };
        (aid, fate)
    })
}

pub(crate) fn proof(oda: &Oda, issuers: &Issuers) -> Proof {
    let issuer = oda.issuer().and_then(|slot| issuers.get(slot)).map(|issuer| ProvenIssuer {
        suite: issuer.key.suite(),
        key_bits: issuer.key.bits(),
        issuer_id: issuer.issuer_id,
        serial: issuer.serial,
        last_day: issuer.expiry,
    });
    Proof { issuer, card: oda.card().map(Certified::described), dynamic: oda.has_signed() }
}
