//! The functions behind [`crate::TARGETS`], and inputs to begin with.

use std::hint::black_box;
use wavepass_journal::cells::Cell;
use wavepass_journal::keylog::KeyLog;
use wavepass_journal::sim::{RamFlash, block_on};
use wavepass_journal::{Journal, Limits, MAX_LOCAL, MAX_PAYLOAD};
use wavepass_kernel::{Asked, Config, Environment, Kernel, Passback, Step, TapInput, Work, limits};
use wavepass_protocol::apdu::{Command, Response};
use wavepass_protocol::deny::{Delta, DenyKey, DenyList, MAX_READ, Merge, Shape};
use wavepass_protocol::dol::Dol;
use wavepass_protocol::dukpt::{Key, KeyId, Ksn};
use wavepass_protocol::ecc::{CardCertificate, IssuerCertificate, PublicKey, Verifier};
use wavepass_protocol::link::{
    FrameReader, FromGate, FromHost, LinkKey, MAX_FRAME, Side, receive_clear, send_clear,
};
use wavepass_protocol::lists::{self, Application, CaKey, GateConfig, RelayLimits, Revocation, Suite};
use wavepass_protocol::provisioning::{MAX_FILE, Provisioning};
use wavepass_protocol::rsa::{self, Exponent, IccCert, IssuerCert, RsaKey};
use wavepass_protocol::seal::{Chain, Header, MAX_SEALED, Sealed, seal};
use wavepass_protocol::select::{Afl, Fci, oda_part, parse_ppse};
use wavepass_protocol::sm2;
use wavepass_protocol::tap::{Direction, Entry, MAX_BODY, Outcome, Passage};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::tlv;
use wavepass_protocol::token::{Expiry, Token};

pub(crate) fn tlv(data: &[u8]) {
    for item in tlv::iter(data) {
        let Ok(item) = item else { break };
        for inner in tlv::iter(item.value) {
            black_box(inner.is_ok());
        }
        let found = tlv::find(data, item.tag);
        assert!(
            found.is_err() || found.is_ok_and(|f| f.is_some()),
            "a tag that was read is found, or is there twice"
        );
    }
}

pub(crate) fn dol(data: &[u8]) {
    let Ok(dol) = Dol::parse(data) else { return };
    let mut out = [0; 252];
    let len = dol.fill(&mut out, |_| Some(&[0x12, 0x34, 0x56])).expect("252 bytes hold every list's values");
    assert_eq!(len, dol.total_len());
    for (tag, width) in dol.entries() {
        assert_eq!(dol.locate(&out[..len], tag).map(<[u8]>::len), Some(usize::from(width)));
    }
}

pub(crate) fn apdu(data: &[u8]) {
    if let Ok(command) = Command::parse(data) {
        let mut out = vec![0; data.len() + 16];
        let len = command.encode(&mut out).expect("what was read can be written");
        assert_eq!(Command::parse(&out[..len]), Ok(command));
    }
    if let Ok(response) = Response::parse(data) {
        assert_eq!(response.status.to_bytes(), [data[data.len() - 2], data[data.len() - 1]]);
    }
}

pub(crate) fn select(data: &[u8]) {
    black_box(parse_ppse(data).is_ok());
    if let Ok(fci) = Fci::parse(data)
        && let Some(pdol) = fci.pdol
    {
        dol(pdol);
    }
    if let Ok(afl) = Afl::parse(data) {
        assert_eq!(afl.records().count(), afl.count());
        assert!(afl.count() <= 16);
    }
    for sfi in [1, 10, 11, 30] {
        black_box(oda_part(sfi, data).is_ok());
    }
    black_box(Token::from_bcd(data).is_ok());
}

pub(crate) fn ecc_certificate(data: &[u8]) {
    if let Ok(certificate) = IssuerCertificate::parse(data) {
        black_box(certificate.check_time(UnixMs(1_795_478_399_000)).is_ok());
    }
    if let Ok(certificate) = CardCertificate::parse(data) {
        black_box(certificate.check_time(UnixMs(1_795_478_399_000)).is_ok());
    }
}

