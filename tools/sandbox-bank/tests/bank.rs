//! The sandbox bank and the gateway's connector, over a socket.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "bank/holds.rs"]
mod holds;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sandbox_bank::{Bank, Trouble};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wavepass_fares::Fen;
use wavepass_gateway::bank::http::{BankSection, ConnectorKind, HttpBank};
use wavepass_gateway::bank::wire::{self, SharedKey};
use wavepass_gateway::bank::{Answer, AttemptId, BankConnector, Decline, DeductionRequest};

const DAY: i32 = 20_780;

struct House {
    dir: tempfile::TempDir,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    bank: Option<JoinHandle<()>>,
}

impl House {
    async fn new(trouble: Trouble) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "5a".repeat(32)).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut house = Self { dir, address, stop: None, bank: None };
        house.start(trouble).await;
        house
    }

    fn key_file(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    async fn start(&mut self, trouble: Trouble) {
        let (data, key_file) = (self.dir.path().join("bank"), self.key_file());
        let bank = Bank::open(&data, &key_file, self.address, trouble).await.unwrap();
        self.address = bank.running().unwrap().http;
        let (stop, stopped) = oneshot::channel();
        self.stop = Some(stop);
        self.bank = Some(tokio::spawn(async move {
            bank.serve(async { drop(stopped.await) }).await.unwrap();
        }));
    }

    async fn stop(&mut self) {
        drop(self.stop.take());
        self.bank.take().unwrap().await.unwrap();
    }

    /// A gateway's connector with this key.
    fn connector_with(&self, key_file: &Path, tries: u32) -> HttpBank {
        HttpBank::new(BankSection {
            connector: ConnectorKind::Http,
            url: format!("http://{}", self.address),
            key_file: key_file.to_owned(),
            timeout_ms: 2_000,
            tries,
            concurrency: 3,
            batch: 10,
            ..BankSection::default()
        })
        .unwrap()
    }

    fn connector(&self, tries: u32) -> HttpBank {
        self.connector_with(&self.key_file(), tries)
    }

    /// Sends a body, signed as a gateway does; gives the status.
    async fn post(&self, target: &'static str, date: String, body: String) -> u16 {
        let (url, key) =
            (format!("http://{}{target}", self.address), SharedKey::read(&self.key_file()).unwrap());
        let sent = tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mac = key.request("POST", target, &date, body.as_bytes());
            let request = agent.post(&url).header(wire::DATE, &date).header(wire::MAC, &mac);
            request.send(body.as_bytes()).unwrap().status().as_u16()
        });
        sent.await.unwrap()
    }

    /// What the bank says of its accounts.
    async fn accounts(&self) -> Vec<wire::Account> {
        let target = format!("{}?limit=100", wire::ACCOUNTS);
        let (url, key) =
            (format!("http://{}{target}", self.address), SharedKey::read(&self.key_file()).unwrap());
        let sent = tokio::task::spawn_blocking(move || {
            let date = now();
            let mac = key.request("GET", &target, &date, b"");
            let mut came = ureq::get(&url).header(wire::DATE, &date).header(wire::MAC, &mac).call().unwrap();
            came.body_mut().read_to_vec().unwrap()
        });
        serde_json::from_slice::<wire::Accounts>(&sent.await.unwrap()).unwrap().accounts
    }

    /// Opens accounts `a0`, `a1` and so on, and puts 10 CNY into each.
    async fn fill(&self, accounts: u32) {
        let open: Vec<String> =
            (0..accounts).map(|n| format!(r#"{{"account":"a{n}","class":"ii"}}"#)).collect();
        let open = format!(r#"{{"accounts":[{}]}}"#, open.join(","));
        assert_eq!(self.post(wire::ACCOUNTS, now(), open).await, 200);
        let fill: Vec<String> = (0..accounts)
            .map(|n| format!(r#"{{"account":"a{n}","name":"first","amount_fen":1000}}"#))
            .collect();
        let fill = format!(r#"{{"deposits":[{}]}}"#, fill.join(","));
        assert_eq!(self.post(wire::DEPOSITS, now(), fill).await, 200);
    }
}

/// A request's date.
fn now() -> String {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs().to_string()
}

fn request(n: u32, attempt: u32, fen: i64) -> DeductionRequest {
    let mut token_key = [0; 16];
    token_key[..4].copy_from_slice(&n.to_be_bytes());
    let id = AttemptId { service_day: DAY, token_key, part: 1, attempt };
    DeductionRequest { id, account_id: format!("a{n}"), amount: Fen(fen), value_ms: 1_795_464_000_000 }
}

fn requests(n: u32) -> Vec<DeductionRequest> {
    (0..n).map(|n| request(n, 1, 300)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_goes_out_in_pieces_and_its_answers_come_back_in_order_and_outlive_the_bank() {
    let mut house = House::new(Trouble::default()).await;
    house.fill(40).await;
    let mut asked = requests(45);
    asked[7].amount = Fen(1_001);
    let bank = house.connector(1);
    let first = bank.deduct(&asked).await.unwrap();
    for (n, answer) in first.iter().enumerate() {
        let expected = match n {
            7 => Answer::Declined(Decline::NoFunds),
            40.. => Answer::Declined(Decline::UnknownAccount),
            _ => Answer::Approved,
        };
        assert_eq!(*answer, expected, "request {n}");
    }
    house.stop().await;
    house.start(Trouble::default()).await;
    assert_eq!(bank.deduct(&asked).await.unwrap(), first);
    let other = [request(3, 1, 301)];
    assert_eq!(bank.deduct(&other).await.unwrap(), [Answer::Declined(Decline::Mismatch)]);

    let mut lines = Vec::new();
    loop {
        let after = lines.last().map(|l: &wavepass_gateway::bank::StatementLine| l.id);
        let page = bank.statement(DAY, after, 16).await.unwrap();
        assert!(page.len() <= 16);
        if page.is_empty() {
            break;
        }
        lines.extend(page);
    }
    let done: Vec<AttemptId> =
        asked.iter().zip(&first).filter(|(_, a)| **a == Answer::Approved).map(|(r, _)| r.id).collect();
    assert_eq!(lines.iter().map(|l| l.id).collect::<Vec<_>>(), done);
    assert!(lines.iter().all(|l| l.amount == Fen(300)));
    assert!(bank.own_differences().await.unwrap().is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_batch_and_the_largest_page_go_over_the_line() {
    let house = House::new(Trouble::default()).await;
    house.fill(wire::MAX_ITEMS).await;
    let bank = HttpBank::new(BankSection {
        connector: ConnectorKind::Http,
        url: format!("http://{}", house.address),
        key_file: house.key_file(),
        timeout_ms: 60_000,
        batch: wire::MAX_ITEMS as usize,
        ..BankSection::default()
    });
    let bank = bank.unwrap();
    let most = wire::MAX_ITEMS as usize;
    assert_eq!(bank.deduct(&requests(wire::MAX_ITEMS)).await.unwrap(), vec![Answer::Approved; most]);
    let page = bank.statement(DAY, None, wire::MAX_ITEMS + 1_000).await.unwrap();
    assert_eq!(page.len(), most);
    assert!(bank.statement(DAY, page.last().map(|line| line.id), 1).await.unwrap().is_empty());
    // Names as long as any may be, of characters that JSON writes as two.
    let account_id = "\"".repeat(64);
    let longest = |n| DeductionRequest { account_id: account_id.clone(), ..request(n, 2, i64::MIN + 1) };
    let asked: Vec<_> = (0..wire::MAX_ITEMS).map(longest).collect();
    assert_eq!(bank.deduct(&asked).await.unwrap(), vec![Answer::Declined(Decline::UnknownAccount); most]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_is_away_lost_its_answer_or_failed_leaves_doubt_and_never_a_decline() {
    let mut house = House::new(Trouble::default()).await;
    house.fill(20).await;
    let asked = requests(20);
    for trouble in [
        Trouble { lose_answers: 100, ..Trouble::default() },
        Trouble { errors: 100, ..Trouble::default() },
        Trouble { refuse: 100, ..Trouble::default() },
    ] {
        house.stop().await;
        house.start(trouble.clone()).await;
        let answers = house.connector(1).deduct(&asked).await.unwrap();
        assert_eq!(answers, vec![Answer::NoAnswer; 20], "{trouble:?}");
    }
    house.stop().await;
    assert_eq!(house.connector(2).deduct(&asked).await.unwrap(), vec![Answer::NoAnswer; 20]);
    // The money of the answers that were lost has moved, and moves no more.
    house.start(Trouble::default()).await;
    let bank = house.connector(1);
    assert_eq!(bank.statement(DAY, None, 100).await.unwrap().len(), 20);
    assert_eq!(bank.deduct(&asked).await.unwrap(), vec![Answer::Approved; 20]);
    assert_eq!(bank.statement(DAY, None, 100).await.unwrap().len(), 20);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_failures_is_overcome_by_asking_again() {
    let mut house = House::new(Trouble::default()).await;
    house.fill(60).await;
    house.stop().await;
    house.start(Trouble { errors: 40, seed: 3, ..Trouble::default() }).await;
    assert_eq!(house.connector(10).deduct(&requests(60)).await.unwrap(), vec![Answer::Approved; 60]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_attempts_is_declined_for_good_whatever_is_ordered_later() {
    let mut house = House::new(Trouble::default()).await;
    house.fill(60).await;
    house.stop().await;
    house.start(Trouble { decline: 50, ..Trouble::default() }).await;
    let bank = house.connector(1);
    let first = bank.deduct(&requests(60)).await.unwrap();
    let declined = first.iter().filter(|a| **a == Answer::Declined(Decline::NoFunds)).count();
    assert!((10..=50).contains(&declined), "{declined} of 60");
    assert_eq!(first.iter().filter(|a| **a == Answer::Approved).count(), 60 - declined);
    house.stop().await;
    house.start(Trouble::default()).await;
    assert_eq!(bank.deduct(&requests(60)).await.unwrap(), first);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_key_or_date_moves_nothing() {
    let mut house = House::new(Trouble::default()).await;
    house.fill(1).await;
    let other = house.dir.path().join("other");
    std::fs::write(&other, "00".repeat(32)).unwrap();
    let stranger = house.connector_with(&other, 1);
    assert_eq!(stranger.deduct(&requests(1)).await.unwrap(), [Answer::NoAnswer]);
    assert!(stranger.statement(DAY, None, 1).await.unwrap_err().to_string().contains("401"));
    let deduction = serde_json::to_string(&wire::Deductions {
        deductions: requests(1).iter().map(wire::Deduction::of).collect(),
    });
    assert_eq!(house.post(wire::DEDUCTIONS, "1000".into(), deduction.unwrap()).await, 401);
    assert!(house.connector(1).statement(DAY, None, 10).await.unwrap().is_empty());
    house.stop().await;
}
