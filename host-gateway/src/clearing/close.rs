//! Closes a service day: prices its taps in token order, books the charges and seals the batch.
//!
//! The first close has rank 0. A further one (`late`) prices the whole day again and books only what differs from the
//! charges there are: new parts, positive or negative. A day is priced from the taps of every day that its caps count
//! over; closing it may change closed days after it ([`Clearing::close_again_after`]). On PostgreSQL a day is closed in
//! parts, ranges of tokens, that several tasks and gateways share. Every chunk is one transaction that also moves its
//! part's cursor, so that a crash loses at most the chunk that was not committed, and nothing is booked twice.

use std::collections::BTreeMap;

use crate::store::db::{Conn, Row, query, write_many};
use serde::Serialize;
use wavepass_fares::{Fen, Journey, Place, Priced, ServiceDay, Status, TapId, Tariffs};
use wavepass_protocol::time::UnixMs;

use super::pricing::PricedToken;
use super::taps::{Chunk, UnknownStation};
use super::{Batch, Clearing, ClearingError, batch, token_key};
use crate::keys::TokenKey;
use crate::ledger::{Account, Entries, Event, Name};
use crate::settlement::Method;
use crate::settlement::shares::{self, Shares, Sharing};
use crate::store::shards::{Part, on_each};
use crate::store::{Break, StoreError, raise_break_in, sql};

/// How to close.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloseOptions {
    /// The present time, in milliseconds since 1970-01-01 UTC: only to refuse a day that is not over.
    pub now_ms: i64,
    /// Close although journeys may still come, or taps are not checked.
    pub force: bool,
    /// The day is closed: price it again and close what came late.
    pub late: bool,
}

/// What a close did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CloseSummary {
    /// The day.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// True if the day was closed already and nothing was to be done.
    pub already_closed: bool,
    /// The batch that was sealed, or that there is.
    pub batch: Option<Batch>,
}

/// What a day's books say of one token before a chunk is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Booked {
    /// Its fares, without what was given back.
    pub(crate) amount: Fen,
    pub(super) parts: i64,
    pub(crate) journeys: Vec<JourneyRow>,
    /// What of its fares each operator was given, where the day's shares are frozen.
    shares: Shares,
}

/// One row of `journeys`, without day, token, part and supersession.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JourneyRow {
    pub(super) first: ([u8; 8], i64),
    second: Option<([u8; 8], i64)>,
    from: Option<String>,
    entered_ms: Option<i64>,
    to: Option<String>,
    left_ms: Option<i64>,
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
    superseded: Vec<([u8; 8], i64)>,
    /// Whose the amount is; none where the day's shares are fixed.
    shares: Shares,
}

impl Clearing {
    /// Closes a day, or goes on with a close that was interrupted. A closed day stays as it is unless `late` is asked.
    pub async fn close_day(
        &self,
        day: ServiceDay,
        options: CloseOptions,
    ) -> Result<CloseSummary, ClearingError> {
        let (rank, method) = match self.begin(day, options).await? {
            Begun::Closed(batch) => {
                return Ok(CloseSummary { service_day: day, already_closed: true, batch: Some(batch) });
            }
            Begun::Open { rank, method } => (rank, method),
        };
        let of = Of { day, rank, force: options.force, sharing: self.sharing(method, day)? };
        self.close_parts(&of).await?;
        let batch = batch::seal(self, day, rank).await?;
        Ok(CloseSummary { service_day: day, already_closed: false, batch })
    }

    /// Closes what is not closed of a day's parts, several at a time; others may do the same.
    async fn close_parts(&self, of: &Of) -> Result<(), ClearingError> {
        let parts = self.open_parts(of).await?;
        on_each(parts, self.store.lanes(), |part| self.close_part(of, part)).await.map(drop)
    }

    /// Prices and books one part from where it stands, the next chunk being read while one is written.
    async fn close_part(&self, of: &Of, mut part: Part) -> Result<(), ClearingError> {
        loop {
            let mut next = Some(self.price_chunk(of, &part, &part.cursor).await?);
            let mut moved = true;
            while let Some(chunk) = next.take()
                && moved
            {
                let after = chunk.after.clone();
                if after == part.until {
                    moved = self.write_chunk(of, &part, chunk).await?;
                } else {
                    let following = self.price_chunk(of, &part, &after);
                    let (written, priced) = tokio::join!(self.write_chunk(of, &part, chunk), following);
                    moved = written?;
                    next = Some(priced?);
                }
                part.cursor = after;
            }
            if moved {
                return Ok(());
            }
            // Somebody else works on this part: from where they are.
            let parts = self.open_parts(of).await?;
            match parts.into_iter().find(|p| p.shard == part.shard) {
                Some(there) => part = there,
                None => return Ok(()),
            }
        }
    }

