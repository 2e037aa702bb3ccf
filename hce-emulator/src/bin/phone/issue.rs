//! `phone issue`.

use crate::authorities::{Authorities, HOUSE_PREFIX, RSA_PREFIX, random};
use crate::{BOLD, DIM};
use clap::ValueEnum;
use rand::Rng;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use wavepass_hce::faults::Fault;
use wavepass_hce::issue::{
    CARD_BITS, Domain, HouseOrder, RSA_CREDIT_AID, RSA_DEBIT_AID, RSA_QUASI_CREDIT_AID, RsaCardKey, RsaOrder,
};
use wavepass_hce::phone::{PhoneFile, state_path};
use wavepass_protocol::cryptogram::master_key_option_c;
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::{Expiry, Token};

/// How many digits a token has that is made here.
const DIGITS: usize = 16;

/// Makes a phone with authorities of our own
///
/// The authorities are made in their folder when first needed; `ca-keys.json` there is what gates must know. A bank
/// issues phones with `wavepass-gateway`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    phone issue --out anna.json\n  \
    phone issue --out anna.json --profile rsa --add          a second application\n  \
    phone issue --out old.json --expiry 2024-05 --effective 2021-01-01\n  \
    phone issue --out slow.json --fault slow=300000 --fault field-lost=4")]
pub(crate) struct Args {
    /// The phone's file; its counters go beside it, into FILE.state
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The folder of the authorities
    #[arg(long, value_name = "DIR", default_value = "wavepass-authorities")]
    authorities: PathBuf,
    /// Which application
    #[arg(long, value_enum, default_value_t = Profile::House)]
    profile: Profile,
    /// The token, 13 to 19 digits; else a random one of the issuer's
    #[arg(long, value_name = "DIGITS", value_parser = token, hide_env_values = true)]
    token: Option<Token>,
    /// The last month in which it is good; else three years from now
    #[arg(long, value_name = "YYYY-MM", value_parser = month)]
    expiry: Option<Expiry>,
    /// The first day on which it is good; else today
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    effective: Option<Date>,
    /// Sequence number
    #[arg(long, default_value_t = 0)]
    psn: u8,
    /// The network in which the token is good, four letters
    #[arg(long, value_name = "NAME", value_parser = network, default_value = "CITY")]
    network: [u8; 4],
    /// The operator in that network; 0 is any
    #[arg(long, default_value_t = 0)]
    operator: u16,
    /// Leave the domain out: no gate of the house accepts such a token
    #[arg(long, conflicts_with_all = ["network", "operator"])]
    no_domain: bool,
    /// Something wrong with the phone; may be given several times
    #[arg(long = "fault", value_name = "FAULT", value_parser = fault)]
    faults: Vec<Fault>,
    /// Add the application to the phone that is already in the file
    #[arg(long)]
    add: bool,
    /// Replace a phone that is already in the file; its counters begin anew
    #[arg(long, conflicts_with = "add")]
    force: bool,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// P-256, the house's own
    House,
    /// RSA fDDA, UnionPay debit
    Rsa,
    /// RSA fDDA, UnionPay credit
    RsaCredit,
    /// RSA fDDA, UnionPay quasi-credit
    RsaQuasiCredit,
}

// The digits are not repeated in the message: it may end up in a log.
fn token(text: &str) -> Result<Token, String> {
    Token::from_digits(text).map_err(|e| e.to_string())
}

fn month(text: &str) -> Result<Expiry, String> {
    let parts = text.split_once('-').and_then(|(y, m)| Some((y.parse::<u16>().ok()?, m.parse().ok()?)));
    let (year, month) =
        parts.filter(|(y, _)| (2000..2100).contains(y)).ok_or("a month is YYYY-MM, from 2000 on")?;
    Expiry::new((year % 100) as u8, month).map_err(|e| e.to_string())
}

fn day(text: &str) -> Result<Date, String> {
    let mut parts = text.split('-').map(|part| part.parse::<u16>().ok());
    let date = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Some(year)), Some(Some(month @ ..=12)), Some(Some(day @ ..=31)), None) => {
            // Both below 256.
            Date::new(year, month as u8, day as u8).ok()
        }
        _ => None,
    };
    date.filter(|d| (2000..2100).contains(&d.year))
        .ok_or_else(|| "a day is YYYY-MM-DD, from 2000 on".to_owned())
}

