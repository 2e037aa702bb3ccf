//! The link over real sockets: a gate's end is played by hand, so that it can lie.

use crate::lists::deny::{self, Addition, Cause};
use crate::serve::Server;
use crate::store::db::query;
use crate::store::testing::in_the_way;
use crate::testing::{Card, House};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wavepass_protocol::deny::{Delta, DenyList, Merge};
use wavepass_protocol::ecc::{P256Verifier, PublicKey};
use wavepass_protocol::link::{
    FrameReader, FromGate, FromHost, LinkKey, MAX_FRAME, Session, receive_clear, send_clear,
};
use wavepass_protocol::lists::{HEAD, Kind, ListError, PREFIX, SignedList, Version};
use wavepass_protocol::provisioning::Provisioning;
use wavepass_protocol::tap::Entry;

use super::sealer::Sealer;

/// What the host said, without borrowed parts.
#[derive(Debug, PartialEq)]
enum Said {
    Acknowledge(u32),
    Resend(u32),
    Time(u64),
    List(Kind, Version, Vec<u8>),
    Other,
}

/// A gate's end of a link.
struct Gate {
    stream: TcpStream,
    reader: FrameReader,
    pending: Vec<Vec<u8>>,
    session: Option<Session>,
    list: Vec<u8>,
    sealer: Sealer,
    file: Vec<u8>,
}

impl Gate {
    async fn dial(server: &Server, file: Vec<u8>) -> Self {
        let stream = TcpStream::connect(server.running().link).await.unwrap();
        let sealer = Sealer::new(&file).unwrap();
        let reader = FrameReader::new();
        Self { stream, reader, pending: Vec::new(), session: None, list: Vec::new(), sealer, file }
    }

    /// Hello and welcome.
    async fn greet(&mut self) {
        let file = self.file.clone();
        let parsed = Provisioning::parse(&file).unwrap();
        self.hello(parsed.gate_id).await;
        let raw = self.frame().await.unwrap();
        let FromHost::Welcome { nonce, proof } = receive_clear(&raw).unwrap() else { panic!("no welcome") };
        let key = LinkKey::new(parsed.link_key);
        self.session = Some(key.accept(parsed.gate_id, &[1; 16], &nonce, &proof).unwrap());
    }

    async fn hello(&mut self, gate_id: u32) {
        let hello = FromGate::Hello { gate_id, firmware: "by hand", nonce: [1; 16] };
        let mut out = [0; MAX_FRAME];
        let frame = send_clear(&hello, &mut out).unwrap().to_vec();
        self.stream.write_all(&frame).await.unwrap();
    }

    /// A gate that has everything but the lists.
    async fn connect(server: &Server, file: Vec<u8>) -> Self {
        let mut gate = Self::dial(server, file).await;
        gate.greet().await;
        gate.status(1_000, [Version { epoch: 9, version: 0 }; 4]).await;
        gate
    }

    async fn status(&mut self, next: u32, lists: [Version; 4]) {
        let key_id = self.sealer.key_id;
        self.send(&FromGate::Status { key_id, oldest: 1, next, acknowledged: 0, lists }).await;
    }

    fn framed(&mut self, message: &FromGate<'_>) -> Vec<u8> {
        let mut out = [0; MAX_FRAME];
        self.session.as_mut().unwrap().send(message, &mut out).unwrap().to_vec()
    }

    async fn send(&mut self, message: &FromGate<'_>) {
        let frame = self.framed(message);
        // A host that has closed already shows in what is read.
        let _ = self.stream.write_all(&frame).await;
    }

    async fn entries(&mut self, entries: &[Vec<u8>]) {
        for sealed in entries {
            self.send(&FromGate::Entry { sealed }).await;
        }
    }

