//! Taps are in the partition of their day, and found wherever they are.

use super::*;
use crate::risk::near::NEAR;
use crate::risk::tests::APART;
use crate::risk::{LIMITS, Limits, run, run_within};
use crate::store::db::Rows;
use crate::store::testing::looked_into;
use crate::testing::{Card, House, MORNING, TapAt};
use wavepass_protocol::time::UnixMs;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Where each tap is.
const PLACES: &str =
    "SELECT CAST(CAST(tableoid AS regclass) AS TEXT) FROM token_taps ORDER BY key_id, sequence";
const PARTITIONS: &str = "SELECT CAST(CAST(inhrelid AS regclass) AS TEXT) FROM pg_inherits \
                          WHERE inhparent = CAST('token_taps' AS regclass) ORDER BY 1";
#[test]
fn bounds_are_read_as_postgresql_tells_them() {
    let of = |bounds: &str| Partition::of((String::new(), bounds.into()));
    let read = |bounds| (of(bounds).from_ms, of(bounds).upto_ms);
    assert_eq!(read("FOR VALUES FROM ('-5') TO ('1795392000000')"), (Some(-5), Some(1_795_392_000_000)));
    assert_eq!(read("FOR VALUES FROM (MINVALUE) TO ('7')"), (None, Some(7)));
    assert_eq!(read("DEFAULT"), (None, None));
}

#[tokio::test]
async fn a_pass_over_midnight_enters_each_tap_into_its_service_day_and_one_of_a_mad_clock_into_the_rest() {
    let house = House::on_postgres().await;
    let (mut a, mut b) = (house.gate(1).await, house.gate(2).await);
    let cards = [Card::new(1), Card::new(2)];
    for card in &cards {
        house.register(card).await;
    }
    // 07:59:59.999 and 08:00 by the city's clocks are two days in UTC, 03:59 and 04:00 are two service days.
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + DAY_MS)).unwrap();
    let last = 20 * HOUR_MS - 1;
    let taps: Vec<Vec<u8>> = [(last, 1), (20 * HOUR_MS, 2), (DAY_MS - 1, 3), (DAY_MS, 4)]
        .into_iter()
        .flat_map(|(at, atc)| [cards[0].tap(at, atc), cards[1].tap(at, atc)])
        .map(|tap| tap.seal(&mut a))
        .collect();
    house.ingest(&taps).await;
    // A gate that believes in the year 2090.
    let mad = cards[0].tap(64 * 365 * DAY_MS, 9);
    house.ingest(&[mad.seal(&mut b)]).await;
    // Two taps in a transaction, and all in one pass.
    run_within(&house.app, Limits { taps: 2, ..LIMITS }).await.unwrap();
    let [first, second] = ["token_taps_2026_11_23", "token_taps_2026_11_24"];
    let of_a = [first, first, second, second, second, second, second, second];
    assert_eq!(house.texts(PLACES).await, [&of_a[..], &["token_taps_rest"]].concat());
    assert_eq!(house.count(APART).await, 0);
    // What is in the rest is known: the same counter at another place, decades later, is a clone.
    let thief = TapAt { data: 999, ..cards[0].tap(DAY_MS + HOUR_MS, 9) };
    house.ingest(&[thief.seal(&mut b)]).await;
    assert_eq!(run(&house.app).await.unwrap().alerts, 1);
    assert_eq!(house.texts("SELECT kind FROM alerts").await, ["clone"]);
}

#[tokio::test]
async fn partitions_follow_the_clock_and_not_the_taps_and_a_day_that_began_in_the_rest_stays_there() {
    let house = House::on_postgres().await;
    let mut gate = house.gate(1).await;
    let card = Card::new(1);
    house.register(&card).await;
    // Three days ahead of the gateway, and sixty.
    house.ingest(&[card.tap(3 * DAY_MS, 5).seal(&mut gate), card.tap(60 * DAY_MS, 6).seal(&mut gate)]).await;
    run(&house.app).await.unwrap();
    let days = |days: std::ops::RangeInclusive<u32>| days.map(|day| format!("token_taps_2026_11_{day}"));
    assert_eq!(house.texts(PARTITIONS).await, days(16..=25).chain(rest()).collect::<Vec<_>>());
    // The next day, the day of the first tap is near and has taps in the rest.
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 2 * DAY_MS)).unwrap();
    house
        .ingest(&[card.tap(3 * DAY_MS + 1, 7).seal(&mut gate), card.tap(4 * DAY_MS, 8).seal(&mut gate)])
        .await;
    run(&house.app).await.unwrap();
    let with_a_gap = days(16..=25).chain(days(27..=27)).chain(rest());
    assert_eq!(house.texts(PARTITIONS).await, with_a_gap.collect::<Vec<_>>());
    let places = ["token_taps_rest", "token_taps_rest", "token_taps_rest", "token_taps_2026_11_27"];
    assert_eq!((house.texts(PLACES).await, house.count(APART).await), (places.map(String::from).to_vec(), 0));
}

