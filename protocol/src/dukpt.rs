//! AES DUKPT after ANSI X9.24-3 (2017), AES-128 only: one key per counter value, device side and host side.
//!
//! The key of a counter derives from the key of the counter without its lowest set bit; a counter has at most
//! 16 bits set. The device holds one intermediate key per bit ("register"), never the initial key. The host
//! derives any key from the base key without state.

use aes::Aes128;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Most bits set in a counter, so that the host's work is bounded.
const MAX_ONES: u32 = 16;

/// An AES-128 key. No `Debug`, wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 16]);

impl Key {
    /// Takes key bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The key bytes, for the cipher or a sealed store.
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Which initial key: 8 bytes, chosen by the host for each gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 8]);

/// Key serial number: which initial key, and which counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ksn {
    /// The initial key.
    pub key_id: KeyId,
    /// The counter, from 1.
    pub counter: u32,
}

impl Ksn {
    /// The 12 bytes on the wire: key id, then the counter, big-endian.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut out = [0; 12];
        out[..8].copy_from_slice(&self.key_id.0);
        out[8..].copy_from_slice(&self.counter.to_be_bytes());
        out
    }

    /// Reads the 12 bytes.
    pub fn from_bytes(bytes: &[u8; 12]) -> Self {
        let (id, counter) = bytes.split_at(8);
        let mut key_id = [0; 8];
        key_id.copy_from_slice(id);
        let counter = counter.iter().fold(0, |n, &b| n << 8 | u32::from(b));
        Self { key_id: KeyId(key_id), counter }
    }

    /// True for counters that the scheme uses: not 0, at most 16 bits set.
    pub const fn is_valid(self) -> bool {
        self.counter != 0 && self.counter.count_ones() <= MAX_ONES
    }
}

/// What a derived key is for (X9.24-3, key usage indicator).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Usage {
    /// The device's initial key.
    InitialKey = 0x8001,
    /// An intermediate key.
    Derivation = 0x8000,
    /// PIN encryption.
    Pin = 0x1000,
    /// Message authentication, generation.
    MacGenerate = 0x2000,
    /// Data encryption: what a sealed tap uses.
    DataEncrypt = 0x3000,
}

fn derive(parent: &[u8; 16], usage: Usage, context: [u8; 8]) -> Key {
    let mut block: Block<Aes128> = Default::default();
    block[0] = 1; // version
    block[1] = 1; // key block counter
    block[2..4].copy_from_slice(&(usage as u16).to_be_bytes());
    block[4..6].copy_from_slice(&2u16.to_be_bytes()); // AES-128
    block[6..8].copy_from_slice(&128u16.to_be_bytes()); // bits
    block[8..].copy_from_slice(&context);
    Aes128::new(&(*parent).into()).encrypt_block(&mut block);
    let mut key = Key([0; 16]);
    key.0.copy_from_slice(&block);
    block.as_mut_slice().zeroize();
    key
}

fn context(key_id: KeyId, counter: u32) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&key_id.0[4..]);
    out[4..].copy_from_slice(&counter.to_be_bytes());
    out
}

/// The initial key of a device, from the base derivation key.
pub fn initial_key(base: &Key, key_id: KeyId) -> Key {
    derive(&base.0, Usage::InitialKey, key_id.0)
}

/// Host side: the working key of a KSN, from the device's initial key; at most 17 AES blocks.
///
/// `None` if the counter is not one the scheme uses.
pub fn working_key(initial: &Key, ksn: Ksn, usage: Usage) -> Option<Key> {
    if !ksn.is_valid() {
        return None;
    }
    let mut key = initial.clone();
    let mut prefix = 0u32;
    for bit in (0..32).rev().map(|i| 1u32 << i) {
        if ksn.counter & bit != 0 {
            prefix |= bit;
            key = derive(&key.0, Usage::Derivation, context(ksn.key_id, prefix));
        }
    }
    Some(derive(&key.0, usage, context(ksn.key_id, ksn.counter)))
}

/// Where a device keeps its intermediate keys: 32 registers.
pub type Registers = [Option<Key>; 32];

/// Registers of a new device, from its initial key, which may be forgotten afterwards.
pub fn initial_registers(initial: &Key, key_id: KeyId) -> Registers {
    core::array::from_fn(|bit| Some(derive(&initial.0, Usage::Derivation, context(key_id, 1 << bit))))
}

/// One step of the device to its next counter, planned before any of it is made durable.
///
/// Apply in this order, each durable before the next: put `children`, move the counter to `counter`, erase
/// `register`; only then use `key`. A cut anywhere leaves a state from which [`plan`] gives the same or a
/// later counter, never one whose key was used.
pub struct Advance {
    /// The new counter.
    pub counter: u32,
    /// The register whose key is used up.
    pub register: usize,
    /// The working key, to be used once.
    pub key: Key,
    /// Keys to put in registers `0..register`; empty where no later counter would use them.
    pub children: heapless::Vec<Key, 31>,
}

