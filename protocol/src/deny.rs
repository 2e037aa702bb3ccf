//! The deny list's content, and how a token is found in it: two short reads, whatever the list's length.
//!
//! One look-up for everybody: [`Shape::look_up`] says which bytes to read and what they mean. A gate reads them from
//! flash, the host from memory. Nothing here holds a list or waits for a read.
//!
//! Under the list's salt every token has a hash, SHA-256(salt ‖ token 10). Its first `bits` bits name a bucket; an
//! entry is the next 24 bits and the month of expiry. The content, numbers big-endian:
//!
//! | part | bytes |
//! | --- | --- |
//! | salt | 8 |
//! | entries | 4 |
//! | bits, 0 to 24 | 1 |
//! | zeros | 3 |
//! | for every 64 buckets a block: number of its first entry 4, entries of each bucket 1 | 68 (5 to 36 with fewer buckets) |
//! | entries in order of bucket, then ascending: hash 3, month 1 | 4 each |
//!
//! *Chance.* A token that is not listed meets an entry with probability entries / 2^(bits + 24), below one in a
//! million since there are at most [`MAX_MEAN`] entries a bucket. Two months are never taken for each other: they
//! are told apart over 21 years, more than any card's life.
//!
//! *Size.* [`Shape::best_bits`] keeps a list of 64 entries or more within five bytes an entry.

mod delta;

pub use delta::{Change, Delta, MAX_CHANGES, Merge};

use crate::lists::ListError;
use crate::token::{Expiry, Token};
use core::ops::Range;
use sha2::{Digest, Sha256};

/// Bytes before the directory.
pub const HEADER: usize = 16;
/// The most bits that name a bucket.
pub const MAX_BITS: u8 = 24;
/// The most entries a bucket has. With a mean of 15 no salt comes near it; bounds a look-up's second read.
pub const MAX_BUCKET: usize = 64;
/// The most entries a bucket has on average: keeps a chance hit below 15 / 2^24, nine in ten million.
pub const MAX_MEAN: u32 = 15;
/// The longest block of the directory.
pub const MAX_BLOCK: usize = 4 + BLOCK_BUCKETS;
/// The longest read of a look-up.
pub const MAX_READ: usize = MAX_BUCKET * ENTRY;
const BLOCK_BUCKETS: usize = 64;
const ENTRY: usize = 4;
/// Above so many entries a bucket, the host makes the list anew with more buckets.
const KEPT_MEAN: u32 = 8;

/// A token and expiry as a list of some salt and number of buckets has them: bucket 3 ‖ hash 3 ‖ month 1. Lists are
/// in the order of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DenyKey(pub [u8; 7]);

impl DenyKey {
    fn new(bucket: u32, entry: [u8; ENTRY]) -> Self {
        let [_, a, b, c] = bucket.to_be_bytes();
        let [d, e, f, month] = entry;
        Self([a, b, c, d, e, f, month])
    }

    fn bucket(&self) -> u32 {
        u32::from_be_bytes([0, self.0[0], self.0[1], self.0[2]])
    }

    fn entry(&self) -> [u8; ENTRY] {
        [self.0[3], self.0[4], self.0[5], self.0[6]]
    }
}

/// The month of an expiry, counted from January 2000, modulo 256.
fn month(expiry: Expiry) -> u8 {
    ((u16::from(expiry.year) * 12 + u16::from(expiry.month) - 1) % 256) as u8
}

/// What a list's header says: all that a look-up needs in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    salt: [u8; 8],
    entries: u32,
    bits: u8,
}

impl Shape {
    /// A shape within the format's limits.
    pub fn new(salt: [u8; 8], entries: u32, bits: u8) -> Result<Self, ListError> {
        if bits > MAX_BITS || entries > MAX_MEAN << bits {
            return Err(ListError::Content);
        }
        Ok(Self { salt, entries, bits })
    }

    /// Reads a content's first bytes.
    pub fn parse(header: &[u8; HEADER]) -> Result<Self, ListError> {
        let [salt @ .., a, b, c, d, bits, 0, 0, 0] = *header else { return Err(ListError::Content) };
        Self::new(salt, u32::from_be_bytes([a, b, c, d]), bits)
    }

