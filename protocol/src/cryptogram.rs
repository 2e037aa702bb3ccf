//! The card's symmetric keys and its application cryptogram, with AES-128 (Book 2 annexes A1.3, A1.4 option C
//! and 8.1): what the phone computes and the bank verifies.

use crate::token::Token;
use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use cmac::{Cmac, Mac};
use zeroize::Zeroize;

/// The card's master key: AES under the issuer's key of the token's digits and its sequence number (00 where the
/// card has none), packed and right-justified in 16 bytes (option C).
pub fn master_key_option_c(imk: &[u8; 16], token: &Token, psn: u8) -> [u8; 16] {
    let mut y = [0; 16];
    // Nibbles from the right: two of the sequence number, then the digits from the last to the first. A token has
    // at most 19 digits, so 21 of 32 nibbles are used.
    y[15] = psn;
    let count = token.len();
    for (i, digit) in token.digits().enumerate() {
        let from_right = 2 + (count - 1 - i);
        y[15 - from_right / 2] |= if from_right.is_multiple_of(2) { digit } else { digit << 4 };
    }
    encrypt(imk, y)
}

/// The session key of one transaction: AES under the card's master key of `ATC ‖ 00×14` (annex A1.3 for
/// cryptograms with AES).
pub fn session_key(master_key: &[u8; 16], atc: u16) -> [u8; 16] {
    let mut r = [0; 16];
    r[..2].copy_from_slice(&atc.to_be_bytes());
    encrypt(master_key, r)
}

/// The application cryptogram: the leftmost 8 bytes of AES-CMAC under the session key, over `data` joined. The
/// house's data are the PDOL values as sent, AIP, ATC and IAD.
pub fn application_cryptogram(session_key: &[u8; 16], data: &[&[u8]]) -> [u8; 8] {
    let mut mac = <Cmac<Aes128> as KeyInit>::new(session_key.into());
    for part in data {
        mac.update(part);
    }
    let mut full: [u8; 16] = mac.finalize().into_bytes().into();
    let mut out = [0; 8];
    out.copy_from_slice(&full[..8]);
    full.zeroize();
    out
}

fn encrypt(key: &[u8; 16], block: [u8; 16]) -> [u8; 16] {
    let mut block = block.into();
    Aes128::new(key.into()).encrypt_block(&mut block);
    block.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::emv::core::{application_cryptogram as oracle_ac, master_key_derivation, secure_messaging};
    extern crate std;
    use std::vec::Vec;

    const IMK: [u8; 16] = *b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F";

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        core::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
    }

    // RFC 4493 section 4, the four test vectors (the first 8 bytes, which a cryptogram keeps).
    #[test]
    fn cmac_gives_the_answers_of_rfc_4493() {
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c");
        let message: [u8; 64] = hex(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        let cases = [
            (0, "bb1d6929e9593728"),
            (16, "070a16b46b4d4144"),
            (40, "dfa66747de9ae630"),
            (64, "51f0bebf7e3b9d92"),
        ];
        for (len, mac) in cases {
            assert_eq!(application_cryptogram(&key, &[&message[..len]]), hex(mac), "{len} bytes");
            let (a, b) = message[..len].split_at(len / 3);
            assert_eq!(application_cryptogram(&key, &[a, &[], b]), hex(mac), "{len} bytes in parts");
        }
    }

    // Computed with OpenSSL's AES and CMAC through PyPI cryptography 50.0.2, block by block as Book 2 A1.3 and A1.4
    // option C write it (PyPI pyemv 1.5.0 has options A and B only).
    #[test]
    fn keys_and_cryptograms_are_those_computed_elsewhere() {
        let cases = [
            (
                "6222021234567890",
                0x01,
                "bb6c54bfa5df3b348b3fd3a9a87cc1e8",
                1,
                "e2f12d464104709b022abb53a46645ac",
                "942beb8f8f85e7ab",
            ),
            (
                "6222021234567890123",
                0x00,
                "ad8a5cf3a5f15f170a956f157e51cd29",
                0xABCD,
                "c2ff5bdd8e5125141010eecfa294ef7e",
                "851fbd2f7fbd06c4",
            ),
            (
                "4123456789012",
                0x37,
                "acf78a50e516ba3ad0bfd06737406a38",
                0xABCD,
                "e8bc1f7c5abc8d7c6c9c9461b9d7ee9a",
                "7cad15ae6162cfae",
            ),
        ];
        let pdol_values: [u8; 33] = core::array::from_fn(|i| i as u8);
        for (digits, psn, mk, atc, sk, ac) in cases {
            let token = Token::from_digits(digits).unwrap();
            let master = master_key_option_c(&IMK, &token, psn);
            assert_eq!(master, hex(mk));
            let session = session_key(&master, atc);
            assert_eq!(session, hex(sk));
            let iad = [0x06, 0x01, 0x12, 0x03, 0xA0, 0x00, 0x00];
            let data: [&[u8]; 4] = [&pdol_values, &[0x21, 0x00], &atc.to_be_bytes(), &iad];
            assert_eq!(application_cryptogram(&session, &data), hex(ac));
        }
    }

    #[test]
    fn an_independent_implementation_agrees_for_every_length_of_token() {
        for len in 13..=19 {
            let digits = &"6222021234567890123"[..len];
            let token = Token::from_digits(digits).unwrap();
            let master = master_key_option_c(&IMK, &token, 0x42);
            let wanted =
                master_key_derivation::derive_master_key_option_c(&IMK, token.bcd_short(), Some(0x42))
                    .unwrap();
            assert_eq!(master[..], wanted[..], "{len} digits");
            let r = secure_messaging::diversification_for_ac_session_key_aes(0x0102);
            let session = session_key(&master, 0x0102);
            assert_eq!(session[..], secure_messaging::derive_session_key_aes(&master, &r).unwrap()[..]);
            let data: Vec<u8> = (0..len as u8).collect();
            let wanted = oracle_ac::application_cryptogram_aes(&session, &data).unwrap();
            assert_eq!(application_cryptogram(&session, &[&data]), wanted);
        }
    }
}
