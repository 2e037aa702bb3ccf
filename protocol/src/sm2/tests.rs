use super::*;
use proptest::prelude::*;

const USUAL: &Convention = &Convention::DEFAULT;

fn hex(text: &str) -> [u8; 32] {
    let digits = text.as_bytes();
    assert_eq!(digits.len(), 64);
    let digit = |i: usize| char::from(digits[i]).to_digit(16).unwrap() as u8;
    core::array::from_fn(|i| digit(2 * i) << 4 | digit(2 * i + 1))
}

fn joined<const N: usize>(a: [u8; 32], b: [u8; 32]) -> [u8; N] {
    core::array::from_fn(|i| if i < 32 { a[i] } else { b[i - 32] })
}

/// The example of GM/T 0003.5-2012, annex A (GB/T 32918.5-2017, A.2): signer `1234567812345678`, "message digest".
fn example() -> (SigningKey, [u8; KEY_LEN], [u8; SIGNATURE_LEN]) {
    let d = hex("3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8");
    let x = hex("09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020");
    let y = hex("CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13");
    let r = hex("F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3");
    let s = hex("B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA");
    (SigningKey::from_bytes(&d, USUAL).unwrap(), joined(x, y), joined(r, s))
}

#[test]
fn the_standard_s_example_verifies_and_no_changed_bit_of_it_does() {
    let (signer, xy, signature) = example();
    assert_eq!(signer.public_key().as_bytes(), &xy);
    let key = PublicKey::from_bytes(xy);
    assert_eq!(key.verify(&[b"message digest"], &signature, USUAL), Ok(()));
    assert_eq!(key.verify(&[b"message ", b"", b"digest"], &signature, USUAL), Ok(()));
    assert_eq!(key.verify(&[b"message digesT"], &signature, USUAL), Err(Sm2Error::Signature));
    for place in 0..SIGNATURE_LEN {
        let mut changed = signature;
        changed[place] ^= 1;
        assert_eq!(key.verify(&[b"message digest"], &changed, USUAL), Err(Sm2Error::Signature));
        let mut changed = xy;
        changed[place] ^= 1;
        let key = PublicKey::from_bytes(changed);
        assert_eq!(key.verify(&[b"message digest"], &signature, USUAL), Err(Sm2Error::Signature));
    }
    for number in [[0; 64], [0xFF; 64]] {
        assert_eq!(key.verify(&[b"message digest"], &number, USUAL), Err(Sm2Error::Signature));
        let key = PublicKey::from_bytes(number);
        assert_eq!(key.verify(&[b"message digest"], &signature, USUAL), Err(Sm2Error::Signature));
    }
}

#[test]
fn the_published_authority_key_18_lies_on_the_curve() {
    let x = hex("37710FEB7CC3617767874E85509C268E8F931D68773E93A89F39A4247DFE2D28");
    let y = hex("0FC5BC838353885B6DAD447C8F90116BD9D314047591989F67F319544D42A48B");
    let sec1: [u8; 65] = core::array::from_fn(|i| match i {
        0 => 0x04,
        1..=32 => x[i - 1],
        _ => y[i - 33],
    });
    assert!(::sm2::PublicKey::from_sec1_bytes(&sec1).is_ok());
    let mut off = sec1;
    off[64] ^= 1;
    assert!(::sm2::PublicKey::from_sec1_bytes(&off).is_err());
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32], USUAL).unwrap()
}

fn issuer_fields() -> IssuerFields {
    IssuerFields {
        issuer_id: [0x62, 0x12, 0x34, 0xFF],
        expiry: Expiry { year: 35, month: 12 },
        serial: [0, 1, 7],
        key_parameters: unverified::KEY_PARAMETERS,
        key: key(2).public_key(),
    }
}

fn card_fields() -> CardFields {
    CardFields {
        token: Token::from_digits("6212345678901234").unwrap(),
        expiry: Expiry { year: 30, month: 6 },
        serial: [0, 2, 9],
        key_parameters: unverified::KEY_PARAMETERS,
        key: key(3).public_key(),
    }
}

const RECORDS: &[u8] = b"records for offline data authentication";
const AIP: [u8; 2] = [0x20, 0x00];

