//! APDUs as people and machines read them: names of commands, tags and status words, and the values that a terminal
//! sends for a card's lists.
//!
//! Nothing that identifies a rider is shown unless it is asked for: of a token the last four digits, of certificates,
//! signatures and track data their length.

use serde_json::{Value, json};
use std::time::Duration;
use wavepass_protocol::apdu::{Command, Response, Status};
use wavepass_protocol::dol::Dol;
use wavepass_protocol::tags;
use wavepass_protocol::tlv::{self, Tag};
use wavepass_protocol::token::Token;

/// How deep templates are followed.
const MAX_DEPTH: usize = 6;
/// The most TLVs shown of one answer.
const MAX_SHOWN: usize = 64;
/// The most bytes shown of values without tags: a longer one is a signature.
const MAX_PLAIN: usize = 64;

/// The name of a tag; `None` for one that this stack does not use.
pub const fn tag_name(tag: Tag) -> Option<&'static str> {
    Some(match tag {
        tags::ADF_NAME => "application identifier",
        tags::APPLICATION_LABEL => "label",
        tags::TRACK2 => "track 2 equivalent data",
        tags::PAN => "token",
        tags::DIRECTORY_ENTRY => "directory entry",
        tags::FCI => "FCI template",
        tags::RECORD => "record",
        tags::RESPONSE_2 => "response",
        tags::AIP => "application interchange profile",
        tags::COMMAND_TEMPLATE => "command template",
        tags::DF_NAME => "DF name",
        tags::PRIORITY => "priority",
        tags::CA_INDEX => "CA key index",
        tags::ISSUER_CERTIFICATE => "issuer certificate",
        tags::ISSUER_REMAINDER => "issuer key remainder",
        tags::AFL => "application file locator",
        tags::FCI_PROPRIETARY => "FCI proprietary template",
        tags::FCI_DISCRETIONARY => "FCI discretionary data",
        tags::EXPIRY_DATE => "expiry date",
        tags::EFFECTIVE_DATE => "effective date",
        tags::ISSUER_COUNTRY => "issuer country",
        tags::PSN => "sequence number",
        tags::AUC => "usage control",
        tags::IAD => "issuer application data",
        tags::CRYPTOGRAM => "cryptogram",
        tags::CID => "cryptogram information",
        tags::KERNEL_ID => "kernel identifier",
        tags::ISSUER_EXPONENT => "issuer key exponent",
        tags::ATC => "transaction counter",
        tags::PDOL => "PDOL",
        tags::CARD_CERTIFICATE => "card certificate",
        tags::CARD_EXPONENT => "card key exponent",
        tags::CARD_REMAINDER => "card key remainder",
        tags::SDA_TAG_LIST => "signed tag list",
        tags::SDAD => "dynamic signature",
        tags::CARD_AUTHENTICATION_DATA => "card authentication data",
        tags::CTQ => "card transaction qualifiers",
        tags::CARD_SUPPORTS => "card features",
        tags::DOMAIN => "token domain",
        tags::RESPONSE_1 => "response, values only",
        tags::CDOL1 => "CDOL1",
        tags::DDOL => "DDOL",
        tags::RELAY_RESISTANCE => "can be timed",
        tags::TIMED_EXCHANGE => "timed exchange",
        tags::SM_SUPPORT => "SM algorithms",
        tags::TTQ => "terminal transaction qualifiers",
        tags::AMOUNT => "amount, authorised",
        tags::AMOUNT_OTHER => "amount, other",
        tags::TERMINAL_COUNTRY => "terminal country",
        tags::TVR => "terminal verification results",
        tags::CURRENCY => "currency",
        tags::TRANSACTION_DATE => "transaction date",
        tags::TRANSACTION_TIME => "transaction time",
        tags::TRANSACTION_TYPE => "transaction type",
        tags::UNPREDICTABLE_NUMBER => "unpredictable number",
        tags::TERMINAL_TYPE => "terminal type",
        tags::MERCHANT_NAME => "merchant name",
        _ => return None,
    })
}

/// True if a tag's value tells riders apart or is too long to be worth reading.
const fn is_hidden(tag: Tag) -> bool {
    matches!(
        tag,
        tags::TRACK2
            | tags::ISSUER_CERTIFICATE
            | tags::ISSUER_REMAINDER
            | tags::CARD_CERTIFICATE
            | tags::CARD_REMAINDER
            | tags::SDAD
    ) || tag_name(tag).is_none()
}

