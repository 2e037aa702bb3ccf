//! Ranges of tokens, by which large work is shared among writers and gateways.

/// Into how many ranges work is divided on a database that many may write to.
const PARTS: u8 = 8;

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
}
