//! Chains issued here, checked by the independent crate `emv`, and attacks on every field of them.

use super::*;
use crate::select::Aid;
use crate::time::{Date, UnixMs};
use crate::token::Token;
use ::emv::core::{ec_sdsa, ecc_oda};
use proptest::prelude::*;
extern crate std;
use std::vec::Vec;

const RID: [u8; 5] = [0xF0, 0x57, 0x41, 0x56, 0x45];
const NOON: UnixMs = UnixMs(1_795_521_600_000); // 2026-11-24T12:00:00Z
const TODAY: [u8; 4] = [0x20, 0x26, 0x11, 0x24];
const AIP: [u8; 4] = [0x82, 0x02, 0x21, 0x00];
const PDOL: [u8; 6] = [0x9F, 0x38, 0x03, 0x9F, 0x37, 0x04];
const RECORD: &[u8] = b"\x5A\x08\x62\x22\x02\x12\x34\x56\x78\x90\x5F\x24\x03\x29\x12\x31";
const VALUES: [u8; 33] = [0x5C; 33];
const BEFORE: &[u8] = &[0x82, 0x02, 0x21, 0x00, 0x9F, 0x36, 0x02, 0x00, 0x07];
const AFTER: &[u8] = &[0x9F, 0x6C, 0x02, 0x00, 0x00];

fn hex(text: &str) -> [u8; 32] {
    core::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32]).unwrap()
}

fn token() -> Token {
    Token::from_digits("6222021234567890").unwrap()
}

fn static_hash() -> [u8; 32] {
    let mut hash = StaticHash::new();
    hash.record(RECORD);
    hash.finish(&AIP, &aid().tlv(), &PDOL)
}

fn aid() -> Aid {
    Aid::new(b"\xF0WAVEPASS\x01").unwrap()
}

struct Chain {
    issuer: [u8; ISSUER_CERTIFICATE_LEN],
    card: [u8; CARD_CERTIFICATE_LEN],
    signature: [u8; DYNAMIC_SIGNATURE_LEN],
}

const CA: u8 = 1;
const ISSUER: u8 = 2;
const CARD: u8 = 3;

fn issuer_fields() -> IssuerFields {
    IssuerFields {
        issuer_id: [0x62, 0x22, 0x02, 0xFF, 0xFF],
        expiry: Date::new(2030, 12, 31).unwrap(),
        serial: [1, 2, 3],
        rid: RID,
        ca_index: 0x10,
        key: key(ISSUER).public_key(),
    }
}

fn card_fields(card: u8) -> CardFields {
    CardFields {
        expiry: Date::new(2029, 12, 31).unwrap(),
        expiry_time: [0x23, 0x59],
        serial: [0, 0, 0, 0, 0, card],
        static_hash: static_hash(),
        key: key(card).public_key(),
    }
}

fn chain(card: u8) -> Chain {
    let mut chain = Chain {
        issuer: [0; ISSUER_CERTIFICATE_LEN],
        card: [0; CARD_CERTIFICATE_LEN],
        signature: sign_dynamic(&key(card), &VALUES, &[BEFORE, AFTER], [7; 32]).unwrap(),
    };
    IssuerCertificate::issue(&issuer_fields(), &key(CA), [5; 32], &mut chain.issuer);
    CardCertificate::issue(&card_fields(card), &key(ISSUER), [6; 32], &mut chain.card);
    chain
}

/// All that a gate checks, in its order.
fn check(chain: &Chain) -> Result<(), CertError> {
    let verifier = &mut P256Verifier;
    let issuer = IssuerCertificate::parse(&chain.issuer)?;
    issuer.check_authority(&RID, 0x10)?;
    issuer.check_token(&token())?;
    issuer.check_time(NOON)?;
    issuer.verify(verifier, &key(CA).public_key())?;
    let card = CardCertificate::parse(&chain.card)?;
    card.check_time(NOON)?;
    card.check_static(&static_hash())?;
    card.verify(verifier, &issuer.fields.key)?;
    verify_dynamic(verifier, &card.fields.key, &VALUES, &[BEFORE, AFTER], &chain.signature)
}