pub(crate) fn sm2_certificate(data: &[u8]) {
    let key = sm2::PublicKey::from_bytes([7; sm2::KEY_LEN]);
    let usual = &sm2::Convention::DEFAULT;
    if let Ok(certificate) = sm2::IssuerCertificate::parse(data) {
        assert!(certificate.verify(&certificate.fields.key, usual).is_err(), "nobody signed it");
    }
    if let Ok(certificate) = sm2::CardCertificate::parse(data) {
        let verified = certificate.verify(&certificate.fields.key, data, &[0x20, 0], usual);
        assert!(verified.is_err(), "nobody signed it");
    }
    assert!(sm2::verify_dynamic(&key, data, &[], usual).is_err(), "the key is no point of the curve");
}

pub(crate) fn sm2_seeds() -> Vec<Vec<u8>> {
    let mut issuer = vec![0x12, 0x62, 0x22, 0x02, 0xFF, 0x12, 0x30, 1, 2, 3, 4, 0, 0x11, 0x40];
    issuer.resize(sm2::ISSUER_CERTIFICATE_LEN, 0x55);
    let mut card = vec![0x14, 0x62, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0xFF, 0xFF];
    card.extend([0x12, 0x30, 1, 2, 3, 4, 0, 0x11, 0x40]);
    card.resize(sm2::CARD_CERTIFICATE_LEN, 0x55);
    let mut dynamic = vec![0x15, 3, 2, 0, 1];
    dynamic.resize(5 + sm2::SIGNATURE_LEN, 0x55);
    vec![issuer, card, dynamic]
}

pub(crate) fn rsa_certificate(data: &[u8]) {
    let (Some((&choice, rest)), Some(sizes)) = (data.split_first(), data.get(1..4)) else { return };
    // The modulus comes from the input as well: any odd number of any allowed length.
    let len = 128 + usize::from(sizes[0]) % 129;
    let Some((modulus, rest)) = rest.split_at_checked(len) else { return };
    let exponent = if choice & 1 == 0 { Exponent::Three } else { Exponent::F4 };
    let Ok(key) = RsaKey::new(modulus, exponent) else { return };
    let (block, rest) = rest.split_at(len.min(rest.len()));
    let (remainder, static_data) = rest.split_at(usize::from(sizes[1]).min(rest.len()));
    let mut out = [0; rsa::BUFFER];
    black_box(rsa::recover(&key, block, &mut out).is_ok());
    black_box(IssuerCert::recover(&key, block, remainder, &[3], &mut out).is_ok());
    black_box(IccCert::recover(&key, block, remainder, &[3], &[static_data], &mut out).is_ok());
}

pub(crate) fn sealed(data: &[u8]) {
    let Ok(sealed) = Sealed::parse(data) else { return };
    let mut plain = [0; MAX_BODY];
    black_box(sealed.open(&Key::new([7; 16]), &mut plain).is_ok());
}

