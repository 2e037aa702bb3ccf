//! What a sound gate says to every profile and every fault: the gate's own kernel, tapped by the phones.

use crate::cast::TODAY;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::sync::LazyLock;
use wavepass_hce::authorities::{Authorities, PublicKey};
use wavepass_hce::card::{Card, CardFault};
use wavepass_hce::faults::{AnyFault, CATALOGUE, IssueFault};
use wavepass_hce::issue::*;
use wavepass_hce::phone::{Phone, PhoneFile};
use wavepass_hce::profile::{Order, Profile};
use wavepass_hce::state::Counters;
use wavepass_kernel::{Asked, Config, Decision, Environment, Kernel, Lost, Passback, Step, TapInput, Work};
use wavepass_protocol::ecc::P256Verifier;
use wavepass_protocol::lists::{Application, CaKey, GateConfig, RelayLimits, Revocation, Suite};
use wavepass_protocol::sm2::Convention;
use wavepass_protocol::tap::Reason;
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::Token;

static AUTHORITIES: LazyLock<Authorities> = LazyLock::new(|| Authorities::generate([1; 32], TODAY));

/// What the gate's reader takes for an exchange, beyond the card.
const READER_US: u32 = 2_000;

/// A gate that knows the authorities' keys and nothing against anybody.
struct World(Vec<PublicKey>);

impl World {
    fn new() -> Self {
        AUTHORITIES.house().unwrap();
        AUTHORITIES.rsa().unwrap();
        AUTHORITIES.sm2().unwrap();
        Self(AUTHORITIES.public_keys().unwrap())
    }
}

impl Environment for World {
    fn ca_key(&self, rid: &[u8; 5], index: u8, suite: Suite) -> Option<CaKey<'_>> {
        self.0.iter().find(|k| (k.rid, k.index, k.suite) == (*rid, index, suite)).map(PublicKey::listed)
    }

    fn is_revoked(&self, _: &Revocation) -> bool {
        false
    }

    fn denied(&self, _: &Asked) -> Option<bool> {
        Some(false)
    }

    fn passback(&self, _: &Token, _: UnixMs) -> Passback {
        Passback::Clear
    }

    fn list_stale(&self, _: UnixMs) -> bool {
        false
    }
}

fn config(relay: Option<RelayLimits>) -> Config {
    let application = |aid: &[u8], suite| Application {
        aid: heapless::Vec::from_slice(aid).unwrap(),
        partial: false,
        suite,
        ttq: [0x21, 0x80, 0x00, 0x80],
        preference: 0,
        formats: heapless::Vec::from_slice(&[0x05, 0x95]).unwrap(),
        domain_required: suite == Suite::P256,
    };
    let mut applications = heapless::Vec::new();
    applications.push(application(HOUSE_AID, Suite::P256)).unwrap();
    for aid in [RSA_DEBIT_AID, RSA_CREDIT_AID, RSA_QUASI_CREDIT_AID] {
        applications.push(application(aid, Suite::Rsa)).unwrap();
    }
    applications.push(application(RSA_DEBIT_AID, Suite::Sm2)).unwrap();
    let gate = GateConfig {
        utc_offset_min: 480,
        amount_fen: 300,
        currency: 0x0156,
        country: 0x0156,
        passback_ms: 60_000,
        tap_limit_ms: 1_000,
        list_max_age_ms: 0,
        stale_opens: false,
        applications,
        relay,
    };
    Config::new(&gate, *b"CITY", 7).unwrap()
}

/// A command of the kernel's.
struct Owned {
    command: Vec<u8>,
    is_timed: bool,
}

impl Owned {
    fn of(step: Step<'_>) -> Option<Self> {
        match step {
            Step::Send(command) => Some(Self { command: command.to_vec(), is_timed: false }),
            Step::Timed(command) => Some(Self { command: command.to_vec(), is_timed: true }),
            Step::Last => None,
        }
    }
}

/// One tap at a gate that times cards. Gives the decision and the application.
fn tap(phone: &mut Phone, un: u8) -> (Decision, Vec<u8>) {
    tap_at(&config(Some(RelayLimits { overhead_us: READER_US, grace_us: 300, cap_us: 10_000 })), phone, un)
}

/// One tap, in which only the reader and the modelled card take time.
fn tap_at(config: &Config, phone: &mut Phone, un: u8) -> (Decision, Vec<u8>) {
    let world = World::new();
    let now = UnixMs(u64::try_from(TODAY.to_days()).unwrap() * 86_400_000 + 3_600_000);
    let mut kernel = Kernel::new(P256Verifier);
    let relay_entropy = [[un, 5, 6, 7], [un, 8, 9, 10]];
    let unpredictable = [un, 2, 3, 4];
    let input = TapInput { now, utc_offset_min: 480, unpredictable, start_us: 0, relay_entropy };
    phone.enter_field();
    let mut clock_us = 0;
    let mut step = Owned::of(kernel.begin(config, input));
    while let Some(Owned { command, is_timed }) = step {
        let answer = match phone.transmit(&command) {
            Ok(answer) => answer,
            Err(CardFault::Removed) => {
                kernel.lost(Lost::Removed, clock_us);
                break;
            }
            Err(other) => panic!("{other}"),
        };
        let took_us = u64::from(READER_US) + answer.delay_us;
        clock_us += took_us;
        step = Owned::of(if is_timed {
            kernel.timed_answer(config, &answer.data, u32::try_from(took_us).unwrap(), clock_us)
        } else {
            kernel.answer(config, &answer.data, clock_us)
        });
    }
    while kernel.work(&world) == Work::More {}
    (kernel.decision(config, &world).unwrap(), kernel.facts().aid.to_vec())
}

