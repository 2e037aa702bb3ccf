//! `wavepass-gateway answers FILE`: the bank's answers (pain.002) to a collection that was handed out.
//!
//! Each answer goes to the attempt of its name, through the same books as an answer of the bank's connector. What is
//! answered already stays: an answer that says the same changes nothing, and one that says otherwise is a break, like
//! one to an attempt that was never made.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use wavepass_fares::{Fen, ServiceDay};
use wavepass_files::Currency;
use wavepass_files::iso20022::{Answer as Line, Outcome, Reader, Reason, Status, StatusReport};
use wavepass_protocol::time::UnixMs;

use super::deduct::Attempt;
use super::files::of_batch;
use super::{Clearing, ClearingError, DeductSummary, cli, token_key};
use crate::api::ApiError;
use crate::bank::{Answer, AttemptId, Decline, DeductionRequest};
use crate::cli::{App, CommandError, Output};
use crate::keys::TokenKey;
use crate::spool::Spooled;
use crate::store::db::{Conn, Row, query, read_many};
use crate::store::{Audit, Break, audit_in, raise_break_in, raise_breaks_again_in, raise_breaks_in};
use crate::taken::{self, Content, Kind, Mark, Pages, Take, TakenError};

/// Take in the bank's answers to a collection.
#[derive(Debug, Args)]
pub struct AnswersArgs {
    /// The bank's status report, ISO 20022 pain.002.
    file: PathBuf,
}

impl AnswersArgs {
    /// The file that is taken in.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// What a file of answers came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, utoipa::ToSchema)]
pub struct Answered {
    /// SHA-256 of the file.
    pub file: String,
    /// The collection that it answers.
    pub collection: String,
    /// Answers in it.
    pub answers: u64,
    /// True if this very file was taken in before: nothing was to be done.
    pub already_taken: bool,
    /// Attempts that are approved by it.
    pub approved: u64,
    /// Attempts that are declined by it.
    pub declined: u64,
    /// Attempts of which it says nothing final: they are in doubt.
    pub in_doubt: u64,
    /// Answers that were known.
    pub repeated: u64,
    /// Answers that say otherwise than the first. Each is a break.
    pub contradictions: u64,
    /// Answers to attempts that were never made. Each is a break.
    pub unknown: u64,
    /// Answers that repeat another amount than was asked for. Each is a break, and the attempt waits on.
    pub other_amounts: u64,
}

/// Why answers are not taken in.
#[derive(Debug, thiserror::Error)]
pub enum AnswersError {
    /// The file.
    #[error(transparent)]
    Taken(#[from] TakenError),
    /// Clearing.
    #[error(transparent)]
    Clearing(#[from] ClearingError),
}

impl From<sqlx::Error> for AnswersError {
    fn from(error: sqlx::Error) -> Self {
        Self::Clearing(error.into())
    }
}

impl From<crate::store::StoreError> for AnswersError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Clearing(error.into())
    }
}

impl From<AnswersError> for ApiError {
    fn from(error: AnswersError) -> Self {
        match error {
            AnswersError::Taken(error) => error.into(),
            AnswersError::Clearing(error) => error.into(),
        }
    }
}

/// `answers`.
pub async fn run(app: &App, user: &str, file: Option<Spooled>) -> Result<Output, CommandError> {
    cli::json(&take(app, user, &file.ok_or(TakenError::NoFile)?).await?)
}

fn open(input: BufReader<File>) -> Result<Reader<StatusReport, BufReader<File>>, TakenError> {
    Ok(Reader::new(input, Currency::CNY)?)
}

fn lines(input: BufReader<File>, take: Take<'_, Line>) -> Result<(), TakenError> {
    for line in open(input)? {
        if !take(line?) {
            break;
        }
    }
    Ok(())
}

/// Reads all of a report: its head, and what it lists.
fn check(input: BufReader<File>) -> Result<(StatusReport, Content), TakenError> {
    let mut reader = open(input)?;
    let mut content = Content::default();
    for line in reader.by_ref() {
        content.lines += 1;
        let amount = Fen(line?.amount_minor.unwrap_or(0));
        content.sum = content
            .sum
            .plus(amount)
            .map_err(|_| TakenError::Elsewhere("its amounts sum beyond 64 bits".into()))?;
    }
    Ok((reader.message().clone(), content))
}

/// Takes in a report: checks all of it, then books it page by page.
pub async fn take(app: &App, user: &str, file: &Spooled) -> Result<Answered, AnswersError> {
    let now = app.now().map_err(ClearingError::from)?;
    let (head, content) = taken::read(file, check).await?;
    let clearing = Clearing::of(app).await?;
    let asked = Collected::find(&clearing, &head).await?;
    let mut mark = Mark::enter(&clearing.store, (Kind::Answers, file, content), None, (user, now)).await?;
    let mut done = Answered {
        file: file.name(),
        collection: head.original.to_string(),
        answers: content.lines,
        already_taken: mark.is_done() && content.lines > 0,
        ..Answered::default()
    };
    if !done.already_taken {
        // Pages are booked once; a file without any is booked whole each time it comes.
        let news = content.lines > 0 || mark.is_new();
        let booking = Booking { clearing: &clearing, news, at: now };
        let mut pages = Pages::of(file, mark.done(), lines)?;
        while let Some(page) = pages.next().await? {
            booking.page(&page, &mut mark, &mut done).await?;
        }
        if content.lines == 0
            && let Some(status) = &head.status
        {
            booking.whole(&asked, status, head.reason.as_ref(), &mut done).await?;
        }
        asked.hold_against(&clearing, &head, now).await?;
        app.publish_lists().await.map_err(ClearingError::from)?;
    }
    let detail = format!(
        "{} answers to {}, file {}: approved {}, declined {}, in doubt {}, repeated {}, contradictions {}, unknown {}",
        done.answers,
        done.collection,
        &done.file[..16],
        done.approved,
        done.declined,
        done.in_doubt,
        done.repeated,
        done.contradictions,
        done.unknown
    );
    let mut tx = clearing.store.begin().await?;
    let subject = done.collection.as_str();
    audit_in(&mut tx, &Audit { at: now, user, action: "answers.take", subject, detail: &detail }).await?;
    tx.commit().await?;
    Ok(done)
}

/// A collection that was handed out.
struct Collected {
    day: ServiceDay,
    rank: i64,
    submission: u32,
    count: i64,
    sum: i64,
}

impl Collected {
    /// The collection that a report answers.
    async fn find(clearing: &Clearing, head: &StatusReport) -> Result<Self, AnswersError> {
        let unknown = || TakenError::Elsewhere(format!("{} is no collection of this house", head.original));
        let submission = head.original.submission;
        let number = i64::try_from(head.original.batch).map_err(|_| unknown())?;
        let batch: Option<(i64, i64)> = query("SELECT service_day, rank FROM batches WHERE number = ?")
            .bind(number)
            .rows(clearing.store.pool())
            .await?
            .pop();
        let (day, rank) = batch.ok_or_else(unknown)?;
        let (count, sum): (i64, i64) =
            query(of_batch!("SELECT count(*), CAST(COALESCE(SUM(a.amount_fen), 0) AS BIGINT) ", ""))
                .bind(day)
                .bind(rank)
                .bind(submission)
                .row(clearing.store.pool())
                .await?;
        if count == 0 {
            return Err(unknown().into());
        }
        let day = ServiceDay::from_number(day).map_err(|_| ClearingError::damaged("a batch's day"))?;
        Ok(Self { day, rank, submission, count, sum })
    }

