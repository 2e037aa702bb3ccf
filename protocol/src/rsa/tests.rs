//! Chains issued here with crate `rsa`'s keys, checked by the independent crate `emv`, and attacks on every field.

use super::*;
use crate::time::Date;
use crate::token::{Expiry, Token};
use ::emv::core::{iso9796_2, oda};
use ::rsa::traits::{PrivateKeyParts, PublicKeyParts};
use crypto_bigint::{Odd, U2048, modular::FixedMontyForm, modular::FixedMontyParams};
use proptest::prelude::*;
use rand_chacha::rand_core::SeedableRng;
use sha1::{Digest, Sha1};
extern crate std;
use std::sync::LazyLock;
use std::vec::Vec;

const RID: [u8; 5] = [0xA0, 0x00, 0x00, 0x03, 0x33];
const TODAY: Date = Date { year: 2026, month: 11, day: 24 };
const RECORD: &[u8] = b"\x5A\x08\x62\x22\x02\x12\x34\x56\x78\x90\x5F\x24\x03\x29\x12\x31";
const AIP: &[u8] = &[0x21, 0x00];
const ATC: u16 = 0x0107;
const CARD_DATA: [u8; 7] = [0x01, 0xC1, 0xC2, 0xC3, 0xC4, 0x00, 0x80];
const UNPREDICTABLE: [u8; 4] = [1, 2, 3, 4];
const AMOUNT: [u8; 6] = [0, 0, 0, 0, 3, 0];
const CURRENCY: [u8; 2] = [0x01, 0x56];
/// Both formats: what UnionPay's configuration accepts.
const FORMATS: &[u8] = &[0x05, 0x95];

/// A private key: modulus, private exponent.
struct Key {
    n: Vec<u8>,
    d: Vec<u8>,
    exponent: Exponent,
}

impl Key {
    fn generate(bits: usize, exponent: Exponent, seed: u64) -> Self {
        let e = exponent.as_bytes().iter().fold(0u64, |e, &b| e << 8 | u64::from(b));
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let key = ::rsa::PrivateKey::new_with_exp(&mut rng, bits, e.into()).unwrap();
        let d = key.d().to_be_bytes_trimmed_vartime().to_vec();
        Self { n: key.n_bytes().to_vec(), d, exponent }
    }

    fn public(&self) -> RsaKey<'_> {
        RsaKey::new(&self.n, self.exponent).unwrap()
    }

    /// The private operation on a whole block.
    fn sign(&self, block: &[u8]) -> Vec<u8> {
        let number = |bytes: &[u8]| {
            let mut wide = [0; 256];
            wide[256 - bytes.len()..].copy_from_slice(bytes);
            U2048::from_be_slice(&wide)
        };
        let params = FixedMontyParams::new_vartime(Odd::new(number(&self.n)).unwrap());
        let power = FixedMontyForm::new(&number(block), &params).pow_vartime(&number(&self.d)).retrieve();
        power.to_be_bytes()[256 - self.n.len()..].to_vec()
    }

    /// Signs `6A ‖ head ‖ hash ‖ BC`, where `head` fills the block and the hash goes on over `rest`.
    fn seal(&self, head: &[u8], rest: &[&[u8]]) -> Vec<u8> {
        assert_eq!(head.len(), self.n.len() - 22);
        let mut hash = Sha1::new_with_prefix(head);
        rest.iter().for_each(|part| hash.update(part));
        self.sign(&[&[0x6A], head, &hash.finalize()[..], &[0xBC]].concat())
    }
}

/// 1984 bits, e = 3, as the largest authority key in circulation.
static CA: LazyLock<Key> = LazyLock::new(|| Key::generate(1984, Exponent::Three, 1));
/// 1408 bits: fits the authority's block whole.
static ISSUER: LazyLock<Key> = LazyLock::new(|| Key::generate(1408, Exponent::Three, 2));
/// 1984 bits, e = 65537: leaves a remainder.
static LARGE_ISSUER: LazyLock<Key> = LazyLock::new(|| Key::generate(1984, Exponent::F4, 3));
static CARD: LazyLock<Key> = LazyLock::new(|| Key::generate(1024, Exponent::Three, 4));
static OTHER_CARD: LazyLock<Key> = LazyLock::new(|| Key::generate(1152, Exponent::F4, 5));

