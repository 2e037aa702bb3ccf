//! What answers APDUs, wherever it is: in this process, at the other end of a socket, or a recording.

use crate::state::StateError;

/// One answer of a card.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The response: data, then the two bytes of the status word.
    pub data: Vec<u8>,
    /// How long the modelled card took beyond the time that this computer needed, in microseconds. Nobody has
    /// waited for it yet.
    pub delay_us: u64,
}

// Data may identify a rider, so only the length is shown.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer([{}], {} µs)", self.data.len(), self.delay_us)
    }
}

/// Why a card does not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardFault {
    /// The card left the field; only [`Card::enter_field`] brings it back.
    #[error("the card left the field")]
    Removed,
    /// The way to the card broke.
    #[error("the link to the card failed: {0}")]
    Link(String),
    /// The phone could not keep its transaction counter, so it stays silent.
    #[error("the phone's counter: {0}")]
    State(#[from] StateError),
}

/// A card.
pub trait Card {
    /// The field is switched on, or the card is brought into it: what was selected is forgotten. Called once for
    /// each tap, before the first command.
    fn enter_field(&mut self);

    /// Answers one command APDU. Malformed commands get a status word like any other.
    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault>;
}
