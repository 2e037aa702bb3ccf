//! How journeys are paired and priced, on the city's own tariff and on small ones made for a question.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::RangeInclusive;

use proptest::prelude::*;
use wavepass_fares::{
    Category, Fen, Kind, Passage, Periods, Priced, ServiceDay, Status, Tap, TapId, Tariff, Tariffs, Window,
    price,
};

const CITY: &str = include_str!("../../tariffs/wavepass-city.toml");

fn city() -> Tariffs {
    Tariff::parse("wavepass-city.toml", CITY).unwrap().compile().unwrap()
}

fn day(text: &str) -> ServiceDay {
    text.parse().unwrap()
}

/// Milliseconds of a local time on 2026-11-23 (hours may go beyond 24: the next day).
fn at(hours: i64, minutes: i64, seconds: i64) -> i64 {
    let midnight = day("2026-11-23").number() * 86_400_000 - 8 * 3_600_000;
    midnight + ((hours * 60 + minutes) * 60 + seconds) * 1000
}

fn tap(tariffs: &Tariffs, sequence: u32, time_ms: i64, station: &str, kind: Kind) -> Tap {
    let station = tariffs.station(station).unwrap();
    Tap { time_ms, station, kind, id: TapId { key: [0; 8], sequence }, passage: Passage::Passed }
}

fn priced(tariffs: &Tariffs, taps: &[Tap]) -> Priced {
    priced_in(tariffs, taps, &Periods::NONE)
}

fn priced_in(tariffs: &Tariffs, taps: &[Tap], emergencies: &Periods) -> Priced {
    let mut taps = taps.to_vec();
    let days = day("2026-11-01")..=day("2026-12-31");
    price(tariffs, window(&mut taps, days, emergencies)).unwrap()
}

/// A window of a rider without a category who told nothing.
fn window<'a>(taps: &'a mut [Tap], days: RangeInclusive<ServiceDay>, emergencies: &'a Periods) -> Window<'a> {
    Window { taps, corrections: &[], category: Category::STANDARD, days, emergencies }
}

fn statuses(priced: &Priced) -> Vec<(Status, i64)> {
    priced.journeys.iter().map(|j| (j.status, j.charged.0)).collect()
}

#[test]
fn hangzhou_fares_rise_at_each_boundary_and_not_on_it() {
    // Hangzhou metro, from secondary sources: 2 CNY to 4 km, +1 per 4 km to 12, per 6 km to 24, per 8 km beyond.
    let tariff = Tariff::parse("city", CITY).unwrap();
    let fare = tariff.networks[0].distance_fare.as_ref().unwrap();
    let known = [
        (0, 200),
        (4_000, 200),
        (4_001, 300),
        (8_000, 300),
        (8_001, 400),
        (12_000, 400),
        (12_001, 500),
        (18_000, 500),
        (18_001, 600),
        (24_000, 600),
        (24_001, 700),
        (32_000, 700),
        (32_001, 800),
        (40_001, 900),
    ];
    for (metres, fen) in known {
        assert_eq!(fare.fare(metres), Ok(Fen(fen)), "{metres} m");
    }
}

#[test]
fn the_fare_goes_by_the_shortest_way() {
    let tariff = Tariff::parse("city", CITY).unwrap();
    // Lantern Junction to University: one stop on line 2.
    assert_eq!(tariff.distance_m("LJ", "UN"), Some(1_250));
    assert_eq!(tariff.distance_m("UN", "LJ"), Some(1_250));
    // River Stairs to Teahouse Place to University: 1500 + 1400 m; back by the junction it is 1350 + 1250 m.
    assert_eq!(tariff.distance_m("RS", "UN"), Some(2_600));
    // Line 1 from end to end is 23,600 m; changing twice between the junction and Teahouse Place saves 200.
    assert_eq!(tariff.distance_m("HB", "AP"), Some(23_400));
    assert_eq!(tariff.distance_m("HB", "nowhere"), None);
}

