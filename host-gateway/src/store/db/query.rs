//! Statements: what they are given, and how they are run.

use super::conn::{Conn, Pool, Side};
use super::row::{FromColumn, FromRow, Row};
use super::text::{self, Shape};
use super::value::{Column, IntoValue, One, Row as RowOf, Rows, Value};
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe};
use std::borrow::Cow;
use std::pin::Pin;

/// The most rows in one statement of SQLite: enough that its fixed cost no longer shows.
const SQLITE_ROWS: usize = 500;
/// SQLite's limit on parameters in one statement.
const SQLITE_BINDS: usize = 32_766;
/// The most rows in one statement of PostgreSQL; a few megabytes.
const POSTGRES_ROWS: usize = 16_384;
/// From how many rows on PostgreSQL is given rows to insert by `COPY`, which has more to say before the first.
const COPY_ROWS: usize = 64;

/// How many rows of so many columns go into one statement of either database.
pub const fn chunk(columns: usize) -> usize {
    let fit = SQLITE_BINDS / columns;
    if fit < SQLITE_ROWS { fit } else { SQLITE_ROWS }
}

/// A statement, written as [`text`](super::text) says.
#[must_use]
pub struct Query<'q> {
    text: Cow<'q, str>,
    given: Vec<Given<'q>>,
    kept: bool,
}

enum Given<'q> {
    Value(Value<'q>),
    Many(Rows<'q>),
}

/// A statement. Its text is the program's own; what comes from outside is bound.
pub fn query(text: &'static str) -> Query<'static> {
    Query { text: Cow::Borrowed(text), given: Vec::new(), kept: true }
}

/// A statement whose text is put together from the program's own pieces. It is not kept prepared by SQLite.
pub fn query_made(text: String) -> Query<'static> {
    Query { text: Cow::Owned(text), given: Vec::new(), kept: false }
}

/// Where a statement runs.
pub enum Target<'c> {
    /// On this connection.
    Conn(&'c mut Conn),
    /// On any.
    Pool(&'c Pool),
}

impl<'c> From<&'c mut Conn> for Target<'c> {
    fn from(conn: &'c mut Conn) -> Self {
        Self::Conn(conn)
    }
}

impl<'c> From<&'c Pool> for Target<'c> {
    fn from(pool: &'c Pool) -> Self {
        Self::Pool(pool)
    }
}

impl<'q> Query<'q> {
    /// Gives the next value.
    pub fn bind<'v, T: IntoValue<'v>>(self, value: T) -> Query<'v>
    where
        'q: 'v,
    {
        let mut given: Vec<Given<'v>> = self.given;
        given.push(Given::Value(value.into_value()));
        Query { text: self.text, given, kept: self.kept }
    }

    /// Gives the list of the next `IN ??`. At most [`chunk`]`(1)` values.
    pub fn bind_list<'v, T: IntoValue<'v>>(self, values: impl IntoIterator<Item = T>) -> Query<'v>
    where
        'q: 'v,
    {
        self.bind_rows(Rows::of(values.into_iter().map(One)))
    }

