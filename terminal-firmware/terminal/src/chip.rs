//! A PN532 as the gate's reader.

use crate::hardware::{Found, Reader};
use embassy_time::{Duration, Instant, Timer, with_timeout};
use wavepass_kernel::Lost;
use wavepass_pn532::transport::Transport;
use wavepass_pn532::{Detected, Pn532, Pn532Error, Settings, Target};

/// How long a release or a set-up may take within one turn of the loop, which the watchdog limits. Both go on with the
/// next look where they were not done.
const WITHIN: Duration = Duration::from_millis(1_500);

/// embassy's clock, as the driver waits by it.
pub struct Time;

impl wavepass_pn532::Timer for Time {
    fn now_ms(&self) -> u64 {
        Instant::now().as_millis()
    }

    async fn wait_until(&mut self, at_ms: u64) {
        Timer::at(Instant::from_millis(at_ms)).await;
    }
}

/// The reader.
pub struct Pn532Reader<T> {
    chip: Pn532<T, Time>,
    target: Option<Target>,
}

impl<T: Transport> Pn532Reader<T> {
    /// Over this way to the chip.
    pub const fn new(transport: T, settings: Settings) -> Self {
        Self { chip: Pn532::new(transport, Time, settings), target: None }
    }
}

/// What the kernel is told of a failed exchange. A fault of the reader counts as the card's: it is refused, and the
/// rider tries again.
fn lost(why: &Pn532Error) -> Lost {
    if why.is_card_gone() {
        Lost::Removed
    } else if why.is_timeout() {
        Lost::Timeout
    } else {
        Lost::Protocol
    }
}

impl<T: Transport> Reader for Pn532Reader<T> {
    async fn look(&mut self) -> Found {
        match self.chip.poll().await {
            Ok(Detected::None) => Found::Nothing,
            Ok(Detected::One(target)) if !target.card.takes_apdus() => Found::Ticket,
            Ok(Detected::One(target)) => {
                self.target = Some(target);
                Found::One
            }
            Ok(Detected::Several) => Found::Several,
            Err(_why) => {
                log!(warn, "reader: {}", _why);
                Found::Trouble
            }
        }
    }

    async fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Result<usize, Lost> {
        let Some(target) = &self.target else { return Err(Lost::Removed) };
        let done = self.chip.exchange(target, command, answer).await;
        done.map_err(|why| {
            log!(debug, "exchange: {}", why);
            lost(&why)
        })
    }

    async fn release(&mut self) {
        self.target = None;
        // A chip that does not follow is set up again by the next look.
        let _ = with_timeout(WITHIN, self.chip.release()).await;
    }

    async fn recover(&mut self) -> bool {
        self.target = None;
        matches!(with_timeout(WITHIN, self.chip.recover()).await, Ok(Ok(())))
    }
}
