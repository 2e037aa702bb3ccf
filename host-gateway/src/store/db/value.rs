//! What a statement is given: single values, lists, and rows of many columns.

use std::borrow::Cow;
use std::io::Write;

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
    /// The rows as PostgreSQL's `COPY` takes them in its text format.
    pub(super) fn to_copy(&self) -> Vec<u8> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = Vec::with_capacity(self.len * self.columns.len() * 12);
        for row in 0..self.len {
            for (at, column) in self.columns.iter().enumerate() {
                if at > 0 {
                    out.push(b'\t');
                }
                match column {
                    // Writing to a `Vec` cannot fail.
                    Column::Number(column) => match column[row] {
                        Some(number) => drop(write!(out, "{number}")),
                        None => out.extend_from_slice(NULL),
                    },
                    Column::Text(column) => match &column[row] {
                        Some(text) => text.bytes().for_each(|byte| match byte {
                            b'\\' => out.extend_from_slice(b"\\\\"),
                            b'\n' => out.extend_from_slice(b"\\n"),
                            b'\r' => out.extend_from_slice(b"\\r"),
                            b'\t' => out.extend_from_slice(b"\\t"),
                            _ => out.push(byte),
                        }),
                        None => out.extend_from_slice(NULL),
                    },
                    Column::Bytes(column) => match &column[row] {
                        Some(bytes) => {
                            out.extend_from_slice(b"\\\\x");
                            let digits = |byte: &u8| [byte >> 4, byte & 15].map(|d| DIGITS[usize::from(d)]);
                            out.extend(bytes.iter().flat_map(digits));
                        }
                        None => out.extend_from_slice(NULL),
                    },
                }
            }
            out.push(b'\n');
        }
        out
    }
}

/// How `COPY` is told NULL.
const NULL: &[u8] = b"\\N";

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
