//! The tap journal. Its specification stands at the top of the crate.

use crate::Error;
use crate::words::{check_geometry, crc, is_blank, round_up, u32_at};
use embedded_storage_async::nor_flash::NorFlash;

/// The longest local header, bytes.
pub const MAX_LOCAL: usize = 32;
/// The longest payload, bytes: a sealed tap fits.
pub const MAX_PAYLOAD: usize = 608;
/// The most pages a journal has: 2 MiB of 4 KiB pages. Bounds the index in memory.
pub const MAX_PAGES: usize = 512;
/// Bytes of a payload's end that are its tag.
const TAG: usize = 16;

const MAGIC: &[u8; 4] = b"WPJ2";
const PAGE_HEADER: usize = 32;
const RECORD_HEADER: usize = 16;
const MAX_RECORD: usize = round_up(RECORD_HEADER + MAX_LOCAL + MAX_PAYLOAD);
const ACKNOWLEDGEMENT: u8 = 4;

/// What an entry records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// A tap that opened the gate.
    Opened = 1,
    /// A tap that did not.
    Refused = 2,
    /// A passage, or another note that is no tap.
    Passage = 3,
}

impl Class {
    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Opened),
            2 => Some(Self::Refused),
            3 => Some(Self::Passage),
            _ => None,
        }
    }
}

/// The journal's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Share of the flash that unacknowledged refusals may hold, percent.
    pub refusal_percent: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { refusal_percent: 25 }
    }
}

/// An entry as read.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'b> {
    /// Its sequence number.
    pub sequence: u32,
    /// What it records.
    pub class: Class,
    /// The local header.
    pub local: &'b [u8],
    /// The payload.
    pub payload: &'b [u8],
}

#[derive(Clone, Copy)]
struct RecordHeader {
    class: u8,
    local: usize,
    payload: usize,
    sequence: u32,
    body_crc: u32,
}

impl RecordHeader {
    fn parse(bytes: &[u8; RECORD_HEADER]) -> Option<Self> {
        let header = Self {
            class: bytes[0],
            local: usize::from(bytes[1]),
            payload: usize::from(u16::from_le_bytes([bytes[2], bytes[3]])),
            sequence: u32_at(bytes, 4),
            body_crc: u32_at(bytes, 8),
        };
        let sound = crc(&[&bytes[..12]]) == u32_at(bytes, 12)
            && header.local <= MAX_LOCAL
            && header.payload <= MAX_PAYLOAD
            && (1..=ACKNOWLEDGEMENT).contains(&header.class);
        sound.then_some(header)
    }

    fn size(&self) -> usize {
        round_up(RECORD_HEADER + self.local + self.payload)
    }
}

/// What stands at the start of a page.
struct PageHeader {
    number: u32,
    first: u32,
    acknowledged: u32,
    tail: [u8; 8],
}

/// The first half of a payload's tag.
fn tail_of(payload: &[u8]) -> [u8; 8] {
    let mut tail = [0; 8];
    if let Some(tag) = payload.len().checked_sub(TAG).and_then(|at| payload.get(at..at + tail.len())) {
        tail.copy_from_slice(tag);
    }
    tail
}

/// Unacknowledged bytes of refusals, as an upper bound: those before a mark and those since. When the
/// acknowledgement passes the mark, what was before it is forgotten and a new mark is set.
#[derive(Default)]
struct RefusalBytes {
    mark: u32,
    before: usize,
    since: usize,
}

impl RefusalBytes {
    fn add(&mut self, size: usize) {
        self.since += size;
    }

    fn acknowledged(&mut self, upto: u32, next: u32) {
        if upto.saturating_add(1) >= next {
            *self = Self { mark: next, before: 0, since: 0 };
        } else if upto >= self.mark {
            *self = Self { mark: next, before: self.since, since: 0 };
        }
    }

    fn total(&self) -> usize {
        self.before + self.since
    }
}

/// Where sequential reading stands: the record of `sequence` begins at `offset` of `page`.
#[derive(Clone, Copy)]
struct Cursor {
    sequence: u32,
    page: usize,
    offset: usize,
}

