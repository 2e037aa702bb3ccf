//! What of some tokens is not finished: what an erasure and a pay-out wait for.

use crate::keys::TokenKey;
use crate::risk::{on_days, tapped_utc_days_in};
use crate::store::StoreError;
use crate::store::db::{Conn, One, Query, query, read_many};
use wavepass_fares::ServiceDay;

/// Tokens in one statement.
const TOKENS: usize = 200;

/// Something of the tokens of a person that must be finished first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfinished {
    /// Something is owed.
    #[error("{0} debts of the person's tokens are open: recover, waive or write them off first")]
    Debts(i64),
    /// The bank has not answered.
    #[error(
        "the bank has not answered for {0} charges of the person's tokens: deduct their days until it does"
    )]
    InDoubt(i64),
    /// Something was not asked for, or was declined.
    #[error("{0} charges of the person's tokens are not deducted: deduct their days first")]
    Charges(i64),
    /// Something is disputed.
    #[error("{0} disputes of the person are open: decide them first")]
    Disputes(i64),
    /// Something is held.
    #[error(
        "{0} holds for the person's tokens stand at the bank: they end with the close of their days, or expire"
    )]
    Holds(i64),
    /// Risk has not looked at all of it.
    #[error("risk has not looked at taps of {0} of the person's tokens")]
    Unchecked(i64),
    /// Something was not priced.
    #[error("the person's tokens have taps on service day {0}, which is not closed: close it first")]
    DayOpen(ServiceDay),
}

impl Unfinished {
    /// The word for it, over HTTP and in previews.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Debts(_) => "debts_open",
            Self::InDoubt(_) => "in_doubt",
            Self::Charges(_) => "charges_unfinished",
            Self::Disputes(_) => "disputes_open",
            Self::Holds(_) => "holds_standing",
            Self::Unchecked(_) => "unchecked_taps",
            Self::DayOpen(_) => "day_open",
        }
    }
}

/// What counts what is not finished, and how it is named.
type Check = (&'static str, fn(i64) -> Unfinished);

/// The first service day of some taps that is not closed.
macro_rules! day_open {
    ($taps:literal) => {
        concat!(
            "SELECT min(t.service_day) FROM ",
            $taps,
            " AND t.service_day IS NOT NULL AND (NOT EXISTS (SELECT 1 FROM batches AS b \
             WHERE b.service_day = t.service_day AND b.rank = 0) OR EXISTS (SELECT 1 FROM day_close AS d \
             WHERE d.service_day = t.service_day AND d.state = 'pricing'))"
        )
    };
}

const CHECKS: [Check; 6] = [
    ("SELECT count(*) FROM debts WHERE state = 'open' AND token_key IN ??", Unfinished::Debts),
    (
        "SELECT count(*) FROM charges AS c INDEXED BY charges_unfinished \
         WHERE c.state IN ('open', 'sent', 'in_doubt', 'declined') AND c.state IN ('sent', 'in_doubt') \
         AND c.token_key IN ??",
        Unfinished::InDoubt,
    ),
    (
        "SELECT count(*) FROM charges AS c INDEXED BY charges_unfinished \
         WHERE c.state IN ('open', 'sent', 'in_doubt', 'declined') AND c.state IN ('open', 'declined') \
         AND c.token_key IN ??",
        Unfinished::Charges,
    ),
    ("SELECT count(*) FROM disputes WHERE state = 'open' AND token_key IN ??", Unfinished::Disputes),
    (
        "SELECT count(*) FROM holds WHERE state IN ('asked', 'in_doubt', 'active') AND token_key IN ??",
        Unfinished::Holds,
    ),
    (
        "SELECT count(DISTINCT t.token_key) FROM arrivals AS a CROSS JOIN taps AS t WHERE t.key_id = a.key_id \
         AND t.sequence BETWEEN a.from_sequence AND a.upto_sequence AND t.opened = 1 AND t.token_key IN ??",
        Unfinished::Unchecked,
    ),
];

/// The first day with taps of the tokens that is not closed, of those taps that risk has looked at.
const DAY_OPEN: &str = day_open!(
    "(VALUES ??) AS v CROSS JOIN token_taps AS i CROSS JOIN taps AS t WHERE i.utc_day = v.column1 \
     AND i.token_key = v.column2 AND i.time_ms BETWEEN v.column3 AND v.column4 AND t.key_id = i.key_id AND t.sequence = i.sequence"
);
/// The same of those that it has not.
const DAY_OPEN_ARRIVED: &str = day_open!(
    "arrivals AS a CROSS JOIN taps AS t WHERE t.key_id = a.key_id AND t.sequence BETWEEN a.from_sequence \
     AND a.upto_sequence AND t.opened = 1 AND t.token_key IN ??"
);

/// All that is not finished of some tokens, each kind once, in the order in which it is to be finished.
pub(crate) async fn of_tokens_in(
    conn: &mut Conn,
    tokens: &[TokenKey],
) -> Result<Vec<Unfinished>, StoreError> {
    let mut found = Vec::new();
    for (text, named) in CHECKS {
        let mut count = 0;
        for tokens in tokens.chunks(TOKENS) {
            count += of(query(text), tokens).scalar::<i64>(&mut *conn).await?;
        }
        found.extend((count > 0).then(|| named(count)));
    }
    let mut open: Option<i64> = None;
    let days = tapped_utc_days_in(conn).await?;
    let mut rows = read_many(conn, DAY_OPEN, on_days(&days, tokens)).await?;
    rows.extend(read_many(conn, DAY_OPEN_ARRIVED, tokens.iter().map(|key| One(key.as_slice()))).await?);
    for row in &rows {
        open = [open, row.try_get(0)?].into_iter().flatten().min();
    }
    if let Some(day) = open {
        let day = ServiceDay::from_number(day);
        found.push(Unfinished::DayOpen(
            day.map_err(|_| StoreError::Damaged { what: "service day of a tap" })?,
        ));
    }
    Ok(found)
}

fn of<'a>(query: Query<'static>, tokens: &'a [TokenKey]) -> Query<'a> {
    query.bind_list(tokens.iter().map(|key| key.as_slice()))
}
