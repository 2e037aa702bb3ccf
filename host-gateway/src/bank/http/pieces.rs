//! In which pieces a bank is asked: what is of one e-account in its order, the rest beside each other.

use std::collections::VecDeque;
use std::ops::Range;

/// How many pieces of one call are asked for again in halves: a dozen requests that the bank refuses are found so. What stands
/// beside more of them stays in doubt, and a bank that refuses everything is not asked for each by itself.
const MOST_HALVED: usize = 128;

/// Which requests are sent together: places in [`Pieces::order`].
pub(super) type Places = Range<usize>;

/// What is still to be sent. Pieces of different chains are in the air together, those of one chain one after the other: what is
/// of one e-account is in one chain, in the order in which it was asked for, or chance would tell who gets the last of its
/// money.
pub(super) struct Pieces {
    /// The requests by e-account.
    pub(super) order: Vec<usize>,
    chains: VecDeque<VecDeque<Places>>,
    to_halve: usize,
}

impl Pieces {
    pub(super) fn of<T>(requests: &[T], account: fn(&T) -> &str, batch: usize) -> Self {
        let name = |place: &usize| account(&requests[*place]);
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by(|a, b| name(a).cmp(name(b)));
        let mut chains: VecDeque<VecDeque<Places>> = VecDeque::new();
        let (mut begin, mut end) = (0, 0);
        for run in order.chunk_by(|a, b| name(a) == name(b)) {
            let next = end + run.len();
            if next - begin > batch {
                if begin < end {
                    chains.push_back(std::iter::once(begin..end).collect());
                }
                begin = end;
            }
            end = next;
            if end - begin > batch {
                let starts = (begin..end).step_by(batch);
                chains.push_back(starts.map(|start| start..end.min(start + batch)).collect());
                begin = end;
            }
        }
        if begin < end {
            chains.push_back(std::iter::once(begin..end).collect());
        }
        Self { order, chains, to_halve: MOST_HALVED }
    }

    /// The next piece, and what is to be sent after it.
    pub(super) fn next(&mut self) -> Option<(Places, VecDeque<Places>)> {
        let mut chain = self.chains.pop_front()?;
        Some((chain.pop_front()?, chain))
    }

    /// A piece is done with.
    pub(super) fn go_on(&mut self, chain: VecDeque<Places>) {
        if !chain.is_empty() {
            self.chains.push_back(chain);
        }
    }

    /// Asks for a piece that was refused in halves, after all others but before the rest of its chain; false where it is left
    /// at that.
    pub(super) fn halve(&mut self, piece: &Places, mut chain: VecDeque<Places>) -> bool {
        let halves = piece.len() > 1 && self.to_halve > 0;
        if halves {
            self.to_halve -= 1;
            let middle = piece.start + piece.len() / 2;
            chain.push_front(middle..piece.end);
            chain.push_front(piece.start..middle);
        }
        self.go_on(chain);
        halves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accounts: &str, batch: usize) -> Pieces {
        let accounts: Vec<&str> = accounts.split_terminator("").skip(1).collect();
        Pieces::of(&accounts, |account| account, batch)
    }

    /// The pieces of each chain, as `0-2+2-3`.
    fn shown<'a>(chains: impl IntoIterator<Item = &'a VecDeque<Places>>) -> Vec<String> {
        let chain = |chain: &VecDeque<Places>| {
            let pieces: Vec<String> = chain.iter().map(|p| format!("{}-{}", p.start, p.end)).collect();
            pieces.join("+")
        };
        chains.into_iter().map(chain).collect()
    }

    #[test]
    fn what_is_of_one_e_account_is_sent_together_or_one_after_the_other() {
        let pieces = of("abacccccb", 3);
        assert_eq!(pieces.order, [0, 2, 1, 8, 3, 4, 5, 6, 7]);
        assert_eq!(shown(&pieces.chains), ["0-2", "2-4", "4-7+7-9"]);
        assert_eq!(shown(&of("abcdefg", 3).chains), ["0-3", "3-6", "6-7"]);
        assert_eq!(shown(&of("aabccc", 3).chains), ["0-3", "3-6"]);
        assert_eq!(shown(&of("", 3).chains), [""; 0]);
    }

    #[test]
    fn a_piece_waits_for_the_one_of_its_chain_before_it() {
        let mut pieces = of("aaaaab", 3);
        let (first, after) = pieces.next().unwrap();
        assert_eq!((first, shown([&after])), (0..3, vec!["3-5".to_owned()]));
        assert_eq!(pieces.next().unwrap().0, 5..6);
        assert!(pieces.next().is_none());
        pieces.go_on(after);
        assert_eq!(pieces.next().unwrap().0, 3..5);
        assert!(pieces.next().is_none());
    }

    #[test]
    fn a_piece_that_is_refused_is_asked_for_in_halves_after_all_others_and_so_often() {
        let mut pieces = of("aaaaab", 3);
        let (first, after) = pieces.next().unwrap();
        assert!(pieces.halve(&first, after));
        assert_eq!(shown(&pieces.chains), ["5-6", "0-1+1-3+3-5"]);
        assert!(!pieces.halve(&(5..6), VecDeque::new()));
        let mut refused = 0;
        while pieces.halve(&first, VecDeque::new()) {
            refused += 1;
        }
        assert_eq!(refused, MOST_HALVED - 1);
    }
}
