//! From power to a gate that can run: known answers, random numbers, commissioning once in its life, and the gate's
//! own start. The same on every board; what it runs on is handed in.

use crate::drbg::Drbg;
use crate::layout::Layout;
use crate::self_test::{SelfTestError, self_test};
use core::fmt;
use core::ops::Range;
use core::pin::pin;
use embedded_storage_async::nor_flash::NorFlash;
use wavepass_gate::{CommissionError, Gate, GateError, Room, apart};
use wavepass_journal::Limits;
use wavepass_protocol::provisioning::{MAX_FILE, ProvisioningError};
use zeroize::Zeroize;

/// Why a gate is out of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Stop {
    /// Its arithmetic is wrong.
    SelfTest(SelfTestError),
    /// The board has no entropy for it.
    NoEntropy,
    /// The flash is missing or too small, or does not work.
    NoFlash,
    /// It was never commissioned, and there is no provisioning file to be had.
    NotCommissioned,
    /// The gate application cannot start, or could not go on.
    Gate,
}

/// Why a provisioning file was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The gate was commissioned before, and would use its keys again.
    Already,
    /// The file cannot be used.
    File(ProvisioningError),
    /// The flash failed.
    Flash,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Already => f.write_str("this flash holds an earlier gate's keys or journal"),
            Self::File(why) => why.fmt(f),
            Self::Flash => f.write_str("the flash cannot be used"),
        }
    }
}

impl<E> From<CommissionError<E>> for Refused {
    fn from(why: CommissionError<E>) -> Self {
        match why {
            CommissionError::Already => Self::Already,
            CommissionError::File(why) => Self::File(why),
            CommissionError::Gate(_) => Self::Flash,
        }
    }
}

/// Where a gate that was never commissioned finds its provisioning file.
#[expect(async_fn_in_trait, reason = "one task starts the gate")]
pub trait Provisioner {
    /// Reads a file and gives its length; waits for one where it may come. `None` where none is to be had.
    async fn file(&mut self, into: &mut [u8; MAX_FILE]) -> Option<usize>;
    /// What came of it. After a refusal the next file is asked for.
    fn answer(&mut self, outcome: Result<(), Refused>);
}