/// The tap journal on a flash of its own.
pub struct Journal<F> {
    flash: F,
    limits: Limits,
    /// First sequence number of each page in use; pages in use form a run of the ring.
    first: [u32; MAX_PAGES],
    pages: usize,
    oldest_page: usize,
    used: usize,
    page_number: u32,
    /// Where the next record goes in the newest page; the page size where it is closed.
    offset: usize,
    /// The page after the newest is blank.
    ready: bool,
    next: u32,
    acknowledged: u32,
    tail: [u8; 8],
    refusals: RefusalBytes,
    cursor: Option<Cursor>,
    /// A record's write failed: only opening again tells what it left.
    failed: bool,
}

impl<F: NorFlash> Journal<F> {
    /// Takes a journal up after power came, whatever a cut left. `entry` is told of every entry that is
    /// still there, oldest first.
    pub async fn open(
        flash: F,
        limits: Limits,
        mut entry: impl FnMut(Entry<'_>),
    ) -> Result<Self, Error<F::Error>> {
        check_geometry(&flash, 3)?;
        let pages = (flash.capacity() / F::ERASE_SIZE).min(MAX_PAGES);
        let mut journal = Self {
            flash,
            limits,
            first: [0; MAX_PAGES],
            pages,
            oldest_page: 0,
            used: 0,
            page_number: 0,
            offset: F::ERASE_SIZE,
            ready: false,
            next: 1,
            acknowledged: 0,
            tail: [0; 8],
            refusals: RefusalBytes::default(),
            cursor: None,
            failed: false,
        };
        journal.find_pages().await?;
        let mut index = 0;
        while index < journal.used {
            let page = (journal.oldest_page + index) % journal.pages;
            let first = journal.first[page];
            let missing_unacknowledged = first > journal.next && first - 1 > journal.acknowledged;
            if index > 0 && first != journal.next && !missing_unacknowledged {
                // A page that was being erased has lost entries, and those were acknowledged: the journal
                // begins here. Where an unacknowledged one is missing, no cut did it, and what is left of the
                // older pages stays.
                journal.oldest_page = page;
                journal.used -= index;
                index = 0;
            }
            journal.next = journal.first[page];
            // A page whose header is damaged follows the one before it.
            if let Some(header) = journal.page_header(page).await? {
                journal.tail = header.tail;
            }
            journal.replay(page, &mut entry).await?;
            index += 1;
        }
        journal.refusals.acknowledged(journal.acknowledged, journal.next);
        Ok(journal)
    }

    /// Finds the run of pages in use: the newest, and before it every page whose number is one less. A page with a
    /// damaged header is one of them where its records or the page before it tell so: flash rots, and what is behind a
    /// rotten header may not have been sent yet.
    async fn find_pages(&mut self) -> Result<(), Error<F::Error>> {
        let mut newest: Option<(PageHeader, usize)> = None;
        for page in 0..self.pages {
            if let Some(header) = self.page_header(page).await?
                && newest.as_ref().is_none_or(|(n, _)| header.number > n.number)
            {
                newest = Some((header, page));
            }
        }
        let Some((header, page)) = newest else { return Ok(()) };
        self.page_number = header.number;
        self.oldest_page = page;
        let mut gap = (page + 1) % self.pages;
        let mut newest_first = header.first;
        // What a cut left of a page that was begun has no records; what it left of one that was erased has older ones.
        while let Some(first) = self.first_sequence(gap).await?.filter(|first| *first > newest_first)
            && let Some(number) = self.page_number.checked_add(1)
        {
            self.page_number = number;
            self.first[gap] = first;
            self.used += 1;
            newest_first = first;
            gap = (gap + 1) % self.pages;
        }
        let mut expected = header.number;
        let mut first = u32::MAX;
        loop {
            match self.page_header(self.oldest_page).await? {
                Some(header) if header.number == expected => {
                    first = header.first;
                    self.acknowledged = self.acknowledged.max(header.acknowledged);
                }
                Some(_) => break,
                None => match self.first_sequence(self.oldest_page).await? {
                    Some(older) if older < first && self.oldest_page != gap => first = older,
                    _ if self.follows(self.oldest_page, expected).await? => {}
                    _ => break,
                },
            }
            self.first[self.oldest_page] = first;
            self.used += 1;
            if self.used == self.pages || expected == 0 {
                return Ok(());
            }
            expected -= 1;
            self.oldest_page = (self.oldest_page + self.pages - 1) % self.pages;
        }
        self.oldest_page = (self.oldest_page + 1) % self.pages;
        Ok(())
    }

    /// True where the page before this one is the one that comes before page `number`.
    async fn follows(&mut self, page: usize, number: u32) -> Result<bool, Error<F::Error>> {
        let before = self.page_header((page + self.pages - 1) % self.pages).await?;
        Ok(before.is_some_and(|before| before.number.checked_add(1) == Some(number)))
    }

    /// The number of the first entry on a page without a sound header; `None` where there is none.
    async fn first_sequence(&mut self, page: usize) -> Result<Option<u32>, Error<F::Error>> {
        if self.page_header(page).await?.is_some() {
            return Ok(None);
        }
        let mut body = [0; MAX_RECORD];
        let mut offset = PAGE_HEADER;
        while let Some((header, sound)) = self.record(page, offset, &mut body).await? {
            if sound && header.class != ACKNOWLEDGEMENT {
                return Ok(Some(header.sequence));
            }
            offset += header.size();
        }
        Ok(None)
    }

    async fn page_header(&mut self, page: usize) -> Result<Option<PageHeader>, Error<F::Error>> {
        let mut header = [0; PAGE_HEADER];
        self.flash.read(self.at(page, 0), &mut header).await.map_err(Error::Flash)?;
        let sound = &header[..4] == MAGIC && crc(&[&header[..24]]) == u32_at(&header, 24);
        Ok(sound.then(|| PageHeader {
            number: u32_at(&header, 4),
            first: u32_at(&header, 8),
            acknowledged: u32_at(&header, 12),
            tail: core::array::from_fn(|i| header[16 + i]),
        }))
    }

    /// Reads a page again at start: learns the next number, the acknowledgement, and where writing goes on.
    async fn replay(
        &mut self,
        page: usize,
        entry: &mut impl FnMut(Entry<'_>),
    ) -> Result<(), Error<F::Error>> {
        let mut offset = PAGE_HEADER;
        let mut body = [0; MAX_RECORD];
        while let Some((header, sound)) = self.record(page, offset, &mut body).await? {
            if sound && header.class == ACKNOWLEDGEMENT {
                self.acknowledged = self.acknowledged.max(header.sequence);
            } else if sound
                // A later number proves that one before it was durable and has rotted: it is never given again.
                && header.sequence >= self.next
                && let Some(class) = Class::from_code(header.class)
            {
                let (local, payload) = body[..header.local + header.payload].split_at(header.local);
                entry(Entry { sequence: header.sequence, class, local, payload });
                self.tail = tail_of(payload);
                if class == Class::Refused && header.sequence > self.acknowledged {
                    self.refusals.add(header.size());
                }
                self.next = header.sequence.checked_add(1).ok_or(Error::Sequence)?;
            }
            offset += header.size();
        }
        // Beyond a torn header nothing more is written on this page.
        let rest = F::ERASE_SIZE - offset;
        let at = self.at(page, offset) as usize;
        let blank = is_blank(&mut self.flash, at, rest).await?;
        self.offset = if blank { offset } else { F::ERASE_SIZE };
        Ok(())
    }

    /// The record at a place, and whether its body is sound; `None` where there is no (readable) record.
    async fn record(
        &mut self,
        page: usize,
        offset: usize,
        body: &mut [u8; MAX_RECORD],
    ) -> Result<Option<(RecordHeader, bool)>, Error<F::Error>> {
        if offset + RECORD_HEADER > F::ERASE_SIZE {
            return Ok(None);
        }
        let mut bytes = [0; RECORD_HEADER];
        self.flash.read(self.at(page, offset), &mut bytes).await.map_err(Error::Flash)?;
        let Some(header) = RecordHeader::parse(&bytes).filter(|h| offset + h.size() <= F::ERASE_SIZE) else {
            return Ok(None);
        };
        let padded = header.size() - RECORD_HEADER;
        self.flash
            .read(self.at(page, offset + RECORD_HEADER), &mut body[..padded])
            .await
            .map_err(Error::Flash)?;
        let sound = crc(&[&body[..header.local + header.payload]]) == header.body_crc;
        Ok(Some((header, sound)))
    }

    fn at(&self, page: usize, offset: usize) -> u32 {
        // The geometry check has bounded the capacity to u32.
        (page * F::ERASE_SIZE + offset) as u32
    }

    fn newest_page(&self) -> usize {
        (self.oldest_page + self.used + self.pages - 1) % self.pages
    }

    /// The number that the next entry must have; the first is 1.
    pub fn next_sequence(&self) -> u32 {
        self.next
    }

    /// The first half of the newest entry's tag, the last 16 bytes of its payload; zeros before any entry. It is
    /// there although the entry may be gone: each page begins with it.
    pub fn tail(&self) -> [u8; 8] {
        self.tail
    }

    /// The highest acknowledged number; 0 before any.
    pub fn acknowledged(&self) -> u32 {
        self.acknowledged
    }

    /// The oldest number that is still there; the next one where there is none.
    pub fn oldest(&self) -> u32 {
        if self.used == 0 { self.next } else { self.first[self.oldest_page] }
    }

    /// True where an entry of this class, however long, could be written now.
    pub fn has_room(&self, class: Class) -> bool {
        let share = class != Class::Refused || self.refusals.total() + MAX_RECORD <= self.refusal_share();
        share && (self.ready || self.used > 0 && self.offset + MAX_RECORD <= F::ERASE_SIZE)
    }

    /// Bytes that unacknowledged refusals may hold.
    fn refusal_share(&self) -> usize {
        self.pages * F::ERASE_SIZE / 100 * usize::from(self.limits.refusal_percent)
    }

    /// Writes an entry; durable on return.
    pub async fn append(
        &mut self,
        sequence: u32,
        class: Class,
        local: &[u8],
        payload: &[u8],
    ) -> Result<(), Error<F::Error>> {
        if local.len() > MAX_LOCAL || payload.len() > MAX_PAYLOAD {
            return Err(Error::TooLong);
        }
        if sequence != self.next || sequence == u32::MAX {
            return Err(Error::Sequence);
        }
        let size = round_up(RECORD_HEADER + local.len() + payload.len());
        if class == Class::Refused && self.refusals.total() + size > self.refusal_share() {
            return Err(Error::RefusalShare);
        }
        self.write(class as u8, sequence, local, payload).await?;
        self.tail = tail_of(payload);
        if class == Class::Refused {
            self.refusals.add(size);
        }
        self.next += 1;
        Ok(())
    }

    /// Notes that the host has every entry up to `upto`. Numbers not yet written, and ones already
    /// acknowledged, change nothing.
    pub async fn acknowledge(&mut self, upto: u32) -> Result<(), Error<F::Error>> {
        if upto <= self.acknowledged || upto >= self.next {
            return Ok(());
        }
        match self.write(ACKNOWLEDGEMENT, upto, &[], &[]).await {
            // Without room for the note it is kept in memory: it makes the room, and the next page's header
            // carries it. A cut before that only means that entries are sent again.
            Ok(()) | Err(Error::Full) => {}
            Err(why) => return Err(why),
        }
        self.acknowledged = upto;
        self.refusals.acknowledged(upto, self.next);
        Ok(())
    }

    async fn write(
        &mut self,
        class: u8,
        sequence: u32,
        local: &[u8],
        payload: &[u8],
    ) -> Result<(), Error<F::Error>> {
        if self.failed {
            return Err(Error::Failed);
        }
        let body_len = local.len() + payload.len();
        let size = round_up(RECORD_HEADER + body_len);
        if self.used == 0 || self.offset + size > F::ERASE_SIZE {
            self.begin_page().await?;
        }
        let mut record = [0xFF; MAX_RECORD];
        record[0] = class;
        record[1] = local.len() as u8; // at most MAX_LOCAL
        record[2..4].copy_from_slice(&(payload.len() as u16).to_le_bytes()); // at most MAX_PAYLOAD
        record[4..8].copy_from_slice(&sequence.to_le_bytes());
        record[8..12].copy_from_slice(&crc(&[local, payload]).to_le_bytes());
        let header_crc = crc(&[&record[..12]]);
        record[12..16].copy_from_slice(&header_crc.to_le_bytes());
        record[RECORD_HEADER..RECORD_HEADER + local.len()].copy_from_slice(local);
        record[RECORD_HEADER + local.len()..RECORD_HEADER + body_len].copy_from_slice(payload);
        let at = self.at(self.newest_page(), self.offset);
        // Nothing may follow a record that is half written: a torn header hides what comes after it, and a
        // record that arrived all the same has taken its number.
        self.failed = true;
        self.flash.write(at, &record[..size]).await.map_err(Error::Flash)?;
        self.failed = false;
        self.offset += size;
        Ok(())
    }

    async fn begin_page(&mut self) -> Result<(), Error<F::Error>> {
        if !self.ready {
            return Err(Error::Full);
        }
        let page = (self.oldest_page + self.used) % self.pages;
        let number = self.page_number.checked_add(1).ok_or(Error::Full)?;
        let mut header = [0xFF; PAGE_HEADER];
        header[..4].copy_from_slice(MAGIC);
        header[4..8].copy_from_slice(&number.to_le_bytes());
        header[8..12].copy_from_slice(&self.next.to_le_bytes());
        header[12..16].copy_from_slice(&self.acknowledged.to_le_bytes());
        header[16..24].copy_from_slice(&self.tail);
        let check = crc(&[&header[..24]]);
        header[24..28].copy_from_slice(&check.to_le_bytes());
        self.ready = false;
        self.failed = true;
        self.flash.write(self.at(page, 0), &header).await.map_err(Error::Flash)?;
        self.failed = false;
        self.first[page] = self.next;
        self.page_number = number;
        self.used += 1;
        self.offset = PAGE_HEADER;
        Ok(())
    }

    /// The work of idle time: makes the next page ready. One page erase at most.
    pub async fn prepare(&mut self) -> Result<(), Error<F::Error>> {
        if self.ready {
            return Ok(());
        }
        // One page is kept between newest and oldest, so that a full ring can be told from an empty one.
        if self.used + 1 >= self.pages {
            let after = (self.oldest_page + 1) % self.pages;
            if self.used < 2 || self.first[after] > self.acknowledged.saturating_add(1) {
                return Ok(()); // the oldest page holds what the host does not have yet: full
            }
            self.oldest_page = after;
            self.used -= 1;
            self.cursor = None;
        }
        let page = (self.oldest_page + self.used) % self.pages;
        let begin = self.at(page, 0);
        self.flash.erase(begin, begin + F::ERASE_SIZE as u32).await.map_err(Error::Flash)?;
        self.ready = true;
        Ok(())
    }

    /// Reads an entry into `buffer`; `None` if it is no longer, or not yet, there. Reading on from the last
    /// one read does not search.
    pub async fn read<'b>(
        &mut self,
        sequence: u32,
        buffer: &'b mut [u8; MAX_LOCAL + MAX_PAYLOAD],
    ) -> Result<Option<Entry<'b>>, Error<F::Error>> {
        if sequence >= self.next || sequence < self.oldest() {
            return Ok(None);
        }
        let mut cursor = match self.cursor {
            Some(cursor) if cursor.sequence == sequence => cursor,
            _ => self.seek(sequence),
        };
        let mut body = [0; MAX_RECORD];
        loop {
            let Some((header, sound)) = self.record(cursor.page, cursor.offset, &mut body).await? else {
                if cursor.page == self.newest_page() {
                    return Ok(None);
                }
                let page = (cursor.page + 1) % self.pages;
                if self.first[page] > sequence {
                    return Ok(None);
                }
                cursor = Cursor { sequence: cursor.sequence, page, offset: PAGE_HEADER };
                continue;
            };
            cursor.offset += header.size();
            let class = Class::from_code(header.class);
            if let Some(class) = class.filter(|_| sound && header.sequence == sequence) {
                self.cursor = Some(Cursor { sequence: sequence + 1, ..cursor });
                let len = header.local + header.payload;
                buffer[..len].copy_from_slice(&body[..len]);
                let (local, payload) = buffer[..len].split_at(header.local);
                return Ok(Some(Entry { sequence, class, local, payload }));
            }
        }
    }

    /// The page that holds an entry: the last one that does not begin after it.
    fn seek(&self, sequence: u32) -> Cursor {
        let mut low = 0;
        let mut high = self.used;
        while high - low > 1 {
            let middle = (low + high) / 2;
            if self.first[(self.oldest_page + middle) % self.pages] <= sequence {
                low = middle;
            } else {
                high = middle;
            }
        }
        Cursor { sequence, page: (self.oldest_page + low) % self.pages, offset: PAGE_HEADER }
    }
}
