//! The phone: a contactless payment card in software, for testing gates and for playing a city's day.
//!
//! A [`phone::Phone`] holds one or more card applications ([`application`]) and answers APDUs as a card does; it
//! is a [`card::Card`], as is a phone at the other end of a TCP connection ([`tcp`]). [`vpcd`] puts a card into a
//! virtual PC/SC reader, [`pn532`] is a reader chip with cards in its field, and [`pn532_target`] lets a real chip
//! play the card. Phones are made from a [`profile`] by [`authorities`] of our own, or by [`issue`], where a bank may
//! sign; [`faults`] turns a good phone into any of the bad ones that a gate must refuse, and a [`script`] answers what
//! no profile covers. A phone's transaction counter is durable before it answers ([`state`]).
//!
//! It protects its keys only by the mode of its files: it is a test
//! instrument. Facts about formats and their sources are in `docs/formats.md`.
//!
//! ```
//! use rand::SeedableRng;
//! use wavepass_hce::issue::{AuthorityOrder, Domain, HouseAuthority, HouseOrder};
//! use wavepass_hce::{faults::Fault, phone::Phone, reader, state::Counters};
//! use wavepass_protocol::{tags, time::Date, token::{Expiry, Token}};
//!
//! let today = Date { year: 2026, month: 11, day: 24 };
//! let authority = HouseAuthority::generate(
//!     &mut rand_chacha::ChaCha20Rng::from_seed([1; 32]),
//!     AuthorityOrder {
//!         rid: *b"\xF0WAVE",
//!         ca_index: 1,
//!         issuer_id: [0x62, 0x99, 0xFF, 0xFF, 0xFF],
//!         expiry: Date { year: 2036, month: 12, day: 31 },
//!         serial: [0, 0, 1],
//!     },
//! );
//! let file = authority.issue(&HouseOrder {
//!     token: Token::from_digits("6299000000000001")?,
//!     expiry: Expiry::new(29, 11)?,
//!     effective: today,
//!     psn: 0,
//!     domain: Some(Domain { network: *b"CITY", operator: 0 }),
//!     serial: [0; 6],
//!     card_key: [2; 32],
//!     master_key: [3; 16],
//! })?;
//! let mut phone = Phone::new(&file.with_fault(Fault::Slow { delay_us: 300_000 }), Counters::memory(), [4; 32])?;
//! let said = reader::read(&mut phone, &reader::Values::gate(today, [5, 6, 7, 8]))?;
//! assert_eq!(said.value(tags::ATC), Some(vec![0, 1]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod application;
pub mod authorities;
pub mod card;
pub mod console;
pub mod contactless;
pub mod decode;
pub mod faults;
mod files;
pub mod hex;
pub mod issue;
pub mod phone;
pub mod pn532;
pub mod pn532_target;
pub mod ppse;
pub mod profile;
pub mod reader;
pub mod script;
pub mod state;
pub mod tcp;
pub mod text;
pub mod vpcd;
