//! What holds for any taps, by a tariff that has every rule at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use wavepass_fares::{
    Category, Correction, Fen, Journey, Kind, Passage, Period, Periods, Priced, ServiceDay, ShareMethod,
    Sharer, Status, Tap, TapId, Tariff, Tariffs, Window, price,
};

const EVERYTHING: &str = include_str!("tariffs/everything.toml");
const DAY_MS: i64 = 86_400_000;

/// Two versions: the later one, from a Wednesday on, has tighter caps and another order of them.
fn tariffs() -> &'static Tariffs {
    static TARIFFS: OnceLock<Tariffs> = OnceLock::new();
    TARIFFS.get_or_init(|| {
        let later = EVERYTHING
            .replace("effective_from = \"2026-01-01\"", "effective_from = \"2026-11-25\"")
            .replace("limit_fen = 1_000", "limit_fen = 800");
        let parse = |text: &str| Tariff::parse("everything.toml", text).unwrap();
        Tariffs::new(vec![parse(EVERYTHING), parse(&later)]).unwrap()
    })
}

fn day(text: &str) -> ServiceDay {
    text.parse().unwrap()
}

/// The days that taps are drawn from: Sunday to the Tuesday after next, over a change of versions.
fn days() -> RangeInclusive<ServiceDay> {
    day("2026-11-22")..=day("2026-12-01")
}

/// All days that a rider of these taps could be charged for.
fn all() -> RangeInclusive<ServiceDay> {
    day("2026-11-01")..=day("2026-12-31")
}

#[derive(Debug, Clone)]
struct Rider {
    taps: Vec<Tap>,
    corrections: Vec<Correction>,
    category: &'static str,
}

fn priced_on(rider: &Rider, days: RangeInclusive<ServiceDay>) -> Priced {
    let t = tariffs();
    let category = t.category(rider.category).unwrap_or(Category::STANDARD);
    let mut taps = rider.taps.clone();
    let corrections = &rider.corrections;
    let emergencies = &Periods::NONE;
    price(t, Window { taps: &mut taps, corrections, category, days, emergencies }).unwrap()
}

fn priced(rider: &Rider) -> Priced {
    priced_on(rider, all())
}

const STATIONS: [&str; 7] = ["A", "B", "C", "D", "X", "Y", "BUS"];

fn rider() -> impl Strategy<Value = Rider> {
    let start = tariffs().clock().start_ms(*days().start());
    let count = days().end().number() - days().start().number() + 1;
    // Rides: an entry and an exit some minutes later, either of which may be missing; and bus taps.
    let ride = (0..count, 0..1_430_i64, 1..200_i64, 0..6_usize, 0..6_usize, 0..12_u8, 0..9_u8);
    let rides = prop::collection::vec(ride, 0..30);
    let told = prop::collection::vec((any::<prop::sample::Index>(), 0..6_usize, 0..120_i64), 0..4);
    let category = prop::sample::select(vec!["adult", "student", "staff"]);
    (rides, told, category).prop_map(move |(rides, told, category)| {
        let station = |code: &str| tariffs().station(code).unwrap();
        let mut taps = Vec::new();
        let mut add = |time_ms, code: &str, kind| {
            let id = TapId { key: [7; 8], sequence: taps.len() as u32 };
            taps.push(Tap { time_ms, station: station(code), kind, id, passage: Passage::Unknown });
        };
        for (day, minute, took, from, to, shape, seconds) in rides {
            let begun = start + day * DAY_MS + minute * 60_000 + i64::from(seconds) * 1_000;
            match shape {
                0..3 => add(begun, "BUS", Kind::Single),
                3 => add(begun, STATIONS[from], Kind::Entry),
                4 => add(begun, STATIONS[to], Kind::Exit),
                _ => {
                    add(begun, STATIONS[from], Kind::Entry);
                    add(begun + took * 60_000, STATIONS[to], Kind::Exit);
                }
            }
        }
        let told = told.into_iter().filter(|_| !taps.is_empty()).map(|(which, at, hours)| {
            let tap = which.get(&taps);
            let asked_ms = tap.time_ms + hours * 3_600_000;
            Correction { tap: tap.id, asked_ms, station: station(STATIONS[at]) }
        });
        let corrections = told.collect();
        Rider { taps, corrections, category }
    })
}

/// True for journeys that caps count: all but those at the rider's maximum fare.
fn counts(journey: &Journey, category: &str) -> bool {
    let maximum = match category {
        "student" => 700,
        "staff" => 600,
        _ => 900,
    };
    match journey.status {
        Status::Complete | Status::Corrected | Status::AutoCompleted => true,
        Status::SameStation => journey.nominal < Fen(maximum),
        _ => false,
    }
}

