//! When the chip is ready to be read: by asking now and then, or by its interrupt line.

use embedded_hal_async::delay::DelayNs;
use embedded_hal_async::digital::Wait;

/// Paces the questions whether the chip is ready.
#[expect(async_fn_in_trait, reason = "one task owns the reader; nothing is sent between threads here")]
pub trait Ready {
    /// Returns when it is worth asking. Dropping it loses nothing.
    async fn worth_asking(&mut self);
}

/// Asks at intervals.
#[derive(Debug)]
pub struct Every<D> {
    delay: D,
    interval_us: u32,
}

impl<D: DelayNs> Every<D> {
    /// Asks every so many microseconds; at least one, since a loop without a pause stops all other tasks.
    pub const fn new(delay: D, interval_us: u32) -> Self {
        Self { delay, interval_us: if interval_us == 0 { 1 } else { interval_us } }
    }
}

impl<D: DelayNs> Ready for Every<D> {
    async fn worth_asking(&mut self) {
        self.delay.delay_us(self.interval_us).await;
    }
}

/// Asks when the line P70_IRQ is low, and after a pause where it is low and the chip not ready.
#[derive(Debug)]
pub struct Irq<P, D> {
    pin: P,
    pause: Every<D>,
    asked: bool,
}

impl<P: Wait, D: DelayNs> Irq<P, D> {
    /// With this pin.
    pub const fn new(pin: P, delay: D) -> Self {
        Self { pin, pause: Every::new(delay, 200), asked: false }
    }
}

impl<P: Wait, D: DelayNs> Ready for Irq<P, D> {
    async fn worth_asking(&mut self) {
        if self.asked {
            self.pause.worth_asking().await;
        }
        // A pin that reports an error is a pin that is not connected: asking at intervals is what is left.
        if self.pin.wait_for_low().await.is_err() {
            self.pause.worth_asking().await;
        }
        self.asked = true;
    }
}

/// A blocking bus in the place of an asynchronous one: each transfer, at most some milliseconds, stops other tasks.
#[derive(Debug)]
pub struct Blocking<B>(pub B);

impl<B: embedded_hal::i2c::ErrorType> embedded_hal::i2c::ErrorType for Blocking<B> {
    type Error = B::Error;
}

impl<B: embedded_hal::i2c::I2c> embedded_hal_async::i2c::I2c for Blocking<B> {
    async fn transaction(
        &mut self,
        address: u8,
        operations: &mut [embedded_hal::i2c::Operation<'_>],
    ) -> Result<(), B::Error> {
        self.0.transaction(address, operations)
    }
}

impl<B: embedded_hal::spi::ErrorType> embedded_hal::spi::ErrorType for Blocking<B> {
    type Error = B::Error;
}

impl<B: embedded_hal::spi::SpiDevice> embedded_hal_async::spi::SpiDevice for Blocking<B> {
    async fn transaction(
        &mut self,
        operations: &mut [embedded_hal::spi::Operation<'_, u8>],
    ) -> Result<(), B::Error> {
        self.0.transaction(operations)
    }
}
