//! The deny list's content, made from its table: under a salt that leaves every good token off it, and as a delta on the
//! version before where gates take one.
//!
//! The salt of the version before is kept while it serves, since only then is there a delta. Whoever is good is asked
//! through the gate's own look-up.

use super::{Latest, ListsError, MAX_DENIED, Made, bytes_in, config_in, content_of};
use crate::keys::{ClearingKeys, TokenKey};
use crate::store::db::{Conn, query};
use crate::store::{StoreError, sql};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use wavepass_protocol::deny::{Delta, DenyKey, DenyList, MAX_CHANGES, Shape};
use wavepass_protocol::lists::{Kind, ListError, Version};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};

/// How many salts are tried before a list is given up: among ten million good tokens one salt in four hits none.
const MAX_SALTS: u32 = 64;
/// How many tokens are read at a time when they are checked against a new list.
const PAGE: u32 = 50_000;

/// The deny list as it is to be issued; `None` where the one in force serves.
pub(super) async fn content(
    conn: &mut Conn,
    keys: &dyn ClearingKeys,
    version: Version,
    latest: Option<&Latest>,
    now: UnixMs,
) -> Result<Option<Made>, ListsError> {
    let denied: Vec<Vec<u8>> =
        query("SELECT DISTINCT token_key FROM deny_entries ORDER BY token_key").column(&mut *conn).await?;
    if denied.len() > MAX_DENIED {
        return Err(ListsError::TooMany { what: "denied tokens", most: MAX_DENIED });
    }
    // A token key stands for number and expiry, so the keys in order stand for the content under any salt.
    let source = denied.iter().fold(Sha256::new(), |hash, key| hash.chain_update(key)).finalize().to_vec();
    let max_age = config_in(conn).await?.list_max_age_ms;
    if let Some(latest) = latest.filter(|latest| latest.source == source) {
        let fresh = max_age == 0 || now.0.saturating_sub(latest.issued.0) < max_age / 2;
        if fresh && !new_token_is_hit(conn, keys, latest).await? {
            return Ok(None);
        }
    }
    let denied = Denied::load(conn, keys).await?;
    if let Some(latest) = latest {
        let issue = bytes_in(conn, Kind::Deny, latest.version).await?;
        let old = DenyList::parse(content_of(&issue)?)?;
        let bits = Some(old.shape().bits()).filter(|bits| Shape::keeps_bits(denied.len(), *bits));
        if let Some(bits) = bits
            && let Some(content) = denied.content(old.shape().salt(), bits)
        {
            let new = DenyList::parse(&content)?;
            if !hits_known_token(conn, keys, &denied, &new, UnixMs(0)).await? {
                let delta = difference(&keys_of(&old)?, &keys_of(&new)?);
                return Ok(Some(Made { content, source, delta }));
            }
        }
    }
    for attempt in 0..MAX_SALTS {
        let bits = Shape::best_bits(denied.len());
        let Some(content) = denied.content(&salt(version, attempt), bits) else { continue };
        let list = DenyList::parse(&content)?;
        if !hits_known_token(conn, keys, &denied, &list, UnixMs(0)).await? {
            return Ok(Some(Made { content, source, delta: None }));
        }
    }
    Err(ListsError::Salt)
}

/// A new salt for a version's deny list; `attempt` counts those that hit a good token.
pub(super) fn salt(version: Version, attempt: u32) -> [u8; 8] {
    let hash = Sha256::new_with_prefix(b"wavepass deny salt")
        .chain_update(version.epoch.to_be_bytes())
        .chain_update(version.version.to_be_bytes())
        .chain_update(attempt.to_be_bytes())
        .finalize();
    std::array::from_fn(|i| hash[i])
}

fn keys_of(list: &DenyList<'_>) -> Result<Vec<DenyKey>, ListError> {
    let mut keys = Vec::with_capacity(list.shape().entries() as usize);
    list.for_each(|key| keys.push(key))?;
    Ok(keys)
}

/// The delta between two lists of one salt and number of buckets, if gates take one of its length.
fn difference(old: &[DenyKey], new: &[DenyKey]) -> Option<Vec<u8>> {
    let missing = |from: &[DenyKey], other: &[DenyKey]| -> Vec<DenyKey> {
        from.iter().filter(|key| other.binary_search(key).is_err()).copied().collect()
    };
    write_delta(&missing(old, new), &missing(new, old))
}

/// A delta of these keys, if gates take one of its length.
pub(super) fn write_delta(removed: &[DenyKey], added: &[DenyKey]) -> Option<Vec<u8>> {
    let changes = removed.len() + added.len();
    let mut delta = vec![0; Delta::len_of(changes.min(MAX_CHANGES))];
    Delta::write(removed, added, &mut delta).ok().map(|()| delta)
}

