//! The first stage: opens and verifies what is next, on all cores, without touching the store.

use super::waiting::{Outlet, Queue};
use super::{Item, Job, MAX_GROUP, Parts, Reply, Source};
use crate::keys::{BankKeys, ClearingKeys, CryptogramCheck, CryptogramResult, Opened, TokenKey};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::sync::mpsc;
use wavepass_fares::DayClock;
use wavepass_protocol::seal::{Header, SealError, Sealed};
use wavepass_protocol::tap::{ClockQuality, Decision, Entry, OdaResult, Outcome, Tap};

/// Jobs that share one transaction, prepared.
pub(super) struct Group {
    pub(super) jobs: Vec<Prepared>,
}

/// One job, prepared: as many contents as items.
pub(super) struct Prepared {
    pub(super) source: Source,
    pub(super) items: Vec<Item>,
    pub(super) contents: Vec<Content>,
    pub(super) reply: Reply,
}

/// What an item turned out to be.
pub(super) enum Content {
    /// It opened.
    Open { header: Header, body: Body },
    /// It did not; the header is there where its form was right.
    Shut { header: Option<Header>, why: SealError },
    /// Not an entry.
    Notice,
}

/// An opened entry as rows have it.
pub(super) enum Body {
    Tap(Box<TapRow>),
    Passage { of: u32, outcome: Outcome },
    Emergency { time_ms: i64, clock: u8, active: bool },
}

/// A row of `taps`, without its key.
pub(super) struct TapRow {
    pub(super) token_key: Option<TokenKey>,
    pub(super) time_ms: i64,
    pub(super) clock: u8,
    pub(super) service_day: Option<i64>,
    pub(super) station: String,
    pub(super) direction: u8,
    pub(super) opened: bool,
    pub(super) reason: Option<u8>,
    pub(super) atc: Option<u16>,
    pub(super) cryptogram: u8,
    pub(super) oda: u8,
    pub(super) card_digest: Option<[u8; 8]>,
    pub(super) gate_us: u32,
}

/// Makes groups of what waits until nobody hands in any more.
pub(super) async fn stage(parts: Parts, waiting: Arc<Queue>, ready: mpsc::Sender<Group>) {
    let waiting = Outlet(waiting);
    // A group is chosen once the one before is in work: until then, whoever comes may still be in it.
    while let Ok(place) = ready.reserve().await {
        let Some(jobs) = waiting.0.next(MAX_GROUP).await else { return };
        let (clearing, bank, day_clock) =
            (parts.clearing.clone(), parts.bank.clone(), parts.day_clock.clone());
        let work = move || prepare(jobs, &*clearing, &*bank, &day_clock);
        // A panic in there drops the jobs' reply channels, which their senders see as "stopped".
        match tokio::task::spawn_blocking(work).await {
            Ok(group) => place.send(group),
            Err(_) => tracing::error!("intake: a group could not be prepared"),
        }
    }
}

fn prepare(jobs: Vec<Job>, clearing: &dyn ClearingKeys, bank: &dyn BankKeys, day_clock: &DayClock) -> Group {
    let sealed: Vec<&[u8]> = jobs
        .iter()
        .flat_map(|j| &j.items)
        .filter(|i| !matches!(i, Item::Lost { .. }))
        .map(Item::sealed)
        .collect();
    let opened = clearing.unseal(&sealed);
    let mut contents = contents(&sealed, opened, clearing, bank, day_clock).into_iter();
    let jobs = jobs.into_iter().map(|Job { source, items, reply }| {
        let contents = items
            .iter()
            .map(|item| match item {
                Item::Lost { .. } => Content::Notice,
                // As many contents were made as there are entries.
                _ => contents.next().unwrap_or(Content::Notice),
            })
            .collect();
        Prepared { source, items, contents, reply }
    });
    Group { jobs: jobs.collect() }
}

