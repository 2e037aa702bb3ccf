//! The gate that is measured: commissioned by the gateway's own library, with its lists and 100,000 denied tokens, on a
//! flash whose content the board can take over.

use crate::Failure;
use embassy_embedded_hal::flash::partition::Partition;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use rand_chacha::ChaCha12Rng;
use wavepass_gate::{Contact, Gate, Idle, Memory, Now, Presented};
use wavepass_gateway::gates::{self, NewGate};
use wavepass_gateway::keys::{BankKeys, CardOrder, KeySet, PhoneOrder};
use wavepass_gateway::lists::deny::{self, Addition, Cause};
use wavepass_gateway::lists::{self};
use wavepass_gateway::store::Store;
use wavepass_hce::card::Card;
use wavepass_hce::issue::{RSA_DEBIT_AID, RsaCardKey};
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_journal::Limits;
use wavepass_journal::sim::RamFlash;
use wavepass_kernel::Lost;
use wavepass_p256_verify::FastVerifier;
use wavepass_protocol::link::{FromHost, MAX_FRAME, MAX_PART, Side, send_clear};
use wavepass_protocol::lists::Kind;
use wavepass_protocol::tap::{ClockQuality, Direction};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::{Expiry, Token};
use wavepass_terminal::layout::Layout;

pub const START: UnixMs = UnixMs(1_795_400_000_000);
pub const GOOD: Expiry = Expiry { year: 31, month: 12 };
const SINCE: Date = Date { year: 2026, month: 1, day: 1 };
/// Bytes of the flash.
const FLASH: usize = 4 << 20;
/// Denied tokens.
pub const DENIED: u64 = 100_000;
/// Remembered issuers, as the firmware has them.
const ISSUERS: usize = 4;

pub type Area = Partition<'static, NoopRawMutex, RamFlash>;
pub type BenchGate = Gate<Area, Box<Memory<FastVerifier<ISSUERS>>>>;

/// A denied token.
pub fn denied(n: u64) -> Result<Token, Failure> {
    Ok(Token::from_digits(&(6_299_000_300_000_000 + n).to_string()).map_err(|e| format!("{e:?}"))?)
}

/// A commissioned gate with its lists, brought over a real link session in memory; and its flash.
pub async fn gate(keys: &KeySet, folder: &std::path::Path) -> Result<(BenchGate, RamFlash), Failure> {
    let store = Store::open(&format!("sqlite:{}", folder.join("bench.sqlite").display()), folder).await?;
    let clearing = keys.clearing();
    let mut tx = store.begin().await?;
    lists::set_ca_keys_in(&mut tx, &keys.bank().ca_keys()).await?;
    let new = NewGate {
        gate_id: 1,
        station: "A1".into(),
        direction: Direction::Entry,
        operator: 1,
        network: *b"WAVE",
    };
    let (identity, file) = gates::add_in(&mut tx, clearing.as_ref(), &new, "bench", START).await?;
    let tokens = (0..DENIED).map(denied).collect::<Result<Vec<_>, _>>()?;
    let cards: Vec<_> = tokens.iter().map(|token| (*token, GOOD)).collect();
    let additions: Vec<_> = cards
        .iter()
        .zip(clearing.token_keys(&cards))
        .map(|(card, token_key)| Addition {
            token_key,
            number: Some(*card),
            cause: Cause::Lost,
            note: String::new(),
        })
        .collect();
    deny::add_in(&mut tx, clearing.as_ref(), &additions, "bench", START).await?;
    lists::publish(&mut tx, clearing.as_ref(), START).await?;
    tx.commit().await?;

    let flash = RamFlash::new(FLASH);
    let layout = Layout::of(FLASH as u32).ok_or("the flash is too small")?;
    // The partitions live as long as the program, which measures one gate and ends.
    let shared: &'static _ = Box::leak(Box::new(Mutex::<NoopRawMutex, _>::new(flash.clone())));
    let area = |range: &std::ops::Range<u32>| Partition::new(shared, range.start, range.end - range.start);
    layout.areas(area).commission(&file).await.map_err(|e| format!("{e:?}"))?;
    let mut gate =
        BenchGate::start(layout.areas(area), Limits::default(), Box::new(Memory::new(FastVerifier::new())))
            .await
            .map_err(failed)?;

    let mut frame = [0; MAX_FRAME];
    let (mut link, _) = gate.link_begin([1; 16], &mut frame).map_err(|e| e.to_string())?;
    let link_key = clearing.link_key(1, identity.key_id);
    let nonce = [2; 16];
    let proof = link_key.proof(1, &[1; 16], &nonce);
    let mut out = [0; MAX_FRAME];
    let welcome = send_clear(&FromHost::Welcome { nonce, proof }, &mut out)?.to_vec();
    gate.link_receive(&mut link, &welcome).await.map_err(failed)??;
    let mut host = link_key.session(Side::Host, 1, &[1; 16], &nonce);
    let mut conn = store.pool().acquire().await?;
    let published = lists::Published::load(&mut conn).await?;
    for kind in Kind::ALL {
        let Some((version, bytes)) = published.current(kind) else { continue };
        for (i, part) in bytes.chunks(MAX_PART).enumerate() {
            let (total, offset) = (bytes.len() as u32, (i * MAX_PART) as u32);
            let message = FromHost::ListPart { kind, version, total, offset, part };
            let sent = host.send(&message, &mut out)?.to_vec();
            gate.link_receive(&mut link, &sent).await.map_err(failed)??;
        }
        idle(&mut gate).await?;
        if gate.version(kind) != version {
            return Err(format!("the gate did not take its {} list", kind.word()).into());
        }
    }
    Ok((gate, flash))
}

