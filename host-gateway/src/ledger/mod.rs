//! Double-entry ledger: append-only, and every transaction sums to zero.
