//! The authorities and phones of these tests. RSA keys are made once: they take seconds.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::sync::LazyLock;
use wavepass_hce::issue::*;
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::reader::Values;
use wavepass_hce::state::Counters;
use wavepass_protocol::cryptogram::master_key_option_c;
use wavepass_protocol::time::Date;
use wavepass_protocol::token::{Expiry, Token};

pub(crate) const IMK: [u8; 16] = [0x5A; 16];
pub(crate) const HOUSE_RID: [u8; 5] = [0xF0, b'W', b'A', b'V', b'E'];
pub(crate) const RSA_RID: [u8; 5] = [0xA0, 0, 0, 3, 0x33];
pub(crate) const TODAY: Date = Date { year: 2026, month: 11, day: 24 };
pub(crate) const EXPIRY: Expiry = Expiry { year: 29, month: 2 };

pub(crate) fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

pub(crate) fn house_authority(seed: u8) -> HouseAuthority {
    let order = AuthorityOrder {
        rid: HOUSE_RID,
        ca_index: 1,
        issuer_id: [0x62, 0x99, 0x00, 0x01, 0xFF],
        expiry: Date { year: 2036, month: 12, day: 31 },
        serial: [0, 0, 7],
    };
    HouseAuthority::generate(&mut rng(seed), order)
}

pub(crate) fn rsa_order() -> RsaAuthorityOrder {
    let expiry = Expiry { year: 36, month: 12 };
    RsaAuthorityOrder {
        rid: RSA_RID,
        ca_index: 0xF1,
        iin: [0x62, 0x99, 0x00, 0x02],
        expiry,
        serial: [0, 0, 9],
    }
}

pub(crate) static HOUSE: LazyLock<HouseAuthority> = LazyLock::new(|| house_authority(1));
pub(crate) static RSA: LazyLock<RsaAuthority> =
    LazyLock::new(|| RsaAuthority::generate(&mut rng(2), rsa_order()).unwrap());
pub(crate) static POOL: LazyLock<RsaKeyPool> =
    LazyLock::new(|| RsaKeyPool::generate(&mut rng(3), 2).unwrap());

pub(crate) fn house_token(n: u32) -> Token {
    Token::from_digits(&format!("62990001{n:011}")).unwrap()
}

pub(crate) fn rsa_token(n: u32) -> Token {
    Token::from_digits(&format!("62990002{n:08}")).unwrap()
}

pub(crate) fn house_order(n: u32) -> HouseOrder {
    let token = house_token(n);
    HouseOrder {
        token,
        expiry: EXPIRY,
        effective: Date { year: 2026, month: 1, day: 15 },
        psn: 3,
        domain: Some(Domain { network: *b"CITY", operator: 0 }),
        serial: [0, 0, 0, 0, 1, n as u8],
        card_key: [n as u8; 32],
        master_key: master_key_option_c(&IMK, &token, 3),
    }
}

pub(crate) fn rsa_card_order(n: u32) -> RsaOrder {
    let token = rsa_token(n);
    RsaOrder {
        token,
        expiry: EXPIRY,
        effective: Date { year: 2026, month: 1, day: 15 },
        psn: 1,
        aid: RSA_DEBIT_AID.to_vec(),
        serial: [0, 1, n as u8],
        master_key: master_key_option_c(&IMK, &token, 1),
    }
}

pub(crate) fn house(n: u32) -> PhoneFile {
    HOUSE.issue(&house_order(n)).unwrap()
}

pub(crate) fn rsa(n: u32) -> PhoneFile {
    RSA.issue(&rsa_card_order(n), POOL.get(n as usize).unwrap()).unwrap()
}

/// A phone that forgets.
pub(crate) fn phone(file: &PhoneFile) -> Phone {
    Phone::new(file, Counters::memory(), [9; 32]).unwrap()
}

pub(crate) fn gate(un: u8) -> Values {
    Values { amount_fen: 12_345, ..Values::gate(TODAY, [un, 2, 3, 4]) }
}
