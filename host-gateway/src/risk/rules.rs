//! The rules themselves: pure, over one token's taps.

use super::ways::Ways;
use crate::keys::TokenKey;
use crate::lists::deny::Cause;
use crate::store::content_id;
use std::collections::BTreeMap;
use std::sync::Arc;
use wavepass_protocol::dukpt::KeyId;

/// How many earlier taps of a token an order is checked against: more than anybody makes in the window, so that a
/// flood of taps costs no more than it must.
const LOOK_BACK: usize = 4096;

/// Bits of `taps.withheld` that the rules own.
pub(super) const SAME_ATC: u8 = 1;
pub(super) const BAD_CRYPTOGRAM: u8 = 2;
const OWN: u8 = SAME_ATC | BAD_CRYPTOGRAM;

/// By how much a gate's clock may be off, ms.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Set by the host within the day.
    pub synchronised_ms: u64,
    /// Running on its own.
    pub free_ms: u64,
}

/// What risk does.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// How far clocks are trusted.
    pub tolerance: Tolerance,
    /// A clone alert puts the token on the deny list.
    pub deny_clones: bool,
    /// So does one of a token that let two through.
    pub deny_passback: bool,
    /// And one of taps between which there was no ride.
    pub deny_travel: bool,
}

impl Policy {
    /// For which cause an alert denies its token, if it does.
    pub(super) const fn cause(&self, kind: AlertKind) -> Option<Cause> {
        match kind {
            AlertKind::Clone | AlertKind::CloneOrder if self.deny_clones => Some(Cause::Clone),
            AlertKind::Passback if self.deny_passback => Some(Cause::Passback),
            AlertKind::ImpossibleTravel if self.deny_travel => Some(Cause::Travel),
            _ => None,
        }
    }
}

/// An opened tap as the rules see it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) token: TokenKey,
    pub(super) key_id: KeyId,
    pub(super) sequence: u32,
    pub(super) time_ms: i64,
    pub(super) clock: u8,
    pub(super) service_day: Option<i32>,
    pub(super) atc: Option<u16>,
    pub(super) cryptogram: u8,
    pub(super) digest: Option<[u8; 8]>,
    pub(super) withheld: u8,
    /// Near enough in time for the order of ATCs; the others are here for having the same ATC as one that is.
    pub(super) near: bool,
    /// Of a tap whose place in time says nothing, for it is here for its ATC, there is none.
    pub(super) rest: Option<Rest>,
}

/// What clearing goes by beside.
#[derive(Debug, Clone)]
pub(super) struct Rest {
    pub(super) station: Arc<str>,
    pub(super) direction: u8,
    pub(super) passage: Option<u8>,
}

/// Why a tap does not count, newly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Withheld {
    pub(super) token: TokenKey,
    pub(super) time_ms: i64,
    pub(super) key_id: KeyId,
    pub(super) sequence: u32,
    pub(super) bits: u8,
}

impl Seen {
    /// Which of two taps came first: by event, never by arrival.
    pub(super) fn order(&self) -> (i64, KeyId, u32) {
        (self.time_ms, self.key_id, self.sequence)
    }

    /// The bank's keys say that the card it names did not make it.
    pub(super) fn is_refuted(&self) -> bool {
        self.cryptogram == 2
    }

    /// The counter that it took of its card; what is refuted is not the card's and takes none.
    pub(super) fn used(&self) -> Option<u16> {
        self.atc.filter(|_| !self.is_refuted())
    }

    /// True where another tap with its counter is why it does not count.
    pub(super) fn shares_its_atc(&self) -> bool {
        self.withheld & SAME_ATC != 0
    }

    /// By how much its time may be off; `None`: its time says nothing.
    pub(super) fn tolerance_ms(&self, tolerance: Tolerance) -> Option<i64> {
        let ms = match self.clock {
            2 => tolerance.synchronised_ms,
            1 => tolerance.free_ms,
            _ => return None,
        };
        Some(i64::try_from(ms).unwrap_or(i64::MAX / 4))
    }
}

/// The taps of each token, of taps in the order of tokens.
pub(super) fn by_token(taps: &[Seen]) -> impl Iterator<Item = (TokenKey, &[Seen])> + Clone {
    taps.chunk_by(|a, b| a.token == b.token).map(|run| (run[0].token, run))
}

/// What kind of alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AlertKind {
    Clone,
    Resealed,
    CloneOrder,
    InvalidCryptogram,
    UnknownToken,
    Passback,
    ImpossibleTravel,
}

impl AlertKind {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Resealed => "resealed",
            Self::CloneOrder => "clone_order",
            Self::InvalidCryptogram => "invalid_cryptogram",
            Self::UnknownToken => "unknown_token",
            Self::Passback => "passback",
            Self::ImpossibleTravel => "impossible_travel",
        }
    }
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    pub(super) kind: AlertKind,
    pub(super) detail: String,
    pub(super) event_ms: i64,
    pub(super) key_id: KeyId,
    pub(super) sequence: u32,
    pub(super) service_day: Option<i64>,
}

