//! What a close changes: what a day's books say of tokens, what they must become, and the rows that make them so.
//!
//! A journey of which something was given back is charged at least that: what was refunded and turns out cheaper later is not
//! paid back a second time.

use std::collections::BTreeMap;

use wavepass_fares::{Fen, Journey, Overflow, Place, Priced, ServiceDay, Status, TapId, Tariffs};
use wavepass_protocol::time::UnixMs;

use super::given_back::{self, Given, Tap, tap_key};
use super::pricing::PricedToken;
use super::taps::UnknownStation;
use super::{Clearing, ClearingError, token_key};
use crate::keys::TokenKey;
use crate::ledger::{Account, Entries, Event, Name};
use crate::settlement::shares::{self, Shares};
use crate::store::db::{Conn, Row, query, write_many};
use crate::store::{Break, StoreError, raise_break_in, sql};

/// What a day's books say of one token before a chunk is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Booked {
    /// Its fares, without what was given back.
    pub(crate) amount: Fen,
    pub(super) parts: i64,
    pub(crate) journeys: Vec<JourneyRow>,
    /// What was given back of its journeys.
    given: Vec<Given>,
    /// What of its fares each operator was given, where the day's shares are frozen.
    shares: Shares,
    /// What of it refunds took back.
    taken: Shares,
}

impl Booked {
    /// What was given back of its journeys beyond what they come to, and stays in its fares.
    pub(crate) fn given_beyond(&self, journeys: &[JourneyRow]) -> Result<Fen, Overflow> {
        let (of, mut beyond) = given_back::of_journeys(&self.given, journeys)?;
        for (at, fen) in of {
            beyond = beyond.plus(fen.minus(journeys[at].charged)?.max(Fen::ZERO))?;
        }
        Ok(beyond)
    }
}

/// One row of `journeys`, without day, token, part and supersession.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JourneyRow {
    pub(super) first: Tap,
    pub(super) second: Option<Tap>,
    pub(super) from: Option<String>,
    pub(super) entered_ms: Option<i64>,
    pub(super) to: Option<String>,
    pub(super) left_ms: Option<i64>,
    nominal: Fen,
    charged: Fen,
    status: String,
}

impl JourneyRow {
    /// The journey's name: its first tap.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", sql::hex(&self.first.0), self.first.1)
    }

    /// What it is charged.
    pub(crate) const fn charged(&self) -> Fen {
        self.charged
    }

    fn new(tariffs: &Tariffs, journey: &Journey) -> Self {
        let id = |tap: TapId| (tap.key, i64::from(tap.sequence));
        let code = |place: Option<Place>| place.map(|place| tariffs.code(place.station).as_str().to_owned());
        Self {
            first: id(journey.first),
            second: journey.second.map(id),
            from: code(journey.entered),
            entered_ms: journey.entered.and_then(|place| place.time_ms),
            to: code(journey.left),
            left_ms: journey.left.and_then(|place| place.time_ms),
            nominal: journey.nominal,
            charged: journey.charged,
            status: journey.status.as_str().to_owned(),
        }
    }
}

/// What the books of one token must become.
pub(super) struct Change {
    pub(super) key: TokenKey,
    pub(super) part: i64,
    pub(super) amount: Fen,
    journeys: Vec<JourneyRow>,
    superseded: Vec<Tap>,
    /// Whose the amount is; none where the day's shares are fixed.
    shares: Shares,
}
impl Clearing {
    /// Books what changes: charges of this rank, whose they are, journeys and ledger.
    pub(super) async fn write_changes_in(
        &self,
        conn: &mut Conn,
        (day, rank): (ServiceDay, i64),
        changes: &[Change],
    ) -> Result<(), ClearingError> {
        let mut entries = Entries::default();
        for change in changes.iter().filter(|c| !c.amount.is_zero()) {
            let name = Name {
                service_day: day.number(),
                shard: change.key.0,
                part: change.part,
                event: Event::Charged,
                at_ms: self.value_ms(day),
            };
            entries.transfer(name, change.amount, Account::Fares, Account::Owed)?;
        }
        write_charges_in(conn, day, rank, changes).await?;
        shares::write_in(conn, day, changes.iter().map(|c| (c.key, c.part, &c.shares))).await?;
        write_journeys_in(conn, day, changes).await?;
        entries.write_in(conn).await?;
        Ok(())
    }