#[test]
fn a_genuine_chain_is_accepted_here_and_by_an_independent_implementation() {
    let chain = chain(CARD);
    assert_eq!(check(&chain), Ok(()));
    let ca = ecc_oda::EccCaPublicKey {
        rid: RID,
        index: 0x10,
        x_coord: key(CA).public_key().x().to_vec(),
        algorithm_suite: SUITE,
    };
    let issuer =
        ecc_oda::recover_issuer_public_key_ecc(&ca, &chain.issuer, token().bcd_short(), TODAY).unwrap();
    assert_eq!((issuer.serial_number, &issuer.x_coord[..]), ([1, 2, 3], &key(ISSUER).public_key().x()[..]));
    let static_data = [RECORD, &AIP, &aid().tlv(), &PDOL].concat();
    let card =
        ecc_oda::recover_icc_public_key_ecc(&issuer, &chain.card, &static_data, TODAY, [0x12, 0x00]).unwrap();
    let data = [&[0x15][..], &VALUES, BEFORE, AFTER].concat();
    ecc_oda::verify_xda(&card, &chain.signature, &data).unwrap();
}

#[test]
fn a_chain_issued_by_an_independent_implementation_is_accepted() {
    let issuer_key = key(ISSUER);
    let sign = |d: u8, message: &[u8]| {
        let d = ec_sdsa::constrain_long_term_private_key_p256(&[d; 32]).unwrap();
        ec_sdsa::ec_sdsa_p256_sign(SUITE, &d, &[0x33; 32], message).unwrap()
    };
    let mut chain = chain(CARD);
    let signature = sign(CA, &chain.issuer[..53]);
    chain.issuer[53..].copy_from_slice(&signature);
    let signature = sign(ISSUER, &chain.card[..81]);
    chain.card[81..].copy_from_slice(&signature);
    let signature = sign(CARD, &[&[0x15][..], &VALUES, BEFORE, AFTER].concat());
    chain.signature[1..].copy_from_slice(&signature);
    assert_eq!(check(&chain), Ok(()));
    assert_eq!(ec_sdsa::public_key_x_from_private(&[ISSUER; 32]).unwrap(), *issuer_key.public_key().x());
}

// The key of RFC 6979 appendix A.2.5 and its public point.
#[test]
fn a_public_key_is_the_x_of_its_point_and_the_lower_y() {
    let d = hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    let public = SigningKey::from_bytes(&d).unwrap().public_key();
    assert_eq!(*public.x(), hex("60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"));
    // The RFC's y is 7903fe10…, below p/2, so it is the one meant.
    assert_eq!(public.y(), Some(hex("7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299")));
}

#[test]
fn a_private_key_and_its_negative_are_one_key() {
    // n − 1 has the point −G.
    let n_minus_1 = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550");
    let mut one = [0; 32];
    one[31] = 1;
    let (a, b) = (SigningKey::from_bytes(&one).unwrap(), SigningKey::from_bytes(&n_minus_1).unwrap());
    assert_eq!(a.public_key(), b.public_key());
    for key in [a, b] {
        let signature = key.sign(&[b"tap"], [9; 32]);
        assert!(P256Verifier.verify(&key.public_key(), &[b"tap"], &signature));
    }
    assert!(SigningKey::from_bytes(&[0; 32]).is_none());
    let n = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    assert!(SigningKey::from_bytes(&n).is_none());
}

#[test]
fn a_repeated_nonce_gives_another_multiplier_for_another_message_or_key() {
    use p256::elliptic_curve::{ff::PrimeField, ops::Reduce};
    // Whoever knows d computes k = s − r·d; were k the same for two messages, anybody could compute d.
    let multiplier = |seed: u8, message: &[u8], nonce: u8| {
        let signature = key(seed).sign(&[message], [nonce; 32]);
        let scalar = |bytes: &[u8]| p256::FieldBytes::try_from(bytes).unwrap();
        let d = ec_sdsa::constrain_long_term_private_key_p256(&[seed; 32]).unwrap();
        let [r, d] = [&signature[..32], &d].map(|b| p256::Scalar::reduce(&scalar(b)));
        p256::Scalar::from_repr(scalar(&signature[32..])).unwrap() - r * d
    };
    let k = multiplier(CARD, b"one", 0);
    assert_eq!(multiplier(CARD, b"one", 0), k);
    assert_ne!(multiplier(CARD, b"two", 0), k);
    assert_ne!(multiplier(CARD, b"one", 1), k);
    assert_ne!(multiplier(CA, b"one", 0), k);
}

