//! `wavepass-gateway file …`: the files that a closed day hands out. The same batch gives the same bytes: every time in them is
//! the service day's end, and nothing is in them that changes after the batch is sealed. Formats: docs/files.md.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Deserialize;
use wavepass_fares::{Fen, ServiceDay, Status};
use wavepass_files::iso20022::{self, Agent, Collection, Creditor, DirectDebit};
use wavepass_files::{AttemptId, Currency, FileError, MessageId, Totals, table};
use zeroize::Zeroizing;

use super::{Batch, Clearing, ClearingError, batch, token_key};
use crate::cli::{App, CommandError, OutFile, Output};
use crate::store::db::{Row, query};

/// Rows read at a time.
const PAGE: i64 = 5_000;

/// Write a file of a closed day.
#[derive(Debug, Args)]
pub struct FileArgs {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// What the bank is asked for, as ISO 20022 pain.008: a batch's attempts of one number. Refunds are not in it.
    Collection {
        #[command(flatten)]
        of: Of,
        /// Which attempts: 1 for the first of each charge, then the later ones.
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        submission: u32,
    },
    /// The charges of a batch, as CSV.
    Charges(Of),
    /// The journeys that a batch's charges are made of, as CSV.
    Journeys(Of),
    /// The operators' positions of a settlement, as CSV.
    Settlement(Of),
}

#[derive(Debug, Args)]
struct Of {
    /// The day, YYYY-MM-DD.
    day: ServiceDay,
    /// The batch's or the settlement's place in its day: 0 for the first, then what came late.
    #[arg(long, default_value_t = 0, value_name = "N")]
    rank: u32,
    /// Write it there; only its owner may read it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl FileArgs {
    fn of(&self) -> &Of {
        match &self.kind {
            Kind::Collection { of, .. } | Kind::Charges(of) | Kind::Journeys(of) | Kind::Settlement(of) => of,
        }
    }

    /// The file that the command writes.
    pub fn output(&self) -> Option<&std::path::Path> {
        Some(&self.of().out)
    }
}

/// Who collects: `[collection]` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectionConfig {
    /// The collecting house's name.
    pub name: String,
    /// Its account.
    pub account: String,
    /// Its bank's BIC.
    pub bic: Option<String>,
    /// Its bank's number in China's payment system.
    pub cnaps: Option<String>,
    /// The identifier under which it collects, where the bank gave one.
    pub scheme_id: Option<String>,
}

impl CollectionConfig {
    fn creditor(&self) -> Result<Creditor, String> {
        let agent = match (&self.bic, &self.cnaps) {
            (Some(bic), None) => Agent::Bic(bic.clone()),
            (None, Some(cnaps)) => Agent::Cnaps(cnaps.clone()),
            _ => return Err("[collection] of the configuration needs either bic or cnaps".into()),
        };
        if self.name.is_empty() || self.account.is_empty() {
            return Err("[collection] of the configuration needs name and account".into());
        }
        Ok(Creditor {
            name: self.name.clone(),
            account: self.account.clone(),
            agent,
            scheme_id: self.scheme_id.clone(),
        })
    }
}

/// Why a file is not written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// No such batch.
    #[error("service day {day} has no batch {rank}")]
    NoBatch {
        /// The day.
        day: ServiceDay,
        /// The rank.
        rank: u32,
    },
    /// Nothing to write.
    #[error("service day {day} has nothing of that to write")]
    Nothing {
        /// The day.
        day: ServiceDay,
    },
    /// The configuration lacks what a file needs.
    #[error("{0}")]
    Config(String),
    /// What is stored does not fit the format.
    #[error(transparent)]
    Format(#[from] FileError),
    /// Clearing or the store.
    #[error(transparent)]
    Clearing(#[from] ClearingError),
}

impl From<sqlx::Error> for FilesError {
    fn from(error: sqlx::Error) -> Self {
        Self::Clearing(error.into())
    }
}

/// `file`.
pub async fn file(args: FileArgs, app: &App, _user: &str) -> Result<Output, CommandError> {
    let clearing = Clearing::of(app).await?;
    let of = args.of();
    let path = of.out.clone();
    let bytes = match &args.kind {
        Kind::Collection { of, submission } => {
            let config: CollectionConfig = app.config.section("collection")?;
            collection(&clearing, &config, of.day, of.rank, *submission).await?
        }
        Kind::Charges(of) => charges(&clearing, of.day, of.rank).await?,
        Kind::Journeys(of) => journeys(&clearing, of.day, of.rank).await?,
        Kind::Settlement(of) => settlement(&clearing, of.day, of.rank).await?,
    };
    let text = format!("{}: {} bytes", path.display(), bytes.len());
    Ok(Output { files: vec![OutFile { path, bytes: Zeroizing::new(bytes) }], ..Output::text(text) })
}

async fn sealed(clearing: &Clearing, day: ServiceDay, rank: u32) -> Result<Batch, FilesError> {
    let mut conn = clearing.store.pool().acquire().await?;
    batch::find_in(&mut conn, day, rank.into()).await?.ok_or(FilesError::NoBatch { day, rank })
}

fn instant(ms: i64) -> Result<Timestamp, FilesError> {
    Ok(Timestamp::from_millisecond(ms).map_err(|_| ClearingError::damaged("an instant"))?)
}

fn head(
    clearing: &Clearing,
    day: ServiceDay,
    rank: u32,
    batch: Option<i64>,
) -> Result<table::Head, FilesError> {
    let batch = batch.and_then(|number| u64::try_from(number).ok());
    Ok(table::Head { service_day: day, rank, batch, created: instant(clearing.value_ms(day))? })
}

/// A batch's attempts of one number that take something from an e-account; what comes before `FROM`, and what after.
macro_rules! of_batch {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "FROM charges AS c JOIN attempts AS a ON a.service_day = c.service_day AND a.token_key = c.token_key \
             AND a.part = c.part WHERE c.service_day = ? AND c.rank = ? AND a.attempt_no = ? AND a.amount_fen > 0 \
             AND a.account_id <> ''",
            $after
        )
    };
}