fn issue(profile: &str, faults: &[AnyFault]) -> PhoneFile {
    let order = Order { faults: faults.to_vec(), ..Order::new(TODAY) };
    Profile::builtin(profile)
        .unwrap()
        .issue(&AUTHORITIES, &order, &mut ChaCha20Rng::from_seed([5; 32]))
        .unwrap()
}

fn verdict(file: &PhoneFile) -> Result<(), Reason> {
    match tap(&mut Phone::new(file, Counters::memory(), [9; 32]).unwrap(), 1).0 {
        Decision::Refuse(reason) => Err(reason),
        _ => Ok(()),
    }
}

#[test]
fn a_sound_phone_of_every_profile_opens_the_gate() {
    for name in Profile::names() {
        assert_eq!(verdict(&issue(name, &[])), Ok(()), "{name}");
    }
}

#[test]
fn every_fault_of_every_profile_gets_the_verdict_that_the_list_promises() {
    for name in Profile::names() {
        let profile = Profile::builtin(name).unwrap();
        for entry in CATALOGUE {
            let said = verdict(&issue(name, &[entry.example.parse().unwrap()]));
            let promised = entry.verdict(&profile);
            let is_promised = said.map_or_else(|reason| promised.contains(&reason), |()| promised.is_empty());
            assert!(is_promised, "{name} with {}: {said:?}", entry.example);
        }
    }
}

#[test]
fn the_application_of_a_wallet_that_comes_first_is_the_one_that_is_tapped() {
    let mut phone = Phone::new(&issue("wallet", &[]), Counters::memory(), [9; 32]).unwrap();
    assert_eq!(tap(&mut phone, 1).1, RSA_CREDIT_AID);
}

#[test]
fn a_profile_says_how_an_sm2_card_signs_and_a_gate_that_is_told_the_same_opens() {
    let usual = config(None);
    for (line, convention) in [
        ("user_id = \"ALICE123@YAHOO.COM\"", Convention::new("ALICE123@YAHOO.COM", &[2]).unwrap()),
        ("counter_prefix = \"000102\"", Convention::new(usual.sm2.user_id(), &[0, 1, 2]).unwrap()),
    ] {
        let text = format!("{}{line}\nkey_parameters = \"0000\"\n", Profile::text("sm2").unwrap());
        let profile = Profile::parse(&text).unwrap();
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let file = profile.issue(&AUTHORITIES, &Order::new(TODAY), &mut rng).unwrap();
        let file = PhoneFile::from_json(&file.to_json()).unwrap();
        let mut phone = Phone::new(&file, Counters::memory(), [9; 32]).unwrap();
        let refused = Decision::Refuse(Reason::AuthenticationFailed);
        assert_eq!(tap_at(&usual, &mut phone, 1).0, refused, "{line}");
        let alike = Config { sm2: convention, ..usual.clone() };
        assert_eq!(tap_at(&alike, &mut phone, 2).0, Decision::Open { again: false }, "{line}");
    }
}

#[test]
fn faults_of_both_kinds_are_combined() {
    let faults = ["expired", "slow-first=1000", "chained=50"].map(|f| f.parse().unwrap());
    assert_eq!(verdict(&issue("unionpay-debit-95", &faults)), Err(Reason::Expired));
    let file = issue("plastic", &[IssueFault::Replay.into()]);
    // The clone has one answer for every tap.
    assert_eq!(verdict(&file), Err(Reason::AuthenticationFailed));
    let file = issue("house", &[IssueFault::Replay.into()]);
    let mut clone = Phone::new(&file, Counters::memory(), [9; 32]).unwrap();
    let refused = Decision::Refuse(Reason::AuthenticationFailed);
    assert_eq!(tap_at(&config(None), &mut clone, 1).0, refused, "also where cards are not timed");
}

#[test]
fn the_page_about_the_phone_has_every_profile_and_every_fault() {
    const PAGE: &str = include_str!("../../../docs/phone.md");
    for name in Profile::names() {
        let about = Profile::builtin(name).unwrap().about().to_owned();
        assert!(PAGE.contains(&format!("| `{name}` | {about} |")), "{name}");
    }
    for entry in CATALOGUE {
        let name = entry.name.replace('|', "\\|");
        let row = PAGE.lines().find(|line| line.starts_with(&format!("| `{name}`")));
        let row = row.unwrap_or_else(|| panic!("{name}"));
        assert!(row.contains(entry.what), "{row}");
        assert!(entry.gate.iter().all(|reason| row.ends_with(&format!("`{reason}` |"))), "{row}");
        assert_eq!(row.ends_with("| opens |"), entry.gate.is_empty(), "{row}");
    }
}