fn failed(why: impl std::fmt::Debug) -> Failure {
    format!("{why:?}").into()
}

/// Does all idle work.
pub async fn idle(gate: &mut BenchGate) -> Result<(), Failure> {
    while gate.idle().await.map_err(failed)? == Idle::More {}
    Ok(())
}

/// What a card answered, and how long the bytes are.
#[derive(Default)]
pub struct Said {
    pub commands: Vec<Vec<u8>>,
    pub answers: Vec<Vec<u8>>,
}

struct Field<'c> {
    card: &'c mut Phone,
    said: Said,
    begun: std::time::Instant,
}

impl Contact for Field<'_> {
    async fn exchange(&mut self, command: &[u8], answer: &mut [u8]) -> Result<usize, Lost> {
        let got = self.card.transmit(command).map_err(|_| Lost::Removed)?;
        answer.get_mut(..got.data.len()).ok_or(Lost::Protocol)?.copy_from_slice(&got.data);
        self.said.commands.push(command.to_vec());
        self.said.answers.push(got.data.clone());
        Ok(got.data.len())
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Presents a card at a time.
pub async fn present(
    gate: &mut BenchGate,
    card: &mut Phone,
    time: UnixMs,
    unpredictable: [u8; 4],
) -> Result<(Presented, Said), Failure> {
    card.enter_field();
    let mut field = Field { card, said: Said::default(), begun: std::time::Instant::now() };
    let now = Now { time, quality: ClockQuality::Synchronised };
    let presented = gate.present(&mut field, now, unpredictable).await.map_err(failed)?;
    Ok((presented, field.said))
}

/// A phone of the house.
pub fn phone(bank: &dyn BankKeys) -> Result<PhoneFile, Failure> {
    let token = bank.token_number("E1", 0, 0);
    let order = PhoneOrder { token, expiry: GOOD, effective: SINCE, psn: 0, network: *b"WAVE", operator: 0 };
    Ok(bank.personalise(&order)?)
}

/// A plastic card: CA 1984, issuer 1408, card 1152 bits.
pub fn plastic(bank: &dyn BankKeys, rng: &mut ChaCha12Rng) -> Result<PhoneFile, Failure> {
    let token = Token::from_digits("6299000200000017")?;
    let key = RsaCardKey::generate(rng, 1152)?;
    let order = CardOrder { token, expiry: GOOD, effective: SINCE, psn: 0, aid: RSA_DEBIT_AID, key: &key };
    Ok(bank.issue_card(&order).ok_or("no RSA authority")??)
}
