//! Runs a suite's cases: makes each phone, brings it to the kernel under test, and compares.

use crate::files::at;
use crate::keys::AuthorityKey;
use crate::report::{Outcome, Report, Row};
use crate::suite::{Case, Suite, Terminal as Knows, WayName};
use crate::tap::{RigKernel, Tap, decision_word, tap};
use crate::terminal::Terminal;
use crate::verdict::method_word;
use crate::way::InProcess;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wavepass_hce::authorities::{Authorities, AuthorityError, PublicKey};
use wavepass_hce::faults::AnyFault;
use wavepass_hce::phone::{ApplicationFile, Phone, PhoneFile};
use wavepass_hce::profile::{Order, Profile};
use wavepass_hce::state::Counters;
use wavepass_kernel::{Passback, TapInput};
use wavepass_protocol::lists::{RelayLimits, Revocation};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::Expiry;

/// What a kernel said to a phone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// `open`, or the reason why not.
    pub word: String,
    /// How the card was proven genuine, where the kernel tells.
    pub method: Option<String>,
}

/// A kernel under test, with its way to a phone.
pub trait Bench {
    /// Which way.
    fn way(&self) -> WayName;
    /// Presents the phone. An error means that the case could not be tried.
    fn present(&mut self, case: &Case, file: &PhoneFile) -> Result<Said, String>;
}

/// What a terminal that times cards allows: far more than a virtual reader takes, far less than a relay adds.
const TIMED: RelayLimits = RelayLimits { overhead_us: 5_000, grace_us: 20_000, cap_us: 10_000 };

/// Makes the phones of a suite, each time the same.
pub struct Maker {
    authorities: Authorities,
    today: Date,
}

impl Maker {
    /// A maker whose phones are of this day.
    pub const fn new(authorities: Authorities, today: Date) -> Self {
        Self { authorities, today }
    }

    /// The phone of a case. Delays that its profile models are left out: a case says itself what is slow.
    pub fn phone(&self, case: &Case, number: u64) -> Result<PhoneFile, String> {
        self.make(&case.profile, case.faults.clone(), number)
    }

    /// A sound phone of a profile, without modelled delays.
    pub fn sound(&self, profile: &str) -> Result<PhoneFile, String> {
        self.make(profile, Vec::new(), 0)
    }

    fn make(&self, name: &str, faults: Vec<AnyFault>, number: u64) -> Result<PhoneFile, String> {
        let profile = Profile::find(name).map_err(|e| at(name, &e))?;
        let order = Order { faults, ..Order::new(self.today) };
        let mut file = profile
            .issue(&self.authorities, &order, &mut ChaCha20Rng::seed_from_u64(number))
            .map_err(|e| at(name, &e))?;
        file.surface.answer_us = 0;
        file.surface.sign_us = 0;
        Ok(file)
    }

    /// Writes the authorities' public keys into their folder, and tells where; none where they have none.
    pub fn publish(&self) -> Result<Option<PathBuf>, AuthorityError> {
        trusted(&self.authorities)?;
        self.authorities.publish()
    }

    /// The authorities' keys, for the terminal.
    pub fn keys(&self) -> Result<Vec<AuthorityKey>, AuthorityError> {
        trusted(&self.authorities)
    }
}

/// The public keys of authorities, all of them made if need be.
pub fn trusted(authorities: &Authorities) -> Result<Vec<AuthorityKey>, AuthorityError> {
    authorities.house()?;
    authorities.rsa()?;
    authorities.sm2()?;
    known(authorities)
}

/// The public keys of those authorities that were needed so far.
pub fn known(authorities: &Authorities) -> Result<Vec<AuthorityKey>, AuthorityError> {
    let key = |key: PublicKey| AuthorityKey {
        rid: key.rid,
        index: key.index,
        suite: key.suite,
        expiry: key.expiry.to_yyyymmdd(),
        key: key.key,
        exponent: key.exponent,
    };
    Ok(authorities.public_keys()?.into_iter().map(key).collect())
}

