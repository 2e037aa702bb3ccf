//! A bank of our own: class II and III e-accounts with their limits, and a double-entry ledger.
//!
//! What an account may do is in 银发〔2018〕16号 (known from secondary sources, hence [`Limits`]); counters turn
//! over on the Asia/Shanghai calendar, by the value date of a request. Every entry moves money between two sides and
//! sums to zero. An entry's answer is stored with its postings in one transaction, and a repeated entry gets it again.

mod holds;
pub mod pay_out;

use std::collections::HashMap;
use std::sync::Arc;

use crate::store::db::{Conn, One, query, read_many, write_many};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use wavepass_fares::{Fen, Overflow};

use super::{
    Answer, AttemptId, BankConnector, BankError, Completion, Decline, DeductionRequest, HoldId, HoldRequest,
    Release, Reply, StatementLine,
};
use crate::store::{Store, StoreError, again_if_met};
use holds::Held;

/// The most requests in one call: one transaction of the writer, a few milliseconds.
pub const MAX_REQUESTS: usize = 10_000;

/// The class of an e-account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Class II.
    Ii,
    /// Class III: small sums only.
    Iii,
}

impl Class {
    const fn number(self) -> i64 {
        match self {
            Self::Ii => 2,
            Self::Iii => 3,
        }
    }

    const fn from_number(number: i64) -> Option<Self> {
        match number {
            2 => Some(Self::Ii),
            3 => Some(Self::Iii),
            _ => None,
        }
    }
}

/// Whether an account can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountState {
    /// In use.
    Open,
    /// Nothing may leave it; credits are taken.
    Frozen,
    /// Gone.
    Closed,
}

impl AccountState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Frozen => "frozen",
            Self::Closed => "closed",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Open, Self::Frozen, Self::Closed].into_iter().find(|state| state.as_str() == word)
    }
}

/// What a class of accounts may do, in fen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassLimits {
    /// The most it may hold; `None`: any.
    pub balance_fen: Option<i64>,
    /// The most it may spend in a calendar day.
    pub day_fen: i64,
    /// The most it may spend in a calendar year.
    pub year_fen: i64,
}

/// The limits of both classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Of class II.
    pub class_ii: ClassLimits,
    /// Of class III.
    pub class_iii: ClassLimits,
}

impl Default for Limits {
    /// 银发〔2018〕16号, from secondary sources: 10,000 CNY a day and 200,000 a year; class III 2,000 and 50,000, holding at most 2,000.
    fn default() -> Self {
        Self {
            class_ii: ClassLimits { balance_fen: None, day_fen: 1_000_000, year_fen: 20_000_000 },
            class_iii: ClassLimits { balance_fen: Some(200_000), day_fen: 200_000, year_fen: 5_000_000 },
        }
    }
}

impl Limits {
    const fn of(&self, class: Class) -> ClassLimits {
        match class {
            Class::Ii => self.class_ii,
            Class::Iii => self.class_iii,
        }
    }
}

/// Why the bank refuses to open or fill an account.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Nobody by that name.
    #[error("there is no e-account `{0}`")]
    Unknown(String),
    /// The account is not open, or its class may not hold so much.
    #[error("e-account `{account_id}` refuses the deposit: {why}")]
    Refused {
        /// The account.
        account_id: String,
        /// Why.
        why: &'static str,
    },
    /// A sum beyond 64 bits.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for AccountError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// An account to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// Its name.
    pub account_id: String,
    /// Its class.
    pub class: Class,
}

/// Money into an account from its owner's bound class I account. Its name makes it count once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deposit {
    /// The account.
    pub account_id: String,
    /// The deposit's name, unique for the account; not 28 bytes long, which attempts are.
    pub name: String,
    /// How much; above zero.
    pub amount: Fen,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
}

/// An account as the bank keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EAccount {
    /// Its name.
    pub account_id: String,
    /// Its class.
    pub class: Class,
    /// Its state.
    pub state: AccountState,
    /// What it holds.
    pub balance: Fen,
    /// What of it is held for somebody.
    held: Vec<Held>,
    spent_on: i64,
    day_spent: Fen,
    spent_in: i64,
    year_spent: Fen,
}