pub(crate) fn link(data: &[u8]) {
    let mut reader = FrameReader::new();
    let mut session = LinkKey::new([1; 16]).session(Side::Host, 1, &[2; 16], &[3; 16]);
    for &byte in data {
        let Some(Ok(raw)) = reader.push(byte) else { continue };
        black_box(receive_clear::<FromGate<'_>>(raw).is_ok());
        black_box(receive_clear::<FromHost<'_>>(raw).is_ok());
        black_box(session.receive::<FromGate<'_>>(raw).is_ok());
    }
}

struct Yes;

impl Verifier for Yes {
    fn verify(&mut self, _: &PublicKey, _: &[&[u8]], _: &[u8; 64]) -> bool {
        true
    }
}

pub(crate) fn list(data: &[u8]) {
    let contents = [
        Some(data),
        lists::SignedList::verify(data, &PublicKey::from_x([0; 32]), &mut Yes).ok().map(|l| l.content),
    ];
    for content in contents.into_iter().flatten() {
        black_box(DenyList::parse(content).is_ok());
        black_box(lists::check_ca_keys(content).is_ok());
        black_box(lists::revocations(content).filter(Result::is_ok).count());
        if let Ok(config) = GateConfig::parse(content) {
            black_box(Config::new(&config, *b"WAVE", 1).is_ok());
        }
    }
}

/// The input is a deny list's content and a delta on it, after the content's length, two bytes.
pub(crate) fn deny(data: &[u8]) {
    let (head, rest) = data.split_at(data.len().min(2));
    let len = head.iter().fold(0, |n, &b| n << 8 | usize::from(b));
    let (content, delta) = rest.split_at(len.min(rest.len()));
    let token = Token::from_digits("6222021234567890").expect("sixteen digits");
    // Damaged or not, a look-up reads within the content.
    let Ok(list) = DenyList::parsed(content) else { return };
    let look_up = list.shape().look_up(&token, Expiry::new(30, 1).ok());
    if let Ok(bucket) = look_up.bucket(&content[look_up.block()]) {
        assert!(bucket.len() <= MAX_READ);
        assert!(!look_up.hits(&content[bucket]) || list.denies(&token, None));
    }
    let sound = DenyList::parse(content).is_ok();
    if sound {
        let mut keys = Vec::new();
        list.for_each(|key| keys.push(key)).expect("what was parsed is sound");
        let mut out = vec![0; content.len()];
        list.shape().write(&keys, &mut out).expect("what was read can be written");
        assert_eq!(out, content);
    }
    let Ok(delta) = Delta::parse(delta) else { return };
    let Ok(mut merge) = Merge::new(*list.shape(), &delta) else { return };
    let (mut result, mut steps) = (Vec::new(), 0);
    while let Some(range) = merge.want() {
        let mut out = [0; MAX_READ];
        let read = &content[range.start..range.end.min(range.start + MAX_READ)];
        let Ok(len) = merge.step(&delta, read, &mut out) else { return };
        result.extend(&out[..len]);
        steps += 1;
        assert!(steps <= 16 + 4 * data.len(), "a merge ends");
    }
    assert!(DenyList::parse(&result).is_ok(), "what a merge gives is sound");
}

pub(crate) fn provisioning(data: &[u8]) {
    if let Ok(read) = Provisioning::parse(data) {
        let mut out = [0; MAX_FILE];
        assert!(read.write(&mut out).is_ok() || data.len() > MAX_FILE, "what was read can be written");
    }
}

struct Open;

impl Environment for Open {
    fn ca_key(&self, _: &[u8; 5], _: u8, _: Suite) -> Option<CaKey<'_>> {
        None
    }
    fn is_revoked(&self, _: &Revocation) -> bool {
        false
    }
    fn denied(&self, _: &Asked) -> Option<bool> {
        Some(false)
    }
    fn passback(&self, _: &Token, _: UnixMs) -> Passback {
        Passback::Clear
    }
    fn list_stale(&self, _: UnixMs) -> bool {
        false
    }
}

fn config() -> Config {
    let application = |aid: &[u8], suite| Application {
        aid: aid.iter().copied().collect(),
        partial: true,
        suite,
        ttq: [0x21, 0x80, 0x00, 0x80],
        preference: 0,
        formats: [0x05, 0x95].into_iter().collect(),
        domain_required: false,
    };
    let applications = [
        application(b"\xF0WAVEPASS\x01", Suite::P256),
        application(&[0xA0, 0, 0, 3, 0x33, 1, 1, 1], Suite::Rsa),
        application(&[0xA0, 0, 0, 3, 0x33, 1, 1, 1], Suite::Sm2),
    ];
    let config = GateConfig {
        utc_offset_min: 480,
        amount_fen: 100,
        currency: 0x0156,
        country: 0x0156,
        passback_ms: 300_000,
        tap_limit_ms: 1_000,
        list_max_age_ms: 0,
        stale_opens: true,
        applications: applications.into_iter().collect(),
        relay: Some(RelayLimits { overhead_us: 1_000, grace_us: 100, cap_us: 10_000 }),
    };
    Config::new(&config, *b"WAVE", 1).expect("a sound configuration")
}

fn tap() -> TapInput {
    TapInput {
        now: UnixMs(1_795_478_399_000),
        utc_offset_min: 480,
        unpredictable: [1; 4],
        start_us: 0,
        relay_entropy: [[2; 4], [3; 4]],
    }
}

/// Whether the step's command is timed; `None`: there is none.
fn kind(step: Step<'_>) -> Option<bool> {
    match step {
        Step::Send(_) => Some(false),
        Step::Timed(_) => Some(true),
        Step::Last => None,
    }
}

/// The input is a card: each answer is preceded by its length, two bytes.
pub(crate) fn kernel(data: &[u8]) {
    let config = config();
    let mut kernel = Kernel::new(Yes);
    let mut rest = data;
    let mut commands = 0;
    let mut next = kind(kernel.begin(&config, tap()));
    while let Some(is_timed) = next {
        commands += 1;
        assert!(commands <= usize::from(limits::MAX_APDUS), "a card kept the gate busy");
        let (head, tail) = rest.split_at(rest.len().min(2));
        let len = head.iter().fold(0, |n, &b| n << 8 | usize::from(b)) % 600;
        let (answer, after) = tail.split_at(len.min(tail.len()));
        rest = after;
        next = kind(match is_timed {
            // Every other one late.
            true => kernel.timed_answer(&config, answer, commands as u32 % 2 * 50_000, commands as u64),
            false => kernel.answer(&config, answer, commands as u64),
        });
        kernel.work(&Open);
    }
    for _ in 0..8 {
        if matches!(kernel.work(&Open), Work::Idle) {
            break;
        }
    }
    let decision = kernel.decision(&config, &Open).expect("decided after the last step");
    // No authority is known here, so nothing may open.
    assert!(matches!(decision, wavepass_kernel::Decision::Refuse(_)));
    black_box(kernel.facts().pdol.len());
}

pub(crate) fn journal(data: &[u8]) {
    let mut image = data.to_vec();
    image.resize(image.len().clamp(4 * 4096, 8 * 4096), 0xFF);
    recover(&image);
    let opened = block_on(Journal::open(RamFlash::with(image.clone()), Limits::default(), |_| {}));
    if let Ok(mut journal) = opened {
        let mut buffer = [0; MAX_LOCAL + MAX_PAYLOAD];
        let first = journal.oldest();
        for sequence in first..journal.next_sequence().min(first.saturating_add(64)) {
            black_box(block_on(journal.read(sequence, &mut buffer)).is_ok());
        }
        black_box(block_on(journal.prepare()).is_ok());
        black_box(block_on(journal.acknowledge(journal.next_sequence().saturating_sub(1))).is_ok());
    }
    if let Ok(mut cell) = block_on(Cell::open(RamFlash::with(image))) {
        let mut out = vec![0; 16 * 4096];
        black_box(block_on(cell.load(&mut out)).is_ok());
    }
}

/// What the journal took up of some content is still there after it went on and was opened again: every entry that was
/// not acknowledged, and the new one.
fn recover(image: &[u8]) {
    let flash = RamFlash::with(image.to_vec());
    let mut buffer = [0; MAX_LOCAL + MAX_PAYLOAD];
    let Ok(mut journal) = block_on(Journal::open(flash.clone(), Limits::default(), |_| {})) else { return };
    let mut sound = Vec::new();
    for sequence in journal.acknowledged().saturating_add(1)..journal.next_sequence() {
        // Content may claim any numbers: what is there fits the flash, and what is not is not searched for long.
        if sound.len() + 64 < (sequence - journal.acknowledged()) as usize {
            break;
        }
        if let Ok(Some(entry)) = block_on(journal.read(sequence, &mut buffer)) {
            sound.push((sequence, entry.payload.to_vec()));
        }
    }
    black_box(block_on(journal.prepare()).is_ok());
    let next = journal.next_sequence();
    let class = wavepass_journal::Class::Opened;
    if block_on(journal.append(next, class, &[1; 22], &[7; 100])).is_ok() {
        sound.push((next, vec![7; 100]));
    }
    let mut journal = block_on(Journal::open(flash, Limits::default(), |_| {})).expect("opened before");
    assert!(journal.next_sequence() >= next);
    for (sequence, payload) in sound {
        let entry = block_on(journal.read(sequence, &mut buffer)).expect("a flash that works");
        assert_eq!(entry.map(|e| e.payload), Some(&payload[..]), "entry {sequence} is lost");
    }
}

pub(crate) fn keylog(data: &[u8]) {
    let mut image = data.to_vec();
    image.resize(2 * 4096, 0xFF);
    let mut log = block_on(KeyLog::open(RamFlash::with(image))).expect("any content is taken up");
    for register in 0..32 {
        black_box(block_on(log.key(register)).is_ok());
    }
    black_box(block_on(log.prepare()).is_ok());
}

pub(crate) fn tariff(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(tariff) = wavepass_fares::Tariff::parse("fuzz.toml", text) {
        black_box(tariff.compile().is_ok());
    }
}

pub(crate) fn phone_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    black_box(wavepass_hce::phone::PhoneFile::from_json(text).is_ok());
}

const PPSE: &[u8] = &[
    0x6F, 0x2B, 0x84, 0x0E, b'2', b'P', b'A', b'Y', b'.', b'S', b'Y', b'S', b'.', b'D', b'D', b'F', b'0',
    b'1', 0xA5, 0x19, 0xBF, 0x0C, 0x16, 0x61, 0x14, 0x4F, 0x0A, 0xF0, b'W', b'A', b'V', b'E', b'P', b'A',
    b'S', b'S', 0x01, 0x50, 0x03, b'W', b'P', b'1', 0x87, 0x01, 0x01,
];
const FCI: &[u8] = &[
    0x6F, 0x26, 0x84, 0x0A, 0xF0, b'W', b'A', b'V', b'E', b'P', b'A', b'S', b'S', 0x01, 0xA5, 0x18, 0x9F,
    0x38, 0x15, 0x9F, 0x66, 4, 0x9F, 2, 6, 0x9F, 3, 6, 0x9F, 0x1A, 2, 0x95, 5, 0x5F, 0x2A, 2, 0x9A, 3, 0x9C,
    1,
];
const PDOL: &[u8] = &[
    0x9F, 0x66, 4, 0x9F, 2, 6, 0x9F, 3, 6, 0x9F, 0x1A, 2, 0x95, 5, 0x5F, 0x2A, 2, 0x9A, 3, 0x9C, 1, 0x9F,
    0x37, 4,
];

pub(crate) fn card_seeds() -> Vec<Vec<u8>> {
    vec![PPSE.to_vec(), FCI.to_vec(), vec![8, 1, 2, 0, 16, 1, 1, 1], vec![0x70, 4, 0x5A, 2, 0x62, 0x22]]
}

pub(crate) fn dol_seeds() -> Vec<Vec<u8>> {
    vec![PDOL.to_vec(), vec![0x9F, 0x37, 4]]
}

pub(crate) fn apdu_seeds() -> Vec<Vec<u8>> {
    let extended = [&[0, 0xA4, 4, 0, 0, 0, 14][..], b"2PAY.SYS.DDF01", &[1, 0]].concat();
    vec![vec![0, 0xB2, 1, 0x0C, 0], [&[0, 0xA4, 4, 0, 14][..], b"2PAY.SYS.DDF01", &[0]].concat(), extended]
}

pub(crate) fn certificate_seeds() -> Vec<Vec<u8>> {
    let mut issuer = vec![0x12, 0, 0x62, 0x22, 2, 0xFF, 0xFF, 0x10, 0x20, 0x30, 0x12, 0x31, 1, 2, 3];
    issuer.extend([0xF0, b'W', b'A', b'V', b'E', 1]);
    issuer.resize(117, 0x55);
    let mut card = vec![0x14, 0, 0x10, 0x20, 0x30, 0x12, 0x31, 0x23, 0x59, 1, 2, 3, 4, 5, 6, 0, 2];
    card.resize(145, 0x55);
    vec![issuer, card]
}

pub(crate) fn rsa_seeds() -> Vec<Vec<u8>> {
    [0u8, 1]
        .into_iter()
        .map(|choice| (0..700u32).map(|i| if i == 0 { choice } else { (i * 37 % 251) as u8 | 1 }).collect())
        .collect()
}

fn passage_bytes() -> Vec<u8> {
    let header = Header { ksn: Ksn { key_id: KeyId([1; 8]), counter: 3 }, sequence: 4, chain: Chain([9; 8]) };
    let entry = Entry::Passage(Passage { time: UnixMs(1), of: 3, outcome: Outcome::Passed });
    let mut out = [0; MAX_SEALED];
    seal(&Key::new([7; 16]), header, &entry, &mut out).expect("a passage fits").to_vec()
}

pub(crate) fn sealed_seeds() -> Vec<Vec<u8>> {
    vec![passage_bytes()]
}

pub(crate) fn link_seeds() -> Vec<Vec<u8>> {
    let mut out = [0; MAX_FRAME];
    let hello = FromGate::Hello { gate_id: 1, firmware: "gate 1", nonce: [2; 16] };
    let hello = send_clear(&hello, &mut out).expect("a hello fits").to_vec();
    let mut gate = LinkKey::new([1; 16]).session(Side::Gate, 1, &[2; 16], &[3; 16]);
    let entry = passage_bytes();
    let entry = gate.send(&FromGate::Entry { sealed: &entry }, &mut out).expect("an entry fits").to_vec();
    vec![hello.clone(), entry.clone(), [hello, entry].concat()]
}

pub(crate) fn list_seeds() -> Vec<Vec<u8>> {
    let header = lists::Header {
        kind: lists::Kind::Deny,
        version: lists::Version { epoch: 1, version: 2 },
        issued: UnixMs(5),
    };
    let key = lists::ListKey { x: [1; 32], root_signature: [2; 64] };
    let content: Vec<u8> = (0..40).collect();
    let mut out = [0; 512];
    let whole = lists::write(&header, &key, &content, |_| [3; 64], &mut out).expect("40 bytes fit").to_vec();
    vec![whole, content]
}

pub(crate) fn deny_seeds() -> Vec<Vec<u8>> {
    let tokens = (0..120).map(|n| format!("62220212345{n:05}"));
    let tokens: Vec<Token> = tokens.filter_map(|t| Token::from_digits(&t).ok()).collect();
    let seed = |bits: u8, count: usize| {
        let keys = |tokens: &[Token]| {
            let shape = Shape::new([7; 8], 0, bits).expect("a shape");
            let mut keys: Vec<DenyKey> =
                tokens.iter().map(|t| shape.key(t, Expiry { year: 30, month: 1 })).collect();
            keys.sort_unstable();
            keys
        };
        let (listed, changed) = tokens.split_at(count);
        let shape = Shape::new([7; 8], count as u32, bits).expect("a shape");
        let mut content = vec![0; shape.content_len()];
        shape.write(&keys(listed), &mut content).expect("a list");
        let (removed, added) = (keys(&listed[..count / 8]), keys(&changed[..4]));
        let mut delta = vec![0; Delta::len_of(removed.len() + added.len())];
        Delta::write(&removed, &added, &mut delta).expect("a delta");
        [&(content.len() as u16).to_be_bytes()[..], &content, &delta].concat()
    };
    vec![seed(0, 0), seed(0, 10), seed(3, 60), seed(7, 100)]
}

pub(crate) fn provisioning_seeds() -> Vec<Vec<u8>> {
    let sample = Provisioning {
        gate_id: 7,
        key_id: KeyId([1; 8]),
        initial_key: [2; 16],
        link_key: [3; 16],
        root_key: [4; 32],
        station: "A1",
        direction: Direction::Entry,
        operator: 1,
        network: *b"WAVE",
    };
    let mut out = [0; MAX_FILE];
    vec![sample.write(&mut out).expect("a sample fits").to_vec()]
}

pub(crate) fn kernel_seeds() -> Vec<Vec<u8>> {
    let answer = |data: &[u8]| {
        let len = (data.len() + 2) as u16;
        [&len.to_be_bytes()[..], data, &[0x90, 0x00]].concat()
    };
    // A card that can be timed: offer, timed answer, options that repeat it.
    let fci = [
        &[0x6F, 0x30, 0x84, 0x0A][..],
        b"\xF0WAVEPASS\x01",
        &[0xA5, 0x22, 0x9F, 0x38, 0x18],
        PDOL,
        &[0xBF, 0x0C, 0x04, 0xDF, 0x72, 0x01, 0x01],
    ]
    .concat();
    let timed = [0x80, 0x0A, 9, 9, 9, 9, 0, 1, 0, 20, 0, 10];
    let entropy = [0xDF, 0x73, 0x0E, 1, 1, 1, 1];
    let options = [
        &[0x77, 0x20, 0x82, 2, 0x21, 1, 0x94, 4, 8, 1, 1, 0, 0x9F, 0x36, 2, 0, 1][..],
        &entropy,
        &timed[2..],
    ];
    let near = [answer(PPSE), answer(&fci), answer(&timed), answer(&options.concat())].concat();
    // An older card, answers without tags: options, a record with both lists, signature, cryptogram.
    let aid = [0xA0, 0, 0, 3, 0x33, 1, 1, 1];
    let directory = [
        &[0x6F, 0x21, 0x84, 0x0E][..],
        b"2PAY.SYS.DDF01",
        &[0xA5, 0x0F, 0xBF, 0x0C, 0x0C, 0x61, 0x0A, 0x4F, 8],
        &aid[..7],
        &[1],
    ]
    .concat();
    let fci = [&[0x6F, 0x0C, 0x84, 8][..], &aid, &[0xA5, 0]].concat();
    let lists = [0x70, 0x0B, 0x8C, 3, 0x9F, 0x37, 4, 0x9F, 0x49, 3, 0x9F, 0x37, 4];
    let cryptogram = [0x80, 0x0C, 0x80, 0, 1, 8, 7, 6, 5, 4, 3, 2, 1, 7];
    let older = [
        answer(&directory),
        answer(&fci),
        answer(&[0x80, 6, 0x20, 0, 8, 1, 1, 1]),
        answer(&lists),
        answer(&[0x80, 4, 1, 2, 3, 4]),
        answer(&cryptogram),
    ]
    .concat();
    let gpo = [0x77, 0x0E, 0x82, 2, 0x21, 0, 0x94, 4, 8, 1, 1, 0, 0x9F, 0x36, 2, 0];
    let record = [0x70, 0x03, 0x8F, 0x01, 0x01];
    let cut = [answer(PPSE), answer(FCI), answer(&gpo), answer(&record), answer(&record)].concat();
    vec![cut, answer(PPSE), near, older]
}

pub(crate) fn journal_seeds() -> Vec<Vec<u8>> {
    let flash = RamFlash::new(4 * 4096);
    let mut journal =
        block_on(Journal::open(flash.clone(), Limits::default(), |_| {})).expect("a new journal");
    for sequence in 1..=20 {
        block_on(journal.prepare()).expect("room");
        let class = wavepass_journal::Class::Opened;
        block_on(journal.append(sequence, class, &[1; 22], &[sequence as u8; 300])).expect("room");
    }
    let half_way = flash.content();
    for sequence in 21..=60 {
        block_on(journal.acknowledge(sequence - 3)).expect("it rises");
        block_on(journal.prepare()).expect("room");
        let class = wavepass_journal::Class::Refused;
        block_on(journal.append(sequence, class, &[1; 22], &[sequence as u8; 300])).expect("room");
    }
    let cells = RamFlash::new(4 * 4096);
    let mut cell = block_on(Cell::open(cells.clone())).expect("a new cell");
    block_on(cell.store(&[5; 700])).expect("room");
    vec![half_way, flash.content(), cells.content()]
}

pub(crate) fn keylog_seeds() -> Vec<Vec<u8>> {
    let flash = RamFlash::new(2 * 4096);
    let mut log = block_on(KeyLog::open(flash.clone())).expect("a new log");
    for register in 0..32 {
        block_on(log.put(register, &[register; 16])).expect("room");
    }
    block_on(log.advance(9)).expect("it rises");
    vec![flash.content()]
}

pub(crate) fn tariff_seeds() -> Vec<Vec<u8>> {
    let city = include_bytes!("../../../host-gateway/tariffs/wavepass-city.toml");
    let everything = include_bytes!("../../../host-gateway/fares/tests/tariffs/everything.toml");
    vec![city.to_vec(), everything.to_vec()]
}

pub(crate) fn phone_seeds() -> Vec<Vec<u8>> {
    vec![b"{\"applications\":[],\"faults\":[\"unused\"]}".to_vec(), b"{}".to_vec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The instructions of the commands that a seed draws from the kernel.
    fn drawn(seed: &[u8]) -> Vec<u8> {
        let mut kernel = Kernel::new(Yes);
        let config = config();
        let (mut rest, mut drawn) = (seed, vec![]);
        let mut step = kernel.begin(&config, tap());
        loop {
            let (command, timed) = match step {
                Step::Send(command) => (command, false),
                Step::Timed(command) => (command, true),
                Step::Last => return drawn,
            };
            drawn.push(command[1]);
            let (len, tail) = rest
                .split_first_chunk()
                .map_or((0, rest), |(len, tail)| (usize::from(u16::from_be_bytes(*len)), tail));
            let (answer, after) = tail.split_at(len.min(tail.len()));
            rest = after;
            step = match timed {
                true => kernel.timed_answer(&config, answer, 0, 0),
                false => kernel.answer(&config, answer, 0),
            };
        }
    }

    #[test]
    fn the_seeds_reach_a_timed_exchange_and_an_older_card_s_last_command() {
        let seeds = kernel_seeds();
        assert_eq!(drawn(&seeds[2]), [0xA4, 0xA4, 0xEA, 0xA8, 0xB2]);
        assert_eq!(drawn(&seeds[3]), [0xA4, 0xA4, 0xA8, 0xB2, 0x88, 0xAE]);
    }
}
