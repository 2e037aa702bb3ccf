//! A gate's seal without the gate: what tests and benches feed intake with. Real gates seal on their own, with keys
//! that leave their flash once used; this one keeps its initial key.

use wavepass_protocol::dukpt::{Key, KeyId, Ksn, Usage, next_counter, working_key};
use wavepass_protocol::provisioning::{Provisioning, ProvisioningError};
use wavepass_protocol::seal::{Chain, Header, MAX_SEALED, SealError, seal};
use wavepass_protocol::tap::Entry;

/// Seals entries as the gate of a provisioning file does.
pub struct Sealer {
    /// The key id of its journal.
    pub key_id: KeyId,
    initial: Key,
    counter: u32,
    sequence: u32,
    chain: Chain,
}

impl Sealer {
    /// Reads a provisioning file.
    pub fn new(provisioning: &[u8]) -> Result<Self, ProvisioningError> {
        let parsed = Provisioning::parse(provisioning)?;
        let initial = Key::new(parsed.initial_key);
        Ok(Self { key_id: parsed.key_id, initial, counter: 0, sequence: 0, chain: Chain::START })
    }

    /// The number of the next entry.
    pub fn next_sequence(&self) -> u32 {
        self.sequence + 1
    }

    /// Seals the next entry, under the next key.
    pub fn seal(&mut self, entry: &Entry<'_>) -> Result<Vec<u8>, SealError> {
        self.counter = next_counter(self.counter).ok_or(SealError::Counter(self.counter))?;
        self.sequence += 1;
        let sealed = self.seal_as(self.sequence, self.counter, entry)?;
        self.chain = Chain::after(&sealed);
        Ok(sealed)
    }

    /// Seals with any number and counter, after the entry sealed last: what no gate of ours does.
    pub fn seal_as(&self, sequence: u32, counter: u32, entry: &Entry<'_>) -> Result<Vec<u8>, SealError> {
        let ksn = Ksn { key_id: self.key_id, counter };
        let key = working_key(&self.initial, ksn, Usage::DataEncrypt).ok_or(SealError::Counter(counter))?;
        Ok(seal(&key, Header { ksn, sequence, chain: self.chain }, entry, &mut [0; MAX_SEALED])?.to_vec())
    }
}
