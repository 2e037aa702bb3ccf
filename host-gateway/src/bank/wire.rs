//! What gateway and bank say to each other over a socket: the bodies, and how either knows the other's.
//!
//! docs/bank.md is the same in words. Both sides use these types, so neither can drift from the other. A message carries a MAC
//! (HMAC-SHA256 under a shared key) over its date, what is asked for, and its body; an answer's covers the request's, so that
//! the answer to one request is none to another.

use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::embedded::Class;
use super::{
    Answer, AttemptId, BankError, Completion, Decline, DeductionRequest, HoldId, HoldRequest, Release,
    StatementLine,
};
use crate::api::codec::unhex;
use crate::input::read_text;
use crate::store::sql::hex;
use wavepass_fares::Fen;

/// The header with the time of a request, in seconds since 1970-01-01 UTC.
pub const DATE: &str = "wavepass-date";
/// The header with a message's MAC, 64 hexadecimal digits.
pub const MAC: &str = "wavepass-mac";
/// How far a request's date may be from the bank's clock, seconds. Within it a replayed request gets the first answer again.
pub const MAX_SKEW_S: u64 = 300;
/// The most deductions, holds, lines or accounts in a message.
pub const MAX_ITEMS: u32 = 4_000;
/// The longest body, bytes: [`MAX_ITEMS`] of the longest items always fit. A longer one is refused by the bank, and taken for no
/// answer by the gateway.
pub const MAX_BODY: usize = 2 << 20;
/// The longest item, bytes: a deduction whose account's name is 64 characters that JSON escapes, with room.
const MAX_ITEM: usize = 512;
const _: () = assert!(MAX_ITEMS as usize * MAX_ITEM + MAX_ITEM <= MAX_BODY, "a full batch fits");

/// Where deductions are asked for.
pub const DEDUCTIONS: &str = "/v1/deductions";
/// Where holds are asked for.
pub const HOLDS: &str = "/v1/holds";
/// Where holds are ended that nothing is deducted of.
pub const RELEASES: &str = "/v1/releases";
/// Where the statement is.
pub const STATEMENT: &str = "/v1/statement";
/// Where differences in the bank's own books are told.
pub const DIFFERENCES: &str = "/v1/differences";
/// Where accounts are opened and listed.
pub const ACCOUNTS: &str = "/v1/accounts";
/// Where accounts are filled.
pub const DEPOSITS: &str = "/v1/deposits";

/// The longest key file, bytes: 64 digits and an end of line, with room.
const MAX_KEY_FILE: u64 = 256;

/// The key that gateway and bank share.
pub struct SharedKey(Zeroizing<[u8; 32]>);

impl SharedKey {
    /// Reads a file whose only line is the key: 64 hexadecimal digits.
    pub fn read(path: &Path) -> Result<Self, BankError> {
        let text = read_text(path, MAX_KEY_FILE).map(Zeroizing::new);
        let text = text.map_err(|e| BankError(format!("{}: {e}", path.display())))?;
        let bytes = unhex(text.trim()).map(Zeroizing::new);
        let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(&bytes[..]).ok()).map(Zeroizing::new);
        key.map(Self).ok_or_else(|| {
            BankError(format!("{}: the bank's key is one line of 64 hexadecimal digits", path.display()))
        })
    }

    fn mac(&self, parts: [&[u8]; 4]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0[..]).expect("HMAC takes any key");
        for part in parts {
            // Its length before each part: no two messages have the same bytes under the MAC.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }

    /// The MAC of a request: its method, its path with the query, its date and its body.
    pub fn request(&self, method: &str, target: &str, date: &str, body: &[u8]) -> String {
        let parts = [method.as_bytes(), target.as_bytes(), date.as_bytes(), body];
        hex(&self.mac(parts).finalize().into_bytes())
    }

    /// True if a request's MAC is right. Takes as long for a wrong one.
    pub fn is_request(&self, method: &str, target: &str, date: &str, body: &[u8], mac: &str) -> bool {
        let parts = [method.as_bytes(), target.as_bytes(), date.as_bytes(), body];
        unhex(mac).is_some_and(|mac| self.mac(parts).verify_slice(&mac).is_ok())
    }

    /// The MAC of the answer to the request that had this MAC.
    pub fn answer(&self, request: &str, body: &[u8]) -> String {
        hex(&self.mac([b"answer", request.as_bytes(), b"", body]).finalize().into_bytes())
    }

    /// True if an answer's MAC is right, for this request.
    pub fn is_answer(&self, request: &str, body: &[u8], mac: &str) -> bool {
        let parts = [&b"answer"[..], request.as_bytes(), b"", body];
        unhex(mac).is_some_and(|mac| self.mac(parts).verify_slice(&mac).is_ok())
    }
}