    /// The parts of a close that are not priced to their ends.
    async fn open_parts(&self, of: &Of) -> Result<Vec<Part>, ClearingError> {
        let rows = query(
            "SELECT shard, cursor, until FROM day_close WHERE service_day = ? AND rank = ? AND cursor <> until \
             AND state = 'pricing' ORDER BY shard",
        )
        .bind(of.day.number())
        .bind(of.rank)
        .fetch_all(self.store.pool())
        .await?;
        let part = |row: &Row| -> Result<Part, ClearingError> {
            Ok(Part { shard: row.try_get(0)?, cursor: row.try_get(1)?, until: row.try_get(2)? })
        };
        rows.iter().map(part).collect()
    }

    /// Finds or makes the rows that say how far the day's close has come.
    async fn begin(&self, day: ServiceDay, options: CloseOptions) -> Result<Begun, ClearingError> {
        let mut tx = self.store.begin().await?;
        let last = query(
            "SELECT rank, state, shares FROM day_close WHERE service_day = ? ORDER BY rank DESC, shard LIMIT 1",
        )
        .bind(day.number())
        .fetch_optional(&mut *tx)
        .await?;
        let clock = self.tariffs.clock();
        let from_ms = clock.end_ms(day) + self.tariffs.maximum_journey_ms();
        // Asked of what would begin, not of what stands or was begun: that was decided then.
        let in_time = || match options.now_ms < from_ms && !options.force {
            true => Err(ClearingError::TooEarly { day, from: clock.rfc3339(from_ms) }),
            false => Ok(()),
        };
        // The first close decides how the day's charges are shared.
        let (rank, method) = match last {
            None => {
                in_time()?;
                // Fares that were asked for early have fixed it. Whoever asks for more waits for this transaction.
                let early = shares::early_method_in(&mut tx, day).await?;
                let method = early.unwrap_or(self.settlement.method);
                // Refused before anything is begun.
                self.sharing(method, day)?;
                (0, method)
            }
            Some(row) => {
                let rank: i64 = row.try_get(0)?;
                let method = Method::stored(row.try_get(2)?)?;
                if row.try_get::<&str>(1)? == "pricing" {
                    return Ok(Begun::Open { rank, method });
                }
                if !options.late {
                    let sealed = batch::find_in(&mut tx, day, rank).await?;
                    return Ok(Begun::Closed(
                        sealed.ok_or_else(|| ClearingError::damaged("a sealed batch"))?,
                    ));
                }
                in_time()?;
                (rank + 1, method)
            }
        };
        self.not_deleted_in(&mut tx, day).await?;
        let parts = Part::of_all(self.store.is_shared());
        let (force, shares) = (options.force, method.as_str());
        let rows = parts
            .iter()
            .map(|p| (day.number(), rank, p.shard, "pricing", &p.cursor, &p.until, force, shares));
        let text = "INSERT INTO day_close (service_day, rank, shard, state, cursor, until, forced, shares) VALUES ??";
        write_many(&mut tx, text, rows).await?;
        tx.commit().await?;
        Ok(Begun::Open { rank, method })
    }

    /// How the charges of a day are shared; `None` where shares are fixed.
    pub(super) fn sharing(&self, method: Method, day: ServiceDay) -> Result<Option<Sharing>, ClearingError> {
        Sharing::of(method, &self.settlement, &self.tariffs, day)
            .map_err(|e| ClearingError::Sharing(e.into()))
    }

    /// Reads and prices the chunk after a cursor.
    async fn price_chunk(&self, of: &Of, part: &Part, cursor: &[u8]) -> Result<Ready, ClearingError> {
        let day = of.day;
        let Chunk { tokens, unknown, up_to, unchecked } = self.read_taps(day, cursor, &part.until).await?;
        if unchecked && !of.force {
            return Err(ClearingError::Unchecked { day });
        }
        let after = up_to.map_or_else(|| part.until.clone(), |key| key.as_slice().to_vec());
        let priced = self.price_tokens(day, tokens, of.sharing.as_ref()).await?;
        // Before its first close a day may have charges, too: those whose fares were asked for early.
        let booked = self.booked(day, cursor, &after).await?;
        let changes = changes(&self.tariffs, priced, booked)?;
        Ok(Ready { cursor: cursor.to_vec(), after, changes, unknown })
    }

