//! What another tariff would have made of a closed day of the gateway's own: the same taps, priced twice. Nothing is written.
//!
//! Both tariffs are asked for the same tokens, a page at a time, since a tariff's caps and stations decide which taps
//! are read for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use wavepass_fares::price_file::Text;
use wavepass_fares::revenue::{Comparison, Difference, to_try};
use wavepass_fares::{Priced, ServiceDay};

use super::app::closed;
use super::taps::{Chunk, read_chunk};
use super::{Clearing, ClearingError};
use crate::cli::App;
use crate::keys::TokenKey;
use crate::store::shards::AFTER_ALL;

/// What another tariff makes of a day.
#[derive(Debug)]
pub struct Tried {
    /// Against the tariffs that are published for the day.
    pub difference: Difference,
    /// Taps of the day, or around it, at stations that the new tariff does not have.
    pub unknown_taps: usize,
}

/// Prices a closed day's taps by the published tariffs and by another, as if that had always been in force.
pub async fn difference_on(app: &App, day: ServiceDay, new: Text<'_>) -> Result<Tried, ClearingError> {
    let old = Clearing::of(app).await?;
    closed(app, day).await?;
    let (version, tariffs) = to_try(new, &old.tariffs)?;
    let new = Clearing { tariffs: Arc::new(tariffs), ..old.clone() };
    let (mut found, mut unknown_taps) = (Comparison::default(), 0);
    let mut cursor = Vec::new();
    loop {
        let pages = (page(&old, day, &cursor).await?, page(&new, day, &cursor).await?);
        // As far as both speak for.
        let up_to = match (pages.0.up_to, pages.1.up_to) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
        // What lies behind that is read again with the next page.
        let spoken_for = |key: TokenKey| up_to.is_none_or(|last| key <= last);
        unknown_taps += pages.1.unknown.iter().filter(|tap| spoken_for(tap.key)).count();
        let before = priced(&old, day, pages.0, up_to).await?;
        let mut after = priced(&new, day, pages.1, up_to).await?;
        for (key, before) in before {
            let after = after.remove(&key).unwrap_or_default();
            found.rider(key.to_hex(), &before, &after)?;
        }
        // Only the new tariff has a station that they tapped at.
        for (key, after) in after {
            found.rider(key.to_hex(), &Priced::default(), &after)?;
        }
        match up_to {
            Some(last) => cursor = last.as_slice().to_vec(),
            None => break,
        }
    }
    let difference = found.finish(format!("published for {day}"), version);
    Ok(Tried { difference, unknown_taps })
}

async fn page(clearing: &Clearing, day: ServiceDay, cursor: &[u8]) -> Result<Chunk, ClearingError> {
    clearing.not_deleted(day).await?;
    read_chunk(clearing.store.pool(), &clearing.tariffs, day, cursor, &AFTER_ALL).await
}

/// A page's tokens up to one of them, priced, those without a journey on the day left out.
async fn priced(
    clearing: &Clearing,
    day: ServiceDay,
    page: Chunk,
    up_to: Option<TokenKey>,
) -> Result<BTreeMap<TokenKey, Priced>, ClearingError> {
    let mut tokens = page.tokens;
    tokens.retain(|token| up_to.is_none_or(|last| token.key <= last));
    let priced = clearing.price_tokens(day, tokens, None).await?;
    let priced = priced.into_iter().map(|token| (token.key, token.priced));
    Ok(priced.filter(|(_, priced)| !priced.days.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clearing::testing::{day, house_tariff, penniless};
    use crate::testing::MORNING;
    use wavepass_fares::Fen;
    use wavepass_protocol::time::UnixMs;

    #[tokio::test]
    async fn a_tariff_is_tried_on_a_closed_day_and_changes_nothing() {
        let (house, ..) = penniless("").await;
        let dearer = house_tariff()
            .replace("wavepass-city-1", "wavepass-city-2")
            .replace("2026-01-01", "2027-01-01")
            .replace("maximum_fare_fen = 900", "maximum_fare_fen = 1000");
        let new = |text| Text { file: "new.toml", text };
        let refused = difference_on(&house.app, day(), new(&dearer)).await.unwrap_err();
        assert!(matches!(refused, ClearingError::NotClosed { .. }), "{refused}");
        house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
        crate::clearing::app::close(&house.app, "anna", day(), false, false).await.unwrap();

        let tried = difference_on(&house.app, day(), new(&dearer)).await.unwrap();
        let found = tried.difference;
        let total = (found.total.old_fen, found.total.new_fen, found.total.change_fen);
        assert_eq!(total, (Fen(900), Fen(1_000), Fen(100)));
        assert_eq!(
            (found.days.len(), found.journeys, found.journeys_changed, found.tokens_changed),
            (1, 1, 1, 1)
        );
        assert_eq!((found.new.as_str(), tried.unknown_taps), ("wavepass-city-2", 0));
        assert_eq!(
            vec![found.movers[0].token.to_uppercase()],
            house.texts("SELECT hex(token_key) FROM tokens").await
        );

        let elsewhere = dearer.replace("\"A1\"", "\"HB\"");
        let tried = difference_on(&house.app, day(), new(&elsewhere)).await.unwrap();
        assert_eq!((tried.difference.total.new_fen, tried.unknown_taps), (Fen(0), 1));
        let other = dearer.replace("04:00", "03:00");
        let refused = difference_on(&house.app, day(), new(&other)).await.unwrap_err().to_string();
        assert!(refused.contains("start of the service day"), "{refused}");
        assert_eq!(house.count("SELECT count(*) FROM tariffs").await, 1);
        assert_eq!(house.count("SELECT count(*) FROM batches").await, 1);
    }
}
