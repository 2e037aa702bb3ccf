//! `phone show` and `phone list`.

use crate::{BOLD, DIM};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use wavepass_hce::faults::{CATALOGUE, Cards, Entry};
use wavepass_hce::phone::{ApplicationFile, FileError, PhoneFile, state_path};
use wavepass_hce::profile::Profile;
use wavepass_hce::state;
use wavepass_protocol::time::Date;
use wavepass_protocol::token::MAX_DIGITS;

/// The most files that a list looks at.
const MAX_FILES: usize = 10_000;

/// Shows a phone
///
/// Of tokens the last four digits, unless --reveal is given; never a key.
#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// The phone's file
    file: PathBuf,
    /// Show tokens whole
    #[arg(long)]
    reveal: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists the phones of a folder, the profiles, or the faults
///
/// Phones are looked for in files whose names end in `.json`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// The profiles that are built in
    #[arg(long, conflicts_with_all = ["folder", "faults"])]
    profiles: bool,
    /// The faults, what each does and what a sound gate says
    #[arg(long, conflicts_with = "folder")]
    faults: bool,
    /// The folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn show(args: &ShowArgs) -> Result<(), String> {
    let phone = load(&args.file)?;
    if args.json {
        return print_json(&args.file, &phone, args.reveal);
    }
    let described = describe(&args.file, &phone, args.reveal)?;
    anstream::println!("{BOLD}{}{BOLD:#}", args.file.display());
    for application in described["applications"].as_array().into_iter().flatten() {
        anstream::println!("{BOLD}{}{BOLD:#} {}", text(application, "label"), text(application, "aid"));
        for (name, key) in [
            ("profile", "profile"),
            ("flow", "flow"),
            ("token", "token"),
            ("good from", "effective"),
            ("good until", "expiry"),
            ("sequence", "psn"),
            ("domain", "domain"),
            ("counter", "atc"),
            ("priority", "priority"),
        ] {
            anstream::println!("  {DIM}{name:<11}{DIM:#}{}", text(application, key));
        }
    }
    if !phone.faults.is_empty() {
        anstream::println!("{BOLD}faults{BOLD:#} {}", faults(&phone));
    }
    Ok(())
}

fn list_profiles(json: bool) -> Result<(), String> {
    let mut profiles = Vec::new();
    for name in Profile::names() {
        profiles.push((name, Profile::builtin(name).map_err(|e| format!("{name}: {e}"))?));
    }
    if json {
        let listed = profiles.iter().map(|(name, profile)| json!({ "name": name, "about": profile.about() }));
        anstream::println!("{:#}", Value::from_iter(listed));
        return Ok(());
    }
    for (name, profile) in profiles {
        anstream::println!("{BOLD}{name:<22}{BOLD:#} {profile}");
    }
    Ok(())
}

fn list_faults(json: bool) {
    let says = |entry: &Entry| {
        let reasons: Vec<_> = entry.gate.iter().map(|reason| reason.word()).collect();
        if reasons.is_empty() { "opens".to_owned() } else { reasons.join(" or ") }
    };
    let cards = |entry: &Entry| match entry.cards {
        Cards::Every => ("every", ""),
        Cards::Signing => ("signing", " *"),
        Cards::Timed => ("timed", " **"),
    };
    if json {
        let listed = CATALOGUE.iter().map(|entry| {
            json!({
                "name": entry.name,
                "example": entry.example,
                "what": entry.what,
                "gate": says(entry),
                "cards": cards(entry).0,
            })
        });
        anstream::println!("{:#}", Value::from_iter(listed));
        return;
    }
    anstream::println!("{DIM}{:<24} what it does, and what a sound gate says{DIM:#}", "fault");
    for entry in CATALOGUE {
        let name = format!("{}{}", entry.name, cards(entry).1);
        anstream::println!("{BOLD}{name:<24}{BOLD:#} {}: {}", entry.what, says(entry));
    }
    anstream::println!(
        "{DIM} * nothing to an older card, whose signature covers neither counter nor PDOL{DIM:#}"
    );
    anstream::println!("{DIM}** only of cards that can be timed{DIM:#}");
}

