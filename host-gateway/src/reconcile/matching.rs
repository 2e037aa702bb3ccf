//! T+1: days against the bank's statement, or a day against the clearing network's file.
//!
//! A line of theirs is held to the item of ours whose name it gives: the name has the day, and the amounts must agree. A line of
//! an earlier day is tried at once; one of the next day waits for that day's file. What is not matched is in suspense
//! until a later file, an answer of the bank or a person explains it; a break that is explained ends by itself. Of a file of
//! several days each line is held against its own, and each day stands by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;
use wavepass_fares::{Fen, ServiceDay};

use super::breaks::{Scope, cleared_in, record_in};
use super::days::{Days, DaysError, MAX_DAYS};
use super::standing::{Standing, kinds, name_of, read_in};
use super::theirs::{Form, Line, Name, Reading, Source};
use crate::api::ApiError;
use crate::clearing::ClearingError;
use crate::clearing::app::closed;
use crate::clearing::files::CollectionConfig;
use crate::cli::App;
use crate::spool::Spooled;
use crate::store::db::{Conn, query, read_many, write_many};
use crate::store::{Audit, Store, StoreError, audit_all_in, sql};
use crate::taken::{self, Mark, PAGE, Pages, TakenError};

/// What a file came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Matched {
    /// SHA-256 of the file.
    pub file: String,
    /// Its lines.
    pub file_lines: u64,
    /// Their sum.
    #[schema(value_type = i64)]
    pub file_fen: Fen,
    /// True if this very file was taken in before: its lines are not entered again, and what waits is tried again.
    pub already_taken: bool,
    /// How the day stands now.
    #[serde(flatten)]
    pub standing: Standing,
    /// Other days of which it explained something, or whose lines it brought.
    #[schema(value_type = Vec<String>)]
    pub other_days: Vec<ServiceDay>,
    /// Breaks that were opened.
    pub breaks_opened: u64,
    /// Breaks that ended by themselves, because it explains them.
    pub breaks_ended: u64,
}

/// What a file of several days came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MatchedDays {
    /// SHA-256 of the file.
    pub file: String,
    /// Its lines.
    pub file_lines: u64,
    /// Their sum.
    #[schema(value_type = i64)]
    pub file_fen: Fen,
    /// True if this very file was taken in before: its lines are not entered again, and what waits is tried again.
    pub already_taken: bool,
    /// How each of its days stands now.
    pub days: Vec<Standing>,
    /// Other days of which it explained something, or whose lines it brought.
    #[schema(value_type = Vec<String>)]
    pub other_days: Vec<ServiceDay>,
    /// Breaks that were opened.
    pub breaks_opened: u64,
    /// Breaks that ended by themselves, because it explains them.
    pub breaks_ended: u64,
}

