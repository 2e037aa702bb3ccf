//! The host's end of a link to a gate, in process.

use super::host::Host;
use super::{Failure, TestGate, idle};
use wavepass_gate::{Health, Link, LinkState};
use wavepass_journal::sim::block_on;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::link::{
    FrameReader, FromGate, FromHost, LinkError, MAX_FRAME, MAX_PART, Session, Side, receive_clear, send_clear,
};
use wavepass_protocol::lists::{Kind, ListError, Version};

/// What a gate says, without borrowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Status { oldest: u32, next: u32, acknowledged: u32, lists: [u32; 4] },
    Entry(Vec<u8>),
    Lost { from: u32, upto: u32 },
    ListRefused(Kind, Version, ListError),
    Health(Health, String),
}

pub struct Line {
    pub link: Link,
    /// The host's end.
    pub session: Session,
    key_id: KeyId,
}

/// The frames in a stream of bytes, COBS undone.
pub fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = FrameReader::new();
    bytes.iter().filter_map(|&b| reader.push(b).map(|raw| raw.unwrap().to_vec())).collect()
}

impl Line {
    /// Takes the gate's hello and proves the link key to it.
    pub fn open(host: &mut Host, gate: &mut TestGate) -> Self {
        let (mut link, gate_nonce) = Self::greet(host, gate);
        let nonce = host.fresh_nonce();
        let proof = host.link_key().proof(host.gate_id, &gate_nonce, &nonce);
        assert_eq!(welcome(gate, &mut link, &FromHost::Welcome { nonce, proof }), Ok(()));
        assert_eq!(link.state(), LinkState::Open);
        let session = host.link_key().session(Side::Host, host.gate_id, &gate_nonce, &nonce);
        Self { link, session, key_id: host.key_id }
    }

    /// The gate's hello: a link that waits for its welcome, and the gate's nonce.
    pub fn greet(host: &mut Host, gate: &mut TestGate) -> (Link, [u8; 16]) {
        let mut out = [0; MAX_FRAME];
        let fresh = host.fresh_nonce();
        let (link, hello) = gate.link_begin(fresh, &mut out).unwrap();
        let hello = frames(hello).remove(0);
        let Ok(FromGate::Hello { gate_id, nonce, firmware }) = receive_clear(&hello) else {
            panic!("a gate says hello first")
        };
        assert_eq!((gate_id, nonce), (host.gate_id, fresh));
        assert!(firmware.starts_with("wavepass-gate "));
        assert_eq!(link.state(), LinkState::Greeting);
        (link, nonce)
    }

    /// Everything that the gate has to say now.
    pub fn hear(&mut self, gate: &mut TestGate) -> Vec<Heard> {
        let mut heard = vec![];
        let mut out = [0; MAX_FRAME];
        while let Some(frame) = block_on(gate.link_next(&mut self.link, &mut out)).unwrap() {
            let raw = frames(frame).remove(0);
            heard.push(match self.session.receive(&raw).unwrap() {
                FromGate::Hello { .. } => panic!("a second hello"),
                FromGate::Status { key_id, oldest, next, acknowledged, lists } => {
                    assert_eq!(key_id, self.key_id);
                    let lists = lists.map(|v: Version| v.version);
                    Heard::Status { oldest, next, acknowledged, lists }
                }
                FromGate::Entry { sealed } => Heard::Entry(sealed.to_vec()),
                FromGate::Lost { from, upto } => Heard::Lost { from, upto },
                FromGate::ListRefused { kind, version, why } => Heard::ListRefused(kind, version, why),
                FromGate::Health {
                    stack_used,
                    stack_bytes,
                    reader_recoveries,
                    uncounted_refusals,
                    trouble,
                    panic,
                } => {
                    let panic = panic.try_into().expect("a panic that fits");
                    let health = Health {
                        stack_used,
                        stack_bytes,
                        reader_recoveries,
                        uncounted_refusals,
                        trouble: None,
                        panic,
                    };
                    Heard::Health(health, trouble.to_owned())
                }
            });
            assert!(heard.len() < 10_000, "a gate comes to an end");
        }
        heard
    }

    /// The next frame of the host.
    pub fn frame(&mut self, message: &FromHost<'_>) -> Vec<u8> {
        self.session.send(message, &mut [0; MAX_FRAME]).unwrap().to_vec()
    }

    /// Bytes to the gate, whoever wrote them.
    pub fn try_feed(&mut self, gate: &mut TestGate, bytes: &[u8]) -> Result<Result<(), LinkError>, Failure> {
        block_on(gate.link_receive(&mut self.link, bytes))
    }

    pub fn feed(&mut self, gate: &mut TestGate, bytes: &[u8]) -> Result<(), LinkError> {
        self.try_feed(gate, bytes).unwrap()
    }

    pub fn say(&mut self, gate: &mut TestGate, message: &FromHost<'_>) {
        let frame = self.frame(message);
        assert_eq!(self.feed(gate, &frame), Ok(()));
    }

    pub fn acknowledge(&mut self, gate: &mut TestGate, upto: u32) {
        let key_id = self.key_id;
        self.say(gate, &FromHost::Acknowledge { key_id, upto });
    }

    pub fn resend(&mut self, gate: &mut TestGate, from: u32) {
        self.say(gate, &FromHost::Resend { from });
    }

    /// The frames that carry a list.
    pub fn list_frames(&mut self, kind: Kind, version: Version, list: &[u8]) -> Vec<Vec<u8>> {
        let total = list.len() as u32;
        list.chunks(MAX_PART)
            .enumerate()
            .map(|(i, part)| {
                let offset = (i * MAX_PART) as u32;
                self.frame(&FromHost::ListPart { kind, version, total, offset, part })
            })
            .collect()
    }

    /// Sends a list, and leaves the gate idle until it has done with it; gives what the gate says to it.
    pub fn send_list(
        &mut self,
        gate: &mut TestGate,
        kind: Kind,
        version: Version,
        list: &[u8],
    ) -> Vec<Heard> {
        for frame in self.list_frames(kind, version, list) {
            assert_eq!(self.feed(gate, &frame), Ok(()));
        }
        idle(gate);
        self.hear(gate)
    }
}

/// A clear message to a gate that has said hello.
pub fn welcome(gate: &mut TestGate, link: &mut Link, message: &FromHost<'_>) -> Result<(), LinkError> {
    let mut out = [0; MAX_FRAME];
    let frame = send_clear(message, &mut out).unwrap();
    block_on(gate.link_receive(link, frame)).unwrap()
}
