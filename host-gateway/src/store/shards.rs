//! What is written at the same time, where the database allows it: ranges of tokens, by which large work is shared among
//! writers and gateways, and the stages of deduction. Each has a number, by which `Store::begin_shard` knows it.

use crate::keys::TokenKey;
use futures_util::future::join_all;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Into how many ranges work is divided on a database that many may write to.
const PARTS: u8 = 8;

/// Attempts are numbered: rows of `attempts` are entered, and charges that may be asked for become sent.
pub(crate) const NUMBERING: u8 = 8;
/// The embedded bank works in its own books.
pub(crate) const BANK: u8 = 9;
/// The bank's answers are booked: charges and attempts that wait for one change, and what hangs on them.
pub(crate) const BOOKING: u8 = 10;
/// How many of them there are.
pub(super) const STAGES: usize = 3;

const _: () = assert!(PARTS <= NUMBERING);

/// What lies after the key of every token.
pub(crate) const AFTER_ALL: [u8; 17] = [0xFF; 17];

/// A range of tokens that is worked on by itself, in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) shard: u8,
    /// The last token that is done.
    pub(crate) cursor: Vec<u8>,
    pub(crate) until: Vec<u8>,
}

impl Part {
    /// The parts before anything is done, by the first byte of tokens' keys; one alone where there is one writer.
    pub(crate) fn of_all(shared: bool) -> Vec<Self> {
        let parts = if shared { PARTS } else { 1 };
        let edge = |n: u8| match n {
            0 => Vec::new(),
            n if n == parts => AFTER_ALL.to_vec(),
            // A single byte lies before every key that begins with it.
            n => vec![(usize::from(n) * 256 / usize::from(parts)) as u8],
        };
        (0..parts).map(|shard| Self { shard, cursor: edge(shard), until: edge(shard + 1) }).collect()
    }

    /// The numbers of the parts that these tokens lie in, where there are several.
    pub(crate) fn numbers_of<'t>(tokens: impl IntoIterator<Item = &'t TokenKey>) -> BTreeSet<u8> {
        let number = |token: &TokenKey| (usize::from(token.0[0]) * usize::from(PARTS) / 256) as u8;
        tokens.into_iter().map(number).collect()
    }
}

/// Works on parts, so many at a time, and gives what came of each. A part that fails ends its lane: the others go on with what
/// is left, and then the first failure is told; further ones are logged.
pub(crate) async fn on_each<T, E, F>(
    parts: Vec<Part>,
    lanes: usize,
    work: impl Fn(Part) -> F,
) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
{
    let mut parts = VecDeque::from(parts);
    // Several gateways begin at different parts.
    let first = std::process::id() as usize % parts.len().max(1);
    parts.rotate_left(first);
    let parts = Mutex::new(parts);
    let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let lane = async || {
        let mut done = Vec::new();
        while let Some(part) = next() {
            done.push(Box::pin(work(part)).await?);
        }
        Ok(done)
    };
    let (mut all, mut failed) = (Vec::new(), None);
    for done in join_all((0..lanes).map(|_| lane())).await {
        match done {
            Ok(done) => all.extend(done),
            Err(error) if failed.is_none() => failed = Some(error),
            Err(error) => tracing::error!(%error, "another part failed"),
        }
    }
    failed.map_or(Ok(all), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lies_in_the_part_whose_range_holds_its_key() {
        let parts = Part::of_all(true);
        for (first, rest) in (0..=u8::MAX).flat_map(|first| [(first, 0), (first, u8::MAX)]) {
            let mut key = [rest; 16];
            key[0] = first;
            let holds = |part: &&Part| part.cursor.as_slice() < &key[..] && part.until.as_slice() >= &key[..];
            let within: BTreeSet<u8> = parts.iter().filter(holds).map(|part| part.shard).collect();
            assert_eq!(Part::numbers_of([&TokenKey(key)]), within, "{first} {rest}");
            assert_eq!(within.len(), 1);
        }
    }
}
