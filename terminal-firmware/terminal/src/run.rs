//! The loop: a card, the host, the panel or time; whatever comes first is done to its end.

use crate::clock::Clock;
use crate::drbg::Drbg;
use crate::hardware::{Found, Line, Panel, PanelEvent, Reader, Sign};
use crate::talk::Talk;
use embassy_futures::select::{Either4, select4};
use embassy_time::{Duration, Instant, Timer};
use embedded_storage_async::nor_flash::NorFlash;
use wavepass_gate::{Contact, Gate, GateError, Presented, Room};
use wavepass_kernel::Lost;
use wavepass_protocol::tap::{Decision, Outcome, Reason};

pub use wavepass_gate::Health;

/// How long the way stays free for a rider who was let in.
const PASSAGE: Duration = Duration::from_secs(8);
/// How long after that a sensor may still tell that the rider passed, before the opening counts as not used.
const LATE: Duration = Duration::from_secs(4);
/// How long a refusal hides that the way is still open for the rider before.
const HIDDEN: Duration = Duration::from_secs(2);
/// How often the loop turns when nothing happens: idle work and the link go on in it.
const TICK: Duration = Duration::from_millis(20);
/// After so many recoveries in a row that did not help, the panel says so; the gate keeps trying.
const READER_TRIES: u32 = 3;

/// Why the loop ended: the gate must start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault<E> {
    /// The gate application cannot go on.
    Gate(GateError<E>),
}

impl<E> From<GateError<E>> for Fault<E> {
    fn from(why: GateError<E>) -> Self {
        Self::Gate(why)
    }
}

/// An opening whose outcome is not journaled yet.
struct Opening {
    sequence: u32,
    again: bool,
    closes: Instant,
    /// The barrier is still open for it.
    is_open: bool,
    /// When its sign is shown again, where another one hides it.
    hidden: Option<Instant>,
}

impl Opening {
    const fn sign(&self) -> Sign {
        Sign::Open { sequence: self.sequence, again: self.again }
    }
}

/// A gate with everything around it.
pub struct Terminal<'t, F, M, R, L, P> {
    gate: &'t mut Gate<F, M>,
    reader: R,
    line: L,
    panel: P,
    drbg: Drbg,
    clock: Clock,
    talk: Talk,
    health: Health,
    opening: Option<Opening>,
    /// The card of the last tap may still be in the field; the next one is looked for when it is gone.
    must_leave: bool,
    /// That there is more than one card in the field has been shown.
    several: bool,
    /// The panel shows what came of the card in the field.
    answered: bool,
    /// The emergency input, as the panel last told of it.
    emergency_input: Option<bool>,
    /// What the panel shows when nothing happens.
    resting: Option<Sign>,
    reader_failures: u32,
}

/// What was held to the reader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    One,
    Several,
    Ticket,
}

/// ISO/IEC 7816-4: not found.
const NOT_FOUND: [u8; 2] = [0x6A, 0x82];

struct InField<'r, R> {
    reader: &'r mut R,
    held: Held,
}

impl<R: Reader> Contact for InField<'_, R> {
    async fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Result<usize, Lost> {
        match self.held {
            Held::One => self.reader.exchange(command, answer).await,
            Held::Several => Err(Lost::SeveralCards),
            // It cannot be asked, and has no application that the gate accepts.
            Held::Ticket => {
                answer.get_mut(..NOT_FOUND.len()).ok_or(Lost::Protocol)?.copy_from_slice(&NOT_FOUND);
                Ok(NOT_FOUND.len())
            }
        }
    }

    fn now_us(&self) -> u64 {
        Instant::now().as_micros()
    }
}

impl<'t, F: NorFlash, M: Room, R: Reader, L: Line, P: Panel> Terminal<'t, F, M, R, L, P> {
    /// A gate that has just started. `health` is what the board knows of itself and of the run before.
    pub fn new(gate: &'t mut Gate<F, M>, parts: (R, L, P), drbg: Drbg, health: Health) -> Self {
        let (reader, line, panel) = parts;
        Self {
            gate,
            reader,
            line,
            panel,
            drbg,
            clock: Clock::default(),
            talk: Talk::new(),
            health,
            opening: None,
            must_leave: false,
            several: false,
            answered: false,
            emergency_input: None,
            resting: None,
            reader_failures: 0,
        }
    }

