//! A phone as issued, read to its last record through driver and chip.

use crate::exchanging::found;
use crate::world::{Reader, World, reader};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::rc::Rc;
use wavepass_hce::card::{Answer, Card, CardFault};
use wavepass_hce::faults::Fault;
use wavepass_hce::issue::{AuthorityOrder, Domain, HouseAuthority, HouseOrder};
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::pn532::{Presented, Switches};
use wavepass_hce::reader::{ReadError, Values, read};
use wavepass_hce::state::Counters;
use wavepass_pn532::Target;
use wavepass_protocol::tags;
use wavepass_protocol::time::Date;
use wavepass_protocol::token::{Expiry, Token};

const TODAY: Date = Date { year: 2026, month: 11, day: 24 };

fn issued() -> PhoneFile {
    let authority = HouseAuthority::generate(
        &mut ChaCha20Rng::from_seed([1; 32]),
        AuthorityOrder {
            rid: *b"\xF0WAVE",
            ca_index: 1,
            issuer_id: [0x62, 0x99, 0xFF, 0xFF, 0xFF],
            expiry: Date { year: 2036, month: 12, day: 31 },
            serial: [0, 0, 1],
        },
    );
    let order = HouseOrder {
        token: Token::from_digits("6299000000000001").unwrap(),
        expiry: Expiry::new(29, 11).unwrap(),
        effective: TODAY,
        psn: 0,
        domain: Some(Domain { network: *b"CITY", operator: 0 }),
        serial: [0; 6],
        card_key: [2; 32],
        master_key: [3; 16],
    };
    authority.issue(&order).unwrap()
}

/// The card at the other end of the driver. Bringing it into the field is a search.
struct Contact {
    world: Rc<World>,
    reader: Reader,
    target: Option<Target>,
}

impl Card for Contact {
    fn enter_field(&mut self) {
        self.target = Some(found(&self.world, &mut self.reader));
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Answer, CardFault> {
        let target = self.target.as_ref().ok_or(CardFault::Removed)?;
        let mut answer = [0; 258];
        match self.world.run(self.reader.exchange(target, command, &mut answer)) {
            Ok(len) => Ok(Answer { data: answer[..len].to_vec(), delay_us: 0 }),
            Err(e) if e.is_card_gone() => Err(CardFault::Removed),
            Err(e) => Err(CardFault::Link(e.to_string())),
        }
    }
}

fn contact(file: &PhoneFile, switches: Switches) -> Contact {
    let world = World::new(90);
    world.switch(switches);
    let phone = Phone::new(file, Counters::memory(), [4; 32]).unwrap();
    world.set_field(vec![Presented::phone(Box::new(phone))]);
    Contact { reader: reader(&world), world, target: None }
}

#[test]
fn a_phone_says_the_same_through_the_chip_as_in_process() {
    let file = issued();
    let values = Values::gate(TODAY, [5, 6, 7, 8]);
    let mut direct = Phone::new(&file, Counters::memory(), [4; 32]).unwrap();
    let direct = read(&mut direct, &values).unwrap();
    for fragment in [1, 20, 64, 262] {
        let mut contact = contact(&file, Switches { fragment, ..Switches::default() });
        let through = read(&mut contact, &values).unwrap();
        assert!(through.exchanges == direct.exchanges, "in parts of {fragment}");
        assert_eq!(through.value(tags::ATC), Some(vec![0, 1]));
        let again = read(&mut contact, &values).unwrap();
        assert_eq!(again.value(tags::ATC), Some(vec![0, 2]), "a second tap is a second transaction");
    }
}

#[test]
fn a_phone_that_leaves_after_any_answer_is_gone() {
    for after in 0..5 {
        let file = issued().with_fault(Fault::FieldLost { after });
        let mut contact = contact(&file, Switches::default());
        let left = read(&mut contact, &Values::gate(TODAY, [5, 6, 7, 8]));
        assert!(matches!(left, Err(ReadError::Card(CardFault::Removed))));
    }
}