/// What the name of every e-account begins with whose person was erased; no other may be opened by such a name.
pub const ERASED: &str = "erased-";

impl EAccount {
    /// Whether this is what is left of the e-account of a person who was erased.
    pub fn is_erased(&self) -> bool {
        self.state == AccountState::Closed && self.account_id.starts_with(ERASED)
    }

    /// What of the balance is held at a time, in milliseconds since 1970-01-01 UTC, and so not available.
    pub fn held(&self, now_ms: i64) -> Result<Fen, Overflow> {
        Fen::sum(self.held.iter().filter_map(|held| held.at(now_ms)))
    }
}

/// Opens accounts in the caller's transaction; one that is there already stays as it is.
pub async fn open_in(conn: &mut Conn, accounts: &[NewAccount]) -> Result<(), AccountError> {
    let text =
        "INSERT INTO bank_accounts (account_id, class, state, balance_fen) VALUES ?? ON CONFLICT DO NOTHING";
    let rows = accounts.iter().map(|a| (&a.account_id, a.class.number(), AccountState::Open.as_str(), 0));
    write_many(conn, text, rows).await?;
    Ok(())
}

/// Freezes, closes or opens an account again.
pub async fn set_state_in(
    conn: &mut Conn,
    account_id: &str,
    state: AccountState,
) -> Result<(), AccountError> {
    let changed = query("UPDATE bank_accounts SET state = ? WHERE account_id = ?")
        .bind(state.as_str())
        .bind(account_id)
        .execute(conn)
        .await?;
    if changed == 1 { Ok(()) } else { Err(AccountError::Unknown(account_id.to_owned())) }
}

/// Fills accounts from their owners' bound accounts, in the caller's transaction. A deposit whose name came before
/// moves nothing. One that is refused refuses them all.
pub async fn deposit_in(conn: &mut Conn, limits: &Limits, deposits: &[Deposit]) -> Result<(), AccountError> {
    let keys: Vec<(&str, &[u8])> =
        deposits.iter().map(|d| (d.account_id.as_str(), d.name.as_bytes())).collect();
    let mut answered = answers_in(conn, &keys).await?;
    let names: Vec<&str> = deposits.iter().map(|d| d.account_id.as_str()).collect();
    let mut book = Book::load(conn, &names).await?;
    for deposit in deposits {
        let entry = deposit.name.as_bytes();
        let key = (deposit.account_id.clone(), entry.to_vec());
        if answered.insert(key, (deposit.amount, String::new())).is_some() {
            continue;
        }
        let refused = |why| AccountError::Refused { account_id: deposit.account_id.clone(), why };
        let account = book
            .accounts
            .get_mut(&deposit.account_id)
            .ok_or_else(|| AccountError::Unknown(deposit.account_id.clone()))?;
        if account.state == AccountState::Closed {
            return Err(refused("it is closed"));
        }
        if deposit.amount <= Fen::ZERO {
            return Err(refused("a deposit is above zero"));
        }
        let balance = account.balance.plus(deposit.amount)?;
        if limits.of(account.class).balance_fen.is_some_and(|most| balance.0 > most) {
            return Err(refused("its class may not hold so much"));
        }
        account.balance = balance;
        let lines = [("account", deposit.amount), ("bound", deposit.amount.negated()?)];
        book.post(&deposit.account_id, entry, lines, deposit.at_ms);
        book.answer(&deposit.account_id, entry, 0, deposit.amount.negated()?, "approved");
    }
    book.write_in(conn).await?;
    Ok(())
}

/// Accounts by name; `None` for a name that there is not.
pub async fn find_in(conn: &mut Conn, names: &[&str]) -> Result<Vec<Option<EAccount>>, StoreError> {
    let book = Book::load(conn, names).await?;
    Ok(names.iter().map(|&name| book.accounts.get(name).cloned()).collect())
}

