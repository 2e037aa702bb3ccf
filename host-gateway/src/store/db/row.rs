//! What a statement gives: rows whose columns are read and checked one by one.

use sqlx::postgres::{PgRow, Postgres};
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{ColumnIndex, Decode, Type, TypeInfo, ValueRef};
use std::fmt::Display;

/// A row.
#[derive(Debug)]
pub enum Row {
    /// Of SQLite.
    Sqlite(SqliteRow),
    /// Of PostgreSQL.
    Postgres(PgRow),
}

/// Which column: its place from 0, or its name.
pub trait At: Copy + Display + ColumnIndex<SqliteRow> + ColumnIndex<PgRow> {}

impl<T: Copy + Display + ColumnIndex<SqliteRow> + ColumnIndex<PgRow>> At for T {}

impl Row {
    /// One column. A value of another kind, out of range, or NULL where none is expected, is an error that names the column.
    pub fn try_get<'r, T: FromColumn<'r>>(&'r self, index: impl At) -> Result<T, sqlx::Error> {
        T::from_column(self, index)
    }

    fn get<'r, T>(&'r self, index: impl At) -> Result<Option<T>, sqlx::Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => sqlx::Row::try_get(row, index),
            Self::Postgres(row) => sqlx::Row::try_get(row, index),
        }
    }

    /// A whole number of whatever width the column has; a truth is 0 or 1.
    fn number(&self, index: impl At) -> Result<Option<i64>, sqlx::Error> {
        let row = match self {
            Self::Sqlite(row) => return sqlx::Row::try_get(row, index),
            Self::Postgres(row) => row,
        };
        let raw = sqlx::Row::try_get_raw(row, index)?;
        if raw.is_null() {
            return Ok(None);
        }
        let kind = raw.type_info();
        let is = |known: sqlx::postgres::PgTypeInfo| *kind == known;
        let number = if is(<i64 as Type<Postgres>>::type_info()) {
            <i64 as Decode<Postgres>>::decode(raw)
        } else if is(<i16 as Type<Postgres>>::type_info()) {
            <i16 as Decode<Postgres>>::decode(raw).map(i64::from)
        } else if is(<i32 as Type<Postgres>>::type_info()) {
            <i32 as Decode<Postgres>>::decode(raw).map(i64::from)
        } else if is(<bool as Type<Postgres>>::type_info()) {
            <bool as Decode<Postgres>>::decode(raw).map(i64::from)
        } else if kind.name() == "NUMERIC" {
            raw.as_bytes().and_then(numeric)
        } else {
            Err(format!("a whole number is expected, not {}", kind.name()).into())
        };
        number.map(Some).map_err(|e| decode_error(index, e))
    }
}

fn decode_error(index: impl At, source: sqlx::error::BoxDynError) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: format!("{index}"), source }
}

/// A whole number in PostgreSQL's binary NUMERIC, which sums of 64-bit columns are: digits to the base 10,000, the
/// first of which has the given weight.
fn numeric(bytes: &[u8]) -> Result<i64, sqlx::error::BoxDynError> {
    const POSITIVE: u16 = 0;
    const NEGATIVE: u16 = 0x4000;
    let words: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let [_, weight, sign @ (POSITIVE | NEGATIVE), _, digits @ ..] = words.as_slice() else {
        return Err("a NUMERIC that is no number".into());
    };
    let places = i64::from(*weight as i16) + 1;
    if usize::try_from(places).map_or(!digits.is_empty(), |places| digits.len() > places) {
        return Err("a NUMERIC with a fraction where a whole number is expected".into());
    }
    let sign = if *sign == NEGATIVE { -1 } else { 1 };
    let mut number: i64 = 0;
    for place in 0..usize::try_from(places).unwrap_or(0) {
        let digit = sign * i64::from(digits.get(place).copied().unwrap_or(0));
        let next = number.checked_mul(10_000).and_then(|number| number.checked_add(digit));
        number = next.ok_or("a sum beyond 64 bits")?;
    }
    Ok(number)
}

