//! Reconciliation: every difference is a break.