#[test]
fn certificates_have_the_layout_of_the_facts() {
    let issuer = IssuerCertificate::issue(&issuer_fields(), &key(1)).unwrap();
    assert_eq!(issuer[..14], [0x12, 0x62, 0x12, 0x34, 0xFF, 0x12, 0x35, 0, 1, 7, 0x04, 0x00, 0x11, 0x40]);
    assert_eq!(issuer[14..78], key(2).public_key().as_bytes()[..]);
    let card = CardCertificate::issue(&card_fields(), &key(2), RECORDS, &AIP).unwrap();
    assert_eq!(card[..11], [0x14, 0x62, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0xFF, 0xFF]);
    assert_eq!(card[11..20], [0x06, 0x30, 0, 2, 9, 0x04, 0x00, 0x11, 0x40]);
    assert_eq!(card[20..84], key(3).public_key().as_bytes()[..]);
}

#[test]
fn a_changed_bit_anywhere_in_a_certificate_or_in_what_it_covers_is_found() {
    let issuer = IssuerCertificate::issue(&issuer_fields(), &key(1)).unwrap();
    let ca = key(1).public_key();
    let check =
        |value: &[u8]| IssuerCertificate::parse(value).and_then(|c| c.verify(&ca, USUAL).map(|()| c.fields));
    assert_eq!(check(&issuer), Ok(issuer_fields()));
    assert!(IssuerCertificate::is_one(&issuer));
    for place in 0..issuer.len() {
        let mut changed = issuer;
        changed[place] ^= 1 << (place % 8);
        assert!(check(&changed).is_err(), "issuer byte {place}");
    }
    assert_eq!(check(&issuer[1..]), Err(Sm2Error::Length(141)));

    let card = CardCertificate::issue(&card_fields(), &key(2), RECORDS, &AIP).unwrap();
    let issuer = key(2).public_key();
    let check = |value: &[u8], records: &[u8], aip: &[u8; 2]| {
        CardCertificate::parse(value).and_then(|c| c.verify(&issuer, records, aip, USUAL).map(|()| c.fields))
    };
    assert_eq!(check(&card, RECORDS, &AIP), Ok(card_fields()));
    for place in 0..card.len() {
        let mut changed = card;
        changed[place] ^= 1 << (place % 8);
        assert!(check(&changed, RECORDS, &AIP).is_err(), "card byte {place}");
    }
    assert_eq!(check(&card, &RECORDS[1..], &AIP), Err(Sm2Error::Signature));
    assert_eq!(check(&card, RECORDS, &[0x20, 0x01]), Err(Sm2Error::Signature));
}

const CARD_DATA: [u8; 7] = [0x01, 0xC1, 0xC2, 0xC3, 0xC4, 0, 0];

fn fdda<'a>(card_data: &'a [u8], atc: u16) -> Fdda<'a> {
    Fdda {
        unpredictable: &[1, 2, 3, 4],
        amount: &[0, 0, 0, 0, 3, 0],
        currency: &[0x01, 0x56],
        card_data,
        atc,
    }
}

#[test]
fn a_quick_signature_covers_all_that_was_sent_and_the_counter() {
    let tap = fdda(&CARD_DATA, 0x0102);
    let value = sign_fdda(&key(3), 0x0102, &tap.terminal_data(), USUAL).unwrap();
    assert_eq!(value[..5], [0x15, 3, 2, 1, 2]);
    let card = key(3).public_key();
    assert_eq!(verify_fdda(&card, &value, &tap, USUAL), Ok(()));
    for place in 0..value.len() {
        let mut changed = value.clone();
        changed[place] ^= 1 << (place % 8);
        assert!(verify_fdda(&card, &changed, &tap, USUAL).is_err(), "byte {place}");
    }
    let other = |change: &dyn Fn(&mut Fdda<'_>)| {
        let mut tap = fdda(&CARD_DATA, 0x0102);
        change(&mut tap);
        verify_fdda(&card, &value, &tap, USUAL)
    };
    assert_eq!(other(&|t| t.unpredictable = &[1, 2, 3, 5]), Err(Sm2Error::Signature));
    assert_eq!(other(&|t| t.amount = &[0; 6]), Err(Sm2Error::Signature));
    assert_eq!(other(&|t| t.currency = &[0x08, 0x40]), Err(Sm2Error::Signature));
    assert_eq!(other(&|t| t.card_data = &[0x01, 0xC1, 0xC2, 0xC3, 0xC4, 0, 1]), Err(Sm2Error::Signature));
    assert_eq!(other(&|t| t.card_data = &[0x00, 0xC1, 0xC2, 0xC3, 0xC4]), Err(Sm2Error::FddaVersion(0)));
    assert_eq!(other(&|t| t.card_data = &[0x01; 4]), Err(Sm2Error::CardData(4)));
    assert_eq!(other(&|t| t.card_data = &[0x01; 17]), Err(Sm2Error::CardData(17)));
    assert_eq!(other(&|t| t.atc = 0x0103), Err(Sm2Error::AtcMismatch));
}