    fn to_bytes(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(&self.salt);
        out[8..12].copy_from_slice(&self.entries.to_be_bytes());
        out[12] = self.bits;
        out
    }

    /// The salt.
    pub const fn salt(&self) -> &[u8; 8] {
        &self.salt
    }

    /// How many entries there are.
    pub const fn entries(&self) -> u32 {
        self.entries
    }

    /// How many bits name a bucket.
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// The number of bits for a new list of so many entries: as many as five bytes an entry allow, with an eighth to
    /// spare for entries that go. A list below 64 entries has what it needs.
    pub fn best_bits(entries: u32) -> u8 {
        let within_five = |bits: u8| is_within_five(entries - entries / 8, bits);
        (0..=MAX_BITS).rev().find(|&bits| within_five(bits)).unwrap_or(0).max(fewest_bits(entries))
    }

    /// True if a list that has grown or shrunk to so many entries may keep its number of bits.
    pub fn keeps_bits(entries: u32, bits: u8) -> bool {
        let within_five = is_within_five(entries, bits) && entries <= KEPT_MEAN << bits;
        within_five || bits == Self::best_bits(entries)
    }

    const fn buckets(&self) -> u32 {
        1 << self.bits
    }

    const fn block_buckets(&self) -> usize {
        if self.bits < 6 { 1 << self.bits } else { BLOCK_BUCKETS }
    }

    fn blocks(&self) -> u32 {
        self.buckets().div_ceil(BLOCK_BUCKETS as u32)
    }

    fn block(&self, block: u32) -> Range<usize> {
        let len = 4 + self.block_buckets();
        let from = HEADER + block as usize * len;
        from..from + len
    }

    fn entries_at(&self) -> usize {
        HEADER + self.blocks() as usize * (4 + self.block_buckets())
    }

    fn entry_range(&self, from: u32, count: u32) -> Range<usize> {
        let at = |n: u32| self.entries_at() + n as usize * ENTRY;
        at(from)..at(from + count)
    }

    /// Bytes of the whole content.
    pub fn content_len(&self) -> usize {
        self.entries_at() + self.entries as usize * ENTRY
    }

    fn hash(&self, token: &Token) -> (u32, [u8; 3]) {
        let hash = Sha256::new().chain_update(self.salt).chain_update(token.bcd()).finalize();
        let hash = hash[..8].iter().fold(0u64, |n, &b| n << 8 | u64::from(b));
        let bits = u32::from(self.bits);
        let bucket = hash.checked_shr(64 - bits).unwrap_or(0) as u32;
        let [_, _, _, _, _, a, b, c] = (hash << bits >> 40).to_be_bytes();
        (bucket, [a, b, c])
    }

    /// The key of a token and expiry.
    pub fn key(&self, token: &Token, expiry: Expiry) -> DenyKey {
        let (bucket, [a, b, c]) = self.hash(token);
        DenyKey::new(bucket, [a, b, c, month(expiry)])
    }

    /// Begins a look-up: of a token with this expiry, or with any where the card signs none.
    pub fn look_up(&self, token: &Token, expiry: Option<Expiry>) -> LookUp {
        let (bucket, hash) = self.hash(token);
        LookUp { shape: *self, bucket, hash, month: expiry.map(month) }
    }

    /// Writes a content from its keys, which are strictly ascending and as many as the shape says, into `out`, which
    /// is as long as [`Shape::content_len`]. A bucket with more than [`MAX_BUCKET`] entries is an error: another
    /// salt has none.
    pub fn write(&self, keys: &[DenyKey], out: &mut [u8]) -> Result<(), ListError> {
        let fits = keys.len() == self.entries as usize
            && out.len() == self.content_len()
            && keys.is_sorted_by(|a, b| a < b)
            && keys.last().is_none_or(|key| key.bucket() < self.buckets());
        if !fits {
            return Err(ListError::Content);
        }
        out[..HEADER].copy_from_slice(&self.to_bytes());
        let mut rest = keys;
        for block in 0..self.blocks() {
            let first = keys.len() - rest.len();
            let place = &mut out[self.block(block)];
            place[..4].copy_from_slice(&(first as u32).to_be_bytes());
            for (i, count) in place[4..].iter_mut().enumerate() {
                let bucket = block * BLOCK_BUCKETS as u32 + i as u32;
                let len = rest.iter().take_while(|key| key.bucket() == bucket).count();
                *count = bucket_count(len)?;
                rest = &rest[len..];
            }
        }
        let entries = out[self.entries_at()..].as_chunks_mut::<ENTRY>().0;
        for (place, key) in entries.iter_mut().zip(keys) {
            *place = key.entry();
        }
        Ok(())
    }
}

