//! Tokens that come into being: issued to phones under a number of the bank's range, or registered from plastic cards.

use super::{Carrier, MAX_NAME, MAX_PER_ACCOUNT, State, TokensError, expiry_number, find_in, last_four};
use crate::input;
use crate::keys::{BankKeys, ClearingKeys, PhoneOrder, TokenKey};
use crate::store::db::{Conn, One, read_many, write_many};
use crate::store::{Audit, Store, StoreError, audit_in, sql};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use wavepass_hce::issue::IssueError;
use wavepass_hce::phone::PhoneFile;
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::{Expiry, Token};

/// How often a taken number gives way to the next before the range is called full.
const MAX_ATTEMPTS: u32 = 64;
/// How often a batch is planned anew because another came between, before it takes the writer for its whole time.
const MAX_REPLANS: u32 = 2;

/// A token wanted for an e-account.
#[derive(Debug, Clone)]
pub struct IssueRequest {
    /// The e-account.
    pub account_id: String,
    /// The rider's category in the tariff.
    pub category: String,
    /// The first day it is good.
    pub effective: Date,
    /// The last month it is good.
    pub expiry: Expiry,
    /// The network it is for.
    pub network: [u8; 4],
    /// The operator it is for; 0 for any of the network.
    pub operator: u16,
}

/// A token that was issued. No `Debug`: the phone file holds its keys.
pub struct Issued {
    /// What finds it.
    pub token_key: TokenKey,
    /// The last four digits of its number.
    pub last_four: String,
    /// What goes onto the phone. It leaves the service this once and is not kept.
    pub phone: PhoneFile,
}

/// A plastic card to be registered as a token.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The card's number.
    pub token: Token,
    /// Its expiry.
    pub expiry: Expiry,
    /// Its sequence number.
    pub psn: u8,
    /// The e-account it will stand for.
    pub account_id: String,
    /// The rider's category in the tariff.
    pub category: String,
}

/// A token whose number is decided and that is not yet stored.
#[derive(PartialEq, Eq)]
struct NewToken<'a> {
    token_key: TokenKey,
    token: Token,
    expiry: Expiry,
    psn: u8,
    account_id: &'a str,
    rank: u32,
    category: &'a str,
    carrier: Carrier,
}

/// Issues tokens: each gets a number of the bank's range, is personalised and entered. All or none.
///
/// The same requests on the same registry with the same keys give the same tokens and phone files. Signatures are
/// computed on all cores: a few thousand phones take a second or two, in which the writer is free for others.
pub async fn issue_many(
    store: &Store,
    clearing: &dyn ClearingKeys,
    bank: &dyn BankKeys,
    requests: &[IssueRequest],
    by: &str,
    now: UnixMs,
) -> Result<Vec<Issued>, TokensError> {
    let mut conn = store.pool().acquire().await.map_err(StoreError::from)?;
    for _ in 0..MAX_REPLANS {
        let planned = plan_in(&mut conn, clearing, bank, requests).await?;
        let phones = personalise(bank, &planned, requests)?;
        let mut tx = store.begin().await?;
        // Another issue may have come between: then the plan does not hold, and a new one is made.
        let holds = plan_in(&mut tx, clearing, bank, requests).await? == planned;
        if holds {
            enter(&mut tx, clearing, &planned, by, now).await?;
            tx.commit().await?;
            return Ok(issued(&planned, phones));
        }
    }
    let mut tx = store.begin().await?;
    let issued = issue_many_in(&mut tx, clearing, bank, requests, by, now).await?;
    tx.commit().await?;
    Ok(issued)
}

/// The same in the caller's transaction, which the writer is held for.
pub async fn issue_many_in(
    conn: &mut Conn,
    clearing: &dyn ClearingKeys,
    bank: &dyn BankKeys,
    requests: &[IssueRequest],
    by: &str,
    now: UnixMs,
) -> Result<Vec<Issued>, TokensError> {
    let planned = plan_in(conn, clearing, bank, requests).await?;
    let phones = personalise(bank, &planned, requests)?;
    enter(conn, clearing, &planned, by, now).await?;
    Ok(issued(&planned, phones))
}

