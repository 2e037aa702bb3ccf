//! The large part of a gate's memory, which is made once, in place, and never moved.
//!
//! A gate is put together by futures that pass its parts on by value, each time over the stack. What is large
//! therefore lies here: a board has it in a static (`static_cell::ConstStaticCell`), a host in a `Box`. It holds
//! nothing that a gate relies on before [`crate::Gate::start`], which empties it first: a start that failed half-way
//! leaves nothing to the next one.

use crate::lists::ListMemory;
use crate::passback::Passback;
use core::ops::DerefMut;
use wavepass_kernel::Kernel;
use wavepass_protocol::ecc::Verifier;

/// Room for kernel, lists and passback of one gate. `V` verifies P-256 signatures.
pub struct Memory<V> {
    pub(crate) kernel: Kernel<V>,
    pub(crate) passback: Passback,
    pub(crate) lists: ListMemory,
}

impl<V> Memory<V> {
    /// Memory of a gate that is not started.
    pub const fn new(verifier: V) -> Self {
        Self { kernel: Kernel::new(verifier), passback: Passback::new(), lists: ListMemory::new() }
    }
}

impl<V: Verifier> Memory<V> {
    /// The verifier, for a board to test before it starts the gate.
    pub const fn verifier(&mut self) -> &mut V {
        self.kernel.verifier()
    }

    pub(crate) fn clear(&mut self) {
        self.kernel.forget_issuers();
        self.passback.clear();
        self.lists.clear();
    }
}

/// Where a gate's [`Memory`] lies: `&'static mut Memory<V>` on a board, `Box<Memory<V>>` on a host.
pub trait Room: DerefMut<Target = Memory<<Self as Room>::Verifier>> {
    /// What verifies P-256 signatures.
    type Verifier: Verifier;
}

impl<V: Verifier, M: DerefMut<Target = Memory<V>>> Room for M {
    type Verifier = V;
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavepass_protocol::ecc::P256Verifier;

    #[test]
    fn a_gate_s_memory_without_the_verifier_s_is_at_most_26_kib() {
        let size = size_of::<Memory<P256Verifier>>();
        assert!(size <= 26 << 10, "{size} bytes");
    }
}
