//! The end of a run: out of service, and where that may help, another start after a pause.

use crate::crash::{self, Cut};
use core::fmt::Write;
use embassy_time::Duration;
use heapless::String;
use wavepass_terminal::{Panel, Stop, out_of_service};

/// Seconds before the gate starts again. Each further time it is twice as long, up to ten minutes: every start wears the
/// flash.
const PAUSE_S: u64 = 10;
const DOUBLINGS: u32 = 6;

/// Shows that the gate is out of service and obeys the emergency input, for ever or until it starts again; the host is
/// told the reason by the first run that works. `feed` feeds the watchdog.
pub async fn stop(why: Stop, panel: &mut impl Panel, feed: impl FnMut()) -> ! {
    defmt::error!("out of service: {=str}", why.word());
    let pause = Duration::from_secs(PAUSE_S << crash::stops().min(DOUBLINGS));
    out_of_service(panel, why.may_pass().then_some(pause), feed).await;
    let mut reason = Cut(String::new());
    // A reason that is cut is one all the same.
    let _ = write!(reason, "stopped: {}", why.word());
    crash::reset_stopped(&reason.0)
}
