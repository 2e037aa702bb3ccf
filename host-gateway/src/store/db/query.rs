//! Statements: what they are given, and how they are run.

use super::conn::{Conn, Pool, Side};
use super::row::{FromColumn, FromRow, Row};
use super::text::{self, Shape};
use super::value::{Column, IntoValue, One, Rows, Value};
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

    fn sqlite(self) -> Result<sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments>, sqlx::Error> {
        let shapes = self.shapes();
        // Lists of any length would crowd the statements that are kept prepared: only whole chunks are, or several.
        let kept = self.kept && shapes.iter().all(|&(rows, columns)| rows % chunk(columns) == 0);
        let text = text::for_sqlite(&self.text, &shapes).into_owned();
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
        Ok(sqlx::query_with(AssertSqlSafe(text), arguments).persistent(kept))
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
pub fn write_many<'c, 'q: 'c, R: super::value::Row<'q>>(
    conn: &'c mut Conn,
    text: &'static str,
    rows: impl IntoIterator<Item = R>,
) -> Outcome<'c, u64> {
    let parts = parts(conn, rows);
    Box::pin(async move {
        let mut changed = 0;
        for part in parts {
            let is_many = part.len >= COPY_ROWS && matches!(conn.side()?, Side::Postgres(_));
            changed += match text::copied(text).filter(|_| is_many) {
                Some(into) => conn.copy(into, &part).await?,
                None => query(text).bind_rows(part).execute(&mut *conn).await?,
            };
        }
        Ok(changed)
    })
}

/// Reads with one `VALUES ??` or `IN ??` over any number of rows, in as few statements as may be.
pub fn read_many<'c, 'q: 'c, R: super::value::Row<'q>>(
    conn: &'c mut Conn,
    text: &'static str,
    rows: impl IntoIterator<Item = R>,
) -> Outcome<'c, Vec<Row>> {
    let parts = parts(conn, rows);
    Box::pin(async move {
        let mut found = Vec::new();
        for part in parts {
            found.extend(query(text).bind_rows(part).fetch_all(&mut *conn).await?);
        }
        Ok(found)
    })
}

/// Rows in parts of one statement each.
fn parts<'q, R: super::value::Row<'q>>(conn: &mut Conn, rows: impl IntoIterator<Item = R>) -> Vec<Rows<'q>> {
    let most = match conn.side() {
        Ok(Side::Sqlite(_)) => chunk(R::COLUMNS),
        // What became of a connection is told by the first statement.
        Ok(Side::Postgres(_)) | Err(_) => POSTGRES_ROWS,
    };
    let mut rows = rows.into_iter();
    let mut parts = Vec::new();
    loop {
        let part = Rows::of(rows.by_ref().take(most));
        if part.len == 0 {
            return parts;
        }
        parts.push(part);
    }
}
