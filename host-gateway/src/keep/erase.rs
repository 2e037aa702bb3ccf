//! Erases a person: whatever opens to the number of one of their tokens, or says whose it was, is overwritten by nothing or
//! deleted.
//!
//! What a token's taps came to stays in the books under the token's key. A row of the token stays with its category alone,
//! by which its days are priced; entries stay as places of the gates' journals without their bytes, so that one that comes
//! again is known (rule 3). Money is finished first: whoever owes or is owed something is not erased.

use crate::bank::embedded;
use crate::cli::{App, AppError};
use crate::input::{self, TextError};
use crate::keys::{ClearingKeys, TokenKey};
use crate::risk::tapped_utc_days_in;
use crate::store::db::{Conn, One, Query, Rows, chunk, query, read_many, write_many};
use crate::store::{Audit, StoreError, audit_in, sql};
use serde::Serialize;
use std::collections::BTreeSet;
use wavepass_fares::{Fen, ServiceDay};
use wavepass_protocol::tap::Entry;

/// Tokens in one statement.
const TOKENS: usize = 200;
/// Days in one statement.
const DAYS: usize = 64;
/// Entries made unreadable in one transaction, and entries set aside looked at at a time: some tens of milliseconds.
const ENTRIES: usize = 500;

/// Why a person is not erased. The account's name is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// A name that is none.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Nobody's.
    #[error("no token and no e-account is of this name, and none was erased")]
    Unknown,
    /// Something is owed.
    #[error("{0} debts of the person's tokens are open: recover or waive them first")]
    Debts(i64),
    /// The bank has not answered.
    #[error(
        "the bank has not answered for {0} charges of the person's tokens: deduct their days until it does"
    )]
    InDoubt(i64),
    /// Something was not asked for.
    #[error("{0} charges of the person's tokens are not deducted: deduct their days first")]
    Unfinished(i64),
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
    /// The gateway.
    #[error(transparent)]
    App(#[from] AppError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for EraseError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What was erased.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Erased {
    /// True where the person was erased before, and nothing was changed now.
    pub already: bool,
    /// Tokens whose number, expiry and account are gone.
    pub tokens: u64,
    /// Gates' entries that open no more.
    pub entries: u64,
    /// Entries that had been set aside and open no more.
    pub set_aside: u64,
    /// Causes for which tokens were denied.
    pub deny_entries: u64,
    /// What the embedded bank's account holds: nobody's any more. Absent where it has none of the name.
    #[schema(value_type = Option<i64>)]
    pub left_fen: Option<Fen>,
}

/// By what an erased account's name is found, which is kept nowhere.
pub(crate) fn index_of(keys: &dyn ClearingKeys, account: &str) -> [u8; 16] {
    keys.index_of("erased account", account.as_bytes())
}

/// Erases the person of an account. Done again, it says so and changes nothing. Killed on the way, it is done again.
pub async fn erase(app: &App, user: &str, account: &str) -> Result<Erased, EraseError> {
    input::no_number("an account's name", account)?;
    app.now()?;
    let index = index_of(&*app.clearing, account);
    let mut conn = app.store.pool().acquire().await?;
    let tokens = tokens_in(&mut conn, account).await?;
    if tokens.is_empty() && !has_account_in(&mut conn, account).await? {
        let erased: i64 = query("SELECT count(*) FROM erasures WHERE account_index = ?")
            .bind(&index[..])
            .scalar(&mut conn)
            .await?;
        let already = Erased { already: true, ..Erased::default() };
        return if erased > 0 { Ok(already) } else { Err(EraseError::Unknown) };
    }
    refuse_in(&mut conn, &tokens).await?;
    drop(conn);
    let mut erased = Erased::default();
    loop {
        let mut tx = app.store.begin().await?;
        let forgotten = forget_entries_in(&mut tx, &tokens).await?;
        tx.commit().await?;
        erased.entries += forgotten;
        if forgotten == 0 {
            break;
        }
    }
    erased.set_aside = forget_set_aside(app, &tokens).await?;
    finish(app, user, (account, &index), &mut erased).await?;
    app.publish_lists().await?;
    app.store.fold().await?;
    Ok(erased)
}

