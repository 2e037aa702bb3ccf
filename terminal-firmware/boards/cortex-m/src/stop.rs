//! The ends of runs: out of service, and where that may help, another start after a pause.

use crate::crash::{self, Cut};
use crate::starts::GOOD_S;
use core::fmt::Write;
use embassy_time::{Duration, Instant};
use heapless::String;
use wavepass_terminal::{Panel, Stop, out_of_service};

/// Begins a run: where the runs before it soon ended, it first waits out of service and obeys the emergency input, for
/// each start wears the flash. `feed` feeds the watchdog.
pub async fn begin(panel: &mut impl Panel, feed: impl FnMut()) {
    let mut starts = crash::starts();
    let pause_s = starts.begin();
    crash::keep_starts(starts);
    if pause_s > 0 {
        defmt::warn!("the run before soon ended; out of service for {=u64} s", pause_s);
        out_of_service(panel, Some(Duration::from_secs(pause_s)), feed).await;
    }
}

/// Called at each turn of a loop that has turned since then: after a minute the ends of earlier runs no longer count.
pub fn turned(since: Instant) {
    let mut starts = crash::starts();
    if since.elapsed() >= Duration::from_secs(GOOD_S) && starts.good() {
        crash::keep_starts(starts);
    }
}

/// Shows that the gate is out of service and obeys the emergency input, for ever or until it starts again; the host is
/// told the reason by the first run that works. `feed` feeds the watchdog.
pub async fn stop(why: Stop, panel: &mut impl Panel, feed: impl FnMut()) -> ! {
    defmt::error!("out of service: {=str}", why.word());
    let mut starts = crash::starts();
    let pause = Duration::from_secs(starts.stop());
    out_of_service(panel, why.may_pass().then_some(pause), feed).await;
    crash::keep_starts(starts);
    let mut reason = Cut(String::new());
    // A reason that is cut is one all the same.
    let _ = write!(reason, "stopped: {}", why.word());
    crash::reset(&reason.0)
}
