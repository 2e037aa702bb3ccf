//! What one tap may cost. Each limit is far above what genuine cards need and small enough for a gate's RAM.

/// Commands per tap. A genuine card needs 5 to 14, and up to 3 that are timed: directory, application, processing options, records, and of an
/// older card a signature and a cryptogram.
pub const MAX_APDUS: u8 = 32;
/// Data bytes of one answer, chained parts joined: a record with a 2048-bit certificate and its remainder fits.
pub const MAX_ANSWER: usize = 512;
/// Bytes of static data that the card certificate covers; EMV cards have a few hundred.
pub const MAX_STATIC: usize = 2048;
/// Bytes of everything else that is kept of a card: PDOL, its values, the answer to GET PROCESSING OPTIONS, and
/// records with certificates and signatures (at most three of 256 bytes, with their remainders).
pub const MAX_KEPT: usize = 1792;
/// Bytes of a PDOL, DDOL or CDOL1. With [`MAX_PDOL_VALUES`] it keeps a tap within [`wavepass_protocol::tap::MAX_BODY`].
pub const MAX_PDOL: usize = 128;
/// Bytes of the values sent for such a list; the house's PDOL has 33.
pub const MAX_PDOL_VALUES: usize = 160;
/// Timed exchanges per tap: an unlucky one may be late, three are not.
pub const MAX_TIMED: u8 = 3;
/// Issuers remembered: a city has few banks, and each slot costs 300 bytes.
pub const MAX_ISSUERS: usize = 4;
/// Applications in a configuration.
pub const MAX_APPLICATIONS: usize = 8;

/// The longest command: header, 255 bytes of data, Lc and Le.
pub(crate) const MAX_COMMAND: usize = 4 + 1 + 255 + 1;
