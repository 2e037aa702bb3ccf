//! One key for each entry: the DUKPT device over the key log.
//!
//! The counter moves on durably, and the register it used up is erased from flash, before the key that was
//! derived from it seals anything. A cut burns a counter; it never repeats one.

use crate::GateError;
use embedded_storage_async::nor_flash::NorFlash;
use wavepass_journal::keylog::KeyLog;
use wavepass_protocol::dukpt::{self, DukptError, Key, KeyId, Ksn, Registers, Usage};

/// Why there is no key.
pub(crate) enum KeysError<E> {
    /// The flash failed.
    Store(wavepass_journal::Error<E>),
    /// A register was lost, or every key has been used.
    Keys(DukptError),
}

impl<E> From<wavepass_journal::Error<E>> for KeysError<E> {
    fn from(why: wavepass_journal::Error<E>) -> Self {
        Self::Store(why)
    }
}

pub(crate) struct Keys<F> {
    log: KeyLog<F>,
    key_id: KeyId,
    counter: u32,
    registers: Registers,
    /// The key for the next entry, already durable, so that a tap does not wait for it.
    ready: Option<(Ksn, Key)>,
}

impl<F: NorFlash> Keys<F> {
    /// Fills a blank key log from the initial key.
    pub(crate) async fn commission(
        mut log: KeyLog<F>,
        key_id: KeyId,
        initial: &Key,
    ) -> Result<(), GateError<F::Error>> {
        let registers = dukpt::initial_registers(initial, key_id);
        for (register, key) in registers.iter().enumerate() {
            if let Some(key) = key {
                log.put(register as u8, key.bytes()).await?;
            }
            log.prepare().await?;
        }
        Ok(())
    }

    /// Takes the registers up again; erases what a cut may have left of a used one.
    pub(crate) async fn open(flash: F, key_id: KeyId) -> Result<Self, GateError<F::Error>> {
        let mut log = KeyLog::open(flash).await?;
        let counter = log.counter();
        let mut registers: Registers = core::array::from_fn(|_| None);
        for (register, slot) in registers.iter_mut().enumerate() {
            if dukpt::is_used_up(counter, register) {
                log.erase(register as u8).await?;
            } else {
                *slot = log.key(register as u8).await?.map(Key::new);
            }
        }
        Ok(Self { log, key_id, counter, registers, ready: None })
    }

    /// Makes the next key ready; the idle-time half of [`Keys::take`].
    pub(crate) async fn prepare(&mut self) -> Result<(), KeysError<F::Error>> {
        self.log.prepare().await?;
        if self.ready.is_some() {
            return Ok(());
        }
        let step = dukpt::plan(self.key_id, self.counter, &self.registers, Usage::DataEncrypt)
            .map_err(KeysError::Keys)?;
        for (register, child) in step.children.iter().enumerate() {
            self.log.put(register as u8, child.bytes()).await?;
            self.registers[register] = Some(child.clone());
        }
        self.log.advance(step.counter).await?;
        self.counter = step.counter;
        self.log.erase(step.register as u8).await?;
        self.registers[step.register] = None;
        self.ready = Some((Ksn { key_id: self.key_id, counter: step.counter }, step.key));
        Ok(())
    }

    /// The key for the next entry. It is given once.
    pub(crate) async fn take(&mut self) -> Result<(Ksn, Key), KeysError<F::Error>> {
        // A key that is ready needs nothing of the log, which may be due to move and erase a page: that can wait for idle time.
        if self.ready.is_none() {
            self.prepare().await?;
        }
        self.ready.take().ok_or(KeysError::Keys(DukptError::Exhausted))
    }
}