fn sums(
    priced: &Priced,
    category: &str,
    period: Period,
    of: impl Fn(&Journey) -> bool,
) -> BTreeMap<ServiceDay, i64> {
    let mut sums = BTreeMap::new();
    for journey in priced.journeys.iter().filter(|journey| counts(journey, category) && of(journey)) {
        *sums.entry(*period.around(journey.day).start()).or_default() += journey.charged.0;
    }
    sums
}

fn by_day(priced: &Priced) -> BTreeMap<ServiceDay, Vec<Journey>> {
    priced.days.iter().map(|day| (day.day, priced.journeys[day.journeys.clone()].to_vec())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn caps_hold(rider in rider()) {
        let p = priced(&rider);
        let monday = Period::Week { starts: jiff::civil::Weekday::Monday };
        for (day, sum) in sums(&p, rider.category, Period::Day, |_| true) {
            let limit = if day < self::day("2026-11-25") { 1_000 } else { 800 };
            prop_assert!(sum <= limit, "{day}: {sum}");
        }
        for (week, sum) in sums(&p, rider.category, monday, |_| true) {
            prop_assert!(sum <= 2_400, "{week}: {sum}");
        }
        for (days, sum) in sums(&p, rider.category, Period::Days { days: 3, from: day("2026-11-20") }, |_| true) {
            prop_assert!(sum <= 1_600, "{days}: {sum}");
        }
        let bus = tariffs().station("BUS");
        let on_bus = |journey: &Journey| journey.entered.map(|place| place.station) == bus;
        for (day, sum) in sums(&p, rider.category, Period::Day, on_bus) {
            prop_assert!(sum <= 300, "{day}: {sum}");
        }
    }

    #[test]
    fn the_order_of_arrival_changes_nothing(
        (rider, taps, corrections) in rider().prop_flat_map(|r| {
            (Just(r.clone()), Just(r.taps).prop_shuffle(), Just(r.corrections).prop_shuffle())
        }),
    ) {
        let shuffled = Rider { taps, corrections, ..rider.clone() };
        prop_assert_eq!(priced(&rider), priced(&shuffled));
    }

    #[test]
    fn a_tap_changes_only_its_day_its_neighbours_and_later_days_of_its_periods(
        rider in rider(), which in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!rider.taps.is_empty());
        let t = tariffs();
        let gone = rider.taps[which.index(rider.taps.len())];
        let taps = rider.taps.iter().filter(|tap| tap.id != gone.id).copied().collect();
        let (with, without) = (by_day(&priced(&rider)), by_day(&priced(&Rider { taps, ..rider.clone() })));
        let of = |ms| t.clock().day_of(ms).unwrap();
        let (first, last) = (of(gone.time_ms - t.reach_ms()), of(gone.time_ms + t.reach_ms()));
        let touched = first..=*t.window(last).end();
        for day in with.keys().chain(without.keys()) {
            if !touched.contains(day) {
                prop_assert_eq!(with.get(day), without.get(day), "{}", day);
            }
        }
    }

    #[test]
    fn a_day_priced_from_its_window_alone_is_the_day_priced_from_everything(rider in rider()) {
        let t = tariffs();
        let everything = by_day(&priced(&rider));
        let mut day = *days().start();
        while day <= *days().end() {
            let span = t.clock().start_ms(*t.window(day).start()) - t.reach_ms()..t.clock().end_ms(day) + t.reach_ms();
            let taps = rider.taps.iter().filter(|tap| span.contains(&tap.time_ms)).copied().collect();
            let alone = by_day(&priced_on(&Rider { taps, ..rider.clone() }, day..=day));
            prop_assert_eq!(alone.get(&day), everything.get(&day), "{}", day);
            day = day.next();
        }
    }

    #[test]
    fn charges_are_sums_and_adjustments_only_lower_them(rider in rider()) {
        let p = priced(&rider);
        for day in &p.days {
            let journeys = &p.journeys[day.journeys.clone()];
            prop_assert_eq!(Fen::sum(journeys.iter().map(|j| j.charged)).unwrap(), day.charge);
            let nominal = Fen::sum(journeys.iter().map(|j| j.nominal)).unwrap();
            let off = Fen::sum(day.adjustments.iter().map(|a| a.fen)).unwrap();
            prop_assert_eq!(nominal.plus(off).unwrap(), day.charge);
            prop_assert!(day.adjustments.iter().all(|a| a.fen < Fen::ZERO));
        }
        for journey in &p.journeys {
            prop_assert!(Fen::ZERO <= journey.charged && journey.charged <= journey.nominal);
        }
    }

    #[test]
    fn a_days_shares_add_up_to_its_charge_whatever_the_taps_and_their_order(
        (rider, taps, corrections) in rider().prop_flat_map(|r| {
            (Just(r.clone()), Just(r.taps).prop_shuffle(), Just(r.corrections).prop_shuffle())
        }),
    ) {
        let t = tariffs();
        let category = t.category(rider.category).unwrap_or(Category::STANDARD);
        let (p, again) = (priced(&rider), priced(&Rider { taps, corrections, ..rider.clone() }));
        for method in [ShareMethod::Nominal, ShareMethod::PassengerKm] {
            let (mut sharer, mut another) = (Sharer::new(t, method), Sharer::new(t, method));
            for (day, same) in p.days.iter().zip(&again.days) {
                let shares = sharer.day(category, &p.journeys[day.journeys.clone()]).unwrap();
                prop_assert_eq!(Fen::sum(shares.iter().map(|share| share.fen)).unwrap(), day.charge);
                prop_assert!(shares.iter().all(|share| share.fen > Fen::ZERO && share.operator.is_some()));
                prop_assert_eq!(&shares, &another.day(category, &again.journeys[same.journeys.clone()]).unwrap());
            }
        }
    }

    #[test]
    fn operators_shares_add_up(rider in rider()) {
        for journey in &priced(&rider).journeys {
            let shares = tariffs().shares(journey);
            prop_assert!(!shares.is_empty());
            prop_assert_eq!(Fen::sum(shares.iter().map(|share| share.1)).unwrap(), journey.charged);
        }
    }

    #[test]
    fn completions_stay_within_their_number_a_month(rider in rider()) {
        let mut months: BTreeMap<(ServiceDay, Status), u32> = BTreeMap::new();
        for journey in &priced(&rider).journeys {
            *months.entry((*Period::Month.around(journey.day).start(), journey.status)).or_default() += 1;
        }
        for ((_, status), count) in months {
            match status {
                Status::Corrected => prop_assert!(count <= 3),
                Status::AutoCompleted => prop_assert!(count <= 2),
                _ => {}
            }
        }
    }
}

