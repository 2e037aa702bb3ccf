//! Known answers at start: a gate whose arithmetic is wrong must not open.

use sha2::{Digest, Sha256};
use wavepass_protocol::dukpt::{self, Key, KeyId, Ksn, Usage};
use wavepass_protocol::ecc::{PublicKey, SIGNATURE_LEN, Verifier};
use wavepass_protocol::rsa::{Exponent, RsaKey, recover};

/// What a gate found wrong with itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SelfTestError {
    /// SHA-256.
    Hash,
    /// AES or the key derivation on it.
    Dukpt,
    /// P-256: a good signature was refused, or a bad one taken.
    P256,
    /// The RSA public operation.
    Rsa,
}

/// The x coordinate of the curve's generator, SEC 2.
const GENERATOR_X: [u8; 32] = [
    0x6B, 0x17, 0xD1, 0xF2, 0xE1, 0x2C, 0x42, 0x47, 0xF8, 0xBC, 0xE6, 0xE5, 0x63, 0xA4, 0x40, 0xF2, 0x77,
    0x03, 0x7D, 0x81, 0x2D, 0xEB, 0x33, 0xA0, 0xF4, 0xA1, 0x39, 0x45, 0xD8, 0x98, 0xC2, 0x96,
];
/// SHA-256 of "abc", FIPS 180-4's example.
const ABC: [u8; 32] = [
    0xBA, 0x78, 0x16, 0xBF, 0x8F, 0x01, 0xCF, 0xEA, 0x41, 0x41, 0x40, 0xDE, 0x5D, 0xAE, 0x22, 0x23, 0xB0,
    0x03, 0x61, 0xA3, 0x96, 0x17, 0x7A, 0x9C, 0xB4, 0x10, 0xFF, 0x61, 0xF2, 0x00, 0x15, 0xAD,
];
/// ANSI X9.24-3, base key FEDCBA9876543210F1F1F1F1F1F1F1F1: the data key of counter 1.
const INITIAL: [u8; 16] =
    [0x12, 0x73, 0x67, 0x1E, 0xA2, 0x6A, 0xC2, 0x9A, 0xFA, 0x4D, 0x10, 0x84, 0x12, 0x76, 0x52, 0xA1];
const KEY_ID: [u8; 8] = [0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56];
const DATA_KEY: [u8; 16] =
    [0xA3, 0x5C, 0x41, 0x2E, 0xFD, 0x41, 0xFD, 0xB9, 0x8B, 0x69, 0x79, 0x7C, 0x02, 0xDC, 0xD0, 0x8F];

/// Tries every primitive that a decision or a seal rests on.
pub fn self_test<V: Verifier>(verifier: &mut V) -> Result<(), SelfTestError> {
    if Sha256::digest(b"abc")[..] != ABC {
        return Err(SelfTestError::Hash);
    }
    let ksn = Ksn { key_id: KeyId(KEY_ID), counter: 1 };
    let key = dukpt::working_key(&Key::new(INITIAL), ksn, Usage::DataEncrypt);
    if key.is_none_or(|key| *key.bytes() != DATA_KEY) {
        return Err(SelfTestError::Dukpt);
    }
    if p256_fails(verifier) {
        return Err(SelfTestError::P256);
    }
    if rsa_fails() { Err(SelfTestError::Rsa) } else { Ok(()) }
}

/// A signature of the private key 1 with the secret multiplier 1: r = H(x(G) ‖ M), s = 1 + r.
fn p256_fails<V: Verifier>(verifier: &mut V) -> bool {
    const MESSAGE: &[u8] = b"wavepass self-test";
    let r = Sha256::new().chain_update(GENERATOR_X).chain_update(MESSAGE).finalize();
    let mut signature = [0; SIGNATURE_LEN];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&r);
    // The hash of this message does not end in FF, so that the sum has no carry; a test says so.
    signature[SIGNATURE_LEN - 1] = signature[SIGNATURE_LEN - 1].wrapping_add(1);
    let key = PublicKey::from_x(GENERATOR_X);
    let good = verifier.verify(&key, &[MESSAGE], &signature);
    // To r + 2. (Not to r − 1: that leads to −G, which has the same x, and verifies.)
    signature[SIGNATURE_LEN - 1] ^= 1;
    let bad = verifier.verify(&key, &[MESSAGE], &signature);
    !good || bad
}

/// (2^400 + 1)³ modulo 2^1024 − 1 is 2^800·3 + 2^400·3 + 2^176 + 1.
fn rsa_fails() -> bool {
    const LEN: usize = 128;
    let bit = |number: &mut [u8; LEN], at: usize| number[LEN - 1 - at / 8] |= 1 << (at % 8);
    let mut base = [0; LEN];
    [400, 0].into_iter().for_each(|at| bit(&mut base, at));
    let mut cube = [0; LEN];
    [801, 800, 401, 400, 176, 0].into_iter().for_each(|at| bit(&mut cube, at));
    let modulus = [0xFF; LEN];
    let mut out = [0; LEN];
    let done = RsaKey::new(&modulus, Exponent::Three).and_then(|key| recover(&key, &base, &mut out));
    done.is_err() || out != cube
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavepass_protocol::ecc::P256Verifier;

    #[test]
    fn a_sound_gate_passes() {
        assert_eq!(self_test(&mut P256Verifier), Ok(()));
    }

    #[test]
    fn a_verifier_that_always_says_the_same_is_found() {
        struct Always(bool);
        impl Verifier for Always {
            fn verify(&mut self, _: &PublicKey, _: &[&[u8]], _: &[u8; SIGNATURE_LEN]) -> bool {
                self.0
            }
        }
        assert_eq!(self_test(&mut Always(true)), Err(SelfTestError::P256));
        assert_eq!(self_test(&mut Always(false)), Err(SelfTestError::P256));
    }
}