    /// Runs the gate until it cannot go on. `alive` is called at the end of every turn, and nowhere else: the board
    /// feeds its watchdog there and measures its stack.
    pub async fn run(&mut self, mut alive: impl FnMut(&mut Health)) -> Fault<F::Error> {
        // The input may have changed while there was no power: what the journal has of it is only the last that was seen.
        self.emergency_input = Some(self.panel.emergency());
        self.panel.barrier(false);
        loop {
            if let Err(fault) = self.turn().await {
                self.panel.barrier(false);
                return fault;
            }
            alive(&mut self.health);
        }
    }

    async fn turn(&mut self) -> Result<(), Fault<F::Error>> {
        let mut bytes = [0; 256];
        // The panel first: a passage that was seen counts before the time for it is over.
        let event =
            select4(self.panel.event(), self.reader.look(), self.line.read(&mut bytes), Timer::after(TICK))
                .await;
        let quiet = !matches!(event, Either4::First(_));
        match event {
            Either4::First(event) => self.panel_event(event).await?,
            Either4::Second(found) => self.found(found).await?,
            Either4::Third(len) => self.talk.received(self.gate, &mut self.clock, &bytes[..len]).await?,
            Either4::Fourth(()) => {}
        }
        // Where the panel had nothing to say.
        if quiet {
            self.overdue().await?;
        }
        // A full journal takes it when there is room again.
        if let Some(active) = self.emergency_input.filter(|&active| active != self.gate.in_emergency()) {
            let now = self.clock.now(Instant::now());
            self.gate.emergency(active, now).await?;
        }
        self.gate.idle().await?;
        self.health.uncounted_refusals = self.gate.uncounted_refusals();
        self.health.trouble = self.gate.trouble();
        self.talk.speak(self.gate, &mut self.line, &mut self.drbg, &self.health).await?;
        self.rest();
        Ok(())
    }

    async fn found(&mut self, found: Found) -> Result<(), Fault<F::Error>> {
        if found != Found::Trouble {
            self.reader_failures = 0;
        }
        match found {
            Found::Nothing => (self.must_leave, self.several, self.answered) = (false, false, false),
            Found::One | Found::Ticket if self.must_leave => {
                self.several = false;
                self.reader.release().await;
            }
            Found::Several if self.must_leave => {
                // A card that lies on the reader makes several of every other; whoever brings one is told.
                if !core::mem::replace(&mut self.several, true) {
                    self.refused(Reason::SeveralCards, None);
                }
                self.reader.release().await;
            }
            Found::One => self.tap(Held::One).await?,
            Found::Ticket => self.tap(Held::Ticket).await?,
            Found::Several => self.tap(Held::Several).await?,
            Found::Trouble => {
                log!(warn, "the reader does not answer; setting it up again");
                self.health.reader_recoveries = self.health.reader_recoveries.saturating_add(1);
                if !self.reader.recover().await {
                    self.reader_failed();
                }
            }
        }
        Ok(())
    }

    fn reader_failed(&mut self) {
        self.reader_failures = self.reader_failures.saturating_add(1);
    }

    async fn tap(&mut self, held: Held) -> Result<(), Fault<F::Error>> {
        let now = self.clock.now(Instant::now());
        let unpredictable = self.drbg.bytes();
        let mut contact = InField { reader: &mut self.reader, held };
        let presented = self.gate.present(&mut contact, now, unpredictable).await?;
        (self.must_leave, self.several) = (true, held == Held::Several);
        match presented.decision {
            Decision::Open => self.open(&presented).await?,
            Decision::Refuse(reason) => self.refused(reason, presented.sequence),
        }
        self.talk.tapped();
        self.reader.release().await;
        Ok(())
    }

    fn refused(&mut self, reason: Reason, sequence: Option<u32>) {
        log!(info, "refused: {=str}", reason.word());
        self.answer(Sign::Refused { reason, sequence });
        if let Some(opening) = &mut self.opening {
            opening.hidden = Some(Instant::now() + HIDDEN);
        }
    }

