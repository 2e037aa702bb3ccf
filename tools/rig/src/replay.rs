//! The kernel's authentication over a recorded tap, whatever terminal recorded it and whatever the card's scheme.
//!
//! The recording answers the kernel's commands. Where the recording's terminal sent values of its own, the kernel is
//! told of them, for the card signed those. What is accepted follows from the recording itself: its application, and
//! the form of its issuer's certificate.

use crate::keys::UNIONPAY_RID;
use crate::tap::{self, Tap};
use crate::terminal::{FORMATS, Terminal};
use crate::transcript::{Exchange, Transcript};
use crate::way::Way;
use heapless::Vec as Bounded;
use wavepass_hce::authorities::HOUSE_RID;
use wavepass_kernel::{AidConfig, Config, Lost, Passback, TapInput};
use wavepass_protocol::apdu::{Command, PPSE, Response, Status};
use wavepass_protocol::ecc::IssuerCertificate;
use wavepass_protocol::lists::Suite;
use wavepass_protocol::select::{Aid, Fci, parse_ppse};
use wavepass_protocol::tags;
use wavepass_protocol::time::UnixMs;
use wavepass_protocol::tlv::{self, Tag};

/// Visa's provider identifier.
const VISA_RID: [u8; 5] = [0xA0, 0x00, 0x00, 0x00, 0x03];
/// The gate's own; the values that went out are the recording's.
const TTQ: [u8; 4] = [0x21, 0x80, 0x00, 0x80];
/// An application that no card has.
const NOBODY: [u8; 5] = [0xF0, 0xFF, 0xFF, 0xFF, 0xFF];
const HOUR_MS: u64 = 3_600_000;

/// Runs the kernel over a transcript.
pub fn replay(transcript: &Transcript) -> Tap {
    let terminal = terminal(transcript);
    let days = u64::try_from(transcript.date.to_days()).unwrap_or_default();
    let input = TapInput {
        now: UnixMs(days * 24 * HOUR_MS + 12 * HOUR_MS),
        utc_offset_min: 0,
        unpredictable: [0; 4],
        start_us: 0,
        relay_entropy: [[0; 4]; 2],
    };
    tap::tap(&mut tap::kernel(), &terminal, input, &mut Recording::new(transcript), &mut |_| {})
}

/// The terminal that accepts what the recording's did.
fn terminal(transcript: &Transcript) -> Terminal {
    let mut applications = Bounded::new();
    let mut aids = selected(transcript);
    if aids.is_empty() {
        aids.extend(Aid::new(&NOBODY)); // the kernel asks for the directory only where it accepts something
    }
    for (aid, preference) in aids.into_iter().zip(1u8..) {
        let accepted = AidConfig {
            aid,
            partial: true,
            suite: suite(transcript, &aid),
            // Beside RSA: the form of the card's certificate tells.
            sm2: true,
            ttq: TTQ,
            preference,
            formats: Bounded::from_slice(formats(aid.rid())).unwrap_or_default(),
            domain_required: false,
        };
        if applications.push(accepted).is_err() {
            break; // a recording that tries more than the kernel's configuration holds
        }
    }
    let config = Config {
        applications,
        amount_fen: 0,
        currency: 0,
        country: 0,
        network: [0; 4],
        operator: 0,
        tap_limit_us: u64::MAX,
        // How long a recorded card took is not in the recording.
        relay: None,
        sm2: transcript.sm2,
    };
    Terminal {
        config,
        utc_offset_min: 0,
        keys: transcript.keys.clone(),
        revoked: Vec::new(),
        denied: Vec::new(),
        passback: Passback::Clear,
        list_stale: false,
    }
}

/// The formats of signed dynamic data that a scheme's cards use: 95 beside 05 where a card answers with an ARQC.
const fn formats(rid: [u8; 5]) -> &'static [u8] {
    match rid {
        VISA_RID | UNIONPAY_RID => &FORMATS,
        _ => &[0x05],
    }
}

/// The applications that were selected, in order, each once.
fn selected(transcript: &Transcript) -> Vec<Aid> {
    let mut aids = Vec::new();
    for exchange in &transcript.exchanges {
        let name = select_name(&exchange.command).filter(|name| *name != PPSE);
        if let Some(aid) = name.and_then(Aid::new)
            && !aids.contains(&aid)
        {
            aids.push(aid);
        }
    }
    aids
}

