//! What a statement is given: single values, lists, and rows of many columns.

use sqlx::error::BoxDynError;
use std::borrow::Cow;

/// One value. Both databases are given the same three kinds; a flag is a number, 0 or 1.
#[derive(Debug, Clone)]
pub enum Value<'q> {
    /// A whole number.
    Number(Option<i64>),
    /// Text.
    Text(Option<Cow<'q, str>>),
    /// Bytes.
    Bytes(Option<Cow<'q, [u8]>>),
}

/// What can be given to a statement.
pub trait IntoValue<'q> {
    /// The value.
    fn into_value(self) -> Value<'q>;
    /// NULL of the same kind: PostgreSQL wants to know it.
    fn null() -> Value<'q>;
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        impl<'q> IntoValue<'q> for $t {
            fn into_value(self) -> Value<'q> {
                Value::Number(Some(i64::from(self)))
            }
            fn null() -> Value<'q> {
                Value::Number(None)
            }
        }
    )*};
}

numbers!(i64, i32, u32, u16, u8, bool);

macro_rules! others {
    ($kind:ident: $($t:ty => $into:expr),* $(,)?) => {$(
        impl<'q> IntoValue<'q> for $t {
            fn into_value(self) -> Value<'q> {
                let into: fn(Self) -> _ = $into;
                Value::$kind(Some(into(self)))
            }
            fn null() -> Value<'q> {
                Value::$kind(None)
            }
        }
    )*};
}

others!(Text: &'q str => Cow::Borrowed, String => Cow::Owned, &'q String => |s| Cow::Borrowed(s.as_str()));
others!(Bytes: &'q [u8] => Cow::Borrowed, Vec<u8> => Cow::Owned, &'q Vec<u8> => |b| Cow::Borrowed(b.as_slice()));

impl<'q, const N: usize> IntoValue<'q> for &'q [u8; N] {
    fn into_value(self) -> Value<'q> {
        self.as_slice().into_value()
    }

    fn null() -> Value<'q> {
        Value::Bytes(None)
    }
}

impl<'q, T: IntoValue<'q>> IntoValue<'q> for Option<T> {
    fn into_value(self) -> Value<'q> {
        self.map_or_else(T::null, T::into_value)
    }

    fn null() -> Value<'q> {
        T::null()
    }
}

/// One column of many rows.
#[derive(Debug, Clone)]
pub(super) enum Column<'q> {
    Number(Vec<Option<i64>>),
    Text(Vec<Option<Cow<'q, str>>>),
    Bytes(Vec<Option<Cow<'q, [u8]>>>),
}

impl<'q> Column<'q> {
    fn of(value: &Value<'q>) -> Self {
        match value {
            Value::Number(_) => Self::Number(Vec::new()),
            Value::Text(_) => Self::Text(Vec::new()),
            Value::Bytes(_) => Self::Bytes(Vec::new()),
        }
    }

    fn push(&mut self, value: Value<'q>) {
        match (self, value) {
            (Self::Number(column), Value::Number(value)) => column.push(value),
            (Self::Text(column), Value::Text(value)) => column.push(value),
            (Self::Bytes(column), Value::Bytes(value)) => column.push(value),
            // Rows of one type have columns of one kind each.
            _ => unreachable!("a column of two kinds"),
        }
    }
}

/// Rows for one statement, kept by column.
#[derive(Debug, Clone, Default)]
pub struct Rows<'q> {
    pub(super) columns: Vec<Column<'q>>,
    pub(super) len: usize,
}

impl<'q> Rows<'q> {
    /// Gathers rows: tuples, or single values for rows of one column.
    pub fn of<R: Row<'q>>(rows: impl IntoIterator<Item = R>) -> Self {
        let mut gathered = Self::default();
        for row in rows {
            gathered.push(row);
        }
        gathered
    }

    fn push<R: Row<'q>>(&mut self, row: R) {
        let first = self.len == 0;
        let mut at = 0;
        row.each(|value| {
            if first {
                self.columns.push(Column::of(&value));
            }
            self.columns[at].push(value);
            at += 1;
        });
        self.len += 1;
    }
}