    fn answer(&mut self, sign: Sign) {
        (self.answered, self.resting) = (true, None);
        self.panel.show(sign);
    }

    async fn open(&mut self, presented: &Presented) -> Result<(), Fault<F::Error>> {
        // An opening is journaled, so it has a number; one without it would be a tap that is not durable.
        let Some(sequence) = presented.sequence else { return Ok(()) };
        self.panel.barrier(true);
        log!(info, "open: {=u32}, {=u32} us", sequence, presented.timings.gate_us);
        let closes = Instant::now() + PASSAGE;
        let opening = Opening { sequence, again: presented.again, closes, is_open: true, hidden: None };
        self.answer(opening.sign());
        let before = self.opening.replace(opening);
        if let Some(before) = before.filter(|before| before.sequence != sequence) {
            // The next rider came before the sensors told of the one before, or after the barrier had closed.
            let outcome = if before.is_open { Outcome::Unknown } else { Outcome::NotPassed };
            let now = self.clock.now(Instant::now());
            self.gate.passage(before.sequence, outcome, now).await?;
        }
        Ok(())
    }

    async fn panel_event(&mut self, event: PanelEvent) -> Result<(), Fault<F::Error>> {
        match event {
            PanelEvent::Passed => self.passage(Outcome::Passed).await,
            PanelEvent::NotPassed => self.passage(Outcome::NotPassed).await,
            PanelEvent::Emergency { active } => {
                log!(warn, "emergency input: {=bool}", active);
                self.emergency_input = Some(active);
                // The board has opened it; when the input is off, an opening that is still going on keeps it open.
                self.panel.barrier(active || self.way_is_open());
                self.resting = None;
                if let Some(opening) = &mut self.opening {
                    opening.hidden = Some(Instant::now());
                }
                Ok(())
            }
        }
    }

    async fn passage(&mut self, outcome: Outcome) -> Result<(), Fault<F::Error>> {
        // A sensor that sees somebody without an opening is no passage: an emergency, or a jump.
        let Some(opening) = self.opening.take() else { return Ok(()) };
        if opening.is_open {
            self.panel.barrier(false);
        }
        let now = self.clock.now(Instant::now());
        self.gate.passage(opening.sequence, outcome, now).await?;
        Ok(())
    }

    /// Closes the barrier when the time of an opening is over, and gives it up when no sensor told of it for longer.
    async fn overdue(&mut self) -> Result<(), Fault<F::Error>> {
        let now = Instant::now();
        let Some(opening) = self.opening.as_mut().filter(|o| now >= o.closes) else { return Ok(()) };
        let is_late = now >= opening.closes + LATE;
        if core::mem::take(&mut opening.is_open) {
            self.panel.barrier(false);
            // A card that still lies on the reader does not keep the sign.
            (self.answered, self.resting) = (false, None);
        }
        if is_late { self.passage(Outcome::NotPassed).await } else { Ok(()) }
    }

    fn way_is_open(&self) -> bool {
        self.opening.as_ref().is_some_and(|opening| opening.is_open)
    }

    /// Shows what a rider should know while nothing happens.
    fn rest(&mut self) {
        let sign = if self.emergency_input == Some(true) {
            Sign::Emergency
        } else if self.reader_failures >= READER_TRIES {
            Sign::OutOfService
        } else {
            match self.gate.ready(self.clock.now(Instant::now())) {
                Ok(()) => Sign::Ready,
                Err(Reason::OutOfService) => Sign::OutOfService,
                Err(reason) => Sign::Refused { reason, sequence: None },
            }
        };
        if sign != Sign::Emergency && self.way_is_open() {
            return self.show_again();
        }
        if self.answered && !matches!(sign, Sign::Emergency | Sign::OutOfService) {
            return;
        }
        if self.resting != Some(sign) {
            (self.answered, self.resting) = (false, Some(sign));
            self.panel.show(sign);
        }
    }

    /// Shows that the way is open, once what hid it has been seen.
    fn show_again(&mut self) {
        let now = Instant::now();
        if let Some(opening) = &mut self.opening
            && opening.hidden.take_if(|at| now >= *at).is_some()
        {
            self.panel.show(opening.sign());
        }
    }
}
