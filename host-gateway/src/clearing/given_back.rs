//! What was given back of a day's journeys, and of which of those that stand it is.
//!
//! A journey is named by its first tap, and a tap that comes late, or turns out not to count, may give the same ride another
//! name. What was given back of it under the old one stays with it: it is the journey with one of the taps that a journey of
//! the old name had, or the one that begins or ends where such a one did, at about the same time.

use std::collections::BTreeMap;

use wavepass_fares::tariff::MAX_PASSBACK_SECONDS;
use wavepass_fares::{Fen, Overflow, ServiceDay};

use super::changes::JourneyRow;
use super::{ClearingError, token_key};
use crate::keys::TokenKey;
use crate::store::db::{Conn, read_many};

/// Taps of one rider at one station within it may be one.
const SAME_TAP_MS: u64 = MAX_PASSBACK_SECONDS as u64 * 1_000;

/// A tap: key id and sequence number.
pub(super) type Tap = ([u8; 8], i64);

/// What was given back under a journey's name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    fen: Fen,
    name: Tap,
    /// The second taps of journeys of that name.
    seconds: Vec<Tap>,
    /// Where and when they began and ended.
    entered: Vec<(String, i64)>,
    left: Vec<(String, i64)>,
}

impl Given {
    /// Which of the journeys that stand it is.
    fn place(&self, journeys: &[JourneyRow]) -> Option<usize> {
        let has = |row: &JourneyRow, tap: &Tap| row.first == *tap || row.second.as_ref() == Some(tap);
        let about = |places: &[(String, i64)], station: Option<&String>, ms: Option<i64>| {
            let Some((station, ms)) = station.zip(ms) else { return false };
            places.iter().any(|(at, when)| at == station && when.abs_diff(ms) <= SAME_TAP_MS)
        };
        let named = journeys.iter().position(|row| row.first == self.name);
        named
            .or_else(|| journeys.iter().position(|row| has(row, &self.name)))
            .or_else(|| journeys.iter().position(|row| self.seconds.iter().any(|tap| has(row, tap))))
            .or_else(|| {
                journeys.iter().position(|row| {
                    about(&self.entered, row.from.as_ref(), row.entered_ms)
                        || about(&self.left, row.to.as_ref(), row.left_ms)
                })
            })
    }
}

/// What was given back of each of the journeys, by their places, and of such as are none of them.
pub(super) fn of_journeys(
    given: &[Given],
    journeys: &[JourneyRow],
) -> Result<(BTreeMap<usize, Fen>, Fen), Overflow> {
    let (mut of, mut none) = (BTreeMap::<usize, Fen>::new(), Fen::ZERO);
    for given in given {
        let sum = match given.place(journeys) {
            Some(at) => of.entry(at).or_default(),
            None => &mut none,
        };
        *sum = sum.plus(given.fen)?;
    }
    Ok((of, none))
}

/// What was given back of some tokens' days.
pub(super) async fn of_tokens_in(
    conn: &mut Conn,
    day: ServiceDay,
    tokens: &[TokenKey],
) -> Result<BTreeMap<TokenKey, Vec<Given>>, ClearingError> {
    let text = "SELECT r.token_key, r.first_key, r.first_sequence, CAST(SUM(r.amount_fen) AS BIGINT) \
                FROM (VALUES ??) AS v CROSS JOIN refunds AS r WHERE r.token_key = v.column1 AND r.service_day = v.column2 \
                GROUP BY r.token_key, r.first_key, r.first_sequence";
    let names = || tokens.iter().map(|key| (key.as_slice(), day.number()));
    let mut given: BTreeMap<(TokenKey, Tap), Given> = BTreeMap::new();
    for row in read_many(&mut *conn, text, names()).await? {
        let name = (tap_key(row.try_get(1)?)?, row.try_get(2)?);
        let fen = Fen(row.try_get(3)?);
        given.insert((token_key(row.try_get(0)?)?, name), Given { fen, name, ..Given::default() });
    }
    // Superseded ones too: by them the ride is known that had the name.
    let text = "SELECT j.token_key, j.first_key, j.first_sequence, j.second_key, j.second_sequence, j.from_station, j.entered_ms, \
                j.to_station, j.left_ms FROM (VALUES ??) AS v CROSS JOIN journeys AS j WHERE j.service_day = v.column2 \
                AND j.token_key = v.column1";
    for row in read_many(conn, text, names()).await? {
        let name = (tap_key(row.try_get(1)?)?, row.try_get(2)?);
        let Some(given) = given.get_mut(&(token_key(row.try_get(0)?)?, name)) else { continue };
        if let (Some(key), Some(sequence)) = (row.try_get::<Option<&[u8]>>(3)?, row.try_get(4)?) {
            given.seconds.push((tap_key(key)?, sequence));
        }
        given.entered.extend(row.try_get(5).and_then(|at: Option<String>| Ok(at.zip(row.try_get(6)?)))?);
        given.left.extend(row.try_get(7).and_then(|at: Option<String>| Ok(at.zip(row.try_get(8)?)))?);
    }
    let mut of_tokens: BTreeMap<TokenKey, Vec<Given>> = BTreeMap::new();
    for ((token, _), given) in given {
        of_tokens.entry(token).or_default().push(given);
    }
    Ok(of_tokens)
}

pub(super) fn tap_key(bytes: &[u8]) -> Result<[u8; 8], ClearingError> {
    bytes.try_into().map_err(|_| ClearingError::damaged("a journey's tap"))
}
