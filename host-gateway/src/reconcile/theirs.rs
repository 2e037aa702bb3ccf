//! Files that are held against ours at T+1: the bank's statement, and the clearing network's file. All of them become
//! lines that give a name of ours, an amount, and nothing else.

use std::fs::File;
use std::io::BufReader;

use jiff::civil::Date;
use sha2::{Digest, Sha256};
use wavepass_fares::{Fen, ServiceDay};
use wavepass_files::fixed::charges::{self, AMOUNT, DAY, NAME};
use wavepass_files::fixed::{self, Layout, LayoutError, Value};
use wavepass_files::iso20022::{Reader, Statement};
use wavepass_files::{AttemptId, Currency, table};

use super::days::Days;
use crate::taken::{Content, Kind, Take, TakenError};

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The bank's statement: what it debited and credited, by attempt.
    Statement,
    /// The clearing network's file: charges.
    Network,
}

impl Source {
    /// The word of the store.
    pub const fn word(self) -> &'static str {
        self.kind().word()
    }

    /// What a person calls its file.
    pub const fn of_words(self) -> &'static str {
        match self {
            Self::Statement => "bank's statement",
            Self::Network => "network's file",
        }
    }

    /// What its files are.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Statement => Kind::Statement,
            Self::Network => Kind::Network,
        }
    }
}

/// The form of a file.
#[derive(Debug, Clone)]
pub enum Form {
    /// camt.053; where the account is known, of this account.
    Statement {
        /// The account.
        account: Option<String>,
    },
    /// The `charges` CSV of the house.
    Charges,
    /// Records of fixed width.
    Fixed(Box<Layout>),
}

impl Form {
    /// A layout that has what a line is made of.
    pub fn fixed(text: &str) -> Result<Self, TakenError> {
        let elsewhere = |why: LayoutError| TakenError::Elsewhere(format!("the layout: {why}"));
        let layout = Layout::parse(text).map_err(elsewhere)?;
        charges::check(&layout).map_err(elsewhere)?;
        Ok(Self::Fixed(Box::new(layout)))
    }

    /// Whose files have this form.
    pub const fn source(&self) -> Source {
        match self {
            Self::Statement { .. } => Source::Statement,
            Self::Charges | Self::Fixed(_) => Source::Network,
        }
    }
}

/// The name that a line gives, in the order of the store. A line that gives none of ours has part 0, which no charge has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The service day, in days since 1970-01-01.
    pub day: i64,
    /// The token's key, or a hash of the line's place.
    pub token_key: [u8; 16],
    /// The part of the day's charge.
    pub part: u32,
    /// The attempt; 0 for the charge as a whole.
    pub attempt: u32,
}

/// A line of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Its name.
    pub name: Name,
    /// Its place in the file, from 1.
    pub number: u64,
    /// What moved, above zero to us.
    pub amount: Fen,
    /// The day that it is held against, in days since 1970-01-01: of the file's days the one that its name gives, or the
    /// nearest to it; where it gives none, the one before the bank booked it.
    pub file_day: i64,
}

impl Line {
    /// Whether it gives a name of ours.
    pub const fn is_named(&self) -> bool {
        self.name.part > 0
    }
}

/// How a file is read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Its form.
    pub form: Form,
    /// The days whose file it is.
    pub days: Days,
    /// Its hash.
    pub hash: [u8; 32],
}

impl Reading {
    /// Reads all of it.
    pub fn check(&self, input: BufReader<File>) -> Result<Content, TakenError> {
        let mut content = Content::default();
        let mut overflow = false;
        self.lines(input, &mut |line| {
            content.lines += 1;
            match content.sum.plus(line.amount) {
                Ok(sum) => content.sum = sum,
                Err(_) => overflow = true,
            }
            !overflow
        })?;
        match overflow {
            true => Err(TakenError::Elsewhere("its amounts sum beyond 64 bits".into())),
            false => Ok(content),
        }
    }

    /// Gives its lines one by one. Only a file that was read to its end has been checked.
    pub fn lines(&self, input: BufReader<File>, take: Take<'_, Line>) -> Result<(), TakenError> {
        let mut number = 0;
        let mut next = |name: Option<Name>, amount: Fen, booked: Option<Date>| {
            number += 1;
            let day = name.map(|name| name.day).or_else(|| Some(service_day_of(booked?)?.number()));
            let file_day = day.map_or(self.days.first().number(), |day| self.days.nearest(day));
            let name = name.unwrap_or_else(|| self.unnamed(number, file_day));
            take(Line { name, number, amount, file_day })
        };
        match &self.form {
            Form::Statement { account } => {
                let reader: Reader<Statement, _> = Reader::new(input, Currency::CNY)?;
                if account.as_ref().is_some_and(|account| *account != reader.message().account) {
                    let why = "it is the statement of another account than [collection] of the configuration";
                    return Err(TakenError::Elsewhere(why.into()));
                }
                for entry in reader {
                    let entry = entry?;
                    let booked = Some(entry.booked);
                    if entry.details.is_empty() && !next(None, Fen(entry.amount_minor), booked) {
                        return Ok(());
                    }
                    for detail in &entry.details {
                        let id = detail.end_to_end_id.as_deref().and_then(|id| AttemptId::parse(id).ok());
                        if !next(id.map(attempt), Fen(detail.amount_minor), booked) {
                            return Ok(());
                        }
                    }
                }
            }
            Form::Charges => {
                let reader: table::Reader<table::Charge, _> = table::Reader::new(input)?;
                let day = reader.head().service_day;
                if Days::one(day) != self.days {
                    return Err(TakenError::Elsewhere(format!("it is the file of service day {day}")));
                }
                for charge in reader {
                    let charge = charge?;
                    let (token_key, part) = (charge.token_key, charge.part);
                    let name = Name { day: day.number(), token_key, part, attempt: 0 };
                    if !next(Some(name), charge.amount, None) {
                        return Ok(());
                    }
                }
            }
            Form::Fixed(layout) => {
                for record in fixed::Reader::new(input, layout) {
                    let values = record?.values;
                    let (Some(Value::Text(name)), Some(Value::Amount(amount))) =
                        (values.get(NAME), values.get(AMOUNT))
                    else {
                        continue;
                    };
                    let name = AttemptId::parse(name).ok().map(|id| Name { attempt: 0, ..attempt(id) });
                    // A day that is neither the charge's nor the next is not the day of this charge.
                    let dated = |name: &Name| match values.get(DAY) {
                        Some(Value::Date(date)) => ServiceDay::from_date(date.date())
                            .is_ok_and(|day| (0..=1).contains(&(day.number() - name.day))),
                        _ => true,
                    };
                    if !next(name.filter(dated), Fen(*amount), None) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The name of a line that gives none of ours: what it says may be a rider's, and is not kept.
    fn unnamed(&self, number: u64, day: i64) -> Name {
        let hash = Sha256::new().chain_update(self.hash).chain_update(number.to_be_bytes()).finalize();
        let mut token_key = [0; 16];
        token_key.copy_from_slice(&hash[..16]);
        Name { day, token_key, part: 0, attempt: 0 }
    }
}

/// The service day that a bank books on a date: the one before.
fn service_day_of(booked: Date) -> Option<ServiceDay> {
    ServiceDay::from_date(booked).ok().map(ServiceDay::previous)
}

fn attempt(id: AttemptId) -> Name {
    Name { day: id.service_day.number(), token_key: id.token_key, part: id.part, attempt: id.attempt }
}
