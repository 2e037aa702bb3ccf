//! A PN532 in software: the reader chip of a gate, with phones in its field.
//!
//! [`Chip`] is the chip itself. It is handed bytes and the time and gives bytes back, so that it can stand behind a
//! serial line, an I²C or an SPI bus; it speaks through the codec of `wavepass-pn532`, as the driver does.
//! [`SimulatedChip`] serves one over TCP as a serial line, the way QEMU's `-serial tcp:HOST:PORT` connects.
//! [`Switches`] make line, chip and field fail in every way that a driver must live with.
//!
//! It follows NXP UM0701-02 as far as a reader of ISO/IEC 14443-4 cards needs it. It is harsher than the chip in one
//! thing: until SAMConfiguration it stays silent to commands for the field. It has no radio: what happens on the air
//! is told to it.

mod chip;
mod field;
mod serve;
mod switches;

pub use chip::Chip;
pub use field::{Kind, Presented};
pub use serve::SimulatedChip;
pub use switches::{Counters, Injected, Switches};
