//! The loop: a card, the host, the panel or time; whatever comes first is done to its end.

use crate::clock::Clock;
use crate::drbg::Drbg;
use crate::hardware::{Found, Line, Panel, PanelEvent, Reader, Sign};
use crate::openings::Openings;
use crate::talk::Talk;
use embassy_futures::select::{Either4, select4};
use embassy_time::{Duration, Instant, Timer};
use embedded_storage_async::nor_flash::NorFlash;
use wavepass_gate::{Contact, Gate, GateError, Presented, Room};
use wavepass_kernel::Lost;
use wavepass_protocol::tap::{ClockQuality, Decision, Outcome, Reason};

pub use wavepass_gate::Health;

/// How long a refusal hides that the way is still open for the rider before.
const HIDDEN: Duration = Duration::from_secs(2);
/// How often the loop turns when nothing happens: idle work and the link go on in it.
const TICK: Duration = Duration::from_millis(20);
/// After so many searches in a row that failed, the panel says so; the gate keeps trying.
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
    openings: Openings,
    /// When the sign that the way is open is shown again, where another one hides it.
    hidden: Option<Instant>,
    /// The card of the last tap may still be in the field; the next one is looked for when it is gone.
    must_leave: bool,
    /// That there is more than one card in the field has been shown.
    several: bool,
    /// The panel shows what came of the card in the field.
    answered: bool,
    /// The emergency input, as the panel last told of it.
    emergency_input: bool,
    /// It has been on, and the journal does not have that yet.
    was_emergency: bool,
    /// What the panel shows when nothing happens.
    resting: Option<Sign>,
    reader_failures: u32,
    /// The panel had the last turn.
    reader_next: bool,
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
            openings: Openings::default(),
            hidden: None,
            must_leave: false,
            several: false,
            answered: false,
            emergency_input: false,
            was_emergency: false,
            resting: None,
            reader_failures: 0,
            reader_next: false,
        }
    }

    /// Runs the gate until it cannot go on. `alive` is called at the end of every turn, and nowhere else: the board
    /// feeds its watchdog there and measures its stack.
    pub async fn run(&mut self, mut alive: impl FnMut(&mut Health)) -> Fault<F::Error> {
        // The input may have changed while there was no power: what the journal has of it is only the last that was seen.
        self.emergency_input = self.panel.emergency();
        self.was_emergency = self.emergency_input;
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
        let look = self.reader.look();
        let sensors = self.panel.event();
        let line = self.line.read(&mut bytes);
        // Reader and panel by turns: neither a sensor that rings without end nor a reader that fails without end keeps
        // the gate from the other.
        let event = if core::mem::take(&mut self.reader_next) {
            select4(look, sensors, line, Timer::after(TICK)).await
        } else {
            match select4(sensors, look, line, Timer::after(TICK)).await {
                Either4::First(event) => Either4::Second(event),
                Either4::Second(found) => Either4::First(found),
                Either4::Third(len) => Either4::Third(len),
                Either4::Fourth(()) => Either4::Fourth(()),
            }
        };
        let quiet = !matches!(event, Either4::Second(_));
        match event {
            Either4::First(found) => self.found(found).await?,
            Either4::Second(event) => {
                self.reader_next = true;
                self.panel_event(event).await?;
            }
            Either4::Third(len) => self.talk.received(self.gate, &mut self.clock, &bytes[..len]).await?,
            Either4::Fourth(()) => {}
        }
        // Where the panel had nothing to say.
        if quiet {
            self.overdue().await?;
        }
        self.journal_emergency().await?;
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
                log!(warn, "the reader does not work; setting it up again");
                self.health.reader_recoveries = self.health.reader_recoveries.saturating_add(1);
                // One that can be set up and then finds nothing is no better than one that cannot.
                self.reader_failures = self.reader_failures.saturating_add(1);
                self.reader.recover().await;
            }
        }
        Ok(())
    }

    /// Journals what the emergency input did, once there is a time for it: without one the host could not say whose
    /// missing taps to forgive. A full journal takes it when there is room again.
    async fn journal_emergency(&mut self) -> Result<(), Fault<F::Error>> {
        let now = self.clock.now(Instant::now());
        if now.quality == ClockQuality::Unset {
            return Ok(());
        }
        if self.was_emergency && (self.gate.in_emergency() || self.gate.emergency(true, now).await?.is_some())
        {
            self.was_emergency = false;
        }
        if !self.was_emergency && self.gate.in_emergency() != self.emergency_input {
            self.gate.emergency(self.emergency_input, now).await?;
        }
        Ok(())
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
        self.hidden = Some(Instant::now() + HIDDEN);
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
        let given_up = self.openings.opened(sequence, presented.again, Instant::now());
        self.hidden = None;
        self.answer(Sign::Open { sequence, again: presented.again });
        match given_up {
            Some((sequence, outcome)) => self.journal_passage(sequence, outcome).await,
            None => Ok(()),
        }
    }

    async fn panel_event(&mut self, event: PanelEvent) -> Result<(), Fault<F::Error>> {
        match event {
            PanelEvent::Passed => self.passage(Outcome::Passed).await,
            PanelEvent::NotPassed => self.passage(Outcome::NotPassed).await,
            PanelEvent::Emergency { active } => {
                log!(warn, "emergency input: {=bool}", active);
                self.emergency_input = active;
                self.was_emergency |= active;
                // The board has opened it; when the input is off, an opening that is still going on keeps it open.
                self.panel.barrier(active || self.openings.is_open());
                (self.resting, self.hidden) = (None, Some(Instant::now()));
                Ok(())
            }
        }
    }

    async fn passage(&mut self, outcome: Outcome) -> Result<(), Fault<F::Error>> {
        // A sensor that sees somebody without an opening is no passage: an emergency, or a jump.
        let was_open = self.openings.is_open();
        let Some(sequence) = self.openings.sensed(Instant::now()) else { return Ok(()) };
        if was_open && !self.openings.is_open() {
            self.panel.barrier(false);
        }
        self.journal_passage(sequence, outcome).await
    }

    async fn journal_passage(&mut self, of: u32, outcome: Outcome) -> Result<(), Fault<F::Error>> {
        let now = self.clock.now(Instant::now());
        self.gate.passage(of, outcome, now).await?;
        Ok(())
    }

    /// Closes the barrier when the time of the last opening is over, and gives one up when no sensor told of it for
    /// longer.
    async fn overdue(&mut self) -> Result<(), Fault<F::Error>> {
        let now = Instant::now();
        if self.openings.close(now) && !self.openings.is_open() {
            self.panel.barrier(false);
            // A card that still lies on the reader does not keep the sign.
            (self.answered, self.resting) = (false, None);
        }
        match self.openings.overdue(now) {
            Some((sequence, outcome)) => self.journal_passage(sequence, outcome).await,
            None => Ok(()),
        }
    }

    /// Shows what a rider should know while nothing happens.
    fn rest(&mut self) {
        let sign = if self.emergency_input {
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
        if sign != Sign::Emergency && self.openings.is_open() {
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
        if let Some(sign) = self.openings.sign()
            && self.hidden.take_if(|at| now >= *at).is_some()
        {
            self.panel.show(sign);
        }
    }
}
