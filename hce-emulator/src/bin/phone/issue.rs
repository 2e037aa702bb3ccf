//! `phone issue`.

use crate::{BOLD, DIM};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use wavepass_hce::authorities::Authorities;
use wavepass_hce::faults::AnyFault;
use wavepass_hce::issue::Domain;
use wavepass_hce::phone::{PhoneFile, state_path};
use wavepass_hce::profile::{DomainOrder, Order, Profile};
use wavepass_protocol::time::{Date, UnixMs};
use wavepass_protocol::token::{Expiry, Token};
use zeroize::Zeroizing;

/// Makes a phone with authorities of our own
///
/// The authorities are made in their folder when first needed; `ca-keys.json` there is what gates must know. A bank
/// issues phones with `wavepass-gateway`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    phone issue --out anna.json\n  \
    phone issue --out anna.json --profile unionpay-debit --add    a second application\n  \
    phone issue --out wallet.json --profile wallet\n  \
    phone issue --out mine.json --profile ./mine.toml             a profile of your own\n  \
    phone issue --out old.json --fault expired\n  \
    phone issue --out slow.json --fault slow=300000 --fault field-lost=gpo")]
pub(crate) struct Args {
    /// The phone's file; its counters go beside it, into FILE.state
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The folder of the authorities
    #[arg(long, value_name = "DIR", default_value = "wavepass-authorities")]
    authorities: PathBuf,
    /// An authority's file in the place of the folder's of its suite; may be given several times
    #[arg(long = "authority", value_name = "FILE")]
    given: Vec<PathBuf>,
    /// Which kind of phone: a name from `phone list --profiles`, or a path
    #[arg(long, value_name = "NAME|FILE", default_value = "house")]
    profile: String,
    /// The token, 13 to 19 digits; else a random one of the issuer's
    #[arg(long, value_name = "DIGITS", value_parser = token, hide_env_values = true)]
    token: Option<Token>,
    /// The last month in which it is good; else three years from now, or what the profile says
    #[arg(long, value_name = "YYYY-MM", value_parser = month)]
    expiry: Option<Expiry>,
    /// The first day on which it is good; else today
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    effective: Option<Date>,
    /// Sequence number, else the profile's
    #[arg(long)]
    psn: Option<u8>,
    /// The network in which the token is good, four letters; else the profile's
    #[arg(long, value_name = "NAME", value_parser = network)]
    network: Option<[u8; 4]>,
    /// The operator in that network; 0 is any
    #[arg(long, requires = "network", default_value_t = 0)]
    operator: u16,
    /// Leave the domain out: no gate of the house accepts such a token
    #[arg(long, conflicts_with_all = ["network", "operator"])]
    no_domain: bool,
    /// Something wrong with the phone, from `phone list --faults`; may be given several times
    #[arg(long = "fault", value_name = "FAULT", value_parser = fault)]
    faults: Vec<AnyFault>,
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

fn fault(text: &str) -> Result<AnyFault, String> {
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
    let authorities = authorities(args)?;
    let file = make(args, &authorities)?;
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
    let keys = authorities.publish().map_err(|e| e.to_string())?;
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
    if let Some(keys) = keys {
        anstream::println!("{DIM}gates must know the keys in {}{DIM:#}", keys.display());
    }
    Ok(())
}

fn authorities(args: &Args) -> Result<Authorities, String> {
    let mut authorities = Authorities::open(&args.authorities, today())
        .map_err(|e| format!("{e}; give another --authorities"))?;
    for path in &args.given {
        authorities.take(path).map_err(|e| e.to_string())?;
    }
    Ok(authorities)
}

fn make(args: &Args, authorities: &Authorities) -> Result<PhoneFile, String> {
    let named = |e| format!("{}: {e}", args.profile);
    let profile = Profile::find(&args.profile).map_err(named)?;
    let domain = match args.network {
        _ if args.no_domain => DomainOrder::Without,
        Some(network) => DomainOrder::At(Domain { network, operator: args.operator }),
        None => DomainOrder::Profile,
    };
    let order = Order {
        token: args.token,
        expiry: args.expiry,
        effective: args.effective,
        psn: args.psn,
        domain,
        faults: args.faults.clone(),
        ..Order::new(today())
    };
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|e| format!("the system gives no random numbers: {e}"))?;
    profile.issue(authorities, &order, &mut ChaCha20Rng::from_seed(*seed)).map_err(named)
}

fn today() -> Date {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Date::at(UnixMs(u64::try_from(now.as_millis()).unwrap_or_default()), 0)
}
