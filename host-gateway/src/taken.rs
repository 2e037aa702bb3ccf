//! Files of other houses that were taken in: each named by the hash of its content, and how far it is booked.
//!
//! A file is read twice. First all of it, so that nothing is done of one that is damaged; then page by page, each page
//! booked in one transaction that also moves the file's mark. A file that was cut short goes on there, and one that
//! was taken in before changes nothing.

use std::fs::File;
use std::io::{self, BufReader};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wavepass_fares::{Fen, ServiceDay};
use wavepass_files::FileError;
use wavepass_protocol::time::UnixMs;

use crate::api::ApiError;
use crate::reconcile::days::{Days, MAX_DAYS};
use crate::spool::{SpoolError, Spooled};
use crate::store::db::{Conn, query};
use crate::store::{Store, StoreError, sql};

/// Lines that are booked in one transaction.
pub const PAGE: usize = 4_000;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The bank's answers.
    Answers,
    /// The bank's statement.
    Statement,
    /// The network's file.
    Network,
}

impl Kind {
    /// The word of the store.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Statement => "statement",
            Self::Network => "network",
        }
    }
}

/// Why a file is not taken in. Nothing is done of a file that is damaged.
#[derive(Debug, thiserror::Error)]
pub enum TakenError {
    /// It is damaged, or of another kind.
    #[error("the file is not taken in, and nothing is done: {0}")]
    File(#[from] FileError),
    /// It is whole, and not for here.
    #[error("the file is not taken in, and nothing is done: {0}")]
    Elsewhere(String),
    /// It was taken in for other days.
    #[error("this very file was taken in for service day {days}")]
    ForDay {
        /// Which.
        days: Days,
    },
    /// A file of several days is for days that have none.
    #[error(
        "nothing is done: service day {day} has a {of_words} already, and a file of several days is taken in for days without one"
    )]
    HasFile {
        /// The first such day.
        day: ServiceDay,
        /// Whose file.
        of_words: &'static str,
    },
    /// Somebody takes in the same file at this moment.
    #[error("this very file is being taken in by somebody else")]
    Busy,
    /// The command came without its file.
    #[error("no file was sent with the command")]
    NoFile,
    /// The file cannot be kept or read.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The thread that reads the file died.
    #[error("the thread that reads the file died")]
    Worker,
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for TakenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<io::Error> for TakenError {
    fn from(error: io::Error) -> Self {
        Self::Spool(error.into())
    }
}

impl From<SpoolError> for ApiError {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::TooLarge => Self::bad_request("file_too_large", error.to_string()),
            SpoolError::TooMany => Self::conflict("files_waiting", error.to_string()),
            SpoolError::Unknown => Self::not_found("no_file", error.to_string()),
            error => Self::internal(&error),
        }
    }
}

