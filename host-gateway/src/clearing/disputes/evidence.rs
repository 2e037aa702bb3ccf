//! All that is known of a disputed journey, as one document: taps, prices, charges, the bank's answers, the ledger.
//!
//! It is read from the tables and, for how a card was proven genuine, from the sealed entries. Nothing of a token's number
//! but the last four digits is in it.

use serde::Serialize;
use utoipa::ToSchema;
use wavepass_fares::{Fen, ServiceDay, TapId};
use wavepass_protocol::tap::{Entry, OdaMethod, Reason};

use super::list::one_in;
use super::{Dispute, DisputeError, DisputeId};
use crate::bank::AttemptId;
use crate::clearing::{Clearing, ClearingError, day_number};
use crate::cli::App;
use crate::store::db::{Conn, Row, query};
use crate::store::sql;

/// All that is known of a disputed journey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Evidence {
    /// The dispute.
    pub dispute: Dispute,
    /// The journey, as each part of the charge recorded it; the last one that nothing replaced stands.
    pub journeys: Vec<JourneyEvidence>,
    /// Its taps, one or two.
    pub taps: Vec<TapEvidence>,
    /// What the rider told of a missing tap: the station.
    pub corrected_to: Option<String>,
    /// The parts of the token's charge for the day.
    pub charges: Vec<ChargeEvidence>,
    /// What the bank was asked, and what it answered.
    pub attempts: Vec<AttemptEvidence>,
    /// What was booked.
    pub ledger: Vec<LedgerEvidence>,
}

/// A journey as a part of the charge recorded it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct JourneyEvidence {
    /// The part.
    pub part: u32,
    /// The later part that replaced it.
    pub superseded_by: Option<u32>,
    /// Where it began.
    pub from: Option<String>,
    /// When, in the operator's time.
    pub entered: Option<String>,
    /// Where it ended.
    pub to: Option<String>,
    /// When.
    pub left: Option<String>,
    /// The tariff's fare.
    #[schema(value_type = i64)]
    pub nominal_fen: Fen,
    /// What was charged.
    #[schema(value_type = i64)]
    pub charged_fen: Fen,
    /// How it came out.
    pub status: String,
}

/// A tap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TapEvidence {
    /// The gate; none where no gate was commissioned under its key id.
    pub gate: Option<u32>,
    /// The key id that it was sealed under.
    pub key_id: String,
    /// Its sequence number under it.
    pub sequence: u32,
    /// The counter of the key that sealed it.
    pub ksn_counter: Option<u32>,
    /// The station.
    pub station: String,
    /// `entry`, `exit` or `single`.
    pub direction: &'static str,
    /// When, by the gate's clock, in the operator's time.
    pub time: String,
    /// How good that clock was: `unset`, `free` or `synchronised`.
    pub clock: &'static str,
    /// When it reached the host, in the operator's time.
    pub received: String,
    /// `open`, or why the gate refused.
    pub decision: &'static str,
    /// How the card was proven genuine: `fdda`, `dda`, `ecc` or `sm2`; none where the entry does not open.
    pub oda_method: Option<&'static str>,
    /// `not_done`, `passed` or `failed`.
    pub oda: &'static str,
    /// The cryptogram's check: `none`, `valid`, `invalid` or `no_key`.
    pub cryptogram: &'static str,
    /// The card's transaction counter.
    pub atc: Option<u32>,
    /// What the barrier saw: `not_passed`, `passed` or `unknown`; none where nothing was told.
    pub passage: Option<&'static str>,
    /// Whether it counts.
    pub counted: bool,
}

/// A part of the charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChargeEvidence {
    /// The part.
    pub part: u32,
    /// `fare` or `refund`.
    pub kind: String,
    /// Of a refund, the part that it gives back.
    pub of_part: Option<u32>,
    /// The day's batch that carries it.
    pub rank: i64,
    /// How much.
    #[schema(value_type = i64)]
    pub amount_fen: Fen,
    /// What is set off against another part.
    #[schema(value_type = i64)]
    pub offset_fen: Fen,
    /// Its state.
    pub state: String,
    /// What operators get of it, where the day's shares are frozen.
    pub shares: Vec<ShareEvidence>,
}

/// What an operator gets of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ShareEvidence {
    /// The operator.
    pub operator: u16,
    /// How much.
    #[schema(value_type = i64)]
    pub fen: Fen,
}

/// A request to the bank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AttemptEvidence {
    /// The part.
    pub part: u32,
    /// Its number.
    pub attempt: u32,
    /// What was asked for.
    #[schema(value_type = i64)]
    pub amount_fen: Fen,
    /// `sent`, `in_doubt`, `approved`, `declined` or `reversed`.
    pub state: String,
    /// Why the bank declined it.
    pub reason: Option<String>,
    /// What the bank's own statement says that it took; none where the statement has no such line.
    #[schema(value_type = Option<i64>)]
    pub statement_fen: Option<Fen>,
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LedgerEvidence {
    /// The part of the charge.
    pub part: u32,
    /// What was booked.
    pub kind: String,
    /// The account.
    pub account: String,
    /// Debit positive, credit negative.
    #[schema(value_type = i64)]
    pub amount_fen: Fen,
}