/// Why a device cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DukptError {
    /// Every counter has been used.
    Exhausted,
    /// The register that the next counter needs is empty: the store lost it.
    RegisterEmpty(usize),
}

/// The counter after `counter`, or `None` when the scheme has no more.
pub fn next_counter(counter: u32) -> Option<u32> {
    if counter.count_ones() < MAX_ONES {
        counter.checked_add(1)
    } else {
        counter.checked_add(counter & counter.wrapping_neg())
    }
}

/// Device side: plans the step from `counter` (0 for a new device) to the next.
pub fn plan(key_id: KeyId, counter: u32, registers: &Registers, usage: Usage) -> Result<Advance, DukptError> {
    let next = next_counter(counter).ok_or(DukptError::Exhausted)?;
    let register = next.trailing_zeros() as usize;
    let current = registers[register].as_ref().ok_or(DukptError::RegisterEmpty(register))?;
    let mut children = heapless::Vec::new();
    if next.count_ones() < MAX_ONES {
        for bit in 0..register {
            // At most 31 children: the register is below 32.
            let _ = children.push(derive(&current.0, Usage::Derivation, context(key_id, next | 1 << bit)));
        }
    }
    Ok(Advance { counter: next, register, key: derive(&current.0, usage, context(key_id, next)), children })
}

/// True if a device whose counter stands at `counter` has used up that register: start-up erases it.
pub const fn is_used_up(counter: u32, register: usize) -> bool {
    counter >> register & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    // Test vectors of ANSI X9.24-3 (2017), AES-128, as listed in docs/formats.md.
    const ID: KeyId = KeyId([0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56]);

    fn hex(text: &str) -> [u8; 16] {
        core::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
    }

    fn standard_initial_key() -> Key {
        initial_key(&Key::new(hex("FEDCBA9876543210F1F1F1F1F1F1F1F1")), ID)
    }

    #[test]
    fn the_standard_s_initial_key() {
        assert_eq!(standard_initial_key().0, hex("1273671EA26AC29AFA4D1084127652A1"));
    }

    #[test]
    fn the_standard_s_working_keys() {
        let ik = standard_initial_key();
        let key = |counter, usage| working_key(&ik, Ksn { key_id: ID, counter }, usage).unwrap().0;
        assert_eq!(key(1, Usage::Pin), hex("AF8CB133A78F8DC2D1359F18527593FB"));
        assert_eq!(key(1, Usage::MacGenerate), hex("A2DC23DE6FDE0824A2BC321E08E4B8B7"));
        assert_eq!(key(1, Usage::DataEncrypt), hex("A35C412EFD41FDB98B69797C02DCD08F"));
        assert_eq!(key(2, Usage::Pin), hex("D30BDC73EC9714B000BEC66BDB7B6D09"));
        assert_eq!(key(8_675_309, Usage::Pin), hex("D1DDA386AA4A556AF0119FDCB5D132C6"));
        let registers = initial_registers(&ik, ID);
        assert_eq!(registers[0].as_ref().unwrap().0, hex("4F21B565BAD9835E112B6465635EAE44"));
    }

    #[test]
    fn device_and_host_agree_and_no_register_outlives_its_counter() {
        let ik = standard_initial_key();
        let mut registers = initial_registers(&ik, ID);
        let mut counter = 0;
        for _ in 0..5_000 {
            let step = plan(ID, counter, &registers, Usage::DataEncrypt).unwrap();
            for (i, child) in step.children.iter().enumerate() {
                registers[i] = Some(child.clone());
            }
            counter = step.counter;
            registers[step.register] = None;
            let host = working_key(&ik, Ksn { key_id: ID, counter }, Usage::DataEncrypt).unwrap();
            assert_eq!(step.key.0, host.0, "counter {counter}");
            for (i, register) in registers.iter().enumerate() {
                assert_eq!(register.is_none(), is_used_up(counter, i), "counter {counter} register {i}");
            }
        }
    }

    #[test]
    fn counters_with_too_many_ones_are_passed_over() {
        assert_eq!(next_counter(0xFFFF), Some(0x1_0000));
        assert_eq!(next_counter(0x1_FFFE), Some(0x2_0000));
        assert_eq!(next_counter(0xFFFF_0000), None);
        let ik = standard_initial_key();
        assert!(working_key(&ik, Ksn { key_id: ID, counter: 0x1_FFFF }, Usage::Pin).is_none());
        assert!(working_key(&ik, Ksn { key_id: ID, counter: 0 }, Usage::Pin).is_none());
    }
}
