//! What a reader sees of a card before the first command: UID, historical bytes, ATR; and the commands that a
//! PC/SC reader answers itself.
//!
//! Facts: PC/SC part 3 (ATR of contactless cards in 3.1.3.2.3, GET DATA in 3.2.2.1.3), ISO/IEC 7816-4 (historical
//! bytes), ISO/IEC 14443-3 (a UID that begins with `08` is made anew each time).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use wavepass_protocol::apdu::{Command, Status};

/// The most historical bytes: their number has four bits.
pub const MAX_HISTORICAL: usize = 15;

/// Historical bytes of a phone: category 80, card service data (applications are selected by their full names),
/// card capabilities (the same; data units of one byte; short lengths only).
pub const HISTORICAL: [u8; 7] = [0x80, 0x31, 0x80, 0x73, 0x80, 0x01, 0x00];
/// The same, with extended lengths.
pub const HISTORICAL_EXTENDED: [u8; 7] = [0x80, 0x31, 0x80, 0x73, 0x80, 0x01, 0x40];

/// How a card shows itself in the field, as its file has it. What is left empty is as phones have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Surface {
    /// UID, 4, 7 or 10 bytes; empty: random in each field.
    #[serde(with = "crate::hex", skip_serializing_if = "Vec::is_empty")]
    pub uid: Vec<u8>,
    /// Historical bytes, at most 15.
    #[serde(with = "crate::hex", skip_serializing_if = "Vec::is_empty")]
    pub historical: Vec<u8>,
    /// Modelled time of each answer, in microseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub answer_us: u64,
    /// Modelled time of a signature, in microseconds, on top.
    #[serde(skip_serializing_if = "is_zero")]
    pub sign_us: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Surface {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// True if readers could take it.
    pub fn is_sound(&self) -> bool {
        matches!(self.uid.len(), 0 | 4 | 7 | 10) && self.historical.len() <= MAX_HISTORICAL
    }
}

/// A card's identity in the field it is in.
#[derive(Debug, Clone)]
pub struct Identity {
    uid: Vec<u8>,
    historical: Vec<u8>,
    random: Option<ChaCha20Rng>,
}

impl Identity {
    /// The identity of a card with this surface. `seed` is for random UIDs.
    pub fn new(surface: &Surface, seed: [u8; 32]) -> Self {
        let historical = match surface.historical.as_slice() {
            [] => HISTORICAL.to_vec(),
            given => given.to_vec(),
        };
        let random = surface.uid.is_empty().then(|| ChaCha20Rng::from_seed(seed));
        let mut identity = Self { uid: surface.uid.clone(), historical, random };
        identity.enter_field();
        identity
    }

    /// A random UID changes with the field.
    pub fn enter_field(&mut self) {
        if let Some(random) = &mut self.random {
            let [a, b, c, _] = random.next_u32().to_be_bytes();
            self.uid = vec![0x08, a, b, c];
        }
    }

    /// The UID.
    pub fn uid(&self) -> &[u8] {
        &self.uid
    }

    /// The historical bytes.
    pub fn historical(&self) -> &[u8] {
        &self.historical
    }

    /// The ATR that a PC/SC reader makes of the historical bytes.
    pub fn atr(&self) -> Vec<u8> {
        atr(&self.historical)
    }

    /// The answer to a command of class FF, which a reader does not send on to the card; `None` for any other.
    pub fn pseudo(&self, command: &[u8]) -> Option<Vec<u8>> {
        if command.first() != Some(&0xFF) {
            return None;
        }
        let answer = |data: &[u8], status: Status| Some([data, &status.to_bytes()].concat());
        let Ok(command) = Command::parse(command) else { return answer(&[], Status::WrongLength) };
        let data = match (command.ins, command.p1, command.p2) {
            (0xCA, 0x00, 0x00) => &self.uid,
            (0xCA, 0x01, 0x00) => &self.historical,
            _ => return answer(&[], Status::NotSupported),
        };
        match command.le.map(|le| le as usize) {
            None => answer(&[], Status::WrongLength),
            Some(256) => answer(data, Status::Success),
            // At most 15.
            Some(le) if le < data.len() => answer(&[], Status::WrongLe(data.len() as u8)),
            Some(le) if le > data.len() => answer(data, END_OF_DATA),
            Some(_) => answer(data, Status::Success),
        }
    }
}

