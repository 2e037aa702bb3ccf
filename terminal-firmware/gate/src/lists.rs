//! The signed lists in force, and a new one while its parts arrive.
//!
//! A list is gathered in memory, checked, stored whole in its own cell and only then put in force: a cut
//! leaves the old list or the new one, and what is refused changes nothing. At start the stored lists are
//! checked again.

use crate::GateError;
use core::ops::Range;
use embedded_storage_async::nor_flash::NorFlash;
use heapless::Vec;
use wavepass_journal::cells::Cell;
use wavepass_protocol::ecc::{PublicKey, Verifier};
use wavepass_protocol::lists::{
    self, CaKey, DenyList, GateConfig, Header, Kind, ListError, PREFIX, Revocation, SUFFIX, SignedList,
    Suite, Version,
};
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::token::{Expiry, Token};

/// Bytes for the CA key list: a dozen RSA keys of 1984 bits.
pub(crate) const CA_BYTES: usize = 4096;
/// How many revoked issuer certificates a gate holds.
pub(crate) const REVOCATIONS: usize = 64;

/// A list that is arriving.
struct Arriving {
    kind: Kind,
    version: Version,
    total: usize,
    received: usize,
}

pub(crate) struct Lists<F, const N: usize> {
    cells: [Cell<F>; 4],
    versions: [Version; 4],
    deny: [u8; N],
    deny_len: usize,
    deny_issued: UnixMs,
    ca: [u8; CA_BYTES],
    ca_len: usize,
    revocations: Vec<Revocation, REVOCATIONS>,
    config: Option<GateConfig>,
    buffer: [u8; N],
    arriving: Option<Arriving>,
}

/// A list that may be put in force: everything about it has been checked.
struct Checked {
    header: Header,
    content: Content,
}

/// The content of a checked list; deny list and CA keys stay in the buffer, at this place.
enum Content {
    Deny(Range<usize>),
    CaKeys(Range<usize>),
    Revocations(Vec<Revocation, REVOCATIONS>),
    Config(GateConfig),
}

/// What a part of a list led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// More parts are due.
    More,
    /// The list is in force.
    InForce(Kind),
    /// The list was refused; the one in force stays.
    Refused(ListError),
}

impl<F: NorFlash, const N: usize> Lists<F, N> {
    pub(crate) async fn open<V: Verifier>(
        cells: [Cell<F>; 4],
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Self, GateError<F::Error>> {
        let mut lists = Self {
            cells,
            versions: [Version::default(); 4],
            deny: [0; N],
            deny_len: 0,
            deny_issued: UnixMs(0),
            ca: [0; CA_BYTES],
            ca_len: 0,
            revocations: Vec::new(),
            config: None,
            buffer: [0; N],
            arriving: None,
        };
        for kind in Kind::ALL {
            let len = match lists.cells[kind as usize - 1].load(&mut lists.buffer).await {
                Ok(Some(len)) => len,
                // Stored by a gate with more room.
                Ok(None) | Err(wavepass_journal::Error::TooLong) => continue,
                Err(why) => return Err(why.into()),
            };
            // A list that no longer verifies is as good as none: the host sends it again.
            if let Ok(checked) = lists.check(kind, len, root, verifier) {
                lists.put_in_force(checked);
            }
        }
        Ok(lists)
    }

    pub(crate) fn versions(&self) -> [Version; 4] {
        self.versions
    }

    pub(crate) fn version(&self, kind: Kind) -> Version {
        self.versions[kind as usize - 1]
    }

    pub(crate) fn config(&self) -> Option<&GateConfig> {
        self.config.as_ref()
    }

    pub(crate) fn denied(&self, token: &Token, expiry: Option<Expiry>) -> bool {
        DenyList::parsed(&self.deny[..self.deny_len]).is_some_and(|list| list.denies(token, expiry))
    }

    /// True if the deny list is older than the configuration allows and the policy is to refuse.
    pub(crate) fn stale(&self, now: UnixMs) -> bool {
        self.config.as_ref().is_some_and(|config| {
            let age = now.0.saturating_sub(self.deny_issued.0);
            config.list_max_age_ms != 0 && age > config.list_max_age_ms && !config.stale_opens
        })
    }

    pub(crate) fn ca_key(&self, rid: &[u8; 5], index: u8, suite: Suite) -> Option<CaKey<'_>> {
        let mut keys = lists::ca_keys(&self.ca[..self.ca_len]).map_while(Result::ok);
        keys.find(|k| k.rid == *rid && k.index == index && k.suite == suite)
    }

