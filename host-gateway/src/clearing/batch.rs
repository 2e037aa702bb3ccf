//! Batches: a day's charges sealed under a hash, each batch chained to the one before.
//!
//! The content hash is SHA-256 over every charge of the batch in the order of (token key, part): token key (16 bytes) ‖ part
//! (8, big-endian) ‖ amount in fen (8, big-endian). The batch's hash is SHA-256 over `wavepass batch 1` ‖ previous batch's hash (32
//! bytes, zero for the first) ‖ number ‖ service day ‖ rank ‖ charges ‖ total (8 bytes each, big-endian) ‖ content hash.

use crate::store::db::{Conn, Pool, Row, query};
use serde::Serialize;
use sha2::{Digest, Sha256};
use wavepass_fares::{Fen, ServiceDay};

use super::{Clearing, ClearingError};
use crate::store::{again_if_met, sql};

/// Charges read at a time.
const PAGE: i64 = 20_000;

/// A sealed batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Batch {
    /// The day.
    #[schema(value_type = String)]
    pub service_day: ServiceDay,
    /// Its place among the day's batches: 0 for the close, then what came late.
    pub rank: i64,
    /// Its place in the chain, from 1.
    pub number: i64,
    /// How many charges it has.
    pub charges: i64,
    /// Their sum.
    #[schema(value_type = i64)]
    pub total_fen: Fen,
    /// The hash of the batch before, in hexadecimal; zeros for the first.
    pub previous_hash: String,
    /// Its own.
    pub hash: String,
}

struct Content {
    charges: i64,
    total: Fen,
    hash: [u8; 32],
}

/// Seals what a close booked. A late close that booked nothing leaves no batch and no trace.
pub(super) async fn seal(
    clearing: &Clearing,
    day: ServiceDay,
    rank: i64,
) -> Result<Option<Batch>, ClearingError> {
    // Read before the writer's turn begins: it may be much.
    let mut reader = clearing.store.pool().acquire().await?;
    let content = content(&mut reader, day, rank).await?;
    drop(reader);
    again_if_met(|| seal_once(clearing, day, rank, &content)).await
}

async fn seal_once(
    clearing: &Clearing,
    day: ServiceDay,
    rank: i64,
    content: &Content,
) -> Result<Option<Batch>, ClearingError> {
    let mut tx = clearing.store.begin().await?;
    if let Some(sealed) = find_in(&mut tx, day, rank).await? {
        return Ok(Some(sealed));
    }
    if rank > 0 && content.charges == 0 {
        query("DELETE FROM day_close WHERE service_day = ? AND rank = ?")
            .bind(day.number())
            .bind(rank)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        return Ok(None);
    }
    write_in(&mut tx, day, rank, content).await?;
    query("UPDATE day_close SET state = 'sealed' WHERE service_day = ? AND rank = ?")
        .bind(day.number())
        .bind(rank)
        .execute(&mut *tx)
        .await?;
    let batch = find_in(&mut tx, day, rank).await?;
    tx.commit().await?;
    Ok(batch)
}

/// Seals the few charges of a rank in the caller's transaction.
pub(super) async fn seal_in(conn: &mut Conn, day: ServiceDay, rank: i64) -> Result<(), ClearingError> {
    let content = content(conn, day, rank).await?;
    write_in(conn, day, rank, &content).await
}

async fn write_in(
    conn: &mut Conn,
    day: ServiceDay,
    rank: i64,
    content: &Content,
) -> Result<(), ClearingError> {
    let last = query("SELECT number, hash FROM batches ORDER BY number DESC LIMIT 1")
        .fetch_optional(&mut *conn)
        .await?;
    let (number, previous) = match last {
        Some(row) => (row.try_get::<i64>(0)? + 1, row.try_get::<Vec<u8>>(1)?),
        None => (1, vec![0; 32]),
    };
    let hash = chained(&previous, number, day, rank, content);
    query(
        "INSERT INTO batches (service_day, rank, number, charges, total_fen, previous_hash, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(day.number())
    .bind(rank)
    .bind(number)
    .bind(content.charges)
    .bind(content.total.0)
    .bind(&previous)
    .bind(&hash[..])
    .execute(conn)
    .await?;
    Ok(())
}

fn chained(previous: &[u8], number: i64, day: ServiceDay, rank: i64, content: &Content) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"wavepass batch 1");
    hash.update(previous);
    for word in [number, day.number(), rank, content.charges, content.total.0] {
        hash.update(word.to_be_bytes());
    }
    hash.update(content.hash);
    hash.finalize().into()
}

