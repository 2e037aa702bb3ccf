//! A bank outside the gateway, over HTTP/1.1: [`wire`](super::wire) on a socket.
//!
//! A batch is sent in pieces, several in the air at once. A piece that gets no answer is sent again under the same names, a few
//! times; then each of its attempts has no answer, whatever the bank did, and no further piece is sent. A piece that the bank
//! refuses does not hold up the others, and is asked for again in halves, so that what is refused is one request alone. Only
//! the bank's own signed word is an approval or a decline. What is of one e-account is never in the air twice ([`pieces`]).

mod pieces;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pieces::{Pieces, Places};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::wire::{
    self, Answers, Deduction, Deductions, Differences, Hold, HoldAnswers, Holds, Released, Releases,
    SharedKey, Statement,
};
use super::{
    Answer, AttemptId, BankConnector, BankError, Completion, DeductionRequest, EmbeddedBank, HoldRequest,
    Release, Reply, StatementLine,
};
use crate::answer::{self, AnswerError};
use crate::bank::embedded::{ClassLimits, Limits};
use crate::config::{Config, ConfigError};
use crate::store::Store;

/// The first wait before a piece is sent again; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Which bank stands behind the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectorKind {
    /// The bank in the gateway's own store.
    #[default]
    Embedded,
    /// A bank at a URL.
    Http,
}

/// `[bank]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BankSection {
    /// Which bank.
    pub connector: ConnectorKind,
    /// Where it is: `http://HOST:PORT`. TLS is the business of a proxy or tunnel on the way.
    pub url: String,
    /// The file of the key shared with it.
    pub key_file: PathBuf,
    /// How long one request may take, ms.
    pub timeout_ms: u64,
    /// How often a request is sent, the first time counted, before it counts as not answered.
    pub tries: u32,
    /// Requests in the air at once: what the bank is ready for.
    pub concurrency: usize,
    /// Deductions, holds or releases in one request.
    pub batch: usize,
    /// What e-accounts of class II may do at the embedded bank.
    pub class_ii: ClassLimits,
    /// And those of class III.
    pub class_iii: ClassLimits,
}

impl Default for BankSection {
    fn default() -> Self {
        let Limits { class_ii, class_iii } = Limits::default();
        Self {
            connector: ConnectorKind::Embedded,
            url: String::new(),
            key_file: PathBuf::new(),
            timeout_ms: 10_000,
            tries: 3,
            concurrency: 4,
            batch: 500,
            class_ii,
            class_iii,
        }
    }
}

impl BankSection {
    /// Reads and checks `[bank]`.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        let section: Self = config.section("bank")?;
        let wrong = |name, value: String, why: &str| ConfigError::Value { name, value, why: why.into() };
        for (name, ClassLimits { balance_fen, day_fen, year_fen }) in
            [("bank.class_ii", section.class_ii), ("bank.class_iii", section.class_iii)]
        {
            if let Some(value) =
                [balance_fen.unwrap_or(0), day_fen, year_fen].into_iter().find(|fen| *fen < 0)
            {
                return Err(wrong(name, value.to_string(), "fen, 0 or more"));
            }
        }
        if section.connector == ConnectorKind::Embedded {
            return Ok(section);
        }
        let host = section.url.strip_prefix("http://").unwrap_or_default();
        if host.is_empty() || host.contains(['/', '@', '?', '#']) {
            // An address may carry a password, and is not repeated.
            return Err(wrong("bank.url", "…".into(), "an address like http://127.0.0.1:7790"));
        }
        if section.key_file.as_os_str().is_empty() {
            return Err(wrong("bank.key_file", String::new(), "the file of the key shared with the bank"));
        }
        let within = |name, value: u64, most: u64| match (1..=most).contains(&value) {
            true => Ok(()),
            false => Err(wrong(name, value.to_string(), &format!("1 to {most}"))),
        };
        within("bank.timeout_ms", section.timeout_ms, 300_000)?;
        within("bank.tries", section.tries.into(), 10)?;
        within("bank.concurrency", section.concurrency as u64, 64)?;
        within("bank.batch", section.batch as u64, wire::MAX_ITEMS.into())?;
        Ok(section)
    }

    /// What e-accounts may do at the embedded bank.
    pub const fn limits(&self) -> Limits {
        Limits { class_ii: self.class_ii, class_iii: self.class_iii }
    }
}

/// The bank that the configuration names. Does not speak to it: a gateway works while its bank is away.
///
/// `now_ms` is the embedded bank's own time, in milliseconds since 1970-01-01 UTC.
pub fn connect(config: &Config, store: &Store, now_ms: i64) -> Result<Arc<dyn BankConnector>, BankError> {
    let in_words = |e: ConfigError| BankError(e.to_string());
    let section = BankSection::of(config).map_err(in_words)?;
    Ok(match section.connector {
        ConnectorKind::Http => Arc::new(HttpBank::new(section)?),
        ConnectorKind::Embedded => Arc::new(EmbeddedBank::new(store.clone(), section.limits())?.at(now_ms)),
    })
}

