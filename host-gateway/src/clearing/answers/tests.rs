//! The bank's answers in files, held against what the same answers come to over the line.

use jiff::Timestamp;
use wavepass_files::iso20022::{self, Status, StatusCount};
use wavepass_files::{MessageId, Totals};

use super::*;
use crate::clearing::testing::{day, key};
use crate::clearing::{app::close, report};
use crate::store::db::query_made;
use crate::testing::House;

/// A house with a closed day whose one charge of 900 fen was asked for.
async fn collected() -> House {
    let (house, ..) = crate::clearing::testing::penniless("").await;
    house.app.clock.driven().unwrap().set(UnixMs(crate::testing::MORNING + 24 * 3_600_000)).unwrap();
    close(&house.app, "anna", day(), false, false).await.unwrap();
    house
}

/// The one attempt of that house, by its name.
async fn only(house: &House) -> wavepass_files::AttemptId {
    let key = house.texts("SELECT lower(hex(token_key)) FROM attempts").await.remove(0);
    let token_key = TokenKey::from_hex(&key).unwrap().0;
    wavepass_files::AttemptId { service_day: day(), token_key, part: 1, attempt: 1 }
}

/// Puts the attempt back to where a collection leaves it: asked for, and not answered.
async fn unanswered(house: &House) {
    for text in [
        "UPDATE attempts SET state = 'sent', reason = NULL",
        "UPDATE charges SET state = 'sent'",
        "DELETE FROM debts",
        "DELETE FROM deny_entries",
    ] {
        let mut tx = house.app.store.begin().await.unwrap();
        query_made(text.into()).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
    house.app.publish_lists().await.unwrap();
}

fn head(batch: u64) -> StatusReport {
    StatusReport {
        id: "BANK-1".into(),
        created: Timestamp::UNIX_EPOCH,
        original: MessageId { batch, submission: 1 },
        original_totals: None,
        status: None,
        reason: None,
        counts: Vec::new(),
    }
}

fn line(id: wavepass_files::AttemptId, status: Status, amount: Option<i64>) -> Line {
    let reason = (status == Status::Rejected).then_some(Reason::Blocked);
    Line { id, status, reason, amount_minor: amount }
}

/// Takes in a report; the creation time tells otherwise equal files apart.
async fn taken(house: &House, head: StatusReport, lines: Vec<Line>) -> Result<Answered, AnswersError> {
    let bytes = iso20022::write(Vec::new(), head, Currency::CNY, lines).unwrap();
    let path = house.app.config.data.join("answers.xml");
    std::fs::write(&path, bytes).unwrap();
    let file = crate::spool::copy(&house.app.config.data, &path).unwrap();
    take(&house.app, "anna", &file).await
}

async fn breaks(house: &House) -> Vec<String> {
    house.texts("SELECT kind || ': ' || detail FROM breaks WHERE kind LIKE 'answer%' ORDER BY 1").await
}

#[tokio::test]
async fn an_answer_resolves_an_attempt_through_the_same_books_and_once() {
    let house = collected().await;
    unanswered(&house).await;
    let id = only(&house).await;
    let open = taken(&house, head(1), vec![line(id, Status::Pending, Some(900))]).await.unwrap();
    assert_eq!((open.answers, open.in_doubt, open.collection.as_str()), (1, 1, "WP-B1-1"));
    assert_eq!(report(&house.app.store, None).await.unwrap().in_doubt_fen, Fen(900));

    let refused = vec![line(id, Status::Rejected, Some(900))];
    let no = taken(&house, head(1), refused.clone()).await.unwrap();
    assert_eq!((no.declined, no.already_taken), (1, false));
    let stands = report(&house.app.store, None).await.unwrap();
    assert_eq!((stands.owed_fen, stands.in_doubt_fen, stands.deny_list), (Fen(900), Fen(0), 1));
    assert_eq!(house.texts("SELECT reason FROM debts WHERE state = 'open'").await, ["frozen"]);

    // The same file, and another one that says the same.
    let again = taken(&house, head(1), refused.clone()).await.unwrap();
    assert_eq!((again.already_taken, again.declined, again.repeated), (true, 0, 0));
    let later = StatusReport { id: "BANK-2".into(), ..head(1) };
    let repeated = taken(&house, later, refused).await.unwrap();
    assert_eq!((repeated.repeated, repeated.declined, repeated.contradictions), (1, 0, 0));
    assert_eq!(report(&house.app.store, None).await.unwrap(), stands);
    assert!(breaks(&house).await.is_empty());
}

#[tokio::test]
async fn an_approval_moves_the_money_and_its_contradiction_is_a_break() {
    let house = collected().await;
    unanswered(&house).await;
    let id = only(&house).await;
    // The second of a page says otherwise than the first.
    let lines = vec![line(id, Status::Settled, None), line(id, Status::Rejected, None)];
    let done = taken(&house, head(1), lines).await.unwrap();
    assert_eq!((done.approved, done.declined, done.contradictions), (1, 0, 1));
    let stands = report(&house.app.store, Some(day())).await.unwrap();
    assert_eq!((stands.deducted_fen, stands.owed_fen), (Fen(900), Fen(0)));
    let told = ["answer_contradicts: the attempt is approved, and the bank answers RJCT"];
    assert_eq!(breaks(&house).await, told);
}

#[tokio::test]
async fn what_was_never_asked_for_or_not_so_is_a_break_and_changes_nothing() {
    let house = collected().await;
    unanswered(&house).await;
    let id = only(&house).await;
    let stranger = wavepass_files::AttemptId { token_key: key(9).0, ..id };
    let lines = vec![line(stranger, Status::Settled, Some(5)), line(id, Status::Settled, Some(901))];
    let totals = Some(Totals { count: 2, sum_minor: 906 });
    let done = taken(&house, StatusReport { original_totals: totals, ..head(1) }, lines).await.unwrap();
    assert_eq!((done.unknown, done.other_amounts, done.approved), (1, 1, 0));
    let told = [
        "answer_amount: 900 fen were asked for, the bank answers for 901 fen",
        "answer_totals: the bank read 2 debits of 906 fen, 1 of 900 fen were handed out",
        "answer_unknown: the bank answers ACSC to an attempt that was never made",
    ];
    assert_eq!(breaks(&house).await, told);
    assert_eq!(house.texts("SELECT state FROM attempts").await, ["sent"]);
}

#[tokio::test]
async fn a_collection_that_is_refused_whole_declines_every_attempt_of_it() {
    let house = collected().await;
    unanswered(&house).await;
    let refused = StatusReport {
        status: Some(Status::Rejected),
        reason: Some(Reason::Other("DT01".into())),
        ..head(1)
    };
    let done = taken(&house, refused.clone(), Vec::new()).await.unwrap();
    assert_eq!((done.declined, done.answers), (1, 0));
    assert_eq!(house.texts("SELECT reason FROM attempts").await, ["refused"]);
    assert_eq!(taken(&house, refused.clone(), Vec::new()).await.unwrap().repeated, 1);
    assert!(breaks(&house).await.is_empty());
    // The bank took all of it after all: what it declined is a contested debt.
    let settled = StatusReport { status: Some(Status::Settled), reason: None, ..refused };
    let done = taken(&house, settled, Vec::new()).await.unwrap();
    assert_eq!((done.approved, done.repeated, done.contradictions), (0, 0, 1));
    assert_eq!(
        breaks(&house).await,
        ["answer_contradicts: the attempt is declined, and the bank answers ACSC"]
    );
}

#[tokio::test]
async fn a_damaged_file_or_another_house_s_is_named_and_nothing_is_done() {
    let house = collected().await;
    unanswered(&house).await;
    let id = only(&house).await;
    let counts = vec![StatusCount { status: Status::Settled, count: 1, sum_minor: Some(900) }];
    let report = StatusReport { counts, ..head(1) };
    let lines = vec![line(id, Status::Settled, Some(900))];
    let bytes = iso20022::write(Vec::new(), report, Currency::CNY, lines.clone()).unwrap();
    let damaged = String::from_utf8(bytes).unwrap().replace("<DtldNbOfTxs>1<", "<DtldNbOfTxs>2<");
    let path = house.app.config.data.join("damaged.xml");
    std::fs::write(&path, damaged).unwrap();
    let file = crate::spool::copy(&house.app.config.data, &path).unwrap();
    let refused = take(&house.app, "anna", &file).await.unwrap_err().to_string();
    assert!(refused.starts_with("the file is not taken in, and nothing is done: line "), "{refused}");
    assert!(refused.contains("column") && refused.contains("DtldNbOfTxs"), "{refused}");
    let elsewhere = taken(&house, head(77), lines).await.unwrap_err().to_string();
    assert!(elsewhere.ends_with("WP-B77-1 is no collection of this house"), "{elsewhere}");
    assert_eq!(house.texts("SELECT state FROM attempts").await, ["sent"]);
    assert_eq!(house.count("SELECT count(*) FROM taken_files").await, 0);
    drop(file);
    assert_eq!(std::fs::read_dir(house.app.config.data.join("spool")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_the_bank_answers_that_it_took_after_all_is_not_taken_again() {
    let (house, _, account) = crate::clearing::testing::penniless("").await;
    house.app.clock.driven().unwrap().set(UnixMs(crate::testing::MORNING + 24 * 3_600_000)).unwrap();
    close(&house.app, "anna", day(), false, false).await.unwrap();
    let id = only(&house).await;
    let done = taken(&house, head(1), vec![line(id, Status::Settled, Some(900))]).await.unwrap();
    assert_eq!(done.contradictions, 1);
    crate::clearing::testing::is_left_alone_until_its_break_is_ended(&house, &account).await;
}

#[tokio::test]
async fn what_the_bank_says_again_is_looked_at_again_though_a_person_had_ended_it() {
    let (house, ..) = crate::clearing::testing::penniless("").await;
    house.app.clock.driven().unwrap().set(UnixMs(crate::testing::MORNING + 24 * 3_600_000)).unwrap();
    close(&house.app, "anna", day(), false, false).await.unwrap();
    let id = only(&house).await;
    let open = async || {
        house.texts("SELECT id FROM breaks WHERE closed_ms IS NULL AND kind = 'answer_contradicts'").await
    };
    let end = async |ids: Vec<String>| {
        let end = crate::desk::Change::EndBreak("the bank erred, and says so");
        assert!(crate::desk::change(&house.app, "anna", &ids[0], end).await.unwrap());
    };
    let settled = vec![line(id, Status::Settled, Some(900))];
    let whole = StatusReport { id: "BANK-3".into(), status: Some(Status::Settled), ..head(1) };
    let mut ids = Vec::new();
    for (head, lines) in [
        (head(1), settled.clone()),
        (StatusReport { id: "BANK-2".into(), ..head(1) }, [settled.clone(), settled].concat()),
        (whole, Vec::new()),
    ] {
        let said = taken(&house, head.clone(), lines.clone()).await.unwrap();
        assert_eq!(said.contradictions, lines.len().max(1) as u64);
        let token = TokenKey(id.token_key);
        assert_eq!(crate::clearing::debts::recover(&house.app, "anna", token).await.unwrap().contested, 1);
        assert_eq!(open().await.len(), 1);
        ids.extend(open().await);
        end(open().await).await;
        // The same file is no news.
        taken(&house, head, lines).await.unwrap();
        assert_eq!(open().await, [""; 0]);
    }
    // It is one break, whose end is in the audit log each time.
    assert!(ids.windows(2).all(|two| two[0] == two[1]), "{ids:?}");
    assert_eq!(house.count("SELECT count(*) FROM audit_log WHERE action = 'break.end'").await, 3);
}
