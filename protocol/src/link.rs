//! The link between gate and host over any byte stream: COBS frames, authenticated both ways.
//!
//! A frame, before COBS and its zero delimiter: form 1 (0 clear, 1 authenticated) | counter 4, big-endian |
//! body, postcard | CMAC 16 where authenticated. The MAC covers the sender's direction, the counter and the
//! body, under a key derived from the link key and both nonces. Counters begin at 1 and rise by one: the
//! stream is ordered, so a frame that is lost, repeated, re-ordered or altered ends the session.
//!
//! The gate speaks first: `Hello` in the clear; the host answers `Welcome` with a nonce and a proof that it
//! holds the link key; the gate's first authenticated frame proves the same of the gate.

use crate::dukpt::KeyId;
use crate::lists::{Kind, ListError, Version};
use crate::time::UnixMs;
use aes::Aes128;
use cmac::{Cmac, KeyInit, Mac};
use core::fmt;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The longest body: a sealed entry or a list part with its fields fits.
pub const MAX_BODY: usize = 640;
/// The longest part of a list in one frame.
pub const MAX_PART: usize = 512;
/// The longest panic message in a [`FromGate::Health`], bytes: the place and the first words of it.
pub const MAX_PANIC: usize = 96;
/// The longest word for trouble in a [`FromGate::Health`], bytes.
pub const MAX_TROUBLE: usize = 32;
/// The longest frame before COBS.
pub const MAX_RAW: usize = 5 + MAX_BODY + 16;
/// The longest frame on the wire, delimiter included.
pub const MAX_FRAME: usize = MAX_RAW + MAX_RAW / 254 + 2;

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGate<'a> {
    /// The first frame, in the clear.
    Hello {
        /// The gate's number.
        gate_id: u32,
        /// Firmware name and version.
        firmware: &'a str,
        /// Fresh for this session.
        nonce: [u8; 16],
    },
    /// What the gate holds; the first authenticated frame, and after every change.
    Status {
        /// The key id of its journal.
        key_id: KeyId,
        /// The oldest sequence number still in the journal.
        oldest: u32,
        /// The next sequence number to be written.
        next: u32,
        /// The highest acknowledged one.
        acknowledged: u32,
        /// Version in force of each list, in the order of [`Kind::ALL`].
        lists: [Version; 4],
    },
    /// A sealed entry, in order of its sequence number.
    Entry {
        /// As [`crate::seal`] describes.
        sealed: &'a [u8],
    },
    /// Entries that the host asked for and that are no longer, or never were, in the journal.
    Lost {
        /// The first.
        from: u32,
        /// The last.
        upto: u32,
    },
    /// A list was refused.
    ListRefused {
        /// Which list.
        kind: Kind,
        /// Which issue.
        version: Version,
        /// Why.
        why: ListError,
    },
    /// How the gate itself is. Informs people; nothing is decided by it.
    Health {
        /// The most stack used since start, bytes; 0 where the board does not measure it.
        stack_used: u32,
        /// The stack there is, bytes; 0 as above.
        stack_bytes: u32,
        /// How often the reader chip had to be reset since start.
        reader_recoveries: u32,
        /// Refusals since start that the journal had no room for.
        uncounted_refusals: u32,
        /// Why the gate runs and opens for nobody, a word, at most [`MAX_TROUBLE`] bytes; empty where it does not.
        trouble: &'a str,
        /// What the firmware last panicked with, at most [`MAX_PANIC`] bytes; empty where it did not.
        panic: &'a str,
    },
}

