//! A bank behind the gateway that holds amounts, and is killed while it is asked for them.

use super::*;

/// More than the poor have.
const HELD: i64 = 2_000;

impl Play {
    /// What the bank says that it holds, by account.
    fn held(&self) -> Vec<i64> {
        let accounts = self.house.bank("GET", "/v1/accounts?limit=100", "").unwrap();
        let held = |n: u32| {
            let name = format!("ACC-{n}");
            let account = accounts["accounts"].as_array().unwrap().iter().find(|a| a["account"] == *name);
            account.unwrap()["held_fen"].as_i64().unwrap()
        };
        (0..CARDS).map(held).collect()
    }

    /// Asks for the holds that are due; gives how many are approved, declined and without an answer.
    fn authorise(&self) -> [u64; 3] {
        let done = self.house.post(0, "/v1/authorisation/run", &json!({})).unwrap();
        ["approved", "declined", "in_doubt"].map(|word| done["holds"][word].as_u64().unwrap())
    }
}

#[test]
fn what_is_held_is_held_once_and_taken_from_however_the_bank_is_killed() {
    let settings = format!("[authorisation]\npre_authorise = \"nominal\"\nnominal_fen = {HELD}\n");
    let mut play = Play::under(&settings, 1, false, None);
    let entries: Vec<String> = (0..CARDS).map(|card| tap(&mut play.gate, card, 0)).collect();
    let taken = hand_in(&play.house, 0, entries);
    play.acknowledged.extend(taken);
    play.house.post(0, "/v1/risk/run", &json!({})).unwrap();

    let mut sums = [0; 3];
    std::thread::scope(|threads| {
        threads.spawn(|| play.house.kill(Victim::Bank).unwrap());
        sums = play.authorise();
    });
    // A hold without an answer is asked for again until it has one, and denies nobody.
    for _ in 0..100 {
        let [approved, declined, in_doubt] = sums;
        if in_doubt == 0 {
            break;
        }
        let again = play.authorise();
        sums = [approved + again[0], declined + again[1], again[2]];
    }
    assert_eq!(sums, [u64::from(CARDS - POOR), u64::from(POOR), 0]);
    assert_eq!(play.authorise(), [0, 0, 0], "no hold is asked for twice");
    let expected = |card: u32| if card < POOR { 0 } else { HELD };
    assert_eq!(play.held(), (0..CARDS).map(expected).collect::<Vec<_>>());
    let denied = play.house.command(0, &["deny", "list"]).unwrap();
    let denied = denied.lines().filter(|line| line.contains("authorisation") && line.contains("no_funds"));
    assert_eq!(denied.count(), POOR as usize);

    play.house.command(0, &["close-day", &date(0), "--force"]).unwrap();
    play.house.command(0, &["deduct", &date(0)]).unwrap();
    assert_eq!(play.held(), vec![0; CARDS as usize]);
    play.check(0);
}