    /// The next frame; `None` when the host has closed.
    async fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if !self.pending.is_empty() {
                return Some(self.pending.remove(0));
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer);
            let len =
                tokio::time::timeout(Duration::from_secs(10), read).await.expect("the host says nothing");
            match len {
                Ok(0) | Err(_) => return None,
                Ok(len) => {
                    for &byte in &buffer[..len] {
                        if let Some(frame) = self.reader.push(byte) {
                            self.pending.push(frame.unwrap().to_vec());
                        }
                    }
                }
            }
        }
    }

    /// The next thing said; a list when it is whole. `None` when the host has closed.
    async fn next(&mut self) -> Option<Said> {
        loop {
            let raw = self.frame().await?;
            return Some(match self.session.as_mut().unwrap().receive::<FromHost<'_>>(&raw).unwrap() {
                FromHost::Acknowledge { upto, key_id } => {
                    assert_eq!(key_id, self.sealer.key_id);
                    Said::Acknowledge(upto)
                }
                FromHost::Resend { from } => Said::Resend(from),
                FromHost::Time { now } => Said::Time(now.0),
                FromHost::ListPart { kind, version, total, offset, part } => {
                    assert_eq!(offset as usize, self.list.len(), "parts come in order");
                    self.list.extend_from_slice(part);
                    if self.list.len() < total as usize {
                        continue;
                    }
                    Said::List(kind, version, std::mem::take(&mut self.list))
                }
                _ => Said::Other,
            });
        }
    }

    /// The next thing said that is not the time.
    async fn heard(&mut self) -> Option<Said> {
        loop {
            match self.next().await {
                Some(Said::Time(_)) => {}
                other => return other,
            }
        }
    }

    async fn until_acknowledged(&mut self, upto: u32) {
        while self.heard().await.expect("the link stands") != Said::Acknowledge(upto) {}
    }
}

async fn serving() -> (House, Server) {
    let house = House::new().await;
    let local = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(house.app.clone(), local, local).await.unwrap();
    (house, server)
}

fn sealed(gate: &mut Gate, n: u16) -> Vec<Vec<u8>> {
    (1..=n).map(|atc| Card::new(1).tap(u64::from(atc) * 60_000, atc).seal(&mut gate.sealer)).collect()
}

#[tokio::test]
async fn a_gate_is_told_the_time_and_its_taps_are_acknowledged() {
    let (house, server) = serving().await;
    let mut gate = Gate::connect(&server, house.provisioning(1).await).await;
    let now = house.app.clock.now().0;
    assert_eq!(gate.next().await, Some(Said::Time(now)));
    let entries = sealed(&mut gate, 300);
    gate.entries(&entries).await;
    gate.until_acknowledged(300).await;
    assert_eq!(house.count("SELECT count(*) FROM taps").await, 300);
    let state = &house.app.gates.all()[0];
    assert_eq!((state.gate_id, state.connected, state.acknowledged, state.next), (1, true, 300, 1_000));
}

/// A transport that acknowledges what it has not flushed loses it in a crash.
#[tokio::test]
async fn a_gate_is_told_of_nothing_that_could_not_be_written_and_sends_it_again() {
    let (house, server) = serving().await;
    let file = house.provisioning(1).await;
    let mut gate = Gate::connect(&server, file.clone()).await;
    let entries = sealed(&mut gate, 3);
    gate.entries(&entries[..1]).await;
    gate.until_acknowledged(1).await;
    let busy = in_the_way(&house.scratch, "entries").await;
    gate.entries(&entries[1..]).await;
    assert_eq!(gate.heard().await, None, "the link ends without a word");
    busy.gone().await;
    let mut gate = Gate::connect(&server, file).await;
    gate.entries(&entries[1..]).await;
    gate.until_acknowledged(3).await;
    assert_eq!(house.count("SELECT count(*) FROM taps").await, 3);
}

#[tokio::test]
async fn a_gate_s_health_is_shown_without_what_could_disturb_a_screen_and_outlives_its_connection() {
    let (house, server) = serving().await;
    let file = house.provisioning(1).await;
    let mut gate = Gate::connect(&server, file.clone()).await;
    let health = |panic| FromGate::Health {
        stack_used: 9_216,
        stack_bytes: 16_384,
        reader_recoveries: 3,
        uncounted_refusals: 4,
        trouble: if str::is_empty(panic) { "" } else { "tampered" },
        panic,
    };
    let long = format!("gate.rs:7\u{1b}[2J\n{}", "x".repeat(200));
    gate.send(&health(&long)).await;
    let entries = sealed(&mut gate, 1);
    gate.entries(&entries).await;
    gate.until_acknowledged(1).await;
    let shown = |house: &House| house.app.gates.all()[0].health.clone().unwrap();
    let found = shown(&house);
    assert_eq!((found.stack_used, found.stack_bytes), (9_216, 16_384));
    assert_eq!((found.reader_recoveries, found.uncounted_refusals), (3, 4));
    assert_eq!(found.trouble.as_deref(), Some("tampered"));
    let panic = found.panic.unwrap();
    assert!(panic.starts_with("gate.rs:7[2Jxxx") && panic.len() == 96, "{panic:?}");

    let mut again = Gate::connect(&server, file).await;
    again.entries(&entries).await;
    again.until_acknowledged(1).await;
    assert_eq!(shown(&house).panic, Some(panic));
    again.send(&health("")).await;
    again.entries(&entries).await;
    again.until_acknowledged(1).await;
    assert_eq!((shown(&house).panic, shown(&house).trouble), (None, None));
}