impl From<TakenError> for ApiError {
    fn from(error: TakenError) -> Self {
        match error {
            TakenError::File(_) => Self::bad_request("file_damaged", error.to_string()),
            TakenError::Elsewhere(_) => Self::bad_request("file_elsewhere", error.to_string()),
            TakenError::ForDay { .. } | TakenError::HasFile { .. } => {
                Self::conflict("file_taken", error.to_string())
            }
            TakenError::Busy => Self::conflict("busy", error.to_string()),
            TakenError::NoFile => Self::bad_request("no_file", error.to_string()),
            TakenError::Spool(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}

/// What a file has, as its check found it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// Lines.
    pub lines: u64,
    /// Their sum.
    pub sum: Fen,
}

/// How far a file is booked.
#[derive(Debug)]
pub struct Mark {
    kind: Kind,
    hash: [u8; 32],
    done: u64,
    lines: u64,
    new: bool,
}

impl Mark {
    /// Enters a file, or finds how far it has come.
    pub async fn enter(
        store: &Store,
        entered: (Kind, &Spooled, Content),
        days: Option<Days>,
        by: (&str, UnixMs),
    ) -> Result<Self, TakenError> {
        let mut tx = store.begin().await?;
        let mark = Self::enter_in(&mut tx, entered, days, by).await?;
        tx.commit().await?;
        Ok(mark)
    }

    /// The same for days of which there is no other file. `of_words` says whose they are.
    pub async fn enter_alone(
        store: &Store,
        entered: (Kind, &Spooled, Content),
        (days, of_words): (Days, &'static str),
        by: (&str, UnixMs),
    ) -> Result<Self, TakenError> {
        let (kind, file, _) = entered;
        let mut tx = store.begin().await?;
        let other: Option<i64> = query(
            "SELECT MIN(CASE WHEN service_day > ?2 THEN service_day ELSE ?2 END) FROM taken_files WHERE kind = ?1 \
             AND service_day BETWEEN ?4 AND ?3 AND last_day >= ?2 AND hash <> ?5",
        )
        .bind(kind.word())
        .bind(days.first().number())
        .bind(days.last().number())
        .bind(days.first().number() - MAX_DAYS)
        .bind(file.hash())
        .scalar(&mut *tx)
        .await?;
        if let Some(Ok(day)) = other.map(ServiceDay::from_number) {
            return Err(TakenError::HasFile { day, of_words });
        }
        let mark = Self::enter_in(&mut tx, entered, Some(days), by).await?;
        tx.commit().await?;
        Ok(mark)
    }

    async fn enter_in(
        conn: &mut Conn,
        (kind, file, content): (Kind, &Spooled, Content),
        days: Option<Days>,
        (user, at): (&str, UnixMs),
    ) -> Result<Self, TakenError> {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let entered = query(
            "INSERT INTO taken_files (kind, hash, service_day, last_day, bytes, lines, sum_fen, done, taken_ms, by) \
             VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(kind.word())
        .bind(file.hash())
        .bind(days.map(|days| days.first().number()))
        .bind(days.map(|days| days.last().number()))
        .bind(number(file.bytes()))
        .bind(number(content.lines))
        .bind(content.sum.0)
        .bind(sql::ms(at))
        .bind(user)
        .execute(&mut *conn)
        .await?;
        let (first, last, done): (Option<i64>, Option<i64>, i64) =
            query("SELECT service_day, last_day, done FROM taken_files WHERE kind = ? AND hash = ?")
                .bind(kind.word())
                .bind(file.hash())
                .row(conn)
                .await?;
        match first.zip(last).map(stored_days) {
            Some(Some(other)) if Some(other) != days => return Err(TakenError::ForDay { days: other }),
            _ => {}
        }
        let new = entered > 0;
        Ok(Self { kind, hash: *file.hash(), done: done.unsigned_abs(), lines: content.lines, new })
    }

    /// Whether the file has come for the first time.
    pub const fn is_new(&self) -> bool {
        self.new
    }

    /// Whether all of it is booked.
    pub const fn is_done(&self) -> bool {
        self.done >= self.lines
    }

    /// Lines that are booked.
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// Moves the mark by a page, in the transaction that books it.
    pub async fn step_in(&mut self, conn: &mut Conn, lines: usize) -> Result<(), TakenError> {
        let next = self.done + lines as u64;
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let moved = query("UPDATE taken_files SET done = ? WHERE kind = ? AND hash = ? AND done = ?")
            .bind(number(next))
            .bind(self.kind.word())
            .bind(&self.hash)
            .bind(number(self.done))
            .execute(conn)
            .await?;
        if moved != 1 {
            return Err(TakenError::Busy);
        }
        self.done = next;
        Ok(())
    }
}

fn stored_days((first, last): (i64, i64)) -> Option<Days> {
    Days::new(ServiceDay::from_number(first).ok()?, ServiceDay::from_number(last).ok()?).ok()
}

/// What takes the next line; false: no more are wanted.
pub type Take<'a, T> = &'a mut dyn FnMut(T) -> bool;

/// Runs a reader over a file on a thread of its own.
pub async fn read<T: Send + 'static>(
    file: &Spooled,
    read: impl FnOnce(BufReader<File>) -> Result<T, TakenError> + Send + 'static,
) -> Result<T, TakenError> {
    let input = file.open()?;
    tokio::task::spawn_blocking(move || read(input)).await.map_err(|_| TakenError::Worker)?
}

/// The lines of a file, page by page, read on a thread of its own that is at most two pages ahead.
pub struct Pages<T> {
    pages: mpsc::Receiver<Vec<T>>,
    reader: Option<JoinHandle<Result<(), TakenError>>>,
}

impl<T: Send + 'static> Pages<T> {
    /// Begins to read, after so many lines.
    pub fn of(
        file: &Spooled,
        after: u64,
        read: impl FnOnce(BufReader<File>, Take<'_, T>) -> Result<(), TakenError> + Send + 'static,
    ) -> Result<Self, TakenError> {
        let input = file.open()?;
        let (sender, pages) = mpsc::channel(2);
        let reader = tokio::task::spawn_blocking(move || {
            let (mut page, mut skip) = (Vec::with_capacity(PAGE), after);
            read(input, &mut |line| {
                if skip > 0 {
                    skip -= 1;
                    return true;
                }
                page.push(line);
                page.len() < PAGE || sender.blocking_send(std::mem::take(&mut page)).is_ok()
            })?;
            // Where nobody takes it any more, it is not wanted.
            let _ = if page.is_empty() { Ok(()) } else { sender.blocking_send(page) };
            Ok(())
        });
        Ok(Self { pages, reader: Some(reader) })
    }

    /// The next page; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, TakenError> {
        if let Some(page) = self.pages.recv().await {
            return Ok(Some(page));
        }
        match self.reader.take() {
            Some(reader) => reader.await.map_err(|_| TakenError::Worker)?.map(|()| None),
            None => Ok(None),
        }
    }
}