fn token() -> Token {
    Token::from_digits("6222021234567890").unwrap()
}

/// The certified key's field, then what is left of the key.
fn split_key(key: &Key, room: usize) -> (Vec<u8>, Vec<u8>) {
    let mut field = key.n.clone();
    let remainder = if field.len() > room { field.split_off(room) } else { Vec::new() };
    field.resize(room, 0xBB);
    (field, remainder)
}

#[derive(Clone)]
struct Certificate {
    block: Vec<u8>,
    remainder: Vec<u8>,
    exponent: Vec<u8>,
}

/// The signed head of an issuer certificate: offset in the block is offset here plus one.
fn issuer_head(ca: &Key, issuer: &Key) -> (Vec<u8>, Vec<u8>) {
    let (field, remainder) = split_key(issuer, ca.n.len() - 36);
    let exponent_len = issuer.exponent.as_bytes().len() as u8;
    let mut head = std::vec![
        0x02,
        0x62,
        0x22,
        0x02,
        0xFF,
        0x12,
        0x30,
        1,
        2,
        3,
        1,
        1,
        issuer.n.len() as u8,
        exponent_len
    ];
    head.extend(field);
    (head, remainder)
}

fn certify_issuer(ca: &Key, issuer: &Key, change: impl FnOnce(&mut Vec<u8>)) -> Certificate {
    let (mut head, remainder) = issuer_head(ca, issuer);
    change(&mut head);
    let exponent = issuer.exponent.as_bytes().to_vec();
    Certificate { block: ca.seal(&head, &[&remainder, &exponent]), remainder, exponent }
}

fn certify_card(issuer: &Key, card: &Key, change: impl FnOnce(&mut Vec<u8>)) -> Certificate {
    let (field, remainder) = split_key(card, issuer.n.len() - 42);
    let exponent = card.exponent.as_bytes().to_vec();
    let mut head = std::vec![0x04];
    head.extend(token().bcd());
    head.extend([0x12, 0x29, 4, 5, 6, 1, 1, card.n.len() as u8, exponent.len() as u8]);
    head.extend(field);
    change(&mut head);
    Certificate { block: issuer.seal(&head, &[&remainder, &exponent, RECORD, AIP]), remainder, exponent }
}

fn dynamic_head(card: &Key, format: u8, data: &[u8]) -> Vec<u8> {
    let mut head = std::vec![format, 0x01, data.len() as u8];
    head.extend(data);
    head.resize(card.n.len() - 22, 0xBB);
    head
}

fn fdda_data(atc: u16) -> [u8; 3] {
    let [high, low] = atc.to_be_bytes();
    [0x02, high, low]
}

fn sign_fdda(card: &Key, format: u8) -> Vec<u8> {
    card.seal(&dynamic_head(card, format, &fdda_data(ATC)), &[&UNPREDICTABLE, &AMOUNT, &CURRENCY, &CARD_DATA])
}

fn fdda() -> Fdda<'static> {
    Fdda {
        unpredictable: &UNPREDICTABLE,
        amount: &AMOUNT,
        currency: &CURRENCY,
        card_data: &CARD_DATA,
        atc: ATC,
    }
}

fn check_issuer<'b>(ca: &Key, c: &Certificate, buf: &'b mut [u8]) -> Result<IssuerCert<'b>, RsaError> {
    let issuer = IssuerCert::recover(&ca.public(), &c.block, &c.remainder, &c.exponent, buf)?;
    issuer.check_token(&token())?;
    issuer.check_date(TODAY)?;
    Ok(issuer)
}

fn check_card<'b>(issuer: &RsaKey<'_>, c: &Certificate, buf: &'b mut [u8]) -> Result<IccCert<'b>, RsaError> {
    let card = IccCert::recover(issuer, &c.block, &c.remainder, &c.exponent, &[RECORD, AIP], buf)?;
    card.check_token(&token())?;
    card.check_date(TODAY)?;
    Ok(card)
}

