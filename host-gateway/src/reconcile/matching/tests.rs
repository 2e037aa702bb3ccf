//! T+1 against files with planted faults: what becomes of each line, and that the sums hold whatever is planted.

mod days;

use jiff::Timestamp;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use wavepass_files::iso20022::{self, Balance, EntryDetail, Statement, StatementEntry};
use wavepass_files::table::{Charge, Head};
use wavepass_files::{AttemptId, Currency, fixed, table};

use super::super::standing::Lines;
use super::*;
use crate::clearing::testing::{day, key};
use crate::keys::TokenKey;
use crate::store::db::query_made;
use crate::testing::House;
use wavepass_protocol::time::UnixMs;

/// A house with closed days before, on and after [`day`], of so many paid charges each: charge n of 100 + n fen.
async fn paid(tokens: u32) -> House {
    let house = House::new().await;
    crate::clearing::app::publish_tariff(&house.app, "anna", "t", &crate::clearing::testing::house_tariff())
        .await
        .unwrap();
    let mut tx = house.app.store.begin().await.unwrap();
    for (number, day) in (1_i64..).zip([day().previous(), day(), day().next()]) {
        let batch = "INSERT INTO batches (service_day, rank, number, charges, total_fen, previous_hash, hash) \
                     VALUES (?, 0, ?, 0, 0, x'00', x'00')";
        query(batch).bind(day.number()).bind(number).execute(&mut *tx).await.unwrap();
        let keys: Vec<Vec<u8>> = (0..tokens).map(|n| key(n).as_slice().to_vec()).collect();
        let rows = |n: usize| (day.number(), &keys[n], 1_u8, 100 + n as i64);
        let charges = (0..keys.len())
            .map(rows)
            .map(|(day, key, part, fen)| (day, key, part, 0_u8, fen, "deducted", 1_u8));
        let text =
            "INSERT INTO charges (service_day, token_key, part, rank, amount_fen, state, attempts) VALUES ??";
        write_many(&mut tx, text, charges).await.unwrap();
        let attempts = (0..keys.len())
            .map(rows)
            .map(|(day, key, part, fen)| (day, key, part, 1_u8, "a", fen, "approved"));
        let text = "INSERT INTO attempts (service_day, token_key, part, attempt_no, account_id, amount_fen, state) VALUES ??";
        write_many(&mut tx, text, attempts).await.unwrap();
    }
    tx.commit().await.unwrap();
    house
}

/// A line of theirs: the name, where it gives one, and the amount.
type Theirs = (Option<AttemptId>, i64);

fn name(day: ServiceDay, n: u32) -> Option<AttemptId> {
    Some(AttemptId { service_day: day, token_key: key(n).0, part: 1, attempt: 1 })
}

fn right(day: ServiceDay, n: u32) -> Theirs {
    (name(day, n), 100 + i64::from(n))
}

/// A statement of these lines, five to an entry.
fn statement_of(lines: &[Theirs]) -> Vec<u8> {
    let sum: i64 = lines.iter().map(|(_, fen)| fen).sum();
    let date = day().next().date();
    let head = Statement {
        id: "S-1".into(),
        created: Timestamp::UNIX_EPOCH,
        number: None,
        account: "6222000000000017".into(),
        opening: Balance { minor: 0, date },
        closing: Balance { minor: sum, date },
        summary: None,
    };
    let entry = |lines: &[Theirs]| StatementEntry {
        amount_minor: lines.iter().map(|(_, fen)| fen).sum(),
        booked: date,
        value: None,
        bank_reference: None,
        details: lines
            .iter()
            .map(|(id, fen)| EntryDetail {
                end_to_end_id: Some(id.map_or("NOTPROVIDED".into(), |id| id.end_to_end_id().unwrap())),
                amount_minor: *fen,
            })
            .collect(),
    };
    iso20022::write(Vec::new(), head, Currency::CNY, lines.chunks(5).map(entry)).unwrap()
}