#[test]
fn a_tap_reaches_no_further_than_the_periods_of_the_tariff() {
    let compile = |text: &str| Tariff::parse("t", text).unwrap().compile().unwrap();
    let window = |t: &Tariffs, of: &str| {
        let days = t.window(day(of));
        (days.start().to_string(), days.end().to_string())
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    // The city's tariff counts over no day; a cap from Monday to Sunday, over its week.
    let city = include_str!("../../tariffs/wavepass-city.toml");
    assert_eq!(window(&compile(city), "2026-11-25"), pair("2026-11-25", "2026-11-25"));
    let week = format!("{city}\n[[cap]]\nname = \"w\"\nperiod = \"week\"\nlimit_fen = 600\n");
    assert_eq!(window(&compile(&week), "2026-11-25"), pair("2026-11-23", "2026-11-29"));
    // A month's cap counts what the weeks' caps left: from the week that the month begins in.
    let month = format!("{week}\n[[cap]]\nname = \"m\"\nperiod = \"month\"\nlimit_fen = 900\n");
    assert_eq!(window(&compile(&month), "2026-11-25"), pair("2026-10-26", "2026-11-30"));
    // A version without caps is none the wiser for the one before it; the one before is not looked back on.
    let plain = city.replace("2026-01-01", "2026-11-25");
    let parse = |text: &str| Tariff::parse("t", text).unwrap();
    let both = Tariffs::new(vec![parse(&week), parse(&plain)]).unwrap();
    assert_eq!(window(&both, "2026-11-25"), pair("2026-11-25", "2026-11-25"));
    assert_eq!(window(&both, "2026-11-24"), pair("2026-11-23", "2026-11-29"));
}

#[test]
fn the_tariff_of_these_tests_is_sound_and_its_rules_are_met() {
    // A fixed rider meets every rule, so that the properties above do not hold for want of cases.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut kinds = std::collections::BTreeSet::new();
    let mut statuses = std::collections::BTreeSet::new();
    for _ in 0..3_000 {
        let rider = rider().new_tree(&mut runner).unwrap().current();
        let p = priced(&rider);
        kinds.extend(p.days.iter().flat_map(|day| day.adjustments.iter().map(|a| a.kind.as_str())));
        statuses.extend(p.journeys.iter().map(|journey| journey.status.as_str()));
    }
    let expected = ["daily_cap", "multi_day_cap", "spend_discount", "transfer", "weekly_cap"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
    let expected = ["auto_completed", "complete", "corrected", "incomplete", "same_station"];
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), expected);
}
