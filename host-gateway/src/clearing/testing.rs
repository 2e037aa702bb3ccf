//! A small world for tests of money: a store with taps, tokens and accounts, the city's tariff, and a bank that can fall silent.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::store::db::{Conn, FromColumn, query, query_made, write_many};
use tokio::sync::Notify;
use wavepass_fares::{Fen, ServiceDay, Tariff};
use wavepass_protocol::time::UnixMs;

use super::deny::{Change, Debtors, DebtorsError};
use super::{
    Clearing, CloseOptions, DeductOptions, DeductSummary, app, authorisation, day_number, debts, deduct,
};
use crate::bank::embedded::{Class, Deposit, Limits, NewAccount, deposit_in, open_in};
use crate::bank::{
    Answer, AttemptId, BankConnector, BankError, Completion, DeductionRequest, EmbeddedBank, HoldRequest,
    Release, Reply, StatementLine,
};
use crate::keys::TokenKey;
use crate::settlement::{Method, Operator, SettlementConfig};
use crate::store::testing::{Scratch, scratch, scratch_on_postgres};
use crate::store::{Store, sql};
use crate::testing::{Card, House};

pub(crate) const CITY: &str = include_str!("../../tariffs/wavepass-city.toml");
/// A tariff with two operators, caps over a month, and three corrections in it. A to D costs 700 fen, half a journey 900.
pub(crate) const EVERYTHING: &str = include_str!("../../fares/tests/tariffs/everything.toml");

/// How the bank behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    Well = 0,
    /// Requests do not reach it.
    Deaf = 1,
    /// It does what is asked, and its answer is lost.
    Mute = 2,
    /// It does what is asked, and answers once it is well.
    Late = 3,
    /// It does what is asked, and its answer to the first of a batch of releases is lost.
    Partial = 4,
    /// It does what is asked once it is told to [`go`](Line::go).
    Slow = 5,
}

/// Lines of a statement that go over the line at once, however many are asked for.
pub(crate) const LINES: u32 = 2;

/// The embedded bank behind a line that can fail.
pub(crate) struct Line {
    pub(crate) bank: EmbeddedBank,
    mood: AtomicU8,
    next: Mutex<VecDeque<Mood>>,
    pub(crate) calls: AtomicUsize,
    /// The e-accounts of each call for deductions.
    pub(crate) asked: Mutex<Vec<Vec<String>>>,
    pub(crate) go: Notify,
}

impl Line {
    pub(crate) fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// How it behaves at the next calls, before it is as it was set.
    pub(crate) fn at_next(&self, moods: &[Mood]) {
        self.next.lock().unwrap().extend(moods);
    }

    /// A line to a bank over this store, at a time.
    pub(crate) fn over(store: &Store, now_ms: i64) -> Arc<Self> {
        let bank = EmbeddedBank::new(store.clone(), Limits::default()).unwrap().at(now_ms);
        let (mood, calls) = (AtomicU8::new(0), AtomicUsize::new(0));
        let (next, asked) = (Mutex::default(), Mutex::default());
        Arc::new(Self { bank, mood, next, calls, asked, go: Notify::new() })
    }

    /// Puts a call through, as far as the line lets it.
    async fn carry<T>(&self, call: Reply<'_, T>) -> Result<T, BankError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let next = self.next.lock().unwrap().pop_front();
        match next.map_or_else(|| self.mood.load(Ordering::SeqCst), |mood| mood as u8) {
            0 => call.await,
            1 => Err(BankError("the line is down".into())),
            2 => {
                call.await?;
                Err(BankError("the line broke".into()))
            }
            3 => {
                let answer = call.await;
                while self.mood.load(Ordering::SeqCst) != 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                answer
            }
            5 => {
                self.go.notified().await;
                call.await
            }
            _ => call.await,
        }
    }
}

impl BankConnector for Line {
    fn deduct<'a>(&'a self, requests: &'a [DeductionRequest]) -> Reply<'a, Vec<Answer>> {
        let accounts = requests.iter().map(|request| request.account_id.clone()).collect();
        self.asked.lock().unwrap().push(accounts);
        Box::pin(self.carry(self.bank.deduct(requests)))
    }

    fn authorise<'a>(&'a self, requests: &'a [HoldRequest]) -> Reply<'a, Vec<Answer>> {
        Box::pin(self.carry(self.bank.authorise(requests)))
    }