/// What the host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromHost<'a> {
    /// The answer to a hello, in the clear.
    Welcome {
        /// Fresh for this session.
        nonce: [u8; 16],
        /// That the host holds the link key.
        proof: [u8; 16],
    },
    /// The answer to a hello of a gate that the host does not serve, in the clear. It proves nothing and
    /// changes nothing at the gate.
    Unknown,
    /// Every entry up to this number is durable at the host.
    Acknowledge {
        /// Of this key id.
        key_id: KeyId,
        /// The number.
        upto: u32,
    },
    /// Send again from this number on.
    Resend {
        /// The number.
        from: u32,
    },
    /// A part of a signed list; parts come in order and without others between them.
    ListPart {
        /// Which list.
        kind: Kind,
        /// Which issue.
        version: Version,
        /// Length of the whole, bytes.
        total: u32,
        /// Where this part begins.
        offset: u32,
        /// The part, at most [`MAX_PART`] bytes.
        part: &'a [u8],
    },
    /// The host's time.
    Time {
        /// Now.
        now: UnixMs,
    },
}

/// Why a link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkError {
    /// A frame longer than [`MAX_FRAME`].
    TooLong,
    /// A frame that is not COBS, or too short.
    Framing,
    /// A frame of the other form than the session's state asks for.
    Form,
    /// A counter other than the next.
    Counter {
        /// The next.
        expected: u32,
        /// What came.
        found: u32,
    },
    /// The MAC does not match.
    Mac,
    /// The body is none of the messages.
    Body,
    /// The other side does not hold the link key.
    Proof,
    /// A message that does not belong here.
    Unexpected,
    /// The message does not fit a frame.
    Full,
}

impl LinkError {
    /// The word for it in logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Framing => "framing",
            Self::Form => "form",
            Self::Counter { .. } => "counter",
            Self::Mac => "mac",
            Self::Body => "body",
            Self::Proof => "proof",
            Self::Unexpected => "unexpected",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter { expected, found } => write!(f, "frame counter {found} where {expected} was due"),
            other => write!(f, "link error: {}", other.word()),
        }
    }
}

impl core::error::Error for LinkError {}

/// The key that gate and host share. No `Debug`, wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct LinkKey([u8; 16]);

impl LinkKey {
    /// Takes key bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The host's proof for a hello and its own nonce.
    pub fn proof(&self, gate_id: u32, gate_nonce: &[u8; 16], host_nonce: &[u8; 16]) -> [u8; 16] {
        cmac(&self.0, &[b"wavepass link host", &gate_id.to_be_bytes(), gate_nonce, host_nonce])
    }

    /// Gate side: checks the host's proof and begins the session.
    pub fn accept(
        &self,
        gate_id: u32,
        gate_nonce: &[u8; 16],
        host_nonce: &[u8; 16],
        proof: &[u8; 16],
    ) -> Result<Session, LinkError> {
        if !equal(&self.proof(gate_id, gate_nonce, host_nonce), proof) {
            return Err(LinkError::Proof);
        }
        Ok(self.session(Side::Gate, gate_id, gate_nonce, host_nonce))
    }

    /// The session of one side, once both nonces are known.
    pub fn session(&self, side: Side, gate_id: u32, gate_nonce: &[u8; 16], host_nonce: &[u8; 16]) -> Session {
        let key = cmac(&self.0, &[b"wavepass link session", &gate_id.to_be_bytes(), gate_nonce, host_nonce]);
        Session { key, side, sent: 0, received: 0 }
    }
}

/// Which end of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// The gate.
    Gate = b'G',
    /// The host.
    Host = b'H',
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Gate => Self::Host,
            Self::Host => Self::Gate,
        }
    }
}

/// The authenticated state of one end of a link.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Session {
    key: [u8; 16],
    #[zeroize(skip)]
    side: Side,
    sent: u32,
    received: u32,
}