    /// Gives the rows of the next `VALUES ??`. At most [`chunk`] of them, and at least one.
    pub fn bind_rows<'v>(self, rows: Rows<'v>) -> Query<'v>
    where
        'q: 'v,
    {
        let mut given: Vec<Given<'v>> = self.given;
        given.push(Given::Many(rows));
        Query { text: self.text, given, kept: self.kept }
    }

    fn shapes(&self) -> Vec<Shape> {
        let shape = |given: &Given<'_>| match given {
            Given::Value(_) => None,
            Given::Many(rows) => Some((rows.len, rows.columns.len().max(1))),
        };
        self.given.iter().filter_map(shape).collect()
    }

    /// Runs it; gives how many rows it changed.
    pub async fn execute<'c>(self, target: impl Into<Target<'c>>) -> Result<u64, sqlx::Error> {
        match target.into() {
            Target::Conn(conn) => self.execute_on(conn).await,
            Target::Pool(pool) => self.execute_on(&mut pool.acquire().await?).await,
        }
    }

    async fn execute_on(self, conn: &mut Conn) -> Result<u64, sqlx::Error> {
        match conn.side()? {
            Side::Sqlite(conn) => Ok(self.sqlite()?.execute(conn).await?.rows_affected()),
            Side::Postgres(conn) => Ok(self.postgres()?.execute(conn).await?.rows_affected()),
        }
    }

    /// Every row.
    pub async fn fetch_all<'c>(self, target: impl Into<Target<'c>>) -> Result<Vec<Row>, sqlx::Error> {
        match target.into() {
            Target::Conn(conn) => self.fetch_all_on(conn).await,
            Target::Pool(pool) => self.fetch_all_on(&mut pool.acquire().await?).await,
        }
    }

    async fn fetch_all_on(self, conn: &mut Conn) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match conn.side()? {
            Side::Sqlite(conn) => {
                self.sqlite()?.fetch_all(conn).await?.into_iter().map(Row::Sqlite).collect()
            }
            Side::Postgres(conn) => {
                self.postgres()?.fetch_all(conn).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The first row, if there is one.
    pub async fn fetch_optional<'c>(self, target: impl Into<Target<'c>>) -> Result<Option<Row>, sqlx::Error> {
        match target.into() {
            Target::Conn(conn) => self.fetch_optional_on(conn).await,
            Target::Pool(pool) => self.fetch_optional_on(&mut pool.acquire().await?).await,
        }
    }

    async fn fetch_optional_on(self, conn: &mut Conn) -> Result<Option<Row>, sqlx::Error> {
        Ok(match conn.side()? {
            Side::Sqlite(conn) => self.sqlite()?.fetch_optional(conn).await?.map(Row::Sqlite),
            Side::Postgres(conn) => self.postgres()?.fetch_optional(conn).await?.map(Row::Postgres),
        })
    }

    /// The first row; none is an error.
    pub async fn fetch_one<'c>(self, target: impl Into<Target<'c>>) -> Result<Row, sqlx::Error> {
        self.fetch_optional(target).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// Every row, read as tuples.
    pub async fn rows<'c, T: FromRow>(self, target: impl Into<Target<'c>>) -> Result<Vec<T>, sqlx::Error> {
        self.fetch_all(target).await?.iter().map(T::from_row).collect()
    }

    /// The first row, read as a tuple; none is an error.
    pub async fn row<'c, T: FromRow>(self, target: impl Into<Target<'c>>) -> Result<T, sqlx::Error> {
        T::from_row(&self.fetch_one(target).await?)
    }

    /// The first column of every row.
    pub async fn column<'c, T>(self, target: impl Into<Target<'c>>) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> FromColumn<'r>,
    {
        self.fetch_all(target).await?.iter().map(|row| row.try_get(0)).collect()
    }

    /// The first column of the first row; no row is an error.
    pub async fn scalar<'c, T>(self, target: impl Into<Target<'c>>) -> Result<T, sqlx::Error>
    where
        T: for<'r> FromColumn<'r>,
    {
        self.fetch_one(target).await?.try_get(0)
    }

    /// The first column of the first row, if there is one.
    pub async fn optional<'c, T>(self, target: impl Into<Target<'c>>) -> Result<Option<T>, sqlx::Error>
    where
        T: for<'r> FromColumn<'r>,
    {
        self.fetch_optional(target).await?.map(|row| row.try_get(0)).transpose()
    }

    fn sqlite(self) -> Result<SqliteQuery, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for given in &self.given {
            match given {
                Given::Value(value) => add_value(&mut arguments, value),
                Given::Many(rows) => (0..rows.len)
                    .flat_map(|row| rows.columns.iter().map(move |column| (column, row)))
                    .try_for_each(|(column, row)| match column {
                        Column::Number(column) => arguments.add(column[row]),
                        Column::Text(column) => arguments.add(column[row].as_deref()),
                        Column::Bytes(column) => arguments.add(column[row].as_deref()),
                    }),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlite_query(&self.text, self.kept, &self.shapes(), arguments))
    }

    fn postgres(self) -> Result<sqlx::query::Query<'static, sqlx::Postgres, PgArguments>, sqlx::Error> {
        let text = text::for_postgres(&self.text, &self.shapes());
        let mut arguments = PgArguments::default();
        for given in &self.given {
            match given {
                Given::Value(value) => add_value(&mut arguments, value),
                Given::Many(rows) => rows.columns.iter().try_for_each(|column| match column {
                    Column::Number(column) => arguments.add(column),
                    Column::Text(column) => {
                        arguments.add(column.iter().map(Option::as_deref).collect::<Vec<_>>())
                    }
                    Column::Bytes(column) => {
                        arguments.add(column.iter().map(Option::as_deref).collect::<Vec<_>>())
                    }
                }),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(AssertSqlSafe(text), arguments))
    }
}

type SqliteQuery = sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments>;

fn sqlite_query(text: &str, kept: bool, shapes: &[Shape], arguments: SqliteArguments) -> SqliteQuery {
    // Lists of any length would crowd the statements that are kept prepared: only whole chunks are, or several.
    let kept = kept && shapes.iter().all(|&(rows, columns)| rows % chunk(columns) == 0);
    let text = text::for_sqlite(text, shapes).into_owned();
    sqlx::query_with(AssertSqlSafe(text), arguments).persistent(kept)
}

