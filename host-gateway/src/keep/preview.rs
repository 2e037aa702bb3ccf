//! What an erasure would come to, and what stands against it. Nothing is changed.

use super::erase::{Against, EraseError, Erased, SetAside, Subject, TOKENS, of, to_pay_out};
use crate::clearing::unfinished;
use crate::cli::App;
use crate::keys::TokenKey;
use crate::risk::{on_days, tapped_utc_days_in};
use crate::store::db::{Conn, query, read_many};

/// What erasing the person of an account would come to now.
pub async fn preview(app: &App, account: &str) -> Result<Erased, EraseError> {
    let mut snapshot = app.store.pool().begin().await?;
    let (tokens, left_fen) = match Subject::find_in(&mut snapshot, app, account).await? {
        Subject::Erased(erased_ms) => return Ok(Erased { dry_run: true, ..Erased::before(erased_ms) }),
        Subject::Known { tokens, left } => (tokens, left),
    };
    let mut would = Erased { dry_run: true, tokens: tokens.len() as u64, left_fen, ..Erased::default() };
    let days = tapped_utc_days_in(&mut snapshot).await?;
    let opened = "SELECT count(*) FROM (VALUES ??) AS v CROSS JOIN token_taps AS i CROSS JOIN entries AS e \
                  WHERE i.utc_day = v.column1 AND i.token_key = v.column2 AND i.time_ms BETWEEN v.column3 AND v.column4 \
                  AND e.key_id = i.key_id AND e.sequence = i.sequence AND length(e.sealed) > 0";
    for row in read_many(&mut snapshot, opened, on_days(&days, &tokens)).await? {
        would.entries += row.try_get::<i64>(0)?.unsigned_abs();
    }
    let refused = "SELECT count(*) FROM taps AS t INDEXED BY taps_refused CROSS JOIN entries AS e WHERE t.opened = 0 \
                   AND t.token_key IN ?? AND e.key_id = t.key_id AND e.sequence = t.sequence AND length(e.sealed) > 0";
    would.entries += count_in(&mut snapshot, refused, &tokens).await?;
    let denied = "SELECT count(*) FROM deny_entries WHERE token_key IN ??";
    would.deny_entries = count_in(&mut snapshot, denied, &tokens).await?;
    let unfinished = unfinished::of_tokens_in(&mut snapshot, &tokens).await?;
    would.against.extend(unfinished.into_iter().map(Against::from));
    if let Some(left) = to_pay_out(app, left_fen)? {
        let says = EraseError::Balance(left).to_string();
        would.against.push(Against { why: "balance_left", says });
    }
    drop(snapshot);
    let mut aside = SetAside::of(&tokens);
    while let Some(theirs) = aside.next(app).await? {
        would.set_aside += theirs.len() as u64;
    }
    Ok(would)
}

async fn count_in(conn: &mut Conn, text: &'static str, tokens: &[TokenKey]) -> Result<u64, EraseError> {
    let mut count = 0;
    for tokens in tokens.chunks(TOKENS) {
        // A count is never negative.
        count += of(query(text), tokens).scalar::<i64>(&mut *conn).await?.unsigned_abs();
    }
    Ok(count)
}