/// Why a day is not matched.
#[derive(Debug, thiserror::Error)]
pub enum MatchError {
    /// The file.
    #[error(transparent)]
    Taken(#[from] TakenError),
    /// Clearing.
    #[error(transparent)]
    Clearing(#[from] ClearingError),
    /// They are no days of one file.
    #[error(transparent)]
    Days(#[from] DaysError),
}

impl From<sqlx::Error> for MatchError {
    fn from(error: sqlx::Error) -> Self {
        Self::Clearing(error.into())
    }
}

impl From<StoreError> for MatchError {
    fn from(error: StoreError) -> Self {
        Self::Clearing(error.into())
    }
}

impl From<MatchError> for ApiError {
    fn from(error: MatchError) -> Self {
        match error {
            MatchError::Taken(error) => error.into(),
            MatchError::Clearing(error) => error.into(),
            MatchError::Days(error) => Self::bad_request("days", error.to_string()),
        }
    }
}

/// The form of the bank's statement: of the account that collects, where one is configured.
pub fn statement(app: &App) -> Result<Form, MatchError> {
    let config = CollectionConfig::of(app)?;
    Ok(Form::Statement { account: Some(config.account).filter(|account| !account.is_empty()) })
}

/// Holds a closed day against a file.
pub async fn take(
    app: &App,
    user: &str,
    day: ServiceDay,
    form: Form,
    file: &Spooled,
) -> Result<Matched, MatchError> {
    closed(app, day).await?;
    let MatchedDays {
        file,
        file_lines,
        file_fen,
        already_taken,
        mut days,
        other_days,
        breaks_opened,
        breaks_ended,
    } = take_for(app, user, (Days::one(day), false), form, file).await?;
    let standing = days.pop().ok_or_else(|| ClearingError::damaged("how a day stands"))?;
    Ok(Matched {
        file,
        file_lines,
        file_fen,
        already_taken,
        standing,
        other_days,
        breaks_opened,
        breaks_ended,
    })
}

/// Holds several days, one after the other, against the bank's statement of all of them. Each that had taps is closed, all
/// are over, and none had a statement before.
pub async fn take_days(app: &App, user: &str, days: Days, file: &Spooled) -> Result<MatchedDays, MatchError> {
    let today = app.config.day_clock().day_of(sql::ms(app.now().map_err(ClearingError::from)?));
    if today.is_ok_and(|today| days.last() >= today) {
        return Err(ClearingError::NotClosed { day: days.last() }.into());
    }
    let open: Option<i64> = query(
        "SELECT MIN(t.service_day) FROM tapped_days AS t WHERE t.service_day BETWEEN ? AND ? \
         AND NOT EXISTS (SELECT 1 FROM batches AS b WHERE b.service_day = t.service_day)",
    )
    .bind(days.first().number())
    .bind(days.last().number())
    .scalar(app.store.pool())
    .await?;
    if let Some(Ok(day)) = open.map(ServiceDay::from_number) {
        return Err(ClearingError::NotClosed { day }.into());
    }
    take_for(app, user, (days, true), statement(app)?, file).await
}

/// Holds days against a file; where it says so, one that they have alone.
async fn take_for(
    app: &App,
    user: &str,
    (days, alone): (Days, bool),
    form: Form,
    file: &Spooled,
) -> Result<MatchedDays, MatchError> {
    let now = app.now().map_err(ClearingError::from)?;
    let source = form.source();
    let reading = Arc::new(Reading { form, days, hash: *file.hash() });
    let check = reading.clone();
    let content = taken::read(file, move |input| check.check(input)).await?;
    let entered = (source.kind(), file, content);
    let mut mark = match alone {
        true => Mark::enter_alone(&app.store, entered, (days, source.of_words()), (user, now)).await?,
        false => Mark::enter(&app.store, entered, Some(days), (user, now)).await?,
    };
    let already_taken = mark.is_done() && !mark.is_new();
    let mut matching = Matching { store: &app.store, source, days, touched: BTreeSet::new() };
    let mut pages = Pages::of(file, mark.done(), move |input, take| reading.lines(input, take))?;
    while let Some(page) = pages.next().await? {
        matching.page(&page, &mut mark).await?;
    }
    for day in days.each() {
        matching.try_again(Waiting::OfDay, day).await?;
        matching.try_again(Waiting::OfFile, day).await?;
    }
    let (standings, opened, ended) = matching.record(sql::ms(now)).await?;
    let said: Vec<(String, String)> = standings.iter().map(|standing| {
        let detail = format!(
            "{} of {} lines for {days}, file {}: suspense of the day {} fen, {opened} breaks opened, {ended} ended",
            source.word(),
            content.lines,
            &file.name()[..16],
            standing.suspense_fen.0
        );
        (standing.service_day.to_string(), detail)
    }).collect();
    let lines: Vec<Audit<'_>> = said
        .iter()
        .map(|(subject, detail)| Audit { at: now, user, action: "day.match", subject, detail })
        .collect();
    let mut tx = app.store.begin().await?;
    audit_all_in(&mut tx, &lines).await?;
    tx.commit().await?;
    Ok(MatchedDays {
        file: file.name(),
        file_lines: content.lines,
        file_fen: content.sum,
        already_taken,
        days: standings,
        other_days: matching.touched.into_iter().filter(|other| !days.contains(*other)).collect(),
        breaks_opened: opened,
        breaks_ended: ended,
    })
}

/// Lines that are tried again.
#[derive(Clone, Copy)]
enum Waiting {
    /// Those that name the day, whatever file they came in.
    OfDay,
    /// Those that came for the day and name an earlier day.
    OfFile,
}

struct Matching<'a> {
    store: &'a Store,
    source: Source,
    days: Days,
    /// Days that stand otherwise than before.
    touched: BTreeSet<ServiceDay>,
}

impl Matching<'_> {
    /// Enters a page of lines, each with what becomes of it now.
    async fn page(&mut self, page: &[Line], mark: &mut Mark) -> Result<(), MatchError> {
        let mut tx = self.store.begin().await?;
        let ours = self.ours_in(&mut tx, page.iter().filter(|line| line.is_named()).map(|l| l.name)).await?;
        let mut copies = self.copies_in(&mut tx, page).await?;
        let day_before_is_in = self.has_file_in(&mut tx, self.days.first().previous()).await?;
        let mut rows = Vec::with_capacity(page.len());
        for line in page {
            let copy = copies.entry(line.name).and_modify(|copy| *copy += 1).or_insert(0);
            let state = match *copy {
                0 => state(line, ours.get(&line.name), day_before_is_in),
                _ => "duplicate",
            };
            if matches!(state, "matched" | "amount_diff") {
                self.touch(line.name.day);
            }
            let Name { day, token_key, part, attempt } = line.name;
            let number = i64::try_from(line.number).unwrap_or(i64::MAX);
            let named = (day, token_key.to_vec(), part, attempt, *copy);
            rows.push((named, line.file_day, number, line.amount.0, state));
        }
        let source = self.source.word();
        let rows = rows.iter().map(|((day, key, part, attempt, copy), file_day, number, fen, state)| {
            (source, *day, key, *part, *attempt, *copy, *file_day, *number, *fen, *state)
        });
        let text = "INSERT INTO their_lines (source, service_day, token_key, part, attempt_no, copy, file_day, number, \
                    amount_fen, state) VALUES ??";
        write_many(&mut tx, text, rows).await?;
        mark.step_in(&mut tx, page.len()).await?;
        tx.commit().await?;
        Ok(())
    }

    fn touch(&mut self, day: i64) {
        // A name holds a day of the calendar.
        self.touched.extend(ServiceDay::from_number(day).ok());
    }

    /// Tries lines of a day again that were not matched when they came.
    async fn try_again(&mut self, waiting: Waiting, day: ServiceDay) -> Result<(), MatchError> {
        let text = match waiting {
            Waiting::OfDay => {
                "SELECT service_day, token_key, part, attempt_no, file_day, amount_fen, state FROM their_lines \
                 WHERE source = ? AND service_day = ? AND state <> 'matched' AND state <> 'duplicate' AND copy = 0 AND part > 0 \
                 AND (service_day, token_key, part, attempt_no) > (?, ?, ?, ?) \
                 ORDER BY service_day, token_key, part, attempt_no LIMIT ?"
            }
            Waiting::OfFile => {
                "SELECT service_day, token_key, part, attempt_no, file_day, amount_fen, state FROM their_lines \
                 WHERE source = ? AND file_day = ? AND state <> 'matched' AND state <> 'duplicate' AND copy = 0 AND part > 0 \
                 AND service_day < file_day AND (service_day, token_key, part, attempt_no) > (?, ?, ?, ?) \
                 ORDER BY service_day, token_key, part, attempt_no LIMIT ?"
            }
        };
        let mut after = Name { day: i64::MIN, token_key: [0; 16], part: 0, attempt: 0 };
        loop {
            let mut tx = self.store.begin().await?;
            let rows = query(text)
                .bind(self.source.word())
                .bind(day.number())
                .bind(after.day)
                .bind(&after.token_key)
                .bind(after.part)
                .bind(after.attempt)
                .bind(PAGE as i64)
                .fetch_all(&mut *tx)
                .await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = name_of(last)?;
            let names = rows.iter().map(name_of).collect::<Result<Vec<_>, _>>()?;
            let ours = self.ours_in(&mut tx, names.iter().copied()).await?;
            let own_file_is_in = matches!(waiting, Waiting::OfDay);
            let mut changed = Vec::new();
            for (row, name) in rows.iter().zip(names) {
                let (file_day, fen, was): (i64, i64, &str) =
                    (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
                let now = match ours.get(&name) {
                    Some(ours) if ours.0 == fen => "matched",
                    Some(_) => "amount_diff",
                    None if was == "cutoff_slip" && !own_file_is_in => was,
                    None => "missing_ours",
                };
                if now != was {
                    self.touch(name.day);
                    self.touch(file_day);
                    changed.push((name, now));
                }
            }
            let source = self.source.word();
            let rows = changed
                .iter()
                .map(|(name, now)| (source, name.day, &name.token_key, name.part, name.attempt, *now));
            let text = "UPDATE their_lines SET state = v.column6 FROM (VALUES ??) AS v WHERE source = v.column1 \
                        AND service_day = v.column2 AND token_key = v.column3 AND part = v.column4 \
                        AND attempt_no = v.column5 AND copy = 0";
            write_many(&mut tx, text, rows).await?;
            tx.commit().await?;
        }
    }

    /// Opens and ends the breaks of every day that may stand otherwise now; gives how the file's own days stand.
    async fn record(&mut self, now_ms: i64) -> Result<(Vec<Standing>, u64, u64), MatchError> {
        let (mut opened, mut ended) = (0, 0);
        let own = self.days;
        let gone = format!("explained by the {} of {own}", self.source.of_words());
        let mut of = async |day: ServiceDay| -> Result<Standing, MatchError> {
            let mut snapshot = self.store.pool().begin().await?;
            let (mut standing, found) = read_in(&mut snapshot, self.source, day).await?;
            drop(snapshot);
            let mut tx = self.store.begin().await?;
            let scope =
                Scope { day, kinds: kinds(self.source), subject: None, gone: &gone, kept_ended: true };
            let recorded = record_in(&mut tx, &scope, found, now_ms).await?;
            // What a person had ended and is explained now is cleared no more.
            standing.cleared_fen = cleared_in(&mut tx, day, kinds(self.source)).await?;
            tx.commit().await?;
            opened += recorded.opened;
            ended += recorded.ended;
            Ok(standing)
        };
        for day in self.touched.iter().copied().filter(|day| !own.contains(*day)) {
            // A day whose own file has not come has nothing that could be missing.
            if self.has_file(day).await? {
                of(day).await?;
            }
        }
        let mut standings = Vec::new();
        for day in own.each() {
            standings.push(of(day).await?);
        }
        Ok((standings, opened, ended))
    }

    async fn has_file(&self, day: ServiceDay) -> Result<bool, MatchError> {
        let mut conn = self.store.pool().acquire().await?;
        self.has_file_in(&mut conn, day).await
    }

    /// Whether a file of a day has been taken in.
    async fn has_file_in(&self, conn: &mut Conn, day: ServiceDay) -> Result<bool, MatchError> {
        let text = "SELECT count(*) FROM taken_files WHERE kind = ?1 AND service_day BETWEEN ?3 AND ?2 \
                    AND last_day >= ?2";
        let files: i64 = query(text)
            .bind(self.source.word())
            .bind(day.number())
            .bind(day.number() - MAX_DAYS)
            .scalar(conn)
            .await?;
        Ok(files > 0)
    }

    /// Our items of these names, and their amounts.
    async fn ours_in(
        &self,
        conn: &mut Conn,
        names: impl Iterator<Item = Name>,
    ) -> Result<HashMap<Name, Fen>, MatchError> {
        let text = match self.source {
            Source::Statement => {
                "SELECT o.service_day, o.token_key, o.part, o.attempt_no, o.amount_fen FROM (VALUES ??) AS v \
                 CROSS JOIN attempts AS o WHERE o.service_day = v.column1 AND o.token_key = v.column2 \
                 AND o.part = v.column3 AND o.attempt_no = v.column4 AND o.state = 'approved' AND o.amount_fen <> 0"
            }
            Source::Network => {
                "SELECT o.service_day, o.token_key, o.part, 0, o.amount_fen FROM (VALUES ??) AS v \
                 CROSS JOIN charges AS o WHERE o.service_day = v.column1 AND o.token_key = v.column2 \
                 AND o.part = v.column3 AND v.column4 = 0"
            }
        };
        let names: Vec<Name> = names.collect();
        let rows = names.iter().map(|name| (name.day, &name.token_key, name.part, name.attempt));
        let mut ours = HashMap::new();
        for row in read_many(conn, text, rows).await? {
            ours.insert(name_of(&row)?, Fen(row.try_get(4)?));
        }
        Ok(ours)
    }

    /// How often each name of a page is there already, counted from 0.
    async fn copies_in(&self, conn: &mut Conn, page: &[Line]) -> Result<BTreeMap<Name, u32>, MatchError> {
        let text = "SELECT l.service_day, l.token_key, l.part, l.attempt_no, l.copy FROM (VALUES ??) AS v \
                    CROSS JOIN their_lines AS l WHERE l.source = v.column1 AND l.service_day = v.column2 \
                    AND l.token_key = v.column3 AND l.part = v.column4 AND l.attempt_no = v.column5";
        let source = self.source.word();
        let rows = page.iter().map(|line| {
            let Name { day, token_key, part, attempt } = &line.name;
            (source, *day, token_key, *part, *attempt)
        });
        let mut copies = BTreeMap::new();
        for row in read_many(conn, text, rows).await? {
            let (name, copy): (Name, u32) = (name_of(&row)?, row.try_get(4)?);
            copies.entry(name).and_modify(|most: &mut u32| *most = copy.max(*most)).or_insert(copy);
        }
        Ok(copies)
    }
}

/// What becomes of the first line of its name.
fn state(line: &Line, ours: Option<&Fen>, day_before_is_in: bool) -> &'static str {
    let ahead = line.name.day - line.file_day;
    match ours {
        _ if !line.is_named() || ahead > 1 => "missing_ours",
        _ if ahead == 1 => "cutoff_slip",
        Some(ours) if *ours == line.amount => "matched",
        Some(_) => "amount_diff",
        None if ahead == -1 && !day_before_is_in => "cutoff_slip",
        None => "missing_ours",
    }
}

#[cfg(test)]
mod tests;
