//! The ATCs of a token that risk has seen, exactly, and when: what tells a counter that is used twice at any distance in time, and
//! one that runs against time, without reading the token's taps.

/// A set of ATCs as runs: ascending, apart from each other. A phone that pays at gates alone has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Atcs(Vec<Run>);

/// ATCs without a gap, and between which times they were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    from: u16,
    upto: u16,
    first_ms: i64,
    last_ms: i64,
}

/// The byte before runs with times, of [`TIMED`] bytes each. An older gateway wrote none, and runs of four bytes without times.
const WITH_TIMES: u8 = 1;
const TIMED: usize = 20;

impl Run {
    fn timed(bytes: &[u8; TIMED]) -> Self {
        let [a, b, c, d, times @ ..] = *bytes;
        let times = u128::from_be_bytes(times);
        let (first_ms, last_ms) = ((times >> 64) as i64, times as i64);
        Self { from: u16::from_be_bytes([a, b]), upto: u16::from_be_bytes([c, d]), first_ms, last_ms }
    }

    /// Used at some time up to the token's newest tap.
    fn untimed(&[a, b, c, d]: &[u8; 4], last_ms: i64) -> Self {
        Self {
            from: u16::from_be_bytes([a, b]),
            upto: u16::from_be_bytes([c, d]),
            first_ms: i64::MIN,
            last_ms,
        }
    }

    fn used_from(&mut self, first_ms: i64, last_ms: i64) {
        self.first_ms = self.first_ms.min(first_ms);
        self.last_ms = self.last_ms.max(last_ms);
    }
}

impl Atcs {
    /// Reads what [`Self::to_bytes`] wrote, or an older gateway, where the token's newest tap was at this time; `None` where it
    /// is damaged.
    pub(super) fn from_bytes(bytes: &[u8], last_tap_ms: Option<i64>) -> Option<Self> {
        let (runs, rest): (Vec<Run>, &[u8]) = match bytes {
            [WITH_TIMES, bytes @ ..] if bytes.len().is_multiple_of(TIMED) => {
                let (runs, rest) = bytes.as_chunks();
                (runs.iter().map(Run::timed).collect(), rest)
            }
            bytes => {
                let (runs, rest) = bytes.as_chunks();
                let last_ms = last_tap_ms.unwrap_or(i64::MAX);
                (runs.iter().map(|run| Run::untimed(run, last_ms)).collect(), rest)
            }
        };
        let sound = runs.iter().all(|run| run.from <= run.upto && run.first_ms <= run.last_ms)
            && runs.windows(2).all(|pair| u32::from(pair[0].upto) + 1 < u32::from(pair[1].from));
        (rest.is_empty() && sound).then_some(Self(runs))
    }