    /// Books a chunk and moves the part's cursor over it in one transaction; false where somebody else did.
    async fn write_chunk(&self, of: &Of, part: &Part, chunk: Ready) -> Result<bool, ClearingError> {
        let Of { day, rank, .. } = *of;
        let mut tx = self.store.begin_shard(part.shard).await?;
        let moved = query(
            "UPDATE day_close SET cursor = ? WHERE service_day = ? AND rank = ? AND shard = ? AND state = 'pricing' \
             AND cursor = ?",
        )
        .bind(&chunk.after)
        .bind(day.number())
        .bind(rank)
        .bind(part.shard)
        .bind(&chunk.cursor)
        .execute(&mut *tx)
        .await?;
        if moved != 1 {
            return Ok(false);
        }
        self.write_changes_in(&mut tx, (day, rank), &chunk.changes).await?;
        write_breaks_in(&mut tx, day, self.value_ms(day), &chunk.changes, &chunk.unknown).await?;
        tx.commit().await?;
        Ok(true)
    }

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

    /// Closes late the closed days after a day that its journeys bear on, because something counts over several days.
    pub async fn close_again_after(
        &self,
        day: ServiceDay,
        force: bool,
    ) -> Result<Vec<CloseSummary>, ClearingError> {
        let numbers: Vec<i64> = query(
            "SELECT DISTINCT service_day FROM day_close WHERE service_day > ? AND service_day <= ? ORDER BY service_day",
        )
        .bind(day.number())
        .bind(self.tariffs.window(day).end().number())
        .column(self.store.pool())
        .await?;
        // They are closed: whether it was time for that was decided then.
        let options = CloseOptions { now_ms: i64::MAX, force, late: true };
        let mut closed = Vec::with_capacity(numbers.len());
        for number in numbers {
            let day = ServiceDay::from_number(number).map_err(|_| ClearingError::damaged("a closed day"))?;
            closed.push(self.close_day(day, options).await?);
        }
        Ok(closed)
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
            "SELECT token_key, CAST(SUM(CASE WHEN kind = 'fare' THEN amount_fen ELSE 0 END) AS BIGINT), MAX(part) FROM charges \
             WHERE service_day = ? AND token_key > ? AND token_key <= ? GROUP BY token_key",
        )
        .bind(day.number())
        .bind(cursor)
        .bind(last)
        .fetch_all(&mut *snapshot)
        .await?;
        for row in &charges {
            let entry = booked.entry(token_key(row.try_get(0)?)?).or_default();
            (entry.amount, entry.parts) = (Fen(row.try_get(1)?), row.try_get(2)?);
        }
        for (key, journey) in standing_journeys_in(&mut snapshot, day, cursor, last).await? {
            booked.entry(key).or_default().journeys.push(journey);
        }
        for (key, given) in shares::given_in(&mut snapshot, day, cursor, last).await? {
            booked.entry(key).or_default().shares = given;
        }
        Ok(booked)
    }
}

enum Begun {
    Closed(Batch),
    Open { rank: i64, method: Method },
}

/// What a close works on.
struct Of {
    day: ServiceDay,
    rank: i64,
    force: bool,
    sharing: Option<Sharing>,
}

/// A chunk that is priced and not yet booked.
struct Ready {
    cursor: Vec<u8>,
    after: Vec<u8>,
    changes: Vec<Change>,
    unknown: Vec<UnknownStation>,
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
    let key_id = |bytes: &[u8]| -> Result<[u8; 8], ClearingError> {
        bytes.try_into().map_err(|_| ClearingError::damaged("a journey's tap"))
    };
    let second = match (row.try_get::<Option<&[u8]>>(3)?, row.try_get::<Option<i64>>(4)?) {
        (Some(key), Some(sequence)) => Some((key_id(key)?, sequence)),
        _ => None,
    };
    let journey = JourneyRow {
        first: (key_id(row.try_get(1)?)?, row.try_get(2)?),
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
        let mut before = booked.journeys;
        before.sort_unstable();
        let amount = total.minus(booked.amount)?;
        if journeys == before && amount.is_zero() {
            return Ok(());
        }
        let superseded =
            before.iter().filter(|row| journeys.binary_search(row).is_err()).map(|row| row.first).collect();
        let journeys = journeys.into_iter().filter(|row| before.binary_search(row).is_err()).collect();
        let shares = shares::difference(&token.shares, &booked.shares)?;
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

/// Stations that the tariff lacks are the operator's to look at; the rider is not charged for them.
async fn write_breaks_in(
    conn: &mut Conn,
    day: ServiceDay,
    value_ms: i64,
    changes: &[Change],
    unknown: &[UnknownStation],
) -> Result<(), StoreError> {
    let at = UnixMs(u64::try_from(value_ms).unwrap_or(0));
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
            let detail = format!("the day's tariff lacks a station of journey {}", row.name());
            let found =
                Break { kind: "unpriced_journey", subject: &subject, service_day: day, detail: &detail, at };
            raise_break_in(conn, &found).await?;
        }
    }
    Ok(())
}