    fn complete<'a>(&'a self, completions: &'a [Completion]) -> Reply<'a, Vec<Answer>> {
        Box::pin(self.carry(self.bank.complete(completions)))
    }

    fn release<'a>(&'a self, releases: &'a [Release]) -> Reply<'a, Vec<bool>> {
        Box::pin(async {
            let mut ended = self.carry(self.bank.release(releases)).await?;
            if self.mood.load(Ordering::SeqCst) == Mood::Partial as u8 {
                ended[0] = false;
            }
            Ok(ended)
        })
    }

    fn statement(
        &self,
        service_day: i32,
        after: Option<AttemptId>,
        limit: u32,
    ) -> Reply<'_, Vec<StatementLine>> {
        self.bank.statement(service_day, after, limit.min(LINES))
    }

    fn own_differences(&self) -> Reply<'_, Vec<String>> {
        self.bank.own_differences()
    }
}

/// Writes deny entries without the keys that the registry seals numbers with.
struct PlainDebtors;

impl PlainDebtors {
    async fn add(conn: &mut Conn, key: &TokenKey, cause: &str, note: &str) -> Result<(), DebtorsError> {
        query(
            "INSERT INTO deny_entries (token_key, cause, sealed_token, last_four, expiry_yymm, since_ms, note, by) \
             VALUES (?, ?, x'', '0000', 3012, 0, ?, 'test') ON CONFLICT DO NOTHING",
        )
        .bind(key.as_slice())
        .bind(cause)
        .bind(note)
        .execute(conn)
        .await
        .map_err(|e| DebtorsError(e.into()))?;
        Ok(())
    }

    async fn remove(conn: &mut Conn, key: &TokenKey, cause: &str) -> Result<(), DebtorsError> {
        query("DELETE FROM deny_entries WHERE token_key = ? AND cause = ?")
            .bind(key.as_slice())
            .bind(cause)
            .execute(conn)
            .await
            .map_err(|e| DebtorsError(e.into()))?;
        Ok(())
    }
}

impl Debtors for PlainDebtors {
    fn deny<'a>(&'a self, conn: &'a mut Conn, tokens: &'a [TokenKey]) -> Change<'a> {
        Box::pin(async move {
            for key in tokens {
                Self::add(conn, key, "debt", "").await?;
            }
            Ok(())
        })
    }

    fn release<'a>(&'a self, conn: &'a mut Conn, tokens: &'a [TokenKey], _why: &'static str) -> Change<'a> {
        Box::pin(async move {
            for key in tokens {
                Self::remove(conn, key, "debt").await?;
            }
            Ok(())
        })
    }

    fn deny_written_off<'a>(
        &'a self,
        conn: &'a mut Conn,
        token: TokenKey,
        _by: &'a str,
        why: &'a str,
    ) -> Change<'a> {
        Box::pin(async move { Self::add(conn, &token, "written_off", why).await })
    }

    fn readmit<'a>(&'a self, conn: &'a mut Conn, token: TokenKey, _by: &'a str, _why: &'a str) -> Change<'a> {
        Box::pin(async move { Self::remove(conn, &token, "written_off").await })
    }

    fn distrust<'a>(&'a self, conn: &'a mut Conn, tokens: &'a [(TokenKey, &'static str)]) -> Change<'a> {
        Box::pin(async move {
            for (key, word) in tokens {
                Self::add(conn, key, "authorisation", word).await?;
            }
            Ok(())
        })
    }

    fn trust<'a>(&'a self, conn: &'a mut Conn, tokens: &'a [TokenKey]) -> Change<'a> {
        Box::pin(async move {
            for key in tokens {
                Self::remove(conn, key, "authorisation").await?;
            }
            Ok(())
        })
    }
}

pub(crate) struct World {
    pub(crate) scratch: Scratch,
    pub(crate) clearing: Clearing,
    pub(crate) line: Arc<Line>,
}

/// The service day of every test.
pub(crate) fn day() -> ServiceDay {
    "2026-11-23".parse().unwrap()
}

/// Milliseconds of a local time of that day; hours may go beyond 24.
pub(crate) fn at(hours: i64, minutes: i64) -> i64 {
    day().number() * 86_400_000 + ((hours - 8) * 60 + minutes) * 60_000
}

/// The key of the n-th token. Its account is `a<n>`.
pub(crate) fn key(n: u32) -> TokenKey {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&n.to_be_bytes());
    TokenKey(key)
}

