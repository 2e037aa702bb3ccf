//! The ways to a card: in this process, or through a reader of the system (`pcsc.rs`).

use std::time::Instant;
use wavepass_hce::card::{Card, CardFault};
use wavepass_kernel::Lost;

/// The longest answer taken of a card, bytes; the kernel refuses far shorter ones.
pub const MAX_ANSWER: usize = 65_538;

/// A card in front of a reader. One tap begins with [`Way::field`].
pub trait Way {
    /// The field comes on: the card forgets what was selected.
    fn field(&mut self) -> Result<(), Lost>;
    /// Sends a command and waits for the answer.
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, Lost>;
    /// The command that was really sent instead of the last one, with values of another terminal: in a recording.
    fn sent(&self) -> Option<&[u8]> {
        None
    }
    /// Microseconds of a clock that only rises.
    fn now_us(&self) -> u64;
}

/// A card in this process. What a slow card would take is added to the clock, not waited for.
pub struct InProcess<'c> {
    card: &'c mut dyn Card,
    begin: Instant,
    skipped_us: u64,
}

impl<'c> InProcess<'c> {
    /// The way to this card.
    pub fn new(card: &'c mut dyn Card) -> Self {
        Self { card, begin: Instant::now(), skipped_us: 0 }
    }
}

impl Way for InProcess<'_> {
    fn field(&mut self) -> Result<(), Lost> {
        self.card.enter_field();
        Ok(())
    }

    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, Lost> {
        let answer = self.card.transmit(command).map_err(|fault| match fault {
            CardFault::Removed => Lost::Removed,
            _ => Lost::Protocol,
        })?;
        self.skipped_us = self.skipped_us.saturating_add(answer.delay_us);
        Ok(answer.data)
    }

    fn now_us(&self) -> u64 {
        let passed = u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        passed.saturating_add(self.skipped_us)
    }
}
