//! A card at the gate: the kernel's steps, the decision, the sealed tap, and only then the opening.

use crate::keys::KeysError;
use crate::passback::{Passback, Seen, TokenTag};
use crate::record::{LOCAL, Last, Local, tag};
use crate::{Gate, GateError, Identity, Memory, Now, Room, Trouble};
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use embedded_storage_async::nor_flash::NorFlash;
use sha2::{Digest, Sha256};
use wavepass_journal::Class;
use wavepass_kernel::{Asked, Config, Environment, Kernel, Lost, Step, TapInput, Work};
use wavepass_protocol::dukpt::{Key, Ksn};
use wavepass_protocol::ecc::Verifier;
use wavepass_protocol::lists::{CaKey, Revocation, Suite};
use wavepass_protocol::seal::{Chain, Header, MAX_SEALED, seal};
use wavepass_protocol::tap::{Decision, Emergency, Entry, Outcome, Passage, Reason, Tap, Timings};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::Token;

/// The longest command the kernel sends, and the longest answer it reads (data and status).
pub(crate) const MAX_COMMAND: usize = 261;
/// See [`MAX_COMMAND`].
pub(crate) const MAX_ANSWER: usize = 258;

/// The way to a card in the field: a reader chip, a PC/SC reader, or an emulated phone in process.
#[expect(async_fn_in_trait, reason = "each host names its own contact; nothing is sent between threads here")]
pub trait Contact {
    /// Sends a command and gives the length of the answer; an answer longer than `answer` is [`Lost::Protocol`].
    async fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Result<usize, Lost>;
    /// Microseconds of a clock that only rises.
    fn now_us(&self) -> u64;
}

/// What came of presenting a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented {
    /// Open, or why not.
    pub decision: Decision,
    /// True where the same tap opens the gate again, since nobody has gone through.
    pub again: bool,
    /// The journal entry of the tap; none where a refusal was only counted.
    pub sequence: Option<u32>,
    /// How long it took.
    pub timings: Timings,
}

struct View<'g, F> {
    lists: &'g crate::lists::Lists<F>,
    memory: &'g crate::lists::ListMemory,
    passback: &'g Passback,
    local_key: &'g [u8; 16],
    window_ms: u32,
    /// What was looked up on the deny list, and what came of it.
    looked_up: Option<(Asked, bool)>,
}

impl<F: NorFlash> Environment for View<'_, F> {
    fn ca_key(&self, rid: &[u8; 5], index: u8, suite: Suite) -> Option<CaKey<'_>> {
        self.memory.ca_key(rid, index, suite)
    }

    fn is_revoked(&self, issuer: &Revocation) -> bool {
        self.memory.is_revoked(issuer)
    }

    fn denied(&self, asked: &Asked) -> Option<bool> {
        self.looked_up.filter(|(looked_up, _)| looked_up == asked).map(|(_, denied)| denied)
    }

    fn passback(&self, token: &Token, now: UnixMs) -> wavepass_kernel::Passback {
        match self.passback.seen(&tag(self.local_key, Some(token)), now, self.window_ms) {
            Seen::No => wavepass_kernel::Passback::Clear,
            Seen::Waiting(_) => wavepass_kernel::Passback::SameTap,
            Seen::Passed => wavepass_kernel::Passback::Refuse,
        }
    }

    fn list_stale(&self, now: UnixMs) -> bool {
        self.lists.stale(now)
    }
}

/// Runs the exchange, and the kernel's pending verification while the card takes its time.
async fn while_computing<T>(exchange: impl Future<Output = T>, mut work: impl FnMut() -> Work) -> T {
    let mut exchange = pin!(exchange);
    let mut idle = false;
    poll_fn(|context| match exchange.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => {
            if !idle {
                idle = matches!(work(), Work::Idle);
                context.waker().wake_by_ref();
            }
            Poll::Pending
        }
    })
    .await
}

