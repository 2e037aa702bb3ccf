//! Which card comes next, on one reader or on several: each card once, until it leaves.

/// A reader at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The reader's name.
    pub reader: String,
    /// Where there is a card: how many comings and goings the reader has counted, so that a card that was exchanged
    /// between two looks is another one.
    pub card: Option<u32>,
}

/// What has come so far.
#[derive(Debug, Clone, Default)]
pub struct Arrivals {
    given: Vec<(String, u32)>,
}

impl Arrivals {
    /// The first of these readers with a card that was not given before.
    pub fn next(&mut self, slots: &[Slot]) -> Option<String> {
        let there = |(reader, count): &(String, u32)| {
            slots.iter().any(|slot| slot.reader == *reader && slot.card == Some(*count))
        };
        self.given.retain(there);
        let (reader, count) = slots.iter().find_map(|slot| {
            let given = || self.given.iter().any(|(reader, _)| *reader == slot.reader);
            slot.card.filter(|_| !given()).map(|count| (slot.reader.clone(), count))
        })?;
        self.given.push((reader.clone(), count));
        Some(reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(arrivals: &mut Arrivals, slots: &[(&str, Option<u32>)]) -> Option<String> {
        let slot = |(reader, card): &(&str, Option<u32>)| Slot { reader: (*reader).to_owned(), card: *card };
        arrivals.next(&slots.iter().map(slot).collect::<Vec<_>>())
    }

    #[test]
    fn a_card_is_given_once_whichever_reader_it_is_on() {
        let mut arrivals = Arrivals::default();
        assert_eq!(next(&mut arrivals, &[]), None);
        assert_eq!(next(&mut arrivals, &[("one", None), ("two", Some(1))]).as_deref(), Some("two"));
        assert_eq!(next(&mut arrivals, &[("one", None), ("two", Some(1))]), None, "it stays");
        let both = [("one", Some(5)), ("two", Some(1))];
        assert_eq!(next(&mut arrivals, &both).as_deref(), Some("one"), "the other is still there");
        assert_eq!(next(&mut arrivals, &both), None);
    }

    #[test]
    fn a_card_that_left_and_came_again_is_given_again() {
        let mut arrivals = Arrivals::default();
        let mut one = |card| next(&mut arrivals, &[("one", card)]).is_some();
        assert!(one(Some(1)));
        assert!(!one(None));
        assert!(one(Some(1)), "a reader that does not count");
        assert!(one(Some(3)), "exchanged between two looks");
        assert!(!one(Some(3)));
    }

    #[test]
    fn a_reader_that_was_unplugged_begins_anew() {
        let mut arrivals = Arrivals::default();
        assert!(next(&mut arrivals, &[("one", Some(1))]).is_some());
        assert!(next(&mut arrivals, &[]).is_none());
        assert!(next(&mut arrivals, &[("one", Some(1))]).is_some());
    }
}
