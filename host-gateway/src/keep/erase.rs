//! Erases a person: whatever opens to the number of one of their tokens, or says whose it was, is overwritten by nothing or
//! deleted.
//!
//! What a token's taps came to stays in the books under the token's key. A row of the token stays with its category alone,
//! by which its days are priced; entries stay as places of the gates' journals without their bytes, so that one that comes
//! again is known (rule 3). Money is finished first: whoever owes or is owed something is not erased.

use crate::bank::embedded;
use crate::bank::http::elsewhere;
use crate::clearing::unfinished::{self, Unfinished};
use crate::cli::{App, AppError};
use crate::config::ConfigError;
use crate::input::{self, TextError};
use crate::keys::{ClearingKeys, TokenKey};
use crate::risk::{on_days, tapped_utc_days_in};
use crate::store::db::{Conn, One, Query, Rows, chunk, query, write_many};
use crate::store::{Audit, StoreError, audit_in, sql};
use crate::tokens::{self, TokensError};
use serde::Serialize;
use std::collections::BTreeSet;
use wavepass_fares::Fen;
use wavepass_protocol::tap::Entry;

/// Tokens in one statement.
pub(super) const TOKENS: usize = 200;
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
    /// Something of the person's tokens is open.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
    /// The e-account holds money.
    #[error("the person's e-account holds {0} CNY: pay it out first, with `account pay-out`")]
    Balance(Fen),
    /// The tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
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

/// What was erased, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Erased {
    /// True where it was only asked what would be erased.
    pub dry_run: bool,
    /// True where the person was erased before, and nothing was changed now.
    pub already: bool,
    /// When that was, in milliseconds since 1970-01-01 UTC; unknown under the name that the books have since.
    pub erased_ms: Option<i64>,
    /// Tokens whose number, expiry and account are gone.
    pub tokens: u64,
    /// Gates' entries that open no more.
    pub entries: u64,
    /// Entries that had been set aside and open no more.
    pub set_aside: u64,
    /// Causes for which tokens were denied.
    pub deny_entries: u64,
    /// What the embedded bank's account holds. Absent where it has none of the name.
    #[schema(value_type = Option<i64>)]
    pub left_fen: Option<Fen>,
    /// What stands against it: empty where it was done.
    pub against: Vec<Against>,
}

/// Something that stands against erasing a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Against {
    /// `debts_open`, `in_doubt`, `charges_unfinished`, `disputes_open`, `holds_standing`, `unchecked_taps`, `day_open` or
    /// `balance_left`.
    pub why: &'static str,
    /// The same in a sentence, with what to do.
    pub says: String,
}

impl From<Unfinished> for Against {
    fn from(unfinished: Unfinished) -> Self {
        Self { why: unfinished.word(), says: unfinished.to_string() }
    }
}

/// By what an erased account's name is found, which is kept nowhere.
pub(crate) fn index_of(keys: &dyn ClearingKeys, account: &str) -> [u8; 16] {
    keys.index_of("erased account", account.as_bytes())
}

/// When the person of an account of this name was erased, in milliseconds since 1970-01-01 UTC; `None`: none was.
pub(crate) async fn erased_ms_in(
    conn: &mut Conn,
    keys: &dyn ClearingKeys,
    account: &str,
) -> Result<Option<i64>, StoreError> {
    let index = index_of(keys, account);
    let erased = query("SELECT erased_ms FROM erasures WHERE account_index = ?").bind(&index[..]);
    Ok(erased.optional(conn).await?)
}

/// Whose person is to be erased.
pub(super) enum Subject {
    /// Nobody's any more; when that was, where it is known.
    Erased(Option<i64>),
    /// Somebody's, with these tokens, and with so much in the embedded bank's account of the name, if it has one.
    Known { tokens: Vec<TokenKey>, left: Option<Fen> },
}

