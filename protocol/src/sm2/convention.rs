//! What phones and gates are told of the national suite where no source settles it.

use super::{Sm2Error, unverified};
use core::fmt;

/// The most bytes of a signer's identifier.
pub const MAX_USER_ID: usize = 32;
/// The most bytes before the transaction counter.
pub const MAX_COUNTER_PREFIX: usize = 8;

/// How the signatures of a chain are made, from the authority's to the card's: what the sources leave open and both sides
/// must agree on. The default is [`unverified`]'s.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Convention {
    user_id: [u8; MAX_USER_ID],
    user_id_len: usize,
    counter_prefix: [u8; MAX_COUNTER_PREFIX],
    counter_prefix_len: usize,
}

impl Convention {
    /// `user_id`: the signer's identifier, which every signature covers by its hash. `counter_prefix`: the bytes before
    /// the transaction counter in the dynamic data of a quick signature. Either may be empty.
    pub const fn new(user_id: &str, counter_prefix: &[u8]) -> Result<Self, Sm2Error> {
        let mut new = Self {
            user_id: [0; MAX_USER_ID],
            user_id_len: user_id.len(),
            counter_prefix: [0; MAX_COUNTER_PREFIX],
            counter_prefix_len: counter_prefix.len(),
        };
        match new.user_id.split_at_mut_checked(user_id.len()) {
            Some((start, _)) => start.copy_from_slice(user_id.as_bytes()),
            None => return Err(Sm2Error::UserId(user_id.len())),
        }
        match new.counter_prefix.split_at_mut_checked(counter_prefix.len()) {
            Some((start, _)) => start.copy_from_slice(counter_prefix),
            None => return Err(Sm2Error::CounterPrefix(counter_prefix.len())),
        }
        Ok(new)
    }

    /// The default, in a constant.
    pub const DEFAULT: Self = match Self::new(unverified::USER_ID, unverified::COUNTER_PREFIX) {
        Ok(default) => default,
        Err(_) => panic!("the defaults are within their limits"),
    };

    /// The signer's identifier.
    pub fn user_id(&self) -> &str {
        // It was text when it was taken.
        core::str::from_utf8(&self.user_id[..self.user_id_len]).unwrap_or_default()
    }

    /// What stands before the counter.
    pub fn counter_prefix(&self) -> &[u8] {
        &self.counter_prefix[..self.counter_prefix_len]
    }
}

impl Default for Convention {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Debug for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Convention")
            .field("user_id", &self.user_id())
            .field("counter_prefix", &self.counter_prefix())
            .finish()
    }
}