impl<F: NorFlash, M: Room> Gate<F, M> {
    /// Presents the card in the field. `unpredictable` is fresh for each call (9F37).
    ///
    /// "Open" is answered only after the tap is durable in the journal; an error never opens.
    pub async fn present<C: Contact>(
        &mut self,
        contact: &mut C,
        now: Now,
        unpredictable: [u8; 4],
    ) -> Result<Presented, GateError<F::Error>> {
        let time = self.time(now);
        let start_us = contact.now_us();
        if let Some(reason) = self.refusal_before_card(now) {
            return Ok(Presented {
                decision: Decision::Refuse(reason),
                again: false,
                sequence: None,
                timings: Timings::default(),
            });
        }
        let (Some(gate_config), Some(config)) = (self.lists.config(), self.config.as_ref()) else {
            return Err(GateError::NotCommissioned); // refusal_before_card has excluded it
        };
        let Memory { kernel, passback, lists } = &mut *self.memory;
        let window_ms = gate_config.passback_ms;
        let relay_entropy = match config.relay {
            Some(_) => further_entropy(&self.identity.local_key, &unpredictable, time),
            None => [[0; 4]; 2],
        };
        let input = TapInput {
            now: time,
            utc_offset_min: gate_config.utc_offset_min,
            unpredictable,
            start_us,
            relay_entropy,
        };
        let view = View {
            lists: &self.lists,
            memory: lists,
            passback,
            local_key: &self.identity.local_key,
            window_ms,
            looked_up: None,
        };
        converse(kernel, config, &view, input, contact).await;
        let looked_up = match kernel.asks(config) {
            Some(asked) => self.lists.denies(&asked).await?.map(|denied| (asked, denied)),
            None => None,
        };
        let view = View {
            lists: &self.lists,
            memory: lists,
            passback,
            local_key: &self.identity.local_key,
            window_ms,
            looked_up,
        };
        // Idle after the last step and asked for nothing more, the kernel has decided, but where the deny list turned
        // out to be damaged.
        let decision =
            kernel.decision(config, &view).unwrap_or(wavepass_kernel::Decision::Refuse(Reason::OutOfService));
        let end_us = contact.now_us();
        let elapsed_us = u32::try_from(end_us.saturating_sub(start_us)).unwrap_or(u32::MAX);
        let exchange_us = kernel.facts().exchange_us;
        let timings = Timings { exchange_us, gate_us: elapsed_us.saturating_sub(exchange_us) };

        if let wavepass_kernel::Decision::Open { again: true } = decision {
            let waiting = kernel.facts().token.map(|t| tag(&self.identity.local_key, Some(&t)));
            let seen = waiting.map(|t| passback.seen(&t, time, window_ms));
            let sequence = match seen {
                Some(Seen::Waiting(sequence)) => Some(sequence),
                _ => None,
            };
            return Ok(Presented { decision: Decision::Open, again: true, sequence, timings });
        }
        let decision = match decision {
            wavepass_kernel::Decision::Open { .. } => Decision::Open,
            wavepass_kernel::Decision::Refuse(reason) => Decision::Refuse(reason),
        };
        self.record(decision, time, now, timings).await
    }

    /// Seals and journals the tap; an opening that cannot be journaled becomes a refusal.
    async fn record(
        &mut self,
        decision: Decision,
        time: UnixMs,
        now: Now,
        timings: Timings,
    ) -> Result<Presented, GateError<F::Error>> {
        let class = if decision == Decision::Open { Class::Opened } else { Class::Refused };
        // Asked first: a key is used up by being taken.
        if !self.journal.has_room(class) {
            return Ok(self.unrecorded(decision, Reason::JournalFull, timings));
        }
        let Some((ksn, key)) = self.key().await? else {
            return Ok(self.unrecorded(decision, Reason::OutOfService, timings));
        };
        let mut out = [0; MAX_SEALED];
        let header = self.next_header(ksn);
        let sequence = header.sequence;
        let identity: &Identity = &self.identity;
        let facts = self.memory.kernel.facts();
        let tap = Tap {
            time,
            clock: now.quality,
            station: &identity.station,
            direction: identity.direction,
            decision,
            aid: facts.aid,
            token: facts.token,
            expiry: facts.expiry,
            expiry_signed: facts.expiry_signed,
            psn: facts.psn,
            atc: facts.atc,
            cid: facts.cid,
            cryptogram: facts.cryptogram,
            iad: facts.iad,
            aip: facts.aip,
            track2: facts.track2,
            pdol: facts.pdol,
            pdol_values: facts.pdol_values,
            oda_method: facts.oda_method,
            oda_result: facts.oda_result,
            timings,
        };
        let token_tag: TokenTag = tag(&identity.local_key, facts.token.as_ref());
        let sealed = seal(&key, header, &Entry::Tap(tap), &mut out).map_err(|_| GateError::Seal)?;
        let local = Local::Tap { time, decision, tag: token_tag }.to_bytes(self.emergency);
        self.journal.append(sequence, class, &local, sealed).await?;
        if decision == Decision::Open {
            self.memory.passback.opened(token_tag, sequence, time);
        }
        self.newest = time;
        self.last = Some(Last { time, sequence, decision, outcome: None });
        Ok(Presented { decision, again: false, sequence: Some(sequence), timings })
    }

    /// A tap that cannot be journaled: an opening becomes a refusal, and a refusal is only counted.
    fn unrecorded(&mut self, decision: Decision, why: Reason, timings: Timings) -> Presented {
        self.uncounted_refusals = self.uncounted_refusals.saturating_add(1);
        let decision = match decision {
            Decision::Open => Decision::Refuse(why),
            refused => refused,
        };
        Presented { decision, again: false, sequence: None, timings }
    }

    /// The key for the next entry; `None` where there is none any more, which is trouble.
    async fn key(&mut self) -> Result<Option<(Ksn, Key)>, GateError<F::Error>> {
        match self.keys.take().await {
            Ok(key) => Ok(Some(key)),
            Err(KeysError::Store(why)) => Err(why.into()),
            Err(KeysError::Keys(why)) => {
                self.troubled(Trouble::Keys(why));
                Ok(None)
            }
        }
    }

    /// The first trouble counts.
    pub(crate) fn troubled(&mut self, trouble: Trouble) {
        self.trouble = self.trouble.or(Some(trouble));
    }

