//! The host of the tests: its keys, its lists, its authorities, and the phones of its bank.

use super::line::{Heard, Line};
use super::{MORNING, TestGate, phone, rng, version};
use std::collections::BTreeSet;
use wavepass_hce::issue::{AuthorityOrder, Domain, HOUSE_AID, HouseAuthority, HouseOrder, RsaCaKey};
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_protocol::deny::{Delta, DenyKey, Shape};
use wavepass_protocol::dukpt::{self, Key, KeyId, Usage};
use wavepass_protocol::ecc::SigningKey;
use wavepass_protocol::link::LinkKey;
use wavepass_protocol::lists::{
    self, Application, CaKey, GateConfig, HEAD, Header, Kind, ListKey, PREFIX, Suite, Version,
};
use wavepass_protocol::provisioning::{MAX_FILE, Provisioning};
use wavepass_protocol::rsa::ca_check_value;
use wavepass_protocol::seal::{self, Sealed};
use wavepass_protocol::tap::{Direction, Entry, MAX_BODY};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::{Expiry, Token};

pub const PASSBACK_MS: u64 = 60_000;
/// After so long the passback window has passed.
pub const WAIT_MS: u64 = PASSBACK_MS + 1;
pub const LIST_AGE_MS: u64 = 3_600_000;
const SALT: [u8; 8] = [0x5A; 8];
pub const TOKENS_EXPIRE: (u8, u8) = (30, 6);
const NETWORK: [u8; 4] = *b"WAVE";
const RID: [u8; 5] = [0xF0, 0x57, 0x41, 0x56, 0x45];

pub struct Host {
    pub root: SigningKey,
    pub list_key: SigningKey,
    pub gate_id: u32,
    pub key_id: KeyId,
    pub link_key: [u8; 16],
    pub base_key: [u8; 16],
    pub authority: HouseAuthority,
    /// Accepted besides the house's own application.
    pub rsa: Option<RsaCaKey>,
    /// The last version issued of each list.
    pub issued: [u32; 4],
    pub nonces: u8,
}

impl Host {
    pub fn new() -> Self {
        let order = AuthorityOrder {
            rid: RID,
            ca_index: 1,
            issuer_id: [0x62, 0x99, 0x00, 0x01, 0xFF],
            expiry: Date::new(2035, 12, 31).unwrap(),
            serial: [0, 0, 9],
        };
        Self {
            root: SigningKey::from_bytes(&[0x11; 32]).unwrap(),
            list_key: SigningKey::from_bytes(&[0x22; 32]).unwrap(),
            gate_id: 1_001,
            key_id: KeyId([0xC7, 0x3E, 0x91, 0x5A, 0xD2, 0x68, 0x0B, 0x42]),
            link_key: [0x4C; 16],
            base_key: *b"base derivation!",
            authority: HouseAuthority::generate(&mut rng(1), order),
            rsa: None,
            issued: [0; 4],
            nonces: 0,
        }
    }

    pub fn initial_key(&self) -> Key {
        dukpt::initial_key(&Key::new(self.base_key), self.key_id)
    }

    pub fn provisioning(&self) -> Vec<u8> {
        let provisioning = Provisioning {
            gate_id: self.gate_id,
            key_id: self.key_id,
            initial_key: *self.initial_key().bytes(),
            link_key: self.link_key,
            root_key: *self.root.public_key().x(),
            station: "Longxiangqiao",
            direction: Direction::Entry,
            operator: 7,
            network: NETWORK,
        };
        provisioning.write(&mut [0; MAX_FILE]).unwrap().to_vec()
    }