async fn plan_in<'a>(
    conn: &mut Conn,
    clearing: &dyn ClearingKeys,
    bank: &dyn BankKeys,
    requests: &'a [IssueRequest],
) -> Result<Vec<NewToken<'a>>, TokensError> {
    for request in requests {
        check_name("an account's name", &request.account_id)?;
        check_name("a category's name", &request.category)?;
    }
    let names: HashSet<&str> = requests.iter().map(|request| request.account_id.as_str()).collect();
    let names = names.into_iter().map(|name| crate::keep::index_of(clearing, name));
    let text = "SELECT account_index FROM erasures WHERE account_index IN ??";
    if !read_many(conn, text, names.map(|index| One(index.to_vec()))).await?.is_empty() {
        return Err(TokensError::Erased);
    }
    let mut ranks = ranks_in(conn, requests.iter().map(|request| request.account_id.as_str())).await?;
    let mut tokens = Vec::with_capacity(requests.len());
    for request in requests {
        let rank = next_rank(&mut ranks, &request.account_id)?;
        let token = bank.token_number(&request.account_id, rank, 0);
        tokens.push(NewToken {
            token_key: clearing.token_key(&token, request.expiry),
            token,
            expiry: request.expiry,
            psn: 0,
            account_id: &request.account_id,
            rank,
            category: &request.category,
            carrier: Carrier::Phone,
        });
    }
    renumber_taken(conn, clearing, bank, &mut tokens).await?;
    Ok(tokens)
}

