//! Gates whose links move from one gateway to another, because theirs was killed while they sent.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::*;
use wavepass_gateway::keys::{ClearingKeys, Passphrase, Role, open_clearing};
use wavepass_gateway::store::Store;
use wavepass_gateway::store::db::query;
use wavepass_tests::line::Line;
use wavepass_tests::processes::{Failure, PASSPHRASE};

const GATEWAYS: usize = 3;
const GATES: usize = 6;
/// Each round kills one gateway.
const ROUNDS: u32 = 3;
/// What each gate sends in a round.
const TAPS: u32 = 200;
/// Entries that a gate has on their way unacknowledged: few, so that a round is many of them.
const WINDOW: u32 = 8;
/// Links that a gate tries in a round before the test fails.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// A gate with what its journal holds.
struct Gate {
    id: u32,
    sealer: Sealer,
    entries: Vec<Vec<u8>>,
    /// Which gateway it is connected to, or was last.
    at: AtomicUsize,
    acknowledged: AtomicU32,
    /// Up to which number it has sent entries to that gateway.
    sent: AtomicU32,
    /// How often it had to connect to another gateway.
    moves: AtomicU32,
    /// How many entries were on their way then.
    again: AtomicU32,
}

impl Gate {
    fn commission(house: &House, place: usize) -> Self {
        let id = u32::try_from(place).unwrap() + 1;
        let (number, out) = (id.to_string(), format!("g{id}.wpg"));
        let add = ["gate", "add", "--id", &number, "--station", "A1", "--direction", "entry", "--out", &out];
        let mut sealer = Sealer::new(&house.file(&add).unwrap()).unwrap();
        let tap = |n: u32| {
            let time = UnixMs(MORNING + u64::from(n) * 30_000);
            seal(&mut sealer, id, time, u16::try_from(n + 1).unwrap(), id << 16 | n)
        };
        let entries = (0..ROUNDS * TAPS).map(tap).collect();
        let at = AtomicUsize::new(place % GATEWAYS);
        let [acknowledged, sent, moves, again] = std::array::from_fn(|_| AtomicU32::new(0));
        Self { id, sealer, entries, at, acknowledged, sent, moves, again }
    }

    /// Sends up to a number until it is acknowledged, through the next gateway where one is gone.
    fn send_upto(&self, house: &House, keys: &dyn ClearingKeys, last: u32) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        for _ in 0..TRIES {
            let at = self.at.load(Ordering::SeqCst);
            match runtime.block_on(self.send(house.link(at)?, keys, last)) {
                Ok(()) => return Ok(()),
                Err(error) if is_gone(&*error) => {
                    let (sent, acknowledged) = (&self.sent, &self.acknowledged);
                    let left = sent.load(Ordering::SeqCst).checked_sub(acknowledged.load(Ordering::SeqCst));
                    self.again.fetch_add(left.unwrap_or(0), Ordering::SeqCst);
                    self.moves.fetch_add(1, Ordering::SeqCst);
                    self.at.store((at + 1) % GATEWAYS, Ordering::SeqCst);
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(format!("gate {}: {error}", self.id).into()),
            }
        }
        Err(format!("gate {} found no gateway in {TRIES} tries", self.id).into())
    }

    async fn send(
        &self,
        at: std::net::SocketAddr,
        keys: &dyn ClearingKeys,
        last: u32,
    ) -> Result<(), Failure> {
        let mut line = Line::open(at, keys, self.id, self.sealer.key_id).await?;
        let mut acknowledged = self.acknowledged.load(Ordering::SeqCst);
        let mut sent = acknowledged;
        line.status(acknowledged, last + 1);
        while acknowledged < last {
            while sent < last.min(acknowledged + WINDOW) {
                line.entry(&self.entries[sent as usize]);
                sent += 1;
            }
            self.sent.store(sent, Ordering::SeqCst);
            line.flush().await?;
            if let Some(upto) = line.hear().await? {
                assert!(upto <= last, "gate {} is told of {upto}, and has sent no more than {last}", self.id);
                acknowledged = acknowledged.max(upto);
                self.acknowledged.store(acknowledged, Ordering::SeqCst);
            }
        }
        Ok(())
    }
}