async fn tokens_in(conn: &mut Conn, account: &str) -> Result<Vec<TokenKey>, EraseError> {
    let keys: Vec<Vec<u8>> = query("SELECT token_key FROM tokens WHERE account_id = ? ORDER BY token_key")
        .bind(account)
        .column(conn)
        .await?;
    let key = |bytes: &Vec<u8>| {
        TokenKey::from_slice(bytes).ok_or(EraseError::Store(StoreError::Damaged { what: "token key" }))
    };
    keys.iter().map(key).collect()
}

async fn has_account_in(conn: &mut Conn, account: &str) -> Result<bool, EraseError> {
    let names: i64 =
        query("SELECT count(*) FROM bank_accounts WHERE account_id = ?").bind(account).scalar(conn).await?;
    Ok(names > 0)
}

fn of<'a>(query: Query<'static>, tokens: &'a [TokenKey]) -> Query<'a> {
    query.bind_list(tokens.iter().map(|key| key.as_slice()))
}

/// What counts what stands in the way, and how it is named.
type Check = (&'static str, fn(i64) -> EraseError);

const CHECKS: [Check; 6] = [
    ("SELECT count(*) FROM debts WHERE state = 'open' AND token_key IN ??", EraseError::Debts),
    (
        "SELECT count(*) FROM charges AS c INDEXED BY charges_unfinished \
         WHERE c.state IN ('open', 'sent', 'in_doubt', 'declined') AND c.state IN ('sent', 'in_doubt') \
         AND c.token_key IN ??",
        EraseError::InDoubt,
    ),
    (
        "SELECT count(*) FROM charges AS c INDEXED BY charges_unfinished \
         WHERE c.state IN ('open', 'sent', 'in_doubt', 'declined') AND c.token_key IN ??",
        EraseError::Unfinished,
    ),
    ("SELECT count(*) FROM disputes WHERE state = 'open' AND token_key IN ??", EraseError::Disputes),
    (
        "SELECT count(*) FROM holds WHERE state IN ('asked', 'in_doubt', 'active') AND token_key IN ??",
        EraseError::Holds,
    ),
    (
        "SELECT count(DISTINCT t.token_key) FROM arrivals AS a CROSS JOIN taps AS t WHERE t.key_id = a.key_id \
         AND t.sequence BETWEEN a.from_sequence AND a.upto_sequence AND t.opened = 1 AND t.token_key IN ??",
        EraseError::Unchecked,
    ),
];

async fn refuse_in(conn: &mut Conn, tokens: &[TokenKey]) -> Result<(), EraseError> {
    let days = tapped_utc_days_in(conn).await?;
    for tokens in tokens.chunks(TOKENS) {
        for (text, refusal) in CHECKS {
            let found: i64 = of(query(text), tokens).scalar(&mut *conn).await?;
            if found > 0 {
                return Err(refusal(found));
            }
        }
        let text = "SELECT min(t.service_day) FROM (VALUES ??) AS v CROSS JOIN token_taps AS i CROSS JOIN taps AS t \
                    WHERE i.utc_day = v.column1 AND i.token_key = v.column2 AND t.key_id = i.key_id \
                    AND t.sequence = i.sequence AND t.service_day IS NOT NULL AND (NOT EXISTS (SELECT 1 FROM batches AS b \
                    WHERE b.service_day = t.service_day AND b.rank = 0) OR EXISTS (SELECT 1 FROM day_close AS d \
                    WHERE d.service_day = t.service_day AND d.state = 'pricing'))";
        let found = read_many(conn, text, on_days(&days, tokens)).await?;
        let found = found.iter().map(|row| row.try_get::<Option<i64>>(0)).collect::<Result<Vec<_>, _>>()?;
        let open = found.into_iter().flatten().min();
        if let Some(day) = open {
            let day = ServiceDay::from_number(day);
            return Err(EraseError::DayOpen(
                day.map_err(|_| StoreError::Damaged { what: "service day of a tap" })?,
            ));
        }
    }
    Ok(())
}

/// Every token on every UTC day with taps: how a token's opened taps are found.
fn on_days<'a>(days: &'a [i64], tokens: &'a [TokenKey]) -> impl Iterator<Item = (i64, &'a [u8])> {
    days.iter().flat_map(move |day| tokens.iter().map(move |token| (*day, token.as_slice())))
}