#[test]
fn a_key_that_is_no_point_verifies_nothing() {
    let above_p = PublicKey::from_x([0xFF; 32]);
    let off_curve = (0..=255u8).map(|x| PublicKey::from_x([x; 32])).find(|key| key.y().is_none()).unwrap();
    let signature = key(CARD).sign(&[b"tap"], [0; 32]);
    for bad in [above_p, off_curve] {
        assert_eq!(bad.y(), None);
        assert!(!P256Verifier.verify(&bad, &[b"tap"], &signature));
    }
}

#[test]
fn a_signature_outside_its_range_is_refused() {
    let (key, message) = (key(CARD), b"tap");
    let good = key.sign(&[message], [0; 32]);
    assert!(P256Verifier.verify(&key.public_key(), &[b"t", b"", b"ap"], &good));
    let n = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    for (r, s) in [
        ([0; 32], [0; 32]),
        (good[..32].try_into().unwrap(), [0; 32]),
        ([0; 32], good[32..].try_into().unwrap()),
        (n, n),
        (good[..32].try_into().unwrap(), n),
    ] {
        let mut bad = [0; 64];
        bad[..32].copy_from_slice(&r);
        bad[32..].copy_from_slice(&s);
        assert!(!P256Verifier.verify(&key.public_key(), &[message], &bad));
    }
    // s + n would be the same number: it must not pass as a second form. It only fits 32 bytes if s is small, so
    // every s at or above n is refused.
    let mut high = good;
    high[32..].fill(0xFF);
    assert!(!P256Verifier.verify(&key.public_key(), &[message], &high));
}

#[test]
fn a_changed_bit_in_any_field_of_the_issuer_certificate_is_refused_by_name() {
    // First byte of each field and what names its change.
    let fields: [(usize, &[CertError]); 10] = [
        (0, &[CertError::Format(0x13)]),
        (1, &[CertError::Encoding(0x01)]),
        (2, &[CertError::NotThisToken]),
        (7, &[CertError::Suite(0x11)]),
        (8, &[CertError::Signature]),
        (12, &[CertError::Signature]),
        (15, &[CertError::Authority]),
        (20, &[CertError::Authority]),
        (21, &[CertError::Signature]),
        (53, &[CertError::Signature]),
    ];
    for (at, errors) in fields {
        let mut bad = chain(CARD);
        bad.issuer[at] ^= 0x01;
        let result = check(&bad).unwrap_err();
        assert!(errors.contains(&result), "byte {at}: {result:?}");
    }
}

#[test]
fn a_changed_bit_in_any_field_of_the_card_certificate_is_refused_by_name() {
    let fields = [
        (0, CertError::Format(0x15)),
        (1, CertError::Encoding(0x01)),
        (2, CertError::Suite(0x11)),
        (3, CertError::Signature),
        (7, CertError::Signature),
        (9, CertError::Signature),
        (15, CertError::HashEncoding(0x01)),
        (16, CertError::HashAlgorithm(0x03)),
        (17, CertError::StaticHash),
        (49, CertError::Signature),
        (81, CertError::Signature),
        (113, CertError::Signature),
    ];
    for (at, error) in fields {
        let mut bad = chain(CARD);
        bad.card[at] ^= 0x01;
        assert_eq!(check(&bad), Err(error), "byte {at}");
    }
}