/// Whether what tells riders apart is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbers {
    /// Of a token the last four digits, of the rest its length.
    #[default]
    Masked,
    /// Everything, as a card's owner may see it.
    Shown,
}

/// One line for a command.
pub fn command(bytes: &[u8]) -> String {
    let Ok(command) = Command::parse(bytes) else {
        return format!("malformed command of {} bytes", bytes.len());
    };
    match (command.cla, command.ins) {
        (0x00, 0xA4) if is_number(command.data) => format!("SELECT {} bytes", command.data.len()),
        (0x00, 0xA4) => match std::str::from_utf8(command.data) {
            Ok(name) if name.is_ascii() && !name.contains(char::is_control) => format!("SELECT {name}"),
            _ => format!("SELECT {}", crate::hex::encode(command.data)),
        },
        (0x80, 0xA8) => format!("GET PROCESSING OPTIONS, {} bytes", command.data.len()),
        (0x00, 0xB2) => format!("READ RECORD {} of file {}", command.p1, command.p2 >> 3),
        (0x00, 0xC0) => "GET RESPONSE".to_owned(),
        (0x00, 0x88) => format!("INTERNAL AUTHENTICATE, {} bytes", command.data.len()),
        (0x80, 0xAE) => format!("GENERATE AC {:02X}, {} bytes", command.p1, command.data.len()),
        (0x80, 0xEA) => format!("EXCHANGE RELAY RESISTANCE DATA, {} bytes", command.data.len()),
        (0xFF, 0xCA) if command.p1 == 0 => "GET DATA: UID, of the reader".to_owned(),
        (0xFF, 0xCA) => "GET DATA: historical bytes, of the reader".to_owned(),
        (cla, ins) => format!("command {cla:02X} {ins:02X}, {} bytes", command.data.len()),
    }
}

/// True if bytes that should name an application are a card's number, packed or as text.
fn is_number(name: &[u8]) -> bool {
    Token::from_bcd(name).is_ok() || std::str::from_utf8(name).is_ok_and(|n| Token::from_digits(n).is_ok())
}

/// True if the data of a command cannot tell riders apart. `list`: the values of the card's list that it answers.
fn is_harmless(command: &Command<'_>, list: &[(Tag, &[u8])]) -> bool {
    match (command.cla, command.ins) {
        (0x00, 0xA4) => !is_number(command.data),
        (0x80, 0xEA) => true,
        _ if list.is_empty() => command.data.is_empty(),
        (_, ins) => {
            let told: usize = list.iter().map(|(_, value)| value.len()).sum();
            // Before the values for a PDOL stand tag and length; nothing may follow.
            let template = if ins == 0xA8 { 2 + usize::from(told > 0x7F) } else { 0 };
            command.data.len() == template + told
                && list.iter().all(|(tag, _)| *tag != tags::PAN && !is_hidden(*tag))
        }
    }
}

/// Lines for an answer: the status word, then the TLVs, indented by their depth.
pub fn answer(bytes: &[u8]) -> Vec<String> {
    let Ok(Response { data, status }) = Response::parse(bytes) else {
        return vec![format!("no status word, {} bytes", bytes.len())];
    };
    let mut lines = vec![format!("{:04X} {}", u16::from(status), status_name(status))];
    lines.extend(objects(data, Numbers::Masked).iter().map(Object::line));
    lines
}

/// One line of what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    /// From 1.
    depth: usize,
    tag: String,
    name: String,
    value: Option<String>,
}

impl Object {
    fn new(depth: usize, tag: Tag, value: Option<String>) -> Self {
        let name = tag_name(tag).unwrap_or("(unknown)").to_owned();
        Self { depth, tag: tag.to_string(), name, value }
    }

    /// What has no tag.
    fn untagged(depth: usize, name: impl Into<String>, value: Option<String>) -> Self {
        Self { depth, tag: String::new(), name: name.into(), value }
    }

    fn line(&self) -> String {
        let mut line = "  ".repeat(self.depth);
        if !self.tag.is_empty() {
            line.push_str(&self.tag);
            line.push(' ');
        }
        line.push_str(&self.name);
        if let Some(value) = &self.value {
            line.push_str(": ");
            line.push_str(value);
        }
        line
    }

    fn to_json(&self) -> Value {
        json!({ "depth": self.depth, "tag": self.tag, "name": self.name, "value": self.value })
    }
}