impl Subject {
    /// Looks for whom a name stands.
    pub(super) async fn find_in(conn: &mut Conn, app: &App, account: &str) -> Result<Self, EraseError> {
        input::word("an account's name", account)?;
        let tokens = tokens_in(conn, account).await?;
        let found = embedded::find_in(conn, &[account]).await?.into_iter().flatten().next();
        if !tokens.is_empty() || found.as_ref().is_some_and(|account| !account.is_erased()) {
            return Ok(Self::Known { tokens, left: found.map(|account| account.balance) });
        }
        if found.is_some() {
            return Ok(Self::Erased(None));
        }
        match erased_ms_in(conn, &*app.clearing, account).await? {
            Some(erased_ms) => Ok(Self::Erased(Some(erased_ms))),
            None => Err(EraseError::Unknown),
        }
    }
}

impl Erased {
    /// The answer for one who was erased before.
    pub(super) fn before(erased_ms: Option<i64>) -> Self {
        Self { already: true, erased_ms, ..Self::default() }
    }
}

/// Erases the person of an account. Done again, it says so and changes nothing. Killed on the way, it is done again.
pub async fn erase(app: &App, user: &str, account: &str) -> Result<Erased, EraseError> {
    app.now()?;
    let mut conn = app.store.pool().acquire().await?;
    let (tokens, left) = match Subject::find_in(&mut conn, app, account).await? {
        Subject::Erased(erased_ms) => return Ok(Erased::before(erased_ms)),
        Subject::Known { tokens, left } => (tokens, left),
    };
    refuse_in(&mut conn, app, &tokens, left).await?;
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
    finish(app, user, account, &mut erased).await?;
    app.publish_lists().await?;
    app.store.fold().await?;
    Ok(erased)
}

async fn tokens_in(conn: &mut Conn, account: &str) -> Result<Vec<TokenKey>, EraseError> {
    let tokens = tokens::of_account_in(conn, account).await?;
    Ok(tokens.into_iter().map(|token| token.token_key).collect())
}

pub(super) fn of<'a>(query: Query<'static>, tokens: &'a [TokenKey]) -> Query<'a> {
    query.bind_list(tokens.iter().map(|key| key.as_slice()))
}

/// What of it the embedded bank must pay out first; where another bank keeps e-accounts, nothing can be.
pub(super) fn to_pay_out(app: &App, left: Option<Fen>) -> Result<Option<Fen>, EraseError> {
    let here = elsewhere(&app.config)?.is_none();
    Ok(left.filter(|left| here && *left > Fen::ZERO))
}

async fn refuse_in(
    conn: &mut Conn,
    app: &App,
    tokens: &[TokenKey],
    left: Option<Fen>,
) -> Result<(), EraseError> {
    if let Some(first) = unfinished::of_tokens_in(conn, tokens).await?.into_iter().next() {
        return Err(first.into());
    }
    match to_pay_out(app, left)? {
        Some(left) => Err(EraseError::Balance(left)),
        None => Ok(()),
    }
}

/// Entries of tokens' opened taps that still open, so many at most of each `VALUES`.
const FORGET_OPENED: &str = "UPDATE entries SET sealed = x'' WHERE (key_id, sequence) IN (SELECT i.key_id, i.sequence \
    FROM (VALUES ??) AS v CROSS JOIN token_taps AS i CROSS JOIN entries AS e WHERE i.utc_day = v.column1 \
    AND i.token_key = v.column2 AND i.time_ms BETWEEN v.column3 AND v.column4 AND e.key_id = i.key_id AND e.sequence = i.sequence AND length(e.sealed) > 0 LIMIT ?)";
/// The same of their refused taps.
const FORGET_REFUSED: &str = "UPDATE entries SET sealed = x'' WHERE (key_id, sequence) IN (SELECT t.key_id, t.sequence \
    FROM taps AS t INDEXED BY taps_refused CROSS JOIN entries AS e WHERE t.opened = 0 AND t.token_key IN ?? \
    AND e.key_id = t.key_id AND e.sequence = t.sequence AND length(e.sealed) > 0 LIMIT ?)";

