//! The rig's suite through the firmware: the phones and the expectations of the other ways, at a gate whose gateway
//! publishes what a case says that the terminal knows.

use crate::common::{GATE, present, stored, town};
use rig::bench::{Bench, Maker, Said, run};
use rig::keys::AuthorityKey;
use rig::report;
use rig::suite::{Case, KERNEL, Suite, Terminal, WayName};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;
use std::collections::BTreeMap;
use std::path::Path;
use wavepass_gateway::keys::OwnedCaKey;
use wavepass_gateway::lists::{default_config, revoke_in, set_ca_keys_in, set_config_in};
use wavepass_gateway::store::db::{Pool, query};
use wavepass_hce::authorities::Authorities;
use wavepass_hce::phone::{ApplicationFile, Phone, PhoneFile};
use wavepass_hce::pn532::Switches;
use wavepass_hce::state::Counters;
use wavepass_protocol::lists::{GateConfig, Kind, RelayLimits, Revocation};
use wavepass_protocol::tap::{Outcome, Reason};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::{Expiry, MAX_DIGITS, Token};
use wavepass_tests::qemu::{QemuGate, Shown};
use wavepass_tests::town::{MORNING, SharedCard, Town};

/// The gate of another network.
const ELSEWHERE: u32 = 901;
/// Far more than the line to the chip takes, less than a relay of the suite adds.
const RELAY: RelayLimits = RelayLimits { overhead_us: 5_000, grace_us: 30_000, cap_us: 10_000 };
/// A tap that is timed and relayed must not be too slow before it is found out.
const TIMED_TAP_LIMIT_MS: u32 = 5_000;

/// What the gateway publishes beside the deny list.
#[derive(Clone, PartialEq)]
struct Lists {
    keys: Vec<AuthorityKey>,
    revoked: bool,
    config: GateConfig,
}

impl Lists {
    fn knowing(mut self, knows: Terminal) -> Self {
        match knows {
            Terminal::NoKeys => self.keys.clear(),
            Terminal::OldKeys => self.keys.iter_mut().for_each(|key| key.expiry = [0x20, 0x00, 0x01, 0x01]),
            Terminal::Revoked => self.revoked = true,
            Terminal::AcceptsNothing => {
                self.config.applications.truncate(1);
                let application = &mut self.config.applications[0];
                application.aid = [0xF0, 0xFF, 0xFF, 0xFF, 0xFF].into_iter().collect();
                application.partial = false;
            }
            Terminal::OnlyFormat05 => self.config.applications.iter_mut().for_each(|a| a.formats.truncate(1)),
            Terminal::OldList => self.config.list_max_age_ms = 1,
            Terminal::Timed => {
                self.config.relay = Some(RELAY);
                self.config.tap_limit_ms = TIMED_TAP_LIMIT_MS;
            }
            // What a tap before, the deny list, or another gate makes of it.
            Terminal::Plain
            | Terminal::Denied
            | Terminal::DeniedBefore
            | Terminal::OtherNetwork
            | Terminal::Passback
            | Terminal::SameTap => {}
        }
        self
    }
}

/// The firmware, a simulated PN532, the phone.
struct Qemu<'t> {
    town: &'t Town,
    gate: QemuGate,
    plain: Lists,
    published: Lists,
    /// What the gate showed, by the number of the entry.
    shown: BTreeMap<u32, (bool, Option<Reason>)>,
}

impl<'t> Qemu<'t> {
    fn new(town: &'t Town, plain: Lists) -> Self {
        publish(town, &plain);
        let folder = town.add_gate_of(GATE, "CITY").unwrap();
        let gate = power_up(town, &folder, GATE);
        Self { town, gate, published: plain.clone(), plain, shown: BTreeMap::new() }
    }

    /// Makes the gate know what the case says.
    fn teach(&mut self, knows: Terminal, file: &PhoneFile) {
        let cards = || file.applications.iter().map(ApplicationFile::card);
        for card in cards() {
            let Expiry { year, month } = card.expiry.expiry();
            match knows {
                Terminal::Denied => deny(self.town, &card.token, Expiry { year, month }),
                Terminal::DeniedBefore => deny(self.town, &card.token, Expiry { year: year - 1, month }),
                _ => {}
            }
        }
        let wanted = self.plain.clone().knowing(knows);
        if wanted != self.published {
            publish(self.town, &wanted);
            self.published = wanted;
        }
        newest(self.town, GATE);
    }

    fn tap(&mut self, card: &SharedCard, passage: Outcome) -> Shown {
        let shown = present(&mut self.gate, vec![Box::new(card.clone())], Some(passage));
        match &shown {
            Shown::Open(sequence, _) => drop(self.shown.insert(*sequence, (true, None))),
            Shown::Refused(word, Some(sequence)) => {
                let reason = Reason::ALL.into_iter().find(|reason| reason.word() == word);
                self.shown.insert(*sequence, (false, reason));
            }
            _ => {}
        }
        shown
    }

    /// A tap at a gate of another network.
    fn tap_elsewhere(&self, card: &SharedCard) -> Shown {
        let folder = self.town.add_gate_of(ELSEWHERE, "ELSE").unwrap();
        let mut gate = power_up(self.town, &folder, ELSEWHERE);
        present(&mut gate, vec![Box::new(card.clone())], None)
    }
}