/// The name of an attempt on the wire: 56 hexadecimal digits.
pub fn attempt_name(id: AttemptId) -> String {
    hex(&id.to_bytes())
}

/// Reads [`attempt_name`]'s.
pub fn attempt_of(name: &str) -> Option<AttemptId> {
    AttemptId::from_bytes(&unhex(name)?)
}

/// The name of a hold on the wire: 40 hexadecimal digits.
pub fn hold_name(id: HoldId) -> String {
    hex(&id.to_bytes())
}

/// Reads [`hold_name`]'s.
pub fn hold_of(name: &str) -> Option<HoldId> {
    HoldId::from_bytes(&unhex(name)?)
}

/// A deduction that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deduction {
    /// The attempt.
    pub attempt: String,
    /// The e-account.
    pub account: String,
    /// What to take, fen; negative: to give back.
    pub amount_fen: i64,
    /// The value date, ms since 1970-01-01 UTC.
    pub value_ms: i64,
    /// The hold that ends with it, if any. A bank that knows no holds has none to end, and passes it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
}

impl Deduction {
    /// A request as it is sent.
    pub fn of(request: &DeductionRequest) -> Self {
        Self {
            attempt: attempt_name(request.id),
            account: request.account_id.clone(),
            amount_fen: request.amount.0,
            value_ms: request.value_ms,
            hold: None,
        }
    }

    /// One that completes a hold, as it is sent.
    pub fn completing(completion: &Completion) -> Self {
        Self { hold: Some(hold_name(completion.hold)), ..Self::of(&completion.deduction) }
    }

    /// The request as the bank takes it, and the hold that it completes; `None` where a name is none.
    pub fn request(self) -> Option<(Option<HoldId>, DeductionRequest)> {
        let hold = match &self.hold {
            Some(name) => Some(hold_of(name)?),
            None => None,
        };
        let request = DeductionRequest {
            id: attempt_of(&self.attempt)?,
            account_id: self.account,
            amount: Fen(self.amount_fen),
            value_ms: self.value_ms,
        };
        Some((hold, request))
    }
}

/// The body of a request for deductions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deductions {
    /// Each of them.
    pub deductions: Vec<Deduction>,
}

/// An answer's word.
fn word_of(answer: Answer) -> String {
    let word = match answer {
        Answer::Approved => "approved",
        Answer::Declined(decline) => decline.as_str(),
        Answer::NoAnswer => "no_answer",
    };
    word.to_owned()
}

/// What a word says. One that is not known says nothing: it is no decline.
fn answer_of(word: &str) -> Answer {
    match word {
        "approved" => Answer::Approved,
        word => Decline::parse(word).map_or(Answer::NoAnswer, Answer::Declined),
    }
}

/// The bank's answer to one deduction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The attempt.
    pub attempt: String,
    /// `approved`, `no_answer`, or the reason of the decline.
    pub answer: String,
}

impl Answered {
    /// An answer as it is sent.
    pub fn of(id: AttemptId, answer: Answer) -> Self {
        Self { attempt: attempt_name(id), answer: word_of(answer) }
    }

