//! One connection of one gate: hello, proof, then entries in and acknowledgements, lists and time out.
//!
//! Reading never waits for writing: what goes out stands in a buffer that is filled only while it is short, so
//! that two ends with full buffers cannot wait for each other. Nothing about the gate is believed before its
//! first authenticated frame.

use super::board::GateHealth;
use super::link::LinkParts;
use super::{IntakeError, Item, Receipt, Source};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::link::{
    self, FrameReader, FromGate, FromHost, LinkError, MAX_FRAME, MAX_PANIC, MAX_PART, MAX_TROUBLE, Side,
    receive_clear, send_clear,
};
use wavepass_protocol::lists::{Kind, Version};
use wavepass_protocol::seal::Sealed;

/// Bytes read at once: some 150 entries, which become one batch.
const READ: usize = 48 << 10;
/// No more list parts are put into the outgoing buffer while it holds this much.
const OUT: usize = 16 << 10;
/// Batches of one gate on their way through the pipeline; more make the gate wait.
const IN_FLIGHT: usize = 8;
/// Entries under a foreign key before a connection is ended: such a gate is out of order or not honest.
const MAX_FOREIGN: usize = 16;
/// How often limits of time are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The gate closed it, or the line broke.
    Closed,
    /// No proof in time.
    Hello,
    /// Nothing was heard for too long.
    Idle,
    /// Nothing was taken for too long.
    Stalled,
    /// A newer connection of the same gate.
    Replaced,
    /// A gate that is not served.
    Unknown,
    /// The gate kept to the protocol's form, but not to its own key.
    Foreign,
    /// The link's rules were broken.
    Link(LinkError),
    /// Intake failed; the gate sends again when it comes back.
    Intake,
    /// The gateway is stopping.
    Stopping,
}

impl End {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Hello => "hello",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Replaced => "replaced",
            Self::Unknown => "unknown_gate",
            Self::Foreign => "foreign_key",
            Self::Link(why) => why.word(),
            Self::Intake => "intake",
            Self::Stopping => "stopping",
        }
    }
}

/// An answer to come, and with the first of a connection what the gate held for acknowledged before it.
type Answer = (oneshot::Receiver<Result<Receipt, IntakeError>>, Option<u32>);

pub(super) struct Session {
    parts: LinkParts,
    address: SocketAddr,
    connection: u64,
    reader: FrameReader,
    phase: Phase,
    out: Vec<u8>,
    answers: VecDeque<Answer>,
    /// Filled by [`Session::frame`], handed in after each read.
    batch: Vec<Item>,
    sending: Option<Sending>,
    /// The gate's number, once it has proven itself.
    proven: Option<u32>,
}

enum Phase {
    /// Waiting for the hello.
    Greeting,
    /// The welcome is out; the gate has not proven itself.
    Welcomed(Box<Peer>),
    /// Both have proven the link key.
    Open(Box<Peer>),
    /// An unknown gate has been told so; the connection ends when that is out.
    Refused,
}

struct Peer {
    gate_id: u32,
    key_id: KeyId,
    firmware: String,
    link: link::Session,
    replaced: Arc<Notify>,
    /// Lists in force at the gate, by its word.
    lists: [Version; 4],
    /// What was last sent of each on this connection.
    sent: [Option<Sent>; 4],
    status_seen: bool,
    /// One more than the highest number the gate has, by its word.
    next: u32,
    /// The highest number seen on this connection: a gate ignores an acknowledgement beyond what it has sent.
    seen: u32,
    asked: Option<Asked>,
    /// What the gate held for acknowledged when this connection began, until it has been compared with the store.
    claimed: Option<u32>,
    foreign: usize,
}

/// The host has asked for a number that was missing, and remembers the entry that came in its stead.
struct Asked {
    due: u32,
    instead: Vec<u8>,
}

/// A list on its way to the gate.
struct Sending {
    kind: Kind,
    version: Version,
    bytes: Arc<[u8]>,
    offset: usize,
}

/// A list that was sent. It is sent once; one that was refused as a delta once more, whole.
#[derive(Clone, Copy)]
struct Sent {
    version: Version,
    is_delta: bool,
    refused: bool,
}

