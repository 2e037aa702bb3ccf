//! Where the card comes from, and which terminal it meets.

use crate::bench::{known, trusted};
use crate::files::at;
use crate::terminal::Terminal;
use clap::Args;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wavepass_hce::authorities::Authorities;
use wavepass_hce::faults::AnyFault;
use wavepass_hce::phone::Phone;
use wavepass_hce::profile::{Order, Profile};
use wavepass_hce::state::{Counters, Durability};
use wavepass_kernel::TapInput;
use wavepass_protocol::time::{Date, UnixMs};

/// The readers, and the terminal in front of them.
#[derive(Args, Clone)]
pub(super) struct Front {
    /// A text that the reader's name holds [default: any reader on which a card appears]
    #[arg(long, value_name = "TEXT")]
    pub(super) reader: Option<String>,
    /// The folder of test authorities that `phone issue` made: the terminal trusts them too
    #[arg(long, value_name = "FOLDER")]
    authorities: Option<PathBuf>,
    /// The terminal's file [default: the one that comes with the rig]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show whole card numbers and every byte
    #[arg(long)]
    pub(super) show_numbers: bool,
    /// JSON, one line a tap
    #[arg(long)]
    pub(super) json: bool,
}

impl Front {
    /// The terminal, without the test authorities.
    fn terminal(&self) -> Result<Terminal, String> {
        match &self.config {
            None => Terminal::builtin().map_err(|e| e.to_string()),
            Some(path) => Terminal::load(path).map_err(|e| at(&path.display().to_string(), &e)),
        }
    }

    /// The terminal, which trusts the test authorities where their folder is given.
    #[cfg(feature = "pcsc")]
    pub(super) fn open(&self) -> Result<Terminal, String> {
        let mut terminal = self.terminal()?;
        if let Some(folder) = &self.authorities {
            let authorities = super::check::authorities(Some(folder), today(&terminal))?;
            terminal.keys.extend(trusted(&authorities).map_err(|e| e.to_string())?);
        }
        Ok(terminal)
    }
}

/// One card: on a reader, or a phone of the emulator.
#[derive(Args, Clone)]
pub(super) struct Source {
    #[command(flatten)]
    pub(super) front: Front,
    /// A phone of the emulator in this process instead of a reader: a profile, whose phone is made by --authorities or
    /// by new ones, or a phone's file
    #[arg(long, value_name = "PROFILE|FILE", conflicts_with = "reader")]
    pub(super) phone: Option<String>,
    /// What is wrong with the profile's phone, as `phone list --faults` has it; may be given several times
    #[arg(long, value_name = "FAULT", requires = "phone")]
    fault: Vec<AnyFault>,
    /// How long to wait for a card, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
    #[arg(skip)]
    no_limit: bool,
}

impl Source {
    /// The same, but a slow card is waited for.
    pub(super) fn without_limit(&self) -> Self {
        Self { no_limit: true, ..self.clone() }
    }

    #[cfg(feature = "pcsc")]
    pub(super) const fn patience(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.wait)
    }

    /// The terminal, and the phone in this process where one is asked for. They trust each other if the phone is of
    /// a profile.
    pub(super) fn open(&self) -> Result<(Terminal, Option<Phone>), String> {
        let mut terminal = self.front.terminal()?;
        if self.no_limit {
            terminal.config.tap_limit_us = u64::MAX;
        }
        let file = self.phone.as_deref().filter(|name| name.ends_with(".json"));
        let profile = self.phone.as_deref().filter(|_| file.is_none());
        if profile.is_none() && self.front.authorities.is_none() {
            return Ok((terminal, file.map(load).transpose()?));
        }
        if file.is_some() && !self.fault.is_empty() {
            return Err("faults are for a profile's phone; a phone's file has its own".to_owned());
        }
        let today = today(&terminal);
        let authorities = super::check::authorities(self.front.authorities.as_deref(), today)?;
        let phone = match profile {
            Some(name) => Some(self.issue(name, &authorities, today)?),
            None => file.map(load).transpose()?,
        };
        let keys = match profile {
            // Only the suites that the phone needed have been made: RSA takes seconds.
            Some(_) => known(&authorities),
            None => trusted(&authorities),
        };
        terminal.keys.extend(keys.map_err(|e| e.to_string())?);
        Ok((terminal, phone))
    }

    fn issue(&self, name: &str, authorities: &Authorities, today: Date) -> Result<Phone, String> {
        let wrong = |e: &dyn std::fmt::Display| at(name, e);
        let profile = Profile::find(name).map_err(|e| wrong(&e))?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| format!("the system gives no random numbers: {e}"))?;
        let mut rng = ChaCha20Rng::from_seed(seed);
        let order = Order { faults: self.fault.clone(), ..Order::new(today) };
        let file = profile.issue(authorities, &order, &mut rng).map_err(|e| wrong(&e))?;
        Phone::new(&file, Counters::memory(), seed).map_err(|e| wrong(&e))
    }
}

fn load(name: &str) -> Result<Phone, String> {
    Phone::from_files(Path::new(name), Durability::Process).map_err(|e| at(name, &e))
}

/// This moment, for a tap.
pub(super) fn input(terminal: &Terminal) -> Result<TapInput, String> {
    let mut random = [[0; 4]; 3];
    getrandom::fill(random.as_flattened_mut())
        .map_err(|e| format!("the system gives no random numbers: {e}"))?;
    let [unpredictable, relay_entropy @ ..] = random;
    let utc_offset_min = terminal.utc_offset_min;
    Ok(TapInput { now: now(), utc_offset_min, unpredictable, start_us: 0, relay_entropy })
}

pub(super) fn now() -> UnixMs {
    let passed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(passed.as_millis()).unwrap_or_default())
}

/// The day at the terminal.
pub(super) fn today(terminal: &Terminal) -> Date {
    Date::at(now(), terminal.utc_offset_min)
}

#[cfg(feature = "pcsc")]
pub(super) fn list(json: bool) -> Result<bool, String> {
    use crate::show::{BOLD, DIM};
    use wavepass_hce::hex;
    let readers = crate::pcsc_way::Readers::open().and_then(|r| r.list()).map_err(|e| e.to_string())?;
    if json {
        let one = |r: &crate::pcsc_way::Reader| serde_json::json!({ "name": r.name, "atr": r.atr.as_deref().map(hex::encode) });
        anstream::println!("{}", serde_json::Value::from(readers.iter().map(one).collect::<Vec<_>>()));
    } else if readers.is_empty() {
        anstream::println!("no reader is connected");
    } else {
        for reader in &readers {
            match &reader.atr {
                Some(atr) => {
                    anstream::println!("{BOLD}{}{BOLD:#}  card, ATR {}", reader.name, hex::encode(atr));
                }
                None => anstream::println!("{BOLD}{}{BOLD:#}  {DIM}no card{DIM:#}", reader.name),
            }
        }
    }
    Ok(!readers.is_empty())
}

#[cfg(not(feature = "pcsc"))]
pub(super) fn list(_: bool) -> Result<bool, String> {
    Err(NO_PCSC.to_owned())
}

/// What a rig without readers says when it is asked for one.
#[cfg(not(feature = "pcsc"))]
pub(super) const NO_PCSC: &str =
    "this rig was built without PC/SC: build it with the feature `pcsc`, or give it a phone with --phone";
