//! The reader chip on its serial line: a PN532 over HSU.

use super::uart::READER;
use core::convert::Infallible;
use embedded_io_async::{ErrorType, Read, Write};
use wavepass_terminal::Pn532Reader;
use wavepass_terminal::pn532::Settings;
use wavepass_terminal::pn532::transport::Hsu;

/// The line.
pub(super) struct ReaderLine;

impl ErrorType for ReaderLine {
    type Error = Infallible;
}

impl Read for ReaderLine {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        Ok(READER.receive(into).await)
    }
}

impl Write for ReaderLine {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(READER.send_some(bytes).await)
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The reader.
pub(super) type BoardReader = Pn532Reader<Hsu<ReaderLine>>;

/// The reader, before it is set up.
pub(super) fn reader() -> BoardReader {
    Pn532Reader::new(Hsu::new(ReaderLine), Settings::default())
}