impl Bench for Qemu<'_> {
    fn way(&self) -> WayName {
        WayName::Qemu
    }

    fn present(&mut self, case: &Case, file: &PhoneFile) -> Result<Said, String> {
        let phone = Phone::new(file, Counters::memory(), [7; 32]).map_err(|e| e.to_string())?;
        let card = SharedCard::new(Box::new(phone));
        self.teach(case.terminal, file);
        let shown = match case.terminal {
            Terminal::OtherNetwork => self.tap_elsewhere(&card),
            Terminal::Passback => {
                self.tap(&card, Outcome::Passed);
                self.tap(&card, Outcome::Passed)
            }
            Terminal::SameTap => {
                self.tap(&card, Outcome::NotPassed);
                self.tap(&card, Outcome::Passed)
            }
            _ => self.tap(&card, Outcome::Passed),
        };
        let word = match shown {
            Shown::Open(_, again) if again == (case.terminal == Terminal::SameTap) => "open".to_owned(),
            Shown::Refused(word, _) => word,
            other => return Err(format!("the panel showed {other:?}")),
        };
        Ok(Said { word, method: None })
    }
}

fn power_up(town: &Town, folder: &Path, id: u32) -> QemuGate {
    let mut gate = QemuGate::power_up(folder, town.gateway.addresses(), 1).unwrap();
    // A phone that leaves does not come back by itself.
    gate.chip.set_switches(Switches { away_ms: None, ..Switches::default() });
    gate.wait_for(|shown| *shown == Shown::Ready);
    newest(town, id);
    gate
}

/// Waits until the gate has the newest of every list.
fn newest(town: &Town, id: u32) {
    let wanted = Kind::ALL.map(|kind| (kind.word(), town.list_version(kind.word()).unwrap()));
    let has = |gate: &serde_json::Value, (kind, version): &(&str, u64)| {
        let mut lists = gate["lists"].as_array().into_iter().flatten();
        lists.any(|list| list["kind"] == *kind && list["version"].as_u64() >= Some(*version))
    };
    town.wait_gate(id, |gate| wanted.iter().all(|list| has(gate, list))).unwrap();
}

fn deny(town: &Town, token: &Token, Expiry { year, month }: Expiry) {
    let (mut digits, expiry) = ([0; MAX_DIGITS], format!("20{year:02}-{month:02}"));
    let number = token.write_digits(&mut digits);
    town.command(&["deny", "add", "--number", number, "--expiry", &expiry, "--cause", "lost"]).unwrap();
}

fn publish(town: &Town, lists: &Lists) {
    let owned = |key: &AuthorityKey| OwnedCaKey {
        rid: key.rid,
        index: key.index,
        suite: key.suite,
        expiry: key.expiry,
        key: key.key.clone(),
        exponent: key.exponent.clone(),
        check_value: key.check_value(),
    };
    let keys: Vec<OwnedCaKey> = lists.keys.iter().map(owned).collect();
    // The serial number of the test authorities' issuers.
    let issuer = |key: &AuthorityKey| Revocation { rid: key.rid, index: key.index, serial: [0, 0, 1] };
    let revoked: Vec<Revocation> = lists.keys.iter().filter(|_| lists.revoked).map(issuer).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Beside the gateway, which serves the file: no command enters keys that are past, or takes its own bank's away.
        let path = town.root().join("gateway.sqlite");
        let pool =
            Pool::Sqlite(SqlitePool::connect_with(SqliteConnectOptions::new().filename(path)).await.unwrap());
        let mut tx = pool.begin().await.unwrap();
        for table in ["DELETE FROM ca_keys", "DELETE FROM revocations"] {
            query(table).execute(&mut *tx).await.unwrap();
        }
        set_ca_keys_in(&mut tx, &keys).await.unwrap();
        for issuer in &revoked {
            revoke_in(&mut tx, issuer, "test", "", UnixMs(MORNING.0)).await.unwrap();
        }
        set_config_in(&mut tx, &lists.config).await.unwrap();
        tx.commit().await.unwrap();
    });
    let at = town.gateway.addresses().http;
    town.admin.post(at, "/v1/lists/publish", &serde_json::json!({})).unwrap();
}

#[test]
fn every_case_of_the_suite_gets_its_decision_from_the_firmware() {
    let suite = Suite::parse(KERNEL).unwrap();
    let root = tempfile::tempdir().unwrap();
    let town = town(root.path(), 100, 61);
    let today = Date::at(UnixMs(MORNING.0), 480);
    let maker = Maker::new(Authorities::generate([61; 32], today), today);
    let mut config = GateConfig { tap_limit_ms: suite.tap_limit_ms, ..default_config() };
    // As the rig's terminal has it, the card's own order decides.
    config.applications.iter_mut().for_each(|application| application.preference = 0);
    let plain = Lists { keys: maker.keys().unwrap(), revoked: false, config };
    let mut qemu = Qemu::new(&town, plain);
    let report = run(&suite, &maker, &mut qemu, &mut |_, case| println!("{}", case.name));

    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rig-qemu.json");
    std::fs::write(&file, report::to_json(std::slice::from_ref(&report)).to_string()).unwrap();
    println!("{}; {}", report.summary(), file.display());
    let complaints: Vec<String> =
        report.rows.iter().filter_map(|row| Some(format!("{}: {}", row.case, row.complaint()?))).collect();
    assert!(report.passed(), "{complaints:#?}");
    assert_eq!(qemu.gate.starts(), 1, "the gate was reset");

    town.wait_gate(GATE, |g| g["acknowledged"].as_u64().is_some_and(|n| g["next"] == n + 1)).unwrap();
    let (_, taps) = stored(&town);
    let found: BTreeMap<_, _> = taps.iter().map(|tap| (tap.sequence, (tap.opened, tap.reason))).collect();
    assert_eq!(found, qemu.shown, "the gateway has what the gate showed");
}
