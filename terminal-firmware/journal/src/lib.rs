//! What a gate keeps in NOR flash through any power cut: the tap journal ([`Journal`]), blobs that are
//! replaced whole ([`cells`]) and the DUKPT registers ([`keylog`]).
//!
//! # The journal
//!
//! *Definitions.* The flash is a ring of pages (one erase unit each), used in physical order. An entry has a
//! sequence number, a class, a clear local header for the gate itself, and a payload whose last 16
//! bytes are its tag; the journal does not look into the rest. Entry *n* is *acknowledged* when the host has it durably.
//!
//! *Operations.*
//! - [`Journal::append`] is durable on return. It never erases: where the next page is not ready it is `Full`.
//! - [`Journal::acknowledge`] is durable on return, but where the flash is full to the last byte: then the next
//!   page's header carries it, before any page is erased on its strength. A cut before that sends entries again.
//! - [`Journal::prepare`] erases the next page if its entries are all acknowledged. It is for idle time.
//! - [`Journal::read`] gives an entry that is still there, acknowledged or not.
//!
//! *Layout.* All units are multiples of 8 bytes, numbers little-endian.
//!
//! | page | bytes |
//! | --- | --- |
//! | magic `WPJ2` | 4 |
//! | page number, rises by one with every page begun | 4 |
//! | sequence number of its first entry | 4 |
//! | acknowledged when it was begun | 4 |
//! | first half of the tag of the entry before it; zeros before any | 8 |
//! | CRC-32 of these | 4 |
//! | reserved, ones | 4 |
//!
//! | record | bytes |
//! | --- | --- |
//! | class: 1 opened, 2 refused, 3 passage or another note, 4 acknowledgement | 1 |
//! | length of the local header | 1 |
//! | length of the payload | 2 |
//! | sequence number (acknowledgement: the number) | 4 |
//! | CRC-32 of local header and payload | 4 |
//! | CRC-32 of the record's first 12 bytes | 4 |
//! | local header, payload, padding | to a multiple of 8 |
//!
//! *Tail.* Each entry of the application names the tag of the one before it, so the newest tag must outlive its
//! entry: after power cuts the newest page may hold no entry at all, while the newest entry is acknowledged and its
//! page used again. Therefore each page begins with it ([`Journal::tail`]).
//!
//! *Invariants.* Sequence numbers have no gap and no repeat. A page that holds an unacknowledged entry is
//! never erased. Refusals hold at most their share of the unacknowledged bytes.
//!
//! *Rot.* A damaged body costs its entry. A page with a damaged header is known by its records, or by the
//! page before it, as long as one page of the ring has a sound header.
//!
//! *A cut* tears at most the record being written. A record whose own CRC holds but whose body's does not is
//! stepped over; one whose header is torn closes its page. A page that was being erased held acknowledged
//! entries only; it is erased again before use.
//!
//! One task owns a journal, and its futures are driven to the end, never dropped.
#![no_std]

#[cfg(any(test, feature = "sim"))]
extern crate std;

pub mod cells;
mod journal;
pub mod keylog;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod words;

pub use journal::{Class, Entry, Journal, Limits, MAX_LOCAL, MAX_PAGES, MAX_PAYLOAD};

/// Why the flash could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error<E> {
    /// The flash itself failed.
    Flash(E),
    /// The flash is too small, too large, or its units do not fit: write and read units of at most 8 bytes,
    /// dividing 8, and erase units of at least 1024.
    Geometry,
    /// An earlier write failed; the journal takes no more until it is opened again.
    Failed,
    /// No room that may be written: everything old is unacknowledged, or the next page is not prepared.
    Full,
    /// Refusals hold their whole share.
    RefusalShare,
    /// Longer than the journal takes, or than the buffer given.
    TooLong,
    /// Not the next sequence number.
    Sequence,
    /// A blob that was not begun, or not given to its end.
    Unfinished,
}