/// Starts a gate on the areas that `area` gives. `entropy` is the hardware's; `memory` and `place` are where the gate
/// stays, for it is large and never moved.
pub async fn start<'g, F, M>(
    layout: &Layout,
    area: impl Fn(&Range<u32>) -> F,
    entropy: &[u8; 32],
    mut memory: M,
    provisioner: &mut impl Provisioner,
    place: &'g mut Option<Gate<F, M>>,
) -> Result<(&'g mut Gate<F, M>, Drbg), Stop>
where
    F: NorFlash,
    M: Room,
{
    self_test(memory.verifier()).map_err(Stop::SelfTest)?;
    let drbg = apart(pin!(Drbg::start(area(&layout.drbg), entropy))).await.map_err(|_| Stop::NoFlash)?;
    if !apart(pin!(layout.areas(&area).is_commissioned())).await.map_err(|_| Stop::Gate)? {
        apart(pin!(commission(layout, &area, provisioner))).await?;
    }
    let start = Gate::start_in(place, layout.areas(&area), Limits::default(), memory);
    let gate = apart(pin!(start)).await.map_err(|why| match why {
        GateError::NotCommissioned => Stop::NotCommissioned,
        _ => Stop::Gate,
    })?;
    let _identity = gate.identity();
    log!(
        info,
        "gate {=u32} at {=str}; the next entry is {=u32}",
        _identity.gate_id,
        _identity.station.as_str(),
        gate.next_sequence()
    );
    Ok((gate, drbg))
}

async fn commission<F: NorFlash>(
    layout: &Layout,
    area: impl Fn(&Range<u32>) -> F,
    provisioner: &mut impl Provisioner,
) -> Result<(), Stop> {
    log!(warn, "not commissioned");
    let mut file = [0; MAX_FILE];
    loop {
        let len = provisioner.file(&mut file).await.ok_or(Stop::NotCommissioned)?;
        let done = layout.areas(&area).commission(&file[..len.min(MAX_FILE)]).await.map_err(Refused::from);
        file.zeroize();
        provisioner.answer(done);
        match done {
            Ok(()) => return Ok(()),
            // No file helps.
            Err(Refused::Already | Refused::Flash) => return Err(Stop::NotCommissioned),
            Err(Refused::File(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Service;
    use crate::service::tests::{Bench, bench, sealed};
    use std::boxed::Box;
    use std::string::String;
    use std::vec::Vec;
    use wavepass_gate::Memory;
    use wavepass_journal::sim::{RamFlash, block_on};
    use wavepass_protocol::dukpt::KeyId;
    use wavepass_protocol::ecc::P256Verifier;
    use wavepass_protocol::provisioning::Provisioning;
    use wavepass_protocol::tap::Direction;

    type Started = Result<&'static mut Gate<RamFlash, Box<Memory<P256Verifier>>>, Stop>;

    fn file(gate_id: u32) -> Vec<u8> {
        let provisioning = Provisioning {
            gate_id,
            key_id: KeyId([1; 8]),
            initial_key: [2; 16],
            link_key: [3; 16],
            root_key: [4; 32],
            station: "A1",
            direction: Direction::Entry,
            operator: 1,
            network: *b"WAVE",
        };
        provisioning.write(&mut [0; MAX_FILE]).unwrap().to_vec()
    }

    struct Board {
        layout: Layout,
        chips: Vec<(Range<u32>, RamFlash)>,
    }

    fn board() -> Board {
        let layout = Layout::of(4 << 20).unwrap();
        let ranges =
            [&layout.keys, &layout.identity, &layout.drbg, &layout.floor, &layout.journal].into_iter();
        let chips = ranges.chain(&layout.lists).map(|r| (r.clone(), RamFlash::new(r.len()))).collect();
        Board { layout, chips }
    }

    impl Board {
        fn power(&self, bench: &mut Bench) -> Started {
            let area = |range: &Range<u32>| {
                self.chips.iter().find(|(of, _)| of == range).map(|(_, chip)| chip.clone()).unwrap()
            };
            let mut service = Service::new(bench);
            let place = Box::leak(Box::new(None));
            let memory = Box::new(Memory::new(P256Verifier));
            let started = block_on(start(&self.layout, area, &[9; 32], memory, &mut service, place));
            started.map(|(gate, _)| gate)
        }
    }

    fn said(bench: &Bench) -> String {
        String::from_utf8(bench.said.clone()).unwrap()
    }

    #[test]
    fn a_new_gate_waits_for_its_file_says_what_it_did_and_never_asks_again() {
        let board = board();
        let mut first = bench(&sealed(&file(7)));
        let gate = board.power(&mut first).ok().unwrap();
        assert_eq!((gate.identity().gate_id, gate.next_sequence()), (7, 1));
        assert!(said(&first).ends_with("wavepass: commissioned\n"), "{}", said(&first));

        let mut second = bench(&[]);
        let gate = board.power(&mut second).ok().unwrap();
        assert_eq!(gate.identity().gate_id, 7);
        assert_eq!(said(&second), "");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_the_next_one_is_taken() {
        let board = board();
        let mut truncated = file(7);
        truncated.truncate(40);
        let mut bench = bench(&[sealed(&truncated), sealed(b"hello"), sealed(&file(8))].concat());
        let gate = board.power(&mut bench).ok().unwrap();
        assert_eq!(gate.identity().gate_id, 8);
        let said = said(&bench);
        assert!(said.contains("wavepass: refused: the provisioning file is damaged\n"), "{said}");
        assert!(
            said.contains("wavepass: refused: not a gate's provisioning file of this version\n"),
            "{said}"
        );
    }

    #[test]
    fn a_flash_whose_identity_is_gone_but_not_its_keys_takes_no_file() {
        let board = board();
        board.power(&mut bench(&sealed(&file(7)))).ok().unwrap();
        let (_, identity) = board.chips.iter().find(|(of, _)| *of == board.layout.identity).unwrap();
        let mut identity = identity.clone();
        block_on(identity.erase(0, board.layout.identity.len() as u32)).unwrap();
        let mut again = bench(&sealed(&file(7)));
        assert_eq!(board.power(&mut again).err(), Some(Stop::NotCommissioned));
        assert!(
            said(&again).contains("refused: this flash holds an earlier gate's keys"),
            "{}",
            said(&again)
        );
    }
}