#[test]
fn an_entry_and_an_exit_make_one_journey_of_the_day_of_its_entry() {
    let t = city();
    let taps = [tap(&t, 1, at(27, 50, 0), "HB", Kind::Entry), tap(&t, 2, at(28, 10, 0), "AP", Kind::Exit)];
    let p = priced(&t, &taps);
    assert_eq!(statuses(&p), [(Status::Complete, 600)]);
    assert_eq!(p.journeys[0].day, day("2026-11-23"));
    assert_eq!(p.days.len(), 1);
    assert_eq!(p.days[0].charge, Fen(600));
}

#[test]
fn a_missing_half_pays_the_maximum_fare() {
    let t = city();
    let entry = tap(&t, 1, at(8, 0, 0), "HB", Kind::Entry);
    let exit = tap(&t, 2, at(8, 30, 0), "QS", Kind::Exit);
    assert_eq!(statuses(&priced(&t, &[entry])), [(Status::Incomplete, 900)]);
    assert_eq!(statuses(&priced(&t, &[exit])), [(Status::Incomplete, 900)]);
    let second = tap(&t, 3, at(8, 10, 0), "MG", Kind::Entry);
    assert_eq!(
        statuses(&priced(&t, &[entry, second, exit])),
        [(Status::Incomplete, 900), (Status::Complete, 200)]
    );
}

#[test]
fn a_missing_half_is_forgiven_where_an_emergency_may_be_why() {
    let t = city();
    let entry = tap(&t, 1, at(8, 0, 0), "HB", Kind::Entry);
    let exit = tap(&t, 2, at(8, 0, 0), "QS", Kind::Exit);
    // The maximum journey time is four hours. A period's end is no part of it.
    let after = [
        (at(7, 0, 0)..at(8, 0, 0), Status::Incomplete, 900),
        (at(7, 0, 0)..at(8, 0, 1), Status::Forgiven, 0),
        (at(12, 0, 0)..at(13, 0, 0), Status::Forgiven, 0),
        (at(12, 0, 1)..at(13, 0, 0), Status::Incomplete, 900),
    ];
    for (period, status, fen) in after {
        let p = priced_in(&t, &[entry], &Periods::new(vec![period.clone()]));
        assert_eq!(statuses(&p), [(status, fen)], "entry, {period:?}");
        assert_eq!((p.journeys[0].nominal, p.days[0].charge), (Fen(900), Fen(fen)));
    }
    let before = [
        (at(3, 0, 0)..at(4, 0, 0), Status::Incomplete, 900),
        (at(3, 0, 0)..at(4, 0, 1), Status::Forgiven, 0),
        (at(8, 0, 0)..at(9, 0, 0), Status::Forgiven, 0),
        (at(8, 0, 1)..at(9, 0, 0), Status::Incomplete, 900),
    ];
    for (period, status, fen) in before {
        let p = priced_in(&t, &[exit], &Periods::new(vec![period.clone()]));
        assert_eq!(statuses(&p), [(status, fen)], "exit, {period:?}");
    }
}

#[test]
fn an_emergency_changes_no_journey_that_has_both_taps() {
    let t = city();
    let ever = i64::MIN..i64::MAX;
    let always = Periods::new(vec![ever]);
    let taps = [
        tap(&t, 1, at(8, 0, 0), "HB", Kind::Entry),
        tap(&t, 2, at(8, 9, 0), "QS", Kind::Exit),
        tap(&t, 3, at(9, 0, 0), "HB", Kind::Entry),
        tap(&t, 4, at(9, 40, 0), "HB", Kind::Exit),
        tap(&t, 5, at(10, 0, 0), "UN", Kind::Single),
    ];
    let p = priced_in(&t, &taps, &always);
    assert_eq!(statuses(&p), [(Status::Complete, 200), (Status::SameStation, 900), (Status::Complete, 200)]);
    assert_eq!(p, priced(&t, &taps));
}

#[test]
fn over_the_maximum_journey_time_it_is_two_incomplete_journeys() {
    let t = city();
    let entry = tap(&t, 1, at(8, 0, 0), "HB", Kind::Entry);
    let last = tap(&t, 2, at(12, 0, 0), "QS", Kind::Exit);
    let late = tap(&t, 2, at(12, 0, 1), "QS", Kind::Exit);
    assert_eq!(statuses(&priced(&t, &[entry, last])), [(Status::Complete, 200)]);
    assert_eq!(statuses(&priced(&t, &[entry, late])), [(Status::Incomplete, 900), (Status::Incomplete, 900)]);
}

