//! Clearing: from taps to deducted charges.
