//! What an operator sets, at a gate: the gate application itself in this process, on a link over a real socket.

use crate::bank::embedded::{Class, NewAccount, open_in};
use crate::clearing::app::publish_tariff;
use crate::clearing::testing::{books, day, deposit, house_tariff};
use crate::cli::{Given, Output, parse_store_command, run_store_command};
use crate::keys::PhoneOrder;
use crate::serve::Server;
use crate::testing::{House, MORNING};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wavepass_gate::{Areas, Contact, Gate, Idle, Link, Memory, Now};
use wavepass_hce::card::Card;
use wavepass_hce::faults::Fault;
use wavepass_hce::hex;
use wavepass_hce::phone::{ApplicationFile, Phone, PhoneFile};
use wavepass_hce::state::Counters;
use wavepass_journal::Limits;
use wavepass_journal::sim::{ERASE, RamFlash};
use wavepass_kernel::Lost;
use wavepass_protocol::ecc::IssuerCertificate;
use wavepass_protocol::ecc::P256Verifier;
use wavepass_protocol::link::MAX_FRAME;
use wavepass_protocol::lists::Kind;
use wavepass_protocol::tap::{ClockQuality, Decision, Reason};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::Expiry;

/// A gate with its line to the gateway.
struct Connected {
    gate: Box<Gate<RamFlash, Box<Memory<P256Verifier>>>>,
    link: Link,
    stream: TcpStream,
    now: u64,
}

fn areas() -> Areas<RamFlash> {
    let pages = |pages: usize| RamFlash::new(pages * ERASE);
    Areas {
        journal: pages(8),
        keys: pages(2),
        floor: pages(2),
        identity: pages(2),
        lists: [pages(4), pages(4), pages(4), pages(4)],
    }
}

impl Connected {
    async fn new(house: &House, server: &Server) -> Self {
        let areas = areas();
        let again = Areas {
            journal: areas.journal.clone(),
            keys: areas.keys.clone(),
            floor: areas.floor.clone(),
            identity: areas.identity.clone(),
            lists: areas.lists.clone(),
        };
        areas.commission(&house.provisioning(1).await).await.unwrap();
        let memory = Box::new(Memory::new(P256Verifier));
        let gate = Box::new(Gate::start(again, Limits::default(), memory).await.unwrap());
        let mut frame = [0; MAX_FRAME];
        let (link, hello) = gate.link_begin([1; 16], &mut frame).unwrap();
        let mut stream = TcpStream::connect(server.running().link).await.unwrap();
        stream.write_all(hello).await.unwrap();
        Self { gate, link, stream, now: MORNING }
    }

    /// Takes what the gateway sends until the newest issue of every list is in force.
    async fn synchronise(&mut self, house: &House) {
        loop {
            let mut frame = [0; MAX_FRAME];
            // What came is made into lists in idle time.
            while self.gate.idle().await.unwrap() == Idle::More {}
            while let Some(frame) = self.gate.link_next(&mut self.link, &mut frame).await.unwrap() {
                self.stream.write_all(frame).await.unwrap();
            }
            let newest = |kind| house.app.lists.current(kind).map(|(version, _)| version);
            if Kind::ALL.into_iter().all(|kind| newest(kind) == Some(self.gate.version(kind))) {
                return;
            }
            let mut received = [0; 4096];
            let read = tokio::time::timeout(Duration::from_secs(10), self.stream.read(&mut received));
            let len = read.await.expect("the gateway says nothing").unwrap();
            self.gate.link_receive(&mut self.link, &received[..len]).await.unwrap().unwrap();
        }
    }

    /// Presents a phone, a minute after the last one.
    async fn present(&mut self, file: &PhoneFile) -> Decision {
        self.now += 60_000;
        let mut phone = Phone::new(file, Counters::memory(), [7; 32]).unwrap();
        phone.enter_field();
        let now = Now { time: UnixMs(self.now), quality: ClockQuality::Synchronised };
        let mut field = Field { card: &mut phone, us: 0 };
        self.gate.present(&mut field, now, [1, 2, 3, 4]).await.unwrap().decision
    }
}

/// A card in the field: an exchange takes a millisecond and what the card waits.
struct Field<'c> {
    card: &'c mut Phone,
    us: u64,
}

impl Contact for Field<'_> {
    async fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Result<usize, Lost> {
        let got = self.card.transmit(command).map_err(|_| Lost::Removed)?;
        self.us += got.delay_us + 1_000;
        answer.get_mut(..got.data.len()).ok_or(Lost::Protocol)?.copy_from_slice(&got.data);
        Ok(got.data.len())
    }

    fn now_us(&self) -> u64 {
        self.us
    }
}