#[test]
fn a_changed_bit_anywhere_is_refused() {
    // One bit of every byte of all three; the bit moves with the byte.
    let count = ISSUER_CERTIFICATE_LEN + CARD_CERTIFICATE_LEN + DYNAMIC_SIGNATURE_LEN;
    let good = chain(CARD);
    for at in 0..count {
        let mut bad = Chain { ..good };
        let bit = 1 << (at % 8);
        if let Some(byte) = bad.issuer.get_mut(at) {
            *byte ^= bit;
        } else if let Some(byte) = bad.card.get_mut(at - ISSUER_CERTIFICATE_LEN) {
            *byte ^= bit;
        } else {
            bad.signature[at - ISSUER_CERTIFICATE_LEN - CARD_CERTIFICATE_LEN] ^= bit;
        }
        assert!(check(&bad).is_err(), "byte {at}");
    }
}

#[test]
fn a_changed_bit_in_what_the_card_signed_is_refused() {
    let chain = chain(CARD);
    let public = key(CARD).public_key();
    let check = |values: &[u8], before: &[u8], after: &[u8], signature: &[u8]| {
        verify_dynamic(&mut P256Verifier, &public, values, &[before, after], signature)
    };
    let flip = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x80;
        bytes
    };
    for at in 0..VALUES.len() {
        assert_eq!(check(&flip(&VALUES, at), BEFORE, AFTER, &chain.signature), Err(CertError::Signature));
    }
    for at in 0..BEFORE.len() {
        assert_eq!(check(&VALUES, &flip(BEFORE, at), AFTER, &chain.signature), Err(CertError::Signature));
    }
    for at in 0..AFTER.len() {
        assert_eq!(check(&VALUES, BEFORE, &flip(AFTER, at), &chain.signature), Err(CertError::Signature));
    }
    assert_eq!(check(&VALUES, BEFORE, AFTER, &flip(&chain.signature, 0)), Err(CertError::Format(0x95)));
    assert_eq!(check(&VALUES, BEFORE, AFTER, &chain.signature[..64]), Err(CertError::Length(64)));
    assert_eq!(check(&VALUES, BEFORE, &[], &chain.signature), Err(CertError::Signature));
}

#[test]
fn another_cards_certificate_does_not_go_with_this_cards_signature() {
    let (this, other) = (chain(CARD), chain(CARD + 1));
    let mixed = Chain { card: other.card, ..this };
    assert_eq!(check(&mixed), Err(CertError::Signature));
}

#[test]
fn another_card_s_static_data_do_not_go_with_this_certificate() {
    let chain = chain(CARD);
    let card = CardCertificate::parse(&chain.card).unwrap();
    let hash = |record: &[u8], aip: &[u8], aid: &[u8], pdol: &[u8]| {
        let mut hash = StaticHash::new();
        hash.record(record);
        hash.finish(aip, aid, pdol)
    };
    // The pre-play attack: the thief's list asks for an unknown tag where 9F37 stood.
    let preplay = [0x9F, 0x38, 0x03, 0xDF, 0x37, 0x04];
    let other_aid = Aid::new(b"\xF0WAVEPASS\x02").unwrap().tlv();
    assert_eq!(card.check_static(&hash(RECORD, &AIP, &aid().tlv(), &PDOL)), Ok(()));
    for bad in [
        hash(RECORD, &AIP, &aid().tlv(), &preplay),
        hash(RECORD, &AIP, &other_aid, &PDOL),
        hash(RECORD, &[0x82, 0x02, 0x20, 0x00], &aid().tlv(), &PDOL),
        hash(&RECORD[1..], &AIP, &aid().tlv(), &PDOL),
    ] {
        assert_eq!(card.check_static(&bad), Err(CertError::StaticHash));
    }
}

#[test]
fn a_certificate_is_good_through_its_last_day_and_minute() {
    let mut issuer = [0; ISSUER_CERTIFICATE_LEN];
    let mut card = [0; CARD_CERTIFICATE_LEN];
    let today = Date::new(2026, 11, 24).unwrap();
    IssuerCertificate::issue(
        &IssuerFields { expiry: today, ..issuer_fields() },
        &key(CA),
        [0; 32],
        &mut issuer,
    );
    let fields = CardFields { expiry: today, expiry_time: [0x12, 0x00], ..card_fields(CARD) };
    CardCertificate::issue(&fields, &key(ISSUER), [0; 32], &mut card);
    let issuer = IssuerCertificate::parse(&issuer).unwrap();
    let card = CardCertificate::parse(&card).unwrap();
    let later = |minutes: u64| UnixMs(NOON.0 + minutes * 60_000);
    assert_eq!((issuer.check_time(later(719)), card.check_time(NOON)), (Ok(()), Ok(())));
    assert_eq!(card.check_time(later(1)), Err(CertError::Expired));
    assert_eq!(issuer.check_time(later(720)), Err(CertError::Expired));
}