/// A page of accounts by name, from the one after `after`; with `erased`, those too whose persons were erased.
pub async fn page_in(
    conn: &mut Conn,
    after: &str,
    limit: u32,
    erased: bool,
) -> Result<Vec<EAccount>, StoreError> {
    let names: Vec<String> = query(
        "SELECT account_id FROM bank_accounts WHERE account_id > ?1 AND (?2 = 1 OR state <> 'closed' \
         OR substr(account_id, 1, length(?3)) <> ?3) ORDER BY account_id LIMIT ?4",
    )
    .bind(after)
    .bind(erased)
    .bind(ERASED)
    .bind(limit)
    .column(&mut *conn)
    .await?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(find_in(conn, &names).await?.into_iter().flatten().collect())
}

type Answered = HashMap<(String, Vec<u8>), (Fen, String)>;

async fn answers_in(conn: &mut Conn, keys: &[(&str, &[u8])]) -> Result<Answered, StoreError> {
    let mut answered = HashMap::new();
    let text = "SELECT a.account_id, a.entry, a.amount_fen, a.answer FROM (VALUES ??) AS v CROSS JOIN bank_answers AS a \
                WHERE a.account_id = v.column1 AND a.entry = v.column2";
    for row in read_many(conn, text, keys.iter().copied()).await? {
        let key = (row.try_get(0)?, row.try_get(1)?);
        answered.insert(key, (Fen(row.try_get(2)?), row.try_get(3)?));
    }
    Ok(answered)
}

/// Gives an e-account another name in all of the bank's books, closes it, and tells what it holds; `None`: there is none.
/// The name begins with [`ERASED`]: the books take no other.
pub async fn rename_in(conn: &mut Conn, from: &str, to: &str) -> Result<Option<Fen>, StoreError> {
    let held: Option<i64> = query("SELECT balance_fen FROM bank_accounts WHERE account_id = ?")
        .bind(from)
        .optional(&mut *conn)
        .await?;
    for text in [
        "UPDATE bank_accounts SET account_id = ?1, state = 'closed' WHERE account_id = ?2",
        "UPDATE bank_postings SET account_id = ?1 WHERE account_id = ?2",
        "UPDATE bank_answers SET account_id = ?1 WHERE account_id = ?2",
        "UPDATE bank_holds SET account_id = ?1 WHERE account_id = ?2",
    ] {
        query(text).bind(to).bind(from).execute(&mut *conn).await?;
    }
    Ok(held.map(Fen))
}

/// One side of an entry.
struct Line {
    account_id: String,
    entry: Vec<u8>,
    line: i64,
    side: &'static str,
    amount: Fen,
    at_ms: i64,
}

/// The answer to an entry.
struct Given {
    account_id: String,
    entry: Vec<u8>,
    service_day: i64,
    amount: Fen,
    answer: &'static str,
}

/// The accounts that a call touches, and what it changes.
struct Book {
    accounts: HashMap<String, EAccount>,
    postings: Vec<Line>,
    answers: Vec<Given>,
    /// Holds that deductions have used up.
    ended: Vec<(String, HoldId)>,
}

impl Book {
    async fn load(conn: &mut Conn, names: &[&str]) -> Result<Self, StoreError> {
        let mut accounts = HashMap::with_capacity(names.len());
        let text = "SELECT account_id, class, state, balance_fen, spent_on, day_spent_fen, spent_in, year_spent_fen \
             FROM bank_accounts WHERE account_id IN ??";
        for row in read_many(conn, text, names.iter().map(|&name| One(name))).await? {
            let account_id: String = row.try_get(0)?;
            let damaged = StoreError::Damaged { what: "an e-account's class or state" };
            let (Some(class), Some(state)) =
                (Class::from_number(row.try_get(1)?), AccountState::parse(row.try_get(2)?))
            else {
                return Err(damaged);
            };
            let account = EAccount {
                account_id: account_id.clone(),
                class,
                state,
                balance: Fen(row.try_get(3)?),
                held: Vec::new(),
                spent_on: row.try_get(4)?,
                day_spent: Fen(row.try_get(5)?),
                spent_in: row.try_get(6)?,
                year_spent: Fen(row.try_get(7)?),
            };
            accounts.insert(account_id, account);
        }
        holds::load_in(conn, &mut accounts).await?;
        Ok(Self { accounts, postings: Vec::new(), answers: Vec::new(), ended: Vec::new() })
    }

