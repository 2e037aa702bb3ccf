//! Rows that go to the database in batches, by whatever way each takes them.

use super::{Conn, One, chunk, query, read_many, write_many};
use crate::store::testing::{scratch, scratch_on_postgres};
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

/// A row of `set_aside`, which has columns of every kind, two of them without a value where wanted.
type Aside = (String, Option<Vec<u8>>, Option<i64>, String, i64, Vec<u8>);

const INTO: &str = "INSERT INTO set_aside (id, key_id, sequence, why, received_ms, sealed) VALUES ??";

/// More rows than go into one statement of SQLite, with whatever a way of writing may mistake for its own.
fn rows() -> Vec<Aside> {
    let texts =
        ["", "\\N", "\\.", "a\tb", "a\nb", "a\r\nb", "\\x00", "\\", "地铁 🚇", "'; --", "\\\\n", " NULL "];
    let text = |n: usize| texts[n % texts.len()].to_owned();
    let row = |n: usize| {
        let bytes: Vec<u8> = (0..n % 300).map(|i| (i * 7 + n) as u8).collect();
        let number = [i64::MIN, -1, 0, 1, i64::MAX][n % 5];
        let some = !n.is_multiple_of(3);
        (
            format!("{n:05}{}", text(n)),
            some.then(|| bytes.clone()),
            some.then_some(number),
            text(n),
            number,
            bytes,
        )
    };
    (0..1_500).map(row).collect()
}

async fn write(conn: &mut Conn, rows: &[Aside]) -> Result<u64, sqlx::Error> {
    let rows = rows
        .iter()
        .map(|(id, key, sequence, why, at, sealed)| (id, key.as_ref(), *sequence, why, *at, sealed));
    write_many(conn, INTO, rows).await
}

#[tokio::test]
async fn many_rows_come_back_as_they_were_given_whatever_is_in_them() {
    let scratch = scratch().await;
    let rows = rows();
    let mut tx = scratch.begin().await.unwrap();
    assert_eq!(write(&mut tx, &rows).await.unwrap(), rows.len() as u64);
    tx.commit().await.unwrap();
    let text =
        "SELECT id, key_id, sequence, why, received_ms, sealed FROM set_aside ORDER BY received_ms, id";
    let mut there: Vec<Aside> = query(text).rows(scratch.pool()).await.unwrap();
    there.sort();
    assert!(there == rows, "{:?}", there.iter().zip(&rows).find(|(a, b)| a != b));
}

#[tokio::test]
async fn as_many_are_read_as_are_asked_for_in_however_many_statements() {
    let scratch = scratch().await;
    let rows = rows();
    let mut tx = scratch.begin().await.unwrap();
    write(&mut tx, &rows).await.unwrap();
    let whole = chunk(1);
    // None, one, whole statements, and one more than that.
    for asked in [0, 1, whole, whole + 1, 2 * whole, rows.len()] {
        let ids = rows[..asked].iter().map(|row| One(row.0.as_str()));
        let found = read_many(&mut tx, "SELECT id FROM set_aside WHERE id IN ??", ids).await.unwrap();
        let mut found: Vec<String> = found.iter().map(|row| row.try_get(0).unwrap()).collect();
        found.sort();
        assert!(found.iter().eq(rows[..asked].iter().map(|row| &row.0)), "{asked}");
    }
}

#[tokio::test]
async fn a_number_too_large_for_its_column_is_refused_and_never_cut() {
    let scratch = scratch_on_postgres().await;
    let text = "INSERT INTO risk_pass (shard, number, cursor, until, open) VALUES ??";
    let rows = |open: i64| (0..100_i64).map(move |shard| (shard, 1_i64, vec![0_u8], vec![1_u8], open));
    let mut tx = scratch.begin().await.unwrap();
    let refused = write_many(&mut tx, text, rows(65_537)).await.unwrap_err();
    assert!(matches!(refused, sqlx::Error::Encode(_)), "{refused}");
    assert_eq!(write_many(&mut tx, text, rows(1)).await.unwrap(), 100);
}

#[tokio::test]
async fn a_row_that_is_there_fails_the_whole_and_the_next_who_writes_is_not_in_the_way() {
    let scratch = scratch().await;
    let rows = rows();
    let mut tx = scratch.begin().await.unwrap();
    write(&mut tx, &rows[700..701]).await.unwrap();
    let refused = write(&mut tx, &rows).await.unwrap_err();
    assert!(refused.as_database_error().is_some_and(|e| e.is_unique_violation()), "{refused}");
    drop(tx);
    let mut tx = scratch.begin().await.unwrap();
    assert_eq!(write(&mut tx, &rows).await.unwrap(), rows.len() as u64);
}

#[tokio::test]
async fn writing_that_is_given_up_anywhere_leaves_nothing_and_the_next_writes_all() {
    let scratch = scratch().await;
    let rows = rows();
    for polls in (0..40).map(|n: usize| n * n) {
        {
            let mut writing = pin!(async {
                let mut tx = scratch.begin().await.unwrap();
                write(&mut tx, &rows).await.unwrap();
                std::future::pending::<()>().await;
            });
            let mut left = polls;
            std::future::poll_fn(|cx| {
                let given_up = left == 0 || writing.as_mut().poll(cx).is_ready();
                left -= usize::from(!given_up);
                match given_up {
                    true => Poll::Ready(()),
                    // Whatever it waits for, it is asked again.
                    false => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                }
            })
            .await;
        }
        let mut tx = scratch.begin().await.unwrap();
        let there: i64 = query("SELECT count(*) FROM set_aside").scalar(&mut *tx).await.unwrap();
        assert_eq!(there, 0, "after {polls} polls");
        assert_eq!(write(&mut tx, &rows).await.unwrap(), rows.len() as u64);
    }
}

/// A transaction that the database ends by itself, as SQLite does where the disk is full.
#[tokio::test]
async fn after_a_transaction_that_the_database_ended_the_next_one_begins() {
    let store = scratch().await;
    for _ in 0..3 {
        let mut tx = store.begin().await.unwrap();
        query("DELETE FROM set_aside").execute(&mut *tx).await.unwrap();
        query("ROLLBACK").execute(&mut *tx).await.unwrap();
        drop(tx);
        let mut snapshot = store.pool().begin().await.unwrap();
        query("ROLLBACK").execute(&mut *snapshot).await.unwrap();
        drop(snapshot);
        let mut tx = store.begin().await.unwrap();
        query("DELETE FROM set_aside").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
}