async fn take_bytes(house: &House, day: ServiceDay, form: Form, bytes: &[u8]) -> Result<Matched, MatchError> {
    take(&house.app, "anna", day, form, &spooled(house, bytes)).await
}

fn spooled(house: &House, bytes: &[u8]) -> Spooled {
    let path = house.app.config.data.join("theirs");
    std::fs::write(&path, bytes).unwrap();
    crate::spool::copy(&house.app.config.data, &path).unwrap()
}

async fn taken(house: &House, day: ServiceDay, lines: &[Theirs]) -> Matched {
    let form = statement(&house.app).unwrap();
    let done = take_bytes(house, day, form, &statement_of(lines)).await.unwrap();
    let stands = &done.standing;
    assert!(stands.balanced, "{done:?}");
    assert_eq!(stands.ours_fen, stands.theirs_fen.plus(stands.suspense_fen).unwrap());
    done
}

async fn open_breaks(house: &House) -> Vec<String> {
    house.texts("SELECT kind || ' ' || detail FROM breaks WHERE closed_ms IS NULL ORDER BY 1").await
}

#[tokio::test]
async fn every_line_becomes_one_of_six_and_the_sums_hold() {
    let house = paid(6).await;
    let other = (name(day(), 1), 50);
    let lines = [
        right(day(), 0),
        other,
        right(day(), 2),
        right(day(), 2),
        (None, 7),
        (name(day(), 99), 9),
        right(day().next(), 3),
        right(day(), 4),
    ];
    let done = taken(&house, day(), &lines).await;
    let stands = &done.standing;
    let expected = Lines {
        matched: 3,
        amount_diff: 1,
        missing_ours: 2,
        missing_theirs: 2,
        duplicate: 1,
        cutoff_slip: 1,
    };
    assert_eq!(stands.lines, expected);
    assert_eq!((stands.ours_fen, done.file_fen, stands.theirs_fen), (Fen(615), Fen(577), Fen(577)));
    assert_eq!((stands.suspense_fen, done.breaks_opened), (Fen(38), 7));
    let unnamed =
        house.texts("SELECT lower(hex(substr(token_key, 1, 4))) FROM their_lines WHERE part = 0").await;
    let told = [
        "statement_amount ours 101 fen, theirs 50 fen",
        "statement_duplicate line 4 of theirs, 102 fen, repeats a name",
        &format!("statement_missing_ours line 5 of theirs, 7 fen, {}, names nothing of ours", unnamed[0]),
        "statement_missing_ours line 6 of theirs, 9 fen, names nothing of ours",
        "statement_missing_theirs ours 103 fen",
        "statement_missing_theirs ours 105 fen",
        "statement_slip line 7 of theirs, 103 fen, of 2026-11-24, belongs to the neighbouring day",
    ];
    assert_eq!(open_breaks(&house).await, told);

    // The same file again changes nothing.
    let again = taken(&house, day(), &lines).await;
    assert_eq!((again.already_taken, again.standing, again.breaks_opened), (true, done.standing, 0));
}

#[tokio::test]
async fn the_next_day_s_file_explains_what_slipped_either_way() {
    let house = paid(3).await;
    // The bank put the third of ours into the next day's file, and the first of the next day's into ours.
    let first = [right(day(), 0), right(day(), 1), right(day().next(), 0)];
    let done = taken(&house, day(), &first).await;
    assert_eq!((done.standing.lines.missing_theirs, done.standing.lines.cutoff_slip), (1, 1));
    assert_eq!(done.standing.suspense_fen, Fen(102 - 100));
    let second = [right(day().next(), 1), right(day().next(), 2), right(day(), 2)];
    let next = taken(&house, day().next(), &second).await;
    assert_eq!(next.standing.lines, Lines { matched: 3, ..Lines::default() });
    assert_eq!((next.standing.suspense_fen, next.breaks_ended), (Fen(0), 2));
    assert_eq!(next.other_days, [day()]);
    assert!(open_breaks(&house).await.is_empty());
    let why = house.texts("SELECT DISTINCT end_reason || ' (' || ended_by || ')' FROM breaks").await;
    assert_eq!(why, ["explained by the bank's statement of 2026-11-24 (reconciliation)"]);
    assert_eq!(house.count("SELECT count(*) FROM audit_log WHERE action = 'break.end'").await, 2);
    assert_eq!(taken(&house, day(), &first).await.standing.suspense_fen, Fen(0));
}

