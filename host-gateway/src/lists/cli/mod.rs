//! `wavepass-gateway deny`: what gates are told, set by an operator.

pub mod deny;