fn objects(data: &[u8], numbers: Numbers) -> Vec<Object> {
    let mut out = Vec::new();
    collect(data, 1, numbers, &mut out);
    out
}

fn collect(data: &[u8], depth: usize, numbers: Numbers, out: &mut Vec<Object>) {
    for tlv in tlv::iter(data) {
        if out.len() >= MAX_SHOWN {
            return;
        }
        match tlv {
            Ok(tlv) => {
                out.push(Object::new(depth, tlv.tag, value(tlv.tag, tlv.value, numbers)));
                if tlv.tag.is_constructed() && depth < MAX_DEPTH {
                    collect(tlv.value, depth + 1, numbers, out);
                }
            }
            Err(e) => {
                let name = format!("{} bytes that are no TLVs", data.len());
                out.push(Object::untagged(depth, name, Some(e.to_string())));
            }
        }
    }
}

fn value(tag: Tag, bytes: &[u8], numbers: Numbers) -> Option<String> {
    if tag.is_constructed() {
        return None;
    }
    let hex = || crate::hex::encode(bytes);
    Some(match (tag, numbers) {
        (tags::APPLICATION_LABEL, _) => bytes.escape_ascii().to_string(),
        (tags::CID, _) => format!("{} {}", hex(), cryptogram_name(bytes)),
        (_, Numbers::Shown) => hex(),
        (tags::PAN, _) => match Token::from_bcd(bytes) {
            Ok(token) => token.last_four().to_string(),
            Err(e) => e.to_string(),
        },
        (tags::RESPONSE_1, _) if bytes.len() <= MAX_PLAIN => hex(),
        (tags::RESPONSE_1, _) => format!("{} bytes", bytes.len()),
        (tag, _) if is_hidden(tag) => format!("{} bytes", bytes.len()),
        _ => hex(),
    })
}

const fn cryptogram_name(cid: &[u8]) -> &'static str {
    match cid {
        [cid] => match *cid >> 6 {
            0 => "AAC",
            1 => "TC",
            2 => "ARQC",
            _ => "(unknown)",
        },
        _ => "(malformed)",
    }
}

/// Follows a conversation, so that what a terminal sends for a card's lists can be told apart.
#[derive(Debug, Clone, Default)]
pub struct Follower {
    numbers: Numbers,
    pdol: Vec<u8>,
    cdol: Vec<u8>,
    ddol: Vec<u8>,
}

/// One exchange, decoded.
#[derive(Debug, Clone)]
pub struct Exchange {
    name: String,
    sent: Vec<Object>,
    status: Option<Status>,
    answered: Vec<Object>,
    command: Option<String>,
    answer: Vec<u8>,
    numbers: Numbers,
}

impl Follower {
    /// At the beginning of a conversation.
    pub fn new(numbers: Numbers) -> Self {
        Self { numbers, ..Self::default() }
    }

    /// The next exchange.
    pub fn exchange(&mut self, bytes: &[u8], answer: &[u8]) -> Exchange {
        let parsed = Command::parse(bytes).ok();
        let response = Response::parse(answer).ok();
        let data = response.map_or(&[][..], |r| r.data);
        let is_pseudo = parsed.is_some_and(|c| c.cla == 0xFF);
        let answered = match data {
            [] => Vec::new(),
            // UID and historical bytes are no TLVs.
            _ if is_pseudo => vec![Object::untagged(1, "bytes", Some(crate::hex::encode(data)))],
            _ => objects(data, self.numbers),
        };
        let list = parsed.map_or_else(Vec::new, |command| self.list(&command));
        let object = |(tag, bytes): &(Tag, &[u8])| Object::new(1, *tag, value(*tag, bytes, self.numbers));
        let shown = match (self.numbers, parsed) {
            (Numbers::Shown, _) => Some(bytes),
            (Numbers::Masked, Some(command)) if is_harmless(&command, &list) => Some(bytes),
            // Its header, and nothing of what is no command.
            (Numbers::Masked, parsed) => parsed.and_then(|_| bytes.get(..4)),
        };
        let exchange = Exchange {
            name: command(bytes),
            sent: list.iter().take(MAX_SHOWN).map(object).collect(),
            status: response.map(|r| r.status),
            answered,
            command: shown.map(crate::hex::encode),
            answer: answer.to_vec(),
            numbers: self.numbers,
        };
        self.learn(parsed.map(|c| c.ins), data);
        exchange
    }