/// Denies or lifts tokens and publishes.
async fn deny(house: &House, cards: std::ops::Range<u32>, lift: bool) {
    let (clearing, now) = (&*house.app.clearing, house.app.clock.now());
    let mut additions = Vec::new();
    for n in cards {
        let card = Card::new(n);
        let token_key =
            if lift { clearing.token_key(&card.token, card.expiry) } else { house.register(&card).await };
        let (cause, note) = (Cause::Manual, String::new());
        additions.push(Addition { token_key, number: None, cause, note });
    }
    let mut tx = house.app.store.begin().await.unwrap();
    if lift {
        let entries: Vec<_> = additions.iter().map(|a| (a.token_key, a.cause)).collect();
        deny::remove_in(&mut tx, &entries, "test", "", now).await.unwrap();
    } else {
        deny::add_in(&mut tx, clearing, &additions, "test", now).await.unwrap();
    }
    tx.commit().await.unwrap();
    house.app.publish_lists().await.unwrap();
}

/// A gate that has every list; what it holds, and the bytes of its deny list.
async fn gate_with_lists(house: &House, server: &Server) -> (Gate, [Version; 4], Vec<u8>) {
    house.app.publish_lists().await.unwrap();
    let file = house.provisioning(1).await;
    let mut gate = Gate::dial(server, file.clone()).await;
    gate.greet().await;
    let mut held = [Version::default(); 4];
    gate.status(1, held).await;
    let root = PublicKey::from_x(Provisioning::parse(&file).unwrap().root_key);
    let mut deny_list = Vec::new();
    for (slot, kind) in Kind::ALL.into_iter().enumerate() {
        let Some(Said::List(found, version, bytes)) = gate.heard().await else { panic!("no {kind:?}") };
        let list = SignedList::verify(&bytes, &root, &mut P256Verifier).unwrap();
        assert_eq!((found, list.header.version), (kind, version));
        if kind == Kind::Deny {
            deny_list = bytes;
        }
        held[slot] = version;
        gate.status(1, held).await;
    }
    (gate, held, deny_list)
}

#[tokio::test]
async fn lists_are_sent_one_after_the_other_and_the_deny_list_then_as_deltas() {
    let (house, server) = serving().await;
    let (mut gate, mut held, first) = gate_with_lists(&house, &server).await;
    deny(&house, 1..3, false).await;
    let Some(Said::List(Kind::Deny, version, bytes)) = gate.heard().await else { panic!("no deny list") };
    assert_eq!(version.version, 2);
    let whole = house.app.lists.current(Kind::Deny).unwrap().1;
    assert_eq!(bytes[..HEAD], whole[..HEAD], "the head is the whole list's");
    assert_eq!(bytes[HEAD..PREFIX], 1u32.to_be_bytes(), "on what the gate has");
    let content = merged(&first[PREFIX..], &bytes[PREFIX..]);
    assert_eq!(content, whole[PREFIX..]);

    // While the gate is at it, two more are published: they come as one when it is done.
    deny(&house, 3..5, false).await;
    deny(&house, 1..2, true).await;
    held[0] = version;
    gate.status(1, held).await;
    let Some(Said::List(Kind::Deny, version, bytes)) = gate.heard().await else { panic!("no deny list") };
    assert_eq!((version.version, &bytes[HEAD..PREFIX]), (4, &2u32.to_be_bytes()[..]));
    let whole = house.app.lists.current(Kind::Deny).unwrap().1;
    assert_eq!(merged(&content, &bytes[PREFIX..]), whole[PREFIX..]);
}

#[tokio::test]
async fn a_refused_delta_is_followed_by_the_whole_list_and_a_refused_list_is_not_sent_again() {
    let (house, server) = serving().await;
    let (mut gate, held, _) = gate_with_lists(&house, &server).await;
    deny(&house, 1..3, false).await;
    for (is_delta, why) in [(true, ListError::Base), (false, ListError::TooLarge)] {
        let Some(Said::List(kind, version, bytes)) = gate.heard().await else { panic!("no deny list") };
        assert_eq!((kind, version.version, bytes[HEAD..PREFIX] != [0; 4]), (Kind::Deny, 2, is_delta));
        gate.send(&FromGate::ListRefused { kind, version, why }).await;
    }
    // Only a newer list comes; it builds on what the gate has.
    gate.status(1, held).await;
    deny(&house, 3..4, false).await;
    let Some(Said::List(Kind::Deny, version, bytes)) = gate.heard().await else { panic!("no deny list") };
    assert_eq!((version.version, &bytes[HEAD..PREFIX]), (3, &1u32.to_be_bytes()[..]));
}