pub(super) use of_batch;

/// The attempts of one number of a batch, as the bank is asked for them.
pub async fn collection(
    clearing: &Clearing,
    config: &CollectionConfig,
    day: ServiceDay,
    rank: u32,
    submission: u32,
) -> Result<Vec<u8>, FilesError> {
    let creditor = config.creditor().map_err(FilesError::Config)?;
    let batch = sealed(clearing, day, rank).await?;
    let mut snapshot = clearing.store.pool().begin().await?;
    let (count, sum): (i64, i64) = query(of_batch!("SELECT count(*), COALESCE(SUM(a.amount_fen), 0) ", ""))
        .bind(day.number())
        .bind(rank)
        .bind(submission)
        .row(&mut *snapshot)
        .await?;
    if count == 0 {
        return Err(FilesError::Nothing { day });
    }
    let created = instant(clearing.value_ms(day))?;
    let message = Collection {
        id: MessageId { batch: batch.number.unsigned_abs(), submission },
        created,
        collect_on: day.next().date(),
        totals: Totals { count: count.unsigned_abs(), sum_minor: sum },
        creditor: creditor.clone(),
    };
    let mut writer = iso20022::Writer::new(Vec::new(), message, Currency::CNY)?;
    let mut after: (Vec<u8>, i64) = (Vec::new(), 0);
    loop {
        let rows = query(of_batch!(
            "SELECT a.token_key, a.part, a.account_id, a.amount_fen ",
            " AND (a.token_key, a.part) > (?, ?) ORDER BY a.token_key, a.part LIMIT ?"
        ))
        .bind(day.number())
        .bind(rank)
        .bind(submission)
        .bind(&after.0)
        .bind(after.1)
        .bind(PAGE)
        .fetch_all(&mut *snapshot)
        .await?;
        let Some(last) = rows.last() else { break };
        after = (last.try_get(0)?, last.try_get(1)?);
        for row in &rows {
            let key = token_key(row.try_get(0)?)?.0;
            let id =
                AttemptId { service_day: day, token_key: key, part: row.try_get(1)?, attempt: submission };
            writer.push(&DirectDebit {
                id,
                amount_minor: row.try_get(3)?,
                account: row.try_get(2)?,
                // E-accounts are the collecting bank's own.
                agent: creditor.agent.clone(),
                mandate: None,
            })?;
        }
    }
    Ok(writer.finish()?)
}

/// The charges of a batch, as it sealed them.
pub async fn charges(clearing: &Clearing, day: ServiceDay, rank: u32) -> Result<Vec<u8>, FilesError> {
    let batch = sealed(clearing, day, rank).await?;
    let mut writer = table::Writer::new(Vec::new(), &head(clearing, day, rank, Some(batch.number))?)?;
    let mut snapshot = clearing.store.pool().begin().await?;
    let mut after: (Vec<u8>, i64) = (Vec::new(), 0);
    loop {
        let rows = query(
            "SELECT token_key, part, amount_fen FROM charges WHERE service_day = ? AND rank = ? \
             AND (token_key, part) > (?, ?) ORDER BY token_key, part LIMIT ?",
        )
        .bind(day.number())
        .bind(rank)
        .bind(&after.0)
        .bind(after.1)
        .bind(PAGE)
        .fetch_all(&mut *snapshot)
        .await?;
        let Some(last) = rows.last() else { break };
        after = (last.try_get(0)?, last.try_get(1)?);
        for row in &rows {
            writer.push(&table::Charge {
                token_key: token_key(row.try_get(0)?)?.0,
                part: row.try_get(1)?,
                amount: Fen(row.try_get(2)?),
            })?;
        }
    }
    Ok(writer.finish()?)
}