fn contents(
    sealed: &[&[u8]],
    opened: Vec<Result<Opened, SealError>>,
    clearing: &dyn ClearingKeys,
    bank: &dyn BankKeys,
    day_clock: &DayClock,
) -> Vec<Content> {
    let entries: Vec<Result<(Header, Entry<'_>), SealError>> =
        opened.iter().map(|o| o.as_ref().map(|o| (o.header, o.entry())).map_err(|e| *e)).collect();
    let taps =
        || entries.iter().filter_map(|e| if let Ok((_, Entry::Tap(tap))) = e { Some(tap) } else { None });
    let checks: Vec<CryptogramCheck<'_>> = taps().filter_map(CryptogramCheck::of).collect();
    let mut results = bank.verify_cryptograms(&checks).into_iter();
    let cards: Vec<_> = taps().filter_map(card).collect();
    let mut token_keys = clearing.token_keys(&cards).into_iter();
    let mut days = Days { day_clock, known: None };
    let rows = entries.iter().zip(sealed).map(|(entry, sealed)| match entry {
        Err(why) => Content::Shut { header: Sealed::parse(sealed).ok().map(|s| s.header), why: *why },
        Ok((header, Entry::Passage(p))) => {
            Content::Open { header: *header, body: Body::Passage { of: p.of, outcome: p.outcome } }
        }
        Ok((header, Entry::Emergency(e))) => {
            let (time_ms, clock) = (crate::store::sql::ms(e.time), clock_code(e.clock));
            Content::Open { header: *header, body: Body::Emergency { time_ms, clock, active: e.active } }
        }
        Ok((header, Entry::Tap(tap))) => {
            let cryptogram = CryptogramCheck::of(tap).and_then(|_| results.next());
            let token_key = card(tap).and_then(|_| token_keys.next());
            Content::Open {
                header: *header,
                body: Body::Tap(Box::new(row(tap, token_key, cryptogram, &mut days))),
            }
        }
    });
    rows.collect()
}

const fn clock_code(quality: ClockQuality) -> u8 {
    match quality {
        ClockQuality::Unset => 0,
        ClockQuality::Free => 1,
        ClockQuality::Synchronised => 2,
    }
}

fn card(tap: &Tap<'_>) -> Option<(wavepass_protocol::token::Token, wavepass_protocol::token::Expiry)> {
    tap.token.zip(tap.expiry)
}

fn row(
    tap: &Tap<'_>,
    token_key: Option<TokenKey>,
    cryptogram: Option<CryptogramResult>,
    days: &mut Days<'_>,
) -> TapRow {
    let time_ms = crate::store::sql::ms(tap.time);
    let (opened, reason) = match tap.decision {
        Decision::Open => (true, None),
        Decision::Refuse(reason) => (false, Some(reason as u8)),
    };
    TapRow {
        token_key,
        time_ms,
        clock: clock_code(tap.clock),
        service_day: days.of(time_ms),
        station: tap.station.into(),
        direction: tap.direction as u8,
        opened,
        reason,
        atc: tap.atc,
        cryptogram: cryptogram.map_or(0, |c| c as u8),
        oda: match tap.oda_result {
            OdaResult::NotDone => 0,
            OdaResult::Passed => 1,
            OdaResult::Failed => 2,
        },
        card_digest: tap.cryptogram.map(|cryptogram| digest(tap, &cryptogram)),
        gate_us: tap.timings.gate_us,
    }
}

/// Tells one answer of a card from another: cryptogram and all that it covers, which the gate's unpredictable
/// number makes new at each tap. It identifies nobody.
fn digest(tap: &Tap<'_>, cryptogram: &[u8; 8]) -> [u8; 8] {
    let mut hash = Sha256::new();
    for part in [&cryptogram[..], tap.iad, tap.pdol_values, tap.aip.as_ref().map_or(&[], |a| &a[..])] {
        hash.update([part.len() as u8]);
        hash.update(part);
    }
    let hash = hash.finalize();
    core::array::from_fn(|i| hash[i])
}

/// Service days, remembering the last: the taps of a batch are mostly of one day.
struct Days<'a> {
    day_clock: &'a DayClock,
    known: Option<(std::ops::Range<i64>, i64)>,
}

impl Days<'_> {
    /// The service day of an instant; `None` far outside the calendar.
    fn of(&mut self, time_ms: i64) -> Option<i64> {
        if let Some((range, day)) = &self.known
            && range.contains(&time_ms)
        {
            return Some(*day);
        }
        let day = self.day_clock.day_of(time_ms).ok()?;
        self.known = Some((self.day_clock.start_ms(day)..self.day_clock.end_ms(day), day.number()));
        Some(day.number())
    }
}