#[tokio::test]
async fn a_gate_that_was_away_too_long_or_has_another_epoch_s_list_gets_the_whole() {
    let (house, server) = serving().await;
    house.app.publish_lists().await.unwrap();
    deny(&house, 1..2, false).await;
    deny(&house, 1..2, true).await;
    let of = |epoch, version| Version { epoch, version };
    for (id, at_gate, is_delta) in
        [(1, of(1, 1), true), (2, of(1, 2), true), (3, of(0, 9), false), (4, of(0, 0), false)]
    {
        let mut gate = Gate::dial(&server, house.provisioning(id).await).await;
        gate.greet().await;
        gate.status(1, [at_gate; 4]).await;
        let Some(Said::List(Kind::Deny, version, bytes)) = gate.heard().await else { panic!("no deny list") };
        assert_eq!((version.version, bytes[HEAD..PREFIX] != [0; 4]), (3, is_delta), "{at_gate:?}");
    }
    let mut conn = house.app.store.begin().await.unwrap();
    query("DELETE FROM list_deltas WHERE version = 2").execute(&mut *conn).await.unwrap();
    let published = crate::lists::Published::load(&mut conn).await.unwrap();
    assert!(published.to_send(Kind::Deny, of(1, 2), true).unwrap().is_delta);
    assert!(!published.to_send(Kind::Deny, of(1, 1), true).unwrap().is_delta, "a link of the chain is gone");
    assert!(published.to_send(Kind::Deny, of(1, 3), true).is_none());
}

/// A gate's merge of a delta with the content it has.
fn merged(base: &[u8], delta: &[u8]) -> Vec<u8> {
    let delta = Delta::parse(delta).unwrap();
    let mut merge = Merge::new(*DenyList::parse(base).unwrap().shape(), &delta).unwrap();
    let mut content = Vec::new();
    while let Some(range) = merge.want() {
        let mut out = [0; 256];
        let len = merge.step(&delta, &base[range], &mut out).unwrap();
        content.extend(&out[..len]);
    }
    content
}

#[tokio::test]
async fn an_unknown_gate_is_told_so_and_nothing_else() {
    let (house, server) = serving().await;
    let mut gate = Gate::dial(&server, house.provisioning(1).await).await;
    gate.hello(77).await;
    let raw = gate.frame().await.unwrap();
    assert_eq!(receive_clear(&raw), Ok(FromHost::Unknown));
    assert_eq!(gate.frame().await, None);
    assert!(house.app.gates.all().is_empty());
}

#[tokio::test]
async fn a_gate_without_the_link_key_is_not_believed() {
    let (house, server) = serving().await;
    let (first, second) = (house.provisioning(1).await, house.provisioning(2).await);
    // It answers to gate 1's name with gate 2's keys.
    let mut gate = Gate::dial(&server, second.clone()).await;
    gate.hello(1).await;
    let raw = gate.frame().await.unwrap();
    let FromHost::Welcome { nonce, proof } = receive_clear(&raw).unwrap() else { panic!("no welcome") };
    let key = LinkKey::new(Provisioning::parse(&second).unwrap().link_key);
    assert!(key.accept(1, &[1; 16], &nonce, &proof).is_err());
    gate.session = Some(key.session(wavepass_protocol::link::Side::Gate, 1, &[1; 16], &nonce));
    gate.status(1, [Version::default(); 4]).await;
    assert_eq!(gate.frame().await, None);
    assert!(house.app.gates.all().is_empty());
    assert!(Provisioning::parse(&first).is_ok());
}

