//! Authorities, phones and the terminal of these tests. RSA keys are made once: they take seconds.

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rig::keys::AuthorityKey;
use rig::tap::{Tap, kernel, tap};
use rig::terminal::Terminal;
use rig::way::InProcess;
use std::sync::LazyLock;
use wavepass_hce::issue::*;
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::state::Counters;
use wavepass_kernel::TapInput;
use wavepass_protocol::lists::Suite;
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::{Expiry, Token};

pub(crate) const TODAY: Date = Date { year: 2026, month: 11, day: 24 };
const HOUSE_RID: [u8; 5] = [0xF0, 0x57, 0x41, 0x56, 0x45];
const RSA_RID: [u8; 5] = [0xA0, 0, 0, 3, 0x33];
const VISA_AID: [u8; 7] = [0xA0, 0, 0, 0, 3, 0x10, 0x10];

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

static HOUSE: LazyLock<HouseAuthority> = LazyLock::new(|| {
    let order = AuthorityOrder {
        rid: HOUSE_RID,
        ca_index: 1,
        issuer_id: [0x62, 0x99, 0x00, 0x01, 0xFF],
        expiry: Date { year: 2036, month: 12, day: 31 },
        serial: [0, 0, 7],
    };
    HouseAuthority::generate(&mut rng(1), order)
});

fn rsa_authority(rid: [u8; 5], iin: [u8; 4], seed: u8) -> RsaAuthority {
    let expiry = Expiry { year: 36, month: 12 };
    let order = RsaAuthorityOrder { rid, ca_index: 0xF1, iin, expiry, serial: [0, 0, 9] };
    RsaAuthority::generate(&mut rng(seed), order).unwrap()
}

static RSA: LazyLock<RsaAuthority> = LazyLock::new(|| rsa_authority(RSA_RID, [0x62, 0x99, 0x00, 0x02], 2));
static VISA: LazyLock<RsaAuthority> =
    LazyLock::new(|| rsa_authority([0xA0, 0, 0, 0, 3], [0x47, 0x61, 0x73, 0xFF], 4));
static POOL: LazyLock<RsaKeyPool> = LazyLock::new(|| RsaKeyPool::generate(&mut rng(3), 1).unwrap());

pub(crate) fn house() -> PhoneFile {
    let order = HouseOrder {
        token: Token::from_digits("6299000100000000001").unwrap(),
        expiry: Expiry { year: 29, month: 2 },
        effective: Date { year: 2026, month: 1, day: 15 },
        psn: 3,
        domain: Some(Domain { network: *b"CITY", operator: 0 }),
        serial: [0, 0, 0, 0, 1, 1],
        card_key: [7; 32],
        master_key: [3; 16],
    };
    HOUSE.issue(&order).unwrap()
}

fn plastic(authority: &RsaAuthority, number: &str, aid: &[u8], kind: RsaKind) -> PhoneFile {
    authority.issue_as(kind, &order(number, aid), POOL.get(0).unwrap()).unwrap()
}

fn order(number: &str, aid: &[u8]) -> RsaOrder {
    RsaOrder {
        token: Token::from_digits(number).unwrap(),
        expiry: Expiry { year: 29, month: 2 },
        effective: Date { year: 2026, month: 1, day: 15 },
        psn: 1,
        aid: aid.to_vec(),
        serial: [0, 1, 2],
        master_key: [4; 16],
    }
}

pub(crate) fn debit() -> PhoneFile {
    plastic(&RSA, "6299000200000001", RSA_DEBIT_AID, RsaKind::default())
}

/// A card of another scheme, which signs in format 95.
pub(crate) fn visa() -> PhoneFile {
    let kind = RsaKind { signed_format: 0x95, ..RsaKind::default() };
    plastic(&VISA, "4761730000000002", &VISA_AID, kind)
}

/// A card that signs by INTERNAL AUTHENTICATE.
pub(crate) fn older() -> PhoneFile {
    let kind = RsaKind { flow: RsaFlow::Standard, ..RsaKind::default() };
    plastic(&RSA, "6299000200000003", RSA_DEBIT_AID, kind)
}

static SM2: LazyLock<Sm2Authority> = LazyLock::new(|| {
    let expiry = Expiry { year: 36, month: 12 };
    let iin = [0x62, 0x99, 0x00, 0x03];
    let order = Sm2AuthorityOrder { rid: RSA_RID, ca_index: 0xE1, iin, expiry, serial: [0, 0, 5] };
    Sm2Authority::generate(&mut rng(5), order).unwrap()
});

/// A card of the national suite.
pub(crate) fn national() -> PhoneFile {
    SM2.issue(&order("6299000300000004", RSA_DEBIT_AID), &[8; 32]).unwrap()
}

fn rsa_key(authority: &RsaAuthority) -> AuthorityKey {
    let key = authority.ca_key();
    AuthorityKey {
        rid: key.rid,
        index: key.index,
        suite: Suite::Rsa,
        expiry: [0x20, 0x36, 0x12, 0x31],
        key: key.modulus,
        exponent: if key.exponent == 3 { vec![3] } else { vec![1, 0, 1] },
    }
}

/// The terminal that comes with the rig, with the keys of these authorities.
pub(crate) fn terminal() -> Terminal {
    let mut terminal = Terminal::builtin().unwrap();
    terminal.keys = vec![
        AuthorityKey {
            rid: HOUSE_RID,
            index: 1,
            suite: Suite::P256,
            expiry: [0x20, 0x36, 0x12, 0x31],
            key: HOUSE.ca_public_key().to_vec(),
            exponent: Vec::new(),
        },
        rsa_key(&RSA),
        rsa_key(&VISA),
        AuthorityKey {
            rid: RSA_RID,
            index: 0xE1,
            suite: Suite::Sm2,
            expiry: [0x20, 0x36, 0x12, 0x31],
            key: SM2.ca_key().key.to_vec(),
            exponent: Vec::new(),
        },
    ];
    terminal
}

pub(crate) fn phone(file: &PhoneFile) -> Phone {
    Phone::new(file, Counters::memory(), [9; 32]).unwrap()
}

pub(crate) fn at(day: Date) -> TapInput {
    let now = UnixMs(u64::try_from(day.to_days()).unwrap() * 86_400_000 + 7_000_000);
    TapInput {
        now,
        utc_offset_min: 480,
        unpredictable: [0xC0, 0xFF, 0xEE, 0x01],
        start_us: 0,
        relay_entropy: [[1; 4], [2; 4]],
    }
}

pub(crate) fn tapped_by(file: &PhoneFile, terminal: &Terminal, day: Date) -> Tap {
    let mut phone = phone(file);
    tap(&mut kernel(), terminal, at(day), &mut InProcess::new(&mut phone), &mut |_| {})
}

pub(crate) fn tapped(file: &PhoneFile) -> Tap {
    tapped_by(file, &terminal(), TODAY)
}