async fn content(conn: &mut Conn, day: ServiceDay, rank: i64) -> Result<Content, ClearingError> {
    let mut hash = Sha256::new();
    let (mut charges, mut total) = (0_i64, Fen::ZERO);
    let mut after: (Vec<u8>, i64) = (Vec::new(), 0);
    loop {
        let rows = query(
            "SELECT token_key, part, amount_fen FROM charges \
             WHERE service_day = ? AND rank = ? AND (token_key, part) > (?, ?) ORDER BY token_key, part LIMIT ?",
        )
        .bind(day.number())
        .bind(rank)
        .bind(&after.0)
        .bind(after.1)
        .bind(PAGE)
        .fetch_all(&mut *conn)
        .await?;
        for row in &rows {
            let (part, amount): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
            hash.update(row.try_get::<&[u8]>(0)?);
            hash.update(part.to_be_bytes());
            hash.update(amount.to_be_bytes());
            total = total.plus(Fen(amount))?;
            charges += 1;
        }
        match rows.last() {
            Some(row) if rows.len() as i64 == PAGE => after = (row.try_get(0)?, row.try_get(1)?),
            _ => return Ok(Content { charges, total, hash: hash.finalize().into() }),
        }
    }
}

fn batch(row: &Row) -> Result<Batch, ClearingError> {
    let service_day = ServiceDay::from_number(row.try_get(0)?)
        .map_err(|_| ClearingError::damaged("a batch's service day"))?;
    Ok(Batch {
        service_day,
        rank: row.try_get(1)?,
        number: row.try_get(2)?,
        charges: row.try_get(3)?,
        total_fen: Fen(row.try_get(4)?),
        previous_hash: sql::hex(row.try_get(5)?),
        hash: sql::hex(row.try_get(6)?),
    })
}

/// One batch of a day.
pub(super) async fn find_in(
    conn: &mut Conn,
    day: ServiceDay,
    rank: i64,
) -> Result<Option<Batch>, ClearingError> {
    let row = query(
        "SELECT service_day, rank, number, charges, total_fen, previous_hash, hash FROM batches \
         WHERE service_day = ? AND rank = ?",
    )
    .bind(day.number())
    .bind(rank)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(batch).transpose()
}

/// The batches of a day, by rank.
pub async fn of_day(pool: &Pool, day: ServiceDay) -> Result<Vec<Batch>, ClearingError> {
    let rows = query(
        "SELECT service_day, rank, number, charges, total_fen, previous_hash, hash FROM batches \
         WHERE service_day = ? ORDER BY rank",
    )
    .bind(day.number())
    .fetch_all(pool)
    .await?;
    rows.iter().map(batch).collect()
}

/// Computes the hashes of a day's batches again and looks whether each goes on from the one before in the chain. One
/// line of text for each that is not what it was.
pub async fn verify_batches(pool: &Pool, day: ServiceDay) -> Result<Vec<String>, ClearingError> {
    let mut found = Vec::new();
    for sealed in of_day(pool, day).await? {
        let mut conn = pool.acquire().await?;
        let content = content(&mut conn, day, sealed.rank).await?;
        drop(conn);
        let number = sealed.number;
        if (content.charges, content.total) != (sealed.charges, sealed.total_fen) {
            found.push(format!(
                "batch {number} was sealed with {} charges of {} fen, and has {} of {}",
                sealed.charges, sealed.total_fen.0, content.charges, content.total.0
            ));
        }
        let before: Option<Vec<u8>> =
            query("SELECT hash FROM batches WHERE number = ?").bind(number - 1).optional(pool).await?;
        let before = before.unwrap_or_else(|| vec![0; 32]);
        if sql::hex(&before) != sealed.previous_hash {
            found.push(format!("batch {number} does not go on from batch {}", number - 1));
        }
        if sql::hex(&chained(&before, number, day, sealed.rank, &content)) != sealed.hash {
            found.push(format!("batch {number} has another hash than it was sealed with"));
        }
    }
    Ok(found)
}
