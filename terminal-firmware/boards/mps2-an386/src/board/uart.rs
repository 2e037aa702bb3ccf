//! The board's serial lines (CMSDK APB UART), filled and drained by interrupts.
//!
//! A line whose receive buffer is full leaves the byte in the device, which makes the other end wait: nothing is
//! lost. Registers: ARM Cortex-M System Design Kit, APB UART; QEMU's `hw/char/cmsdk-apb-uart.c`.

use core::cell::RefCell;
use core::future::poll_fn;
use core::task::Poll;
use critical_section::{CriticalSection, Mutex};
use embassy_sync::waitqueue::AtomicWaker;
use heapless::Deque;
use wavepass_protocol::link::MAX_FRAME;
use wavepass_terminal::Line;

const TX_FULL: u32 = 1;
const RX_FULL: u32 = 1 << 1;
const TX_ENABLE: u32 = 1;
const RX_ENABLE: u32 = 1 << 1;
const TX_INTERRUPT: u32 = 1 << 2;
const RX_INTERRUPT: u32 = 1 << 3;
/// The smallest divider the device takes. QEMU moves bytes as fast as the host does.
const BAUD_DIVIDER: u32 = 16;

struct Buffers<const RECEIVE: usize, const SEND: usize> {
    received: Deque<u8, RECEIVE>,
    to_send: Deque<u8, SEND>,
    sending: bool,
    /// The receive buffer was full: bytes wait in the device.
    held: bool,
}

/// One serial line. `RECEIVE` bytes may be received and not yet taken, `SEND` queued and not yet sent.
pub(super) struct Uart<const RECEIVE: usize, const SEND: usize> {
    base: usize,
    buffers: Mutex<RefCell<Buffers<RECEIVE, SEND>>>,
    came: AtomicWaker,
    went: AtomicWaker,
}

impl<const RECEIVE: usize, const SEND: usize> Uart<RECEIVE, SEND> {
    const fn new(base: usize) -> Self {
        let buffers = Buffers { received: Deque::new(), to_send: Deque::new(), sending: false, held: false };
        Self {
            base,
            buffers: Mutex::new(RefCell::new(buffers)),
            came: AtomicWaker::new(),
            went: AtomicWaker::new(),
        }
    }

    fn register(&self, offset: usize) -> *mut u32 {
        (self.base + offset) as *mut u32
    }

    fn read(&self, offset: usize) -> u32 {
        // SAFETY: `base` is one of this board's lines, and the offsets below are its registers.
        unsafe { self.register(offset).read_volatile() }
    }

    fn write(&self, offset: usize, value: u32) {
        // SAFETY: as in `read`.
        unsafe { self.register(offset).write_volatile(value) }
    }

    fn data(&self) -> u8 {
        self.read(0x00) as u8
    }

    fn state(&self) -> u32 {
        self.read(0x04)
    }

    fn control(&self, buffers: &Buffers<RECEIVE, SEND>) {
        let receive = if buffers.held { 0 } else { RX_INTERRUPT };
        self.write(0x08, TX_ENABLE | RX_ENABLE | TX_INTERRUPT | receive);
    }