fn check_fdda(card: &Key, sdad: &[u8], fdda: &Fdda<'_>, accepted: &[u8]) -> Result<u8, RsaError> {
    Sdad::verify_fdda(&card.public(), sdad, fdda, accepted, &mut [0; 256]).map(|sdad| sdad.format)
}

#[test]
fn a_genuine_chain_is_accepted_here_and_by_an_independent_implementation() {
    for (issuer, card) in [(&*ISSUER, &*CARD), (&LARGE_ISSUER, &OTHER_CARD), (&LARGE_ISSUER, &LARGE_ISSUER)] {
        let ninety = certify_issuer(&CA, issuer, |_| ());
        let icc = certify_card(issuer, card, |_| ());
        let (mut buf, mut buf2, mut buf3) = ([0; BUFFER], [0; BUFFER], [0; 256]);
        let recovered = check_issuer(&CA, &ninety, &mut buf).unwrap();
        assert_eq!((recovered.serial, recovered.key), ([1, 2, 3], issuer.public()));
        assert_eq!(recovered.expiry, Expiry { year: 30, month: 12 });
        let recovered = check_card(&recovered.key, &icc, &mut buf2).unwrap();
        assert_eq!((recovered.pan, recovered.serial, recovered.key), (token(), [4, 5, 6], card.public()));
        let sdad = sign_fdda(card, 0x95);
        let signed = Sdad::verify_fdda(&recovered.key, &sdad, &fdda(), FORMATS, &mut buf3).unwrap();
        assert_eq!((signed.format, signed.atc()), (0x95, Some(ATC)));

        let some = |bytes: &[u8]| (!bytes.is_empty()).then(|| bytes.to_vec());
        let ca = oda::CaPublicKey { rid: RID, index: 1, modulus: CA.n.clone(), exponent: std::vec![3] };
        let pan = token();
        let oracle = oda::recover_issuer_public_key(
            &ca,
            &ninety.block,
            some(&ninety.remainder).as_deref(),
            &ninety.exponent,
            pan.bcd_short(),
            [0x11, 0x26],
        )
        .unwrap();
        let oracle = oda::recover_icc_public_key(
            &oracle,
            &icc.block,
            some(&icc.remainder).as_deref(),
            &icc.exponent,
            &[RECORD, AIP].concat(),
            pan.bcd_short(),
            [0x11, 0x26],
        )
        .unwrap();
        let terminal = [&UNPREDICTABLE[..], &AMOUNT, &CURRENCY, &CARD_DATA].concat();
        assert_eq!(oda::verify_dda(&oracle, &sign_fdda(card, 0x05), &terminal).unwrap(), ATC.to_be_bytes());
        // The oracle's DDA knows format 05 only; the envelope of 95 is checked below it.
        iso9796_2::verify(&sdad, &oracle.exponent, &oracle.modulus, &terminal).unwrap();
    }
}