/// The denied tokens, opened.
pub(super) struct Denied {
    keys: HashSet<TokenKey>,
    numbers: HashSet<Token>,
    tokens: Vec<(Token, Expiry)>,
}

impl Denied {
    pub(super) async fn load(conn: &mut Conn, keys: &dyn ClearingKeys) -> Result<Self, ListsError> {
        // Each cause has the token sealed for itself: any of them will do.
        let text = "SELECT token_key, sealed_token FROM deny_entries ORDER BY token_key, cause";
        let mut sealed: Vec<(Vec<u8>, Vec<u8>)> = query(text).rows(conn).await?;
        sealed.dedup_by(|a, b| a.0 == b.0);
        let opened = open_all(keys, &sealed)?;
        Ok(Self {
            keys: opened.iter().map(|(key, ..)| *key).collect(),
            numbers: opened.iter().map(|(_, token, _)| *token).collect(),
            tokens: opened.into_iter().map(|(_, token, expiry)| (token, expiry)).collect(),
        })
    }

    fn len(&self) -> u32 {
        self.tokens.len() as u32 // at most MAX_DENIED
    }

    /// The content under a salt; `None` where the salt crowds a bucket.
    pub(super) fn content(&self, salt: &[u8; 8], bits: u8) -> Option<Vec<u8>> {
        let shape = Shape::new(*salt, 0, bits).ok()?;
        let mut keys: Vec<DenyKey> =
            self.tokens.par_iter().map(|(token, expiry)| shape.key(token, *expiry)).collect();
        keys.par_sort_unstable();
        keys.dedup();
        let shape = Shape::new(*salt, u32::try_from(keys.len()).ok()?, bits).ok()?;
        let mut content = vec![0; shape.content_len()];
        shape.write(&keys, &mut content).ok().map(|()| content)
    }

    /// True if the list refuses a good token. Where the card does not sign its expiry, a token is refused with any
    /// listed expiry of its own number, and that is meant; any other hit is chance.
    pub(super) fn hits(&self, list: &DenyList<'_>, key: &TokenKey, token: &Token, expiry: Expiry) -> bool {
        if self.keys.contains(key) {
            return false;
        }
        list.denies(token, self.numbers.contains(token).then_some(expiry))
    }
}

fn open_all(
    keys: &dyn ClearingKeys,
    sealed: &[(Vec<u8>, Vec<u8>)],
) -> Result<Vec<(TokenKey, Token, Expiry)>, ListsError> {
    let open = |(key, sealed): &(Vec<u8>, Vec<u8>)| {
        let key = TokenKey::from_slice(key).ok_or(StoreError::Damaged { what: "token key" })?;
        let (token, expiry) = keys.open_token(&key, sealed)?;
        Ok((key, token, expiry))
    };
    sealed.par_iter().with_min_len(256).map(open).collect()
}

// A token that was issued after the list in force may be hit by it by chance; then the list is issued under another
// salt.
async fn new_token_is_hit(
    conn: &mut Conn,
    keys: &dyn ClearingKeys,
    latest: &Latest,
) -> Result<bool, ListsError> {
    let newer: Option<i64> = query("SELECT 1 FROM tokens WHERE issued_ms >= ? LIMIT 1")
        .bind(sql::ms(latest.issued))
        .optional(&mut *conn)
        .await?;
    if newer.is_none() {
        return Ok(false);
    }
    let bytes = bytes_in(conn, Kind::Deny, latest.version).await?;
    let list = DenyList::parse(content_of(&bytes)?)?;
    if list.shape().entries() == 0 {
        return Ok(false);
    }
    let denied = Denied::load(conn, keys).await?;
    hits_known_token(conn, keys, &denied, &list, latest.issued).await
}

async fn hits_known_token(
    conn: &mut Conn,
    keys: &dyn ClearingKeys,
    denied: &Denied,
    list: &DenyList<'_>,
    since: UnixMs,
) -> Result<bool, ListsError> {
    if list.shape().entries() == 0 {
        return Ok(false);
    }
    let mut after = Vec::new();
    loop {
        let page: Vec<(Vec<u8>, Vec<u8>)> = query(
            "SELECT token_key, sealed_token FROM tokens \
             WHERE token_key > ? AND state = 'active' AND issued_ms >= ? ORDER BY token_key LIMIT ?",
        )
        .bind(&after)
        .bind(sql::ms(since))
        .bind(PAGE)
        .rows(&mut *conn)
        .await?;
        let Some((last, _)) = page.last() else { return Ok(false) };
        after.clone_from(last);
        let opened = open_all(keys, &page)?;
        if opened.par_iter().any(|(key, token, expiry)| denied.hits(list, key, token, *expiry)) {
            return Ok(true);
        }
    }
}