/// Runs every case that applies to the way. `progress` is told of each before it is run.
pub fn run(
    suite: &Suite,
    maker: &Maker,
    bench: &mut dyn Bench,
    progress: &mut dyn FnMut(usize, &Case),
) -> Report {
    let way = bench.way();
    let rows = suite.cases.iter().enumerate().map(|(i, case)| {
        progress(i, case);
        let begin = Instant::now();
        let outcome = if case.applies(way) {
            match maker.phone(case, i as u64).and_then(|file| bench.present(case, &file)) {
                Err(why) => Outcome::NotTried(why),
                Ok(said) => judge(case, said),
            }
        } else {
            Outcome::Skipped(case.why.clone().unwrap_or_default())
        };
        Row {
            case: case.name.clone(),
            expected: case.expected.words(),
            outcome,
            took_us: micros(begin.elapsed()),
        }
    });
    Report { suite: suite.name.clone(), way, rows: rows.collect() }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn judge(case: &Case, said: Said) -> Outcome {
    let right = case.expected.is(&said.word)
        && (said.method.is_none() || case.method.is_none() || said.method == case.method);
    if right { Outcome::Passed(said) } else { Outcome::Failed(said) }
}

/// The rig's own kernel and what its terminal knows, for benches that run it.
pub struct Own {
    kernel: Box<RigKernel>,
    terminal: Terminal,
    now: UnixMs,
    taps: u32,
}

impl Own {
    /// A terminal that trusts these keys, at this time. The limits are the suite's: cards are timed in its cases that
    /// say so, and in no other.
    pub fn new(mut terminal: Terminal, keys: Vec<AuthorityKey>, suite: &Suite, now: UnixMs) -> Self {
        terminal.keys.extend(keys);
        terminal.config.tap_limit_us = u64::from(suite.tap_limit_ms) * 1000;
        terminal.config.relay = None;
        Self { kernel: crate::tap::kernel(), terminal, now, taps: 0 }
    }

    /// Taps the phone of a case on a way.
    pub fn tap(&mut self, case: &Case, file: &PhoneFile, way: &mut dyn crate::way::Way) -> Said {
        let terminal = knowing(&self.terminal, case.terminal, file);
        let tapped = self.tap_with(&terminal, way);
        let method = tapped.verdict.method.filter(|_| tapped.verdict.passed());
        Said {
            word: decision_word(tapped.decision).to_owned(),
            method: method.map(|method| method_word(method).to_owned()),
        }
    }

    /// Taps whatever is on the way.
    pub fn tap_plain(&mut self, way: &mut dyn crate::way::Way) -> Tap {
        let terminal = self.terminal.clone();
        self.tap_with(&terminal, way)
    }

    fn tap_with(&mut self, terminal: &Terminal, way: &mut dyn crate::way::Way) -> Tap {
        self.taps = self.taps.wrapping_add(0x9E37_79B9);
        let input = TapInput {
            now: self.now,
            utc_offset_min: terminal.utc_offset_min,
            unpredictable: self.taps.to_be_bytes(),
            start_us: 0,
            relay_entropy: [1u32, 2].map(|n| (!self.taps).wrapping_add(n).to_be_bytes()),
        };
        // Another terminal may know other keys than the one that saw this issuer last.
        self.kernel.forget_issuers();
        tap(&mut self.kernel, terminal, input, way, &mut |_| {})
    }
}

/// The terminal with what a case says that it knows.
fn knowing(terminal: &Terminal, knows: Knows, file: &PhoneFile) -> Terminal {
    let mut terminal = terminal.clone();
    let cards = || file.applications.iter().map(ApplicationFile::card);
    match knows {
        Knows::Plain => {}
        Knows::Denied => terminal.denied.extend(cards().map(|card| (card.token, Some(card.expiry.expiry())))),
        Knows::DeniedBefore => terminal.denied.extend(cards().map(|card| {
            let Expiry { year, month } = card.expiry.expiry();
            (card.token, Some(Expiry { year: year.saturating_sub(1), month }))
        })),
        Knows::Revoked => {
            let every = |key: &AuthorityKey| {
                let (rid, index) = (key.rid, key.index);
                // The test authorities' issuers have small serial numbers.
                (0..=u8::MAX).map(move |n| Revocation { rid, index, serial: [0, 0, n] })
            };
            terminal.revoked.extend(terminal.keys.iter().flat_map(every).collect::<Vec<_>>());
        }
        Knows::NoKeys => terminal.keys.clear(),
        Knows::OldKeys => {
            for key in &mut terminal.keys {
                key.expiry = [0x20, 0x00, 0x01, 0x01];
            }
        }
        Knows::OtherNetwork => terminal.config.network = *b"ELSE",
        Knows::AcceptsNothing => terminal.config.applications.truncate(1),
        Knows::OnlyFormat05 => {
            for application in &mut terminal.config.applications {
                application.formats.retain(|format| *format == 0x05);
            }
        }
        Knows::Passback => terminal.passback = Passback::Refuse,
        Knows::SameTap => terminal.passback = Passback::SameTap,
        Knows::OldList => terminal.list_stale = true,
        Knows::Timed => terminal.config.relay = Some(TIMED),
    }
    if knows == Knows::AcceptsNothing
        && let Some(application) = terminal.config.applications.first_mut()
    {
        // One that no card has: a terminal that accepts nothing at all does not even ask.
        application.aid =
            wavepass_protocol::select::Aid::new(&[0xF0, 0xFF, 0xFF, 0xFF, 0xFF]).unwrap_or(application.aid);
        application.partial = false;
    }
    terminal
}

/// The kernel and the phone in this process.
pub struct Process(pub Own);

impl Bench for Process {
    fn way(&self) -> WayName {
        WayName::Process
    }

    fn present(&mut self, case: &Case, file: &PhoneFile) -> Result<Said, String> {
        let mut phone = Phone::new(file, Counters::memory(), [7; 32]).map_err(|e| e.to_string())?;
        Ok(self.0.tap(case, file, &mut InProcess::new(&mut phone)))
    }
}
