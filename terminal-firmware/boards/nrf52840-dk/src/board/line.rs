//! The board's serial lines, both at 115,200 baud, filled and drained by the controllers' own memory access.
//!
//! The line to the host has flow control, so that neither end loses a byte. The reader chip's has none: it only answers,
//! and the longest answer fits the buffer.

use super::{Irqs, PRIORITY};
use embassy_executor::Spawner;
use embassy_nrf::buffered_uarte::{BufferedUarte, BufferedUarteRx, BufferedUarteTx, InterruptHandler};
use embassy_nrf::gpio::AnyPin;
use embassy_nrf::interrupt::typelevel::{Binding, Interrupt as _};
use embassy_nrf::peripherals::{TIMER1, TIMER2, UARTE0, UARTE1};
use embassy_nrf::ppi::{AnyConfigurableChannel, AnyGroup};
use embassy_nrf::uarte::{Baudrate, Config, Instance};
use embassy_nrf::{Peri, timer};
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

/// What a line is made of.
pub(super) struct Parts<U: Instance, T: timer::Instance> {
    pub(super) uarte: Peri<'static, U>,
    pub(super) timer: Peri<'static, T>,
    pub(super) channels: [Peri<'static, AnyConfigurableChannel>; 2],
    pub(super) group: Peri<'static, AnyGroup>,
    pub(super) rxd: Peri<'static, AnyPin>,
    pub(super) txd: Peri<'static, AnyPin>,
}

/// The pins of flow control.
pub(super) struct Flow {
    pub(super) cts: Peri<'static, AnyPin>,
    pub(super) rts: Peri<'static, AnyPin>,
}

impl<U: Instance, T: timer::Instance> Parts<U, T> {
    fn open(
        self,
        flow: Option<Flow>,
        receive: &'static mut [u8],
        send: &'static mut [u8],
    ) -> BufferedUarte<'static>
    where
        Irqs: Binding<U::Interrupt, InterruptHandler<U>>,
    {
        let Self { uarte, timer, channels: [first, second], group, rxd, txd } = self;
        let mut config = Config::default();
        config.baudrate = Baudrate::Baud115200;
        U::Interrupt::set_priority(PRIORITY);
        match flow {
            None => {
                BufferedUarte::new(uarte, timer, first, second, group, rxd, txd, Irqs, config, receive, send)
            }
            Some(Flow { cts, rts }) => BufferedUarte::new_with_rtscts(
                uarte, timer, first, second, group, rxd, txd, cts, rts, Irqs, config, receive, send,
            ),
        }
    }
}

/// The line to the reader chip.
pub(super) fn reader(parts: Parts<UARTE1, TIMER2>) -> BufferedUarte<'static> {
    parts.open(None, READER_IN.take(), READER_OUT.take())
}

/// The line to the host.
pub(super) struct HostLine {
    receive: BufferedUarteRx<'static>,
}

/// The line to the host, with a task that drains what is queued.
pub(super) fn host(parts: Parts<UARTE0, TIMER1>, flow: Flow, spawner: Spawner) -> HostLine {
    let (receive, send) = parts.open(Some(flow), HOST_IN.take(), HOST_OUT.take()).split();
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