impl Rows<'_> {
    /// The rows as PostgreSQL's `COPY` takes them in its binary format: for each row its number of fields, each field behind its
    /// length, numbers big-endian in the width of their columns.
    pub(super) fn to_copy(&self, widths: &[Width]) -> Result<Vec<u8>, BoxDynError> {
        if widths.len() != self.columns.len() {
            return Err(format!("{} values for {} columns", self.columns.len(), widths.len()).into());
        }
        let fields = i16::try_from(widths.len())?;
        let mut out = Vec::with_capacity(self.len * self.columns.len() * 12);
        out.extend_from_slice(COPY_HEAD);
        for row in 0..self.len {
            out.extend_from_slice(&fields.to_be_bytes());
            for (column, width) in self.columns.iter().zip(widths) {
                match column {
                    Column::Number(column) => match (column[row], width) {
                        (None, _) => out.extend_from_slice(&NULL),
                        (Some(number), Width::Small) => {
                            field(&mut out, &i16::try_from(number)?.to_be_bytes())?
                        }
                        (Some(number), Width::Big) => field(&mut out, &number.to_be_bytes())?,
                        (Some(_), Width::Bytes) => return Err("a number for a column of bytes".into()),
                    },
                    Column::Text(column) => match &column[row] {
                        Some(text) => field(&mut out, text.as_bytes())?,
                        None => out.extend_from_slice(&NULL),
                    },
                    Column::Bytes(column) => match &column[row] {
                        Some(bytes) => field(&mut out, bytes)?,
                        None => out.extend_from_slice(&NULL),
                    },
                }
            }
        }
        out.extend_from_slice(&COPY_END);
        Ok(out)
    }
}

/// How wide a field of a column of PostgreSQL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// A number in two bytes.
    Small,
    /// A number in eight.
    Big,
    /// Bytes or text, as they are.
    Bytes,
}

/// Before the first row: the format's name, no flags, nothing more.
const COPY_HEAD: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// After the last.
const COPY_END: [u8; 2] = (-1_i16).to_be_bytes();
/// Instead of a field's length.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

fn field(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), BoxDynError> {
    out.extend_from_slice(&i32::try_from(bytes.len())?.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// A row of a batch.
pub trait Row<'q> {
    /// How many columns it has.
    const COLUMNS: usize;
    /// Gives its values in order.
    fn each(self, take: impl FnMut(Value<'q>));
}

/// A row of one column.
#[derive(Debug, Clone, Copy)]
pub struct One<T>(pub T);

impl<'q, T: IntoValue<'q>> Row<'q> for One<T> {
    const COLUMNS: usize = 1;

    fn each(self, mut take: impl FnMut(Value<'q>)) {
        take(self.0.into_value());
    }
}

macro_rules! tuples {
    ($($n:literal: $($t:ident)*;)*) => {$(
        impl<'q, $($t: IntoValue<'q>),*> Row<'q> for ($($t,)*) {
            const COLUMNS: usize = $n;

            #[allow(non_snake_case)]
            fn each(self, mut take: impl FnMut(Value<'q>)) {
                let ($($t,)*) = self;
                $(take($t.into_value());)*
            }
        }
    )*};
}

tuples! {
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
    7: A B C D E F G;
    8: A B C D E F G H;
    9: A B C D E F G H I;
    10: A B C D E F G H I J;
    11: A B C D E F G H I J K;
    12: A B C D E F G H I J K L;
    13: A B C D E F G H I J K L M;
    14: A B C D E F G H I J K L M N;
    15: A B C D E F G H I J K L M N O;
    16: A B C D E F G H I J K L M N O P;
    17: A B C D E F G H I J K L M N O P Q;
    18: A B C D E F G H I J K L M N O P Q R;
}