/// Gathers what is known of a disputed journey.
pub async fn evidence(app: &App, id: &DisputeId) -> Result<Evidence, DisputeError> {
    let clearing = Clearing::of(app).await?;
    let mut snapshot = app.store.pool().begin().await?;
    let dispute = one_in(&mut snapshot, id).await?;
    let (journeys, names) = journeys_in(&mut snapshot, &clearing, id).await?;
    let mut taps = Vec::with_capacity(names.len());
    for name in names {
        taps.extend(tap_in(&mut snapshot, app, &clearing, name).await?);
    }
    let corrected_to = query(
        "SELECT station FROM corrections WHERE token_key = ? AND service_day = ? AND first_key = ? AND first_sequence = ?",
    );
    let corrected_to = id.of_journey(corrected_to).optional(&mut *snapshot).await?;
    let charges = charges_in(&mut snapshot, id).await?;
    let mut attempts = attempts_in(&mut snapshot, id).await?;
    let ledger = ledger_in(&mut snapshot, id).await?;
    drop(snapshot);
    for attempt in &mut attempts {
        attempt.statement_fen = statement(&clearing, id, attempt).await?;
    }
    Ok(Evidence { dispute, journeys, taps, corrected_to, charges, attempts, ledger })
}

/// The journey as it was recorded, and the names of its taps.
async fn journeys_in(
    conn: &mut Conn,
    clearing: &Clearing,
    id: &DisputeId,
) -> Result<(Vec<JourneyEvidence>, Vec<TapId>), ClearingError> {
    let rows = query(
        "SELECT part, superseded_by, from_station, entered_ms, to_station, left_ms, nominal_fen, charged_fen, status, \
         second_key, second_sequence FROM journeys WHERE token_key = ? AND service_day = ? AND first_key = ? \
         AND first_sequence = ? ORDER BY part",
    );
    let rows = id.of_journey(rows).fetch_all(conn).await?;
    let time = |ms: Option<i64>| ms.map(|ms| clearing.tariffs.clock().rfc3339(ms));
    let mut names = vec![id.journey.0];
    let mut journeys = Vec::with_capacity(rows.len());
    for row in &rows {
        if let (Some(key), Some(sequence)) = (row.try_get::<Option<&[u8]>>(9)?, row.try_get(10)?) {
            let key = key.try_into().map_err(|_| ClearingError::damaged("a journey's tap"))?;
            let second = TapId { key, sequence };
            if !names.contains(&second) {
                names.push(second);
            }
        }
        journeys.push(JourneyEvidence {
            part: row.try_get(0)?,
            superseded_by: row.try_get(1)?,
            from: row.try_get(2)?,
            entered: time(row.try_get(3)?),
            to: row.try_get(4)?,
            left: time(row.try_get(5)?),
            nominal_fen: Fen(row.try_get(6)?),
            charged_fen: Fen(row.try_get(7)?),
            status: row.try_get(8)?,
        });
    }
    Ok((journeys, names))
}

async fn tap_in(
    conn: &mut Conn,
    app: &App,
    clearing: &Clearing,
    tap: TapId,
) -> Result<Option<TapEvidence>, ClearingError> {
    let row = query(
        "SELECT g.gate_id, e.counter, t.station, t.direction, t.time_ms, t.clock, t.received_ms, t.reason, t.oda, \
         t.cryptogram, t.atc, t.passage, t.counted, e.sealed FROM taps AS t \
         LEFT JOIN entries AS e ON e.key_id = t.key_id AND e.sequence = t.sequence \
         LEFT JOIN gates AS g ON g.key_id = t.key_id WHERE t.key_id = ? AND t.sequence = ?",
    )
    .bind(&tap.key)
    .bind(tap.sequence)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let word = |column: usize, words: &[&'static str]| -> Result<&'static str, ClearingError> {
        let code: usize = usize::from(row.try_get::<u16>(column)?);
        words.get(code).copied().ok_or_else(|| ClearingError::damaged("a tap"))
    };
    let decision = match row.try_get::<Option<u8>>(7)? {
        None => "open",
        Some(code) => Reason::from_code(code).map(Reason::word).unwrap_or("refused"),
    };
    let passage = match row.try_get::<Option<u8>>(11)? {
        Some(_) => Some(word(11, &["not_passed", "passed", "unknown"])?),
        None => None,
    };
    let clock = clearing.tariffs.clock();
    Ok(Some(TapEvidence {
        gate: row.try_get(0)?,
        key_id: sql::hex(&tap.key),
        sequence: tap.sequence,
        ksn_counter: row.try_get(1)?,
        station: row.try_get(2)?,
        direction: word(3, &["entry", "exit", "single"])?,
        time: clock.rfc3339(row.try_get(4)?),
        clock: word(5, &["unset", "free", "synchronised"])?,
        received: clock.rfc3339(row.try_get(6)?),
        decision,
        oda_method: row.try_get::<Option<&[u8]>>(13)?.and_then(|sealed| oda_method(app, sealed)),
        oda: word(8, &["not_done", "passed", "failed"])?,
        cryptogram: word(9, &["none", "valid", "invalid", "no_key"])?,
        atc: row.try_get(10)?,
        passage,
        counted: row.try_get::<i64>(12)? == 1,
    }))
}

/// How the gate was to prove the card genuine, as the sealed entry says.
fn oda_method(app: &App, sealed: &[u8]) -> Option<&'static str> {
    let opened = app.clearing.unseal(&[sealed]).pop()?.ok()?;
    let Entry::Tap(tap) = opened.entry() else { return None };
    Some(match tap.oda_method? {
        OdaMethod::Fdda => "fdda",
        OdaMethod::Dda => "dda",
        OdaMethod::Ecc => "ecc",
        OdaMethod::Sm2 => "sm2",
    })
}

