//! A known answer, for a gate to check its own arithmetic when power comes: every function of the assembler, the
//! generator's table and a key's tables take part in it.

use crate::FastVerifier;
use wavepass_protocol::ecc::{PublicKey, SIGNATURE_LEN, Verifier};

/// The public key of the private number 01 02 03 … 20.
const KEY: PublicKey = PublicKey::from_x([
    0x51, 0x5C, 0x3D, 0x6E, 0xB9, 0xE3, 0x96, 0xB9, 0x04, 0xD3, 0xFE, 0xCA, 0x7F, 0x54, 0xFD, 0xCD, 0x0C,
    0xC1, 0xE9, 0x97, 0xBF, 0x37, 0x5D, 0xCA, 0x51, 0x5A, 0xD0, 0xA6, 0xC3, 0xB4, 0x03, 0x5F,
]);
const MESSAGE: &[u8] = b"Wavepass";
/// Its signature, made with crate `p256` (by `SigningKey::sign`, with a nonce of zeros).
const SIGNATURE: [u8; SIGNATURE_LEN] = [
    0x59, 0x62, 0x57, 0x6B, 0x94, 0x70, 0x32, 0x3A, 0x0C, 0x09, 0x28, 0x8C, 0x68, 0x3D, 0x2C, 0xDC, 0xA5,
    0xBE, 0x27, 0xBD, 0xFA, 0x45, 0x94, 0x23, 0xC3, 0xD2, 0x15, 0x10, 0xA7, 0x37, 0xDB, 0xA1, 0x71, 0xA0,
    0x98, 0x4B, 0x35, 0xA1, 0xD5, 0x3D, 0x38, 0x5C, 0x39, 0xAA, 0x44, 0xE4, 0xFE, 0xCF, 0x2D, 0x5B, 0x5A,
    0x09, 0x5A, 0xCE, 0x46, 0x87, 0x9A, 0x67, 0x84, 0x6A, 0xDC, 0xFD, 0x23, 0xB8,
];

/// True if a known signature verifies and an altered one does not, both without tables and with them. It takes 2.3
/// million instructions and 8 KiB of stack; a gate whose arithmetic fails it must not open.
pub fn self_test() -> bool {
    let mut verifier = FastVerifier::<1>::new();
    let mut altered = SIGNATURE;
    altered[SIGNATURE_LEN - 1] ^= 1;
    let right = |verifier: &mut FastVerifier<1>| {
        verifier.verify(&KEY, &[MESSAGE], &SIGNATURE) && !verifier.verify(&KEY, &[MESSAGE], &altered)
    };
    if !right(&mut verifier) {
        return false;
    }
    verifier.remember(&KEY);
    while verifier.prepare() {}
    verifier.remembers(&KEY) && right(&mut verifier)
}

#[cfg(test)]
mod tests {
    use super::{KEY, MESSAGE, SIGNATURE, self_test};
    use wavepass_protocol::ecc::{P256Verifier, SigningKey, Verifier};

    #[test]
    fn the_known_answer_is_the_reference_s_and_ours() {
        let private = core::array::from_fn(|i| i as u8 + 1);
        assert!(SigningKey::from_bytes(&private).unwrap().public_key() == KEY);
        assert!(P256Verifier.verify(&KEY, &[MESSAGE], &SIGNATURE));
        assert!(self_test());
    }
}
