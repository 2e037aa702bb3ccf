//! The rig over phones in this process: taps, transcripts, replays, the command line.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bits;
mod cast;
mod command;
mod replays;
mod taps;