fn personalise(
    bank: &dyn BankKeys,
    tokens: &[NewToken<'_>],
    requests: &[IssueRequest],
) -> Result<Vec<PhoneFile>, IssueError> {
    let orders: Vec<PhoneOrder> = tokens
        .iter()
        .zip(requests)
        .map(|(token, request)| PhoneOrder {
            token: token.token,
            expiry: token.expiry,
            effective: request.effective,
            psn: token.psn,
            network: request.network,
            operator: request.operator,
        })
        .collect();
    orders.par_iter().map(|order| bank.personalise(order)).collect()
}

async fn enter(
    conn: &mut Conn,
    clearing: &dyn ClearingKeys,
    tokens: &[NewToken<'_>],
    by: &str,
    now: UnixMs,
) -> Result<(), TokensError> {
    insert(conn, clearing, tokens, now).await?;
    let names: Vec<_> = tokens.iter().map(|token| (token.token_key, token.account_id)).collect();
    Ok(audit_batch(conn, "token.issue", &names, by, now).await?)
}

fn issued(tokens: &[NewToken<'_>], phones: Vec<PhoneFile>) -> Vec<Issued> {
    let pairs = tokens.iter().zip(phones);
    pairs
        .map(|(token, phone)| Issued {
            token_key: token.token_key,
            last_four: last_four(&token.token),
            phone,
        })
        .collect()
}

/// Registers plastic cards as tokens. All or none.
pub async fn register_in(
    conn: &mut Conn,
    clearing: &dyn ClearingKeys,
    cards: &[Registration],
    by: &str,
    now: UnixMs,
) -> Result<Vec<TokenKey>, TokensError> {
    for card in cards {
        check_name("an account's name", &card.account_id)?;
        check_name("a category's name", &card.category)?;
    }
    let mut ranks = ranks_in(conn, cards.iter().map(|card| card.account_id.as_str())).await?;
    let mut tokens = Vec::with_capacity(cards.len());
    for card in cards {
        tokens.push(NewToken {
            token_key: clearing.token_key(&card.token, card.expiry),
            token: card.token,
            expiry: card.expiry,
            psn: card.psn,
            account_id: &card.account_id,
            rank: next_rank(&mut ranks, &card.account_id)?,
            category: &card.category,
            carrier: Carrier::Card,
        });
    }
    let keys: Vec<TokenKey> = tokens.iter().map(|token| token.token_key).collect();
    let taken = taken_in(conn, &keys).await?;
    let mut seen = HashSet::new();
    if let Some(token) = tokens.iter().find(|t| taken.contains(&t.token_key) || !seen.insert(t.token_key)) {
        return Err(TokensError::Registered(last_four(&token.token)));
    }
    insert(conn, clearing, &tokens, now).await?;
    let names: Vec<_> = tokens.iter().map(|token| (token.token_key, token.account_id)).collect();
    audit_batch(conn, "token.register", &names, by, now).await?;
    Ok(keys)
}

fn check_name(what: &'static str, name: &str) -> Result<(), TokensError> {
    let printable = name.bytes().all(|b| b.is_ascii_graphic());
    if !printable || !(1..=MAX_NAME).contains(&name.len()) {
        return Err(TokensError::Name(what));
    }
    Ok(input::no_number(what, name)?)
}

fn next_rank(ranks: &mut HashMap<String, u32>, account_id: &str) -> Result<u32, TokensError> {
    let next = ranks.entry(account_id.to_owned()).or_insert(0);
    if *next >= MAX_PER_ACCOUNT {
        return Err(TokensError::TooMany(account_id.to_owned()));
    }
    *next += 1;
    Ok(*next - 1)
}

// The next free rank of each account that has tokens.
async fn ranks_in(
    conn: &mut Conn,
    accounts: impl Iterator<Item = &str>,
) -> Result<HashMap<String, u32>, TokensError> {
    let accounts: HashSet<&str> = accounts.collect();
    let mut ranks = HashMap::new();
    let text = "SELECT account_id, max(rank) + 1 FROM tokens WHERE account_id IN ?? GROUP BY account_id";
    for row in read_many(conn, text, accounts.into_iter().map(One)).await? {
        ranks.insert(row.try_get(0)?, row.try_get(1)?);
    }
    Ok(ranks)
}

async fn taken_in(conn: &mut Conn, keys: &[TokenKey]) -> Result<HashSet<TokenKey>, TokensError> {
    let found = find_in(conn, keys).await?;
    Ok(found.into_iter().flatten().map(|row| row.token_key).collect())
}

// Numbers come from a hash, so two may meet. The later one, in the order of the requests, takes its next number. A
// number counts as taken under any expiry of this batch; an older token of the same number and another expiry is told
// apart by its token key everywhere.
async fn renumber_taken(
    conn: &mut Conn,
    clearing: &dyn ClearingKeys,
    bank: &dyn BankKeys,
    tokens: &mut [NewToken<'_>],
) -> Result<(), TokensError> {
    for attempt in 1..=MAX_ATTEMPTS {
        let keys: Vec<TokenKey> = tokens.iter().map(|token| token.token_key).collect();
        let taken = taken_in(conn, &keys).await?;
        let mut numbers = HashSet::with_capacity(tokens.len());
        let mut all_free = true;
        for token in tokens.iter_mut() {
            if taken.contains(&token.token_key) || !numbers.insert(token.token) {
                all_free = false;
                token.token = bank.token_number(token.account_id, token.rank, attempt);
                token.token_key = clearing.token_key(&token.token, token.expiry);
            }
        }
        if all_free {
            return Ok(());
        }
    }
    Err(TokensError::RangeFull)
}

async fn insert(
    conn: &mut Conn,
    clearing: &dyn ClearingKeys,
    tokens: &[NewToken<'_>],
    now: UnixMs,
) -> Result<(), TokensError> {
    let rows = tokens.iter().map(|token| {
        (
            token.token_key.as_slice(),
            token.account_id,
            token.rank,
            clearing.seal_token(&token.token, token.expiry),
            last_four(&token.token),
            expiry_number(token.expiry),
            token.psn,
            State::Active.word(),
            token.category,
            token.carrier.word(),
            sql::ms(now),
        )
    });
    let text = "INSERT INTO tokens (token_key, account_id, rank, sealed_token, last_four, expiry_yymm, psn, state, \
                category, kind, issued_ms) VALUES ??";
    write_many(conn, text, rows).await?;
    Ok(())
}

// One line for a batch of many, one line each for a few: an import of a city's cards is one act.
async fn audit_batch(
    conn: &mut Conn,
    action: &str,
    tokens: &[(TokenKey, &str)],
    by: &str,
    at: UnixMs,
) -> Result<(), StoreError> {
    const FEW: usize = 16;
    let count = tokens.len();
    if count > FEW {
        let detail = format!("{count} tokens");
        return audit_in(conn, &Audit { at, user: by, action, subject: "batch", detail: &detail }).await;
    }
    for (key, account) in tokens {
        let detail = format!("account {account}");
        audit_in(conn, &Audit { at, user: by, action, subject: &key.to_hex(), detail: &detail }).await?;
    }
    Ok(())
}
