//! The same work as a traditional back office does it: a transaction for each tap, a statement for each row, prices and
//! deductions one by one. The same tables, keys, tariff and durability; only what is done at once differs.

use crate::{Failure, START, TARIFF};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use wavepass_fares::{
    Category, Journey, Kind, Passage, Periods, Tap as PricedTap, TapId, Tariff, Tariffs, Window, price,
};
use wavepass_gateway::keys::{BankKeys, ClearingKeys, CryptogramCheck, KeySet, TokenKey};
use wavepass_protocol::seal::Sealed;
use wavepass_protocol::tap::{Decision, Direction, Entry, OdaResult};

/// What a run came to.
pub(crate) struct Figures {
    taps: usize,
    intake_s: f64,
    close_s: f64,
    /// Taps a second, all stages together.
    pub(crate) rate: f64,
    pub(crate) charged_fen: i64,
}

impl Figures {
    pub(crate) fn json(&self) -> Value {
        let rate = |seconds: f64| (self.taps as f64 / seconds).round();
        json!({
            "taps": self.taps,
            "charged_fen": self.charged_fen,
            "taps_per_second": {
                "intake": rate(self.intake_s),
                "close_and_deduct": rate(self.close_s),
                "overall": self.rate.round(),
            },
        })
    }
}

/// What every connection works with.
struct Desk {
    clearing: Arc<dyn ClearingKeys>,
    bank: Arc<dyn BankKeys>,
    tariffs: Tariffs,
    day: wavepass_fares::ServiceDay,
}

/// A tap out of its seal.
struct TapRow<'a> {
    key_id: [u8; 8],
    sequence: i64,
    counter: i64,
    sealed: &'a [u8],
    token_key: TokenKey,
    time_ms: i64,
    station: String,
    direction: Direction,
    opened: bool,
    atc: Option<i64>,
    cryptogram: i64,
    oda: OdaResult,
}

/// The charge of one token's day.
struct Priced {
    journeys: Vec<Journey>,
    fen: i64,
}

impl Desk {
    fn open<'a>(&self, sealed: &'a [u8]) -> Result<TapRow<'a>, Failure> {
        let opened = self.clearing.unseal(&[sealed]).pop().ok_or("nothing was opened")??;
        let Entry::Tap(tap) = opened.entry() else { return Err("not a tap".into()) };
        let check = CryptogramCheck::of(&tap).ok_or("a tap without a cryptogram")?;
        let verified = self.bank.verify_cryptograms(&[check]).pop().ok_or("nothing was verified")?;
        let (token, expiry) = tap.token.zip(tap.expiry).ok_or("a tap without a token")?;
        Ok(TapRow {
            key_id: opened.header.ksn.key_id.0,
            sequence: opened.header.sequence.into(),
            counter: opened.header.ksn.counter.into(),
            sealed,
            token_key: self.clearing.token_key(&token, expiry),
            time_ms: i64::try_from(tap.time.0)?,
            station: tap.station.to_owned(),
            direction: tap.direction,
            opened: tap.decision == Decision::Open,
            atc: tap.atc.map(i64::from),
            cryptogram: verified as i64,
            oda: tap.oda_result,
        })
    }

    fn price(&self, taps: &mut [PricedTap]) -> Result<Priced, Failure> {
        let window = Window {
            taps,
            corrections: &[],
            category: Category::default(),
            days: self.day..=self.day,
            emergencies: &Periods::default(),
        };
        let priced = price(&self.tariffs, window)?;
        let fen = priced.days.iter().map(|day| day.charge.0).sum();
        Ok(Priced { journeys: priced.journeys, fen })
    }

    fn tap(&self, key_id: &[u8], row: (i64, i64, &str, i64)) -> Result<PricedTap, Failure> {
        let (sequence, time_ms, station, direction) = row;
        Ok(PricedTap {
            time_ms,
            station: self.tariffs.station(station).ok_or("a station without a tariff")?,
            kind: if direction == 0 { Kind::Entry } else { Kind::Exit },
            id: TapId { key: key_id.try_into()?, sequence: sequence.try_into()? },
            passage: Passage::Unknown,
        })
    }
}