/// Entries of tokens' opened taps that still open, so many at most of each `VALUES`.
const FORGET_OPENED: &str = "UPDATE entries SET sealed = x'' WHERE (key_id, sequence) IN (SELECT i.key_id, i.sequence \
    FROM (VALUES ??) AS v CROSS JOIN token_taps AS i CROSS JOIN entries AS e WHERE i.utc_day = v.column1 \
    AND i.token_key = v.column2 AND e.key_id = i.key_id AND e.sequence = i.sequence AND length(e.sealed) > 0 LIMIT ?)";
/// The same of their refused taps.
const FORGET_REFUSED: &str = "UPDATE entries SET sealed = x'' WHERE (key_id, sequence) IN (SELECT t.key_id, t.sequence \
    FROM taps AS t INDEXED BY taps_refused CROSS JOIN entries AS e WHERE t.opened = 0 AND t.token_key IN ?? \
    AND e.key_id = t.key_id AND e.sequence = t.sequence AND length(e.sealed) > 0 LIMIT ?)";

/// Makes some entries unreadable; how many. None: there are no more.
async fn forget_entries_in(conn: &mut Conn, tokens: &[TokenKey]) -> Result<u64, EraseError> {
    let days = tapped_utc_days_in(conn).await?;
    let places: Vec<(i64, &[u8])> = on_days(&days, tokens).collect();
    for places in places.chunks(chunk(2)) {
        let forget = query(FORGET_OPENED).bind_rows(Rows::of(places.iter().copied())).bind(ENTRIES as i64);
        let forgotten = forget.execute(&mut *conn).await?;
        if forgotten > 0 {
            return Ok(forgotten);
        }
    }
    for tokens in tokens.chunks(TOKENS) {
        let forgotten = of(query(FORGET_REFUSED), tokens).bind(ENTRIES as i64).execute(&mut *conn).await?;
        if forgotten > 0 {
            return Ok(forgotten);
        }
    }
    Ok(0)
}

/// Makes those entries unreadable that had been set aside and open to one of the tokens. What never opened is nobody's as
/// far as anyone can tell.
async fn forget_set_aside(app: &App, tokens: &[TokenKey]) -> Result<u64, EraseError> {
    let tokens: BTreeSet<TokenKey> = tokens.iter().copied().collect();
    let (mut after, mut forgotten) = (String::new(), 0);
    loop {
        let page: Vec<(String, Vec<u8>)> =
            query("SELECT id, sealed FROM set_aside WHERE id > ? AND length(sealed) > 0 ORDER BY id LIMIT ?")
                .bind(after.as_str())
                .bind(ENTRIES as i64)
                .rows(app.store.pool())
                .await?;
        let Some((last, _)) = page.last() else { return Ok(forgotten) };
        after.clone_from(last);
        let theirs = theirs(&*app.clearing, &page, &tokens);
        if !theirs.is_empty() {
            let mut tx = app.store.begin().await?;
            let text = "UPDATE set_aside SET sealed = x'' WHERE id IN ??";
            forgotten += write_many(&mut tx, text, theirs.into_iter().map(One)).await?;
            tx.commit().await?;
        }
    }
}

/// Of entries that were set aside, those that open to one of the tokens.
fn theirs<'a>(
    keys: &dyn ClearingKeys,
    page: &'a [(String, Vec<u8>)],
    tokens: &BTreeSet<TokenKey>,
) -> Vec<&'a str> {
    let sealed: Vec<&[u8]> = page.iter().map(|(_, sealed)| sealed.as_slice()).collect();
    let opened = keys.unseal(&sealed);
    let is_theirs = |opened: &Result<crate::keys::Opened, _>| {
        let Ok(opened) = opened else { return false };
        let Entry::Tap(tap) = opened.entry() else { return false };
        let card = tap.token.zip(tap.expiry);
        card.is_some_and(|(token, expiry)| tokens.contains(&keys.token_key(&token, expiry)))
    };
    page.iter().zip(&opened).filter(|(_, opened)| is_theirs(opened)).map(|((id, _), _)| id.as_str()).collect()
}

