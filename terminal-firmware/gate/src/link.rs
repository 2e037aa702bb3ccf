//! The gate's end of the link: bytes in, frames out. The board moves the bytes.
//!
//! After [`Gate::link_begin`] the board sends the hello, then feeds what it receives to
//! [`Gate::link_receive`] and sends what [`Gate::link_next`] gives until it gives nothing.

use crate::lists::Taken;
use crate::{Gate, GateError, Memory, Room, Trouble};
use embedded_storage_async::nor_flash::NorFlash;
use heapless::{Deque, String};
use wavepass_journal::{MAX_LOCAL, MAX_PAYLOAD};
use wavepass_protocol::link::{
    FrameReader, FromGate, FromHost, LinkError, MAX_FRAME, MAX_PANIC, Session, receive_clear, send_clear,
};
use wavepass_protocol::lists::{Kind, ListError, Version};
use wavepass_protocol::time::UnixMs;

/// Entries that may be on their way unacknowledged: bounds what is sent again after a break of the line.
const WINDOW: u32 = 256;
/// Notices that may wait to be sent; more of them in one turn mean a host out of order.
const NOTICES: usize = 8;
const FIRMWARE: &str = concat!("wavepass-gate ", env!("CARGO_PKG_VERSION"));

/// How far a link has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// The hello is out; the host's proof is awaited.
    Greeting,
    /// Both sides have proven the link key.
    Open,
    /// The host does not serve this gate.
    Unknown,
}

/// How the gate itself is, for people to see: its board measures it and reports it by [`Link::report`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The most stack used since start, bytes.
    pub stack_used: u32,
    /// The stack there is, bytes.
    pub stack_bytes: u32,
    /// How often the reader chip had to be reset since start.
    pub reader_recoveries: u32,
    /// Refusals since start that the journal had no room for ([`Gate::uncounted_refusals`]).
    pub uncounted_refusals: u32,
    /// Why the gate opens for nobody although it runs ([`Gate::trouble`]).
    pub trouble: Option<Trouble>,
    /// What the firmware panicked with before this start; empty where it did not.
    pub panic: String<MAX_PANIC>,
}

enum Notice {
    Lost { from: u32, upto: u32 },
    ListRefused { kind: Kind, version: Version, why: ListError },
}

/// One connection to the host.
pub struct Link {
    state: LinkState,
    nonce: [u8; 16],
    session: Option<Session>,
    reader: FrameReader,
    /// The next entry to send.
    cursor: u32,
    /// The highest entry sent on this link.
    sent: u32,
    /// The next number as the last status told it: what lies beyond is announced before it is sent. 0 before the
    /// first status.
    told_next: u32,
    /// The versions that the last status told.
    told_lists: [Version; 4],
    notices: Deque<Notice, NOTICES>,
    health: Option<Health>,
    host_time: Option<UnixMs>,
    /// Why it ended; nothing that comes or goes afterwards counts.
    ended: Option<LinkError>,
}

impl Link {
    /// How far it has come.
    pub fn state(&self) -> LinkState {
        self.state
    }

    /// Has this told to the host, after the status. The latest counts where several wait.
    pub fn report(&mut self, health: Health) {
        self.health = Some(health);
    }

    /// The time the host last told; the board sets its clock by it. Taken out by the call.
    pub fn take_host_time(&mut self) -> Option<UnixMs> {
        self.host_time.take()
    }
}

