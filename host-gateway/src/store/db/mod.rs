//! The two databases behind one face: statements written once, batch-sized, with bound values and checked columns.

mod conn;
mod query;
mod row;
#[cfg(test)]
mod tests;
mod text;
mod value;

pub use conn::{Conn, Pool, Tx};
pub use query::{Outcome, Query, Target, chunk, query, query_made, read_many, write_many};
pub use row::{At, FromColumn, FromRow, Row};
pub use value::{IntoValue, One, Rows, Value};