/// Ends every open break as a person.
async fn end_all(house: &House) {
    for id in house.texts("SELECT id FROM breaks WHERE closed_ms IS NULL").await {
        let end = crate::desk::Change::EndBreak("the bank's fee, and asked");
        crate::desk::change(&house.app, "bert", &id, end).await.unwrap();
    }
}

#[tokio::test]
async fn lines_that_only_their_day_their_file_or_their_copy_tells_apart_have_breaks_of_their_own() {
    let house = paid(1).await;
    let (of, before) = (day().next(), day().previous());
    let (one, other) = (name(before, 9), name(before.previous(), 9));
    // What of them is new each time, in the first line of a file of its own; the last line makes a file another.
    for (lines, what) in [
        (vec![(one, 50)], "line 1 of theirs, 50 fen, of 2026-11-22, names nothing of ours"),
        (vec![(other, 50)], "line 1 of theirs, 50 fen, of 2026-11-21, names nothing of ours"),
        (vec![(one, 50), right(of, 0)], "line 1 of theirs, 50 fen, of 2026-11-22, repeats a name"),
        (
            vec![(one, 50), right(of, 0), right(of, 0)],
            "line 1 of theirs, 50 fen, of 2026-11-22, copy 2, repeats a name",
        ),
        (vec![(None, 30)], "names nothing of ours"),
        (vec![(None, 30), (one, 1)], "names nothing of ours"),
    ] {
        let done = taken(&house, of, &lines).await;
        assert!(done.breaks_opened > 0, "{lines:?}");
        let open = open_breaks(&house).await;
        assert_eq!(
            open.iter().filter(|line| line.contains("line 1 of") && line.ends_with(what)).count(),
            1,
            "{open:#?}"
        );
        end_all(&house).await;
        let again = taken(&house, of, &lines).await;
        assert_eq!((again.already_taken, again.breaks_opened), (true, 0));
        assert_eq!(again.standing.cleared_fen, again.standing.suspense_fen);
    }
}

#[tokio::test]
async fn what_a_person_ended_is_cleared_and_stays_so_until_it_is_explained() {
    let house = paid(2).await;
    let lines = [right(day(), 0), (None, -30)];
    assert_eq!(taken(&house, day(), &lines).await.standing.suspense_fen, Fen(131));
    end_all(&house).await;
    let again = taken(&house, day(), &lines).await;
    assert_eq!((again.standing.cleared_fen, again.breaks_opened), (Fen(131), 0));
    assert!(open_breaks(&house).await.is_empty());
    let more = taken(&house, day(), &[right(day(), 1)]).await;
    assert_eq!((more.standing.suspense_fen, more.standing.cleared_fen), (Fen(30), Fen(30)));
}