    fn with<T>(&self, work: impl FnOnce(&mut Buffers<RECEIVE, SEND>) -> T) -> T {
        critical_section::with(|cs: CriticalSection<'_>| work(&mut self.buffers.borrow(cs).borrow_mut()))
    }

    fn begin(&self) {
        self.write(0x10, BAUD_DIVIDER);
        self.with(|buffers| self.control(buffers));
    }

    /// A byte has come, or one has gone. `take` may take each as it comes; what it leaves is received.
    fn interrupt(&self, mut take: impl FnMut(u8) -> bool) {
        self.write(0x0C, TX_FULL | RX_FULL);
        while let Some(byte) = self.with(|buffers| self.arrived(buffers)) {
            if !take(byte) {
                // There is room: it was looked for before the byte was taken out of the device.
                self.with(|buffers| _ = buffers.received.push_back(byte));
            }
        }
        self.with(|buffers| self.drain(buffers));
        self.came.wake();
        self.went.wake();
    }

    /// The byte in the device, where there is room for it; else it waits there.
    fn arrived(&self, buffers: &mut Buffers<RECEIVE, SEND>) -> Option<u8> {
        if self.state() & RX_FULL == 0 {
            return None;
        }
        if buffers.received.is_full() {
            buffers.held = true;
            self.control(buffers);
            return None;
        }
        Some(self.data())
    }

    fn drain(&self, buffers: &mut Buffers<RECEIVE, SEND>) {
        buffers.sending = false;
        while self.state() & TX_FULL == 0 {
            let Some(data) = buffers.to_send.pop_front() else { return };
            self.write(0x00, u32::from(data));
            buffers.sending = true;
        }
        buffers.sending = true;
    }

    /// Takes what was received; nothing is lost where the future is dropped.
    pub(super) async fn receive(&self, into: &mut [u8]) -> usize {
        poll_fn(|context| {
            self.came.register(context.waker());
            let taken = self.take(into);
            if taken == 0 { Poll::Pending } else { Poll::Ready(taken) }
        })
        .await
    }

    fn take(&self, into: &mut [u8]) -> usize {
        self.with(|buffers| {
            let mut taken = 0;
            while let Some(slot) = into.get_mut(taken)
                && let Some(byte) = buffers.received.pop_front()
            {
                *slot = byte;
                taken += 1;
            }
            if taken > 0 && buffers.held {
                buffers.held = false;
                self.control(buffers);
                // The byte that waits in the device raised its interrupt before; take it here.
                while let Some(byte) = self.arrived(buffers) {
                    let _ = buffers.received.push_back(byte);
                }
            }
            taken
        })
    }

    /// How many bytes may be queued.
    pub(super) fn room(&self) -> usize {
        self.with(|buffers| SEND - buffers.to_send.len())
    }

    /// Queues what fits; gives how much that was.
    pub(super) fn queue(&self, bytes: &[u8]) -> usize {
        self.with(|buffers| {
            let queued = bytes.iter().take_while(|&&byte| buffers.to_send.push_back(byte).is_ok()).count();
            if !buffers.sending {
                self.drain(buffers);
            }
            queued
        })
    }

    /// Queues what fits of `bytes`, waiting until something does; gives how much that was.
    pub(super) async fn send_some(&self, bytes: &[u8]) -> usize {
        poll_fn(|context| {
            self.went.register(context.waker());
            match self.queue(bytes) {
                0 if !bytes.is_empty() => Poll::Pending,
                queued => Poll::Ready(queued),
            }
        })
        .await
    }
}

/// The reader chip: a frame of the chip's each way.
pub(super) static READER: Uart<300, 300> = Uart::new(0x4000_4000);
/// The host: a list part with its frame in, two frames out.
pub(super) static HOST: Uart<1024, { 2 * MAX_FRAME }> = Uart::new(0x4000_5000);
/// The panel: a byte for each input, all of them taken in the interrupt; lines of text out.
pub(super) static PANEL: Uart<1, 128> = Uart::new(0x4000_6000);

/// Interrupt numbers: a line's receive and transmit interrupt follow each other.
#[derive(Clone, Copy)]
struct Number(u16);

// SAFETY: 0 to 5 are the first three lines' interrupts on this board.
unsafe impl cortex_m::interrupt::InterruptNumber for Number {
    fn number(self) -> u16 {
        self.0
    }
}

/// Switches the lines on.
pub(super) fn start() {
    READER.begin();
    HOST.begin();
    PANEL.begin();
    for number in 0..6 {
        // SAFETY: every line has been set up, and its handler is in the vector table.
        unsafe { cortex_m::peripheral::NVIC::unmask(Number(number)) };
    }
}

extern "C" fn reader_interrupt() {
    READER.interrupt(|_| false);
}

extern "C" fn host_interrupt() {
    HOST.interrupt(|_| false);
}

extern "C" fn panel_interrupt() {
    PANEL.interrupt(|byte| {
        super::panel::input(byte);
        true
    });
}

extern "C" fn no_interrupt() {
    super::crash::reset("an interrupt that nothing asked for");
}

/// The board's interrupts, in their order.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [extern "C" fn(); 32] = {
    let mut table: [extern "C" fn(); 32] = [no_interrupt; 32];
    table[0] = reader_interrupt;
    table[1] = reader_interrupt;
    table[2] = host_interrupt;
    table[3] = host_interrupt;
    table[4] = panel_interrupt;
    table[5] = panel_interrupt;
    table
};

/// The line to the host.
pub(super) struct HostLine;

impl Line for HostLine {
    async fn read(&mut self, into: &mut [u8]) -> usize {
        HOST.receive(into).await
    }

    fn room(&self) -> usize {
        HOST.room()
    }

    fn queue(&mut self, bytes: &[u8]) {
        HOST.queue(bytes);
    }
}