    /// Opens a sealed entry with the key of its KSN.
    pub fn open<T>(&self, sealed: &[u8], read: impl FnOnce(seal::Header, &Entry<'_>) -> T) -> T {
        let sealed = Sealed::parse(sealed).unwrap();
        let header = sealed.header;
        assert_eq!(header.ksn.key_id, self.key_id);
        let key = dukpt::working_key(&self.initial_key(), header.ksn, Usage::DataEncrypt).unwrap();
        let mut plain = [0; MAX_BODY];
        let entry = sealed.open(&key, &mut plain).unwrap();
        read(header, &entry)
    }

    // The bank's side.

    pub fn token(&self, n: u32) -> Token {
        Token::from_digits(&format!("62990001{n:07}5")).unwrap()
    }

    pub fn order(&self, n: u32) -> HouseOrder {
        HouseOrder {
            token: self.token(n),
            expiry: Expiry::new(TOKENS_EXPIRE.0, TOKENS_EXPIRE.1).unwrap(),
            effective: Date::new(2026, 1, 1).unwrap(),
            psn: 2,
            domain: Some(Domain { network: NETWORK, operator: 0 }),
            serial: [0, 0, 0, 1, 2, 3],
            card_key: core::array::from_fn(|i| (n as u8).wrapping_mul(31).wrapping_add(i as u8)),
            master_key: [0x3A; 16],
        }
    }

    pub fn phone_file(&self, n: u32) -> PhoneFile {
        self.authority.issue(&self.order(n)).unwrap()
    }

    pub fn phone(&self, n: u32) -> Phone {
        phone(&self.phone_file(n))
    }

    // Lists.

    /// The list key with the root's signature.
    pub fn vouched(&self) -> ListKey {
        let x = *self.list_key.public_key().x();
        ListKey { x, root_signature: self.root.sign(&ListKey::message(&x), [1; 32]) }
    }

    /// A signed list of any content.
    pub fn list(&self, kind: Kind, version: Version, content: &[u8]) -> Vec<u8> {
        self.list_of(&Header { kind, version, issued: UnixMs(MORNING) }, content)
    }

    pub fn list_of(&self, header: &Header, content: &[u8]) -> Vec<u8> {
        let mut out = vec![0; PREFIX + content.len()];
        let sign = |message: &[&[u8]]| self.list_key.sign(message, [2; 32]);
        lists::write(header, &self.vouched(), content, sign, &mut out).unwrap();
        out
    }

    /// The next version of a list.
    pub fn next(&mut self, kind: Kind) -> Version {
        let issued = &mut self.issued[kind as usize - 1];
        *issued += 1;
        version(*issued)
    }

    /// The content of a deny list of these tokens.
    pub fn deny(&self, tokens: &[u32]) -> Vec<u8> {
        self.deny_of(Shape::best_bits(tokens.len() as u32), tokens)
    }

    pub fn deny_of(&self, bits: u8, tokens: &[u32]) -> Vec<u8> {
        let keys = self.deny_keys(bits, tokens);
        let shape = Shape::new(SALT, keys.len() as u32, bits).unwrap();
        let mut content = vec![0; shape.content_len()];
        shape.write(&keys.into_iter().collect::<Vec<_>>(), &mut content).unwrap();
        content
    }

    fn deny_keys(&self, bits: u8, tokens: &[u32]) -> BTreeSet<DenyKey> {
        let shape = Shape::new(SALT, 0, bits).unwrap();
        let expiry = Expiry::new(TOKENS_EXPIRE.0, TOKENS_EXPIRE.1).unwrap();
        tokens.iter().map(|&n| shape.key(&self.token(n), expiry)).collect()
    }

    /// The issue that makes a deny list of `from` one of `to`, for a gate that has the version `base`.
    pub fn delta(&self, version: Version, base: u32, from: &[u32], to: &[u32]) -> Vec<u8> {
        self.delta_of(version, base, Shape::best_bits(from.len() as u32), from, to)
    }

    pub fn delta_of(&self, version: Version, base: u32, bits: u8, from: &[u32], to: &[u32]) -> Vec<u8> {
        let (old, new) = (self.deny_keys(bits, from), self.deny_keys(bits, to));
        let removed: Vec<_> = old.difference(&new).copied().collect();
        let added: Vec<_> = new.difference(&old).copied().collect();
        let mut delta = vec![0; Delta::len_of(removed.len() + added.len())];
        Delta::write(&removed, &added, &mut delta).unwrap();
        let whole = self.list(Kind::Deny, version, &self.deny_of(bits, to));
        [&whole[..HEAD], &base.to_be_bytes(), &delta].concat()
    }

    pub fn ca_keys(&self, last: [u8; 4]) -> Vec<u8> {
        let x = self.authority.ca_public_key();
        let house = CaKey {
            rid: RID,
            index: 1,
            suite: Suite::P256,
            expiry: last,
            key: &x,
            exponent: &[],
            check_value: ca_check_value(&RID, 1, &x, &[]),
        };
        let mut content = encode(&house);
        if let Some(rsa) = &self.rsa {
            let exponent = if rsa.exponent == 3 { vec![3] } else { vec![1, 0, 1] };
            content.extend(encode(&CaKey {
                rid: rsa.rid,
                index: rsa.index,
                suite: Suite::Rsa,
                expiry: last,
                key: &rsa.modulus,
                exponent: &exponent,
                check_value: rsa.check_value,
            }));
        }
        content
    }

    // The link.

    pub fn fresh_nonce(&mut self) -> [u8; 16] {
        self.nonces = self.nonces.wrapping_add(1);
        [self.nonces; 16]
    }

    pub fn link_key(&self) -> LinkKey {
        LinkKey::new(self.link_key)
    }

    pub fn connect(&mut self, gate: &mut TestGate) -> Line {
        Line::open(self, gate)
    }

    /// Issues the next version of a list and sends it over a new link; gives what the gate said of it.
    pub fn send_list(&mut self, gate: &mut TestGate, kind: Kind, content: &[u8]) -> Vec<Heard> {
        let version = self.next(kind);
        let list = self.list(kind, version, content);
        let mut line = self.connect(gate);
        line.hear(gate);
        line.send_list(gate, kind, version, &list)
    }

    /// Sends everything that a gate needs in order to open.
    pub fn send_all_lists(&mut self, gate: &mut TestGate) {
        let contents = [
            (Kind::Deny, self.deny(&[])),
            (Kind::CaKeys, self.ca_keys(last_day(2040))),
            (Kind::Revocations, vec![]),
            (Kind::Config, encode(&config())),
        ];
        for (kind, content) in contents {
            self.send_list(gate, kind, &content);
            assert_eq!(gate.version(kind), version(self.issued[kind as usize - 1]), "{kind:?}");
        }
    }

    /// Sends a configuration; true if it is in force.
    pub fn configure(&mut self, gate: &mut TestGate, config: &GateConfig) -> bool {
        self.send_list(gate, Kind::Config, &encode(config));
        gate.version(Kind::Config) == version(self.issued[Kind::Config as usize - 1])
    }
}

/// The last day of a year, as a CA key has it.
pub fn last_day(year: u16) -> [u8; 4] {
    Date::new(year, 12, 31).unwrap().to_yyyymmdd()
}

/// Content as postcard, which lists are made of.
pub fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_slice(value, &mut [0; 2048]).unwrap().to_vec()
}

fn application(aid: &[u8], suite: Suite) -> Application {
    Application {
        aid: heapless::Vec::from_slice(aid).unwrap(),
        partial: false,
        suite,
        ttq: [0x21, 0x80, 0x00, 0x80],
        preference: 0,
        formats: heapless::Vec::from_slice(&[0x05, 0x95]).unwrap(),
        domain_required: suite == Suite::P256,
    }
}

pub fn config() -> GateConfig {
    let mut applications = heapless::Vec::new();
    applications.push(application(HOUSE_AID, Suite::P256)).unwrap();
    applications.push(application(wavepass_hce::issue::RSA_DEBIT_AID, Suite::Rsa)).unwrap();
    GateConfig {
        utc_offset_min: 480,
        amount_fen: 300,
        currency: 0x0156,
        country: 0x0156,
        passback_ms: PASSBACK_MS as u32,
        tap_limit_ms: 1_000,
        list_max_age_ms: 0,
        stale_opens: false,
        applications,
        relay: None,
    }
}
