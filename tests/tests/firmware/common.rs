//! What the tests share: one at a time on two cores, a town, and presenting a card.

use city::world::Kind;
use serde_json::Value;
use sqlx::{Connection, Row, SqliteConnection};
use std::path::Path;
use wavepass_hce::card::Card;
use wavepass_protocol::tap::{Outcome, Reason};
use wavepass_tests::qemu::{QemuGate, Shown};
use wavepass_tests::town::Town;

/// The gate under test.
pub const GATE: u32 = 900;

/// True where full counts are asked for.
pub fn long() -> bool {
    std::env::var_os("WAVEPASS_LONG").is_some_and(|v| v == "1")
}

pub fn town(root: &Path, phones: u32, seed: u64) -> Town {
    town_denying(root, phones, seed, 0)
}

/// A town with so many other tokens on its deny list.
pub fn town_denying(root: &Path, phones: u32, seed: u64, denied: u64) -> Town {
    let program = Path::new(env!("CARGO_BIN_EXE_town-gateway"));
    Town::found_denying(root, program, phones, seed, denied).unwrap()
}

/// Puts a card of the town on the deny list, or takes it off; gives the version of the list that says so.
pub fn deny(town: &Town, card: usize, denied: bool) -> u64 {
    let word = if denied { "add" } else { "remove" };
    let key = town.token_key(card).unwrap();
    town.command(&["deny", word, "--token", &key, "--cause", "lost", "--note", "test"]).unwrap();
    town.list_version("deny").unwrap()
}

/// True where the gateway says that the gate has a deny list of this version or newer.
pub fn has_list(gate: &Value, version: u64) -> bool {
    let mut lists = gate["lists"].as_array().into_iter().flatten();
    lists.any(|l| l["kind"] == "deny" && l["version"].as_u64() >= Some(version))
}

/// A good phone of the town, by its number among them.
pub fn phone(town: &Town, index: usize) -> Box<dyn Card + Send> {
    let phone = town.cards.iter().filter(|c| c.0 == Kind::Phone).nth(index).unwrap();
    Box::new(phone.1.clone())
}

/// Holds a card to the gate until it decides, lets the rider through or not, and takes the card away.
pub fn present(gate: &mut QemuGate, cards: Vec<Box<dyn Card + Send>>, passage: Option<Outcome>) -> Shown {
    use wavepass_hce::pn532::Presented;
    gate.chip.set_field(cards.into_iter().map(Presented::phone).collect());
    let decision = gate.wait_for(Shown::is_decision);
    if let Shown::Open(..) = decision {
        match passage {
            Some(Outcome::NotPassed) => gate.press(b'N').unwrap(),
            _ => gate.press(b'P').unwrap(),
        }
        gate.wait_for(|shown| *shown == Shown::Barrier(false));
    }
    gate.chip.remove();
    gate.wait_for(|shown| *shown == Shown::Ready);
    decision
}

/// Waits until everything in the gate's journal is acknowledged; gives what the gateway says of it.
pub fn settled(town: &Town) -> Value {
    town.wait_gate(GATE, |g| {
        let next = g["next"].as_u64().unwrap_or(0);
        let done = g["acknowledged"].as_u64().max(g["gate_acknowledged"].as_u64());
        g["connected"] == true && next > 1 && done == Some(next - 1)
    })
    .unwrap()
}

/// The gateway found nothing that somebody must look at.
pub fn no_breaks(town: &Town) {
    let breaks = town.admin.get(town.gateway.addresses().http, "/v1/breaks").unwrap();
    let open = breaks.as_array().or_else(|| breaks["breaks"].as_array()).expect("a list of breaks");
    assert!(open.is_empty(), "{breaks}");
}

/// The entries of a key id in the gateway's store: sequence number, kind (1 tap, 2 passage).
pub fn stored(town: &Town) -> (Vec<(u32, i64)>, Vec<StoredTap>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let path = town.root().join("gateway.sqlite");
        let mut db = SqliteConnection::connect(&format!("sqlite:{}?mode=ro", path.display())).await.unwrap();
        let key_id = wavepass_gateway::gates::key_id(GATE, 1);
        let entries = sqlx::query("SELECT sequence, kind FROM entries WHERE key_id = ? ORDER BY sequence")
            .bind(key_id.0.to_vec())
            .fetch_all(&mut db)
            .await
            .unwrap();
        let taps = sqlx::query(
            "SELECT sequence, opened, reason, passage, oda FROM taps WHERE key_id = ? ORDER BY sequence",
        )
        .bind(key_id.0.to_vec())
        .fetch_all(&mut db)
        .await
        .unwrap();
        let number = |row: &sqlx::sqlite::SqliteRow, i: usize| row.get::<i64, _>(i);
        let entries = entries.iter().map(|r| (number(r, 0) as u32, number(r, 1))).collect();
        let taps = taps
            .iter()
            .map(|r| StoredTap {
                sequence: number(r, 0) as u32,
                opened: number(r, 1) == 1,
                reason: r.get::<Option<i64>, _>(2).and_then(|code| Reason::from_code(code as u8)),
                passage: r.get(3),
            })
            .collect();
        (entries, taps)
    })
}

/// A row of the gateway's taps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTap {
    pub sequence: u32,
    pub opened: bool,
    pub reason: Option<Reason>,
    pub passage: Option<i64>,
}