fn select_name(command: &[u8]) -> Option<&[u8]> {
    let command = Command::parse(command).ok()?;
    ((command.cla, command.ins, command.p1) == (0x00, 0xA4, 0x04)).then_some(command.data)
}

/// P-256 or else RSA (and SM2), by the form of the issuer's certificate. Where the card gave none of P-256: by the key
/// that it named, else by the provider's first, else by who the provider is.
fn suite(transcript: &Transcript, aid: &Aid) -> Suite {
    let answers = answers(with(&transcript.exchanges, aid));
    let given = |tag| answers.iter().find_map(|data| content(data, tag));
    if given(tags::ISSUER_CERTIFICATE).is_some_and(IssuerCertificate::is_one) {
        return Suite::P256;
    }
    let rid = aid.rid();
    let keys = || transcript.keys.iter().filter(|key| key.rid == rid);
    let index = given(tags::CA_INDEX).and_then(|index| index.first());
    let named = keys().find(|key| Some(&key.index) == index);
    let key = named.or_else(|| keys().next());
    let is_p256 = key.map_or(rid == HOUSE_RID, |key| key.suite == Suite::P256);
    if is_p256 { Suite::P256 } else { Suite::Rsa }
}

/// The exchanges with an application: from its selection to another's.
fn with<'t>(exchanges: &'t [Exchange], aid: &Aid) -> impl Iterator<Item = &'t Exchange> {
    let selects = |e: &Exchange| select_name(&e.command).map(|name| name == aid.as_slice());
    exchanges
        .iter()
        .skip_while(move |e| selects(e) != Some(true))
        .take_while(move |e| selects(e) != Some(false))
}

/// The data of answers; where one came in several parts, they are joined.
fn answers<'t>(exchanges: impl IntoIterator<Item = &'t Exchange>) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    let mut joined = Vec::new();
    for exchange in exchanges {
        let Ok(Response { data, status }) = Response::parse(&exchange.answer) else { continue };
        joined.extend_from_slice(data);
        if !matches!(status, Status::MoreData(_)) {
            answers.push(std::mem::take(&mut joined));
        }
    }
    answers
}

/// An object in template 70 or 77 of an answer's data.
fn content(data: &[u8], tag: Tag) -> Option<&[u8]> {
    let template =
        tlv::iter(data).next()?.ok().filter(|t| matches!(t.tag, tags::RECORD | tags::RESPONSE_2))?;
    tlv::find(template.value, tag).ok()?
}

/// A recording as a card: answers each command as it was answered then.
struct Recording<'t> {
    exchanges: &'t [Exchange],
    lost: Lost,
    used: Vec<bool>,
    /// The directory, where the recording has none that leads to what it selected.
    directory: Option<Vec<u8>>,
    /// True if the recorded card signed in the quick flow, whatever its flags say.
    quick: bool,
    sent: Option<&'t [u8]>,
}

impl<'t> Recording<'t> {
    fn new(transcript: &'t Transcript) -> Self {
        let exchanges = &transcript.exchanges[..];
        let aids = selected(transcript);
        let authenticates = exchanges.iter().any(|e| e.command.starts_with(&[0x00, 0x88]));
        let signs = answers(exchanges).iter().any(|data| content(data, tags::SDAD).is_some());
        Self {
            exchanges,
            lost: transcript.lost.unwrap_or(Lost::Removed),
            used: vec![false; exchanges.len()],
            directory: (!has_directory(exchanges, &aids)).then(|| directory(&aids)).flatten(),
            quick: signs && !authenticates,
            sent: None,
        }
    }

    /// The first exchange not yet used, after the last one if there is one, that answers this command.
    fn find(&self, command: &[u8]) -> Option<usize> {
        let last = self.used.iter().rposition(|used| *used).map_or(0, |last| last + 1);
        let fits = |&i: &usize| !self.used[i] && same(command, &self.exchanges[i].command);
        (last..self.exchanges.len()).find(fits).or_else(|| (0..last).find(fits))
    }
}

