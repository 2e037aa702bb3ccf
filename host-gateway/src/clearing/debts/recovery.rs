//! Recovery by schedule: when the bank is asked again for a debt without anybody's doing.

use crate::store::Store;
use crate::store::db::query;
use serde::Deserialize;
use wavepass_fares::{DayClock, ServiceDay};

use super::super::ClearingError;
use super::{Declined, debt_day, declined};
use crate::bank::AttemptId;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Debts of a day that are asked for in one round; the next round goes on. A round must not keep others waiting.
const MOST: usize = 20_000;

/// `[recovery]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recovery {
    /// How often a charge is asked for after the deduction itself; 0: never. Tries by hand count.
    pub tries: u32,
    /// No try is made later than so many days after the service day's end.
    pub within_days: u32,
    /// How long a try waits after the bank declined the last one, hours.
    pub every_h: u32,
    /// How long a try waits after it where the rider taps again at a gate, minutes; 0: no try because of that.
    pub retap_min: u32,
}

impl Default for Recovery {
    fn default() -> Self {
        Self { tries: 4, within_days: 14, every_h: 24, retap_min: 30 }
    }
}

impl Recovery {
    /// Whether the next try for a declined charge is due: after so many `attempts`, the last of which was declined at
    /// `asked_ms` (unknown: at the day's end). Times are milliseconds since 1970-01-01 UTC.
    pub fn is_due(&self, attempts: u32, asked_ms: Option<i64>, day_end_ms: i64, now_ms: i64) -> bool {
        let from_ms = asked_ms.unwrap_or(day_end_ms) + i64::from(self.every_h) * HOUR_MS;
        self.has_tries(attempts, day_end_ms, now_ms) && now_ms >= from_ms
    }

    /// The same for a try that a rider's tap at a gate asks for; an unknown time of the last decline is long ago.
    pub(in crate::clearing) fn is_due_by_tap(
        &self,
        attempts: u32,
        asked_ms: Option<i64>,
        day_end_ms: i64,
        now_ms: i64,
    ) -> bool {
        self.has_tries(attempts, day_end_ms, now_ms) && self.may_tap_again(asked_ms, now_ms)
    }

    /// Whether a tap at a gate is a reason to ask the bank again, which declined last at `asked_ms`.
    pub(in crate::clearing) fn may_tap_again(&self, asked_ms: Option<i64>, now_ms: i64) -> bool {
        let waits_ms = i64::from(self.retap_min) * MINUTE_MS;
        waits_ms > 0 && asked_ms.is_none_or(|asked_ms| now_ms >= asked_ms + waits_ms)
    }

    fn has_tries(&self, attempts: u32, day_end_ms: i64, now_ms: i64) -> bool {
        // The first attempt is the deduction itself.
        let tries = attempts.saturating_sub(1);
        tries < self.tries && now_ms < day_end_ms + i64::from(self.within_days) * DAY_MS
    }

    /// The declined charges whose next try is due, by day, the oldest first; each is named by its last attempt. While a token is
    /// suspended no try is made, and none is used up.
    pub(in crate::clearing) async fn due(
        &self,
        store: &Store,
        clock: &DayClock,
        now_ms: i64,
    ) -> Result<Vec<(ServiceDay, Vec<AttemptId>)>, ClearingError> {
        let numbers: Vec<i64> =
            query("SELECT DISTINCT service_day FROM debts WHERE state = 'open' ORDER BY service_day")
                .column(store.pool())
                .await?;
        let mut due = Vec::new();
        for number in numbers {
            let day = debt_day(number)?;
            let end_ms = clock.end_ms(day);
            // Too old for any try, however often it was asked for.
            if end_ms + i64::from(self.within_days) * DAY_MS <= now_ms {
                continue;
            }
            let is_due = |charge: &Declined| {
                !charge.suspended && self.is_due(charge.last.attempt, charge.asked_ms, end_ms, now_ms)
            };
            let (mut after, up_to) = ((Vec::new(), 0), vec![0xFF; 17]);
            let mut of_day = Vec::new();
            while of_day.len() < MOST {
                let page = declined(store, day, &after, &up_to).await?;
                let Some(last) = page.last() else { break };
                after = (last.last.token_key.to_vec(), i64::from(last.last.part));
                of_day.extend(page.into_iter().filter(is_due).map(|charge| charge.last));
            }
            if !of_day.is_empty() {
                due.push((day, of_day));
            }
        }
        Ok(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: i64 = 1_000 * DAY_MS;

    fn due(attempts: u32, asked_h: Option<i64>, now_h: i64) -> bool {
        Recovery::default().is_due(attempts, asked_h.map(|h| END + h * HOUR_MS), END, END + now_h * HOUR_MS)
    }

    #[test]
    fn a_try_waits_a_day_after_the_last_decline() {
        assert!(!due(1, Some(4), 27));
        assert!(due(1, Some(4), 28));
        assert!(!due(2, Some(28), 51));
        assert!(due(2, Some(28), 52));
        // Nobody noted when it was declined.
        assert!(!due(1, None, 23));
        assert!(due(1, None, 24));
        // Days late, after the gateway stood still, it waits again after each try.
        assert!(!due(3, Some(100), 101));
    }

    #[test]
    fn there_are_four_tries_by_hand_or_by_schedule() {
        assert!(due(4, Some(76), 100));
        assert!(!due(5, Some(100), 124));
        assert!(!due(9, Some(100), 200));
        let never = Recovery { tries: 0, ..Recovery::default() };
        assert!(!never.is_due(1, Some(END), END, END + DAY_MS));
    }

    #[test]
    fn a_tap_at_a_gate_waits_half_an_hour_and_uses_up_tries() {
        let recovery = Recovery::default();
        let due =
            |attempts, minutes| recovery.is_due_by_tap(attempts, Some(END), END, END + minutes * MINUTE_MS);
        assert_eq!([due(1, 29), due(1, 30), due(4, 30), due(5, 30)], [false, true, true, false]);
        let never = Recovery { retap_min: 0, ..recovery };
        assert!(!never.is_due_by_tap(1, None, END, END + DAY_MS));
    }

    #[test]
    fn there_is_no_try_two_weeks_after_the_days_end() {
        assert!(due(1, Some(4), 14 * 24 - 1));
        assert!(!due(1, Some(4), 14 * 24));
    }
}