#[tokio::test]
async fn while_somebody_has_hold_of_the_table_no_partition_is_made_and_nothing_waits_for_it() {
    let house = House::on_postgres().await;
    let mut gate = house.gate(1).await;
    let card = Card::new(1);
    house.register(&card).await;
    house.ingest(&[card.tap(0, 5).seal(&mut gate)]).await;
    // As a copy by pg_dump.
    let mut copy = house.app.store.pool().begin().await.unwrap();
    query("SELECT count(*) FROM token_taps").scalar::<i64>(&mut *copy).await.unwrap();
    assert_eq!(run(&house.app).await.unwrap().tokens, 1);
    assert_eq!((house.texts(PARTITIONS).await, house.texts(PLACES).await), (rest(), rest()));
    drop(copy);
    // All but today's, which has begun in the rest.
    run(&house.app).await.unwrap();
    assert_eq!(house.texts(PARTITIONS).await.len(), 1 + 10 - 1);
}

#[tokio::test]
async fn there_are_only_so_many_partitions_and_none_is_made_beside_a_large_rest() {
    let house = House::on_postgres().await;
    let mut gate = house.gate(1).await;
    let card = Card::new(1);
    house.register(&card).await;
    house.ingest(&[card.tap(60 * DAY_MS, 5).seal(&mut gate)]).await;
    run(&house.app).await.unwrap();
    let missing = async |days: std::ops::Range<i64>, bounds| {
        let clock = house.app.config.day_clock();
        let today = clock.day_of(MORNING as i64).unwrap();
        let days = days.map(|days| Span::of(clock, today.plus(days))).collect();
        let mut conn = house.app.store.pool().acquire().await.unwrap();
        missing_in(&mut conn, days, bounds)
            .await
            .unwrap()
            .iter()
            .map(|span| span.day.to_string())
            .collect::<Vec<_>>()
    };
    // Ten and the rest are there.
    assert_eq!(missing(0..6, BOUNDS).await, ["2026-11-26", "2026-11-27", "2026-11-28"]);
    assert_eq!(missing(0..6, Bounds { partitions: 12, ..BOUNDS }).await, ["2026-11-26"]);
    assert_eq!(missing(0..6, Bounds { partitions: 11, ..BOUNDS }).await, [""; 0]);
    assert_eq!(missing(0..6, Bounds { rest: 1, ..BOUNDS }).await, [""; 0]);
}

#[tokio::test]
async fn a_copy_that_is_put_back_has_each_tap_where_it_was() {
    let house = House::new().await;
    let mut gate = house.gate(1).await;
    let card = Card::new(1);
    house.register(&card).await;
    house.ingest(&[card.tap(0, 5).seal(&mut gate), card.tap(60 * DAY_MS, 6).seal(&mut gate)]).await;
    run(&house.app).await.unwrap();
    let copy = House::over(house.scratch.backup().await.restore(UnixMs(MORNING)).await).await;
    assert_eq!((copy.count(APART).await, copy.count("SELECT count(*) FROM token_taps").await), (0, 2));
    if copy.app.store.is_shared() {
        assert_eq!(copy.texts(PLACES).await, ["token_taps_2026_11_23", "token_taps_rest"]);
        assert_eq!(copy.texts(PARTITIONS).await, house.texts(PARTITIONS).await);
        // And it goes on there.
        copy.app.clock.driven().unwrap().set(UnixMs(MORNING + DAY_MS)).unwrap();
        run(&copy.app).await.unwrap();
        assert_eq!(copy.texts(PARTITIONS).await.len(), house.texts(PARTITIONS).await.len() + 1);
    }
}

#[tokio::test]
async fn who_looks_up_a_utc_day_looks_into_the_partitions_of_its_times_alone() {
    let house = House::on_postgres().await;
    let mut gate = house.gate(1).await;
    let card = Card::new(1);
    let token = house.register(&card).await;
    house.ingest(&[card.tap(0, 5).seal(&mut gate), card.tap(DAY_MS, 6).seal(&mut gate)]).await;
    run(&house.app).await.unwrap();
    let utc_day = (MORNING / DAY_MS) as i64;
    let (first, last) = utc_day_ms(utc_day);
    let both = ["token_taps_2026_11_23", "token_taps_2026_11_24"];
    for (upto, partitions) in [(first + HOUR_MS as i64, &both[..1]), (last, &both)] {
        let look_up = query_made(format!("EXPLAIN ANALYZE {NEAR}"));
        let look_up = look_up.bind_rows(Rows::of([(utc_day, token.as_slice(), first, upto)]));
        assert_eq!(looked_into(look_up, &house.app.store).await, partitions);
    }
}

fn rest() -> Vec<String> {
    vec!["token_taps_rest".to_owned()]
}
