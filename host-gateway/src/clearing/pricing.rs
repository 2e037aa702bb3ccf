//! Prices what a day's taps came to: with riders' categories and corrections, the network's emergencies, and the shares
//! of the operators where the day has them.

use std::collections::BTreeMap;

use rayon::prelude::*;
use wavepass_fares::tariff::STANDARD_CATEGORY;
use wavepass_fares::{Category, Correction, Priced, ServiceDay, Sharer, Window, price};

use super::emergencies::read_emergencies;
use super::taps::{Chunk, TokenTaps, read_chunk, read_token};
use super::{Clearing, ClearingError, corrections, token_key};
use crate::keys::TokenKey;
use crate::settlement::shares::{Shares, Sharing};
use crate::store::db::{One, Row, query, read_many};

/// One token's day, priced.
#[derive(Debug)]
pub(crate) struct PricedToken {
    pub(crate) key: TokenKey,
    pub(crate) priced: Priced,
    /// Whose its charge is; none where that was not asked.
    pub(crate) shares: Shares,
}

impl Clearing {
    /// Reads the taps that bear on a day, of the tokens after `cursor` up to `end`.
    pub(crate) async fn read_taps(
        &self,
        day: ServiceDay,
        cursor: &[u8],
        end: &[u8],
    ) -> Result<Chunk, ClearingError> {
        self.not_deleted(day).await?;
        read_chunk(self.store.pool(), &self.tariffs, day, cursor, end).await
    }

    /// Prices tokens with what riders told, in the order of their keys.
    pub(crate) async fn price_tokens(
        &self,
        day: ServiceDay,
        tokens: Vec<TokenTaps>,
        sharing: Option<&Sharing>,
    ) -> Result<Vec<PricedToken>, ClearingError> {
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return Ok(Vec::new()) };
        let told = corrections::read(self.store.pool(), &self.tariffs, day, first.key..=last.key).await?;
        self.price_told(day, tokens, told, sharing).await
    }

    /// Prices one token's day as it stands, with one more correction where that is given.
    pub(crate) async fn price_token(
        &self,
        day: ServiceDay,
        key: TokenKey,
        one_more: Option<Correction>,
    ) -> Result<Priced, ClearingError> {
        self.not_deleted(day).await?;
        let taps = read_token(self.store.pool(), &self.tariffs, day, key).await?;
        let mut told = corrections::read(self.store.pool(), &self.tariffs, day, key..=key).await?;
        told.entry(key).or_default().extend(one_more);
        let mut priced = self.price_told(day, vec![TokenTaps { key, taps }], told, None).await?;
        Ok(priced.pop().map(|token| token.priced).unwrap_or_default())
    }

    /// Prices tokens on all cores, off the writer and off the runtime's threads.
    async fn price_told(
        &self,
        day: ServiceDay,
        mut tokens: Vec<TokenTaps>,
        told: BTreeMap<TokenKey, Vec<Correction>>,
        sharing: Option<&Sharing>,
    ) -> Result<Vec<PricedToken>, ClearingError> {
        let tariffs = self.tariffs.clone();
        let emergencies = read_emergencies(self.store.pool(), &tariffs, day).await?;
        let categories = self.categories(&tokens).await?;
        let sharing = sharing.cloned();
        let work = move || {
            let sharer = || sharing.as_ref().map(|sharing| (sharing, sharing.sharer(&tariffs)));
            let one = |sharer: &mut Option<(&Sharing, Sharer<'_>)>, token: &mut TokenTaps| {
                let key = token.key;
                let category = categories.get(&key).copied().unwrap_or_default();
                let window = Window {
                    taps: &mut token.taps,
                    corrections: told.get(&key).map_or(&[], Vec::as_slice),
                    category,
                    days: day..=day,
                    emergencies: &emergencies,
                };
                let priced = price(&tariffs, window)
                    .map_err(|error| ClearingError::Price { token_key: key, error })?;
                let shares = shares_of(sharer, category, &priced)?;
                Ok(PricedToken { key, priced, shares })
            };
            tokens.par_iter_mut().with_min_len(64).map_init(sharer, one).collect::<Result<Vec<_>, _>>()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| ClearingError::Worker)?
    }

    /// Tells whose the charges of tokens are that are priced; nobody's without a sharing.
    pub(super) async fn share_tokens(
        &self,
        tokens: Vec<(TokenKey, Priced)>,
        sharing: Option<Sharing>,
    ) -> Result<Vec<PricedToken>, ClearingError> {
        let categories = self.categories_of(&tokens).await?;
        let tariffs = self.tariffs.clone();
        let work = move || {
            let sharer = || sharing.as_ref().map(|sharing| (sharing, sharing.sharer(&tariffs)));
            let one = |sharer: &mut Option<(&Sharing, Sharer<'_>)>, (key, priced): (TokenKey, Priced)| {
                let category = categories.get(&key).copied().unwrap_or_default();
                let shares = shares_of(sharer, category, &priced)?;
                Ok(PricedToken { key, priced, shares })
            };
            tokens.into_par_iter().with_min_len(64).map_init(sharer, one).collect::<Result<Vec<_>, _>>()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| ClearingError::Worker)?
    }

    /// The categories of tokens, in the order of their keys, whose riders do not pay as everybody.
    async fn categories(&self, tokens: &[TokenTaps]) -> Result<BTreeMap<TokenKey, Category>, ClearingError> {
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return Ok(BTreeMap::new()) };
        if self.tariffs.categories().len() == 1 {
            return Ok(BTreeMap::new());
        }
        let rows =
            query("SELECT token_key, category FROM tokens WHERE token_key BETWEEN ? AND ? AND category <> ?")
                .bind(first.key.as_slice())
                .bind(last.key.as_slice())
                .bind(STANDARD_CATEGORY)
                .fetch_all(self.store.pool())
                .await?;
        self.categories_in(&rows)
    }

    /// The same of a few tokens among many.
    async fn categories_of(
        &self,
        tokens: &[(TokenKey, Priced)],
    ) -> Result<BTreeMap<TokenKey, Category>, ClearingError> {
        if self.tariffs.categories().len() == 1 {
            return Ok(BTreeMap::new());
        }
        let text = "SELECT token_key, category FROM tokens WHERE token_key IN ??";
        let mut conn = self.store.pool().acquire().await?;
        let rows = read_many(&mut conn, text, tokens.iter().map(|(key, _)| One(key.as_slice()))).await?;
        self.categories_in(&rows)
    }

    /// Rows of a token and a category's name.
    fn categories_in(&self, rows: &[Row]) -> Result<BTreeMap<TokenKey, Category>, ClearingError> {
        let mut categories = BTreeMap::new();
        for row in rows {
            if let Some(category) = self.tariffs.category(row.try_get(1)?) {
                categories.insert(token_key(row.try_get(0)?)?, category);
            }
        }
        Ok(categories)
    }
}

/// Whose a token's charge is.
fn shares_of(
    sharer: &mut Option<(&Sharing, Sharer<'_>)>,
    category: Category,
    priced: &Priced,
) -> Result<Shares, ClearingError> {
    match sharer {
        Some((sharing, sharer)) => sharing.shares(sharer, category, &priced.journeys),
        None => Ok(Shares::new()),
    }
}
