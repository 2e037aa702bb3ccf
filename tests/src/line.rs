//! A gate's end of the link without the gate: the protocol's own frames over TCP, for whoever plays thousands of gates at once.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wavepass_gateway::keys::ClearingKeys;
use wavepass_protocol::dukpt::KeyId;
use wavepass_protocol::link::{
    FrameReader, FromGate, FromHost, LinkError, MAX_FRAME, Session, receive_clear, send_clear,
};
use wavepass_protocol::lists::Version;

use crate::processes::Failure;

/// Entries that a gate has on their way unacknowledged.
pub const WINDOW: u32 = 256;
/// Newer than what any host of the tests publishes, so that no lists are sent.
const LISTS: [Version; 4] = [Version { epoch: 9, version: 0 }; 4];

/// An open link.
pub struct Line {
    stream: TcpStream,
    reader: FrameReader,
    session: Session,
    key_id: KeyId,
    out: Vec<u8>,
    buffer: Box<[u8; 4096]>,
}

impl Line {
    /// Connects, and proves the link key both ways. What it sends comes with the first [`flush`](Self::flush).
    pub async fn open(
        at: SocketAddr,
        keys: &dyn ClearingKeys,
        gate_id: u32,
        key_id: KeyId,
    ) -> Result<Self, Failure> {
        let mut stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let mut nonce = [7; 16];
        nonce[..4].copy_from_slice(&gate_id.to_be_bytes());
        let hello = FromGate::Hello { gate_id, firmware: "line", nonce };
        stream.write_all(send_clear(&hello, &mut [0; MAX_FRAME]).map_err(named)?).await?;
        let mut reader = FrameReader::new();
        // A byte at a time: what follows the welcome is the session's.
        let session = loop {
            let byte = stream.read_u8().await?;
            let Some(frame) = reader.push(byte) else { continue };
            let welcome = receive_clear::<FromHost<'_>>(frame.map_err(named)?).map_err(named)?;
            let FromHost::Welcome { nonce: host, proof } = welcome else {
                return Err(format!("the host answers gate {gate_id} with {welcome:?}").into());
            };
            let key = keys.link_key(gate_id, key_id);
            break key.accept(gate_id, &nonce, &host, &proof).map_err(named)?;
        };
        Ok(Self { stream, reader, session, key_id, out: Vec::new(), buffer: Box::new([0; 4096]) })
    }

    /// Says what the journal holds: up to where it is acknowledged, and the number of the next entry to be written.
    pub fn status(&mut self, acknowledged: u32, next: u32) {
        let key_id = self.key_id;
        self.say(&FromGate::Status { key_id, oldest: 1, next, acknowledged, lists: LISTS });
    }

    /// Sends a sealed entry.
    pub fn entry(&mut self, sealed: &[u8]) {
        self.say(&FromGate::Entry { sealed });
    }

    fn say(&mut self, message: &FromGate<'_>) {
        let mut frame = [0; MAX_FRAME];
        // Whatever a gate may say fits a frame; what did not would be missed by the host.
        if let Ok(frame) = self.session.send(message, &mut frame) {
            self.out.extend_from_slice(frame);
        }
    }

    /// Puts what was said on the line.
    pub async fn flush(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    /// Waits for something to be heard; gives the highest number that was acknowledged in it. May be dropped at any moment.
    pub async fn hear(&mut self) -> Result<Option<u32>, Failure> {
        let len = self.stream.read(&mut self.buffer[..]).await?;
        if len == 0 {
            return Err("the host has closed the line".into());
        }
        let mut acknowledged = None;
        for &byte in &self.buffer[..len] {
            let Some(frame) = self.reader.push(byte) else { continue };
            match self.session.receive::<FromHost<'_>>(frame.map_err(named)?).map_err(named)? {
                FromHost::Acknowledge { upto, .. } => acknowledged = acknowledged.max(Some(upto)),
                FromHost::Time { .. } => {}
                other => return Err(format!("the host says {other:?}").into()),
            }
        }
        Ok(acknowledged)
    }
}

fn named(error: LinkError) -> Failure {
    format!("the link: {}", error.word()).into()
}
