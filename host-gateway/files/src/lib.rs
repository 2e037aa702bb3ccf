//! The clearing house's files, out and in: ISO 20022 messages, CSV and fixed-width records.
//!
//! Pure: it is handed values and a place to write to, or bytes to read; it knows no clock, database or file. Times and names come
//! from the batch, so that the same batch gives the same bytes. Writers and readers go record by record: a batch of
//! millions needs no memory. A reader checks counts, sums and hashes as it comes to them, so that **only a file that was
//! read to its end has been checked**: keep nothing of one that ends in an error. A writer that ends in an error
//! leaves an unfinished file behind: throw it away.
//!
//! [`iso20022`] has the messages to and from the bank, [`table`] the CSV files, [`fixed`] records of fixed width after a layout
//! file, [`name`] the names that messages and their lines carry. Formats: docs/files.md.

pub mod error;
pub mod fixed;
pub mod iso20022;
mod lines;
pub mod money;
pub mod name;
pub mod table;

pub use error::{Fault, FileError, Place};
pub use money::{Currency, Totals};
pub use name::{AttemptId, MessageId};