/// Overwrites what says whose the tokens were, in one transaction that looks once more whether it may.
async fn finish(
    app: &App,
    user: &str,
    (account, index): (&str, &[u8; 16]),
    erased: &mut Erased,
) -> Result<(), EraseError> {
    let at = app.now()?;
    let name = another_name()?;
    let mut tx = app.store.begin().await?;
    let tokens = tokens_in(&mut tx, account).await?;
    refuse_in(&mut tx, &tokens).await?;
    // What came meanwhile; a day's taps of one person are few.
    loop {
        let forgotten = forget_entries_in(&mut tx, &tokens).await?;
        erased.entries += forgotten;
        if forgotten == 0 {
            break;
        }
    }
    let days: Vec<i64> =
        query("SELECT DISTINCT service_day FROM batches ORDER BY service_day").column(&mut *tx).await?;
    for tokens in tokens.chunks(TOKENS) {
        let unknown = query(
            "UPDATE tokens SET account_id = '', rank = 0, sealed_token = x'', last_four = '****', expiry_yymm = 101, \
             psn = 0, state = 'deleted' WHERE token_key IN ??",
        );
        erased.tokens += of(unknown, tokens).execute(&mut *tx).await?;
        let denied = query("DELETE FROM deny_entries WHERE token_key IN ??");
        erased.deny_entries += of(denied, tokens).execute(&mut *tx).await?;
        for text in [
            "DELETE FROM retaps WHERE token_key IN ??",
            "DELETE FROM authorisation_due WHERE token_key IN ??",
        ] {
            of(query(text), tokens).execute(&mut *tx).await?;
        }
        let holds = query("UPDATE holds SET account_id = ? WHERE token_key IN ??").bind(name.as_str());
        let holds = holds.bind_list(tokens.iter().map(|key| key.as_slice()));
        holds.execute(&mut *tx).await?;
        for days in days.chunks(DAYS) {
            let text = "UPDATE attempts SET account_id = ? WHERE service_day IN ?? AND token_key IN ?? AND account_id = ?";
            let attempts = query(text).bind(name.as_str()).bind_list(days.iter().copied());
            let attempts = attempts.bind_list(tokens.iter().map(|key| key.as_slice())).bind(account);
            attempts.execute(&mut *tx).await?;
        }
    }
    erased.left_fen = embedded::rename_in(&mut tx, account, &name).await?;
    forget_name_in(&mut tx, account).await?;
    query("INSERT INTO erasures (account_index, erased_ms) VALUES (?, ?) ON CONFLICT (account_index) DO UPDATE SET erased_ms = excluded.erased_ms")
        .bind(&index[..])
        .bind(sql::ms(at))
        .execute(&mut *tx)
        .await?;
    let Erased { tokens, entries, set_aside, deny_entries, .. } = erased;
    let detail =
        format!("{tokens} tokens, {entries} entries, {set_aside} set aside, {deny_entries} causes of denial");
    audit_in(&mut tx, &Audit { at, user, action: "person.erase", subject: "person", detail: &detail })
        .await?;
    tx.commit().await?;
    Ok(())
}

/// The name that what is left in the books has from now on: random, so that no key leads back.
fn another_name() -> Result<String, EraseError> {
    let mut bytes = [0; 16];
    let failed = |e: getrandom::Error| StoreError::Io {
        path: "randomness".into(),
        source: std::io::Error::other(e.to_string()),
    };
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(format!("erased-{}", sql::hex(&bytes)))
}

/// The audit log says who did what and when; of the account's name, nothing any more.
async fn forget_name_in(conn: &mut Conn, account: &str) -> Result<(), EraseError> {
    query(
        "UPDATE audit_log SET detail = 'erased' WHERE action IN ('token.issue', 'token.register') AND detail = ?",
    )
    .bind(format!("account {account}"))
    .execute(&mut *conn)
    .await?;
    query(
        "UPDATE audit_log SET subject = 'erased', detail = 'erased' \
         WHERE action IN ('account.open', 'account.deposit') AND subject = ?",
    )
    .bind(account)
    .execute(&mut *conn)
    .await?;
    Ok(())
}