#[test]
fn who_signs_by_another_convention_is_understood_by_it_alone() {
    let bare = Convention::new("", &[]).unwrap();
    let other = Convention::new("ALICE123@YAHOO.COM", &[0, 2]).unwrap();
    let tap = fdda(&CARD_DATA, 0x0102);
    for convention in [bare, other, Convention::DEFAULT] {
        let [ca, issuer, card] =
            [1, 2, 3].map(|seed| SigningKey::from_bytes(&[seed; 32], &convention).unwrap());
        let fields = IssuerFields { key_parameters: [0xAA, 0xBB], ..issuer_fields() };
        let issuer_certificate = IssuerCertificate::issue(&fields, &ca).unwrap();
        let fields = CardFields { key_parameters: [0xCC, 0xDD], ..card_fields() };
        let card_certificate = CardCertificate::issue(&fields, &issuer, RECORDS, &AIP).unwrap();
        let signature = sign_fdda(&card, 0x0102, &tap.terminal_data(), &convention).unwrap();
        assert!(signature[2..].starts_with(convention.counter_prefix()));
        let issuer_certificate = IssuerCertificate::parse(&issuer_certificate).unwrap();
        let card_certificate = CardCertificate::parse(&card_certificate).unwrap();
        assert_eq!(issuer_certificate.fields.key_parameters, [0xAA, 0xBB]);
        assert_eq!(card_certificate.fields.key_parameters, [0xCC, 0xDD]);
        for gate in [bare, other, Convention::DEFAULT] {
            let alike = if gate == convention { Ok(()) } else { Err(Sm2Error::Signature) };
            assert_eq!(issuer_certificate.verify(&ca.public_key(), &gate), alike);
            assert_eq!(card_certificate.verify(&issuer.public_key(), RECORDS, &AIP, &gate), alike);
            assert_eq!(verify_fdda(&card.public_key(), &signature, &tap, &gate), alike);
        }
    }
    // The form alone is another one.
    let long = Convention::new(unverified::USER_ID, &[0, 2]).unwrap();
    let signature = sign_fdda(&key(3), 0x0102, &tap.terminal_data(), &long).unwrap();
    let card = key(3).public_key();
    assert_eq!(verify_fdda(&card, &signature, &tap, &long), Ok(()));
    assert_eq!(verify_fdda(&card, &signature, &tap, USUAL), Err(Sm2Error::DynamicData));
}

#[test]
fn a_convention_has_limits_that_are_named() {
    let longest = "x".repeat(MAX_USER_ID);
    assert_eq!(Convention::new(&longest, &[7; 8]).unwrap().user_id(), longest);
    assert_eq!(Convention::new(&(longest + "x"), &[]), Err(Sm2Error::UserId(33)));
    assert_eq!(Convention::new("", &[7; 9]), Err(Sm2Error::CounterPrefix(9)));
    assert_eq!(Convention::DEFAULT.user_id(), "1234567812345678");
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
        let key = key(1).public_key();
        let _ = IssuerCertificate::parse(&bytes).map(|c| c.verify(&key, USUAL));
        let _ = CardCertificate::parse(&bytes).map(|c| c.verify(&key, RECORDS, &AIP, USUAL));
        prop_assert!(verify_dynamic(&key, &bytes, b"", USUAL).is_err());
    }
}
