//! `phone issue`.

use crate::{BOLD, DIM, Failure};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use wavepass_hce::authorities::Authorities;
use wavepass_hce::faults::AnyFault;
use wavepass_hce::issue::{Domain, IssueError};
use wavepass_hce::phone::{PhoneFile, state_path};
use wavepass_hce::profile::{DomainOrder, Order, Profile, ProfileError};
use wavepass_hce::state::{Counters, Durability, StateError};
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
    #[arg(long, value_name = "FILE", required_unless_present = "stray")]
    out: Option<PathBuf>,
    /// What stands there without an option: people forget `--out`
    #[arg(hide = true)]
    stray: Option<String>,
    /// The folder of the authorities
    #[arg(long, value_name = "DIR", default_value = "wavepass-authorities")]
    authorities: PathBuf,
    /// An authority's file in the place of the folder's of its suite; may be given several times
    #[arg(long = "authority", value_name = "FILE")]
    given: Vec<PathBuf>,
    /// Which kind of phone: a name from `phone list --profiles`, or the path of a profile's file, as ./mine.toml
    #[arg(long, value_name = "NAME|FILE", default_value = "house")]
    profile: String,
    /// The token, 13 to 19 digits; else a random one of the issuer's
    // Not read by clap, whose message repeats a wrong value: it may end up in a log.
    #[arg(long, value_name = "DIGITS")]
    token: Option<String>,
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

fn month(text: &str) -> Result<Expiry, String> {
    let parts = text.split_once('-').and_then(|(y, m)| Some((y.parse::<u16>().ok()?, m.parse().ok()?)));
    let (year, month) =
        parts.filter(|(y, _)| (2000..2100).contains(y)).ok_or("a month is YYYY-MM, from 2000 to 2099")?;
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
        .ok_or_else(|| "a day of the calendar is YYYY-MM-DD, from 2000 to 2099".to_owned())
}

fn network(text: &str) -> Result<[u8; 4], String> {
    let name: Option<[u8; 4]> = text.as_bytes().try_into().ok();
    name.filter(|n| n.iter().all(u8::is_ascii_alphanumeric))
        .ok_or_else(|| "a network has four letters or digits".to_owned())
}

fn fault(text: &str) -> Result<AnyFault, String> {
    text.parse().map_err(|e: wavepass_hce::faults::UnknownFault| e.to_string())
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (out, token) = asked(args)?;
    let exists = out.exists();
    match (exists, args.add, args.force) {
        _ if out.is_dir() => return Err(format!("{} is a folder; give a file in it", out.display()).into()),
        (true, false, false) => {
            return Err(format!("{} is there already; give --add or --force", out.display()).into());
        }
        (false, true, _) => return Err(format!("{} is not there; leave --add out", out.display()).into()),
        _ => {}
    }
    // Before authorities are made for nothing.
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(format!("there is no folder {} for {}", folder.display(), out.display()).into());
    }
    if args.authorities.is_file() {
        return Err(format!("{} is a file; --authorities takes a folder", args.authorities.display()).into());
    }
    let before = if args.add { Some(crate::show::load(out)?) } else { None };
    let profile = Profile::find(&args.profile).map_err(|e| named(args, &e))?;
    let authorities = authorities(args)?;
    let file = make(args, &profile, token, &authorities)?;
    let file = match before {
        Some(before) => before.with(file),
        None => file,
    };
    if args.force && exists {
        // A new phone has new counters, but not while the old one is served.
        let state = state_path(out);
        if state.exists()
            && let Err(e @ StateError::InUse(_)) = Counters::file(&state, Durability::Process)
        {
            return Err(e.to_string().into());
        }
        if let Err(e) = std::fs::remove_file(&state)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            return Err(format!("{}: {e}", state.display()).into());
        }
    }
    file.save(out).map_err(|e| e.to_string())?;
    let keys = authorities.publish().map_err(|e| e.to_string())?;
    if args.json {
        return Ok(crate::show::print_json(out, &file, false)?);
    }
    let Some(made) = file.applications.last() else { return Ok(()) };
    let card = made.card();
    anstream::println!("{BOLD}{}{BOLD:#} is phone {}, {}", out.display(), card.token.last_four(), card.label);
    if let Some(keys) = keys {
        anstream::println!("{DIM}gates must know the keys in {}{DIM:#}", keys.display());
    }
    Ok(())
}

/// The file and the token of the command line.
fn asked(args: &Args) -> Result<(&Path, Option<Token>), Failure> {
    let Some(out) = args.out.as_ref().filter(|_| args.stray.is_none()) else {
        let stray = args.stray.as_deref().unwrap_or("FILE");
        return Err(Failure::Usage(format!(
            "`{stray}` stands there without an option; --out {stray} says where the phone goes, --profile {stray} \
             from which profile it is made"
        )));
    };
    let token = args.token.as_deref().map(Token::from_digits).transpose();
    Ok((out, token.map_err(|e| Failure::Usage(format!("--token: {e}")))?))
}

fn authorities(args: &Args) -> Result<Authorities, String> {
    let mut authorities = Authorities::open(&args.authorities, today())
        .map_err(|e| format!("{e}; give another --authorities"))?;
    for path in &args.given {
        authorities.take(path).map_err(|e| e.to_string())?;
    }
    Ok(authorities)
}

/// An error of the profile. That of one that is not there names it.
fn named(args: &Args, e: &ProfileError) -> String {
    match e {
        ProfileError::Unknown { .. } | ProfileError::Io { .. } => e.to_string(),
        ProfileError::Issue(IssueError::Dates) => format!(
            "{e}; --effective sets that, which is else today, and --fault expired makes a phone that is over"
        ),
        _ => format!("{}: {e}", args.profile),
    }
}

fn make(
    args: &Args,
    profile: &Profile,
    token: Option<Token>,
    authorities: &Authorities,
) -> Result<PhoneFile, String> {
    let domain = match args.network {
        _ if args.no_domain => DomainOrder::Without,
        Some(network) => DomainOrder::At(Domain { network, operator: args.operator }),
        None => DomainOrder::Profile,
    };
    let order = Order {
        token,
        expiry: args.expiry,
        effective: args.effective,
        psn: args.psn,
        domain,
        faults: args.faults.clone(),
        ..Order::new(today())
    };
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|e| format!("the system gives no random numbers: {e}"))?;
    profile.issue(authorities, &order, &mut ChaCha20Rng::from_seed(*seed)).map_err(|e| named(args, &e))
}

fn today() -> Date {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Date::at(UnixMs(u64::try_from(now.as_millis()).unwrap_or_default()), 0)
}