    fn post(&mut self, account_id: &str, entry: &[u8], lines: [(&'static str, Fen); 2], at_ms: i64) {
        for ((side, amount), line) in lines.into_iter().zip(0..) {
            let (account_id, entry) = (account_id.to_owned(), entry.to_vec());
            self.postings.push(Line { account_id, entry, line, side, amount, at_ms });
        }
    }

    fn answer(
        &mut self,
        account_id: &str,
        entry: &[u8],
        service_day: i64,
        amount: Fen,
        answer: &'static str,
    ) {
        let (account_id, entry) = (account_id.to_owned(), entry.to_vec());
        self.answers.push(Given { account_id, entry, service_day, amount, answer });
    }

    async fn write_in(self, conn: &mut Conn) -> Result<(), StoreError> {
        let postings = self.postings.iter();
        let postings =
            postings.map(|p| (&p.account_id, p.entry.as_slice(), p.line, p.side, p.amount.0, p.at_ms));
        let text = "INSERT INTO bank_postings (account_id, entry, line, side, amount_fen, at_ms) VALUES ??";
        write_many(conn, text, postings).await?;
        let answers = self.answers.iter();
        let answers =
            answers.map(|a| (&a.account_id, a.entry.as_slice(), a.service_day, a.amount.0, a.answer));
        let text = "INSERT INTO bank_answers (account_id, entry, service_day, amount_fen, answer) VALUES ??";
        write_many(conn, text, answers).await?;
        holds::end_in(conn, "completed", self.ended.iter().map(|(account, hold)| (account.as_str(), *hold)))
            .await?;
        let touched: std::collections::BTreeSet<&str> =
            self.postings.iter().map(|p| p.account_id.as_str()).collect();
        let touched = touched
            .into_iter()
            .filter_map(|name| self.accounts.get(name))
            .map(|a| (&a.account_id, a.balance.0, a.spent_on, a.day_spent.0, a.spent_in, a.year_spent.0));
        let text = "UPDATE bank_accounts SET balance_fen = v.column2, spent_on = v.column3, day_spent_fen = v.column4, \
             spent_in = v.column5, year_spent_fen = v.column6 FROM (VALUES ??) AS v WHERE account_id = v.column1";
        write_many(conn, text, touched).await?;
        Ok(())
    }
}

/// The day and the year of a value date on the calendar by which limits turn over.
fn calendar(zone: &TimeZone, value_ms: i64) -> Result<(i64, i64), BankError> {
    let instant = Timestamp::from_millisecond(value_ms).map_err(|e| BankError(e.to_string()))?;
    let date = zone.to_datetime(instant).date();
    Ok((i64::from(date.year()) * 1_000 + i64::from(date.day_of_year()), i64::from(date.year())))
}

/// Decides a debit or credit and books it on the account. Called with the account's present state, and with what of its
/// balance is held for others.
fn decide(
    account: &mut EAccount,
    limits: ClassLimits,
    amount: Fen,
    (day, year): (i64, i64),
    held: Fen,
) -> Result<(), Decline> {
    match account.state {
        AccountState::Closed => return Err(Decline::Closed),
        AccountState::Frozen if amount > Fen::ZERO => return Err(Decline::Frozen),
        _ => {}
    }
    let balance = account.balance.minus(amount).map_err(|_| Decline::OverLimit)?;
    if amount <= Fen::ZERO {
        // A credit: money comes in, and only the class's balance is in its way.
        if limits.balance_fen.is_some_and(|most| balance.0 > most) {
            return Err(Decline::OverLimit);
        }
        account.balance = balance;
        return Ok(());
    }
    let spent = |on: i64, now: i64, sum: Fen| if on == now { sum } else { Fen::ZERO }.plus(amount);
    let day_spent = spent(account.spent_on, day, account.day_spent).map_err(|_| Decline::OverLimit)?;
    let year_spent = spent(account.spent_in, year, account.year_spent).map_err(|_| Decline::OverLimit)?;
    if day_spent.0 > limits.day_fen || year_spent.0 > limits.year_fen {
        return Err(Decline::OverLimit);
    }
    if balance < held {
        return Err(Decline::NoFunds);
    }
    account.balance = balance;
    (account.spent_on, account.day_spent) = (day, day_spent);
    (account.spent_in, account.year_spent) = (year, year_spent);
    Ok(())
}

/// The embedded bank, in the gateway's own store.
#[derive(Clone)]
pub struct EmbeddedBank {
    store: Store,
    limits: Limits,
    zone: TimeZone,
    /// The bank's own time: by it, holds expire.
    now_ms: i64,
    refuses: Option<Refuses>,
}

/// Which attempts a bank under test declines, whatever the account holds. Asked once for each, before its answer is stored.
pub type Refuses = Arc<dyn Fn(&AttemptId) -> bool + Send + Sync>;

impl EmbeddedBank {
    /// A bank with these limits.
    pub fn new(store: Store, limits: Limits) -> Result<Self, BankError> {
        let zone = TimeZone::get("Asia/Shanghai").map_err(|e| BankError(e.to_string()))?;
        Ok(Self { store, limits, zone, now_ms: 0, refuses: None })
    }

    /// The same bank, declining debits of these attempts for want of funds.
    #[must_use]
    pub fn refusing(self, refuses: Refuses) -> Self {
        Self { refuses: Some(refuses), ..self }
    }

    /// The same at a time, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn at(self, now_ms: i64) -> Self {
        Self { now_ms, ..self }
    }

    /// Answers deductions, each with the hold that it completes, if any, as [`BankConnector::deduct`] and
    /// [`BankConnector::complete`] do.
    pub async fn answer(
        &self,
        requests: &[(Option<HoldId>, &DeductionRequest)],
    ) -> Result<Vec<Answer>, BankError> {
        no_more_than_limit(requests.len())?;
        Ok(again_if_met(|| self.answer_once(requests)).await?)
    }

    async fn answer_once(
        &self,
        requests: &[(Option<HoldId>, &DeductionRequest)],
    ) -> Result<Vec<Answer>, Unanswered> {
        let entries: Vec<[u8; 28]> = requests.iter().map(|(_, r)| r.id.to_bytes()).collect();
        let keys: Vec<(&str, &[u8])> = requests
            .iter()
            .zip(&entries)
            .map(|((_, r), entry)| (r.account_id.as_str(), &entry[..]))
            .collect();
        let names: Vec<&str> = keys.iter().map(|key| key.0).collect();

        let mut tx = self.store.begin().await?;
        let mut answered = answers_in(&mut tx, &keys).await?;
        let mut book = Book::load(&mut tx, &names).await?;
        let mut answers = Vec::with_capacity(requests.len());
        for ((hold, request), entry) in requests.iter().zip(&entries) {
            let key = (request.account_id.clone(), entry.to_vec());
            if let Some((amount, word)) = answered.get(&key) {
                answers.push(replayed(*amount, request.amount, word));
                continue;
            }
            let date = calendar(&self.zone, request.value_ms)?;
            let refused = request.amount > Fen::ZERO && self.refuses.as_ref().is_some_and(|r| r(&request.id));
            let decision = match book.accounts.get_mut(&request.account_id) {
                Some(_) if refused => Err(Decline::NoFunds),
                Some(account) => {
                    if let Some(hold) = hold
                        && holds::end(account, *hold)
                    {
                        book.ended.push((request.account_id.clone(), *hold));
                    }
                    let held = account.held(self.now_ms).map_err(overflow)?;
                    decide(account, self.limits.of(account.class), request.amount, date, held)
                }
                None => Err(Decline::UnknownAccount),
            };
            let (answer, word) = match decision {
                Ok(()) => {
                    let taken = request.amount.negated().map_err(overflow)?;
                    let lines = [("account", taken), ("transit", request.amount)];
                    book.post(&request.account_id, entry, lines, request.value_ms);
                    (Answer::Approved, "approved")
                }
                Err(decline) => (Answer::Declined(decline), decline.as_str()),
            };
            let service_day = i64::from(request.id.service_day);
            book.answer(&request.account_id, entry, service_day, request.amount, word);
            answered.insert(key, (request.amount, word.to_owned()));
            answers.push(answer);
        }
        book.write_in(&mut tx).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(answers)
    }

    async fn lines(
        &self,
        day: i32,
        after: Option<AttemptId>,
        limit: u32,
    ) -> Result<Vec<StatementLine>, BankError> {
        let after = after.map(|id| id.to_bytes().to_vec()).unwrap_or_default();
        // What the postings say, not what was answered: a posting that is missing is a difference.
        let rows = query(
            "SELECT a.entry, p.amount_fen FROM bank_answers AS a INDEXED BY bank_answers_by_day JOIN bank_postings AS p \
             ON p.account_id = a.account_id AND p.entry = a.entry AND p.side = 'transit' \
             WHERE a.answer = 'approved' AND a.service_day = ? AND a.entry > ? ORDER BY a.entry LIMIT ?",
        )
        .bind(day)
        .bind(after)
        .bind(limit)
        .fetch_all(self.store.pool())
        .await
        .map_err(|e| BankError(e.to_string()))?;
        rows.iter()
            .map(|row| {
                let entry: &[u8] = row.try_get(0).map_err(|e| BankError(e.to_string()))?;
                let id = AttemptId::from_bytes(entry)
                    .ok_or_else(|| BankError("an entry has no attempt".into()))?;
                let amount = Fen(row.try_get(1).map_err(|e| BankError(e.to_string()))?);
                Ok(StatementLine { id, amount })
            })
            .collect()
    }

    async fn differences(&self) -> Result<Vec<String>, BankError> {
        let entries = "SELECT 'entry ' || lower(hex(entry)) || ' sums to ' || SUM(amount_fen) AS t FROM bank_postings \
                       GROUP BY account_id, entry HAVING SUM(amount_fen) <> 0 LIMIT 100";
        let balances = "SELECT 'e-account ' || a.account_id || ' holds ' || a.balance_fen || ', its postings say ' || \
                        COALESCE((SELECT SUM(p.amount_fen) FROM bank_postings AS p \
                        WHERE p.account_id = a.account_id AND p.side = 'account'), 0) AS t FROM bank_accounts AS a \
                        WHERE a.balance_fen <> COALESCE((SELECT SUM(p.amount_fen) FROM bank_postings AS p \
                        WHERE p.account_id = a.account_id AND p.side = 'account'), 0) LIMIT 100";
        let mut found = Vec::new();
        for text in [entries, balances] {
            let lines: Vec<String> =
                query(text).column(self.store.pool()).await.map_err(|e| BankError(e.to_string()))?;
            found.extend(lines);
        }
        Ok(found)
    }
}

/// Why a piece of the bank's own work came to nothing.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Anything else.
    #[error(transparent)]
    Bank(#[from] BankError),
}

impl From<Unanswered> for BankError {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Store(error) => Self(error.to_string()),
            Unanswered::Bank(error) => error,
        }
    }
}

