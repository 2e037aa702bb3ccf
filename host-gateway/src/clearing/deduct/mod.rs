//! Deduction: asks the bank for a day's charges, at most once each.
//!
//! A day's charges go through three stages, group by group in the order of tokens: attempts are numbered ([`number`]), the bank
//! answers them, and its answers are booked ([`book`]). Each stage has one group at a time, while the others have theirs, and
//! goes through it page by page, a transaction each. Ours go by token and the bank's books by e-account, so the bank is asked
//! for a group in the order of e-accounts: of millions, a page in the order of tokens would touch one here and one there. What
//! is of one e-account is asked for in the order of tokens, whatever is fast or slow. Beside other writers each stage has a turn
//! of its own (`store/shards.rs`), so that gateways that deduct the same day number no charge twice.
//!
//! An attempt's number is durable before it is sent (rule 5). Attempts that a crash or a silent bank left without an answer
//! are sent again under their own name first, and the bank replays what it answered; only a charge whose last attempt was
//! finally declined gets a new one. What of a suspended token is owed is declined here, and the bank is not asked: that is
//! decided with the attempt's number, so that neither a crash nor a change of the token's state makes it otherwise. A transaction that met another's is done again ([`again_if_met`]), and is a store's error
//! beyond that, never a decline. The database itself refuses a second open or approved attempt of a charge. A decline
//! makes a debt and puts the token on the deny list; a debt that is paid takes it off. What a day turns out cheaper is set off
//! before it is asked for ([`super::set_off`]).

mod book;
mod number;
#[cfg(test)]
mod tests;

use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use wavepass_fares::ServiceDay;

use super::{Clearing, ClearingError};
use crate::bank::{Answer, AttemptId, BankError, Completion, Decline, DeductionRequest, HoldId};
use crate::keys::TokenKey;
use crate::store::again_if_met;

pub(super) use book::without_debts_in;
use number::{Pages, State};

/// Attempts in one call of the bank, and in one transaction here.
pub(super) const PAGE: usize = 4_000;
/// Pages in a group at most. The first group has one and each has twice as many as the one before: the stages have work
/// soon, and of a small day, too.
const GROUP_PAGES: usize = 64;
/// Groups under way: one in each stage. They are what memory holds, some 50 MB each.
const GROUPS: usize = 3;

/// What to ask for.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeductOptions {
    /// Make new attempts for what the bank declined before: the scheduled recovery of debts.
    pub retry_declined: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, utoipa::ToSchema)]
pub struct DeductSummary {
    /// Attempts answered with yes.
    pub approved: u64,
    /// Attempts answered with no.
    pub declined: u64,
    /// Attempts without an answer.
    pub in_doubt: u64,
}

impl DeductSummary {
    /// Counts another day's attempts too.
    pub(crate) const fn add(&mut self, other: Self) {
        self.approved += other.approved;
        self.declined += other.declined;
        self.in_doubt += other.in_doubt;
    }
}

/// An attempt that was or will be sent.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) request: DeductionRequest,
    /// True if the ledger has it in doubt.
    pub(super) in_doubt: bool,
    /// The hold that it completes.
    pub(super) hold: Option<HoldId>,
    /// Why it is declined without the bank being asked.
    pub(super) unasked: Option<Decline>,
}

impl Attempt {
    pub(super) const fn new(request: DeductionRequest) -> Self {
        Self { request, in_doubt: false, hold: None, unasked: None }
    }
}

/// Attempts, each with what the bank answered.
type Answered = Vec<(Attempt, Answer)>;

impl Clearing {
    /// Deducts what of a closed day is sealed and not deducted. May be called again at any time, by anybody.
    pub async fn deduct_day(
        &self,
        day: ServiceDay,
        options: DeductOptions,
    ) -> Result<DeductSummary, ClearingError> {
        let mut summary = DeductSummary::default();
        // What is declined from here on has had its try.
        let declined = if options.retry_declined { self.declined(day).await? } else { Vec::new() };
        self.ask_unanswered(day, None, &mut summary).await?;
        self.set_off_day(day).await?;
        self.in_stages(Pages::of(day, State::Open), &mut summary).await?;
        self.ask_again(day, &declined, &mut summary).await?;
        Ok(summary)
    }

    /// Sends the attempts of a day, or of one token in it, that wait for an answer again, under their own names.
    pub(super) async fn ask_unanswered(
        &self,
        day: ServiceDay,
        token: Option<TokenKey>,
        summary: &mut DeductSummary,
    ) -> Result<(), ClearingError> {
        // Those in doubt first: those that get no answer now are in doubt only then, and are asked for once.
        for state in [State::InDoubt, State::Sent] {
            let pages = match token {
                Some(token) => Pages::of_token(day, state, token),
                None => Pages::of(day, state),
            };
            self.in_stages(pages, summary).await?;
        }
        Ok(())
    }

    /// Makes new attempts for charges of a day that the bank declined, each named by its last attempt. A charge that was
    /// asked for again since, or waived, is left alone.
    pub(super) async fn ask_again(
        &self,
        day: ServiceDay,
        declined: &[AttemptId],
        summary: &mut DeductSummary,
    ) -> Result<(), ClearingError> {
        for page in declined.chunks(self.deduct_page) {
            let attempts = again_if_met(|| self.number_declined(day, page)).await?;
            if !attempts.is_empty() {
                self.ask(day, attempts, summary).await?;
            }
        }
        Ok(())
    }