#[tokio::test]
async fn the_networks_file_is_the_houses_csv_or_follows_a_layout() {
    let house = paid(2).await;
    let charge = |n: u32, fen: i64| Charge { token_key: key(n).0, part: 1, amount: Fen(fen) };
    let head = Head { service_day: day(), rank: 0, batch: Some(2), created: Timestamp::UNIX_EPOCH };
    let csv = table::write(Vec::new(), &head, [charge(0, 100), charge(1, 99)]).unwrap();
    let done = take_bytes(&house, day(), Form::Charges, &csv).await.unwrap();
    assert_eq!((done.standing.lines.matched, done.standing.lines.amount_diff), (1, 1));
    assert_eq!((done.standing.suspense_fen, done.standing.balanced), (Fen(2), true));
    let refused = take_bytes(&house, day().next(), Form::Charges, &csv).await.unwrap_err().to_string();
    assert!(refused.ends_with("it is the file of service day 2026-11-23"), "{refused}");

    let form = Form::fixed(fixed::EXAMPLE).unwrap();
    let layout = fixed::Layout::parse(fixed::EXAMPLE).unwrap();
    let text = |text: &str| fixed::Value::Text(text.into());
    let next = day().next();
    let detail = |n: u32, dated: ServiceDay| {
        fixed::Record::new(
            "charge",
            [
                ("charge", text(&name(next, n).unwrap().end_to_end_id().unwrap())),
                ("service_day", fixed::Value::Date(dated.date().at(0, 0, 0, 0))),
                ("amount", fixed::Value::Amount(100 + i64::from(n))),
                ("station", text("UN")),
            ],
        )
    };
    let created = fixed::Value::Date(next.date().at(5, 0, 0, 0));
    let first = [
        ("network", text("X")),
        ("created", created),
        ("batch", fixed::Value::Number(1)),
        ("operator", text("Y")),
    ];
    let trailer = fixed::Record::new("trailer", []);
    // The second has the date of another week: that is not this charge.
    let records = [fixed::Record::new("header", first), detail(0, next), detail(1, next.plus(7)), trailer];
    let bytes = fixed::write(Vec::new(), &layout, records).unwrap();
    let done = take_bytes(&house, next, form, &bytes).await.unwrap();
    let lines = done.standing.lines;
    assert_eq!((lines.matched, lines.missing_ours, lines.missing_theirs), (1, 1, 1));
    let mute = fixed::EXAMPLE.replace("name = \"charge\", start", "name = \"reference\", start");
    let refused = Form::fixed(&mute).unwrap_err().to_string();
    assert!(refused.contains("no detail with a text `charge`"), "{refused}");
}

#[tokio::test]
async fn a_damaged_or_foreign_file_is_named_and_nothing_is_done() {
    let house = paid(2).await;
    let good = String::from_utf8(statement_of(&[right(day(), 0), right(day(), 1)])).unwrap();
    let form = statement(&house.app).unwrap();
    let damaged = good.replacen(">1.01<", ">1.02<", 1);
    let refused = take_bytes(&house, day(), form.clone(), damaged.as_bytes()).await.unwrap_err().to_string();
    assert!(refused.starts_with("the file is not taken in, and nothing is done: line "), "{refused}");
    let cut = &good.as_bytes()[..good.len() - 20];
    assert!(take_bytes(&house, day(), form, cut).await.is_err());
    let other = Form::Statement { account: Some("1".into()) };
    let refused = take_bytes(&house, day(), other, good.as_bytes()).await.unwrap_err().to_string();
    assert!(refused.contains("another account"), "{refused}");
    for table in [
        "SELECT count(*) FROM taken_files",
        "SELECT count(*) FROM their_lines",
        "SELECT count(*) FROM breaks",
    ] {
        assert_eq!(house.count(table).await, 0, "{table}");
    }
    taken(&house, day(), &[right(day(), 0)]).await;
    let form = statement(&house.app).unwrap();
    let elsewhere = take_bytes(&house, day().next(), form, &statement_of(&[right(day(), 0)])).await;
    assert!(matches!(elsewhere, Err(MatchError::Taken(TakenError::ForDay { .. }))));
    let form = statement(&house.app).unwrap();
    let open = take_bytes(&house, day().plus(9), form, &statement_of(&[right(day(), 1)])).await;
    assert!(matches!(open, Err(MatchError::Clearing(ClearingError::NotClosed { .. }))));
}

