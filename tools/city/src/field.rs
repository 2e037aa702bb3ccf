//! The field a card is held into.

use crate::world::Kind;
use std::time::Instant;
use wavepass_gate::Contact;
use wavepass_hce::card::Card;
use wavepass_kernel::Lost;

/// A card held to a gate's reader, in process. Its modelled delays count as time; nobody waits for them.
pub struct Field<'c> {
    card: &'c mut (dyn Card + Send),
    kind: Kind,
    begun: Instant,
    delayed_us: u64,
}

impl<'c> Field<'c> {
    /// Holds a card into the field.
    pub fn new(card: &'c mut (dyn Card + Send), kind: Kind) -> Self {
        card.enter_field();
        Self { card, kind, begun: Instant::now(), delayed_us: 0 }
    }
}

impl Contact for Field<'_> {
    async fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Result<usize, Lost> {
        if self.kind == Kind::TwoAtOnce {
            return Err(Lost::SeveralCards);
        }
        match self.card.transmit(command) {
            Ok(got) => {
                self.delayed_us += got.delay_us;
                let room = answer.get_mut(..got.data.len()).ok_or(Lost::Protocol)?;
                room.copy_from_slice(&got.data);
                Ok(got.data.len())
            }
            // A card that cannot answer is, to the gate, a card that left.
            Err(_) => Err(Lost::Removed),
        }
    }

    fn now_us(&self) -> u64 {
        let elapsed = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        elapsed.saturating_add(self.delayed_us)
    }
}