#[tokio::test]
async fn an_altered_replayed_or_reordered_frame_ends_the_link_and_counts_nothing() {
    let (house, server) = serving().await;
    for attack in ["altered", "replayed", "reordered", "clear"] {
        let id = 1 + attack.len() as u32;
        let mut gate = Gate::connect(&server, house.provisioning(id).await).await;
        let entries = sealed(&mut gate, 2);
        let mut first = gate.framed(&FromGate::Entry { sealed: &entries[0] });
        let second = gate.framed(&FromGate::Entry { sealed: &entries[1] });
        let bytes = match attack {
            "altered" => {
                // Neither a delimiter nor the delimiter's stand-in.
                first[80] = if first[80] == 7 { 8 } else { 7 };
                first
            }
            "replayed" => [first.clone(), first].concat(),
            "reordered" => [second, first].concat(),
            _ => send_clear(&FromGate::Entry { sealed: &entries[0] }, &mut [0; MAX_FRAME]).unwrap().to_vec(),
        };
        gate.stream.write_all(&bytes).await.unwrap();
        while let Some(said) = gate.heard().await {
            assert_eq!(said, Said::Acknowledge(1), "{attack}");
        }
    }
    assert!(house.count("SELECT count(*) FROM taps").await <= 1);
}

#[tokio::test]
async fn a_gap_is_asked_for_once_and_a_loss_is_a_break() {
    let (house, server) = serving().await;
    let mut gate = Gate::connect(&server, house.provisioning(1).await).await;
    let entries = sealed(&mut gate, 6);
    gate.entries(&entries[..1]).await;
    gate.until_acknowledged(1).await;
    gate.entries(&entries[2..]).await;
    while gate.heard().await != Some(Said::Resend(2)) {}
    gate.send(&FromGate::Lost { from: 2, upto: 2 }).await;
    gate.entries(&entries[2..]).await;
    loop {
        match gate.heard().await {
            Some(Said::Acknowledge(6)) => break,
            Some(Said::Acknowledge(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(house.texts("SELECT kind || ' ' || detail FROM breaks").await, ["gap 2-2"]);
    assert_eq!(house.count("SELECT count(*) FROM taps").await, 5);
}

#[tokio::test]
async fn a_gap_that_the_resend_fills_is_no_break() {
    let (house, server) = serving().await;
    let mut gate = Gate::connect(&server, house.provisioning(1).await).await;
    let entries = sealed(&mut gate, 4);
    gate.entries(&entries[2..]).await;
    while gate.heard().await != Some(Said::Resend(1)) {}
    gate.entries(&entries).await;
    gate.until_acknowledged(4).await;
    assert_eq!(house.count("SELECT count(*) FROM breaks").await, 0);
}

#[tokio::test]
async fn a_gate_that_goes_on_without_a_number_has_lost_it() {
    let (house, server) = serving().await;
    let mut gate = Gate::connect(&server, house.provisioning(1).await).await;
    let entries = sealed(&mut gate, 4);
    gate.entries(&entries[1..]).await;
    while gate.heard().await != Some(Said::Resend(1)) {}
    gate.entries(&entries[1..]).await;
    gate.until_acknowledged(4).await;
    assert_eq!(house.texts("SELECT detail FROM breaks").await, ["1-1"]);
}

#[tokio::test]
async fn an_entry_damaged_in_the_gate_s_journal_is_set_aside_and_the_next_flow() {
    let (house, server) = serving().await;
    let mut gate = Gate::connect(&server, house.provisioning(1).await).await;
    let mut entries = sealed(&mut gate, 5);
    // The second's header names a number far ahead; the fourth is no sealed entry any more.
    entries[1][16] = 0xFF;
    entries[3][0] = 0x00;
    gate.entries(&entries).await;
    loop {
        match gate.heard().await.expect("the link stands") {
            // As a gate does: from that number on, out of its journal.
            Said::Resend(from) => gate.entries(&entries[from as usize - 1..]).await,
            Said::Acknowledge(5) => break,
            _ => {}
        }
    }
    assert_eq!(house.count("SELECT count(*) FROM taps").await, 3);
    assert_eq!(house.texts("SELECT why FROM set_aside ORDER BY why").await, ["forged", "version"]);
    assert_eq!(house.texts("SELECT kind FROM breaks").await, ["unopened", "unopened"]);
}

#[tokio::test]
async fn a_gate_speaks_for_its_own_key_only() {
    let (house, server) = serving().await;
    let mut gate = Gate::connect(&server, house.provisioning(1).await).await;
    let mut other = house.gate(2).await;
    let foreign = Card::new(1).tap(0, 1).seal(&mut other);
    let own = sealed(&mut gate, 1);
    gate.entries(&[foreign, own[0].clone()]).await;
    gate.until_acknowledged(1).await;
    assert_eq!(house.texts("SELECT kind FROM breaks").await, ["foreign_key"]);
    assert_eq!(house.count("SELECT count(*) FROM taps").await, 1);
    // The other gate's own entry is none the worse for it.
    let again = Card::new(1).tap(0, 1).with_entry(|e: &Entry<'_>| other.seal_as(1, 1, e).unwrap());
    assert_eq!(house.ingest(&[again]).await, ["accepted"]);
}

#[tokio::test]
async fn an_acknowledgement_never_goes_beyond_what_this_link_has_sent() {
    let (house, server) = serving().await;
    let file = house.provisioning(1).await;
    let mut gate = Gate::connect(&server, file.clone()).await;
    let entries = sealed(&mut gate, 10);
    house.ingest(&entries).await;
    // The gate never heard the acknowledgements and begins again, a part at a time.
    gate.entries(&entries[..4]).await;
    let mut heard = 0;
    while heard < 4 {
        let Some(Said::Acknowledge(upto)) = gate.heard().await else { panic!("no acknowledgement") };
        assert!(upto <= 4);
        heard = upto;
    }
    gate.entries(&entries[4..]).await;
    gate.until_acknowledged(10).await;
    assert_eq!(house.count("SELECT count(*) FROM taps").await, 10);
}

#[tokio::test]
async fn a_new_connection_takes_the_place_of_the_old_once_it_has_proven_itself() {
    let (house, server) = serving().await;
    let file = house.provisioning(1).await;
    let mut old = Gate::connect(&server, file.clone()).await;
    assert!(matches!(old.next().await, Some(Said::Time(_))));
    let mut new = Gate::dial(&server, file).await;
    new.greet().await;
    // A welcome alone changes nothing.
    let entries = sealed(&mut old, 1);
    old.entries(&entries).await;
    old.until_acknowledged(1).await;
    new.status(2, [Version::default(); 4]).await;
    assert!(matches!(new.next().await, Some(Said::Time(_))));
    assert_eq!(old.next().await, None);
    assert!(house.app.gates.all()[0].connected);
}

#[tokio::test]
async fn a_gate_whose_journal_went_back_is_shown() {
    let (house, server) = serving().await;
    let mut gate = Gate::connect(&server, house.provisioning(1).await).await;
    let entries = sealed(&mut gate, 2);
    gate.entries(&entries).await;
    gate.until_acknowledged(2).await;
    for (next, back) in [(3, false), (2, true), (4, false)] {
        gate.status(next, [Version { epoch: 9, version: 0 }; 4]).await;
        gate.entries(&entries).await;
        gate.until_acknowledged(2).await;
        assert_eq!(house.app.gates.all()[0].journal_back, back, "next {next}");
    }
}

#[tokio::test]
async fn a_gate_that_was_told_more_than_the_store_knows_is_asked_for_it() {
    let (house, server) = serving().await;
    let file = house.provisioning(1).await;
    let mut gate = Gate::dial(&server, file.clone()).await;
    let entries = sealed(&mut gate, 5);
    house.ingest(&entries[..2]).await;
    let lists = [Version { epoch: 9, version: 0 }; 4];
    // Each time it says that it was told all of them; the second time that is so.
    for asked in [Some(Said::Resend(3)), Some(Said::Acknowledge(5))] {
        gate.greet().await;
        let key_id = gate.sealer.key_id;
        gate.send(&FromGate::Status { key_id, oldest: 1, next: 6, acknowledged: 5, lists }).await;
        if asked == Some(Said::Resend(3)) {
            assert_eq!(gate.heard().await, asked, "without an entry");
            gate.entries(&entries[2..]).await;
            gate.until_acknowledged(5).await;
            gate = Gate::dial(&server, file.clone()).await;
        } else {
            gate.entries(&entries[4..]).await;
            assert_eq!(gate.heard().await, asked);
        }
    }
    assert_eq!(house.count("SELECT count(*) FROM taps").await, 5);
    assert_eq!(house.count("SELECT count(*) FROM breaks").await, 0);
}

#[tokio::test]
async fn noise_ends_the_connection_and_nothing_else() {
    let (house, server) = serving().await;
    for noise in [&[0u8, 0, 0, 1, 0][..], &[0x55; 2000], b"GET / HTTP/1.1\r\n\r\n\0"] {
        let mut stream = TcpStream::connect(server.running().link).await.unwrap();
        stream.write_all(noise).await.unwrap();
        // It ends by a fault, or by the end of our side where the noise never makes a frame.
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty());
    }
    let mut gate = Gate::connect(&server, house.provisioning(1).await).await;
    let entries = sealed(&mut gate, 1);
    gate.entries(&entries).await;
    gate.until_acknowledged(1).await;
}