/// Fewer bytes than were asked for.
const END_OF_DATA: Status = Status::Other(0x6282);

/// The ATR of a contactless card: `3B 8n 80 01`, historical bytes, check byte.
pub fn atr(historical: &[u8]) -> Vec<u8> {
    let historical = &historical[..historical.len().min(MAX_HISTORICAL)];
    let mut atr = vec![0x3B, 0x80 | historical.len() as u8, 0x80, 0x01];
    atr.extend_from_slice(historical);
    atr.push(atr[1..].iter().fold(0, |sum, byte| sum ^ byte));
    atr
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed() -> Identity {
        let surface = Surface { uid: vec![4, 1, 2, 3, 4, 5, 6], ..Surface::default() };
        Identity::new(&surface, [1; 32])
    }

    /// The example is an ATR that readers have reported for phones.
    #[test]
    fn the_check_byte_of_an_atr_is_right() {
        let known = [0x3B, 0x85, 0x80, 0x01, 0x80, 0x31, 0x80, 0x40, 0x80, 0xF5];
        assert_eq!(atr(&[0x80, 0x31, 0x80, 0x40, 0x80]), known);
        assert_eq!(atr(&[]), [0x3B, 0x80, 0x80, 0x01, 0x01]);
        for atr in [fixed().atr(), atr(&[7; 40])] {
            assert_eq!(atr[1..].iter().fold(0, |sum, byte| sum ^ byte), 0);
            assert_eq!(atr.len(), 5 + usize::from(atr[1] & 0xF));
        }
    }

    #[test]
    fn a_reader_answers_for_the_uid_and_the_historical_bytes_itself() {
        let card = fixed();
        let ask = |bytes: &[u8]| card.pseudo(bytes).unwrap();
        let uid = [&[4, 1, 2, 3, 4, 5, 6, 0x90, 0x00][..]].concat();
        assert_eq!(ask(&[0xFF, 0xCA, 0, 0, 0]), uid);
        assert_eq!(ask(&[0xFF, 0xCA, 0, 0, 7]), uid);
        assert_eq!(ask(&[0xFF, 0xCA, 1, 0, 0]), [&HISTORICAL[..], &[0x90, 0x00]].concat());
        assert_eq!(ask(&[0xFF, 0xCA, 0, 0, 4]), [0x6C, 7]);
        assert_eq!(ask(&[0xFF, 0xCA, 0, 0, 9]), [&uid[..7], &[0x62, 0x82]].concat());
        assert_eq!(ask(&[0xFF, 0xCA, 0, 0]), [0x67, 0x00]);
        assert_eq!(ask(&[0xFF, 0xCA, 0, 0, 5, 1]), [0x67, 0x00]);
        assert_eq!(ask(&[0xFF, 0xCA, 2, 0, 0]), [0x6A, 0x81]);
        assert_eq!(ask(&[0xFF, 0x82, 0, 0, 1, 9]), [0x6A, 0x81]);
        assert_eq!(card.pseudo(&[0x00, 0xCA, 0, 0, 0]), None);
        assert_eq!(card.pseudo(&[]), None);
    }

    #[test]
    fn a_phone_s_uid_is_new_in_every_field_and_a_card_s_is_not() {
        let mut phone = Identity::new(&Surface::default(), [1; 32]);
        let first = phone.uid().to_vec();
        phone.enter_field();
        assert_eq!((first[0], first.len(), phone.uid()[0]), (0x08, 4, 0x08));
        assert_ne!(phone.uid(), first);
        let mut card = fixed();
        card.enter_field();
        assert_eq!(card.uid(), [4, 1, 2, 3, 4, 5, 6]);
    }
}