#[test]
fn leaving_where_one_entered_is_free_then_cheap_then_the_maximum() {
    let t = city();
    let entry = tap(&t, 1, at(8, 0, 0), "HB", Kind::Entry);
    for (minutes, seconds, fen) in [(2, 0, 0), (2, 1, 200), (30, 0, 200), (30, 1, 900)] {
        let exit = tap(&t, 2, at(8, minutes, seconds), "HB", Kind::Exit);
        assert_eq!(statuses(&priced(&t, &[entry, exit])), [(Status::SameStation, fen)]);
    }
}

#[test]
fn the_same_tap_again_within_the_passback_window_counts_once() {
    let t = city();
    let taps = [
        tap(&t, 1, at(8, 0, 0), "HB", Kind::Entry),
        tap(&t, 2, at(8, 0, 15), "HB", Kind::Entry),
        tap(&t, 3, at(8, 20, 0), "MG", Kind::Exit),
        tap(&t, 4, at(8, 20, 20), "MG", Kind::Exit),
        tap(&t, 5, at(9, 0, 0), "UN", Kind::Single),
        tap(&t, 6, at(9, 0, 9), "UN", Kind::Single),
    ];
    assert_eq!(statuses(&priced(&t, &taps)), [(Status::Complete, 200), (Status::Complete, 200)]);
    // The last of the entries is the one that was passed.
    assert_eq!(priced(&t, &taps).journeys[0].first.sequence, 2);
    // Beyond the window it is another journey.
    let late = [taps[0], tap(&t, 2, at(8, 0, 21), "HB", Kind::Entry)];
    assert_eq!(statuses(&priced(&t, &late)), [(Status::Incomplete, 900), (Status::Incomplete, 900)]);
}

#[test]
fn an_opened_gate_that_nobody_passed_does_not_count() {
    let t = city();
    let mut entry = tap(&t, 1, at(8, 0, 0), "HB", Kind::Entry);
    entry.passage = Passage::NotPassed;
    assert_eq!(priced(&t, &[entry]), Priced::default());
    entry.passage = Passage::Unknown;
    assert_eq!(priced(&t, &[entry]).journeys.len(), 1);
}

#[test]
fn a_single_tap_pays_the_flat_fare_and_ends_no_journey() {
    let t = city();
    let taps = [
        tap(&t, 1, at(8, 0, 0), "HB", Kind::Entry),
        tap(&t, 2, at(8, 10, 0), "UN", Kind::Single),
        tap(&t, 3, at(8, 20, 0), "QS", Kind::Exit),
    ];
    let p = priced(&t, &taps);
    assert_eq!(statuses(&p), [(Status::Complete, 200), (Status::Complete, 200)]);
    assert_eq!(p.days[0].charge, Fen(400));
    assert_eq!(p.journeys[1].left, None);
}

#[test]
fn a_weekly_cap_counts_from_the_day_that_the_tariff_says() {
    // From Saturday 2026-11-21 to Sunday 2026-11-29, a ride of 400 fen on each of these days.
    let rides = [-2, -1, 0, 5, 6];
    for (starts, charges) in [
        ("week_starts = \"sunday\"\n", [400, 400, 200, 0, 400]),
        ("week_starts = \"monday\"\n", [400, 200, 400, 200, 0]),
        // Where it is not said, from Monday.
        ("", [400, 200, 400, 200, 0]),
    ] {
        let cap = format!("\n[[cap]]\nname = \"week\"\nperiod = \"week\"\n{starts}limit_fen = 600\n");
        let t = Tariff::parse("t", &format!("{CITY}{cap}")).unwrap().compile().unwrap();
        let ride = |(n, day): (u32, i64)| {
            let hours = 24 * day + 8;
            let entry = tap(&t, 2 * n, at(hours, 0, 0), "HB", Kind::Entry);
            [entry, tap(&t, 2 * n + 1, at(hours, 30, 0), "CH", Kind::Exit)]
        };
        let taps: Vec<Tap> = (0..).zip(rides).flat_map(ride).collect();
        let charged: Vec<i64> = priced(&t, &taps).days.iter().map(|day| day.charge.0).collect();
        assert_eq!(charged, charges, "{starts}");
    }
}

