//! Every profile answers well-formed data whose certificates, signatures and cryptograms verify with our functions
//! and with crate `emv`.

use crate::cast::*;
use emv::core::{ecc_oda, oda};
use wavepass_hce::application::HOUSE_AID;
use wavepass_hce::card::Card;
use wavepass_hce::issue::*;
use wavepass_hce::reader::{Reading, read, read_application};
use wavepass_protocol::cryptogram::{application_cryptogram, master_key_option_c, session_key};
use wavepass_protocol::ecc::{self, CardCertificate, IssuerCertificate, P256Verifier, PublicKey, StaticHash};
use wavepass_protocol::rsa::{self, Exponent, Fdda, IccCert, IssuerCert, RsaKey, Sdad};
use wavepass_protocol::select::Aid;
use wavepass_protocol::token::Token;
use wavepass_protocol::{tags, tlv};

const NOW: [u8; 2] = [0x12, 0x00];
const YYYYMMDD: [u8; 4] = [0x20, 0x26, 0x11, 0x24];

/// What a gate verifies of a house phone, with our functions.
pub(crate) fn check_house(reading: &Reading, ca: &[u8; 32]) -> Result<Token, ecc::CertError> {
    let value = |tag| reading.value(tag).unwrap_or_default();
    let (issuer, card) = (value(tags::ISSUER_CERTIFICATE), value(tags::CARD_CERTIFICATE));
    let issuer = IssuerCertificate::parse(&issuer)?;
    issuer.verify(&mut P256Verifier, &PublicKey::from_x(*ca))?;
    let token = Token::from_bcd(&value(tags::PAN)).unwrap();
    issuer.check_token(&token)?;
    let card = CardCertificate::parse(&card)?;
    let mut hash = StaticHash::new();
    hash.record(&reading.static_records());
    let aip = tlv::find_tlv(&reading.options, tags::AIP).unwrap().unwrap().raw;
    card.check_static(&hash.finish(aip, &reading.aid.tlv(), &reading.pdol_tlv))?;
    card.verify(&mut P256Verifier, &issuer.fields.key)?;
    let (before, signature, after) = tlv::split_around(&reading.options, tags::SDAD).unwrap();
    ecc::verify_dynamic(
        &mut P256Verifier,
        &card.fields.key,
        &reading.pdol_values,
        &[before, after],
        signature,
    )?;
    Ok(token)
}

/// What a gate verifies of an RSA card, with our functions.
pub(crate) fn check_rsa(
    reading: &Reading,
    ca: &RsaCaKey,
    values: &wavepass_hce::reader::Values,
) -> Result<Token, rsa::RsaError> {
    let value = |tag| reading.value(tag).unwrap_or_default();
    let exponent = if ca.exponent == 3 { Exponent::Three } else { Exponent::F4 };
    let ca = RsaKey::new(&ca.modulus, exponent)?;
    let (mut a, mut b, mut c) = ([0; rsa::BUFFER], [0; rsa::BUFFER], [0; rsa::BUFFER]);
    let issuer = IssuerCert::recover(
        &ca,
        &value(tags::ISSUER_CERTIFICATE),
        &value(tags::ISSUER_REMAINDER),
        &value(tags::ISSUER_EXPONENT),
        &mut a,
    )?;
    let token = Token::from_bcd(&value(tags::PAN)).unwrap();
    issuer.check_token(&token)?;
    let card = IccCert::recover(
        &issuer.key,
        &value(tags::CARD_CERTIFICATE),
        &value(tags::CARD_REMAINDER),
        &value(tags::CARD_EXPONENT),
        &[&reading.static_records(), &value(tags::AIP)],
        &mut b,
    )?;
    card.check_token(&token)?;
    let amount = [0, 0, 0, 1, 0x23, 0x45];
    let currency = values.currency.to_be_bytes();
    let fdda = Fdda {
        unpredictable: &values.unpredictable,
        amount: &amount,
        currency: &currency,
        card_data: &value(tags::CARD_AUTHENTICATION_DATA),
        atc: u16::from_be_bytes(value(tags::ATC).try_into().unwrap()),
    };
    Sdad::verify_fdda(&card.key, &value(tags::SDAD), &fdda, &[0x05, 0x95], &mut c)?;
    Ok(token)
}

fn check_cryptogram(reading: &Reading) {
    let value = |tag| reading.value(tag).unwrap();
    let token = Token::from_bcd(&value(tags::PAN)).unwrap();
    let master = master_key_option_c(&IMK, &token, value(tags::PSN)[0]);
    let session = session_key(&master, u16::from_be_bytes(value(tags::ATC).try_into().unwrap()));
    let data = [&reading.pdol_values, &value(tags::AIP), &value(tags::ATC), &value(tags::IAD)];
    let data: Vec<&[u8]> = data.iter().map(|part| part.as_slice()).collect();
    let expected = application_cryptogram(&session, &data);
    assert_eq!(value(tags::CRYPTOGRAM), expected);
    assert_eq!((value(tags::CID), value(tags::IAD)[4] & 0x30), (vec![0x80], 0x20), "an ARQC");
    use emv::core::{application_cryptogram::application_cryptogram_aes, master_key_derivation::*};
    let theirs = derive_master_key_option_c(&IMK, token.bcd_short(), Some(value(tags::PSN)[0])).unwrap();
    assert_eq!(theirs, master);
    assert_eq!(application_cryptogram_aes(&session, &data.concat()).unwrap(), expected);
}