    /// The values of the list that the command answers; none where they are not as long as the list says.
    fn list<'a>(&self, command: &Command<'a>) -> Vec<(Tag, &'a [u8])> {
        let (list, values) = match command.ins {
            0xA8 => (&self.pdol, tlv::get(command.data, tags::COMMAND_TEMPLATE).unwrap_or_default()),
            0xAE => (&self.cdol, command.data),
            0x88 => (&self.ddol, command.data),
            _ => return Vec::new(),
        };
        let Ok(dol) = Dol::parse(list) else { return Vec::new() };
        if dol.total_len() != values.len() {
            return Vec::new();
        }
        // The lengths add up to those of the values.
        let mut rest = values;
        let entries = dol.entries().map_while(|(tag, len)| {
            let value;
            (value, rest) = rest.split_at_checked(usize::from(len))?;
            Some((tag, value))
        });
        entries.collect()
    }

    /// Keeps the lists that the card gives.
    fn learn(&mut self, ins: Option<u8>, data: &[u8]) {
        let within = |path: &[Tag]| {
            path.iter().try_fold(data, |data, tag| tlv::find(data, *tag).ok().flatten()).map(<[u8]>::to_vec)
        };
        match ins {
            Some(0xA4) => {
                self.pdol = within(&[tags::FCI, tags::FCI_PROPRIETARY, tags::PDOL]).unwrap_or_default();
                self.cdol.clear();
                // What a card without a list of its own is sent.
                self.ddol = vec![0x9F, 0x37, 4];
            }
            Some(0xB2) => {
                if let Some(list) = within(&[tags::RECORD, tags::CDOL1]) {
                    self.cdol = list;
                }
                if let Some(list) = within(&[tags::RECORD, tags::DDOL]) {
                    self.ddol = list;
                }
            }
            _ => {}
        }
    }
}

impl Exchange {
    /// The command in a line.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the terminal sent for the card's list, a line each, indented.
    pub fn sent(&self) -> impl Iterator<Item = String> {
        self.sent.iter().map(Object::line)
    }

    /// The status word and what it means; `None` where there was none.
    pub fn status(&self) -> Option<String> {
        self.status.map(|status| format!("{:04X} {}", u16::from(status), status_name(status)))
    }

    /// True if the card did what it was asked.
    pub fn is_success(&self) -> bool {
        matches!(self.status, Some(Status::Success | Status::MoreData(_)))
    }

    /// What the card answered, a line each, indented by depth.
    pub fn answered(&self) -> impl Iterator<Item = String> {
        self.answered.iter().map(Object::line)
    }

    /// The exchange for machines. All bytes of the answer are in it only where numbers are shown; so are those of a
    /// command whose data may hold a number, which else is its header.
    pub fn to_json(&self, took: Duration) -> Value {
        let list = |objects: &[Object]| objects.iter().map(Object::to_json).collect::<Vec<_>>();
        let mut out = json!({
            "event": "exchange",
            "name": self.name,
            "command": self.command,
            "sent": list(&self.sent),
            "status": self.status.map(|status| format!("{:04X}", u16::from(status))),
            "meaning": self.status.map(status_name),
            "answered": list(&self.answered),
            "bytes": self.answer.len(),
            "us": u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
        if self.numbers == Numbers::Shown {
            out["answer"] = crate::hex::encode(&self.answer).into();
        }
        out
    }
}

const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Success => "success",
        Status::MoreData(_) => "more data",
        Status::SelectedFileInvalid => "application blocked",
        Status::WrongLength => "wrong length",
        Status::SecurityNotSatisfied => "security status not satisfied",
        Status::AuthenticationBlocked => "authentication blocked",
        Status::ConditionsNotSatisfied => "conditions not satisfied",
        Status::CommandNotAllowed => "not allowed: see phone",
        Status::WrongData => "wrong data",
        Status::NotSupported => "not supported",
        Status::FileNotFound => "no such application",
        Status::RecordNotFound => "no such record",
        Status::WrongParameters => "wrong parameters",
        Status::ReferencedDataNotFound => "no such data",
        Status::WrongLe(_) => "other length",
        Status::InstructionNotSupported => "unknown instruction",
        Status::ClassNotSupported => "unknown class",
        Status::NoDiagnosis => "failure",
        _ => "unknown status",
    }
}

#[cfg(test)]
mod tests;