// Check values as published for UnionPay (A000000333), with the moduli of crate emv 0.1.1's capk.toml.
#[test]
fn published_authority_keys_have_their_published_check_values() {
    let keys = [
        (
            "01",
            "03",
            "E881E390675D44C2DD81234DCE29C3F5AB2297A0",
            "BBE9066D2517511D239C7BFA77884144AE20C7372F515147E8CE6537C54C0A6A4D45F8CA4D290870CDA59F1344EF71D17D3F35D92F3F06778D0D511EC2A7DC4FFEADF4FB1253CE37A7B2B5A3741227BEF72524DA7A2B7B1CB426BEE27BC513B0CB11AB99BC1BC61DF5AC6CC4D831D0848788CD74F6D543AD37C5A2B4C5D5A93B",
        ),
        (
            "08",
            "03",
            "EE23B616C95C02652AD18860E48787C079E8E85A",
            "B61645EDFD5498FB246444037A0FA18C0F101EBD8EFA54573CE6E6A7FBF63ED21D66340852B0211CF5EEF6A1CD989F66AF21A8EB19DBD8DBC3706D135363A0D683D046304F5A836BC1BC632821AFE7A2F75DA3C50AC74C545A754562204137169663CFCC0B06E67E2109EBA41BC67FF20CC8AC80D7B6EE1A95465B3B2657533EA56D92D539E5064360EA4850FED2D1BF",
        ),
        (
            "09",
            "03",
            "A075306EAB0045BAF72CDD33B3B678779DE1F527",
            "EB374DFC5A96B71D2863875EDA2EAFB96B1B439D3ECE0B1826A2672EEEFA7990286776F8BD989A15141A75C384DFC14FEF9243AAB32707659BE9E4797A247C2F0B6D99372F384AF62FE23BC54BCDC57A9ACD1D5585C303F201EF4E8B806AFB809DB1A3DB1CD112AC884F164A67B99C7D6E5A8A6DF1D3CAE6D7ED3D5BE725B2DE4ADE23FA679BF4EB15A93D8A6E29C7FFA1A70DE2E54F593D908A3BF9EBBD760BBFDC8DB8B54497E6C5BE0E4A4DAC29E5",
        ),
        (
            "0B",
            "03",
            "BD331F9996A490B33C13441066A09AD3FEB5F66C",
            "CF9FDF46B356378E9AF311B0F981B21A1F22F250FB11F55C958709E3C7241918293483289EAE688A094C02C344E2999F315A72841F489E24B1BA0056CFAB3B479D0E826452375DCDBB67E97EC2AA66F4601D774FEAEF775ACCC621BFEB65FB0053FC5F392AA5E1D4C41A4DE9FFDFDF1327C4BB874F1F63A599EE3902FE95E729FD78D4234DC7E6CF1ABABAA3F6DB29B7F05D1D901D2E76A606A8CBFFFFECBD918FA2D278BDB43B0434F5D45134BE1C2781D157D501FF43E5F1C470967CD57CE53B64D82974C8275937C5D8502A1252A8A5D6088A259B694F98648D9AF2CB0EFD9D943C69F896D49FA39702162ACB5AF29B90BADE005BC157",
        ),
    ];
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    };
    for (index, exponent, check, modulus) in keys {
        let (index, exponent, modulus) = (hex(index)[0], hex(exponent), hex(modulus));
        let check: [u8; 20] = hex(check).try_into().unwrap();
        assert_eq!(ca_check_value(&RID, index, &modulus, &exponent), check, "index {index:02X}");
        assert!(check_ca_key(&RID, index, &modulus, &exponent, &check).is_ok());
        let wrong =
            |rid: &[u8; 5], index, check: &[u8; 20]| check_ca_key(rid, index, &modulus, &exponent, check);
        assert_eq!(wrong(&RID, index ^ 1, &check), Err(RsaError::CheckValue));
        assert_eq!(wrong(&[0; 5], index, &check), Err(RsaError::CheckValue));
        let mut bad = check;
        bad[19] ^= 1;
        assert_eq!(wrong(&RID, index, &bad), Err(RsaError::CheckValue));
    }
}

#[test]
fn a_key_outside_what_is_supported_is_named() {
    let n = &CARD.n;
    assert_eq!(RsaKey::new(&n[1..], Exponent::Three), Err(RsaError::ModulusLength(127)));
    assert_eq!(RsaKey::new(&[0xFF; 257], Exponent::Three), Err(RsaError::ModulusLength(257)));
    let mut even = n.clone();
    even[127] &= 0xFE;
    assert_eq!(RsaKey::new(&even, Exponent::Three), Err(RsaError::Modulus));
    let short = [&[0x00], &n[..]].concat();
    assert_eq!(RsaKey::new(&short, Exponent::Three), Err(RsaError::Modulus));
    for exponent in [&[][..], &[0x02], &[0x01], &[0x00, 0x03], &[0x01, 0x00, 0x00, 0x01]] {
        assert_eq!(Exponent::from_bytes(exponent), Err(RsaError::Exponent));
    }
}

