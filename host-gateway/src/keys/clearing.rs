//! Clearing's keys in memory: what opens sealed taps, commissions gates, signs lists and seals the store.

use super::{AtRestError, ClearingKeys, GateIdentity, Opened, Secret, TokenKey, first_half, hmac};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac};
use rand::CryptoRng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use wavepass_protocol::dukpt::{Key, KeyId, Usage, initial_key, working_key};
use wavepass_protocol::ecc::{P256Verifier, PublicKey, SigningKey, Verifier};
use wavepass_protocol::link::LinkKey;
use wavepass_protocol::lists::ListKey;
use wavepass_protocol::provisioning::{MAX_FILE, Provisioning, ProvisioningError};
use wavepass_protocol::seal::{SealError, Sealed};
use wavepass_protocol::token::{Expiry, Token};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// How many entries one core opens before it looks for more: enough that sharing them out costs nothing.
const CHUNK: usize = 128;

/// The secrets of a clearing key file, as sealed there.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct ClearingSecrets {
    base_key: [u8; 16],
    list_key: [u8; 32],
    link_master: [u8; 32],
    index_key: [u8; 32],
    storage_key: [u8; 32],
}

impl ClearingSecrets {
    pub(super) fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut secrets = Self {
            base_key: [0; 16],
            list_key: super::set::signing_number(rng),
            link_master: [0; 32],
            index_key: [0; 32],
            storage_key: [0; 32],
        };
        rng.fill_bytes(&mut secrets.base_key);
        rng.fill_bytes(&mut secrets.link_master);
        rng.fill_bytes(&mut secrets.index_key);
        rng.fill_bytes(&mut secrets.storage_key);
        secrets
    }

    /// The list key's public half (x).
    pub(super) fn list_key_x(&self) -> Option<[u8; 32]> {
        SigningKey::from_bytes(&self.list_key).map(|key| *key.public_key().x())
    }
}

/// What vouches for the list key: the root's key and its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RootVoucher {
    pub(super) root_key: [u8; 32],
    pub(super) signature: [u8; 64],
}

impl RootVoucher {
    /// True if the signature is this root's over that list key.
    pub(super) fn vouches_for(&self, list_key: &[u8; 32]) -> bool {
        let root = PublicKey::from_x(self.root_key);
        P256Verifier.verify(&root, &ListKey::message(list_key), &self.signature)
    }
}

/// Clearing's keys, ready to compute.
pub(super) struct Clearing {
    base_key: Key,
    list_signer: SigningKey,
    list_key: ListKey,
    root_key: [u8; 32],
    link_master: Secret,
    index_key: Secret,
    // The index MAC with its key taken in: one per token, so the key's two blocks are hashed once.
    token_index: Hmac<Sha256>,
    storage: Aes256Gcm,
    storage_nonces: Hmac<Sha256>,
}

impl Clearing {
    /// `None` if the list key is no key, or the voucher is not for it.
    pub(super) fn new(secrets: &ClearingSecrets, voucher: &RootVoucher) -> Option<Self> {
        let list_signer = SigningKey::from_bytes(&secrets.list_key)?;
        let x = *list_signer.public_key().x();
        if !voucher.vouches_for(&x) {
            return None;
        }
        let cipher_key = hmac(&secrets.storage_key, &[b"cipher"]);
        let nonce_key = hmac(&secrets.storage_key, &[b"nonce"]);
        let token_key = hmac(&secrets.index_key, &[b"token"]);
        Some(Self {
            base_key: Key::new(secrets.base_key),
            list_signer,
            list_key: ListKey { x, root_signature: voucher.signature },
            root_key: voucher.root_key,
            link_master: Zeroizing::new(secrets.link_master),
            index_key: Zeroizing::new(secrets.index_key),
            token_index: keyed(&token_key),
            storage: Aes256Gcm::new((&*cipher_key).into()),
            storage_nonces: keyed(&nonce_key),
        })
    }

    fn nonce(&self, aad: &[u8], plain: &[u8]) -> [u8; 12] {
        let mut mac = self.storage_nonces.clone();
        mac.update(&(aad.len() as u64).to_be_bytes());
        mac.update(aad);
        mac.update(plain);
        let full = mac.finalize().into_bytes();
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&full[..12]);
        nonce
    }

    // Entries come in runs of one gate, so the last gate's initial key is kept, and no other.
    fn unseal_run(&self, run: &[&[u8]]) -> Vec<Result<Opened, SealError>> {
        let mut last: Option<(KeyId, Key)> = None;
        let mut open = |bytes: &[u8]| {
            let sealed = Sealed::parse(bytes)?;
            let ksn = sealed.header.ksn;
            if last.as_ref().is_none_or(|(id, _)| *id != ksn.key_id) {
                last = Some((ksn.key_id, initial_key(&self.base_key, ksn.key_id)));
            }
            let key = last
                .as_ref()
                .and_then(|(_, initial)| working_key(initial, ksn, Usage::DataEncrypt))
                .ok_or(SealError::Counter(ksn.counter))?;
            Opened::open(&sealed, &key)
        };
        run.iter().map(|bytes| open(bytes)).collect()
    }
}