fn overflow(error: Overflow) -> BankError {
    BankError(error.to_string())
}

fn no_more_than_limit(requests: usize) -> Result<(), BankError> {
    match requests > MAX_REQUESTS {
        true => Err(BankError(format!("{requests} requests at once; the limit is {MAX_REQUESTS}"))),
        false => Ok(()),
    }
}

fn replayed(before: Fen, now: Fen, word: &str) -> Answer {
    match Decline::parse(word) {
        _ if before != now => Answer::Declined(Decline::Mismatch),
        Some(decline) => Answer::Declined(decline),
        None => Answer::Approved,
    }
}

impl BankConnector for EmbeddedBank {
    fn deduct<'a>(&'a self, requests: &'a [DeductionRequest]) -> Reply<'a, Vec<Answer>> {
        Box::pin(async move {
            let requests: Vec<_> = requests.iter().map(|request| (None, request)).collect();
            self.answer(&requests).await
        })
    }

    fn authorise<'a>(&'a self, requests: &'a [HoldRequest]) -> Reply<'a, Vec<Answer>> {
        Box::pin(self.hold(requests))
    }

    fn complete<'a>(&'a self, completions: &'a [Completion]) -> Reply<'a, Vec<Answer>> {
        Box::pin(async move {
            let requests: Vec<_> = completions.iter().map(|c| (Some(c.hold), &c.deduction)).collect();
            self.answer(&requests).await
        })
    }

