//! One command and its answer: send, acknowledgement, answer, and what goes wrong on the way.

use super::{Outgoing, Pn532, SETTLE_MS, Stage, Timer, write_command};
use crate::command::Command;
use crate::error::{LineFault, Pn532Error};
use crate::frame::{ACK, Direction, Event, FrameError, MAX_DATA, NACK, encode};
use crate::response::answer_code;
use crate::transport::{Expect, Transport};
use embassy_futures::select::{Either, select};

/// How long sending may take: the longest frame needs 24 ms at 115,200 baud.
const SEND_MS: u64 = 500;
/// Silence inside a frame that ends it. Bytes of one frame follow each other; a busy host may pause.
const INSIDE_MS: u64 = 60;
/// Silence after a broken frame before it is asked for again.
const BROKEN_MS: u64 = 20;
/// Sound frames of no use during one command: late acknowledgements and repetitions are a few, more are a line that
/// babbles. Broken ones are not counted, since the inside of one may look like many; the deadline ends them.
const MAX_STRAYS: u8 = 32;

/// FNV-1a, 64 bits: tells two answers apart where nobody forges one.
fn mark(data: &[u8]) -> u64 {
    data.iter()
        .fold(0xCBF2_9CE4_8422_2325, |mark, &byte| (mark ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

impl<T: Transport, C: Timer> Pn532<T, C> {
    /// Begins to send bytes that get no answer.
    pub(super) fn begin_bytes(&mut self, what: Outgoing) -> Result<(), Pn532Error> {
        self.stage = self.sending(what);
        Ok(())
    }

    /// Begins a command. `by`: when its answer must be there. What `may_repeat` is sent again where it got lost.
    pub(super) fn begin_command(
        &mut self,
        command: &Command<'_>,
        by: u64,
        may_repeat: bool,
    ) -> Result<(), Pn532Error> {
        let mut data = [0; MAX_DATA];
        let len = write_command(command, &mut data)?;
        let data = data.get(..len).unwrap_or_default();
        self.frame_len =
            encode(Direction::ToChip, data, &mut self.frame).map_err(|_| Pn532Error::TooManyParts)?;
        self.command = command.code();
        self.may_repeat = may_repeat;
        self.repeats = 0;
        self.nacks = 0;
        self.strays = 0;
        self.answer_by = by;
        self.broken = None;
        // What was received before a command was sent answers another.
        self.received_at = self.received_len;
        self.decoder.abandon();
        self.stage = self.sending(Outgoing::Command);
        Ok(())
    }

    fn sending(&self, what: Outgoing) -> Stage {
        Stage::Sending { what, sent: 0, until: self.timer.now_ms().saturating_add(SEND_MS) }
    }

    /// Drives what was begun to its end; then the answer is in the decoder. May be dropped and called again.
    pub(super) async fn talk(&mut self) -> Result<(), Pn532Error> {
        loop {
            match self.stage {
                Stage::Idle => return Ok(()),
                Stage::Sending { what, sent, until } => self.send_some(what, sent, until).await?,
                Stage::Silence { until } => {
                    if self.event(Expect::Answer, until).await?.is_none() && self.timer.now_ms() >= until {
                        self.received_at = self.received_len;
                        self.decoder.abandon();
                        self.stage = Stage::Idle;
                    }
                }
                Stage::Acknowledgement { until } => self.await_acknowledgement(until).await?,
                Stage::Answer { until } => self.await_answer(until).await?,
            }
        }
    }

    async fn await_acknowledgement(&mut self, until: u64) -> Result<(), Pn532Error> {
        let expect = if self.was_ack_broken { Expect::Answer } else { Expect::Ack };
        match self.event(expect, until).await? {
            Some(Event::Ack) => {
                self.is_doubtful = false;
                self.stage = self.answering();
            }
            Some(Event::Frame(Direction::FromChip)) if self.is_answer() && !self.is_doubtful => {
                self.accept()?;
            }
            // It may have been the acknowledgement; what comes next may be the answer.
            Some(Event::Broken(_)) => self.was_ack_broken = true,
            Some(_) => self.stray()?,
            None => self.send_again(Pn532Error::NotAcknowledged { command: self.command })?,
        }
        Ok(())
    }

    async fn send_some(&mut self, what: Outgoing, sent: usize, until: u64) -> Result<(), Pn532Error> {
        let bytes = match what {
            Outgoing::Abort => &ACK,
            Outgoing::WakeUp => T::WAKE_UP,
            Outgoing::Nack => &NACK,
            Outgoing::Command => self.frame.get(..self.frame_len).unwrap_or_default(),
        };
        let rest = bytes.get(sent..).unwrap_or_default();
        let mut sent = sent;
        if !rest.is_empty() {
            match select(self.transport.send(rest), self.timer.wait_until(until)).await {
                Either::First(count) => sent += count.map_err(Pn532Error::Line)?,
                Either::Second(()) => return Err(Pn532Error::Line(LineFault::Stuck)),
            }
        }
        if sent < bytes.len() {
            self.stage = Stage::Sending { what, sent, until };
            return Ok(());
        }
        let now = self.timer.now_ms();
        self.was_ack_broken = false;
        self.stage = match what {
            Outgoing::Abort | Outgoing::WakeUp => Stage::Silence { until: now.saturating_add(SETTLE_MS) },
            Outgoing::Nack => self.answering(),
            Outgoing::Command if self.may_repeat => {
                Stage::Acknowledgement { until: now.saturating_add(self.settings.ack_ms.into()) }
            }
            // It is not sent again, so there is nothing else to do before the answer is due.
            Outgoing::Command => Stage::Acknowledgement { until: self.answer_by },
        };
        Ok(())
    }

    fn answering(&self) -> Stage {
        Stage::Answer { until: self.answer_by }
    }

    fn is_answer(&self) -> bool {
        self.decoder.data().first() == Some(&answer_code(self.command))
    }

    /// Takes what is in the decoder as the answer.
    fn accept(&mut self) -> Result<(), Pn532Error> {
        let mark = mark(self.decoder.data());
        let was_asked_again = self.nacks > 0 && !self.may_repeat;
        if was_asked_again && self.last_answer == Some(mark) {
            // What was broken may have been noise while the card still worked. The manual does not say what a chip
            // repeats then; if it is its last answer, that is what this is.
            return Err(Pn532Error::Repeated { command: self.command });
        }
        self.last_answer = Some(mark);
        self.stage = Stage::Idle;
        Ok(())
    }

    async fn await_answer(&mut self, until: u64) -> Result<(), Pn532Error> {
        let again_at = self.broken.map(|(_, at)| at);
        let wait = again_at.map_or(until, |at| at.min(until));
        match self.event(Expect::Answer, wait).await? {
            Some(Event::Frame(Direction::FromChip)) if self.is_answer() => self.accept()?,
            Some(Event::SyntaxError) => return Err(Pn532Error::Syntax { command: self.command }),
            Some(Event::Broken(error)) => {
                self.broken = Some((error, self.timer.now_ms().saturating_add(BROKEN_MS)));
            }
            Some(_) => self.stray()?,
            None => match self.broken.take() {
                Some((error, _)) if self.timer.now_ms() < until => {
                    if self.nacks >= self.settings.repeats {
                        return Err(Pn532Error::Broken { command: self.command, error });
                    }
                    self.nacks += 1;
                    // If the answer was only late, it comes now, and once more.
                    self.is_doubtful = true;
                    self.stage = self.sending(Outgoing::Nack);
                }
                Some((error, _)) => self.send_again(Pn532Error::Broken { command: self.command, error })?,
                None => self.send_again(Pn532Error::NoAnswer { command: self.command })?,
            },
        }
        Ok(())
    }

    fn stray(&mut self) -> Result<(), Pn532Error> {
        self.strays += 1;
        if self.strays > MAX_STRAYS {
            return Err(Pn532Error::Strays { command: self.command });
        }
        Ok(())
    }

    /// Sends a command again, if it may be and has not been too often; else `error`.
    fn send_again(&mut self, error: Pn532Error) -> Result<(), Pn532Error> {
        if !self.may_repeat || self.repeats >= self.settings.repeats {
            return Err(error);
        }
        self.repeats += 1;
        self.broken = None;
        self.answer_by = self.timer.now_ms().saturating_add(self.settings.answer_ms.into());
        self.stage = self.sending(Outgoing::Command);
        Ok(())
    }

    /// The next thing that the decoder finds; `None` at `until`.
    async fn event(&mut self, expect: Expect, until: u64) -> Result<Option<Event>, Pn532Error> {
        loop {
            while let Some(&byte) =
                self.received.get(..self.received_len).and_then(|all| all.get(self.received_at))
            {
                self.received_at += 1;
                if let Some(event) = self.decoder.push(byte) {
                    return Ok(Some(event));
                }
            }
            // A line that always has something to say must not hide that time is up.
            if self.timer.now_ms() >= until {
                return Ok(None);
            }
            let torn_at = self.last_byte_ms.saturating_add(INSIDE_MS);
            let wait = if self.decoder.is_inside() { torn_at.min(until) } else { until };
            match select(self.transport.receive(expect, &mut self.received), self.timer.wait_until(wait))
                .await
            {
                Either::First(count) => {
                    self.received_len = count.map_err(Pn532Error::Line)?.min(self.received.len());
                    self.received_at = 0;
                    self.last_byte_ms = self.timer.now_ms();
                }
                Either::Second(()) if self.decoder.is_inside() && self.timer.now_ms() >= torn_at => {
                    self.decoder.abandon();
                    return Ok(Some(Event::Broken(FrameError::Truncated)));
                }
                Either::Second(()) => return Ok(None),
            }
        }
    }
}