impl Session {
    /// Puts a message into a frame, delimiter included.
    pub fn send<'b>(
        &mut self,
        message: &impl Serialize,
        out: &'b mut [u8; MAX_FRAME],
    ) -> Result<&'b [u8], LinkError> {
        let counter = self.sent.checked_add(1).ok_or(LinkError::Full)?;
        let mut raw = [0; MAX_RAW];
        let len = body(message, &mut raw)?;
        raw[0] = 1;
        raw[1..5].copy_from_slice(&counter.to_be_bytes());
        let mac = cmac(&self.key, &[&[self.side as u8], &raw[1..5 + len]]);
        raw[5 + len..5 + len + 16].copy_from_slice(&mac);
        self.sent = counter;
        Ok(frame(&raw[..5 + len + 16], out))
    }

    /// Checks a frame (COBS already undone) and gives its message.
    pub fn receive<'r, M: Deserialize<'r>>(&mut self, raw: &'r [u8]) -> Result<M, LinkError> {
        if raw.len() < 5 + 16 {
            return Err(LinkError::Framing);
        }
        if raw[0] != 1 {
            return Err(LinkError::Form);
        }
        let (covered, mac) = raw.split_at(raw.len() - 16);
        let expected = cmac(&self.key, &[&[self.side.other() as u8], &covered[1..]]);
        if !equal(&expected, mac) {
            return Err(LinkError::Mac);
        }
        let found = covered[1..5].iter().fold(0, |n, &b| n << 8 | u32::from(b));
        let due = self.received.checked_add(1).ok_or(LinkError::Full)?;
        if found != due {
            return Err(LinkError::Counter { expected: due, found });
        }
        self.received = due;
        whole(&covered[5..])
    }
}

/// Puts a clear message (hello, welcome, unknown) into a frame, delimiter included.
pub fn send_clear<'b>(message: &impl Serialize, out: &'b mut [u8; MAX_FRAME]) -> Result<&'b [u8], LinkError> {
    let mut raw = [0; MAX_RAW];
    let len = body(message, &mut raw)?;
    Ok(frame(&raw[..5 + len], out))
}

/// Reads a clear message from a frame (COBS already undone).
pub fn receive_clear<'r, M: Deserialize<'r>>(raw: &'r [u8]) -> Result<M, LinkError> {
    match raw {
        [0, 0, 0, 0, 0, body @ ..] => whole(body),
        [0, ..] if raw.len() < 5 => Err(LinkError::Framing),
        _ => Err(LinkError::Form),
    }
}

fn whole<'r, M: Deserialize<'r>>(bytes: &'r [u8]) -> Result<M, LinkError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(LinkError::Body),
    }
}

fn body(message: &impl Serialize, raw: &mut [u8; MAX_RAW]) -> Result<usize, LinkError> {
    Ok(postcard::to_slice(message, &mut raw[5..5 + MAX_BODY]).map_err(|_| LinkError::Full)?.len())
}

fn frame<'b>(raw: &[u8], out: &'b mut [u8; MAX_FRAME]) -> &'b [u8] {
    let len = cobs::encode(raw, out);
    out[len] = 0;
    &out[..=len]
}

