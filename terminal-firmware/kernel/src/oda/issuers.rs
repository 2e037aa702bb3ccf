//! Issuers whose certificate verified, remembered so that a regular tap verifies two signatures, not three.
//!
//! A slot is found by the hash of the certificate and of the authority's key, so a changed bit in either finds
//! nothing. Expiry and revocation are not remembered: they are looked at on every tap.

use super::Context;
use crate::limits::MAX_ISSUERS;
use sha2::{Digest, Sha256};
use wavepass_protocol::ecc::PublicKey;
use wavepass_protocol::lists::CaKey;
use wavepass_protocol::rsa::{Exponent, MAX_MODULUS};
use wavepass_protocol::time::Date;
use wavepass_protocol::token::Token;

/// An issuer's public key.
#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a slot is as large as its largest key; there is no heap to box into"
)]
pub(crate) enum IssuerKey {
    P256(PublicKey),
    Rsa {
        modulus: heapless::Vec<u8, MAX_MODULUS>,
        exponent: Exponent,
    },
    #[cfg(feature = "sm2")]
    Sm2(wavepass_protocol::sm2::PublicKey),
}

/// What a verified issuer certificate says.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) key: IssuerKey,
    /// The first digits of its tokens, padded with F.
    pub(crate) issuer_id: [u8; 5],
    pub(crate) serial: [u8; 3],
    /// The last day on which the certificate is good.
    pub(crate) expiry: Date,
}

impl Issuer {
    /// True if the token is one of this issuer's.
    pub(crate) fn begins(&self, token: &Token) -> bool {
        token.starts_with_bcd(&self.issuer_id)
    }

    /// True past its last day: in UTC for P-256 certificates, in civil time for those that name a month.
    pub(crate) fn expired(&self, cx: &Context<'_>) -> bool {
        let today = match self.key {
            IssuerKey::P256(_) => Date::at(cx.tap.now, 0),
            IssuerKey::Rsa { .. } => cx.today(),
            #[cfg(feature = "sm2")]
            IssuerKey::Sm2(_) => cx.today(),
        };
        today > self.expiry
    }
}

/// What finds a remembered issuer.
pub(crate) type Identity = [u8; 32];

/// The hash of everything that the verification of an issuer certificate depends on. Lengths go before parts, so
/// that bytes cannot move from one part to the next.
pub(crate) fn identity(certificate: &[&[u8]; 3], ca: &CaKey<'_>) -> Identity {
    let mut hash = Sha256::new_with_prefix(ca.rid);
    hash.update([ca.index, ca.suite as u8]);
    for part in certificate.iter().copied().chain([ca.key, ca.exponent]) {
        hash.update((part.len() as u32).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

struct Slot {
    id: Identity,
    /// When it was last used, in taps.
    used: u32,
    issuer: Issuer,
}

/// The remembered issuers; the one unused for longest makes way.
pub(crate) struct Issuers {
    slots: heapless::Vec<Slot, MAX_ISSUERS>,
    clock: u32,
}

impl Issuers {
    pub(crate) const fn new() -> Self {
        Self { slots: heapless::Vec::new(), clock: 0 }
    }

    pub(crate) fn forget(&mut self) {
        self.slots.clear();
    }

    pub(crate) fn get(&self, slot: u8) -> Option<&Issuer> {
        self.slots.get(usize::from(slot)).map(|slot| &slot.issuer)
    }

    pub(crate) fn find(&mut self, id: &Identity) -> Option<u8> {
        self.clock = self.clock.wrapping_add(1);
        let place = self.slots.iter().position(|slot| slot.id == *id)?;
        self.slots[place].used = self.clock;
        Some(place as u8)
    }

    pub(crate) fn remember(&mut self, id: Identity, issuer: Issuer) -> u8 {
        let clock = self.clock;
        let slot = Slot { id, used: clock, issuer };
        match self.slots.push(slot) {
            Ok(()) => (self.slots.len() - 1) as u8,
            Err(slot) => {
                let age = |slot: &Slot| clock.wrapping_sub(slot.used);
                let oldest =
                    self.slots.iter().enumerate().max_by_key(|(_, slot)| age(slot)).map_or(0, |(i, _)| i);
                self.slots[oldest] = slot;
                oldest as u8
            }
        }
    }
}
