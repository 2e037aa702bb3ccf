//! How much of the stack has ever been used: it is painted before the program begins.

use core::arch::global_asm;

const PAINT: u32 = 0xA5A5_A5A5;
/// Bytes of the stack, as every board's `memory.x` has it.
pub const BYTES: usize = 32 << 10;
/// More than a function takes that calls nothing.
const FRAME: usize = 128;

unsafe extern "C" {
    static _stack_start: u32;
    static _stack_limit: u32;
}

// Runs before memory is initialised, so it may use no stack itself.
global_asm!(
    ".global __pre_init",
    ".type __pre_init,%function",
    ".thumb_func",
    "__pre_init:",
    "ldr r0, =_stack_limit",
    "mov r1, sp",
    "ldr r2, =0xA5A5A5A5",
    "1: cmp r0, r1",
    "bhs 2f",
    "stmia r0!, {{r2}}",
    "b 1b",
    "2: bx lr",
);

fn limits() -> (*const u32, *const u32) {
    (&raw const _stack_limit, &raw const _stack_start)
}

/// Paints what is free now: what a board needed of it before this, once in a start, does not count as used.
#[inline(never)]
pub fn paint() {
    let here = 0_u32;
    let end = (&raw const here).wrapping_sub(FRAME / size_of::<u32>());
    let mut at = limits().0.cast_mut();
    while at.cast_const() < end {
        // SAFETY: `at` lies in the stack's own memory, below all that is in use.
        unsafe { at.write_volatile(PAINT) };
        at = at.wrapping_add(1);
    }
}

/// Bytes of the stack.
pub(crate) fn size() -> u32 {
    let (limit, start) = limits();
    (start as usize - limit as usize) as u32
}

/// The most bytes of it that were ever in use.
pub fn used() -> u32 {
    let (limit, start) = limits();
    let mut at = limit;
    while at < start {
        // SAFETY: `at` lies in the stack's own memory, whole words.
        if unsafe { at.read_volatile() } != PAINT {
            break;
        }
        at = at.wrapping_add(1);
    }
    (start as usize - at as usize) as u32
}
