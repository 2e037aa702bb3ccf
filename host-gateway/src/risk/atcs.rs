//! The ATCs of a token that risk has seen, exactly: what tells a counter that is used twice at any distance in time
//! without reading the token's taps.

/// A set of ATCs as runs: ascending, apart from each other. A phone that pays at gates alone has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Atcs(Vec<(u16, u16)>);

impl Atcs {
    /// Reads what [`Self::to_bytes`] wrote; `None` where it is damaged.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (runs, rest) = bytes.as_chunks::<4>();
        let runs: Vec<(u16, u16)> = runs
            .iter()
            .map(|&[a, b, c, d]| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
            .collect();
        let sound = runs.iter().all(|(from, upto)| from <= upto)
            && runs.windows(2).all(|pair| u32::from(pair[0].1) + 1 < u32::from(pair[1].0));
        (rest.is_empty() && sound).then_some(Self(runs))
    }

    /// Two bytes from and two bytes up to for each run.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(from, upto)| [from.to_be_bytes(), upto.to_be_bytes()]).flatten().collect()
    }

    /// The place of the first run that ends at or after an ATC.
    fn place(&self, atc: u16) -> usize {
        self.0.partition_point(|run| run.1 < atc)
    }

    pub(super) fn contains(&self, atc: u16) -> bool {
        self.0.get(self.place(atc)).is_some_and(|run| run.0 <= atc)
    }

    /// The highest.
    pub(super) fn last(&self) -> Option<u16> {
        self.0.last().map(|run| run.1)
    }

    /// Adds one; false if it is there.
    pub(super) fn insert(&mut self, atc: u16) -> bool {
        if self.contains(atc) {
            return false;
        }
        let at = self.place(atc);
        let touches_before = at > 0 && self.0[at - 1].1.checked_add(1) == Some(atc);
        let touches_after = self.0.get(at).is_some_and(|run| atc.checked_add(1) == Some(run.0));
        match (touches_before, touches_after) {
            (true, true) => self.0[at - 1].1 = self.0.remove(at).1,
            (true, false) => self.0[at - 1].1 = atc,
            (false, true) => self.0[at].0 = atc,
            (false, false) => self.0.insert(at, (atc, atc)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_the_set_of_what_was_put_in_whatever_the_order(
            atcs in prop::collection::vec(prop_oneof![0..40_u16, 65_500..=u16::MAX], 0..120)
        ) {
            let (mut runs, mut set) = (Atcs::default(), BTreeSet::new());
            for atc in atcs {
                prop_assert_eq!(runs.insert(atc), set.insert(atc));
                prop_assert_eq!(Atcs::from_bytes(&runs.to_bytes()), Some(runs.clone()));
                prop_assert_eq!(runs.last(), set.last().copied());
            }
            for atc in (0..45).chain(65_495..=u16::MAX) {
                prop_assert_eq!(runs.contains(atc), set.contains(&atc));
            }
        }
    }

    #[test]
    fn what_cannot_have_been_written_is_damaged() {
        for bytes in [&[0, 1, 0][..], &[0, 2, 0, 1], &[0, 1, 0, 2, 0, 3, 0, 4], &[0, 5, 0, 6, 0, 1, 0, 2]] {
            assert_eq!(Atcs::from_bytes(bytes), None, "{bytes:?}");
        }
        assert_eq!(Atcs::from_bytes(&[]), Some(Atcs::default()));
    }
}
