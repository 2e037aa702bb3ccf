//! The same chip behind I²C and SPI: a mock bus that speaks the ready byte and the chip's transfers.

use crate::world::{Clock, Seen, World, answer_to, command};
use embedded_hal_async::{digital, i2c, spi};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use wavepass_hce::pn532::{Injected, Switches};
use wavepass_pn532::transport::{ADDRESS, Blocking, Every, I2c, Irq, Spi, Transport};
use wavepass_pn532::{Detected, Pn532, Settings};

/// What both buses do with the chip. It sleeps until the bus first speaks to it, and misses what it heard asleep.
struct Bus {
    world: Rc<World>,
    is_awake: bool,
}

impl Bus {
    fn new(world: &Rc<World>) -> Self {
        Self { world: Rc::clone(world), is_awake: false }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.is_awake {
            self.world.chip.borrow_mut().receive(self.world.now(), bytes);
        }
        self.wake();
    }

    fn wake(&mut self) {
        self.is_awake = true;
        self.world.chip.borrow_mut().wake();
    }

    fn is_ready(&self) -> bool {
        self.world.chip.borrow_mut().is_ready(self.world.now())
    }

    /// A whole frame; what is not read of it is lost, and beyond it the line is low.
    fn read(&mut self, out: &mut [u8]) {
        let frame = self.world.chip.borrow_mut().output(self.world.now()).unwrap_or_default();
        let mut frame = VecDeque::from(frame);
        out.fill_with(|| frame.pop_front().unwrap_or(0));
    }
}

struct MockI2c(Bus);

impl i2c::ErrorType for MockI2c {
    type Error = i2c::ErrorKind;
}

impl embedded_hal::i2c::I2c for MockI2c {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [i2c::Operation<'_>],
    ) -> Result<(), i2c::ErrorKind> {
        assert_eq!(address, ADDRESS);
        if !self.0.is_awake {
            self.0.wake();
            return Err(i2c::ErrorKind::NoAcknowledge(i2c::NoAcknowledgeSource::Address));
        }
        for operation in operations {
            match operation {
                i2c::Operation::Write(bytes) => self.0.write(bytes),
                i2c::Operation::Read(buffer) => {
                    let (status, frame) = buffer.split_first_mut().unwrap();
                    *status = self.0.is_ready().into();
                    if *status == 1 && !frame.is_empty() {
                        self.0.read(frame);
                    }
                }
            }
        }
        Ok(())
    }
}

struct MockSpi(Bus);

impl spi::ErrorType for MockSpi {
    type Error = spi::ErrorKind;
}

impl spi::SpiDevice for MockSpi {
    async fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), spi::ErrorKind> {
        // The lowest bit travels first.
        match operations {
            [spi::Operation::Write([0x80]), spi::Operation::Write(frame)] => {
                let frame: Vec<u8> = frame.iter().map(|byte| byte.reverse_bits()).collect();
                self.0.write(&frame);
            }
            [spi::Operation::Write([0x40]), spi::Operation::Read(status)] => {
                self.0.wake();
                status.fill(u8::from(self.0.is_ready()).reverse_bits());
            }
            [spi::Operation::Write([0xC0]), spi::Operation::Read(out)] => {
                self.0.read(out);
                out.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
            }
            other => panic!("a transfer that the chip does not know: {other:?}"),
        }
        Ok(())
    }
}

/// The interrupt line: low while a frame waits.
struct MockPin(Rc<World>);

impl embedded_hal::digital::ErrorType for MockPin {
    type Error = Infallible;
}

impl digital::Wait for MockPin {
    async fn wait_for_low(&mut self) -> Result<(), Infallible> {
        while !self.0.chip.borrow_mut().is_ready(self.0.now()) {
            self.0.wait_until(self.0.now() + Duration::from_micros(100)).await;
        }
        Ok(())
    }

    async fn wait_for_high(&mut self) -> Result<(), Infallible> {
        unreachable!("the driver waits for low alone")
    }

    async fn wait_for_rising_edge(&mut self) -> Result<(), Infallible> {
        unreachable!("the driver waits for low alone")
    }

    async fn wait_for_falling_edge(&mut self) -> Result<(), Infallible> {
        unreachable!("the driver waits for low alone")
    }

    async fn wait_for_any_edge(&mut self) -> Result<(), Infallible> {
        unreachable!("the driver waits for low alone")
    }
}

/// Taps with short, long and fragmented answers, without faults and with.
fn taps(world: &Rc<World>, transport: impl Transport) {
    let seen = Seen::default();
    let mut reader = Pn532::new(transport, Clock(Rc::clone(world)), Settings::default());
    assert_eq!(world.run(reader.poll()).unwrap(), Detected::None);
    world.present(&seen);
    let (mut right, mut number) = (0, 0);
    let lines = [Injected::LateAck, Injected::CorruptAck, Injected::WrongDcs, Injected::WrongLcs];
    let lines = lines.map(|fault| Switches::one(fault, 0.1));
    for (round, switches) in [Switches::default()].into_iter().chain(lines).enumerate() {
        world.switch(Switches { fragment: 200, ..switches });
        for _ in 0..30 {
            let Detected::One(target) = world.run(reader.wait_card()).unwrap() else { panic!("one card") };
            let mut answer = [0; 600];
            for answer_len in [0, 200, 250, 400] {
                number += 1;
                let command = command(number, answer_len);
                match world.run(reader.exchange(&target, &command, &mut answer)) {
                    Ok(len) => {
                        assert_eq!(answer[..len], answer_to(&command));
                        right += 1;
                    }
                    Err(e) => {
                        assert!(round > 0, "without a fault: {e}");
                        break;
                    }
                }
            }
        }
        assert!(round > 0 || right == 120);
    }
    assert!(right * 50 >= number * 49, "{right} of {number}");
    let seen = seen.lock().unwrap();
    let distinct: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "a card got a command twice");
}

#[test]
fn taps_pass_over_i2c() {
    let world = World::new(80);
    taps(&world, I2c::new(Blocking(MockI2c(Bus::new(&world))), Every::new(Clock(Rc::clone(&world)), 500)));
}

#[test]
fn taps_pass_over_i2c_with_the_interrupt_line() {
    let world = World::new(81);
    let ready = Irq::new(MockPin(Rc::clone(&world)), Clock(Rc::clone(&world)));
    taps(&world, I2c::new(Blocking(MockI2c(Bus::new(&world))), ready));
}

#[test]
fn taps_pass_over_spi() {
    let world = World::new(82);
    taps(&world, Spi::new(MockSpi(Bus::new(&world)), Every::new(Clock(Rc::clone(&world)), 500)));
}

#[test]
fn taps_pass_over_spi_with_the_interrupt_line() {
    let world = World::new(83);
    let ready = Irq::new(MockPin(Rc::clone(&world)), Clock(Rc::clone(&world)));
    taps(&world, Spi::new(MockSpi(Bus::new(&world)), ready));
}
