//! Three days of riders who do everything that a tariff and a gate have a rule for: whole and half journeys, changes
//! between networks, many rides under caps, waves that open and nobody passes, refusals. The same seed gives the same
//! days, rider by rider, so that nobody has to hold them all.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use wavepass_fares::Fen;
use wavepass_gateway::gates::NewGate;
use wavepass_protocol::tap::{Direction, Outcome, Reason};
use wavepass_protocol::time::{Date, UnixMs};

use crate::riders::Rider;

/// 04:00 in Shanghai on 2026-11-23, a Monday.
pub const START: UnixMs = UnixMs(1_795_377_600_000);
/// How many service days are ridden.
pub const DAYS: u64 = 3;
/// A service day, milliseconds.
pub const DAY_MS: u64 = 24 * HOUR_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const MINUTE_MS: u64 = 60_000;
/// Stations, and whose they are, as the tariff has them.
const METRO: [(&str, u16); 4] = [("A", 1), ("B", 1), ("C", 2), ("D", 2)];
const TRAM: [(&str, u16); 2] = [("X", 2), ("Y", 2)];
/// Gates of a metro station in each direction.
const SIDE_BY_SIDE: usize = 2;
const BUSES: usize = 3;
/// The first of the trams' gates, and of the buses'.
const FIRST_TRAM: usize = METRO.len() * SIDE_BY_SIDE * 2;
const FIRST_BUS: usize = FIRST_TRAM + TRAM.len() * 2;
/// Who is on the deny list.
pub const DENIED: u32 = 1;

/// One card at one gate.
#[derive(Debug, Clone, Copy)]
pub struct Presented {
    /// When.
    pub at: UnixMs,
    /// Which of [`gates`].
    pub gate: usize,
    /// What came of it.
    pub what: What,
}

/// What a gate made of a card.
#[derive(Debug, Clone, Copy)]
pub enum What {
    /// It opened; then its sensors told this. After nobody had passed, the rider waved again, which is the same tap.
    Opened(&'static [Outcome]),
    /// It read the card and refused it.
    Refused(Reason),
    /// It could not read the card.
    Unread(Reason),
}

impl What {
    /// How often the card was read.
    pub const fn readings(self) -> usize {
        match self {
            Self::Opened([Outcome::NotPassed, _, ..]) => 2,
            Self::Opened(_) | Self::Refused(_) => 1,
            Self::Unread(_) => 0,
        }
    }
}

/// The gates, in the order of their numbers from 1.
pub fn gates() -> Vec<NewGate> {
    let both = [Direction::Entry, Direction::Exit];
    let metro = METRO.into_iter().flat_map(|station| [station; SIDE_BY_SIDE]);
    let rails = metro.chain(TRAM).flat_map(|station| both.map(|direction| (station, direction)));
    let buses = [(("BUS", 1), Direction::Single); BUSES];
    let numbered = (1..).zip(rails.chain(buses));
    let gate = |(gate_id, ((station, operator), direction)): (u32, ((&str, u16), Direction))| NewGate {
        gate_id,
        station: station.into(),
        direction,
        operator,
        network: *b"WAVE",
    };
    numbered.map(gate).collect()
}

/// From when on a gate is off line until the days are closed: what it records then comes late. About a tenth of all
/// taps does.
pub const fn off_line_from(gate: usize) -> UnixMs {
    const EXIT_OF_A: usize = 1;
    const ENTRY_OF_C: usize = 10;
    const EXIT_OF_Y: usize = FIRST_TRAM + 3;
    const BUS: usize = FIRST_BUS + 1;
    let hours = match gate {
        EXIT_OF_A => 0,
        BUS => 9,
        ENTRY_OF_C => 24 + 8,
        EXIT_OF_Y => 24,
        _ => DAYS * 24,
    };
    UnixMs(START.0 + hours * HOUR_MS)
}

/// True where a rider's account has too little.
pub const fn is_poor(rider: u32) -> bool {
    rider % 16 == 3
}

/// A rider.
pub fn rider(number: u32) -> Rider {
    let category = match number % 16 {
        5 | 13 => "student",
        9 => "staff",
        _ => "adult",
    };
    let filling = Fen(if is_poor(number) { 900 } else { 50_000 });
    Rider { account: format!("E{number:08}"), category, filling }
}

/// The civil date on which a day of riding begins, and that its gates tell cards.
pub fn date(at: UnixMs) -> Date {
    let day = (at.0 - START.0) / DAY_MS;
    Date { year: 2026, month: 11, day: 23 + day as u8 }
}

/// What a rider does in all the days, in the order of time.
pub fn days(seed: u64, rider: u32) -> Vec<Presented> {
    let mut riding = Riding {
        random: ChaCha12Rng::seed_from_u64(seed << 32 | u64::from(rider)),
        at: START.0,
        done: Vec::new(),
    };
    for day in 0..DAYS {
        riding.day(START.0 + day * DAY_MS, rider.is_multiple_of(4), day + 1 == DAYS);
    }
    let mut done = riding.done;
    if rider == DENIED {
        for presented in &mut done {
            presented.what = What::Refused(Reason::Denied);
        }
    }
    done
}

struct Riding {
    random: ChaCha12Rng,
    at: u64,
    done: Vec<Presented>,
}

impl Riding {
    fn day(&mut self, start: u64, often: bool, last: bool) {
        let trips = if often { self.random.random_range(4..=6) } else { self.random.random_range(0..=3) };
        self.at = self.at.max(start + HOUR_MS);
        self.wait(0..240);
        for _ in 0..trips {
            // So late no trip begins that would end on another day.
            if self.at > start + 21 * HOUR_MS {
                break;
            }
            self.trip();
            self.wait(15..150);
        }
        let night = start + 23 * HOUR_MS + 40 * MINUTE_MS;
        if !last && self.at < night && self.random.random_range(0..12) == 0 {
            self.at = night;
            let (from, to) = self.stations();
            self.enter(from);
            self.wait(25..40);
            self.leave(to);
        }
    }