#[test]
fn a_house_phone_proves_itself_to_our_functions_and_to_an_independent_implementation() {
    let mut phone = phone(&house(1));
    for tap in 1..=3u8 {
        let reading = read(&mut phone, &gate(tap)).unwrap();
        assert_eq!(reading.aid, Aid::new(HOUSE_AID).unwrap());
        assert_eq!(check_house(&reading, &HOUSE.ca_public_key()), Ok(house_token(1)));
        check_cryptogram(&reading);
        let value = |tag| reading.value(tag).unwrap();
        assert_eq!(value(tags::ATC), [0, tap]);
        assert_eq!(value(tags::DOMAIN), *b"\x01\x01CITY\x00\x00");
        assert_eq!(
            (value(tags::EXPIRY_DATE), value(tags::EFFECTIVE_DATE)),
            (vec![0x29, 0x02, 0x28], vec![0x26, 0x01, 0x15])
        );

        let ca = ecc_oda::EccCaPublicKey {
            rid: HOUSE_RID,
            index: value(tags::CA_INDEX)[0],
            x_coord: HOUSE.ca_public_key().to_vec(),
            algorithm_suite: ecc::SUITE,
        };
        let certificate = value(tags::ISSUER_CERTIFICATE);
        let issuer =
            ecc_oda::recover_issuer_public_key_ecc(&ca, &certificate, &value(tags::PAN), YYYYMMDD).unwrap();
        let aip = [&[0x82, 2], &value(tags::AIP)[..]].concat();
        let data = [&reading.static_records(), &aip, &reading.aid.tlv()[..], &reading.pdol_tlv].concat();
        let certificate = value(tags::CARD_CERTIFICATE);
        let card = ecc_oda::recover_icc_public_key_ecc(&issuer, &certificate, &data, YYYYMMDD, NOW).unwrap();
        let (before, signature, after) = tlv::split_around(&reading.options, tags::SDAD).unwrap();
        let signed = [&[0x15], &reading.pdol_values[..], before, after].concat();
        ecc_oda::verify_xda(&card, signature, &signed).unwrap();
    }
}

#[test]
fn an_rsa_card_proves_itself_to_our_functions_and_to_an_independent_implementation() {
    let mut phone = phone(&rsa(5));
    let ca_key = RSA.ca_key();
    for tap in 1..=3u8 {
        let values = gate(tap);
        let reading = read(&mut phone, &values).unwrap();
        assert_eq!(check_rsa(&reading, &ca_key, &values), Ok(rsa_token(5)));
        check_cryptogram(&reading);
        let value = |tag| reading.value(tag).unwrap();
        assert_eq!(value(tags::ATC), [0, tap]);
        let mut track2 = value(tags::PAN);
        track2.extend([0xD2, 0x90, 0x22, 0x20, 0x01]);
        assert_eq!(value(tags::TRACK2), track2);

        let ca = oda::CaPublicKey {
            rid: ca_key.rid,
            index: ca_key.index,
            modulus: ca_key.modulus.clone(),
            exponent: vec![3],
        };
        let issuer = oda::recover_issuer_public_key(
            &ca,
            &value(tags::ISSUER_CERTIFICATE),
            reading.value(tags::ISSUER_REMAINDER).as_deref(),
            &value(tags::ISSUER_EXPONENT),
            &value(tags::PAN),
            [0x11, 0x26],
        )
        .unwrap();
        let data = [reading.static_records(), value(tags::AIP)].concat();
        let card = oda::recover_icc_public_key(
            &issuer,
            &value(tags::CARD_CERTIFICATE),
            reading.value(tags::CARD_REMAINDER).as_deref(),
            &value(tags::CARD_EXPONENT),
            &data,
            &value(tags::PAN),
            [0x11, 0x26],
        )
        .unwrap();
        // What fDDA signs, as the terminal dynamic data of a DDA.
        let sent = [&values.unpredictable[..], &[0, 0, 0, 1, 0x23, 0x45], &[0x01, 0x56]].concat();
        let signed = [sent, value(tags::CARD_AUTHENTICATION_DATA)].concat();
        assert_eq!(oda::verify_dda(&card, &value(tags::SDAD), &signed).unwrap(), [0, tap]);
    }
}