    /// What the day's books say of the tokens after `cursor` up to `last`.
    pub(crate) async fn booked(
        &self,
        day: ServiceDay,
        cursor: &[u8],
        last: &[u8],
    ) -> Result<BTreeMap<TokenKey, Booked>, ClearingError> {
        let mut booked: BTreeMap<TokenKey, Booked> = BTreeMap::new();
        let mut snapshot = self.store.pool().begin().await?;
        let charges = query(
            "SELECT token_key, CAST(SUM(CASE WHEN kind = 'fare' THEN amount_fen ELSE 0 END) AS BIGINT), MAX(part), \
             MAX(CASE WHEN kind = 'refund' THEN 1 ELSE 0 END) FROM charges WHERE service_day = ? AND token_key > ? AND token_key <= ? GROUP BY token_key",
        )
        .bind(day.number())
        .bind(cursor)
        .bind(last)
        .fetch_all(&mut *snapshot)
        .await?;
        let mut refunded = Vec::new();
        for row in &charges {
            let key = token_key(row.try_get(0)?)?;
            let entry = booked.entry(key).or_default();
            (entry.amount, entry.parts) = (Fen(row.try_get(1)?), row.try_get(2)?);
            if row.try_get::<i64>(3)? > 0 {
                refunded.push(key);
            }
        }
        for (key, given) in given_back::of_tokens_in(&mut snapshot, day, &refunded).await? {
            booked.entry(key).or_default().given = given;
        }
        for (key, journey) in standing_journeys_in(&mut snapshot, day, cursor, last).await? {
            booked.entry(key).or_default().journeys.push(journey);
        }
        for (key, (given, taken)) in shares::given_in(&mut snapshot, day, cursor, last).await? {
            let entry = booked.entry(key).or_default();
            (entry.shares, entry.taken) = (given, taken);
        }
        Ok(booked)
    }
}

/// The journeys of a day that stand, for tokens after `cursor` up to `last`.
pub(crate) async fn standing_journeys_in(
    conn: &mut Conn,
    day: ServiceDay,
    cursor: &[u8],
    last: &[u8],
) -> Result<Vec<(TokenKey, JourneyRow)>, ClearingError> {
    let rows = query(
        "SELECT token_key, first_key, first_sequence, second_key, second_sequence, from_station, entered_ms, \
         to_station, left_ms, nominal_fen, charged_fen, status FROM journeys \
         WHERE service_day = ? AND token_key > ? AND token_key <= ? AND superseded_by IS NULL",
    )
    .bind(day.number())
    .bind(cursor)
    .bind(last)
    .fetch_all(conn)
    .await?;
    rows.iter().map(standing_journey).collect()
}

/// A journey that stands, of a row with the columns of [`standing_journeys_in`].
pub(super) fn standing_journey(row: &Row) -> Result<(TokenKey, JourneyRow), ClearingError> {
    let second = match (row.try_get::<Option<&[u8]>>(3)?, row.try_get::<Option<i64>>(4)?) {
        (Some(key), Some(sequence)) => Some((tap_key(key)?, sequence)),
        _ => None,
    };
    let journey = JourneyRow {
        first: (tap_key(row.try_get(1)?)?, row.try_get(2)?),
        second,
        from: row.try_get(5)?,
        entered_ms: row.try_get(6)?,
        to: row.try_get(7)?,
        left_ms: row.try_get(8)?,
        nominal: Fen(row.try_get(9)?),
        charged: Fen(row.try_get(10)?),
        status: row.try_get(11)?,
    };
    Ok((token_key(row.try_get(0)?)?, journey))
}

/// A priced token's journeys as rows, in the order of their names.
pub(crate) fn journey_rows(tariffs: &Tariffs, priced: &Priced) -> Vec<JourneyRow> {
    let mut rows: Vec<JourneyRow> = priced.journeys.iter().map(|j| JourneyRow::new(tariffs, j)).collect();
    rows.sort_unstable();
    rows
}

