//! Which of the card's applications is tried first: terminal preference, then the card's priority, then the order
//! of its directory (Book 1 section 12.4, Book B).

use crate::config::Config;
use heapless::Vec;
use wavepass_protocol::select::{Aid, Candidate, MAX_CANDIDATES};

/// An application that both card and gate know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The card's identifier, which is the one to select.
    pub(crate) aid: Aid,
    /// Its place in the gate's configuration.
    pub(crate) application: u8,
}

/// What both know, in the order in which it is tried.
pub(crate) fn choices(config: &Config, directory: &[Candidate]) -> Vec<Choice, MAX_CANDIDATES> {
    let mut ranked: Vec<((u8, u8, u8), Choice), MAX_CANDIDATES> = directory
        .iter()
        .zip(0u8..)
        .filter_map(|(candidate, place)| {
            let (application, accepted) = config
                .applications
                .iter()
                .zip(0u8..)
                .filter(|(a, _)| a.aid == candidate.aid || a.partial && candidate.aid.starts_with(&a.aid))
                // The longest match knows the card's application best.
                .max_by_key(|(a, _)| a.aid.as_slice().len())
                .map(|(a, i)| (i, a))?;
            // For both ranks 0 means "none", which comes after every stated one.
            let last = |rank: u8| if rank == 0 { u8::MAX } else { rank };
            let rank = (last(accepted.preference), last(candidate.priority), place);
            Some((rank, Choice { aid: candidate.aid, application }))
        })
        .collect();
    ranked.sort_unstable_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, choice)| choice).collect()
}