/// Where e-accounts are kept, if not in the gateway's own store.
pub fn elsewhere(config: &Config) -> Result<Option<String>, ConfigError> {
    let section = BankSection::of(config)?;
    Ok((section.connector == ConnectorKind::Http).then_some(section.url))
}

/// A bank at a URL.
#[derive(Clone)]
pub struct HttpBank {
    caller: Arc<Caller>,
    concurrency: usize,
    batch: usize,
}

/// What is needed for one request, wherever it runs.
struct Caller {
    agent: ureq::Agent,
    url: String,
    key: SharedKey,
    tries: u32,
}

/// Whether asking again may help.
#[derive(Debug)]
enum Failure {
    Passing(String),
    /// Any request would fare so.
    Final(String),
    /// The bank has no such request.
    Unknown(String),
    /// This request has no answer that can be used; another may have.
    Refused(String),
}

impl From<Failure> for BankError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Passing(why) | Failure::Final(why) | Failure::Unknown(why) | Failure::Refused(why) => {
                Self(why)
            }
        }
    }
}

/// What a bank that was made before holds is told as.
fn no_holds(told: &str) -> Failure {
    Failure::Final(format!(
        "it knows no holds ({told}): have the bank brought up to docs/bank.md, or set [authorisation] pre_authorise = \"none\""
    ))
}