/// Compares what was priced with what is booked. A token whose journeys are booked as they are changes nothing.
pub(super) fn changes(
    tariffs: &Tariffs,
    priced: Vec<PricedToken>,
    mut booked: BTreeMap<TokenKey, Booked>,
) -> Result<Vec<Change>, ClearingError> {
    let mut changes = Vec::with_capacity(priced.len());
    let mut compare = |token: &PricedToken, booked: Booked| -> Result<(), ClearingError> {
        let PricedToken { key, priced, .. } = token;
        let total = Fen::sum(priced.days.iter().map(|d| d.charge))?;
        let journeys = journey_rows(tariffs, priced);
        let beyond = booked.given_beyond(&journeys)?;
        let fares = total.plus(beyond)?;
        // What stands only because it was given back is whose it was taken from.
        let whose = shares::together(&token.shares, &shares::portion(&booked.taken, beyond)?)?;
        let mut before = booked.journeys;
        before.sort_unstable();
        let amount = fares.minus(booked.amount)?;
        if journeys == before && amount.is_zero() {
            return Ok(());
        }
        let superseded =
            before.iter().filter(|row| journeys.binary_search(row).is_err()).map(|row| row.first).collect();
        let journeys = journeys.into_iter().filter(|row| before.binary_search(row).is_err()).collect();
        let shares = shares::difference(&whose, &booked.shares)?;
        changes.push(Change { key: *key, part: booked.parts + 1, amount, journeys, superseded, shares });
        Ok(())
    };
    for token in &priced {
        compare(token, booked.remove(&token.key).unwrap_or_default())?;
    }
    // Tokens that have charges and no tap that counts any more.
    for (key, booked) in booked {
        compare(&PricedToken { key, priced: Priced::default(), shares: Shares::new() }, booked)?;
    }
    changes.sort_unstable_by_key(|change| change.key);
    Ok(changes)
}

async fn write_charges_in(
    conn: &mut Conn,
    day: ServiceDay,
    rank: i64,
    changes: &[Change],
) -> Result<(), StoreError> {
    let rows = changes.iter().map(|c| {
        // Of nothing, nothing has to be deducted.
        let state = if c.amount.is_zero() { "deducted" } else { "open" };
        (day.number(), c.key.as_slice(), c.part, rank, c.amount.0, state)
    });
    let text = "INSERT INTO charges (service_day, token_key, part, rank, amount_fen, state) VALUES ??";
    write_many(conn, text, rows).await?;
    Ok(())
}

async fn write_journeys_in(conn: &mut Conn, day: ServiceDay, changes: &[Change]) -> Result<(), StoreError> {
    let superseded = changes.iter().flat_map(|change| {
        let named = change.superseded.iter();
        named.map(move |(key, sequence)| (change.part, day.number(), change.key.as_slice(), key, *sequence))
    });
    let text = "UPDATE journeys SET superseded_by = v.column1 FROM (VALUES ??) AS v \
                WHERE service_day = v.column2 AND token_key = v.column3 AND first_key = v.column4 \
                AND first_sequence = v.column5 AND superseded_by IS NULL";
    write_many(conn, text, superseded).await?;
    let rows = changes.iter().flat_map(|c| c.journeys.iter().map(move |j| (c, j))).map(|(change, j)| {
        (
            day.number(),
            change.key.as_slice(),
            &j.first.0,
            j.first.1,
            change.part,
            j.second.as_ref().map(|second| &second.0),
            j.second.map(|second| second.1),
            j.from.as_deref(),
            j.entered_ms,
            j.to.as_deref(),
            j.left_ms,
            j.nominal.0,
            j.charged.0,
            j.status.as_str(),
        )
    });
    let text = "INSERT INTO journeys (service_day, token_key, first_key, first_sequence, part, second_key, \
                second_sequence, from_station, entered_ms, to_station, left_ms, nominal_fen, charged_fen, status) \
                VALUES ??";
    write_many(conn, text, rows).await?;
    Ok(())
}

/// What no tariff prices is the operator's to look at; the rider is not charged for it.
pub(super) async fn write_breaks_in(
    conn: &mut Conn,
    clearing: &Clearing,
    day: ServiceDay,
    changes: &[Change],
    unknown: &[UnknownStation],
) -> Result<(), StoreError> {
    let at = UnixMs(u64::try_from(clearing.value_ms(day)).unwrap_or(0));
    let why = match clearing.tariffs.prices(day) {
        true => "the day's tariff lacks a station of journey",
        false => "no tariff is in force on the day of journey",
    };
    let day = Some(day.number());
    for tap in unknown {
        let subject = format!("{}-{}", sql::hex(&tap.tap.key), tap.tap.sequence);
        let detail = format!("a tap at station {}, which no tariff has", tap.station);
        let found =
            Break { kind: "unknown_station", subject: &subject, service_day: day, detail: &detail, at };
        raise_break_in(conn, &found).await?;
    }
    let unpriced = |row: &&JourneyRow| row.status == Status::Unpriced.as_str();
    for change in changes {
        for row in change.journeys.iter().filter(unpriced) {
            let subject = change.key.to_hex();
            let detail = format!("{why} {}", row.name());
            let found =
                Break { kind: "unpriced_journey", subject: &subject, service_day: day, detail: &detail, at };
            raise_break_in(conn, &found).await?;
        }
    }
    Ok(())
}
