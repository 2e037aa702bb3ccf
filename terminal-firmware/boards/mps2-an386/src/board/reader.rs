//! The reader chip on its serial line.