/// Puts money into an account once.
pub(crate) async fn deposit(store: &Store, account_id: &str, fen: i64) {
    let (account_id, name) = (account_id.to_owned(), "more".to_owned());
    let mut tx = store.begin().await.unwrap();
    let more = Deposit { account_id, name, amount: Fen(fen), at_ms: 0 };
    deposit_in(&mut tx, &Limits::default(), &[more]).await.unwrap();
    tx.commit().await.unwrap();
}

/// The city's tariff with the test house's station in it.
pub(crate) fn house_tariff() -> String {
    CITY.replace("\"HB\"", "\"A1\"")
}

/// The same with three corrections a month, within four days.
pub(crate) fn correcting_tariff() -> String {
    house_tariff() + "\n[missing_tap]\ngrace_hours = 96\ncorrections_per_month = 3\n"
}

/// A house under that tariff whose one rider has tapped on [`day`] and has an account without money: the house, the card
/// and the account.
pub(crate) async fn penniless(toml: &str) -> (House, Card, String) {
    penniless_under(toml, &house_tariff()).await
}

/// The same under another tariff.
pub(crate) async fn penniless_under(toml: &str, tariff: &str) -> (House, Card, String) {
    let house = House::with(toml).await;
    let (card, account_id) = rides_penniless(&house, tariff).await;
    (house, card, account_id)
}

/// The same in a house that there is: the card and the account.
pub(crate) async fn rides_penniless(house: &House, tariff: &str) -> (Card, String) {
    super::app::publish_tariff(&house.app, "anna", "t.toml", tariff).await.unwrap();
    let card = Card::new(1);
    house.register(&card).await;
    let account_id = house.texts("SELECT account_id FROM tokens").await.remove(0);
    let mut tx = house.app.store.begin().await.unwrap();
    open_in(&mut tx, &[NewAccount { account_id: account_id.clone(), class: Class::Ii }]).await.unwrap();
    tx.commit().await.unwrap();
    let mut gate = house.gate(1).await;
    house.ingest(&[card.tap(0, 1).seal(&mut gate)]).await;
    (card, account_id)
}

/// A tap: token, hour, minute, station, direction (0 entry, 1 exit, 2 single).
pub(crate) type TapAt<'a> = (u32, i64, i64, &'a str, i64);

impl World {
    /// A world of tokens 0 to `tokens`, each with an account that holds `fen`.
    pub(crate) async fn new(tokens: u32, fen: i64) -> Self {
        Self::over(scratch().await, tokens, fen).await
    }

    /// The same on PostgreSQL, where others may stand beside it.
    pub(crate) async fn on_postgres(tokens: u32, fen: i64) -> Self {
        Self::over(scratch_on_postgres().await, tokens, fen).await
    }

    async fn over(scratch: Scratch, tokens: u32, fen: i64) -> Self {
        let line = Line::over(&scratch.store, 0);
        let tariffs = Arc::new(Tariff::parse("city", CITY).unwrap().compile().unwrap());
        let clearing = Clearing {
            store: scratch.store.clone(),
            tariffs,
            bank: line.clone(),
            debtors: Arc::new(PlainDebtors),
            settlement: Arc::new(SettlementConfig::default()),
            now_ms: at(36, 0),
            deduct_page: deduct::PAGE,
        };
        let mut tx = scratch.begin().await.unwrap();
        let names: Vec<String> = (0..tokens).map(|n| format!("a{n}")).collect();
        let accounts: Vec<NewAccount> =
            names.iter().map(|name| NewAccount { account_id: name.clone(), class: Class::Ii }).collect();
        open_in(&mut tx, &accounts).await.unwrap();
        if fen > 0 {
            let fill = |name: &String| Deposit {
                account_id: name.clone(),
                name: "first".into(),
                amount: Fen(fen),
                at_ms: 0,
            };
            let deposits: Vec<Deposit> = names.iter().map(fill).collect();
            deposit_in(&mut tx, &Limits::default(), &deposits).await.unwrap();
        }
        for (n, name) in (0..).zip(&names) {
            query(
                "INSERT INTO tokens (token_key, account_id, rank, sealed_token, last_four, expiry_yymm, psn, state, category, kind, issued_ms) \
                 VALUES (?, ?, 0, x'', '0000', 3012, 0, 'active', 'adult', 'phone', 0)",
            )
            .bind(key(n).as_slice())
            .bind(name)
            .execute(&mut *tx)
            .await
            .unwrap();
        }
        tx.commit().await.unwrap();
        Self { scratch, clearing, line }
    }