    /// For each run two bytes from and two up to, then eight for its first time and eight for its last; one byte before all.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + TIMED * self.0.len());
        bytes.push(WITH_TIMES);
        for run in &self.0 {
            bytes.extend(run.from.to_be_bytes());
            bytes.extend(run.upto.to_be_bytes());
            bytes.extend(run.first_ms.to_be_bytes());
            bytes.extend(run.last_ms.to_be_bytes());
        }
        bytes
    }

    /// The place of the first run that ends at or after an ATC.
    fn place(&self, atc: u16) -> usize {
        self.0.partition_point(|run| run.upto < atc)
    }

    pub(super) fn contains(&self, atc: u16) -> bool {
        self.0.get(self.place(atc)).is_some_and(|run| run.from <= atc)
    }

    /// Whether an ATC at this time contradicts none of these: each lower one was used before it, and each higher one after.
    pub(super) fn agrees(&self, atc: u16, time_ms: i64) -> bool {
        self.0
            .iter()
            .all(|run| run.upto < atc && run.last_ms < time_ms || run.from > atc && run.first_ms > time_ms)
    }

    /// Adds one, used at this time; false if it is there.
    pub(super) fn insert(&mut self, atc: u16, time_ms: i64) -> bool {
        let at = self.place(atc);
        if let Some(run) = self.0.get_mut(at).filter(|run| run.from <= atc) {
            run.used_from(time_ms, time_ms);
            return false;
        }
        let touches_before = at > 0 && self.0[at - 1].upto.checked_add(1) == Some(atc);
        let touches_after = self.0.get(at).is_some_and(|run| atc.checked_add(1) == Some(run.from));
        match (touches_before, touches_after) {
            (true, true) => {
                let after = self.0.remove(at);
                let run = &mut self.0[at - 1];
                run.upto = after.upto;
                run.used_from(after.first_ms.min(time_ms), after.last_ms.max(time_ms));
            }
            (true, false) => {
                self.0[at - 1].upto = atc;
                self.0[at - 1].used_from(time_ms, time_ms);
            }
            (false, true) => {
                self.0[at].from = atc;
                self.0[at].used_from(time_ms, time_ms);
            }
            (false, false) => {
                self.0.insert(at, Run { from: atc, upto: atc, first_ms: time_ms, last_ms: time_ms });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs as an older gateway wrote them.
    fn untimed(bytes: &[u8]) -> Option<Atcs> {
        Atcs::from_bytes(bytes, Some(1_000))
    }

    proptest! {
        #[test]
        fn it_is_the_set_of_what_was_put_in_whatever_the_order(
            used in prop::collection::vec((prop_oneof![0..40_u16, 65_500..=u16::MAX], -9..9_i64), 0..120)
        ) {
            let mut runs = Atcs::default();
            for (n, (atc, time_ms)) in used.iter().enumerate() {
                let known = used[..n].iter().any(|(other, _)| other == atc);
                prop_assert_eq!(runs.insert(*atc, *time_ms), !known);
                prop_assert_eq!(Atcs::from_bytes(&runs.to_bytes(), None), Some(runs.clone()));
            }
            for atc in (0..45).chain(65_495..=u16::MAX) {
                prop_assert_eq!(runs.contains(atc), used.iter().any(|(other, _)| *other == atc));
                for time_ms in -10..10 {
                    let agrees = |(other, when): &(u16, i64)| {
                        *other < atc && *when < time_ms || *other > atc && *when > time_ms
                    };
                    prop_assert_eq!(runs.agrees(atc, time_ms), used.iter().all(agrees), "{} {}", atc, time_ms);
                }
            }
        }
    }

    #[test]
    fn without_times_only_what_is_later_and_higher_than_all_agrees() {
        let runs = untimed(&[0, 5, 0, 6, 0, 9, 0, 9]).unwrap();
        let agreeing: Vec<u16> = (0..12).filter(|atc| runs.agrees(*atc, 1_001)).collect();
        assert_eq!(agreeing, [10, 11]);
        assert!((0..12).all(|atc| !runs.agrees(atc, 1_000)));
        assert!(!Atcs::from_bytes(&[0, 5, 0, 6], None).unwrap().agrees(7, i64::MAX));
    }

    #[test]
    fn what_cannot_have_been_written_is_damaged() {
        for bytes in [&[0, 1, 0][..], &[0, 2, 0, 1], &[0, 1, 0, 2, 0, 3, 0, 4], &[0, 5, 0, 6, 0, 1, 0, 2]] {
            assert_eq!(untimed(bytes), None, "{bytes:?}");
        }
        let mut runs = Atcs::default();
        runs.insert(7, 1_000);
        let written = runs.to_bytes();
        // Fours of bytes are what an older gateway may have written.
        for short in (2..written.len()).filter(|length| length % 4 != 0) {
            assert_eq!(untimed(&written[..short]), None, "{short}");
        }
        let mut backwards = written;
        backwards[5..13].fill(0x7F);
        assert_eq!(untimed(&backwards), None);
        assert_eq!(untimed(&[]), Some(Atcs::default()));
    }
}
