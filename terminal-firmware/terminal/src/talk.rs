//! The link to the host, kept up: hello, frames in and out, the time, and a new beginning when it breaks.
//!
//! The line is only bytes: it does not tell when the other end went away. So a link that has something
//! unacknowledged and hears nothing begins again, and so does one that hears nothing at all for long.

use crate::clock::Clock;
use crate::drbg::Drbg;
use crate::hardware::Line;
use embassy_time::{Duration, Instant};
use embedded_storage_async::nor_flash::NorFlash;
use wavepass_gate::{Gate, GateError, Health, Link, LinkState, Room, Trouble};
use wavepass_protocol::link::MAX_FRAME;

/// A host answers a hello, and acknowledges what it was sent, well within this.
const ANSWER: Duration = Duration::from_secs(10);
/// The host tells the time every minute; three of them missed, and the line is taken for broken.
const SILENCE: Duration = Duration::from_secs(200);
/// Between two attempts: a host that does not know the gate is not asked without a pause.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the host is told how the gate is.
const REPORT: Duration = Duration::from_secs(600);
/// How soon again where something has changed.
const CHANGED: Duration = Duration::from_secs(10);
/// So much more stack than was told is a change.
const STACK_STEP: u32 = 256;

/// What the host was told of the gate's health, and when.
struct Told {
    at: Instant,
    stack_used: u32,
    reader_recoveries: u32,
    uncounted_refusals: u32,
    trouble: Option<Trouble>,
}

impl Told {
    fn new(health: &Health, at: Instant) -> Self {
        let &Health { stack_used, reader_recoveries, uncounted_refusals, trouble, .. } = health;
        Self { at, stack_used, reader_recoveries, uncounted_refusals, trouble }
    }

    /// Whether it is time to tell again. `news`: something happened that no number shows.
    fn is_old(&self, health: &Health, news: bool, now: Instant) -> bool {
        let changed = news
            || health.trouble != self.trouble
            || health.reader_recoveries != self.reader_recoveries
            || health.uncounted_refusals != self.uncounted_refusals
            || health.stack_used >= self.stack_used.saturating_add(STACK_STEP);
        now >= self.at + if changed { CHANGED } else { REPORT }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstTap {
    Awaited,
    News,
    Told,
}

pub(crate) struct Talk {
    link: Option<Link>,
    begun: Instant,
    heard: Instant,
    told: Option<Told>,
    /// The first tap since start: none yet, one that the host is to hear of, or told.
    first_tap: FirstTap,
    /// Since when something has been waiting to be acknowledged, and up to which number was acknowledged then.
    waiting: Option<(Instant, u32)>,
    /// No attempt before this.
    not_before: Instant,
}

impl Talk {
    pub(crate) fn new() -> Self {
        let now = Instant::MIN;
        Self {
            link: None,
            begun: now,
            heard: now,
            told: None,
            first_tap: FirstTap::Awaited,
            waiting: None,
            not_before: now,
        }
    }

    /// A card was presented. What the first one since start took of the stack is told soon.
    pub(crate) fn tapped(&mut self) {
        if self.first_tap == FirstTap::Awaited {
            self.first_tap = FirstTap::News;
        }
    }

    /// Bytes came from the host.
    pub(crate) async fn received<F: NorFlash, M: Room>(
        &mut self,
        gate: &mut Gate<F, M>,
        clock: &mut Clock,
        bytes: &[u8],
    ) -> Result<(), GateError<F::Error>> {
        let Some(link) = self.link.as_mut() else { return Ok(()) };
        let now = Instant::now();
        let taken = gate.link_receive(link, bytes).await?;
        if let Some(time) = link.take_host_time() {
            log!(debug, "the host's time: {=u64} ms", time.0);
            clock.set(time, now);
        }
        if link.state() == LinkState::Open {
            self.heard = now;
        }
        if let Err(_why) = taken {
            log!(warn, "link: {=str}", _why.word());
            self.end(now);
        } else if link.state() == LinkState::Unknown {
            log!(warn, "the host does not serve this gate");
            self.end(now);
        }
        Ok(())
    }

    fn end(&mut self, now: Instant) {
        self.link = None;
        self.told = None;
        self.not_before = now + PAUSE;
    }

    /// Sends what there is to send and fits; begins a link where there is none.
    pub(crate) async fn speak<F: NorFlash, M: Room>(
        &mut self,
        gate: &mut Gate<F, M>,
        line: &mut impl Line,
        drbg: &mut Drbg,
        health: &Health,
    ) -> Result<(), GateError<F::Error>> {
        let now = Instant::now();
        self.give_up_on_silence(gate, now);
        let mut frame = [0; MAX_FRAME];
        if self.link.is_none() {
            if now < self.not_before || line.room() < MAX_FRAME {
                return Ok(());
            }
            // A hello always fits its frame; if it did not, the gate would work on without a host.
            if let Ok((link, hello)) = gate.link_begin(drbg.bytes(), &mut frame) {
                // A delimiter before it ends whatever half frame the host may have of an earlier link.
                line.queue(&[0]);
                line.queue(hello);
                self.link = Some(link);
                (self.begun, self.heard) = (now, now);
            }
            return Ok(());
        }
        let Some(link) = self.link.as_mut() else { return Ok(()) };
        let news = self.first_tap == FirstTap::News;
        if link.state() == LinkState::Open && self.told.as_ref().is_none_or(|t| t.is_old(health, news, now)) {
            link.report(health.clone());
            self.told = Some(Told::new(health, now));
            if news {
                self.first_tap = FirstTap::Told;
            }
        }
        while line.room() >= MAX_FRAME {
            match gate.link_next(link, &mut frame).await? {
                Some(frame) => line.queue(frame),
                None => break,
            }
        }
        Ok(())
    }

    fn give_up_on_silence<F: NorFlash, M: Room>(&mut self, gate: &Gate<F, M>, now: Instant) {
        let Some(link) = &self.link else { return };
        let acknowledged = gate.acknowledged();
        self.waiting = match self.waiting {
            _ if acknowledged.saturating_add(1) >= gate.next_sequence() => None,
            Some((since, upto)) if upto == acknowledged => Some((since, upto)),
            _ => Some((now, acknowledged)),
        };
        let last = self.heard.max(self.begun);
        let limit = match self.waiting {
            _ if link.state() != LinkState::Open => last + ANSWER,
            // The host may have had nothing to say for long before there was something to acknowledge.
            Some((since, _)) => last.max(since) + ANSWER,
            None => last + SILENCE,
        };
        if now > limit {
            log!(warn, "nothing heard from the host");
            self.end(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_told_again_soon_where_it_changed_and_else_every_ten_minutes() {
        let at = Instant::from_secs;
        let before = Health { stack_used: 1_000, ..Health::default() };
        let told = Told::new(&before, at(0));
        let when = |health: &Health, news| (0..=600).find(|&s| told.is_old(health, news, at(s)));
        assert_eq!(when(&before, false), Some(600));
        assert_eq!(when(&before, true), Some(10));
        assert_eq!(when(&Health { stack_used: 1_255, ..before.clone() }, false), Some(600));
        assert_eq!(when(&Health { stack_used: 1_256, ..before.clone() }, false), Some(10));
        assert_eq!(when(&Health { reader_recoveries: 1, ..before.clone() }, false), Some(10));
        let trouble = Some(Trouble::JournalLost);
        assert_eq!(when(&Health { trouble, ..before.clone() }, false), Some(10));
        assert_eq!(when(&Health { uncounted_refusals: 1, ..before.clone() }, false), Some(10));
    }
}