impl Caller {
    /// Asks until there is an answer, at most [`BankSection::tries`] times. Blocks.
    fn call(&self, method: &'static str, target: &str, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut pause = FIRST_PAUSE;
        let mut left = self.tries;
        loop {
            left = left.saturating_sub(1);
            match self.once(method, target, body) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Passing(why)) if left > 0 => {
                    tracing::debug!(why, left, "the bank is asked again");
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                Err(Failure::Unknown(told)) if [wire::HOLDS, wire::RELEASES].contains(&target) => {
                    return Err(no_holds(&told));
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn once(&self, method: &'static str, target: &str, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let passing = |e: ureq::Error| Failure::Passing(e.to_string());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let date = now.map_err(|e| Failure::Final(e.to_string()))?.as_secs().to_string();
        let mac = self.key.request(method, target, &date, body);
        let url = format!("{}{target}", self.url);
        let sent = match method {
            "GET" => self.agent.get(&url).header(wire::DATE, &date).header(wire::MAC, &mac).call(),
            _ => {
                let request = self.agent.post(&url).header(wire::DATE, &date).header(wire::MAC, &mac);
                request.header("content-type", "application/json").send(body)
            }
        };
        let mut response = sent.map_err(passing)?;
        let status = response.status();
        let proof = response.headers().get(wire::MAC).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = answer::read(&mut response, wire::MAX_BODY as u64).map_err(|error| match error {
            // It would be as long again.
            AnswerError::TooLong { .. } => Failure::Refused(error.to_string()),
            AnswerError::Broken(error) => passing(error),
        })?;
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(Failure::Passing(format!("it answered {status}")));
        }
        if !status.is_success() {
            let told = serde_json::from_slice::<wire::Refused>(&body).map(|r| r.error).unwrap_or_default();
            let why = format!("it refused the request with {status}: {told}");
            return Err(match status.as_u16() {
                404 => Failure::Unknown(why),
                // It says so of whatever this gateway sends.
                401 | 403 => Failure::Final(why),
                _ if status.is_client_error() => Failure::Refused(why),
                _ => Failure::Final(why),
            });
        }
        if !proof.is_some_and(|proof| self.key.is_answer(&mac, &body, &proof)) {
            return Err(Failure::Final("its answer is not signed with the shared key".into()));
        }
        Ok(body)
    }
}

/// A piece's names, and the body that it is sent as.
type Written = (Vec<String>, serde_json::Result<Vec<u8>>);

/// What came of a piece: its answers, or why there are none.
type Answered<A> = Result<Vec<A>, BankError>;

/// What is asked for in pieces: where, and how a piece is sent and its answer read.
struct Question<T, A> {
    target: &'static str,
    /// What the log calls them.
    what: &'static str,
    account: fn(&T) -> &str,
    write: fn(&[&T]) -> Written,
    /// The answers to what was sent, which must name it in its order.
    read: fn(&[String], &[u8]) -> Answered<A>,
}

/// A piece that came back: which of the requests it was, what is to be sent after it, and what came.
type Piece<A> = (Places, VecDeque<Places>, Result<Vec<A>, Failure>);

/// Answers to all that was asked, as far as there are any, and why there are no more.
struct Came<A> {
    answers: Vec<Option<A>>,
    /// Why no further piece was sent.
    stopped: Option<BankError>,
    /// Why the last piece that was refused was.
    refused: Option<BankError>,
}

/// What has no answer is in doubt.
fn or_doubt(answers: Vec<Option<Answer>>) -> Vec<Answer> {
    answers.into_iter().map(|answer| answer.unwrap_or(Answer::NoAnswer)).collect()
}

const DEDUCT: Question<DeductionRequest, Answer> = Question {
    target: wire::DEDUCTIONS,
    what: "deductions",
    account: |request| &request.account_id,
    write: |piece| deductions(piece.iter().copied().map(Deduction::of)),
    read: deducted,
};

const COMPLETE: Question<Completion, Answer> = Question {
    target: wire::DEDUCTIONS,
    what: "deductions",
    account: |request| &request.deduction.account_id,
    write: |piece| deductions(piece.iter().copied().map(Deduction::completing)),
    read: deducted,
};

const HOLD: Question<HoldRequest, Answer> = Question {
    target: wire::HOLDS,
    what: "holds",
    account: |request| &request.account_id,
    write: |piece| {
        let holds: Vec<Hold> = piece.iter().copied().map(Hold::of).collect();
        (holds.iter().map(|h| h.hold.clone()).collect(), serde_json::to_vec(&Holds { holds }))
    },
    read: |sent, bytes| {
        let HoldAnswers { answers } = read(bytes)?;
        in_order(sent, answers.iter().map(|a| &a.hold))?;
        Ok(answers.iter().map(wire::HoldAnswered::answer).collect())
    },
};

const RELEASE: Question<Release, ()> = Question {
    target: wire::RELEASES,
    what: "releases",
    account: |release| &release.account_id,
    write: |piece| {
        let releases: Vec<Released> = piece.iter().copied().map(Released::of).collect();
        (releases.iter().map(|r| r.hold.clone()).collect(), serde_json::to_vec(&Releases { releases }))
    },
    read: |sent, bytes| {
        let Releases { releases } = read(bytes)?;
        in_order(sent, releases.iter().map(|r| &r.hold))?;
        Ok(vec![(); sent.len()])
    },
};

fn deductions(piece: impl Iterator<Item = Deduction>) -> Written {
    let deductions: Vec<Deduction> = piece.collect();
    (deductions.iter().map(|d| d.attempt.clone()).collect(), serde_json::to_vec(&Deductions { deductions }))
}

fn deducted(sent: &[String], bytes: &[u8]) -> Answered<Answer> {
    let Answers { answers } = read(bytes)?;
    in_order(sent, answers.iter().map(|a| &a.attempt))?;
    Ok(answers.iter().map(wire::Answered::answer).collect())
}

fn in_order<'a>(sent: &[String], answered: impl Iterator<Item = &'a String>) -> Result<(), BankError> {
    match answered.eq(sent) {
        true => Ok(()),
        false => Err(BankError("its answers are to others than were sent".into())),
    }
}

impl HttpBank {
    /// A bank as the configuration describes it; checked by [`BankSection::of`].
    pub fn new(section: BankSection) -> Result<Self, BankError> {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(section.timeout_ms)))
            .http_status_as_error(false)
            // A redirected request would carry its MAC to somebody else.
            .max_redirects(0)
            .proxy(None)
            .max_idle_connections_per_host(section.concurrency)
            .build()
            .into();
        let key = SharedKey::read(&section.key_file)?;
        let caller = Caller { agent, url: section.url, key, tries: section.tries };
        Ok(Self { caller: Arc::new(caller), concurrency: section.concurrency, batch: section.batch })
    }

    async fn ask<T, A: Copy + Send + 'static>(
        &self,
        question: Question<T, A>,
        requests: &[T],
    ) -> Result<Came<A>, BankError> {
        let Question { target, what, account, write, read } = question;
        let mut came = Came { answers: vec![None; requests.len()], stopped: None, refused: None };
        let mut air: JoinSet<Piece<A>> = JoinSet::new();
        let mut pieces = Pieces::of(requests, account, self.batch);
        loop {
            // After a piece without an answer no further one is sent: a bank that is away is not asked a thousand times.
            while came.stopped.is_none() && air.len() < self.concurrency {
                let Some((piece, after)) = pieces.next() else { break };
                let asked: Vec<&T> = pieces.order[piece.clone()].iter().map(|&i| &requests[i]).collect();
                let (sent, body) = write(&asked);
                let body = body.map_err(|e| BankError(e.to_string()))?;
                let caller = self.caller.clone();
                air.spawn_blocking(move || {
                    let answered = caller.call("POST", target, &body);
                    let unusable = |error: BankError| Failure::Refused(error.0);
                    (piece, after, answered.and_then(|bytes| read(&sent, &bytes).map_err(unusable)))
                });
            }
            let Some(back) = air.join_next().await else { break };
            match back.map_err(|e| BankError(e.to_string()))? {
                (piece, after, Ok(answers)) => {
                    for (&place, answer) in pieces.order[piece].iter().zip(answers) {
                        came.answers[place] = Some(answer);
                    }
                    pieces.go_on(after);
                }
                (piece, after, Err(Failure::Refused(why))) => {
                    if !pieces.halve(&piece, after) {
                        let (first, others) = (pieces.order[piece.start], piece.len() - 1);
                        let (names, _) = write(&[&requests[first]]);
                        let first = &names[0];
                        tracing::warn!(
                            why,
                            first,
                            others,
                            "a request for {what} is refused, and has no answer"
                        );
                    }
                    came.refused = Some(BankError(why));
                }
                (_, _, Err(failure)) => {
                    let error = BankError::from(failure);
                    tracing::warn!(%error, "a request for {what} has no answer");
                    came.stopped = Some(error);
                }
            }
        }
        Ok(came)
    }

    /// Asks for deductions; those without an answer are in doubt.
    async fn take<T>(&self, question: Question<T, Answer>, requests: &[T]) -> Result<Vec<Answer>, BankError> {
        Ok(or_doubt(self.ask(question, requests).await?.answers))
    }

    /// Asks for holds. Where none of them has an answer, the caller is told why.
    async fn hold_all(&self, requests: &[HoldRequest]) -> Result<Vec<Answer>, BankError> {
        let Came { answers, stopped, refused } = self.ask(HOLD, requests).await?;
        match stopped.or(refused) {
            Some(error) if answers.iter().all(Option::is_none) => Err(error),
            _ => Ok(or_doubt(answers)),
        }
    }

    /// Asks for releases. Where the bank was not there for any, the caller is told why.
    async fn release_all(&self, releases: &[Release]) -> Result<Vec<bool>, BankError> {
        let Came { answers, stopped, .. } = self.ask(RELEASE, releases).await?;
        match stopped {
            Some(error) if answers.iter().all(Option::is_none) => Err(error),
            _ => Ok(answers.iter().map(Option::is_some).collect()),
        }
    }

    async fn get<T: DeserializeOwned>(&self, target: String) -> Result<T, BankError> {
        let caller = self.caller.clone();
        let called = tokio::task::spawn_blocking(move || caller.call("GET", &target, &[])).await;
        read(&called.map_err(|e| BankError(e.to_string()))??)
    }

    async fn lines(
        &self,
        service_day: i32,
        after: Option<AttemptId>,
        limit: u32,
    ) -> Result<Vec<StatementLine>, BankError> {
        let (after, limit) = (after.map(wire::attempt_name).unwrap_or_default(), limit.min(wire::MAX_ITEMS));
        let target = format!("{}?service_day={service_day}&after={after}&limit={limit}", wire::STATEMENT);
        let page: Statement = self.get(target).await?;
        let lines = page.lines.iter().map(wire::Line::line).collect::<Option<_>>();
        lines.ok_or_else(|| BankError("a line of its statement names no attempt".into()))
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BankError> {
    serde_json::from_slice(bytes).map_err(|e| BankError(format!("its answer is not of its form: {e}")))
}

impl BankConnector for HttpBank {
    fn deduct<'a>(&'a self, requests: &'a [DeductionRequest]) -> Reply<'a, Vec<Answer>> {
        Box::pin(self.take(DEDUCT, requests))
    }

    fn authorise<'a>(&'a self, requests: &'a [HoldRequest]) -> Reply<'a, Vec<Answer>> {
        Box::pin(self.hold_all(requests))
    }

    fn complete<'a>(&'a self, completions: &'a [Completion]) -> Reply<'a, Vec<Answer>> {
        Box::pin(self.take(COMPLETE, completions))
    }

    fn release<'a>(&'a self, releases: &'a [Release]) -> Reply<'a, Vec<bool>> {
        Box::pin(self.release_all(releases))
    }

    fn statement(
        &self,
        service_day: i32,
        after: Option<AttemptId>,
        limit: u32,
    ) -> Reply<'_, Vec<StatementLine>> {
        Box::pin(self.lines(service_day, after, limit))
    }

    fn own_differences(&self) -> Reply<'_, Vec<String>> {
        Box::pin(async {
            let found: Differences = self.get(wire::DIFFERENCES.to_owned()).await?;
            Ok(found.differences)
        })
    }
}

#[cfg(test)]
mod tests;