impl Way for Recording<'_> {
    fn field(&mut self) -> Result<(), Lost> {
        Ok(())
    }

    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, Lost> {
        self.sent = None;
        if let Some(directory) = &self.directory
            && select_name(command) == Some(PPSE)
        {
            return Ok(directory.clone());
        }
        let i = self.find(command).ok_or(self.lost)?;
        self.used[i] = true;
        let Exchange { command: recorded, answer } = &self.exchanges[i];
        if has_values(recorded) {
            self.sent = Some(recorded);
        }
        let supports = || quick_fci(answer).filter(|_| self.quick);
        Ok(select_name(command).and_then(|_| supports()).unwrap_or_else(|| answer.clone()))
    }

    fn sent(&self) -> Option<&[u8]> {
        self.sent
    }

    fn now_us(&self) -> u64 {
        0
    }
}

/// True for a command whose data are the terminal's values.
fn has_values(command: &[u8]) -> bool {
    matches!(command.get(..2), Some([0x80, 0xA8 | 0xAE | 0xEA] | [0x00, 0x88]))
}

/// True where a recorded command asks the same as the kernel's: with other values, or another expected length.
fn same(ours: &[u8], theirs: &[u8]) -> bool {
    let (Ok(ours_read), Ok(theirs_read)) = (Command::parse(ours), Command::parse(theirs)) else {
        return ours == theirs;
    };
    let header = |c: &Command<'_>| (c.cla, c.ins, c.p1, c.p2);
    if has_values(ours) {
        return (ours_read.cla, ours_read.ins) == (theirs_read.cla, theirs_read.ins);
    }
    header(&ours_read) == header(&theirs_read) && ours_read.data == theirs_read.data
}

/// True where the recorded directory has every application that was selected, or where none was.
fn has_directory(exchanges: &[Exchange], aids: &[Aid]) -> bool {
    let mut answers = exchanges.iter().filter(|e| select_name(&e.command) == Some(PPSE)).peekable();
    if aids.is_empty() {
        return answers.peek().is_some();
    }
    answers.any(|e| match Response::parse(&e.answer) {
        // What goes on in further parts is the kernel's to join.
        Ok(Response { status: Status::MoreData(_), .. }) => true,
        Ok(Response { data, status: Status::Success }) => {
            parse_ppse(data).is_ok_and(|listed| aids.iter().all(|aid| listed.iter().any(|c| c.aid == *aid)))
        }
        _ => false,
    })
}

/// A directory of these applications; none where they do not fit one.
fn directory(aids: &[Aid]) -> Option<Vec<u8>> {
    let mut buf = [0; 512];
    let mut writer = tlv::Writer::new(&mut buf);
    let written = writer.nested(tags::FCI, |fci| {
        fci.tlv(tags::DF_NAME, PPSE)?;
        fci.nested(tags::FCI_PROPRIETARY, |proprietary| {
            proprietary.nested(tags::FCI_DISCRETIONARY, |list| {
                for aid in aids {
                    list.nested(tags::DIRECTORY_ENTRY, |entry| entry.tlv(tags::ADF_NAME, aid.as_slice()))?;
                }
                Ok(())
            })
        })
    });
    written.ok()?;
    let mut answer = writer.finish().to_vec();
    answer.extend(Status::Success.to_bytes());
    Some(answer)
}

/// The answer to SELECT of a UnionPay card that does not claim to sign in the quick flow, with that claim. The answer
/// is under no signature; a terminal that asked for the quick flow all the same got a signature that binds its tap.
fn quick_fci(answer: &[u8]) -> Option<Vec<u8>> {
    let data = Response::parse(answer).ok().filter(|r| r.status == Status::Success)?.data;
    let fci = Fci::parse(data).ok()?;
    if !fci.df_name.starts_with(&UNIONPAY_RID) || fci.supports_online_oda() {
        return None;
    }
    let pdol_tlv = fci.pdol_tlv?;
    let mut buf = [0; 512];
    let mut writer = tlv::Writer::new(&mut buf);
    let written = writer.nested(tags::FCI, |out| {
        out.tlv(tags::DF_NAME, fci.df_name)?;
        out.nested(tags::FCI_PROPRIETARY, |proprietary| {
            proprietary.bytes(pdol_tlv)?;
            proprietary.nested(tags::FCI_DISCRETIONARY, |list| list.tlv(tags::CARD_SUPPORTS, &[0x40]))
        })
    });
    written.ok()?;
    let mut answer = writer.finish().to_vec();
    answer.extend(Status::Success.to_bytes());
    Some(answer)
}
