//! The way that a tap took through the kernel, for people who watch it. Nothing here decides, and a host that does not
//! ask pays nothing.

use crate::exchange::Exchange;
use wavepass_protocol::select::Aid;

/// What the command in flight is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// SELECT of the contactless directory.
    Directory,
    /// SELECT of an application.
    Application,
    /// The exchange that is timed.
    Timed,
    /// GET PROCESSING OPTIONS.
    Options,
    /// READ RECORD; the place in the order of the file locator, from 0.
    Record(u8),
    /// INTERNAL AUTHENTICATE, an older card.
    Authenticate,
    /// GENERATE AC, an older card.
    Cryptogram,
    /// None is: the exchange is over.
    Over,
}

/// What became of an application that both card and gate know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The card did not select it, or it withdrew when asked for its processing options.
    PassedOver,
    /// The tap goes on, or ended, with it.
    Taken,
    /// Its turn did not come.
    NotTried,
}

/// What both sides know, in the order in which it is tried.
pub(crate) fn choices(exchange: &Exchange) -> impl Iterator<Item = (Aid, Fate)> {
    let (passed, tried) = exchange.progress();
    exchange.choices().zip(0u8..).map(move |(aid, place)| {
        let fate = match place {
            place if place < passed => Fate::PassedOver,
            place if place < tried => Fate::Taken,
            _ => Fate::NotTried,
        };
        (aid, fate)
    })
}