#[test]
fn each_day_is_priced_by_the_tariff_in_force() {
    let later = CITY
        .replace("effective_from = \"2026-01-01\"", "effective_from = \"2026-11-24\"")
        .replace("base_fen = 200", "base_fen = 250")
        .replace("maximum_fare_fen = 900", "maximum_fare_fen = 1000");
    let versions = [later.as_str(), CITY].map(|text| Tariff::parse("t", text).unwrap());
    let t = Tariffs::new(versions.to_vec()).unwrap();
    let ride = |n, hours| {
        [tap(&t, n, at(hours, 0, 0), "HB", Kind::Entry), tap(&t, n + 1, at(hours, 9, 0), "QS", Kind::Exit)]
    };
    // 03:00 of the 24th is still the 23rd's service day.
    let p = priced(&t, &[ride(1, 27), ride(3, 28)].concat());
    assert_eq!(statuses(&p), [(Status::Complete, 200), (Status::Complete, 250)]);
    assert_eq!(p.days.iter().map(|d| d.charge.0).collect::<Vec<_>>(), [200, 250]);
}

#[test]
fn a_station_that_the_days_tariff_lacks_is_charged_nothing_and_told() {
    let later = CITY
        .replace("effective_from = \"2026-01-01\"", "effective_from = \"2026-11-24\"")
        .replace("\"AP\"", "\"NEW\"");
    let t = Tariffs::new([CITY, &later].map(|text| Tariff::parse("t", text).unwrap()).to_vec()).unwrap();
    let p =
        priced(&t, &[tap(&t, 1, at(8, 0, 0), "HB", Kind::Entry), tap(&t, 2, at(9, 0, 0), "NEW", Kind::Exit)]);
    assert_eq!(statuses(&p), [(Status::Unpriced, 0)]);
}

#[test]
fn a_day_before_the_first_tariff_is_charged_nothing_and_told() {
    let later = CITY.replace("effective_from = \"2026-01-01\"", "effective_from = \"2026-11-24\"");
    let t = Tariffs::new(vec![Tariff::parse("t", &later).unwrap()]).unwrap();
    let ride = |n, day: i64| {
        let hours = day * 24 + 8;
        [tap(&t, n, at(hours, 0, 0), "HB", Kind::Entry), tap(&t, n + 1, at(hours, 9, 0), "QS", Kind::Exit)]
    };
    // With what is incomplete or forgiven, too.
    let half = [tap(&t, 5, at(12, 0, 0), "HB", Kind::Entry), tap(&t, 6, at(20, 0, 0), "HB", Kind::Single)];
    let p = priced(&t, &[&ride(1, 0)[..], &half, &ride(3, 1)].concat());
    let unpriced = (Status::Unpriced, 0);
    assert_eq!(statuses(&p), [unpriced, unpriced, unpriced, (Status::Complete, 200)]);
}