    fn wait(&mut self, minutes: std::ops::Range<u64>) {
        self.at += self.random.random_range(minutes) * MINUTE_MS;
    }

    fn tap(&mut self, gate: usize, what: What) {
        self.at += self.random.random_range(1_000..2_000);
        self.done.push(Presented { at: UnixMs(self.at), gate, what });
    }

    /// What most sensors tell.
    fn opened(&mut self) -> What {
        What::Opened(match self.random.random_range(0..20) {
            0..10 => &[],
            10 => &[Outcome::Unknown],
            _ => &[Outcome::Passed],
        })
    }

    /// Two different stations of the metro.
    fn stations(&mut self) -> (usize, usize) {
        let from = self.random.random_range(0..METRO.len());
        (from, (from + self.random.random_range(1..METRO.len())) % METRO.len())
    }

    fn metro_gate(&mut self, station: usize) -> usize {
        (station * SIDE_BY_SIDE + self.random.random_range(0..SIDE_BY_SIDE)) * 2
    }

    fn enter(&mut self, station: usize) {
        let (gate, what) = (self.metro_gate(station), self.opened());
        self.tap(gate, what);
    }

    fn leave(&mut self, station: usize) {
        let (gate, what) = (self.metro_gate(station) + 1, self.opened());
        self.tap(gate, what);
    }

    fn bus(&mut self) {
        let (gate, what) = (FIRST_BUS + self.random.random_range(0..BUSES), self.opened());
        self.tap(gate, what);
    }

    fn trip(&mut self) {
        let (from, to) = self.stations();
        match self.random.random_range(0..100) {
            0..45 => {
                self.enter(from);
                self.wait(5..60);
                self.leave(to);
            }
            45..55 => {
                self.bus();
                self.wait(5..30);
                self.enter(from);
                self.wait(5..40);
                self.leave(to);
            }
            55..62 => {
                self.bus();
                self.wait(10..50);
                self.bus();
            }
            62..70 => {
                let what = self.opened();
                self.tap(FIRST_TRAM, what);
                self.wait(5..40);
                self.tap(FIRST_TRAM + 3, what);
            }
            70..76 => self.enter(from),
            76..81 => self.leave(to),
            81..84 => {
                let gate = self.metro_gate(from);
                self.tap(gate, What::Opened(&[Outcome::NotPassed]));
            }
            84..88 => {
                let gate = self.metro_gate(from);
                self.tap(gate, What::Opened(&[Outcome::NotPassed, Outcome::Passed]));
                self.wait(5..60);
                self.leave(to);
            }
            88..91 => {
                let gate = self.metro_gate(from);
                self.tap(gate, What::Opened(&[Outcome::Passed]));
                self.wait(1..3);
                self.tap(gate, What::Refused(Reason::Passback));
                self.wait(5..60);
                self.leave(to);
            }
            // The gate beside knows nothing of the first: the tariff's time makes it one tap.
            91..94 => {
                let gate = from * SIDE_BY_SIDE * 2;
                self.tap(gate, What::Opened(&[]));
                self.at += 8_000;
                self.tap(gate + 2, What::Opened(&[Outcome::Passed]));
                self.wait(5..60);
                self.leave(to);
            }
            94..97 => {
                let gate = self.metro_gate(from);
                self.tap(gate, What::Unread(Reason::CardRemoved));
                self.tap(gate, What::Refused(Reason::TooSlow));
            }
            _ => {
                self.enter(from);
                self.wait(3..60);
                self.leave(from);
            }
        }
    }
}
