//! What a close does where its transactions meet another's.

use crate::clearing::testing::{World, day};
use crate::clearing::tests::{assert_clean, close, deduct, rides};
use crate::settlement::settle_day;
use crate::store::testing::{meets_once, tried};

#[tokio::test]
async fn a_close_and_a_settlement_that_meet_another_s_work_are_done_again() {
    let calm = World::on_postgres(3, 10_000).await;
    let busy = World::on_postgres(3, 10_000).await;
    // Where the close begins, where a chunk is booked, where the batch is sealed, and where operators are settled.
    let tables = ["day_close", "charges", "batches", "settlements"];
    for table in tables {
        meets_once(&busy.scratch.store, table).await;
    }
    let mut settled = Vec::new();
    for world in [&calm, &busy] {
        world.taps(1, &rides(0..3)).await;
        close(world, false).await;
        deduct(world).await;
        settled.push(settle_day(&world.clearing, day(), &world.clearing.settlement).await.unwrap());
        assert_clean(world).await;
    }
    for table in tables {
        assert!(tried(&busy.scratch.store, table).await > 1, "{table}");
    }
    assert_eq!(settled[0], settled[1]);
    assert_eq!(calm.books().await, busy.books().await);
}