fn cmac(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Cmac::<Aes128>::new(key.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn equal(a: &[u8], b: &[u8]) -> bool {
    subtle::ConstantTimeEq::ct_eq(a, b).into()
}

/// Gathers bytes into frames. After an error it resynchronises on the next delimiter. Whoever reads secrets by it wipes
/// it afterwards.
#[derive(Zeroize)]
pub struct FrameReader {
    buffer: [u8; MAX_FRAME],
    len: usize,
    overflow: bool,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameReader {
    /// An empty reader.
    pub const fn new() -> Self {
        Self { buffer: [0; MAX_FRAME], len: 0, overflow: false }
    }

    /// Takes one byte; a delimiter completes a frame, whose decoded bytes stand until the next call.
    pub fn push(&mut self, byte: u8) -> Option<Result<&[u8], LinkError>> {
        if byte != 0 {
            match self.buffer.get_mut(self.len) {
                Some(slot) => {
                    *slot = byte;
                    self.len += 1;
                }
                None => self.overflow = true,
            }
            return None;
        }
        let len = core::mem::take(&mut self.len);
        if core::mem::take(&mut self.overflow) {
            return Some(Err(LinkError::TooLong));
        }
        if len == 0 {
            return None; // a delimiter before the first frame clears the line
        }
        Some(match cobs::decode_in_place(&mut self.buffer[..len]) {
            Ok(decoded) => Ok(&self.buffer[..decoded]),
            Err(_) => Err(LinkError::Framing),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    fn pair() -> (Session, Session) {
        let key = LinkKey::new([5; 16]);
        let proof = key.proof(3, &[1; 16], &[2; 16]);
        let gate = key.accept(3, &[1; 16], &[2; 16], &proof).unwrap();
        (gate, key.session(Side::Host, 3, &[1; 16], &[2; 16]))
    }

    fn unframe(frame: &[u8]) -> Vec<u8> {
        let mut reader = FrameReader::new();
        let mut out = None;
        for &b in frame {
            if let Some(raw) = reader.push(b) {
                out = Some(raw.unwrap().to_vec());
            }
        }
        out.unwrap()
    }

    fn acknowledge(upto: u32) -> FromHost<'static> {
        FromHost::Acknowledge { key_id: KeyId([1; 8]), upto }
    }

    #[test]
    fn messages_pass_both_ways() {
        let (mut gate, mut host) = pair();
        let mut out = [0; MAX_FRAME];
        let sealed = [0xAB; crate::seal::MAX_SEALED];
        let raw = unframe(gate.send(&FromGate::Entry { sealed: &sealed }, &mut out).unwrap());
        assert_eq!(host.receive::<FromGate>(&raw), Ok(FromGate::Entry { sealed: &sealed }));
        let raw = unframe(host.send(&acknowledge(7), &mut out).unwrap());
        assert_eq!(gate.receive::<FromHost>(&raw), Ok(acknowledge(7)));
    }

    #[test]
    fn a_changed_replayed_or_reflected_frame_is_refused() {
        let (mut gate, mut host) = pair();
        let mut out = [0; MAX_FRAME];
        let raw = unframe(host.send(&acknowledge(7), &mut out).unwrap());
        for bit in 8..raw.len() * 8 {
            let mut changed = raw.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(gate.receive::<FromHost>(&changed).err(), Some(LinkError::Mac), "bit {bit}");
        }
        assert_eq!(host.receive::<FromHost>(&raw).err(), Some(LinkError::Mac), "reflected");
        assert!(gate.receive::<FromHost>(&raw).is_ok());
        let replayed = gate.receive::<FromHost>(&raw).err();
        assert_eq!(replayed, Some(LinkError::Counter { expected: 2, found: 1 }));
    }

    #[test]
    fn a_frame_of_another_session_is_refused() {
        let (_, mut host) = pair();
        let key = LinkKey::new([5; 16]);
        let mut later = key.session(Side::Gate, 3, &[9; 16], &[2; 16]);
        let mut out = [0; MAX_FRAME];
        let raw = unframe(host.send(&acknowledge(7), &mut out).unwrap());
        assert_eq!(later.receive::<FromHost>(&raw).err(), Some(LinkError::Mac));
    }

    #[test]
    fn a_host_without_the_key_is_not_believed() {
        let key = LinkKey::new([5; 16]);
        let proof = LinkKey::new([6; 16]).proof(3, &[1; 16], &[2; 16]);
        assert_eq!(key.accept(3, &[1; 16], &[2; 16], &proof).err(), Some(LinkError::Proof));
    }

    #[test]
    fn the_reader_recovers_after_noise() {
        let (mut gate, mut host) = pair();
        let mut out = [0; MAX_FRAME];
        let mut reader = FrameReader::new();
        let noise = std::vec![0x55; 2 * MAX_FRAME];
        assert!(noise.iter().all(|&b| reader.push(b).is_none()));
        assert_eq!(reader.push(0).unwrap().err(), Some(LinkError::TooLong));
        let mut message = None;
        for &b in gate.send(&FromGate::Lost { from: 1, upto: 2 }, &mut out).unwrap() {
            if let Some(raw) = reader.push(b) {
                message =
                    Some(host.receive::<FromGate>(raw.unwrap()).map(|m| matches!(m, FromGate::Lost { .. })));
            }
        }
        assert_eq!(message, Some(Ok(true)));
    }
}
