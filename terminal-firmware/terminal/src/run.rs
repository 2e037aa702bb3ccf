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

/// The barrier after an opening.
struct Opening {
    sequence: u32,
    closes: Instant,
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
    /// The emergency input, as the panel last told of it.
    emergency_input: Option<bool>,
    /// What the panel shows when nothing happens.
    resting: Option<Sign>,
    reader_failures: u32,
}

struct InField<'r, R> {
    reader: &'r mut R,
    several: bool,
}

impl<R: Reader> Contact for InField<'_, R> {
    async fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Result<usize, Lost> {
        if self.several {
            return Err(Lost::SeveralCards);
        }
        self.reader.exchange(command, answer).await
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
                self.panel.show(Sign::OutOfService);
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
        if quiet && self.opening.as_ref().is_some_and(|o| Instant::now() >= o.closes) {
            self.passage(Outcome::NotPassed).await?;
        }
        // A full journal takes it when there is room again.
        if let Some(active) = self.emergency_input.filter(|&active| active != self.gate.in_emergency()) {
            let now = self.clock.now(Instant::now());
            self.gate.emergency(active, now).await?;
        }
        self.gate.idle().await?;
        self.health.uncounted_refusals = self.gate.uncounted_refusals();
        self.talk.speak(self.gate, &mut self.line, &mut self.drbg, &self.health).await?;
        self.rest();
        Ok(())
    }

    async fn found(&mut self, found: Found) -> Result<(), Fault<F::Error>> {
        if found != Found::Trouble {
            self.reader_failures = 0;
        }
        match found {
            Found::Nothing => self.must_leave = false,
            Found::One | Found::Several if self.must_leave => self.reader.release().await,
            Found::One => self.tap(false).await?,
            Found::Several => self.tap(true).await?,
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

    async fn tap(&mut self, several: bool) -> Result<(), Fault<F::Error>> {
        let now = self.clock.now(Instant::now());
        let unpredictable = self.drbg.bytes();
        let mut contact = InField { reader: &mut self.reader, several };
        let presented = self.gate.present(&mut contact, now, unpredictable).await?;
        self.must_leave = true;
        self.resting = None;
        match presented.decision {
            Decision::Open => self.open(&presented).await?,
            Decision::Refuse(reason) => {
                log!(info, "refused: {=str}", reason.word());
                self.panel.show(Sign::Refused { reason, sequence: presented.sequence });
            }
        }
        self.reader.release().await;
        Ok(())
    }

    async fn open(&mut self, presented: &Presented) -> Result<(), Fault<F::Error>> {
        // An opening is journaled, so it has a number; one without it would be a tap that is not durable.
        let Some(sequence) = presented.sequence else { return Ok(()) };
        self.panel.barrier(true);
        self.panel.show(Sign::Open { sequence, again: presented.again });
        log!(info, "open: {=u32}, {=u32} us", sequence, presented.timings.gate_us);
        let before = self.opening.replace(Opening { sequence, closes: Instant::now() + PASSAGE });
        if let Some(before) = before.filter(|before| before.sequence != sequence) {
            // The next rider came before the sensors told of the one before.
            let now = self.clock.now(Instant::now());
            self.gate.passage(before.sequence, Outcome::Unknown, now).await?;
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
                self.panel.barrier(active || self.opening.is_some());
                self.resting = None;
                Ok(())
            }
        }
    }

    async fn passage(&mut self, outcome: Outcome) -> Result<(), Fault<F::Error>> {
        // A sensor that sees somebody without an opening is no passage: an emergency, or a jump.
        let Some(opening) = self.opening.take() else { return Ok(()) };
        self.panel.barrier(false);
        let now = self.clock.now(Instant::now());
        self.gate.passage(opening.sequence, outcome, now).await?;
        Ok(())
    }

    /// Shows what a rider should know while nothing happens.
    fn rest(&mut self) {
        if self.opening.is_some() || self.must_leave {
            return;
        }
        let sign = if self.gate.in_emergency() {
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
        if self.resting != Some(sign) {
            self.resting = Some(sign);
            self.panel.show(sign);
        }
    }
}