/// What a column can be read as.
pub trait FromColumn<'r>: Sized {
    /// Reads it, or says that it is NULL.
    fn from_nullable(row: &'r Row, index: impl At) -> Result<Option<Self>, sqlx::Error>;

    /// Reads it.
    fn from_column(row: &'r Row, index: impl At) -> Result<Self, sqlx::Error> {
        Self::from_nullable(row, index)?
            .ok_or_else(|| decode_error(index, Box::new(sqlx::error::UnexpectedNullError)))
    }
}

impl<'r, T: FromColumn<'r>> FromColumn<'r> for Option<T> {
    fn from_nullable(row: &'r Row, index: impl At) -> Result<Option<Self>, sqlx::Error> {
        Ok(Some(T::from_nullable(row, index)?))
    }
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        impl<'r> FromColumn<'r> for $t {
            fn from_nullable(row: &'r Row, index: impl At) -> Result<Option<Self>, sqlx::Error> {
                let number = row.number(index)?;
                number.map(|n| Self::try_from(n).map_err(|e| decode_error(index, e.into()))).transpose()
            }
        }
    )*};
}

numbers!(i64, i32, u64, u32, u16, u8);

impl<'r> FromColumn<'r> for bool {
    fn from_nullable(row: &'r Row, index: impl At) -> Result<Option<Self>, sqlx::Error> {
        match row.number(index)? {
            None => Ok(None),
            Some(flag @ (0 | 1)) => Ok(Some(flag == 1)),
            Some(other) => Err(decode_error(index, format!("a flag is 0 or 1, not {other}").into())),
        }
    }
}

macro_rules! others {
    ($($t:ty),*) => {$(
        impl<'r> FromColumn<'r> for $t {
            fn from_nullable(row: &'r Row, index: impl At) -> Result<Option<Self>, sqlx::Error> {
                row.get(index)
            }
        }
    )*};
}

others!(&'r str, String, &'r [u8], Vec<u8>);

/// A whole row, as a tuple of its columns or as its only one.
pub trait FromRow: Sized {
    /// Reads it.
    fn from_row(row: &Row) -> Result<Self, sqlx::Error>;
}

macro_rules! tuples {
    ($($($t:ident $i:tt)*;)*) => {$(
        impl<$($t: for<'r> FromColumn<'r>),*> FromRow for ($($t,)*) {
            fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
                Ok(($(row.try_get::<$t>($i)?,)*))
            }
        }
    )*};
}

tuples! {
    A 0;
    A 0 B 1;
    A 0 B 1 C 2;
    A 0 B 1 C 2 D 3;
    A 0 B 1 C 2 D 3 E 4;
    A 0 B 1 C 2 D 3 E 4 F 5;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[u16]) -> Result<i64, String> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        numeric(&bytes).map_err(|e| e.to_string())
    }

    #[test]
    fn sums_are_read_whole_with_their_sign_and_refused_beyond_64_bits() {
        assert_eq!(read(&[0, 0, 0, 0]), Ok(0));
        assert_eq!(read(&[2, 1, 0, 0, 3, 7]), Ok(30_007));
        assert_eq!(read(&[1, 2, 0x4000, 0, 5]), Ok(-500_000_000));
        assert_eq!(read(&[5, 4, 0x4000, 0, 922, 3_372, 368, 5_477, 5_808]), Ok(i64::MIN));
        assert!(read(&[5, 4, 0, 0, 922, 3_372, 368, 5_477, 5_808]).unwrap_err().contains("64 bits"));
        assert!(read(&[1, 400, 0, 0, 1]).unwrap_err().contains("64 bits"));
        assert!(read(&[2, 0, 0, 1, 1, 5_000]).unwrap_err().contains("fraction"));
        assert!(read(&[1, 0xFFFF, 0, 1, 5_000]).unwrap_err().contains("fraction"));
        assert!(read(&[0, 0, 0xC000, 0]).unwrap_err().contains("no number"));
        assert!(read(&[0]).is_err());
    }
}
