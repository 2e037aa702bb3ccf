//! A pass: much that has come is looked at in the order of tokens, some tokens in a transaction, so that each place of the
//! tables that are kept by token is touched once and each token's taps are seen together.
//!
//! The runs of a pass are marked, and every transaction moves the cursor of its range of tokens: after a crash, whoever comes
//! next goes on from there. Several gateways may work on a pass.

use super::RiskError;
use super::arrivals::{self, Run};
use crate::store::db::{Conn, query, write_many};
use crate::store::shards::Part;
use crate::store::{Store, StoreError};

/// A pass that is not at its end.
pub(super) struct Pass {
    number: i64,
    /// What is left to do.
    pub(super) parts: Vec<Part>,
}

/// Begins a pass over these runs.
pub(super) async fn begin_in(conn: &mut Conn, runs: &[Run], shared: bool) -> Result<(), StoreError> {
    arrivals::into_pass_in(conn, runs).await?;
    let number: Option<i64> = query("SELECT max(number) FROM risk_pass").scalar(&mut *conn).await?;
    let number = number.unwrap_or(0) + 1;
    query("DELETE FROM risk_pass").execute(&mut *conn).await?;
    let parts = Part::of_all(shared);
    let rows = parts.iter().map(|part| (part.shard, number, &part.cursor, &part.until, true));
    write_many(conn, "INSERT INTO risk_pass (shard, number, cursor, until, open) VALUES ??", rows).await?;
    Ok(())
}

/// The pass that is open, if one is.
pub(super) async fn open_in(conn: &mut Conn) -> Result<Option<Pass>, StoreError> {
    let rows: Vec<(u8, i64, Vec<u8>, Vec<u8>)> =
        query("SELECT shard, number, cursor, until FROM risk_pass WHERE open = 1 ORDER BY shard")
            .rows(conn)
            .await?;
    let Some(&(_, number, ..)) = rows.first() else { return Ok(None) };
    let parts = rows.into_iter().map(|(shard, _, cursor, until)| Part { shard, cursor, until });
    Ok(Some(Pass { number, parts: parts.filter(|part| part.cursor != part.until).collect() }))
}

/// Whether a pass is open: what it has read of the taps it enters beside their tokens, whatever becomes of them meanwhile.
pub(crate) async fn is_in_pass(conn: &mut Conn) -> Result<bool, StoreError> {
    let open: i64 = query("SELECT count(*) FROM risk_pass WHERE open = 1").scalar(conn).await?;
    Ok(open > 0)
}

impl Pass {
    /// Moves a part's cursor; false where somebody else did.
    pub(super) async fn move_in(
        &self,
        conn: &mut Conn,
        part: &Part,
        after: &[u8],
    ) -> Result<bool, StoreError> {
        let moved = query("UPDATE risk_pass SET cursor = ? WHERE shard = ? AND number = ? AND cursor = ?")
            .bind(after)
            .bind(part.shard)
            .bind(self.number)
            .bind(&part.cursor)
            .execute(conn)
            .await?;
        Ok(moved == 1)
    }

    /// Where a part of this pass stands now; none where it is done.
    pub(super) async fn part(&self, store: &Store, shard: u8) -> Result<Option<Part>, StoreError> {
        let mut conn = store.pool().acquire().await?;
        let open = open_in(&mut conn).await?.filter(|pass| pass.number == self.number);
        Ok(open.and_then(|pass| pass.parts.into_iter().find(|part| part.shard == shard)))
    }

    /// Ends the pass where all of it is done, and takes its runs away.
    pub(super) async fn end(&self, store: &Store) -> Result<(), RiskError> {
        let mut tx = store.begin().await?;
        let open = open_in(&mut tx).await?.filter(|pass| pass.number == self.number);
        if open.is_some_and(|pass| pass.parts.is_empty()) {
            query("DELETE FROM arrivals WHERE in_pass = 1").execute(&mut *tx).await?;
            query("UPDATE risk_pass SET open = 0").execute(&mut *tx).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