/// The journeys that the charges of a batch are made of.
pub async fn journeys(clearing: &Clearing, day: ServiceDay, rank: u32) -> Result<Vec<u8>, FilesError> {
    let batch = sealed(clearing, day, rank).await?;
    let mut writer = table::Writer::new(Vec::new(), &head(clearing, day, rank, Some(batch.number))?)?;
    let mut snapshot = clearing.store.pool().begin().await?;
    super::deleted::has_journeys_in(&mut snapshot, day).await?;
    let mut after: (Vec<u8>, Vec<u8>, i64, i64) = (Vec::new(), Vec::new(), 0, 0);
    loop {
        let rows = query(
            "SELECT j.token_key, j.first_key, j.first_sequence, j.part, j.second_key, j.second_sequence, j.from_station, \
             j.entered_ms, j.to_station, j.left_ms, j.nominal_fen, j.charged_fen, j.status \
             FROM journeys AS j JOIN charges AS c ON c.service_day = j.service_day AND c.token_key = j.token_key \
             AND c.part = j.part WHERE j.service_day = ? AND c.rank = ? \
             AND (j.token_key, j.first_key, j.first_sequence, j.part) > (?, ?, ?, ?) \
             ORDER BY j.token_key, j.first_key, j.first_sequence, j.part LIMIT ?",
        )
        .bind(day.number())
        .bind(rank)
        .bind(&after.0)
        .bind(&after.1)
        .bind(after.2)
        .bind(after.3)
        .bind(PAGE)
        .fetch_all(&mut *snapshot)
        .await?;
        let Some(last) = rows.last() else { break };
        after = (last.try_get(0)?, last.try_get(1)?, last.try_get(2)?, last.try_get(3)?);
        for row in &rows {
            writer.push(&journey(row)?)?;
        }
    }
    Ok(writer.finish()?)
}

fn journey(row: &Row) -> Result<table::Journey, FilesError> {
    let tap = |key: &[u8], sequence: i64| {
        let key_id = key.try_into().map_err(|_| ClearingError::damaged("a tap's key id"))?;
        Ok::<_, FilesError>(table::TapName { key_id, sequence: sequence.unsigned_abs() })
    };
    let second = row.try_get::<Option<&[u8]>>(4)?.zip(row.try_get::<Option<i64>>(5)?);
    let word: &str = row.try_get(12)?;
    let status = Status::ALL.into_iter().find(|status| status.as_str() == word);
    Ok(table::Journey {
        token_key: token_key(row.try_get(0)?)?.0,
        part: row.try_get(3)?,
        first_tap: tap(row.try_get(1)?, row.try_get(2)?)?,
        second_tap: second.map(|(key, sequence)| tap(key, sequence)).transpose()?,
        from: row.try_get(6)?,
        entered: row.try_get::<Option<i64>>(7)?.map(instant).transpose()?,
        to: row.try_get(8)?,
        left: row.try_get::<Option<i64>>(9)?.map(instant).transpose()?,
        nominal: Fen(row.try_get(10)?),
        charged: Fen(row.try_get(11)?),
        status: status.ok_or_else(|| ClearingError::damaged("a journey's status"))?,
    })
}