#[test]
fn a_block_must_be_as_long_as_the_modulus_and_below_it() {
    let key = CARD.public();
    let mut out = [0; 256];
    assert_eq!(recover(&key, &[1; 127], &mut out), Err(RsaError::Length { expected: 128, got: 127 }));
    assert_eq!(recover(&key, &CARD.n, &mut out), Err(RsaError::OutOfRange));
    assert_eq!(recover(&key, &[0xFF; 128], &mut out), Err(RsaError::OutOfRange));
    assert_eq!(recover(&key, &[1; 128], &mut out[..127]), Err(RsaError::Buffer(127)));
    // 2³ = 8, whatever the modulus.
    let mut two = [0; 128];
    two[127] = 2;
    assert_eq!(recover(&key, &two, &mut out), Ok(128));
    assert!(out[..127].iter().all(|&b| b == 0) && out[127] == 8);
}

/// A head changed before it is sealed, and what names it.
type Case = (usize, u8, RsaError);

#[test]
fn every_field_of_an_issuer_certificate_is_checked_by_name() {
    let cases: [Case; 11] = [
        (0, 0x04, RsaError::Format(0x04)),
        (1, 0x63, RsaError::PanMismatch),
        (4, 0xF1, RsaError::IssuerId),
        (5, 0x13, RsaError::Date),
        (6, 0x25, RsaError::Expired),
        (10, 0x02, RsaError::Algorithm(0x02)),
        (11, 0x02, RsaError::Algorithm(0x02)),
        (12, 0x10, RsaError::KeyLength(0x10)),
        (12, 0xF9, RsaError::KeyLength(0xF9)),
        (13, 0x03, RsaError::Exponent),
        (14 + 176, 0xBA, RsaError::Padding),
    ];
    let mut buf = [0; BUFFER];
    for (at, byte, error) in cases {
        let bad = certify_issuer(&CA, &ISSUER, |head| head[at] = byte);
        assert_eq!(check_issuer(&CA, &bad, &mut buf), Err(error), "head byte {at}");
    }
    let good = certify_issuer(&CA, &LARGE_ISSUER, |_| ());
    let with = |change: &dyn Fn(&mut Certificate)| {
        let mut bad = good.clone();
        change(&mut bad);
        check_issuer(&CA, &bad, &mut [0; BUFFER]).map(|_| ())
    };
    assert_eq!(with(&|_| ()), Ok(()));
    assert_eq!(with(&|c| c.remainder[0] ^= 1), Err(RsaError::Hash));
    assert_eq!(with(&|c| c.exponent = std::vec![3]), Err(RsaError::Hash));
    assert_eq!(with(&|c| c.block.truncate(100)), Err(RsaError::Length { expected: 248, got: 100 }));
    // Moving a byte between remainder and exponent keeps the hash; the lengths tell.
    assert_eq!(
        with(&|c| {
            let byte = c.remainder.pop().unwrap();
            c.exponent.insert(0, byte);
        }),
        Err(RsaError::Exponent)
    );
}

#[test]
fn every_field_of_a_card_certificate_is_checked_by_name() {
    let cases: [Case; 10] = [
        (0, 0x02, RsaError::Format(0x02)),
        (1, 0x63, RsaError::PanMismatch),
        (1, 0xF2, RsaError::Pan),
        (11, 0x13, RsaError::Date),
        (12, 0x25, RsaError::Expired),
        (16, 0x02, RsaError::Algorithm(0x02)),
        (17, 0x03, RsaError::Algorithm(0x03)),
        (18, 0x7F, RsaError::KeyLength(0x7F)),
        (19, 0x03, RsaError::Exponent),
        (20 + 128, 0x00, RsaError::Padding),
    ];
    let mut buf = [0; BUFFER];
    let issuer = ISSUER.public();
    for (at, byte, error) in cases {
        let bad = certify_card(&ISSUER, &CARD, |head| head[at] = byte);
        assert_eq!(check_card(&issuer, &bad, &mut buf).map(|_| ()), Err(error), "head byte {at}");
    }
    let good = certify_card(&ISSUER, &CARD, |_| ());
    let recover = |static_data: &[&[u8]], remainder: &[u8], exponent: &[u8]| {
        IccCert::recover(&issuer, &good.block, remainder, exponent, static_data, &mut [0; BUFFER]).map(|_| ())
    };
    assert_eq!(recover(&[RECORD, AIP], &[], &[3]), Ok(()));
    for at in 0..RECORD.len() {
        let mut record = RECORD.to_vec();
        record[at] ^= 0x01;
        assert_eq!(recover(&[&record, AIP], &[], &[3]), Err(RsaError::Hash), "static byte {at}");
    }
    assert_eq!(recover(&[RECORD], &[], &[3]), Err(RsaError::Hash));
    assert_eq!(recover(&[RECORD, &[0x20, 0x00]], &[], &[3]), Err(RsaError::Hash));
    // The exponent passed off as a remainder.
    assert_eq!(recover(&[RECORD, AIP], &[3], &[]), Err(RsaError::Exponent));
}

