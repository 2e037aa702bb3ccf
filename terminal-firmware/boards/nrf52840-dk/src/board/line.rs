//! The board's serial lines, both at 115,200 baud, filled and drained by the controllers' own memory access.
//!
//! The line to the host has flow control, so that neither end loses a byte. The reader chip's has none: it only answers,
//! and the longest answer fits the buffer.

use super::{Irqs, PRIORITY};
use embassy_executor::Spawner;
use embassy_nrf::Peri;
use embassy_nrf::buffered_uarte::{BufferedUarte, BufferedUarteRx, BufferedUarteTx};
use embassy_nrf::interrupt::{self, InterruptExt};
use embassy_nrf::peripherals::{
    P0_05, P0_06, P0_07, P0_08, P1_01, P1_02, PPI_CH0, PPI_CH1, PPI_CH2, PPI_CH3, PPI_GROUP0, PPI_GROUP1,
    TIMER1, TIMER2, UARTE0, UARTE1,
};
use embassy_nrf::uarte::{Baudrate, Config};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::pipe::Pipe;
use static_cell::ConstStaticCell;
use wavepass_cortex_m::crash;
use wavepass_terminal::Line;

/// Bytes received and not yet taken: a list part and its frame, or three answers of the reader chip.
const RECEIVE: usize = 1024;
/// Bytes queued for the host and not yet sent: two frames.
const SEND: usize = 2048;
/// Bytes that a controller sends in one go: the longest command of the reader chip.
const BURST: usize = 320;

static READER_IN: ConstStaticCell<[u8; RECEIVE]> = ConstStaticCell::new([0; RECEIVE]);
static READER_OUT: ConstStaticCell<[u8; BURST]> = ConstStaticCell::new([0; BURST]);
static HOST_IN: ConstStaticCell<[u8; RECEIVE]> = ConstStaticCell::new([0; RECEIVE]);
static HOST_OUT: ConstStaticCell<[u8; BURST]> = ConstStaticCell::new([0; BURST]);
static TO_HOST: Pipe<CriticalSectionRawMutex, SEND> = Pipe::new();

fn config() -> Config {
    let mut config = Config::default();
    config.baudrate = Baudrate::Baud115200;
    config
}

/// What the reader chip's line is made of.
pub(super) struct ReaderParts {
    pub(super) uarte: Peri<'static, UARTE1>,
    pub(super) timer: Peri<'static, TIMER2>,
    pub(super) ppi: (Peri<'static, PPI_CH2>, Peri<'static, PPI_CH3>, Peri<'static, PPI_GROUP1>),
    pub(super) rxd: Peri<'static, P1_01>,
    pub(super) txd: Peri<'static, P1_02>,
}

/// The line to the reader chip.
pub(super) fn reader(parts: ReaderParts) -> BufferedUarte<'static> {
    let (first, second, group) = parts.ppi;
    interrupt::UARTE1.set_priority(PRIORITY);
    BufferedUarte::new(
        parts.uarte,
        parts.timer,
        first,
        second,
        group,
        parts.rxd,
        parts.txd,
        Irqs,
        config(),
        READER_IN.take(),
        READER_OUT.take(),
    )
}

/// What the host's line is made of.
pub(super) struct HostParts {
    pub(super) uarte: Peri<'static, UARTE0>,
    pub(super) timer: Peri<'static, TIMER1>,
    pub(super) ppi: (Peri<'static, PPI_CH0>, Peri<'static, PPI_CH1>, Peri<'static, PPI_GROUP0>),
    pub(super) rxd: Peri<'static, P0_08>,
    pub(super) txd: Peri<'static, P0_06>,
    pub(super) cts: Peri<'static, P0_07>,
    pub(super) rts: Peri<'static, P0_05>,
}

/// The line to the host.
pub(super) struct HostLine {
    receive: BufferedUarteRx<'static>,
}

/// The line to the host, with a task that drains what is queued.
pub(super) fn host(parts: HostParts, spawner: Spawner) -> HostLine {
    let (first, second, group) = parts.ppi;
    interrupt::UARTE0.set_priority(PRIORITY);
    let uarte = BufferedUarte::new_with_rtscts(
        parts.uarte,
        parts.timer,
        first,
        second,
        group,
        parts.rxd,
        parts.txd,
        parts.cts,
        parts.rts,
        Irqs,
        config(),
        HOST_IN.take(),
        HOST_OUT.take(),
    );
    let (receive, send) = uarte.split();
    match drain(send) {
        Ok(token) => spawner.spawn(token),
        Err(_) => crash::reset("the task was spawned twice"),
    }
    HostLine { receive }
}

#[embassy_executor::task]
async fn drain(mut send: BufferedUarteTx<'static>) {
    let mut part = [0; 64];
    loop {
        let len = TO_HOST.read(&mut part).await;
        let mut rest = &part[..len];
        while !rest.is_empty() {
            // Sending knows no failure: a host that does not listen makes it wait.
            let sent = send.write(rest).await.unwrap_or(rest.len());
            rest = &rest[sent..];
        }
    }
}

impl Line for HostLine {
    async fn read(&mut self, into: &mut [u8]) -> usize {
        loop {
            match self.receive.read(into).await {
                Ok(0) => {}
                Ok(received) => return received,
                // The link's counters and checks find what is missing and begin again.
                Err(_) => defmt::warn!("the host's line lost bytes"),
            }
        }
    }

    fn room(&self) -> usize {
        TO_HOST.free_capacity()
    }

    fn queue(&mut self, mut bytes: &[u8]) {
        // A pipe takes less at once where its ring ends, so it is asked again.
        while !bytes.is_empty()
            && let Ok(queued) = TO_HOST.try_write(bytes)
        {
            bytes = &bytes[queued..];
        }
    }
}
