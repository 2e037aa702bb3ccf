//! `wavepass-gateway file …`: the files that a closed day hands out. The same batch gives the same bytes: every time in them is
//! the service day's end, and nothing is in them that changes after the batch is sealed. Formats: docs/files.md.

pub mod api;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Deserialize;
use wavepass_fares::{Fen, ServiceDay, Status};
use wavepass_files::fixed::charges::{self as by_layout, ChargesError};
use wavepass_files::fixed::{Layout, LayoutError};
use wavepass_files::iso20022::{self, Agent, Collection, Creditor, DirectDebit, check_account};
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
    /// The charges of a batch, as CSV or by a layout.
    Charges {
        #[command(flatten)]
        of: Of,
        /// The layout of the network's file, for records of fixed width.
        #[arg(long, value_name = "LAYOUT.toml")]
        layout: Option<PathBuf>,
    },
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
            Kind::Collection { of, .. }
            | Kind::Charges { of, .. }
            | Kind::Journeys(of)
            | Kind::Settlement(of) => of,
        }
    }

    /// The layout that the command reads.
    pub fn layout(&self) -> Option<&std::path::Path> {
        match &self.kind {
            Kind::Charges { layout, .. } => layout.as_deref(),
            _ => None,
        }
    }

    /// The file that the command writes.
    pub fn output(&self) -> Option<&std::path::Path> {
        Some(&self.of().out)
    }
}

/// Who collects: `[collection]` of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
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
    /// The gateway's.
    pub fn of(app: &App) -> Result<Self, ClearingError> {
        let config = app.config.section("collection");
        config.map_err(|e| ClearingError::Outside { what: "configuration", source: e.into() })
    }

    /// Refuses what no collection could say. A house that makes none has no such section, or the account alone, by which it knows
    /// its statements.
    pub(crate) fn check(&self) -> Result<(), String> {
        let alone = Self { account: self.account.clone(), ..Self::default() };
        match self == &alone {
            true if self.account.is_empty() => Ok(()),
            true => check_account(&self.account).map_err(|fault| format!("account {fault}")),
            false => self.creditor().map(drop),
        }
    }

    fn creditor(&self) -> Result<Creditor, String> {
        if self.name.is_empty() || self.account.is_empty() {
            return Err("needs name and account, and either bic or cnaps".into());
        }
        let agent = match (&self.bic, &self.cnaps) {
            (Some(bic), None) => Agent::Bic(bic.clone()),
            (None, Some(cnaps)) => Agent::Cnaps(cnaps.clone()),
            _ => return Err("needs either bic or cnaps".into()),
        };
        let named = |what: &'static str| move |fault| format!("{what} {fault}");
        agent.check().map_err(named(if self.bic.is_some() { "bic" } else { "cnaps" }))?;
        check_account(&self.account).map_err(named("account"))?;
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
    /// The bank is not asked for all of the batch yet.
    #[error("of batch {number}, {charges} charges are not asked for yet: deduct {day} first")]
    NotDeducted {
        /// The day.
        day: ServiceDay,
        /// The batch's number.
        number: i64,
        /// How many are left.
        charges: i64,
    },
    /// The configuration lacks what a file needs.
    #[error("[collection] of the configuration {0}")]
    Config(String),
    /// The layout is none, or not one for charges.
    #[error("the layout: {0}")]
    Layout(#[from] LayoutError),
    /// More than is put together in memory at once.
    #[error(
        "batch {number} has {rows} {what}, more than {most}: stop the gateway and give the command `file`"
    )]
    TooLong {
        /// The batch's number.
        number: i64,
        /// Charges or journeys.
        what: &'static str,
        /// How many.
        rows: i64,
        /// The most.
        most: i64,
    },
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

impl From<ChargesError> for FilesError {
    fn from(error: ChargesError) -> Self {
        match error {
            ChargesError::Layout(error) => error.into(),
            ChargesError::File(error) => error.into(),
        }
    }
}