#[test]
fn a_changed_bit_anywhere_is_refused() {
    let issuer = certify_issuer(&CA, &LARGE_ISSUER, |_| ());
    let card = certify_card(&LARGE_ISSUER, &OTHER_CARD, |_| ());
    let sdad = sign_fdda(&OTHER_CARD, 0x95);
    for at in 0..issuer.block.len() {
        let mut bad = issuer.clone();
        bad.block[at] ^= 1 << (at % 8);
        assert!(check_issuer(&CA, &bad, &mut [0; BUFFER]).is_err(), "issuer byte {at}");
    }
    for at in 0..card.block.len() {
        let mut bad = card.clone();
        bad.block[at] ^= 1 << (at % 8);
        assert!(check_card(&LARGE_ISSUER.public(), &bad, &mut [0; BUFFER]).is_err(), "card byte {at}");
    }
    for at in 0..sdad.len() {
        let mut bad = sdad.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(check_fdda(&OTHER_CARD, &bad, &fdda(), FORMATS).is_err(), "signature byte {at}");
    }
}

/// A recovered block with one byte changed and signed again by the true key, without a new hash.
#[test]
fn a_changed_byte_in_any_recovered_field_is_refused_even_under_a_true_signature() {
    let ca = CA.public();
    let good = certify_issuer(&CA, &ISSUER, |_| ());
    let mut block = [0; 248];
    recover(&ca, &good.block, &mut block).unwrap();
    for at in 0..block.len() {
        let mut bad = block;
        bad[at] ^= 0x01;
        let wanted = match at {
            0 => RsaError::Header,
            1 => RsaError::Format(0x03),
            247 => RsaError::Trailer,
            _ => RsaError::Hash,
        };
        let certificate = Certificate { block: CA.sign(&bad), ..good.clone() };
        assert_eq!(check_issuer(&CA, &certificate, &mut [0; BUFFER]).map(|_| ()), Err(wanted), "byte {at}");
    }
}

#[test]
fn another_cards_certificate_and_another_issuers_are_refused() {
    let other = certify_card(&ISSUER, &OTHER_CARD, |_| ());
    let mut buf = [0; BUFFER];
    let certified = check_card(&ISSUER.public(), &other, &mut buf).unwrap();
    let sdad = sign_fdda(&CARD, 0x95);
    let result = Sdad::verify_fdda(&certified.key, &sdad, &fdda(), FORMATS, &mut [0; 256]).map(|_| ());
    assert_eq!(result, Err(RsaError::Length { expected: 144, got: 128 }));
    // Same length, other key.
    let result = check_fdda(&Key::generate(1024, Exponent::Three, 6), &sdad, &fdda(), FORMATS);
    assert!(matches!(result, Err(RsaError::Header | RsaError::OutOfRange)), "{result:?}");
    let elsewhere = certify_card(&LARGE_ISSUER, &CARD, |_| ());
    let result = check_card(&CA.public(), &elsewhere, &mut buf);
    assert!(matches!(result, Err(RsaError::Header | RsaError::OutOfRange)), "{result:?}");
}

