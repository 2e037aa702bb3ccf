//! The link to the host, kept up: hello, frames in and out, the time, and a new beginning when it breaks.
//!
//! The line is only bytes: it does not tell when the other end went away. So a link that has something
//! unacknowledged and hears nothing begins again, and so does one that hears nothing at all for long.

use crate::clock::Clock;
use crate::drbg::Drbg;
use crate::hardware::Line;
use embassy_time::{Duration, Instant};
use embedded_storage_async::nor_flash::NorFlash;
use wavepass_gate::{Gate, GateError, Health, Link, LinkState, Room};
use wavepass_protocol::link::MAX_FRAME;

/// A host answers a hello, and acknowledges what it was sent, well within this.
const ANSWER: Duration = Duration::from_secs(10);
/// The host tells the time every minute; three of them missed, and the line is taken for broken.
const SILENCE: Duration = Duration::from_secs(200);
/// Between two attempts: a host that does not know the gate is not asked without a pause.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the host is told how the gate is.
const REPORT: Duration = Duration::from_secs(600);

pub(crate) struct Talk {
    link: Option<Link>,
    begun: Instant,
    heard: Instant,
    reported: Option<Instant>,
    /// Since when something has been waiting to be acknowledged, and up to which number was acknowledged then.
    waiting: Option<(Instant, u32)>,
    /// No attempt before this.
    not_before: Instant,
}

impl Talk {
    pub(crate) fn new() -> Self {
        let now = Instant::MIN;
        Self { link: None, begun: now, heard: now, reported: None, waiting: None, not_before: now }
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
        self.reported = None;
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
        if link.state() == LinkState::Open && self.reported.is_none_or(|at| now >= at + REPORT) {
            link.report(health.clone());
            self.reported = Some(now);
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