    /// What it says.
    pub fn answer(&self) -> Answer {
        answer_of(&self.answer)
    }
}

/// The answers to a batch, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// One for each deduction.
    pub answers: Vec<Answered>,
}

/// An amount that is to be held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The hold.
    pub hold: String,
    /// The e-account.
    pub account: String,
    /// What to hold, fen; above zero.
    pub amount_fen: i64,
    /// When it ends by itself, ms since 1970-01-01 UTC, by the bank's clock.
    pub expires_ms: i64,
}

impl Hold {
    /// A request as it is sent.
    pub fn of(request: &HoldRequest) -> Self {
        Self {
            hold: hold_name(request.id),
            account: request.account_id.clone(),
            amount_fen: request.amount.0,
            expires_ms: request.expires_ms,
        }
    }

    /// The request as the bank takes it; `None` where the hold's name is none, or there is nothing to hold.
    pub fn request(self) -> Option<HoldRequest> {
        let amount = Fen(self.amount_fen);
        let id = hold_of(&self.hold).filter(|_| amount > Fen::ZERO)?;
        Some(HoldRequest { id, account_id: self.account, amount, expires_ms: self.expires_ms })
    }
}

/// The body of a request for holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// Each of them.
    pub holds: Vec<Hold>,
}

/// The bank's answer to one hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldAnswered {
    /// The hold.
    pub hold: String,
    /// `approved`, `no_answer`, or the reason of the decline.
    pub answer: String,
}

impl HoldAnswered {
    /// An answer as it is sent.
    pub fn of(id: HoldId, answer: Answer) -> Self {
        Self { hold: hold_name(id), answer: word_of(answer) }
    }

    /// What it says.
    pub fn answer(&self) -> Answer {
        answer_of(&self.answer)
    }
}

/// The answers to a batch of holds, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldAnswers {
    /// One for each hold.
    pub answers: Vec<HoldAnswered>,
}

/// A hold that is to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The hold.
    pub hold: String,
    /// The e-account.
    pub account: String,
}

impl Released {
    /// A request as it is sent.
    pub fn of(release: &Release) -> Self {
        Self { hold: hold_name(release.hold), account: release.account_id.clone() }
    }

    /// The request as the bank takes it; `None` where the hold's name is none.
    pub fn release(&self) -> Option<Release> {
        Some(Release { hold: hold_of(&self.hold)?, account_id: self.account.clone() })
    }
}

/// Holds that are to end, and the answer once none of them holds anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Releases {
    /// Each of them.
    pub releases: Vec<Released>,
}

/// Which page of the statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementQuery {
    /// The service day, in days since 1970-01-01.
    pub service_day: i32,
    /// After this attempt; from the beginning where empty.
    #[serde(default)]
    pub after: String,
    /// At most so many lines.
    pub limit: u32,
}

/// A line of the statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The attempt.
    pub attempt: String,
    /// What was taken, fen; negative: given back.
    pub amount_fen: i64,
}

impl Line {
    /// A line as it is sent.
    pub fn of(line: &StatementLine) -> Self {
        Self { attempt: attempt_name(line.id), amount_fen: line.amount.0 }
    }

    /// The line; `None` where its attempt's name is none.
    pub fn line(&self) -> Option<StatementLine> {
        Some(StatementLine { id: attempt_of(&self.attempt)?, amount: Fen(self.amount_fen) })
    }
}

/// A page of the statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// In the order of attempts.
    pub lines: Vec<Line>,
}

/// Differences in the bank's own books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// A line of text each.
    pub differences: Vec<String>,
}

/// An account to open, or that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its name.
    pub account: String,
    /// Its class.
    pub class: Class,
    /// What it holds, fen; not given where it is to be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance_fen: Option<i64>,
    /// What of it is held and not available to others, fen; not given where it is to be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_fen: Option<i64>,
}

/// Accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// Each of them.
    pub accounts: Vec<Account>,
}