#[test]
fn the_format_of_signed_data_must_be_one_the_scheme_accepts() {
    for format in [0x05, 0x95] {
        let sdad = sign_fdda(&CARD, format);
        assert_eq!(check_fdda(&CARD, &sdad, &fdda(), FORMATS), Ok(format));
        assert_eq!(check_fdda(&CARD, &sdad, &fdda(), &[format]), Ok(format));
        assert_eq!(check_fdda(&CARD, &sdad, &fdda(), &[format ^ 0x90]), Err(RsaError::Format(format)));
        assert_eq!(check_fdda(&CARD, &sdad, &fdda(), &[]), Err(RsaError::Format(format)));
    }
    assert_eq!(check_fdda(&CARD, &sign_fdda(&CARD, 0x15), &fdda(), FORMATS), Err(RsaError::Format(0x15)));
}

#[test]
fn fdda_version_00_is_refused() {
    // What version 00 signs: the unpredictable number alone.
    let sdad = CARD.seal(&dynamic_head(&CARD, 0x05, &fdda_data(ATC)), &[&UNPREDICTABLE]);
    let card_data = [0x00, 0xC1, 0xC2, 0xC3, 0xC4, 0x00, 0x80];
    let version_00 = Fdda { card_data: &card_data, ..fdda() };
    assert_eq!(check_fdda(&CARD, &sdad, &version_00, FORMATS), Err(RsaError::FddaVersion(0x00)));
    assert_eq!(check_fdda(&CARD, &sdad, &fdda(), FORMATS), Err(RsaError::Hash));
    for len in [0, 4, 17] {
        let card_data = [0x01; 17];
        let wrong = Fdda { card_data: &card_data[..len], ..fdda() };
        assert_eq!(check_fdda(&CARD, &sdad, &wrong, FORMATS), Err(RsaError::CardData(len)));
    }
}

#[test]
fn a_changed_byte_in_what_the_gate_sent_or_the_card_said_is_refused() {
    let sdad = sign_fdda(&CARD, 0x95);
    let check = |fdda: &Fdda<'_>| check_fdda(&CARD, &sdad, fdda, FORMATS);
    let (unpredictable, amount, currency) = ([1, 2, 3, 5], [0, 0, 0, 0, 2, 0], [0x08, 0x40]);
    let mut card_data = CARD_DATA;
    card_data[6] = 0x00;
    assert_eq!(check(&Fdda { unpredictable: &unpredictable, ..fdda() }), Err(RsaError::Hash));
    assert_eq!(check(&Fdda { amount: &amount, ..fdda() }), Err(RsaError::Hash));
    assert_eq!(check(&Fdda { currency: &currency, ..fdda() }), Err(RsaError::Hash));
    assert_eq!(check(&Fdda { card_data: &card_data, ..fdda() }), Err(RsaError::Hash));
    assert_eq!(check(&Fdda { atc: ATC + 1, ..fdda() }), Err(RsaError::AtcMismatch));
}

#[test]
fn malformed_signed_data_are_refused_by_name() {
    let terminal: [&[u8]; 4] = [&UNPREDICTABLE, &AMOUNT, &CURRENCY, &CARD_DATA];
    let check = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut head = dynamic_head(&CARD, 0x95, &fdda_data(ATC));
        change(&mut head);
        check_fdda(&CARD, &CARD.seal(&head, &terminal), &fdda(), FORMATS)
    };
    assert_eq!(check(&|_| ()), Ok(0x95));
    assert_eq!(check(&|h| h[1] = 0x02), Err(RsaError::Algorithm(0x02)));
    assert_eq!(check(&|h| h[2] = 0x00), Err(RsaError::Padding));
    assert_eq!(check(&|h| h[2] = 0xFF), Err(RsaError::DynamicData));
    assert_eq!(check(&|h| h[2] = 0x04), Err(RsaError::DynamicData));
    assert_eq!(check(&|h| h[3] = 0x03), Err(RsaError::DynamicData));
    assert_eq!(check(&|h| h[3] = 0x01), Err(RsaError::DynamicData));
    assert_eq!(check(&|h| h[50] = 0x00), Err(RsaError::Padding));
    // An empty field: no dynamic number at all.
    let check_empty = CARD.seal(&dynamic_head(&CARD, 0x95, &[]), &terminal);
    assert_eq!(check_fdda(&CARD, &check_empty, &fdda(), FORMATS), Err(RsaError::DynamicData));
}

