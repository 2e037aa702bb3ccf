//! A bank that does not answer, and rounds that die.

use super::*;

/// Rounds over a bank that may fall silent.
async fn round_over(town: &Town, line: &Arc<Line>) -> Result<Authorised, ClearingError> {
    let app = &town.house.app;
    crate::risk::run(app).await.unwrap();
    let clearing = Clearing { bank: line.clone(), ..Clearing::of(app).await? };
    let terms = Authorisation::of(&app.config).unwrap();
    let recovery = Recovery::default();
    let gates = app.directory.current();
    Authoriser { clearing: &clearing, terms: &terms, recovery: &recovery, gates }.run().await
}

#[tokio::test]
async fn a_silent_bank_is_asked_under_the_same_numbers_until_it_answers() {
    let toml = "[authorisation]\nmode = 'single'\npre_authorise = 'maximum_fare'";
    let mut town = Town::new(toml, 1, 1_000).await;
    let line = Line::over(&town.house.app.store, 0);
    town.enter(0, 0).await;
    town.at(1);
    line.set(Mood::Mute);
    assert_eq!(round_over(&town, &line).await.unwrap(), holds(0, 0, 1));
    assert!(!town.is_denied(0));
    line.set(Mood::Well);
    assert_eq!(round_over(&town, &line).await.unwrap(), holds(1, 0, 0));
    let out = town.tap(0, 30, true);
    town.house.ingest(&[out]).await;
    town.at(31);
    line.set(Mood::Mute);
    assert_eq!(round_over(&town, &line).await.unwrap().early.in_doubt, 1);
    line.set(Mood::Well);
    assert_eq!(round_over(&town, &line).await.unwrap(), early(1, 0));
    assert_eq!(town.house.count("SELECT count(*) FROM attempts").await, 1);
    assert_eq!(town.house.count("SELECT count(*) FROM holds").await, 1);
    assert_eq!((town.balance(0).await, town.risk(0).await.hold.unwrap().state), (600, "completed".into()));
    town.close().await;
    town.assert_clean().await;
}

#[tokio::test]
async fn an_answer_that_comes_after_a_later_hold_was_approved_denies_nobody() {
    let mut town = Town::new(HOLD, 1, 100).await;
    town.enter(0, 0).await;
    town.at(1);
    let (slow, quick) = (Line::over(&town.house.app.store, 0), Line::over(&town.house.app.store, 0));
    slow.set(Mood::Late);
    let meanwhile = async {
        while town.house.count("SELECT count(*) FROM holds").await == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The second gateway asks for the first hold again, and for another once there is money.
        assert_eq!(round_over(&town, &quick).await.unwrap(), holds(0, 1, 0));
        assert_eq!(town.causes(0).await, [("authorisation", "no_funds".to_owned())]);
        town.deposit(0, 5_000).await;
        let recovered = recover(&town.house.app, "anna", town.tokens[0]).await.unwrap();
        assert_eq!(recovered.holds.approved, 1);
        slow.set(Mood::Well);
    };
    let (slowly, ()) = tokio::join!(round_over(&town, &slow), meanwhile);
    assert_eq!(slowly.unwrap(), Authorised::default());
    assert!(town.causes(0).await.is_empty());
    let hold = town.risk(0).await.hold.unwrap();
    assert_eq!((hold.number, hold.state.as_str()), (2, "active"));
}

#[tokio::test]
async fn of_releases_those_that_are_answered_are_recorded_and_the_rest_is_asked_for_again() {
    let mut town = Town::new(HOLD, 2, 1_000).await;
    town.enter(0, 0).await;
    town.enter(1, 0).await;
    town.round(1).await;
    town.tamper("UPDATE taps SET withheld = 1").await;
    town.tamper("UPDATE token_taps SET withheld = 1").await;
    town.close().await;
    town.tamper("UPDATE holds SET state = 'active'").await;
    let line = Line::over(&town.house.app.store, 0);
    line.set(Mood::Partial);
    round_over(&town, &line).await.unwrap();
    let states = "SELECT state FROM holds ORDER BY token_key";
    assert_eq!(town.house.texts(states).await, ["active", "released"]);
    line.set(Mood::Well);
    round_over(&town, &line).await.unwrap();
    assert_eq!(town.house.texts(states).await, ["released", "released"]);
}

/// Every await of a round is a place where the process may die: here rounds are dropped after a while, at first at once and then
/// later and later, over a bank whose answers get lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_that_die_anywhere_go_on_and_ask_for_everything_once() {
    let toml = "[authorisation]\nmode = 'single'\npre_authorise = 'maximum_fare'";
    let mut town = Town::new(toml, 40, 5_000).await;
    let line = Line::over(&town.house.app.store, 0);
    for n in 0..40 {
        town.ride(n, n as u64).await;
        town.enter(n, 100 + n as u64).await;
    }
    town.at(200);
    let mut deaths = 0;
    for step in 0_u64.. {
        line.set([Mood::Well, Mood::Mute, Mood::Deaf][(step % 3) as usize]);
        match tokio::time::timeout(Duration::from_micros(step * step * 60), round_over(&town, &line)).await {
            Ok(done) if step % 3 == 0 => {
                done.unwrap();
                break;
            }
            Ok(done) => _ = done.unwrap(),
            Err(_) => deaths += 1,
        }
        assert!(report(&town.house.app.store, None).await.unwrap().balances().unwrap());
    }
    line.set(Mood::Well);
    round_over(&town, &line).await.unwrap();
    assert!(deaths > 3, "{deaths}");
    assert_eq!(town.house.count("SELECT count(*) FROM charges WHERE state <> 'deducted'").await, 0);
    assert_eq!(
        town.house.count("SELECT CAST(SUM(balance_fen) AS BIGINT) FROM bank_accounts").await,
        40 * 4_600
    );
    assert_eq!(town.house.count("SELECT count(*) FROM holds WHERE state = 'active'").await, 40);
    assert_eq!(town.house.count("SELECT count(*) FROM bank_holds WHERE state = 'held'").await, 40);
    town.close().await;
    assert_eq!(
        town.house.count("SELECT CAST(SUM(balance_fen) AS BIGINT) FROM bank_accounts").await,
        40 * 3_700
    );
    assert_eq!(town.house.count("SELECT count(*) FROM bank_holds WHERE state = 'held'").await, 0);
    town.assert_clean().await;
}
