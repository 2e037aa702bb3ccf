//! The gate's random numbers: ChaCha20 from a seed that is mixed of hardware entropy and of a state in flash.
//!
//! The state moves on, durably, before the first number is drawn. So a start after a power cut never draws what an
//! earlier one drew, even where the hardware's entropy should repeat itself.

use embedded_storage_async::nor_flash::NorFlash;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use wavepass_journal::Error;
use wavepass_journal::cells::Cell;
use zeroize::Zeroize;

const STATE: usize = 32;

/// The generator. No `Debug`, not cloned.
pub struct Drbg {
    rng: ChaCha20Rng,
}

impl Drbg {
    /// Starts it: reads the state, stores the next one, and only then may give numbers.
    pub async fn start<F: NorFlash>(flash: F, entropy: &[u8; 32]) -> Result<Self, Error<F::Error>> {
        let mut cell = Cell::open(flash).await?;
        let mut state = [0; STATE];
        // A gate that never started has no state; the entropy stands alone.
        cell.load(&mut state).await?;
        let mix = |label: &[u8]| -> [u8; STATE] {
            let hash = Sha256::new().chain_update(label).chain_update(state).chain_update(entropy);
            hash.finalize().into()
        };
        let mut next = mix(b"wavepass drbg keep");
        let mut seed = mix(b"wavepass drbg use");
        cell.store(&next).await?;
        let rng = ChaCha20Rng::from_seed(seed);
        state.zeroize();
        next.zeroize();
        seed.zeroize();
        Ok(Self { rng })
    }

    /// Fresh random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.rng.fill_bytes(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use wavepass_journal::sim::{Cut, ERASE, RamFlash, block_on};

    #[test]
    fn the_same_entropy_never_gives_the_same_numbers_twice() {
        let flash = RamFlash::new(2 * ERASE);
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            let mut drbg = block_on(Drbg::start(flash.clone(), &[7; 32])).unwrap();
            for _ in 0..10 {
                assert!(seen.insert(drbg.bytes::<16>()));
            }
        }
    }

    #[test]
    fn a_cut_while_the_state_is_stored_repeats_nothing() {
        // Whatever word is cut, a start that gave numbers moved the state on before.
        let flash = RamFlash::new(2 * ERASE);
        let mut seen = BTreeSet::new();
        for round in 0..60 {
            flash.cut(Cut { after: round % 20, flips: round });
            if let Ok(mut drbg) = block_on(Drbg::start(flash.clone(), &[7; 32])) {
                assert!(seen.insert(drbg.bytes::<16>()), "round {round}");
            }
            flash.power_on();
        }
        assert!(!seen.is_empty());
    }
}