impl<F: NorFlash, M: Room> Gate<F, M> {
    /// Begins a link; gives the hello to send. The nonce is fresh for each link.
    pub fn link_begin<'b>(
        &self,
        nonce: [u8; 16],
        out: &'b mut [u8; MAX_FRAME],
    ) -> Result<(Link, &'b [u8]), LinkError> {
        let hello = FromGate::Hello { gate_id: self.identity.gate_id, firmware: FIRMWARE, nonce };
        let link = Link {
            state: LinkState::Greeting,
            nonce,
            session: None,
            reader: FrameReader::new(),
            cursor: self.journal.acknowledged().saturating_add(1),
            sent: 0,
            told_next: 0,
            told_lists: [Version::default(); 4],
            notices: Deque::new(),
            health: None,
            host_time: None,
            ended: None,
        };
        Ok((link, send_clear(&hello, out)?))
    }

    /// Takes bytes from the host. A link error ends the link, for good: every later call gives it again, and
    /// the board closes the line and begins anew.
    pub async fn link_receive(
        &mut self,
        link: &mut Link,
        bytes: &[u8],
    ) -> Result<Result<(), LinkError>, GateError<F::Error>> {
        if let Some(why) = link.ended {
            return Ok(Err(why));
        }
        let mut raw = [0; MAX_FRAME];
        for &byte in bytes {
            let taken = match link.reader.push(byte) {
                None => continue,
                Some(Err(why)) => Err(why),
                Some(Ok(frame)) => {
                    let len = frame.len();
                    raw[..len].copy_from_slice(frame);
                    self.frame(link, &raw[..len]).await?
                }
            };
            if let Err(why) = taken {
                link.ended = Some(why);
                link.session = None;
                return Ok(Err(why));
            }
        }
        Ok(Ok(()))
    }

    async fn frame(
        &mut self,
        link: &mut Link,
        raw: &[u8],
    ) -> Result<Result<(), LinkError>, GateError<F::Error>> {
        let Some(session) = link.session.as_mut() else {
            return Ok(self.welcome(link, raw));
        };
        let message = match session.receive::<FromHost<'_>>(raw) {
            Ok(message) => message,
            Err(why) => return Ok(Err(why)),
        };
        match message {
            FromHost::Welcome { .. } | FromHost::Unknown => return Ok(Err(LinkError::Unexpected)),
            FromHost::Acknowledge { key_id, upto } => {
                // A number that this link has not sent is ignored, and so is another key's.
                if key_id == self.identity.key_id && upto <= link.sent {
                    self.journal.acknowledge(upto).await?;
                }
            }
            FromHost::Resend { from } => self.resend(link, from),
            FromHost::ListPart { kind, version, total, offset, part } => {
                let Memory { lists: memory, kernel, .. } = &mut *self.memory;
                let signer = (&self.identity.root, kernel.verifier());
                let taken = self.lists.part(memory, kind, version, (total, offset), part, signer).await?;
                match taken {
                    Taken::More => {}
                    Taken::InForce(kind) => {
                        if kind == Kind::Config {
                            self.configure();
                        }
                        if matches!(kind, Kind::CaKeys | Kind::Revocations) {
                            self.memory.kernel.forget_issuers();
                        }
                    }
                    Taken::Refused(why) => link.notice(Notice::ListRefused { kind, version, why }),
                }
            }
            FromHost::Time { now } => link.host_time = Some(now),
        }
        Ok(Ok(()))
    }

    fn welcome(&mut self, link: &mut Link, raw: &[u8]) -> Result<(), LinkError> {
        match receive_clear::<FromHost<'_>>(raw)? {
            FromHost::Welcome { nonce, proof } if link.state == LinkState::Greeting => {
                let identity = &self.identity;
                link.session =
                    Some(identity.link_key.accept(identity.gate_id, &link.nonce, &nonce, &proof)?);
                link.state = LinkState::Open;
                Ok(())
            }
            FromHost::Unknown => {
                link.state = LinkState::Unknown;
                Ok(())
            }
            _ => Err(LinkError::Unexpected),
        }
    }

    fn resend(&mut self, link: &mut Link, from: u32) {
        let oldest = self.journal.oldest();
        if from < oldest {
            link.notice(Notice::Lost { from, upto: oldest - 1 });
        }
        link.cursor = link.cursor.min(from.max(oldest).max(1));
    }

    /// The next frame to send, if there is one now.
    pub async fn link_next<'b>(
        &mut self,
        link: &mut Link,
        out: &'b mut [u8; MAX_FRAME],
    ) -> Result<Option<&'b [u8]>, GateError<F::Error>> {
        let Some(session) = link.session.as_mut() else { return Ok(None) };
        // The first frame is a status; what was refused is told before the versions that came of it.
        if link.told_next > 0 {
            if let Some((version, why)) = self.lists.take_refused() {
                let message = FromGate::ListRefused { kind: Kind::Deny, version, why };
                return Ok(session.send(&message, out).ok());
            }
            if let Some(notice) = link.notices.pop_front() {
                let message = match notice {
                    Notice::Lost { from, upto } => FromGate::Lost { from, upto },
                    Notice::ListRefused { kind, version, why } => {
                        FromGate::ListRefused { kind, version, why }
                    }
                };
                return Ok(session.send(&message, out).ok());
            }
        }
        let (next, lists) = (self.journal.next_sequence(), self.lists.versions());
        let unannounced = link.cursor >= link.told_next && link.cursor < next;
        if link.told_next == 0 || unannounced || lists != link.told_lists {
            (link.told_next, link.told_lists) = (next, lists);
            let status = FromGate::Status {
                key_id: self.identity.key_id,
                oldest: self.journal.oldest(),
                next,
                acknowledged: self.journal.acknowledged(),
                lists,
            };
            return Ok(session.send(&status, out).ok());
        }
        if let Some(health) = link.health.take() {
            let message = FromGate::Health {
                stack_used: health.stack_used,
                stack_bytes: health.stack_bytes,
                reader_recoveries: health.reader_recoveries,
                uncounted_refusals: health.uncounted_refusals,
                trouble: health.trouble.map_or("", Trouble::word),
                panic: &health.panic,
            };
            return Ok(session.send(&message, out).ok());
        }
        let window_open = link.cursor.saturating_sub(self.journal.acknowledged()) <= WINDOW;
        if link.cursor >= self.journal.next_sequence() || !window_open {
            return Ok(None);
        }
        let mut record = [0; MAX_LOCAL + MAX_PAYLOAD];
        let entry = self.journal.read(link.cursor, &mut record).await?;
        let cursor = link.cursor;
        link.cursor += 1;
        link.sent = link.sent.max(cursor);
        let frame = match entry {
            Some(entry) => session.send(&FromGate::Entry { sealed: entry.payload }, out),
            None => session.send(&FromGate::Lost { from: cursor, upto: cursor }, out),
        };
        Ok(frame.ok())
    }
}

impl Link {
    fn notice(&mut self, notice: Notice) {
        // A host that asks for more than fits is told the rest when it asks again.
        let _ = self.notices.push_back(notice);
    }
}
