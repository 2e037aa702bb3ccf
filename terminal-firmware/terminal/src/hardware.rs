//! What a board offers: a reader, a line to the host, and the panel with barrier, lamps and sensors.

use wavepass_kernel::Lost;
use wavepass_protocol::tap::Reason;

/// What a look into the field found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No card.
    Nothing,
    /// One card, activated and ready for commands.
    One,
    /// One card that takes no APDUs, such as a plastic ticket.
    Ticket,
    /// More than one.
    Several,
    /// The reader does not work; [`Reader::recover`] may help.
    Trouble,
}

/// A contactless reader.
#[expect(async_fn_in_trait, reason = "one task owns the reader; nothing is sent between threads here")]
pub trait Reader {
    /// Looks for a card, once, for a time that the board bounds. The future may be dropped at any await and the call
    /// made again: nothing is lost.
    async fn look(&mut self) -> Found;
    /// Sends a command to the card and gives the length of its answer. Driven to its end; bounded in time.
    async fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Result<usize, Lost>;
    /// Lets the card go.
    async fn release(&mut self);
    /// Sets the reader up from scratch; false if it still does not answer.
    async fn recover(&mut self) -> bool;
}

/// The byte stream to the host. Its buffers are filled and drained by interrupts.
#[expect(async_fn_in_trait, reason = "one task owns the line")]
pub trait Line {
    /// Takes what was received, at least one byte. The future may be dropped and the call made again.
    async fn read(&mut self, into: &mut [u8]) -> usize;
    /// How many bytes may be queued now.
    fn room(&self) -> usize;
    /// Queues bytes; there is [`Line::room`] for them.
    fn queue(&mut self, bytes: &[u8]);
}

/// What the rider is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Present your card.
    Ready,
    /// The gate opens for the tap with this sequence number.
    Open {
        /// Its number.
        sequence: u32,
        /// The same tap again.
        again: bool,
    },
    /// The gate stays closed.
    Refused {
        /// Why.
        reason: Reason,
        /// The tap's sequence number, where it was journaled.
        sequence: Option<u32>,
    },
    /// The emergency input is on: the way is free.
    Emergency,
    /// Use another gate.
    OutOfService,
}

/// What the panel's inputs saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanelEvent {
    /// Somebody went through.
    Passed,
    /// The passage was closed again without anybody going through.
    NotPassed,
    /// The emergency input went on or off. The board has already opened or released the barrier.
    Emergency {
        /// On.
        active: bool,
    },
}

/// Barrier, lamps or display, passage sensors and the emergency input.
#[expect(async_fn_in_trait, reason = "one task owns the panel")]
pub trait Panel {
    /// Shows a sign; never waits.
    fn show(&mut self, sign: Sign);
    /// Opens or closes the barrier. While the emergency input is on the board keeps it open.
    fn barrier(&mut self, open: bool);
    /// True while the emergency input is on: it may have changed while the gate had no power.
    fn emergency(&self) -> bool;
    /// Waits for an input. The future may be dropped and the call made again.
    async fn event(&mut self) -> PanelEvent;
}