fn network(text: &str) -> Result<[u8; 4], String> {
    let name: Option<[u8; 4]> = text.as_bytes().try_into().ok();
    name.filter(|n| n.iter().all(u8::is_ascii_alphanumeric))
        .ok_or_else(|| "a network has four letters or digits".to_owned())
}

fn fault(text: &str) -> Result<Fault, String> {
    text.parse().map_err(|e: wavepass_hce::faults::UnknownFault| e.to_string())
}

pub(crate) fn run(args: &Args) -> Result<(), String> {
    let exists = args.out.exists();
    match (exists, args.add, args.force) {
        (true, false, false) => {
            return Err(format!("{} is there already; give --add or --force", args.out.display()));
        }
        (false, true, _) => return Err(format!("{} is not there; leave --add out", args.out.display())),
        _ => {}
    }
    let file = make(args)?;
    let file = if args.add {
        PhoneFile::load(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?.with(file)
    } else {
        file
    };
    if args.force && exists {
        // A new phone has new counters.
        let state = state_path(&args.out);
        if let Err(e) = std::fs::remove_file(&state)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            return Err(format!("{}: {e}", state.display()));
        }
    }
    file.save(&args.out).map_err(|e| e.to_string())?;
    let keys = Authorities::open(&args.authorities, today())?.publish()?;
    if args.json {
        return crate::show::print_json(&args.out, &file, false);
    }
    let Some(made) = file.applications.last() else { return Ok(()) };
    let card = made.card();
    anstream::println!(
        "{BOLD}{}{BOLD:#} is phone {}, {}",
        args.out.display(),
        card.token.last_four(),
        card.label
    );
    anstream::println!("{DIM}gates must know the keys in {}{DIM:#}", keys.display());
    Ok(())
}

fn make(args: &Args) -> Result<PhoneFile, String> {
    let today = today();
    let authorities = Authorities::open(&args.authorities, today)?;
    let effective = args.effective.unwrap_or(today);
    let expiry = args.expiry.unwrap_or(Date { year: (today.year + 3).min(2099), ..today }.expiry());
    let prefix = if args.profile == Profile::House { HOUSE_PREFIX } else { RSA_PREFIX };
    let token = match args.token {
        Some(token) => token,
        None => random_token(prefix)?,
    };
    let master_key = master_key_option_c(&*authorities.master()?, &token, args.psn);
    let mut rng = random()?;
    let made = if args.profile == Profile::House {
        let mut order = HouseOrder {
            token,
            expiry,
            effective,
            psn: args.psn,
            domain: (!args.no_domain).then_some(Domain { network: args.network, operator: args.operator }),
            serial: [0; 6],
            card_key: [0; 32],
            master_key,
        };
        rng.fill_bytes(&mut order.serial);
        rng.fill_bytes(&mut order.card_key);
        authorities.house()?.issue(&order)
    } else {
        let aid = match args.profile {
            Profile::RsaCredit => RSA_CREDIT_AID,
            Profile::RsaQuasiCredit => RSA_QUASI_CREDIT_AID,
            _ => RSA_DEBIT_AID,
        };
        let mut order = RsaOrder {
            token,
            expiry,
            effective,
            psn: args.psn,
            aid: aid.to_vec(),
            serial: [0; 3],
            master_key,
        };
        rng.fill_bytes(&mut order.serial);
        let authority = authorities.rsa()?;
        let key = RsaCardKey::generate(&mut rng, CARD_BITS).map_err(|e| e.to_string())?;
        authority.issue(&order, &key)
    };
    let hint = |e| format!("{e}; tokens of this issuer begin with {prefix}");
    let mut file = made.map_err(hint)?;
    file.faults.clone_from(&args.faults);
    Ok(file)
}

/// A token of the issuer's with a right check digit.
fn random_token(prefix: &str) -> Result<Token, String> {
    let mut rng = random()?;
    let mut text = prefix.to_owned();
    while text.len() < DIGITS - 1 {
        // A bias of 6 in 256 does no harm to a number that only has to be new.
        text.push(char::from(b'0' + (rng.next_u32() % 10) as u8));
    }
    let sum: u32 = text
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, c)| {
            let digit = u32::from(c - b'0');
            if i % 2 == 1 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    // Below ten.
    text.push(char::from(b'0' + ((10 - sum % 10) % 10) as u8));
    Token::from_digits(&text).map_err(|e| e.to_string())
}

fn today() -> Date {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Date::at(UnixMs(u64::try_from(now.as_millis()).unwrap_or_default()), 0)
}