/// Whether the other end is no more there, as it is when it was killed; anything else that it may say is a fault.
fn is_gone(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.is::<std::io::Error>() || error.to_string() == "the host has closed the line"
}

#[test]
fn gates_whose_gateway_is_killed_go_to_another_and_each_of_their_taps_is_there_once() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = ChaCha20Rng::seed_from_u64(seed);
    let tariff = tariff();
    let plan =
        Plan { postgres: Some(server()), sandbox_bank: false, tariff: &tariff, settings: "", keys: None };
    let mut house = House::lay(programs(), &plan).unwrap();
    house.open(GATEWAYS).unwrap();
    let passphrase = Passphrase::new(PASSPHRASE);
    let keys = open_clearing(&Role::Clearing.path(&house.keys()), &passphrase).unwrap();
    let gates: Vec<Gate> = (0..GATES).map(|place| Gate::commission(&house, place)).collect();
    for round in 0..ROUNDS {
        // A gate whose gateway is killed when so much of the gate's part is acknowledged.
        let place = random.random_range(0..GATES);
        let watched = &gates[place];
        let (begin, last) = (round * TAPS, (round + 1) * TAPS);
        let moment = begin + random.random_range(1..TAPS / 2);
        let moves = watched.moves.load(Ordering::SeqCst);
        std::thread::scope(|threads| {
            let (house, keys) = (&house, &*keys);
            let senders: Vec<_> =
                gates.iter().map(|gate| threads.spawn(|| gate.send_upto(house, keys, last))).collect();
            while watched.acknowledged.load(Ordering::SeqCst) < moment && !senders[place].is_finished() {
                std::thread::sleep(Duration::from_micros(100));
            }
            let victim = watched.at.load(Ordering::SeqCst);
            println!("round {round}: gateway {victim} is killed after entry {moment} of gate {}", watched.id);
            house.kill(Victim::Gateway(victim)).unwrap();
            senders.into_iter().for_each(|sender| sender.join().unwrap().unwrap());
        });
        assert!(watched.moves.load(Ordering::SeqCst) > moves, "the gate's own gateway was not killed");
    }
    let sum = |of: fn(&Gate) -> &AtomicU32| gates.iter().map(|gate| of(gate).load(Ordering::SeqCst)).sum();
    let (moves, again): (u32, u32) = (sum(|gate| &gate.moves), sum(|gate| &gate.again));
    println!("{moves} times a gate went to another gateway; {again} entries were on their way then");
    assert!(again > 0, "nothing was on its way to a gateway that was killed");

    house.post(0, "/v1/risk/run", &json!({})).unwrap();
    house.close();
    let (url, data) = house.store();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(&url, &data).await.unwrap();
        for gate in &gates {
            let sealed = "SELECT sealed FROM entries WHERE key_id = ? ORDER BY sequence";
            let found: Vec<Vec<u8>> =
                query(sealed).bind(&gate.sealer.key_id.0[..]).column(store.pool()).await.unwrap();
            assert!(found == gate.entries, "the entries of gate {} are not what it sent", gate.id);
        }
        let counts = "SELECT count(*), CAST(sum(counted) AS BIGINT), (SELECT count(*) FROM token_taps WHERE withheld = 0), \
                      (SELECT CAST(sum(acked) AS BIGINT) FROM watermarks), (SELECT count(*) FROM set_aside) FROM taps";
        let found: (i64, i64, i64, i64, i64) = query(counts).row(store.pool()).await.unwrap();
        let all = i64::from(ROUNDS * TAPS) * GATES as i64;
        assert_eq!(found, (all, all, all, all, 0), "taps, counted, beside tokens, acknowledged, set aside");
        store.close().await;
    });
}
