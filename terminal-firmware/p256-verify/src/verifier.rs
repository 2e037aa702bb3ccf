//! The verifier: signatures in, verdicts out, and the tables of the keys that it was asked to remember.

use crate::comb::{Builder, KeyTables, NO_TABLES};
use crate::combine;
use crate::curve::Affine;
use crate::scalar::Scalar;
use sha2::{Digest, Sha256};
use wavepass_protocol::ecc::{PublicKey, SIGNATURE_LEN, Verifier};

/// Verifies signatures, faster under keys that it remembers: room for `KEYS` of them. No `Debug`: a card's key tells
/// riders apart.
///
/// A key's tables are made by [`Verifier::prepare`] after [`Verifier::remember`] asked for them; until then, and for
/// all other keys, verifying takes about twice as long. The key unused for longest makes way.
pub struct FastVerifier<const KEYS: usize> {
    slots: [Slot; KEYS],
    building: Option<Building>,
    /// Counts uses of tables.
    clock: u32,
}

struct Slot {
    /// None while the tables are not those of any key.
    key: Option<PublicKey>,
    used: u32,
    tables: KeyTables,
}

/// Tables in the making, in a slot that has no key yet.
struct Building {
    key: PublicKey,
    slot: usize,
    /// None before the first step.
    builder: Option<Builder>,
}

impl<const KEYS: usize> FastVerifier<KEYS> {
    /// A verifier that remembers no key.
    pub const fn new() -> Self {
        Self {
            slots: [const { Slot { key: None, used: 0, tables: NO_TABLES } }; KEYS],
            building: None,
            clock: 0,
        }
    }

    /// Forgets every key.
    pub fn forget(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.key = None);
        self.building = None;
    }

    /// True if the key's tables are ready.
    pub fn remembers(&self, key: &PublicKey) -> bool {
        self.slots.iter().any(|slot| slot.key.as_ref() == Some(key))
    }

    fn tables(&mut self, key: &PublicKey) -> Option<&KeyTables> {
        self.clock = self.clock.wrapping_add(1);
        let slot = self.slots.iter_mut().find(|slot| slot.key.as_ref() == Some(key))?;
        slot.used = self.clock;
        Some(&slot.tables)
    }

    /// A slot without a key, or else the one unused for longest.
    fn free_slot(&self) -> Option<usize> {
        let age = |slot: &Slot| slot.key.map_or(u32::MAX, |_| self.clock.wrapping_sub(slot.used));
        self.slots.iter().enumerate().max_by_key(|(_, slot)| age(slot)).map(|(place, _)| place)
    }

    fn check(&mut self, key: &PublicKey, message: &[&[u8]], signature: &[u8; SIGNATURE_LEN]) -> Option<()> {
        let (r, s) = signature.split_first_chunk::<32>()?;
        let s = Scalar::from_be_bytes(s.try_into().ok()?)?;
        // r is a hash, so it may lie above the group's order.
        let r_scalar = Scalar::reduce(r)?;
        let sum = match self.tables(key) {
            Some(tables) => combine::with_tables(&s, &r_scalar, tables),
            None => combine::without_tables(&s, &r_scalar, &Affine::from_x(key.x())?),
        };
        let mut hash = Sha256::new_with_prefix(sum.affine_x()?);
        message.iter().for_each(|part| hash.update(part));
        (hash.finalize()[..] == r[..]).then_some(())
    }
}

impl<const KEYS: usize> Default for FastVerifier<KEYS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const KEYS: usize> Verifier for FastVerifier<KEYS> {
    fn verify(&mut self, key: &PublicKey, message: &[&[u8]], signature: &[u8; SIGNATURE_LEN]) -> bool {
        self.check(key, message, signature).is_some()
    }

    fn remember(&mut self, key: &PublicKey) {
        // One at a time: a key that is worth it will be asked for again.
        if self.building.is_some() || self.remembers(key) {
            return;
        }
        let Some(slot) = self.free_slot() else { return };
        self.slots[slot].key = None;
        self.building = Some(Building { key: *key, slot, builder: None });
    }

    fn prepare(&mut self) -> bool {
        let Some(building) = &mut self.building else { return false };
        let slot = &mut self.slots[building.slot];
        let more = match &mut building.builder {
            Some(builder) => builder.step(&mut slot.tables),
            None => match Affine::from_x(building.key.x()) {
                Some(point) => {
                    building.builder = Some(Builder::new(&point, &mut slot.tables));
                    true
                }
                None => {
                    self.building = None;
                    return false;
                }
            },
        };
        if !more {
            slot.key = Some(building.key);
            slot.used = self.clock;
            self.building = None;
        }
        more
    }
}

#[cfg(test)]
mod tests;
