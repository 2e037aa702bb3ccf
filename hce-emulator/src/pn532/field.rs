//! The cards in a chip's field.

use crate::card::{Answer, Card, CardFault};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;
use wavepass_pn532::command::Modulation;
use wavepass_pn532::response::{Found, TypeA, TypeB};

/// The ATS of a phone: frames of 256 bytes, 106 kbit/s, TA, TB and TC, historical bytes `80 31 80 40`.
const ATS: &[u8] = &[0x09, 0x78, 0x80, 0x70, 0x02, 0x80, 0x31, 0x80, 0x40];
/// An ATQB after the PUPI: no application data, 106 kbit/s, ISO/IEC 14443-4, FWI 7.
const ATQB_TAIL: [u8; 7] = [0x00, 0x00, 0x00, 0x00, 0x00, 0x81, 0x71];

/// How a card speaks on the air.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Type A with a random UID of 4 bytes, as phones have it.
    #[default]
    A,
    /// Type B.
    B,
    /// Type A without ISO/IEC 14443-4: a plastic ticket that takes no APDUs.
    Ticket,
}

impl Kind {
    const fn modulation(self) -> Modulation {
        match self {
            Self::A | Self::Ticket => Modulation::A,
            Self::B => Modulation::B,
        }
    }
}

/// A card brought to the reader.
pub struct Presented {
    /// The card.
    pub card: Box<dyn Card + Send>,
    /// How it speaks.
    pub kind: Kind,
}

impl Presented {
    /// A phone.
    pub fn phone(card: Box<dyn Card + Send>) -> Self {
        Self { card, kind: Kind::A }
    }
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Presented({:?})", self.kind)
    }
}

/// Until when a card is out of the field.
#[derive(Clone, Copy)]
enum Away {
    Here,
    Until(Duration),
    ForGood,
}

struct InField {
    card: Box<dyn Card + Send>,
    kind: Kind,
    away: Away,
    /// Its number while the chip has it activated.
    target: Option<u8>,
    /// APDUs since it was presented.
    apdus: u32,
    /// It has got a command since it was activated.
    was_tapped: bool,
}

/// The field.
#[derive(Default)]
pub(super) struct Field {
    cards: Vec<InField>,
}

impl Field {
    pub(super) fn set(&mut self, cards: Vec<Presented>) {
        let in_field = |p: Presented| InField {
            card: p.card,
            kind: p.kind,
            away: Away::Here,
            target: None,
            apdus: 0,
            was_tapped: false,
        };
        self.cards = cards.into_iter().map(in_field).collect();
    }

    /// All cards lose their numbers.
    pub(super) fn release_all(&mut self) {
        for card in &mut self.cards {
            card.target = None;
        }
    }

    /// True where a card of this kind is here now.
    pub(super) fn has(&self, modulation: Modulation, now: Duration) -> bool {
        self.cards.iter().any(|c| c.kind.modulation() == modulation && c.is_here(now))
    }

    /// When the next card comes back.
    pub(super) fn next_return(&self, now: Duration) -> Option<Duration> {
        let returns = self.cards.iter().filter_map(|c| match c.away {
            Away::Until(at) if at > now => Some(at),
            _ => None,
        });
        returns.min()
    }

    /// Activates the cards of this kind that are here, at most `max`.
    pub(super) fn activate(
        &mut self,
        modulation: Modulation,
        max: u8,
        now: Duration,
        random: &mut ChaCha8Rng,
    ) -> Vec<(u8, Found)> {
        self.release_all();
        let mut found = Vec::new();
        let here = self.cards.iter_mut().filter(|c| c.kind.modulation() == modulation && c.is_here(now));
        for (number, card) in (1..=max).zip(here) {
            card.target = Some(number);
            card.away = Away::Here;
            card.was_tapped = false;
            card.card.enter_field();
            found.push((number, card.describe(random)));
        }
        found
    }

    /// True where this target is activated and here.
    pub(super) fn is_present(&self, target: u8, now: Duration) -> bool {
        self.cards.iter().any(|c| c.target == Some(target) && c.is_here(now))
    }

    /// True where the chip knows this target.
    pub(super) fn is_known(&self, target: u8) -> bool {
        self.cards.iter().any(|c| c.target == Some(target))
    }

    /// APDUs of this target since it was presented.
    pub(super) fn apdus(&self, target: u8) -> u32 {
        self.cards.iter().find(|c| c.target == Some(target)).map_or(0, |c| c.apdus)
    }

    /// Takes a card out of the field, and back in at `until`.
    pub(super) fn pull(&mut self, target: u8, until: Option<Duration>) {
        for card in self.cards.iter_mut().filter(|c| c.target == Some(target)) {
            card.away = until.map_or(Away::ForGood, Away::Until);
        }
    }

    /// Takes out the cards that are activated and have got a command since, and back in at `until`.
    pub(super) fn pull_tapped(&mut self, until: Duration) {
        for card in self.cards.iter_mut().filter(|c| c.target.is_some() && c.was_tapped) {
            card.away = Away::Until(until);
        }
    }

    pub(super) fn transmit(&mut self, target: u8, command: &[u8]) -> Result<Answer, CardFault> {
        let card = self.cards.iter_mut().find(|c| c.target == Some(target) && c.kind != Kind::Ticket);
        let card = card.ok_or(CardFault::Removed)?;
        card.apdus += 1;
        card.was_tapped = true;
        card.card.transmit(command)
    }
}

impl InField {
    fn is_here(&self, now: Duration) -> bool {
        match self.away {
            Away::Here => true,
            Away::Until(at) => at <= now,
            Away::ForGood => false,
        }
    }

    fn describe(&self, random: &mut ChaCha8Rng) -> Found {
        let mut id = [0; 4];
        random.fill_bytes(&mut id);
        match self.kind {
            Kind::A => {
                id[0] = 0x08; // a random UID
                a(0x20, &id, ATS)
            }
            Kind::Ticket => a(0x08, &[0x04, id[1], id[2], id[3], random.random(), 0x55, 0x80], &[]),
            Kind::B => {
                let [a, b, c, d] = id;
                let [e, f, g, h, i, j, k] = ATQB_TAIL;
                Found::B(TypeB { atqb: [0x50, a, b, c, d, e, f, g, h, i, j, k], attrib: [0x00].into() })
            }
        }
    }
}

fn a(sel_res: u8, uid: &[u8], ats: &[u8]) -> Found {
    let sens_res = [0x00, if uid.len() == 4 { 0x04 } else { 0x44 }];
    Found::A(TypeA {
        sens_res,
        sel_res,
        uid: uid.iter().copied().collect(),
        ats: ats.iter().copied().collect(),
    })
}
