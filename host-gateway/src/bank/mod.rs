//! The bank: its connector and the embedded one.