/// Money into an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filling {
    /// The account.
    pub account: String,
    /// The deposit's name: given again, it moves nothing.
    pub name: String,
    /// How much, fen.
    pub amount_fen: i64,
}

/// Money into accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deposits {
    /// Each of them.
    pub deposits: Vec<Filling>,
}

/// What was wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// In words.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_not_known_is_no_answer_and_no_decline() {
        let id = AttemptId { service_day: 20_780, token_key: [1; 16], part: 1, attempt: 1 };
        for answer in [Answer::Approved, Answer::Declined(Decline::OverLimit), Answer::NoAnswer] {
            assert_eq!(Answered::of(id, answer).answer(), answer);
        }
        let odd = Answered { attempt: attempt_name(id), answer: "maybe".into() };
        assert_eq!(odd.answer(), Answer::NoAnswer);
        assert_eq!(attempt_of(&odd.attempt), Some(id));
    }

    #[test]
    fn the_longest_items_are_as_short_as_a_full_batch_needs() {
        let id = AttemptId { service_day: -1, token_key: [255; 16], part: u32::MAX, attempt: u32::MAX };
        let (account, amount_fen) = ("\"".repeat(64), i64::MIN);
        let (attempt, value_ms) = (attempt_name(id), i64::MIN);
        let hold_id = HoldId { token_key: [255; 16], number: u32::MAX };
        let hold = hold_name(hold_id);
        let deduction = Deduction {
            attempt: attempt.clone(),
            account: account.clone(),
            amount_fen,
            value_ms,
            hold: Some(hold.clone()),
        };
        let held = Hold { hold: hold.clone(), account: account.clone(), amount_fen, expires_ms: value_ms };
        let released = Released { hold, account: account.clone() };
        let line = Line { attempt, amount_fen };
        let entry = Account {
            account: account.clone(),
            class: Class::Iii,
            balance_fen: Some(i64::MIN),
            held_fen: Some(i64::MIN),
        };
        let filling = Filling { account: account.clone(), name: account, amount_fen };
        let answered = |answer| serde_json::to_vec(&Answered::of(id, answer));
        let answers = Decline::ALL.map(Answer::Declined).map(answered).map(Result::unwrap);
        let others = [
            serde_json::to_vec(&deduction),
            serde_json::to_vec(&held),
            serde_json::to_vec(&released),
            serde_json::to_vec(&HoldAnswered::of(hold_id, Answer::Declined(Decline::ALL[0]))),
            serde_json::to_vec(&line),
            serde_json::to_vec(&entry),
            serde_json::to_vec(&filling),
        ];
        for item in answers.into_iter().chain(others.map(Result::unwrap)) {
            // And the comma.
            assert!(item.len() < MAX_ITEM, "{}", String::from_utf8_lossy(&item));
        }
    }

    #[test]
    fn a_mac_is_of_one_request_and_one_answer_alone() {
        let key = SharedKey(Zeroizing::new([7; 32]));
        let mac = key.request("POST", DEDUCTIONS, "1", b"body");
        assert!(key.is_request("POST", DEDUCTIONS, "1", b"body", &mac));
        for (method, target, date, body) in [
            ("GET", DEDUCTIONS, "1", "body"),
            ("POST", STATEMENT, "1", "body"),
            ("POST", DEDUCTIONS, "2", "body"),
            ("POST", DEDUCTIONS, "1", "bodies"),
            ("POST", DEDUCTIONS, "1b", "ody"),
        ] {
            assert!(!key.is_request(method, target, date, body.as_bytes(), &mac), "{method} {target}");
        }
        let answer = key.answer(&mac, b"yes");
        assert!(key.is_answer(&mac, b"yes", &answer));
        assert!(!key.is_answer(&mac, b"no", &answer));
        assert!(!key.is_answer("other", b"yes", &answer));
        assert!(!SharedKey(Zeroizing::new([8; 32])).is_answer(&mac, b"yes", &answer));
    }
}
