//! Work that meets another's is done again, a few times.
//!
//! On PostgreSQL those who write beside each other may want the same rows, and one of two that wait for each other is refused. A program
//! beside them (a backup, a person at the database's own prompt) may hold SQLite's lock, and a database that is spread over
//! machines may refuse one of two that met.
//! Neither says anything of what the work was about: it is no decline. It is done again, and where that does not
//! help the store's error is told.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

/// How long to wait before each further try. On SQLite each try waits for the lock itself first, for 15 seconds.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(25), Duration::from_millis(125)];

/// Does a piece of work that is a transaction from its begin to its commit, and again, up to three times, where it met
/// another.
pub async fn again_if_met<T, E, F>(mut work: impl FnMut() -> F) -> Result<T, E>
where
    E: Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    for pause in PAUSES {
        match work().await {
            Err(error) if met_another(&error) => {
                metrics::counter!("wavepass_store_meetings_total").increment(1);
                tracing::warn!(%error, "the database was busy with another's work: it is tried again");
            }
            done => return done,
        }
        tokio::time::sleep(pause).await;
    }
    work().await
}

/// Whether this is, at its root, the database's word that two transactions met and this one is to be done again.
fn met_another(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(sqlx::Error::Database(error)) = error.downcast_ref::<sqlx::Error>() {
            let code = error.code().unwrap_or_default();
            return match error.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
                // SQLITE_BUSY, whichever its second byte.
                Some(_) => code.parse().is_ok_and(|code: u32| code & 0xFF == 5),
                // serialization_failure, deadlock_detected
                None => code == "40001" || code == "40P01",
            };
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;
    use crate::store::db::query;
    use crate::store::testing::{in_the_way, scratch};
    use std::cell::Cell;

    #[tokio::test]
    async fn what_meets_another_s_work_is_done_again_with_a_bound_and_nothing_else_is() {
        let scratch = scratch().await;
        let tries = Cell::new(0);
        let write = || async {
            tries.set(tries.get() + 1);
            let mut tx = scratch.begin().await?;
            query("INSERT INTO breaks (id, kind, subject, detail, opened_ms) VALUES ('a', 'b', 'c', 'd', 1)")
                .execute(&mut *tx)
                .await?;
            Ok::<_, StoreError>(tx.commit().await?)
        };
        let busy = in_the_way(&scratch, "breaks").await;
        let refused = again_if_met(write).await.unwrap_err();
        assert!(met_another(&refused), "{refused}");
        assert_eq!(tries.replace(0), 4);
        busy.gone().await;
        again_if_met(write).await.unwrap();
        assert_eq!(tries.replace(0), 1);
        // The same key again: not a meeting.
        let refused = again_if_met(write).await.unwrap_err();
        assert!(!met_another(&refused), "{refused}");
        assert_eq!(tries.get(), 1);
    }
}