    /// Takes pages through the stages. A stage that fails is the end of the others, too, each after what has reached it
    /// is done; what was numbered by then and has no answer is asked for by whoever comes next.
    async fn in_stages(&self, mut pages: Pages, summary: &mut DeductSummary) -> Result<(), ClearingError> {
        let day = pages.day;
        let under_way = Semaphore::new(GROUPS);
        let (numbered, mut to_ask) = mpsc::channel(GROUPS);
        let (answered, mut to_book) = mpsc::channel(GROUPS);
        // Each owns its ends of the channels: they close when it ends, however it does.
        let number = async {
            let numbered = numbered;
            let mut size = 1;
            loop {
                let place = under_way.acquire().await.map_err(|_| ClearingError::Worker)?;
                let group = self.next_group(&mut pages, size).await?;
                if group.is_empty() || numbered.send((place, group)).await.is_err() {
                    return Ok(());
                }
                size = (size * 2).min(GROUP_PAGES);
            }
        };
        let ask = async move {
            while let Some((place, group)) = to_ask.recv().await {
                if answered.send((place, self.answers_to(group).await?)).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let book = async move {
            while let Some((_place, group)) = to_book.recv().await {
                self.record_all(day, group, summary).await?;
            }
            Ok(())
        };
        let (numbered, asked, booked) = tokio::join!(Box::pin(number), Box::pin(ask), Box::pin(book));
        numbered.and(asked).and(booked)
    }

    /// So many pages; none when there is no charge left.
    async fn next_group(&self, pages: &mut Pages, size: usize) -> Result<Vec<Attempt>, ClearingError> {
        let mut group = Vec::new();
        for _ in 0..size {
            let Some(page) = self.next_page(pages).await? else { break };
            group.extend(page);
        }
        Ok(group)
    }

    /// Books a group's answers, page by page in the order of tokens.
    async fn record_all(
        &self,
        day: ServiceDay,
        mut answered: Answered,
        summary: &mut DeductSummary,
    ) -> Result<(), ClearingError> {
        if answered.len() > self.deduct_page {
            answered = aside(move || {
                answered.sort_by_key(|(a, _)| (a.request.id.token_key, a.request.id.part));
                answered
            })
            .await?;
        }
        let mut answered = answered.into_iter().peekable();
        while answered.peek().is_some() {
            let page = answered.by_ref().take(self.deduct_page).collect();
            self.record(day, page, summary).await?;
        }
        Ok(())
    }

    /// Sends attempts and records what came back.
    pub(super) async fn ask(
        &self,
        day: ServiceDay,
        attempts: Vec<Attempt>,
        summary: &mut DeductSummary,
    ) -> Result<(), ClearingError> {
        let answered = self.answers_to(attempts).await?;
        self.record(day, answered, summary).await
    }

    /// What the bank answers to attempts, asked for in the order of e-accounts, page by page.
    async fn answers_to(&self, mut attempts: Vec<Attempt>) -> Result<Answered, ClearingError> {
        if attempts.len() > self.deduct_page {
            // Stable: those of one e-account stay as they are.
            attempts = aside(move || {
                attempts.sort_by(|a, b| a.request.account_id.cmp(&b.request.account_id));
                attempts
            })
            .await?;
        }
        let mut answered = Answered::with_capacity(attempts.len());
        let mut attempts = attempts.into_iter().peekable();
        while attempts.peek().is_some() {
            self.answers_to_page(attempts.by_ref().take(self.deduct_page), &mut answered).await?;
        }
        Ok(answered)
    }

    /// What the bank answers to a page of attempts.
    async fn answers_to_page(
        &self,
        attempts: impl Iterator<Item = Attempt> + Send,
        answered: &mut Answered,
    ) -> Result<(), ClearingError> {
        let (mut held, mut free) = (Vec::new(), Vec::new());
        for attempt in attempts {
            match attempt.unasked {
                // A token that belongs to no e-account is nobody's to ask for.
                _ if attempt.request.account_id.is_empty() => {
                    answered.push((attempt, Answer::Declined(Decline::UnknownAccount)));
                }
                Some(decline) => answered.push((attempt, Answer::Declined(decline))),
                None if attempt.hold.is_some() => held.push(attempt),
                None => free.push(attempt),
            }
        }
        if !held.is_empty() {
            let completion = |a: &Attempt| Some(Completion { hold: a.hold?, deduction: a.request.clone() });
            let completions: Vec<Completion> = held.iter().filter_map(completion).collect();
            let answers = answers(held.len(), self.bank.complete(&completions).await)?;
            answered.extend(held.into_iter().zip(answers));
        }
        if !free.is_empty() {
            let requests: Vec<DeductionRequest> = free.iter().map(|a| a.request.clone()).collect();
            let answers = answers(free.len(), self.bank.deduct(&requests).await)?;
            answered.extend(free.into_iter().zip(answers));
        }
        Ok(())
    }
}

/// Work that would keep others from the thread.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ClearingError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ClearingError::Worker)
}

/// The bank's answers to so many attempts. No answer is in doubt, never a decline.
fn answers(attempts: usize, reply: Result<Vec<Answer>, BankError>) -> Result<Vec<Answer>, ClearingError> {
    match reply {
        Ok(answers) if answers.len() == attempts => Ok(answers),
        Ok(answers) => Err(ClearingError::Answers { answers: answers.len(), requests: attempts }),
        Err(error) => {
            tracing::warn!(%error, attempts, "attempts are in doubt");
            Ok(vec![Answer::NoAnswer; attempts])
        }
    }
}