/// Makes some entries unreadable; how many. None: there are no more.
async fn forget_entries_in(conn: &mut Conn, tokens: &[TokenKey]) -> Result<u64, EraseError> {
    let days = tapped_utc_days_in(conn).await?;
    let places: Vec<(i64, &[u8], i64, i64)> = on_days(&days, tokens).collect();
    for places in places.chunks(chunk(4)) {
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
    let (mut aside, mut forgotten) = (SetAside::of(tokens), 0);
    loop {
        let Some(theirs) = aside.next(app).await? else { return Ok(forgotten) };
        if !theirs.is_empty() {
            let mut tx = app.store.begin().await?;
            let text = "UPDATE set_aside SET sealed = x'' WHERE id IN ??";
            forgotten += write_many(&mut tx, text, theirs.iter().map(|id| One(id.as_str()))).await?;
            tx.commit().await?;
        }
    }
}

/// The entries that were set aside and open to one of some tokens, a page of all that were set aside at a time.
pub(super) struct SetAside {
    tokens: BTreeSet<TokenKey>,
    after: String,
}

impl SetAside {
    pub(super) fn of(tokens: &[TokenKey]) -> Self {
        Self { tokens: tokens.iter().copied().collect(), after: String::new() }
    }

    /// Those of the next page; `None`: there is none.
    pub(super) async fn next(&mut self, app: &App) -> Result<Option<Vec<String>>, EraseError> {
        let page: Vec<(String, Vec<u8>)> =
            query("SELECT id, sealed FROM set_aside WHERE id > ? AND length(sealed) > 0 ORDER BY id LIMIT ?")
                .bind(self.after.as_str())
                .bind(ENTRIES as i64)
                .rows(app.store.pool())
                .await?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        self.after.clone_from(last);
        Ok(Some(theirs(&*app.clearing, &page, &self.tokens)))
    }
}

/// Of entries that were set aside, those that open to one of the tokens.
fn theirs(keys: &dyn ClearingKeys, page: &[(String, Vec<u8>)], tokens: &BTreeSet<TokenKey>) -> Vec<String> {
    let sealed: Vec<&[u8]> = page.iter().map(|(_, sealed)| sealed.as_slice()).collect();
    let opened = keys.unseal(&sealed);
    let is_theirs = |opened: &Result<crate::keys::Opened, _>| {
        let Ok(opened) = opened else { return false };
        let Entry::Tap(tap) = opened.entry() else { return false };
        let card = tap.token.zip(tap.expiry);
        card.is_some_and(|(token, expiry)| tokens.contains(&keys.token_key(&token, expiry)))
    };
    page.iter().zip(&opened).filter(|(_, opened)| is_theirs(opened)).map(|((id, _), _)| id.clone()).collect()
}

/// Overwrites what says whose the tokens were, in one transaction that looks once more whether it may.
async fn finish(app: &App, user: &str, account: &str, erased: &mut Erased) -> Result<(), EraseError> {
    let at = app.now()?;
    let name = another_name()?;
    let mut tx = app.store.begin().await?;
    let Subject::Known { tokens, left } = Subject::find_in(&mut tx, app, account).await? else {
        // Another request came first, with the same in hand.
        return Ok(());
    };
    refuse_in(&mut tx, app, &tokens, left).await?;
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
            "UPDATE risk_states SET is_somebodys = 0, recent = NULL WHERE token_key IN ??",
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
        .bind(&index_of(&*app.clearing, account)[..])
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

/// The name that what is left in the books has from now on: random, so that no key leads back, and in letters, so that it never
/// looks like a card's number. With 34 characters it is an account's in a file to the bank, too.
fn another_name() -> Result<String, EraseError> {
    let mut bytes = [0; 27];
    let failed = |e: getrandom::Error| StoreError::Io {
        path: "randomness".into(),
        source: std::io::Error::other(e.to_string()),
    };
    getrandom::fill(&mut bytes).map_err(failed)?;
    let letters = bytes.iter().map(|byte| char::from(b'a' + byte % 16));
    Ok(embedded::ERASED.chars().chain(letters).collect())
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
         WHERE action IN ('account.open', 'account.deposit', 'account.pay_out') AND subject = ?",
    )
    .bind(account)
    .execute(&mut *conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::input;

    #[test]
    fn no_name_of_the_erased_looks_like_a_number_and_none_comes_twice() {
        let names: BTreeSet<String> = (0..1_000).map(|_| another_name().unwrap()).collect();
        assert_eq!(names.len(), 1_000);
        for name in &names {
            input::no_number("an account's name", name).unwrap();
            assert!(name.starts_with(embedded::ERASED) && name.len() == 34, "{name}");
        }
    }
}