impl Session {
    pub(super) fn new(parts: LinkParts, address: SocketAddr, connection: u64) -> Self {
        Self {
            parts,
            address,
            connection,
            reader: FrameReader::new(),
            phase: Phase::Greeting,
            out: Vec::new(),
            answers: VecDeque::new(),
            batch: Vec::new(),
            sending: None,
            proven: None,
        }
    }

    /// The gate's number, once it has proven itself.
    pub(super) fn gate_id(&self) -> Option<u32> {
        self.proven
    }

    /// Serves the connection to its end.
    pub(super) async fn run(&mut self, stream: &mut TcpStream) -> End {
        match self.serve(stream).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn serve(&mut self, stream: &mut TcpStream) -> Result<std::convert::Infallible, End> {
        let (mut input, mut output) = stream.split();
        let mut buffer = vec![0; READ];
        let limits = self.parts.limits.clone();
        let mut news = self.parts.news.clone();
        let mut tick = tokio::time::interval(TICK);
        let began = Instant::now();
        let (mut heard, mut taken, mut timed) = (began, began, began);
        let never = Arc::new(Notify::new());
        loop {
            self.fill_out()?;
            if self.out.is_empty() {
                taken = Instant::now();
                if matches!(self.phase, Phase::Refused) {
                    return Err(End::Unknown);
                }
            }
            let replaced = match &self.phase {
                Phase::Open(peer) => peer.replaced.clone(),
                _ => never.clone(),
            };
            tokio::select! {
                read = input.read(&mut buffer), if self.answers.len() < IN_FLIGHT => {
                    let len = read.map_err(|_| End::Closed)?;
                    if len == 0 {
                        return Err(End::Closed);
                    }
                    heard = Instant::now();
                    self.receive(&buffer[..len]).await?;
                }
                written = output.write(&self.out), if !self.out.is_empty() => {
                    let len = written.map_err(|_| End::Closed)?;
                    self.out.drain(..len);
                    taken = Instant::now();
                }
                answer = next_answer(&mut self.answers) => {
                    let claimed = self.answers.pop_front().and_then(|(_, claimed)| claimed);
                    self.answered(answer, claimed)?;
                }
                Ok(()) = news.changed() => {
                    if self.parts.clock.driven().is_some() {
                        self.tell_time()?;
                    }
                }
                () = replaced.notified() => return Err(End::Replaced),
                _ = tick.tick() => {
                    let past = |since: Instant, limit_s: u64| since.elapsed() > Duration::from_secs(limit_s);
                    let open = matches!(self.phase, Phase::Open(_));
                    if !open && past(began, limits.hello_s) {
                        return Err(End::Hello);
                    }
                    if past(heard, limits.idle_s) {
                        return Err(End::Idle);
                    }
                    if past(taken, limits.stall_s) {
                        return Err(End::Stalled);
                    }
                    if open && self.parts.clock.driven().is_none() && past(timed, limits.time_s) {
                        timed = Instant::now();
                        self.tell_time()?;
                    }
                }
            }
        }
    }

    /// Takes bytes; hands the entries in them in as one batch.
    async fn receive(&mut self, bytes: &[u8]) -> Result<(), End> {
        let mut raw = [0; MAX_FRAME];
        for &byte in bytes {
            let len = match self.reader.push(byte) {
                None => continue,
                Some(Err(why)) => return Err(End::Link(why)),
                Some(Ok(frame)) => {
                    raw[..frame.len()].copy_from_slice(frame);
                    frame.len()
                }
            };
            self.frame(&raw[..len]).await?;
        }
        let Phase::Open(peer) = &mut self.phase else { return Ok(()) };
        // Without entries, the answer still tells here how far the store has come.
        if self.batch.is_empty() && peer.claimed.is_none() {
            return Ok(());
        }
        let items = std::mem::take(&mut self.batch);
        let claimed = peer.claimed.take();
        let answer =
            self.parts.intake.submit(Source::Gate(peer.key_id), items).await.map_err(|_| End::Intake)?;
        self.answers.push_back((answer, claimed));
        Ok(())
    }

    async fn frame(&mut self, raw: &[u8]) -> Result<(), End> {
        match std::mem::replace(&mut self.phase, Phase::Greeting) {
            Phase::Greeting => self.greet(raw).await,
            // What an unknown gate goes on to say is not read.
            Phase::Refused => {
                self.phase = Phase::Refused;
                Ok(())
            }
            Phase::Welcomed(mut peer) => {
                // The first authenticated frame proves that the gate holds the link key.
                let message = peer.link.receive::<FromGate<'_>>(raw).map_err(End::Link)?;
                let now = self.parts.clock.now();
                peer.replaced = self.parts.board.enter(
                    self.connection,
                    peer.gate_id,
                    peer.key_id,
                    self.address,
                    &peer.firmware,
                    now,
                );
                self.proven = Some(peer.gate_id);
                tracing::info!(gate = peer.gate_id, address = %self.address, "gate connected");
                self.message(&mut peer, message)?;
                self.phase = Phase::Open(peer);
                self.tell_time()
            }
            Phase::Open(mut peer) => {
                let message = peer.link.receive::<FromGate<'_>>(raw).map_err(End::Link)?;
                self.message(&mut peer, message)?;
                self.phase = Phase::Open(peer);
                Ok(())
            }
        }
    }

    async fn greet(&mut self, raw: &[u8]) -> Result<(), End> {
        let hello = receive_clear::<FromGate<'_>>(raw).map_err(End::Link)?;
        let FromGate::Hello { gate_id, firmware, nonce } = hello else {
            return Err(End::Link(LinkError::Unexpected));
        };
        let mut known = self.parts.directory.current().by_id(gate_id).map(|g| g.key_id);
        if known.is_none() {
            // Commissioned since the directory was read, perhaps.
            self.parts.directory.refresh(&self.parts.store).await.map_err(|_| End::Intake)?;
            known = self.parts.directory.current().by_id(gate_id).map(|g| g.key_id);
        }
        let mut frame = [0; MAX_FRAME];
        let Some(key_id) = known else {
            metrics::counter!("wavepass_link_unknown_gates_total").increment(1);
            tracing::warn!(gate = gate_id, address = %self.address, "link: a gate that is not served");
            self.out.extend_from_slice(send_clear(&FromHost::Unknown, &mut frame).map_err(End::Link)?);
            self.phase = Phase::Refused;
            return Ok(());
        };
        let mut own = [0; 16];
        // Without randomness no session is safe.
        getrandom::fill(&mut own).map_err(|_| End::Intake)?;
        let key = self.parts.clearing.link_key(gate_id, key_id);
        let welcome = FromHost::Welcome { nonce: own, proof: key.proof(gate_id, &nonce, &own) };
        self.out.extend_from_slice(send_clear(&welcome, &mut frame).map_err(End::Link)?);
        self.phase = Phase::Welcomed(Box::new(Peer {
            gate_id,
            key_id,
            firmware: plain(firmware, 64),
            link: key.session(Side::Host, gate_id, &nonce, &own),
            replaced: Arc::new(Notify::new()),
            lists: [Version::default(); 4],
            sent: [None; 4],
            status_seen: false,
            next: 0,
            seen: 0,
            asked: None,
            claimed: None,
            foreign: 0,
        }));
        Ok(())
    }

    fn message(&mut self, peer: &mut Peer, message: FromGate<'_>) -> Result<(), End> {
        let now = self.parts.clock.now();
        self.parts.board.update(self.connection, peer.gate_id, |state| state.seen_ms = now.0);
        match message {
            FromGate::Hello { .. } => return Err(End::Link(LinkError::Unexpected)),
            FromGate::Status { key_id, oldest, next, acknowledged, lists } => {
                if key_id != peer.key_id {
                    return Err(End::Foreign);
                }
                if !peer.status_seen {
                    peer.claimed = Some(acknowledged);
                }
                peer.next = next;
                peer.lists = lists;
                peer.status_seen = true;
                let mut back = None;
                self.parts.board.update(self.connection, peer.gate_id, |state| {
                    state.journal_back = next <= state.acknowledged;
                    back = state.journal_back.then_some(state.acknowledged);
                    (state.oldest, state.next, state.gate_acknowledged) = (oldest, next, acknowledged);
                    state.in_force(&lists);
                });
                if let Some(acknowledged) = back {
                    metrics::counter!("wavepass_link_journals_back_total").increment(1);
                    tracing::error!(
                        gate = peer.gate_id,
                        next,
                        acknowledged,
                        "a gate's journal has gone back behind what it has sent"
                    );
                }
            }
            FromGate::Entry { sealed } => self.entry(peer, sealed)?,
            FromGate::Lost { from, upto } => {
                // Nothing can be lost that was never written.
                let upto = upto.min(peer.next.saturating_sub(1).max(peer.seen));
                peer.seen = peer.seen.max(upto);
                self.batch.push(Item::Lost { key_id: peer.key_id, from, upto });
            }
            FromGate::ListRefused { kind, version, why } => {
                metrics::counter!("wavepass_link_lists_refused_total", "why" => why.word()).increment(1);
                let (kind_word, why_word) = (kind.word(), why.word());
                tracing::warn!(
                    gate = peer.gate_id,
                    kind = kind_word,
                    ?version,
                    why = why_word,
                    "a gate refused a list"
                );
                let slot = Kind::ALL.iter().position(|k| *k == kind);
                let sent = slot.and_then(|slot| peer.sent[slot].as_mut());
                if let Some(sent) = sent.filter(|sent| sent.version == version) {
                    sent.refused = true;
                }
                self.parts.board.update(self.connection, peer.gate_id, |state| state.refused(kind, why));
            }
            FromGate::Health {
                stack_used,
                stack_bytes,
                reader_recoveries,
                uncounted_refusals,
                trouble,
                panic,
            } => {
                let text = |text, most| Some(plain(text, most)).filter(|text| !text.is_empty());
                let (trouble, panic) = (text(trouble, MAX_TROUBLE), text(panic, MAX_PANIC));
                self.health(
                    peer.gate_id,
                    GateHealth {
                        stack_used,
                        stack_bytes,
                        reader_recoveries,
                        uncounted_refusals,
                        trouble,
                        panic,
                    },
                );
            }
        }
        Ok(())
    }

    /// Keeps a gate's health for people to see; a panic is told once, however often the gate reports it.
    fn health(&self, gate_id: u32, health: GateHealth) {
        let (mut news, mut trouble) = (None, None);
        self.parts.board.update(self.connection, gate_id, |state| {
            let known = state.health.as_ref();
            news = health.panic.clone().filter(|panic| known.and_then(|h| h.panic.as_ref()) != Some(panic));
            let before = known.and_then(|h| h.trouble.as_ref());
            trouble = health.trouble.clone().filter(|trouble| before != Some(trouble));
            state.health = Some(health);
        });
        if let Some(trouble) = trouble {
            metrics::counter!("wavepass_link_gate_troubles_total").increment(1);
            tracing::error!(gate = gate_id, trouble, "a gate opens for nobody until somebody has seen to it");
        }
        if let Some(panic) = news {
            metrics::counter!("wavepass_link_gate_panics_total").increment(1);
            tracing::warn!(gate = gate_id, panic, "a gate's firmware panicked before it started");
        }
    }

    fn entry(&mut self, peer: &mut Peer, sealed: &[u8]) -> Result<(), End> {
        match Sealed::parse(sealed).map(|s| s.header) {
            Ok(header) if header.ksn.key_id == peer.key_id => {
                if header.sequence < peer.next.max(1) {
                    peer.seen = peer.seen.max(header.sequence);
                }
            }
            Ok(_) => {
                peer.foreign += 1;
                if peer.foreign > MAX_FOREIGN {
                    return Err(End::Foreign);
                }
            }
            Err(_) => {}
        }
        let item = match peer.asked.take_if(|asked| asked.instead == sealed) {
            Some(asked) => {
                peer.seen = peer.seen.max(asked.due);
                Item::InPlaceOf { place: asked.due, sealed: sealed.into() }
            }
            None => Item::Entry(sealed.into()),
        };
        self.batch.push(item);
        Ok(())
    }

    /// A batch is durable: asks for what is missing, and acknowledges the rest.
    fn answered(&mut self, answer: Result<Receipt, IntakeError>, claimed: Option<u32>) -> Result<(), End> {
        let receipt = answer.map_err(|_| End::Intake)?;
        let Phase::Open(peer) = &mut self.phase else { return Ok(()) };
        let (key_id, gate_id) = (peer.key_id, peer.gate_id);
        let resend = receipt.gap.filter(|gap| peer.asked.as_ref().is_none_or(|asked| asked.due != gap.due));
        let acknowledged = receipt.acknowledged.get(&key_id).copied().unwrap_or(0);
        let upto = acknowledged.min(peer.seen);
        if let Some(gap) = resend {
            let from = gap.due;
            peer.asked = Some(Asked { due: from, instead: gap.instead });
            self.send(&FromHost::Resend { from })?;
        } else if let Some(claimed) = claimed.filter(|claimed| *claimed > acknowledged) {
            // Only a store that was put back to an earlier state forgets what it has acknowledged.
            metrics::counter!("wavepass_link_stores_back_total").increment(1);
            tracing::warn!(
                gate = gate_id,
                acknowledged,
                claimed,
                "the store is older than what this gate was told: the gate is asked for what it still holds"
            );
            self.send(&FromHost::Resend { from: acknowledged.saturating_add(1) })?;
        }
        // Where nothing came, there is nothing to acknowledge.
        if upto > 0 && !receipt.verdicts.is_empty() {
            self.send(&FromHost::Acknowledge { key_id, upto })?;
        }
        self.parts.board.update(self.connection, gate_id, |state| {
            state.acknowledged = state.acknowledged.max(acknowledged);
        });
        Ok(())
    }

    fn tell_time(&mut self) -> Result<(), End> {
        let now = self.parts.clock.now();
        self.send(&FromHost::Time { now })
    }

    fn send(&mut self, message: &FromHost<'_>) -> Result<(), End> {
        let Phase::Open(peer) = &mut self.phase else { return Ok(()) };
        let mut frame = [0; MAX_FRAME];
        self.out.extend_from_slice(peer.link.send(message, &mut frame).map_err(End::Link)?);
        Ok(())
    }

    /// Puts list parts into the outgoing buffer while it is short.
    fn fill_out(&mut self) -> Result<(), End> {
        while self.out.len() < OUT {
            if self.sending.is_none() {
                self.sending = self.next_list();
            }
            let Some(mut sending) = self.sending.take() else { return Ok(()) };
            let end = (sending.offset + MAX_PART).min(sending.bytes.len());
            let message = FromHost::ListPart {
                kind: sending.kind,
                version: sending.version,
                // Lists are megabytes at most; their own length field has 32 bits.
                total: sending.bytes.len() as u32,
                offset: sending.offset as u32,
                part: &sending.bytes[sending.offset..end],
            };
            self.send(&message)?;
            sending.offset = end;
            if end < sending.bytes.len() {
                self.sending = Some(sending);
            }
        }
        Ok(())
    }

    /// The next list that is newer than the gate's, once the gate has told its versions, and what became of the list
    /// that it was sent last: a deny list takes a gate a while.
    fn next_list(&mut self) -> Option<Sending> {
        let Phase::Open(peer) = &mut self.phase else { return None };
        let open = |(sent, told): (&Option<Sent>, &Version)| {
            sent.is_some_and(|sent| !sent.refused && sent.version > *told)
        };
        if !peer.status_seen || peer.sent.iter().zip(&peer.lists).any(open) {
            return None;
        }
        Kind::ALL.into_iter().zip(&mut peer.sent).zip(&peer.lists).find_map(|((kind, sent), told)| {
            let before = sent.filter(|sent| sent.refused);
            let as_delta = before.is_none_or(|before| !before.is_delta);
            let list = self.parts.lists.to_send(kind, *told, as_delta)?;
            let given_up = |before: Sent| before.version == list.version && !before.is_delta;
            if before.is_some_and(given_up) {
                return None;
            }
            let (version, is_delta) = (list.version, list.is_delta);
            let form = if is_delta { "delta" } else { "whole" };
            metrics::counter!("wavepass_link_lists_sent_total", "kind" => kind.word(), "form" => form)
                .increment(1);
            *sent = Some(Sent { version, is_delta, refused: false });
            Some(Sending { kind, version, bytes: list.bytes, offset: 0 })
        })
    }
}

/// A gate's text, fit for a screen and a log.
fn plain(text: &str, at_most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(at_most).collect()
}

/// Waits for the oldest answer that is due; for ever where none is.
async fn next_answer(answers: &mut VecDeque<Answer>) -> Result<Receipt, IntakeError> {
    match answers.front_mut() {
        Some((answer, _)) => answer.await.map_err(super::stopped)?,
        None => std::future::pending().await,
    }
}