/// The operators' positions of a day's settlement.
pub async fn settlement(clearing: &Clearing, day: ServiceDay, rank: u32) -> Result<Vec<u8>, FilesError> {
    let all = crate::settlement::of_day(&clearing.store, day).await?;
    let of_rank: Vec<_> = all.into_iter().filter(|s| s.rank == i64::from(rank)).collect();
    if of_rank.is_empty() {
        return Err(FilesError::Nothing { day });
    }
    let positions = of_rank.into_iter().map(|s| table::Position {
        operator: s.operator,
        deducted: s.deducted_fen,
        sponsored: s.sponsored_fen,
        covered: s.covered_fen,
        fees: s.fees_fen,
        settled: s.settled_fen,
    });
    Ok(table::write(Vec::new(), &head(clearing, day, rank, None)?, positions)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clearing::testing::{World, day};
    use crate::clearing::{CloseOptions, DeductOptions};
    use crate::settlement::{SettlementConfig, settle_day};
    use wavepass_files::table::{Charge, Head, Journey, Position, Reader};

    /// Four tokens with a journey each, of whom the last has no money, closed, deducted and settled.
    async fn closed() -> World {
        let world = World::new(4, 10_000).await;
        let taps: Vec<_> = (0..4).flat_map(|n| [(n, 8, 0, "HB", 0), (n, 8, 30, "UN", 1)]).collect();
        world.taps(1, &taps).await;
        world.tamper("UPDATE bank_accounts SET balance_fen = 0 WHERE account_id = 'a3'").await;
        let options = CloseOptions { now_ms: i64::MAX, ..CloseOptions::default() };
        world.clearing.close_day(day(), options).await.unwrap();
        world.clearing.deduct_day(day(), DeductOptions::default()).await.unwrap();
        settle_day(&world.clearing, day(), &SettlementConfig::default()).await.unwrap();
        world
    }

    fn house() -> CollectionConfig {
        CollectionConfig {
            name: "Wavepass City Transit".into(),
            account: "6222000000000017".into(),
            cnaps: Some("102331000017".into()),
            ..CollectionConfig::default()
        }
    }

    fn rows<T: table::Row>(bytes: &[u8]) -> (Head, Vec<T>) {
        let reader = Reader::new(bytes).unwrap();
        let head = *reader.head();
        (head, reader.collect::<Result<_, _>>().unwrap())
    }

    #[tokio::test]
    async fn a_batchs_files_say_what_the_books_say_and_are_the_same_each_time() {
        let world = closed().await;
        let clearing = &world.clearing;
        let bytes = charges(clearing, day(), 0).await.unwrap();
        assert_eq!(charges(clearing, day(), 0).await.unwrap(), bytes);
        let (head, charged) = rows::<Charge>(&bytes);
        assert_eq!((head.service_day, head.rank, head.batch), (day(), 0, Some(1)));
        assert_eq!(charged.len(), 4);
        let total: i64 = charged.iter().map(|c| c.amount.0).sum();
        assert_eq!(total, world.one::<i64>("SELECT total_fen FROM batches").await);

        let (_, travelled) = rows::<Journey>(&journeys(clearing, day(), 0).await.unwrap());
        assert_eq!(travelled.iter().map(|j| j.charged.0).sum::<i64>(), total);
        assert_eq!((travelled[0].from.as_deref(), travelled[0].to.as_deref()), (Some("HB"), Some("UN")));

        let (_, positions) = rows::<Position>(&settlement(clearing, day(), 0).await.unwrap());
        let settled = world.one::<i64>("SELECT settled_fen FROM settlements").await;
        assert_eq!(positions.iter().map(|p| p.settled.0).collect::<Vec<_>>(), [settled]);
    }

    #[tokio::test]
    async fn the_collection_has_every_attempt_of_its_number_under_its_name() {
        let world = closed().await;
        let house = house();
        let ask = |submission| collection(&world.clearing, &house, day(), 0, submission);
        let first = ask(1).await.unwrap();
        assert_eq!(ask(1).await.unwrap(), first);
        let reader: iso20022::Reader<Collection, _> =
            iso20022::Reader::new(&first[..], Currency::CNY).unwrap();
        assert_eq!(reader.message().id.to_string(), "WP-B1-1");
        let debits: Vec<DirectDebit> = reader.collect::<Result<_, _>>().unwrap();
        let accounts: Vec<&str> = debits.iter().map(|d| d.account.as_str()).collect();
        assert_eq!(accounts, ["a0", "a1", "a2", "a3"]);
        assert!(debits.iter().all(|d| d.id.attempt == 1 && d.id.service_day == day()));

        // The bank declined one: it alone is asked for again, in a message of its own.
        assert!(matches!(ask(2).await, Err(FilesError::Nothing { .. })));
        world.clearing.deduct_day(day(), DeductOptions { retry_declined: true }).await.unwrap();
        let second = ask(2).await.unwrap();
        let reader: iso20022::Reader<Collection, _> =
            iso20022::Reader::new(&second[..], Currency::CNY).unwrap();
        assert_eq!(reader.map(|debit| debit.unwrap().account).collect::<Vec<_>>(), ["a3"]);
    }

    #[tokio::test]
    async fn what_is_not_there_or_not_configured_is_named() {
        let world = closed().await;
        let refused = charges(&world.clearing, day(), 7).await.unwrap_err().to_string();
        assert_eq!(refused, "service day 2026-11-23 has no batch 7");
        assert!(matches!(settlement(&world.clearing, day(), 7).await, Err(FilesError::Nothing { .. })));
        let nobody = CollectionConfig::default();
        let refused = collection(&world.clearing, &nobody, day(), 0, 1).await.unwrap_err().to_string();
        assert!(refused.contains("either bic or cnaps"), "{refused}");
        let both = CollectionConfig { bic: Some("ICBKCNBJ".into()), ..house() };
        assert!(matches!(both.creditor(), Err(why) if why.contains("either bic or cnaps")));
        let unnamed = CollectionConfig { name: String::new(), ..house() };
        assert!(matches!(unnamed.creditor(), Err(why) if why.contains("name and account")));
    }
}