impl Finding {
    pub(super) fn of(kind: AlertKind, tap: &Seen, detail: String) -> Self {
        Self {
            kind,
            detail,
            event_ms: tap.time_ms,
            key_id: tap.key_id,
            sequence: tap.sequence,
            service_day: tap.service_day.map(i64::from),
        }
    }

    pub(super) fn unknown_token(tap: &Seen) -> Self {
        Self::of(AlertKind::UnknownToken, tap, "no such token was issued here".into())
    }

    /// The event's place in time.
    pub(super) fn order(&self) -> (i64, KeyId, u32) {
        (self.event_ms, self.key_id, self.sequence)
    }

    /// Its identity: kind, token and what of it; not the tap that happened to show it.
    pub(super) fn id(&self, token: &TokenKey) -> String {
        content_id(&[self.kind.word().as_bytes(), token.as_slice(), self.detail.as_bytes()])
    }
}

/// What the rules say of one token.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) findings: Vec<Finding>,
    /// Taps whose reasons not to count have changed.
    pub(super) withheld: Vec<Withheld>,
}

/// Judges the taps of one token, in whatever order they are given.
pub(super) fn judge(taps: &[Seen], tolerance: Tolerance, ways: &Ways) -> Verdict {
    let mut taps: Vec<&Seen> = taps.iter().collect();
    taps.sort_unstable_by_key(|tap| tap.order());
    let mut verdict = Verdict::default();
    let mut bits: BTreeMap<(KeyId, u32), u8> = BTreeMap::new();
    for tap in taps.iter().filter(|tap| tap.is_refuted()) {
        *bits.entry((tap.key_id, tap.sequence)).or_default() |= BAD_CRYPTOGRAM;
        let detail = format!("the cryptogram of entry {} does not verify", place(tap));
        verdict.findings.push(Finding::of(AlertKind::InvalidCryptogram, tap, detail));
    }
    same_atc(&taps, &mut bits, &mut verdict.findings);
    order(&taps, tolerance, &mut verdict.findings);
    ways.judge(&taps, tolerance, &mut verdict.findings);
    for tap in taps {
        let own = bits.get(&(tap.key_id, tap.sequence)).copied().unwrap_or(0);
        let now = tap.withheld & !OWN | own;
        if now != tap.withheld {
            let &Seen { token, time_ms, key_id, sequence, .. } = tap;
            verdict.withheld.push(Withheld { token, time_ms, key_id, sequence, bits: now });
        }
    }
    verdict
}

fn place(tap: &Seen) -> String {
    format!("{}/{}", crate::store::sql::hex(&tap.key_id.0), tap.sequence)
}

/// One ATC, one tap. A tap with a refuted cryptogram is not the card's and takes no ATC.
fn same_atc(taps: &[&Seen], bits: &mut BTreeMap<(KeyId, u32), u8>, findings: &mut Vec<Finding>) {
    let mut by_atc: BTreeMap<u16, Vec<&Seen>> = BTreeMap::new();
    for tap in taps {
        if let Some(atc) = tap.used() {
            by_atc.entry(atc).or_default().push(tap);
        }
    }
    for (atc, group) in by_atc {
        let [first, others @ ..] = &group[..] else { continue };
        for other in others {
            *bits.entry((other.key_id, other.sequence)).or_default() |= SAME_ATC;
        }
        // Named by the ATC: however many taps share it, and whichever is found first, it is one alert of a kind.
        if let Some(other) = others.iter().find(|other| other.digest != first.digest) {
            findings.push(Finding::of(
                AlertKind::Clone,
                other,
                format!("counter {atc} was used with different data"),
            ));
        }
        let twin =
            group.iter().enumerate().find(|(i, tap)| group[..*i].iter().any(|t| t.digest == tap.digest));
        if let Some((_, twin)) = twin {
            let detail = format!("the card's data with counter {atc} were sealed under two keys");
            findings.push(Finding::of(AlertKind::Resealed, twin, detail));
        }
    }
}

/// ATCs rise with time. One alert for each token and service day: after one jump back, every later tap shows it.
fn order(taps: &[&Seen], tolerance: Tolerance, findings: &mut Vec<Finding>) {
    let timed: Vec<(&Seen, u16, i64)> = taps
        .iter()
        .filter(|tap| tap.near)
        .filter_map(|tap| Some((*tap, tap.used()?, tap.tolerance_ms(tolerance)?)))
        .collect();
    let mut told = std::collections::BTreeSet::new();
    for (i, (tap, atc, off)) in timed.iter().enumerate() {
        let contradicts = |(earlier, higher, other_off): &(&Seen, u16, i64)| {
            let apart = tap.time_ms - earlier.time_ms;
            higher > atc && apart > off + other_off && apart <= super::ORDER_WINDOW_MS
        };
        if timed[i.saturating_sub(LOOK_BACK)..i].iter().any(contradicts) && told.insert(tap.service_day) {
            let day = tap.service_day.map_or_else(|| "?".into(), |d| d.to_string());
            let detail = format!("counters run against time on service day number {day}");
            findings.push(Finding::of(AlertKind::CloneOrder, tap, detail));
        }
    }
}
