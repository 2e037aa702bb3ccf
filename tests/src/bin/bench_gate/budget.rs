//! The time of a whole tap, modelled: bytes on air, assumed card times, the reader's line, and instructions.
//!
//! Nothing here was timed on hardware. Every assumption is a constant with its reason, and is printed.

use crate::house::Said;
use serde_json::{Value, json};

/// The gate's processor: an nRF52840.
const CORE_HZ: f64 = 64e6;
/// Cycles per instruction: code from flash with its cache and UMAAL-heavy loops; an assumption, to be measured.
const CYCLES_PER_INSTRUCTION: f64 = 1.3;
/// ISO/IEC 14443 at 106 kbit/s: a byte is 8 bits and a parity bit (type A), 9.44 µs each.
const AIR_US_PER_BYTE: f64 = 9.0 * 9.44;
/// Bytes that a block has besides its APDU: PCB and CRC.
const BLOCK_OVERHEAD: usize = 3;
/// The longest block that most readers and cards use (FSC 256).
const BLOCK: usize = 253;
/// Time between frames, both ways together: frame delay times and the chips' own work; an assumption.
const TURN_US: f64 = 500.0;
/// Request, anticollision, select, RATS: four exchanges; an assumption from readers' data sheets.
const ACTIVATION_MS: f64 = 8.0;
/// What a phone's secure element takes for an APDU without and with public-key work; assumptions: published figures for
/// phones vary from 10 to 60 ms.
const CARD_PLAIN_MS: f64 = 8.0;
const CARD_SIGN_MS: f64 = 60.0;
/// The reader chip's line at 115,200 baud, 10 bits a byte.
const LINE_US_PER_BYTE: f64 = 10.0 * 1e6 / 115_200.0;
/// Bytes of the PN532's frames around an APDU and its answer: command, acknowledgement, answer.
const LINE_OVERHEAD: usize = 10 + 6 + 10;

/// The budget of a tap.
pub fn tap(said: &Said, instructions: u64) -> Value {
    let mut air_us = 0.0;
    let mut line_us = 0.0;
    let mut turns = 0;
    for (command, answer) in said.commands.iter().zip(&said.answers) {
        for len in [command.len(), answer.len()] {
            let blocks = len.div_ceil(BLOCK).max(1);
            turns += blocks;
            air_us += (len + blocks * BLOCK_OVERHEAD) as f64 * AIR_US_PER_BYTE;
        }
        line_us += (command.len() + answer.len() + LINE_OVERHEAD) as f64 * LINE_US_PER_BYTE;
    }
    let turn_ms = turns as f64 * TURN_US / 2.0 / 1e3;
    let cards = said.commands.len() as f64;
    // One command makes the phone sign; the others only read.
    let card_ms = CARD_SIGN_MS + (cards - 1.0) * CARD_PLAIN_MS;
    let compute_ms = instructions as f64 * CYCLES_PER_INSTRUCTION / CORE_HZ * 1e3;
    let (air_ms, line_ms) = (air_us / 1e3, line_us / 1e3);
    let whole = ACTIVATION_MS + air_ms + turn_ms + card_ms + line_ms + compute_ms;
    json!({
        "tap_ms": round(whole),
        "activation_ms": ACTIVATION_MS,
        "air_ms": round(air_ms),
        "turns_ms": round(turn_ms),
        "card_ms": round(card_ms),
        "reader_line_ms": round(line_ms),
        "compute_ms": round(compute_ms),
        "apdus": said.commands.len(),
        "assumed": {
            "core_hz": CORE_HZ,
            "cycles_per_instruction": CYCLES_PER_INSTRUCTION,
            "card_plain_ms": CARD_PLAIN_MS,
            "card_sign_ms": CARD_SIGN_MS,
            "turn_us": TURN_US,
            "baud": 115_200,
        },
        "note": "modelled: instructions are exact, times are not measured; verification that runs while the card \
                 answers is counted in full",
    })
}

fn round(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}