    /// Journals what the barrier's sensors saw after the opening of tap `of`. Gives its sequence number, or
    /// none where the journal is full: then the host counts the tap as passed, and the gate remembers the
    /// passage in memory, so that the token does not open it for the next rider.
    pub async fn passage(
        &mut self,
        of: u32,
        outcome: Outcome,
        now: Now,
    ) -> Result<Option<u32>, GateError<F::Error>> {
        let time = self.time(now);
        let local = Local::Passage { time, of, outcome }.to_bytes(self.emergency);
        let written = self.note(&Entry::Passage(Passage { time, of, outcome }), &local).await?;
        if written.is_some() {
            self.newest = time;
        }
        self.memory.passback.passage(of, outcome);
        if let Some(last) = self.last.as_mut().filter(|l| l.sequence == of) {
            last.outcome = Some(outcome);
        }
        Ok(written)
    }

    /// Journals that the emergency input went on or off: the host forgives the taps that are missing of such a
    /// time. The input opens the barrier by itself; nothing here does. Gives the entry's number, or none where
    /// the journal has this state already, or is full: the board calls again until [`Gate::in_emergency`] is
    /// what its input is.
    pub async fn emergency(&mut self, active: bool, now: Now) -> Result<Option<u32>, GateError<F::Error>> {
        if active == self.emergency {
            return Ok(None);
        }
        let time = self.time(now);
        let local = Local::Emergency { time, active }.to_bytes(active);
        let entry = Entry::Emergency(Emergency { time, clock: now.quality, active });
        let written = self.note(&entry, &local).await?;
        if written.is_some() {
            self.newest = time;
            self.emergency = active;
        }
        Ok(written)
    }

    /// The header of the next entry. Number and chain are the journal's, so that they move on together, and only when
    /// an entry is durable.
    fn next_header(&self, ksn: Ksn) -> Header {
        Header { ksn, sequence: self.journal.next_sequence(), chain: Chain(self.journal.tail()) }
    }

    /// Seals and journals what is no tap; none where the journal is full or lost, or there are no keys.
    async fn note(
        &mut self,
        entry: &Entry<'_>,
        local: &[u8; LOCAL],
    ) -> Result<Option<u32>, GateError<F::Error>> {
        // A lost journal would give numbers that were given before.
        if self.trouble == Some(Trouble::JournalLost) || !self.journal.has_room(Class::Passage) {
            return Ok(None);
        }
        let Some((ksn, key)) = self.key().await? else { return Ok(None) };
        let header = self.next_header(ksn);
        let sequence = header.sequence;
        let mut out = [0; MAX_SEALED];
        let sealed = seal(&key, header, entry, &mut out).map_err(|_| GateError::Seal)?;
        self.journal.append(sequence, Class::Passage, local, sealed).await?;
        Ok(Some(sequence))
    }
}

/// The conversation with the card, and the verification that is left after it.
async fn converse<V: Verifier, C: Contact, E: Environment>(
    kernel: &mut Kernel<V>,
    config: &Config,
    view: &E,
    input: TapInput,
    contact: &mut C,
) {
    let mut command = [0; MAX_COMMAND];
    let mut answer = [0; MAX_ANSWER];
    let mut next = take(kernel.begin(config, input), &mut command);
    while let Some((len, is_timed)) = next {
        let begun_us = contact.now_us();
        let exchange = contact.exchange(&command[..len], &mut answer);
        let received = match is_timed {
            true => exchange.await,
            false => while_computing(exchange, || kernel.work(view)).await,
        };
        let now_us = contact.now_us();
        let took_us = u32::try_from(now_us.saturating_sub(begun_us)).unwrap_or(u32::MAX);
        next = match received {
            Ok(got) => {
                let answer = answer.get(..got).unwrap_or(&[]);
                let step = match is_timed {
                    true => kernel.timed_answer(config, answer, took_us, now_us),
                    false => kernel.answer(config, answer, now_us),
                };
                take(step, &mut command)
            }
            Err(why) => {
                kernel.lost(why, now_us);
                None
            }
        };
    }
    while let Work::More = kernel.work(view) {}
}

/// The next command's length, and whether it is timed.
fn take(step: Step<'_>, command: &mut [u8; MAX_COMMAND]) -> Option<(usize, bool)> {
    let (bytes, is_timed) = match step {
        Step::Send(bytes) => (bytes, false),
        Step::Timed(bytes) => (bytes, true),
        Step::Last => return None,
    };
    let len = bytes.len().min(MAX_COMMAND);
    command[..len].copy_from_slice(&bytes[..len]);
    Some((len, is_timed))
}

/// What further timed exchanges send: nobody can tell it from the first one's number without this gate's key.
fn further_entropy(local_key: &[u8; 16], unpredictable: &[u8; 4], time: UnixMs) -> [[u8; 4]; 2] {
    let hash = Sha256::new()
        .chain_update(b"wavepass gate relay entropy")
        .chain_update(local_key)
        .chain_update(time.0.to_be_bytes())
        .chain_update(unpredictable)
        .finalize();
    core::array::from_fn(|try_| core::array::from_fn(|i| hash[try_ * 4 + i]))
}