#[test]
fn an_issuer_identifier_must_be_digits_that_begin_the_token() {
    let issue = |issuer_id| {
        let mut out = [0; ISSUER_CERTIFICATE_LEN];
        IssuerCertificate::issue(&IssuerFields { issuer_id, ..issuer_fields() }, &key(CA), [0; 32], &mut out);
        out
    };
    let check = |id| IssuerCertificate::parse(&issue(id))?.check_token(&token());
    assert_eq!(check([0x62, 0x22, 0x02, 0x12, 0x34]), Ok(()));
    assert_eq!(check([0x62, 0x2F, 0xFF, 0xFF, 0xFF]), Ok(()));
    assert_eq!(check([0x62, 0x23, 0xFF, 0xFF, 0xFF]), Err(CertError::NotThisToken));
    for bad in [
        [0xFF; 5],
        [0x62, 0xFF, 0xFF, 0xFF, 0xFF],
        [0x62, 0x22, 0xF2, 0xFF, 0xFF],
        [0x62, 0x2A, 0xFF, 0xFF, 0xFF],
    ] {
        assert_eq!(check(bad), Err(CertError::IssuerId));
    }
}

#[test]
fn lengths_and_dates_that_no_certificate_has_are_named() {
    let chain = chain(CARD);
    assert_eq!(IssuerCertificate::parse(&chain.issuer[1..]), Err(CertError::Length(116)));
    assert_eq!(CardCertificate::parse(&chain.issuer), Err(CertError::Length(117)));
    assert_eq!([&chain.issuer[..], &chain.card, &[]].map(IssuerCertificate::is_one), [true, false, false]);
    let with = |at: usize, byte: u8| {
        let mut card = chain.card;
        card[at] = byte;
        card
    };
    for bad in [with(7, 0x24), with(8, 0x60), with(8, 0x0A), with(5, 0x13), with(6, 0x32)] {
        assert_eq!(CardCertificate::parse(&bad), Err(CertError::Date));
    }
    let parts: Vec<&[u8]> = std::vec![&[][..]; MAX_DYNAMIC_PARTS + 1];
    assert_eq!(sign_dynamic(&key(CARD), &VALUES, &parts, [0; 32]), Err(CertError::TooManyParts));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_one_implementation_signs_the_other_verifies(
        d in any::<[u8; 32]>(), nonce in any::<[u8; 32]>(), message in prop::collection::vec(any::<u8>(), 0..80)
    ) {
        let Some(key) = SigningKey::from_bytes(&d) else { return Ok(()) };
        let ours = key.sign(&[&message], nonce);
        let x = *key.public_key().x();
        prop_assert!(ec_sdsa::ec_sdsa_p256_verify(SUITE, &x, &message, &ours).unwrap());
        let d = ec_sdsa::constrain_long_term_private_key_p256(&d).unwrap();
        let Ok(theirs) = ec_sdsa::ec_sdsa_p256_sign(SUITE, &d, &nonce, &message) else { return Ok(()) };
        prop_assert!(P256Verifier.verify(&key.public_key(), &[&message], theirs[..].try_into().unwrap()));
    }

    #[test]
    fn any_bytes_are_refused_without_harm(
        data in prop::collection::vec(any::<u8>(), 145), key in any::<[u8; 32]>(), signature in prop::collection::vec(any::<u8>(), 65)
    ) {
        let _ = IssuerCertificate::parse(&data[..117]);
        let _ = CardCertificate::parse(&data);
        let key = PublicKey::from_x(key);
        prop_assert!(verify_dynamic(&mut P256Verifier, &key, &data, &[], &signature).is_err());
    }
}
