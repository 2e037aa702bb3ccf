//! Timed exchanges as a bench shows them: what a card took, what it was allowed, and of what that is made up. From many
//! of them a reader's limits are chosen.

use crate::show::{BAD, BOLD, DIM, GOOD};
use crate::tap::{Exchanged, Tap};
use serde_json::{Value, json};
use std::fmt::{self, Write};
use wavepass_kernel::Phase;
use wavepass_protocol::apdu::Response;
use wavepass_protocol::lists::RelayLimits;
use wavepass_protocol::tags;
use wavepass_protocol::tlv;

/// A card states its times in units of so many microseconds.
const UNIT_US: u32 = 100;
/// The most that a card can claim, microseconds: two fields of 16 bits.
pub const MAX_CLAIM_US: u32 = 2 * 0xFFFF * UNIT_US;

/// One timed exchange. Times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    /// What it took.
    pub took_us: u64,
    /// What the card says that it takes at most: its answer, and sending it.
    pub claimed_us: u32,
    /// What the terminal allows.
    pub limits: RelayLimits,
    /// What it was allowed, all in all.
    pub allowed_us: u32,
}

impl Timed {
    /// The timed exchange of this command, where it is one and the card answered it in its form.
    fn of(exchanged: &Exchanged, limits: RelayLimits) -> Option<Self> {
        let answer = exchanged.answer.as_deref().filter(|_| exchanged.phase == Phase::Timed)?;
        let data = Response::parse(answer).ok()?.data;
        // Entropy 4, then the shortest, the longest and the transmission time.
        let &[_, _, _, _, _, _, m0, m1, t0, t1] = tlv::find(data, tags::RESPONSE_1).ok()?? else {
            return None;
        };
        let (max, transmission) = (u16::from_be_bytes([m0, m1]), u16::from_be_bytes([t0, t1]));
        Some(Self {
            took_us: exchanged.took_us,
            claimed_us: (u32::from(max) + u32::from(transmission)) * UNIT_US,
            limits,
            allowed_us: limits.allowed_us(max, transmission),
        })
    }

    /// As much of the card's claim as is believed.
    pub fn believed_us(&self) -> u32 {
        self.claimed_us.min(self.limits.cap_us)
    }

    /// What overhead and grace had to cover: the measured time without what is believed of the claim.
    pub fn rest_us(&self) -> u64 {
        self.took_us.saturating_sub(self.believed_us().into())
    }

    /// True if it was in time.
    pub fn in_time(&self) -> bool {
        self.took_us <= self.allowed_us.into()
    }

    fn to_json(self) -> Value {
        json!({
            "took_us": self.took_us,
            "allowed_us": self.allowed_us,
            "in_time": self.in_time(),
            "overhead_us": self.limits.overhead_us,
            "grace_us": self.limits.grace_us,
            "cap_us": self.limits.cap_us,
            "claimed_us": self.claimed_us,
            "rest_us": self.rest_us(),
        })
    }
}

/// The timed exchanges of a tap, in order; none where the terminal times no cards.
pub fn timed(tap: &Tap) -> Vec<Timed> {
    let Some(limits) = tap.relay else { return Vec::new() };
    tap.exchanges.iter().filter_map(|exchanged| Timed::of(exchanged, limits)).collect()
}

/// For machines.
pub(crate) fn to_json(tap: &Tap) -> Value {
    timed(tap).into_iter().map(Timed::to_json).collect()
}

/// For people; nothing where nothing was timed.
pub(crate) fn show(out: &mut impl Write, tap: &Tap) -> fmt::Result {
    let timed = timed(tap);
    if timed.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{BOLD}timed exchanges{BOLD:#}")?;
    for one in timed {
        let RelayLimits { overhead_us, grace_us, cap_us } = one.limits;
        let (claimed, believed) = (one.claimed_us, one.believed_us());
        let (style, verdict) = if one.in_time() { (GOOD, "in time") } else { (BAD, "late") };
        writeln!(
            out,
            "  took {} µs, {} µs allowed: {style}{verdict}{style:#}; overhead and grace had to cover {} µs",
            one.took_us,
            one.allowed_us,
            one.rest_us()
        )?;
        writeln!(
            out,
            "    {DIM}overhead_us {overhead_us} + grace_us {grace_us} + {believed} of the {claimed} µs that the card claims \
             (cap_us {cap_us}){DIM:#}"
        )?;
    }
    Ok(())
}
