//! One APDU and its answer, in as many frames as it takes.

use super::{Pn532, Stage, Step, Target, Timer};
use crate::command::{Command, MAX_EXCHANGE};
use crate::error::Pn532Error;
use crate::status::Status;
use crate::transport::Transport;

/// The most frames of one command, and of one answer: an answer of the gate's longest, 258 bytes, may come byte by
/// byte, and nothing that a gate reads is twice as long.
pub const MAX_PARTS: usize = 512;

impl<T: Transport, C: Timer> Pn532<T, C> {
    /// Sends a command to the card and gives the length of its answer. To be driven to its end; where it is dropped
    /// all the same, the next search aborts it and sets the chip up again.
    ///
    /// After an error the target is forgotten: what the card still has to say would answer another command.
    pub async fn exchange(
        &mut self,
        target: &Target,
        command: &[u8],
        answer: &mut [u8],
    ) -> Result<usize, Pn532Error> {
        if target.session != self.session || self.stage != Stage::Idle {
            return Err(Pn532Error::TargetForgotten);
        }
        let by = self.timer.now_ms().saturating_add(self.settings.exchange_ms.into());
        self.step = Step::Exchange;
        let result = self.converse(target.number, command, answer, by).await;
        self.stage = Stage::Idle;
        match result {
            Ok(_) => self.step = Step::Release,
            // The chip itself is well.
            Err(Pn532Error::Status(_)) => self.forget(Step::Release),
            Err(_) => self.forget(Step::Abort),
        }
        result
    }

    async fn converse(
        &mut self,
        target: u8,
        command: &[u8],
        answer: &mut [u8],
        by: u64,
    ) -> Result<usize, Pn532Error> {
        let mut rest = command;
        for _ in 0..MAX_PARTS {
            let (part, after) = rest.split_at(rest.len().min(MAX_EXCHANGE));
            rest = after;
            let more = !rest.is_empty();
            let status = self.part(&Command::InDataExchange { target, more, data: part }, by).await?;
            if !more {
                return self.collect(target, status, answer, by).await;
            }
        }
        Err(Pn532Error::TooManyParts)
    }

    /// Gathers the answer, whose first part is in the decoder.
    async fn collect(
        &mut self,
        target: u8,
        first: Status,
        answer: &mut [u8],
        by: u64,
    ) -> Result<usize, Pn532Error> {
        let limit = answer.len();
        let (mut len, mut status) = (0, first);
        for _ in 0..MAX_PARTS {
            let data = self.decoder.data().get(2..).unwrap_or_default();
            let place = answer.get_mut(len..len + data.len()).ok_or(Pn532Error::AnswerTooLong { limit })?;
            place.copy_from_slice(data);
            len += data.len();
            if !status.more {
                return Ok(len);
            }
            status = self.part(&Command::InDataExchange { target, more: false, data: &[] }, by).await?;
        }
        Err(Pn532Error::TooManyParts)
    }

    async fn part(&mut self, command: &Command<'_>, by: u64) -> Result<Status, Pn532Error> {
        self.begin_command(command, by, false)?;
        self.talk().await?;
        let malformed = Pn532Error::Malformed { command: self.command };
        let status = Status::from_byte(*self.decoder.data().get(1).ok_or(malformed)?);
        match status.error {
            Some(error) => Err(Pn532Error::Status(error)),
            None if status.nad => Err(Pn532Error::NodeAddress),
            None => Ok(status),
        }
    }
}