    /// Raises a break where the bank read another collection than was handed out.
    async fn hold_against(
        &self,
        clearing: &Clearing,
        head: &StatusReport,
        at: UnixMs,
    ) -> Result<(), AnswersError> {
        let Some(read) = head.original_totals else { return Ok(()) };
        if i64::try_from(read.count) == Ok(self.count) && read.sum_minor == self.sum {
            return Ok(());
        }
        let subject = head.original.to_string();
        let detail = format!(
            "the bank read {} debits of {} fen, {} of {} fen were handed out",
            read.count, read.sum_minor, self.count, self.sum
        );
        let service_day = Some(self.day.number());
        let mut tx = clearing.store.begin().await?;
        let found = Break { kind: "answer_totals", subject: &subject, service_day, detail: &detail, at };
        raise_break_in(&mut tx, &found).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// What an outcome means to clearing.
fn answer_of(outcome: Outcome, reason: Option<&Reason>) -> Answer {
    match outcome {
        Outcome::Done => Answer::Approved,
        Outcome::Open => Answer::NoAnswer,
        Outcome::Refused => Answer::Declined(match reason {
            Some(Reason::UnknownAccount) => Decline::UnknownAccount,
            Some(Reason::Closed) => Decline::Closed,
            Some(Reason::Blocked) => Decline::Frozen,
            Some(Reason::InsufficientFunds) => Decline::NoFunds,
            Some(Reason::WrongAmount) => Decline::Mismatch,
            Some(Reason::LimitExceeded) => Decline::OverLimit,
            Some(Reason::Other(_)) | None => Decline::Refused,
        }),
    }
}

/// Whether an answer says otherwise than an attempt's state.
fn contradicts(state: &str, answer: Answer) -> bool {
    matches!((state, answer), ("approved", Answer::Declined(_)) | ("declined" | "reversed", Answer::Approved))
}

/// What is wrong with an answer to an attempt: the kind of break, the attempt, and what to say.
type Wrong = (&'static str, AttemptId, String);

fn contradicted(id: AttemptId, state: &str, code: &str) -> Wrong {
    ("answer_contradicts", id, format!("the attempt is {state}, and the bank answers {code}"))
}

/// An attempt as it stands.
struct Standing {
    account_id: String,
    amount: Fen,
    state: String,
}

/// Books answers.
struct Booking<'a> {
    clearing: &'a Clearing,
    /// Whether what the file says was not said by it before.
    news: bool,
    at: UnixMs,
}

impl Booking<'_> {
    /// Books a page. The attempts come first: where the page is booked again after a crash, they are known.
    async fn page(&self, page: &[Line], mark: &mut Mark, done: &mut Answered) -> Result<(), AnswersError> {
        let mut there = self.standing(page).await?;
        let mut news: BTreeMap<ServiceDay, Vec<(Attempt, Answer)>> = BTreeMap::new();
        let mut breaks = Vec::new();
        for line in page {
            let day = line.id.service_day;
            let id = named(line);
            let answer = answer_of(line.status.outcome(), line.reason.as_ref());
            let mut differs = |kind: &'static str, detail: String| breaks.push((kind, id, detail));
            let Some(attempt) = there.get_mut(&id) else {
                done.unknown += 1;
                let code = line.status.code();
                differs(
                    "answer_unknown",
                    format!("the bank answers {code} to an attempt that was never made"),
                );
                continue;
            };
            if let Some(amount) = line.amount_minor.filter(|amount| *amount != attempt.amount.0) {
                done.other_amounts += 1;
                let asked = attempt.amount.0;
                differs(
                    "answer_amount",
                    format!("{asked} fen were asked for, the bank answers for {amount} fen"),
                );
                continue;
            }
            let state = attempt.state.as_str();
            match (state, answer) {
                ("sent", _) | ("in_doubt", Answer::Approved | Answer::Declined(_)) => {
                    let request = DeductionRequest {
                        id,
                        account_id: attempt.account_id.clone(),
                        amount: attempt.amount,
                        value_ms: self.clearing.value_ms(day),
                    };
                    let in_doubt = state == "in_doubt";
                    news.entry(day)
                        .or_default()
                        .push((Attempt { in_doubt, ..Attempt::new(request) }, answer));
                    // A later answer of the same page is held against this one.
                    attempt.state = match answer {
                        Answer::Approved => "approved",
                        Answer::Declined(_) => "declined",
                        Answer::NoAnswer => "in_doubt",
                    }
                    .into();
                }
                _ if contradicts(state, answer) => {
                    done.contradictions += 1;
                    breaks.push(contradicted(id, state, line.status.code()));
                }
                _ => done.repeated += 1,
            }
        }
        self.record(news, done).await?;
        let mut tx = self.clearing.store.begin().await?;
        self.raise_in(&mut tx, &breaks).await?;
        mark.step_in(&mut tx, page.len()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Raises a break for each answer that is wrong. Where another file said the same, and a person ended the break, the bank
    /// insists, and it is open again.
    async fn raise_in(&self, conn: &mut Conn, wrong: &[Wrong]) -> Result<(), AnswersError> {
        let subject =
            |id: &AttemptId| format!("{}-{}-{}", TokenKey(id.token_key).to_hex(), id.part, id.attempt);
        let subjects: Vec<String> = wrong.iter().map(|(_, id, _)| subject(id)).collect();
        let found = wrong.iter().zip(&subjects).map(|((kind, id, detail), subject)| {
            let service_day = Some(i64::from(id.service_day));
            Break { kind, subject, service_day, detail, at: self.at }
        });
        let found: Vec<Break<'_>> = found.collect();
        match self.news {
            true => raise_breaks_again_in(conn, &found).await?,
            false => _ = raise_breaks_in(conn, &found).await?,
        }
        Ok(())
    }

    async fn record(
        &self,
        news: BTreeMap<ServiceDay, Vec<(Attempt, Answer)>>,
        done: &mut Answered,
    ) -> Result<(), AnswersError> {
        let mut summary = DeductSummary::default();
        for (day, answered) in news {
            // An attempt that is answered twice here moves twice, each time from where it stands then.
            let (first, again): (Vec<_>, Vec<_>) = first_of_each(answered);
            self.clearing.record(day, first, &mut summary).await?;
            if !again.is_empty() {
                self.clearing.record(day, again, &mut summary).await?;
            }
        }
        done.approved += summary.approved;
        done.declined += summary.declined;
        done.in_doubt += summary.in_doubt;
        Ok(())
    }

    /// The attempts that a page names, as they stand.
    async fn standing(&self, page: &[Line]) -> Result<HashMap<AttemptId, Standing>, AnswersError> {
        let text = "SELECT a.service_day, a.token_key, a.part, a.attempt_no, a.account_id, a.amount_fen, a.state \
                    FROM (VALUES ??) AS v CROSS JOIN attempts AS a WHERE a.service_day = v.column1 \
                    AND a.token_key = v.column2 AND a.part = v.column3 AND a.attempt_no = v.column4";
        let names = page.iter().map(|line| {
            let id = &line.id;
            (id.service_day.number(), &id.token_key, id.part, id.attempt)
        });
        let mut conn = self.clearing.store.pool().acquire().await?;
        let mut there = HashMap::new();
        for row in read_many(&mut conn, text, names).await? {
            let standing = Standing {
                account_id: row.try_get(4)?,
                amount: Fen(row.try_get(5)?),
                state: row.try_get(6)?,
            };
            there.insert(attempt_id(&row)?, standing);
        }
        Ok(there)
    }

    /// Books one answer to every attempt of a collection.
    async fn whole(
        &self,
        asked: &Collected,
        status: &Status,
        reason: Option<&Reason>,
        done: &mut Answered,
    ) -> Result<(), AnswersError> {
        let answer = answer_of(status.outcome(), reason);
        let mut after: (Vec<u8>, i64) = (Vec::new(), 0);
        loop {
            let rows = query(of_batch!(
                "SELECT a.service_day, a.token_key, a.part, a.attempt_no, a.account_id, a.amount_fen, a.state ",
                " AND (a.token_key, a.part) > (?, ?) ORDER BY a.token_key, a.part LIMIT ?"
            ))
            .bind(asked.day.number())
            .bind(asked.rank)
            .bind(asked.submission)
            .bind(&after.0)
            .bind(after.1)
            .bind(self.clearing.deduct_page as i64)
            .fetch_all(self.clearing.store.pool())
            .await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = (last.try_get(1)?, last.try_get(2)?);
            let (mut waiting, mut breaks) = (Vec::new(), Vec::new());
            for row in &rows {
                let in_doubt = match row.try_get::<&str>(6)? {
                    "sent" => false,
                    "in_doubt" => true,
                    state if contradicts(state, answer) => {
                        done.contradictions += 1;
                        breaks.push(contradicted(attempt_id(row)?, state, status.code()));
                        continue;
                    }
                    _ => {
                        done.repeated += 1;
                        continue;
                    }
                };
                let request = DeductionRequest {
                    id: attempt_id(row)?,
                    account_id: row.try_get(4)?,
                    amount: Fen(row.try_get(5)?),
                    value_ms: self.clearing.value_ms(asked.day),
                };
                waiting.push((Attempt { in_doubt, ..Attempt::new(request) }, answer));
            }
            self.record(BTreeMap::from([(asked.day, waiting)]), done).await?;
            if !breaks.is_empty() {
                let mut tx = self.clearing.store.begin().await?;
                self.raise_in(&mut tx, &breaks).await?;
                tx.commit().await?;
            }
        }
    }
}

type Answers = Vec<(Attempt, Answer)>;

/// The first answer to each attempt, and the others.
fn first_of_each(answered: Answers) -> (Answers, Answers) {
    let mut seen = std::collections::HashSet::new();
    answered.into_iter().partition(|(attempt, _)| seen.insert(attempt.request.id))
}

fn named(line: &Line) -> AttemptId {
    let id = &line.id;
    AttemptId {
        service_day: super::day_number(id.service_day),
        token_key: id.token_key,
        part: id.part,
        attempt: id.attempt,
    }
}

fn attempt_id(row: &Row) -> Result<AttemptId, ClearingError> {
    Ok(AttemptId {
        service_day: row.try_get(0)?,
        token_key: token_key(row.try_get(1)?)?.0,
        part: row.try_get(2)?,
        attempt: row.try_get(3)?,
    })
}

#[cfg(test)]
mod tests;