fn add_value<A>(arguments: &mut A, value: &Value<'_>) -> Result<(), BoxDynError>
where
    A: Arguments,
    for<'v> Option<i64>: sqlx::Encode<'v, A::Database> + sqlx::Type<A::Database>,
    for<'v> Option<&'v str>: sqlx::Encode<'v, A::Database> + sqlx::Type<A::Database>,
    for<'v> Option<&'v [u8]>: sqlx::Encode<'v, A::Database> + sqlx::Type<A::Database>,
{
    match value {
        Value::Number(number) => arguments.add(*number),
        Value::Text(text) => arguments.add(text.as_deref()),
        Value::Bytes(bytes) => arguments.add(bytes.as_deref()),
    }
}

/// What a statement comes to.
pub type Outcome<'c, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'c>>;

/// Runs a statement with one `VALUES ??` or `IN ??` over any number of rows, in as few statements as may be; gives how
/// many rows it changed. Many rows of a plain `INSERT` go to PostgreSQL by `COPY`.
pub fn write_many<'c, 'q: 'c, I>(conn: &'c mut Conn, text: &'static str, rows: I) -> Outcome<'c, u64>
where
    I: IntoIterator<Item: RowOf<'q>, IntoIter: Send + 'c>,
{
    let mut parts = Parts::of(conn, text, rows);
    Box::pin(async move {
        let mut changed = 0;
        let mut next = parts.next()?;
        while let Some(part) = next.take() {
            let written = async {
                match (part, conn.side()?) {
                    (Part::Sqlite(query), Side::Sqlite(conn)) => {
                        Ok(query.execute(conn).await?.rows_affected())
                    }
                    (Part::Postgres(rows), Side::Postgres(_)) => {
                        match text::copied(text).filter(|_| rows.len >= COPY_ROWS) {
                            Some(into) => conn.copy(into, &rows).await,
                            None => query(text).bind_rows(rows).execute(&mut *conn).await,
                        }
                    }
                    _ => Err(sqlx::Error::WorkerCrashed),
                }
            };
            let (written, after) = tokio::join!(written, async { parts.next() });
            changed += written?;
            next = after?;
        }
        Ok(changed)
    })
}

/// Reads with one `VALUES ??` or `IN ??` over any number of rows, in as few statements as may be.
pub fn read_many<'c, 'q: 'c, I>(conn: &'c mut Conn, text: &'static str, rows: I) -> Outcome<'c, Vec<Row>>
where
    I: IntoIterator<Item: RowOf<'q>, IntoIter: Send + 'c>,
{
    let mut parts = Parts::of(conn, text, rows);
    Box::pin(async move {
        let mut found = Vec::new();
        let mut next = parts.next()?;
        while let Some(part) = next.take() {
            let read = async {
                match (part, conn.side()?) {
                    (Part::Sqlite(query), Side::Sqlite(conn)) => Ok::<Vec<_>, sqlx::Error>(
                        query.fetch_all(conn).await?.into_iter().map(Row::Sqlite).collect(),
                    ),
                    (Part::Postgres(rows), Side::Postgres(_)) => {
                        query(text).bind_rows(rows).fetch_all(&mut *conn).await
                    }
                    _ => Err(sqlx::Error::WorkerCrashed),
                }
            };
            let (read, after) = tokio::join!(read, async { parts.next() });
            found.extend(read?);
            next = after?;
        }
        Ok(found)
    })
}

/// Rows for one text, a statement's at a time. Each statement is made while the database is at the one before.
struct Parts<I> {
    text: &'static str,
    rows: I,
    for_sqlite: bool,
}

/// The rows of one statement.
enum Part<'q> {
    Sqlite(SqliteQuery),
    Postgres(Rows<'q>),
}

impl<'q, I: Iterator<Item: RowOf<'q>>> Parts<I> {
    fn of(conn: &mut Conn, text: &'static str, rows: impl IntoIterator<IntoIter = I>) -> Self {
        // What became of a connection is told by the first statement.
        let for_sqlite = matches!(conn.side(), Ok(Side::Sqlite(_)));
        Self { text, rows: rows.into_iter(), for_sqlite }
    }

    /// The next statement's; none where there are no more rows.
    fn next(&mut self) -> Result<Option<Part<'q>>, sqlx::Error> {
        if !self.for_sqlite {
            let rows = Rows::of(self.rows.by_ref().take(POSTGRES_ROWS));
            return Ok((rows.len > 0).then_some(Part::Postgres(rows)));
        }
        let columns = <I::Item as RowOf<'q>>::COLUMNS;
        let (mut arguments, mut len, mut refused) = (SqliteArguments::default(), 0, None);
        for row in self.rows.by_ref().take(chunk(columns)) {
            row.each(|value| refused = refused.take().or_else(|| add_value(&mut arguments, &value).err()));
            len += 1;
        }
        match refused {
            Some(error) => Err(sqlx::Error::Encode(error)),
            None if len == 0 => Ok(None),
            None => Ok(Some(Part::Sqlite(sqlite_query(self.text, true, &[(len, columns)], arguments)))),
        }
    }
}