fn phone(house: &House, rank: u32) -> PhoneFile {
    let order = PhoneOrder {
        token: house.app.bank.token_number("E1", rank, 0),
        expiry: Expiry::new(31, 12).unwrap(),
        effective: Date::new(2026, 1, 1).unwrap(),
        psn: 0,
        network: *b"WAVE",
        operator: 0,
    };
    house.app.bank.personalise(&order).unwrap()
}

async fn command(house: &House, args: &[&str], text: Option<&str>) -> Output {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let command = parse_store_command(&args).unwrap();
    run_store_command(command, &house.app, "anna", Given { text, file: None }).await.unwrap()
}

async fn working() -> (House, Server, Connected) {
    let house = House::new().await;
    let mut tx = house.app.store.begin().await.unwrap();
    super::adopt_ca_keys_in(&mut tx, &house.app.bank.ca_keys()).await.unwrap();
    tx.commit().await.unwrap();
    house.app.publish_lists().await.unwrap();
    let server = serve(&house).await;
    let mut gate = Connected::new(&house, &server).await;
    gate.synchronise(&house).await;
    (house, server, gate)
}

#[tokio::test]
async fn a_configuration_comes_into_force_at_a_connected_gate_and_its_relay_limits_time_cards() {
    let (house, _server, mut gate) = Box::pin(working()).await;
    let far = |rank| phone(&house, rank).with_fault(Fault::Relay { delay_us: 20_000 });
    assert_eq!(gate.present(&far(0)).await, Decision::Open, "nobody measures");
    let shown = command(&house, &["gate-config", "show"], None).await.text;
    let relay = "\n[relay]\noverhead_us = 1000\ngrace_us = 200\ncap_us = 10000\n";
    let said =
        command(&house, &["gate-config", "set", "g.toml"], Some(&format!("{shown}{relay}"))).await.text;
    assert_eq!(said, "the configuration is set, with other relay; published as version 2 of epoch 1");
    assert_eq!(gate.present(&far(1)).await, Decision::Open, "the gate has not heard of it");
    gate.synchronise(&house).await;
    assert_eq!(gate.present(&far(2)).await, Decision::Refuse(Reason::RelaySuspected));
    assert_eq!(gate.present(&phone(&house, 3)).await, Decision::Open);
    command(&house, &["gate-config", "set", "g.toml"], Some(&shown)).await;
    gate.synchronise(&house).await;
    assert_eq!(gate.present(&far(4)).await, Decision::Open);
}

#[tokio::test]
async fn a_revoked_issuer_s_phones_are_refused_until_it_is_lifted() {
    let (house, _server, mut gate) = Box::pin(working()).await;
    assert_eq!(gate.present(&phone(&house, 0)).await, Decision::Open);
    let file = phone(&house, 1);
    let ApplicationFile::House(application) = &file.applications[0] else { panic!("no house's phone") };
    let serial = IssuerCertificate::parse(&application.issuer_certificate).unwrap().fields.serial;
    let key = house.app.bank.ca_keys().remove(0);
    let [rid, index, serial] = [&key.rid[..], &[key.index], &serial].map(hex::encode);
    let which = ["--rid", &rid, "--index", &index, "--serial", &serial];
    command(&house, &[&["revocation", "add"], &which[..]].concat(), None).await;
    gate.synchronise(&house).await;
    assert_eq!(gate.present(&file).await, Decision::Refuse(Reason::AuthenticationFailed));
    command(&house, &[&["revocation", "remove"], &which[..]].concat(), None).await;
    gate.synchronise(&house).await;
    assert_eq!(gate.present(&phone(&house, 2)).await, Decision::Open);
}

impl Connected {
    /// The line broke: greets whoever serves now. The gate itself goes on.
    async fn dial(&mut self, server: &Server) {
        let mut frame = [0; MAX_FRAME];
        let (link, hello) = self.gate.link_begin([2; 16], &mut frame).unwrap();
        self.stream = TcpStream::connect(server.running().link).await.unwrap();
        self.stream.write_all(hello).await.unwrap();
        self.link = link;
    }