fn is_within_five(entries: u32, bits: u8) -> bool {
    Shape { salt: [0; 8], entries, bits }.content_len() <= entries as usize * 5
}

/// The fewest bits that the format allows for so many entries.
fn fewest_bits(entries: u32) -> u8 {
    (0..MAX_BITS).find(|&bits| entries <= MAX_MEAN << bits).unwrap_or(MAX_BITS)
}

fn bucket_count(len: usize) -> Result<u8, ListError> {
    if len <= MAX_BUCKET { Ok(len as u8) } else { Err(ListError::Content) }
}

/// A look-up under way: [`LookUp::block`] is read first, then what [`LookUp::bucket`] makes of it, and
/// [`LookUp::hits`] gives the answer.
#[derive(Debug, Clone, Copy)]
pub struct LookUp {
    shape: Shape,
    bucket: u32,
    hash: [u8; 3],
    month: Option<u8>,
}

impl LookUp {
    /// The place of the directory's block in the content, at most [`MAX_BLOCK`] bytes.
    pub fn block(&self) -> Range<usize> {
        self.shape.block(self.bucket / BLOCK_BUCKETS as u32)
    }

    /// The place of the bucket's entries, at most [`MAX_READ`] bytes. An error means that the content is damaged.
    pub fn bucket(&self, block: &[u8]) -> Result<Range<usize>, ListError> {
        let (first, counts) = block.split_first_chunk().ok_or(ListError::Content)?;
        let (before, rest) =
            counts.split_at_checked(self.bucket as usize % BLOCK_BUCKETS).ok_or(ListError::Content)?;
        let count = u32::from(*rest.first().ok_or(ListError::Content)?);
        let before: u32 = before.iter().map(|&n| u32::from(n)).sum();
        let from = u32::from_be_bytes(*first).checked_add(before).ok_or(ListError::Content)?;
        let inside = count as usize <= MAX_BUCKET
            && from.checked_add(count).is_some_and(|end| end <= self.shape.entries);
        if inside { Ok(self.shape.entry_range(from, count)) } else { Err(ListError::Content) }
    }

    /// True if the token is among the bucket's entries.
    pub fn hits(&self, bucket: &[u8]) -> bool {
        let is_meant = |[a, b, c, month]: &[u8; ENTRY]| {
            [*a, *b, *c] == self.hash && self.month.is_none_or(|meant| meant == *month)
        };
        bucket.as_chunks().0.iter().any(is_meant)
    }
}

/// What a [`Walk`] reads next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// A block of the directory, whole.
    Block(Range<usize>),
    /// Entries, in any portions of whole ones.
    Entries(Range<usize>),
    /// Nothing: the list is sound to its end.
    Nothing,
}

/// Goes through a content once, from its first entry to its last, and checks it: the directory adds up, and keys
/// ascend strictly. It needs the entries of one block's directory at a time.
#[derive(Debug, Clone)]
pub struct Walk {
    shape: Shape,
    counts: [u8; BLOCK_BUCKETS],
    /// Blocks that have been read.
    blocks: u32,
    /// The place in the block of the bucket of the next entry, and what is left of that bucket and of the block.
    bucket: usize,
    left_in_block: u32,
    /// The number of the next entry.
    entry: u32,
    last: Option<DenyKey>,
}

impl Walk {
    /// At the beginning.
    pub const fn new(shape: Shape) -> Self {
        let counts = [0; BLOCK_BUCKETS];
        Self { shape, counts, blocks: 0, bucket: 0, left_in_block: 0, entry: 0, last: None }
    }