#[test]
fn an_older_cards_dda_over_its_ddol_values_is_accepted() {
    let mut data = std::vec![8];
    data.extend([9; 8]);
    let sdad = CARD.seal(&dynamic_head(&CARD, 0x05, &data), &[&UNPREDICTABLE]);
    let mut buf = [0; 128];
    let signed = Sdad::verify(&CARD.public(), &sdad, &[&UNPREDICTABLE], &[0x05], &mut buf).unwrap();
    assert_eq!((signed.icc_dynamic_number, signed.rest, signed.atc()), (&[9; 8][..], &[][..], None));
}

#[test]
fn small_buffers_are_refused_and_the_stated_one_suffices() {
    let issuer = certify_issuer(&CA, &LARGE_ISSUER, |_| ());
    let recover = |buf: &mut [u8]| {
        IssuerCert::recover(&CA.public(), &issuer.block, &issuer.remainder, &issuer.exponent, buf).map(|_| ())
    };
    for len in [0, 247, 248, 262] {
        assert_eq!(recover(&mut std::vec![0; len]), Err(RsaError::Buffer(len)));
    }
    assert_eq!(recover(&mut [0; BUFFER]), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    // Crate emv computes with num-bigint.
    #[test]
    fn the_public_operation_agrees_with_an_independent_one(
        bytes in 128usize..=256, seed in any::<[u8; 32]>(), three in any::<bool>()
    ) {
        use rand_chacha::rand_core::Rng;
        let mut rng = rand_chacha::ChaCha8Rng::from_seed(seed);
        let mut n = std::vec![0; bytes];
        let mut block = std::vec![0; bytes];
        rng.fill_bytes(&mut n);
        rng.fill_bytes(&mut block);
        n[0] = n[0].max(1);
        n[bytes - 1] |= 1;
        let exponent = if three { Exponent::Three } else { Exponent::F4 };
        let key = RsaKey::new(&n, exponent).unwrap();
        let mut out = [0; 256];
        match (recover(&key, &block, &mut out), iso9796_2::rsa_recover(&block, exponent.as_bytes(), &n)) {
            (Ok(len), Ok(wanted)) => prop_assert_eq!(&out[..len], &wanted[..]),
            (ours, theirs) => prop_assert!(ours == Err(RsaError::OutOfRange) && theirs.is_err()),
        }
    }

    #[test]
    fn any_bytes_are_refused_without_harm(
        block in prop::collection::vec(any::<u8>(), 0..260), rest in prop::collection::vec(any::<u8>(), 0..40),
        len in 0usize..BUFFER
    ) {
        let mut buf = std::vec![0; len];
        for key in [CA.public(), CARD.public(), LARGE_ISSUER.public()] {
            let block = &block[..block.len().min(key.modulus().len())];
            prop_assert!(IssuerCert::recover(&key, block, &rest, &[3], &mut buf).is_err());
            prop_assert!(IccCert::recover(&key, block, &rest, &[3], &[&rest], &mut buf).is_err());
            prop_assert!(Sdad::verify(&key, block, &[&rest], FORMATS, &mut buf).is_err());
        }
    }

    // Any head at all, under a true signature and hash: reads to a certificate or a named error.
    #[test]
    fn any_signed_head_is_read_or_refused(
        format in prop::sample::select(std::vec![0x02u8, 0x04, 0x95]), mut head in prop::collection::vec(any::<u8>(), 106),
        rest in prop::collection::vec(any::<u8>(), 0..8), len in 120usize..BUFFER
    ) {
        head[0] = format;
        let block = CARD.seal(&head, &[&rest, &[3]]);
        let mut buf = std::vec![0; len];
        let _ = IssuerCert::recover(&CARD.public(), &block, &rest, &[3], &mut buf);
        let _ = IccCert::recover(&CARD.public(), &block, &rest, &[3], &[], &mut buf);
        let _ = Sdad::verify(&CARD.public(), &block, &[&rest, &[3]], FORMATS, &mut buf);
    }
}