    /// The same world under [`EVERYTHING`]; operators 1 and 2 are the tariff's east and west, and the bank takes no fee.
    pub(crate) fn shared(mut self, method: Method) -> Self {
        self.clearing.tariffs = Arc::new(Tariff::parse("everything", EVERYTHING).unwrap().compile().unwrap());
        let operator = |operator, code: &str| Operator { operator, share: 1, code: Some(code.into()) };
        let operators = vec![operator(1, "east"), operator(2, "west")];
        self.clearing.settlement = Arc::new(SettlementConfig { method, fee_basis_points: 0, operators });
        self
    }

    /// Puts taps into the store as intake and risk leave them; sequence numbers go on from `first`.
    pub(crate) async fn taps(&self, first: i64, taps: &[TapAt<'_>]) {
        let mut tx = self.scratch.begin().await.unwrap();
        let rows =
            taps.iter().zip(first..).map(|(&(token, hours, minutes, station, direction), sequence)| {
                let token_key = key(token).as_slice().to_vec();
                let day = day().number();
                // Synchronised, opened, with a valid cryptogram and passed ODA; somebody passed.
                let (clock, yes) = (2_u8, 1_u8);
                (
                    &[1, 2, 3, 4, 5, 6, 7, 8],
                    sequence,
                    token_key,
                    at(hours, minutes),
                    clock,
                    day,
                    station,
                    direction,
                    yes,
                    yes,
                    yes,
                    yes,
                    yes,
                    100,
                    0,
                )
            });
        let text = "INSERT INTO taps (key_id, sequence, token_key, time_ms, clock, service_day, station, direction, opened, \
                    atc, cryptogram, oda, passage, gate_us, received_ms) VALUES ??";
        write_many(&mut tx, text, rows).await.unwrap();
        query(
            "INSERT INTO token_taps (utc_day, token_key, time_ms, key_id, sequence, clock, service_day, station, \
             direction, atc, cryptogram, passage, withheld) SELECT time_ms / 86400000, token_key, time_ms, key_id, \
             sequence, clock, service_day, station, direction, atc, cryptogram, passage, withheld FROM taps \
             WHERE sequence BETWEEN ? AND ?",
        )
        .bind(first)
        .bind(first + taps.len() as i64 - 1)
        .execute(&mut *tx)
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }

    /// Puts what a gate's emergency input did into the store: sequence number, hour, minute, on or off.
    pub(crate) async fn emergencies(&self, switches: &[(i64, i64, i64, bool)]) {
        let mut tx = self.scratch.begin().await.unwrap();
        for &(sequence, hours, minutes, active) in switches {
            query(
                "INSERT INTO emergencies (key_id, sequence, time_ms, clock, active, received_ms) \
                 VALUES (x'0102030405060708', ?, ?, 2, ?, 0)",
            )
            .bind(sequence)
            .bind(at(hours, minutes))
            .bind(active)
            .execute(&mut *tx)
            .await
            .unwrap();
        }
        tx.commit().await.unwrap();
    }

    /// Long after the day's end.
    pub(crate) const fn options(late: bool) -> CloseOptions {
        CloseOptions { now_ms: i64::MAX, force: false, late }
    }

    /// Waits until a condition holds in the store; it is an error that it does not for long.
    pub(crate) async fn until(&self, condition: &'static str) {
        for _ in 0..2_000 {
            if self.one::<i64>(condition).await == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it never came to be that {condition}");
    }

    pub(crate) async fn one<T>(&self, text: &'static str) -> T
    where
        T: for<'r> FromColumn<'r>,
    {
        query(text).scalar(self.scratch.pool()).await.unwrap()
    }

    /// Changes the store behind everybody's back.
    pub(crate) async fn tamper(&self, text: &str) {
        let mut tx = self.scratch.begin().await.unwrap();
        for statement in text.split(';') {
            query_made(statement.to_owned()).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    pub(crate) async fn balance(&self, n: u32) -> i64 {
        query("SELECT balance_fen FROM bank_accounts WHERE account_id = ?")
            .bind(format!("a{n}"))
            .scalar(self.scratch.pool())
            .await
            .unwrap()
    }

    /// Every row of money, as text: what must be the same for the same taps.
    pub(crate) async fn books(&self) -> Vec<String> {
        books(&self.scratch).await
    }

    pub(crate) fn hex(n: u32) -> String {
        sql::hex(key(n).as_slice())
    }
}

/// Every row of money of a store, as text: what must be the same for the same taps.
pub(crate) async fn books(store: &Store) -> Vec<String> {
    let mut books = Vec::new();
    for (table, columns) in [
        (
            "journeys",
            "hex(token_key), hex(first_key), first_sequence, part, from_station, to_station, charged_fen, status",
        ),
        ("charges", "hex(token_key), part, rank, kind, of_part, amount_fen, offset_fen, state, attempts"),
        ("charge_shares", "hex(token_key), part, operator, amount_fen"),
        ("set_offs", "hex(token_key), part, of_part, amount_fen"),
        ("set_off_shares", "hex(token_key), part, of_part, operator, amount_fen"),
        ("batches", "rank, number, charges, total_fen, hex(hash)"),
        ("ledger_postings", "hex(shard), part, event, line, account, amount_fen"),
        ("ledger_transactions", "hex(shard), part, event, kind, at_ms"),
        ("bank_postings", "account_id, hex(entry), line, side, amount_fen, at_ms"),
    ] {
        let text = format!("SELECT concat_ws('|', '{table}', {columns}) FROM {table} ORDER BY 1");
        let rows: Vec<String> = query_made(text).column(store.pool()).await.unwrap();
        books.extend(rows);
    }
    books
}

/// Holds that the one debt of a house whose rider could pay is asked for by nobody while the bank's files say that it was paid, and
/// by hand once a person has ended the break.
pub(crate) async fn is_left_alone_until_its_break_is_ended(house: &House, account: &str) {
    deposit(&house.app.store, account, 5_000).await;
    let app = &house.app;
    let token = house.texts("SELECT lower(hex(token_key)) FROM tokens").await.remove(0);
    let token = TokenKey::from_hex(&token).unwrap();
    let asked = debts::recover(app, "anna", token).await.unwrap();
    assert_eq!((asked.deduct, asked.contested, asked.owed_fen), (DeductSummary::default(), 1, Fen(900)));
    let again = DeductOptions { retry_declined: true };
    assert_eq!(app::deduct(app, "anna", day(), again).await.unwrap(), DeductSummary::default());
    let in_two_days = sql::ms(app.now().unwrap()) + 48 * 3_600_000;
    let due = debts::Recovery::default().due(&app.store, app.config.day_clock(), in_two_days).await.unwrap();
    assert_eq!(due, []);
    // Where the break came after the debt was found to be due, or its rider tapped again, it is left alone, too.
    let last = AttemptId { service_day: day_number(day()), token_key: token.0, part: 1, attempt: 1 };
    let mut summary = DeductSummary::default();
    let clearing = Clearing::of(app).await.unwrap();
    clearing.ask_again(day(), &[last], &mut summary).await.unwrap();
    assert_eq!(summary, DeductSummary::default());
    let clock = app.clock.driven().unwrap();
    clock.set(UnixMs(app.now().unwrap().0 + 3_600_000)).unwrap();
    let mut tx = app.store.begin().await.unwrap();
    query("INSERT INTO retaps (token_key, at_ms) VALUES (?, 0)")
        .bind(token.as_slice())
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    authorisation::run(app).await.unwrap();
    assert_eq!(house.count("SELECT count(*) FROM retaps").await, 0);
    assert_eq!(house.count("SELECT count(*) FROM attempts").await, 1);
    assert_eq!(house.count("SELECT count(*) FROM audit_log WHERE detail LIKE 'by a tap%'").await, 0);

    let breaks = "SELECT id FROM breaks WHERE closed_ms IS NULL AND kind IN ('answer_contradicts', 'statement_missing_ours')";
    let id = house.texts(breaks).await.remove(0);
    let end = crate::desk::Change::EndBreak("the bank gave it back");
    assert!(crate::desk::change(app, "anna", &id, end).await.unwrap());
    let due = debts::Recovery::default().due(&app.store, app.config.day_clock(), in_two_days).await.unwrap();
    assert_eq!(due.len(), 1);
    let asked = debts::recover(app, "anna", token).await.unwrap();
    assert_eq!((asked.deduct.approved, asked.contested, asked.owed_fen), (1, 0, Fen(0)));
}