/// Plays the taps, spread over connections by gate, then prices and deducts, spread by token.
pub(crate) async fn run(
    url: &str,
    keys: &KeySet,
    sealed: Vec<Vec<u8>>,
    connections: u32,
) -> Result<Figures, Failure> {
    let tariffs = Tariff::parse("wavepass-city.toml", TARIFF)?.compile()?;
    let day = tariffs.clock().day_of(START.0 as i64)?;
    let desk = Arc::new(Desk { clearing: keys.clearing(), bank: keys.bank(), tariffs, day });
    let mut lanes = vec![Vec::new(); connections as usize];
    let taps = sealed.len();
    for entry in sealed {
        let gate = Sealed::parse(&entry)?.header.ksn.key_id.0[7];
        lanes[usize::from(gate) % connections as usize].push(entry);
    }
    let timed = match url.starts_with("postgres") {
        true => postgres::run(url, &desk, lanes, connections).await?,
        false => sqlite::run(url, &desk, lanes, connections).await?,
    };
    let (intake_s, close_s, charged_fen) = timed;
    Ok(Figures { taps, intake_s, close_s, rate: taps as f64 / (intake_s + close_s), charged_fen })
}

/// The statements for one database; both take `$1`.
macro_rules! desk_on {
    ($module:ident, $database:ty, $begin:literal, $options:expr) => {
        mod $module {
            use super::*;
            use sqlx::pool::PoolOptions;
            use sqlx::{Pool, Row};

            type Connection = <$database as sqlx::Database>::Connection;

            pub(super) async fn run(
                url: &str,
                desk: &Arc<Desk>,
                lanes: Vec<Vec<Vec<u8>>>,
                connections: u32,
            ) -> Result<(f64, f64, i64), Failure> {
                let options = PoolOptions::<$database>::new().max_connections(connections);
                let pool: Pool<$database> = options.connect_with($options(url)?).await?;
                // How the taps of a token are found where one is looked up at a time.
                sqlx::query("CREATE INDEX taps_of_token ON taps (token_key, atc, time_ms) WHERE opened = 1")
                    .execute(&pool)
                    .await?;
                let begin = Instant::now();
                let mut running = tokio::task::JoinSet::new();
                for lane in lanes {
                    let (pool, desk) = (pool.clone(), desk.clone());
                    running.spawn(async move {
                        let mut conn = pool.acquire().await?;
                        let mut tokens = BTreeSet::new();
                        for sealed in &lane {
                            let row = desk.open(sealed)?;
                            tokens.insert(row.token_key);
                            intake(&mut conn, &row).await?;
                        }
                        Ok::<_, Failure>(tokens)
                    });
                }
                let mut tokens = BTreeSet::new();
                while let Some(done) = running.join_next().await {
                    tokens.extend(done??);
                }
                let intake_s = begin.elapsed().as_secs_f64();

                let begin = Instant::now();
                let mut lanes: BTreeMap<usize, Vec<TokenKey>> = BTreeMap::new();
                for (i, token) in tokens.into_iter().enumerate() {
                    lanes.entry(i % connections as usize).or_default().push(token);
                }
                let mut running = tokio::task::JoinSet::new();
                for lane in lanes.into_values() {
                    let (pool, desk) = (pool.clone(), desk.clone());
                    running.spawn(async move {
                        let mut conn = pool.acquire().await?;
                        let mut charged = 0;
                        for token in lane {
                            charged += charge(&mut conn, &desk, &token).await?;
                        }
                        Ok::<_, Failure>(charged)
                    });
                }
                let mut charged = 0;
                while let Some(done) = running.join_next().await {
                    charged += done??;
                }
                Ok((intake_s, begin.elapsed().as_secs_f64(), charged))
            }

            async fn intake(conn: &mut Connection, tap: &TapRow<'_>) -> Result<(), Failure> {
                let mut tx = sqlx::Connection::begin_with(conn, $begin).await?;
                let acked: Option<i64> = sqlx::query_scalar("SELECT acked FROM watermarks WHERE key_id = $1")
                    .bind(&tap.key_id[..])
                    .fetch_optional(&mut *tx)
                    .await?;
                if acked.unwrap_or(0) + 1 != tap.sequence {
                    return Err("a gap".into());
                }
                sqlx::query(
                    "INSERT INTO entries (key_id, sequence, counter, kind, received_ms, sealed) \
                     VALUES ($1, $2, $3, 1, $4, $5)",
                )
                .bind(&tap.key_id[..])
                .bind(tap.sequence)
                .bind(tap.counter)
                .bind(START.0 as i64)
                .bind(tap.sealed)
                .execute(&mut *tx)
                .await?;
                sqlx::query("SELECT state FROM tokens WHERE token_key = $1")
                    .bind(tap.token_key.as_slice())
                    .fetch_one(&mut *tx)
                    .await?;
                let clones: i64 = sqlx::query_scalar(
                    "SELECT count(*) FROM taps WHERE token_key = $1 AND atc = $2 AND opened = 1",
                )
                .bind(tap.token_key.as_slice())
                .bind(tap.atc)
                .fetch_one(&mut *tx)
                .await?;
                sqlx::query(
                    "INSERT INTO taps (key_id, sequence, token_key, time_ms, clock, service_day, station, direction, \
                     opened, atc, cryptogram, oda, withheld, gate_us, received_ms) \
                     VALUES ($1, $2, $3, $4, 2, $5, $6, $7, $8, $9, $10, $11, $12, 0, $13)",
                )
                .bind(&tap.key_id[..])
                .bind(tap.sequence)
                .bind(tap.token_key.as_slice())
                .bind(tap.time_ms)
                .bind(tap.time_ms / 86_400_000)
                .bind(&tap.station)
                .bind(tap.direction as i64)
                .bind(i64::from(tap.opened))
                .bind(tap.atc)
                .bind(tap.cryptogram)
                .bind(i64::from(tap.oda == OdaResult::Passed))
                .bind(clones.min(1))
                .bind(START.0 as i64)
                .execute(&mut *tx)
                .await?;
                sqlx::query(
                    "INSERT INTO watermarks (key_id, acked, last_counter) VALUES ($1, $2, $3) \
                     ON CONFLICT (key_id) DO UPDATE SET acked = excluded.acked, last_counter = excluded.last_counter",
                )
                .bind(&tap.key_id[..])
                .bind(tap.sequence)
                .bind(tap.counter)
                .execute(&mut *tx)
                .await?;
                Ok(tx.commit().await?)
            }

            /// Prices a token's day, books it and deducts it; gives the charge.
            async fn charge(conn: &mut Connection, desk: &Desk, token: &TokenKey) -> Result<i64, Failure> {
                let rows = sqlx::query(
                    "SELECT key_id, sequence, time_ms, station, direction FROM taps \
                     WHERE token_key = $1 AND opened = 1 AND counted = 1 ORDER BY time_ms",
                )
                .bind(token.as_slice())
                .fetch_all(&mut *conn)
                .await?;
                let mut taps = Vec::with_capacity(rows.len());
                for row in &rows {
                    let direction = number(row, 4)?;
                    let tap = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, direction);
                    taps.push(desk.tap(row.try_get(0)?, tap)?);
                }
                let priced = desk.price(&mut taps)?;
                let account: String = sqlx::query_scalar("SELECT account_id FROM tokens WHERE token_key = $1")
                    .bind(token.as_slice())
                    .fetch_one(&mut *conn)
                    .await?;
                book(conn, desk, token, &priced).await?;
                let mut tx = sqlx::Connection::begin_with(conn, $begin).await?;
                sqlx::query(
                    "INSERT INTO attempts (service_day, token_key, part, attempt_no, account_id, amount_fen, state) \
                     VALUES ($1, $2, 1, 1, $3, $4, 'sent')",
                )
                .bind(desk.day.number())
                .bind(token.as_slice())
                .bind(&account)
                .bind(priced.fen)
                .execute(&mut *tx)
                .await?;
                set_charge(&mut tx, desk, token, "sent").await?;
                tx.commit().await?;
                debit(conn, desk, token, &account, priced.fen).await?;
                let mut tx = sqlx::Connection::begin_with(conn, $begin).await?;
                sqlx::query(
                    "UPDATE attempts SET state = 'approved' WHERE service_day = $1 AND token_key = $2 AND part = 1",
                )
                .bind(desk.day.number())
                .bind(token.as_slice())
                .execute(&mut *tx)
                .await?;
                set_charge(&mut tx, desk, token, "deducted").await?;
                post(&mut tx, desk, token, 5, "deducted", [("deducted", priced.fen), ("owed", -priced.fen)])
                    .await?;
                tx.commit().await?;
                Ok(priced.fen)
            }

            async fn book(
                conn: &mut Connection,
                desk: &Desk,
                token: &TokenKey,
                priced: &Priced,
            ) -> Result<(), Failure> {
                let mut tx = sqlx::Connection::begin_with(conn, $begin).await?;
                for journey in &priced.journeys {
                    sqlx::query(
                        "INSERT INTO journeys (service_day, token_key, first_key, first_sequence, part, nominal_fen, \
                         charged_fen, status) VALUES ($1, $2, $3, $4, 1, $5, $6, $7)",
                    )
                    .bind(desk.day.number())
                    .bind(token.as_slice())
                    .bind(&journey.first.key[..])
                    .bind(i64::from(journey.first.sequence))
                    .bind(journey.nominal.0)
                    .bind(journey.charged.0)
                    .bind(journey.status.as_str())
                    .execute(&mut *tx)
                    .await?;
                }
                sqlx::query(
                    "INSERT INTO charges (service_day, token_key, part, rank, amount_fen, state) \
                     VALUES ($1, $2, 1, 0, $3, 'open')",
                )
                .bind(desk.day.number())
                .bind(token.as_slice())
                .bind(priced.fen)
                .execute(&mut *tx)
                .await?;
                post(&mut tx, desk, token, 0, "charged", [("owed", priced.fen), ("fares", -priced.fen)])
                    .await?;
                Ok(tx.commit().await?)
            }

            async fn set_charge(
                conn: &mut Connection,
                desk: &Desk,
                token: &TokenKey,
                state: &str,
            ) -> Result<(), Failure> {
                sqlx::query(
                    "UPDATE charges SET state = $1, attempts = 1 WHERE service_day = $2 AND token_key = $3 AND part = 1",
                )
                .bind(state)
                .bind(desk.day.number())
                .bind(token.as_slice())
                .execute(conn)
                .await?;
                Ok(())
            }

            async fn post(
                conn: &mut Connection,
                desk: &Desk,
                token: &TokenKey,
                event: i64,
                kind: &str,
                lines: [(&str, i64); 2],
            ) -> Result<(), Failure> {
                sqlx::query(
                    "INSERT INTO ledger_transactions (service_day, shard, part, event, kind, at_ms) \
                     VALUES ($1, $2, 1, $3, $4, $5)",
                )
                .bind(desk.day.number())
                .bind(token.as_slice())
                .bind(event)
                .bind(kind)
                .bind(START.0 as i64)
                .execute(&mut *conn)
                .await?;
                for ((account, fen), line) in lines.into_iter().zip(0_i64..) {
                    sqlx::query(
                        "INSERT INTO ledger_postings (service_day, shard, part, event, line, account, amount_fen) \
                         VALUES ($1, $2, 1, $3, $4, $5, $6)",
                    )
                    .bind(desk.day.number())
                    .bind(token.as_slice())
                    .bind(event)
                    .bind(line)
                    .bind(account)
                    .bind(fen)
                    .execute(&mut *conn)
                    .await?;
                }
                Ok(())
            }

            /// The bank's own transaction.
            async fn debit(
                conn: &mut Connection,
                desk: &Desk,
                token: &TokenKey,
                account: &str,
                fen: i64,
            ) -> Result<(), Failure> {
                let mut tx = sqlx::Connection::begin_with(conn, $begin).await?;
                let balance: i64 =
                    sqlx::query_scalar("SELECT balance_fen FROM bank_accounts WHERE account_id = $1")
                        .bind(account)
                        .fetch_one(&mut *tx)
                        .await?;
                sqlx::query("UPDATE bank_accounts SET balance_fen = $1, day_spent_fen = $2 WHERE account_id = $3")
                    .bind(balance - fen)
                    .bind(fen)
                    .bind(account)
                    .execute(&mut *tx)
                    .await?;
                for (side, amount, line) in [("account", -fen, 0_i64), ("transit", fen, 1)] {
                    sqlx::query(
                        "INSERT INTO bank_postings (account_id, entry, line, side, amount_fen, at_ms) \
                         VALUES ($1, $2, $3, $4, $5, $6)",
                    )
                    .bind(account)
                    .bind(token.as_slice())
                    .bind(line)
                    .bind(side)
                    .bind(amount)
                    .bind(START.0 as i64)
                    .execute(&mut *tx)
                    .await?;
                }
                sqlx::query(
                    "INSERT INTO bank_answers (account_id, entry, service_day, amount_fen, answer) \
                     VALUES ($1, $2, $3, $4, 'approved')",
                )
                .bind(account)
                .bind(token.as_slice())
                .bind(desk.day.number())
                .bind(fen)
                .execute(&mut *tx)
                .await?;
                Ok(tx.commit().await?)
            }

            /// A direction, which the one database keeps in eight bytes and the other in two.
            fn number(row: &<$database as sqlx::Database>::Row, column: usize) -> Result<i64, Failure> {
                match row.try_get::<i64, _>(column) {
                    Ok(number) => Ok(number),
                    Err(_) => Ok(row.try_get::<i16, _>(column)?.into()),
                }
            }
        }
    };
}

desk_on!(postgres, sqlx::Postgres, "BEGIN", str::parse::<sqlx::postgres::PgConnectOptions>);
// A writer's turn is waited for before anything is read: one that has read is refused it once another has written.
desk_on!(sqlite, sqlx::Sqlite, "BEGIN IMMEDIATE", durable);

/// How long a writer waits for its turn: SQLite gives it to whoever asks at the right moment.
const TURN: std::time::Duration = std::time::Duration::from_secs(60);

/// The pragmas of the gateway's own writer.
fn durable(url: &str) -> Result<sqlx::sqlite::SqliteConnectOptions, sqlx::Error> {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
    Ok(url
        .parse::<SqliteConnectOptions>()?
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(TURN)
        .pragma("cache_size", "-131072")
        .pragma("wal_autocheckpoint", "4000"))
}