    fn release<'a>(&'a self, releases: &'a [Release]) -> Reply<'a, ()> {
        Box::pin(self.let_go(releases))
    }

    fn statement(
        &self,
        service_day: i32,
        after: Option<AttemptId>,
        limit: u32,
    ) -> Reply<'_, Vec<StatementLine>> {
        Box::pin(self.lines(service_day, after, limit))
    }

    fn own_differences(&self) -> Reply<'_, Vec<String>> {
        Box::pin(self.differences())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{Scratch, scratch};

    /// Noon of a date in Shanghai.
    fn noon(date: &str) -> i64 {
        format!("{date}T12:00:00+08:00").parse::<Timestamp>().unwrap().as_millisecond()
    }

    pub(super) async fn bank(accounts: &[(&str, Class, i64)]) -> (Scratch, EmbeddedBank) {
        let scratch = scratch().await;
        let bank = EmbeddedBank::new(scratch.store.clone(), Limits::default()).unwrap();
        let mut tx = scratch.begin().await.unwrap();
        for &(name, class, fen) in accounts {
            open_in(&mut tx, &[NewAccount { account_id: name.into(), class }]).await.unwrap();
            if fen > 0 {
                let deposit =
                    Deposit { account_id: name.into(), name: "first".into(), amount: Fen(fen), at_ms: 0 };
                deposit_in(&mut tx, &bank.limits, &[deposit]).await.unwrap();
            }
        }
        tx.commit().await.unwrap();
        (scratch, bank)
    }

    pub(super) fn request(
        account: &str,
        token: u8,
        attempt: u32,
        fen: i64,
        value_ms: i64,
    ) -> DeductionRequest {
        let id = AttemptId { service_day: 20_780, token_key: [token; 16], part: 1, attempt };
        DeductionRequest { id, account_id: account.into(), amount: Fen(fen), value_ms }
    }

    pub(super) async fn balance(scratch: &Scratch, name: &str) -> i64 {
        let mut conn = scratch.pool().acquire().await.unwrap();
        find_in(&mut conn, &[name]).await.unwrap()[0].as_ref().unwrap().balance.0
    }

    #[tokio::test]
    async fn an_attempt_asked_twice_gets_its_answer_again_and_moves_money_once() {
        let (scratch, bank) = bank(&[("a", Class::Ii, 1_000)]).await;
        let asked = [request("a", 1, 1, 300, 0), request("a", 2, 1, 800, 0)];
        let first = bank.deduct(&asked).await.unwrap();
        assert_eq!(first, [Answer::Approved, Answer::Declined(Decline::NoFunds)]);
        // Money that came since changes no answer that was given.
        let mut tx = scratch.begin().await.unwrap();
        let more = Deposit { account_id: "a".into(), name: "second".into(), amount: Fen(900), at_ms: 0 };
        deposit_in(&mut tx, &bank.limits, &[more.clone(), more]).await.unwrap_or_else(|e| panic!("{e}"));
        tx.commit().await.unwrap();
        assert_eq!(bank.deduct(&asked).await.unwrap(), first);
        assert_eq!(
            bank.deduct(&[request("a", 1, 1, 301, 0)]).await.unwrap(),
            [Answer::Declined(Decline::Mismatch)]
        );
        assert_eq!(bank.deduct(&[request("a", 2, 2, 800, 0)]).await.unwrap(), [Answer::Approved]);
        assert_eq!(balance(&scratch, "a").await, 1_000 + 900 - 300 - 800);
        assert!(bank.own_differences().await.unwrap().is_empty());
        let lines = bank.statement(20_780, None, 10).await.unwrap();
        assert_eq!(lines.iter().map(|l| l.amount.0).collect::<Vec<_>>(), [300, 800]);
    }

    #[tokio::test]
    async fn the_same_attempt_twice_in_one_call_moves_money_once() {
        let (scratch, bank) = bank(&[("a", Class::Ii, 1_000)]).await;
        let asked = [request("a", 1, 1, 300, 0), request("a", 1, 1, 300, 0)];
        assert_eq!(bank.deduct(&asked).await.unwrap(), [Answer::Approved, Answer::Approved]);
        assert_eq!(balance(&scratch, "a").await, 700);
    }

    #[tokio::test]
    async fn no_funds_over_limit_frozen_closed_and_unknown_are_told_apart() {
        let (scratch, bank) = bank(&[
            ("poor", Class::Ii, 100),
            ("small", Class::Iii, 200_000),
            ("f", Class::Ii, 500),
            ("c", Class::Ii, 0),
        ])
        .await;
        let mut tx = scratch.begin().await.unwrap();
        set_state_in(&mut tx, "f", AccountState::Frozen).await.unwrap();
        set_state_in(&mut tx, "c", AccountState::Closed).await.unwrap();
        assert!(matches!(
            set_state_in(&mut tx, "x", AccountState::Open).await,
            Err(AccountError::Unknown(_))
        ));
        tx.commit().await.unwrap();
        let asked = [
            request("poor", 1, 1, 101, 0),
            request("small", 2, 1, 200_001, 0),
            request("f", 3, 1, 1, 0),
            request("c", 4, 1, 1, 0),
            request("x", 5, 1, 1, 0),
            request("f", 6, 1, -50, 0),
        ];
        use Decline::{Closed, Frozen, NoFunds, OverLimit, UnknownAccount};
        let answers = bank.deduct(&asked).await.unwrap();
        let declined = [NoFunds, OverLimit, Frozen, Closed, UnknownAccount].map(Answer::Declined);
        assert_eq!(answers[..5], declined);
        assert_eq!(answers[5], Answer::Approved);
        assert_eq!(balance(&scratch, "f").await, 550);
    }

    #[tokio::test]
    async fn a_days_limit_turns_over_at_midnight_in_shanghai() {
        let (_scratch, bank) = bank(&[("a", Class::Ii, 3_000_000)]).await;
        let late = "2026-11-23T23:59:59+08:00".parse::<Timestamp>().unwrap().as_millisecond();
        let asked = [
            request("a", 1, 1, 1_000_000, noon("2026-11-23")),
            request("a", 2, 1, 1, late),
            request("a", 3, 1, 1, late + 1_000),
        ];
        let over = Answer::Declined(Decline::OverLimit);
        assert_eq!(bank.deduct(&asked).await.unwrap(), [Answer::Approved, over, Answer::Approved]);
    }

    #[tokio::test]
    async fn a_class_iii_account_spends_2000_a_day_50000_a_year_and_holds_2000() {
        let (scratch, bank) = bank(&[("a", Class::Iii, 200_000)]).await;
        let mut tx = scratch.begin().await.unwrap();
        let deposit =
            |name: String, fen| Deposit { account_id: "a".into(), name, amount: Fen(fen), at_ms: 0 };
        assert!(deposit_in(&mut tx, &bank.limits, &[deposit("too much".into(), 1)]).await.is_err());
        drop(tx);
        let start = noon("2026-01-01");
        for day in 0..25_i64 {
            let asked = [request("a", 1 + day as u8, 1, 200_000, start + day * 86_400_000)];
            assert_eq!(bank.deduct(&asked).await.unwrap(), [Answer::Approved]);
            let mut tx = scratch.begin().await.unwrap();
            deposit_in(&mut tx, &bank.limits, &[deposit(format!("d{day}"), 200_000)]).await.unwrap();
            tx.commit().await.unwrap();
        }
        let asked =
            [request("a", 90, 1, 1, start + 30 * 86_400_000), request("a", 91, 1, 1, noon("2027-01-01"))];
        assert_eq!(
            bank.deduct(&asked).await.unwrap(),
            [Answer::Declined(Decline::OverLimit), Answer::Approved]
        );
        // A refund that would fill it over its limit is over the limit, too.
        let back = [request("a", 92, 1, -2, noon("2027-01-01"))];
        assert_eq!(bank.deduct(&back).await.unwrap(), [Answer::Declined(Decline::OverLimit)]);
    }
}