pub(crate) fn list(args: &ListArgs) -> Result<(), String> {
    if args.profiles {
        return list_profiles(args.json);
    }
    if args.faults {
        list_faults(args.json);
        return Ok(());
    }
    let folder = args.folder.display();
    if args.folder.is_file() {
        return Err(format!("{folder} is no folder; `phone show {folder}` shows a phone"));
    }
    let entries = std::fs::read_dir(&args.folder).map_err(|e| format!("{folder}: {e}"))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    if paths.len() > MAX_FILES {
        return Err(format!(
            "{} holds {} files; a list has at most {MAX_FILES}",
            args.folder.display(),
            paths.len()
        ));
    }
    paths.sort();
    let mut phones = Vec::new();
    for path in paths {
        match PhoneFile::load(&path) {
            Ok(phone) => match describe(&path, &phone, false) {
                Ok(described) => phones.push((described, phone, path)),
                // Its counters cannot be read: the others are listed all the same.
                Err(why) => anstream::eprintln!("{DIM}{why}{DIM:#}"),
            },
            // Other JSON lies in folders too.
            Err(FileError::Json { .. }) => {}
            Err(e) => anstream::eprintln!("{DIM}{}: {e}{DIM:#}", path.display()),
        }
    }
    if args.json {
        anstream::println!("{:#}", Value::from_iter(phones.into_iter().map(|(described, ..)| described)));
        return Ok(());
    }
    if phones.is_empty() {
        anstream::println!("no phones in {}; `phone issue --out FILE` makes one", args.folder.display());
        return Ok(());
    }
    anstream::println!(
        "{DIM}{:<24} {:<8} {:<7} {:<12} {:>7}  faults{DIM:#}",
        "file",
        "profile",
        "token",
        "good until",
        "counter"
    );
    for (described, phone, path) in phones {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for application in described["applications"].as_array().into_iter().flatten() {
            let [profile, token, expiry, atc] =
                ["profile", "token", "expiry", "atc"].map(|key| text(application, key));
            anstream::println!(
                "{name:<24} {profile:<8} {token:<7} {expiry:<12} {atc:>7}  {}",
                faults(&phone)
            );
        }
    }
    Ok(())
}

pub(crate) fn load(path: &Path) -> Result<PhoneFile, String> {
    PhoneFile::load(path).map_err(|e| match e {
        FileError::Io { .. } => e.to_string(),
        other => format!("{}: {other}", path.display()),
    })
}

/// What is shown of a phone, as JSON.
pub(crate) fn print_json(path: &Path, phone: &PhoneFile, reveal: bool) -> Result<(), String> {
    anstream::println!("{:#}", describe(path, phone, reveal)?);
    Ok(())
}

fn describe(path: &Path, phone: &PhoneFile, reveal: bool) -> Result<Value, String> {
    let atc = state::peek(&state_path(path)).map_err(|e| e.to_string())?;
    let applications = phone.applications.iter().zip(atc).map(|(application, atc)| {
        let card = application.card();
        let (profile, domain, flow) = match application {
            ApplicationFile::House(file) => ("house", domain(&file.domain), Value::Null),
            ApplicationFile::Rsa(file) => ("rsa", Value::Null, json!(file.flow)),
            ApplicationFile::Sm2(_) => ("sm2", Value::Null, Value::Null),
        };
        let token = if reveal {
            card.token.write_digits(&mut [0; MAX_DIGITS]).to_owned()
        } else {
            card.token.last_four().to_string()
        };
        json!({
            "profile": profile,
            "flow": flow,
            "aid": card.aid.to_string(),
            "label": card.label,
            "priority": card.priority,
            "token": token,
            "effective": date(card.effective),
            "expiry": date(card.expiry),
            "psn": card.psn,
            "domain": domain,
            "atc": atc,
        })
    });
    let faults: Vec<String> = phone.faults.iter().map(ToString::to_string).collect();
    Ok(json!({
        "file": path.to_string_lossy(),
        "applications": applications.collect::<Vec<_>>(),
        "surface": phone.surface,
        "faults": faults,
    }))
}

/// Network and operator of a domain record.
fn domain(value: &[u8]) -> Value {
    match value {
        [] => Value::Null,
        [0x01, 0x01, network @ .., high, low] if network.len() == 4 => {
            let operator = u16::from_be_bytes([*high, *low]);
            json!(format!("{} operator {operator}", network.escape_ascii()))
        }
        other => json!(wavepass_hce::hex::encode(other)),
    }
}

fn date(date: Date) -> String {
    format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
}

fn faults(phone: &PhoneFile) -> String {
    phone.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