#[test]
fn every_size_of_card_key_works_with_and_without_a_remainder() {
    for (bits, exponent) in [(1024, 3), (1024, 65_537), (1280, 3)] {
        let key = RsaCardKey::generate_with_exponent(&mut rng(bits as u8), bits, exponent).unwrap();
        let mut phone = phone(&RSA.issue(&rsa_card_order(6), &key).unwrap());
        let reading = read(&mut phone, &gate(1)).unwrap();
        assert_eq!(reading.value(tags::CARD_REMAINDER).is_some(), bits == 1280);
        assert_eq!(
            check_rsa(&reading, &RSA.ca_key(), &gate(1)),
            Ok(rsa_token(6)),
            "{bits} bits, e = {exponent}"
        );
    }
}

#[test]
fn a_phone_with_several_applications_lists_them_by_priority_and_counts_each_apart() {
    let mut phone = phone(&rsa(1).with(house(2)));
    let values = gate(1);
    assert_eq!(read(&mut phone, &values).unwrap().aid, Aid::new(HOUSE_AID).unwrap());
    let debit = Aid::new(RSA_DEBIT_AID).unwrap();
    for tap in 1..=2 {
        let reading = read_application(&mut phone, &values, Some(&debit)).unwrap();
        assert_eq!(check_rsa(&reading, &RSA.ca_key(), &values), Ok(rsa_token(1)));
        assert_eq!(reading.value(tags::ATC).unwrap(), [0, tap]);
    }
    assert_eq!((phone.atc(0).unwrap(), phone.atc(1).unwrap()), (2, 1));
    phone.enter_field();
}

#[test]
fn the_same_randomness_gives_the_same_authorities_and_phones() {
    let again = house_authority(1);
    assert_eq!(again.to_json(), HOUSE.to_json());
    assert_eq!(again.issue(&house_order(1)).unwrap().to_json(), house(1).to_json());
    assert_ne!(house_authority(2).to_json(), HOUSE.to_json());
    let pool = RsaKeyPool::generate(&mut rng(3), 2).unwrap();
    assert_eq!(pool.to_json(), POOL.to_json());
    assert_eq!(RSA.issue(&rsa_card_order(1), pool.get(1).unwrap()).unwrap().to_json(), rsa(1).to_json());
    let answers = || read(&mut phone(&house(1)), &gate(1)).unwrap().exchanges;
    assert!(answers() == answers());
}

#[test]
fn authorities_survive_their_files() {
    let house_again = HouseAuthority::from_json(&HOUSE.to_json()).unwrap();
    assert_eq!(house_again.issue(&house_order(1)).unwrap().to_json(), house(1).to_json());
    let rsa_again = RsaAuthority::from_json(&RSA.to_json()).unwrap();
    assert_eq!(rsa_again.ca_key(), RSA.ca_key());
    let pool = RsaKeyPool::from_json(&POOL.to_json()).unwrap();
    assert_eq!(
        rsa_again.issue(&rsa_card_order(1), pool.get(1).unwrap()).unwrap().to_json(),
        rsa(1).to_json()
    );
    assert!(matches!(HouseAuthority::from_json("{}"), Err(IssueError::Json { line: 1, .. })));
    let other = house_authority(2).to_json();
    let mixed = HOUSE.to_json().replace(&field(&HOUSE.to_json(), "issuer_key"), &field(&other, "issuer_key"));
    assert!(matches!(HouseAuthority::from_json(&mixed), Err(IssueError::Inconsistent)));
}

fn field(json: &str, name: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    value[name].as_str().unwrap().to_owned()
}

#[test]
fn an_order_that_no_gate_could_honour_is_refused_by_name() {
    let issue = |change: &dyn Fn(&mut HouseOrder)| {
        let mut order = house_order(1);
        change(&mut order);
        HOUSE.issue(&order)
    };
    assert!(matches!(issue(&|o| o.token = rsa_token(1)), Err(IssueError::NotOurToken)));
    assert!(matches!(issue(&|o| o.effective.year = 2030), Err(IssueError::Dates)));
    assert!(matches!(issue(&|o| o.effective.year = 1999), Err(IssueError::Year(1999))));
    let stranger = house_authority(2);
    let result = HOUSE.issuer().personalise(&house_order(1), &|m| stranger.sign(m));
    assert!(matches!(result, Err(IssueError::WrongSigner)));
    assert!(matches!(HouseIssuer::new(&[0; 117]), Err(IssueError::Certificate(_))));
    let large = RsaCardKey::generate(&mut rng(8), 1536).unwrap();
    let result = RSA.issue(&rsa_card_order(1), &large);
    assert!(matches!(result, Err(IssueError::KeySize { card: 1536, issuer: 1408 })));
    let mut order = rsa_card_order(1);
    order.aid.truncate(4);
    assert!(matches!(RSA.issue(&order, POOL.get(0).unwrap()), Err(IssueError::Aid(4))));
    assert!(matches!(RsaCardKey::generate(&mut rng(8), 1000), Err(RsaKeyError::Bits(1000))));
}