    /// Talks until the store has so many taps.
    async fn bring(&mut self, house: &House, taps: i64) {
        loop {
            let mut frame = [0; MAX_FRAME];
            while let Some(frame) = self.gate.link_next(&mut self.link, &mut frame).await.unwrap() {
                self.stream.write_all(frame).await.unwrap();
            }
            if house.count("SELECT count(*) FROM taps").await >= taps {
                return;
            }
            let mut received = [0; 4096];
            let read = tokio::time::timeout(Duration::from_secs(10), self.stream.read(&mut received));
            let len = read.await.expect("the gateway asks for nothing").unwrap();
            self.gate.link_receive(&mut self.link, &received[..len]).await.unwrap().unwrap();
        }
    }
}

async fn serve(house: &House) -> Server {
    let local = "127.0.0.1:0".parse().unwrap();
    Server::start(house.app.clone(), local, local).await.unwrap()
}

/// A day of five riders at one gate, the first of them without money. With a disaster, the store is lost after the
/// fourth tap and the first close, and put back as it was after the second tap. Gives the books.
async fn books_of_a_day(disaster: bool) -> Vec<String> {
    let (mut house, mut server, mut gate) = Box::pin(working()).await;
    publish_tariff(&house.app, "anna", "t.toml", &house_tariff()).await.unwrap();
    for rank in 0..5 {
        let token = house.app.bank.token_number("E1", rank, 0);
        house.register(&crate::testing::Card { token, expiry: Expiry::new(31, 12).unwrap() }).await;
    }
    let accounts = house.texts("SELECT account_id FROM tokens ORDER BY token_key").await;
    let mut tx = house.app.store.begin().await.unwrap();
    let new = |id: &String| NewAccount { account_id: id.clone(), class: Class::Ii };
    open_in(&mut tx, &accounts.iter().map(new).collect::<Vec<_>>()).await.unwrap();
    tx.commit().await.unwrap();
    let first = house.app.bank.token_number("E1", 0, 0);
    let poor = format!("account-{}", crate::tokens::last_four(&first));
    for account_id in accounts.iter().filter(|id| **id != poor) {
        deposit(&house.app.store, account_id, 5_000).await;
    }
    for rank in 0..2 {
        assert_eq!(gate.present(&phone(&house, rank)).await, Decision::Open);
    }
    gate.bring(&house, 2).await;
    let backup = house.scratch.backup().await;
    for rank in 2..4 {
        assert_eq!(gate.present(&phone(&house, rank)).await, Decision::Open);
    }
    gate.bring(&house, 4).await;
    if disaster {
        end_of_the_day(&house).await;
        gate.synchronise(&house).await;
        server.stop().await;
        house = House::over(backup.restore(UnixMs(MORNING)).await).await;
        if house.app.store.is_shared() {
            house.command(&["gate", "reissue-lists"]).await;
        }
        house.app.publish_lists().await.unwrap();
        assert_eq!(house.count("SELECT count(*) FROM taps").await, 2);
        server = serve(&house).await;
        // Nobody taps: the gate is asked all the same.
        gate.dial(&server).await;
        gate.bring(&house, 4).await;
        gate.synchronise(&house).await;
        assert_eq!(gate.gate.version(Kind::Deny).epoch, 2);
    }
    assert_eq!(gate.present(&phone(&house, 4)).await, Decision::Open);
    gate.bring(&house, 5).await;
    assert_eq!(house.count("SELECT count(*) FROM taps WHERE opened = 1").await, 5);
    assert_eq!(house.count("SELECT count(*) FROM breaks").await, 0);
    end_of_the_day(&house).await;
    gate.synchronise(&house).await;
    assert_eq!(gate.present(&phone(&house, 0)).await, Decision::Refuse(Reason::Denied));
    let found = crate::clearing::app::reconcile(&house.app, "anna", day()).await.unwrap();
    assert!(found.differences.is_empty(), "{found:?}");
    let books = books(&house.scratch).await;
    server.stop().await;
    books
}

async fn end_of_the_day(house: &House) {
    house.app.clock.driven().unwrap().set(UnixMs(MORNING + 24 * 3_600_000)).unwrap();
    let closed = crate::clearing::app::close(&house.app, "anna", day(), false, false).await.unwrap();
    assert_eq!(closed.deduct.declined, 1, "the rider without money");
}

#[tokio::test]
async fn a_store_that_was_put_back_gets_from_its_gates_what_it_lacks_and_charges_as_if_nothing_had_been() {
    let calm = Box::pin(books_of_a_day(false)).await;
    assert!(calm.iter().any(|row| row.starts_with("charges|")), "{calm:?}");
    assert_eq!(Box::pin(books_of_a_day(true)).await, calm);
}