fn keyed(key: &Secret) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    <Hmac<Sha256> as KeyInit>::new_from_slice(key.as_slice()).expect("HMAC takes any key")
}

impl ClearingKeys for Clearing {
    fn unseal(&self, sealed: &[&[u8]]) -> Vec<Result<Opened, SealError>> {
        if sealed.len() <= CHUNK {
            return self.unseal_run(sealed);
        }
        sealed.par_chunks(CHUNK).flat_map_iter(|run| self.unseal_run(run)).collect()
    }

    fn token_key(&self, token: &Token, expiry: Expiry) -> TokenKey {
        let mut mac = self.token_index.clone();
        mac.update(token.bcd());
        mac.update(&expiry.to_yymm());
        let full = mac.finalize().into_bytes();
        let mut key = [0; 16];
        key.copy_from_slice(&full[..16]);
        TokenKey(key)
    }

    fn index_of(&self, kind: &'static str, value: &[u8]) -> [u8; 16] {
        let key = hmac(self.index_key.as_slice(), &[b"index ", kind.as_bytes()]);
        first_half(&hmac(key.as_slice(), &[value]))
    }

    fn seal_at_rest(&self, aad: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce = self.nonce(aad, plain);
        let mut out = Vec::with_capacity(plain.len() + 28);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let tag = self
            .storage
            .encrypt_inout_detached(&Nonce::from(nonce), aad, (&mut out[12..]).into())
            // The cipher's only limit is 64 GiB.
            .expect("a row is short");
        out.extend_from_slice(&tag);
        out
    }

    fn open_at_rest(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, AtRestError> {
        let (Some((nonce, rest)), true) = (sealed.split_first_chunk::<12>(), sealed.len() >= 28) else {
            return Err(AtRestError::Length(sealed.len()));
        };
        let (body, tag) = rest.split_at(rest.len() - 16);
        let tag: [u8; 16] = tag.try_into().map_err(|_| AtRestError::Forged)?;
        let mut plain = Zeroizing::new(body.to_vec());
        self.storage
            .decrypt_inout_detached(&Nonce::from(*nonce), aad, plain.as_mut_slice().into(), &tag.into())
            .map_err(|_| AtRestError::Forged)?;
        Ok(plain)
    }

    fn link_key(&self, gate_id: u32, key_id: KeyId) -> LinkKey {
        LinkKey::new(*self.link_key_bytes(gate_id, key_id))
    }

    fn provision(&self, gate: &GateIdentity<'_>) -> Result<Zeroizing<Vec<u8>>, ProvisioningError> {
        let initial = initial_key(&self.base_key, gate.key_id);
        let mut provisioning = Provisioning {
            gate_id: gate.gate_id,
            key_id: gate.key_id,
            initial_key: *initial.bytes(),
            link_key: *self.link_key_bytes(gate.gate_id, gate.key_id),
            root_key: self.root_key,
            station: gate.station,
            direction: gate.direction,
            operator: gate.operator,
            network: gate.network,
        };
        let mut buffer = Zeroizing::new([0; MAX_FILE]);
        let file = provisioning.write(&mut buffer).map(|file| Zeroizing::new(file.to_vec()));
        provisioning.initial_key.zeroize();
        provisioning.link_key.zeroize();
        file
    }

    fn list_key(&self) -> ListKey {
        self.list_key
    }

    fn root_key(&self) -> [u8; 32] {
        self.root_key
    }

    // The multiplier derives from key and message alone: the same list has the same signature, and no clock or
    // random number can spoil it.
    fn sign_list(&self, message: &[&[u8]]) -> [u8; 64] {
        self.list_signer.sign(message, [0; 32])
    }
}

impl Clearing {
    fn link_key_bytes(&self, gate_id: u32, key_id: KeyId) -> Zeroizing<[u8; 16]> {
        let parts: [&[u8]; 3] = [b"link", &gate_id.to_be_bytes(), &key_id.0];
        Zeroizing::new(first_half(&hmac(self.link_master.as_slice(), &parts)))
    }
}