/// `file`; `layout` is the text of the layout, where one is given.
pub async fn file(args: FileArgs, app: &App, layout: Option<&str>) -> Result<Output, CommandError> {
    let clearing = Clearing::of(app).await?;
    let of = args.of();
    let path = of.out.clone();
    let bytes = match &args.kind {
        Kind::Collection { of, submission } => {
            collection(&clearing, &CollectionConfig::of(app)?, of.day, of.rank, *submission).await?
        }
        Kind::Charges { of, .. } => match layout {
            None => charges(&clearing, of.day, of.rank).await?,
            Some(text) => charges_by_layout(&clearing, &parse(text)?, of.day, of.rank).await?,
        },
        Kind::Journeys(of) => journeys(&clearing, of.day, of.rank).await?,
        Kind::Settlement(of) => settlement(&clearing, of.day, of.rank).await?,
    };
    let text = format!("{}: {} bytes", path.display(), bytes.len());
    Ok(Output { files: vec![OutFile { path, bytes: Zeroizing::new(bytes) }], ..Output::text(text) })
}

fn parse(layout: &str) -> Result<Layout, FilesError> {
    Ok(Layout::parse(layout)?)
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

/// A batch's attempts of one number that the bank is asked for and that take something; what comes before `FROM`, and what after.
macro_rules! of_batch {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "FROM charges AS c JOIN attempts AS a ON a.service_day = c.service_day AND a.token_key = c.token_key \
             AND a.part = c.part WHERE c.service_day = ? AND c.rank = ? AND a.attempt_no = ? AND a.amount_fen > 0 \
             AND a.account_id <> '' AND a.unasked IS NULL",
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
    // Of the first attempts none is missing any more once each charge was asked for.
    let charges: i64 = query(
        "SELECT count(*) FROM charges AS c INDEXED BY charges_unfinished WHERE c.service_day = ? AND c.state = 'open' \
         AND c.state IN ('open', 'sent', 'in_doubt', 'declined') AND c.rank = ? AND c.amount_fen + c.offset_fen > 0",
    )
    .bind(day.number())
    .bind(rank)
    .scalar(&mut *snapshot)
    .await?;
    if charges > 0 {
        return Err(FilesError::NotDeducted { day, number: batch.number, charges });
    }
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

/// The charges of a batch, as CSV.
pub async fn charges(clearing: &Clearing, day: ServiceDay, rank: u32) -> Result<Vec<u8>, FilesError> {
    let batch = sealed(clearing, day, rank).await?;
    let mut writer = table::Writer::new(Vec::new(), &head(clearing, day, rank, Some(batch.number))?)?;
    each_charge(clearing, day, rank, |charge| Ok(writer.push(charge)?)).await?;
    Ok(writer.finish()?)
}

/// The charges of a batch, as records of fixed width.
pub async fn charges_by_layout(
    clearing: &Clearing,
    layout: &Layout,
    day: ServiceDay,
    rank: u32,
) -> Result<Vec<u8>, FilesError> {
    let batch = sealed(clearing, day, rank).await?;
    let totals = Totals { count: batch.charges.unsigned_abs(), sum_minor: batch.total_fen.0 };
    let head = head(clearing, day, rank, Some(batch.number))?;
    let mut writer = by_layout::Writer::new(Vec::new(), layout, &head, totals)?;
    each_charge(clearing, day, rank, |charge| Ok(writer.push(charge)?)).await?;
    Ok(writer.finish()?)
}

/// Gives the charges of a batch one by one, in the order of token key and part: what of them the batch sealed.
async fn each_charge(
    clearing: &Clearing,
    day: ServiceDay,
    rank: u32,
    mut take: impl FnMut(&table::Charge) -> Result<(), FilesError>,
) -> Result<(), FilesError> {
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
        let Some(last) = rows.last() else { return Ok(()) };
        after = (last.try_get(0)?, last.try_get(1)?);
        for row in &rows {
            take(&table::Charge {
                token_key: token_key(row.try_get(0)?)?.0,
                part: row.try_get(1)?,
                amount: Fen(row.try_get(2)?),
            })?;
        }
    }
}

/// How many journeys the charges of a batch are made of.
async fn count_journeys(clearing: &Clearing, day: ServiceDay, rank: u32) -> Result<i64, FilesError> {
    let count = query(
        "SELECT count(*) FROM journeys AS j JOIN charges AS c ON c.service_day = j.service_day AND c.token_key = j.token_key \
         AND c.part = j.part WHERE j.service_day = ? AND c.rank = ?",
    );
    Ok(count.bind(day.number()).bind(rank).scalar(clearing.store.pool()).await?)
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
mod tests;
