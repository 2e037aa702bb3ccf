//! From power to a gate that can run: known answers, random numbers, commissioning once in its life, and the gate's
//! own start. The same on every board; what it runs on is handed in.

use crate::drbg::Drbg;
use crate::layout::Layout;
use crate::run::Fault;
use crate::self_test::{SelfTestError, self_test};
use core::fmt;
use core::ops::Range;
use core::pin::pin;
use embedded_storage_async::nor_flash::NorFlash;
use wavepass_gate::{CommissionError, Gate, GateError, Room, apart};
use wavepass_journal::keylog::KeyLog;
use wavepass_journal::{Error, Limits};
use wavepass_protocol::provisioning::{MAX_FILE, ProvisioningError};
use zeroize::Zeroize;

/// Why a gate is out of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its arithmetic is wrong.
    SelfTest(SelfTestError),
    /// The board has no entropy for it.
    NoEntropy,
    /// The flash is missing or too small, or does not work.
    NoFlash,
    /// It was never commissioned and there is no provisioning file to be had, or its identity is damaged.
    NotCommissioned,
    /// The gate application cannot start, or could not go on: why, in words.
    Gate(&'static str),
}

impl Stop {
    /// Why, in words.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::SelfTest(SelfTestError::Hash) => "self-test: SHA-256",
            Self::SelfTest(SelfTestError::Dukpt) => "self-test: keys",
            Self::SelfTest(SelfTestError::P256) => "self-test: P-256",
            Self::SelfTest(SelfTestError::Rsa) => "self-test: RSA",
            Self::NoEntropy => "no entropy",
            Self::NoFlash => "no flash",
            Self::NotCommissioned => "not commissioned",
            Self::Gate(why) => why,
        }
    }

    /// Whether another start may find things better. Where it cannot, a gate that starts again and again only wears its
    /// flash out.
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::NoFlash | Self::Gate(_))
    }
}

impl<E> From<GateError<E>> for Stop {
    fn from(why: GateError<E>) -> Self {
        match why {
            GateError::NotCommissioned => Self::NotCommissioned,
            GateError::Store(why) => Self::Gate(match why {
                Error::Flash(_) => "the flash failed",
                Error::Geometry => "the flash does not fit",
                Error::Failed => "an earlier write failed",
                Error::Full | Error::RefusalShare => "the journal is full",
                Error::TooLong => "a record is too long",
                Error::Sequence => "a number is out of sequence",
                Error::Unfinished => "a blob is unfinished",
            }),
            GateError::Seal => Self::Gate("an entry did not fit its seal"),
        }
    }
}

impl<E> From<Fault<E>> for Stop {
    fn from(Fault::Gate(why): Fault<E>) -> Self {
        why.into()
    }
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
    if !apart(pin!(layout.areas(&area).is_commissioned())).await? {
        apart(pin!(commission(layout, &area, provisioner))).await?;
    }
    let start = Gate::start_in(place, layout.areas(&area), Limits::default(), memory);
    let gate = apart(pin!(start)).await?;
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
    // Keys that were used say that there was an identity: it is damaged, and nobody may give the gate another.
    if apart(pin!(KeyLog::open(area(&layout.keys)))).await.map_err(GateError::from)?.counter() != 0 {
        provisioner.answer(Err(Refused::Already));
        return Err(Stop::NotCommissioned);
    }
    let mut file = [0; MAX_FILE];
    loop {
        let len = provisioner.file(&mut file).await.ok_or(Stop::NotCommissioned)?;
        let done = layout.areas(&area).commission(&file[..len.min(MAX_FILE)]).await.map_err(Refused::from);
        file.zeroize();
        provisioner.answer(done);
        match done {
            Ok(()) => return Ok(()),
            // No file helps.
            Err(Refused::Already) => return Err(Stop::NotCommissioned),
            Err(Refused::Flash) => return Err(Stop::NoFlash),
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
    use wavepass_journal::cells::Cell;
    use wavepass_journal::sim::{RamFlash, block_on};
    use wavepass_protocol::dukpt::KeyId;
    use wavepass_protocol::ecc::P256Verifier;
    use wavepass_protocol::provisioning::Provisioning;
    use wavepass_protocol::tap::Direction;

    type Started = Result<&'static mut Gate<RamFlash, Box<Memory<P256Verifier>>>, Stop>;

    const FIXTURE: Provisioning<'static> = Provisioning {
        gate_id: 7,
        key_id: KeyId([1; 8]),
        initial_key: [2; 16],
        link_key: [3; 16],
        root_key: [4; 32],
        station: "A1",
        direction: Direction::Entry,
        operator: 1,
        network: *b"WAVE",
    };

    fn file(gate_id: u32) -> Vec<u8> {
        Provisioning { gate_id, ..FIXTURE }.write(&mut [0; MAX_FILE]).unwrap().to_vec()
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
        fn chip(&self, range: &Range<u32>) -> RamFlash {
            self.chips.iter().find(|(of, _)| of == range).map(|(_, chip)| chip.clone()).unwrap()
        }

        fn replace(&mut self, range: &Range<u32>, content: Vec<u8>) {
            let chip = self.chips.iter_mut().find(|(of, _)| of == range).map(|(_, chip)| chip).unwrap();
            *chip = RamFlash::with(content);
        }

        fn power(&self, bench: &mut Bench) -> Started {
            let area = |range: &Range<u32>| self.chip(range);
            let mut service = Service::new(bench, || {});
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
    fn a_gate_whose_identity_is_gone_or_damaged_never_listens_for_a_file_again() {
        let mut board = board();
        board.power(&mut bench(&sealed(&file(7)))).ok().unwrap();
        let identity = board.layout.identity.clone();
        let sound = board.chip(&identity).content();
        // A bit of each byte turned over, one at a time: whoever listens to a bench where nothing is sent fails.
        for at in 0..=sound.iter().rposition(|&byte| byte != 0xFF).unwrap() {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            board.replace(&identity, damaged);
            let started = board.power(&mut bench(&[]));
            assert!(matches!(started, Ok(_) | Err(Stop::NotCommissioned)), "byte {at}");
        }
        board.replace(&identity, std::vec![0xFF; sound.len()]);
        let mut line = bench(&[]);
        assert_eq!(board.power(&mut line).err(), Some(Stop::NotCommissioned));
        assert!(said(&line).contains("refused: this flash holds an earlier gate's keys"), "{}", said(&line));
        // One whose checksum is right, and which is none.
        let mut cell = block_on(Cell::open(board.chip(&identity))).unwrap();
        block_on(cell.store(b"no identity")).unwrap();
        assert_eq!(board.power(&mut bench(&[])).err(), Some(Stop::NotCommissioned));
    }

    #[test]
    fn a_stop_says_why_and_whether_another_start_may_help() {
        let stop = |why: GateError<()>| Stop::from(why);
        assert_eq!(stop(GateError::Store(Error::Flash(()))).word(), "the flash failed");
        assert!(stop(GateError::Store(Error::Flash(()))).may_pass());
        assert!(stop(GateError::Seal).may_pass() && Stop::NoFlash.may_pass());
        let lasting = [stop(GateError::NotCommissioned), Stop::SelfTest(SelfTestError::Rsa), Stop::NoEntropy];
        assert!(lasting.iter().all(|stop| !stop.may_pass()));
    }
}