    pub(crate) fn is_revoked(&self, revocation: &Revocation) -> bool {
        self.revocations.contains(revocation)
    }

    /// Takes one part. Parts come in order; anything else drops what has been gathered.
    pub(crate) async fn part<V: Verifier>(
        &mut self,
        kind: Kind,
        version: Version,
        place: (u32, u32),
        part: &[u8],
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Taken, GateError<F::Error>> {
        let (total, offset) = (place.0 as usize, place.1 as usize);
        if offset == 0 {
            if version <= self.version(kind) {
                return Ok(Taken::Refused(ListError::Older));
            }
            if total > N || total > self.cells[kind as usize - 1].room() {
                return Ok(Taken::Refused(ListError::TooLarge));
            }
            self.arriving = Some(Arriving { kind, version, total, received: 0 });
        }
        let Some(arriving) = self.arriving.as_mut() else { return Ok(Taken::More) };
        let fits = (arriving.kind, arriving.version, arriving.total, arriving.received)
            == (kind, version, total, offset)
            && part.len() <= total - offset;
        if !fits {
            self.arriving = None;
            return Ok(Taken::Refused(ListError::Length));
        }
        self.buffer[offset..offset + part.len()].copy_from_slice(part);
        arriving.received += part.len();
        if arriving.received < total {
            return Ok(Taken::More);
        }
        self.arriving = None;
        let checked = match self.check(kind, total, root, verifier) {
            Ok(checked) => checked,
            Err(why) => return Ok(Taken::Refused(why)),
        };
        self.cells[kind as usize - 1].store(&self.buffer[..total]).await?;
        self.put_in_force(checked);
        Ok(Taken::InForce(kind))
    }

    /// Checks the list in the buffer wholly: signatures, version, content, room.
    fn check<V: Verifier>(
        &self,
        kind: Kind,
        len: usize,
        root: &PublicKey,
        verifier: &mut V,
    ) -> Result<Checked, ListError> {
        let bytes = self.buffer.get(..len).ok_or(ListError::TooLarge)?;
        let SignedList { header, content } = SignedList::verify(bytes, root, verifier)?;
        if header.kind != kind {
            return Err(ListError::Format);
        }
        if header.version <= self.version(kind) {
            return Err(ListError::Older);
        }
        if header.base != 0 {
            return Err(ListError::Base);
        }
        let place = PREFIX..PREFIX + content.len();
        let content = match kind {
            Kind::Deny => {
                DenyList::parse(content)?;
                Content::Deny(place)
            }
            Kind::CaKeys if content.len() > CA_BYTES => return Err(ListError::TooLarge),
            Kind::CaKeys => {
                lists::check_ca_keys(content)?;
                Content::CaKeys(place)
            }
            Kind::Revocations => {
                let mut revocations = Vec::new();
                for revocation in lists::revocations(content) {
                    revocations.push(revocation?).map_err(|_| ListError::TooLarge)?;
                }
                Content::Revocations(revocations)
            }
            Kind::Config => {
                let config = GateConfig::parse(content)?;
                // One that the kernel cannot work by must not replace one that it can. Network and operator
                // are the gate's own and not in question here.
                wavepass_kernel::Config::new(&config, [0; 4], 0).map_err(|_| ListError::Content)?;
                Content::Config(config)
            }
        };
        Ok(Checked { header, content })
    }

    /// Takes a checked list over.
    fn put_in_force(&mut self, Checked { header, content }: Checked) {
        match content {
            Content::Deny(place) => {
                self.deny_len = place.len();
                self.deny[..place.len()].copy_from_slice(&self.buffer[place]);
                self.deny_issued = header.issued;
            }
            Content::CaKeys(place) => {
                self.ca_len = place.len();
                self.ca[..place.len()].copy_from_slice(&self.buffer[place]);
            }
            Content::Revocations(revocations) => self.revocations = revocations,
            Content::Config(config) => self.config = Some(config),
        }
        self.versions[header.kind as usize - 1] = header.version;
    }
}

/// The fewest bytes a gate must have for one list: a configuration and its signatures fit.
pub(crate) const fn room_is_enough(n: usize) -> bool {
    n >= PREFIX + SUFFIX + 1024
}