#[tokio::test]
async fn a_file_that_was_cut_short_goes_on_where_it_was() {
    let house = paid(3).await;
    let lines = [right(day(), 0), right(day(), 1), right(day(), 2)];
    let done = taken(&house, day(), &lines).await;
    for text in ["UPDATE taken_files SET done = 1", "DELETE FROM their_lines WHERE number > 1"] {
        let mut tx = house.app.store.begin().await.unwrap();
        query_made(text.into()).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
    let again = taken(&house, day(), &lines).await;
    assert_eq!((again.already_taken, again.standing), (false, done.standing));
}

/// What is done to a line of the bank's.
fn fault(rng: &mut ChaCha20Rng, n: u32, lines: &mut Vec<Theirs>, expected: &mut Lines) {
    match rng.next_u32() % 8 {
        0 => expected.missing_theirs += 1,
        1 => {
            lines.push((name(day(), n), 100 + i64::from(n) + 1 + i64::from(rng.next_u32() % 50)));
            expected.amount_diff += 1;
        }
        2 => {
            lines.extend([right(day(), n), right(day(), n)]);
            expected.matched += 1;
            expected.duplicate += 1;
        }
        3 => {
            lines.extend([right(day(), n), (name(day(), n + 1_000), 5)]);
            expected.matched += 1;
            expected.missing_ours += 1;
        }
        4 => {
            lines.extend([right(day(), n), (None, -1 - i64::from(rng.next_u32() % 9))]);
            expected.matched += 1;
            expected.missing_ours += 1;
        }
        5 => {
            lines.extend([right(day(), n), right(day().next(), n)]);
            expected.matched += 1;
            expected.cutoff_slip += 1;
        }
        _ => {
            lines.push(right(day(), n));
            expected.matched += 1;
        }
    }
}

#[tokio::test]
async fn whatever_faults_a_statement_has_the_classes_are_theirs_and_the_sums_hold() {
    for seed in 0..6 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let tokens = 20 + rng.next_u32() % 30;
        let house = paid(tokens).await;
        let (mut lines, mut expected) = (Vec::new(), Lines::default());
        for n in 0..tokens {
            fault(&mut rng, n, &mut lines, &mut expected);
        }
        // In any order, but for the first of each name.
        for at in (1..lines.len()).rev() {
            lines.swap(at, rng.next_u32() as usize % (at + 1));
        }
        let done = taken(&house, day(), &lines).await;
        assert_eq!(done.standing.lines, expected, "seed {seed}: {lines:?}");
        // What slipped is the next day's.
        let rest: Vec<Theirs> = (0..tokens)
            .map(|n| right(day().next(), n))
            .filter(|line| !lines.contains(line))
            .chain([(None, 1)])
            .collect();
        let next = taken(&house, day().next(), &rest).await.standing.lines;
        assert_eq!(next, Lines { matched: u64::from(tokens), missing_ours: 1, ..Lines::default() });
        let after = taken(&house, day(), &lines).await.standing;
        assert_eq!(after.lines, Lines { cutoff_slip: 0, ..expected });
    }
}

#[tokio::test]
async fn what_the_statement_says_the_bank_took_after_all_is_not_taken_again() {
    let (house, _, account) = crate::clearing::testing::penniless("").await;
    house.app.clock.driven().unwrap().set(UnixMs(crate::testing::MORNING + 24 * 3_600_000)).unwrap();
    crate::clearing::app::close(&house.app, "anna", day(), false, false).await.unwrap();
    let token = house.texts("SELECT lower(hex(token_key)) FROM attempts").await.remove(0);
    let token_key = TokenKey::from_hex(&token).unwrap().0;
    let declined = AttemptId { service_day: day(), token_key, part: 1, attempt: 1 };
    // A line that differs by its day alone is none of this debt's, and stays open.
    let other = AttemptId { service_day: day().previous(), ..declined };
    let stands = taken(&house, day(), &[(Some(declined), 900), (Some(other), 900)]).await.standing;
    assert_eq!((stands.lines.missing_ours, stands.lines.cutoff_slip), (1, 1));
    assert_eq!(stands.suspense_fen, Fen(-1_800));
    crate::clearing::testing::is_left_alone_until_its_break_is_ended(&house, &account).await;
}