/// Where and when one token tapped over three days, with times close together often enough for repeats.
fn taps_of(tariffs: &Tariffs) -> impl Strategy<Value = Vec<Tap>> + use<> {
    let stations = ["HB", "QS", "MG", "UN", "AP"].map(|s| tariffs.station(s).unwrap());
    let kinds = [Kind::Entry, Kind::Entry, Kind::Exit, Kind::Exit, Kind::Single];
    let one = (0..4 * 24 * 60_i64, 0..3_i64, 0..stations.len(), 0..kinds.len(), 0..4);
    prop::collection::vec(one, 0..14).prop_map(move |raw| {
        let tap =
            |(i, (minute, second, station, kind, passage)): (usize, (i64, i64, usize, usize, i32))| Tap {
                time_ms: at(4, minute / 4, second * 9),
                station: stations[station],
                kind: kinds[kind],
                id: TapId { key: [7; 8], sequence: i as u32 },
                passage: if passage == 0 { Passage::NotPassed } else { Passage::Unknown },
            };
        raw.into_iter().enumerate().map(tap).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_order_of_arrival_changes_nothing(
        (taps, shuffled) in taps_of(&city()).prop_flat_map(|t| (Just(t.clone()), Just(t).prop_shuffle())),
    ) {
        let t = city_once();
        prop_assert_eq!(priced(t, &taps), priced(t, &shuffled));
    }

    #[test]
    fn a_tap_that_comes_twice_counts_once(taps in taps_of(&city()), which in any::<prop::sample::Index>()) {
        prop_assume!(!taps.is_empty());
        let t = city_once();
        let twice = [taps.clone(), vec![*which.get(&taps)]].concat();
        prop_assert_eq!(priced(t, &taps), priced(t, &twice));
    }

    #[test]
    fn a_tap_changes_only_its_own_day_and_those_its_journey_reaches(
        taps in taps_of(&city()), which in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!taps.is_empty());
        let t = city_once();
        let gone = which.index(taps.len());
        let tap = taps[gone];
        let without: Vec<Tap> = taps.iter().filter(|x| x.id != tap.id).copied().collect();
        let (with, without) = (priced(t, &taps), priced(t, &without));
        let reach = |ms| t.clock().day_of(ms).unwrap();
        let near = reach(tap.time_ms - t.reach_ms())..=reach(tap.time_ms + t.reach_ms());
        let far = |p: &Priced| {
            p.days.iter().filter(|d| !near.contains(&d.day)).map(|d| (d.day, p.journeys[d.journeys.clone()].to_vec())).collect::<Vec<_>>()
        };
        prop_assert_eq!(far(&with), far(&without));
    }

    #[test]
    fn a_day_priced_from_its_window_alone_is_the_day_priced_from_everything(taps in taps_of(&city())) {
        let t = city_once();
        let all = priced(t, &taps);
        for d in [day("2026-11-23"), day("2026-11-24")] {
            let span = t.clock().start_ms(d) - t.reach_ms()..t.clock().end_ms(d) + t.reach_ms();
            let mut near: Vec<Tap> = taps.iter().filter(|x| span.contains(&x.time_ms)).copied().collect();
            let alone = price(t, window(&mut near, d..=d, &Periods::NONE)).unwrap();
            let wanted: Vec<_> = all.journeys.iter().filter(|j| j.day == d).copied().collect();
            prop_assert_eq!(alone.journeys, wanted);
        }
    }

    #[test]
    fn an_emergency_only_forgives_what_would_be_incomplete(
        taps in taps_of(&city()),
        raw in prop::collection::vec((0..4 * 24 * 60_i64, 1..300_i64), 0..4),
    ) {
        let t = city_once();
        let period = |(minute, minutes)| at(4, minute, 0)..at(4, minute + minutes, 0);
        let emergencies = Periods::new(raw.into_iter().map(period).collect());
        let (plain, forgiving) = (priced(t, &taps), priced_in(t, &taps, &emergencies));
        prop_assert_eq!(plain.journeys.len(), forgiving.journeys.len());
        for (before, after) in plain.journeys.iter().zip(&forgiving.journeys) {
            if after.status == Status::Forgiven {
                prop_assert_eq!((before.status, after.charged), (Status::Incomplete, Fen::ZERO));
                prop_assert_eq!((before.first, before.nominal), (after.first, after.nominal));
            } else {
                prop_assert_eq!(before, after);
            }
        }
        if emergencies == Periods::NONE {
            prop_assert_eq!(plain, forgiving);
        }
    }

    #[test]
    fn every_passed_tap_is_in_at_most_one_journey_and_charges_are_the_journeys_sum(taps in taps_of(&city())) {
        let p = priced(city_once(), &taps);
        let mut used: Vec<TapId> = p.journeys.iter().flat_map(|j| [Some(j.first), j.second]).flatten().collect();
        let count = used.len();
        used.sort_unstable();
        used.dedup();
        prop_assert_eq!(used.len(), count);
        for d in &p.days {
            let sum = Fen::sum(p.journeys[d.journeys.clone()].iter().map(|j| j.charged)).unwrap();
            prop_assert_eq!(sum, d.charge);
        }
        prop_assert!(p.journeys.iter().all(|j| (0..=900).contains(&j.charged.0)));
    }
}

fn city_once() -> &'static Tariffs {
    static CITY: std::sync::OnceLock<Tariffs> = std::sync::OnceLock::new();
    CITY.get_or_init(city)
}