async fn charges_in(conn: &mut Conn, id: &DisputeId) -> Result<Vec<ChargeEvidence>, ClearingError> {
    let rows = query(
        "SELECT part, kind, of_part, rank, amount_fen, offset_fen, state FROM charges \
         WHERE service_day = ? AND token_key = ? ORDER BY part",
    );
    let rows = rows.bind(id.day.number()).bind(id.token_key.as_slice()).fetch_all(&mut *conn).await?;
    let charge = |row: &Row| -> Result<ChargeEvidence, sqlx::Error> {
        Ok(ChargeEvidence {
            part: row.try_get(0)?,
            kind: row.try_get(1)?,
            of_part: row.try_get(2)?,
            rank: row.try_get(3)?,
            amount_fen: Fen(row.try_get(4)?),
            offset_fen: Fen(row.try_get(5)?),
            state: row.try_get(6)?,
            shares: Vec::new(),
        })
    };
    let mut charges: Vec<ChargeEvidence> = rows.iter().map(charge).collect::<Result<_, _>>()?;
    let shares = query(
        "SELECT part, operator, amount_fen FROM charge_shares WHERE service_day = ? AND token_key = ? \
         ORDER BY part, operator",
    );
    for row in shares.bind(id.day.number()).bind(id.token_key.as_slice()).fetch_all(conn).await? {
        let part: u32 = row.try_get(0)?;
        let share = ShareEvidence { operator: row.try_get(1)?, fen: Fen(row.try_get(2)?) };
        if let Some(charge) = charges.iter_mut().find(|charge| charge.part == part) {
            charge.shares.push(share);
        }
    }
    Ok(charges)
}

async fn attempts_in(conn: &mut Conn, id: &DisputeId) -> Result<Vec<AttemptEvidence>, ClearingError> {
    let rows = query(
        "SELECT part, attempt_no, amount_fen, state, reason FROM attempts WHERE service_day = ? AND token_key = ? \
         ORDER BY part, attempt_no",
    );
    let rows = rows.bind(id.day.number()).bind(id.token_key.as_slice()).fetch_all(conn).await?;
    let attempt = |row: &Row| -> Result<AttemptEvidence, sqlx::Error> {
        Ok(AttemptEvidence {
            part: row.try_get(0)?,
            attempt: row.try_get(1)?,
            amount_fen: Fen(row.try_get(2)?),
            state: row.try_get(3)?,
            reason: row.try_get(4)?,
            statement_fen: None,
        })
    };
    Ok(rows.iter().map(attempt).collect::<Result<_, _>>()?)
}

/// What the bank's statement says of an attempt.
async fn statement(
    clearing: &Clearing,
    id: &DisputeId,
    attempt: &AttemptEvidence,
) -> Result<Option<Fen>, ClearingError> {
    let day: ServiceDay = id.day;
    let AttemptEvidence { part, attempt, .. } = *attempt;
    let name = |attempt| AttemptId { service_day: day_number(day), token_key: id.token_key.0, part, attempt };
    // Attempts count from 1: the line after the name before this one is this one's, if it has one.
    let lines = clearing.bank.statement(day_number(day), Some(name(attempt.saturating_sub(1))), 1).await?;
    Ok(lines.into_iter().find(|line| line.id == name(attempt)).map(|line| line.amount))
}

async fn ledger_in(conn: &mut Conn, id: &DisputeId) -> Result<Vec<LedgerEvidence>, ClearingError> {
    let rows = query(
        "SELECT p.part, t.kind, p.account, p.amount_fen FROM ledger_postings AS p JOIN ledger_transactions AS t \
         ON t.service_day = p.service_day AND t.shard = p.shard AND t.part = p.part AND t.event = p.event \
         WHERE p.service_day = ? AND p.shard = ? ORDER BY p.part, p.event, p.line",
    );
    let rows = rows.bind(id.day.number()).bind(id.token_key.as_slice()).fetch_all(conn).await?;
    let line = |row: &Row| -> Result<LedgerEvidence, sqlx::Error> {
        Ok(LedgerEvidence {
            part: row.try_get(0)?,
            kind: row.try_get(1)?,
            account: row.try_get(2)?,
            amount_fen: Fen(row.try_get(3)?),
        })
    };
    Ok(rows.iter().map(line).collect::<Result<_, _>>()?)
}