    /// What is read next.
    pub fn want(&self) -> Want {
        if self.left_in_block > 0 {
            Want::Entries(self.shape.entry_range(self.entry, self.left_in_block))
        } else if self.blocks < self.shape.blocks() {
            Want::Block(self.shape.block(self.blocks))
        } else {
            Want::Nothing
        }
    }

    /// Takes a block.
    pub fn block(&mut self, block: &[u8]) -> Result<(), ListError> {
        let (first, counts) = block.split_first_chunk().ok_or(ListError::Content)?;
        let total: u32 = counts.iter().map(|&n| u32::from(n)).sum();
        let end = self.entry + total;
        self.blocks += 1;
        let sound = counts.len() == self.shape.block_buckets()
            && u32::from_be_bytes(*first) == self.entry
            && counts.iter().all(|&n| usize::from(n) <= MAX_BUCKET)
            && end <= self.shape.entries
            && (self.blocks < self.shape.blocks() || end == self.shape.entries);
        if !sound {
            return Err(ListError::Content);
        }
        self.counts[..counts.len()].copy_from_slice(counts);
        (self.bucket, self.left_in_block) = (0, total);
        Ok(())
    }

    /// Takes the next entry and gives its key.
    pub fn entry(&mut self, entry: [u8; ENTRY]) -> Result<DenyKey, ListError> {
        while self.counts.get(self.bucket) == Some(&0) {
            self.bucket += 1;
        }
        let left = self.counts.get_mut(self.bucket).ok_or(ListError::Content)?;
        *left -= 1;
        self.left_in_block = self.left_in_block.checked_sub(1).ok_or(ListError::Content)?;
        self.entry += 1;
        let block = self.blocks.saturating_sub(1);
        let key = DenyKey::new(block * BLOCK_BUCKETS as u32 + self.bucket as u32, entry);
        if self.last.is_some_and(|last| last >= key) {
            return Err(ListError::Content);
        }
        self.last = Some(key);
        Ok(key)
    }
}

/// A whole content in memory, as the host has it.
#[derive(Debug, Clone, Copy)]
pub struct DenyList<'a> {
    shape: Shape,
    content: &'a [u8],
}

impl<'a> DenyList<'a> {
    /// Reads a content and checks all of it.
    pub fn parse(content: &'a [u8]) -> Result<Self, ListError> {
        let list = Self::parsed(content)?;
        let mut walk = Walk::new(list.shape);
        list.walk(&mut walk, |_| {})?;
        Ok(list)
    }

    /// Takes content that [`DenyList::parse`] has accepted before, without going through it again.
    pub fn parsed(content: &'a [u8]) -> Result<Self, ListError> {
        let shape = Shape::parse(content.first_chunk().ok_or(ListError::Content)?)?;
        if content.len() == shape.content_len() {
            Ok(Self { shape, content })
        } else {
            Err(ListError::Content)
        }
    }

    fn walk(&self, walk: &mut Walk, mut each: impl FnMut(DenyKey)) -> Result<(), ListError> {
        loop {
            match walk.want() {
                Want::Block(range) => walk.block(&self.content[range])?,
                Want::Entries(range) => {
                    for entry in self.content[range].as_chunks().0 {
                        each(walk.entry(*entry)?);
                    }
                }
                Want::Nothing => return Ok(()),
            }
        }
    }

    /// Its shape.
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its keys, in order.
    pub fn for_each(&self, each: impl FnMut(DenyKey)) -> Result<(), ListError> {
        self.walk(&mut Walk::new(self.shape), each)
    }

    /// True if the token is listed: with this expiry, or with any where the card signs none. As a gate asks, but that
    /// a damaged list is an error there and a refusal here.
    pub fn denies(&self, token: &Token, expiry: Option<Expiry>) -> bool {
        let look_up = self.shape.look_up(token, expiry);
        match look_up.bucket(&self.content[look_up.block()]) {
            Ok(bucket) => look_up.hits(&self.content[bucket]),
            Err(_) => true,
        }
    }
}
